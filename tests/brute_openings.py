"""Local time and business hours of SPEC.md 2 and 3.1 done slowly and literally, to check the fast ones against.

Every time is an integer: microseconds since 1970-01-01T00:00Z. An opening is `(start, end)` with the end outside.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

Opening = tuple[int, int]
# Weekday, start, end, and the date from which on it holds (empty: ever); and such of one date, empty times: closed.
Row = tuple[int, str, str, str]
Special = tuple[str, str, str]
# A zone, or zones each with the date from which on it holds.
Zone = str | Iterable[tuple[str, str]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall_seconds(text: str) -> int:
    """Seconds since local midnight; `H:MM[:SS[.fraction]]`, fraction ignored (SPEC 2, Values: times)."""
    hours, minutes, *rest = text.split(":")
    seconds = rest[0].split(".")[0] if rest else "0"
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def wall_end(start: int, end: int) -> int:
    """The end in seconds after the midnight that the row's day begins with (SPEC 3.1, in its order of cases)."""
    midnight = 24 * 3600
    if end == start:
        return end + midnight
    if 23 * 3600 + 59 * 60 <= end < midnight:
        return midnight
    if end < start:
        return end + midnight
    return end


def zone_on(day: date, zones: Zone, default_zone: str) -> ZoneInfo:
    """The zone that holds on a local date: the one from the latest date that is not after it."""
    if isinstance(zones, str):
        return ZoneInfo(zones)
    begun = [(since, name) for since, name in zones if since <= day.isoformat()]
    return ZoneInfo(max(begun)[1] if begun else default_zone)


def to_utc(day: date, seconds: int, zones: Zone, default_zone: str = "America/Chicago") -> int:
    """A local wall-clock time as an instant: twice means the first, skipped the offset before (SPEC 3.1).

    It is read in the zone that holds on its own date, which may be the one after the row's.
    """
    wall = datetime.combine(day, time.min) + timedelta(seconds=seconds)  # naive: 25:30 is 01:30 of the next date
    zone = zone_on(wall.date(), zones, default_zone)
    return (wall.replace(tzinfo=zone, fold=0).astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def merge(intervals: Iterable[Opening]) -> list[Opening]:
    """Intervals that overlap or touch become one opening (SPEC 3.1)."""
    merged: list[Opening] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def rows_on(day: date, rows: list[Row], special: list[Special]) -> list[tuple[str, str]]:
    """Start and end of what a store said of a local date: special hours, else the version of its week that holds then.

    Before its first version, and without any, it is open all the time.
    """
    today = [(start, end) for on, start, end in special if on == day.isoformat()]
    if today:
        return [(start, end) for start, end in today if start]
    versions = [since for _, _, _, since in rows if since <= day.isoformat()]
    if not versions:
        return [("00:00", "24:00")]
    return [(start, end) for weekday, start, end, since in rows if since == max(versions) and weekday == day.weekday()]


def openings(
    rows: list[Row], special: list[Special], zones: Zone, default_zone: str, since: int, until: int
) -> list[Opening]:
    """Every opening that has a moment in [since, until), edges true unless days outside it (SPEC 3.1; 2, Defaults)."""
    first = (EPOCH + timedelta(microseconds=since)).date() - timedelta(days=3)
    last = (EPOCH + timedelta(microseconds=until)).date() + timedelta(days=3)
    found = []
    for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        for start_text, end_text in rows_on(day, rows, special):
            start, end = wall_seconds(start_text), wall_seconds(end_text)
            found.append(
                (to_utc(day, start, zones, default_zone), to_utc(day, wall_end(start, end), zones, default_zone))
            )
    return merge((start, end) for start, end in found if start < end)


def zone_at(instant: int, zones: list[tuple[str, str]], default_zone: str) -> str:
    """The name of the zone at an instant: the clock of the one before must show the date, or that of the one after."""
    held = default_zone
    for since, name in sorted(zones):
        if not since:
            held = name
            continue
        clocks = (ZoneInfo(held), ZoneInfo(name))
        local = (datetime.fromisoformat(since).replace(tzinfo=clock, fold=0) for clock in clocks)
        if min(moment.astimezone(UTC) for moment in local) <= EPOCH + timedelta(microseconds=instant):
            held = name
    return held
