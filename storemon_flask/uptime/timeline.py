"""Why a number is what it is: business time as segments of up, down and unknown, runs of equal polls, and outages.

All come from the evidence that the measures come from: the lengths of segments in a window are its measures, exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from storemon_flask.model import Bools, Ints, Rules
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings

STATES: Final = ("unknown", "up", "down")
UNKNOWN, UP, DOWN = range(len(STATES))
# How a segment is known: between two polls that agree; between two that do not, up to their midpoint; by the nearest
# poll alone (the edges of an opening, gaps too wide to be measured). An unknown segment is known by nothing.
KNOWN: Final = ("nothing", "measured", "between", "extrapolated")
NOTHING, MEASURED, BETWEEN, EXTRAPOLATED = range(len(KNOWN))


@dataclass(frozen=True, slots=True)
class Segments:
    """Business time `[start_us, end_us)` by store, then start; neighbours that touch differ in state or in how it is
    known.

    `state` indexes `STATES`, `known` indexes `KNOWN`.
    """

    store: Ints
    start_us: Ints
    end_us: Ints
    state: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.store)


@dataclass(frozen=True, slots=True)
class Runs:
    """Polls of one store and status between which no business time is unknown: the indices of the first and last poll
    of each.

    A run begins at the `left_us` of its first poll. Outages are the runs of inactive polls; what a store is now it has
    been since the start of the run that its newest poll is of."""

    first: Ints
    last: Ints

    def start_of(self, poll: Ints) -> Ints:
        """Return the first poll of the run that each of the polls is of."""
        starts: Ints = self.first[np.searchsorted(self.first, poll, side="right") - 1]
        return starts


@dataclass(frozen=True, slots=True)
class Outages:
    """Runs of inactive polls by store, then start. Closed time does not end a run; an active poll and unknown time do.

    `[start_us, end_us)` are the edges of its down segments. The outage really began in `[start_earliest_us,
    start_latest_us]` and ended in `[end_earliest_us, end_latest_us]`: between a poll that shows it and the poll before
    or after it, or the edge of the opening or of unknown time where there is none. `down_us` is its business time
    alone; `polls` how many inactive polls show it; `ongoing` that it had not ended at the as-of, which then is its end.
    """

    store: Ints
    start_us: Ints
    end_us: Ints
    start_earliest_us: Ints
    start_latest_us: Ints
    end_earliest_us: Ints
    end_latest_us: Ints
    down_us: Ints
    polls: Ints
    ongoing: Bools

    def __len__(self) -> int:
        return len(self.store)

    def pick(self, rows: Bools | Ints) -> "Outages":
        """Return those rows."""
        return Outages(*(getattr(self, name)[rows] for name in Outages.__slots__))

    def with_store(self, store: Ints) -> "Outages":
        """Return the same of other store numbers."""
        return replace(self, store=store)


def find_segments(openings: Openings, evidence: Evidence, first_us: int, last_us: int) -> Segments:
    """Return the business time of `[first_us, last_us)`, partitioned; `evidence` is what `gather` made for these
    openings."""
    columns = []
    for store, start, end, state, known in _segments(openings, evidence):
        start, end = np.maximum(start, first_us), np.minimum(end, last_us)
        some = np.flatnonzero(end > start)
        columns.append([column[some] for column in (store, start, end, state, known)])
    store, start, end, state, known = (np.concatenate(some) for some in zip(*columns, strict=True))
    del columns
    order = np.lexsort((start, store))
    store, start, end, state, known = store[order], start[order], end[order], state[order], known[order]
    begins = np.ones(len(store), dtype=bool)
    begins[1:] = (store[1:] != store[:-1]) | (start[1:] != end[:-1])
    begins[1:] |= (state[1:] != state[:-1]) | (known[1:] != known[:-1])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(store)) - 1 if len(first) else first
    return Segments(store[first], start[first], end[last], state[first], known[first])


def find_runs(openings: Openings, evidence: Evidence) -> Runs:
    """Return the runs that the polls form."""
    opening, left, right = evidence.opening, evidence.left_us, evidence.right_us
    # No business time of which nothing is known lies between a poll and the store's next one.
    joined = right[:-1] == left[1:]
    edge = np.flatnonzero(opening[1:] != opening[:-1])
    this, following = opening[edge], opening[edge + 1]
    across = (following == this + 1) & (evidence.store[edge + 1] == evidence.store[edge])
    across &= (right[edge] == openings.end_us[this]) & (left[edge + 1] == openings.start_us[following])
    joined[edge] = across
    starts = np.ones(len(evidence), dtype=bool)
    starts[1:] = ~joined | (evidence.active[1:] != evidence.active[:-1])
    first = np.flatnonzero(starts)
    return Runs(first, np.append(first[1:], len(evidence)) - 1 if len(first) else first)


def may_start_earlier(openings: Openings, evidence: Evidence, first: Ints, read_from_us: int, rules: Rules) -> Bools:
    """Return for each poll `first` that begins a run whether polls before `read_from_us`, which were not read, could be
    of that run.

    Those polls decide nothing from a reach after `read_from_us` on. So they cannot when the store has an earlier poll
    that was read, or business time between there and the run: it is unknown. Nor when all polls before `read_from_us`
    were pruned."""
    opening, left = evidence.opening[first], evidence.left_us[first]
    undecided_us = read_from_us + (rules.reach_us if rules.method == "nearest" else 2 * rules.reach_us)
    before = np.maximum(first - 1, 0)
    earlier_poll = (first > 0) & (evidence.store[before] == evidence.store[first])
    unknown_in_opening = left > np.maximum(undecided_us, openings.start_us[opening])
    previous = np.maximum(opening - 1, 0)
    unknown_opening = (opening > 0) & (openings.store[previous] == openings.store[opening])
    unknown_opening &= openings.end_us[previous] > undecided_us
    # Where the run begins tells nothing of pruned polls: the first poll read decides back to there across polls not
    # read.
    may: Bools = ~(earlier_poll | unknown_in_opening | unknown_opening) & (read_from_us > evidence.complete_from_us)
    return may


def find_outages(openings: Openings, evidence: Evidence, as_of_us: int) -> Outages:
    """Return every outage that the evidence shows with some business time down before the as-of."""
    down, opening, instant = ~evidence.active, evidence.opening, evidence.instant_us
    runs = find_runs(openings, evidence)
    begins, ends = runs.first[down[runs.first]], runs.last[down[runs.first]]
    length = np.maximum(np.minimum(evidence.right_us, as_of_us) - evidence.left_us, 0) * down
    running = np.concatenate([[0], np.cumsum(length)])
    start, right = evidence.left_us[begins], evidence.right_us[ends]
    end = np.minimum(right, as_of_us)

    number = np.arange(len(down)) if evidence.weight is None else np.cumsum(evidence.weight)
    before = np.maximum(begins - 1, 0)
    came = (begins > 0) & (opening[before] == opening[begins]) & evidence.active[before]
    after = np.minimum(ends + 1, max(len(down) - 1, 0))
    went = (after > ends) & (opening[after] == opening[ends]) & evidence.active[after]
    outages = Outages(
        store=evidence.store[begins],
        start_us=start,
        end_us=end,
        start_earliest_us=np.where(came, instant[before], start),
        start_latest_us=instant[begins],
        end_earliest_us=instant[ends],
        end_latest_us=np.where(went, instant[after], end),
        down_us=running[ends + 1] - running[begins],
        polls=number[ends] - number[begins] + 1,
        ongoing=right >= as_of_us,
    )
    return outages.pick(outages.down_us > 0)


def join(outages: Sequence[Outages]) -> Outages:
    """Return all those outages as one, one after the other; none of nothing."""

    def column(name: str) -> Any:
        """Return one column of all outages."""
        nothing = np.empty(0, dtype=bool if name == "ongoing" else np.int64)
        return np.concatenate([nothing, *(getattr(some, name) for some in outages)])

    return Outages(*map(column, Outages.__slots__))


def _segments(openings: Openings, evidence: Evidence) -> Iterator[tuple[Ints, Ints, Ints, Ints, Ints]]:
    """Yield business time in segments that may be empty: (store, start, end, state, known), in no order."""
    opening, instant, left, right = evidence.opening, evidence.instant_us, evidence.left_us, evidence.right_us
    state = np.where(evidence.active, UP, DOWN)
    agree = evidence.active[1:] == evidence.active[:-1]
    pair = np.where(evidence.followed[:-1], np.where(agree, MEASURED, BETWEEN), EXTRAPOLATED)
    edge = np.full(min(len(evidence), 1), EXTRAPOLATED)
    # From where no poll has decided yet: the opening's start, or the end of what the poll before decides.
    undecided = openings.start_us[opening]
    undecided[1:] = np.where(opening[1:] == opening[:-1], right[:-1], undecided[1:])
    last = np.flatnonzero(np.append(opening[1:] != opening[:-1], True)) if len(evidence) else np.empty(0, np.int64)
    tail = openings.start_us.copy()
    tail[opening[last]] = right[last]

    def unknown(size: int) -> tuple[Ints, Ints]:
        """Return state and knowledge of that many unknown segments."""
        return np.full(size, UNKNOWN), np.full(size, NOTHING)

    yield evidence.store, left, instant, state, np.concatenate([edge, pair])
    yield evidence.store, instant, right, state, np.concatenate([pair, edge])
    yield evidence.store, undecided, left, *unknown(len(evidence))
    yield openings.store, tail, openings.end_us, *unknown(len(openings))
