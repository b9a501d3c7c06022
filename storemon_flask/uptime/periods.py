"""Any stretches of time, of any stores, measured as a report measures its windows (SPEC 3.4 and 3.5)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import Bools, Ints
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.zones import block_size

MEASURES: Final = ("uptime", "downtime", "unknown", "business", "measured", "uptime_low", "uptime_high")


@dataclass(frozen=True, slots=True)
class Periods:
    """Stretches `[start_us, end_us)` of stores, in any order; they may overlap, touch or repeat."""

    store: Ints
    start_us: Ints
    end_us: Ints

    def __len__(self) -> int:
        return len(self.store)


def measure(openings: Openings, evidence: Evidence, periods: Periods, as_of_us: int) -> dict[str, Ints]:
    """The measures of a report, in microseconds, one entry per period. Nothing counts from the as-of on.

    Each is a difference of running sums at the period's two edges: the cost does not depend on how long a period is.
    """
    edges = _Edges(periods, as_of_us)
    up = evidence.active
    spoken = _Running(evidence.store, evidence.left_us, evidence.right_us, edges)
    instant, followed = evidence.instant_us, evidence.followed[:-1]
    between = _Running(evidence.store[:-1], instant[:-1], np.where(followed, instant[1:], instant[:-1]), edges)
    business = _Running(openings.store, openings.start_us, openings.end_us, edges).of(None)
    uptime, both = spoken.of(up), spoken.of(None)
    return {
        "uptime": uptime,
        "downtime": both - uptime,
        "unknown": business - both,
        "business": business,
        "measured": between.of(None),
        "uptime_low": between.of(up[:-1] & up[1:]),
        "uptime_high": business - between.of(~(up[:-1] | up[1:])),
    }


class _Edges:
    """Where periods begin and where they end, cut at the as-of; an end where the next one begins is not said twice.

    Hours and days tile a range: that halves what is looked up.
    """

    def __init__(self, periods: Periods, as_of_us: int) -> None:
        end = np.minimum(periods.end_us, as_of_us)
        start = np.minimum(periods.start_us, end)
        tiled = np.zeros(len(periods), dtype=bool)
        tiled[:-1] = (periods.store[1:] == periods.store[:-1]) & (start[1:] == end[:-1])
        own = np.flatnonzero(~tiled)
        self.store = np.append(periods.store, periods.store[own])
        self.instant_us = np.append(start, end[own])
        self._last = np.arange(1, len(periods) + 1)
        self._last[own] = len(periods) + np.arange(len(own))

    def difference(self, running: Ints) -> Ints:
        """How much a sum, known at each edge, grows from the start to the end of each period."""
        grown: Ints = running[self._last] - running[: len(self._last)]
        return grown


class _Running:
    """Running sums, at the edges of periods, of intervals sorted by store and start, disjoint within a store.

    Stores are laid one after the other on one line, far enough apart that no interval reaches into the next store's
    part. What lies before a store's part is in both of a period's edges and goes out of the difference.
    """

    def __init__(self, store: Ints, start: Ints, end: Ints, edges: _Edges) -> None:
        self._edges = edges
        self._length = end - start
        if not len(store):
            return
        # The line is as long as the intervals ask for: with periods of a century it would not fit into 64 bits.
        low, high = int(start.min()), int(end.max())
        # No running sum is longer than the line itself: the intervals of a store are disjoint.
        block = block_size(int(max(store[-1], edges.store.max(initial=0))) + 1, low, high)
        key = store * block + (start - low)
        at = edges.store * block + (np.clip(edges.instant_us, low, high) - low)
        place = np.searchsorted(key, at, side="right")
        self._whole = np.maximum(place - 1, 0)
        # Before the first interval of all there is nothing: `at` is left of its key.
        self._part = np.clip(at - key[self._whole], 0, self._length[self._whole])

    def of(self, chosen: Bools | None) -> Ints:
        """How much of each period the intervals cover, or those chosen of them."""
        if not len(self._length):
            return self._edges.difference(np.zeros(len(self._edges.store), dtype=np.int64))
        weight = self._length if chosen is None else self._length * chosen
        before = np.cumsum(weight) - weight
        part = self._part if chosen is None else self._part * chosen[self._whole]
        return self._edges.difference(before[self._whole] + part)
