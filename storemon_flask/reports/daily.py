"""Something done when the server starts and once a day from then on, in a thread that ends with it."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from storemon_flask.errors import StoremonError, out_of_memory

log = logging.getLogger("storemon.jobs")
DAY_S: Final = 86_400.0


@contextmanager
def daily(name: str, task: Callable[[Callable[[], bool]], object], every_s: float = DAY_S) -> Iterator[None]:
    """Do `task` now and every `every_s` seconds while the context lasts; it is given a function that says when to stop.

    A failure is logged and the next day tries again. Counted by the steady clock: setting the machine's changes
    nothing.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                task(stop.is_set)
            except StoremonError as error:
                log.warning("%s: %s", name, error.message)
            except Exception as error:
                no_memory = out_of_memory(error)
                if no_memory is None:
                    log.exception("%s failed", name)
                else:
                    log.warning("%s: %s", name, no_memory.message)
            stop.wait(every_s)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
