"""Heat map of a window: how much time was up, down and unknown in each hour of the week (SPEC 3.7)."""

from dataclasses import dataclass

import numpy as np

from storemon_flask.database import readings
from storemon_flask.database.connections import Connection
from storemon_flask.database.readings import Schedule
from storemon_flask.model import Ints, Rules
from storemon_flask.reports.day_sums import Progress
from storemon_flask.reports.windows import Window, range_in_zone
from storemon_flask.uptime.heatmap import HEAT_MEASURES, WEEK, ZoneHours, sum_by_hour_of_week


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Sums in microseconds by name of `HEAT_MEASURES`, each by group, weekday (0: Monday) and hour of the day, on the
    wall clock of each store."""

    groups: dict[str, Ints]

    @property
    def fleet(self) -> dict[str, Ints]:
        """The sums over all groups, each by weekday and hour."""
        return {name: values.sum(axis=0) for name, values in self.groups.items()}


def read_heat_map(
    connection: Connection,
    schedule: Schedule,
    window: Window,
    as_of_us: int,
    rules: Rules,
    group_of: Ints | None = None,
    progress: Progress = lambda share: None,
) -> HeatMap:
    """Return the heat map of a window of all stores of the schedule, which must be of the connection's transaction.

    `group_of` is a number from 0 for each store of the schedule, whose groups are then told apart; without it all are
    one.
    """
    size = len(schedule.ids)
    group_of = np.zeros(size, dtype=np.int64) if group_of is None else group_of
    groups = int(group_of.max(initial=0)) + 1
    sums = {name: np.zeros((groups, *WEEK), dtype=np.int64) for name in HEAT_MEASURES}
    ranges = [range_in_zone(window, zone, as_of_us) for zone in schedule.zone_names]
    some = [(first, last) for first, last in ranges if first < last]
    if not some or not size:
        return HeatMap(sums)
    hours = ZoneHours(schedule.zone_names, ranges)
    first_us, last_us = min(first for first, _ in some), max(last for _, last in some)
    for reading in readings.read_batches(connection, schedule, first_us, last_us, as_of_us, rules):
        stop = reading.first + len(reading)
        of_batch = sum_by_hour_of_week(
            reading.openings, reading.evidence, reading.batch.zone_of, group_of[reading.first : stop], groups, hours
        )
        for name, values in of_batch.items():
            sums[name] += values
        progress(stop / size)
    return HeatMap(sums)
