"""What a server does about finished reports, with a word in the log: sets the folder right, deletes what was kept long
enough.
"""

import logging
import threading
from typing import Final

from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, QueueFull
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.reports import retention
from storemon_flask.reports.metrics import ReportMetrics
from storemon_flask.settings import Settings

log = logging.getLogger("storemon.jobs")
EVERY_US: Final = HOUR_US
# A deleted report answers 410 for so many times as long as a finished one is kept, then 404.
_TOMBSTONE_TIMES: Final = 4
# Rows of reports of every state; one takes some hundred bytes.
MOST_ROWS: Final = 1_000_000


class RoomKeeper:
    """Holds the files of finished reports below STOREMON_MAX_REPORTS_MB, and the rows below `most_rows`. Safe to share
    between threads.

    It adds up what comes; what is really there is only looked up when that sum is too large, and before the first.
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

    def expect_report(self, now_us: int) -> None:
        """Count a row that is about to be added; `QueueFull` when there are too many of which none may go."""
        with self._lock:
            if self._bytes is None or self._rows >= self._most_rows:
                self._look(None, now_us, self._most_rows - 1)
            if self._rows >= self._most_rows:
                raise QueueFull(
                    f"{self._rows:,} reports wait or are kept, and there may be {self._most_rows:,}; try again later"
                )
            self._rows += 1

    def note_complete(self, job: str, byte_count: int, now_us: int) -> None:
        """Count what a job that is complete takes, its file and what was asked; older ones go when there is too much."""
        with self._lock:
            if self._bytes is not None:
                self._bytes += (byte_count + 4095) // 4096 * 4096
            if self._bytes is None or (self._most_bytes is not None and self._bytes > self._most_bytes):
                self._look(job, now_us, self._most_rows)

    def _look(self, newest: str | None, now_us: int, most_rows: int) -> None:
        if not self._database.exists():
            return
        # A report larger than all of the room stays until the next one is complete.
        most_bytes = None if newest is None else self._most_bytes
        room = retention.make_room(self._database, self._settings.reports_dir, most_bytes, most_rows, newest, now_us)
        self._bytes, self._rows = room.bytes, room.rows
        self._metrics.count_deleted(room.deleted)
        if room.deleted:
            log.info("%d report(s) deleted to make room: STOREMON_MAX_REPORTS_MB", room.deleted)


def tidy(database: Database, settings: Settings, now_us: int) -> None:
    """The reports folder and the rows agree again (`report_keeping.tidy`); a folder that cannot be listed is only said."""
    folder = settings.reports_dir
    try:
        retention.sweep(folder)
        found = retention.tidy(database, folder, now_us)
    except OSError as error:
        log.warning("the reports folder %s cannot be looked through: %s", folder, error.strerror or error)
        return
    for count, what in (
        (found.removed, "file(s) of deleted or failed reports removed"),
        (found.lost, "report(s) have no file any more and answer 410"),
        (found.regained, "report(s) have their file again"),
        (found.strangers, "file(s) named like reports are of no report of this database; they stay"),
    ):
        if count:
            log.warning("%s: %d %s", folder, count, what)


def expire(database: Database, settings: Settings, now_us: int) -> None:
    """Finished reports older than STOREMON_KEEP_REPORTS_DAYS are deleted, tombstones of long ago removed; what cannot
    be is left for the next time."""
    days = settings.keep_reports_days
    if not days:
        return
    try:
        gone = retention.expire(database, settings.reports_dir, now_us - days * DAY_US, now_us)
        retention.forget(database, settings.reports_dir, now_us - _TOMBSTONE_TIMES * days * DAY_US)
    except DatabaseError as error:
        log.warning("old reports cannot be deleted now: %s", error.message)
        return
    if gone:
        log.info("%d report(s) older than %d days deleted", gone, days)
