"""A thread that calls at a time that was set: for the next try of a report, and for what is due every hour."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("storemon.jobs")


class Alarm:
    """Calls `ring` at the earliest time that was set, again and again. Its thread starts with the first setting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: float | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def set(self, ring: Callable[[], None], delay_s: float) -> None:
        """Call `ring` in `delay_s`, unless it is called earlier anyway; never after `stop`."""
        with self._changed:
            if self._stopped:
                return
            due = time.monotonic() + delay_s
            if self._due is None or due < self._due:
                self._due = due
            if self._thread is None:
                thread = threading.Thread(target=self._wait, args=(ring,), name="alarm", daemon=True)
                thread.start()
                # One that could not be started is started by the next setting.
                self._thread = thread
            self._changed.notify()

    def stop(self) -> None:
        """Call no more; returns when a call that is under way is over."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _wait(self, ring: Callable[[], None]) -> None:
        while True:
            with self._changed:
                while not self._stopped and (self._due is None or time.monotonic() < self._due):
                    self._changed.wait(None if self._due is None else self._due - time.monotonic())
                if self._stopped:
                    return
                self._due = None
            try:
                ring()
            except Exception:
                # Whatever was due is due again the next time.
                log.exception("what was due could not be done")
