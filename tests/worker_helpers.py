"""Workers whose clock and executor a test turns by hand, and what reports leave behind."""

import errno
import os
from collections.abc import Callable
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
        self.calls: list[tuple[Any, ...]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls.append((fn, *args))
        return Future()

    def run_all(self) -> None:
        while self.calls:
            fn, *args = self.calls.pop(0)
            fn(*args)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def queued_worker(small_fleet: Path, database: Database, settings: Settings, queue: Queue, clock: Clock) -> Worker:
    """A worker whose reports wait in the queue."""
    return Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)


@pytest.fixture
def inline_worker(small_fleet: Path, database: Database, settings: Settings, clock: Clock) -> Worker:
    """A worker that computes each report as it is submitted."""
    return Worker(database, settings, InlineExecutor(), Scheduler(clock, threaded=False), clock)


def take_step(database: Database, step: Callable[..., Any], *arguments: Any) -> Any:
    """Take a step of a report's life (`database.reports`) in a transaction of its own."""
    with database.write() as connection:
        return step(connection, *arguments)


def row(settings: Settings, report_id: str, *columns: str) -> tuple[Any, ...]:
    """Columns of a report's row, as a second program reads them."""
    return sql(settings.database, f"SELECT {', '.join(columns)} FROM report WHERE id = ?", report_id)[0]


def state(settings: Settings, report_id: str) -> str:
    return str(row(settings, report_id, "state")[0])


def files(settings: Settings) -> list[str]:
    """The names of what is in the reports folder."""
    return sorted(file.name for file in settings.reports_dir.iterdir()) if settings.reports_dir.is_dir() else []


def file_of(settings: Settings, report_id: str) -> Path:
    return settings.reports_dir / f"report_{report_id}.csv"


def full_disk(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
