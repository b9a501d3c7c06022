"""Weekly hours and zones become openings: contiguous business time in UTC (SPEC 3.1)."""

from dataclasses import dataclass

import numpy as np

from storemon_flask.model import CLOSED, DAY_US, FOREVER, SECOND_US, UNDATED, Fleet, Hours, Ints
from storemon_flask.uptime.zones import EPOCH_WEEKDAY, LocalClock, block_size

DAY_S = 86_400
_LAST_MINUTE_S = DAY_S - 60
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

    def cut(self, first_us: int, last_us: int) -> "Openings":
        """Return those that touch `[first_us, last_us)`, cut to it."""
        start, end = np.maximum(self.start_us, first_us), np.minimum(self.end_us, last_us)
        inside = end > start
        return Openings(self.store[inside], start[inside], end[inside])


def row_spans(start_s: Ints, end_s: Ints) -> tuple[Ints, Ints]:
    """Return start and end of each row as it is meant, in seconds after the local midnight of its day (end > start).

    Equal times are 24 hours; an end in the day's last minute is 24:00; an end before its start is on the next day.
    """
    meant = np.where((end_s >= _LAST_MINUTE_S) & (end_s != start_s), DAY_S, end_s)
    return start_s, np.where(meant <= start_s, meant + DAY_S, meant)


def build(fleet: Fleet, first_us: int, last_us: int) -> Openings:
    """Return the openings of every store that touch `[first_us, last_us]`.

    One that reaches beyond the range is whole for two days outside it and may be cut there; so give a range that is
    wider than every instant whose opening's edges matter. A store without any hours is open all the time, and so is one
    before the date from which its first hours hold.
    """
    days = np.arange(first_us // DAY_US - _DAYS_BEFORE, last_us // DAY_US + _DAYS_AFTER + 1, dtype=np.int64)
    always, hours = _always(fleet, days)
    store, day, start_s, end_s = (
        np.concatenate(columns) for columns in zip(_weekly(fleet, hours, days), _special(fleet, days), strict=True)
    )
    start, end = _instants(fleet, store, day, start_s, end_s, days)
    store = np.concatenate([always, store])
    start = np.concatenate([np.full(len(always), days[0] * DAY_US), start])
    end = np.concatenate([np.full(len(always), days[-1] * DAY_US), end])
    keep = (end > start) & (end >= first_us - 2 * DAY_US) & (start <= last_us + 2 * DAY_US)
    merged = _merge(store[keep], start[keep], end[keep])
    touching = (merged.end_us >= first_us) & (merged.start_us <= last_us)
    return Openings(merged.store[touching], merged.start_us[touching], merged.end_us[touching])


def _always(fleet: Fleet, days: Ints) -> tuple[Ints, Hours]:
    """Return the stores that are open on all of the days, and the hours with rows from midnight to midnight for those
    that are open all the time on some of them only."""
    hours = fleet.hours
    begins = np.full(fleet.size, FOREVER)
    np.minimum.at(begins, hours.store, hours.from_day)
    whole = begins > days[-1]
    whole[fleet.special.store] = False
    some = np.flatnonzero((begins > days[0]) & ~whole)
    if len(some):
        store = np.repeat(some, 7)
        zero = np.zeros(len(store), dtype=np.int64)
        daily = (store, np.tile(np.arange(7), len(some)), zero, zero + DAY_S, zero + UNDATED, begins[store])
        columns = (getattr(hours, name) for name in Hours.__slots__)
        hours = Hours(*(np.concatenate(both) for both in zip(columns, daily, strict=True)))
    return np.flatnonzero(whole).astype(np.int64), hours


# Rows on local dates: store, date, start and end in seconds after that date's midnight, as written.
_Dated = tuple[Ints, Ints, Ints, Ints]


def _weekly(fleet: Fleet, hours: Hours, days: Ints) -> _Dated:
    """Return every hours row on every local date of its weekday on which it holds and its store has no special
    hours."""
    rows_of = [np.flatnonzero(hours.day == weekday) for weekday in range(7)]
    per_day = [rows_of[(int(day) + EPOCH_WEEKDAY) % 7] for day in days]
    row = np.concatenate(per_day)
    day = np.repeat(days, [len(rows) for rows in per_day])
    if (hours.from_day > days[0]).any() or (hours.until_day <= days[-1]).any():
        holds = (hours.from_day[row] <= day) & (day < hours.until_day[row])
        row, day = row[holds], day[holds]
    if len(fleet.special):
        ordinary = ~np.isin(_dates(hours.store[row], day), _dates(fleet.special.store, fleet.special.date))
        row, day = row[ordinary], day[ordinary]
    return hours.store[row], day, hours.start_s[row], hours.end_s[row]


def _special(fleet: Fleet, days: Ints) -> _Dated:
    """Return the special rows of those days, without the closed ones."""
    special = fleet.special
    chosen = (special.date >= days[0]) & (special.date <= days[-1]) & (special.start_s != CLOSED)
    return special.store[chosen], special.date[chosen], special.start_s[chosen], special.end_s[chosen]


def _dates(store: Ints, day: Ints) -> Ints:
    """Return store and date as one integer; it fits for 2.3e12 stores."""
    key: Ints = store * (4 * FOREVER) + day
    return key


def _instants(fleet: Fleet, store: Ints, day: Ints, start_s: Ints, end_s: Ints, days: Ints) -> tuple[Ints, Ints]:
    """Return UTC start and end of rows on local dates, each by its store's zone."""
    begin_s, stop_s = row_spans(start_s, end_s)
    # Only the zones of these stores: a large fleet whose stores moved has as many histories as stores.
    used, zone_of = np.unique(fleet.zone_of, return_inverse=True)
    zone_names = tuple(fleet.zone_names[index] for index in used.tolist())
    clock = LocalClock(zone_names, int(days[0]) * DAY_US, int(days[-1] + 2) * DAY_US)
    zone = zone_of[store]
    start = clock.to_utc(day * DAY_US + begin_s * SECOND_US, zone)
    return start, clock.to_utc(day * DAY_US + stop_s * SECOND_US, zone)


def _merge(store: Ints, start: Ints, end: Ints) -> Openings:
    """Return intervals in any order as openings: those of one store that overlap or touch become one."""
    if not len(store):
        return Openings(store, start, end)
    base = int(start.min())
    block = block_size(int(store.max()) + 1, base, int(end.max()))
    key = store * block + (start - base)
    order = np.argsort(key, kind="stable")
    key = key[order]
    reach = np.maximum.accumulate(key + (end - start)[order])
    first = np.flatnonzero(np.concatenate([[True], key[1:] > reach[:-1]]))
    last = np.concatenate([first[1:], [len(key)]]) - 1
    merged_store = store[order][first]
    return Openings(merged_store, start[order][first], reach[last] - merged_store * block + base)
