"""Outages that began before the polls that were read: for the few stores that have one, more polls are read.

A store can be down for months. Every view that names the start of an outage gets it here, so that all name the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.schedule import NO_POLLS, Batch, Schedule
from storemon_flask.model import DAY_US, Bools, Ints, Rules
from storemon_flask.uptime import evidence, openings, timeline
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import Outages

# So many stores are looked up week by week; more would make each week be read as a whole.
_STORES_AT_ONCE: Final = 64
# Each reading goes back so many times as far as the one before.
_FARTHER: Final = 4
_NOTHING: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The evidence of some stores (their places in the part): `first` is the poll that begins each one's run, `whole`
    whether no poll before the reading can be of it."""

    place: Ints
    openings: Openings
    evidence: Evidence
    first: Ints
    whole: Bools
    polls: int


def starts(
    connection: Connection,
    plan: Schedule,
    part: Batch,
    poll_us: Ints,
    read_from_us: int,
    as_of_us: int,
    rules: Rules,
) -> Ints:
    """Where the run of each of the part's stores begins that its poll at `poll_us` is of: one in business hours.

    The runs are those that may have begun before `read_from_us` (`core.timeline.may_start_earlier`).
    """
    found = np.empty(len(part.number), dtype=np.int64)
    for reading in _readings(connection, plan, part, poll_us, read_from_us, as_of_us, rules):
        found[reading.place] = reading.evidence.left_us[reading.first]
    return found


def whole_outages(
    connection: Connection,
    plan: Schedule,
    part: Batch,
    opened: Openings,
    spoken: Evidence,
    read_from_us: int,
    begin_us: Ints,
    as_of_us: int,
    rules: Rules,
) -> tuple[Outages, int]:
    """Every outage of the part's stores, and how many polls were read for it; those that end after the store's
    `begin_us` whole.

    `opened` and `spoken` are the openings and the evidence from `read_from_us` on.
    """
    found = timeline.outages(opened, spoken, as_of_us)
    cut = _cut_off(opened, spoken, read_from_us, begin_us, as_of_us, rules)
    if not len(cut):
        return found, 0
    store = spoken.store[cut]
    parts, read = [found.picked(~np.isin(found.store, store))], 0
    some = part.select(store)
    for reading in _readings(connection, plan, some, spoken.instant_us[cut], read_from_us, as_of_us, rules):
        mine = timeline.outages(reading.openings, reading.evidence, as_of_us)
        read += reading.polls
        mine = mine.picked(reading.whole[mine.store])
        parts.append(mine.with_store(store[reading.place[mine.store]]))
    together = timeline.joined(parts)
    return together.picked(np.lexsort((together.start_us, together.store))), read


def _cut_off(
    opened: Openings, spoken: Evidence, read_from_us: int, begin_us: Ints, as_of_us: int, rules: Rules
) -> Ints:
    """The first polls of runs that are an outage after the store's `begin_us` and may have begun before the reading."""
    first = timeline.run_starts(opened, spoken)
    last = np.append(first[1:], len(spoken)) - 1 if len(first) else first
    cut = ~spoken.active[first] & (np.minimum(spoken.right_us[last], as_of_us) > begin_us[spoken.store[first]])
    cut[cut] = timeline.may_start_earlier(opened, spoken, first[cut], read_from_us, rules)
    return first[cut]


def _readings(
    connection: Connection,
    plan: Schedule,
    part: Batch,
    poll_us: Ints,
    read_from_us: int,
    as_of_us: int,
    rules: Rules,
) -> Iterator[_Reading]:
    """The stores again and again with more of their polls, until each one's run is whole in a reading."""
    if not len(part.number):
        return
    first_poll_us, _ = stores.poll_span(connection, part.number)
    for at in range(0, len(part.number), _STORES_AT_ONCE):
        places, from_us = np.arange(at, min(at + _STORES_AT_ONCE, len(part.number))), read_from_us
        while len(places):
            from_us = max(as_of_us - _FARTHER * (as_of_us - from_us), 0)
            some = part.select(places)
            opened = openings.build(
                plan.fleet(some, NO_POLLS, _NOTHING), from_us // DAY_US * DAY_US, (as_of_us // DAY_US + 1) * DAY_US
            )
            heard, count = polls.read_thinned(connection, some.number, from_us, as_of_us, rules, opened)
            spoken = evidence.gather(heard, opened, rules)
            first = _run_of(opened, spoken, poll_us[places])
            may = timeline.may_start_earlier(opened, spoken, first, from_us, rules)
            # Before the first poll of a store that could speak for anything there is nothing to be read.
            whole = ~may | (from_us <= np.maximum(first_poll_us[places] - rules.farthest_us, 0))
            yield _Reading(places, opened, spoken, first, whole, count)
            places = places[~whole]


def _run_of(opened: Openings, spoken: Evidence, poll_us: Ints) -> Ints:
    """For each store the poll that begins the run which its poll at that instant is of."""
    size = len(poll_us)
    # That poll itself may be left out (`poll_reading`): then one before it is of the same run.
    up_to = spoken.store[spoken.instant_us <= poll_us[spoken.store]]
    poll = np.searchsorted(spoken.store, np.arange(size)) + np.bincount(up_to, minlength=size) - 1
    first = timeline.run_starts(opened, spoken)
    found: Ints = first[np.searchsorted(first, poll, side="right") - 1]
    return found
