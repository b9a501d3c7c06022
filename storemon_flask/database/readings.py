"""The openings and polls of some stores over a range, ready to be measured, however many polls there are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np

from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.schedule import Batch, Schedule
from storemon_flask.model import DAY_US, WEEK_US, Ints, Polls, Rules
from storemon_flask.uptime import evidence
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings

# About as many as an hourly fleet has in a batch of a report: up to here nothing is left out.
_POLLS_AT_ONCE: Final = 2_000_000
# A batch has the polls of about this many store-days.
_STORE_DAYS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of some stores, from `from_us` up to `to_us`: openings, polls and the evidence that they give.

    `first` is the index of the first store in the schedule. `polls` are all polls, or those that `evidence.thin_out`
    leaves of more than fit into memory; `count` is how many were read, `newest_us` each store's newest (-1: none).
    """

    first: int
    batch: Batch
    from_us: int
    to_us: int
    openings: Openings
    polls: Polls
    evidence: Evidence
    count: int
    newest_us: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.batch.number)


def read_batches(
    connection: Connection, plan: Schedule, first_us: int, last_us: int, as_of_us: int, rules: Rules
) -> Iterator[Reading]:
    """Yield all that matters to `[first_us, last_us)`, some stores at a time, in the schedule's order.

    Polls after the range draw the line that ends the last segment in it; they need their openings too.
    """
    from_us = first_us - rules.farthest_us
    to_us = min(last_us + 2 * rules.farthest_us, as_of_us)
    size = max(1, _STORE_DAYS * DAY_US // (last_us - first_us + DAY_US))
    first = 0
    for batch in plan.batches:
        for at in range(0, max(len(batch.number), 1), size):
            some = batch if size >= len(batch.number) else batch.slice(at, at + size)
            yield read(connection, plan, some, from_us, to_us, rules, first + at)
        first += len(batch.number)


def read(
    connection: Connection,
    plan: Schedule,
    batch: Batch,
    from_us: int,
    to_us: int,
    rules: Rules,
    first: int = 0,
) -> Reading:
    """Return what is known of some of the schedule's stores from `from_us` up to `to_us`."""
    batch_polls, count, newest_us = read_polls(connection, plan, batch, from_us, to_us, rules)
    opened = plan.openings(batch, from_us, to_us)
    return Reading(
        first, batch, from_us, to_us, opened, batch_polls, evidence.gather(batch_polls, opened, rules), count, newest_us
    )


def read_polls(
    connection: Connection, plan: Schedule, batch: Batch, from_us: int, to_us: int, rules: Rules
) -> tuple[Polls, int, Ints]:
    """Return the polls, or of many those that `evidence.thin_out` leaves; how many there are; each store's newest."""
    batches = polls.read_in_batches(connection, batch.number, max(from_us, 0), to_us, _POLLS_AT_ONCE)
    batch_polls, following = next(batches), next(batches, None)
    count, newest_us = len(batch_polls), _newest(batch_polls, len(batch.number))
    if following is None:
        return batch_polls, count, newest_us
    opened = plan.openings(batch, from_us, to_us)
    thinned = [evidence.thin_out(batch_polls, opened, rules, to_us - WEEK_US)]
    for some in chain([following], batches):
        count += len(some)
        newest_us = np.maximum(newest_us, _newest(some, len(batch.number)))
        thinned.append(evidence.thin_out(some, opened, rules, to_us - WEEK_US))
    return _join(thinned), count, newest_us


def last_polls(connection: Connection, reading: Reading, as_of_us: int) -> Ints:
    """Return each store's newest poll up to the as-of, which may lie before those that were read; -1 for never."""
    last = reading.newest_us.copy()
    number = reading.batch.number
    missing = np.flatnonzero(last < 0)
    if len(missing):
        first_poll, last_poll = stores.poll_span(connection, number[missing])
        last[missing] = np.where(last_poll <= as_of_us, last_poll, -1)
        # Polls of before a prune are not read either.
        before_us = min(max(reading.from_us, reading.polls.complete_from_us), as_of_us + 1)
        older = missing[(first_poll >= 0) & (first_poll < before_us) & (last_poll > as_of_us)]
        last[older] = polls.newest_up_to(connection, number[older], before_us - 1)
    return last


def _newest(batch_polls: Polls, size: int) -> Ints:
    newest_us = np.full(size, -1, dtype=np.int64)
    edges = np.searchsorted(batch_polls.store, np.arange(size + 1))
    here = np.flatnonzero(edges[1:] > edges[:-1])
    newest_us[here] = batch_polls.instant_us[edges[here + 1] - 1]
    return newest_us


def _join(batches: list[Polls]) -> Polls:
    """Return the polls of batches with weights as one, by store, then time."""
    store, instant_us, active = (
        np.concatenate([getattr(batch, name) for batch in batches]) for name in ("store", "instant_us", "active")
    )
    weight = np.concatenate([batch.weight for batch in batches if batch.weight is not None])
    order = np.lexsort((instant_us, store))
    return Polls(store[order], instant_us[order], active[order], batches[0].complete_from_us, weight[order])
