"""What an operation of the API takes, answers and needs, said once: for the route, for the guard, and for openapi.json."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import cleandoc
from typing import Any, Final, Literal

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, ValidationError, fields

from storemon_flask.errors import Unprocessable

Scope = Literal["read", "write", "admin"]
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One status an operation answers with. `content` is a schema, or the name of a media type that is no JSON, or the
    schema of each media type (None where it is no JSON, several where it is one of them); `headers` says what each
    means."""

    about: str
    content: Schema | str | Mapping[str, Schema | Sequence[Schema] | None] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `scope` is what a key must allow; None is open to everybody.

    `body` has a schema per media type, or None where the feed's own rules apply. What every operation may answer (wrong
    request, wrong key, busy) is not listed in `answers`: openapi adds it.
    """

    method: str
    rule: str
    endpoint: str
    scope: Scope | None
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    query: Schema | None = None
    body: Mapping[str, Schema | None] | None = None
    about: str = ""


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {}


def operation(
    blueprint: Blueprint,
    method: str,
    rule: str,
    *,
    scope: Scope | None,
    tag: str,
    answers: Mapping[int, Answer],
    query: Schema | None = None,
    body: Mapping[str, Schema | None] | None = None,
    checked: bool = True,
) -> Callable[[Callable[..., ResponseReturnValue]], Callable[..., ResponseReturnValue]]:
    """Register a view for a method and a rule; the first line of its docstring is the summary, the rest says more.

    With a `query` schema the view gets what it makes of the address's parameters as `query=`; without one the address
    may have none. `Unprocessable` names a parameter that is wrong, unknown or given twice. A view that has words of its
    own for that is not `checked`.
    """

    def register(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
        endpoint = f"{blueprint.name}.{view.__name__}"
        summary, _, rest = cleandoc(view.__doc__ or "").partition("\n")
        about = " ".join(rest.split()) or summary
        OPERATIONS[method, endpoint] = Operation(
            method, rule, endpoint, scope, tag, summary, answers, query, body, about
        )  # fmt: skip

        @wraps(view)
        def guarded(**arguments: Any) -> ResponseReturnValue:
            found = parameters(query)
            return view(**arguments, query=found) if query is not None else view(**arguments)

        blueprint.add_url_rule(rule, endpoint=view.__name__, view_func=guarded if checked else view, methods=[method])
        return view

    return register


# What a key must allow for the pages that change something; every other page only reads.
PAGES: Final[dict[tuple[str, str], Scope]] = {}


def page(
    blueprint: Blueprint, method: str, rule: str, *, scope: Scope
) -> Callable[[Callable[..., ResponseReturnValue]], Callable[..., ResponseReturnValue]]:
    """Register a view that answers with a page, and what a key must allow for it. It is no operation of the API."""

    def register(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
        PAGES[method, f"{blueprint.name}.{view.__name__}"] = scope
        blueprint.add_url_rule(rule, endpoint=view.__name__, view_func=view, methods=[method])
        return view

    return register


def parameters(schema: Schema | None, others: bool = False) -> dict[str, Any]:
    """The address's parameters, checked; `Unprocessable` names each that is wrong and says which there are.

    With `others` those that the schema does not have are passed over.
    """
    known = {} if schema is None else {name: one for name, one in schema.fields.items() if not one.dump_only}
    given = request.args.to_dict(flat=False)
    raw: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, values in given.items():
        if isinstance(known.get(name), fields.List):
            raw[name] = values
        elif len(values) > 1:
            errors[name] = ["is given more than once"]
        else:
            raw[name] = values[0]
    for name in set(given) - set(known):
        raw.pop(name, None)
        errors.pop(name, None)
        if not others:
            errors[name] = ["is not a parameter of this address"]
    loaded: dict[str, Any] = {}
    if schema is not None:
        try:
            loaded = schema.load(raw)
        except ValidationError as error:
            errors |= error.normalized_messages()  # type: ignore[no-untyped-call]
    if errors:
        allowed = f"the parameters are {', '.join(known)}" if known else "it takes none"
        named = "; ".join(f"{name} {first(message)}" for name, message in errors.items())
        raise Unprocessable(f"{named} ({allowed})", errors=errors)
    return loaded


def first(message: Any) -> str:
    """The first of marshmallow's nested messages, without its full stop."""
    while isinstance(message, (dict, list)) and message:
        message = next(iter(message.values())) if isinstance(message, dict) else message[0]
    return str(message).rstrip(".")
