"""Request bodies: JSON whatever the Content-Type says (bare `curl -d` sends a form's), checked by marshmallow schemas."""

import json
from typing import Any

from flask import Request
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from storemon_flask.errors import BadRequest, Unprocessable
from storemon_flask.services import instants


class Instant(fields.Field[int]):
    """An instant as ISO 8601 text; microseconds since 1970 UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str):
            raise ValidationError("must be text such as 2024-10-14T23:55:18Z")
        try:
            return instants.read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class TriggerSchema(Schema):
    """What `POST /trigger_report` takes, every field optional."""

    class Meta:
        """Anything else is an error that names the field."""

        unknown = RAISE

    as_of = Instant()
    stores = fields.List(
        fields.String(), validate=validate.Length(min=1, error="name at least one store, or leave it out")
    )
    columns = fields.String(validate=validate.OneOf(("classic", "full")))


def load(schema: Schema, request: Request) -> dict[str, Any]:
    """The checked body; `{}` when there is none. `BadRequest` when it is not JSON, `Unprocessable` names wrong fields."""
    raw = request.get_data(cache=False)
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error}); send {{}} or nothing for a report of everything") from None
    if not isinstance(body, dict):
        raise Unprocessable("the body must be a JSON object, such as {}", errors={"body": ["not an object"]})
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        named = "; ".join(f"{field}: {_first(message)}" for field, message in messages.items())
        allowed = ", ".join(schema.fields)
        raise Unprocessable(f"{named} (the fields allowed are {allowed})", errors=messages) from None
    return loaded


def _first(message: Any) -> str:
    while isinstance(message, (dict, list)) and message:
        message = next(iter(message.values())) if isinstance(message, dict) else message[0]
    return str(message).rstrip(".")
