"""What became of a report's job: a line in the log, a place in the counts."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storemon_flask.errors import StoremonError
from storemon_flask.services import report_store
from storemon_flask.services.meters import Meters
from storemon_flask.storage.db import Database

log = logging.getLogger("storemon.jobs")

# By the state of the row after the job: one that still says running could not be told what became of it.
OUTCOMES: Final = {"complete": "complete", "failed": "failed", "pending": "put_back", "running": "unrecorded"}


@contextmanager
def job(meters: Meters, database: Database, report_id: str) -> Iterator[None]:
    """Watch one job from outside. What became of it is asked of its row, the only place that counts."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        outcome = _outcome(database, report_id)
        if outcome:
            meters.job(outcome, seconds)
            log.debug(
                "job of report %s: %s", report_id, outcome,
                extra={"event": "job", "report_id": report_id, "outcome": outcome, "ms": round(seconds * 1000, 1)},
            )  # fmt: skip


def _outcome(database: Database, report_id: str) -> str | None:
    try:
        return OUTCOMES.get(report_store.get(database, report_id).state)
    except StoremonError:
        return None
