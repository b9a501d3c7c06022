"""Weekly hours and zones become openings: contiguous stretches of business time in UTC (SPEC 3.1)."""

from dataclasses import dataclass

import numpy as np

from storemon_flask.core.zones import LocalClock
from storemon_flask.model import DAY_US, SECOND_US, Fleet, Hours, Ints

DAY_S = 86_400
_LAST_MINUTE_S = DAY_S - 60
# 1970-01-01 was a Thursday: Monday is 0.
_EPOCH_WEEKDAY = 3
# A row of a local date can matter to an instant up to two days later (24 h long, ended by the next date, UTC-12), or a
# day earlier (UTC+14); one more on each side pays for the dates that a zone skips or repeats.
_DAYS_BEFORE, _DAYS_AFTER = 4, 3


@dataclass(frozen=True, slots=True)
class Openings:
    """Openings `[start_us, end_us)` sorted by store, then start; those of one store neither overlap nor touch."""

    store: Ints
    start_us: Ints
    end_us: Ints

    def __len__(self) -> int:
        return len(self.store)


def row_spans(hours: Hours) -> tuple[Ints, Ints]:
    """Start and end of each row as it is meant, in seconds after the local midnight of its day (end > start).

    Equal times are 24 hours; an end in the day's last minute is 24:00; an end before its start is on the next day.
    """
    start, end = hours.start_s, hours.end_s
    meant = np.where((end >= _LAST_MINUTE_S) & (end != start), DAY_S, end)
    return start, np.where(meant <= start, meant + DAY_S, meant)


def build(fleet: Fleet, first_us: int, last_us: int) -> Openings:
    """The openings of every store that touch `[first_us, last_us]`.

    One that reaches beyond the range is whole for two days outside it and may be cut there; so ask for a range that is
    wider than every instant whose opening's edges matter. A store without any hours is open all the time.
    """
    days = np.arange(first_us // DAY_US - _DAYS_BEFORE, last_us // DAY_US + _DAYS_AFTER + 1, dtype=np.int64)
    has_hours = np.zeros(fleet.size, dtype=bool)
    has_hours[fleet.hours.store] = True
    always = np.flatnonzero(~has_hours).astype(np.int64)

    store, start, end = _dated(fleet, days)
    store = np.concatenate([always, store])
    start = np.concatenate([np.full(len(always), days[0] * DAY_US), start])
    end = np.concatenate([np.full(len(always), days[-1] * DAY_US), end])
    keep = (end > start) & (end >= first_us - 2 * DAY_US) & (start <= last_us + 2 * DAY_US)
    merged = _merge(store[keep], start[keep], end[keep])
    touching = (merged.end_us >= first_us) & (merged.start_us <= last_us)
    return Openings(merged.store[touching], merged.start_us[touching], merged.end_us[touching])


def _dated(fleet: Fleet, days: Ints) -> tuple[Ints, Ints, Ints]:
    """Every hours row on every local date of its weekday, as (store, UTC start, UTC end); unsorted, may be empty."""
    start_s, end_s = row_spans(fleet.hours)
    rows_of = [np.flatnonzero(fleet.hours.day == weekday) for weekday in range(7)]
    per_day = [rows_of[(int(day) + _EPOCH_WEEKDAY) % 7] for day in days]
    row = np.concatenate(per_day)
    midnight = np.repeat(days * DAY_US, [len(rows) for rows in per_day])
    store = fleet.hours.store[row]
    zone = fleet.zone_of[store]
    clock = LocalClock(fleet.zone_names, int(days[0]) * DAY_US, int(days[-1] + 2) * DAY_US)
    start = clock.to_utc(midnight + start_s[row] * SECOND_US, zone)
    end = clock.to_utc(midnight + end_s[row] * SECOND_US, zone)
    return store, start, end


def _merge(store: Ints, start: Ints, end: Ints) -> Openings:
    """Intervals of the same store that overlap or touch become one; any order in, sorted out."""
    if not len(store):
        return Openings(store, start, end)
    base = int(start.min())
    block = int(end.max()) - base + 1
    key = store * block + (start - base)
    order = np.argsort(key, kind="stable")
    key = key[order]
    reach = np.maximum.accumulate(key + (end - start)[order])
    first = np.flatnonzero(np.concatenate([[True], key[1:] > reach[:-1]]))
    last = np.concatenate([first[1:], [len(key)]]) - 1
    merged_store = store[order][first]
    return Openings(merged_store, start[order][first], reach[last] - merged_store * block + base)
