"""What the operations take and answer, as marshmallow schemas: they validate, serialise and document."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import fields as fields_of
from functools import partial
from typing import Any, Final

from marshmallow import ValidationError, fields, missing, pre_dump, pre_load, validate

from storemon_flask.database.reports import LISTED_STORES
from storemon_flask.errors import BadRequest, Unprocessable
from storemon_flask.feeds.load import LoadResult
from storemon_flask.labels import read_filters
from storemon_flask.reports import stored
from storemon_flask.reports.csv import CLASSIC_COLUMNS, FULL_COLUMNS, TEXT_COLUMNS
from storemon_flask.reports.request import COMPARISONS, FIELDS, KINDS, METHODS, UNITS, ReportRequest
from storemon_flask.reports.windows import WINDOW_NAMES
from storemon_flask.reports.xlsx import MIME
from storemon_flask.stores.live_list import LACKING, LISTED_WINDOWS, MOST_PER_PAGE, SORTS
from storemon_flask.stores.overview import GROUP_SORTS, TREND_DAYS, WINDOWS
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.timeline import KNOWN, STATES
from storemon_flask.web.contract import JSON, Answer, Closed, Instant, Percentage, Whole

# An answer lists so many rejected rows; the others are asked for by the load's number.
REJECTS_SHOWN: Final = 100
MAX_WAIT_S: Final = 60
Field = fields.Field[Any]


class Component(fields.Raw):
    """A value that a component of the document describes, and no schema here."""

    def __init__(self, component: str, **options: Any) -> None:
        super().__init__(**options)
        self.component = component


class _Stored(fields.Nested):
    """JSON of the database: the schema describes it, and it is passed on as it is."""

    def _serialize(self, nested_obj: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return nested_obj


class _TextOrNull(fields.String):
    """A text; an empty one is null."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return value or None


class _FirstRows(fields.List[Any]):
    """A list of rejected rows, of which the first are shown."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> list[Any] | None:
        return super()._serialize(value[:REJECTS_SHOWN], attr, obj, **kwargs)


class _ReportStatus(fields.String):
    """The state of a report, in the words of the API."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return {"complete": "Complete", "failed": "Failed"}.get(value, "Running")


def _field(
    kind: Callable[..., Field],
    about: str,
    *,
    null: bool = False,
    optional: bool = False,
    attribute: str | None = None,
    one_of: tuple[str, ...] = (),
    **metadata: Any,
) -> Field:
    """Return a field of an answer; `attribute` is where the value is found when it has another name."""
    return kind(
        required=not optional,
        allow_none=null,
        attribute=attribute,
        validate=validate.OneOf(one_of) if one_of else None,
        metadata={"description": about, **metadata},
    )


def _given(
    kind: Callable[..., Field],
    about: str,
    *,
    default: Any = missing,
    check: Any = None,
    one_of: tuple[str, ...] = (),
    item: Field | None = None,
    **metadata: Any,
) -> Field:
    """Return an optional field or parameter of a request; `item` is an entry of a list."""
    items = () if item is None else (item,)
    check = validate.OneOf(one_of) if one_of else check
    return kind(*items, load_default=default, validate=check, metadata={"description": about, **metadata})


_given_text: Final = partial(_given, fields.String)
_given_list: Final = partial(_given, fields.List)
# `reports.request` checks it, for the command line and the pages too.
_checked_later: Final = partial(_given, fields.Raw)
_text: Final = partial(_field, fields.String)
_instant: Final = partial(_field, Instant)
_number: Final = partial(_field, fields.Float)
_integer: Final = partial(_field, fields.Integer)
_count: Final = partial(_integer, minimum=0)
_flag: Final = partial(_field, fields.Boolean)


def _list(item: Any, about: str, kind: type[fields.List[Any]] = fields.List, **options: Any) -> Field:
    return _field(partial(kind, fields.Nested(item) if isinstance(item, type) else item), about, **options)


def _texts(about: str, **options: Any) -> Field:
    return _list(fields.String(), about, **options)


def _stored(schema: type[Closed], about: str) -> Field:
    return _field(partial(_Stored, schema), about, null=True)


def _dict(value: Field, about: str, **options: Any) -> Field:
    return _field(partial(fields.Dict, fields.String(), value), about, **options)


def _schema(name: str, about: str, members: dict[str, Field]) -> type[Closed]:
    """Return the schema of these fields, in this order."""
    schema: type[Closed] = Closed.from_dict(members, name=f"{name}Schema")  # type: ignore[assignment]
    schema.__doc__ = about
    return schema


# Problems


class RejectSchema(Closed):
    """A row that could not be used."""

    line = _integer("the line it begins on; in JSON the row's number")
    reason = _text("why it could not be used")
    text = _text("its first 1,000 characters")


class FileRejectSchema(RejectSchema):
    """A rejected row and the file it stands in."""

    file = _text("the file's name, or body")


class InTheWaySchema(Closed):
    """A later load with the same data, which keeps an earlier one from being undone."""

    load_id = _integer("its number")
    by_feed = _dict(
        fields.Integer(),
        "what it has: how many of the same polls, and of how many stores hours, special_hours, timezones, stores "
        "(names) or a removal",
    )


class ProblemSchema(Closed):
    """RFC 9457: what went wrong and what to do."""

    type = _text("what kind of problem, for programs: urn:storemon:problem:...")
    title = _text("the kind in words")
    status = _integer("the HTTP status")
    detail = _text("what was wrong, what is allowed, what to do")
    errors = _dict(
        fields.Raw(metadata={"description": "what is wrong with it"}), "by field or parameter, if any", optional=True
    )
    checks = _dict(_text("ok, or what is wrong"), "what was looked at, where the service is not ready", optional=True)
    report_id = _text("the id of a report that failed", optional=True)
    error = _text("why that report failed", optional=True)
    load_id = _integer("the number of a load of which nothing was stored, where it is remembered", optional=True)
    rejected = _integer("how many rows of it could not be used", optional=True)
    rejects = _list(FileRejectSchema, "the first 100 of these rows", optional=True)
    conflicts = _list(InTheWaySchema, "the later loads because of which a load is not undone", optional=True)


class HealthSchema(Closed):
    """That the process answers."""

    status = _text("always ok", one_of=("ok",))


class ReadySchema(Closed):
    """That the service can do its work."""

    status = _text("always ready", one_of=("ready",))
    checks = _dict(_text("always ok"), "what was looked at: database, disk, reports, jobs")


# Loads

_COUNTS: Final = {
    name: _count(about, attribute=f"counts.{name}")
    for name, about in (
        ("rows", "rows it has: new + changed + unchanged + repeated + rejected"),
        ("new", "of stores or instants not known before"),
        ("changed", "that replaced something else"),
        ("unchanged", "that repeated what was known"),
        ("repeated", "that a later row of the same file replaced"),
        ("rejected", "that could not be used"),
    )
}
_FILE: Final = {
    "file": _text("the file's name, or body"),
    "feed": _text("polls, hours, special_hours, timezones or stores; undo or removal; empty if it is none"),
    "error": _field(_TextOrNull, "why nothing of the file was stored; null if it was", null=True),
    **_COUNTS,
    "reasons": _dict(fields.Integer(), "rejected rows by reason"),
    "notes": _texts("sentences about what else there is to know"),
}
_REJECTS: Final = {"rejects": _list(RejectSchema, "its first 100 rows that could not be used", _FirstRows)}
_load_id: Final = partial(_integer, "its number; its rejects are at /api/v1/loads/NUMBER/rejects", minimum=1)
_new_load_id: Final = partial(
    _integer,
    "its number; its rejects are at /api/v1/loads/NUMBER/rejects. 0 in a dry run",
    minimum=0,
)
_load_notes: Final = partial(_texts, "what the load changes for other data, such as polled stores that have no hours")
CountsSchema: Final = _schema("Counts", "One file and what became of its rows.", _FILE)
LoadFileSchema: Final = _schema("LoadFile", "One file, with the first 100 of its rejected rows.", {**_FILE, **_REJECTS})


class LoadedSchema(Closed):
    """What a push did."""

    class Meta(Closed.Meta):
        """The load's number, then what its only file has."""

        include = {"load_id": _new_load_id(), **_FILE, **_REJECTS}  # noqa: RUF012

    @pre_dump
    def merge(self, result: LoadResult, **kwargs: Any) -> dict[str, Any]:
        """Return the only file of a push, its notes and those of the load as one list."""
        (summary,) = result.files
        values = {field.name: getattr(summary, field.name) for field in fields_of(summary)}
        return {**values, "load_id": result.load, "notes": [*summary.notes, *result.notes]}


class PushedSchema(Closed):
    """The poll that came of a push."""

    store_id = _text("the store of the push address")
    timestamp_utc = _text("the beginning of the ten seconds in which it came")
    status = _text("active or inactive")


class LoadSchema(Closed):
    """What an upload did, file by file."""

    load_id = _new_load_id(attribute="load")
    notes = _load_notes()
    files = _list(LoadFileSchema, "file by file")


_PAST_LOAD: Final = {
    "load_id": _load_id(attribute="id"),
    "started": _instant("when it began", attribute="started_us"),
    "file": _text("the name of its first file, or body", attribute="first_file"),
    "file_count": _count("how many files it has"),
    "failed_count": _count("how many of them were not loaded"),
    **_COUNTS,
    "notes": _load_notes(),
    "undoes": Whole(allow_none=True, metadata={"description": "the load that it undid; null if it is no undo"}),
    "undone_by": Whole(allow_none=True, metadata={"description": "the load that undid it; null while it stands"}),
}
ListedLoadSchema: Final = _schema("ListedLoad", "A load of the past, with the rows of all its files.", _PAST_LOAD)
PastLoadSchema: Final = _schema(
    "PastLoad",
    "One load of the past, with its files.",
    {**_PAST_LOAD, "files": _list(CountsSchema, "file by file, the first 1,000")},
)


class LoadsSchema(Closed):
    """Loads, the newest first."""

    # A schema has a method `loads` already.
    page = _field(partial(fields.List, fields.Nested(ListedLoadSchema), data_key="loads"), "a page of them")
    next = _text("the cursor of the next page; null at the end", null=True)


class RejectsSchema(Closed):
    """The rejected rows of a load, of which the first 10,000 are stored."""

    load_id = _load_id()
    rejects = _list(FileRejectSchema, "in the order of the files and rows")


# What a report is asked for

_EDGE: Final = "2024-10-01, or 2024-10-01T09:00:00-05:00"
_SHORTEST: Final = "outages with less business time down are left out; with kind outages only"
LABEL_FILTER: Final = (
    "only stores with this label, as `region=West` or `tag:city=Paris`; of several of one label any, of several labels "
    "all; nothing after the `=`: stores without it"
)
_TOTALS: Final = "true: rows for each group, each value of the other labels and the fleet follow"
WindowSchema: Final = _schema(
    "Window",
    "Two instants with an offset, or two local dates, which are read in each store's own zone.",
    {
        "from": _text(f"where it begins: {_EDGE}"),
        "to": _text(f"where it ends, outside it: {_EDGE}"),
        "name": _text(
            "what its columns are called after; FROM_TO if left out", optional=True, minLength=1, maxLength=100
        ),
    },
)
_WINDOW: Final = fields.Raw(
    metadata={
        "description": "its name, or where it begins and ends",
        "anyOf": [
            {"type": "string", "description": "a window that the as-of decides", "enum": list(WINDOW_NAMES)},
            {"$ref": "#/components/schemas/Window"},
        ],
    }
)


_ASKED: Final = {
    "windows": _given_list(
        "stretches of time; from and to are instants with an offset, or local dates of each store", item=_WINDOW
    ),
    "kind": _checked_later(
        "times, or outages: a row for each outage that touches the window", type="string", enum=list(KINDS)
    ),
    "shortest_minutes": _checked_later(_SHORTEST, type="number", minimum=0, maximum=576_000),
    "by": _checked_later("a row for each calendar period in the store's own zone", type="string", enum=list(UNITS)),
    "groups": _given_list("only stores of these groups", item=_text("a group that there is"), minItems=1),
    "labels": _checked_later(
        "only stores with one of the values of each of these labels: group, brand, region, platform or tag:NAME; an "
        "empty value is that of stores without it",
        type="object",
        additionalProperties={"type": "array", "items": {"type": "string"}, "minItems": 1},
        minProperties=1,
    ),
    "zones": _given_list("only stores in these time zones", item=_text("a zone that a store is in"), minItems=1),
    "totals": _checked_later(_TOTALS, type="boolean"),
    "method": _checked_later("which poll decides: the nearest, or the previous one", type="string", enum=list(METHODS)),
    "compare": _checked_later(
        "previous: beside each window the period before it, and the change of uptime in percentage points",
        type="string",
        enum=list(COMPARISONS),
    ),
}
_TRIGGER: Final = {
    "as_of": _given(
        Instant, "the as-of, in any ISO 8601 spelling; the newest poll that is not in the future if left out"
    ),
    "stores": _given_list(
        "only these; every store if left out",
        item=fields.String(metadata={"format": "store-id", "description": "the id of a store that there is"}),
        check=validate.Length(min=1, error="name at least one store, or leave it out"),
    ),
    "columns": _given_text("which columns; classic if left out", one_of=("classic", "full")),
    **_ASKED,
}
TriggerSchema: Final = _schema("Trigger", "What `POST /trigger_report` takes, every field optional.", _TRIGGER)
LatestQuery: Final = _schema(
    "LatestQuery",
    "The same as parameters of an address, and how old the report may be.",
    {
        **_TRIGGER,
        "max_age": _given(
            Whole,
            "how many seconds ago the report may have been finished, when the data have changed since; 0: it must be "
            "of the data as they are now",
            default=0,
            check=validate.Range(0, 31_536_000),
        ),
        "windows": _given_list(
            f"{', '.join(WINDOW_NAMES)}, or FROM/TO or FROM/TO/NAME with two local dates or two instants with an "
            "offset, as `2024-10-01/2024-10-08/first_week`",
            item=fields.String(),
        ),
        "labels": _given_list(LABEL_FILTER, item=fields.String()),
        "shortest_minutes": _given(fields.Float, _SHORTEST, check=validate.Range(0, 576_000)),
        "totals": fields.Boolean(truthy={"true"}, falsy={"false"}, metadata={"description": _TOTALS}),
    },
)
ShapeSchema: Final = _schema("Shape", "What was asked beyond the classic windows, as it was asked.", _ASKED)


def request_of_query(query: dict[str, Any]) -> ReportRequest:
    """Return the report that the parameters of `LatestQuery` ask for."""
    windows = {"windows": [_window(text) for text in query["windows"]]} if "windows" in query else {}
    labels = {"labels": read_label_filters("labels", query["labels"])} if "labels" in query else {}
    return request_of_body({**query, **windows, **labels})


def read_label_filters(name: str, texts: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of each label that a parameter's texts ask for; `Unprocessable` for one that is not so."""
    try:
        return read_filters(texts)
    except ValueError as error:
        raise Unprocessable(f"{name} {error}", errors={name: [str(error)]}) from None


def _window(text: str) -> object:
    """Return a window as a body has it: a name, or an object."""
    from_text, slash, rest = text.partition("/")
    if not slash:
        return text
    to_text, slash, name = rest.partition("/")
    return {"from": from_text, "to": to_text, **({"name": name} if slash else {})}


def request_of_body(body: dict[str, Any]) -> ReportRequest:
    """Return the report that the fields of `TriggerSchema` ask for."""
    asked: dict[str, Any] = {name: body[name] for name in FIELDS if name in body}
    return ReportRequest(body.get("as_of"), body.get("columns", "classic"), body.get("stores"), asked)


# Of the many spellings of a float, those of JSON that are not negative.
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)


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

    report_id = _text("the id that `POST /trigger_report` answered", minLength=1)
    format = _given_text(
        "what a complete report is sent as",
        default="csv",
        check=validate.OneOf(("csv", "json", "xlsx"), error="is {input!r}; it must be csv, json or xlsx"),
    )
    wait = _given(
        _WaitSeconds,
        "seconds to wait for the report to end before its state is answered; it is answered at once when a quarter of "
        "the server's threads wait",
        default=0,
        minimum=0,
        maximum=MAX_WAIT_S,
    )

    @pre_load
    def require_id(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Say how to name a report before anything else is said of the address."""
        if not data.get("report_id"):
            raise stored.no_id()
        return data


# What a report answers

_report_id: Final = partial(_text, "the report's id", pattern="^[0-9a-f]{32}$")


class TriggeredSchema(Closed):
    """A report that is on its way."""

    report_id = _report_id()
    status = _text("always Running", one_of=("Running",))


class RunningSchema(TriggeredSchema):
    """A report that waits or is being computed."""

    progress = _number("how far it is, 0 to 1", minimum=0, maximum=1)
    attempts = _integer("how often it was tried; only after a try that failed", optional=True)
    last_error = _text("what went wrong then; only after a try that failed", optional=True)
    next_try = _instant(
        "when it is tried again, null while it is tried; only after a try that failed", null=True, optional=True
    )


class BlindSpanSchema(Closed):
    """A time in which polls were missing for many stores at once, or lied: a dead poller, not dead stores."""

    scope = _text("fleet, group or zone", one_of=("fleet", "group", "zone"))
    subject = _text("the group or zone; empty for the fleet")
    start = _instant("since when, which may be before the range")
    end = _instant("until when; null where no end was found out by the as-of", null=True)
    reason = _text(
        "silence: polls did not come; suspicion: nearly all stores turned down at once", one_of=("silence", "suspicion")
    )
    text = _text("the same for people, in UTC")


class MethodSchema(Closed):
    """How a finished report was made."""

    as_of = _instant("the instant it speaks at")
    kind = _text("times or outages")
    columns = _text("classic or full")
    method = _text("nearest or previous")
    windows = _texts("the names of its windows")
    by = _text("the calendar period of a row; null if none", null=True)
    dayparts = _texts("with `by` daypart: what they were, as lunch 11:00-15:00", optional=True)
    compare = _text("what each window is compared with", optional=True)
    totals = _flag("whether rows of groups, labels and the fleet follow")
    stores_asked = _integer("how many stores were named; null if none were", null=True)
    groups = _texts("only stores of these; null if all", null=True)
    labels = _dict(
        fields.List(fields.String()), "only stores with these values, by label; null if all", null=True, optional=True
    )
    zones = _texts("only stores in these; null if all", null=True)
    reach_hours = _number("how far a poll spoke")
    max_gap_minutes = _number("the longest gap that counted as measured")
    default_timezone = _text("the zone of stores that have none")
    stores = _integer("stores in it")
    polls = _integer("polls read for it")
    data_version = _integer("equal numbers are equal data")
    tzdata = _text("the version of the time zone data")
    storemon = _text("the version that made it")
    likely_up_hours = _number(
        "of the likely range: how long a store is up before it falls, in business hours", null=True, optional=True
    )
    likely_down_minutes = _number("how long an outage lasts, in business minutes", null=True, optional=True)
    likely_neighbours = _integer("neighbouring polls of 28 days that this was learned from", optional=True)
    likely_both_down = _integer("those of them that are both inactive", optional=True)
    likely_both_down_by_chance = _number("how many chance alone gives", optional=True)
    likely_note = _text("why there is no likely range; empty where there is one", optional=True)
    note = _text(
        "a sentence when under 5 % of the stores that were polled before have been heard since, so that the as-of is "
        "one of few stores; else null",
        null=True,
        optional=True,
    )
    blind_spans = _list(
        BlindSpanSchema,
        "when the poller was blind in its windows, as far as that was found out by the as-of; numbers do not depend on "
        "it",
        optional=True,
    )


def _cell(column: str) -> Field:
    if column == "store_id":
        return _text("the store's id, never altered")
    classic = column in CLASSIC_COLUMNS
    about = "as in the CSV" if classic else "as in the CSV; with `columns` full only"
    if column in TEXT_COLUMNS:
        return _text(about, null=True, optional=True)
    return _number(about, null=True, optional=not classic, minimum=0)


RowSchema: Final = _schema(
    "ReportRow", "One store's row of a report.", {column: _cell(column) for column in FULL_COLUMNS}
)


class CompleteSchema(Closed):
    """A finished report's rows."""

    report_id = _report_id()
    status = _text("always Complete", one_of=("Complete",))
    as_of = _instant("the instant it speaks at")
    method = _stored(MethodSchema, "how it was made; null if that is not known")
    rows = _list(RowSchema, "one per store, sorted by store id")


class ShapedSchema(CompleteSchema):
    """A finished report of another shape: its columns are named after its windows, or it has one row for each period or
    outage."""

    rows = _list(Component("ShapedRow"), "as the lines of the CSV")


# Its columns are named after what was asked.
SHAPED_ROW_COMPONENT: Final = {
    "type": "object",
    "description": "A row of a report of another shape: the columns of its CSV by their names; an empty cell is null.",
    "properties": {},
    "additionalProperties": {"type": ["string", "number", "null"], "description": "a cell"},
}


class ReportSchema(Closed):
    """A report that was asked for, without its rows."""

    report_id = _report_id(attribute="id")
    status = _field(_ReportStatus, "how it stands", attribute="state", one_of=("Running", "Complete", "Failed"))
    progress = _number("how far it is, 0 to 1", minimum=0, maximum=1)
    as_of = _instant("the instant it speaks at", attribute="as_of_us")
    columns = _text("classic or full")
    stores = _texts("only these; null if all", null=True)
    stores_asked = _integer("how many stores were named; null if none were", null=True)
    shape = _stored(ShapeSchema, "null for the classic windows")
    requested = _instant("when it was asked for", attribute="requested_us")
    started = _instant("when its computation began", attribute="started_us", null=True)
    finished = _instant("when it was complete or failed", attribute="finished_us", null=True)
    attempts = _integer("how often it was tried")
    error = _text("why it failed", null=True)
    last_error = _text("what went wrong at the last try that was not the last; null if nothing did", null=True)
    next_try = _instant("when it is tried again; null if it does not wait for that", attribute="next_try_us", null=True)
    rows = _integer("how many rows it has", attribute="row_count", null=True)
    bytes = _integer("how long its CSV is", attribute="byte_count", null=True)
    sha256 = _text("the hash of its CSV", null=True)
    method = _stored(MethodSchema, "how it was made, once it is complete")


class ListedSchema(ReportSchema):
    """A report in a list: of the stores it was asked for it has the first few."""

    stores = _texts(
        "only these, the first of them; `stores_asked` says how many there are; null if all",
        null=True,
        maxItems=LISTED_STORES,
    )


class ReportsSchema(Closed):
    """Reports, the newest first."""

    reports = _list(ListedSchema, "a page of them")
    next = _text("the cursor of the next page; null at the end", null=True)


class ChangeSchema(Closed):
    """A cell that differs."""

    store_id = _text("the store; null in a row of totals", null=True)
    kind = _text("store, group, fleet or another label, where there are totals", null=True)
    group = _text("the group, or the value of the label, of a row of totals", null=True)
    period = _text("the calendar period, or the start of an outage, where there are any", null=True)
    daypart = _text("the daypart, where there are any", null=True)
    column = _text("the column that differs")
    before = _number("what the earlier report says; null if it has no such row", null=True)
    after = _number("what this report says; null if it has no such row", null=True)
    change = _number("by how much, in the unit of the column")


class RowChangeSchema(Closed):
    """A row in which cells differ."""

    store_id = _text("the store; null in a row of totals", null=True)
    kind = _text("store, group or fleet, where there are totals", null=True)
    group = _text("the group of a row of totals", null=True)
    period = _text("the calendar period, or the start of an outage, where there are any", null=True)
    daypart = _text("the daypart, where there are any", null=True)
    verdict = _text("better, worse, same, or unknown; of an outage, whether it became shorter")
    uptime_percent_before = _number("uptime in the earlier report; null if it is not known", null=True)
    uptime_percent_after = _number("uptime in this report; null if it is not known", null=True)
    change_points = _number("by how many percentage points; null if one of them is not known", null=True)
    note = _text("why the change is not known; null if it is", null=True)
    known_before = _text("of how much time the percentage is, where that is little; else null", null=True)
    known_after = _text("the same of this report", null=True)
    uptime_percent_likely_low_before = _number("the likely range in the earlier report; null without one", null=True)
    uptime_percent_likely_high_before = _number("its upper end", null=True)
    uptime_percent_likely_low_after = _number("the likely range in this report; null without one", null=True)
    uptime_percent_likely_high_after = _number("its upper end", null=True)
    within_likely = _flag(
        "whether the two likely ranges overlap: the change is within what polls can tell; null without both", null=True
    )


class DiffSchema(Closed):
    """What changed from one report to another."""

    report_id = _report_id()
    against = _report_id()
    window = _text("the window that rows are ranked by; null if the reports have none with up and down time", null=True)
    windows = _texts("those that both reports have")
    row_total = _count("in how many rows cells differ")
    better = _count("rows with a higher percentage")
    worse = _count("rows with a lower percentage")
    same = _count("rows with the same percentage")
    not_known = _count("rows whose percentage is not known in one of the reports")
    rows = _list(RowChangeSchema, "the largest change of uptime first")
    total = _count("how many cells differ")
    changes = _list(ChangeSchema, "the largest change first")


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
    409: Answer("the report failed and will not come: `error` says why; ask for a new one"),
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


# Stores


class StoresCsvQuery(Closed):
    """Which stores, in which order."""

    status = _given_list(
        "only stores with one of these statuses", item=fields.String(validate=validate.OneOf(STATUSES)), default=()
    )
    q = _given_text(
        "only stores in whose id or name every one of these words occurs; case and accents do not matter", default=None
    )
    zone = _given_text("only stores of this time zone", default=None)
    group = _given_text("only stores of this group; empty: of none", default=None)
    label = _given_list(LABEL_FILTER, item=fields.String(), default=())
    below = _given(
        Percentage,
        "only stores with less uptime than this percentage of the known time of `below_window`",
        default=None,
        exclusiveMinimum=0,
        maximum=100,
    )
    below_window = _given_text("the window of `below`", default="last_week", one_of=tuple(LISTED_WINDOWS))
    without = _given_list(
        "only stores that have no weekly hours of their own (they are always open), no zone of their own (they are in "
        "the default one), or neither",
        item=fields.String(validate=validate.OneOf(LACKING)),
        default=(),
    )
    sort = _given_text(
        "worst: stores that are down, then stale ones, then the others, each with the lowest uptime of the last day, "
        "then week, first; never polled ones last",
        default="worst",
        one_of=SORTS,
    )
    order = _given_text(
        "ties are by id, percentages that know little after the others, stores without a value last, either way",
        default="asc",
        one_of=("asc", "desc"),
    )


class StoresQuery(StoresCsvQuery):
    """Which stores, in which order, and which page of them."""

    limit = _given(Whole, "stores a page", default=100, check=validate.Range(1, MOST_PER_PAGE))
    cursor = _given_text(
        "what `next` of the page before said; it brings that page's sort and order with it",
        default=None,
        format="cursor",
    )


def _window_fields(window: str) -> dict[str, Field]:
    """Return what a store's record says of a window, by name."""
    percent = partial(_number, null=True, minimum=0, maximum=100)
    hours = partial(_number, minimum=0)
    members = {
        "uptime_percent": percent("100 x uptime / (uptime + downtime); null when nothing is known"),
        "uptime_percent_low": percent("the least percentage of business time up, as far as polls can tell"),
        "uptime_percent_high": percent("the most that it can have been"),
        "uptime": hours("hours up"),
        "downtime": hours("hours down"),
        "unknown": hours("hours of which nothing is known"),
        "business": hours("hours of business time"),
        "little_known": _flag("whether more than a tenth of it is unknown, so that the percentages say little"),
    }
    return {f"{name}_{window}": member for name, member in members.items()}


def _likely_fields() -> dict[str, Field]:
    """Return the likely range of a store's uptime in both windows, by name."""
    percent = partial(_number, null=True, minimum=0, maximum=100)
    sides = {"low": "uptime is this or more, nineteen times in twenty", "high": "uptime is this or less, as often"}
    return {
        f"uptime_percent_likely_{side}_{window}": percent(f"{text}; null when polls cannot say")
        for window in ("last_day", "last_week")
        for side, text in sides.items()
    }


class StoreSchema(Closed):
    """One store as it is now; hours and percentages are those of the full report."""

    store_id = _text("its id")
    name = _text("what people call it; null without a name", null=True)
    group = _text("its group; null without one", null=True)
    labels = _dict(fields.String(), "its other labels by name: brand, region, platform, tag:NAME")
    timezone = _text("the IANA zone that is used")
    status = _text("what it is doing now", one_of=STATUSES)
    status_text = _text(
        "the status and for how long, in words: `down for 8 h 42 min`, `up for over 6 days`, `no poll for 39 days`"
    )
    since = _instant(
        "since when: up and down, the start of the run of polls, as outages have it; stale, the last poll; waiting, "
        "the opening's start; closed, the last opening's end; null when that is not known",
        null=True,
    )
    since_or_earlier = _flag(
        "whether it was so earlier already: of a store that is up, only the last six whole days (UTC) are looked at"
    )
    for_seconds = _count("whole seconds from `since` to the as-of; null without `since`", null=True)
    last_poll = _instant("its newest poll of any kind; null if it was never polled", null=True)

    class Meta(Closed.Meta):
        """What is said of two windows."""

        include = {**_window_fields("last_day"), **_window_fields("last_week"), **_likely_fields()}  # noqa: RUF012


class StoreTotalsSchema(Closed):
    """Stores together: hours are summed, percentages are of the sums, as in the line of totals of a report."""

    class Meta(Closed.Meta):
        """The same of two windows."""

        include = {**_window_fields("last_day"), **_window_fields("last_week")}  # noqa: RUF012


class StatusCountsSchema(Closed):
    """How many stores have each status."""

    down = _count("known to be off")
    stale = _count("open, and the last poll is too old")
    waiting = _count("just opened, not polled yet")
    up = _count("known to be on")
    closed = _count("outside business hours")
    no_data = _count("never polled")


class _AsOfSchema(Closed):
    as_of = _instant("the instant that everything here is judged at")
    data_are_old = _flag(
        "whether that is the newest poll that is not in the future, because it is a day old or more, and not the "
        "machine's clock"
    )
    notice = _text("a sentence for a banner when the data are old, else null", null=True)
    note = _text(
        "what to know of the as-of: a sentence when under 5 % of the stores that were polled before have been heard "
        "since, and one when stores have polls in the future, which count for nothing before their time; else null",
        null=True,
    )


class StoresSchema(_AsOfSchema):
    """A page of stores."""

    total = _count("stores on all pages")
    counts = _field(partial(fields.Nested, StatusCountsSchema), "stores by status, whatever statuses are asked for")
    totals = _field(partial(fields.Nested, StoreTotalsSchema), "the stores on all pages together")
    next = _text("the cursor of the next page; null on the last", null=True)
    stores = _list(StoreSchema, "those of this page")


def _sums_fields(window: str) -> dict[str, Field]:
    """Return what the overview says of the stores of a row in a window."""
    return {
        **_window_fields(window),
        **{
            f"uptime_percent_likely_{bound}_{window}": _number(
                f"the {word} of the range in which uptime lies with 90 % certainty, as the polls of all stores have "
                "it; of all stores and of groups, today and this week; else, and where polls cannot say, null",
                null=True,
                minimum=0,
                maximum=100,
            )
            for bound, word in (("low", "least"), ("high", "most"))
        },
    }


_change: Final = partial(
    _number,
    "percentage points that the uptime of this week differs from that of the same part of the week before; null where "
    "one of both is not known",
    null=True,
    minimum=-100,
    maximum=100,
)


class OverviewQuery(Closed):
    """How the overview is grouped and ordered."""

    by = _given_text(
        "what groups are made by: `group`, another label that stores have (`region`, `tag:city`), `timezone`",
        default="group",
    )
    days = _given(Whole, "days of the trend, up to today", default=30, check=validate.OneOf(TREND_DAYS))
    sort = _given_text(
        "a field of the groups, windows by their uptime, of which percentages that know little come after the others",
        default="this_week",
        one_of=GROUP_SORTS,
    )
    order = _given_text("groups without a value come last, either way", default="asc", one_of=("asc", "desc"))


_AMOUNTS: Final = {
    "uptime_percent": _number("100 x uptime / (uptime + downtime); null when nothing is known", null=True),
    "uptime": _number("hours up", minimum=0),
    "downtime": _number("hours down", minimum=0),
    "unknown": _number("hours of which nothing is known", minimum=0),
    "business": _number("hours of business time", minimum=0),
    "little_known": _flag("whether more than a tenth of it is unknown, so that the percentage says little"),
}


class OverviewDaySchema(Closed):
    """A local date of all stores, each in its own zone; today up to the as-of."""

    date = _text("the date", format="date")

    class Meta(Closed.Meta):
        """Its time."""

        include = _AMOUNTS


class OverviewStoreSchema(Closed):
    """A store that stands out, in its week."""

    store_id = _text("its id")
    name = _text("what people call it; null without a name", null=True)
    group = _text("its group; null without one", null=True)
    timezone = _text("the IANA zone that is used")
    status = _text("what it is doing now", one_of=STATUSES)
    change = _change()

    class Meta(Closed.Meta):
        """Its windows."""

        include = {**_sums_fields("this_week"), **_sums_fields("previous_this_week")}  # noqa: RUF012


class OverviewFleetSchema(Closed):
    """All stores: their windows, each in the store's own zone and up to the as-of."""

    stores = _count("how many there are")
    without_hours = _count("stores without hours, which count as open 24x7")
    without_timezone = _count("stores without a zone of their own, which are in the default zone")
    change = _change()

    class Meta(Closed.Meta):
        """Their windows."""

        include = {name: one for window in WINDOWS for name, one in _sums_fields(window).items()}  # noqa: RUF012


class OverviewGroupSchema(OverviewFleetSchema):
    """The same of a group of stores."""

    group = _text("its name, or that of what groups were made by; null: the stores without one", null=True)
    down = _count("stores that are down now")
    worst_store = _text("the id of its store with the lowest uptime this week; null when none was down", null=True)
    worst_store_uptime_percent = _number("the uptime of that store this week", null=True, minimum=0, maximum=100)


class OverviewHourSchema(Closed):
    """An hour of the week, by the wall clock of each store, over the last 28 dates."""

    weekday = _count("0 Monday to 6 Sunday", maximum=6)
    hour = _count("the hour of the wall clock", maximum=23)

    class Meta(Closed.Meta):
        """Its time."""

        include = _AMOUNTS


class OverviewSchema(_AsOfSchema):
    """What stands out in the whole fleet."""

    by = _text("what groups are made by")
    counts = _field(partial(fields.Nested, StatusCountsSchema), "stores by status now")
    fleet = _field(partial(fields.Nested, OverviewFleetSchema), "all stores")
    days = _list(OverviewDaySchema, "the last days, oldest first")
    groups = _list(OverviewGroupSchema, "groups of stores, in the order that was asked for")
    hours_from = _text("the first date of `hours`", format="date")
    hours_to = _text("the date after its last", format="date")
    hours = _list(OverviewHourSchema, "the 168 hours of the week, from Monday 00:00")
    worst_stores = _list(OverviewStoreSchema, "the ten stores with the lowest uptime this week that were down at all")
    most_changed_stores = _list(
        OverviewStoreSchema,
        "the ten stores whose week differs most from the week before, where enough is known of both",
    )


class WeeklyHoursSchema(Closed):
    """One row of a store's weekly hours, as it was loaded."""

    day = _count("0 Monday to 6 Sunday", maximum=6)
    start_time_local = _text("when it opens, local time")
    end_time_local = _text("when it closes, local time; at or before the start: on the next day")
    valid_from = _text("the local date from which on it holds; null: of every date before the next version", null=True)


class SpecialHoursSchema(Closed):
    """What replaces a store's weekly hours on one local date."""

    date = _text("the local date")
    start_time_local = _text("when it opens, local time; null: closed all day", null=True)
    end_time_local = _text("when it closes, local time; null: closed all day", null=True)


class StoreDetailSchema(StoreSchema, _AsOfSchema):
    """One store with all that is known of it."""

    first_poll = _instant("its oldest poll; null if it was never polled", null=True)
    polls = _count("all polls of it up to the as-of")
    always_open = _flag("whether it has no hours, and so is open 24x7")
    hours = _list(WeeklyHoursSchema, "its weekly hours, as loaded")
    special_hours = _list(SpecialHoursSchema, "its special hours, as loaded")


_STORE_AS_OF: Final = _given(
    Instant, "the instant to judge at, after which no poll exists; that of the list if not given", default=None
)
StoreQuery: Final = _schema("StoreQuery", "When one store is looked at.", {"as_of": _STORE_AS_OF})
TimelineQuery: Final = _schema(
    "TimelineQuery",
    "Which part of a store's time is looked at.",
    {
        "as_of": _STORE_AS_OF,
        "from": _given(Instant, "7 days before `to` if not given; at most 31 days", default=None),
        "to": _given(Instant, "the as-of if not given, or if later than that", default=None),
    },
)


class OpeningSchema(Closed):
    """Business time `[start, end)`, cut to the range."""

    start = _instant("when it begins")
    end = _instant("when it ends")


class StretchSchema(OpeningSchema):
    """Business time of one state, known in one way."""

    state = _text("up, down or unknown", one_of=STATES)
    known = _text(
        "measured: between two polls that agree, no further apart than the max gap; between: two such that disagree, "
        "up to their midpoint; extrapolated: by the nearest poll alone; nothing: unknown",
        one_of=KNOWN,
    )


class TimelinePollSchema(Closed):
    """One poll."""

    at = _instant("when it was made")
    status = _text("its status", one_of=("active", "inactive"))
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


class OutageRowSchema(Closed):
    """An outage as a row of a report of outages has it."""

    store_id = _text("the store's id, never altered")
    name = _text("what people call it; null without a name", null=True)
    group = _text("its group; null without one", null=True)
    timezone = _text("the IANA zone that is used")
    start = _instant("where its downtime begins")
    end = _instant("where its downtime ends; the as-of while it is going on")
    down_minutes = _number("its business time in minutes", minimum=0)
    start_earliest = _instant("it began after this: the active poll before, or the edge of what is known")
    start_latest = _instant("its first inactive poll")
    end_earliest = _instant("its last inactive poll")
    end_latest = _instant("it ended before this: the active poll after, or the edge of what is known")
    polls = _count("how many polls say so")
    ongoing = _text("whether it was still going on at the as-of", one_of=("yes", "no"))


class OutagesSchema(_AsOfSchema):
    """A page of outages."""

    total = _count("outages on all pages")
    ongoing = _count("how many of them go on at the as-of")
    next = _text("the cursor of the next page; null on the last", null=True)
    outages = _list(OutageRowSchema, "those of this page")


class SumsSchema(Closed):
    """The range in microseconds, as a report would have it: uptime + downtime + unknown = business."""

    uptime_us = _count("microseconds up")
    downtime_us = _count("microseconds down")
    unknown_us = _count("microseconds of which nothing is known")
    business_us = _count("microseconds of business time")
    measured_us = _count("microseconds between two polls no further apart than the max gap")
    uptime_low_us = _count("microseconds measured between two active polls")
    uptime_high_us = _count("microseconds of business time less what is measured between two inactive polls")


class TimelineSchema(_AsOfSchema):
    """Why a store's numbers are what they are."""

    store_id = _text("its id")
    timezone = _text("the IANA zone that is used")
    openings = _list(OpeningSchema, "business time in the range")
    stretches = _list(StretchSchema, "the openings, cut where the state changes")
    polls = _list(TimelinePollSchema, "every poll in the range")
    outages = _list(OutageSchema, "outages that touch the range")
    blind_spans = _list(
        BlindSpanSchema, "times in the range in which the poller was blind for this store; no number depends on them"
    )
    sums = _field(partial(fields.Nested, SumsSchema), "the range in sum")

    class Meta(Closed.Meta):
        """The range's edges have names that Python keeps for itself."""

        include = {  # noqa: RUF012
            "from": _instant("where the range begins"),
            "to": _instant("where the range ends, outside it"),
        }
