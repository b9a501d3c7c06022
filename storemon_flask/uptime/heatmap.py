"""How much business time was up, down and unknown in each hour of the week, by the wall clock of each store (SPEC 3.7).

The sums are those of the hours of a report by hour. They are made from stretches of one status, not from hours: an hour
that a stretch covers whole is counted, and only the two at its ends are measured.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from storemon_flask.model import DAY_US, HOUR_US, Bools, Ints
from storemon_flask.uptime import calendar
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.zones import EPOCH_WEEKDAY, block_size

# uptime + downtime + unknown = business, exactly.
HEAT_MEASURES: Final = ("uptime", "downtime", "unknown", "business")
# Of a table of sums, weekday (0: Monday) and hour of the day.
WEEK: Final = (7, 24)
_HOURS_OF_WEEK: Final = 168


class ZoneHours:
    """The hours of several zones, each in its own range of time, laid one zone after the other on one line.

    An hour begins when the wall clock shows a full hour, and when it is changed; one that comes twice is of the same
    hour of the day both times.
    """

    def __init__(self, zone_names: Sequence[str], ranges: Sequence[tuple[int, int]]) -> None:
        """The hours of each zone that touch its range `[first_us, last_us)`, cut to it."""
        spans = [
            calendar.spans(zone, "hour", first, last) for zone, (first, last) in zip(zone_names, ranges, strict=True)
        ]
        count = np.array([len(one) for one in spans], dtype=np.int64)
        nothing = np.empty(0, dtype=np.int64)
        self.start_us: Ints = np.concatenate([nothing, *(one.start_us for one in spans)])
        self.end_us: Ints = np.concatenate([nothing, *(one.end_us for one in spans)])
        local: Ints = np.concatenate([nothing, *(one.local_us for one in spans)])
        weekday = (local // DAY_US + EPOCH_WEEKDAY) % 7
        self.hour_of_week: Ints = weekday * 24 + local % DAY_US // HOUR_US
        # Of each zone: its first hour on the line, and how many it has.
        self.count: Ints = count
        self.begin: Ints = np.cumsum(count) - count
        edges = np.array(ranges, dtype=np.int64).reshape(-1, 2)
        self.first_us: Ints = edges[:, 0]
        self.last_us: Ints = np.maximum(edges[:, 1], edges[:, 0])
        self._low_us = int(self.first_us.min(initial=0)) if len(edges) else 0
        self._block = block_size(len(edges) + 1, self._low_us, int(self.last_us.max(initial=0)))
        self._key: Ints = np.repeat(np.arange(len(edges)), count) * self._block + (self.start_us - self._low_us)

    def index_at(self, zone: Ints, instant_us: Ints) -> Ints:
        """Return the hours, as indexes on the line, that have those instants, which must be in the zones' ranges."""
        index: Ints = np.searchsorted(self._key, zone * self._block + (instant_us - self._low_us), side="right") - 1
        return index


def sum_by_hour_of_week(
    openings: Openings, evidence: Evidence, zone_of: Ints, group_of: Ints, groups: int, hours: ZoneHours
) -> dict[str, Ints]:
    """Return `HEAT_MEASURES` in microseconds, each by group, weekday and hour of the day.

    `zone_of` and `group_of` are the zone of each store, as in `hours`, and its group, from 0 up to `groups`.
    """
    stores = _Stores(zone_of, group_of, groups, hours)
    down = ~evidence.active
    business = stores.add_up(openings.store, openings.start_us, openings.end_us)
    known = stores.add_up(*_joined(evidence.store, evidence.left_us, evidence.right_us))
    downtime = stores.add_up(*_joined(evidence.store[down], evidence.left_us[down], evidence.right_us[down]))
    return {"uptime": known - downtime, "downtime": downtime, "unknown": business - known, "business": business}


def _joined(store: Ints, start_us: Ints, end_us: Ints) -> tuple[Ints, Ints, Ints]:
    """Return intervals in order as fewer: those of one store that touch become one."""
    if not len(store):
        return store, start_us, end_us
    apart: Bools = (store[1:] != store[:-1]) | (start_us[1:] != end_us[:-1])
    first = np.flatnonzero(np.append(True, apart))
    last = np.append(first[1:], len(store)) - 1
    return store[first], start_us[first], end_us[last]


class _Stores:
    """Stores with their zones and groups, whose intervals are added up by hour of the week."""

    def __init__(self, zone_of: Ints, group_of: Ints, groups: int, hours: ZoneHours) -> None:
        self._zone_of, self._group_of, self._groups, self._hours = zone_of, group_of, groups, hours
        # Whole hours are counted for each pair of a group and a zone that there is.
        zones = max(len(hours.count), 1)
        pairs, self._pair_of = np.unique(group_of * zones + zone_of, return_inverse=True)
        self._group_of_pair, self._zone_of_pair = pairs // zones, pairs % zones

    def add_up(self, store: Ints, start_us: Ints, end_us: Ints) -> Ints:
        """Return how much time of each hour of the week the intervals have, by group, weekday and hour."""
        hours, zone = self._hours, self._zone_of[store]
        start, end = np.maximum(start_us, hours.first_us[zone]), np.minimum(end_us, hours.last_us[zone])
        inside = end > start
        store, zone, start, end = store[inside], zone[inside], start[inside], end[inside]
        sums = np.zeros(self._groups * _HOURS_OF_WEEK, dtype=np.int64)
        first, last = hours.index_at(zone, start), hours.index_at(zone, end - 1)
        row = self._group_of[store] * _HOURS_OF_WEEK
        np.add.at(sums, row + hours.hour_of_week[first], np.minimum(end, hours.end_us[first]) - start)
        many = last > first
        np.add.at(sums, (row + hours.hour_of_week[last])[many], (end - hours.start_us[last])[many])
        self._add_whole_hours(sums, self._pair_of[store[many]], first[many] + 1, last[many])
        return sums.reshape(self._groups, *WEEK)

    def _add_whole_hours(self, sums: Ints, pair: Ints, first: Ints, stop: Ints) -> None:
        """Add the hours from `first` up to `stop`, as indexes on the line, of each pair of a group and a zone."""
        hours = self._hours
        width = int(hours.count.max(initial=0)) + 1
        begin = hours.begin[self._zone_of_pair]
        change = np.zeros(len(self._zone_of_pair) * width, dtype=np.int64)
        np.add.at(change, pair * width + (first - begin[pair]), 1)
        np.add.at(change, pair * width + (stop - begin[pair]), -1)
        count = np.cumsum(change.reshape(-1, width), axis=1)
        of_pair, offset = np.nonzero(count)
        index = begin[of_pair] + offset
        length = hours.end_us[index] - hours.start_us[index]
        row = self._group_of_pair[of_pair] * _HOURS_OF_WEEK + hours.hour_of_week[index]
        np.add.at(sums, row, count[of_pair, offset] * length)
