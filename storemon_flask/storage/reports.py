"""The life of a report, a row of its own: pending -> running -> complete | failed, each step a guarded UPDATE."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report: what was asked, where it stands, what came out. `stores` None means every store.

    `altered` maps columns to row numbers (from 0) to the texts that the CSV shows differently, for the JSON form.
    """

    id: str
    state: str
    as_of_us: int
    columns: str
    stores: list[str] | None
    requested_us: int
    started_us: int | None
    finished_us: int | None
    attempts: int
    progress: float
    error: str | None
    row_count: int | None
    byte_count: int | None
    sha256: str | None
    altered: dict[str, dict[int, str]]
    shape: dict[str, Any] | None
    method: dict[str, Any] | None


def add(
    connection: sqlite3.Connection,
    report_id: str,
    as_of_us: int,
    columns: str,
    stores: list[str] | None,
    shape: dict[str, Any] | None,
    now_us: int,
) -> None:
    """A pending report; `shape` is what was asked beyond the classic windows."""
    stores_text, shape_text = (None if asked is None else json.dumps(asked) for asked in (stores, shape))
    connection.execute(
        "INSERT INTO report (id, state, as_of_us, columns, stores, shape, requested_us) "
        "VALUES (?, 'pending', ?, ?, ?, ?, ?)",
        (report_id, as_of_us, columns, stores_text, shape_text, now_us),
    )


def find(connection: sqlite3.Connection, report_id: str) -> ReportRow | None:
    """The report of that id, or None."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM report WHERE id = ?", [report_id]).fetchone()
    return None if row is None else _report(row)


def claim(connection: sqlite3.Connection, report_id: str, now_us: int) -> bool:
    """Pending becomes running, by whoever comes first; False when somebody else did."""
    return _step(
        connection,
        "UPDATE report SET state = 'running', started_us = ?, attempts = attempts + 1 "
        "WHERE id = ? AND state = 'pending'",
        (now_us, report_id),
    )


def advance(connection: sqlite3.Connection, report_id: str, progress: float) -> bool:
    """Progress of a running report; it never falls."""
    return _step(
        connection,
        "UPDATE report SET progress = max(progress, ?) WHERE id = ? AND state = 'running'",
        (progress, report_id),
    )


def complete(
    connection: sqlite3.Connection,
    report_id: str,
    now_us: int,
    row_count: int,
    byte_count: int,
    sha256: str,
    altered: dict[str, dict[int, str]],
    method: dict[str, Any],
) -> bool:
    """Running becomes complete; its file must be in its place by now. `method` says how it was made."""
    return _step(
        connection,
        "UPDATE report SET state = 'complete', finished_us = ?, progress = 1, row_count = ?, byte_count = ?, sha256 = ?, "
        "altered_ids = ?, method = ?, error = NULL WHERE id = ? AND state = 'running'",
        (now_us, row_count, byte_count, sha256, json.dumps(altered), json.dumps(method), report_id),
    )


def fail(connection: sqlite3.Connection, report_id: str, now_us: int, error: str) -> bool:
    """Running becomes failed, with the sentence that says why."""
    return _step(
        connection,
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE id = ? AND state = 'running'",
        (now_us, error, report_id),
    )


def put_back(connection: sqlite3.Connection, report_id: str) -> bool:
    """Running becomes pending again as if it had not been tried: the server is stopping in good order."""
    return _step(
        connection,
        "UPDATE report SET state = 'pending', attempts = attempts - 1 WHERE id = ? AND state = 'running'",
        (report_id,),
    )


def recover(connection: sqlite3.Connection, now_us: int, most_attempts: int, error: str) -> list[str]:
    """After a process died: reports it was computing become pending again, or failed after `most_attempts` tries.

    Returns the ids of all pending reports, in the order they were asked for. Only for the one server of a database.
    """
    connection.execute(
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE state = 'running' AND attempts >= ?",
        (now_us, error, most_attempts),
    )
    connection.execute("UPDATE report SET state = 'pending' WHERE state = 'running'")
    rows = connection.execute("SELECT id FROM report WHERE state = 'pending' ORDER BY requested_us, rowid")
    return [report_id for (report_id,) in rows]


def count_by_state(connection: sqlite3.Connection) -> dict[str, int]:
    """How many reports there are in each state."""
    return dict(connection.execute("SELECT state, count(*) FROM report GROUP BY state"))


def states(connection: sqlite3.Connection) -> dict[str, str]:
    """The state of every report, by its id."""
    return dict(connection.execute("SELECT id, state FROM report"))


_COLUMNS = (
    "id, state, as_of_us, columns, stores, requested_us, started_us, finished_us, attempts, progress, error, "
    "row_count, byte_count, sha256, altered_ids, shape, method"
)


def _report(row: tuple[Any, ...]) -> ReportRow:
    stores, altered, shape, method = (
        None if row[place] is None else json.loads(row[place]) for place in (4, 14, 15, 16)
    )
    texts: dict[str, dict[int, str]] = {}
    for key, value in (altered or {}).items():
        if isinstance(value, str):
            # Reports of before there were names: ids alone, by row.
            texts.setdefault("store_id", {})[int(key)] = value
        else:
            texts[key] = {int(place): text for place, text in value.items()}
    return ReportRow(*(*row[:4], stores, *row[5:14], texts, shape, method))


def newest(connection: sqlite3.Connection, before: tuple[int, str] | None, limit: int) -> list[ReportRow]:
    """Up to `limit` reports that were not deleted, the newest first; only those asked for before (instant, id), if given."""
    at, report_id = before or (1 << 62, "")
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM report WHERE state <> 'deleted' AND (requested_us, id) < (?, ?) "
        "ORDER BY requested_us DESC, id DESC LIMIT ?",
        (at, report_id, limit),
    )
    return [_report(row) for row in rows]


def _step(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> bool:
    return connection.execute(sql, values).rowcount == 1
