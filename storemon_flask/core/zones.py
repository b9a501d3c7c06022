"""Local wall-clock time to UTC for whole arrays and many zones at once (SPEC 3.1, RFC 5545 section 3.3.5)."""

from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from storemon_flask import zonedata
from storemon_flask.model import DAY_US, SECOND_US, Ints

_DAY_S = 86_400
# Local times lie within this of the UTC range asked for, and within it of each other's zone block in the merged table.
_MARGIN_US = 4 * DAY_US


@lru_cache(maxsize=8192)
def changes_of_year(name: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """The zone's changes of UTC offset in one UTC year: (instant, offset before, offset after), all in seconds.

    `zoneinfo` keeps its table to itself, so the offset is asked for once a day and each difference is narrowed down by
    bisection. No zone changes twice within a day (the closest pair since 1970 is a week apart; a test asks all of them).
    """
    zone = zonedata.zone(name)

    def offset(second: int) -> int:
        shift = datetime.fromtimestamp(second, zone).utcoffset()
        assert shift is not None
        return shift.days * _DAY_S + shift.seconds

    start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    stop = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    found = []
    before = offset(start)
    for day in range(start, stop, _DAY_S):
        after = offset(day + _DAY_S)
        if after != before:
            low, high = day, day + _DAY_S
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            found.append((high, before, after))
            before = after
    return tuple(found)


@lru_cache(maxsize=8192)
def offset_at(name: str, year: int) -> int:
    """The zone's offset from UTC, in seconds, at the beginning of a UTC year."""
    shift = datetime(year, 1, 1, tzinfo=UTC).astimezone(zonedata.zone(name)).utcoffset()
    assert shift is not None
    return shift.days * _DAY_S + shift.seconds


class LocalClock:
    """Turns local instants (microseconds of wall clock, as if it were UTC) of several zones into UTC instants.

    A local time that occurs twice means its first occurrence; one that is skipped is read with the offset before the gap.
    Both say the same of a change from offset a to b at UTC instant T: the new offset holds from local T + max(a, b) on.
    """

    def __init__(self, zone_names: tuple[str, ...], first_us: int, last_us: int) -> None:
        """A table for local times from `first_us` to `last_us`, each at most four days outside that range."""
        self._base = first_us - _MARGIN_US
        self._block = last_us - first_us + 2 * _MARGIN_US + 1
        years = range(_year(first_us - _MARGIN_US), _year(last_us + _MARGIN_US) + 1)
        keys: list[int] = []
        offsets: list[int] = []
        for index, name in enumerate(zone_names):
            block = index * self._block
            keys.append(block)
            offsets.append(offset_at(name, years[0]) * SECOND_US)
            for year in years:
                for second, before, after in changes_of_year(name, year):
                    local = (second + max(before, after)) * SECOND_US - self._base
                    if local <= 0:
                        offsets[-1] = after * SECOND_US
                    elif local < self._block:
                        keys.append(block + local)
                        offsets.append(after * SECOND_US)
        self._keys = np.array(keys, dtype=np.int64)
        self._offsets = np.array(offsets, dtype=np.int64)

    def to_utc(self, local_us: Ints, zone: Ints) -> Ints:
        """UTC instants of the local instants, each in the zone of its index; the same shape as given."""
        row = np.searchsorted(self._keys, zone * self._block + (local_us - self._base), side="right") - 1
        utc: Ints = local_us - self._offsets[row]
        return utc


def _year(instant_us: int) -> int:
    return datetime.fromtimestamp(instant_us // SECOND_US, UTC).year
