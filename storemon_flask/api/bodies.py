"""Request bodies: JSON whatever the Content-Type says (bare `curl -d` sends a form's), checked by marshmallow schemas."""

import json
from typing import Any, Final

from flask import Request
from marshmallow import Schema, ValidationError, fields, validate

from storemon_flask.api.schemas import Closed, Instant, Whole
from storemon_flask.errors import BadRequest, Unprocessable
from storemon_flask.reports.report import Asked
from storemon_flask.reports.shapes import BY, FIELDS, KINDS, LAST, METHODS
from storemon_flask.web.contract import first

# Lists of ids, and nothing larger; it is read into memory.
LARGEST_BYTES: Final = 16 << 20


_EDGE: Final = {"type": "string", "description": "2024-10-01, or 2024-10-01T09:00:00-05:00"}
WINDOW: Final = [
    {"type": "string", "description": "a window that ends at the as-of", "enum": list(LAST)},
    {"$ref": "#/components/schemas/Window"},
]
WINDOW_COMPONENT: Final = {
    "type": "object",
    "description": "A stretch of time: two instants with an offset, or two local dates, meant in each store's own zone.",
    "properties": {
        "from": {**_EDGE, "description": f"where it begins: {_EDGE['description']}"},
        "to": {**_EDGE, "description": f"where it ends, outside it: {_EDGE['description']}"},
        "name": {
            "type": "string",
            "description": "what its columns are called after; FROM_TO if left out",
            "minLength": 1,
            "maxLength": 100,
        },
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}


def _chosen(about: str, *words: str) -> fields.Raw:
    """A field that is one of those words; `services.shapes` says so."""
    return fields.Raw(metadata={"description": about, "type": "string", "enum": list(words)})


class TriggerSchema(Closed):
    """What `POST /trigger_report` takes, every field optional."""

    as_of = Instant(
        metadata={
            "description": "the instant to speak at; any ISO 8601 spelling is read; the newest poll that is not in the future if left out"
        }
    )
    stores = fields.List(
        fields.String(metadata={"format": "store-id", "description": "the id of a store that there is"}),
        validate=validate.Length(min=1, error="name at least one store, or leave it out"),
        metadata={"description": "only these; every store if left out"},
    )
    columns = fields.String(
        validate=validate.OneOf(("classic", "full")), metadata={"description": "which columns; classic if left out"}
    )
    # What these may be is `services.shapes`' to say, in its own words, for every door.
    windows = fields.List(
        fields.Raw(metadata={"description": "its name, or where it begins and ends", "anyOf": WINDOW}),
        metadata={
            "description": "stretches of time; from and to are instants with an offset, or local dates of each store"
        },
    )
    kind = _chosen("times, or outages: a row for each outage that touches the window", *KINDS)
    shortest_minutes = fields.Raw(
        metadata={
            "description": "outages with less business time down are left out; with kind outages only",
            "type": "number",
            "minimum": 0,
            "maximum": 576_000,
        }
    )
    by = _chosen("a row for each calendar period in the store's own zone", *BY)
    groups = fields.List(
        fields.String(metadata={"description": "a group that there is"}),
        metadata={"description": "only stores of these groups", "minItems": 1},
    )
    zones = fields.List(
        fields.String(metadata={"description": "a zone that a store is in"}),
        metadata={"description": "only stores in these time zones", "minItems": 1},
    )
    totals = fields.Raw(
        metadata={"description": "true: rows for each group and for the fleet follow", "type": "boolean"}
    )
    method = _chosen("which poll speaks for a moment: the nearest, or the previous one", *METHODS)


class LatestQuery(Closed):
    """The same as parameters of an address, and how old the report may be.

    Lists are given as often as they have entries.
    """

    max_age = Whole(
        load_default=0,
        validate=validate.Range(0, 31_536_000),
        metadata={
            "description": "how many seconds ago the report may have been finished, when the data have changed since; 0: it "
            "must be of the data as they are now"
        },
    )
    as_of = Instant(
        metadata={"description": "the instant to speak at; the newest poll that is not in the future if left out"}
    )
    stores = fields.List(
        fields.String(), metadata={"description": "only these; every store if left out; may be given several times"}
    )
    columns = fields.String(
        validate=validate.OneOf(("classic", "full")), metadata={"description": "which columns; classic if left out"}
    )
    windows = fields.List(
        fields.String(),
        metadata={
            "description": f"{', '.join(LAST)}, or FROM/TO or FROM/TO/NAME with two local dates or two instants with an "
            "offset, as `2024-10-01/2024-10-08/first_week`; may be given several times"
        },
    )
    kind = fields.String(
        validate=validate.OneOf(KINDS),
        metadata={"description": "times, or outages: a row for each outage that touches the window"},
    )
    shortest_minutes = fields.Float(
        validate=validate.Range(0, 576_000),
        metadata={"description": "outages with less business time down are left out; with kind outages only"},
    )
    by = fields.String(
        validate=validate.OneOf(BY), metadata={"description": "a row for each calendar period in the store's own zone"}
    )
    groups = fields.List(
        fields.String(), metadata={"description": "only stores of these groups; may be given several times"}
    )
    zones = fields.List(
        fields.String(), metadata={"description": "only stores in these time zones; may be given several times"}
    )
    totals = fields.Boolean(
        truthy={"true"}, falsy={"false"}, metadata={"description": "true: rows for each group and for the fleet follow"}
    )
    method = fields.String(
        validate=validate.OneOf(METHODS),
        metadata={"description": "which poll speaks for a moment: the nearest, or the previous one"},
    )


def asked_by_address(query: dict[str, Any]) -> Asked:
    """The report that the parameters of `LatestQuery` ask for."""
    windows = {"windows": [_window(text) for text in query["windows"]]} if "windows" in query else {}
    return asked({**query, **windows})


def _window(text: str) -> object:
    """A window as a body has it: a name, or an object."""
    from_text, slash, rest = text.partition("/")
    if not slash:
        return text
    to_text, slash, name = rest.partition("/")
    return {"from": from_text, "to": to_text, **({"name": name} if slash else {})}


def asked(body: dict[str, Any]) -> Asked:
    """The report that the fields of `TriggerSchema` ask for."""
    shape: dict[str, Any] = {name: body[name] for name in FIELDS if name in body}
    return Asked(body.get("as_of"), body.get("columns", "classic"), body.get("stores"), shape)


def load(schema: Schema, request: Request) -> dict[str, Any]:
    """The checked body; one that is empty counts as `{}`.

    `BadRequest` when it is not JSON, `Unprocessable` names wrong fields.
    """
    request.max_content_length = min(LARGEST_BYTES, request.max_content_length or LARGEST_BYTES)
    raw = request.get_data(cache=False)
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error}); send {{}} or nothing for a report of everything") from None
    if not isinstance(body, dict):
        raise Unprocessable("the body must be a JSON object, such as {}", errors={"body": ["not an object"]})
    return checked(schema, body)


def checked(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """What the schema makes of the fields; `Unprocessable` names wrong ones and says which there are."""
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        named = "; ".join(f"{field}: {first(message)}" for field, message in messages.items())
        allowed = ", ".join(schema.fields)
        raise Unprocessable(f"{named} (the fields allowed are {allowed})", errors=messages) from None
    return loaded
