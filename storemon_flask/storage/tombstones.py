"""Deleted reports: their rows stay for a time, so that whoever asks for one is told that it is gone, and why.

`gone` is `asked` (somebody deleted it), `old` (it was kept long enough) or `lost` (its file was not there). What a report
was asked and how it was made goes too, but for a lost one: its file may come back.
"""

import sqlite3
from typing import Final

_EMPTIED: Final = (
    "state = 'deleted', deleted_us = ?, gone = ?, next_try_us = NULL, stores = NULL, altered_ids = NULL, method = NULL, "
    "shape = NULL, question = NULL, request_digest = NULL, error = NULL, last_error = NULL"
)
_FINISHED: Final = "state IN ('complete', 'failed')"


def delete(connection: sqlite3.Connection, report_id: str, now_us: int) -> bool:
    """The report is deleted because somebody asked; False when it is already."""
    found = connection.execute(
        f"UPDATE report SET {_EMPTIED} WHERE id = ? AND state <> 'deleted'", (now_us, "asked", report_id)
    )
    return found.rowcount == 1


def wanted(connection: sqlite3.Connection, job: str) -> bool:
    """Whether a report of the job waits for it, or has its file."""
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM report WHERE (id = ? OR shares = ?) "
        "AND state IN ('pending', 'running', 'complete'))",
        (job, job),
    )
    return bool(found.fetchone()[0])


def expire(connection: sqlite3.Connection, before_us: int, now_us: int, most: int) -> tuple[int, list[str]]:
    """Up to `most` reports that were finished before that instant are deleted: how many, and the jobs whose files may go."""
    old = connection.execute(
        f"SELECT id, coalesce(shares, id) FROM report WHERE {_FINISHED} AND finished_us < ? LIMIT ?", (before_us, most)
    ).fetchall()
    connection.executemany(
        f"UPDATE report SET {_EMPTIED} WHERE id = ?", [(now_us, "old", report_id) for report_id, _ in old]
    )
    jobs = sorted({job for _, job in old})
    return len(old), [job for job in jobs if not wanted(connection, job)]


def forget(connection: sqlite3.Connection, before_us: int, most: int) -> list[tuple[str, str, str]]:
    """Up to `most` tombstones of before that instant are removed: (id, job, why it was gone). The row that a job is called by
    goes after those that share it."""
    return connection.execute(
        "DELETE FROM report WHERE id IN (SELECT id FROM report WHERE state = 'deleted' AND deleted_us < ? "
        "AND NOT EXISTS (SELECT 1 FROM report AS other WHERE other.shares = report.id) LIMIT ?) "
        "RETURNING id, coalesce(shares, id), gone",
        (before_us, most),
    ).fetchall()


def lose(connection: sqlite3.Connection, report_id: str, now_us: int) -> bool:
    """A complete report whose file is not there is deleted; what it was is kept, should the file come back."""
    found = connection.execute(
        "UPDATE report SET state = 'deleted', deleted_us = ?, gone = 'lost' WHERE id = ? AND state = 'complete'",
        (now_us, report_id),
    )
    return found.rowcount == 1


def lost(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """(id, job, hash of the file) of every report that is deleted because its file was not there."""
    return connection.execute(
        "SELECT id, coalesce(shares, id), sha256 FROM report WHERE state = 'deleted' AND gone = 'lost'"
    ).fetchall()


def regain(connection: sqlite3.Connection, report_id: str) -> bool:
    """A lost report is complete again: its file came back."""
    found = connection.execute(
        "UPDATE report SET state = 'complete', deleted_us = NULL, gone = NULL "
        "WHERE id = ? AND state = 'deleted' AND gone = 'lost'",
        (report_id,),
    )
    return found.rowcount == 1
