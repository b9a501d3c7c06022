"""How many requests may hold a thread for long at once, so that some are always left to answer everything else."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from storemon_flask.errors import Busy

# Threads share one interpreter, so more of them would not be ready sooner; with eight, /healthz took up to 2 s, with
# two 0.4 s.
ANSWERS_AT_ONCE: Final = 2
# How long a request waits for a slot for large answers.
PATIENCE_S: Final = 1.0
MOST_UNSENT_BYTES: Final = 2_000_000_000


class Unsent:
    """Bytes of answers that wait in temporary files for their readers."""

    def __init__(self, most: int = MOST_UNSENT_BYTES) -> None:
        self._left = most
        self._most = most
        self._guard = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes that are about to be written; `Busy` when that would be too many."""
        with self._guard:
            if count > self._left:
                raise Busy(
                    f"{(self._most - self._left) / 1e6:,.0f} MB of answers wait for their readers, and there may be "
                    f"{self._most / 1e6:,.0f}; try again in some seconds, or fetch CSV"
                )
            self._left -= count

    def remove(self, count: int) -> None:
        """Count bytes that were sent, or will not be."""
        with self._guard:
            self._left += count


class Slots:
    """Slots for requests that hold one of `threads` threads for long. `Busy` at once when none is free."""

    def __init__(self, threads: int) -> None:
        self._all = threading.BoundedSemaphore(max(1, threads - 2))
        # Triggers and deletions wait while a load is applied, and loads for each other.
        self._changes = threading.BoundedSemaphore(max(1, threads - 2))
        self._loads = threading.BoundedSemaphore(max(1, threads - 6))
        # Lists of stores wait for the computation that has the last load, all for one and the same.
        self._lists = threading.BoundedSemaphore(max(1, threads - 4))
        self._answers = threading.BoundedSemaphore(ANSWERS_AT_ONCE)
        self._answers_waiting = threading.BoundedSemaphore(max(1, threads * 3 // 4))
        self.unsent = Unsent()
        # Of fewer than four threads none is held for a report that is not there yet.
        self._waits = threading.BoundedSemaphore(threads // 4)

    def for_change(self) -> AbstractContextManager[None]:
        """Hold a slot for a trigger or deletion, which waits for the database's lock."""
        return self._slot(self._changes, "too many triggers and deletions wait; try again in some seconds")

    def for_load(self, patience_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold a slot for a load, which waits for the database's lock; wait for it for so long."""
        return self._slot(self._loads, "too much is being pushed at once; try again in some seconds", patience_s)

    def for_list(self) -> AbstractContextManager[None]:
        """Hold a slot for a request that waits until the list of stores has the last load."""
        return self._slot(self._lists, "too many requests wait for the list of stores; try again in some seconds")

    def for_wait(self) -> AbstractContextManager[None]:
        """Hold a slot for a request that waits for a report to end."""
        return self._slot(self._waits, "too many requests wait for reports; try again in some seconds")

    @contextmanager
    def for_answer(self) -> Iterator[None]:
        """Hold a slot for a large answer that is being made, or needs much memory; wait for it for up to a second."""
        message = "too many large answers are being made; try again in some seconds, or fetch CSV"
        with self._slot(self._answers_waiting, message), _acquired(self._answers, message, PATIENCE_S):
            yield

    @contextmanager
    def _slot(self, kind: threading.BoundedSemaphore, message: str, patience_s: float = 0.0) -> Iterator[None]:
        # Each kind leaves threads to others, but together they could have them all.
        limit = "the server is at its limit; try again in some seconds"
        with _acquired(kind, message, patience_s), _acquired(self._all, limit):
            yield


@contextmanager
def _acquired(semaphore: threading.BoundedSemaphore, message: str, patience_s: float = 0.0) -> Iterator[None]:
    if not semaphore.acquire(timeout=patience_s):
        raise Busy(message)
    try:
        yield
    finally:
        semaphore.release()
