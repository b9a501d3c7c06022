"""When stores are meant to be open: weekly hours, special hours and zones, in versions by local date."""

from collections.abc import Iterable, Sequence

import numpy as np

from storemon_flask.database import stores
from storemon_flask.database.connections import Connection
from storemon_flask.model import FOREVER, Hours, Ints, SpecialHours

# Some rows at a time: a row as Python objects takes ten times the room that it has in arrays.
_ROWS_AT_ONCE = 20_000
# A store id and the local date (`model.UNDATED`: none) from which something holds, or on which it does.
Version = tuple[str, int]


def hours(connection: Connection, first: int, last: int) -> Hours:
    """Return the hours of the stores numbered `first` to `last`, by store number, date, day and start."""
    store, from_day, day, start_s, end_s = _columns(
        connection,
        "SELECT store, valid_from, day, start_s, end_s FROM hours WHERE store BETWEEN ? AND ? ORDER BY 1, 2, 3, 4",
        first,
        last,
        5,
    )
    return Hours(store, day, start_s, end_s, from_day, _until(store, from_day))


def special_hours(connection: Connection, first: int, last: int) -> SpecialHours:
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


def zones(connection: Connection, first: int, last: int) -> dict[int, list[tuple[int, str]]]:
    """Return the zones of each store numbered `first` to `last` that has one, with the date from which it holds."""
    zones_of: dict[int, list[tuple[int, str]]] = {}
    for store, valid_from, name in connection.execute(
        "SELECT store, valid_from, name FROM timezone WHERE store BETWEEN ? AND ? ORDER BY store, valid_from",
        (first, last),
    ):
        zones_of.setdefault(store, []).append((valid_from, name))
    return zones_of


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
    return stores.facts(
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
        stores.schedule_changed(connection)


def remove_hours(connection: Connection, store_id: str) -> int:
    """Delete the store's weekly hours, of all dates; return how many rows that was."""
    return _remove(connection, "hours", "", store_id)


def remove_special_hours(connection: Connection, store_id: str, date: int | None) -> int:
    """Delete the store's special hours, of that date or of all; return how many rows that was."""
    return _remove(connection, "special_hours", "" if date is None else f" AND date = {date:d}", store_id)


def _remove(connection: Connection, table: str, condition: str, store_id: str) -> int:
    removed = connection.execute(
        f"DELETE FROM {table} WHERE store = (SELECT number FROM store_record WHERE store_id = ?){condition}", [store_id]
    ).rowcount
    if removed:
        stores.schedule_changed(connection)
    return removed


def _numbers(connection: Connection, versions: Sequence[Version]) -> Ints:
    """Return the store number of each version; ids not seen before become stores."""
    distinct = list(dict.fromkeys(store_id for store_id, _ in versions))
    number = dict(zip(distinct, stores.numbers(connection, distinct).tolist(), strict=True))
    return np.array([number[store_id] for store_id, _ in versions], dtype=np.int64)


def _delete(connection: Connection, statement: str, versions: Sequence[Version]) -> Ints:
    """Delete each version; return its store's number."""
    number = _numbers(connection, versions)
    if versions:
        connection.executemany(statement, zip(number.tolist(), (day for _, day in versions), strict=True))
        stores.schedule_changed(connection)
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
