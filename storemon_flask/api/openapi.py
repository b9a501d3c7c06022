"""openapi.json: OpenAPI 3.1, made from the operations and from the schemas that validate."""

import json
import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Response, current_app, request
from marshmallow import Schema, fields

from storemon_flask.api import schemas
from storemon_flask.api.schemas import Component, ProblemSchema
from storemon_flask.labels import NAMED_LABELS
from storemon_flask.version import VERSION
from storemon_flask.web import authentication
from storemon_flask.web.contract import JSON, Answer, Instant, Operation, operation

blueprint = Blueprint("openapi", __name__)
_TEXTS: Final = "storemon.openapi"
blueprint.record(lambda state: state.app.extensions.update({_TEXTS: {}}))

_TAGS: Final = {
    "reports": "How long each store was up: trigger a report, fetch it.",
    "stores": "What each store is doing now, and why its numbers are what they are.",
    "feeds": "Polls, hours, time zones and names in.",
    "loads": "What was loaded, and what of it could not be used.",
    "alerts": "Incidents, who is told of them, and the attempts to tell them.",
    "schedules": "Reports that storemon makes and sends when they are due.",
    "service": "The service itself.",
}
_ABOUT: Final = (
    "How long was each store really up during its business hours? Instants are RFC 3339 in UTC with six digits. Errors "
    "are `application/problem+json` (RFC 9457) whose `detail` says what to do. A parameter or field that is not "
    "described is an error. A key, where the server asks for one, goes into `Authorization: Bearer KEY`, or is the "
    "password of Basic."
)
_PARAMETER: Final = re.compile(r"<(\w+):(\w+)>")
_PATH_SCHEMAS: Final = {
    "store": (
        {"type": "string", "minLength": 1},
        "the store's id, any text, percent-encoded as one segment: `NYC/12` is `NYC%2F12`; `.` and `..`, which clients "
        "take for folders, have a tilde before them: `~..`",
    ),
    "int": ({"type": "integer", "minimum": 0}, "its number"),
    "string": ({"type": "string", "minLength": 1}, "the token of the push address"),
    "report": ({"type": "string", "minLength": 1}, "the id that `POST /trigger_report` answered"),
}
_COMMON: Final = {
    400: Answer("the request cannot be read, or is for a host that this server does not answer to"),
    401: Answer("a key is needed", headers={"WWW-Authenticate": "Bearer and Basic"}),
    403: Answer("the key's scope is too small, or a page of another site sent this"),
    422: Answer("a parameter or field is wrong or unknown; `errors` names it"),
    431: Answer("the headers are too large"),
    500: Answer("a fault of the server; its log says more"),
    503: Answer(
        "busy, the database cannot be used, or temporary files find no room",
        headers={"Retry-After": "seconds, when busy"},
    ),
}
_REPORT: Final = {"get_report": {"report_id": "$response.body#/report_id"}}
_LOAD: Final = {name: {"load": "$response.body#/load_id"} for name in ("one_load", "rejects")}
_STORE: Final = {name: {"store_id": "$response.body#/store_id"} for name in ("store_timeline", "delete_store")}
# What generators of clients know a file by.
_BINARY: Final = {"type": "string", "format": "binary"}
_FILES: Final = "CSV files, plain or gzipped, and zips of them; each is recognised by its header"
_UPLOAD_COMPONENT: Final = {
    "type": "object",
    "description": "Files to load.",
    "properties": {"file": {"type": "array", "minItems": 1, "items": _BINARY, "description": _FILES}},
    "required": ["file"],
    "additionalProperties": False,
}
_STORE_ID: Final = (
    "store_id",
    "any text of 1 to 200 characters without control or invisible characters, or a whole number, kept to the digit",
    "store-1",
)
_VALID_FROM: Final = "may be left out; the local date (YYYY-MM-DD) from which on the row holds"
_START: Final = "H:MM, HH:MM or HH:MM:SS"
_END: Final = "the same; 24:00 is the end of the day, and an end before the start is on the next day"
_TIMESTAMP: Final = (
    "the instant, as 2024-10-14 11:15:00.123456 UTC or RFC 3339; UTC where it names no offset; or seconds, "
    "milliseconds or microseconds since 1970"
)
# Each feed: what it is, and the name, meaning and an example of each column.
_FEEDS: Final[dict[str, tuple[str, tuple[tuple[str, str, str | int], ...]]]] = {
    "polls": (
        "observations of stores; one of the same store and instant replaces the earlier one.",
        (
            _STORE_ID,
            ("timestamp_utc", _TIMESTAMP, "2024-10-14 11:15:00 UTC"),
            ("status", "active or inactive", "active"),
        ),
    ),
    "hours": (
        "weekly business hours; they replace those of the stores that are named.",
        (
            _STORE_ID,
            ("day", "0 Monday to 6 Sunday; with days=iso 1 Monday to 7 Sunday", 0),
            ("start_time_local", _START, "09:00"),
            ("end_time_local", _END, "17:30"),
            ("valid_from", _VALID_FROM, "2024-10-14"),
        ),
    ),
    "special_hours": (
        "hours of single dates, instead of the weekly ones; they replace those of the same store and date.",
        (
            _STORE_ID,
            ("date", "the local date, as 2024-12-25", "2024-12-24"),
            ("start_time_local", f"{_START}; empty, with the end, when the store is closed all day", "09:00"),
            ("end_time_local", _END, "14:00"),
        ),
    ),
    "timezones": (
        "the time zones of stores; they replace those of the stores that are named.",
        (
            _STORE_ID,
            ("timezone_str", "the name of an IANA zone", "America/New_York"),
            ("valid_from", _VALID_FROM, ""),
        ),
    ),
    "stores": (
        "names, groups and other labels; they replace those of the stores that are named. A column or key `tag:NAME` "
        "is a label of that name.",
        (
            _STORE_ID,
            ("name", "what people call it; may be empty", "Broadway 12"),
            ("group", "may be left out", "New York"),
            ("brand", "may be left out", "Acme"),
            ("region", "may be left out", "East"),
            ("platform", "may be left out", "web"),
        ),
    ),
}
_TYPES: Final[dict[str, Any]] = {"day": "integer", "timestamp_utc": ["string", "number"]}
_OPTIONAL: Final = ("valid_from", "group", *NAMED_LABELS)
# What an answer names can be asked for next: (operation, status) to the parameters of other operations.
_LINKS: Final = {
    ("trigger_report", 202): _REPORT,
    ("one_store", 200): _STORE,
    ("upload", 200): _LOAD,
    ("add_channel", 201): {
        name: {"channel": "$response.body#/channel_id"} for name in ("test_channel", "remove_channel")
    },
    **{(f"push_{feed}", 200): _LOAD for feed in _FEEDS},
}


@operation(
    blueprint, "GET", "/openapi.json", scope="read", tag="service",
    answers={200: Answer("OpenAPI 3.1", {JSON: None}, {"ETag": "of the document"}), 304: Answer("unchanged")},
)  # fmt: skip
def openapi_json() -> Response:
    """Describe this interface, as OpenAPI 3.1."""
    answer = Response(_text(), content_type=JSON)
    answer.headers["Cache-Control"] = "no-cache"
    answer.add_etag()
    answer.make_conditional(request)
    return answer


def read_document() -> dict[str, Any]:
    """Return the document of the current app."""
    document: dict[str, Any] = json.loads(_text())
    return document


def _text() -> str:
    keyed = authentication.needs_key()
    texts: dict[bool, str] = current_app.extensions[_TEXTS]
    if keyed not in texts:
        views = current_app.view_functions.values()
        document = make_document(keyed, [view for view in views if isinstance(view, Operation)])
        texts[keyed] = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    return texts[keyed]


def make_document(keyed: bool, operations: list[Operation]) -> dict[str, Any]:
    """Return OpenAPI 3.1 of the operations; `keyed`: calls need a key."""
    docstrings: dict[str, str] = {}

    def component_name(schema: Any) -> str:
        """Return the name of a schema in the document, and remember the schema's docstring."""
        kind = schema if isinstance(schema, type) else type(schema)
        name = kind.__name__.removesuffix("Schema")
        docstrings[name] = kind.__doc__ or ""
        return name

    marshmallow = MarshmallowPlugin(schema_name_resolver=component_name)
    spec = APISpec(
        "storemon", VERSION, "3.1.0", plugins=[marshmallow],
        info={"description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/"}],
        tags=[{"name": tag, "description": about} for tag, about in _TAGS.items()],
    )  # fmt: skip
    assert marshmallow.converter is not None
    marshmallow.map_to_openapi_type(Instant, "string", "date-time")  # type: ignore[no-untyped-call]
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "description": "the key"})
    spec.components.security_scheme(
        "basic", {"type": "http", "scheme": "basic", "description": "any user name, the key as the password"}
    )
    marshmallow.converter.add_attribute_function(_reference)  # type: ignore[no-untyped-call]
    for feed in _FEEDS:
        spec.components.schema(_row_name(feed), _row_schema(feed))
    spec.components.schema("ShapedRow", schemas.SHAPED_ROW_COMPONENT)
    spec.components.schema("Upload", _UPLOAD_COMPONENT)
    spec.components.schema(component_name(schemas.WindowSchema), schema=schemas.WindowSchema)
    for declared in sorted(operations, key=_order):
        for path, name, feed in _paths(declared):
            described = _operation(declared, name, feed, keyed, marshmallow)
            spec.path(path, operations={declared.method.lower(): described})
    document: dict[str, Any] = spec.to_dict()
    components = document["components"]["schemas"]
    for name, schema in components.items():
        if name in docstrings:
            schema.setdefault("description", _line(docstrings[name]))
    document["components"]["schemas"] = dict(sorted(components.items()))
    return document


def _reference(converter: Any, field: Any, **options: Any) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{field.component}"} if isinstance(field, Component) else {}


def _order(operation: Operation) -> tuple[int, int, bool]:
    """Return the sort key: by tag, short paths before long ones, and DELETE last."""
    return list(_TAGS).index(operation.tag), operation.rule.count("/"), operation.method == "DELETE"


def _paths(operation: Operation) -> Iterator[tuple[str, str, str]]:
    """Yield path, operation id and feed of a rule; one that takes any of several feeds is as many paths."""
    view = operation.view.__name__
    choice = re.search(r"<any\(([^)]*)\):\w+>", operation.rule)
    for feed in choice[1].split(", ") if choice else [""]:
        rule = operation.rule.replace(choice[0], feed) if choice else operation.rule
        yield _PARAMETER.sub(r"{\2}", rule), f"{view}_{feed}" if feed else view, feed


def _operation(
    operation: Operation, name: str, feed: str, keyed: bool, marshmallow: MarshmallowPlugin
) -> dict[str, Any]:
    scope = operation.scope
    parameters = [*_path_parameters(operation.rule), *_query_parameters(operation.query, marshmallow)]
    summary, _, rest = cleandoc(operation.view.__doc__ or "").partition("\n\n")
    about = [
        _line(rest or summary),
        f"The feed is `{feed}`: {_FEEDS[feed][0]}" if feed else "",
        f"It needs a key of scope `{scope}` where the server asks for keys." if scope else "It needs no key.",
    ]
    needed: list[dict[str, list[str]]] = [{"bearer": [scope]}, {"basic": [scope]}] if scope else []
    return {
        "operationId": name,
        "tags": [operation.tag],
        "summary": _line(summary),
        "description": " ".join(filter(None, about)),
        "security": needed if keyed or not scope else [{}, *needed],
        **({"x-scope": scope} if scope else {}),
        **({"parameters": parameters} if parameters else {}),
        **({} if operation.body is None else {"requestBody": _body(operation.body, feed)}),
        "responses": _responses(operation, name),
    }


def _line(docstring: str) -> str:
    return " ".join(docstring.split())


def _path_parameters(rule: str) -> Iterator[dict[str, Any]]:
    for converter, name in _PARAMETER.findall(rule):
        if converter in _PATH_SCHEMAS:
            schema, about = _PATH_SCHEMAS[converter]
            yield {"in": "path", "name": name, "required": True, "description": about, "schema": schema}


def _query_parameters(query: Schema | None, marshmallow: MarshmallowPlugin) -> Iterator[dict[str, Any]]:
    assert marshmallow.converter is not None
    for name, field in ({} if query is None else query.fields).items():
        schema = marshmallow.converter.field2property(field)
        about = schema.pop("description", "")
        if isinstance(schema.get("type"), list):
            # A default of None is null in Python; an address has no null.
            (schema["type"],) = (kind for kind in schema["type"] if kind != "null")
        if schema.get("default", ...) in (None, [], ()):
            del schema["default"]
        parameter = {"in": "query", "name": name, "required": field.required, "description": about, "schema": schema}
        if isinstance(field, fields.List):
            parameter |= {"description": f"{about}; may be given several times", "style": "form", "explode": True}
        yield parameter


def _body(body: Schema | Sequence[str], feed: str) -> dict[str, Any]:
    if isinstance(body, Schema):
        required = any(field.required for field in body.fields.values())
        example = getattr(body, "example", None)
        content: dict[str, Any] = {JSON: {"schema": body, **({} if example is None else {"example": example})}}
        return {"description": _line(body.__doc__ or ""), "required": required, "content": content}
    if feed:
        return {"description": "the rows", "required": True, "content": _feed_bodies(feed)}
    content = {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/Upload"}}}
    return {"description": "the files", "required": True, "content": content}


def _responses(operation: Operation, name: str) -> dict[str, Any]:
    common = {status: answer for status, answer in _COMMON.items() if operation.scope or status not in (401, 403)}
    return {
        str(status): _response(status, answer, _LINKS.get((name, status), {}))
        for status, answer in sorted({**common, **operation.answers}.items())
    }


def _response(status: int, answer: Answer, links: dict[str, dict[str, str]]) -> dict[str, Any]:
    headers = {name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()}
    content = {media_type: {"schema": schema} for media_type, schema in _content(status, answer).items()}
    about = "what this answer names can be asked for there"
    targets = {
        target: {"operationId": target, "description": about, "parameters": parameters}
        for target, parameters in links.items()
    }
    members = {"headers": headers, "content": content, "links": targets}
    return {"description": answer.about, **{name: member for name, member in members.items() if member}}


def _content(status: int, answer: Answer) -> dict[str, Any]:
    """Return the schema of each media type."""
    content = answer.content
    if status >= 400:
        return {"application/problem+json": ProblemSchema()}
    if isinstance(content, Schema):
        return {JSON: content}
    if isinstance(content, str):
        content = {content: None}
    return {media_type: _media_schema(media_type, schema) for media_type, schema in (content or {}).items()}


def _media_schema(media_type: str, schema: Schema | Sequence[Schema] | None) -> Any:
    if schema is None:
        if media_type == JSON:
            return {"type": "object"}
        return {"type": "string"} if media_type.startswith("text/") else dict(_BINARY)
    return schema if isinstance(schema, Schema) else {"anyOf": list(schema)}


# The bodies say what to send. A row that is not as they say does not make a request wrong: the answer lists it, or
# reads it all the same.
def _row_schema(feed: str) -> dict[str, Any]:
    """Return the schema of one row as JSON."""
    _, columns = _FEEDS[feed]
    return {
        "type": "object",
        "description": "One row. Columns may be spelled as in a CSV header; others are ignored. A row that cannot be "
        "used is listed in the answer.",
        "properties": {name: {"type": _TYPES.get(name, "string"), "description": about} for name, about, _ in columns},
        "required": [name for name, _, _ in columns if name not in _OPTIONAL],
    }


def _feed_bodies(feed: str) -> dict[str, Any]:
    """Return what a feed may be sent as, by media type; the row's schema is in the components, under `_row_name`."""
    _, columns = _FEEDS[feed]
    example = {name: value for name, _, value in columns}
    csv = ",".join(example) + "\n" + ",".join(map(str, example.values())) + "\n"
    reference = {"$ref": f"#/components/schemas/{_row_name(feed)}"}
    listed = {"type": "array", "description": "rows", "items": reference}
    header = "CSV in UTF-8 with a header: " + ", ".join(f"`{name}` ({about})" for name, about, _ in columns)
    return {
        JSON: {"schema": {"anyOf": [listed, reference]}, "example": [example]},
        "text/csv": {"schema": {"type": "string", "description": header}, "example": csv},
        "application/x-ndjson": {
            "schema": {"type": "string", "description": f"one {_row_name(feed)} a line"},
            "example": json.dumps(example) + "\n",
        },
        "application/gzip": {"schema": {**_BINARY, "description": "the CSV, gzipped"}},
    }


def _row_name(feed: str) -> str:
    """Return the name of the row's schema."""
    return f"{''.join(word.capitalize() for word in feed.split('_'))}FeedRow"
