"""The rows and files of reports, for the jobs that make them and the doors that serve them."""

from contextlib import suppress
from pathlib import Path

from storemon_flask.errors import BadRequest, Conflict, Gone, NotFound, ReportFailed
from storemon_flask.services import report, report_diff
from storemon_flask.services.report import Asked, Finished
from storemon_flask.services.report_diff import Change
from storemon_flask.services.report_text import Altered
from storemon_flask.storage import reports
from storemon_flask.storage.db import Database
from storemon_flask.storage.reports import ReportRow as ReportRow


def path(folder: Path, report_id: str) -> Path:
    """The file of a report."""
    return folder / f"report_{report_id}.csv"


def make_folder(folder: Path) -> None:
    """The reports folder, made when it is not there; `ReportFailed` when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportFailed(f"the reports folder {folder} cannot be made: {error.strerror or error}") from error


def sweep(folder: Path) -> int:
    """Remove what a server that was killed had begun to write; how many files that was. Other files stay."""
    removed = 0
    for file in folder.glob(".report_*.tmp"):
        # A folder that cannot be written is said when a report is.
        with suppress(OSError):
            file.unlink()
            removed += 1
    return removed


def get(database: Database, report_id: str | None) -> ReportRow:
    """The report of that id; `BadRequest` without one, `NotFound` for an unknown one, `Gone` for a deleted one."""
    if not report_id:
        raise BadRequest("name the report: /get_report?report_id=ID, with the id that POST /trigger_report answered")
    row = None
    if database.exists():
        with database.read() as connection:
            row = reports.find(connection, report_id)
    if row is None:
        raise NotFound("there is no report of that id; POST /trigger_report makes one and answers its id")
    if row.state == "deleted":
        raise Gone("the report was deleted; trigger a new one")
    return row


def file_of(row: ReportRow, folder: Path) -> Path:
    """The file of a complete report; `Gone` when somebody removed it."""
    file = path(folder, row.id)
    if not file.is_file():
        raise Gone(f"the report's file {file.name} is no longer in the reports folder; trigger a new report")
    return file


def newest(database: Database, before: tuple[int, str] | None, limit: int) -> list[ReportRow]:
    """Up to `limit` reports, the newest first, asked for before (instant, id) if that is given; none without a database."""
    if not database.exists():
        return []
    with database.read() as connection:
        return reports.newest(connection, before, limit)


def diff(database: Database, folder: Path, before_id: str, after_id: str, files: bool = False) -> list[Change]:
    """What changed from one complete report to another; each is an id, or the path of a CSV that a report was written to.

    `Conflict` when one is not complete; other errors as `get`.
    """
    found: list[tuple[str, Altered]] = []
    for report_id in (before_id, after_id):
        if files and Path(report_id).is_file():
            found.append((_text(Path(report_id)), {}))
            continue
        row = get(database, report_id)
        if row.state != "complete":
            raise Conflict(f"report {report_id} is {row.state}, not complete; ask again when it is")
        found.append((file_of(row, folder).read_text("utf-8"), row.altered))
    return report_diff.changes(*found)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportFailed(f"{file} cannot be read: {error}") from None


def add(database: Database, report_id: str, asked: Asked, default_zone: str, most_rows: int, now_us: int) -> None:
    """A pending report, committed; its as-of is settled now. Errors as `report.ask`."""
    with database.write() as connection:
        question = report.ask(database, asked, default_zone, most_rows, connection)
        wanted = None if question.stores is None else list(question.stores)
        reports.add(connection, report_id, question.as_of_us, asked.columns, wanted, dict(asked.shape) or None, now_us)


def claim(database: Database, report_id: str, now_us: int) -> ReportRow | None:
    """The report, now running; None when it is not pending (any more)."""
    with database.write() as connection:
        return reports.find(connection, report_id) if reports.claim(connection, report_id, now_us) else None


def advance(database: Database, report_id: str, progress: float) -> None:
    """Say how far a running report is, 0 to 1."""
    with database.write() as connection:
        reports.advance(connection, report_id, progress)


def complete(database: Database, report_id: str, now_us: int, done: Finished) -> None:
    """The report's file is in its place: say so."""
    with database.write(last_word=True) as connection:
        reports.complete(connection, report_id, now_us, done.rows, done.bytes, done.sha256, done.altered, done.method)


def fail(database: Database, report_id: str, now_us: int, sentence: str) -> None:
    """The report will not come; why."""
    with database.write(last_word=True) as connection:
        reports.fail(connection, report_id, now_us, sentence)


def put_back(database: Database, report_id: str) -> None:
    """The report was stopped in good order and waits for the next server."""
    with database.write(last_word=True) as connection:
        reports.put_back(connection, report_id)


def recover(database: Database, now_us: int, most_attempts: int, sentence: str) -> list[str]:
    """Ids of the reports to run after a start; those that were tried too often are failed with `sentence`."""
    with database.write() as connection:
        return reports.recover(connection, now_us, most_attempts, sentence)
