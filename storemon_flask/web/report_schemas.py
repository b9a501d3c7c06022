"""What the classic endpoints take and answer, as openapi.json describes it."""

from typing import Any, Final

from marshmallow import fields, validate

from storemon_flask.services.report_text import CLASSIC_COLUMNS, FULL_COLUMNS, TEXT_COLUMNS
from storemon_flask.web.contract import JSON, Answer
from storemon_flask.web.schemas import Closed

_ID: Final = {"description": "the report's id", "pattern": "^[0-9a-f]{32}$"}


class ReportQuery(Closed):
    """Which report, and in which form. The view itself says what is wrong, with 400."""

    report_id = fields.String(
        required=True, metadata={"description": "the id that `POST /trigger_report` answered", "minLength": 1}
    )
    format = fields.String(
        load_default="csv",
        validate=validate.OneOf(("csv", "json")),
        metadata={"description": "what a complete report is sent as"},
    )


class TriggeredSchema(Closed):
    """A report that is on its way."""

    report_id = fields.String(required=True, metadata=_ID)
    status = fields.String(
        required=True, validate=validate.OneOf(("Running",)), metadata={"description": "always Running"}
    )


class RunningSchema(TriggeredSchema):
    """A report that waits or is being computed."""

    progress = fields.Float(
        required=True, metadata={"description": "how far it is, 0 to 1", "minimum": 0, "maximum": 1}
    )


class FailedSchema(Closed):
    """A report that will not come."""

    report_id = fields.String(required=True, metadata=_ID)
    status = fields.String(
        required=True, validate=validate.OneOf(("Failed",)), metadata={"description": "always Failed"}
    )
    error = fields.String(required=True, metadata={"description": "why"})


def _cell(column: str) -> fields.Field[Any]:
    classic = column in CLASSIC_COLUMNS
    about: dict[str, Any] = {"description": "as in the CSV" if classic else "as in the CSV; with `columns` full only"}
    if column == "store_id":
        return fields.String(required=True, metadata={"description": "the store's id, never altered"})
    if column in TEXT_COLUMNS:
        return fields.String(allow_none=True, metadata=about)
    return fields.Float(required=classic, allow_none=True, metadata={**about, "minimum": 0})


RowSchema: Final = Closed.from_dict({column: _cell(column) for column in FULL_COLUMNS}, name="ReportRowSchema")
RowSchema.__doc__ = "One store's row of a report."


class CompleteSchema(Closed):
    """A finished report's rows."""

    report_id = fields.String(required=True, metadata=_ID)
    status = fields.String(
        required=True, validate=validate.OneOf(("Complete",)), metadata={"description": "always Complete"}
    )
    as_of = fields.String(
        required=True, metadata={"description": "the instant it speaks at", "format": "date-time"}
    )  # fmt: skip
    rows = fields.List(
        fields.Nested(RowSchema), required=True, metadata={"description": "one per store, sorted by store id"}
    )


class HealthSchema(Closed):
    """That the process answers."""

    status = fields.String(required=True, validate=validate.OneOf(("ok",)), metadata={"description": "always ok"})


_HEADERS: Final = {
    "X-Report-Status": "Complete, with a CSV",
    "X-Report-As-Of": "the instant that the report speaks at",
    "ETag": "of the CSV: equal reports have equal ones",
    "Accept-Ranges": "bytes, with a CSV",
}
TRIGGERED: Final = {
    202: Answer("on its way", TriggeredSchema(), {"Location": "where it will be"}),
    409: Answer("no polls are loaded, so there is no now"),
    413: Answer("a body of more than 16 MiB"),
}
FETCHED: Final = {
    200: Answer(
        "a complete report is a CSV, or with `format=json` its rows; one that is not complete is its state, as JSON",
        {"text/csv": None, JSON: (RunningSchema(), FailedSchema(), CompleteSchema())},
        {**_HEADERS, "Retry-After": "seconds, while it is on its way"},
    ),
    206: Answer(
        "the part of the CSV that a Range header asks for", "text/csv", {**_HEADERS, "Content-Range": "which part"}
    ),
    304: Answer("unchanged since the ETag that If-None-Match names"),
    404: Answer("no report of that id"),
    410: Answer("the report was deleted, or its file removed"),
    416: Answer("the report has fewer bytes than the Range asks for"),
}
