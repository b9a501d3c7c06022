"""Why a number is what it is: business time as stretches of up, down and unknown, and the outages among them.

The stretches say the same as a report, cut at other places: their sums over a window are the report's columns, exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from storemon_flask.model import DAY_US, Bools, Fleet, Ints, Rules
from storemon_flask.uptime import evidence as evidence_
from storemon_flask.uptime import openings as openings_
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings

STATES: Final = ("unknown", "up", "down")
UNKNOWN, UP, DOWN = range(len(STATES))
# How a stretch is known: between two polls that agree; between two that do not, up to their midpoint; by the nearest
# poll alone (the edges of an opening, gaps too wide to be measured). An unknown stretch is known by nothing.
KNOWN: Final = ("nothing", "measured", "between", "extrapolated")
NOTHING, MEASURED, BETWEEN, EXTRAPOLATED = range(len(KNOWN))


@dataclass(frozen=True, slots=True)
class Stretches:
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
class Outages:
    """Runs of inactive polls by store, then start. Closed time does not end a run; an active poll and unknown time do.

    `[start_us, end_us)` are the edges of its down stretches. The outage really began in `[start_earliest_us,
    start_latest_us]` and ended in `[end_earliest_us, end_latest_us]`: between a poll that says so and the poll before
    or after it, or the edge of the opening or of unknown time where there is none. `down_us` is its business time
    alone; `polls` how many inactive polls say so; `ongoing` that it had not ended at the as-of, which then is its end.
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

    def picked(self, rows: Bools | Ints) -> "Outages":
        """Those rows."""
        return Outages(*(getattr(self, name)[rows] for name in Outages.__slots__))

    def with_store(self, store: Ints) -> "Outages":
        """The same of other store numbers."""
        return replace(self, store=store)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of the stores in a range: openings and stretches cut to it, and every outage that touches it,
    whole.

    `evidence` is that of all polls given, in the range or around it; its openings are `whole_openings`.
    """

    openings: Openings
    whole_openings: Openings
    evidence: Evidence
    stretches: Stretches
    outages: Outages


def heard_from(from_us: int, rules: Rules) -> int:
    """The earliest instant whose polls can matter to a stretch from `from_us` on."""
    return from_us - rules.farthest_us


def of(fleet: Fleet, from_us: int, to_us: int, as_of_us: int, rules: Rules) -> Timeline:
    """The timeline of every store of the fleet in `[from_us, to_us)`, which must not be empty nor end after the as-of.

    `fleet.polls` must reach from `heard_from(...)`, or earlier, to the as-of and end there. An outage that begins
    before the polls do is known from there on only.
    """
    first_us = heard_from(from_us, rules)
    if len(fleet.polls):
        first_us = min(first_us, int(fleet.polls.instant_us.min()))
    opened = openings_.build(fleet, first_us // DAY_US * DAY_US, (as_of_us // DAY_US + 1) * DAY_US)
    heard = evidence_.gather(fleet.polls, opened, rules)
    found = outages(opened, heard, as_of_us)
    touching = (found.start_us < to_us) & (found.end_us > from_us)
    start, end = np.maximum(opened.start_us, from_us), np.minimum(opened.end_us, to_us)
    inside = end > start
    return Timeline(
        Openings(opened.store[inside], start[inside], end[inside]),
        opened,
        heard,
        stretches(opened, heard, from_us, to_us),
        found.picked(touching),
    )


def stretches(openings: Openings, evidence: Evidence, first_us: int, last_us: int) -> Stretches:
    """The business time of `[first_us, last_us)`, partitioned; `evidence` is what `gather` made for these openings."""
    columns = []
    for store, start, end, state, known in _pieces(openings, evidence):
        start, end = np.maximum(start, first_us), np.minimum(end, last_us)
        some = np.flatnonzero(end > start)
        columns.append([column[some] for column in (store, start, end, state, known)])
    store, start, end, state, known = (np.concatenate(pieces) for pieces in zip(*columns, strict=True))
    del columns
    order = np.lexsort((start, store))
    store, start, end, state, known = store[order], start[order], end[order], state[order], known[order]
    begins = np.ones(len(store), dtype=bool)
    begins[1:] = (store[1:] != store[:-1]) | (start[1:] != end[:-1])
    begins[1:] |= (state[1:] != state[:-1]) | (known[1:] != known[:-1])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(store)) - 1 if len(first) else first
    return Stretches(store[first], start[first], end[last], state[first], known[first])


def sums(found: Stretches, first_us: int, last_us: int, size: int) -> dict[str, Ints]:
    """What a report says of `[first_us, last_us)`, per store in microseconds: `core.report.MEASURES`, and `business`."""
    length = np.maximum(np.minimum(found.end_us, last_us) - np.maximum(found.start_us, first_us), 0)

    def total(wanted: Bools) -> Ints:
        values = np.zeros(size, dtype=np.int64)
        np.add.at(values, found.store[wanted], length[wanted])
        return values

    up, down, measured = found.state == UP, found.state == DOWN, found.known == MEASURED
    business = total(np.ones(len(found), dtype=bool))
    return {
        "uptime": total(up),
        "downtime": total(down),
        "unknown": total(found.state == UNKNOWN),
        "business": business,
        "measured": total(measured | (found.known == BETWEEN)),
        "uptime_low": total(up & measured),
        "uptime_high": business - total(down & measured),
    }


def run_starts(openings: Openings, evidence: Evidence) -> Ints:
    """Indices of the polls that begin a run: polls of one store and status, between which no business time is unknown.

    A run begins at the `left_us` of its first poll. Outages are the runs of inactive polls; what a store is now it has
    been since the start of the run that its newest poll is of.
    """
    starts = np.ones(len(evidence), dtype=bool)
    starts[1:] = ~_joined(openings, evidence) | (evidence.active[1:] != evidence.active[:-1])
    return np.flatnonzero(starts)


def may_start_earlier(openings: Openings, evidence: Evidence, first: Ints, read_from_us: int, rules: Rules) -> Bools:
    """For each poll `first` that begins a run: whether polls before `read_from_us`, which were not read, could be of
    that run.

    Those polls speak for nothing from a reach after `read_from_us` on. So they cannot when the store has an earlier
    poll that was read, or business time between there and the run: it is unknown. Nor when all polls before
    `read_from_us` were pruned.
    """
    opening, left = evidence.opening[first], evidence.left_us[first]
    silent_us = read_from_us + 2 * rules.reach_us if rules.method != "nearest" else read_from_us + rules.reach_us
    before = np.maximum(first - 1, 0)
    earlier_poll = (first > 0) & (evidence.store[before] == evidence.store[first])
    unknown_in_opening = left > np.maximum(silent_us, openings.start_us[opening])
    previous = np.maximum(opening - 1, 0)
    unknown_opening = (opening > 0) & (openings.store[previous] == openings.store[opening])
    unknown_opening &= openings.end_us[previous] > silent_us
    # Where the run begins tells nothing of pruned polls: the first poll read speaks back to there across polls not
    # read.
    may: Bools = ~(earlier_poll | unknown_in_opening | unknown_opening) & (read_from_us > evidence.complete_from_us)
    return may


def outages(openings: Openings, evidence: Evidence, as_of_us: int) -> Outages:
    """Every outage that the evidence shows with some business time down before the as-of."""
    down, opening, instant = ~evidence.active, evidence.opening, evidence.instant_us
    first = run_starts(openings, evidence)
    last = np.append(first[1:], len(down)) - 1 if len(first) else first
    begins, ends = first[down[first]], last[down[first]]
    length = np.maximum(np.minimum(evidence.right_us, as_of_us) - evidence.left_us, 0) * down
    running = np.concatenate([[0], np.cumsum(length)])
    start, right = evidence.left_us[begins], evidence.right_us[ends]
    end = np.minimum(right, as_of_us)

    standing = np.arange(len(down)) if evidence.weight is None else np.cumsum(evidence.weight)
    before = np.maximum(begins - 1, 0)
    came = (begins > 0) & (opening[before] == opening[begins]) & evidence.active[before]
    after = np.minimum(ends + 1, max(len(down) - 1, 0))
    went = (after > ends) & (opening[after] == opening[ends]) & evidence.active[after]
    found = Outages(
        store=evidence.store[begins],
        start_us=start,
        end_us=end,
        start_earliest_us=np.where(came, instant[before], start),
        start_latest_us=instant[begins],
        end_earliest_us=instant[ends],
        end_latest_us=np.where(went, instant[after], end),
        down_us=running[ends + 1] - running[begins],
        polls=standing[ends] - standing[begins] + 1,
        ongoing=right >= as_of_us,
    )
    return found.picked(found.down_us > 0)


def joined(parts: Sequence[Outages]) -> Outages:
    """The outages of all parts, one after the other."""
    return Outages(*(np.concatenate([getattr(part, name) for part in parts]) for name in Outages.__slots__))


def _pieces(openings: Openings, evidence: Evidence) -> Iterator[tuple[Ints, Ints, Ints, Ints, Ints]]:
    """Business time in parts that may be empty: (store, start, end, state, known), in no order."""
    opening, instant, left, right = evidence.opening, evidence.instant_us, evidence.left_us, evidence.right_us
    state = np.where(evidence.active, UP, DOWN)
    agree = evidence.active[1:] == evidence.active[:-1]
    pair = np.where(evidence.followed[:-1], np.where(agree, MEASURED, BETWEEN), EXTRAPOLATED)
    edge = np.full(min(len(evidence), 1), EXTRAPOLATED)
    # From where nobody has spoken yet: the opening's start, or where the poll before falls silent.
    silent = openings.start_us[opening]
    silent[1:] = np.where(opening[1:] == opening[:-1], right[:-1], silent[1:])
    last = np.flatnonzero(np.append(opening[1:] != opening[:-1], True)) if len(evidence) else np.empty(0, np.int64)
    tail = openings.start_us.copy()
    tail[opening[last]] = right[last]

    def nobody(size: int) -> tuple[Ints, Ints]:
        return np.full(size, UNKNOWN), np.full(size, NOTHING)

    yield evidence.store, left, instant, state, np.concatenate([edge, pair])
    yield evidence.store, instant, right, state, np.concatenate([pair, edge])
    yield evidence.store, silent, left, *nobody(len(evidence))
    yield openings.store, tail, openings.end_us, *nobody(len(openings))


def _joined(openings: Openings, evidence: Evidence) -> Bools:
    """For each poll but the last: no business time of which nothing is known lies between it and the store's next poll."""
    opening, left, right = evidence.opening, evidence.left_us, evidence.right_us
    joined: Bools = right[:-1] == left[1:]
    last = np.flatnonzero(opening[1:] != opening[:-1])
    this, following = opening[last], opening[last + 1]
    across = (following == this + 1) & (evidence.store[last + 1] == evidence.store[last])
    across &= (right[last] == openings.end_us[this]) & (left[last + 1] == openings.start_us[following])
    joined[last] = across
    return joined
