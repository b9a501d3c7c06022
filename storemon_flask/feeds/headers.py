"""Which feed a file is: decided by its header, never by its name."""

from dataclasses import dataclass
from typing import Final

from storemon_flask.errors import DataError
from storemon_flask.feeds.records import read_fields
from storemon_flask.feeds.values import remove_invisible

# Per feed its fields in order, each with the spellings accepted (lower case, without blanks and underscores).
FEEDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "polls": (("storeid",), ("timestamputc",), ("status",)),
    "hours": (("storeid",), ("dayofweek", "day"), ("starttimelocal",), ("endtimelocal",), ("validfrom",)),
    "timezones": (("storeid",), ("timezonestr", "timezone"), ("validfrom",)),
    "special_hours": (("storeid",), ("date",), ("starttimelocal",), ("endtimelocal",)),
    "stores": (("storeid",), ("name", "storename"), ("group", "groupname")),
}
# The same columns as people write them.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "polls": ("store_id", "timestamp_utc", "status"),
    "hours": ("store_id", "dayOfWeek", "start_time_local", "end_time_local", "valid_from"),
    "timezones": ("store_id", "timezone_str", "valid_from"),
    "special_hours": ("store_id", "date", "start_time_local", "end_time_local"),
    "stores": ("store_id", "name", "group"),
}
# Columns that a feed can do without.
OPTIONAL: Final[dict[str, frozenset[str]]] = {
    "hours": frozenset({"valid_from"}),
    "timezones": frozenset({"valid_from"}),
    "stores": frozenset({"group"}),
}
_EXPECTED: Final = "; ".join(
    f"{feed}: {', '.join(f'[{name}]' if name in OPTIONAL.get(feed, ()) else name for name in names)}"
    for feed, names in COLUMNS.items()
)
# Every accepted spelling of a column, as people write it.
_KNOWN: Final[dict[str, str]] = {
    spelling: name
    for feed, fields in FEEDS.items()
    for spellings, name in zip(fields, COLUMNS[feed], strict=True)
    for spelling in spellings
}
# To look at millions of columns takes seconds, and a zip can have a thousand such files.
MAX_COLUMNS: Final = 1_000
_DELIMITERS: Final = {";": "semicolon", "\t": "tab", "|": "vertical bar"}


@dataclass(frozen=True, slots=True)
class Header:
    """A recognised header: the feed, how many columns a row has, and where each field of the feed stands.

    -1 stands for an optional column that the file does not have.
    """

    feed: str
    width: int
    columns: tuple[int, ...]


def recognise(line: str) -> Header:
    """The feed whose columns the header line has; `DataError` when it fits none, or two.

    The sentence has no text of the line, which may be that of any file: sentences are stored, shown and logged.
    """
    if line.count(",") >= MAX_COLUMNS:
        raise DataError(
            f"the header has more than {MAX_COLUMNS:,} columns, which no feed has; expected one of {_EXPECTED}"
        )
    names = _names(line)
    spellings_found = [spelled(name) for name in names]
    fits = []
    known = [(i, name) for i, name in enumerate(spellings_found) if name in _KNOWN]
    for feed, fields in FEEDS.items():
        columns = [[i for i, name in known if name in spellings] for spellings in fields]
        optional = OPTIONAL.get(feed, frozenset())
        if all(found or name in optional for found, name in zip(columns, COLUMNS[feed], strict=True)):
            twice = next((found for found in columns if len(found) > 1), None)
            if twice:
                which = ", ".join(dict.fromkeys(spellings_found[i] for i in twice))
                raise DataError(f"the header names one column of {feed} twice ({which}); remove one of them")
            fits.append(Header(feed, len(names), tuple(found[0] if found else -1 for found in columns)))
    if len(fits) == 2 and fits[-1].feed == "stores":
        # An export of polls may name its stores too.
        fits.pop()
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(
            f"the header fits {'two' if len(fits) == 2 else len(fits)} feeds, {' and '.join(fit.feed for fit in fits)}; expected one of {_EXPECTED}"
        )
    raise DataError(
        f"the header fits no feed: {_columns_found(spellings_found)}{_delimiter_hint(line)}; expected one of {_EXPECTED}"
    )


def spelled(name: str) -> str:
    """A column's name as `FEEDS` spells it."""
    return remove_invisible(name).strip().lower().replace(" ", "").replace("_", "")


def _names(line: str) -> list[str]:
    fields = read_fields(line.encode(), len(line), range(len(line)))
    return line.split(",") if fields is None else fields


def _columns_found(spellings: list[str]) -> str:
    """How many columns there are, and which of them belong to some feed."""
    known = list(dict.fromkeys(_KNOWN[spelling] for spelling in spellings if spelling in _KNOWN))
    count = "1 column" if len(spellings) == 1 else f"{len(spellings):,} columns"
    return f"it has {count}, of which storemon knows {', '.join(known) or 'none'}"


def _delimiter_hint(line: str) -> str:
    for delimiter, name in _DELIMITERS.items():
        if line.count(delimiter) > line.count(","):
            return f" (it seems to be separated by {name}s; storemon reads commas)"
    return ""
