"""Calendar periods done slowly and literally by `zoneinfo` alone, to check the fast ones against.

`calendar` is the only entrance. Times are integers: microseconds since 1970-01-01T00:00Z.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from brute_force import HOUR, MINUTE
from brute_openings import EPOCH, to_utc

from storemon_flask.rules import DEFAULT_DAYPARTS, Daypart


def calendar(
    zone: str, unit: str, since: int, until: int, dayparts: Sequence[Daypart] = DEFAULT_DAYPARTS
) -> list[tuple[int, int, int, int]]:
    """The `hour`s, `daypart`s, `day`s, `week`s from Monday or `month`s of a zone that have a moment in [since, until).

    Each is its start and end, cut to the range, the wall clock where it begins uncut, as microseconds, and the offset
    there in seconds.
    """
    if since >= until:
        return []
    place = ZoneInfo(zone)
    if unit == "daypart":
        return parts_of_days(place, dayparts, since, until)
    begins = hour_begins(place, since, until) if unit == "hour" else date_begins(place, unit, since, until)
    periods = []
    for start, end in pairwise(begins):
        if max(start, since) < min(end, until):
            offset = offset_at(place, start)
            periods.append((max(start, since), min(end, until), start + offset * 1_000_000, offset))
    return periods


def parts_of_days(
    zone: ZoneInfo, dayparts: Sequence[Daypart], since: int, until: int
) -> list[tuple[int, int, int, int]]:
    """Each moment belongs to the last part, in the order of dates and times, that has begun by then."""
    first = (EPOCH + timedelta(microseconds=since)).date() - timedelta(days=4)
    last = (EPOCH + timedelta(microseconds=until)).date() + timedelta(days=4)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    begun = [
        (to_utc(day, part.start_s, zone.key), (day - EPOCH.date()).days * 24 * HOUR + part.start_s * 1_000_000)
        for day in days
        for part in sorted(dayparts, key=lambda part: part.start_s)
    ]
    owners: list[tuple[int, int]] = []
    for instant in sorted({start for start, _ in begun}):
        named = [wall for start, wall in begun if start <= instant][-1]
        if not owners or owners[-1][1] != named:
            owners.append((instant, named))
    return [
        (max(start, since), min(end, until), named, offset_at(zone, start))
        for (start, named), (end, _) in pairwise(owners)
        if max(start, since) < min(end, until)
    ]


def offset_at(zone: ZoneInfo, instant: int) -> int:
    """How many seconds the wall clock is ahead of UTC."""
    local = (EPOCH + timedelta(microseconds=instant)).astimezone(zone)
    return local.utcoffset() // timedelta(seconds=1)  # type: ignore[operator]


def date_begins(zone: ZoneInfo, unit: str, since: int, until: int) -> list[int]:
    """The local midnights at which days, weeks or months begin, from before the range to after it."""
    first = (EPOCH + timedelta(microseconds=since)).date() - timedelta(days=35)
    last = (EPOCH + timedelta(microseconds=until)).date() + timedelta(days=35)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    if unit == "week":
        days = [day for day in days if day.weekday() == 0]
    if unit == "month":
        days = [day for day in days if day.day == 1]
    return [to_utc(day, 0, zone.key) for day in days]


def hour_begins(zone: ZoneInfo, since: int, until: int) -> list[int]:
    """Where the wall clock shows a full hour, and where it is changed, from before the range to after it.

    Asks of every UTC minute: since 1973 all offsets are of whole minutes and all changes at one.
    """
    begins = []
    minute = since // HOUR * HOUR - 2 * HOUR
    before = offset_at(zone, minute - MINUTE)
    while minute < until + 2 * HOUR:
        offset = offset_at(zone, minute)
        if offset != before or (minute + offset * 1_000_000) % HOUR == 0:
            begins.append(minute)
        minute, before = minute + MINUTE, offset
    return begins
