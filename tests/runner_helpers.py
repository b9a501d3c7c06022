"""Reports on their way, for tests of the runner."""

from pathlib import Path

import pytest
from conftest import sql
from job_helpers import Queue

from storemon_flask.database.connections import Database
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def waiting(small_fleet: Path, database: Database, settings: Settings, queue: Queue) -> Worker:
    """A runner whose jobs wait in the queue."""
    return Worker(database, settings, queue)


def state(settings: Settings, report_id: str) -> str:
    return str(sql(settings.database, "SELECT state FROM report WHERE id = ?", report_id)[0][0])
