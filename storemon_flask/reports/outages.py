"""Outages of stores, each whole: as a report with a row for each, and for every view that names the start of one.

A store can be down for months. For the few stores whose outage began before the polls that were read, more are read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.clock import timestamp_texts
from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.readings import Batch, Reading, Schedule
from storemon_flask.formatting import decimals, hundredths
from storemon_flask.model import MINUTE_US, Bools, Ints, Rules
from storemon_flask.reports.csv import Column, ReportText, csv_text, store_columns
from storemon_flask.reports.request import ReportQuery
from storemon_flask.uptime import timeline
from storemon_flask.uptime.timeline import Outages

_STORE_COLUMNS: Final = ("store_id", "name", "group", "timezone")
# So many stores are looked up week by week; more would make each week be read as a whole.
_STORES_AT_ONCE: Final = 64
# A store that is polled every second can have a million outages: cells are made of some rows at a time.
_ROWS_AT_ONCE: Final = 20_000
_NOTHING: Final = np.empty(0, dtype=np.int64)
# Each reading goes back so many times as far as the one before.
_FARTHER: Final = 4


def compute(
    connection: Connection,
    schedule: Schedule,
    query: ReportQuery,
    ranges: Sequence[tuple[int, int]],
    rules: Rules,
    progress: Callable[[float], None],
) -> tuple[ReportText, int]:
    """Return every outage that touches the window and is down for at least the query's shortest time, by store, then by
    start; and how many polls were read. Each is whole, however long before the window it began.

    `ranges` are from when to when the window goes in each zone of the schedule.
    """
    as_of_us = query.as_of_us
    begin, end = (
        (np.array(column, dtype=np.int64) for column in zip(*ranges, strict=True)) if ranges else (_NOTHING, _NOTHING)
    )
    some = end > begin
    first_us = int(begin[some].min(initial=as_of_us))
    chosen: list[Outages] = []
    count = 0
    for reading in readings.read_batches(connection, schedule, first_us, as_of_us, as_of_us, rules):
        count += reading.count
        if some.any() and len(reading):
            zone_of = reading.batch.zone_of
            outages, more = find_whole(connection, schedule, reading, begin[zone_of], as_of_us, rules)
            count += more
            inside = (outages.start_us < end[zone_of][outages.store]) & (outages.end_us > begin[zone_of][outages.store])
            outages = outages.pick(inside & (outages.down_us >= query.shortest_us))
            chosen.append(outages.with_store(outages.store + reading.first))
        progress((reading.first + len(reading)) / max(len(schedule.ids), 1))
    outages = timeline.join(chosen)
    by_store = np.lexsort((outages.start_us, store_columns(schedule).rank[outages.store]))
    return render(schedule, outages.pick(by_store)), count


def find_starts(
    connection: Connection,
    schedule: Schedule,
    batch: Batch,
    poll_us: Ints,
    read_from_us: int,
    as_of_us: int,
    rules: Rules,
) -> Ints:
    """Return where the run of each of the stores begins that its poll at `poll_us` is of: one in business hours.

    The runs are those that may have begun before `read_from_us` (`uptime.timeline.may_start_earlier`).
    """
    start_us = np.empty(len(batch.number), dtype=np.int64)
    for run in _whole_runs(connection, schedule, batch, poll_us, read_from_us, as_of_us, rules):
        start_us[run.index] = run.reading.evidence.left_us[run.first]
    return start_us


def find_whole(
    connection: Connection, schedule: Schedule, reading: Reading, begin_us: Ints, as_of_us: int, rules: Rules
) -> tuple[Outages, int]:
    """Return every outage of the reading's stores, and how many polls were read for it.

    Those that end after the store's `begin_us` are whole, wherever the reading begins.
    """
    read = timeline.find_outages(reading.openings, reading.evidence, as_of_us)
    cut = _cut_off(reading, begin_us, as_of_us, rules)
    if not len(cut):
        return read, 0
    store = reading.evidence.store[cut]
    whole, count = [read.pick(~np.isin(read.store, store))], 0
    poll_us = reading.evidence.instant_us[cut]
    for run in _whole_runs(
        connection, schedule, reading.batch.select(store), poll_us, reading.from_us, as_of_us, rules
    ):
        outages = timeline.find_outages(run.reading.openings, run.reading.evidence, as_of_us)
        count += run.reading.count
        outages = outages.pick(run.whole[outages.store])
        whole.append(outages.with_store(store[run.index[outages.store]]))
    together = timeline.join(whole)
    return together.pick(np.lexsort((together.start_us, together.store))), count


def _cut_off(reading: Reading, begin_us: Ints, as_of_us: int, rules: Rules) -> Ints:
    """Return the first polls of runs that are an outage after the store's `begin_us` and may have begun before the
    reading."""
    evidence = reading.evidence
    runs = timeline.find_runs(reading.openings, evidence)
    ends_us = np.minimum(evidence.right_us[runs.last], as_of_us)
    first = runs.first[~evidence.active[runs.first] & (ends_us > begin_us[evidence.store[runs.first]])]
    return first[timeline.may_start_earlier(reading.openings, evidence, first, reading.from_us, rules)]


@dataclass(frozen=True, slots=True)
class _Runs:
    """One run of each store at `index` in the batch: its `first` poll in the reading, and whether no poll before the
    reading can be of it."""

    index: Ints
    reading: Reading
    first: Ints
    whole: Bools


def _whole_runs(
    connection: Connection,
    schedule: Schedule,
    batch: Batch,
    poll_us: Ints,
    read_from_us: int,
    as_of_us: int,
    rules: Rules,
) -> Iterator[_Runs]:
    """Read the stores again and again with more of their polls, until each one's run is whole in a reading."""
    if not len(batch.number):
        return
    first_poll_us, _ = stores.poll_span(connection, batch.number)
    for at in range(0, len(batch.number), _STORES_AT_ONCE):
        index, from_us = np.arange(at, min(at + _STORES_AT_ONCE, len(batch.number))), read_from_us
        while len(index):
            from_us = max(as_of_us - _FARTHER * (as_of_us - from_us), 0)
            reading = readings.read_batch(connection, schedule, batch.select(index), from_us, as_of_us, rules)
            first = _run_of(reading, poll_us[index])
            may = timeline.may_start_earlier(reading.openings, reading.evidence, first, from_us, rules)
            # Before the first poll of a store that could decide anything there is nothing to be read.
            whole = ~may | (from_us <= np.maximum(first_poll_us[index] - rules.farthest_us, 0))
            yield _Runs(index, reading, first, whole)
            index = index[~whole]


def _run_of(reading: Reading, poll_us: Ints) -> Ints:
    """Return for each store the poll that begins the run which its poll at that instant is of."""
    evidence, size = reading.evidence, len(poll_us)
    # That poll itself may be left out (`evidence.thin_out`): then one before it is of the same run.
    up_to = evidence.store[evidence.instant_us <= poll_us[evidence.store]]
    poll = np.searchsorted(evidence.store, np.arange(size)) + np.bincount(up_to, minlength=size) - 1
    return timeline.find_runs(reading.openings, evidence).start_of(poll)


def render(schedule: Schedule, outages: Outages) -> ReportText:
    """Return outages as rows of a report, in their order; their `store` is the index in the schedule."""
    stores = store_columns(schedule)
    rows = stores.rank[outages.store].tolist()

    def columns(first: int) -> list[Column]:
        """Return the columns of the next rows, from index `first` on."""
        some = outages.pick(np.arange(first, min(first + _ROWS_AT_ONCE, len(rows))))

        def timestamps(*names: str) -> list[Column]:
            """Return columns of timestamps, each from the field `NAME_us`."""
            return [(name, timestamp_texts(getattr(some, f"{name}_us"))) for name in names]

        return [
            *stores.pick(_STORE_COLUMNS, rows[first : first + _ROWS_AT_ONCE]),
            *timestamps("start", "end"),
            ("down_minutes", decimals(hundredths(some.down_us, MINUTE_US))),
            *timestamps("start_earliest", "start_latest", "end_earliest", "end_latest"),
            ("polls", [str(count) for count in some.polls.tolist()]),
            ("ongoing", ["yes" if ongoing else "no" for ongoing in some.ongoing.tolist()]),
        ]

    batches = map(columns, range(0, max(len(rows), 1), _ROWS_AT_ONCE))
    return csv_text(batches, stores.pick_altered(_STORE_COLUMNS, rows))
