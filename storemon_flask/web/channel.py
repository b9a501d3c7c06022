"""What Waitress answers by itself, before any route is asked: the same shape, the same headers, and so that it arrives."""

import socket
import time
from contextlib import suppress
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from storemon_flask.web import guard, problems

# How long a client that was refused in the middle of its body may go on sending, for nothing, before it is cut off.
_LINGER_S: Final = 5.0


class ProblemTask(ErrorTask):
    """A refusal by the server itself, as a problem."""

    request: Any
    response_headers: list[tuple[str, str]]

    def execute(self) -> None:
        """Answer, and close the connection: where the next request would begin is not known any more."""
        error = self.request.error
        kind = error.reason.lower().replace(" ", "-")
        answer = guard.secure(problems.problem(error.code, kind, error.reason, self._detail(error)))
        self.status = answer.status
        self.response_headers.extend(answer.headers.to_wsgi_list())
        self.set_close_on_finish()
        body = answer.get_data()
        self.content_length = len(body)
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)

    def _detail(self, error: Any) -> str:
        limits = self.channel.server.adj
        if error.code == 413:
            megabytes = limits.max_request_body_size // 1_000_000
            return f"the body is larger than {megabytes:,} MB; send it in parts, or set STOREMON_MAX_BODY_MB"
        if error.code == 431:
            return f"the request line and headers are larger than {limits.max_request_header_size:,} bytes together"
        if error.code == 500:
            return "something went wrong that should not have; the server's log says what"
        return f"the request is no HTTP that this server reads: {error.body}"


class Channel(HTTPChannel):
    """A connection whose refusals are problems, and reach a client that is still sending its body."""

    error_task_class = ProblemTask
    request: Any

    _refused = False
    _lingers_until_s = 0.0

    def service(self) -> None:
        """Answer one request, and remember whether it was refused."""
        self._refused = self._refused or bool(self.requests and self.requests[0].error)
        super().service()

    def send_continue(self) -> None:
        """Tell a client that waits for leave to send its body to send it, unless the request is refused already."""
        if self.request.error is None:
            super().send_continue()

    def readable(self) -> bool:
        """Whether what comes is read; it is also while lingering."""
        return bool(self._lingers_until_s or super().readable())

    def handle_write(self) -> None:
        """Send what is to be sent. After a refusal only our side is closed at first.

        Closing with unread bytes in the socket resets the connection, and takes the answer away from a client that has
        not read it yet.
        """
        if self._refused and self.close_when_flushed and not self.total_outbufs_len:
            self.close_when_flushed = False
            self._lingers_until_s = time.monotonic() + _LINGER_S
            if self.socket is not None:
                with suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_write()

    def handle_read(self) -> None:
        """Read; while lingering, for nothing."""
        if not self._lingers_until_s:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()
        else:
            if self.connected and time.monotonic() > self._lingers_until_s:
                self.handle_close()
