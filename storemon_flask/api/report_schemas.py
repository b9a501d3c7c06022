"""What the classic endpoints take and answer, as openapi.json describes it."""

from typing import Any, Final

from marshmallow import fields, validate

from storemon_flask.api import bodies
from storemon_flask.api.schemas import FEW_HEARD, Closed, Component
from storemon_flask.reports.queue import LISTED_STORES
from storemon_flask.reports.report_text import CLASSIC_COLUMNS, FULL_COLUMNS, TEXT_COLUMNS
from storemon_flask.reports.xlsx import MIME
from storemon_flask.web.contract import JSON, Answer

_ID: Final = {"description": "the report's id", "pattern": "^[0-9a-f]{32}$"}


class ReportQuery(Closed):
    """Which report, and in which form. The view itself says what is wrong, with 400."""

    report_id = fields.String(
        required=True, metadata={"description": "the id that `POST /trigger_report` answered", "minLength": 1}
    )
    format = fields.String(
        load_default="csv",
        validate=validate.OneOf(("csv", "json", "xlsx")),
        metadata={"description": "what a complete report is sent as"},
    )
    wait = fields.Float(
        load_default=0,
        metadata={
            "description": "seconds to wait for the report to end before its state is answered; it is answered at once when "
            "a quarter of the server's threads wait",
            "minimum": 0,
            "maximum": 60,
        },
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
    attempts = fields.Integer(metadata={"description": "how often it was tried; only after a try that failed"})
    last_error = fields.String(metadata={"description": "what went wrong then; only after a try that failed"})
    next_try = fields.String(
        allow_none=True,
        metadata={
            "description": "when it is tried again, null while it is tried; only after a try that failed",
            "format": "date-time",
        },
    )


class ShapeSchema(Closed):
    """What was asked beyond the classic windows, as it was asked."""

    kind = fields.String(allow_none=True, metadata={"description": "times or outages"})
    windows = fields.List(
        fields.Raw(metadata={"description": "its name, or where it begins and ends", "anyOf": bodies.WINDOW}),
        metadata={"description": "stretches of time"},
    )
    shortest_minutes = fields.Float(metadata={"description": "outages with less business time down are left out"})
    by = fields.String(allow_none=True, metadata={"description": "the calendar period of a row"})
    groups = fields.List(fields.String(), metadata={"description": "only stores of these groups"})
    zones = fields.List(fields.String(), metadata={"description": "only stores in these time zones"})
    totals = fields.Boolean(metadata={"description": "whether rows of groups and the fleet follow"})
    method = fields.String(allow_none=True, metadata={"description": "which poll speaks for a moment"})


class MethodSchema(Closed):
    """How a finished report was made."""

    as_of = fields.String(required=True, metadata={"description": "the instant it speaks at", "format": "date-time"})
    kind = fields.String(required=True, metadata={"description": "times or outages"})
    columns = fields.String(required=True, metadata={"description": "classic or full"})
    method = fields.String(required=True, metadata={"description": "nearest or previous"})
    windows = fields.List(fields.String(), required=True, metadata={"description": "the names of its windows"})
    by = fields.String(
        required=True, allow_none=True, metadata={"description": "the calendar period of a row; null if none"}
    )
    totals = fields.Boolean(required=True, metadata={"description": "whether rows of groups and the fleet follow"})
    stores_asked = fields.Integer(
        required=True, allow_none=True, metadata={"description": "how many stores were named; null if none were"}
    )
    groups = fields.List(
        fields.String(), required=True, allow_none=True, metadata={"description": "only stores of these; null if all"}
    )
    zones = fields.List(
        fields.String(), required=True, allow_none=True, metadata={"description": "only stores in these; null if all"}
    )
    reach_hours = fields.Float(required=True, metadata={"description": "how far a poll spoke"})
    max_gap_minutes = fields.Float(required=True, metadata={"description": "the longest gap that counted as measured"})
    default_timezone = fields.String(required=True, metadata={"description": "the zone of stores that have none"})
    stores = fields.Integer(required=True, metadata={"description": "stores in it"})
    polls = fields.Integer(required=True, metadata={"description": "polls read for it"})
    data_version = fields.Integer(required=True, metadata={"description": "equal numbers are equal data"})
    tzdata = fields.String(required=True, metadata={"description": "the version of the time zone data"})
    storemon = fields.String(required=True, metadata={"description": "the version that made it"})
    note = fields.String(allow_none=True, metadata={"description": FEW_HEARD})


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
    method = fields.Nested(
        MethodSchema,
        required=True,
        allow_none=True,
        metadata={"description": "how it was made; null if that was not kept"},
    )
    rows = fields.List(
        fields.Nested(RowSchema), required=True, metadata={"description": "one per store, sorted by store id"}
    )


class ShapedSchema(CompleteSchema):
    """A finished report of another shape: its columns are named after its windows, or it has one row for each period or
    outage.
    """

    rows = fields.List(
        Component("ShapedRow"),
        required=True,
        metadata={"description": "as the lines of the CSV"},
    )


# Its columns are named after what was asked.
SHAPED_ROW_COMPONENT: Final = {
    "type": "object",
    "description": "A row of a report of another shape: the columns of its CSV by their names; an empty cell is null.",
    "properties": {},
    "additionalProperties": {"type": ["string", "number", "null"], "description": "a cell"},
}


def _maybe(kind: type[fields.Field[Any]], about: str, **more: Any) -> fields.Field[Any]:
    return kind(required=True, allow_none=True, metadata={"description": about, **more})


class ReportSchema(Closed):
    """A report that was asked for, without its rows."""

    report_id = fields.String(required=True, metadata=_ID)
    status = fields.String(
        required=True,
        validate=validate.OneOf(("Running", "Complete", "Failed")),
        metadata={"description": "how it stands"},
    )
    progress = fields.Float(
        required=True, metadata={"description": "how far it is, 0 to 1", "minimum": 0, "maximum": 1}
    )
    as_of = fields.String(required=True, metadata={"description": "the instant it speaks at", "format": "date-time"})
    columns = fields.String(required=True, metadata={"description": "classic or full"})
    stores = fields.List(
        fields.String(), required=True, allow_none=True, metadata={"description": "only these; null if all"}
    )
    stores_asked = fields.Integer(
        required=True, allow_none=True, metadata={"description": "how many stores were named; null if none were"}
    )
    shape = fields.Nested(
        ShapeSchema, required=True, allow_none=True, metadata={"description": "null for the classic windows"}
    )
    requested = fields.String(required=True, metadata={"description": "when it was asked for", "format": "date-time"})
    started = _maybe(fields.String, "when its computation began", format="date-time")
    finished = _maybe(fields.String, "when it was complete or failed", format="date-time")
    attempts = fields.Integer(required=True, metadata={"description": "how often it was tried"})
    error = _maybe(fields.String, "why it failed")
    last_error = _maybe(fields.String, "what went wrong at the last try that was not the last; null if nothing did")
    next_try = _maybe(fields.String, "when it is tried again; null if it does not wait for that", format="date-time")
    rows = _maybe(fields.Integer, "how many rows it has")
    bytes = _maybe(fields.Integer, "how long its CSV is")
    sha256 = _maybe(fields.String, "the hash of its CSV")
    method = fields.Nested(
        MethodSchema, required=True, allow_none=True, metadata={"description": "how it was made, once it is complete"}
    )


class ListedSchema(ReportSchema):
    """A report in a list: of the stores it was asked for it has the first few."""

    stores = fields.List(
        fields.String(),
        required=True,
        allow_none=True,
        metadata={
            "description": "only these, the first of them; `stores_asked` says how many there are; null if all",
            "maxItems": LISTED_STORES,
        },
    )


class ReportsSchema(Closed):
    """Reports, the newest first."""

    reports = fields.List(fields.Nested(ListedSchema), required=True, metadata={"description": "a page of them"})
    next = _maybe(fields.String, "the cursor of the next page; null at the end")


class ChangeSchema(Closed):
    """A cell that differs."""

    store_id = _maybe(fields.String, "the store; null in a row of totals")
    kind = _maybe(fields.String, "store, group or fleet, where there are totals")
    group = _maybe(fields.String, "the group of a row of totals")
    period = _maybe(fields.String, "the calendar period, or the start of an outage, where there are any")
    column = fields.String(required=True, metadata={"description": "the column that differs"})
    before = _maybe(fields.Float, "what the earlier report says; null if it has no such row")
    after = _maybe(fields.Float, "what this report says; null if it has no such row")
    change = fields.Float(required=True, metadata={"description": "by how much, in the unit of the column"})


class DiffSchema(Closed):
    """What changed from one report to another."""

    report_id = fields.String(required=True, metadata=_ID)
    against = fields.String(required=True, metadata=_ID)
    total = fields.Integer(required=True, metadata={"description": "how many cells differ", "minimum": 0})
    changes = fields.List(
        fields.Nested(ChangeSchema), required=True, metadata={"description": "the largest change first"}
    )


class HealthSchema(Closed):
    """That the process answers."""

    status = fields.String(required=True, validate=validate.OneOf(("ok",)), metadata={"description": "always ok"})


_HEADERS: Final = {
    "X-Report-Status": "Complete, with a CSV",
    "X-Report-As-Of": "the instant that the report speaks at",
    "X-Report-Note": "with a CSV, a sentence when only few stores have come to the as-of",
    "ETag": "of the CSV: equal reports have equal ones",
    "Accept-Ranges": "bytes, with a CSV",
}
TRIGGERED: Final = {
    202: Answer("on its way", TriggeredSchema(), {"Location": "where it will be"}),
    409: Answer("no polls are loaded, or all are in the future, so there is no now"),
    413: Answer("a body of more than 16 MiB"),
    503: Answer(
        "as many reports wait as may (STOREMON_MAX_PENDING_REPORTS), it is busy, or the database cannot be used",
        headers={"Retry-After": "seconds, when busy"},
    ),
}
FETCHED: Final = {
    200: Answer(
        "the report is complete: a CSV, with `format=json` its rows, with `format=xlsx` a workbook",
        {"text/csv": None, MIME: None, JSON: (CompleteSchema(), ShapedSchema())},
        _HEADERS,
    ),
    202: Answer("the report is on its way", RunningSchema(), {"Retry-After": "seconds until it is worth asking again"}),
    206: Answer(
        "the part of the CSV that a Range header asks for", "text/csv", {**_HEADERS, "Content-Range": "which part"}
    ),
    304: Answer("unchanged since the ETag that If-None-Match names"),
    404: Answer("no report of that id"),
    409: Answer("the report failed and will not come: `error` says why; trigger a new one"),
    410: Answer("the report was deleted (by somebody, as it was old, or to make room), or its file removed"),
    416: Answer("the report has fewer bytes than the Range asks for"),
}
LATEST: Final = {
    **{status: FETCHED[status] for status in (206, 304, 410, 416)},
    200: Answer("the CSV of the report", "text/csv", _HEADERS),
    403: Answer("the key's scope is too small, or a page of another site asks for this"),
    409: Answer(
        "no polls are loaded, or all are in the future, so there is no now; or the report failed: then `error` says why"
    ),
    503: Answer(
        "it is not complete yet, as many reports wait as may (STOREMON_MAX_PENDING_REPORTS), or the database cannot be used",
        headers={"Retry-After": "seconds until it is worth asking again"},
    ),
}
