"""What the operations take and answer, as marshmallow schemas: they validate, serialise and document."""

import math
import re
from dataclasses import asdict
from typing import Any, Final

from marshmallow import ValidationError, fields, pre_load, validate

from storemon_flask.errors import BadRequest
from storemon_flask.model import Counts, FileSummary, Reject
from storemon_flask.reports import queue
from storemon_flask.reports.queue import LISTED_STORES
from storemon_flask.reports.report import Asked
from storemon_flask.reports.report_text import CLASSIC_COLUMNS, FULL_COLUMNS, TEXT_COLUMNS
from storemon_flask.reports.shapes import BY, FIELDS, KINDS, LAST, METHODS
from storemon_flask.reports.xlsx import MIME
from storemon_flask.stores.list_pages import CURSOR, MOST_PER_PAGE, SORTS
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.timeline import KNOWN, STATES
from storemon_flask.web.contract import JSON, Answer, Closed, Instant, Whole


class Component(fields.Raw):
    """A value that is as a schema of the document's components says, which no schema here does."""

    def __init__(self, component: str, **options: Any) -> None:
        super().__init__(**options)
        self.component = component


def _text(about: str, **options: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": about}, **options)


def _instant(about: str, allow_none: bool = False) -> fields.String:
    return fields.String(
        required=True, allow_none=allow_none, metadata={"description": about, "format": "date-time"}
    )  # fmt: skip


def _count(about: str) -> fields.Integer:
    return fields.Integer(required=True, metadata={"description": about, "minimum": 0})


def _flag(about: str) -> fields.Boolean:
    return fields.Boolean(required=True, metadata={"description": about})


def _percent(about: str) -> fields.Float:
    return fields.Float(
        required=True, allow_none=True, metadata={"description": about, "minimum": 0, "maximum": 100}
    )  # fmt: skip


def _hours(about: str) -> fields.Float:
    return fields.Float(required=True, metadata={"description": f"hours {about}", "minimum": 0})


_LOAD_ID: Final = {"description": "its number; its rejects are at /api/v1/loads/NUMBER/rejects", "minimum": 1}


class RejectSchema(Closed):
    """A row that could not be used."""

    line = fields.Integer(required=True, metadata={"description": "the line it begins on; in JSON the row's number"})
    reason = fields.String(required=True, metadata={"description": "why it could not be used"})
    text = fields.String(required=True, metadata={"description": "its first 1,000 characters"})


class FileRejectSchema(RejectSchema):
    """A rejected row and the file it stands in."""

    file = fields.String(required=True, metadata={"description": "the file's name, or body"})


class ProblemSchema(Closed):
    """RFC 9457: what went wrong and what to do."""

    type = fields.String(
        required=True, metadata={"description": "what kind of problem, for programs: urn:storemon:problem:..."}
    )
    title = fields.String(required=True, metadata={"description": "the kind in words"})
    status = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    detail = fields.String(required=True, metadata={"description": "what was wrong, what is allowed, what to do"})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.Raw(metadata={"description": "what is wrong with it"}),
        metadata={"description": "by field or parameter, where there are any"},
    )
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"description": "ok, or what is wrong"}),
        metadata={"description": "what was looked at, where the service is not ready"},
    )
    report_id = fields.String(metadata={"description": "the id of a report that failed"})
    error = fields.String(metadata={"description": "why that report failed"})
    load_id = fields.Integer(
        metadata={"description": "the number of a load of which nothing was stored, where it is remembered"}
    )
    rejected = fields.Integer(metadata={"description": "how many rows of it could not be used"})
    rejects = fields.List(fields.Nested(FileRejectSchema), metadata={"description": "the first 100 of these rows"})


class RowCountsSchema(Closed):
    """What became of rows: rows = new + changed + unchanged + repeated + rejected."""

    rows = _count("rows it has")
    new = _count("of stores or instants not known before")
    changed = _count("that replaced something else")
    unchanged = _count("that said what was known")
    repeated = _count("that a later row of the same file replaced")
    rejected = _count("that could not be used")


class CountsSchema(RowCountsSchema):
    """One file and what became of its rows."""

    feed = fields.String(
        required=True, metadata={"description": "polls, hours, timezones or stores; empty if it is none"}
    )
    reasons = fields.Dict(
        required=True,
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "rejected rows by reason"},
    )
    notes = fields.List(
        fields.String(), required=True, metadata={"description": "sentences about what else there is to know"}
    )
    file = fields.String(required=True, metadata={"description": "the file's name, or body"})
    error = fields.String(
        required=True, allow_none=True, metadata={"description": "why nothing of the file was stored; null if it was"}
    )


class LoadFileSchema(CountsSchema):
    """One file, with the first 100 of its rejected rows."""

    rejects = fields.List(
        fields.Nested(RejectSchema),
        required=True,
        metadata={"description": "its first 100 rows that could not be used"},
    )


class LoadedSchema(LoadFileSchema):
    """What a push did."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)


FEW_HEARD: Final = (
    "a sentence when under 5 % of the stores that were polled before have been heard since, so that the as-of is one of few "
    "stores; else null"
)


NOTE: Final = (
    "what to know of the as-of: a sentence when under 5 % of the stores that were polled before have been heard since, and one when "
    "stores have polls in the future, which count for nothing before their time; else null"
)


def _load_notes() -> fields.Field[Any]:
    return fields.List(
        fields.String(),
        required=True,
        metadata={"description": "what the load changes for other data, such as polled stores that have no hours"},
    )


class LoadSchema(Closed):
    """What an upload did, file by file."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    notes = _load_notes()
    files = fields.List(fields.Nested(LoadFileSchema), required=True, metadata={"description": "file by file"})


class ListedLoadSchema(RowCountsSchema):
    """A load of the past, with the rows of all its files together."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    started = fields.String(required=True, metadata={"description": "when it began", "format": "date-time"})
    notes = _load_notes()
    file = fields.String(required=True, metadata={"description": "the name of its first file, or body"})
    file_count = _count("how many files it has")
    failed_count = _count("how many of them were not loaded")


class PastLoadSchema(ListedLoadSchema):
    """One load of the past, with its files."""

    files = fields.List(
        fields.Nested(CountsSchema), required=True, metadata={"description": "file by file, the first 1,000"}
    )


class LoadsSchema(Closed):
    """Loads, the newest first."""

    found = fields.List(
        fields.Nested(ListedLoadSchema), required=True, data_key="loads", metadata={"description": "a page of them"}
    )
    next = fields.String(
        required=True, allow_none=True, metadata={"description": "the cursor of the next page; null at the end"}
    )


class RejectsSchema(Closed):
    """The rejected rows of a load, as far as they are kept (the first 10,000)."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    rejects = fields.List(
        fields.Nested(FileRejectSchema), required=True, metadata={"description": "in the order of the files and rows"}
    )


def reject_json(reject: Reject) -> dict[str, Any]:
    """As `RejectSchema`."""
    return {"line": reject.line, "reason": reject.reason, "text": reject.text}


def row_counts_json(counts: Counts) -> dict[str, int]:
    """As `RowCountsSchema`."""
    return asdict(counts)


def counts_json(summary: FileSummary) -> dict[str, Any]:
    """As `CountsSchema`."""
    return {
        "file": summary.file,
        "feed": summary.feed,
        **row_counts_json(summary.counts),
        "reasons": summary.reasons,
        "notes": summary.notes,
        "error": summary.error or None,
    }


def pushed_json(load_id: int, summary: FileSummary, load_notes: list[str], most_rejects: int) -> dict[str, Any]:
    """As `LoadedSchema`: a push is one file, so its notes and those of the load are one list."""
    found = file_json(summary, most_rejects)
    return {"load_id": load_id, **found, "notes": [*summary.notes, *load_notes]}


def file_json(summary: FileSummary, most_rejects: int) -> dict[str, Any]:
    """As `LoadFileSchema`."""
    return {**counts_json(summary), "rejects": [reject_json(reject) for reject in summary.rejects[:most_rejects]]}


_EDGE: Final = {"type": "string", "description": "2024-10-01, or 2024-10-01T09:00:00-05:00"}
WINDOW: Final = [
    {"type": "string", "description": "a window that ends at the as-of", "enum": list(LAST)},
    {"$ref": "#/components/schemas/Window"},
]
WINDOW_COMPONENT: Final = {
    "type": "object",
    "description": "A stretch of time: two instants with an offset, or two local dates, meant in each store's own zone.",
    "properties": {
        "from": {**_EDGE, "description": f"where it begins: {_EDGE['description']}"},
        "to": {**_EDGE, "description": f"where it ends, outside it: {_EDGE['description']}"},
        "name": {
            "type": "string",
            "description": "what its columns are called after; FROM_TO if left out",
            "minLength": 1,
            "maxLength": 100,
        },
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}


def _chosen(about: str, *words: str) -> fields.Raw:
    """A field that is one of those words; `services.shapes` says so."""
    return fields.Raw(metadata={"description": about, "type": "string", "enum": list(words)})


class TriggerSchema(Closed):
    """What `POST /trigger_report` takes, every field optional."""

    as_of = Instant(
        metadata={
            "description": "the instant to speak at; any ISO 8601 spelling is read; the newest poll that is not in the future if left out"
        }
    )
    stores = fields.List(
        fields.String(metadata={"format": "store-id", "description": "the id of a store that there is"}),
        validate=validate.Length(min=1, error="name at least one store, or leave it out"),
        metadata={"description": "only these; every store if left out"},
    )
    columns = fields.String(
        validate=validate.OneOf(("classic", "full")), metadata={"description": "which columns; classic if left out"}
    )
    # What these may be is `services.shapes`' to say, in its own words, for every door.
    windows = fields.List(
        fields.Raw(metadata={"description": "its name, or where it begins and ends", "anyOf": WINDOW}),
        metadata={
            "description": "stretches of time; from and to are instants with an offset, or local dates of each store"
        },
    )
    kind = _chosen("times, or outages: a row for each outage that touches the window", *KINDS)
    shortest_minutes = fields.Raw(
        metadata={
            "description": "outages with less business time down are left out; with kind outages only",
            "type": "number",
            "minimum": 0,
            "maximum": 576_000,
        }
    )
    by = _chosen("a row for each calendar period in the store's own zone", *BY)
    groups = fields.List(
        fields.String(metadata={"description": "a group that there is"}),
        metadata={"description": "only stores of these groups", "minItems": 1},
    )
    zones = fields.List(
        fields.String(metadata={"description": "a zone that a store is in"}),
        metadata={"description": "only stores in these time zones", "minItems": 1},
    )
    totals = fields.Raw(
        metadata={"description": "true: rows for each group and for the fleet follow", "type": "boolean"}
    )
    method = _chosen("which poll speaks for a moment: the nearest, or the previous one", *METHODS)


class LatestQuery(Closed):
    """The same as parameters of an address, and how old the report may be.

    Lists are given as often as they have entries.
    """

    max_age = Whole(
        load_default=0,
        validate=validate.Range(0, 31_536_000),
        metadata={
            "description": "how many seconds ago the report may have been finished, when the data have changed since; 0: it "
            "must be of the data as they are now"
        },
    )
    as_of = Instant(
        metadata={"description": "the instant to speak at; the newest poll that is not in the future if left out"}
    )
    stores = fields.List(
        fields.String(), metadata={"description": "only these; every store if left out; may be given several times"}
    )
    columns = fields.String(
        validate=validate.OneOf(("classic", "full")), metadata={"description": "which columns; classic if left out"}
    )
    windows = fields.List(
        fields.String(),
        metadata={
            "description": f"{', '.join(LAST)}, or FROM/TO or FROM/TO/NAME with two local dates or two instants with an "
            "offset, as `2024-10-01/2024-10-08/first_week`; may be given several times"
        },
    )
    kind = fields.String(
        validate=validate.OneOf(KINDS),
        metadata={"description": "times, or outages: a row for each outage that touches the window"},
    )
    shortest_minutes = fields.Float(
        validate=validate.Range(0, 576_000),
        metadata={"description": "outages with less business time down are left out; with kind outages only"},
    )
    by = fields.String(
        validate=validate.OneOf(BY), metadata={"description": "a row for each calendar period in the store's own zone"}
    )
    groups = fields.List(
        fields.String(), metadata={"description": "only stores of these groups; may be given several times"}
    )
    zones = fields.List(
        fields.String(), metadata={"description": "only stores in these time zones; may be given several times"}
    )
    totals = fields.Boolean(
        truthy={"true"}, falsy={"false"}, metadata={"description": "true: rows for each group and for the fleet follow"}
    )
    method = fields.String(
        validate=validate.OneOf(METHODS),
        metadata={"description": "which poll speaks for a moment: the nearest, or the previous one"},
    )


def asked_by_address(query: dict[str, Any]) -> Asked:
    """The report that the parameters of `LatestQuery` ask for."""
    windows = {"windows": [_window(text) for text in query["windows"]]} if "windows" in query else {}
    return asked({**query, **windows})


def _window(text: str) -> object:
    """A window as a body has it: a name, or an object."""
    from_text, slash, rest = text.partition("/")
    if not slash:
        return text
    to_text, slash, name = rest.partition("/")
    return {"from": from_text, "to": to_text, **({"name": name} if slash else {})}


def asked(body: dict[str, Any]) -> Asked:
    """The report that the fields of `TriggerSchema` ask for."""
    shape: dict[str, Any] = {name: body[name] for name in FIELDS if name in body}
    return Asked(body.get("as_of"), body.get("columns", "classic"), body.get("stores"), shape)


_ID: Final = {"description": "the report's id", "pattern": "^[0-9a-f]{32}$"}


# Of the many spellings of a float, those of JSON that are not negative.
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
MAX_WAIT_S: Final = 60


class _WaitSeconds(fields.Float):
    """A number of seconds up to `MAX_WAIT_S`, as JSON writes numbers."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        seconds = float(value) if _NUMBER.fullmatch(value) else math.nan
        if not 0 <= seconds <= MAX_WAIT_S:
            raise ValidationError(f"is {value[:100]!r}; it must be a number of seconds from 0 to {MAX_WAIT_S}")
        return seconds


class ReportQuery(Closed):
    """Which report, and in which form."""

    wrong_value = BadRequest

    report_id = fields.String(
        required=True,
        metadata={"description": "the id that `POST /trigger_report` answered", "minLength": 1},
    )
    format = fields.String(
        load_default="csv",
        validate=validate.OneOf(("csv", "json", "xlsx"), error="is {input!r}; it must be csv, json or xlsx"),
        metadata={"description": "what a complete report is sent as"},
    )
    wait = _WaitSeconds(
        load_default=0,
        metadata={
            "description": "seconds to wait for the report to end before its state is answered; it is answered at once "
            "when a quarter of the server's threads wait",
            "minimum": 0,
            "maximum": MAX_WAIT_S,
        },
    )

    @pre_load
    def require_id(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Say how to name a report, before anything else is said of the address."""
        if not data.get("report_id"):
            raise queue.no_id()
        return data


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
        fields.Raw(metadata={"description": "its name, or where it begins and ends", "anyOf": WINDOW}),
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
        "as many reports wait as may, it is busy, or the database cannot be used",
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
        "it is not complete yet, as many reports wait as may, or the database cannot be used",
        headers={"Retry-After": "seconds until it is worth asking again"},
    ),
}


_UP_PERCENT = "100 x uptime / (uptime + downtime); null when nothing is known"
_LOW_PERCENT = "the least that the percentage of business time can have been, as far as polls can tell"
_HIGH_PERCENT = "the most that it can have been"
_LITTLE = "whether more than a tenth of that business time is unknown, so that the percentages say little"
_STATUS_TEXT = (
    "the status and for how long, in words: `down for 8 h 42 min`, `up for over 6 days`, `no poll for 39 days`"
)
_SINCE = (
    "since when: up and down, the start of the run of polls, as outages have it; stale, the last poll; waiting, the opening's "
    "start; closed, the last opening's end; null when that is not known"
)
_EARLIER = (
    "whether it was so earlier already: of a store that is up, no more than the last six whole days (UTC) is looked at"
)
_FOR_SECONDS = "whole seconds from `since` to the as-of; null without `since`"
_NOTICE = "a sentence for a banner when the data are old, else null"
_AS_OF = "the instant that everything here is judged at"
_OLD = "whether that is the newest poll that is not in the future, because it is a day old or more, and not the machine's clock"


class StoresQuery(Closed):
    """Which stores, in which order."""

    status = fields.List(
        fields.String(validate=validate.OneOf(STATUSES)),
        load_default=(),
        metadata={"description": "only stores with one of these statuses; may be given several times"},
    )
    q = fields.String(
        load_default=None, metadata={"description": "only stores with this text in id or name, in any case"}
    )
    zone = fields.String(load_default=None, metadata={"description": "only stores of this time zone"})
    group = fields.String(load_default=None, metadata={"description": "only stores of this group; empty: of none"})
    sort = fields.String(
        load_default="worst",
        validate=validate.OneOf(SORTS),
        metadata={
            "description": "worst: stores that are down, then stale ones, then the others, each with the lowest uptime of "
            "the last day, then week, first; never polled ones last"
        },
    )
    order = fields.String(
        load_default="asc",
        validate=validate.OneOf(("asc", "desc")),
        metadata={
            "description": "either way ties are by id, percentages that know little come after the others, stores without a value last"
        },
    )
    limit = Whole(
        load_default=100, validate=validate.Range(1, MOST_PER_PAGE), metadata={"description": "stores a page"}
    )
    cursor = fields.String(
        load_default=None,
        metadata={
            "description": "what `next` of the page before said; it brings that page's sort and order with it",
            "pattern": CURSOR,
        },
    )


class StoreSchema(Closed):
    """One store as it is now; hours and percentages are those of the full report."""

    store_id = _text("its id")
    name = _text("what people call it; null without a name", allow_none=True)
    group = _text("its group; null without one", allow_none=True)
    timezone = _text("the IANA zone that is used")
    status = _text("what it is doing now", validate=validate.OneOf(STATUSES))
    status_text = _text(_STATUS_TEXT)
    since = _instant(_SINCE, allow_none=True)
    since_or_earlier = _flag(_EARLIER)
    for_seconds = fields.Integer(
        required=True, allow_none=True, metadata={"description": _FOR_SECONDS, "minimum": 0}
    )  # fmt: skip
    last_poll = _instant("its newest poll of any kind; null if it was never polled", allow_none=True)
    uptime_percent_last_day = _percent(_UP_PERCENT)
    uptime_percent_low_last_day = _percent(_LOW_PERCENT)
    uptime_percent_high_last_day = _percent(_HIGH_PERCENT)
    uptime_last_day = _hours("up")
    downtime_last_day = _hours("down")
    unknown_last_day = _hours("of which nothing is known")
    business_last_day = _hours("of business time")
    little_known_last_day = _flag(_LITTLE)
    uptime_percent_last_week = _percent(_UP_PERCENT)
    uptime_percent_low_last_week = _percent(_LOW_PERCENT)
    uptime_percent_high_last_week = _percent(_HIGH_PERCENT)
    uptime_last_week = _hours("up")
    downtime_last_week = _hours("down")
    unknown_last_week = _hours("of which nothing is known")
    business_last_week = _hours("of business time")
    little_known_last_week = _flag(_LITTLE)


class StatusCountsSchema(Closed):
    """How many stores have each status."""

    down = _count("known to be off")
    stale = _count("open, and the last poll is too old")
    waiting = _count("just opened, not polled yet")
    up = _count("known to be on")
    closed = _count("outside business hours")
    no_data = _count("never polled")


class StoresSchema(Closed):
    """A page of stores."""

    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    total = _count("stores on all pages")
    counts = fields.Nested(
        StatusCountsSchema, required=True, metadata={"description": "stores by status, whatever statuses are asked for"}
    )
    next = _text("the cursor of the next page; null on the last", allow_none=True)
    stores = fields.List(fields.Nested(StoreSchema), required=True, metadata={"description": "those of this page"})


class WeeklyHoursSchema(Closed):
    """One row of a store's weekly hours, as it was loaded."""

    day = fields.Integer(
        required=True, metadata={"description": "0 Monday to 6 Sunday", "minimum": 0, "maximum": 6}
    )  # fmt: skip
    start_time_local = _text("when it opens, local time")
    end_time_local = _text("when it closes, local time; at or before the start: on the next day")
    valid_from = _text(
        "the local date from which on it holds; null: of every date before the next version", allow_none=True
    )


class SpecialHoursSchema(Closed):
    """What replaces a store's weekly hours on one local date."""

    date = _text("the local date")
    start_time_local = _text("when it opens, local time; null: closed all day", allow_none=True)
    end_time_local = _text("when it closes, local time; null: closed all day", allow_none=True)


class StoreDetailSchema(StoreSchema):
    """One store with all that is known of it."""

    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    first_poll = _instant("its oldest poll; null if it was never polled", allow_none=True)
    polls = _count("all polls of it up to the as-of")
    always_open = _flag("whether it has no hours, and so is open 24x7")
    hours = fields.List(
        fields.Nested(WeeklyHoursSchema), required=True, metadata={"description": "its weekly hours, as loaded"}
    )
    special_hours = fields.List(
        fields.Nested(SpecialHoursSchema), required=True, metadata={"description": "its special hours, as loaded"}
    )


_ASKED_AS_OF = Instant(
    load_default=None,
    metadata={
        "description": "the instant to judge at, after which no poll exists; that of the list if not given",
        "format": "date-time",
    },
)


class StoreQuery(Closed):
    """When one store is looked at."""

    as_of = _ASKED_AS_OF


class TimelineQuery(Closed):
    """Which part of a store's time is looked at."""

    as_of = _ASKED_AS_OF

    class Meta(Closed.Meta):
        """The range's edges have names that Python keeps for itself."""

        include = {  # noqa: RUF012
            "from": Instant(
                load_default=None,
                metadata={"description": "7 days before `to` if not given; at most 31 days", "format": "date-time"},
            ),
            "to": Instant(
                load_default=None,
                metadata={"description": "the as-of if not given, or if later than that", "format": "date-time"},
            ),
        }


class OpeningSchema(Closed):
    """Business time `[start, end)`, cut to the range."""

    start = _instant("when it begins")
    end = _instant("when it ends")


class StretchSchema(OpeningSchema):
    """Business time of one state, known in one way."""

    state = _text("up, down or unknown", validate=validate.OneOf(STATES))
    known = _text(
        "measured: between two polls that agree, no further apart than the max gap; between: two such that disagree, up "
        "to their midpoint; extrapolated: by the nearest poll alone; nothing: unknown",
        validate=validate.OneOf(KNOWN),
    )


class TimelinePollSchema(Closed):
    """One poll."""

    at = _instant("when it was made")
    status = _text("what it said", validate=validate.OneOf(("active", "inactive")))
    counts = _flag("whether it was made in business hours")


class OutageSchema(Closed):
    """A run of inactive polls; closed time does not end it. It is whole, also where it reaches beyond the range."""

    start = _instant("where its downtime begins")
    end = _instant("where its downtime ends; the as-of while it is going on")
    start_earliest = _instant("it began after this: the active poll before, or the edge of what is known")
    start_latest = _instant("its first inactive poll")
    end_earliest = _instant("its last inactive poll")
    end_latest = _instant("it ended before this: the active poll after, or the edge of what is known")
    down_us = _count("its business time in microseconds")
    polls = _count("how many polls say so")
    ongoing = _flag("whether it was still going on at the as-of")


class SumsSchema(Closed):
    """The range in microseconds, as a report would have it: uptime + downtime + unknown = business."""

    uptime_us = _count("microseconds up")
    downtime_us = _count("microseconds down")
    unknown_us = _count("microseconds of which nothing is known")
    business_us = _count("microseconds of business time")
    measured_us = _count("microseconds between two polls no further apart than the max gap")
    uptime_low_us = _count("microseconds measured between two active polls")
    uptime_high_us = _count("microseconds of business time less what is measured between two inactive polls")


class TimelineSchema(Closed):
    """Why a store's numbers are what they are."""

    store_id = _text("its id")
    timezone = _text("the IANA zone that is used")
    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    openings = fields.List(
        fields.Nested(OpeningSchema), required=True, metadata={"description": "business time in the range"}
    )
    stretches = fields.List(
        fields.Nested(StretchSchema),
        required=True,
        metadata={"description": "the openings, cut where the state changes"},
    )
    polls = fields.List(
        fields.Nested(TimelinePollSchema), required=True, metadata={"description": "every poll in the range"}
    )
    outages = fields.List(
        fields.Nested(OutageSchema), required=True, metadata={"description": "outages that touch the range"}
    )
    sums = fields.Nested(SumsSchema, required=True, metadata={"description": "the range in sum"})

    class Meta(Closed.Meta):
        """The range's edges have names that Python keeps for itself."""

        include = {  # noqa: RUF012
            "from": _instant("where the range begins"),
            "to": _instant("where the range ends, outside it"),
        }
