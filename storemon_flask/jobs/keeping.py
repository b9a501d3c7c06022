"""What a server does about finished reports, with a word in the log: sets the folder right, deletes what was kept long enough."""

import logging
from typing import Final

from storemon_flask.errors import DatabaseError
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.services import report_keeping
from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database

log = logging.getLogger("storemon.jobs")
EVERY_US: Final = HOUR_US
# A deleted report answers 410 for so many times as long as a finished one is kept, then 404.
_TOMBSTONE_TIMES: Final = 4


def tidy(database: Database, settings: Settings, now_us: int) -> None:
    """The reports folder and the rows agree again (`report_keeping.tidy`); a folder that cannot be listed is only said."""
    folder = settings.reports_dir
    try:
        report_keeping.sweep(folder)
        found = report_keeping.tidy(database, folder, now_us)
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
    """Finished reports older than STOREMON_KEEP_REPORTS_DAYS are deleted, tombstones of long ago removed; what cannot be is
    left for the next time."""
    days = settings.keep_reports_days
    if not days:
        return
    try:
        gone = report_keeping.expire(database, settings.reports_dir, now_us - days * DAY_US, now_us)
        report_keeping.forget(database, settings.reports_dir, now_us - _TOMBSTONE_TIMES * days * DAY_US)
    except DatabaseError as error:
        log.warning("old reports cannot be deleted now: %s", error.message)
        return
    if gone:
        log.info("%d report(s) older than %d days deleted", gone, days)
