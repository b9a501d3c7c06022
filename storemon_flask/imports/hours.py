"""Counts of whole hours, which some monitors keep longer than their checks, as polls between those checks."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Final, NamedTuple

from storemon_flask.characters import count_text
from storemon_flask.clock import timestamp_text
from storemon_flask.database.foreign import HourCount
from storemon_flask.imports.checks import ACTIVE, INACTIVE, NEITHER, UNWATCHED, Check

_HOUR_S: Final = 3600
_US: Final = 1_000_000


class Seen(NamedTuple):
    """A check, and when the last one with the other status was, if that is known although the check is gone."""

    check: Check
    before_us: int | None = None


class HourlyNotes:
    """Counts of what became of hours, over all names."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Count one."""
        self._counts[what] += 1

    def sentences(self) -> list[str]:
        """Return sentences on how many polls were derived, and which hours were left out."""
        polls, sides, thin = (self._counts[what] for what in ("hour", "side", "thin"))
        sentences = []
        if polls:
            sentences.append(
                f"{count_text(polls, 'poll is', 'polls are')} derived from hourly counts, one in the middle of each "
                "hour whose checks are gone and all had that status"
            )
        if sides:
            sentences.append(
                f"{count_text(sides, 'poll is', 'polls are')} derived: the last check before a change, which is gone"
            )
        if thin:
            sentences.append(
                f"{count_text(thin, 'hour')} with less than half of the usual checks left out: nobody knows which half "
                "was watched"
            )
        return sentences


def usual_checks(hours: Sequence[HourCount]) -> float:
    """Return how many checks an hour usually has; 0 when there is none."""
    return float(median(hour.up + hour.down for hour in hours)) if hours else 0.0


def with_hours(seen: Iterable[Seen], hours: Sequence[HourCount], notes: HourlyNotes) -> Iterator[Check]:
    """Return the checks, which are in the order of time, with what the hours say of the time between them.

    An hour in which a check is left says no more than that. One whose counts contradict the status that held is of
    checks that were tried again, and says nothing.
    """
    waiting = deque(hours)
    usual = usual_checks(hours)
    status = NEITHER
    last_us = -1
    for check, before_us in seen:
        at_us = check.timestamp_us
        if at_us is None:
            yield check
            continue
        while waiting and (waiting[0].second + _HOUR_S) * _US <= at_us:
            yield from _poll_of_hour(waiting.popleft(), usual, status, last_us, notes)
        if before_us is not None and last_us < before_us < at_us and {status, check.status} == {ACTIVE, INACTIVE}:
            notes.add("side")
            yield Check(check.row, before_us, timestamp_text(before_us), status)
        yield check
        if check.status != NEITHER:
            status = NEITHER if check.status == UNWATCHED else check.status
        last_us = at_us
    for hour in waiting:
        yield from _poll_of_hour(hour, usual, status, last_us, notes)


def _poll_of_hour(hour: HourCount, usual: float, status: str, last_us: int, notes: HourlyNotes) -> Iterator[Check]:
    """One poll in the middle of an hour, if it says one thing; `status` is what held at its beginning, if known."""
    if last_us >= hour.second * _US or not hour.up + hour.down:
        return
    if hour.up + hour.down < usual / 2:
        notes.add("thin")
        return
    hour_status = ACTIVE if hour.up else INACTIVE
    # Without a change that is kept, those of both that were down were tried again, and then up.
    if status == hour_status or (status == NEITHER and not (hour.up and hour.down)):
        notes.add("hour")
        middle_us = (hour.second + _HOUR_S // 2) * _US
        yield Check(hour.id, middle_us, timestamp_text(middle_us), hour_status)
