"""A clock that a test turns, an executor that a test runs, and what a report's row says."""

from concurrent.futures import Executor, Future
from typing import Any

from conftest import sql

from storemon_flask.model import SECOND_US
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
