"""Schedules: add, list and remove them, run one by hand; and the report that each asks for at a due time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from storemon_flask.characters import join_words
from storemon_flask.clock import check_as_of, timestamp_text
from storemon_flask.database import channels, schedules
from storemon_flask.database.channels import Channel
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.schedules import FORMATS, Run, Schedule
from storemon_flask.delivery.catalogue import check_name
from storemon_flask.errors import Conflict, NotFound, Unprocessable
from storemon_flask.reports import compute
from storemon_flask.reports.request import FIELDS, ReportRequest
from storemon_flask.schedules import due
from storemon_flask.schedules.due import Due
from storemon_flask.settings import Settings

USUAL_BELOW: Final = 97.0
_NEXT_SHOWN: Final = 3
_RUNS_SHOWN: Final = 5
# What goes with a schedule that is removed, for who is asked.
LOSSES: Final = (
    "When it is due and what it is of go with it.",
    "A report that is due and not made yet is not sent.",
    "The reports that it made stay.",
)


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule as it is asked for, unchecked. `report` is the body of a trigger, `channels` are names."""

    name: str
    due: str
    zone: str
    report: Mapping[str, Any]
    format: str = "csv"
    channels: Sequence[str] = ()
    below: float = USUAL_BELOW


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule to look at: names of its channels, when it is due next, and what became of its newest runs."""

    schedule: Schedule
    channels: list[str]
    next_us: list[int]
    runs: list[Run]


def add(database: Database, settings: Settings, new: NewSchedule, now_us: int) -> ScheduleView:
    """Add a schedule and return it. Creates the database when there is none.

    `Unprocessable` names the field that is wrong, `Conflict` a name that is taken.
    """
    when = due.parse(new.due, new.zone)
    next_us = when.next_us(now_us)
    schedule = Schedule(
        0, check_name(new.name), when.text, when.zone, _checked_query(new.report, when, now_us),
        _checked_format(new.format), _checked_below(new.below), now_us, next_us,
    )  # fmt: skip
    with database.write() as connection:
        request = request_at(schedule, next_us)
        query = compute.make_query(
            database,
            request,
            settings.default_timezone,
            settings.max_report_rows,
            connection,
            dayparts=settings.dayparts,
        )
        if query.kind == "outages" and new.report.get("columns") is not None:
            raise _wrong("columns", "does not go with outages", "left out")
        if schedules.find_named(connection, schedule.name) is not None:
            raise Conflict(f"there is a schedule {schedule.name!r} already; remove it first, or choose another name")
        numbers = [_channel(connection, name).id for name in dict.fromkeys(new.channels)]
        number = schedules.add(connection, replace(schedule, channels=tuple(numbers)))
        return _view(connection, _found(schedules.find(connection, number), number), now_us)


def all_views(database: Database, now_us: int) -> list[ScheduleView]:
    """Return every schedule, by name; none without a database."""
    if not database.exists():
        return []
    with database.read() as connection:
        return [_view(connection, schedule, now_us) for schedule in schedules.live(connection)]


def find(database: Database, key: int | str) -> Schedule:
    """Return the schedule of that number, or of that name; `NotFound` when there is none."""
    if not database.exists():
        return _found(None, key)
    with database.read() as connection:
        if isinstance(key, int):
            return _found(schedules.find(connection, key) if key < 1 << 63 else None, key)
        named = schedules.find_named(connection, key)
    return _found(named, key)


def remove(database: Database, schedule: Schedule, now_us: int) -> None:
    """Remove a schedule; its reports stay. `NotFound` when it is gone already."""
    with database.write() as connection:
        if not schedules.remove(connection, schedule.id, now_us):
            raise _missing(schedule.name)


def run_by_hand(database: Database, schedule: Schedule, due_us: int | None, now_us: int) -> Run:
    """Add a run of a schedule as if it were due then (None: now), and return it; the server runs it at once.

    `Unprocessable` for a due time in the future, `Conflict` when it ran at that time already.
    """
    due_us = now_us - now_us % 1_000_000 if due_us is None else due_us
    check_as_of(due_us)
    if due_us > now_us:
        raise _wrong("due", f"is {timestamp_text(due_us)}, which is in the future", "a time up to now")
    with database.write() as connection:
        added = schedules.add_run(connection, schedule.id, due_us, now_us, by_hand=True)
        run = schedules.find_run(connection, schedule.id, due_us)
        if run is None or schedules.find(connection, schedule.id) is None:
            raise _missing(schedule.name)
    if not added:
        how = "ran at that time already" if run.state == "done" else "is running for that time"
        raise Conflict(f"{schedule.name!r} {how}; its report is {run.report}" if run.report else how)
    return run


def request_at(schedule: Schedule, due_us: int) -> ReportRequest:
    """Return the report that a schedule asks for when it is due then: its as-of is that, and its windows belong to
    it, however late it is made."""
    query = schedule.query
    windows = [due.window_at(name, due_us, schedule.zone) for name in query["windows"]]
    fields = {name: query[name] for name in FIELDS if name in query}
    return ReportRequest(due_us, query.get("columns", "classic"), query.get("stores"), {**fields, "windows": windows})


def summary_request(request: ReportRequest) -> ReportRequest:
    """Return the report whose totals and rows the mail quotes: all columns of the first window, with totals."""
    limits = {name: request.fields[name] for name in ("groups", "labels", "zones", "method") if name in request.fields}
    fields = {"windows": request.fields["windows"][:1], **limits, "totals": True}
    return ReportRequest(request.as_of_us, "full", request.stores, fields)


def _view(connection: Connection, schedule: Schedule, now_us: int) -> ScheduleView:
    when = due.parse(schedule.due, schedule.zone)
    named = [channels.find(connection, number) for number in schedule.channels]
    return ScheduleView(
        schedule,
        [channel.name for channel in named if channel is not None],
        list(islice(when.after(now_us), _NEXT_SHOWN)),
        schedules.newest_runs(connection, schedule.id, _RUNS_SHOWN),
    )


def _checked_query(report: Mapping[str, Any], when: Due, now_us: int) -> dict[str, Any]:
    """Return the report's fields with what is usual for those left out, so that a later version asks the same."""
    if report.get("as_of") is not None:
        raise _wrong("as_of", "is given", "left out: the as-of of a scheduled report is its due time")
    windows = report.get("windows") or [due.usual_window(when, now_us)]
    if not isinstance(windows, list):
        raise _wrong("windows", f"is {windows!r}"[:200], "a list")
    for name in windows:
        if name not in due.WINDOWS:
            raise _wrong("windows", f"has {name!r}"[:200], f"{', '.join(due.WINDOWS)}: they follow the due time")
    usual = {} if report.get("kind") == "outages" else {"columns": "full", "totals": True}
    given = {name: report[name] for name in ("columns", "stores", *FIELDS) if report.get(name) is not None}
    return {**usual, **given, "windows": windows}


def _checked_format(form: str) -> str:
    if form not in FORMATS:
        raise _wrong("format", f"is {form!r}", join_words(FORMATS).replace(" and ", " or "))
    return form


def _checked_below(below: float) -> int:
    if not 0 <= below <= 100:
        raise _wrong("below", f"is {below!r}", "a percentage from 0 to 100")
    return round(100 * below)


def _channel(connection: Connection, name: str) -> Channel:
    channel = channels.find_named(connection, name)
    if channel is None:
        known = [one.name for one in channels.live(connection)]
        there = f"one of {join_words(known)}" if known else "added first (`storemon channels add`)"
        raise _wrong("channels", f"has {name[:100]!r}, which is no channel", there)
    return channel


def _found(schedule: Schedule | None, key: int | str) -> Schedule:
    if schedule is None:
        raise _missing(key)
    return schedule


def _missing(key: int | str) -> NotFound:
    return NotFound(f"there is no schedule {key!r}; the list of schedules has those there are")


def _wrong(field: str, what: str, allowed: str) -> Unprocessable:
    sentence = f"{what}; it must be {allowed}"
    return Unprocessable(f"{field} {sentence}", errors={field: [sentence]})
