"""One store in detail: status, timeline, days, outages and numbers, all from the same polls (SPEC 3 and 7)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import numpy as np

from storemon_flask.clock import EPOCH, timestamp_text, utc_datetime
from storemon_flask.database import polls, readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import future_polls_of_store
from storemon_flask.database.readings import Batch, Reading, Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, SECOND_US, WEEK_US, Bools, Polls, Rules
from storemon_flask.reports import request
from storemon_flask.reports.advice import Advice, advise
from storemon_flask.reports.blind_spans import BlindSpan, find_blind_spans
from storemon_flask.reports.compute import periods_in_zone
from storemon_flask.reports.csv import period_name
from storemon_flask.reports.likely import measure_reading, read_model
from storemon_flask.reports.outages import find_whole
from storemon_flask.reports.request import ReportQuery, ReportRequest
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import AsOf, Snapshot
from storemon_flask.uptime import calendar, evidence, timeline
from storemon_flask.uptime.likely import Distributions, count_neighbours
from storemon_flask.uptime.measures import Periods, measure
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import Outages, Segments
from storemon_flask.uptime.zones import changes_of_year

# Entered while much is computed at once.
Slot = Callable[[], AbstractContextManager[None]]
# Measures of one window or day, in microseconds (`uptime.measures.MEASURES`).
Sums = dict[str, int]
DEFAULT_US: Final = WEEK_US
LONGEST_US: Final = 31 * DAY_US
MOST_DAYS: Final = 30
# The polls of one answer as rows: one a minute for two months.
MOST_POLLS: Final = 100_000
# More are computed in a slot.
_MANY_POLLS: Final = 100_000
# More periods are no table to read.
_MOST_ROWS: Final = 100
# Those that are shown where none is asked for.
WINDOWS: Final = ("last_hour", "last_day", "last_week", "last_30_days")


def measure_spans(reading: Reading, spans: Sequence[tuple[int, int]], model: Distributions | None = None) -> list[Sums]:
    """Return the measures of one store in each `[start_us, end_us)`, as a report computes them; with the fleet's model
    also `uptime.likely.BOUNDS`."""
    start_us, end_us = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    periods = Periods(np.zeros(len(spans), dtype=np.int64), start_us, end_us)
    measures = measure(reading.openings, reading.evidence, periods, reading.to_us)
    if model is not None:
        measures |= measure_reading(model, reading, periods, reading.to_us, measures)
    return [{name: int(values[row]) for name, values in measures.items()} for row in range(len(spans))]


@dataclass(slots=True, eq=False)
class Store:
    """One store at an as-of, after which no poll exists; -1 for the first and newest poll of one never polled.

    It reads its polls from `connection` once, as far back as it is asked for: use it within one transaction.
    """

    database: Database
    connection: Connection
    rules: Rules
    default_zone: str
    as_of: AsOf
    now_us: int
    data_version: int
    schedule: Schedule
    first_poll_us: int
    last_poll_us: int
    _polls: Polls | None = None
    _polls_from_us: int = 0
    _blind_spans: list[BlindSpan] | None = None
    _models: dict[tuple[int, Rules], Distributions] = field(default_factory=dict)

    @property
    def part(self) -> Batch:
        """Its number, hours and special hours."""
        return self.schedule.batches[0]

    @property
    def number(self) -> int:
        """Its number in the database."""
        return int(self.part.number[0])

    @property
    def store_id(self) -> str:
        """Its id."""
        return self.schedule.ids[0]

    @property
    def zone(self) -> str:
        """Its time zone or the history of it (`uptime.zones`)."""
        return self.schedule.zone_names[0]

    @property
    def zone_now(self) -> str:
        """Its time zone at the as-of."""
        return self.schedule.zone_of_store[0]

    def poll_count(self, from_us: int = 0) -> int:
        """Return how many polls it has from `from_us` to the as-of."""
        first_us = max(self.first_poll_us, from_us)
        if not 0 <= self.first_poll_us <= self.as_of.as_of_us:
            return 0
        return polls.count_of_store(self.connection, self.number, first_us, self.as_of.as_of_us)

    def polls_from(self, from_us: int) -> Polls:
        """Return its polls from `from_us`, or earlier, to the as-of; without those that only add to others if many."""
        if self._polls is None or from_us < self._polls_from_us:
            self._polls = self._read_polls(from_us, self.as_of.as_of_us)
            self._polls_from_us = from_us
        return self._polls

    def read(self, from_us: int, as_of_us: int | None = None, method: str | None = None) -> Reading:
        """Return its openings and polls from `from_us` up to its as-of, or to an earlier one, as was known then."""
        from_us, rules = max(from_us, 0), replace(self.rules, method=method or self.rules.method)
        end_us = self.as_of.as_of_us if as_of_us is None else as_of_us
        read = self.polls_from(from_us)
        if end_us < self.as_of.as_of_us and read.weight is not None:
            # Of those that were left out, one may be the newest up to then.
            read = self._read_polls(from_us, end_us)
        inside = slice(*read.instant_us.searchsorted((from_us, end_us + 1)).tolist())
        some = read.pick(inside)
        opened = self.schedule.openings(self.part, from_us, end_us)
        gathered = evidence.gather(some, opened, rules)
        return Reading(0, self.part, from_us, end_us, opened, some, gathered, len(some))

    def blind_spans(self) -> list[BlindSpan]:
        """Return when the poller was blind for it, as was known at the as-of; oldest first."""
        if self._blind_spans is None:
            as_of_us, groups = self.as_of.as_of_us, self.schedule.groups
            self._blind_spans = find_blind_spans(self.connection, 0, as_of_us, as_of_us, groups, [self.zone_now])
        return self._blind_spans

    def snapshot(self) -> Snapshot:
        """Return its row of the live list."""
        as_of_us, plan = self.as_of.as_of_us, self.schedule
        reading = self.read(as_of_us - WEEK_US - self.rules.farthest_us)
        last = np.array([self.last_poll_us], dtype=np.int64)
        columns = live_list.store_columns(self.connection, plan, reading, last, as_of_us, self.rules)
        return Snapshot(
            self.as_of, self.now_us, self.data_version, plan.ids, plan.names, plan.groups, plan.zone_of_store, columns,
            plan.labels,
        )  # fmt: skip

    def read_model(self, as_of_us: int, rules: Rules) -> Distributions:
        """Return the fleet's model of the likely range at an as-of."""
        key = (as_of_us, rules)
        if key not in self._models:
            self._models[key] = read_model(self.database, self.connection, self.default_zone, as_of_us, rules)
        return self._models[key]

    def likely_sums(self) -> dict[str, Sums]:
        """Return its measures and likely range in each of `live_list.LISTED_WINDOWS`."""
        as_of_us, windows = self.as_of.as_of_us, live_list.LISTED_WINDOWS
        reading = self.read(as_of_us - WEEK_US - self.rules.farthest_us)
        spans = [(as_of_us - length_us, as_of_us) for length_us in windows.values()]
        return dict(zip(windows, measure_spans(reading, spans, self.read_model(as_of_us, self.rules)), strict=True))

    def advise(self) -> Advice:
        """Return what its polls of the last week can and cannot say of a target of 99 % a week."""
        as_of_us = self.as_of.as_of_us
        reading = self.read(as_of_us - WEEK_US - self.rules.farthest_us)
        every_minutes = count_neighbours(reading.evidence, as_of_us - WEEK_US).median_minutes
        opened = reading.openings.cut(as_of_us - WEEK_US, as_of_us)
        business_us = int((opened.end_us - opened.start_us).sum())
        return advise(self.read_model(as_of_us, self.rules), every_minutes, business_us / MINUTE_US)

    def _read_polls(self, from_us: int, to_us: int) -> Polls:
        return readings.read_polls(self.connection, self.schedule, self.part, from_us, to_us, self.rules)[0]


def open_store(
    database: Database,
    connection: Connection,
    store_id: str,
    rules: Rules,
    default_zone: str,
    now_us: int,
    as_of_us: int | None = None,
) -> Store:
    """Return the store as of now, or as of another instant; `NotFound` when there is none of that id."""
    rows, missing = stores.rows_of(connection, [store_id])
    if missing:
        raise stores.no_store(store_id)
    first_us, last_us = int(rows.first_poll_us[0]), int(rows.last_poll_us[0])
    as_of = live_list.find_as_of(database, connection, now_us, rules, as_of_us)
    if as_of_us is None and last_us > rules.latest_us(now_us):
        as_of = replace(as_of, future=future_polls_of_store(last_us))
    if first_us > as_of.as_of_us:
        first_us = last_us = -1
    elif last_us > as_of.as_of_us:
        last_us = int(polls.newest_up_to(connection, rows.number, as_of.as_of_us)[0])
    plan = readings.read_stores(connection, rows, default_zone, as_of.as_of_us)
    return Store(
        database,
        connection,
        rules,
        default_zone,
        as_of,
        now_us,
        stores.data_version(connection),
        plan,
        first_us,
        last_us,
    )


@dataclass(frozen=True, slots=True)
class StoreTimeline:
    """What is known of one store in `[from_us, to_us)`, with every outage that touches it, whole.

    `polls` are all polls made in the range (`complete_from_us` says from when on they are complete); `in_hours` says
    which of them count. `blind_spans` overlap the range.
    """

    store: Store
    from_us: int
    to_us: int
    reading: Reading
    openings: Openings
    segments: Segments
    outages: Outages
    polls: Polls
    in_hours: Bools
    blind_spans: list[BlindSpan]


def build_timeline(
    store: Store,
    from_us: int | None = None,
    to_us: int | None = None,
    most_polls: int | None = None,
    slot: Slot = nullcontext,
) -> StoreTimeline:
    """Return the store's timeline, by default of the seven days up to the as-of; an end after that becomes the as-of.

    `slot()` is entered when there are many polls. `Unprocessable` for a range that is empty, longer than 31 days,
    begins before 1970, or has more than `most_polls` polls.
    """
    from_us, to_us = _range(from_us, to_us, store.as_of.as_of_us)
    count = store.poll_count(max(from_us - store.rules.farthest_us, 0))
    if most_polls is not None and count > most_polls:
        _refuse_many(store, from_us, to_us, most_polls)
    with slot() if count > _MANY_POLLS else nullcontext():
        return _timeline(store, store.read(from_us - store.rules.farthest_us), from_us, to_us)


def _timeline(store: Store, reading: Reading, from_us: int, to_us: int) -> StoreTimeline:
    # The outage that the range begins in is whole, however long it is.
    outages, _ = find_whole(
        store.connection, store.schedule, reading, np.array([from_us]), store.as_of.as_of_us, store.rules
    )
    read = store.polls_from(reading.from_us)
    if read.weight is not None:
        # Some were left out: they are read again, for the range alone.
        read = polls.read(store.connection, store.part.number, from_us, to_us - 1)
    some = slice(*read.instant_us.searchsorted((from_us, to_us)).tolist())
    made = read.pick(some)
    return StoreTimeline(
        store,
        from_us,
        to_us,
        reading,
        reading.openings.cut(from_us, to_us),
        timeline.find_segments(reading.openings, reading.evidence, from_us, to_us),
        outages.pick((outages.start_us < to_us) & (outages.end_us > from_us)),
        made,
        evidence.are_inside(made, reading.openings),
        [
            span
            for span in store.blind_spans()
            if span.start_us < to_us and (span.end_us is None or span.end_us > from_us)
        ],
    )


def _range(from_us: int | None, to_us: int | None, as_of_us: int) -> tuple[int, int]:
    if from_us is not None and from_us < 0:
        raise _wrong_range("from must not lie before 1970-01-01")
    to_us = as_of_us if to_us is None else min(to_us, as_of_us)
    if from_us is None:
        from_us = max(to_us - DEFAULT_US, 0)
    if from_us >= to_us:
        raise _wrong_range(f"from must lie before to, and before the as-of, {timestamp_text(as_of_us)}")
    if to_us - from_us > LONGEST_US:
        raise _wrong_range("from must lie at most 31 days before to; ask for a longer time in several ranges")
    return from_us, to_us


def _refuse_many(store: Store, from_us: int, to_us: int, most: int) -> None:
    """`Unprocessable` when the range has more polls than that."""
    count = polls.count_of_store(store.connection, store.number, from_us, to_us - 1)
    if count > most:
        raise _wrong_range(
            f"the store has {count:,} polls from {timestamp_text(from_us)} to {timestamp_text(to_us)}, and one answer "
            f"has at most {most:,}; ask for fewer days, or for a report of its outages"
        )


def _wrong_range(sentence: str) -> Unprocessable:
    return Unprocessable(sentence, errors={"from": [sentence]})


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
    """The measures of a window or period: its name, the unit that amounts are printed in, microseconds."""

    name: str
    unit_us: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class DetailQuery:
    """So many local days up to `until` (None: the day of the as-of), and the windows of a report (None: the last hour,
    day, week and 30 days)."""

    days: int
    until: date | None
    report: ReportQuery | None


@dataclass(frozen=True, slots=True)
class StoreDetail:
    """What the page of a store shows: its row of the list, its timeline on those days (oldest first), and numbers.

    Numbers of windows up to the as-of (`last_week`) are those at `numbers_as_of_us`: the end of the days, or the as-of.
    """

    store: Store
    snapshot: Snapshot
    poll_count: int
    timeline: StoreTimeline
    days: list[LocalDay]
    numbers: list[Numbers]
    numbers_as_of_us: int
    # The last local day that could be shown.
    newest: date
    advice: Advice


def build_detail(store: Store, query: DetailQuery, slot: Slot = nullcontext) -> StoreDetail:
    """Return the store's detail on those days. `slot()` is entered when there are many polls.

    `Unprocessable` for days before 1970, a window that ends after the as-of, and more periods than make a table.
    """
    as_of_us, zone = store.as_of.as_of_us, store.zone
    spans = _day_spans(zone, query.days, query.until, as_of_us)
    first_us, last_us = spans[0][0], spans[-1][1]
    numbers_as_of_us = min(as_of_us, last_us)
    rows = _number_rows(query.report, zone, as_of_us, numbers_as_of_us)
    earliest_us = min(first_us, *(row.start_us for row in rows)) if rows else first_us
    with ExitStack() as stack:
        if store.poll_count(max(earliest_us, 0)) > _MANY_POLLS:
            stack.enter_context(slot())
        method = query.report.method if query.report else store.rules.method
        farthest_us = replace(store.rules, method=method).farthest_us
        reads_from_us = earliest_us - max(farthest_us, store.rules.farthest_us)
        shown = _timeline(store, store.read(reads_from_us), first_us, min(last_us, as_of_us))
        numbers = _measure_rows(store, rows, reads_from_us, method)
        sums = measure_spans(shown.reading, [span[:2] for span in spans])
        days = [LocalDay(*span, _clock_change(zone, *span[:2]), one) for span, one in zip(spans, sums, strict=True)]
        newest = utc_datetime(_newest_day(zone, as_of_us)).date()
        return StoreDetail(
            store, store.snapshot(), store.poll_count(), shown, days, numbers, numbers_as_of_us, newest, store.advise()
        )


@dataclass(frozen=True, slots=True)
class _NumberRow:
    """A row of numbers to be measured at an as-of."""

    name: str
    unit_us: int
    as_of_us: int
    start_us: int
    end_us: int


def _number_rows(asked: ReportQuery | None, zone: str, as_of_us: int, relative_us: int) -> list[_NumberRow]:
    """Return the rows of that report about one store: of windows up to the as-of those at `relative_us`."""
    query = asked or request.check(ReportRequest(fields={"windows": list(WINDOWS)}))
    request.check_window_ends(replace(query, as_of_us=as_of_us))
    rows: list[_NumberRow] = []
    for window in query.windows:
        at_us = relative_us if window.follows_as_of else as_of_us
        periods = periods_in_zone(zone, replace(query, windows=(window,), as_of_us=at_us))
        for start, end, _, local, offset in zip(*(column.tolist() for column in periods), strict=True):
            name = period_name(query, local, offset) if query.by else window.name
            rows.append(_NumberRow(name, query.unit_us(window), at_us, start, end))
    if query.by and len(rows) > _MOST_ROWS:
        raise Unprocessable(
            f"the window has {len(rows):,} periods by {query.by}, and a page shows at most {_MOST_ROWS}; "
            "ask for longer ones",
            errors={"by": ["too many periods"]},
        )
    return rows


def _measure_rows(store: Store, rows: list[_NumberRow], from_us: int, method: str) -> list[Numbers]:
    measured: dict[_NumberRow, Sums] = {}
    for as_of_us in {row.as_of_us for row in rows}:
        some = [row for row in rows if row.as_of_us == as_of_us]
        reading = store.read(from_us, as_of_us, method)
        model = store.read_model(as_of_us, replace(store.rules, method=method))
        sums = measure_spans(reading, [(row.start_us, row.end_us) for row in some], model)
        measured |= zip(some, sums, strict=True)
    return [Numbers(row.name, row.unit_us, measured[row]) for row in rows]


def _day_spans(zone: str, count: int, until: date | None, as_of_us: int) -> list[tuple[int, int, int]]:
    """Return start, end and wall clock at the start of the last `count` local days up to `until`, uncut."""
    last_us = _newest_day(zone, as_of_us)
    if until is not None:
        last_us = min(last_us, (until - EPOCH.date()).days * DAY_US)
    if last_us < (count + 2) * DAY_US:
        raise Unprocessable("the days must not lie before 1970-02-01", errors={"until": ["too early"]})
    spans = calendar.spans(zone, "day", last_us - (count + 2) * DAY_US, last_us + 3 * DAY_US)
    # A zone that skipped the day asked for has the one before.
    rows = zip(spans.start_us.tolist(), spans.end_us.tolist(), spans.local_us.tolist(), strict=True)
    days = [row for row in rows if row[2] // DAY_US <= last_us // DAY_US][-count:]
    # Days of a store that moved far to the west are longer; a timeline is not.
    return [row for row in days if days[-1][1] - row[0] <= LONGEST_US]


def _newest_day(zone: str, as_of_us: int) -> int:
    """Return the wall clock at which the local day of the as-of begins: the day that has the time before it."""
    return int(calendar.spans(zone, "day", as_of_us - HOUR_US, as_of_us).local_us[-1])


def _clock_change(zone: str, start_us: int, end_us: int) -> int:
    for year in {utc_datetime(start_us).year, utc_datetime(end_us).year}:
        for second, _, _ in changes_of_year(zone, year):
            if start_us < second * SECOND_US < end_us:
                return second * SECOND_US
    return -1
