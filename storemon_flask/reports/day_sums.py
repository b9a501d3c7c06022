"""Sums of local days: what each store's days come to, from which sums of weeks, months and groups are made.

Days that are over are stored when they are first computed (`database.day_sums`); the others are computed each time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask import zonedata
from storemon_flask.database import day_sums as stored
from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.day_sums import BLOCK_DAYS, KEPT, BlockRows, State
from storemon_flask.database.readings import Batch, Schedule
from storemon_flask.model import EVER_US, HOUR_US, Bools, Ints, Rules
from storemon_flask.uptime import calendar
from storemon_flask.uptime.basis import bases, text_numbers
from storemon_flask.uptime.measures import CLASSIC_MEASURES, MEASURES, Periods, measure
from storemon_flask.version import VERSION

# Called with how far a computation is, 0 to 1.
Progress = Callable[[float], None]
# A day is over once no poll within the reach of it can come, and so much later: pollers may be late.
_GRACE_US: Final = 6 * HOUR_US
# The sums of so many store-days, 20 MB, are in memory at once.
_STORE_DAYS: Final = 400_000


@dataclass(frozen=True, slots=True)
class DaySums:
    """Sums of local days: a row per store of the schedule (its index) and local day (days since 1970), in that order.

    Every store has every day; one that its zone skipped, or that begins after the as-of, has sums of 0.
    """

    store: Ints
    day: Ints
    # By name of `uptime.measures.MEASURES`, in microseconds.
    sums: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.store)


@dataclass(frozen=True, slots=True)
class DayBatch:
    """Sums of days of the stores that follow the schedule's index `first`: by name a row per store, a column per day.

    `begin_us` is when the days of each store begin, and when the last one ends.
    """

    first: int
    batch: Batch
    begin_us: Ints
    sums: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.begin_us)


def read_day_sums(
    database: Database,
    connection: Connection,
    schedule: Schedule,
    first_day: int,
    last_day: int,
    as_of_us: int,
    rules: Rules,
    progress: Progress,
) -> DaySums:
    """Return the sums of the days from `first_day` to `last_day`, both included, in each store's own zone.

    A day that is not over at the as-of is measured up to the as-of. The schedule must be of the connection's
    transaction.
    """
    days, size = np.arange(first_day, last_day + 1, dtype=np.int64), len(schedule.ids)
    store, day = np.repeat(np.arange(size), len(days)), np.tile(days, size)
    sums = {name: np.zeros(len(store), dtype=np.int64) for name in MEASURES}
    for batch in read_day_batches(database, connection, schedule, (first_day, last_day), as_of_us, rules, progress):
        begin = batch.first * len(days)
        for name in MEASURES:
            sums[name][begin : begin + len(batch) * len(days)] = batch.sums[name].ravel()
    return DaySums(store, day, sums)


def read_day_batches(
    database: Database,
    connection: Connection,
    schedule: Schedule,
    days: tuple[int, int],
    as_of_us: int,
    rules: Rules,
    progress: Progress,
    names: Sequence[str] = MEASURES,
) -> Iterator[DayBatch]:
    """Yield those of `names`, from the first to the last of both `days`, some stores at a time, in order of stores."""
    first_day, last_day = days
    if not schedule.ids or last_day < first_day:
        return
    work = _Work(database, connection, schedule, first_day, last_day, as_of_us, rules, names)
    size, first = max(1, _STORE_DAYS // (last_day - first_day + 1)), 0
    for batch in schedule.batches:
        for at in range(0, len(batch.number), size):
            some = batch if size >= len(batch.number) else batch.slice(at, at + size)
            before, share = (first + at) / len(schedule.ids), len(some.number) / len(schedule.ids)

            def advance(done: float, before: float = before, share: float = share) -> None:
                """Report a share of this batch as a share of all stores."""
                progress(before + done * share)

            yield work.read(some, first + at, advance)
            progress(before + share)
        first += len(batch.number)


class _Work:
    """Days of one report: columns are the days of whole blocks; `_asked` are those of the report."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        schedule: Schedule,
        first_day: int,
        last_day: int,
        as_of_us: int,
        rules: Rules,
        names: Sequence[str],
    ) -> None:
        self._database, self._connection, self._schedule = database, connection, schedule
        self._as_of_us, self._rules = as_of_us, rules
        self._asked_names = names
        parts = [*names, *(("uptime", "downtime", "unknown") if "business" in names else ())]
        self._names = [name for name in KEPT if name in parts]
        self._blocks = range(first_day // BLOCK_DAYS, last_day // BLOCK_DAYS + 1)
        self._first_day = self._blocks[0] * BLOCK_DAYS
        self._width = len(self._blocks) * BLOCK_DAYS
        self._asked = slice(first_day - self._first_day, last_day + 1 - self._first_day)
        self._begin_us = calendar.day_starts(schedule.zone_names, self._first_day, self._first_day + self._width)
        # By the method `previous` days are computed, not stored: reports by it are rare.
        self._is_stored = rules.method == "nearest"
        now_us = min(as_of_us, time.time_ns() // 1000)
        known_us = self._begin_us[:, 1:] + rules.farthest_us
        self._is_over = known_us + _GRACE_US <= now_us if self._is_stored else np.zeros(known_us.shape, dtype=bool)
        over_asked = self._is_over[:, self._asked]
        self._state = self._settled_state(int(known_us[:, self._asked][over_asked].max(initial=0)))
        # Loads drop what a poll can change within the margin that is expected of them: a smaller one does not do.
        is_expected = self._state.margin_us >= rules.farthest_us
        self._is_settled = self._is_over & (known_us <= self._state.settled_us) & is_expected
        self._origin = _origins(schedule) if self._is_stored else np.empty(0, dtype=np.int64)
        complete_from_us = stores.complete_from(connection)
        self._complete_from_us = EVER_US if complete_from_us is None else complete_from_us

    def _settled_state(self, settled_us: int) -> State:
        before = stored.read_state(self._connection)
        if not settled_us:
            return before
        version = stores.data_version(self._connection)
        return stored.settle(self._database, before, version, settled_us, self._rules.farthest_us)

    def read(self, batch: Batch, first: int, progress: Progress) -> DayBatch:
        """Return the sums of a batch, stored or computed, and store those that can be."""
        of_zone = batch.zone_of
        sums = {name: np.zeros((len(batch.number), self._width), dtype=np.int64) for name in self._names}
        grid = self._read_stored(batch, first, sums)
        is_asked = np.zeros(self._width, dtype=bool)
        is_asked[self._asked] = True
        # Stored at a later as-of than this one.
        too_new = grid.is_stored & ~self._is_over[of_zone] & is_asked
        if too_new.any():
            for values in sums.values():
                values[too_new] = 0
        missing = (self._begin_us[of_zone, :-1] < self._as_of_us) & is_asked & (~grid.is_stored | too_new)
        # What is stored of days that are not over at this as-of is better than what is computed here.
        is_new = missing & self._is_settled[of_zone] & ~too_new.any(axis=1, keepdims=True)
        if not is_new.any():
            self._compute(batch, missing, sums, progress)
        else:
            # All that is stored of a day.
            computed = {name: sums[name] if name in sums else np.zeros_like(missing, dtype=np.int64) for name in KEPT}
            self._compute(batch, missing, computed, progress)
            self._store(batch, grid, is_new, computed)
        if "business" in self._asked_names:
            sums["business"] = sums["uptime"] + sums["downtime"] + sums["unknown"]
        begin_us = self._begin_us[of_zone, self._asked.start : self._asked.stop + 1]
        return DayBatch(first, batch, begin_us, {name: sums[name][:, self._asked] for name in self._asked_names})

    def _read_stored(self, batch: Batch, first: int, sums: dict[str, Ints]) -> "_Grid":
        """Return what is stored and still holds, its sums in `sums`."""
        size = len(batch.number)
        grid = _Grid([], [], np.zeros((size, self._width), dtype=bool))
        if not self._is_stored:
            return grid
        origin, first_days = self._origin[first : first + size], [block * BLOCK_DAYS for block in self._blocks]
        grid.bases = bases(
            origin, batch.hours, batch.special, self._rules, self._complete_from_us, first_days, BLOCK_DAYS
        )
        for at, block in enumerate(self._blocks):
            rows = stored.read_block(self._connection, block, batch.number, grid.bases[at])
            grid.rows.append(rows)
            for some in rows:
                grid.is_stored[_unpack_rows(some, at * BLOCK_DAYS, sums)] = True
        return grid

    def _compute(self, batch: Batch, missing: Bools, sums: dict[str, Ints], progress: Progress) -> None:
        """Compute the missing days, of all stores that miss their first in one block at once."""
        is_incomplete = missing.any(axis=1)
        first_column = missing.argmax(axis=1)
        names = CLASSIC_MEASURES if set(sums) == set(CLASSIC_MEASURES) else MEASURES
        done = 0
        for block in np.unique(first_column[is_incomplete] // BLOCK_DAYS).tolist():
            index = np.flatnonzero(is_incomplete & (first_column // BLOCK_DAYS == block))
            columns = np.flatnonzero(missing[index].any(axis=0))
            begin, end = int(columns[0]), int(columns[-1]) + 1
            some = batch if len(index) == len(missing) else batch.select(index)
            first_us = int(self._begin_us[some.zone_of, begin].min())
            last_us = min(int(self._begin_us[some.zone_of, end].max()), self._as_of_us)
            for reading in readings.read_range(
                self._connection, self._schedule, some, (first_us, last_us), self._as_of_us, self._rules
            ):
                begin_us = self._begin_us[reading.batch.zone_of, begin : end + 1]
                store = np.repeat(np.arange(len(reading)), end - begin)
                periods = Periods(store, begin_us[:, :-1].ravel(), begin_us[:, 1:].ravel())
                measured = measure(reading.openings, reading.evidence, periods, self._as_of_us, names)
                rows = index[reading.first : reading.first + len(reading)]
                for name, values in sums.items():
                    values[rows, begin:end] = measured[name].reshape(len(rows), -1)
                done += len(reading)
                progress(done / np.count_nonzero(is_incomplete))

    def _store(self, batch: Batch, grid: "_Grid", is_new: Bools, computed: dict[str, Ints]) -> None:
        """Store the new days, with those that were stored of the same blocks."""
        for at, block in enumerate(self._blocks):
            columns = slice(at * BLOCK_DAYS, (at + 1) * BLOCK_DAYS)
            chosen = np.flatnonzero(is_new[:, columns].any(axis=1))
            if not len(chosen):
                continue
            new = is_new[chosen, columns]
            before = {name: np.zeros((len(batch.number), BLOCK_DAYS), dtype=np.int64) for name in KEPT}
            for some in grid.rows[at]:
                _unpack_rows(some, 0, before)
            values = np.stack(
                [np.where(new, computed[name][chosen, columns], before[name][chosen]) for name in KEPT], axis=1
            )
            masks = stored.pack_days(new | grid.is_stored[chosen, columns])
            rows = []
            for mask in np.unique(masks).tolist():
                group = np.flatnonzero(masks == mask)
                packed = stored.pack(values[group][:, :, stored.unpack_days(mask)])
                rows.append(BlockRows(chosen[group], mask, packed))
            if not stored.write_block(self._database, self._state, block, batch.number, grid.bases[at], rows):
                return


@dataclass(slots=True)
class _Grid:
    """What is stored of a batch: for each block the basis that its rows must have, and the rows that have it; and which
    days of which stores that is."""

    bases: list[Ints]
    rows: list[list[BlockRows]]
    is_stored: Bools


def _unpack_rows(rows: BlockRows, first: int, sums: dict[str, Ints]) -> tuple[Ints | slice, Ints | slice]:
    """Put a block's rows into `sums`, its first day in the column `first`; return where that is."""
    columns = _slice_of(stored.unpack_days(rows.days) + first)
    cells = (_slice_of(rows.store), columns) if isinstance(columns, slice) else (rows.store[:, None], columns)
    for name, values in stored.unpack(rows.packed, list(sums)).items():
        sums[name][cells] = values
    return cells


def _slice_of(ascending: Ints) -> Ints | slice:
    """Return the indexes as a slice, with which numpy is faster, where they have no gaps."""
    first, last = int(ascending[0]), int(ascending[-1])
    return slice(first, last + 1) if last - first + 1 == len(ascending) else ascending


def _origins(schedule: Schedule) -> Ints:
    """Return for each store of the schedule a number of its id, zone, and the program and zone data that count."""
    known = schedule.derived.get(_origins)
    if not isinstance(known, np.ndarray):
        zones = [schedule.zone_names[zone] for batch in schedule.batches for zone in batch.zone_of.tolist()]
        made_by = f"{VERSION} {zonedata.version()}"
        known = text_numbers(
            [f"{made_by}\n{zone}\n{store_id}" for zone, store_id in zip(zones, schedule.ids, strict=True)]
        )
        schedule.derived[_origins] = known
    return known
