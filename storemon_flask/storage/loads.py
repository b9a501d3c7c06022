"""What was loaded, and what of it could not be used."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from storemon_flask.model import Counts, FileSummary


def begin(connection: sqlite3.Connection, started_us: int) -> int:
    """A new load; its number."""
    return int(connection.execute("INSERT INTO load (started_us) VALUES (?)", [started_us]).lastrowid or 0)


def set_notes(connection: sqlite3.Connection, load: int, notes: list[str]) -> None:
    """Remember what the load as a whole had to say."""
    connection.execute("UPDATE load SET notes = ? WHERE id = ?", (json.dumps(notes), load))


def add_file(connection: sqlite3.Connection, load: int, loaded_us: int, summary: FileSummary) -> None:
    """One file of a load with its counts and its kept rejects; the table refuses counts that do not add up."""
    counts = summary.counts
    row = connection.execute(
        "INSERT INTO load_file (load, file, feed, sha256, loaded_us, row_count, new_count, changed_count, unchanged_count, "
        "repeated_count, rejected_count, reasons, notes, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            load,
            summary.file,
            summary.feed,
            summary.sha256,
            loaded_us,
            counts.rows,
            counts.new,
            counts.changed,
            counts.unchanged,
            counts.repeated,
            counts.rejected,
            json.dumps(summary.reasons),
            json.dumps(summary.notes),
            summary.error,
        ),
    )
    connection.executemany(
        "INSERT INTO reject (load_file, line, reason, text) VALUES (?, ?, ?, ?)",
        [(row.lastrowid, reject.line, reject.reason, reject.text) for reject in summary.rejects],
    )


def exists(connection: sqlite3.Connection, load: int) -> bool:
    """Whether there was a load of that number."""
    return connection.execute("SELECT 1 FROM load WHERE id = ?", [load]).fetchone() is not None


def rejects(connection: sqlite3.Connection, load: int | None) -> Iterator[tuple[int, str, int, str, str]]:
    """(load, file, line, reason, text) of the kept rejects of one load, or of all, in the order they were found."""
    yield from connection.execute(
        "SELECT load_file.load, load_file.file, reject.line, reject.reason, reject.text "
        "FROM load_file JOIN reject ON reject.load_file = load_file.id "
        "WHERE :load IS NULL OR load_file.load = :load ORDER BY load_file.id, reject.line, reject.rowid",
        {"load": load},
    )


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many loads there were and how many rows they rejected."""
    (loads,) = connection.execute("SELECT count(*) FROM load").fetchone()
    (rejected,) = connection.execute("SELECT coalesce(sum(rejected_count), 0) FROM load_file").fetchone()
    return loads, rejected


def newest_files(connection: sqlite3.Connection, limit: int) -> list[tuple[int, int]]:
    """(number, instant it was put in) of up to `limit` files, the newest last. Any schema has what this reads."""
    found = connection.execute("SELECT id, loaded_us FROM load_file ORDER BY id DESC LIMIT ?", [limit]).fetchall()
    return found[::-1]


def is_there(connection: sqlite3.Connection, number: int, loaded_us: int) -> bool:
    """Whether that file is still known. Its number alone may be another's by now: those of pruned files are given again."""
    found = connection.execute("SELECT 1 FROM load_file WHERE id = ? AND loaded_us = ?", (number, loaded_us))
    return found.fetchone() is not None


def since(
    connection: sqlite3.Connection, last: int, after_us: int
) -> Iterator[tuple[int, int, str, Counts, dict[str, int]]]:
    """(number, instant, feed, counts, rejects by reason) of every file of a number above `last` that was put in after that
    instant."""
    for number, loaded_us, feed, reasons, *counts in connection.execute(
        "SELECT id, loaded_us, feed, reasons, row_count, new_count, changed_count, unchanged_count, repeated_count, "
        "rejected_count FROM load_file WHERE id > ? AND loaded_us > ? ORDER BY id",
        (last, after_us),
    ):
        yield number, loaded_us, feed, Counts(*counts), json.loads(reasons)


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A load with its files, each as its row: counts, reasons, notes and error as they were said; and the load's own notes."""

    id: int
    started_us: int
    files: list[FileSummary]
    notes: list[str] = field(default_factory=list)


def newest(connection: sqlite3.Connection, before: int | None, limit: int) -> list[LoadRow]:
    """Up to `limit` loads, the newest first; only those older than the load `before`, if that is given."""
    rows = connection.execute(
        "SELECT id, started_us, notes FROM load WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit",
        {"before": before, "limit": limit},
    ).fetchall()
    return [LoadRow(load, started, _files(connection, load), json.loads(notes)) for load, started, notes in rows]


def find(connection: sqlite3.Connection, load: int) -> LoadRow | None:
    """The load of that number."""
    row = connection.execute("SELECT id, started_us, notes FROM load WHERE id = ?", [load]).fetchone()
    return None if row is None else LoadRow(row[0], row[1], _files(connection, load), json.loads(row[2]))


def _files(connection: sqlite3.Connection, load: int) -> list[FileSummary]:
    return [
        FileSummary(file, feed, sha256, Counts(*counts), json.loads(reasons), [], json.loads(notes), error)
        for file, feed, sha256, reasons, notes, error, *counts in connection.execute(
            "SELECT file, feed, sha256, reasons, notes, error, row_count, new_count, changed_count, unchanged_count, "
            "repeated_count, rejected_count FROM load_file WHERE load = ? ORDER BY id",
            [load],
        )
    ]
