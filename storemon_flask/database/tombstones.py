"""Deleted reports: their rows stay for a time, so that whoever asks for one is told that it is gone, and why.

`gone` is `asked` (somebody deleted it), `old` (it was kept long enough), `room` (the reports took too much room) or
`lost` (its file was not there). What a report was asked and how it was made goes too, but for a lost one: its file may
come back.
"""

import sqlite3
from typing import Final

from storemon_flask.database import report_texts

_EMPTIED: Final = (
    "state = 'deleted', deleted_us = ?, gone = ?, next_try_us = NULL, stores = NULL, altered_ids = NULL, method = NULL, "
    "asked_text = NULL, outcome_text = NULL, "
    "shape = NULL, question = NULL, request_digest = NULL, error = NULL, last_error = NULL"
)
_FINISHED: Final = "state IN ('complete', 'failed')"
# A file takes whole blocks of its disk.
_ROOM: Final = "coalesce((max(byte_count) + 4095) / 4096 * 4096, 0)"


def delete(connection: sqlite3.Connection, report_id: str, now_us: int) -> bool:
    """The report is deleted because somebody asked; False when it is already."""
    texts = connection.execute("SELECT asked_text, outcome_text FROM report WHERE id = ?", [report_id]).fetchall()
    found = connection.execute(
        f"UPDATE report SET {_EMPTIED} WHERE id = ? AND state <> 'deleted'", (now_us, "asked", report_id)
    )
    report_texts.release(connection, [number for row in texts for number in row])
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
    """Up to `most` reports that were finished before that instant are deleted: how many, and the jobs whose files may
    go.
    """
    old = connection.execute(
        f"SELECT id, coalesce(shares, id), asked_text, outcome_text FROM report WHERE {_FINISHED} AND finished_us < ? LIMIT ?",
        (before_us, most),
    ).fetchall()
    connection.executemany(
        f"UPDATE report SET {_EMPTIED} WHERE id = ?", [(now_us, "old", report_id) for report_id, *_ in old]
    )
    report_texts.release(connection, [number for row in old for number in row[2:]])
    jobs = sorted({job for _, job, *_ in old})
    return len(old), [job for job in jobs if not wanted(connection, job)]


def oldest_jobs(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """(job, bytes of its file and of what was asked, how many reports) of all jobs with finished reports, the oldest
    first.
    """
    return connection.execute(
        "SELECT job, bytes + coalesce(text.byte_count, 0), reports FROM (SELECT coalesce(shares, id) AS job, "
        f"{_ROOM} AS bytes, count(*) AS reports, max(finished_us) AS at, max(asked_text) AS asked FROM report "
        f"WHERE {_FINISHED} GROUP BY job) LEFT JOIN report_text AS text ON text.number = asked ORDER BY at, job"
    ).fetchall()


def bytes_taken(connection: sqlite3.Connection) -> int:
    """How much room the files of reports and long lists of what they asked take; one that reports share counts once."""
    found = connection.execute(
        f"SELECT sum(bytes) FROM (SELECT {_ROOM} AS bytes FROM report WHERE {_FINISHED} GROUP BY coalesce(shares, id))"
    )
    return int(found.fetchone()[0] or 0) + report_texts.asked_bytes(connection)


def make_room(connection: sqlite3.Connection, jobs: list[str], now_us: int) -> int:
    """The finished reports of these jobs are deleted to make room; how many that was."""
    texts: set[int | None] = set()
    for job in jobs:
        found = connection.execute(
            f"SELECT DISTINCT asked_text, outcome_text FROM report WHERE (id = ? OR shares = ?) AND {_FINISHED}",
            (job, job),
        )
        texts.update(number for row in found for number in row)
    done = connection.executemany(
        f"UPDATE report SET {_EMPTIED} WHERE (id = ? OR shares = ?) AND {_FINISHED}",
        [(now_us, "room", job, job) for job in jobs],
    )
    report_texts.release(connection, texts)
    return done.rowcount


def forgettable_before(connection: sqlite3.Connection, count: int) -> int | None:
    """An instant before which at least the `count` oldest tombstones were deleted; None when there are not more than
    that.
    """
    row = connection.execute(
        "SELECT deleted_us + 1 FROM report WHERE state = 'deleted' ORDER BY deleted_us LIMIT 1 OFFSET ?", [count]
    ).fetchone()
    return None if row is None else int(row[0])


def forget(connection: sqlite3.Connection, before_us: int, most: int) -> list[tuple[str, str, str]]:
    """Up to `most` tombstones of before that instant are removed: (id, job, why it was gone). The row that a job is
    called by goes after those that share it."""
    rows = connection.execute(
        "DELETE FROM report WHERE id IN (SELECT id FROM report WHERE state = 'deleted' AND deleted_us < ? "
        "AND NOT EXISTS (SELECT 1 FROM report AS other WHERE other.shares = report.id) LIMIT ?) "
        "RETURNING id, coalesce(shares, id), gone, asked_text, outcome_text",
        (before_us, most),
    ).fetchall()
    # Lost ones still have theirs.
    report_texts.release(connection, [number for row in rows for number in row[3:]])
    return [row[:3] for row in rows]


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
