"""How many requests may hold a thread for long at once, so that some are always left to answer everything else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from storemon_flask.errors import Busy


class Places:
    """The places among `threads` threads. Who finds none free is told `Busy` at once."""

    def __init__(self, threads: int) -> None:
        self._all = threading.BoundedSemaphore(max(1, threads - 2))
        # Triggers and deletions wait while a load is applied, and loads for each other.
        self._changes = threading.BoundedSemaphore(max(1, threads - 2))
        self._loads = threading.BoundedSemaphore(max(1, threads - 6))
        # Lists of stores wait for the computation that has the last load, all for one and the same.
        self._lists = threading.BoundedSemaphore(max(1, threads - 4))
        # An answer that is made while it is sent holds a thread as long as its reader likes.
        self._answers = threading.BoundedSemaphore(max(1, threads // 4))
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

    def for_an_answer(self) -> Callable[[], None]:
        """A place among the answers that are made while they are sent: what gives it back, which may be called twice."""
        place = ExitStack()
        place.enter_context(
            self._taken(
                self._answers, "too many answers of this kind are being made; try again in some seconds, or fetch CSV"
            )
        )
        return place.close

    @contextmanager
    def for_a_wait(self) -> Iterator[None]:
        """A place among the requests that wait for a report to end."""
        with self._taken(self._waits, "too many requests wait for reports; try again in some seconds"):
            yield

    @contextmanager
    def _taken(self, places: threading.BoundedSemaphore, sentence: str) -> Iterator[None]:
        """A place of that kind, and one of all: each kind leaves threads to others, but together they could have them all."""
        with _one(places, sentence), _one(self._all, "the server is at its limit; try again in some seconds"):
            yield


@contextmanager
def _one(places: threading.BoundedSemaphore, sentence: str) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise Busy(sentence)
    try:
        yield
    finally:
        places.release()
