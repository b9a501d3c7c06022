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

from storemon_flask.api import feeds, schemas
from storemon_flask.api.schemas import Component, ProblemSchema
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
# What an answer names can be asked for next: (operation, status) to the parameters of other operations.
_LINKS: Final = {
    ("trigger_report", 202): _REPORT,
    ("one_store", 200): _STORE,
    ("upload", 200): _LOAD,
    **{(f"push_{feed}", 200): _LOAD for feed in feeds.FEEDS},
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
    for feed in feeds.FEEDS:
        spec.components.schema(feeds.row_name(feed), feeds.row_schema(feed))
    spec.components.schema("ShapedRow", schemas.SHAPED_ROW_COMPONENT)
    spec.components.schema("Upload", feeds.UPLOAD_COMPONENT)
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
        f"The feed is `{feed}`: {feeds.FEED_DESCRIPTIONS[feed]}" if feed else "",
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
        return {"description": _line(body.__doc__ or ""), "required": required, "content": {JSON: {"schema": body}}}
    if feed:
        return {"description": "the rows", "required": True, "content": feeds.feed_bodies(feed)}
    return {"description": "the files", "required": True, "content": feeds.UPLOAD_BODY}


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
        return {"type": "string"} if media_type.startswith("text/") else dict(feeds.BINARY)
    return schema if isinstance(schema, Schema) else {"anyOf": list(schema)}
