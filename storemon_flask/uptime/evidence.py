"""Which poll decides which business time, and how surely (SPEC 3.2 to 3.5)."""

from dataclasses import dataclass

import numpy as np

from storemon_flask.model import EVER_US, Bools, Ints, Polls, Rules
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.zones import block_size


@dataclass(frozen=True, slots=True)
class Evidence:
    """The polls made during an opening, in order of store and instant, each with the time that it decides.

    `[left_us, right_us)` is the time of the opening whose nearest poll this is, no further away than the reach.
    `followed`: the next poll is of the same opening and no further away than the max gap: the time between
    the two is measured. No poll decides time before `complete_from_us`, and each stands for `weight` polls
    (`Polls`).
    """

    store: Ints
    opening: Ints
    instant_us: Ints
    active: Bools
    left_us: Ints
    right_us: Ints
    followed: Bools
    complete_from_us: int = EVER_US
    weight: Ints | None = None

    def __len__(self) -> int:
        return len(self.store)

    def count_from(self, first_us: int, size: int) -> Ints:
        """Return how many polls from that instant on each of `size` stores has."""
        recent = self.instant_us >= first_us
        weight = None if self.weight is None else self.weight[recent]
        return np.bincount(self.store[recent], weight, size).astype(np.int64)


def gather(polls: Polls, openings: Openings, rules: Rules) -> Evidence:
    """Return the evidence that polls give for openings; those outside every opening of their store are left out.

    The line between two polls of one opening is their midpoint, rounded down to the microsecond; or, by the method
    `previous`, the later poll. Before `polls.complete_from_us` polls are missing: the oldest one there is does not
    decide that time.
    """
    picked, opening = _polls_inside(polls, openings)
    instant = polls.instant_us[picked]
    active = polls.active[picked]
    joined = opening[1:] == opening[:-1]
    gap = instant[1:] - instant[:-1]
    nearest = rules.method == "nearest"
    line = instant[:-1] + gap // 2 if nearest else instant[1:]
    back_us, ahead_us = (rules.reach_us, rules.reach_us) if nearest else (0, 2 * rules.reach_us)

    left = openings.start_us[opening]
    np.copyto(left[1:], line, where=joined)
    right = openings.end_us[opening]
    np.copyto(right[:-1], line, where=joined)
    followed = np.zeros(len(instant), dtype=bool)
    np.logical_and(joined, gap <= rules.max_gap_us, out=followed[:-1])
    np.maximum(left, instant - back_us, out=left)
    if polls.complete_from_us > EVER_US:
        np.maximum(left, polls.complete_from_us, out=left)
    np.minimum(right, instant + ahead_us, out=right)
    weight = None if polls.weight is None else polls.weight[picked]
    return Evidence(
        polls.store[picked], opening, instant, active, left, right, followed, polls.complete_from_us, weight
    )


def thin_out(polls: Polls, openings: Openings, rules: Rules, cut_us: int) -> Polls:
    """Return the polls without those on which nothing depends but their number, which is in `weight`.

    Polls outside every opening are left out. So are those between two of the same status and opening that are near
    enough for the time between to be measured: it is of that status, with or without them. Polls that others are
    thinned with may come before and after these: the first and the last of each store stay. So do those on both sides
    of `cut_us`: polls from there on can be counted.
    """
    picked, opening = _polls_inside(polls, openings)
    instant, active = polls.instant_us[picked], polls.active[picked]
    near_us = min(rules.max_gap_us, 2 * rules.reach_us)
    apart = np.ones(len(instant) + 1, dtype=bool)
    apart[1:-1] = (opening[1:] != opening[:-1]) | (active[1:] != active[:-1]) | (instant[1:] - instant[:-1] > near_us)
    # Of those that agree, the first and the last of each half of that time stay, so that those left are as near.
    half = instant // max(near_us // 2, 1)
    apart[1:-1] |= (half[1:] != half[:-1]) | ((instant[:-1] < cut_us) & (instant[1:] >= cut_us))
    at = np.flatnonzero(apart[1:] | apart[:-1])
    weight = np.diff(at, prepend=-1)
    return Polls(polls.store[picked][at], instant[at], active[at], polls.complete_from_us, weight)


def are_inside(polls: Polls, openings: Openings) -> Bools:
    """Return which of the polls lie inside an opening of their store."""
    inside = np.zeros(len(polls), dtype=bool)
    inside[_polls_inside(polls, openings)[0]] = True
    return inside


def _polls_inside(polls: Polls, openings: Openings) -> tuple[Ints, Ints]:
    """Return indices of the polls with `start <= t < end` for an opening of their store, and those of the openings."""
    if not len(polls) or not len(openings):
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing
    # The line is as long as the openings ask for. Polls outside all of them, perhaps of another century, lie at its
    # ends.
    base, top = int(openings.start_us.min()) - 1, int(openings.end_us.max())
    block = block_size(int(max(polls.store[-1], openings.store[-1])) + 1, base, top)
    instant = polls.instant_us
    if int(instant.min()) < base or int(instant.max()) > top:
        instant = np.clip(instant, base, top)
    key = polls.store * block + (instant - base)
    shelf = openings.store * block - base
    # Fewer openings than polls: look the openings up among the polls, not the other way round.
    first = np.searchsorted(key, shelf + openings.start_us)
    stop = np.searchsorted(key, shelf + openings.end_us)
    count = stop - first
    opening = np.repeat(np.arange(len(openings)), count)
    run_start = np.cumsum(count) - count
    picked = np.arange(len(opening)) + np.repeat(first - run_start, count)
    return picked, opening
