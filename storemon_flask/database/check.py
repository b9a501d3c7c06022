"""What must hold of the rows, asked of one moment and read as a stream: memory does not grow with the polls."""

import json
import re
import sqlite3
from collections.abc import Callable
from typing import Final

from storemon_flask.model import UNDATED

# Columns of JSON and the form of each: a list of texts, numbers by name, or an object of any content.
_JSON: Final = {
    ("load", "notes"): "texts",
    ("load_file", "reasons"): "counts",
    ("load_file", "notes"): "texts",
    ("report_text", "first_stores"): "texts",
    ("report_text", "small"): "object",
    ("report_text", "large"): "texts or object",
}
# The last instant that Python can write (microseconds, columns whose names end so), and the last date of hours, in 2199
# (days).
_LAST_US: Final = 253_402_300_799_999_999
_LAST_DAY: Final = 84_005
_DAYS: Final = ("date", "valid_from")
_REPORT_ID: Final = re.compile("[0-9a-f]{32}")
_SHA256: Final = re.compile("[0-9a-f]{64}")
Said = Callable[[str], None]


def week_count(connection: sqlite3.Connection) -> int:
    """How many packed weeks there are."""
    return int(connection.execute("SELECT count(*) FROM poll_week").fetchone()[0])


def foreign_keys(connection: sqlite3.Connection, problem: Said) -> int:
    """Rows that name a row that is not there are told; how many tables were looked at."""
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        problem(f"{table}: row {row} names a {parent.removesuffix('_record')} that is not there")
    return int(connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])


def values(connection: sqlite3.Connection, problem: Said) -> int:
    """All text is UTF-8, JSON has the form that is read, ids of reports are such, and times can be written; how many
    rows.
    """
    _times(connection, problem)
    rows = 0
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    connection.text_factory = bytes
    try:
        for table in tables:
            columns = [
                name.decode()
                for _, name, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")')
                if kind == b"TEXT"
            ]
            if columns:
                listed = ", ".join(f'"{column}"' for column in columns)
                for number, row in enumerate(connection.execute(f'SELECT {listed} FROM "{table}"'), 1):
                    rows += 1
                    for column, value in zip(columns, row, strict=True):
                        fault = _fault(table, column, value)
                        if fault:
                            problem(f"{table}: row {number} has in {column} {fault}")
    finally:
        connection.text_factory = str
    return rows


def _times(connection: sqlite3.Connection, problem: Said) -> None:
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if not column.endswith("_us") and column not in _DAYS:
                continue
            last, none = (_LAST_US, 0) if column.endswith("_us") else (_LAST_DAY, UNDATED)
            for (value,) in connection.execute(
                f'SELECT "{column}" FROM "{table}" WHERE "{column}" NOT BETWEEN 0 AND ? AND "{column}" <> ?',
                (last, none),
            ):
                problem(f"{table}: {column} is {value!r}, which is no time that storemon writes")


def _fault(table: str, column: str, value: object) -> str | None:
    """What is wrong with a value of a text column."""
    if value is None:
        return None
    try:
        text = value.decode() if isinstance(value, bytes) else ""
    except UnicodeDecodeError:
        return "text that is not UTF-8"
    form = _JSON.get((table, column))
    if form is not None and not (_has_form(text, form) or (text == "null" and table != "load")):
        return f"JSON of another form than storemon writes ({text[:60]!r})"
    if table == "report" and column == "id" and _REPORT_ID.fullmatch(text) is None:
        return f"an id that storemon does not make ({text[:60]!r})"
    if table == "report" and column == "sha256" and _SHA256.fullmatch(text) is None:
        return f"no SHA-256 ({text[:60]!r})"
    return None


def _has_form(text: str, form: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if form == "texts":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if form == "counts":
        return isinstance(value, dict) and all(type(one) is int for one in value.values())
    return isinstance(value, dict) or (form == "texts or object" and _has_form(text, "texts"))


def load_counts(connection: sqlite3.Connection, problem: Said) -> int:
    """The counts of every file of every load add up; how many files."""
    checked = 0
    rows = connection.execute(
        "SELECT load_file.id, load, file, row_count, rejected_count, reasons, "
        "new_count + changed_count + unchanged_count + repeated_count + rejected_count, "
        "(SELECT count(*) FROM reject WHERE load_file = load_file.id) FROM load_file ORDER BY load_file.id"
    )
    for _, load, file, row_count, rejected, reasons, together, kept in rows:
        checked += 1
        if row_count != together:
            problem(f"load {load}, {file}: {row_count:,} rows, and {together:,} when its counts are added up")
        if not _has_form(reasons, "counts"):
            # `values` says so.
            continue
        counted = sum(json.loads(reasons).values())
        if counted != rejected:
            problem(f"load {load}, {file}: {rejected:,} rows rejected, and {counted:,} when its reasons are added up")
        if kept > rejected:
            problem(f"load {load}, {file}: {kept:,} rejected rows are kept of {rejected:,}")
    for (load,) in connection.execute("SELECT id FROM load WHERE id NOT IN (SELECT load FROM load_file)"):
        problem(f"load {load} has no file")
    return checked


def hours(connection: sqlite3.Connection, problem: Said) -> int:
    """Days and times of the hours are such; how many rows."""
    wrong = connection.execute(
        "SELECT store, day, start_s, end_s FROM hours "
        "WHERE day NOT BETWEEN 0 AND 6 OR start_s NOT BETWEEN 0 AND 86399 OR end_s NOT BETWEEN 0 AND 86400"
    )
    for store, day, start, end in wrong:
        problem(f"hours of store number {store}: day {day} from second {start} to second {end}")
    return int(connection.execute("SELECT count(*) FROM hours").fetchone()[0])


def special_hours(connection: sqlite3.Connection, problem: Said) -> int:
    """No date of a store is both closed all day and not; how many rows."""
    for store, date in connection.execute(
        "SELECT store, date FROM special_hours GROUP BY store, date HAVING min(start_s) = -1 AND max(start_s) > -1"
    ):
        problem(f"special hours of store number {store}: day {date} after 1970-01-01 is both closed and not")
    return int(connection.execute("SELECT count(*) FROM special_hours").fetchone()[0])


def zones(connection: sqlite3.Connection, known: frozenset[str], problem: Said) -> int:
    """Every zone is one of those known; how many stores have one."""
    for store_id, name in connection.execute(
        "SELECT store_id, timezone.name FROM timezone JOIN store_record ON number = store"
    ):
        if name not in known:
            problem(f"store {store_id!r} has the time zone {name!r}, which is not known here")
    return int(connection.execute("SELECT count(DISTINCT store) FROM timezone").fetchone()[0])
