"""A worker of a test: the clock it reads, the executor it submits to, failures, and what it left."""

import errno
import os
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from conftest import sql

from storemon_flask.database.connections import Database
from storemon_flask.model import SECOND_US
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings

NOON_US = 1_728_907_200_000_000


class Clock:
    """Stands still until it is turned."""

    def __init__(self, now_us: int = NOON_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def turn(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND_US)


class Queue(Executor):
    """Keeps what it is given, so that a test can look before it runs."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, ...]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append((fn, *args))
        return Future()

    def run_all(self) -> None:
        while self.jobs:
            fn, *args = self.jobs.pop(0)
            fn(*args)


def row(settings: Settings, report_id: str, *columns: str) -> tuple[Any, ...]:
    """Columns of a report's row, as a second program reads them."""
    return sql(settings.database, f"SELECT {', '.join(columns)} FROM report WHERE id = ?", report_id)[0]


def files(settings: Settings) -> list[str]:
    """The names of what is in the reports folder."""
    return sorted(file.name for file in settings.reports_dir.iterdir()) if settings.reports_dir.is_dir() else []


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


@pytest.fixture
def waiting(small_fleet: Path, database: Database, settings: Settings, queue: Queue) -> Worker:
    """A runner whose jobs wait in the queue."""
    return Worker(database, settings, queue)


def state(settings: Settings, report_id: str) -> str:
    return str(sql(settings.database, "SELECT state FROM report WHERE id = ?", report_id)[0][0])


@pytest.fixture
def inline_runner(small_fleet: Path, database: Database, settings: Settings, clock: Clock) -> Worker:
    return Worker(database, settings, InlineExecutor(), Scheduler(clock, threaded=False), clock)


def file_of(settings: Settings, report_id: str) -> Path:
    return settings.reports_dir / f"report_{report_id}.csv"
