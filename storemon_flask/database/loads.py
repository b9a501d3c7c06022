"""What was loaded, and what of it could not be used."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from storemon_flask.database.connections import Connection, named_rows
from storemon_flask.errors import NotFound
from storemon_flask.model import Counts, FileSummary

# As many as a load may have.
MOST_FILES: Final = 1_000
# How often loads come is learned from the newest ones, and from a few at least.
_LOADS_LEARNED_FROM: Final = 500
_FEWEST_GAPS: Final = 3
_COUNTS: Final = ("row_count", "new_count", "changed_count", "unchanged_count", "repeated_count", "rejected_count")
_FILE_COUNTS: Final = ", ".join(_COUNTS)
_LOADS: Final = f"""
    SELECT load.id, load.started_us, load.notes, load.undoes, load.undone_by,
        coalesce((SELECT file FROM load_file WHERE load = load.id ORDER BY id LIMIT 1), '') AS first_file,
        count(load_file.id) AS file_count, coalesce(sum(error <> ''), 0) AS failed_count,
        {", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in _COUNTS)}
    FROM (
        SELECT id, started_us, notes, undoes, undone_by FROM load WHERE {{which}} ORDER BY id DESC LIMIT :limit
    ) AS load
    LEFT JOIN load_file ON load_file.load = load.id
    GROUP BY load.id ORDER BY load.id DESC
"""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """A load in a list: the name of its first file, how many it has and failed, the counts of all, and its notes."""

    id: int
    started_us: int
    notes: list[str]
    first_file: str
    file_count: int
    failed_count: int
    counts: Counts
    # The load that this one undid, and the one that undid this.
    undoes: int | None
    undone_by: int | None


@dataclass(frozen=True, slots=True)
class LoadRow(LoadSummary):
    """One load with its first files, each with counts, reasons, notes and error as they were stored."""

    files: list[FileSummary]


def begin(connection: Connection, started_us: int, undoes: int | None = None) -> int:
    """Add a load, one that undoes another or does not, and return its number: higher than that of any before."""
    row = connection.execute(
        "INSERT INTO load (id, started_us, undoes) SELECT "
        "max(coalesce((SELECT max(id) FROM load), 0), undo_dropped_load) + 1, ?, ? FROM data_version",
        (started_us, undoes),
    )
    return int(row.lastrowid or 0)


def set_undone(connection: Connection, load: int, by: int) -> None:
    """Note that a load was undone by another. If it was an undo, what it undid stands again, and so on."""
    undone: int | None = load
    undo: int | None = by
    while undone is not None:
        connection.execute("UPDATE load SET undone_by = ? WHERE id = ?", (undo, undone))
        row = connection.execute("SELECT undoes FROM load WHERE id = ?", [undone]).fetchone()
        undo = undone if undo is None else None
        undone = None if row is None else row[0]


def set_notes(connection: Connection, load: int, notes: list[str]) -> None:
    """Store the notes of the load as a whole."""
    connection.execute("UPDATE load SET notes = ? WHERE id = ?", (json.dumps(notes), load))


def add_file(connection: Connection, load: int, loaded_us: int, summary: FileSummary) -> None:
    """Add a file of a load with its counts and rejects; the table refuses counts that do not add up."""
    counts = summary.counts
    row = connection.execute(
        f"INSERT INTO load_file (load, file, feed, sha256, loaded_us, {_FILE_COUNTS}, reasons, notes, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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


def merge_newest_file(connection: Connection, into: int) -> None:
    """Make the file that was added last one with an earlier one of its load: counts, reasons and rejects together."""
    ((number, _),) = newest_files(connection, 1)
    (files,) = connection.execute(
        "SELECT json_group_array(json(reasons)) FROM load_file WHERE id IN (?, ?)", (into, number)
    ).fetchone()
    reasons: Counter[str] = Counter()
    for one in json.loads(files):
        reasons.update(one)
    sums = ", ".join(f"{name} = {name} + (SELECT {name} FROM load_file WHERE id = :number)" for name in _COUNTS)
    connection.execute(
        f"UPDATE load_file SET {sums}, reasons = :reasons WHERE id = :into",
        {"number": number, "into": into, "reasons": json.dumps(dict(reasons.most_common()))},
    )
    connection.execute("UPDATE reject SET load_file = ? WHERE load_file = ?", (into, number))
    connection.execute("DELETE FROM load_file WHERE id = ?", [number])


def no_load(load: int) -> NotFound:
    """Return the error for a load that is not there."""
    return NotFound(f"there is no load {load}; the list of loads has those there are")


def exists(connection: Connection, load: int) -> bool:
    """Return whether there was a load of that number."""
    return connection.execute("SELECT 1 FROM load WHERE id = ?", [load]).fetchone() is not None


def next_number(connection: Connection, load: int) -> int | None:
    """Return the number of the first load after that one; None when it is the last."""
    (number,) = connection.execute("SELECT min(id) FROM load WHERE id > ?", [load]).fetchone()
    return None if number is None else int(number)


def rejects(connection: Connection, load: int, limit: int | None = None) -> list[tuple[int, str, int, str, str]]:
    """Return (load, file, line, reason, text) of the stored rejects of one load in order: 10,000 at most."""
    return connection.execute(
        "SELECT load_file.load, load_file.file, reject.line, reject.reason, reject.text "
        "FROM load_file JOIN reject ON reject.load_file = load_file.id "
        "WHERE load_file.load = ? ORDER BY load_file.id, reject.line, reject.rowid LIMIT ?",
        (load, -1 if limit is None else limit),
    ).fetchall()


def totals(connection: Connection) -> tuple[int, int]:
    """Return how many loads there were and how many rows they rejected."""
    (loads,) = connection.execute("SELECT count(*) FROM load").fetchone()
    (rejected,) = connection.execute("SELECT coalesce(sum(rejected_count), 0) FROM load_file").fetchone()
    return loads, rejected


def newest_files(connection: Connection, limit: int) -> list[tuple[int, int]]:
    """Return (number, time it was loaded) of up to `limit` files, the newest last."""
    rows = connection.execute("SELECT id, loaded_us FROM load_file ORDER BY id DESC LIMIT ?", [limit]).fetchall()
    return rows[::-1]


def is_there(connection: Connection, number: int, loaded_us: int) -> bool:
    """Return whether that file is still there. Numbers of pruned files are given again, so the time must match."""
    rows = connection.execute("SELECT 1 FROM load_file WHERE id = ? AND loaded_us = ?", (number, loaded_us))
    return rows.fetchone() is not None


def since(connection: Connection, last: int, after_us: int) -> Iterator[tuple[int, int, str, Counts, dict[str, int]]]:
    """Yield (number, time, feed, counts, rejects by reason) of each file above number `last` loaded after that time."""
    query = (
        f"SELECT id, loaded_us, feed, reasons, {_FILE_COUNTS} FROM load_file WHERE id > ? AND loaded_us > ? ORDER BY id"
    )
    for row in named_rows(connection, query, (last, after_us)):
        yield row["id"], row["loaded_us"], row["feed"], _counts(row), json.loads(row["reasons"])


@dataclass(frozen=True, slots=True)
class FeedCounts:
    """The newest load with files of a feed that has not been undone: their rows, and how many could not be used."""

    load: int
    loaded_us: int
    rows: int
    rejected: int


def newest_counts(connection: Connection, feed: str, after_us: int) -> FeedCounts | None:
    """Return the rows of the newest load of a feed after that time; None when there is none, or it was undone."""
    row = connection.execute(
        """
        SELECT newest.load, newest.loaded_us, sum(load_file.row_count), sum(load_file.rejected_count)
        FROM (
            SELECT load, loaded_us FROM load_file WHERE feed = :feed AND error = '' AND loaded_us > :after
            ORDER BY loaded_us DESC LIMIT 1
        ) AS newest
        JOIN load ON load.id = newest.load AND load.undone_by IS NULL
        JOIN load_file ON load_file.load = newest.load AND load_file.feed = :feed
        """,
        {"feed": feed, "after": after_us},
    ).fetchone()
    return None if row[0] is None else FeedCounts(*row)


def usual_interval(connection: Connection, feed: str, from_us: int, until_us: int) -> int:
    """Return the median time between loads of a feed in that span, of the newest ones if many; 0 when they are few."""
    rows = connection.execute(
        """
        SELECT max(loaded_us) FROM (
            SELECT load, loaded_us FROM load_file
            WHERE feed = ? AND error = '' AND loaded_us BETWEEN ? AND ? ORDER BY loaded_us DESC LIMIT ?
        ) GROUP BY load ORDER BY load
        """,
        (feed, from_us, until_us, _LOADS_LEARNED_FROM),
    )
    times = [loaded_us for (loaded_us,) in rows]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    return gaps[len(gaps) // 2] if len(gaps) >= _FEWEST_GAPS else 0


def newest(connection: Connection, before: int | None, limit: int) -> list[LoadSummary]:
    """Return up to `limit` loads, the newest first; only those older than the load `before`, if that is given."""
    query = _LOADS.format(which=":before IS NULL OR id < :before")
    return [LoadSummary(**_load(row)) for row in named_rows(connection, query, {"before": before, "limit": limit})]


def find(connection: Connection, load: int) -> LoadRow | None:
    """Return the load of that number, with its files."""
    query = _LOADS.format(which="id = :load")
    row = named_rows(connection, query, {"load": load, "limit": 1}).fetchone()
    return None if row is None else LoadRow(**_load(row), files=files(connection, load, MOST_FILES))


def files(connection: Connection, load: int, limit: int) -> list[FileSummary]:
    """Return the first files of a load, at most so many."""
    query = (
        f"SELECT file, feed, sha256, reasons, notes, error, {_FILE_COUNTS} FROM load_file "
        "WHERE load = ? ORDER BY id LIMIT ?"
    )
    return [
        FileSummary(
            row["file"],
            row["feed"],
            row["sha256"],
            _counts(row),
            json.loads(row["reasons"]),
            [],
            json.loads(row["notes"]),
            row["error"],
        )
        for row in named_rows(connection, query, (load, limit))
    ]


def _load(row: sqlite3.Row) -> dict[str, Any]:
    names = ("id", "started_us", "first_file", "file_count", "failed_count", "undoes", "undone_by")
    return {**{name: row[name] for name in names}, "notes": json.loads(row["notes"]), "counts": _counts(row)}


def _counts(row: sqlite3.Row) -> Counts:
    return Counts(*(row[name] for name in _COUNTS))
