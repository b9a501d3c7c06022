"""The feeds read back as streams, a batch at a time."""

import sqlite3
from collections.abc import Iterator
from typing import Final

import numpy as np

from storemon_flask.model import Bools, Ints

_PACKED: Final = np.dtype(">i8")
_BATCH_BYTES: Final = 1 << 20


def ids(connection: sqlite3.Connection) -> dict[int, str]:
    """The id of every store number."""
    return dict(connection.execute("SELECT number, store_id FROM store_record"))


def polls(connection: sqlite3.Connection) -> Iterator[tuple[Ints, Ints, Bools]]:
    """(store number, instant in microseconds, active) of every poll, by week, store and instant, about 130,000 at a
    time.
    """
    stores: list[int] = []
    blobs: list[bytes] = []
    size = 0
    for store, blob in connection.execute("SELECT store, polls FROM poll_week ORDER BY week, store"):
        stores.append(store)
        blobs.append(blob)
        size += len(blob)
        if size >= _BATCH_BYTES:
            yield _columns(stores, blobs)
            stores, blobs, size = [], [], 0
    if blobs:
        yield _columns(stores, blobs)


def hours(connection: sqlite3.Connection) -> Iterator[tuple[int, int, int, int, int]]:
    """(store number, day, start second, end second, date from which on it holds) of every row of hours."""
    yield from connection.execute("SELECT store, day, start_s, end_s, valid_from FROM hours ORDER BY 1, 5, 2, 3, 4")


def special_hours(connection: sqlite3.Connection) -> Iterator[tuple[int, int, int, int]]:
    """(store number, date, start second, end second) of every row of special hours."""
    yield from connection.execute("SELECT store, date, start_s, end_s FROM special_hours ORDER BY 1, 2, 3, 4")


def zones(connection: sqlite3.Connection) -> Iterator[tuple[int, str, int]]:
    """(store number, zone, date from which on it holds) of every store that has one."""
    yield from connection.execute("SELECT store, name, valid_from FROM timezone ORDER BY store, valid_from")


def names(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    """(store number, name, group) of every store, those without either too."""
    yield from connection.execute("SELECT number, name, group_name FROM store_record ORDER BY number")


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each feed has."""
    counted = {
        "polls": "SELECT coalesce(sum(length(polls)), 0) / 8 FROM poll_week",
        "hours": "SELECT count(*) FROM hours",
        "special_hours": "SELECT count(*) FROM special_hours",
        "timezones": "SELECT count(*) FROM timezone",
        "stores": "SELECT count(*) FROM store_record",
    }
    return {feed: int(connection.execute(query).fetchone()[0]) for feed, query in counted.items()}


def _columns(stores: list[int], blobs: list[bytes]) -> tuple[Ints, Ints, Bools]:
    packed = np.frombuffer(b"".join(blobs), dtype=_PACKED).astype(np.int64)
    sizes = [len(blob) // _PACKED.itemsize for blob in blobs]
    return np.repeat(np.array(stores, dtype=np.int64), sizes), packed >> 1, (packed & 1).astype(bool)
