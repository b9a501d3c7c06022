"""What is to be done later, by the steady clock: setting the machine's clock makes nothing due, and holds nothing up."""

import threading


class Agenda:
    """Names, each with the time it is due at, in microseconds of the steady clock. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[str, int] = {}

    def add(self, name: str, due_us: int) -> None:
        """The name is due at `due_us`; what was said of it before does not count any more."""
        with self._lock:
            self._due[name] = due_us

    def due(self, now_us: int) -> list[str]:
        """The names that are due, in that order; they are taken out."""
        with self._lock:
            found = sorted((due, name) for name, due in self._due.items() if due <= now_us)
            for _, name in found:
                del self._due[name]
        return [name for _, name in found]

    def wait_us(self, now_us: int) -> int | None:
        """How long until the first is due, 0 if one is; None when there is nothing."""
        with self._lock:
            return min((max(due - now_us, 0) for due in self._due.values()), default=None)
