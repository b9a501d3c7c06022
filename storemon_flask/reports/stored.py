"""Stored reports: each, the list of them, their files, their deletion, and the difference of two."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.database.reports import ReportRecord
from storemon_flask.errors import BadRequest, Conflict, Gone, NotFound, ReportFailed, ReportHasFailed
from storemon_flask.model import ReportState
from storemon_flask.reports import diff as report_diff
from storemon_flask.reports.diff import Diff, ReportFile

log = logging.getLogger("storemon.reports")

_GONE: Final[Mapping[str | None, str]] = {
    None: "the report was deleted; ask for a new one",
    "old": "the report was deleted because it was older than reports are kept here; ask for a new one",
    "room": "the report was deleted to make room for newer ones; ask for a new one",
}


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


def diff(
    database: Database,
    folder: Path,
    before_id: str,
    after_id: str,
    limit: int,
    *,
    window: str | None = None,
    detailed: bool = False,
    files: bool = False,
) -> Diff:
    """Compare two complete reports (`diff.compare`); each is an id, or with `files` the path of a CSV that a report was
    written to.

    `Conflict` when one is not complete; other errors as `get`.
    """
    with ExitStack() as opened:
        before, after = (_opened(database, folder, report_id, files, opened) for report_id in (before_id, after_id))
        return report_diff.compare(before, after, limit, window, detailed)


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
            raise NotFound(
                f"{report_id!r} is neither a file nor the id of a report; name a file that `storemon report -o FILE` "
                "wrote, or an id that the page Reports lists"
            ) from None
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
