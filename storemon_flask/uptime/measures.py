"""How much business time of a period was up, down, unknown and measured (SPEC 3.4 and 3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import Bools, Ints
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.zones import block_size

# In microseconds: uptime + downtime + unknown = business, and uptime_low <= uptime <= uptime_high, exactly.
MEASURES: Final = ("uptime", "downtime", "unknown", "business", "measured", "uptime_low", "uptime_high")
# Those that need nothing but the evidence.
CLASSIC_MEASURES: Final = MEASURES[:2]


@dataclass(frozen=True, slots=True)
class Periods:
    """Periods `[start_us, end_us)` of stores, in any order; they may overlap, touch or repeat."""

    store: Ints
    start_us: Ints
    end_us: Ints

    def __len__(self) -> int:
        return len(self.store)


def measure(
    openings: Openings, evidence: Evidence, periods: Periods, as_of_us: int, names: Sequence[str] = MEASURES
) -> dict[str, Ints]:
    """Return `MEASURES`, or with those names the `CLASSIC_MEASURES`, of each period. Nothing counts from the as-of on.

    Each is a difference of running sums at the period's two edges: the cost does not depend on how long a period is.
    """
    edges = Edges(periods, as_of_us)
    up = evidence.active
    decided = RunningSums(evidence.store, evidence.left_us, evidence.right_us, edges)
    uptime, known = decided.within(up), decided.within(None)
    measures = {"uptime": uptime, "downtime": known - uptime}
    if names == CLASSIC_MEASURES:
        return measures
    instant, followed = evidence.instant_us, evidence.followed[:-1]
    between = RunningSums(evidence.store[:-1], instant[:-1], np.where(followed, instant[1:], instant[:-1]), edges)
    business = RunningSums(openings.store, openings.start_us, openings.end_us, edges).within(None)
    return measures | {
        "unknown": business - known,
        "business": business,
        "measured": between.within(None),
        "uptime_low": between.within(up[:-1] & up[1:]),
        "uptime_high": business - between.within(~(up[:-1] | up[1:])),
    }


class Edges:
    """Where periods begin and end, cut at the as-of, each looked up once.

    Hours and days tile a range: an end is the next one's start. Windows up to the as-of end together.
    """

    def __init__(self, periods: Periods, as_of_us: int) -> None:
        end = np.minimum(periods.end_us, as_of_us)
        start = np.minimum(periods.start_us, end)
        same_store = periods.store[1:] == periods.store[:-1]
        tiled = np.zeros(len(periods), dtype=bool)
        tiled[:-1] = same_store & (start[1:] == end[:-1])
        shared = np.zeros(len(periods), dtype=bool)
        shared[1:] = same_store & (end[1:] == end[:-1]) & ~tiled[:-1]
        own = ~(tiled | shared)
        self.store = np.append(periods.store, periods.store[own])
        self.instant_us = np.append(start, end[own])
        # One that shares its end follows the period that has it, perhaps with others that share it between them.
        self._last = np.where(tiled, np.arange(1, len(periods) + 1), len(periods) - 1 + np.cumsum(own))

    def difference(self, running: Ints) -> Ints:
        """Return how much a sum, known at each edge, grows from the start to the end of each period."""
        grown: Ints = running[self._last] - running[: len(self._last)]
        return grown


class RunningSums:
    """Running sums, at the edges of periods, of intervals sorted by store and start, disjoint within a store.

    Stores are laid one after the other on one line, far enough apart that no interval reaches into the next store's
    time. What lies before a store is in both of a period's edges and goes out of the difference.
    """

    def __init__(self, store: Ints, start: Ints, end: Ints, edges: Edges) -> None:
        self._edges = edges
        self._length = end - start
        if not len(store):
            return
        # The line is as long as the intervals need: with periods of a century it would not fit into 64 bits. No running
        # sum is longer than the line, as the intervals of a store are disjoint.
        low, high = int(start.min()), int(end.max())
        block = block_size(int(max(store[-1], edges.store.max(initial=0))) + 1, low, high)
        key = store * block + (start - low)
        at = edges.store * block + (np.clip(edges.instant_us, low, high) - low)
        index = np.searchsorted(key, at, side="right")
        self._interval = np.maximum(index - 1, 0)
        # Before the first interval of all there is nothing: `at` is left of its key.
        self._inside = np.clip(at - key[self._interval], 0, self._length[self._interval])

    def within(self, chosen: Bools | None) -> Ints:
        """Return how much of each period the intervals cover, or those chosen of them."""
        if not len(self._length):
            return self._edges.difference(np.zeros(len(self._edges.store), dtype=np.int64))
        length = self._length if chosen is None else self._length * chosen
        before = np.cumsum(length) - length
        inside = self._inside if chosen is None else self._inside * chosen[self._interval]
        return self._edges.difference(before[self._interval] + inside)
