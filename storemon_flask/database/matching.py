"""Whether the feeds meet: polled stores that have no hours or no zone, and stores with hours that were never polled."""

import sqlite3
from collections.abc import Sequence
from typing import Final

_CHUNK: Final = 500
_WITHOUT: Final = {
    "hours": "last_poll_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number)",
    "timezones": "last_poll_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM timezone WHERE timezone.store = store_record.number)",
    "polls": "last_poll_us IS NULL AND EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number)",
}


def without(connection: sqlite3.Connection, feed: str) -> int:
    """How many polled stores have none of `feed` (hours, timezones); how many stores with hours have no polls."""
    (count,) = connection.execute(f"SELECT count(*) FROM store_record WHERE {_WITHOUT[feed]}").fetchone()
    return int(count)


def examples_without(connection: sqlite3.Connection, feed: str, most: int, newer_than: int) -> list[str]:
    """The first ids of those stores, those of a number above `newer_than` before all others."""
    return [
        store_id
        for (store_id,) in connection.execute(
            f"SELECT store_id FROM store_record WHERE {_WITHOUT[feed]} ORDER BY number <= ?, number LIMIT ?",
            (newer_than, most),
        )
    ]


def any_without(connection: sqlite3.Connection, feed: str, number: Sequence[int]) -> bool:
    """Whether one of the stores of those numbers is such a store."""
    return any(
        connection.execute(
            f"SELECT 1 FROM store_record WHERE number IN ({','.join('?' * len(chunk))}) AND {_WITHOUT[feed]} LIMIT 1",
            chunk,
        ).fetchone()
        for chunk in (number[at : at + _CHUNK] for at in range(0, len(number), _CHUNK))
    )


def any_polls(connection: sqlite3.Connection) -> bool:
    """Whether there is a poll at all."""
    return connection.execute("SELECT 1 FROM poll_week LIMIT 1").fetchone() is not None


def any_hours(connection: sqlite3.Connection) -> bool:
    """Whether a store has hours at all."""
    return connection.execute("SELECT 1 FROM hours LIMIT 1").fetchone() is not None


def ids(connection: sqlite3.Connection) -> list[str]:
    """The ids of all stores, in order of number."""
    return [store_id for (store_id,) in connection.execute("SELECT store_id FROM store_record ORDER BY number")]


def ids_above(connection: sqlite3.Connection, number: int, most: int) -> list[str]:
    """The first ids of the stores of a higher number than that, in order of number."""
    rows = connection.execute(
        "SELECT store_id FROM store_record WHERE number > ? ORDER BY number LIMIT ?", (number, most)
    )
    return [store_id for (store_id,) in rows]


def feeds_of(connection: sqlite3.Connection, store_ids: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Whether each of those stores has polls, hours and a zone."""
    found: dict[str, tuple[int, int, int]] = {}
    for chunk in (store_ids[at : at + _CHUNK] for at in range(0, len(store_ids), _CHUNK)):
        rows = connection.execute(
            "SELECT store_id, last_poll_us IS NOT NULL, EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number), "
            "EXISTS (SELECT 1 FROM timezone WHERE timezone.store = store_record.number) "
            f"FROM store_record WHERE store_id IN ({','.join('?' * len(chunk))})",
            chunk,
        )
        found |= {store_id: (polls, hours, zone) for store_id, polls, hours, zone in rows}
    return found
