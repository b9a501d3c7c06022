"""The facts that alerts judge a store by at one instant: its opening, the polls and outage in it, and its changes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import HOUR_US, Bools, Ints
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings

# Changes of status are counted in this much business time before the as-of.
CHANGES_US: Final = 6 * HOUR_US


@dataclass(frozen=True, slots=True)
class Conditions:
    """An entry for each store; -1 where there is nothing to say.

    `opened_us`, `closes_us`: the opening at the as-of, or the last one before it (`closes_us` is not after the as-of
    then); `opened_us` is 0 where it began before what was read, as for stores that are always open.
    Of that opening: `polls` and `active_polls`; `first_up_us`, from when its first active poll decides; of its last run
    of inactive polls `[down_from_us, down_until_us)`, how many they are (`down_polls`), and the instants of the first
    (`seen_us`) and of the active poll before it, also in an earlier opening (`last_up_us`).
    `changes` of status in the last six business hours, the first of them at `changes_from_us`; the last change of all
    at `changed_us`, `calm_us` of business time ago.
    """

    opened_us: Ints
    closes_us: Ints
    polls: Ints
    active_polls: Ints
    first_up_us: Ints
    down_from_us: Ints
    down_until_us: Ints
    down_polls: Ints
    seen_us: Ints
    last_up_us: Ints
    changes: Ints
    changes_from_us: Ints
    changed_us: Ints
    calm_us: Ints

    def columns(self) -> dict[str, Ints]:
        """Return them by name."""
        return {name: getattr(self, name) for name in Conditions.__slots__}


def find(as_of_us: int, size: int, openings: Openings, evidence: Evidence, read_from_us: int) -> Conditions:
    """Return the conditions of `size` stores at the as-of, after which the evidence must hold no poll.

    What happened before `read_from_us` was not read.
    """
    columns = {name: np.full(size, -1, dtype=np.int64) for name in Conditions.__slots__}
    for name in ("polls", "active_polls", "down_polls", "changes"):
        columns[name][:] = 0
    begun = np.flatnonzero(openings.start_us <= as_of_us)
    current = np.full(size, -1, dtype=np.int64)
    # Of equal stores the last one stays, which is the latest opening.
    current[openings.store[begun]] = begun
    open_store = np.flatnonzero(current >= 0)
    start = openings.start_us[current[open_store]]
    columns["opened_us"][open_store] = np.where(start <= read_from_us, 0, start)
    columns["closes_us"][open_store] = openings.end_us[current[open_store]]
    if len(evidence):
        _describe_opening(columns, current, as_of_us, evidence)
        _count_changes(columns, as_of_us, openings, evidence)
    return Conditions(**columns)


def _describe_opening(columns: dict[str, Ints], current: Ints, as_of_us: int, evidence: Evidence) -> None:
    """Set the columns on the polls of each store's current opening."""
    first = np.searchsorted(evidence.opening, current)
    count = np.searchsorted(evidence.opening, current, side="right") - first
    store = np.repeat(np.arange(len(current)), count)
    begins = np.cumsum(count) - count
    row = np.arange(len(store)) + np.repeat(first - begins, count)
    if not len(row):
        return
    active, left = evidence.active[row], evidence.left_us[row]
    weight = np.ones(len(row), dtype=np.int64) if evidence.weight is None else evidence.weight[row]
    size = len(current)
    columns["polls"][:] = np.bincount(store, weight, size).astype(np.int64)
    columns["active_polls"][:] = np.bincount(store, weight * active, size).astype(np.int64)
    up = np.flatnonzero(active)[::-1]
    columns["first_up_us"][store[up]] = left[up]

    down = np.flatnonzero(~active)
    last = np.full(size, -1, dtype=np.int64)
    last[store[down]] = down
    shown = np.flatnonzero(last >= 0)
    last = last[shown]
    run = _run_starts(store, active, left, evidence.right_us[row])[last]
    before = np.concatenate([[0], np.cumsum(weight)])
    columns["down_from_us"][shown] = left[run]
    columns["down_until_us"][shown] = np.minimum(evidence.right_us[row[last]], as_of_us)
    columns["down_polls"][shown] = before[last + 1] - before[run]
    columns["seen_us"][shown] = evidence.instant_us[row[run]]
    previous = np.maximum(row[run] - 1, 0)
    came = (row[run] > 0) & (evidence.store[previous] == evidence.store[row[run]]) & evidence.active[previous]
    columns["last_up_us"][shown] = np.where(came, evidence.instant_us[previous], -1)


def _run_starts(store: Ints, active: Bools, left: Ints, right: Ints) -> Ints:
    """Return for each poll the first one of its run: polls of one store and status without unknown time between."""
    starts = np.ones(len(store), dtype=bool)
    starts[1:] = (store[1:] != store[:-1]) | (active[1:] != active[:-1]) | (right[:-1] != left[1:])
    begins: Ints = np.maximum.accumulate(np.where(starts, np.arange(len(store)), 0))
    return begins


def _count_changes(columns: dict[str, Ints], as_of_us: int, openings: Openings, evidence: Evidence) -> None:
    """Set the columns on changes of status."""
    store, active = evidence.store, evidence.active
    later = np.flatnonzero((active[1:] != active[:-1]) & (store[1:] == store[:-1])) + 1
    store, opening, change = store[later], evidence.opening[later], evidence.left_us[later]
    end = np.minimum(openings.end_us, as_of_us)
    total = np.concatenate([[0], np.cumsum(np.maximum(end - openings.start_us, 0))])
    stop = np.searchsorted(openings.store, store, side="right")
    calm = total[stop] - total[opening + 1] + end[opening] - change
    columns["changed_us"][store] = change
    columns["calm_us"][store] = calm
    recent = np.flatnonzero(calm <= CHANGES_US)[::-1]
    columns["changes"][:] = np.bincount(store[recent], minlength=len(columns["changes"]))
    columns["changes_from_us"][store[recent]] = change[recent]
