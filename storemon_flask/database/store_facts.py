"""What is asked of one store at a time."""

import sqlite3

import numpy as np

from storemon_flask.database import polls
from storemon_flask.model import WEEK_US

_INSTANT_BYTES = 8


def poll_count(connection: sqlite3.Connection, number: int, first_us: int, last_us: int) -> int:
    """How many polls the store of that number has up to `last_us`; none lies before `first_us`."""
    week_us = last_us // WEEK_US * WEEK_US
    last_week = polls.read(connection, np.array([number], dtype=np.int64), week_us, last_us)
    # Weeks come first in the key: one look-up for each is far less than a walk over all of them.
    (packed,) = connection.execute(
        "WITH RECURSIVE span (week) AS (SELECT :first_week UNION ALL SELECT week + 1 FROM span WHERE week + 1 < :last_week) "
        "SELECT coalesce(sum(length(polls)), 0) FROM span CROSS JOIN poll_week USING (week) "
        "WHERE store = :store AND week < :last_week",
        {"first_week": first_us // WEEK_US, "last_week": last_us // WEEK_US, "store": number},
    ).fetchone()
    return int(packed) // _INSTANT_BYTES + len(last_week)
