"""The rows and files of reports, for the jobs that make them and the doors that serve them."""

import base64
import errno
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.database import files, report_texts, reports, stores
from storemon_flask.database.connections import Database
from storemon_flask.database.report_row import LISTED_STORES as LISTED_STORES
from storemon_flask.database.report_row import ReportRow as ReportRow
from storemon_flask.errors import (
    BadRequest,
    Conflict,
    DatabaseError,
    Gone,
    NotFound,
    QueueFull,
    ReportFailed,
    ReportHasFailed,
    StoremonError,
    out_of_memory,
)
from storemon_flask.model import SECOND_US, Rules
from storemon_flask.reports import diff as report_diff
from storemon_flask.reports import report
from storemon_flask.reports.diff import Diff, ReportFile
from storemon_flask.reports.report import Asked, Finished, Question
from storemon_flask.version import VERSION

# What the different reports that wait were asked, together.
MOST_WAITING_BYTES: Final = 100_000_000
# What programs are told, and people.
# What the server makes; an id goes into the name of a file.
_ID: Final = re.compile("[0-9a-f]{32}")
_GONE: Final[Mapping[str | None, tuple[str, str]]] = {
    None: ("the report was deleted; trigger a new one", "the report was deleted; you can ask for a new one"),
    "old": (
        "the report was deleted because it was older than STOREMON_KEEP_REPORTS_DAYS allows; trigger a new one",
        "the report was deleted because it was older than reports are kept here; you can ask for a new one",
    ),
    "room": (
        "the report was deleted to make room: STOREMON_MAX_REPORTS_MB; trigger a new one",
        "the report was deleted to make room for newer ones; you can ask for a new one",
    ),
    "lost": (
        "the report's file was no longer in the reports folder when the server started; trigger a new report",
        "the report's file was no longer in its folder when the server started; you can ask for a new report",
    ),
}


def path(folder: Path, job: str) -> Path:
    """The file of a job: that of the report of this id, and of those that share it."""
    if _ID.fullmatch(job) is None:
        raise DatabaseError(
            f"the database has a report {job[:100]!r}, which is no id that storemon makes; restore it from a backup"
        )
    return folder / f"report_{job}.csv"


def make_folder(folder: Path) -> None:
    """The reports folder, made when it is not there; `ReportFailed` when it cannot be."""
    try:
        files.make_folder(folder)
    except OSError as error:
        raise ReportFailed(f"the reports folder {folder} cannot be made: {error.strerror or error}") from error


def get(database: Database, report_id: str | None) -> ReportRow:
    """The report of that id; `BadRequest` without one, `NotFound` for an unknown one, `Gone` for a deleted one."""
    if not report_id:
        raise no_id()
    row = None
    if database.exists():
        with database.read() as connection:
            row = reports.find(connection, report_id)
    return present(row)


def no_id() -> BadRequest:
    """Return the error of a request that names no report."""
    return BadRequest(
        "name the report: /get_report?report_id=ID, with the id that POST /trigger_report answered",
        people="the address names no report",
    )


def present(row: ReportRow | None) -> ReportRow:
    """The report found; `NotFound` when there is none, `Gone` for a deleted one."""
    if row is None:
        raise NotFound(
            "there is no report of that id; POST /trigger_report makes one and answers its id",
            people="there is no such report; perhaps the address is not whole",
        )
    if row.state == "deleted":
        sentence, people = _GONE.get(row.gone) or _GONE[None]
        raise Gone(sentence, people=people)
    return row


def failed(row: ReportRow) -> ReportHasFailed:
    """What is said of a report that will not come.

    No success: whoever saves the answer would take it for the report.
    """
    return ReportHasFailed(
        f"the report failed and will not come: {row.error}; trigger a new one",
        people=f"the report failed and will not come: {row.error}; you can ask for a new one",
        report_id=row.id,
        error=row.error,
    )


def file_of(row: ReportRow, folder: Path) -> Path:
    """The file of a complete report; `Gone` when somebody removed it."""
    file = path(folder, row.job)
    if not file.is_file():
        raise gone(file)
    return file


def gone(file: Path) -> Gone:
    """What is said when a report's file is not there."""
    what = f"the report's file {file.name} is no longer in the reports folder"
    return Gone(f"{what}; trigger a new report", people=f"{what}; you can ask for a new report")


def newest(database: Database, before: tuple[int, str] | None, limit: int) -> list[ReportRow]:
    """Up to `limit` reports, the newest first, asked for before (instant, id) if that is given; none without a
    database.

    Each has the first `LISTED_STORES` of its stores, and no `altered`: `get` has all.
    """
    if not database.exists():
        return []
    with database.read() as connection:
        return reports.newest(connection, before, limit)


def diff(database: Database, folder: Path, before_id: str, after_id: str, limit: int, files: bool = False) -> Diff:
    """Compare two complete reports; each is an id, or with `files` the path of a CSV that a report was written to.

    The result has the `limit` largest changes. `Conflict` when one is not complete; other errors as `get`.
    """
    with ExitStack() as opened:
        before, after = (_opened(database, folder, report_id, files, opened) for report_id in (before_id, after_id))
        return report_diff.compare(before, after, limit)


def bytes_of(database: Database, *report_ids: str) -> int:
    """How many bytes those reports' files have, as far as they are complete."""
    return sum(get(database, report_id).byte_count or 0 for report_id in report_ids)


def _opened(database: Database, folder: Path, report_id: str, files: bool, opened: ExitStack) -> ReportFile:
    if files and Path(report_id).is_file():
        try:
            return ReportFile(opened.enter_context(Path(report_id).open(encoding="utf-8", newline="")), {})
        except OSError as error:
            raise ReportFailed(f"{report_id} cannot be read: {error}") from None
    try:
        row = get(database, report_id)
    except NotFound:
        if files:
            raise NotFound(f"{report_id!r} is neither a file nor the id of a report") from None
        raise
    if row.state != "complete":
        raise Conflict(
            f"report {report_id} is {row.state}, not complete; ask again when it is",
            people="one of the two reports is not complete; compare them when it is",
        )
    file = file_of(row, folder)
    try:
        return ReportFile(opened.enter_context(file.open(encoding="utf-8", newline="")), row.altered)
    except FileNotFoundError:
        raise gone(file) from None


def add(
    database: Database,
    report_id: str,
    asked: Asked,
    default_zone: str,
    most_rows: int,
    now_us: int,
    rules: Rules | None = None,
    most_waiting: int | None = None,
) -> bool:
    """A pending report, committed; its as-of is settled now. False when it shares the job of an equal one (never
    without `rules`), so that there is nothing more to do.

    `QueueFull` when it would be a job beyond `most_waiting`; other errors as `report.ask`.
    """
    with database.write() as connection:
        latest_us = (rules or Rules()).latest_us(now_us)
        question = report.ask(database, asked, default_zone, most_rows, connection, latest_us)
        wanted = None if question.stores is None else list(question.stores)
        shape = dict(asked.shape) or None
        version = stores.data_version(connection)
        digest, alike = (None, None) if rules is None else _digests(question, asked, default_zone, rules)
        as_of_asked = asked.as_of_us is not None
        if digest is not None and reports.join(
            connection, report_id, wanted, shape, now_us, digest, version, as_of_asked, alike
        ):
            return False
        if most_waiting is not None and reports.waiting(connection) >= most_waiting:
            raise QueueFull(f"{most_waiting:,} report(s) are waiting, as many as may; try again later")
        waiting_bytes = report_texts.waiting_bytes(connection)
        if most_waiting is not None and waiting_bytes >= MOST_WAITING_BYTES:
            raise QueueFull(
                f"the reports that wait ask for {waiting_bytes / 1e6:,.0f} MB of names of stores, groups and windows, and there may be "
                f"{MOST_WAITING_BYTES / 1e6:,.0f}; try again later"
            )
        reports.add(
            connection,
            report_id,
            question.as_of_us,
            asked.columns,
            wanted,
            shape,
            now_us,
            digest,
            version,
            as_of_asked,
            alike,
        )
        return True


def latest(
    database: Database,
    folder: Path,
    asked: Asked,
    default_zone: str,
    most_rows: int,
    rules: Rules,
    now_us: int,
    max_age_us: int,
) -> ReportRow | None:
    """The newest complete report that was asked for like this, if it is of the data as they are now or finished at most
    `max_age_us` ago; else one such that is on its way; else None. Errors as `report.ask`."""
    if not database.exists():
        return None
    with database.read() as connection:
        question = report.ask(database, asked, default_zone, most_rows, connection, rules.latest_us(now_us))
        _, alike = _digests(question, asked, default_zone, rules)
        version = stores.data_version(connection)
        as_of_us, since_us = question.as_of_us, now_us - max_age_us
        for row in reports.fresh(connection, alike, version, as_of_us, since_us, now_us):
            if path(folder, row.job).is_file():
                return row
        return reports.under_way(connection, alike, version, as_of_us, since_us, now_us)


def _digests(question: Question, asked: Asked, default_zone: str, rules: Rules) -> tuple[str, str]:
    """Two hashes: equal for questions that have the same answer on the same data; equal for requests that this program,
    with its settings and zone data, would answer alike at one time, whatever the newest poll is then."""
    wanted = None if question.stores is None else sorted(question.stores)
    shape = None if question.shape is None else asdict(question.shape)
    settled = json.dumps([question.columns, wanted, shape, default_zone, asdict(rules)])
    return _hash(question.as_of_us, settled), _hash(asked.as_of_us, VERSION, zonedata.version(), settled)


def _hash(*parts: object) -> str:
    # 128 bits in 22 letters: it stands in every row and in an index.
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode()[:22]


def claim(database: Database, job: str, now_us: int) -> ReportRow | None:
    """The job, now running, as one of its reports; None when it is not pending (any more)."""
    with database.write() as connection:
        return reports.claim(connection, job, now_us)


def advance(database: Database, job: str, progress: float) -> bool:
    """Say how far a running job is, 0 to 1; False when nobody wants it any more."""
    with database.write() as connection:
        return reports.advance(connection, job, progress)


def complete(database: Database, job: str, now_us: int, done: Finished) -> int:
    """The job's file is in its place: say so. Returns of how many reports; of none when they were deleted meanwhile."""
    with database.write(even_stopping=True) as connection:
        return reports.complete(
            connection, job, now_us, done.rows, done.bytes, done.sha256, done.altered, done.method
        )  # fmt: skip


def fail(database: Database, job: str, now_us: int, sentence: str) -> bool:
    """The job's reports will not come; why. False when nobody waits for them."""
    with database.write(even_stopping=True) as connection:
        return reports.fail(connection, job, now_us, sentence)


def put_off(database: Database, job: str, sentence: str, next_try_us: int) -> bool:
    """The job failed for now, and why; it is tried again at that instant. False when nobody waits for it."""
    with database.write(even_stopping=True) as connection:
        return reports.put_off(connection, job, sentence, next_try_us)


def put_back(database: Database, job: str) -> bool:
    """The job was stopped in good order and waits for the next server. False when nobody waits for it."""
    with database.write(even_stopping=True) as connection:
        return reports.put_back(connection, job)


def recover(
    database: Database, now_us: int, most_deaths: int, sentence: str, died: bool
) -> tuple[list[tuple[str, int | None, int]], list[str]]:
    """The jobs to run after a start: (id, when the next try is due or None, how many reports it is for), and those that
    failed.

    Those under which the server died `most_deaths` times are failed with `sentence`; `died`: it did so just now.
    """
    with database.write() as connection:
        return reports.recover(connection, now_us, most_deaths, sentence, died)


# With the waits below, the last try is half an hour after the first.
MOST_TRIES: Final = 8
_FIRST_S: Final = 1
_LONGEST_S: Final = 900

# Locked, the disk full, an I/O error, too many files open; and a folder or temporary file that somebody removed.
_PASSING_ERRNOS: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE,
        errno.ENOMEM, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_PASSING_CODES: Final = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
)


def passes(error: BaseException) -> bool:
    """Whether the failure may pass by itself: what the system or SQLite said of it, or of what caused it."""
    if out_of_memory(error) is not None:
        return True
    found: BaseException | None = error
    while found is not None:
        code = getattr(found, "sqlite_errorname", None) or getattr(found, "members", {}).get("sqlite")
        if code:
            return str(code).startswith(_PASSING_CODES)
        if isinstance(found, OSError):
            return found.errno in _PASSING_ERRNOS
        found = found.__cause__
    return False


def sentence(error: Exception) -> str:
    """What is said of a failure to whoever waits for the report."""
    if isinstance(error, StoremonError):
        return error.message
    no_memory = out_of_memory(
        error, "this report", "ask for fewer stores, days or columns, or give the server more memory"
    )
    if no_memory is not None:
        return no_memory.message
    return f"unexpected error ({type(error).__name__}); see the log"


def wait_us(tries: int) -> int:
    """How long to wait after so many tries (1 or more), in microseconds: 1 s, and four times as long each time, up to
    15 min.
    """
    return min(_FIRST_S << 2 * min(tries - 1, 20), _LONGEST_S) * SECOND_US
