"""Retention: reports that are too old or take too much room are deleted, files that belong to no report removed."""

import logging
import re
import threading
from collections import Counter
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from storemon_flask.database import reports
from storemon_flask.database.connections import Connection, Database
from storemon_flask.errors import QueueFull, ReportFailed
from storemon_flask.model import DAY_US, ReportState
from storemon_flask.reports import stored, xlsx
from storemon_flask.reports.metrics import ReportMetrics
from storemon_flask.settings import Settings

log = logging.getLogger("storemon.reports")

_TEMPORARY: Final = re.compile(r"\.report_([0-9a-f]{32})\.csv\.[0-9a-f]{8}\.tmp")
_WORKBOOK: Final = re.compile(re.escape(xlsx.FOLDERS) + "[a-z0-9_]{8}")
# A deleted report answers 410 for so many times as long as a finished one is kept, then 404.
_DELETED_TIMES: Final = 4
# Rows of reports in every state; one takes some hundred bytes.
MOST_ROWS: Final = 1_000_000
# Rows that are changed under one lock.
_CHUNK: Final = 500
# A file takes whole blocks of its disk.
_BLOCK: Final = 4096


class Retention:
    """Holds reports to STOREMON_KEEP_REPORTS_DAYS, STOREMON_MAX_REPORTS_MB and `most_rows`. Safe to share between
    threads.

    It adds up what comes; what is really there is only looked up every hour and when that sum is too large.
    """

    def __init__(
        self, database: Database, settings: Settings, metrics: ReportMetrics, most_rows: int = MOST_ROWS
    ) -> None:
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._most_rows = most_rows
        self._most_bytes = settings.max_reports_mb * 1_000_000 or None
        self._lock = threading.Lock()
        self._bytes: int | None = None
        self._rows = 0
        self._left_over = begun_files(settings.reports_dir)

    def run(self, now_us: int) -> None:
        """Delete reports that are too old or take too much room, forget those that were deleted long ago, and remove
        files that belong to no report."""
        folder, days = self._settings.reports_dir, self._settings.keep_reports_days
        if not self._database.exists():
            return
        if days:
            deleted = delete_before(self._database, folder, now_us - days * DAY_US, now_us)
            forget(self._database, now_us - _DELETED_TIMES * days * DAY_US)
            if deleted:
                log.info("%d report(s) older than %d days deleted", deleted, days)
        try:
            removed = sum(map(stored.remove_file, reports.files_of_no_report(self._database.read, folder)))
            removed += remove_temporary(self._database.read, folder, self._left_over)
        except OSError as error:
            raise _unreadable(folder, error) from error
        if removed:
            log.warning("%s: %d file(s) that belong to no report removed", folder, removed)
        with self._lock:
            self._make_room(None, now_us, self._most_rows)

    def reserve_row(self, now_us: int) -> None:
        """Count a row that is about to be added; `QueueFull` when there are too many of which none may go."""
        with self._lock:
            if self._bytes is None or self._rows >= self._most_rows:
                self._make_room(None, now_us, self._most_rows - 1)
            if self._rows >= self._most_rows:
                raise QueueFull(
                    f"{self._rows:,} reports wait or are kept, and there may be {self._most_rows:,}; try again later"
                )
            self._rows += 1

    def add_bytes(self, report_id: str, byte_count: int, now_us: int) -> None:
        """Count the file and the query of a report that is complete; older ones go when there is too much."""
        with self._lock:
            if self._bytes is not None:
                self._bytes += -(-byte_count // _BLOCK) * _BLOCK
            if self._bytes is None or (self._most_bytes is not None and self._bytes > self._most_bytes):
                self._make_room(report_id, now_us, self._most_rows)

    def _make_room(self, newest: str | None, now_us: int, most_rows: int) -> None:
        if not self._database.exists():
            return
        folder = self._settings.reports_dir
        try:
            self._bytes, self._rows, deleted = make_room(
                self._database, folder, self._most_bytes, most_rows, newest, now_us
            )
        except OSError as error:
            raise _unreadable(folder, error) from error
        self._metrics.count_deleted(deleted)
        if deleted:
            log.info("%d report(s) deleted to make room: STOREMON_MAX_REPORTS_MB", deleted)


def _unreadable(folder: Path, error: OSError) -> ReportFailed:
    return ReportFailed(f"the reports folder {folder} cannot be read: {error.strerror or error}")


def begun_files(folder: Path) -> frozenset[Path]:
    """Return the files of reports and the folders of workbooks that are not finished. Empty when the folder cannot be
    listed."""
    with suppress(OSError):
        return frozenset(file for form in (_TEMPORARY, _WORKBOOK) for _, file in reports.named(folder, form))
    return frozenset()


def remove_temporary(read: reports.Read, folder: Path, left_over: Set[Path]) -> int:
    """Remove what reports that do not run have begun, and what is `left_over` by an earlier process; how many files
    that was."""
    begun = list(reports.named(folder, _TEMPORARY))
    with read() as connection:
        states = reports.states(connection)
    # A report that a killed process had begun may run again just now, into another file.
    removed = sum(
        stored.remove_file(file)
        for report_id, file in begun
        if file in left_over or states.get(report_id) != ReportState.RUNNING
    )
    for _, book in reports.named(folder, _WORKBOOK):
        if book in left_over and book.is_dir() and not book.is_symlink():
            removed += sum(stored.remove_file(file) for file in list(book.iterdir()))
            with suppress(OSError):
                book.rmdir()
    return removed


def delete_before(database: Database, folder: Path, before_us: int, now_us: int) -> int:
    """Delete what was finished before that; how many reports that was."""
    deleted = 0
    while True:
        with database.read() as connection:
            old = reports.finished_before(connection, before_us, _CHUNK)
        deleted += _delete(database, folder, old, "old", now_us)
        if len(old) < _CHUNK:
            return deleted


def forget(database: Database, before_us: int) -> int:
    """Remove the rows of what was deleted before that; how many. Who asks for such a report is answered 404 then."""
    forgotten, count = 0, _CHUNK
    while count == _CHUNK:
        with database.write() as connection:
            count = reports.forget(connection, before_us, _CHUNK)
        forgotten += count
    return forgotten


def bytes_taken(connection: Connection, folder: Path) -> int:
    """Return how many bytes the files of reports take, with what they ask; a file of several names counts once."""
    return sum(dict(_files(folder).values()).values()) + reports.query_bytes(connection)


def make_room(
    database: Database, folder: Path, most_bytes: int | None, most_rows: int, newest: str | None, now_us: int
) -> tuple[int, int, int]:
    """Delete the oldest finished reports until there are at most `most_bytes` (None: any number) and `most_rows`.

    `newest` (None: the one that was finished last) stays, however large it is, until the next one is complete.
    The rows of those that were deleted first go before a report does for its row. When there is too much, a twentieth
    more than need be goes: finding out what is there takes long. Returns bytes and rows that are left, and how many
    reports were deleted.
    """
    with database.read() as connection:
        size, rows = bytes_taken(connection, folder), reports.count(connection)
    goal_bytes = size if most_bytes is None or size <= most_bytes else most_bytes * 19 // 20
    goal_rows = rows if rows <= most_rows else most_rows * 19 // 20
    rows -= _forget_oldest(database, rows - goal_rows, now_us)
    oldest: list[str] = []
    if size > goal_bytes or rows > goal_rows:
        with database.read() as connection:
            oldest, freed = _oldest(connection, _files(folder), newest, size - goal_bytes, rows - goal_rows)
        size -= freed
    deleted = sum(
        _delete(database, folder, oldest[at : at + _CHUNK], "room", now_us) for at in range(0, len(oldest), _CHUNK)
    )
    rows -= _forget_oldest(database, rows - goal_rows, now_us)
    return size, rows, deleted


def _files(folder: Path) -> dict[str, tuple[object, int]]:
    """By id of a report: which file it has, and how many bytes of its disk that takes."""
    file_of: dict[str, tuple[object, int]] = {}
    for report_id, file in reports.files(folder):
        with suppress(OSError):
            stat = file.stat()
            file_of[report_id] = (stat.st_dev, stat.st_ino), -(-stat.st_size // _BLOCK) * _BLOCK
    return file_of


def _oldest(
    connection: Connection, files: dict[str, tuple[object, int]], newest: str | None, size: int, rows: int
) -> tuple[list[str], int]:
    """Return the ids of the oldest finished reports that free so many bytes and rows, and how many bytes they free."""
    names = Counter(file for file, _ in files.values())
    uses = Counter(reports.query_uses(connection))
    newest = newest or reports.finished_last(connection)
    newest_file, _ = files.get(newest or "", (None, 0))
    oldest: list[str] = []
    freed = 0
    for report_id, text, text_bytes in reports.finished(connection):
        if freed >= size and len(oldest) >= rows:
            break
        file, file_bytes = files.get(report_id, ((), 0))
        if report_id == newest or file == newest_file:
            continue
        oldest.append(report_id)
        names[file] -= 1
        uses[text] -= 1
        freed += (file_bytes if names[file] == 0 else 0) + (text_bytes if uses[text] == 0 else 0)
    return oldest, freed


def _delete(database: Database, folder: Path, report_ids: list[str], reason: str, now_us: int) -> int:
    if not report_ids:
        return 0
    with database.write() as connection:
        deleted = reports.delete(connection, report_ids, reason, now_us)
    for report_id in report_ids:
        stored.remove_file(reports.path_of(folder, report_id))
    return deleted


def _forget_oldest(database: Database, count: int, now_us: int) -> int:
    if count <= 0:
        return 0
    with database.read() as connection:
        before_us = reports.oldest_deleted_before(connection, count)
    return forget(database, now_us + 1 if before_us is None else before_us)
