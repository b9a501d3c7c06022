"""Windows of a report: rolling ones, calendar ones in each store's zone, and from one instant or date to another; and
the period before each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Final

import numpy as np

from storemon_flask.clock import EPOCH
from storemon_flask.model import DAY_US, HOUR_US, WEEK_US
from storemon_flask.uptime import calendar
from storemon_flask.uptime.zones import LocalClock, wall_clock

# The last so many microseconds before the as-of.
ROLLING_WINDOWS: Final = {"last_hour": HOUR_US, "last_day": DAY_US, "last_week": WEEK_US}
# So many whole local dates before the local date of the as-of.
_LAST_DAYS: Final = {"yesterday": 1, "last_7_days": 7, "last_30_days": 30, "last_90_days": 90}
# Local dates of each store, by the local date of the as-of.
CALENDAR_WINDOWS: Final = (
    "today", "yesterday", "this_week", "last_week_calendar", "this_month", "last_month",
    "last_7_days", "last_30_days", "last_90_days",
)  # fmt: skip
WINDOW_NAMES: Final = (*ROLLING_WINDOWS, *CALENDAR_WINDOWS)
_MONTHS: Final = ("this_month", "last_month")
_EPOCH_DATE: Final = EPOCH.date()


@dataclass(frozen=True, slots=True)
class Window:
    """A window by its name: the last `length_us` before the as-of; the local dates that its name stands for
    (`calendar`); or from one instant to another, or from one local date to another in each store's own zone (`local`:
    both are midnights of the wall clock, as if it were UTC). With `previous` it is the period before that."""

    name: str
    length_us: int = 0
    from_us: int = 0
    to_us: int = 0
    local: bool = False
    calendar: bool = False
    previous: bool = False

    @property
    def follows_as_of(self) -> bool:
        """Whether it lies elsewhere at another as-of."""
        return self.length_us > 0 or self.calendar

    @property
    def differs_by_zone(self) -> bool:
        """Whether it lies elsewhere in another zone."""
        return self.local or self.calendar


def named_window(name: str) -> Window:
    """Return the window of `WINDOW_NAMES` with that name."""
    length_us = ROLLING_WINDOWS.get(name, 0)
    return Window(name, length_us, calendar=not length_us)


def window_dates(name: str, today: date) -> tuple[date, date]:
    """Return the first local date of a calendar window, and the one after its last, on the date `today`.

    `today` and the week and month that go on end with their last date, also where that is yet to come.
    """
    monday, first = today - timedelta(days=today.weekday()), today.replace(day=1)
    match name:
        case "today":
            return today, today + timedelta(days=1)
        case "this_week":
            return monday, monday + timedelta(days=7)
        case "last_week_calendar":
            return monday - timedelta(days=7), monday
        case "this_month":
            return first, (first + timedelta(days=31)).replace(day=1)
        case "last_month":
            return (first - timedelta(days=1)).replace(day=1), first
    return today - timedelta(days=_LAST_DAYS[name]), today


def range_in_zone(window: Window, zone: str, as_of_us: int) -> tuple[int, int]:
    """Return from when to when the window goes in UTC; what lies after the as-of is cut off.

    The period before a window of dates is as many dates before it, of a month the month before. Of a window that goes
    on at the as-of it ends at the same time of the wall clock.
    """
    if window.length_us:
        end_us = as_of_us - window.length_us if window.previous else as_of_us
        return end_us - window.length_us, end_us
    if not window.differs_by_zone:
        if window.previous:
            return 2 * window.from_us - window.to_us, window.from_us
        return window.from_us, min(window.to_us, as_of_us)
    first_us, end_us = _midnights(window, zone, as_of_us)
    if window.previous:
        return _range_before(window, zone, first_us, end_us, as_of_us)
    first_us, end_us = _to_utc(zone, (first_us, end_us))
    return first_us, min(end_us, as_of_us)


def _range_before(window: Window, zone: str, first_us: int, end_us: int, as_of_us: int) -> tuple[int, int]:
    """Return from when to when the period before a window of dates goes, which has those local midnights."""
    before_us = _first_before(window.name, first_us, end_us)
    now_us = (wall_clock(as_of_us, zone).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    # How far the window is, on the wall clock.
    elapsed_us = min(max(now_us, first_us), end_us) - first_us
    begin, begin_of_window, end_of_window, same_time = _to_utc(
        zone, (before_us, first_us, end_us, before_us + elapsed_us)
    )
    end = begin_of_window if end_of_window <= as_of_us else min(same_time, begin_of_window)
    return begin, max(begin, min(end, as_of_us))


def _first_before(name: str, first_us: int, end_us: int) -> int:
    """Return the local midnight at which the period before a window of dates begins.

    Dates that have the name of a month, as those of schedules, are compared with the month before if they are one.
    """
    first, end = (_EPOCH_DATE + timedelta(microseconds=edge_us) for edge_us in (first_us, end_us))
    if name in _MONTHS and (first, end) == window_dates("this_month", first):
        return (window_dates("last_month", first)[0] - _EPOCH_DATE).days * DAY_US
    return 2 * first_us - end_us


def _midnights(window: Window, zone: str, as_of_us: int) -> tuple[int, int]:
    """Return the local midnights, as if they were UTC, from which to which a window of dates goes."""
    if not window.calendar:
        return window.from_us, window.to_us
    today = _EPOCH_DATE + timedelta(days=calendar.local_day(zone, as_of_us))
    first, end = window_dates(window.name, today)
    return (first - _EPOCH_DATE).days * DAY_US, (end - _EPOCH_DATE).days * DAY_US


def _to_utc(zone: str, local_us: Sequence[int]) -> list[int]:
    """Return the instants of wall-clock times of a zone."""
    clock = LocalClock((zone,), min(local_us), max(local_us))
    instants: list[int] = clock.to_utc(
        np.array(local_us, dtype=np.int64), np.zeros(len(local_us), dtype=np.int64)
    ).tolist()
    return instants
