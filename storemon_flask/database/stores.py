"""Stores with their hours and zones, and the number that says whether the feeds have changed."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from storemon_flask.model import WEEK_US, Ints

_CHUNK = 500
_Key = TypeVar("_Key", int, str)
_Row = tuple[int, str, int, int, str, str]
_SELECT = "SELECT number, store_id, coalesce(first_poll_us, -1), coalesce(last_poll_us, -1), name, group_name FROM store_record"
_FEEDS: Final = ("polls", "hours", "timezones", "stores", "special_hours")
_WITHOUT: Final = {
    "hours": "last_poll_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number)",
    "timezones": "last_poll_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM timezone WHERE timezone.store = store_record.number)",
    "polls": "last_poll_us IS NULL AND EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number)",
}


@dataclass(frozen=True, slots=True)
class StoreRows:
    """Stores in order of number: ids, names and groups (empty where there is none), first and newest poll (-1: never)."""

    number: Ints
    ids: list[str]
    first_poll_us: Ints
    last_poll_us: Ints
    names: list[str]
    groups: list[str]


@dataclass(frozen=True, slots=True)
class Ahead:
    """Stores that have polls after an instant: how many, the first ids, and the last of those polls (-1: none)."""

    count: int = 0
    ids: tuple[str, ...] = ()
    last_us: int = -1

    def __bool__(self) -> bool:
        return self.count > 0


NOBODY_AHEAD: Final = Ahead()


def all_rows(connection: sqlite3.Connection) -> StoreRows:
    """Every store that an accepted row has named."""
    return _store_rows(connection.execute(f"{_SELECT} ORDER BY number").fetchall())


def rows_of(connection: sqlite3.Connection, ids: Sequence[str]) -> tuple[StoreRows, list[str]]:
    """The stores of those ids, and the ids that no store has."""
    rows: list[_Row] = []
    # JSON can carry half a surrogate pair, which no text in the database can be.
    for chunk in _chunks([store_id for store_id in ids if store_id.isascii() or _is_text(store_id)]):
        marks = ",".join("?" * len(chunk))
        rows += connection.execute(f"{_SELECT} WHERE store_id IN ({marks})", chunk).fetchall()
    found = _store_rows(sorted(set(rows)))
    known = set(found.ids)
    return found, [store_id for store_id in ids if store_id not in known]


def numbers(connection: sqlite3.Connection, ids: Sequence[str]) -> Ints:
    """The store numbers of those distinct ids, in their order; ids not seen before become stores."""
    return numbers_and_last_polls(connection, ids)[0]


def numbers_and_last_polls(connection: sqlite3.Connection, ids: Sequence[str]) -> tuple[Ints, Ints]:
    """The same, and the newest poll of each store so far (-1: never polled)."""
    found, missing = rows_of(connection, ids)
    number = dict(zip(found.ids, found.number.tolist(), strict=True))
    last = dict(zip(found.ids, found.last_poll_us.tolist(), strict=True))
    if missing:
        highest = highest_number(connection)
        fresh = {store_id: highest + 1 + place for place, store_id in enumerate(missing)}
        connection.executemany("INSERT INTO store_record (store_id, number) VALUES (?, ?)", fresh.items())
        schedule_changed(connection)
        number |= fresh
    return (
        np.array([number[store_id] for store_id in ids], dtype=np.int64),
        np.array([last.get(store_id, -1) for store_id in ids], dtype=np.int64),
    )


def highest_number(connection: sqlite3.Connection) -> int:
    """The highest store number; those of new stores lie above it. 0 without a store."""
    (highest,) = connection.execute("SELECT coalesce(max(number), 0) FROM store_record").fetchone()
    return int(highest)


def poll_span(connection: sqlite3.Connection, number: Ints) -> tuple[Ints, Ints]:
    """First and newest poll of each store of those ascending numbers; -1 where there is none."""
    select = "SELECT number, coalesce(first_poll_us, -1), coalesce(last_poll_us, -1) FROM store_record WHERE number"
    low, high = int(number[0]), int(number[-1])
    if high - low < 8 * len(number):
        rows = connection.execute(f"{select} BETWEEN ? AND ? ORDER BY number", (low, high)).fetchall()
    else:
        rows = []
        for chunk in _chunks(number.tolist()):
            marks = ",".join("?" * len(chunk))
            rows += connection.execute(f"{select} IN ({marks}) ORDER BY number", chunk).fetchall()
    found, first_poll_us, last_poll_us = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    index = np.searchsorted(found, number)
    return first_poll_us[index], last_poll_us[index]


def newest_poll(connection: sqlite3.Connection) -> int | None:
    """The newest poll of all, microseconds; None when there is no poll."""
    newest: int | None
    (newest,) = connection.execute("SELECT max(last_poll_us) FROM store_record").fetchone()
    return newest


def polled_after(connection: sqlite3.Connection, latest_us: int) -> Ahead:
    """The stores that have polls after `latest_us`."""
    count, last_us = connection.execute(
        "SELECT count(*), coalesce(max(last_poll_us), -1) FROM store_record WHERE last_poll_us > ?", [latest_us]
    ).fetchone()
    ids = connection.execute(
        "SELECT store_id FROM store_record WHERE last_poll_us > ? ORDER BY number LIMIT 3", [latest_us]
    ).fetchall()
    return Ahead(count, tuple(store_id for (store_id,) in ids), last_us)


def polls_around(connection: sqlite3.Connection, latest_us: int) -> tuple[int | None, int | None]:
    """The newest poll of all stores without polls after `latest_us`, and the first of all stores without polls up to
    it.
    """
    newest_us: int | None
    first_us: int | None
    newest_us, first_us = connection.execute(
        "SELECT max(CASE WHEN last_poll_us <= :latest THEN last_poll_us END), "
        "min(CASE WHEN first_poll_us > :latest THEN first_poll_us END) FROM store_record",
        {"latest": latest_us},
    ).fetchone()
    return newest_us, first_us


def ids_of(connection: sqlite3.Connection, number: Sequence[int]) -> list[str]:
    """The ids of the stores of those numbers, in order of number."""
    marks = ",".join("?" * len(number))
    rows = connection.execute(f"SELECT store_id FROM store_record WHERE number IN ({marks}) ORDER BY number", number)
    return [store_id for (store_id,) in rows]


def recently_polled_counts(connection: sqlite3.Connection, since_us: int, until_us: int) -> tuple[int, int, int]:
    """How many stores were polled by `until_us`; of them, how many have their newest poll in `[since_us, until_us]`,
    and after.
    """
    counts = connection.execute(
        "SELECT count(*), count(CASE WHEN last_poll_us BETWEEN :since AND :until THEN 1 END), "
        "count(CASE WHEN last_poll_us > :until THEN 1 END) FROM store_record WHERE first_poll_us <= :until",
        {"since": since_us, "until": until_us},
    ).fetchone()
    return int(counts[0]), int(counts[1]), int(counts[2])


def numbers_polled_after(connection: sqlite3.Connection, as_of_us: int, most: int) -> Ints:
    """The lowest numbers, ascending, of stores that were polled by the as-of and after it; at most so many."""
    rows = connection.execute(
        "SELECT number FROM store_record WHERE first_poll_us <= :as_of AND last_poll_us > :as_of ORDER BY number LIMIT :most",
        {"as_of": as_of_us, "most": most},
    ).fetchall()
    return np.array(rows, dtype=np.int64).reshape(-1)


def poll_spans(connection: sqlite3.Connection, until_us: int) -> tuple[Ints, Ints, Ints]:
    """Number, first and newest poll of each store that was polled by `until_us`, by number."""
    rows = connection.execute(
        "SELECT number, first_poll_us, last_poll_us FROM store_record WHERE first_poll_us <= ? ORDER BY number",
        [until_us],
    ).fetchall()
    number, first, last = np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()
    return number, first, last


def names_of(connection: sqlite3.Connection, store_ids: Iterable[str]) -> dict[tuple[str], tuple[str, ...]]:
    """Name and group of those stores, each empty where there is none."""
    return facts(connection, "SELECT store_id, name, group_name FROM store_record WHERE store_id IN", store_ids, keys=1)


def replace_names(connection: sqlite3.Connection, names: dict[tuple[str], tuple[str, ...]]) -> None:
    """Each store's name and group become those given."""
    if not names:
        return
    number = numbers(connection, [store_id for (store_id,) in names])
    connection.executemany(
        "UPDATE store_record SET name = ?, group_name = ? WHERE number = ?",
        [(*said, store) for store, said in zip(number.tolist(), names.values(), strict=True)],
    )
    schedule_changed(connection)


def facts(
    connection: sqlite3.Connection, select: str, store_ids: Iterable[str], keys: int
) -> dict[Any, tuple[str, ...]]:
    """What `select` says of those stores: its first `keys` columns as a tuple, to the others."""
    found: dict[Any, tuple[str, ...]] = {}
    for chunk in _chunks(list(store_ids)):
        marks = ",".join("?" * len(chunk))
        found |= {tuple(row[:keys]): tuple(row[keys:]) for row in connection.execute(f"{select} ({marks})", chunk)}
    return found


def remove(connection: sqlite3.Connection, store_id: str) -> None:
    """Forget the store with its hours, its zones and, week by week, its polls."""
    number, first, last = connection.execute(
        "SELECT number, first_poll_us, last_poll_us FROM store_record WHERE store_id = ?", [store_id]
    ).fetchone()
    if first is not None:
        weeks = range(first // WEEK_US, last // WEEK_US + 1)
        connection.executemany("DELETE FROM poll_week WHERE week = ? AND store = ?", [(week, number) for week in weeks])
    for table, column in (
        ("hours", "store"),
        ("special_hours", "store"),
        ("timezone", "store"),
        ("store_record", "number"),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", [number])
    schedule_changed(connection)


def data_version(connection: sqlite3.Connection) -> int:
    """A number that is the same only while the feeds are the same."""
    (version,) = connection.execute("SELECT version FROM data_version").fetchone()
    return int(version)


def data_changed(connection: sqlite3.Connection) -> None:
    """Count the data version up; called in the transaction that changes a feed."""
    connection.execute("UPDATE data_version SET version = version + 1")


def complete_from(connection: sqlite3.Connection) -> int | None:
    """The instant before which polls were pruned, microseconds; None when none ever were."""
    instant_us: int | None
    (instant_us,) = connection.execute("SELECT complete_from_us FROM data_version").fetchone()
    return instant_us


def schedule_version(connection: sqlite3.Connection) -> int:
    """A number that is the same only while stores, hours and zones are the same."""
    (version,) = connection.execute("SELECT schedule FROM data_version").fetchone()
    return int(version)


def schedule_changed(connection: sqlite3.Connection) -> None:
    """Count the schedule version up; called in the transaction that changes a store, its hours or its zone."""
    connection.execute("UPDATE data_version SET schedule = schedule + 1")


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
        for chunk in _chunks(number)
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
    for chunk in _chunks(store_ids):
        rows = connection.execute(
            "SELECT store_id, last_poll_us IS NOT NULL, EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number), "
            "EXISTS (SELECT 1 FROM timezone WHERE timezone.store = store_record.number) "
            f"FROM store_record WHERE store_id IN ({','.join('?' * len(chunk))})",
            chunk,
        )
        found |= {store_id: (polls, hours, zone) for store_id, polls, hours, zone in rows}
    return found


def last_loaded(connection: sqlite3.Connection) -> dict[str, int]:
    """When the newest file of each feed was put in (microseconds), for the feeds that were ever loaded."""
    # One look into the index for each feed, however many files there were.
    newest = {
        feed: connection.execute(
            "SELECT max(loaded_us) FROM load_file WHERE feed = ? AND error = ''", [feed]
        ).fetchone()[0]
        for feed in _FEEDS
    }
    return {feed: loaded_us for feed, loaded_us in newest.items() if loaded_us is not None}


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many there are: `polls`, `polled` stores, `hours` rows, stores `with_hours`, `timezones`, `names`, `stores`,
    `special` rows, stores `with_special`."""
    found = {
        "polls": "SELECT coalesce(sum(length(polls)), 0) / 8 FROM poll_week",
        "polled": "SELECT count(last_poll_us) FROM store_record",
        "hours": "SELECT count(*) FROM hours",
        "with_hours": "SELECT count(DISTINCT store) FROM hours",
        "timezones": "SELECT count(*) FROM timezone",
        "names": "SELECT count(*) FROM store_record WHERE name <> '' OR group_name <> ''",
        "stores": "SELECT count(*) FROM store_record",
        "special": "SELECT count(*) FROM special_hours",
        "with_special": "SELECT count(DISTINCT store) FROM special_hours",
    }
    return {name: int(connection.execute(query).fetchone()[0]) for name, query in found.items()}


def _store_rows(rows: Sequence[_Row]) -> StoreRows:
    number, ids, first, last, names, groups = zip(*rows, strict=True) if rows else ((),) * 6
    return StoreRows(
        np.array(number, dtype=np.int64),
        list(ids),
        np.array(first, dtype=np.int64),
        np.array(last, dtype=np.int64),
        list(names),
        list(groups),
    )


def _is_text(store_id: str) -> bool:
    try:
        store_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _chunks(ids: Sequence[_Key]) -> Iterable[Sequence[_Key]]:
    return (ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK))
