"""Failures and a runner that meets them, for tests of retries."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from job_helpers import Clock, Queue

from storemon_flask.database.connections import Database
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, queue: Queue, clock: Clock) -> Worker:
    return Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)


def full_disk(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
