"""The life of a report, a row of its own: pending -> running -> complete | failed, and deleted; each step a guarded UPDATE.

Equal reports share a job: the computation, its place in the queue and its file. A job is called by the id of the report that
was first to ask for it; the others name that one in `shares`. What happens to a job happens to all of its reports at once, in
one UPDATE, so those that are not deleted are always in one state.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

# In the shape as it is stored, beside what was asked: older programs pass over it, a column would keep them out.
_AS_OF: Final = "as_of_asked"
# Answers for every report of a job, by the job's id, twice.
_OF_JOB: Final = "(id = ? OR shares = ?)"


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
    shares: str | None = None
    last_error: str | None = None
    next_try_us: int | None = None
    gone: str | None = None
    # Whether the as-of was asked for; otherwise it was that of the newest poll.
    as_of_asked: bool = False

    @property
    def job(self) -> str:
        """The id of the computation, which its file bears: its own, or that of the report it shares."""
        return self.shares or self.id


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
) -> None:
    """A pending report with a job of its own; `shape` is what was asked beyond the classic windows."""
    connection.execute(
        "INSERT INTO report (id, state, as_of_us, columns, stores, shape, requested_us, question, data_version) "
        "VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?)",
        (report_id, as_of_us, columns, _text(stores), _shape(shape, as_of_asked), now_us, question, data_version),
    )


def join(
    connection: sqlite3.Connection,
    report_id: str,
    stores: list[str] | None,
    shape: dict[str, Any] | None,
    now_us: int,
    question: str,
    data_version: int,
    as_of_asked: bool = False,
) -> bool:
    """A report that shares the job of an equal one that is not finished; False when there is none.

    Such a job was asked for at this version of the data, so it reads them as they are now or later. One that went wrong before
    is left alone: whoever asks now need not wait for its next try, nor fail with it.
    """
    return _step(
        connection,
        "INSERT INTO report (id, state, as_of_us, columns, stores, shape, requested_us, question, data_version, "
        "started_us, attempts, shares) "
        "SELECT ?, state, as_of_us, columns, ?, ?, ?, question, data_version, started_us, attempts, coalesce(shares, id) "
        "FROM report WHERE question = ? AND data_version = ? AND state IN ('pending', 'running') "
        "AND died = 0 AND last_error IS NULL LIMIT 1",
        (report_id, _text(stores), _shape(shape, as_of_asked), now_us, question, data_version),
    )


def waiting(connection: sqlite3.Connection) -> int:
    """How many jobs wait for their turn or for their next try."""
    found = connection.execute("SELECT count(DISTINCT coalesce(shares, id)) FROM report WHERE state = 'pending'")
    return int(found.fetchone()[0])


def find(connection: sqlite3.Connection, report_id: str) -> ReportRow | None:
    """The report of that id, or None."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM report WHERE id = ?", [report_id]).fetchone()
    return None if row is None else _report(row)


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
        f"SELECT {_COLUMNS} FROM report WHERE {_OF_JOB} AND state = 'running' LIMIT 1", (job, job)
    ).fetchone()
    return _report(row)


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
    connection.execute(
        "UPDATE report SET state = 'complete', finished_us = ?, progress = 1, row_count = ?, byte_count = ?, sha256 = ?, "
        f"altered_ids = ?, method = ?, error = NULL WHERE {_OF_JOB} AND state = 'running'",
        (now_us, row_count, byte_count, sha256, json.dumps(altered), json.dumps(method), job, job),
    )
    found = connection.execute(f"SELECT count(*) FROM report WHERE {_OF_JOB} AND state = 'complete'", (job, job))
    return int(found.fetchone()[0])


def fail(connection: sqlite3.Connection, job: str, now_us: int, error: str) -> bool:
    """Running becomes failed, with the sentence that says why."""
    return _step(
        connection,
        f"UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE {_OF_JOB} AND state = 'running'",
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
    connection: sqlite3.Connection, now_us: int, most_deaths: int, error: str
) -> list[tuple[str, int | None, int]]:
    """After a process died: reports it was computing become pending again, or failed when it was not the first time.

    Returns all pending jobs in the order they were asked for: (id, when the next try is due, how many reports). Only for
    the one server of a database.
    """
    connection.execute("UPDATE report SET died = died + 1 WHERE state = 'running'")
    connection.execute(
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE state = 'running' AND died >= ?",
        (now_us, error, most_deaths),
    )
    connection.execute("UPDATE report SET state = 'pending' WHERE state = 'running'")
    return connection.execute(
        "SELECT coalesce(shares, id) AS job, max(next_try_us), count(*) FROM report WHERE state = 'pending' "
        "GROUP BY job ORDER BY min(requested_us), min(rowid)"
    ).fetchall()


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


_COLUMNS = (
    "id, state, as_of_us, columns, stores, requested_us, started_us, finished_us, attempts, "
    "CASE WHEN shares IS NOT NULL AND state IN ('pending', 'running') "
    "THEN (SELECT first.progress FROM report AS first WHERE first.id = report.shares) ELSE progress END, error, "
    "row_count, byte_count, sha256, altered_ids, shape, method, shares, last_error, next_try_us, gone"
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
    as_of_asked = shape is not None and shape.pop(_AS_OF, False) is True
    return ReportRow(*(*row[:4], stores, *row[5:14], texts, shape or None, method, *row[17:], as_of_asked))


def newest(connection: sqlite3.Connection, before: tuple[int, str] | None, limit: int) -> list[ReportRow]:
    """Up to `limit` reports that were not deleted, the newest first; only those asked for before (instant, id), if given."""
    at, report_id = before or (1 << 62, "")
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM report WHERE state <> 'deleted' AND (requested_us, id) < (?, ?) "
        "ORDER BY requested_us DESC, id DESC LIMIT ?",
        (at, report_id, limit),
    )
    return [_report(row) for row in rows]


def _shape(shape: dict[str, Any] | None, as_of_asked: bool) -> str | None:
    """What was asked besides columns and stores, and whether an as-of was."""
    return _text({**(shape or {}), _AS_OF: True} if as_of_asked else shape)


def _text(asked: object) -> str | None:
    return None if asked is None else json.dumps(asked)


def _step(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> bool:
    return connection.execute(sql, values).rowcount > 0
