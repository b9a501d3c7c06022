"""What each store is doing at one instant (SPEC 7). Here the last poll holds forward; nearest-poll is for reports."""

from typing import Final

import numpy as np

from storemon_flask.core.evidence import Evidence
from storemon_flask.core.openings import Openings
from storemon_flask.model import Ints, Rules

STATUSES: Final = ("no_data", "closed", "up", "down", "waiting", "stale")
_NO_DATA, _CLOSED, _UP, _DOWN, _WAITING, _STALE = range(len(STATUSES))


def at(as_of_us: int, last_poll_us: Ints, openings: Openings, evidence: Evidence, rules: Rules) -> Ints:
    """For each store the index of its status in `STATUSES`, judged at `as_of_us`.

    `last_poll_us` has one entry per store (-1: never polled). `evidence` must hold no poll after the as-of and every one
    of the `max_gap` before it.
    """
    status = np.where(last_poll_us < 0, _NO_DATA, _CLOSED).astype(np.int64)
    open_now = np.flatnonzero((openings.start_us <= as_of_us) & (as_of_us < openings.end_us))
    store = openings.store[open_now]
    stop = np.searchsorted(evidence.opening, open_now, side="right")
    newest = np.maximum(stop - 1, 0)
    young = as_of_us - openings.start_us[open_now] < rules.max_gap_us
    word = np.where(young, _WAITING, _STALE)
    if len(evidence):
        fresh = (stop > 0) & (evidence.opening[newest] == open_now)
        fresh &= as_of_us - evidence.instant_us[newest] < rules.max_gap_us
        word = np.where(fresh, np.where(evidence.active[newest], _UP, _DOWN), word)
    status[store] = np.where(status[store] == _NO_DATA, _NO_DATA, word)
    return status
