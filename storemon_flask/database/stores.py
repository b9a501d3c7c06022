"""Stores with names, hours and zones, in versions by local date; and the numbers that count changes of the feeds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from storemon_flask import labels
from storemon_flask.characters import is_text, show_invisible
from storemon_flask.database.connections import Connection
from storemon_flask.errors import NotFound
from storemon_flask.model import FOREVER, Hours, Ints, SpecialHours

_CHUNK: Final = 500
# Some rows at a time: a row as Python objects takes ten times the room that it has in arrays.
_ROWS_AT_ONCE: Final = 20_000
# A store id and the local date (`model.UNDATED`: none) from which something holds, or on which it does.
Version = tuple[str, int]
_SELECT: Final = (
    "SELECT number, store_id, coalesce(first_poll_us, -1), coalesce(last_poll_us, -1), name, group_name, "
    "labels FROM store_record"
)
_FEEDS: Final = ("polls", "hours", "timezones", "stores", "special_hours")
_HAS_HOURS: Final = "EXISTS (SELECT 1 FROM hours WHERE hours.store = store_record.number)"
_HAS_ZONE: Final = "EXISTS (SELECT 1 FROM timezone WHERE timezone.store = store_record.number)"
_WITHOUT: Final = {
    "hours": f"last_poll_us IS NOT NULL AND NOT {_HAS_HOURS}",
    "timezones": f"last_poll_us IS NOT NULL AND NOT {_HAS_ZONE}",
    "polls": f"last_poll_us IS NULL AND {_HAS_HOURS}",
}


@dataclass(frozen=True, slots=True)
class StoreRows:
    """Stores in order of number; name, group and packed `labels` are empty where there is none, first and newest poll
    -1 for never."""

    number: Ints
    ids: list[str]
    first_poll_us: Ints
    last_poll_us: Ints
    names: list[str]
    groups: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Ahead:
    """Stores that have polls after some time: how many, the first ids, and the last of those polls (-1: none)."""

    count: int = 0
    ids: tuple[str, ...] = ()
    last_us: int = -1

    def __bool__(self) -> bool:
        return self.count > 0


NOBODY_AHEAD: Final = Ahead()


def all_rows(connection: Connection) -> StoreRows:
    """Return every store that an accepted row has named."""
    return _store_rows(connection.execute(f"{_SELECT} ORDER BY number").fetchall())


def groups_missing(connection: Connection, names: Sequence[str]) -> list[str]:
    """Return which of those groups no store is of."""
    return [
        name
        for name in names
        if connection.execute("SELECT 1 FROM store_record WHERE group_name = ? LIMIT 1", [name]).fetchone() is None
    ]


def no_store(store_id: str) -> NotFound:
    """Return the error for a store that is not there."""
    return NotFound(f"there is no store {show_invisible(store_id)!r}; the list of stores has those there are")


def rows_of(connection: Connection, ids: Sequence[str]) -> tuple[StoreRows, list[str]]:
    """Return the stores of those ids, and the ids that no store has."""
    texts = [store_id for store_id in ids if is_text(store_id)]
    rows = _store_rows(sorted(set(_rows_in(connection, f"{_SELECT} WHERE store_id IN", texts))))
    known = set(rows.ids)
    return rows, [store_id for store_id in ids if store_id not in known]


def numbers(connection: Connection, ids: Sequence[str]) -> Ints:
    """Return the store numbers of those distinct ids, in their order; ids not seen before become stores."""
    return numbers_and_last_polls(connection, ids)[0]


def numbers_of(connection: Connection, store_ids: Sequence[str]) -> dict[str, int]:
    """Return the numbers of those stores that are there."""
    return dict(_rows_in(connection, "SELECT store_id, number FROM store_record WHERE store_id IN", store_ids))


def numbers_and_last_polls(connection: Connection, ids: Sequence[str]) -> tuple[Ints, Ints]:
    """Return the same, and the newest poll of each store so far (-1: never polled)."""
    rows, missing = rows_of(connection, ids)
    number = dict(zip(rows.ids, rows.number.tolist(), strict=True))
    last = dict(zip(rows.ids, rows.last_poll_us.tolist(), strict=True))
    if missing:
        # What is kept for undoing loads names stores by number: a removed one gets its own again.
        highest = highest_number(connection)
        fresh = _take_back_numbers(connection, missing)
        unknown = [store_id for store_id in missing if store_id not in fresh]
        new = {store_id: at for at, store_id in enumerate(unknown, highest + 1)}
        connection.executemany("INSERT INTO store_record (store_id, number) VALUES (?, ?)", new.items())
        fresh |= new
        schedule_changed(connection)
        number |= fresh
    return (
        np.array([number[store_id] for store_id in ids], dtype=np.int64),
        np.array([last.get(store_id, -1) for store_id in ids], dtype=np.int64),
    )


def highest_number(connection: Connection) -> int:
    """Return the highest store number; those of new stores lie above it. 0 without a store."""
    (highest,) = connection.execute(
        "SELECT max(coalesce((SELECT max(number) FROM store_record), 0), "
        "coalesce((SELECT max(number) FROM removed_store), 0))"
    ).fetchone()
    return int(highest)


def _take_back_numbers(connection: Connection, store_ids: Sequence[str]) -> dict[str, int]:
    """Make those of the ids stores again which were removed, and return the numbers that they have again."""
    if connection.execute("SELECT 1 FROM removed_store LIMIT 1").fetchone() is None:
        return {}
    removed = dict(_rows_in(connection, "SELECT store_id, number FROM removed_store WHERE store_id IN", store_ids))
    for number in removed.values():
        connection.execute(
            "INSERT INTO store_record (number, store_id, created_load) "
            "SELECT number, store_id, created_load FROM removed_store WHERE number = ?",
            [number],
        )
        connection.execute("DELETE FROM removed_store WHERE number = ?", [number])
    return removed


def poll_span(connection: Connection, number: Ints) -> tuple[Ints, Ints]:
    """Return first and newest poll of each store of those ascending numbers; -1 where there is none."""
    select = "SELECT number, coalesce(first_poll_us, -1), coalesce(last_poll_us, -1) FROM store_record WHERE number"
    low, high = int(number[0]), int(number[-1])
    if high - low < 8 * len(number):
        rows = connection.execute(f"{select} BETWEEN ? AND ? ORDER BY number", (low, high)).fetchall()
    else:
        rows = sorted(_rows_in(connection, f"{select} IN", number.tolist()))
    known, first_poll_us, last_poll_us = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    index = np.searchsorted(known, number)
    return first_poll_us[index], last_poll_us[index]


def newest_poll(connection: Connection) -> int | None:
    """Return the newest poll of all, microseconds; None when there is no poll."""
    newest: int | None
    (newest,) = connection.execute("SELECT max(last_poll_us) FROM store_record").fetchone()
    return newest


def polled_after(connection: Connection, latest_us: int) -> Ahead:
    """Return the stores that have polls after `latest_us`."""
    count, last_us = connection.execute(
        "SELECT count(*), coalesce(max(last_poll_us), -1) FROM store_record WHERE last_poll_us > ?", [latest_us]
    ).fetchone()
    ids = connection.execute(
        "SELECT store_id FROM store_record WHERE last_poll_us > ? ORDER BY number LIMIT 3", [latest_us]
    ).fetchall()
    return Ahead(count, tuple(store_id for (store_id,) in ids), last_us)


def polls_around(connection: Connection, latest_us: int) -> tuple[int | None, int | None]:
    """Return the newest poll of the stores with none after `latest_us`, and the first of those with none before."""
    newest_us: int | None
    first_us: int | None
    newest_us, first_us = connection.execute(
        "SELECT max(CASE WHEN last_poll_us <= :latest THEN last_poll_us END), "
        "min(CASE WHEN first_poll_us > :latest THEN first_poll_us END) FROM store_record",
        {"latest": latest_us},
    ).fetchone()
    return newest_us, first_us


def ids_of(connection: Connection, number: Sequence[int]) -> list[str]:
    """Return the ids of the stores of those numbers, in order of number."""
    marks = ",".join("?" * len(number))
    rows = connection.execute(f"SELECT store_id FROM store_record WHERE number IN ({marks}) ORDER BY number", number)
    return [store_id for (store_id,) in rows]


def recently_polled_counts(connection: Connection, since_us: int, until_us: int) -> tuple[int, int, int]:
    """Return how many stores were polled by `until_us`; whose newest poll is in `[since_us, until_us]`; and after."""
    counts = connection.execute(
        "SELECT count(*), count(CASE WHEN last_poll_us BETWEEN :since AND :until THEN 1 END), "
        "count(CASE WHEN last_poll_us > :until THEN 1 END) FROM store_record WHERE first_poll_us <= :until",
        {"since": since_us, "until": until_us},
    ).fetchone()
    return int(counts[0]), int(counts[1]), int(counts[2])


def numbers_polled_after(connection: Connection, as_of_us: int, most: int) -> Ints:
    """Return the lowest numbers, ascending, of up to `most` stores that were polled by the as-of and after it."""
    rows = connection.execute(
        "SELECT number FROM store_record WHERE first_poll_us <= :as_of AND last_poll_us > :as_of "
        "ORDER BY number LIMIT :most",
        {"as_of": as_of_us, "most": most},
    ).fetchall()
    return np.array(rows, dtype=np.int64).reshape(-1)


def poll_spans(connection: Connection, until_us: int) -> tuple[Ints, Ints, Ints]:
    """Return number, first and newest poll of each store that was polled by `until_us`, by number."""
    rows = connection.execute(
        "SELECT number, first_poll_us, last_poll_us FROM store_record WHERE first_poll_us <= ? ORDER BY number",
        [until_us],
    ).fetchall()
    number, first, last = np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()
    return number, first, last


def names_of(connection: Connection, store_ids: Iterable[str]) -> dict[tuple[str], tuple[str, ...]]:
    """Return name, group and packed labels of those stores, each empty where there is none."""
    select = "SELECT store_id, name, group_name, labels FROM store_record WHERE store_id IN"
    return facts(connection, select, store_ids, keys=1)


def replace_names(connection: Connection, names: dict[tuple[str], tuple[str, ...]]) -> None:
    """Set each store's name, group and packed labels."""
    if not names:
        return
    number = numbers(connection, [store_id for (store_id,) in names])
    connection.executemany(
        "UPDATE store_record SET name = ?, group_name = ?, labels = ? WHERE number = ?",
        [(*values, store) for store, values in zip(number.tolist(), names.values(), strict=True)],
    )
    schedule_changed(connection)


def label_names(connection: Connection) -> list[str]:
    """Return the labels but for the group that at least one store has, as they are listed."""
    packed = connection.execute("SELECT DISTINCT labels FROM store_record WHERE labels <> ''")
    return labels.in_order({name for (text,) in packed for name in labels.unpack(text)})


def facts(connection: Connection, select: str, store_ids: Iterable[str], keys: int) -> dict[Any, tuple[str, ...]]:
    """Return the rows of a query that ends in `store_id IN`: their first `keys` columns, to the others."""
    return {tuple(row[:keys]): tuple(row[keys:]) for row in _rows_in(connection, select, list(store_ids))}


def data_version(connection: Connection) -> int:
    """Return a number that is the same only while the feeds are the same."""
    (version,) = connection.execute("SELECT version FROM data_version").fetchone()
    return int(version)


def data_changed(connection: Connection) -> None:
    """Count the data version up; called in the transaction that changes a feed."""
    connection.execute("UPDATE data_version SET version = version + 1")


def complete_from(connection: Connection) -> int | None:
    """Return the time before which polls were pruned, microseconds; None when none ever were."""
    timestamp_us: int | None
    (timestamp_us,) = connection.execute("SELECT complete_from_us FROM data_version").fetchone()
    return timestamp_us


def schedule_version(connection: Connection) -> int:
    """Return a number that is the same only while stores, hours and zones are the same."""
    (version,) = connection.execute("SELECT schedule FROM data_version").fetchone()
    return int(version)


def schedule_changed(connection: Connection) -> None:
    """Count the schedule version up; called in the transaction that changes a store, its hours or its zone."""
    connection.execute("UPDATE data_version SET schedule = schedule + 1")


def count_without(connection: Connection, feed: str) -> int:
    """Return how many polled stores lack hours or a zone (`feed`), or how many stores with hours lack polls."""
    (count,) = connection.execute(f"SELECT count(*) FROM store_record WHERE {_WITHOUT[feed]}").fetchone()
    return int(count)


def examples_without(connection: Connection, feed: str, most: int, newer_than: int) -> list[str]:
    """Return the first ids of those stores, those of a number above `newer_than` before all others."""
    rows = connection.execute(
        f"SELECT store_id FROM store_record WHERE {_WITHOUT[feed]} ORDER BY number <= ?, number LIMIT ?",
        (newer_than, most),
    )
    return [store_id for (store_id,) in rows]


def any_without(connection: Connection, feed: str, number: Sequence[int]) -> bool:
    """Return whether one of the stores of those numbers is such a store."""
    return any(_rows_in(connection, f"SELECT 1 FROM store_record WHERE {_WITHOUT[feed]} AND number IN", number))


def polled_first_since(connection: Connection, since_us: int) -> tuple[int, int]:
    """Return how many stores were polled for the first time at that instant or later, and how many of them lack
    hours."""
    total, lacking = connection.execute(
        f"SELECT count(*), total(NOT {_HAS_HOURS}) FROM store_record WHERE first_poll_us >= ?", [since_us]
    ).fetchone()
    return int(total), int(lacking)


def any_polls(connection: Connection) -> bool:
    """Return whether there is a poll at all."""
    return connection.execute("SELECT 1 FROM poll_week LIMIT 1").fetchone() is not None


def any_hours(connection: Connection) -> bool:
    """Return whether a store has hours at all."""
    return connection.execute("SELECT 1 FROM hours LIMIT 1").fetchone() is not None


def ids(connection: Connection) -> list[str]:
    """Return the ids of all stores, in order of number."""
    return [store_id for (store_id,) in connection.execute("SELECT store_id FROM store_record ORDER BY number")]


def ids_above(connection: Connection, number: int, most: int) -> list[str]:
    """Return the first ids of the stores of a higher number than that, in order of number."""
    rows = connection.execute(
        "SELECT store_id FROM store_record WHERE number > ? ORDER BY number LIMIT ?", (number, most)
    )
    return [store_id for (store_id,) in rows]


def feeds_of(connection: Connection, store_ids: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return whether each of those stores has polls, hours and a zone."""
    select = f"SELECT store_id, last_poll_us IS NOT NULL, {_HAS_HOURS}, {_HAS_ZONE} FROM store_record WHERE store_id IN"
    return {store_id: (polls, hours, zone) for store_id, polls, hours, zone in _rows_in(connection, select, store_ids)}


def last_loaded(connection: Connection) -> dict[str, int]:
    """Return when the newest file of each feed was loaded (microseconds), for the feeds that ever were."""
    # One look into the index for each feed, however many files there were.
    newest = {
        feed: connection.execute(
            "SELECT max(loaded_us) FROM load_file WHERE feed = ? AND error = ''", [feed]
        ).fetchone()[0]
        for feed in _FEEDS
    }
    return {feed: loaded_us for feed, loaded_us in newest.items() if loaded_us is not None}


def counts(connection: Connection) -> dict[str, int]:
    """Return how many there are: `polled` stores, `hours` rows, stores `with_hours`, `timezones`, `names`, `stores`,
    `special` rows, stores `with_special`.
    """
    queries = {
        "polled": "SELECT count(last_poll_us) FROM store_record",
        "hours": "SELECT count(*) FROM hours",
        "with_hours": "SELECT count(DISTINCT store) FROM hours",
        "timezones": "SELECT count(*) FROM timezone",
        "names": "SELECT count(*) FROM store_record WHERE name <> '' OR group_name <> '' OR labels <> ''",
        "stores": "SELECT count(*) FROM store_record",
        "special": "SELECT count(*) FROM special_hours",
        "with_special": "SELECT count(DISTINCT store) FROM special_hours",
    }
    return {name: int(connection.execute(query).fetchone()[0]) for name, query in queries.items()}


def _store_rows(rows: Sequence[tuple[Any, ...]]) -> StoreRows:
    number, ids, first, last, names, groups, packed = zip(*rows, strict=True) if rows else ((),) * 7
    # Many stores have the same labels: one text for all of them.
    distinct: dict[str, str] = {}
    return StoreRows(
        np.array(number, dtype=np.int64),
        list(ids),
        np.array(first, dtype=np.int64),
        np.array(last, dtype=np.int64),
        list(names),
        list(groups),
        [distinct.setdefault(text, text) for text in packed],
    )


def _rows_in(connection: Connection, select: str, values: Sequence[int | str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query that ends in `IN`, for some hundred of the values at a time."""
    for at in range(0, len(values), _CHUNK):
        chunk = values[at : at + _CHUNK]
        yield from connection.execute(f"{select} ({','.join('?' * len(chunk))})", chunk)


def read_hours(connection: Connection, first: int, last: int) -> Hours:
    """Return the hours of the stores numbered `first` to `last`, by store number, date, day and start."""
    store, from_day, day, start_s, end_s = _columns(
        connection,
        "SELECT store, valid_from, day, start_s, end_s FROM hours WHERE store BETWEEN ? AND ? ORDER BY 1, 2, 3, 4",
        first,
        last,
        5,
    )
    return Hours(store, day, start_s, end_s, from_day, _until(store, from_day))


def read_special_hours(connection: Connection, first: int, last: int) -> SpecialHours:
    """Return the special hours of the stores numbered `first` to `last`, by store number, date and start."""
    return SpecialHours(
        *_columns(
            connection,
            "SELECT store, date, start_s, end_s FROM special_hours WHERE store BETWEEN ? AND ? ORDER BY 1, 2, 3",
            first,
            last,
            4,
        )
    )


def read_zones(connection: Connection, first: int, last: int) -> dict[int, list[tuple[int, str]]]:
    """Return the zones of each store numbered `first` to `last` that has one, with the date from which it holds."""
    zones_of: dict[int, list[tuple[int, str]]] = {}
    for store, valid_from, name in connection.execute(
        "SELECT store, valid_from, name FROM timezone WHERE store BETWEEN ? AND ? ORDER BY store, valid_from",
        (first, last),
    ):
        zones_of.setdefault(store, []).append((valid_from, name))
    return zones_of


def numbers_with_zone(connection: Connection) -> Ints:
    """Return the numbers of the stores that have a time zone of their own, ascending."""
    rows = connection.execute("SELECT DISTINCT store FROM timezone ORDER BY store").fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64)


def replace_hours(connection: Connection, versions: Sequence[Version], rows: Hours) -> None:
    """Replace the hours of those versions; `store` of a row is an index in `versions`. One without a row is gone."""
    number = _delete(connection, "DELETE FROM hours WHERE store = ? AND valid_from = ?", versions)
    _insert(
        connection,
        "INSERT INTO hours (store, valid_from, day, start_s, end_s) VALUES (?, ?, ?, ?, ?)",
        (number[rows.store], rows.from_day, rows.day, rows.start_s, rows.end_s),
    )


def replace_special_hours(connection: Connection, versions: Sequence[Version], rows: SpecialHours) -> None:
    """Replace the special hours of those stores on those dates; `store` of a row is an index in `versions`."""
    number = _delete(connection, "DELETE FROM special_hours WHERE store = ? AND date = ?", versions)
    _insert(
        connection,
        "INSERT INTO special_hours (store, date, start_s, end_s) VALUES (?, ?, ?, ?)",
        (number[rows.store], rows.date, rows.start_s, rows.end_s),
    )


def zones_of(connection: Connection, store_ids: Iterable[str]) -> dict[Version, tuple[str, ...]]:
    """Return every version of the zone (alone in a tuple) of those stores."""
    return facts(
        connection,
        "SELECT store_id, valid_from, timezone.name FROM timezone JOIN store_record ON number = store "
        "WHERE store_id IN",
        store_ids,
        keys=2,
    )


def replace_zones(connection: Connection, zone_of: dict[Version, tuple[str, ...]], gone: Sequence[Version]) -> None:
    """Set each version of a store's zone to the one given, and delete those `gone`."""
    _delete(connection, "DELETE FROM timezone WHERE store = ? AND valid_from = ?", gone)
    number = _numbers(connection, list(zone_of))
    connection.executemany(
        "INSERT INTO timezone (store, valid_from, name) VALUES (?, ?, ?) "
        "ON CONFLICT (store, valid_from) DO UPDATE SET name = excluded.name",
        [
            (store, valid_from, zone)
            for store, ((_, valid_from), (zone,)) in zip(number.tolist(), zone_of.items(), strict=True)
        ],
    )
    if zone_of or gone:
        schedule_changed(connection)


def _numbers(connection: Connection, versions: Sequence[Version]) -> Ints:
    """Return the store number of each version; ids not seen before become stores."""
    distinct = list(dict.fromkeys(store_id for store_id, _ in versions))
    number = dict(zip(distinct, numbers(connection, distinct).tolist(), strict=True))
    return np.array([number[store_id] for store_id, _ in versions], dtype=np.int64)


def _delete(connection: Connection, statement: str, versions: Sequence[Version]) -> Ints:
    """Delete each version; return its store's number."""
    number = _numbers(connection, versions)
    if versions:
        connection.executemany(statement, zip(number.tolist(), (day for _, day in versions), strict=True))
        schedule_changed(connection)
    return number


def _insert(connection: Connection, statement: str, columns: Sequence[Ints]) -> None:
    for at in range(0, len(columns[0]), _ROWS_AT_ONCE):
        rows = (column[at : at + _ROWS_AT_ONCE].tolist() for column in columns)
        connection.executemany(statement, zip(*rows, strict=True))


def _columns(connection: Connection, select: str, first: int, last: int, width: int) -> list[Ints]:
    cursor = connection.execute(select, (first, last))
    parts = [np.empty((0, width), dtype=np.int64)]
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        parts.append(np.array(rows, dtype=np.int64))
    return list(np.concatenate(parts).T)


def _until(store: Ints, from_day: Ints) -> Ints:
    """Return where the next version of the same store begins, for each row of versions in order."""
    if not len(store):
        return from_day
    begins = np.flatnonzero(np.append(True, (store[1:] != store[:-1]) | (from_day[1:] != from_day[:-1])))
    until = np.full(len(begins), FOREVER)
    same = store[begins[1:]] == store[begins[:-1]]
    until[:-1][same] = from_day[begins[1:]][same]
    return np.repeat(until, np.diff(np.append(begins, len(store))))
