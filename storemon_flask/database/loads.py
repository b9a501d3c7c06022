"""What was loaded, and what of it could not be used."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.model import Counts, FileSummary

# As many as a load may have.
MOST_FILES: Final = 1_000


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


def next_number(connection: sqlite3.Connection, load: int) -> int | None:
    """The number of the first load after that one; None when it is the last."""
    (number,) = connection.execute("SELECT min(id) FROM load WHERE id > ?", [load]).fetchone()
    return None if number is None else int(number)


def rejects(
    connection: sqlite3.Connection, load: int, limit: int | None = None
) -> list[tuple[int, str, int, str, str]]:
    """(load, file, line, reason, text) of the kept rejects of one load, in the order they were found: 10,000 at most."""
    return connection.execute(
        "SELECT load_file.load, load_file.file, reject.line, reject.reason, reject.text "
        "FROM load_file JOIN reject ON reject.load_file = load_file.id "
        "WHERE load_file.load = ? ORDER BY load_file.id, reject.line, reject.rowid LIMIT ?",
        (load, -1 if limit is None else limit),
    ).fetchall()


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
    """Whether that file is still known.

    Its number alone may be another's by now: those of pruned files are given again.
    """
    found = connection.execute("SELECT 1 FROM load_file WHERE id = ? AND loaded_us = ?", (number, loaded_us))
    return found.fetchone() is not None


def since(
    connection: sqlite3.Connection, last: int, after_us: int
) -> Iterator[tuple[int, int, str, Counts, dict[str, int]]]:
    """(number, instant, feed, counts, rejects by reason) of every file of a number above `last` that was put in after
    that instant."""
    for number, loaded_us, feed, reasons, *counts in connection.execute(
        "SELECT id, loaded_us, feed, reasons, row_count, new_count, changed_count, unchanged_count, repeated_count, "
        "rejected_count FROM load_file WHERE id > ? AND loaded_us > ? ORDER BY id",
        (last, after_us),
    ):
        yield number, loaded_us, feed, Counts(*counts), json.loads(reasons)


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """A load in a list: the name of its first file, how many it has, how many of them were not loaded, what became of
    all their rows, and the load's own notes."""

    id: int
    started_us: int
    notes: list[str]
    first_file: str
    file_count: int
    failed_count: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class LoadRow(LoadSummary):
    """One load with its first files, each as its row: counts, reasons, notes and error as they were stored."""

    files: list[FileSummary]


_SUMMARIES: Final = """
    SELECT load.id, load.started_us, load.notes,
        coalesce((SELECT file FROM load_file WHERE load = load.id ORDER BY id LIMIT 1), ''),
        count(load_file.id), coalesce(sum(error <> ''), 0), coalesce(sum(row_count), 0), coalesce(sum(new_count), 0),
        coalesce(sum(changed_count), 0), coalesce(sum(unchanged_count), 0), coalesce(sum(repeated_count), 0),
        coalesce(sum(rejected_count), 0)
    FROM (SELECT id, started_us, notes FROM load WHERE {which} ORDER BY id DESC LIMIT :limit) AS load
    LEFT JOIN load_file ON load_file.load = load.id
    GROUP BY load.id ORDER BY load.id DESC
"""


def newest(connection: sqlite3.Connection, before: int | None, limit: int) -> list[LoadSummary]:
    """Up to `limit` loads, the newest first; only those older than the load `before`, if that is given."""
    which = ":before IS NULL OR id < :before"
    return [
        LoadSummary(*_summary(row))
        for row in connection.execute(_SUMMARIES.format(which=which), {"before": before, "limit": limit})
    ]


def find(connection: sqlite3.Connection, load: int) -> LoadRow | None:
    """The load of that number, with its files."""
    row = connection.execute(_SUMMARIES.format(which="id = :load"), {"load": load, "limit": 1}).fetchone()
    return None if row is None else LoadRow(*_summary(row), files(connection, load, MOST_FILES))


def _summary(row: tuple[Any, ...]) -> tuple[int, int, list[str], str, int, int, Counts]:
    load, started_us, notes, first_file, file_count, failed_count, *counts = row
    return load, started_us, json.loads(notes), first_file, file_count, failed_count, Counts(*counts)


def files(connection: sqlite3.Connection, load: int, limit: int) -> list[FileSummary]:
    """The first files of a load, at most so many."""
    return [
        FileSummary(file, feed, sha256, Counts(*counts), json.loads(reasons), [], json.loads(notes), error)
        for file, feed, sha256, reasons, notes, error, *counts in connection.execute(
            "SELECT file, feed, sha256, reasons, notes, error, row_count, new_count, changed_count, unchanged_count, "
            "repeated_count, rejected_count FROM load_file WHERE load = ? ORDER BY id LIMIT ?",
            (load, limit),
        )
    ]
