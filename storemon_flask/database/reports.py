"""The life of a report, a row of its own: pending -> running -> complete | failed, and deleted; each step a guarded
UPDATE.

Equal reports share a job: the computation, its place in the queue and its file. A job is called by the id of the report
that was first to ask for it; the others name that one in `shares`. What happens to a job happens to all of its reports
at once, in one UPDATE, so those that are not deleted are always in one state.
"""

import json
import sqlite3
from typing import Any, Final

from storemon_flask.database import report_texts
from storemon_flask.database.report_row import COLUMNS, LISTED, MORE, ReportRow, json_text, read, shape_text

# Answers for every report of a job, by the job's id, twice.
_OF_JOB: Final = "(id = ? OR shares = ?)"
_JOINABLE: Final = (
    "FROM report WHERE question = ? AND data_version = ? AND state IN ('pending', 'running') "
    "AND died = 0 AND last_error IS NULL LIMIT 1"
)


def add(
    connection: sqlite3.Connection,
    report_id: str,
    as_of_us: int,
    columns: str,
    stores: list[str] | None,
    shape: dict[str, Any] | None,
    now_us: int,
    question: str | None = None,
    data_version: int | None = None,
    as_of_asked: bool = False,
    request_digest: str | None = None,
) -> None:
    """A pending report with a job of its own; `shape` is what was asked beyond the classic windows."""
    connection.execute(
        "INSERT INTO report (id, state, as_of_us, columns, stores, shape, asked_text, requested_us, question, data_version, "
        "request_digest) VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            report_id,
            as_of_us,
            columns,
            *_asked_values(connection, stores, shape, as_of_asked),
            now_us,
            question,
            data_version,
            request_digest,
        ),
    )


def _asked_values(
    connection: sqlite3.Connection, stores: list[str] | None, shape: dict[str, Any] | None, as_of_asked: bool
) -> tuple[str | None, str | None, int | None]:
    """What the columns `stores`, `shape` and `asked_text` of a report hold."""
    small, large = json_text(shape), json_text(stores)
    if not report_texts.is_long(small, large):
        return large, shape_text(shape, as_of_asked), None
    # The order of stores means nothing, and each order would be another text.
    ordered = None if stores is None else sorted(stores)
    return None, shape_text(None, as_of_asked), report_texts.intern(connection, small, json_text(ordered), ordered)


def join(
    connection: sqlite3.Connection,
    report_id: str,
    stores: list[str] | None,
    shape: dict[str, Any] | None,
    now_us: int,
    question: str,
    data_version: int,
    as_of_asked: bool = False,
    request_digest: str | None = None,
) -> bool:
    """A report that shares the job of an equal one that is not finished; False when there is none.

    Such a job was asked for at this version of the data, so it reads them as they are now or later. One that went wrong
    before is left alone: whoever asks now need not wait for its next try, nor fail with it.
    """
    first = connection.execute(f"SELECT rowid {_JOINABLE}", (question, data_version)).fetchone()
    if first is None:
        return False
    return _step(
        connection,
        "INSERT INTO report (id, state, as_of_us, columns, stores, shape, asked_text, requested_us, question, data_version, "
        "started_us, attempts, shares, request_digest) "
        "SELECT ?, state, as_of_us, columns, ?, ?, ?, ?, question, data_version, started_us, attempts, coalesce(shares, id), ? "
        "FROM report WHERE rowid = ?",
        (
            report_id,
            *_asked_values(connection, stores, shape, as_of_asked),
            now_us,
            request_digest,
            first[0],
        ),
    )


def fresh(
    connection: sqlite3.Connection, request_digest: str, data_version: int, as_of_us: int, since_us: int, now_us: int
) -> list[ReportRow]:
    """Of the few newest complete reports that were asked for alike, those of this version of the data and this as-of,
    or finished at `since_us` or later; the newest first. There are several because the file of one may be gone.

    The as-of moves on unchanged data only where the clock reaches polls that were in the future."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM (SELECT * FROM report WHERE request_digest = ? AND state = 'complete' AND finished_us <= ? "
        "ORDER BY finished_us DESC LIMIT 5) AS report WHERE (data_version = ? AND as_of_us = ?) OR finished_us >= ? "
        "ORDER BY finished_us DESC",
        (request_digest, now_us, data_version, as_of_us, since_us),
    )
    return [read(row) for row in rows]


def under_way(
    connection: sqlite3.Connection, request_digest: str, data_version: int, as_of_us: int, since_us: int, now_us: int
) -> ReportRow | None:
    """A report that waits or runs and was asked for alike, at this version of the data and as-of or at `since_us` or
    later; None when there is none, or only one that went wrong before (as `join`)."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM report WHERE request_digest = ? AND finished_us IS NULL AND state IN ('pending', 'running') "
        "AND ((data_version = ? AND as_of_us = ?) OR requested_us BETWEEN ? AND ?) AND died = 0 AND last_error IS NULL "
        "ORDER BY requested_us LIMIT 1",
        (request_digest, data_version, as_of_us, since_us, now_us),
    ).fetchone()
    return None if row is None else read(row)


def waiting(connection: sqlite3.Connection) -> int:
    """How many jobs wait for their turn or for their next try."""
    found = connection.execute("SELECT count(DISTINCT coalesce(shares, id)) FROM report WHERE state = 'pending'")
    return int(found.fetchone()[0])


def find(connection: sqlite3.Connection, report_id: str) -> ReportRow | None:
    """The report of that id, or None."""
    row = connection.execute(f"SELECT {COLUMNS} FROM report WHERE id = ?", [report_id]).fetchone()
    return None if row is None else read(row)


def claim(connection: sqlite3.Connection, job: str, now_us: int) -> ReportRow | None:
    """Pending becomes running, by whoever comes first: one of the job's reports; None when somebody else did."""
    claimed = _step(
        connection,
        "UPDATE report SET state = 'running', started_us = ?, attempts = attempts + 1, next_try_us = NULL "
        f"WHERE {_OF_JOB} AND state = 'pending'",
        (now_us, job, job),
    )
    if not claimed:
        return None
    row = connection.execute(
        f"SELECT {COLUMNS} FROM report WHERE {_OF_JOB} AND state = 'running' LIMIT 1", (job, job)
    ).fetchone()
    return read(row)


def advance(connection: sqlite3.Connection, job: str, progress: float) -> bool:
    """Progress of a running job; it never falls. False when nobody wants the job any more.

    It is kept in the row that the job is called by, for all of them, though that one be deleted.
    """
    return _step(
        connection,
        "UPDATE report SET progress = max(progress, ?) "
        f"WHERE id = ? AND EXISTS (SELECT 1 FROM report WHERE {_OF_JOB} AND state = 'running')",
        (progress, job, job, job),
    )


def complete(
    connection: sqlite3.Connection,
    job: str,
    now_us: int,
    row_count: int,
    byte_count: int,
    sha256: str,
    altered: dict[str, dict[int, str]],
    method: dict[str, Any],
) -> int:
    """Running becomes complete; the file must be in its place by now. `method` says how it was made.

    Returns how many of the job's reports are complete; 0 when all were deleted meanwhile. Saying it twice does no harm.
    """
    small, large, number = json.dumps(method), json.dumps(altered), None
    texts: tuple[str | None, str | None, int | None] = large, small, None
    if report_texts.is_long(small, large):
        number = report_texts.intern(connection, small, large)
        texts = None, None, number
    connection.execute(
        "UPDATE report SET state = 'complete', finished_us = ?, progress = 1, row_count = ?, byte_count = ?, sha256 = ?, "
        "altered_ids = ?, method = ?, outcome_text = ?, error = NULL, question = NULL "
        f"WHERE {_OF_JOB} AND state = 'running'",
        (now_us, row_count, byte_count, sha256, *texts, job, job),
    )
    # All of them may have been deleted meanwhile.
    report_texts.release(connection, [number])
    found = connection.execute(f"SELECT count(*) FROM report WHERE {_OF_JOB} AND state = 'complete'", (job, job))
    return int(found.fetchone()[0])


def fail(connection: sqlite3.Connection, job: str, now_us: int, error: str) -> bool:
    """Running becomes failed, with the sentence that says why."""
    return _step(
        connection,
        f"UPDATE report SET state = 'failed', finished_us = ?, error = ?, question = NULL WHERE {_OF_JOB} AND state = 'running'",
        (now_us, error, job, job),
    )


def put_off(connection: sqlite3.Connection, job: str, error: str, next_try_us: int) -> bool:
    """Running becomes pending again until the next try; `error` says what went wrong with this one."""
    return _step(
        connection,
        f"UPDATE report SET state = 'pending', last_error = ?, next_try_us = ? WHERE {_OF_JOB} AND state = 'running'",
        (error, next_try_us, job, job),
    )


def put_back(connection: sqlite3.Connection, job: str) -> bool:
    """Running becomes pending again as if it had not been tried: the server is stopping in good order."""
    return _step(
        connection,
        f"UPDATE report SET state = 'pending', attempts = attempts - 1 WHERE {_OF_JOB} AND state = 'running'",
        (job, job),
    )


def recover(
    connection: sqlite3.Connection, now_us: int, most_deaths: int, error: str, died: bool
) -> tuple[list[tuple[str, int | None, int]], list[str]]:
    """Reports that the last process was computing become pending again, or failed when it `died` not for the first
    time.

    Returns all pending jobs in the order they were asked for: (id, when the next try is due, how many reports), and the
    jobs that failed. Only for the one server of a database.
    """
    if died:
        connection.execute("UPDATE report SET died = died + 1 WHERE state = 'running'")
    else:
        # It could not put them back.
        connection.execute("UPDATE report SET attempts = attempts - 1 WHERE state = 'running'")
    failed = connection.execute(
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE state = 'running' AND died >= ? "
        "RETURNING coalesce(shares, id)",
        (now_us, error, most_deaths),
    ).fetchall()
    connection.execute("UPDATE report SET state = 'pending' WHERE state = 'running'")
    pending = connection.execute(
        "SELECT coalesce(shares, id) AS job, max(next_try_us), count(*) FROM report WHERE state = 'pending' "
        "GROUP BY job ORDER BY min(requested_us), min(rowid)"
    ).fetchall()
    return pending, sorted({job for (job,) in failed})


def count(connection: sqlite3.Connection) -> int:
    """How many rows there are, of deleted reports too."""
    return int(connection.execute("SELECT count(*) FROM report").fetchone()[0])


def count_by_state(connection: sqlite3.Connection) -> dict[str, int]:
    """How many reports there are in each state."""
    return dict(connection.execute("SELECT state, count(*) FROM report GROUP BY state"))


def states(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """(state, job) of every report, by its id; of a database of before there were shared jobs, too."""
    shared = any(name == "shares" for _, name, *_ in connection.execute("PRAGMA table_info(report)"))
    job = "coalesce(shares, id)" if shared else "id"
    return {
        report_id: (state, job) for report_id, state, job in connection.execute(f"SELECT id, state, {job} FROM report")
    }


def newest(connection: sqlite3.Connection, before: tuple[int, str] | None, limit: int) -> list[ReportRow]:
    """Up to `limit` reports that were not deleted, the newest first; only those asked for before (instant, id), if
    given.

    None of them is large, whatever was asked: each has the first `LISTED_STORES` of its stores, and no `altered`.
    """
    at, report_id = before or (1 << 62, "")
    rows = connection.execute(
        f"SELECT {LISTED}, {MORE} FROM report WHERE state <> 'deleted' AND (requested_us, id) < (?, ?) "
        "ORDER BY requested_us DESC, id DESC LIMIT ?",
        (at, report_id, limit),
    )
    return [read(row) for row in rows]


def _step(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> bool:
    return connection.execute(sql, values).rowcount > 0
