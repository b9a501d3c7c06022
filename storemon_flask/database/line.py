"""Whose turn it is to write: a line in which threads of one process stand."""

import threading
from collections import deque


class Line:
    """Threads that wait for their turn, first come, first served: a lock would let one of many wait for seconds."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def join(self) -> threading.Event:
        """A place at the end; it is set once it is the first. Whoever joins must leave."""
        mine = threading.Event()
        with self._guard:
            self._waiting.append(mine)
            self._waiting[0].set()
        return mine

    def leave(self, mine: threading.Event) -> None:
        """Give the place up, after the turn or before it."""
        with self._guard:
            self._waiting.remove(mine)
            if self._waiting:
                self._waiting[0].set()
