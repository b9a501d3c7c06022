"""Calendar periods in a store's own zone: hours, days, weeks from Monday and months, as stretches of UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from storemon_flask.core.zones import LocalClock, changes_of_year, offset_at
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, Ints

UNITS: Final = ("hour", "day", "week", "month")
# 1970-01-01 was a Thursday; Monday is 0.
_EPOCH_WEEKDAY: Final = 3
# A period that begins before the range may begin this much earlier.
_LONGEST_US: Final = 32 * DAY_US


@dataclass(frozen=True, slots=True)
class Spans:
    """Periods `[start_us, end_us)` one after the other, cut to the range asked for.

    `local_us` is the wall clock (as if it were UTC) at which each whole period begins, `offset_s` the zone's there.
    """

    start_us: Ints
    end_us: Ints
    local_us: Ints
    offset_s: Ints

    def __len__(self) -> int:
        return len(self.start_us)


def spans(zone: str, unit: str, first_us: int, last_us: int) -> Spans:
    """The calendar periods of a zone that touch `[first_us, last_us)`.

    A day is from one local midnight to the next: 23 or 25 hours where a clock changes, and none at all where a zone skipped
    it. An hour begins when the wall clock shows a full hour, and when it is changed.
    """
    start, offset = _hours(zone, first_us, last_us) if unit == "hour" else _dates(zone, unit, first_us, last_us)
    end = np.append(start[1:], start[-1])
    kept = (np.minimum(end, last_us) > np.maximum(start, first_us)) & (end > start)
    start, end, offset = start[kept], end[kept], offset[kept]
    return Spans(np.maximum(start, first_us), np.minimum(end, last_us), start + offset * SECOND_US, offset)


def _dates(zone: str, unit: str, first_us: int, last_us: int) -> tuple[Ints, Ints]:
    """Starts of days, weeks or months around the range, and the offset at each."""
    days = np.arange((first_us - _LONGEST_US) // DAY_US - 1, (last_us + _LONGEST_US) // DAY_US + 2, dtype=np.int64)
    if unit == "week":
        days = days[(days + _EPOCH_WEEKDAY) % 7 == 0]
    elif unit == "month":
        months = days.astype("datetime64[D]").astype("datetime64[M]")
        days = np.unique(months).astype("datetime64[D]").astype(np.int64)[1:]
    clock = LocalClock((zone,), int(days[0]) * DAY_US, int(days[-1]) * DAY_US)
    start = clock.to_utc(days * DAY_US, np.zeros(len(days), dtype=np.int64))
    return start, (days * DAY_US - start) // SECOND_US


def _hours(zone: str, first_us: int, last_us: int) -> tuple[Ints, Ints]:
    """Starts of hours around the range, and the offset at each: full hours of the wall clock, and changes of it."""
    low, high = first_us - 2 * HOUR_US, last_us + 2 * HOUR_US
    years = range(_year(low), _year(high) + 1)
    starts: list[Ints] = []
    offsets: list[Ints] = []
    since, offset = low, offset_at(zone, years[0])
    for second, _, after in [
        *(change for year in years for change in changes_of_year(zone, year)),
        (high // SECOND_US + 1, 0, 0),
    ]:
        until = min(second * SECOND_US, high)
        if until > since:
            shift = offset * SECOND_US
            full = (
                np.arange(-(-(since + shift) // HOUR_US), (until + shift) // HOUR_US + 1, dtype=np.int64) * HOUR_US
                - shift
            )
            found = np.unique(np.append(full[(full >= since) & (full < until)], since))
            starts.append(found)
            offsets.append(np.full(len(found), offset))
        since, offset = max(since, until), after
    return np.concatenate(starts), np.concatenate(offsets)


def _year(instant_us: int) -> int:
    return datetime.fromtimestamp(instant_us // SECOND_US, UTC).year
