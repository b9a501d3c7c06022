"""Requests that wait for a report to end: each is woken by whoever ends it, and all of them when the server stops."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Endings:
    """Events by the names (of reports and of jobs) whose end sets them. Safe to share between threads; keeps nothing of
    names that nobody waits for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._events: dict[str, set[threading.Event]] = {}
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether the server stops, so that nothing is to be waited for any more."""
        return self._stopped.is_set()

    @contextmanager
    def expected(self, *names: str) -> Iterator[threading.Event]:
        """An event that is set when one of these ends, or the server stops, while the context lasts."""
        event = threading.Event()
        # A report that shares no job bears its name.
        different = set(names)
        with self._guard:
            for name in different:
                self._events.setdefault(name, set()).add(event)
        if self.stopped:
            event.set()
        try:
            yield event
        finally:
            with self._guard:
                for name in different:
                    self._events[name].discard(event)
                    if not self._events[name]:
                        del self._events[name]

    def tell(self, name: str) -> None:
        """Wake whoever waits for this to end; its end must be in the database by now."""
        with self._guard:
            for event in self._events.get(name, ()):
                event.set()

    def stop(self) -> None:
        """Wake everybody, also who comes later.

        A signal handler may call this: it takes no lock that its thread may hold.
        """
        self._stopped.set()
        # Copies: other threads may come and go meanwhile.
        for events in list(self._events.values()):
            for event in list(events):
                event.set()
