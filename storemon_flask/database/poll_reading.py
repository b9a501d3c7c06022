"""The polls of some stores, however many they are: of stores that are polled every second, only those that something
depends on.
"""

import sqlite3
from itertools import chain
from typing import Final

import numpy as np

from storemon_flask.database import polls
from storemon_flask.model import Ints, Polls, Rules
from storemon_flask.uptime import evidence
from storemon_flask.uptime.openings import Openings

# About as many as an hourly fleet has in a part of a report: up to here nothing is left out.
_POLLS_AT_ONCE: Final = 2_000_000


def read(
    connection: sqlite3.Connection,
    number: Ints,
    first_us: int,
    last_us: int,
    rules: Rules,
    openings: Openings,
) -> tuple[Polls, int]:
    """Return the polls as `storage.polls.read`, or those of them that `core.evidence.thinned` leaves; and how many were
    read.

    `openings` are those of the stores in that time.
    """
    batches = polls.read_in_batches(connection, number, first_us, last_us, _POLLS_AT_ONCE)
    first = next(batches)
    second = next(batches, None)
    if second is None:
        return first, len(first)
    count, parts = 0, []
    for batch in chain([first, second], batches):
        count += len(batch)
        parts.append(evidence.thinned(batch, openings, rules))
    store = np.concatenate([part.store for part in parts])
    instant_us = np.concatenate([part.instant_us for part in parts])
    order = np.lexsort((instant_us, store))
    active = np.concatenate([part.active for part in parts])[order]
    weight = np.concatenate([part.weight for part in parts if part.weight is not None])[order]
    return Polls(store[order], instant_us[order], active, first.complete_from_us, weight), count
