"""Schemas that several operations answer with or take."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields

from storemon_flask.services import instants


class Closed(Schema):
    """A schema that takes nothing it does not name, and whose documentation says so."""

    class Meta:
        """Anything else is an error that names the field."""

        unknown = RAISE


class Instant(fields.Field[int]):
    """An instant as ISO 8601 text; microseconds since 1970 UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str):
            raise ValidationError("must be text such as 2024-10-14T23:55:18Z")
        try:
            return instants.read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class ProblemSchema(Schema):
    """RFC 9457: what went wrong and what to do."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.Raw())
