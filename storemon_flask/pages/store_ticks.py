"""The polls of a store's days as ticks: each with its sentence while they are few; else those that would touch as one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import Bools, Ints
from storemon_flask.stores.detail import LocalDay

KINDS: Final = ("active", "inactive", "closed")
# With more polls there is no room to say something of each, and no more ticks than that are drawn.
MOST_TOLD: Final = 240
MOST_TICKS: Final = 900
# Ticks nearer than this part of a row touch.
_TOUCHING: Final = 400


@dataclass(frozen=True, slots=True)
class Tick:
    """Polls of one kind from the first to the last of them, each no further than `Ticks.apart_us` from the one before."""

    first_us: int
    last_us: int
    kind: str


class Ticks:
    """The polls on some days of one row width. `apart_us` is how far apart polls may be that are drawn as one; -1: each
    is drawn by itself."""

    def __init__(self, days: list[LocalDay], width_us: int, instant_us: Ints, active: Bools, in_hours: Bools) -> None:
        """`instant_us` ascends; `in_hours` says which polls count."""
        kind = np.where(in_hours, np.where(active, 0, 1), 2)
        self._instant_us = {name: instant_us[kind == place] for place, name in enumerate(KINDS)}
        self.apart_us = -1 if len(instant_us) <= MOST_TOLD else self._apart(days, width_us // _TOUCHING)

    def of(self, day: LocalDay) -> Iterator[Tick]:
        """Its ticks, kind by kind: what is down is drawn over what is up."""
        for kind in KINDS:
            found = self._of(kind, day)
            ends = np.flatnonzero(np.diff(found) > self.apart_us)
            firsts, lasts = found[np.append(0, ends + 1)[: len(found)]], found[np.append(ends, -1)[: len(found)]]
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                yield Tick(first, last, kind)

    def _of(self, kind: str, day: LocalDay) -> Ints:
        found = self._instant_us[kind]
        begin, end = found.searchsorted((day.start_us, day.end_us))
        inside: Ints = found[begin:end]
        return inside

    def _apart(self, days: list[LocalDay], touching_us: int) -> int:
        """As far as ticks touch; further while that leaves too many, and no further than it takes."""
        found = [self._of(kind, day) for kind in KINDS for day in days]
        gaps = np.sort(np.concatenate([np.diff(one) for one in found]))
        # Every day has a tick of each kind that it has polls of, whatever is drawn as one.
        room = MOST_TICKS - sum(len(one) > 0 for one in found)
        return max(touching_us, int(gaps[-room - 1]) if len(gaps) > room else 0)
