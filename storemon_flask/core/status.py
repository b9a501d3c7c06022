"""What each store is doing at one instant (SPEC 7). Here the last poll holds forward; nearest-poll is for reports."""

from typing import Final

import numpy as np

from storemon_flask.core.evidence import Evidence
from storemon_flask.core.openings import Openings
from storemon_flask.model import Bools, Ints, Rules

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


def since(
    as_of_us: int,
    status: Ints,
    last_poll_us: Ints,
    openings: Openings,
    evidence: Evidence,
    rules: Rules,
    known_from_us: int,
) -> tuple[Ints, Bools]:
    """For each store since when it has had the status that `at` gives it, and whether that may have been earlier still.

    Up and down: the first poll of the run of equal words in the opening, without a gap of the max gap or more. Waiting:
    the opening's start. Stale: when it became so. Closed: the end of the last opening. -1 where that is not known, and for
    a store never polled. Polls before `known_from_us` are not in the evidence: a run that reaches there may be longer.
    """
    begun = np.full(len(status), -1, dtype=np.int64)
    ended = openings.end_us <= as_of_us
    np.maximum.at(begun, openings.store[ended], openings.end_us[ended])
    begun[status == _NO_DATA] = -1
    earlier = np.zeros(len(status), dtype=bool)

    open_now = np.flatnonzero((openings.start_us <= as_of_us) & (as_of_us < openings.end_us))
    store, start = openings.store[open_now], openings.start_us[open_now]
    first = np.searchsorted(evidence.opening, open_now)
    newest = np.searchsorted(evidence.opening, open_now, side="right") - 1
    heard = newest >= first
    # An opening that began before what is known may have had its last poll there, and may have begun earlier than it seems.
    before = start < known_from_us
    heard_last = np.where(before, last_poll_us[store], start)
    moment = np.where(status[store] == _WAITING, start, heard_last + rules.max_gap_us)
    if len(evidence):
        fresh = np.ones(len(evidence), dtype=bool)
        fresh[1:] = (evidence.opening[1:] != evidence.opening[:-1]) | (evidence.active[1:] != evidence.active[:-1])
        fresh[1:] |= np.diff(evidence.instant_us) >= rules.max_gap_us
        runs = np.flatnonzero(fresh)
        newest = np.maximum(newest, 0)
        run = runs[np.searchsorted(runs, newest, side="right") - 1]
        speaks = heard & np.isin(status[store], (_UP, _DOWN))
        moment = np.where(heard, evidence.instant_us[newest] + rules.max_gap_us * (status[store] == _STALE), moment)
        moment = np.where(speaks, evidence.instant_us[run], moment)
        # A poll that is not in the evidence would be of the run only if it were less than a max gap before it.
        reaches = evidence.instant_us[run] - known_from_us < rules.max_gap_us
        earlier[store] = speaks & before & (run == first) & reaches
    known = status[store] != _NO_DATA
    begun[store[known]] = moment[known]
    return begun, earlier
