"""Any stretches of time, of any stores, measured as a report measures its windows (SPEC 3.4 and 3.5)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.core.evidence import Evidence
from storemon_flask.core.openings import Openings
from storemon_flask.model import Bools, Ints

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
    ends = np.minimum(periods.end_us, as_of_us)
    cut = Periods(periods.store, np.minimum(periods.start_us, ends), ends)
    up = evidence.active
    spoken = _Running(evidence.store, evidence.left_us, evidence.right_us, cut)
    between = _Running(
        evidence.store[:-1], evidence.instant_us[:-1], evidence.instant_us[1:], cut, evidence.followed[:-1]
    )
    business = _Running(openings.store, openings.start_us, openings.end_us, cut).of(None)
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


class _Running:
    """Running sums of intervals, disjoint within a store and sorted by store and start, at the edges of periods.

    Stores are laid one after the other on one line, far enough apart that no interval reaches into the next store's part.
    What lies before a store's part is in both of a period's edges and goes out of the difference.
    """

    def __init__(self, store: Ints, start: Ints, end: Ints, periods: Periods, wanted: Bools | None = None) -> None:
        self._wanted = np.ones(len(store), dtype=bool) if wanted is None else wanted
        end = np.where(self._wanted, end, start)
        low = min((int(column.min()) for column in (start, periods.start_us) if len(column)), default=0)
        high = max((int(column.max()) for column in (end, start, periods.end_us) if len(column)), default=0)
        block = high - low + 1
        self._length = end - start
        key = store * block + (start - low)
        self._edges = []
        for edge in (periods.start_us, periods.end_us):
            at = periods.store * block + (edge - low)
            place = np.searchsorted(key, at, side="right") - 1
            inside = np.maximum(place, 0)
            part = np.minimum(at - key[inside], self._length[inside]) if len(key) else np.zeros(len(at), dtype=np.int64)
            self._edges.append((place, inside, np.where(place < 0, 0, part)))

    def of(self, chosen: Bools | None) -> Ints:
        """How much of each period the intervals cover, or those chosen of them."""
        weight = self._length if chosen is None else self._length * chosen
        if not len(weight):
            return np.zeros(len(self._edges[0][0]), dtype=np.int64)
        running = np.concatenate([[0], np.cumsum(weight)])
        (first, last) = (
            running[np.maximum(place, 0)] + (part if chosen is None else part * chosen[inside])
            for place, inside, part in self._edges
        )
        total: Ints = last - first
        return total
