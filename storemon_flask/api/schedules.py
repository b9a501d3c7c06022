"""Scheduled reports: list, add, remove, run now."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import Blueprint
from marshmallow import Schema, fields, validate

from storemon_flask.api.schemas import TriggerSchema
from storemon_flask.database.schedules import FORMATS, Run
from storemon_flask.schedules import catalogue, due
from storemon_flask.schedules.catalogue import NewSchedule, ScheduleView
from storemon_flask.schedules.summary import percent_text
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, Closed, Instant, operation

blueprint = Blueprint("schedules", __name__)

_STATES: Final = ("waiting", "computing", "done", "failed", "skipped")
_OF_TRIGGER: Final = {
    name: field
    for name, field in TriggerSchema._declared_fields.items()
    if name not in ("as_of", "windows", "columns", "totals")
}


def _text(about: str, **options: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": about}, **options)


class ScheduledReportSchema(Schema.from_dict(_OF_TRIGGER), Closed):  # type: ignore[misc]
    """What a scheduled report is of, as for `POST /trigger_report`; its as-of is the due time."""

    windows = fields.List(
        fields.String(validate=validate.OneOf(due.WINDOWS)),
        validate=validate.Length(min=1),
        metadata={
            "description": "stretches of whole local dates, counted from the due date: last_day and last_week are the "
            "day and the week from Monday to Sunday before it; or the hour before the due time. As long as the time "
            "from one report to the next if left out"
        },
    )
    columns = fields.String(
        validate=validate.OneOf(("classic", "full")), metadata={"description": "which columns; full if left out"}
    )
    totals = fields.Raw(
        metadata={"description": "rows for each group and for the fleet follow; true if left out", "type": "boolean"}
    )


class NewScheduleSchema(Closed):
    """A schedule to add."""

    example: ClassVar[Mapping[str, Any] | None] = {"name": "North", "due": "weekly mon 07:00"}

    name = _text("what it is called; the subject of its mails begins with it", validate=validate.Length(1, 100))
    due = _text(
        "`daily 07:00`, `weekly mon 07:00`, `monthly 1 07:00` (1 to 28, or `last`), or five fields of cron",
        validate=validate.Length(1, 100),
    )
    zone = fields.String(
        load_default=None,
        validate=validate.Length(1, 100),
        metadata={"description": "the time zone of `due`; STOREMON_DEFAULT_TIMEZONE if left out"},
    )
    report = fields.Nested(ScheduledReportSchema, load_default=dict, metadata={"description": "what it is of"})
    format = fields.String(
        load_default="csv", validate=validate.OneOf(FORMATS), metadata={"description": "of the file that is attached"}
    )
    channels = fields.List(
        fields.String(),
        load_default=list,
        metadata={"description": "the names of the channels it is sent to; none if left out"},
    )
    below = fields.Float(
        load_default=catalogue.USUAL_BELOW,
        validate=validate.Range(0, 100),
        metadata={"description": "stores below this percentage of uptime are counted in the subject"},
    )


class NextSchema(Closed):
    """A time at which a schedule is due."""

    at = Instant(required=True, metadata={"description": "the instant"})
    local = _text("the same in the schedule's time zone, as people read it")


class ScheduleRunSchema(Closed):
    """What became of one time that a schedule was due."""

    due = Instant(required=True, attribute="due_us", metadata={"description": "when it was due: its as-of"})
    state = _text("where it stands", validate=validate.OneOf(_STATES))
    report_id = fields.String(
        required=True, allow_none=True, attribute="report", metadata={"description": "its report, once there is one"}
    )
    by_hand = fields.Boolean(required=True, metadata={"description": "whether somebody asked for it"})
    finished = Instant(
        required=True, allow_none=True, attribute="finished_us", metadata={"description": "when that was"}
    )
    note = _text("why it failed or was skipped, or that the data ended early; may be empty")


class ScheduleSchema(Closed):
    """A schedule, when it is due next, and its newest runs."""

    schedule_id = fields.Integer(required=True, attribute="schedule.id", metadata={"description": "its number"})
    name = _text("what it is called", attribute="schedule.name")
    due = _text("when it is due", attribute="schedule.due")
    zone = _text("the time zone of that", attribute="schedule.zone")
    report = fields.Nested(
        ScheduledReportSchema, required=True, attribute="schedule.query", metadata={"description": "what it is of"}
    )
    format = _text("of the file", attribute="schedule.format", validate=validate.OneOf(FORMATS))
    channels = fields.List(fields.String(), required=True, metadata={"description": "the channels it is sent to"})
    below = fields.Float(required=True, metadata={"description": "the percentage whose stores below are counted"})
    next = fields.List(
        fields.Nested(NextSchema), required=True, metadata={"description": "the next three times it is due"}
    )
    runs = fields.List(
        fields.Nested(ScheduleRunSchema), required=True, metadata={"description": "the newest first, at most five"}
    )


class SchedulesSchema(Closed):
    """Every schedule, by name."""

    schedules = fields.List(fields.Nested(ScheduleSchema), required=True, metadata={"description": "what is made when"})


class RunQuerySchema(Closed):
    """For which time a schedule is to run."""

    due = Instant(
        load_default=None,
        metadata={"description": "as if it were due then, such as a time that was skipped; now if left out"},
    )


_MISSING: Final = Answer("no such schedule")


@operation(
    blueprint, "GET", "/api/v1/schedules", scope="read", tag="schedules",
    answers={200: Answer("every schedule", SchedulesSchema())},
)  # fmt: skip
def schedules() -> dict[str, Any]:
    """List the scheduled reports, when each is due next, and what became of their newest runs."""
    return {"schedules": [schedule_json(view) for view in catalogue.all_views(storemon().database, _now_us())]}


@operation(
    blueprint, "POST", "/api/v1/schedules", scope="admin", tag="schedules", body=NewScheduleSchema(),
    answers={
        201: Answer("the schedule", ScheduleSchema()),
        409: Answer("there is one of that name"),
        413: Answer("larger than 16 MiB"),
    },
)  # fmt: skip
def add_schedule(body: dict[str, Any]) -> dict[str, Any]:
    """Add a scheduled report, which is made when it is due and sent to channels.

    Its windows and its as-of belong to the due time, however late it is made.
    """
    app = storemon()
    new = NewSchedule(**{**body, "zone": body["zone"] or app.settings.default_timezone})
    return schedule_json(catalogue.add(app.database, app.settings, new, _now_us()))


@operation(
    blueprint, "DELETE", "/api/v1/schedules/<int:schedule>", scope="admin", tag="schedules",
    answers={204: Answer("it is removed"), 404: _MISSING},
)  # fmt: skip
def remove_schedule(schedule: int) -> None:
    """Remove a schedule. The reports that it made stay."""
    database = storemon().database
    catalogue.remove(database, catalogue.find(database, schedule), _now_us())


@operation(
    blueprint, "POST", "/api/v1/schedules/<int:schedule>/run", scope="admin", tag="schedules", body=RunQuerySchema(),
    answers={
        202: Answer("the run, which is on its way", ScheduleRunSchema()),
        404: _MISSING,
        409: Answer("it ran for that time already"),
        413: Answer("larger than 16 MiB"),
    },
)  # fmt: skip
def run_schedule(schedule: int, body: dict[str, Any]) -> Run:
    """Have a schedule run now, without waiting for late data; its report is made and sent within seconds."""
    database = storemon().database
    return catalogue.run_by_hand(database, catalogue.find(database, schedule), body["due"], _now_us())


def schedule_json(view: ScheduleView) -> dict[str, Any]:
    """Return a schedule as `ScheduleSchema` writes it."""
    zone = view.schedule.zone
    return {
        "schedule": view.schedule,
        "channels": view.channels,
        "below": float(percent_text(view.schedule.below_hundredths)),
        "next": [{"at": next_us, "local": due.local_text(next_us, zone)} for next_us in view.next_us],
        "runs": view.runs,
    }


def _now_us() -> int:
    return time.time_ns() // 1000
