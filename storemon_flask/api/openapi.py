"""openapi.json: OpenAPI 3.1, made from the operations and from the schemas that validate."""

import hashlib
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

_PROBLEM: Final = "application/problem+json"
_TAGS: Final = {
    "reports": "How long each store was up: trigger a report, fetch it.",
    "stores": "What each store is doing now, and why its numbers are what they are.",
    "feeds": "Polls, hours, time zones and names in.",
    "loads": "What was loaded, and what of it could not be used.",
    "service": "The service itself.",
}
_ABOUT: Final = (
    "How long was each store really up during its business hours? Instants are RFC 3339 in UTC with six digits. Errors are "
    "`application/problem+json` (RFC 9457) whose `detail` says what to do. A parameter or field that is not described is an "
    "error. A key, where the server asks for one, goes into `Authorization: Bearer KEY`, or is the password of Basic."
)
_PARAMETER: Final = re.compile(r"<(?:(\w+)(?:\(([^)]*)\))?:)?(\w+)>")
_PATH_SCHEMAS: Final = {
    "store": (
        {"type": "string", "minLength": 1},
        "the store's id, any text, percent-encoded as one segment: `NYC/12` is `NYC%2F12`; `.` and `..`, which clients take for "
        "folders, have a tilde before them: `~..`",
    ),
    "int": ({"type": "integer", "minimum": 0}, "its number"),
    "report": ({"type": "string", "minLength": 1}, "the id that `POST /trigger_report` answered"),
}
_MAY_COME: Final = {
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
    text = _text()
    answer = Response(text, content_type=JSON)
    answer.headers["Cache-Control"] = "no-cache"
    answer.set_etag(hashlib.sha256(text.encode()).hexdigest())
    answer.make_conditional(request)
    return answer


def current() -> dict[str, Any]:
    """Return the document of the current app."""
    document: dict[str, Any] = json.loads(_text())
    return document


def _text() -> str:
    keyed = authentication.needs_key()
    texts: dict[bool, str] = current_app.extensions[_TEXTS]
    if keyed not in texts:
        views = current_app.view_functions.values()
        found = document(keyed, [view for view in views if isinstance(view, Operation)])
        texts[keyed] = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    return texts[keyed]


def document(keyed: bool, operations: list[Operation]) -> dict[str, Any]:
    """Return OpenAPI 3.1 of the operations; `keyed`: calls need a key."""
    named: dict[str, str] = {}

    def name(schema: Any) -> str:
        found = schema if isinstance(schema, type) else type(schema)
        short = found.__name__.removesuffix("Schema")
        named[short] = found.__doc__ or ""
        return short

    marshmallow = MarshmallowPlugin(schema_name_resolver=name)
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
    for component, schema in (
        ("ShapedRow", schemas.SHAPED_ROW_COMPONENT),
        ("Upload", feeds.UPLOAD_COMPONENT),
        ("Window", schemas.WINDOW_COMPONENT),
    ):
        spec.components.schema(component, schema)
    for one in sorted(operations, key=_place):
        for path, label, feed in _paths(one):
            spec.path(path, operations={one.method.lower(): _operation(one, label, feed, keyed, marshmallow)})
    made: dict[str, Any] = spec.to_dict()
    for short, schema in made["components"]["schemas"].items():
        if named.get(short) and "description" not in schema:
            schema["description"] = " ".join(named[short].split())
    made["components"]["schemas"] = dict(sorted(made["components"]["schemas"].items()))
    return made


def _reference(converter: Any, field: Any, **options: Any) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{field.component}"} if isinstance(field, Component) else {}


def _place(one: Operation) -> tuple[int, int, bool]:
    """By group, wide before narrow, and what removes last."""
    return [*_TAGS, one.tag].index(one.tag), one.rule.count("/"), one.method == "DELETE"


def _paths(one: Operation) -> Iterator[tuple[str, str, str]]:
    """(path, operation id, feed) of a rule; one that takes any of several words is as many paths."""
    view = one.view.__name__
    choice = next((found for found in _PARAMETER.finditer(one.rule) if found[1] == "any"), None)
    words = [word.strip() for word in choice[2].split(",")] if choice else [""]
    for word in words:
        rule = one.rule.replace(choice[0], word) if choice else one.rule
        yield _PARAMETER.sub(r"{\3}", rule), f"{view}_{word}" if word else view, word


def _operation(one: Operation, label: str, feed: str, keyed: bool, marshmallow: MarshmallowPlugin) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": label,
        "tags": [one.tag],
        "summary": " ".join(_docstring(one)[0].split()),
        "description": _description(one, feed),
        "security": _security(one, keyed),
    }
    if one.scope is not None:
        made["x-scope"] = one.scope
    parameters = [*_path_parameters(one), *_query_parameters(one.query, marshmallow)]
    if parameters:
        made["parameters"] = parameters
    if one.body is not None:
        made["requestBody"] = _body(one.body, feed)
    made["responses"] = _answers(one, label)
    return made


def _docstring(one: Operation) -> tuple[str, str]:
    """Return the first paragraph of the view's docstring, and the others."""
    summary, _, rest = cleandoc(one.view.__doc__ or "").partition("\n\n")
    return summary, rest


def _description(one: Operation, feed: str) -> str:
    """What the operation does, and what a key must allow for it."""
    scope = (
        f"It needs a key of scope `{one.scope}` where the server asks for keys." if one.scope else "It needs no key."
    )
    summary, rest = _docstring(one)
    about = " ".join((rest or summary).split())
    about = about if not feed else f"{about} The feed is `{feed}`: {feeds.FEED_DESCRIPTIONS[feed]}".strip()
    return f"{about} {scope}".strip()


def _security(one: Operation, keyed: bool) -> list[dict[str, list[str]]]:
    if one.scope is None:
        return []
    needed: list[dict[str, list[str]]] = [{"bearer": [one.scope]}, {"basic": [one.scope]}]
    return needed if keyed else [{}, *needed]


def _path_parameters(one: Operation) -> Iterator[dict[str, Any]]:
    for found in _PARAMETER.finditer(one.rule):
        if found[1] != "any":
            schema, about = _PATH_SCHEMAS[found[1]]
            yield {"in": "path", "name": found[3], "required": True, "description": about, "schema": schema}


def _query_parameters(schema: Schema | None, marshmallow: MarshmallowPlugin) -> Iterator[dict[str, Any]]:
    assert marshmallow.converter is not None
    for name, field in ({} if schema is None else schema.fields).items():
        told = marshmallow.converter.field2property(field)
        made: dict[str, Any] = {"in": "query", "name": name, "required": field.required}
        made["description"] = told.pop("description", "")
        if isinstance(told.get("type"), list):
            # What is left out is null inside; an address has no null.
            (told["type"],) = (kind for kind in told["type"] if kind != "null")
        if told.get("default", ...) in (None, [], ()):
            del told["default"]
        made["schema"] = told
        if isinstance(field, fields.List):
            made["description"] += "; may be given several times"
            made |= {"style": "form", "explode": True}
        yield made


def _body(body: Schema | Sequence[str], feed: str) -> dict[str, Any]:
    if isinstance(body, Schema):
        required = any(field.required for field in body.fields.values())
        about = " ".join((body.__doc__ or "").split())
        return {"description": about, "required": required, "content": {JSON: {"schema": body}}}
    if feed:
        return {"description": "the rows", "required": True, "content": feeds.feed_bodies(feed)}
    return {"description": "the files", "required": True, "content": feeds.UPLOAD_BODY}


def _answers(one: Operation, label: str) -> dict[str, Any]:
    may_come = {status: answer for status, answer in _MAY_COME.items() if one.scope or status not in (401, 403)}
    made: dict[str, Any] = {}
    for status, answer in sorted({**may_come, **one.answers}.items()):
        told: dict[str, Any] = {"description": answer.about}
        if answer.headers:
            told["headers"] = {
                name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
            }
        content = _content(status, answer)
        if content:
            told["content"] = content
        links = _LINKS.get((label, status))
        if links:
            told["links"] = {
                target: {
                    "operationId": target,
                    "description": "what this answer names can be asked for there",
                    "parameters": parameters,
                }
                for target, parameters in links.items()
            }
        made[str(status)] = told
    return made


def _content(status: int, answer: Answer) -> dict[str, Any]:
    if status >= 400:
        return {_PROBLEM: {"schema": ProblemSchema()}}
    if answer.content is None:
        return {}
    if isinstance(answer.content, Schema):
        return {JSON: {"schema": answer.content}}
    if isinstance(answer.content, str):
        return {answer.content: {"schema": _file(answer.content)}}
    content: dict[str, Any] = {}
    for kind, schema in answer.content.items():
        if schema is None:
            schema_told: Any = {"type": "object"} if kind == JSON else _file(kind)
        elif isinstance(schema, Schema):
            schema_told = schema
        else:
            schema_told = {"anyOf": list(schema)}
        content[kind] = {"schema": schema_told}
    return content


def _file(kind: str) -> dict[str, Any]:
    """The schema of an answer that is no JSON: text, or bytes."""
    return {"type": "string"} if kind.startswith("text/") else dict(feeds.BINARY)
