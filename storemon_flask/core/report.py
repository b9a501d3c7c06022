"""Evidence and windows become the table of a report: one row per store, microseconds (SPEC 3.4, 3.5 and 4)."""

from dataclasses import dataclass

import numpy as np

from storemon_flask.core import evidence as evidence_
from storemon_flask.core import openings as openings_
from storemon_flask.core import status
from storemon_flask.core.evidence import Evidence
from storemon_flask.core.openings import Openings
from storemon_flask.model import DAY_US, HOUR_US, WEEK_US, Bools, Fleet, Ints, Rules


@dataclass(frozen=True, slots=True)
class Window:
    """The time `[as-of - length, as-of)`, and the unit its numbers are printed in."""

    name: str
    length_us: int
    unit_us: int


CLASSIC_WINDOWS = (
    Window("last_hour", HOUR_US, HOUR_US // 60),
    Window("last_day", DAY_US, HOUR_US),
    Window("last_week", WEEK_US, HOUR_US),
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one window holds, in microseconds, one entry per store.

    uptime + downtime + unknown = business, and uptime_low <= uptime <= uptime_high, exactly.
    """

    business: Ints
    uptime: Ints
    downtime: Ints
    unknown: Ints
    measured: Ints
    uptime_low: Ints
    uptime_high: Ints


@dataclass(frozen=True, slots=True)
class Table:
    """A report before it is text: a tally per window name, and what is said of each store besides."""

    tallies: dict[str, Tally]
    polls_last_week: Ints
    last_poll_us: Ints
    status_now: Ints


def evidence_from(as_of_us: int, rules: Rules) -> int:
    """The earliest instant whose polls can matter to a report at `as_of_us`.

    A moment of the longest window hears no poll further away than the reach. A line drawn against a still older poll would
    lie where the younger one's reach does not go either; the pair's measured time begins at most a max gap before.
    """
    longest = max(window.length_us for window in CLASSIC_WINDOWS)
    return as_of_us - longest - max(rules.reach_us, rules.max_gap_us)


def compute(fleet: Fleet, as_of_us: int, rules: Rules) -> Table:
    """The report of the fleet at `as_of_us`. `fleet.polls` must cover `[evidence_from(...), as_of_us]` and end there."""
    opened = openings_.build(fleet, evidence_from(as_of_us, rules), as_of_us)
    heard = evidence_.gather(fleet.polls, opened, rules)
    tallies = {window.name: tally(window, as_of_us, fleet.size, opened, heard) for window in CLASSIC_WINDOWS}
    recent = (heard.instant_us >= as_of_us - WEEK_US).astype(np.int64)
    return Table(
        tallies,
        _sums(recent, _edges(heard.store, fleet.size)),
        fleet.last_poll_us,
        status.at(as_of_us, fleet.last_poll_us, opened, heard, rules),
    )


def tally(window: Window, as_of_us: int, size: int, opened: Openings, heard: Evidence) -> Tally:
    """The window's business time of `size` stores, parted into uptime, downtime and unknown, with what is measured."""
    first_us = as_of_us - window.length_us
    business = _sums(_within(opened.start_us, opened.end_us, first_us, as_of_us), _edges(opened.store, size))
    edges = _edges(heard.store, size)
    spoken = _within(heard.left_us, heard.right_us, first_us, as_of_us)
    uptime = _sums(spoken * heard.active, edges)
    heard_us = _sums(spoken, edges)

    between = np.zeros(len(heard), dtype=np.int64)
    between[:-1] = _within(heard.instant_us[:-1], heard.instant_us[1:], first_us, as_of_us)
    between *= heard.followed
    both_up, both_down = _agreeing(heard)
    measured_down = _sums(between * both_down, edges)
    return Tally(
        business=business,
        uptime=uptime,
        downtime=heard_us - uptime,
        unknown=business - heard_us,
        measured=_sums(between, edges),
        uptime_low=_sums(between * both_up, edges),
        uptime_high=business - measured_down,
    )


def _agreeing(heard: Evidence) -> tuple[Bools, Bools]:
    """For each poll: it and the next one are both active; both inactive."""
    up = heard.active
    both_up = np.zeros(len(up), dtype=bool)
    both_down = np.zeros(len(up), dtype=bool)
    both_up[:-1] = up[:-1] & up[1:]
    both_down[:-1] = ~(up[:-1] | up[1:])
    return both_up, both_down


def _within(start: Ints, end: Ints, first: int, last: int) -> Ints:
    """How much of each `[start, end)` lies in `[first, last)`."""
    length: Ints = np.minimum(end, last) - np.maximum(start, first)
    np.maximum(length, 0, out=length)
    return length


def _edges(store: Ints, size: int) -> Ints:
    """Where each store's run begins in a column sorted by store; `size + 1` entries."""
    return np.searchsorted(store, np.arange(size + 1))


def _sums(values: Ints, edges: Ints) -> Ints:
    """The sum of each store's run, in integers (`np.bincount` would go through floats)."""
    running = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=running[1:])
    total: Ints = running[edges[1:]] - running[edges[:-1]]
    return total
