"""Reports on their way, for tests of the runner."""

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from conftest import sql

from storemon_flask.jobs.runner import Runner
from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database


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


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def waiting(small_fleet: Path, database: Database, settings: Settings, queue: Queue) -> Runner:
    """A runner whose jobs wait in the queue."""
    return Runner(database, settings, queue)


def state(settings: Settings, report_id: str) -> str:
    return str(sql(settings.database, "SELECT state FROM report WHERE id = ?", report_id)[0][0])


def row(settings: Settings, report_id: str, *columns: str) -> tuple[Any, ...]:
    return sql(settings.database, f"SELECT {', '.join(columns)} FROM report WHERE id = ?", report_id)[0]
