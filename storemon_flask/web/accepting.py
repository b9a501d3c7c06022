"""How many connections are held, by how many files this process may open, and what happens when it can open no more."""

import errno
import logging
import sys
import time
from contextlib import suppress
from typing import Any, Final

from storemon_flask.errors import out_of_memory
from storemon_flask.settings import Settings

# A connection is its socket, a file for the body that comes in and one for the answer that is not taken yet.
_PER_CONNECTION: Final = 3
# A thread that answers or computes keeps up to four for the database, and opens some for what it loads or writes.
_PER_THREAD: Final = 8
# Listening, logging, the lock, what Python keeps open: thirteen were counted.
_BESIDE: Final = 32
# What the setting may be at the least.
_FEWEST: Final = 10

_REST_S: Final = 1.0
_TOLD_EVERY_S: Final = 60.0

log = logging.getLogger("storemon.server")


def connections(settings: Settings) -> int:
    """How many connections may be held at once: as many as the setting says, or as there can be files for.

    The process is allowed the files that takes, if the system lets it. A warning says when they are fewer.
    """
    threads = _BESIDE + _PER_THREAD * (settings.http_threads + settings.report_workers)
    needed = threads + _PER_CONNECTION * settings.max_connections
    allowed = _allowed(needed)
    if allowed is None or allowed >= needed:
        return settings.max_connections
    held = max(_FEWEST, (allowed - threads) // _PER_CONNECTION)
    log.warning(
        "STOREMON_MAX_CONNECTIONS is %d, which takes %s open files, and this process may have no more than %s: it holds %d "
        "connections at once; allow it more (ulimit -n, or LimitNOFILE= under systemd), or set STOREMON_MAX_CONNECTIONS or "
        "STOREMON_HTTP_THREADS lower",
        settings.max_connections, f"{needed:,}", f"{allowed:,}", held,
    )  # fmt: skip
    return held


def _allowed(needed: int) -> int | None:
    """How many files this process may open, after asking for so many; None when nothing says so."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _covers(soft, needed, resource.RLIM_INFINITY):
        return None
    wanted = needed if _covers(hard, needed, resource.RLIM_INFINITY) else hard
    # Where a process may not change its limits, or the system has one beside them, it stays as it is.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _covers(limit: int, needed: int, infinity: int) -> bool:
    return limit == infinity or limit >= needed


class Patience:
    """Lets servers rest when no more files can be opened.

    A connection that cannot be accepted stays, and the listening socket readable: asked again at once, the answer is
    the same.
    """

    def __init__(self) -> None:
        self._rests_until_s = 0.0
        self._told_s: float | None = None

    def give(self, server: Any) -> None:
        """Put it around one server of Waitress; the loop asks each at least once a second whether it wants to accept."""
        accept, readable = server.accept, server.readable

        def patiently() -> Any:
            try:
                return accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._rest(error)
                return None

        def failed() -> None:
            # Waitress would close the listening socket, and the server be deaf from then on.
            error = sys.exception()
            if isinstance(error, Exception):
                self._rest_after(error)

        server.accept = patiently
        server.handle_error = failed
        # Waitress tends its connections when it is asked, so it is asked in any case.
        server.readable = lambda: readable() and time.monotonic() >= self._rests_until_s

    def _rest_after(self, error: Exception) -> None:
        self._rests_until_s = time.monotonic() + _REST_S
        no_memory = out_of_memory(error, "a connection")
        if no_memory is None:
            log.error("a connection could not be taken", exc_info=error)
        else:
            log.error("a connection is closed: %s", no_memory.message)

    def _rest(self, error: OSError) -> None:
        now_s = time.monotonic()
        self._rests_until_s = now_s + _REST_S
        if self._told_s is None or now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            log.error(
                "no connection can be accepted: %s; those that come wait until some are closed. Allow more open files (ulimit -n, "
                "or LimitNOFILE= under systemd), or set STOREMON_MAX_CONNECTIONS lower",
                error.strerror,
            )
