"""Reports as rows and files: the queue, what each asks, what came of it, and its deletion.

A report is pending, running, complete, failed or deleted. Each step is one UPDATE of a row in the state before, so that
of two who take the same step one succeeds. The row of a deleted report stays for a time and says why it is gone. What
reports ask and how they were made stands in `report_text`, each text once, however many reports have it.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from storemon_flask.database import stores
from storemon_flask.database.connections import named_rows
from storemon_flask.errors import DatabaseError
from storemon_flask.model import ReportOutcome, ReportState

# A row of a list has so many of the stores it was asked for: a report may name all of a fleet.
LISTED_STORES: Final = 10

# What the server makes; an id goes into the name of a file.
_ID: Final = re.compile("[0-9a-f]{32}")
_FILE: Final = re.compile(r"report_([0-9a-f]{32})\.csv")
_WITHOUT_FILE: Final = (ReportState.FAILED, ReportState.DELETED)
# Opens a transaction that reads: `Database.read`, or what reads a database as it is.
Read = Callable[[], AbstractContextManager[sqlite3.Connection]]

_ALL: Final = "query.large AS stores, outcome.large AS altered"
# What grows with the fleet is left out of lists.
_LISTED: Final = "query.first_stores AS stores, NULL AS altered"
_SELECT: Final = """
SELECT report.id, report.state, report.as_of_us, report.as_of_asked, report.columns, report.requested_us,
    report.started_us, report.finished_us, report.next_try_us, report.attempts, report.died, report.progress,
    report.error, report.last_error, report.row_count, report.byte_count, report.sha256, report.gone,
    query.small AS shape, query.store_count AS stores_asked, outcome.small AS method, {texts}
FROM {table}
LEFT JOIN report_text AS query ON query.number = report.query_text
LEFT JOIN report_text AS outcome ON outcome.number = report.outcome_text
"""
_FINISHED: Final = "state IN ('complete', 'failed')"
# Another trigger is answered by a report on its way, unless that went wrong before: it need not wait for the next try.
_WELL: Final = "state IN ('pending', 'running') AND died = 0 AND last_error IS NULL"


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report to be stored. `query_digest` is equal for queries that have the same answer at one as-of on the same
    data."""

    id: str
    as_of_us: int
    as_of_asked: bool
    columns: str
    stores: Sequence[str] | None
    shape: Mapping[str, Any] | None
    query_digest: str
    data_version: int


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """A stored report. `stores` None means every store.

    `altered` maps columns to row numbers (from 0) to the texts that the CSV shows differently. In a list (`newest`) it
    is empty, and `stores` has the first few of the `stores_asked`.
    """

    id: str
    state: ReportState
    as_of_us: int
    columns: str
    stores: list[str] | None
    requested_us: int
    shape: dict[str, Any] | None = None
    # Whether the as-of was asked for; otherwise it was that of the newest poll.
    as_of_asked: bool = False
    started_us: int | None = None
    finished_us: int | None = None
    next_try_us: int | None = None
    attempts: int = 0
    died: int = 0
    progress: float = 0.0
    error: str | None = None
    last_error: str | None = None
    row_count: int | None = None
    byte_count: int | None = None
    sha256: str | None = None
    altered: dict[str, dict[int, str]] = field(default_factory=dict)
    method: dict[str, Any] | None = None
    gone: str | None = None
    # How many stores were named; None when none were.
    stores_asked: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it is complete or failed, and so stays as it is."""
        return self.state in (ReportState.COMPLETE, ReportState.FAILED)

    @property
    def tries(self) -> int:
        """How often it was begun and the process lived to see it end."""
        return self.attempts - self.died


def add(connection: sqlite3.Connection, new: NewReport, now_us: int) -> None:
    """Store a pending report."""
    # The order of stores means nothing, and each order would be another text.
    ordered = None if new.stores is None else sorted(new.stores)
    text = _store_text(connection, new.shape or None, ordered)
    connection.execute(
        "INSERT INTO report (id, state, as_of_us, as_of_asked, columns, query_text, query_digest, data_version, "
        "requested_us) VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?)",
        (new.id, new.as_of_us, new.as_of_asked, new.columns, text, new.query_digest, new.data_version, now_us),
    )


def waiting(connection: sqlite3.Connection, query_digest: str, as_of_us: int) -> tuple[int, int]:
    """Return how many other queries wait for their turn or their next try, and how many bytes their texts have."""
    others = "FROM report WHERE state = 'pending' AND NOT (query_digest = ? AND as_of_us = ?)"
    count, size = connection.execute(
        f"SELECT (SELECT count(*) FROM (SELECT DISTINCT query_digest, as_of_us {others})), "
        f"(SELECT coalesce(sum(byte_count), 0) FROM report_text WHERE number IN (SELECT query_text {others}))",
        (query_digest, as_of_us) * 2,
    ).fetchone()
    return count, size


def find(connection: sqlite3.Connection, report_id: str) -> ReportRecord | None:
    """Return the report of that id, or None."""
    records = _records(connection, _ALL, "WHERE report.id = ?", [report_id])
    return records[0] if records else None


def equal(connection: sqlite3.Connection, report_id: str) -> list[ReportRecord]:
    """Return the newest complete reports with the query and the data of that one; several, as a file may be gone."""
    return _records(
        connection,
        _ALL,
        "JOIN report AS this USING (query_digest, as_of_us, data_version) "
        "WHERE this.id = ? AND report.state = 'complete' ORDER BY report.finished_us DESC LIMIT 3",
        [report_id],
    )


def fresh(connection: sqlite3.Connection, query: NewReport, since_us: int, now_us: int) -> list[ReportRecord]:
    """Return the newest complete reports asked for like this that are of its data and as-of, or finished at `since_us`
    or later; several, as a file may be gone.

    The as-of moves on unchanged data only where the clock reaches polls that were in the future.
    """
    alike = "as_of_asked = 1 AND as_of_us = :as_of_us" if query.as_of_asked else "as_of_asked = 0"
    table = (
        f"(SELECT * FROM report WHERE query_digest = :digest AND {alike} AND state = 'complete' "
        "AND finished_us <= :now_us ORDER BY finished_us DESC LIMIT 5) AS report"
    )
    return _records(
        connection,
        _ALL,
        "WHERE (report.data_version = :version AND report.as_of_us = :as_of_us) OR report.finished_us >= :since_us "
        "ORDER BY report.finished_us DESC",
        _alike(query, since_us, now_us),
        table,
    )


def on_its_way(connection: sqlite3.Connection, query: NewReport, since_us: int, now_us: int) -> ReportRecord | None:
    """Return the first report on its way that was asked for like this, of its data and as-of or requested at `since_us`
    or later; None when there is none, or only one that went wrong before.
    """
    first = _records(
        connection,
        _ALL,
        f"WHERE report.query_digest = :digest AND report.as_of_asked = :asked AND report.finished_us IS NULL "
        f"AND {_WELL} AND ((report.data_version = :version AND report.as_of_us = :as_of_us) "
        "OR (report.requested_us BETWEEN :since_us AND :now_us AND (NOT :asked OR report.as_of_us = :as_of_us))) "
        "ORDER BY report.requested_us LIMIT 1",
        _alike(query, since_us, now_us),
    )
    return first[0] if first else None


def _alike(query: NewReport, since_us: int, now_us: int) -> dict[str, Any]:
    return {
        "digest": query.query_digest,
        "asked": query.as_of_asked,
        "as_of_us": query.as_of_us,
        "version": query.data_version,
        "since_us": since_us,
        "now_us": now_us,
    }


def newest(connection: sqlite3.Connection, before: tuple[int, str] | None, limit: int) -> list[ReportRecord]:
    """Return up to `limit` reports that were not deleted, the newest first; only those requested before
    (`requested_us`, id), if given.

    None of them is large, whatever was asked: see `ReportRecord`.
    """
    where = "WHERE report.state <> 'deleted' AND (report.requested_us, report.id) < (?, ?) "
    order = "ORDER BY report.requested_us DESC, report.id DESC LIMIT ?"
    return _records(connection, _LISTED, where + order, [*(before or (1 << 62, "")), limit])


def start(connection: sqlite3.Connection, report_id: str, now_us: int) -> ReportRecord | None:
    """Pending becomes running: return the report, or None when it was not pending. It is of the data of now."""
    started = _update(
        connection,
        "UPDATE report SET state = 'running', started_us = ?, attempts = attempts + 1, next_try_us = NULL, "
        "data_version = ? WHERE id = ? AND state = 'pending'",
        (now_us, stores.data_version(connection), report_id),
    )
    return find(connection, report_id) if started else None


def advance(connection: sqlite3.Connection, report_id: str, progress: float) -> bool:
    """Set how far a running report is; it never falls. False when it was deleted."""
    return _update(
        connection,
        "UPDATE report SET progress = max(progress, ?) WHERE id = ? AND state = 'running'",
        (progress, report_id),
    )


def complete(connection: sqlite3.Connection, report_id: str, now_us: int, outcome: ReportOutcome) -> bool:
    """Running becomes complete; the file must be in its place by now.

    False when it was deleted meanwhile. Doing it twice does no harm.
    """
    text = _store_text(connection, outcome.method, outcome.altered)
    _update(
        connection,
        "UPDATE report SET state = 'complete', finished_us = ?, progress = 1, row_count = ?, byte_count = ?, "
        "sha256 = ?, outcome_text = ?, error = NULL WHERE id = ? AND state = 'running'",
        (now_us, outcome.row_count, outcome.byte_count, outcome.sha256, text, report_id),
    )
    _remove_unused_texts(connection, [text])
    row = connection.execute("SELECT state FROM report WHERE id = ?", [report_id]).fetchone()
    return row is not None and row[0] == ReportState.COMPLETE


def fail(connection: sqlite3.Connection, report_id: str, now_us: int, error: str) -> bool:
    """Running becomes failed, with the reason. False when it was deleted."""
    return _update(
        connection,
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE id = ? AND state = 'running'",
        (now_us, error, report_id),
    )


def retry_later(connection: sqlite3.Connection, report_id: str, error: str, next_try_us: int) -> bool:
    """Running becomes pending until the next try; `error` says what went wrong. False when it was deleted."""
    return _update(
        connection,
        "UPDATE report SET state = 'pending', last_error = ?, next_try_us = ? WHERE id = ? AND state = 'running'",
        (error, next_try_us, report_id),
    )


def requeue(connection: sqlite3.Connection, report_id: str) -> bool:
    """Running becomes pending as if it had not been tried: the server is stopping. False when it was deleted."""
    return _update(
        connection,
        "UPDATE report SET state = 'pending', attempts = attempts - 1 WHERE id = ? AND state = 'running'",
        (report_id,),
    )


def recover(
    connection: sqlite3.Connection, now_us: int, most_deaths: int, error: str, died: bool
) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Running becomes pending again, or failed when the process under it `died` the `most_deaths`th time.

    Returns all pending reports in the order they were requested in, as (id, when the next try is due), and the ids of
    those that failed. Only for the one server of a database.
    """
    if died:
        connection.execute("UPDATE report SET died = died + 1 WHERE state = 'running'")
    else:
        # It could not requeue them.
        connection.execute("UPDATE report SET attempts = attempts - 1 WHERE state = 'running'")
    failed = connection.execute(
        "UPDATE report SET state = 'failed', finished_us = ?, error = ? WHERE state = 'running' AND died >= ? "
        "RETURNING id",
        (now_us, error, most_deaths),
    ).fetchall()
    connection.execute("UPDATE report SET state = 'pending' WHERE state = 'running'")
    pending = connection.execute(
        "SELECT id, next_try_us FROM report WHERE state = 'pending' ORDER BY requested_us, rowid"
    ).fetchall()
    return pending, [report_id for (report_id,) in failed]


def count(connection: sqlite3.Connection) -> int:
    """Return how many rows there are, of deleted reports too."""
    return int(connection.execute("SELECT count(*) FROM report").fetchone()[0])


def count_by_state(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many reports there are in each state."""
    return dict(connection.execute("SELECT state, count(*) FROM report GROUP BY state"))


def states(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the state of every report by its id."""
    return dict(connection.execute("SELECT id, state FROM report"))


def query_bytes(connection: sqlite3.Connection) -> int:
    """Return how many bytes the texts of queries have."""
    rows = connection.execute(
        "SELECT coalesce(sum(byte_count), 0) FROM report_text WHERE number IN "
        "(SELECT query_text FROM report WHERE query_text IS NOT NULL)"
    )
    return int(rows.fetchone()[0])


def query_uses(connection: sqlite3.Connection) -> dict[int, int]:
    """Return how many reports have each text of a query, by its number."""
    return dict(
        connection.execute("SELECT query_text, count(*) FROM report WHERE query_text IS NOT NULL GROUP BY query_text")
    )


def finished(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    """Return (id, number and bytes of the text of its query) of every complete or failed report, the oldest first."""
    return connection.execute(
        "SELECT id, query_text, text.byte_count FROM report JOIN report_text AS text ON number = query_text "
        f"WHERE {_FINISHED} ORDER BY finished_us, id"
    )


def finished_last(connection: sqlite3.Connection) -> str | None:
    """Return the id of the report that was finished last."""
    row = connection.execute(
        f"SELECT id FROM report WHERE {_FINISHED} ORDER BY finished_us DESC, id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else str(row[0])


def finished_before(connection: sqlite3.Connection, before_us: int, limit: int) -> list[str]:
    """Return the ids of up to `limit` reports that were finished before that."""
    rows = connection.execute(
        f"SELECT id FROM report WHERE {_FINISHED} AND finished_us < ? LIMIT ?", (before_us, limit)
    )
    return [report_id for (report_id,) in rows]


def delete(connection: sqlite3.Connection, report_ids: Iterable[str], reason: str, now_us: int) -> int:
    """Delete reports in whatever state, as they are `old`, to make `room`, or as `asked`; return how many that was.

    Their rows stay, and lose what was asked and how they were made.
    """
    texts: list[int | None] = []
    deleted = 0
    for report_id in report_ids:
        row = connection.execute(
            "SELECT query_text, outcome_text FROM report WHERE id = ? AND state <> 'deleted'", [report_id]
        ).fetchone()
        if row is None:
            continue
        connection.execute(
            "UPDATE report SET state = 'deleted', deleted_us = ?, gone = ?, next_try_us = NULL, query_text = NULL, "
            "outcome_text = NULL, query_digest = NULL, error = NULL, last_error = NULL WHERE id = ?",
            (now_us, reason, report_id),
        )
        texts += row
        deleted += 1
    _remove_unused_texts(connection, texts)
    return deleted


def forget(connection: sqlite3.Connection, before_us: int, limit: int) -> int:
    """Remove the rows of up to `limit` reports that were deleted before that, and return how many."""
    return connection.execute(
        "DELETE FROM report WHERE id IN (SELECT id FROM report WHERE state = 'deleted' AND deleted_us < ? LIMIT ?)",
        (before_us, limit),
    ).rowcount


def oldest_deleted_before(connection: sqlite3.Connection, count: int) -> int | None:
    """Return a time before which the first `count` deleted reports were deleted; None when there are not more."""
    row = connection.execute(
        "SELECT deleted_us + 1 FROM report WHERE state = 'deleted' ORDER BY deleted_us LIMIT 1 OFFSET ?", [count]
    ).fetchone()
    return None if row is None else int(row[0])


def path_of(folder: Path, report_id: str) -> Path:
    """Return where the file of that report is, or will be; `DatabaseError` for an id that is none."""
    if _ID.fullmatch(report_id) is None:
        raise DatabaseError(
            f"the database has a report {report_id[:100]!r}, which is no id that storemon makes; "
            "restore it from a backup"
        )
    return folder / f"report_{report_id}.csv"


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return (id, file) of every file that is named like a report's; `OSError` when the folder cannot be listed."""
    return named(folder, _FILE)


def named(folder: Path, form: re.Pattern[str]) -> Iterator[tuple[str, Path]]:
    """Return (id, file) of what is named like that."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = form.fullmatch(file.name)
        if match is not None:
            yield match[match.lastindex or 0], file


def files_of_no_report(read: Read, folder: Path) -> list[Path]:
    """Return files named like those of reports that belong to no report of this database, also beside a server.

    `OSError` when the folder cannot be listed.
    """
    # The files first: one that is written meanwhile has its row already.
    listed = list(files(folder))
    with read() as connection:
        state_of = states(connection)
    return [file for report_id, file in listed if state_of.get(report_id) in (None, *_WITHOUT_FILE) and file.is_file()]


def missing_files(read: Read, folder: Path) -> list[str]:
    """Return the ids of complete reports whose file is not there."""
    missing: set[str] | None = None
    # Twice: one may be deleted between the look at the rows and that at the files.
    for _ in range(2):
        with read() as connection:
            complete = {one for one, state in states(connection).items() if state == ReportState.COMPLETE}
        missing = {one for one in missing or complete if one in complete and not path_of(folder, one).is_file()}
        if not missing:
            break
    return sorted(missing or ())


def _records(
    connection: sqlite3.Connection,
    texts: str,
    rest: str,
    values: Sequence[Any] | Mapping[str, Any],
    table: str = "report",
) -> list[ReportRecord]:
    return [_record(row) for row in named_rows(connection, _SELECT.format(texts=texts, table=table) + rest, values)]


def _record(row: sqlite3.Row) -> ReportRecord:
    texts = {name: json.loads(row[name] or "null") for name in ("stores", "shape", "altered", "method")}
    texts["altered"] = {
        column: {int(index): text for index, text in cells.items()}
        for column, cells in (texts["altered"] or {}).items()
    }
    state, as_of_asked = ReportState(row["state"]), bool(row["as_of_asked"])
    return ReportRecord(**{**dict(row), **texts, "state": state, "as_of_asked": as_of_asked})


def _update(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> bool:
    return connection.execute(sql, values).rowcount > 0


def _store_text(
    connection: sqlite3.Connection, small: Mapping[str, Any] | None, large: Sequence[str] | Mapping[str, Any] | None
) -> int:
    """The number of these two texts in `report_text`, stored now unless they are there."""
    small_text, large_text = (None if one is None else json.dumps(one) for one in (small, large))
    digest = hashlib.sha256(f"{len(small_text or '')} {small_text} {large_text}".encode()).hexdigest()
    known = connection.execute("SELECT number FROM report_text WHERE digest = ?", [digest]).fetchone()
    if known is not None:
        return int(known[0])
    names = large if isinstance(large, list) else None
    added = connection.execute(
        "INSERT INTO report_text (digest, byte_count, store_count, first_stores, small, large) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            digest,
            len((small_text or "").encode()) + len((large_text or "").encode()),
            None if names is None else len(names),
            None if names is None else json.dumps(names[:LISTED_STORES]),
            small_text,
            large_text,
        ),
    )
    return int(added.lastrowid or 0)


def _remove_unused_texts(connection: sqlite3.Connection, numbers: Iterable[int | None]) -> None:
    connection.executemany(
        "DELETE FROM report_text WHERE number = ? AND NOT EXISTS (SELECT 1 FROM report WHERE query_text = number) "
        "AND NOT EXISTS (SELECT 1 FROM report WHERE outcome_text = number)",
        [(number,) for number in set(numbers) if number is not None],
    )
