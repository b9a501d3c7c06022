"""What the address of a page says, for people: what mail programs add is passed over, and what is wrong is said in a
sentence.
"""

from typing import Any

from flask import request
from marshmallow import fields, validate

from storemon_flask.errors import Unprocessable
from storemon_flask.web import contract


def parameters(schema: contract.Closed) -> dict[str, Any]:
    """The parameters that the page knows, checked; `Unprocessable` says what each that is wrong may be."""
    try:
        return contract.read_query(schema, ignore_unknown=True)
    except Unprocessable as error:
        named = error.members["errors"]
        assert isinstance(named, dict)
        people = "; ".join(
            f"the address says {_said(name)}, but {_allowed(schema, name)}" for name in request.args if name in named
        )
        raise Unprocessable(error.message, people=people, errors=named) from None


def _said(name: str) -> str:
    return " and ".join(f"“{name}={value[:100]}”" for value in request.args.getlist(name))


def _allowed(schema: contract.Closed, name: str) -> str:
    field = schema.fields[name]
    if not isinstance(field, fields.List) and len(request.args.getlist(name)) > 1:
        return f"{name} can be there only once"
    if isinstance(field, fields.List):
        field = field.inner
    if isinstance(field, fields.Date):
        return f"{name} is a date such as 2024-10-14"
    if isinstance(field, contract.Instant):
        return f"{name} is an instant such as 2024-10-14T23:55:18Z"
    for rule in field.validators:
        if isinstance(rule, validate.OneOf):
            return f"{name} is one of {', '.join(str(choice) for choice in rule.choices if choice)}"
        if isinstance(rule, validate.Range):
            return f"{name} is a number from {rule.min:,} to {rule.max:,}"
    return f"{name} is something else"
