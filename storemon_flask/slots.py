"""How many requests may hold a thread for long at once, so that some are always left to answer everything else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from storemon_flask.errors import Busy

# Threads share one interpreter, so more of them would not be ready sooner; with eight, /healthz took up to 2 s, with
# two 0.4 s.
ANSWERS_AT_ONCE: Final = 2
# How long a request waits for one of the places for large answers.
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


class Places:
    """The places among `threads` threads. Who finds none free is told `Busy` at once."""

    def __init__(self, threads: int) -> None:
        self._all = threading.BoundedSemaphore(max(1, threads - 2))
        # Triggers and deletions wait while a load is applied, and loads for each other.
        self._changes = threading.BoundedSemaphore(max(1, threads - 2))
        self._loads = threading.BoundedSemaphore(max(1, threads - 6))
        # Lists of stores wait for the computation that has the last load, all for one and the same.
        self._lists = threading.BoundedSemaphore(max(1, threads - 4))
        self._answers = threading.BoundedSemaphore(ANSWERS_AT_ONCE)
        self._answers_asked = threading.BoundedSemaphore(max(1, threads * 3 // 4))
        self.unsent = Unsent()
        # Of fewer than four threads none is held for a report that is not there yet.
        self._waits = threading.BoundedSemaphore(threads // 4)

    @contextmanager
    def for_a_change(self) -> Iterator[None]:
        """A place among the triggers and deletions that wait for the database's lock."""
        with self._taken(self._changes, "too many requests wait while a load is applied; try again in some seconds"):
            yield

    @contextmanager
    def for_a_load(self) -> Iterator[None]:
        """A place among the loads that wait for the database's lock."""
        with self._taken(self._loads, "too much is being pushed at once; try again in some seconds"):
            yield

    @contextmanager
    def for_a_list(self) -> Iterator[None]:
        """A place among the requests that wait until the list of stores has the last load."""
        with self._taken(self._lists, "too many requests wait for the list of stores; try again in some seconds"):
            yield

    @contextmanager
    def for_an_answer(self) -> Iterator[None]:
        """A place among the large answers that are being made, or that need much memory; waits for one for up to a
        second.
        """
        sentence = "too many large answers are being made; try again in some seconds, or fetch CSV"
        with self._taken(self._answers_asked, sentence), _one(self._answers, sentence, PATIENCE_S):
            yield

    @contextmanager
    def for_a_wait(self) -> Iterator[None]:
        """A place among the requests that wait for a report to end."""
        with self._taken(self._waits, "too many requests wait for reports; try again in some seconds"):
            yield

    @contextmanager
    def _taken(self, places: threading.BoundedSemaphore, sentence: str) -> Iterator[None]:
        """A place of that kind, and one of all: each kind leaves threads to others, but together they could have them
        all.
        """
        with _one(places, sentence), _one(self._all, "the server is at its limit; try again in some seconds"):
            yield


@contextmanager
def _one(places: threading.BoundedSemaphore, sentence: str, patience_s: float = 0.0) -> Iterator[None]:
    if not places.acquire(timeout=patience_s):
        raise Busy(sentence)
    try:
        yield
    finally:
        places.release()
