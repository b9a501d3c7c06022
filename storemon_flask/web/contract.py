"""What a view takes, answers and needs, declared once: for its route, its validation, its answer and openapi.json."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, TypeVar

from flask import Blueprint, Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from marshmallow import RAISE, Schema, ValidationError, fields

from storemon_flask.clock import parse_timestamp, timestamp_text
from storemon_flask.errors import BadRequest, StoremonError, Unprocessable

Scope = Literal["read", "write", "admin"]
View = Callable[..., Any]
_View = TypeVar("_View", bound=View)
JSON: Final = "application/json"
# A JSON body is a list of ids or of hours, and nothing larger: it is read into memory.
MAX_JSON_BYTES: Final = 16 << 20
_DIGITS: Final = re.compile(r"-?[0-9]{1,30}")


class Closed(Schema):
    """A schema that refuses what it does not name, and whose documentation says so."""

    # What a wrong parameter is; an unknown one is always `Unprocessable`.
    wrong_value: type[StoremonError] = Unprocessable
    # A body to begin with, where one with the required fields alone would be refused.
    example: ClassVar[Mapping[str, Any] | None] = None

    class Meta:
        """An unknown field is an error that names it."""

        unknown = RAISE


class Instant(fields.Field[int]):
    """A timestamp: ISO 8601 text outside, microseconds since 1970 UTC inside."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else timestamp_text(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str):
            raise ValidationError("must be text such as 2024-10-14T23:55:18Z")
        try:
            return parse_timestamp(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Whole(fields.Integer):
    """A whole number: 1 or 1.0 in JSON, plain digits in an address. Nothing is rounded."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, (bool, float)) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Percentage(fields.Float):
    """A percentage above 0 and at most 100; a text of nothing but blanks is none."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            return None
        try:
            number = super()._deserialize(value, attr, data, **kwargs)
        except ValidationError:
            number = None
        if number is None or not 0 < number <= 100:
            raise ValidationError("must be a number above 0 and at most 100")
        return number


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that an operation answers with.

    `content` is the schema of JSON, or another media type, or the schema of each media type (None where it is no JSON,
    several where it is one of them). `headers` describes each header.
    """

    about: str
    content: Schema | str | Mapping[str, Schema | Sequence[Schema] | None] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScopedView:
    """A view, and the scope that a key must have for it; None: anybody may call it."""

    view: View
    scope: Scope | None

    def __call__(self, **arguments: Any) -> ResponseReturnValue:
        """Return the view's answer."""
        answer: ResponseReturnValue = self.view(**arguments)
        return answer


@dataclass(frozen=True, kw_only=True)
class Operation(ScopedView):
    """One method of one path of the API.

    `body` is the schema of a JSON body, or the media types of one that the view reads itself. What every operation may
    answer (wrong request, wrong key, busy) is not listed in `answers`: api.openapi adds it.
    """

    method: str
    rule: str
    tag: str
    answers: Mapping[int, Answer]
    query: Closed | None = None
    body: Closed | Sequence[str] | None = None

    def __call__(self, **arguments: Any) -> ResponseReturnValue:
        """Check the request, call the view with its `query` and `body`, and write what it returns."""
        # A probe is answered whatever a load balancer appends to the address.
        if self.scope is not None or self.query is not None:
            query = self._read_query()
            if self.query is not None:
                arguments["query"] = query
        if isinstance(self.body, Closed):
            arguments["body"] = read_body(self.body)
        return self._write(self.view(**arguments))

    def _read_query(self) -> dict[str, Any]:
        if request.args and self.query is None and isinstance(self.body, Closed):
            raise Unprocessable(
                f"{', '.join(request.args)}: put it into a JSON body; the address takes nothing",
                errors={name: ["is not a parameter of this address"] for name in request.args},
            )
        return read_query(self.query)

    def _write(self, result: Any) -> ResponseReturnValue:
        """Return a response as it is; write a value, or a value and headers, as the lowest status declares."""
        if isinstance(result, Response):
            return result
        value, headers = result if isinstance(result, tuple) else (result, {})
        status = min(self.answers)
        content = self.answers[status].content
        response = jsonify(content.dump(value)) if isinstance(content, Schema) else Response()
        response.status_code = status
        response.headers.update(headers)
        return response


def operation(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    scope: Scope | None,
    tag: str,
    answers: Mapping[int, Answer],
    query: Closed | None = None,
    body: Closed | Sequence[str] | None = None,
) -> Callable[[_View], _View]:
    """Register a view as an operation of the API.

    The first paragraph of its docstring is the summary in openapi.json, the others are the description.
    """

    def register(view: _View) -> _View:
        """Add the view's route and return the view itself."""
        declared = Operation(
            view=view, scope=scope, method=method, rule=rule, tag=tag, answers=answers, query=query, body=body
        )
        blueprint.add_url_rule(rule, endpoint=view.__name__, view_func=declared, methods=[method])
        return view

    return register


def page(blueprint: Blueprint, method: str, rule: str, *, scope: Scope) -> Callable[[_View], _View]:
    """Register a view that answers with a page; it is no operation of the API."""

    def register(view: _View) -> _View:
        """Add the view's route and return the view itself."""
        declared = ScopedView(view=view, scope=scope)
        blueprint.add_url_rule(rule, endpoint=view.__name__, view_func=declared, methods=[method])
        return view

    return register


def refuse_views_without_scope(app: Flask) -> None:
    """Raise `RuntimeError` when a view of the app declares no scope."""
    names = [endpoint for endpoint, view in app.view_functions.items() if not isinstance(view, ScopedView)]
    if names:
        raise RuntimeError(f"declare the scope of {', '.join(names)} with contract.operation or contract.page")


def read_query(schema: Closed | None, ignore_unknown: bool = False) -> dict[str, Any]:
    """Return the checked parameters of the address; the error names each that is wrong, unknown or given twice."""
    known = {} if schema is None else schema.fields
    raw: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    unknown: dict[str, list[str]] = {}
    for name, values in request.args.lists():
        if name not in known:
            unknown[name] = ["is not a parameter of this address"]
        elif isinstance(known[name], fields.List):
            raw[name] = values
        elif len(values) > 1:
            errors[name] = ["is given more than once"]
        else:
            raw[name] = values[0]
    if ignore_unknown:
        unknown = {}
    loaded: dict[str, Any] = {}
    if schema is not None:
        try:
            loaded = schema.load(raw)
        except ValidationError as error:
            errors = error.normalized_messages() | errors  # type: ignore[no-untyped-call]
    if not errors and not unknown:
        return loaded
    sentence = "; ".join(f"{name} {_predicate(message)}" for name, message in (unknown | errors).items())
    kind = schema.wrong_value if schema is not None and errors else Unprocessable
    if unknown or kind is Unprocessable:
        sentence += f" (the parameters are {', '.join(known)})" if known else " (it takes none)"
    raise kind(sentence, errors=unknown | errors)


def read_body(schema: Closed) -> dict[str, Any]:
    """Return the checked JSON body, whatever its Content-Type (bare `curl -d` sends a form's); an empty one is `{}`.

    `BadRequest` when it is not JSON, `Unprocessable` names wrong fields.
    """
    request.max_content_length = min(MAX_JSON_BYTES, request.max_content_length or MAX_JSON_BYTES)
    raw = request.get_data(cache=False)
    needed = [name for name, field in schema.fields.items() if field.required]
    form = f"it must be an object with {' and '.join(needed)}" if needed else "send {} or nothing for the defaults"
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error}); {form}") from None
    if not isinstance(body, dict):
        raise Unprocessable(f"the body is not a JSON object; {form}", errors={"body": ["not an object"]})
    return check_fields(schema, body)


def check_fields(schema: Closed, body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as the schema reads them; `Unprocessable` names wrong ones and lists those that are allowed."""
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        sentence = "; ".join(_first_error(name, message) for name, message in messages.items())
        allowed = ", ".join(schema.fields)
        raise Unprocessable(f"{sentence} (the fields allowed are {allowed})", errors=messages) from None
    return loaded


def _predicate(message: Any) -> str:
    """Return the first message as it follows the name of a parameter."""
    text = first_message(message)
    if text == "Missing data for required field":
        return "is missing"
    return f"is {text[:1].lower()}{text[1:]}" if text.startswith("Not ") else f"{text[:1].lower()}{text[1:]}"


def _first_error(name: str, message: Any) -> str:
    """Return the first message of a field and its path, such as `hours[0].day: Not a valid integer`."""
    while isinstance(message, dict) and message:
        key, message = next(iter(message.items()))
        name += f"[{key}]" if isinstance(key, int) else f".{key}"
    return f"{name}: {first_message(message)}"


def first_message(message: Any) -> str:
    """Return the first of marshmallow's nested messages, without its full stop."""
    while isinstance(message, (dict, list)) and message:
        message = next(iter(message.values())) if isinstance(message, dict) else message[0]
    return str(message).rstrip(".")
