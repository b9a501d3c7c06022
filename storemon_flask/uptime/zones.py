"""Local wall-clock time to UTC for whole arrays and many zones at once (SPEC 3.1, RFC 5545 section 3.3.5).

A zone is an IANA name, or a history: names with the local dates between them from which the next one holds, as in
`America/Chicago 2024-05-01 America/Denver`. To the clock on the wall that is one more change of offset.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

import numpy as np

from storemon_flask import zonedata
from storemon_flask.model import DAY_US, FOREVER, SECOND_US, TOO_LARGE, UNDATED, Ints

_DAY_S = 86_400
# Local times lie within this of the UTC range asked for, and within it of each other's zone block in the merged table.
_MARGIN_US = 4 * DAY_US
_EPOCH = date(1970, 1, 1)
# 1970-01-01 was a Thursday; Monday is 0.
EPOCH_WEEKDAY = 3


def block_size(rows: int, low_us: int, high_us: int) -> int:
    """Return the distance at which that many stores (or zones) lie on one line, each with instants from `low_us` to
    `high_us`.

    `OverflowError` when they do not fit into 64 bits. A batch of a report has at most 4,096 stores and about 250,000
    store-days (60,000, and the reach on both sides): 2.2e16 of the 9.2e18 there are. One store alone fits with any
    range of dates.
    """
    block = high_us - low_us + 1
    if rows * block >= TOO_LARGE:
        raise OverflowError(
            f"{rows:,} stores or zones over {block // DAY_US:,} days do not fit into 64 bits; take fewer at once"
        )
    return block


def year_of(instant_us: int) -> int:
    """Return the UTC year of an instant."""
    return datetime.fromtimestamp(instant_us // SECOND_US, UTC).year


def history(first: str, then: Iterable[tuple[int, str]]) -> str:
    """Return the zone `first`, replaced by others from local dates (days since 1970-01-01, ascending) on; a plain name
    if by none."""
    words = [first]
    for day, name in then:
        if day == UNDATED:
            words = [name]
        elif name != words[-1]:
            words += [(_EPOCH + timedelta(days=day)).isoformat(), name]
    return " ".join(words)


def name_at(zone: str, instant_us: int) -> str:
    """Return the IANA name that a zone or history has at an instant."""
    return versions(zone)[sum(turn <= instant_us for turn in turns(zone))][1]


def wall_clock(instant_us: int, zone: str) -> datetime:
    """Return the local time in a zone or history."""
    name = name_at(zone, instant_us)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)).astimezone(zonedata.zone(name))


def local_text(instant_us: int, zone: str) -> str:
    """Return `Mon 2024-10-14 18:55 CDT`."""
    return f"{wall_clock(instant_us, zone):%a %Y-%m-%d %H:%M %Z}"


@lru_cache(maxsize=8192)
def turns(zone: str) -> tuple[int, ...]:
    """Return the instants, in microseconds, at which a history goes from one name to the next; none for a plain name.

    That is where the earlier of both clocks shows the midnight that the date begins with. By `LocalClock`'s rule the
    date's own midnight is then the first wall-clock time of the new zone, whichever of the two clocks is ahead.
    """
    named = versions(zone)
    turns_us = []
    for (_, before), (day, after) in pairwise(named):
        midnight_us = day * DAY_US
        clock = LocalClock((before, after), midnight_us, midnight_us)
        both = clock.to_utc(np.full(2, midnight_us), np.arange(2))
        turns_us.append(int(both.min()))
    return tuple(turns_us)


@lru_cache(maxsize=8192)
def changes_of_year(name: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """Return the zone's changes of UTC offset in one UTC year: (instant, offset before, offset after), all in
    seconds."""
    named = versions(name)
    if len(named) == 1:
        return _own_changes(name, year)
    edges = [turn_us // SECOND_US for turn_us in turns(name)]
    changes = []
    for (_, own), since, until in zip(named, [-(1 << 62), *edges], [*edges, 1 << 62], strict=True):
        changes += [change for change in _own_changes(own, year) if since < change[0] < until]
    for edge, (_, before), (_, after) in zip(edges, named[:-1], named[1:], strict=True):
        left, right = _offset(before, edge - 1), _offset(after, edge)
        if datetime.fromtimestamp(edge, UTC).year == year and left != right:
            changes.append((edge, left, right))
    return tuple(sorted(changes))


@lru_cache(maxsize=8192)
def offset_at(name: str, year: int) -> int:
    """Return the zone's offset from UTC, in seconds, at the beginning of a UTC year."""
    second = _new_year(year)
    return _offset(name_at(name, second * SECOND_US), second)


@lru_cache(maxsize=8192)
def versions(zone: str) -> tuple[tuple[int, str], ...]:
    """Return the names of a zone or history, each with the local date from which it holds; the first holds ever
    before."""
    first, *rest = zone.split(" ")
    later = ((date.fromisoformat(day) - _EPOCH).days for day in rest[::2])
    return ((UNDATED, first), *zip(later, rest[1::2], strict=True))


@lru_cache(maxsize=8192)
def _own_changes(name: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """Return the changes of one IANA zone.

    `zoneinfo` keeps its table to itself, so the offset is looked up once a day and each difference is narrowed down by
    bisection. No zone changes twice within a day (the closest pair since 1970 is a week apart; a test asks all of
    them).
    """
    changes = []
    before = _offset(name, _new_year(year))
    for day in range(_new_year(year), _new_year(year + 1), _DAY_S):
        after = _offset(name, day + _DAY_S)
        if after != before:
            low, high = day, day + _DAY_S
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(name, middle) == before else (low, middle)
            changes.append((high, before, after))
            before = after
    return tuple(changes)


def _offset(name: str, second: int) -> int:
    shift = datetime.fromtimestamp(second, zonedata.zone(name)).utcoffset()
    assert shift is not None
    return shift.days * _DAY_S + shift.seconds


def _new_year(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


class LocalClock:
    """Turns local instants (microseconds of wall clock, as if it were UTC) of several zones into UTC instants.

    A local time that occurs twice means its first occurrence; one that is skipped is read with the offset before the
    gap. Both mean the same for a change from offset a to b at UTC instant T: the new offset holds from local T + max(a,
    b) on.
    """

    def __init__(self, zone_names: tuple[str, ...], first_us: int, last_us: int) -> None:
        """A table for local times from `first_us` to `last_us`, each at most four days outside that range."""
        self._base = first_us - _MARGIN_US
        self._block = block_size(len(zone_names), self._base, last_us + _MARGIN_US)
        years = range(year_of(first_us - _MARGIN_US), year_of(last_us + _MARGIN_US) + 1)
        keys: list[int] = []
        offsets: list[int] = []
        for index, name in enumerate(zone_names):
            block = index * self._block
            keys.append(block)
            offsets.append(0)
            for local_us, offset_s in _local_offsets(name, years):
                local = local_us - self._base
                if local <= 0:
                    offsets[-1] = offset_s * SECOND_US
                elif local < self._block:
                    keys.append(block + local)
                    offsets.append(offset_s * SECOND_US)
        self._keys = np.array(keys, dtype=np.int64)
        self._offsets = np.array(offsets, dtype=np.int64)

    def to_utc(self, local_us: Ints, zone: Ints) -> Ints:
        """Return UTC instants of the local instants, each in the zone of its index."""
        row = np.searchsorted(self._keys, zone * self._block + (local_us - self._base), side="right") - 1
        utc: Ints = local_us - self._offsets[row]
        return utc


def _local_offsets(zone: str, years: range) -> list[tuple[int, int]]:
    """Return from which wall-clock time on (microseconds) which offset (seconds) holds, ascending; the first holds ever
    before.
    """
    named = versions(zone)
    changes: list[tuple[int, int]] = []
    for (first, name), (until, _) in zip(named, [*named[1:], (FOREVER, "")], strict=True):
        own = [(UNDATED * DAY_US, offset_at(name, years[0]))]
        for year in years:
            own += [((at + max(before, after)) * SECOND_US, after) for at, before, after in _own_changes(name, year)]
        last = max(index for index, (local_us, _) in enumerate(own) if local_us <= first * DAY_US)
        changes.append((first * DAY_US, own[last][1]))
        changes += [(local_us, offset_s) for local_us, offset_s in own[last + 1 :] if local_us < until * DAY_US]
    return changes
