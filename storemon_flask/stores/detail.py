"""One store in detail: its timeline, local days, outages and the numbers of windows (SPEC 3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from storemon_flask.clock import timestamp_text
from storemon_flask.database import polls, schedule, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.schedule import Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, WEEK_US, Bools, Polls, Rules
from storemon_flask.reports import long_runs, shaped, shaped_text, shapes
from storemon_flask.reports.shapes import Shape
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import Moment, StoreDetail
from storemon_flask.uptime import calendar, evidence, openings, periods, timeline
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import Outages, Stretches, Timeline
from storemon_flask.uptime.zones import changes_of_year

_NOTHING: Final = np.empty(0, dtype=np.int64)
# Entered while much is computed at once.
Slot = Callable[[], AbstractContextManager[None]]
DEFAULT_US: Final = WEEK_US
MOST_US: Final = 31 * DAY_US
# The polls of one answer as rows: one a minute for two months.
MOST_POLLS: Final = 100_000
# More are computed in a slot.
_MANY_POLLS: Final = 100_000


@dataclass(frozen=True, slots=True)
class StoreTimeline:
    """What is known of one store in `[from_us, to_us)`.

    `polls` are all polls made in the range (`complete_from_us` says from when on they are complete); `in_hours` says
    which of them count. `sums` are `core.timeline.sums` of the range, in microseconds.
    """

    store_id: str
    zone: str
    moment: Moment
    from_us: int
    to_us: int
    openings: Openings
    stretches: Stretches
    outages: Outages
    polls: Polls
    in_hours: Bools
    sums: dict[str, int]


def of_store(
    database: Database,
    store_id: str,
    from_us: int | None,
    to_us: int | None,
    rules: Rules,
    default_zone: str,
    now_us: int,
    as_of_us: int | None = None,
    most_polls: int | None = None,
    slot: Slot = nullcontext,
) -> StoreTimeline:
    """The store's timeline, by default of the seven days up to the as-of; an end after the as-of becomes the as-of. The
    as-of is that of live views unless another is given. `slot()` is entered when there are many polls.

    `NotFound` when there is no such store; `Unprocessable` for a range that is empty, longer than 31 days, begins
    before 1970, or has more than `most_polls` polls.
    """
    with database.read() as connection, ExitStack() as stack:
        live_list.find(connection, store_id)
        moment = live_list.find_as_of(database, connection, now_us, rules, as_of_us)
        from_us, to_us = _range(from_us, to_us, moment.as_of_us)
        plan = schedule.read(database, connection, default_zone, [store_id], moment.as_of_us)
        part = plan.batches[0]
        heard_from_us = max(timeline.heard_from(from_us, rules), 0)
        count = polls.count_of_store(connection, int(part.number[0]), heard_from_us, moment.as_of_us)
        if most_polls is not None and count > most_polls:
            _refuse_many(connection, int(part.number[0]), from_us, to_us, most_polls)
        if count > _MANY_POLLS:
            stack.enter_context(slot())
        days = (heard_from_us // DAY_US * DAY_US, (moment.as_of_us // DAY_US + 1) * DAY_US)
        opened = openings.build(plan.fleet(part, schedule.NO_POLLS, _NOTHING), *days)
        heard, _ = polls.read_thinned(connection, part.number, heard_from_us, moment.as_of_us, rules, opened)
        fleet = plan.fleet(part, heard, heard.instant_us[-1:] if len(heard) else np.full(1, -1))
        found = timeline.of(fleet, from_us, to_us, moment.as_of_us, rules)
        # The outage that the range begins in is told whole, however long it is.
        outages, _ = long_runs.whole_outages(
            connection,
            plan,
            part,
            found.whole_openings,
            found.evidence,
            heard_from_us,
            np.array([from_us], dtype=np.int64),
            moment.as_of_us,
            rules,
        )
        found = replace(found, outages=outages.picked((outages.start_us < to_us) & (outages.end_us > from_us)))
        # What was thinned is read again, for the range alone.
        made = polls.read(connection, part.number, from_us, to_us - 1) if heard.weight is not None else heard
        return _told(store_id, plan.zone_of_store[0], moment, from_us, to_us, found, made)


def _range(from_us: int | None, to_us: int | None, as_of_us: int) -> tuple[int, int]:
    if from_us is not None and from_us < 0:
        raise _wrong("from", "from must not lie before 1970-01-01")
    to_us = as_of_us if to_us is None else min(to_us, as_of_us)
    if from_us is None:
        from_us = max(to_us - DEFAULT_US, 0)
    if from_us >= to_us:
        raise _wrong(
            "from", f"from must lie before to, and before the newest that is known, {timestamp_text(as_of_us)}"
        )
    if to_us - from_us > MOST_US:
        raise _wrong("from", "from must lie at most 31 days before to; ask for a longer time in pieces")
    return from_us, to_us


def _refuse_many(connection: Connection, number: int, from_us: int, to_us: int, most: int) -> None:
    """`Unprocessable` when the range has more polls than that."""
    count = polls.count_of_store(connection, number, from_us, to_us - 1)
    if count > most:
        raise _wrong(
            "from",
            f"the store has {count:,} polls from {timestamp_text(from_us)} to {timestamp_text(to_us)}, and one answer has at most {most:,}; "
            "ask for fewer days, or for a report of its outages",
        )


def _wrong(field: str, sentence: str) -> Unprocessable:
    return Unprocessable(sentence, errors={field: [sentence]})


def _told(
    store_id: str, zone: str, moment: Moment, from_us: int, to_us: int, found: Timeline, heard: Polls
) -> StoreTimeline:
    inside = (heard.instant_us >= from_us) & (heard.instant_us < to_us)
    made = Polls(heard.store[inside], heard.instant_us[inside], heard.active[inside], heard.complete_from_us)
    sums = timeline.sums(found.stretches, from_us, to_us, 1)
    return StoreTimeline(
        store_id,
        zone,
        moment,
        from_us,
        to_us,
        found.openings,
        found.stretches,
        found.outages,
        made,
        evidence.counting(made, found.whole_openings),
        {name: int(values[0]) for name, values in sums.items()},
    )


# All the windows that reports know by name, those of the classic report among them.
WINDOWS: Final = tuple(shapes.LAST)
MOST_DAYS: Final = 30
# More periods are no table to read.
_MOST_ROWS: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# In microseconds: `core.timeline.sums` of one store.
Sums = dict[str, int]


@dataclass(frozen=True, slots=True)
class LocalDay:
    """A whole local day `[start_us, end_us)` of 23, 24 or 25 hours (or what a zone makes of it).

    `local_us` is the wall clock at its start, `change_us` when its clocks are changed (-1: they are not); `sums` go up
    to the as-of.
    """

    start_us: int
    end_us: int
    local_us: int
    change_us: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Numbers:
    """A row of a report about one store: the name of its window or period, the unit that its amounts are printed in,
    and the amounts in microseconds (`core.periods.MEASURES`)."""

    name: str
    unit_us: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Question:
    """What a store's page is asked: so many local days up to `until` (None: the day of the as-of), an as-of (None: that
    of live views), and the shape of a report whose numbers it shows (None: `WINDOWS`)."""

    days: int
    until: date | None
    as_of_us: int | None
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to say of a store: itself, its timeline on those days (oldest first), and numbers.

    Numbers of windows up to the as-of (`last_week`) are those at `numbers_as_of_us`: the end of the days, or the as-of.
    """

    detail: StoreDetail
    timeline: StoreTimeline
    days: list[LocalDay]
    numbers: list[Numbers]
    numbers_as_of_us: int
    # The last local day that could be shown.
    newest: date


def told_by(database: Database, now_us: int, rules: Rules, as_of_us: int | None) -> tuple[object, ...]:
    """What the story of any store depends on besides what was asked: while this is equal, so is the story."""
    with database.read() as connection:
        return stores.data_version(connection), live_list.find_as_of(database, connection, now_us, rules, as_of_us)


def store_story(
    database: Database,
    store_id: str,
    question: Question,
    rules: Rules,
    default_zone: str,
    now_us: int,
    slot: Slot = nullcontext,
) -> Story:
    """The story of a store. Days are those up to the day of the as-of, at most. `slot()` is entered when there are many
    polls.

    `NotFound` when there is no such store; `Unprocessable` for days before 1970, an as-of outside 1970 to 2200, a
    window that ends after the as-of, and more periods than make a table.
    """
    with database.read() as connection:
        detail = live_list.detail(database, store_id, rules, default_zone, now_us, question.as_of_us)
        as_of_us, zone = detail.snapshot.moment.as_of_us, detail.zone
        spans = _days(zone, question.days, question.until, as_of_us)
        shown = of_store(
            database, store_id, spans[0][0], spans[-1][1], rules, default_zone, now_us, question.as_of_us, None, slot
        )  # fmt: skip
        shape = question.shape or shapes.read({"windows": list(WINDOWS)})
        assert shape is not None
        numbers_as_of_us = min(as_of_us, spans[-1][1])
        plan = schedule.read(database, connection, default_zone, [store_id], as_of_us)
        numbers = _numbers(connection, plan, shape, as_of_us, numbers_as_of_us, rules)
    days = [
        LocalDay(start, end, local, _change(zone, start, end), _sums(shown, start, end)) for start, end, local in spans
    ]
    return Story(detail, shown, days, numbers, numbers_as_of_us, _date(_newest(zone, as_of_us)))


def _numbers(
    connection: Connection, plan: Schedule, shape: Shape, as_of_us: int, relative_us: int, rules: Rules
) -> list[Numbers]:
    """The rows of a report of that shape about the plan's only store: at `relative_us` for windows up to the as-of, at
    the as-of for those from one instant to another."""
    shapes.check_as_of(shape, as_of_us)
    found: list[Numbers] = []
    for window in shape.windows:
        at_us = relative_us if window.length_us else as_of_us
        alone = replace(shape, windows=(window,))
        count = shaped.count(plan, alone, at_us)
        if count > _MOST_ROWS:
            raise Unprocessable(
                f"the window has {count:,} periods by {shape.by}, and a page shows at most {_MOST_ROWS}; ask for longer ones",
                errors={"by": ["too many periods"]},
            )
        rows, _ = shaped.compute(connection, plan, alone, at_us, replace(rules, method=shape.method), lambda part: None)
        for row in range(len(rows["start_us"])):
            name = window.name
            if shape.by:
                name = shaped_text.period_label(shape.by, int(rows["local_us"][row]), int(rows["offset_s"][row]))
            sums = {measure: int(rows[measure][row]) for measure in periods.MEASURES}
            found.append(Numbers(name, shaped_text.unit_us(shape, window), sums))
    return found


def _sums(found: StoreTimeline, first_us: int, last_us: int) -> Sums:
    return {name: int(value[0]) for name, value in timeline.sums(found.stretches, first_us, last_us, 1).items()}


def _days(zone: str, count: int, until: date | None, as_of_us: int) -> list[tuple[int, int, int]]:
    """Start, end and wall clock at the start of the last `count` local days up to `until`, uncut."""
    last_us = _newest(zone, as_of_us)
    if until is not None:
        last_us = min(last_us, (until - _EPOCH.date()).days * DAY_US)
    if last_us < (count + 2) * DAY_US:
        raise Unprocessable("the days must not lie before 1970-02-01", errors={"until": ["too early"]})
    spans = calendar.spans(zone, "day", last_us - (count + 2) * DAY_US, last_us + 3 * DAY_US)
    # A zone that skipped the day asked for has the one before.
    rows = zip(spans.start_us.tolist(), spans.end_us.tolist(), spans.local_us.tolist(), strict=True)
    found = [row for row in rows if row[2] // DAY_US <= last_us // DAY_US][-count:]
    # Days of a store that moved far to the west are longer; a timeline is not.
    return [row for row in found if found[-1][1] - row[0] <= MOST_US]


def _newest(zone: str, as_of_us: int) -> int:
    """The wall clock at which the local day of the as-of begins: the day that has the moment before it."""
    return int(calendar.spans(zone, "day", as_of_us - HOUR_US, as_of_us).local_us[-1])


def _change(zone: str, start_us: int, end_us: int) -> int:
    for year in {_year(start_us), _year(end_us)}:
        for second, _, _ in changes_of_year(zone, year):
            if start_us < second * SECOND_US < end_us:
                return second * SECOND_US
    return -1


def _year(instant_us: int) -> int:
    return (_EPOCH + timedelta(microseconds=instant_us)).year


def _date(local_us: int) -> date:
    return (_EPOCH + timedelta(microseconds=local_us)).date()
