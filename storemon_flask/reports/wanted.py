"""Which of the jobs that run now are wanted no more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Unwanted(Exception):
    """Every report of the job was deleted."""


class Wanted:
    """Safe to share between threads; keeps nothing of jobs that do not run."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[str, bool] = {}

    @contextmanager
    def running(self, job: str) -> Iterator[None]:
        """The job runs meanwhile."""
        with self._guard:
            self._running[job] = True
        try:
            yield
        finally:
            with self._guard:
                del self._running[job]

    def drop(self, job: str) -> None:
        """Nobody wants the job any more; nothing when it does not run."""
        with self._guard:
            if job in self._running:
                self._running[job] = False

    def check(self, job: str) -> None:
        """`Unwanted` when nobody wants the running job any more."""
        if not self._running[job]:
            raise Unwanted
