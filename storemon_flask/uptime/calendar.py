"""Calendar periods in a store's own zone: hours, dayparts, days, weeks from Monday and months, as ranges of UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, Ints
from storemon_flask.rules import Daypart
from storemon_flask.uptime.zones import EPOCH_WEEKDAY, LocalClock, changes_of_year, offset_at, year_of

UNITS: Final = ("hour", "daypart", "day", "week", "month")
# A period that begins before the range may begin this much earlier.
_LONGEST_US: Final = 32 * DAY_US


@dataclass(frozen=True, slots=True)
class Spans:
    """Periods `[start_us, end_us)` one after the other, cut to a range.

    `local_us` is the wall clock (as if it were UTC) at which each whole period begins, of a daypart the one that its
    times name, also where the clock skips that; `offset_s` is the zone's offset where it begins.
    """

    start_us: Ints
    end_us: Ints
    local_us: Ints
    offset_s: Ints

    def __len__(self) -> int:
        return len(self.start_us)


def spans(zone: str, unit: str, first_us: int, last_us: int, dayparts: Sequence[Daypart] = ()) -> Spans:
    """Return the calendar periods of a zone that touch `[first_us, last_us)`; of the unit `daypart` those `dayparts`.

    A day is from one local midnight to the next: 23 or 25 hours where a clock changes, and none at all where a zone
    skipped it. A daypart is from its start on the wall clock to that of the next. An hour begins when the wall clock
    shows a full hour, and when it is changed.
    """
    if last_us <= first_us:
        return Spans(*(np.empty(0, dtype=np.int64) for _ in Spans.__slots__))
    begin_us, offset_s = _offsets(zone, first_us - _LONGEST_US, last_us + _LONGEST_US)
    named: Ints | None = None
    if unit == "hour":
        start = _hours(begin_us, offset_s, first_us - 2 * HOUR_US, last_us + 2 * HOUR_US)
    elif unit == "daypart":
        start, named = _starts_of_dayparts(zone, dayparts, first_us, last_us)
    else:
        start = _dates(zone, unit, first_us, last_us)
    end = np.append(start[1:], start[-1])
    inside = np.minimum(end, last_us) > np.maximum(start, first_us)
    start, end = start[inside], end[inside]
    # By the instant, not by the local date: a day whose midnight is skipped begins at 01:00, by the new offset.
    offset = offset_s[np.searchsorted(begin_us, start, side="right") - 1]
    local = start + offset * SECOND_US if named is None else named[inside]
    return Spans(np.maximum(start, first_us), np.minimum(end, last_us), local, offset)


def day_starts(zones: tuple[str, ...], first_day: int, last_day: int) -> Ints:
    """Return the instants at which the local dates `first_day` to `last_day` begin: a row for each zone.

    A date ends where the next one begins; one that a zone skipped is empty.
    """
    days = np.arange(first_day, last_day + 1, dtype=np.int64)
    clock = LocalClock(zones, first_day * DAY_US, last_day * DAY_US)
    starts = clock.to_utc(np.tile(days * DAY_US, len(zones)), np.repeat(np.arange(len(zones)), len(days)))
    return starts.reshape(len(zones), len(days))


def local_day(zone: str, instant_us: int) -> int:
    """Return the local day (days since 1970) that an instant is in: the one that `spans` has there."""
    return int(spans(zone, "day", instant_us, instant_us + 1).local_us[0]) // DAY_US


def _offsets(zone: str, low_us: int, high_us: int) -> tuple[Ints, Ints]:
    """Return where each offset of the zone begins around `[low_us, high_us)`, the first at `low_us`; and the
    offsets."""
    years = range(year_of(low_us), year_of(high_us) + 1)
    begin, offset = [low_us], [offset_at(zone, years[0])]
    for year in years:
        for second, _, after in changes_of_year(zone, year):
            if second * SECOND_US <= low_us:
                offset[0] = after
            else:
                begin.append(second * SECOND_US)
                offset.append(after)
    return np.array(begin, dtype=np.int64), np.array(offset, dtype=np.int64)


def _dates(zone: str, unit: str, first_us: int, last_us: int) -> Ints:
    """Return the starts of days, weeks or months, from before the range to after it."""
    days = np.arange((first_us - _LONGEST_US) // DAY_US - 1, (last_us + _LONGEST_US) // DAY_US + 2, dtype=np.int64)
    if unit == "week":
        days = days[(days + EPOCH_WEEKDAY) % 7 == 0]
    elif unit == "month":
        months = days.astype("datetime64[D]").astype("datetime64[M]")
        days = np.unique(months).astype("datetime64[D]").astype(np.int64)[1:]
    clock = LocalClock((zone,), int(days[0]) * DAY_US, int(days[-1]) * DAY_US)
    return clock.to_utc(days * DAY_US, np.zeros(len(days), dtype=np.int64))


def _starts_of_dayparts(zone: str, dayparts: Sequence[Daypart], first_us: int, last_us: int) -> tuple[Ints, Ints]:
    """Return the starts of dayparts, from before the range to after it, and the wall clock that their times name."""
    margin_us = 4 * DAY_US
    days = np.arange((first_us - margin_us) // DAY_US, (last_us + margin_us) // DAY_US + 1, dtype=np.int64)
    starts_s = np.array([daypart.start_s for daypart in dayparts], dtype=np.int64)
    named: Ints = (days[:, np.newaxis] * DAY_US + starts_s * SECOND_US).ravel()
    clock = LocalClock((zone,), int(named[0]), int(named[-1]))
    start = clock.to_utc(named, np.zeros(len(named), dtype=np.int64))
    # A start that the clock skips is read with the offset before the gap, and may lie after the next part's: then there
    # is none of this part on that date.
    return np.minimum.accumulate(start[::-1])[::-1], named


def _hours(begin_us: Ints, offset_s: Ints, low_us: int, high_us: int) -> Ints:
    """Return the starts of hours in `[low_us, high_us)`: full hours of the wall clock, and the changes of it."""
    starts = [begin_us[(begin_us >= low_us) & (begin_us < high_us)]]
    until_us = np.append(begin_us[1:], high_us)
    for begin, until, offset in zip(begin_us.tolist(), until_us.tolist(), offset_s.tolist(), strict=True):
        since, until, shift = max(begin, low_us), min(until, high_us), offset * SECOND_US
        full = np.arange(-(-(since + shift) // HOUR_US), -(-(until + shift) // HOUR_US), dtype=np.int64)
        starts.append(full * HOUR_US - shift)
    # A change at a full hour is in it twice. `np.unique` takes many times as long.
    ordered: Ints = np.sort(np.concatenate(starts), kind="stable")
    once: Ints = ordered[np.append(True, ordered[1:] > ordered[:-1])]
    return once
