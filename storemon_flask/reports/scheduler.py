"""The scheduler: one thread that does what is due, such as the next try of a report, retention and pruning."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from storemon_flask.errors import StoremonError, out_of_memory

log = logging.getLogger("storemon.reports")


@dataclass(frozen=True, slots=True)
class _Task:
    due_us: int
    call: Callable[[], object]
    every_us: int | None


class Scheduler:
    """Calls what is due, by a steady clock: setting the machine's makes nothing due and holds nothing up. Safe to share
    between threads.

    Its thread starts with the first task. One that is not `threaded` has none: `run_due` does what is due.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000, threaded: bool = True) -> None:
        self._clock = clock
        self._threaded = threaded
        self._lock = threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, name: str, call: Callable[[], object], wait_us: int = 0, every_us: int | None = None) -> None:
        """Call that in `wait_us`, and every `every_us` from then on; another of that name is replaced."""
        with self._lock:
            self._tasks[name] = _Task(self._clock() + wait_us, call, every_us)
            if self._threaded and self._thread is None and not self.stopped():
                thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except (RuntimeError, MemoryError):
                    # The next task tries again.
                    log.warning("the scheduler's thread cannot be started now")
        self._changed.set()

    def run_due(self) -> None:
        """Call what is due, one after the other. A failure is logged; what is done periodically is done again all the
        same."""
        now_us = self._clock()
        with self._lock:
            due = sorted((task.due_us, name) for name, task in self._tasks.items() if task.due_us <= now_us)
            tasks = {name: self._tasks.pop(name) for _, name in due}
            for name, task in tasks.items():
                if task.every_us is not None:
                    self._tasks[name] = _Task(now_us + task.every_us, task.call, task.every_us)
        for name, task in tasks.items():
            if not self.stopped():
                _call(name, task.call)

    def stopped(self) -> bool:
        """Whether it stops: a long task asks this."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Call no more; returns when a call that is under way is over."""
        self._stopped.set()
        self._changed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self.stopped():
            self._changed.clear()
            self.run_due()
            with self._lock:
                first_us = min((task.due_us for task in self._tasks.values()), default=None)
            self._changed.wait(None if first_us is None else max(0, first_us - self._clock()) / 1_000_000)


def _call(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:
        known = error if isinstance(error, StoremonError) else out_of_memory(error)
        if known is None:
            log.exception("%s failed", name)
        else:
            log.warning("%s: %s", name, known.message)
