"""The queue of reports: submission, the steps of a report's life, its file, and which failures are tried again."""

import base64
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.database import files, reports, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.reports import LISTED_STORES as LISTED_STORES
from storemon_flask.database.reports import NewReport
from storemon_flask.database.reports import ReportRecord as ReportRecord
from storemon_flask.errors import (
    BadRequest,
    Conflict,
    Gone,
    NotFound,
    QueueFull,
    ReportFailed,
    ReportHasFailed,
    StoremonError,
    out_of_memory,
)
from storemon_flask.model import SECOND_US, ReportOutcome, ReportState
from storemon_flask.reports import compute
from storemon_flask.reports import diff as report_diff
from storemon_flask.reports.diff import Diff, ReportFile
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.version import VERSION

log = logging.getLogger("storemon.reports")

# What the different reports that wait ask for, together.
MOST_WAITING_BYTES: Final = 100_000_000
_GONE: Final[Mapping[str | None, str]] = {
    None: "the report was deleted; ask for a new one",
    "old": "the report was deleted because it was older than reports are kept here; ask for a new one",
    "room": "the report was deleted to make room for newer ones; ask for a new one",
}

# With the waits of `retry_wait_us`, the last try is half an hour after the first.
MOST_TRIES: Final = 8
_FIRST_WAIT_S: Final = 1
_LONGEST_WAIT_S: Final = 900
# Locked, the disk full, an I/O error, too many files open; and a folder or temporary file that somebody removed.
_TEMPORARY_ERRNOS: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE,
        errno.ENOMEM, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_TEMPORARY_CODES: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")


def submit(database: Database, settings: Settings, request: ReportRequest, now_us: int) -> str:
    """Store a pending report and return its id, 128 random bits; its as-of is settled now.

    `QueueFull` when it would be one query too many that waits; other errors as `compute.make_query`.
    """
    with database.write() as connection:
        new = _new_report(database, connection, settings, request, now_us)
        count, size = reports.waiting(connection, new.query_digest, new.as_of_us)
        if count >= settings.max_pending_reports:
            raise QueueFull(f"{count:,} report(s) are waiting, as many as may; try again later")
        if size >= MOST_WAITING_BYTES:
            raise QueueFull(
                f"the reports that wait ask for {size / 1e6:,.0f} MB of names of stores, groups and windows, "
                f"and there may be {MOST_WAITING_BYTES / 1e6:,.0f}; try again later"
            )
        reports.add(connection, new, now_us)
    return new.id


def latest(
    database: Database, settings: Settings, request: ReportRequest, now_us: int, max_age_us: int
) -> ReportRecord | None:
    """Return the newest complete report that was asked for like this, if it is of the data as they are now or finished
    at most `max_age_us` ago; else such a one that is on its way; else None. Errors as `compute.make_query`."""
    if not database.exists():
        return None
    with database.read() as connection:
        query = _new_report(database, connection, settings, request, now_us)
        for record in reports.fresh(connection, query, now_us - max_age_us, now_us):
            if reports.path_of(settings.reports_dir, record.id).is_file():
                return record
        return reports.on_its_way(connection, query, now_us - max_age_us, now_us)


def _new_report(
    database: Database, connection: Connection, settings: Settings, request: ReportRequest, now_us: int
) -> NewReport:
    latest_us = settings.rules.latest_us(now_us)
    checked = compute.make_query(
        database, request, settings.default_timezone, settings.max_report_rows, connection, latest_us
    )
    store_ids = None if checked.stores is None else sorted(checked.stores)
    alike = replace(checked, as_of_us=0, stores=None if store_ids is None else tuple(store_ids))
    rules = asdict(settings.rules)
    settled = json.dumps([VERSION, zonedata.version(), asdict(alike), settings.default_timezone, rules])
    # 128 bits in 22 letters: it stands in every row and in two indexes.
    digest = base64.urlsafe_b64encode(hashlib.sha256(settled.encode()).digest()[:16]).decode()[:22]
    return NewReport(
        secrets.token_hex(16),
        checked.as_of_us,
        request.as_of_us is not None,
        request.columns,
        store_ids,
        dict(request.fields),
        digest,
        stores.data_version(connection),
    )


def get(database: Database, report_id: str | None) -> ReportRecord:
    """Return that report; `BadRequest` without an id, `NotFound` for an unknown one, `Gone` for a deleted one."""
    if not report_id:
        raise no_id()
    record = None
    if database.exists():
        with database.read() as connection:
            record = reports.find(connection, report_id)
    return _present(record)


def no_id() -> BadRequest:
    """Return the error of a request that names no report."""
    return BadRequest("name the report: /get_report?report_id=ID, with the id that POST /trigger_report answered")


def _present(record: ReportRecord | None) -> ReportRecord:
    if record is None:
        raise NotFound("there is no report of that id; the list of reports has those there are")
    if record.state == ReportState.DELETED:
        raise Gone(_GONE.get(record.gone) or _GONE[None])
    return record


def failure(record: ReportRecord) -> ReportHasFailed:
    """Return the error that a failed report answers: whoever saves a success would take it for the report."""
    return ReportHasFailed(
        f"the report failed and will not come: {record.error}; ask for a new one",
        report_id=record.id,
        error=record.error,
    )


def newest(database: Database, before: tuple[int, str] | None, limit: int) -> list[ReportRecord]:
    """Return up to `limit` reports, the newest first, requested before (`requested_us`, id) if that is given; none
    without a database.

    Each has the first `LISTED_STORES` of its stores, and no `altered`: `get` has all.
    """
    if not database.exists():
        return []
    with database.read() as connection:
        return reports.newest(connection, before, limit)


def delete(database: Database, folder: Path, report_id: str, now_us: int) -> None:
    """Delete a report in whatever state, and its file. Errors as `get`."""
    get(database, report_id)
    with database.write() as connection:
        # It may have been deleted since.
        _present(reports.find(connection, report_id))
        reports.delete(connection, [report_id], "asked", now_us)
    # After the commit: a file may outlive its report for a moment, a report never its file.
    remove_file(reports.path_of(folder, report_id))


def diff(database: Database, folder: Path, before_id: str, after_id: str, limit: int, files: bool = False) -> Diff:
    """Compare two complete reports; each is an id, or with `files` the path of a CSV that a report was written to.

    The result has the `limit` largest changes. `Conflict` when one is not complete; other errors as `get`.
    """
    with ExitStack() as opened:
        before, after = (_opened(database, folder, report_id, files, opened) for report_id in (before_id, after_id))
        return report_diff.compare(before, after, limit)


def bytes_of(database: Database, *report_ids: str) -> int:
    """Return how many bytes those reports' files have, as far as they are complete."""
    return sum(get(database, report_id).byte_count or 0 for report_id in report_ids)


def _opened(database: Database, folder: Path, report_id: str, files: bool, opened: ExitStack) -> ReportFile:
    if files and Path(report_id).is_file():
        try:
            return ReportFile(opened.enter_context(Path(report_id).open(encoding="utf-8", newline="")), {})
        except OSError as error:
            raise ReportFailed(f"{report_id} cannot be read: {error}") from None
    try:
        record = get(database, report_id)
    except NotFound:
        if files:
            raise NotFound(f"{report_id!r} is neither a file nor the id of a report") from None
        raise
    if record.state != ReportState.COMPLETE:
        raise Conflict(f"report {report_id} is {record.state}, not complete; ask again when it is")
    file = file_of(record, folder)
    try:
        return ReportFile(opened.enter_context(file.open(encoding="utf-8", newline="")), record.altered)
    except FileNotFoundError:
        raise file_missing(file) from None


def file_of(record: ReportRecord, folder: Path) -> Path:
    """Return the file of a complete report; `Gone` when it is not there."""
    file = reports.path_of(folder, record.id)
    if not file.is_file():
        raise file_missing(file)
    return file


def file_missing(file: Path) -> Gone:
    """Return the error that a complete report answers whose file is not there."""
    return Gone(f"the report's file {file.name} is no longer in the reports folder; ask for a new report")


def make_folder(folder: Path) -> None:
    """Make the reports folder unless it is there; `ReportFailed` when it cannot be."""
    try:
        files.make_folder(folder)
    except OSError as error:
        raise ReportFailed(f"the reports folder {folder} cannot be made: {error.strerror or error}") from error


def remove_file(file: Path) -> bool:
    """Remove a file; False when it was not there or cannot be removed: retention tries again."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s cannot be removed, and is tried again within the hour: %s", file, error.strerror or error)
        return False
    return True


def reuse(database: Database, folder: Path, report_id: str) -> tuple[ReportOutcome, bool] | None:
    """Give a running report the file of an equal one on the same data: its outcome, and whether it takes room of its
    own.

    None when there is no such report, or no file of it.
    """
    with database.read() as connection:
        equal = reports.equal(connection, report_id)
    for other in equal:
        try:
            copied = _link_or_copy(reports.path_of(folder, other.id), reports.path_of(folder, report_id))
        except OSError:
            # That one is gone, or the disk is full: computing says what is wrong with it.
            continue
        outcome = ReportOutcome(
            other.row_count or 0, other.byte_count or 0, other.sha256 or "", other.altered, other.method or {}
        )
        return outcome, copied
    return None


def _link_or_copy(file: Path, final: Path) -> bool:
    """Give the file a second name; or copy it, where the file system has no links or no more for this file, and return
    True."""
    final.unlink(missing_ok=True)
    try:
        # Not forced to the disk, which takes as long as computing: where a power cut takes the name, the answer is 410.
        os.link(file, final)
    except FileNotFoundError:
        raise
    except OSError:
        with files.replacing(final) as temporary:
            shutil.copyfile(file, temporary)
        return True
    return False


def start(database: Database, report_id: str, now_us: int) -> ReportRecord | None:
    """Return the report, now running; None when it was not pending."""
    with database.write() as connection:
        return reports.start(connection, report_id, now_us)


def advance(database: Database, report_id: str, progress: float) -> bool:
    """Set how far a running report is, 0 to 1; False when it was deleted."""
    with database.write() as connection:
        return reports.advance(connection, report_id, progress)


def complete(database: Database, report_id: str, now_us: int, outcome: ReportOutcome) -> bool:
    """Set a running report, whose file is in its place, complete; False when it was deleted meanwhile."""
    with database.write(even_stopping=True) as connection:
        return reports.complete(connection, report_id, now_us, outcome)


def fail(database: Database, report_id: str, now_us: int, error: str) -> bool:
    """Set a running report failed, and why; False when it was deleted."""
    with database.write(even_stopping=True) as connection:
        return reports.fail(connection, report_id, now_us, error)


def retry_later(database: Database, report_id: str, error: str, next_try_us: int) -> bool:
    """Set a running report pending until its next try, and why; False when it was deleted."""
    with database.write(even_stopping=True) as connection:
        return reports.retry_later(connection, report_id, error, next_try_us)


def requeue(database: Database, report_id: str) -> bool:
    """Set a running report pending, as it was stopped in good order; False when it was deleted."""
    with database.write(even_stopping=True) as connection:
        return reports.requeue(connection, report_id)


def is_temporary(error: BaseException) -> bool:
    """Return whether the failure may pass by itself: what the system or SQLite said of it, or of what caused it."""
    if out_of_memory(error) is not None:
        return True
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "members", {}).get("sqlite")
        if code:
            return str(code).startswith(_TEMPORARY_CODES)
        if isinstance(cause, OSError):
            return cause.errno in _TEMPORARY_ERRNOS
        cause = cause.__cause__
    return False


def error_message(error: Exception) -> str:
    """Return what a report says of its failure."""
    if isinstance(error, StoremonError):
        return error.message
    no_memory = out_of_memory(
        error, "this report", "ask for fewer stores, days or columns, or give the server more memory"
    )
    if no_memory is not None:
        return no_memory.message
    return f"unexpected error ({type(error).__name__}); see the log"


def retry_wait_us(tries: int) -> int:
    """Return how long to wait after so many tries (1 or more): 1 s, and four times as long each time, up to 15 min."""
    return min(_FIRST_WAIT_S << 2 * min(tries - 1, 20), _LONGEST_WAIT_S) * SECOND_US
