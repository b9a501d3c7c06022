"""The bodies of the feeds, as openapi.json describes them.

They say what to send. A row that is not as they say does not make a request wrong: the answer lists it, or reads it all
the same.
"""

import json
from typing import Any, Final

JSON: Final = "application/json"
# What generators of clients know a file by.
BINARY: Final = {"type": "string", "format": "binary"}

_STORE_ID: Final = (
    "store_id",
    "any text of 1 to 200 characters without control or invisible characters, or a whole number, kept to the digit",
)
_COLUMNS: Final = {
    "polls": (
        _STORE_ID,
        (
            "timestamp_utc",
            "the instant, as 2024-10-14 11:15:00.123456 UTC or RFC 3339; UTC where it names no offset; or seconds, milliseconds or microseconds since 1970",
        ),
        ("status", "active or inactive"),
    ),
    "hours": (
        _STORE_ID,
        ("day", "0 Monday to 6 Sunday; with days=iso 1 Monday to 7 Sunday"),
        ("start_time_local", "H:MM, HH:MM or HH:MM:SS"),
        ("end_time_local", "the same; 24:00 is the end of the day, and an end before the start is on the next day"),
        ("valid_from", "may be left out; the local date (YYYY-MM-DD) from which on the row holds"),
    ),
    "timezones": (
        _STORE_ID,
        ("timezone_str", "the name of an IANA zone"),
        ("valid_from", "may be left out; the local date (YYYY-MM-DD) from which on it holds"),
    ),
    "special_hours": (
        _STORE_ID,
        ("date", "the local date, as 2024-12-25"),
        ("start_time_local", "H:MM, HH:MM or HH:MM:SS; empty, with the end, when the store is closed all day"),
        ("end_time_local", "the same; 24:00 is the end of the day, and an end before the start is on the next day"),
    ),
    "stores": (_STORE_ID, ("name", "what people call it; may be empty"), ("group", "may be left out")),
}
_EXAMPLES: Final = {
    "polls": ("store-1", "2024-10-14 11:15:00 UTC", "active"),
    "hours": ("store-1", 0, "09:00", "17:30", "2024-10-14"),
    "timezones": ("store-1", "America/New_York", ""),
    "special_hours": ("store-1", "2024-12-24", "09:00", "14:00"),
    "stores": ("store-1", "Broadway 12", "New York"),
}
FEEDS: Final = tuple(_COLUMNS)
ABOUT: Final = {
    "polls": "observations of stores; one of the same store and instant replaces the earlier one.",
    "hours": "weekly business hours; they replace those of the stores that are named.",
    "special_hours": "hours of single dates, instead of the weekly ones; they replace those of the same store and date.",
    "timezones": "the time zones of stores; they replace those of the stores that are named.",
    "stores": "names and groups; they replace those of the stores that are named.",
}
_TYPES: Final[dict[str, Any]] = {"day": "integer", "timestamp_utc": ["string", "number"]}
_OPTIONAL: Final = ("valid_from", "group")


def row(feed: str) -> dict[str, Any]:
    """The schema of one row as JSON."""
    told = {name: {"type": _TYPES.get(name, "string"), "description": about} for name, about in _COLUMNS[feed]}
    return {
        "type": "object",
        "description": "One row. Columns may be spelled as in a CSV header; others are ignored. A row that cannot be used "
        "is listed in the answer.",
        "properties": told,
        "required": [name for name in told if name not in _OPTIONAL],
    }


def bodies(feed: str) -> dict[str, Any]:
    """What a feed may be sent as, by media type; the row's schema is in the components, under `row_name`."""
    names = [name for name, _ in _COLUMNS[feed]]
    example = dict(zip(names, _EXAMPLES[feed], strict=True))
    csv = ",".join(names) + "\n" + ",".join(map(str, _EXAMPLES[feed])) + "\n"
    reference = {"$ref": f"#/components/schemas/{row_name(feed)}"}
    listed = {"type": "array", "description": "rows", "items": reference}
    header = "CSV in UTF-8 with a header: " + ", ".join(f"`{name}` ({about})" for name, about in _COLUMNS[feed])
    return {
        JSON: {"schema": {"anyOf": [listed, reference]}, "example": [example]},
        "text/csv": {"schema": {"type": "string", "description": header}, "example": csv},
        "application/x-ndjson": {
            "schema": {"type": "string", "description": f"one {row_name(feed)} a line"},
            "example": json.dumps(example) + "\n",
        },
        "application/gzip": {"schema": {**BINARY, "description": "the CSV, gzipped"}},
    }


def row_name(feed: str) -> str:
    """The name of the row's schema."""
    return f"{''.join(word.capitalize() for word in feed.split('_'))}FeedRow"


FILES: Final[dict[str, Any]] = {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/Upload"}}}
UPLOAD_COMPONENT: Final = {
    "type": "object",
    "description": "Files to load.",
    "properties": {
        "file": {
            "type": "array",
            "minItems": 1,
            "items": BINARY,
            "description": "CSV files, plain or gzipped, and zips of them; each is recognised by its header",
        }
    },
    "required": ["file"],
    "additionalProperties": False,
}
