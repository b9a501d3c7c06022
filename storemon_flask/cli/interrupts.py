"""Signals that end a command, as a `KeyboardInterrupt`, with word to the other threads."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

# A signal to all processes of a group reaches a single file twice: its unpacker passes its own on. That is one signal.
_ONE_SIGNAL_S: Final = 1.0


@contextmanager
def signals_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C alike call `stop` and then raise `KeyboardInterrupt` in the main thread; in another thread
    nothing changes.
    """
    last_s = -_ONE_SIGNAL_S

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last_s
        again, last_s = time.monotonic() - last_s < _ONE_SIGNAL_S, time.monotonic()
        if again:
            return
        stop()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
