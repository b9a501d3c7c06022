"""Sums of local days: what each store's days come to, from which sums of weeks, months and groups are made."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storemon_flask.database import readings
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.readings import Schedule
from storemon_flask.model import Ints, Rules
from storemon_flask.uptime import calendar
from storemon_flask.uptime.measures import MEASURES, Periods, measure

# Called with how far a computation is, 0 to 1.
Progress = Callable[[float], None]


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
    days = np.arange(first_day, last_day + 1, dtype=np.int64)
    size = len(schedule.ids)
    store, day = np.repeat(np.arange(size), len(days)), np.tile(days, size)
    sums = {name: np.zeros(len(store), dtype=np.int64) for name in MEASURES}
    if not len(store):
        return DaySums(store, day, sums)
    begin_us = calendar.day_starts(schedule.zone_names, first_day, last_day + 1)
    first_us, last_us = int(begin_us.min()), min(int(begin_us.max()), as_of_us)
    if first_us < last_us:
        for reading in readings.read_batches(connection, schedule, first_us, last_us, as_of_us, rules):
            of_store = begin_us[reading.batch.zone_of]
            index = np.repeat(np.arange(len(reading)), len(days))
            periods = Periods(index, of_store[:, :-1].ravel(), of_store[:, 1:].ravel())
            begin = reading.first * len(days)
            for name, values in measure(reading.openings, reading.evidence, periods, as_of_us).items():
                sums[name][begin : begin + len(values)] = values
            progress((reading.first + len(reading)) / size)
    return DaySums(store, day, sums)
