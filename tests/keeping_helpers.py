"""Reports and their files, for tests of how they are kept."""

from pathlib import Path

import pytest
from job_helpers import Clock

from storemon_flask.database.connections import Database
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, clock: Clock) -> Worker:
    return Worker(database, settings, InlineExecutor(), Scheduler(clock, threaded=False), clock)


def file_of(settings: Settings, report_id: str) -> Path:
    return settings.reports_dir / f"report_{report_id}.csv"
