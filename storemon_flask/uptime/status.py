"""What each store is doing at one instant (SPEC 7). Here the last poll holds forward; nearest-poll is for reports."""

from typing import Final

import numpy as np

from storemon_flask.model import DAY_US, Bools, Ints, Rules
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import find_runs, may_start_earlier

STATUSES: Final = ("no_data", "closed", "up", "down", "waiting", "stale")
_NO_DATA, _CLOSED, _UP, _DOWN, _WAITING, _STALE = range(len(STATUSES))


def at(as_of_us: int, last_poll_us: Ints, openings: Openings, evidence: Evidence, rules: Rules) -> Ints:
    """Return for each store the index of its status in `STATUSES`, judged at `as_of_us`.

    `last_poll_us` has one entry per store (-1: never polled). `evidence` must hold no poll after the as-of and every
    one of the `max_gap` before it.
    """
    status = np.where(last_poll_us < 0, _NO_DATA, _CLOSED).astype(np.int64)
    open_now = np.flatnonzero((openings.start_us <= as_of_us) & (as_of_us < openings.end_us))
    store = openings.store[open_now]
    stop = np.searchsorted(evidence.opening, open_now, side="right")
    newest = np.maximum(stop - 1, 0)
    young = as_of_us - openings.start_us[open_now] < rules.max_gap_us
    state = np.where(young, _WAITING, _STALE)
    if len(evidence):
        fresh = (stop > 0) & (evidence.opening[newest] == open_now)
        fresh &= as_of_us - evidence.instant_us[newest] < rules.max_gap_us
        state = np.where(fresh, np.where(evidence.active[newest], _UP, _DOWN), state)
    status[store] = np.where(status[store] == _NO_DATA, _NO_DATA, state)
    return status


def since(
    as_of_us: int,
    status: Ints,
    last_poll_us: Ints,
    openings: Openings,
    evidence: Evidence,
    rules: Rules,
    read_from_us: int,
) -> tuple[Ints, Bools]:
    """Return for each store since when it has had the status that `at` gives it, and whether that may have been earlier
    still.

    Up and down: the start of the run of polls (`timeline.find_runs`) that the newest one is of; for up no further back
    than `up_known_from`. Waiting: the opening's start. Stale: the last poll. Closed: the end of the last opening. -1
    where that is not known, and for a store never polled. Polls before `read_from_us` are not in the evidence: a run
    that was going on there may have begun earlier.
    """
    begun = np.full(len(status), -1, dtype=np.int64)
    earlier = np.zeros(len(status), dtype=bool)
    ended = openings.end_us <= as_of_us
    np.maximum.at(begun, openings.store[ended], openings.end_us[ended])
    begun[status != _CLOSED] = -1
    stale = status == _STALE
    begun[stale] = last_poll_us[stale]

    open_now = np.flatnonzero((openings.start_us <= as_of_us) & (as_of_us < openings.end_us))
    waits = open_now[status[openings.store[open_now]] == _WAITING]
    begun[openings.store[waits]] = openings.start_us[waits]
    known = open_now[np.isin(status[openings.store[open_now]], (_UP, _DOWN))]
    if len(known):
        store = openings.store[known]
        newest = np.searchsorted(evidence.opening, known, side="right") - 1
        first = find_runs(openings, evidence).start_of(newest)
        begun[store] = evidence.left_us[first]
        earlier[store] = may_start_earlier(openings, evidence, first, read_from_us, rules)
    long_up = (status == _UP) & (begun < up_known_from(as_of_us))
    begun[long_up] = up_known_from(as_of_us)
    return begun, earlier | long_up


def up_known_from(as_of_us: int) -> int:
    """Return the start of the UTC day six days before that of the as-of: who was up then is up since then or earlier.

    Most stores are up for months, and since when could only be found by reading all their polls. The six days lie
    within the week that is read, and as whole days they are the same for everybody who asks on one day."""
    return (as_of_us // DAY_US - 6) * DAY_US
