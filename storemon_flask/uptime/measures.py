"""Evidence and windows become the table of a report: one row per store, microseconds (SPEC 3.4, 3.5 and 4)."""

from dataclasses import dataclass, replace

import numpy as np

from storemon_flask.model import DAY_US, HOUR_US, WEEK_US, Bools, Fleet, Ints, Rules
from storemon_flask.uptime import evidence as evidence_
from storemon_flask.uptime import openings as openings_
from storemon_flask.uptime import status
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings


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


# In microseconds, per window: uptime + downtime + unknown = business, and uptime_low <= uptime <= uptime_high, exactly.
CLASSIC_MEASURES = ("uptime", "downtime")
MEASURES = (*CLASSIC_MEASURES, "unknown", "business", "measured", "uptime_low", "uptime_high")
# What lists of stores show beside the status.
LISTED_WINDOWS = tuple(window for window in CLASSIC_WINDOWS if window.name != "last_hour")
# A report before it is text: one entry per store for each `measure_window`, and, when it is full, for
# `polls_last_week`, `last_poll_us` (-1 for never) and `status_now` (an index into `status.STATUSES`).
Table = dict[str, Ints]


def evidence_from(as_of_us: int, rules: Rules) -> int:
    """The earliest instant whose polls can matter to a report at `as_of_us`.

    A moment of the longest window hears no poll further away than the reach. A line drawn against a still older poll
    would lie where the younger one's reach does not go either; the pair's measured time begins at most a max gap
    before.
    """
    longest = max(window.length_us for window in CLASSIC_WINDOWS)
    return as_of_us - longest - rules.farthest_us


def openings_for(fleet: Fleet, as_of_us: int, rules: Rules) -> Openings:
    """The openings that a report at `as_of_us` needs; the same ones for every as-of of one UTC day."""
    first = evidence_from(as_of_us, rules) // DAY_US * DAY_US
    return openings_.build(fleet, first, (as_of_us // DAY_US + 1) * DAY_US)


def compute(fleet: Fleet, as_of_us: int, rules: Rules, opened: Openings | None = None, full: bool = True) -> Table:
    """The report of the fleet at `as_of_us`. `fleet.polls` must cover `[evidence_from(...), as_of_us]` and end there.

    `opened` are the openings when they are known already (`openings_for`). Without `full` only the classic measures.
    """
    if opened is None:
        opened = openings_for(fleet, as_of_us, rules)
    heard = evidence_.gather(fleet.polls, opened, rules)
    edges = _edges(heard.store, fleet.size)
    table: Table = {}
    for window in CLASSIC_WINDOWS:
        table |= _measures(window, as_of_us, opened, heard, edges, full)
    if full:
        recent = (heard.instant_us >= as_of_us - WEEK_US).astype(np.int64)
        table["polls_last_week"] = _sums(recent, edges)
        table["last_poll_us"] = fleet.last_poll_us
        table["status_now"] = status.at(as_of_us, fleet.last_poll_us, opened, heard, rules)
    return table


def compute_list(fleet: Fleet, as_of_us: int, rules: Rules, opened: Openings | None = None) -> Table:
    """What a list of stores shows at `as_of_us`, from the same polls and by the same rules as a report.

    The measures of `LISTED_WINDOWS`, `last_poll_us`, `status_now`, and `since_us` and `since_or_earlier`
    (`status.since`).
    """
    if opened is None:
        opened = openings_for(fleet, as_of_us, rules)
    heard = evidence_.gather(fleet.polls, opened, rules)
    return list_table(opened, heard, fleet.last_poll_us, as_of_us, rules)


def list_table(opened: Openings, heard: Evidence, last_poll_us: Ints, as_of_us: int, rules: Rules) -> Table:
    """Return the table of `compute_list` from openings and evidence that are known already."""
    size = len(last_poll_us)
    edges = _edges(heard.store, size)
    table: Table = {}
    for window in LISTED_WINDOWS:
        recent = _touching(heard, as_of_us - window.length_us) if window.length_us < WEEK_US else heard
        here = edges if recent is heard else _edges(recent.store, size)
        table |= _measures(window, as_of_us, opened, recent, here, full=True)
    now = status.at(as_of_us, last_poll_us, opened, heard, rules)
    read_from = evidence_from(as_of_us, rules)
    begun, earlier = status.since(as_of_us, now, last_poll_us, opened, heard, rules, read_from)
    return table | {
        "last_poll_us": last_poll_us,
        "status_now": now,
        "since_us": begun,
        "since_or_earlier": earlier.astype(np.int64),
    }


def _touching(heard: Evidence, first: int) -> Evidence:
    """The evidence without what ends before `first`: of each store the last polls, and the one from which time is
    measured on.
    """
    touches = heard.right_us > first
    touches[:-1] |= heard.instant_us[1:] > first
    kept = np.flatnonzero(touches)
    names = ("store", "opening", "instant_us", "active", "left_us", "right_us", "followed")
    return replace(heard, **{name: getattr(heard, name)[kept] for name in names})


def _measures(window: Window, as_of_us: int, opened: Openings, heard: Evidence, edges: Ints, full: bool) -> Table:
    """The columns of one window, `edges` being those of the evidence."""
    first = as_of_us - window.length_us
    measures = _spoken(first, as_of_us, heard, edges)
    if full:
        business = _sums(_within(opened.start_us, opened.end_us, first, as_of_us), _edges(opened.store, len(edges) - 1))
        measures |= _sureness(first, as_of_us, heard, edges, business)
        measures["business"] = business
        measures["unknown"] = business - measures["uptime"] - measures["downtime"]
    return {f"{name}_{window.name}": values for name, values in measures.items()}


def _spoken(first: int, last: int, heard: Evidence, edges: Ints) -> dict[str, Ints]:
    """Uptime and downtime: the stretches of active and inactive polls, cut to the window."""
    spoken = _within(heard.left_us, heard.right_us, first, last)
    uptime = _sums(spoken * heard.active, edges)
    return {"uptime": uptime, "downtime": _sums(spoken, edges) - uptime}


def _sureness(first: int, last: int, heard: Evidence, edges: Ints, business: Ints) -> dict[str, Ints]:
    """What is measured between neighbouring polls, and what that leaves certain of the uptime."""
    between = np.zeros(len(heard), dtype=np.int64)
    between[:-1] = _within(heard.instant_us[:-1], heard.instant_us[1:], first, last)
    between *= heard.followed
    both_up, both_down = _agreeing(heard)
    measured, uptime_low = _sums(between, edges), _sums(between * both_up, edges)
    between *= both_down
    return {"measured": measured, "uptime_low": uptime_low, "uptime_high": business - _sums(between, edges)}


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
    length: Ints = np.minimum(end, last)
    length -= np.maximum(start, first)
    np.maximum(length, 0, out=length)
    return length


def _edges(store: Ints, size: int) -> Ints:
    """Where each store's run begins in a column sorted by store; `size + 1` entries."""
    return np.searchsorted(store, np.arange(size + 1))


def _sums(values: Ints, edges: Ints) -> Ints:
    """The sum of each store's run, in integers (`np.bincount` would go through floats).

    The values are parts of a week: the running sum stays in 64 bits for 15 million stores, and a part has 4,096.
    """
    total = np.zeros(len(edges) - 1, dtype=np.int64)
    filled = np.flatnonzero(edges[1:] > edges[:-1])
    if len(filled):
        total[filled] = np.add.reduceat(values, edges[filled])
    return total
