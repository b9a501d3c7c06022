"""A deadline by which a delivery attempt ends, whatever the other side does."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

# After this long without an answer, the next address of the host is tried.
_CONNECT_S: Final = 10.0
# A time-out of 0 would make the socket non-blocking.
_SHORTEST_S: Final = 0.001


class Deadline:
    """Cuts what it watches when the time is over: time-outs of single reads never end for one that drips.

    Looking up a host's name cannot be cut; the system's resolver gives up by itself. Safe to share between threads.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._guard = threading.Lock()
        self._cuts: list[Callable[[], None]] = []
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True
        self._cut = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._guard:
            self._cuts.clear()
            for twin in self._sockets:
                twin.close()

    @property
    def left_s(self) -> float:
        """The seconds left, never 0."""
        return max(_SHORTEST_S, self._end - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed or was cut short."""
        return self._cut or time.monotonic() >= self._end

    def cut(self) -> None:
        """Shut down all watched connections now, and later ones at once."""
        with self._guard:
            self._cut = True
            for cut in self._cuts:
                cut()

    def watch(self, cut: Callable[[], None]) -> None:
        """Call `cut` when the deadline passes; at once if it has."""
        with self._guard:
            self._cuts.append(cut)
            if self._cut:
                cut()

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Return a watched connection, as `socket.create_connection` does; each read of it may take what is left."""
        failure: OSError = OSError("its name has no address")
        for family, kind, protocol, _name, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(min(_CONNECT_S, self.left_s))
                connection.connect(where)
                self._watch(connection)
            except OSError as error:
                connection.close()
                failure = error
                continue
            connection.settimeout(self.left_s)
            return connection
        raise failure

    def _watch(self, connection: socket.socket) -> None:
        # TLS takes the socket over and leaves an empty one; its twin has the same connection.
        twin = connection.dup()
        with self._guard:
            self._sockets.append(twin)

        def shut() -> None:
            """Shut the connection down, so that whoever reads or writes it returns."""
            with suppress(OSError):
                twin.shutdown(socket.SHUT_RDWR)

        self.watch(shut)
