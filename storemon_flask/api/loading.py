"""What every door that takes data in shares: room for a load, the terms it is done on, and when it is given up."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from flask import request

from storemon_flask.errors import Stopped
from storemon_flask.feeds.load import Terms
from storemon_flask.web.app import runner

# An answer lists so many rejected rows; the others are asked for by the load's number.
REJECTS_SHOWN: Final = 100
# Whether the client is still there is asked this often, and not before: who sends a small feed may close his side with
# it.
_CLIENT_EVERY_S: Final = 1.0


@contextmanager
def one_load() -> Iterator[Callable[[int, str], Terms]]:
    """Room for one more load, and the terms it is done on, by whether it is to be atomic and how hours files number
    days (0-6 or iso). `Busy` when there is none.
    """
    found, check = runner(), _check()
    settings = found.settings

    def terms(atomic: int, days: str) -> Terms:
        now_us = time.time_ns() // 1000
        return Terms(
            now_us,
            settings.max_clock_skew_us,
            bool(atomic),
            settings.default_timezone,
            days == "iso",
            check=check,
        )

    with found.places.for_a_load():
        yield terms


def stop_reading_when_unwanted() -> None:
    """Let the request's body end with `Stopped` while it is read, as a load does."""
    request.environ["wsgi.input"] = _CheckedInput(request.environ["wsgi.input"], _check())


def _check() -> Callable[[], None]:
    """Something to call now and then, from any thread: `Stopped` once the server stops, or the client of this request
    is gone.
    """
    database = runner().database
    is_gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    due_s = time.monotonic() + _CLIENT_EVERY_S

    def check() -> None:
        nonlocal due_s
        if database.stopping:
            raise Stopped("the server is stopping; send the request again when it is back")
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + _CLIENT_EVERY_S
            if is_gone():
                due_s = now_s
                raise Stopped("the client closed the connection before the answer")

    return check


class _CheckedInput(io.RawIOBase):
    """A request's stream that is checked before each piece that is read of it."""

    def __init__(self, stream: Any, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something; 0 at the end."""
        try:
            self._check()
        except Stopped as error:
            raise Stopped(f"{error.message}; nothing of this was stored") from error
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
