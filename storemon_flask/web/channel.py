"""What Waitress answers by itself, before any route is asked: the same shape, the same headers, and so that it arrives."""

import logging
import math
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

from waitress.buffers import OverflowableBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask
from waitress.utilities import Error

from storemon_flask import logs
from storemon_flask.database import files
from storemon_flask.errors import NoTemporaryRoom, OutOfMemory, out_of_memory
from storemon_flask.web import authentication, metrics, problems, proxy

# How long a client that was refused in the middle of its body may go on sending, for nothing, before it is cut off.
_LINGER_S: Final = 5.0
# Slower than any line that still works; 1 GB a day is 12,000.
_LEAST_BYTES_S: Final = 500
# What is read of a file at once to be sent. Waitress takes as much as the system would (2.5 MB), for each of many
# connections.
_MOST_SENT_BYTES: Final = 262_144

log = logging.getLogger("storemon.server")


def tend(server: Any, now_s: float) -> None:
    """Close the connections of one server that are idle, and those whose client is too slow, in either direction.

    Waitress itself looks only at connections without a request under way, so that a reader who stops holds a thread for
    good.
    """
    for channel in server.active_channels.values():
        if channel.will_close:
            continue
        reason = channel.too_slow(now_s, server.adj.channel_timeout)
        if reason:
            server.metrics.count_dropped(reason)
            log.info("a connection from %s is closed: its client is too slow (%s)", channel.addr[0], reason)
        idle = not channel.requests and not channel.total_outbufs_len
        if reason or (idle and channel.last_activity < now_s - server.adj.channel_timeout):
            channel.will_close = True
            # Waitress closes it when more can be sent, which is never where nobody reads, but after this at once. To
            # close it here would take it from under the loop, which may have given its number to a new connection then.
            with suppress(OSError):
                channel.socket.shutdown(socket.SHUT_RDWR)


def tend_steadily(server: Any) -> None:
    """Let one server's connections be tended at every cleanup interval of the steady clock.

    Waitress counts by the machine's clock: set back by a day, nothing would be closed for a day. The loop asks each
    server at least once a second whether it wants to accept.
    """
    readable, due_s = server.readable, time.monotonic()

    def tended() -> Any:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + server.adj.cleanup_interval
            tend(server, now_s)
        return readable()

    server.next_channel_cleanup = math.inf
    server.readable = tended


class _NoRoom(Error):
    """That a body could not be kept, as Waitress hands errors on."""

    code = NoTemporaryRoom.status
    reason = NoTemporaryRoom.title
    kind = NoTemporaryRoom.kind


class _NoMemory(Error):
    """That there was no memory to take a request in, or to answer it."""

    code = OutOfMemory.status
    reason = OutOfMemory.title
    kind = OutOfMemory.kind


class Request(HTTPRequestParser):
    """A request that comes in. One whose body finds no room in the folder for temporary files is refused."""

    body_rcv: Any

    def received(self, data: bytes) -> int:
        """Take what has come; how much of it was of this request."""
        try:
            return int(super().received(data))
        except OSError as error:
            # A file that cannot be written to its end cannot be closed well either; what it took is free then all the
            # same.
            with suppress(OSError):
                self.body_rcv.getbuf().close()
            self.body_rcv = None
            self.error = _NoRoom(files.no_temporary_room(error, "nothing of this was stored").message)
        except MemoryError as error:
            self.body_rcv = None
            no_memory = out_of_memory(error, "this request")
            self.error = _NoMemory(no_memory.message if no_memory else "")
        self.completed = True
        return len(data)


class ProblemTask(ErrorTask):
    """A refusal by the server itself, as a problem."""

    request: Any
    response_headers: list[tuple[str, str]]

    def start(self) -> None:
        """Begin, by the steady clock too."""
        super().start()
        self._began_s = time.monotonic()

    def execute(self) -> None:
        """Answer, and close the connection: where the next request would begin is not known any more."""
        error = self.request.error
        # Waitress answers for an app whose error nobody caught while it handles that.
        raised = sys.exception()
        no_memory = None if raised is None else out_of_memory(raised)
        if no_memory is not None:
            error = _NoMemory(no_memory.message)
        kind = getattr(error, "kind", error.reason.lower().replace(" ", "-"))
        answer = authentication.secure(problems.problem(error.code, kind, error.reason, self._detail(error)))
        # What was read of the headers, under the names that an environment gives them.
        if isinstance(error, _NoMemory):
            answer.headers["Retry-After"] = str(OutOfMemory.retry_after_s)
        mine = metrics.request_id(getattr(self.request, "headers", {}).get("X_REQUEST_ID"))
        answer.headers[metrics.REQUEST_ID_HEADER] = mine
        # Waitress answers before there is an environment; what it has read of the request may be nothing at all.
        told = {"REQUEST_METHOD": getattr(self.request, "command", ""), "PATH_INFO": getattr(self.request, "path", "")}
        server: Any = self.channel.server
        told["REMOTE_ADDR"] = peer = self.channel.addr[0]
        with suppress(ValueError):
            forwarded_for = getattr(self.request, "headers", {}).get("X_FORWARDED_FOR", "")
            told["REMOTE_ADDR"] = proxy.client_address(peer, forwarded_for, server.trusted_networks)
        with logs.marked(request_id=mine):
            metrics.record(server.metrics, told, error.code, time.monotonic() - self._began_s, answer.content_length)
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
        if isinstance(error, _NoMemory):
            log.warning(
                "%s %s: %s", getattr(self.request, "command", ""), getattr(self.request, "path", ""), error.body
            )
            return str(error.body)
        if isinstance(error, _NoRoom):
            log.error("%s %s: %s", self.request.command, self.request.path, error.body)
            return str(error.body)
        if error.code == 500:
            return "something went wrong that should not have; the server's log says what"
        return f"the request is no HTTP that this server reads: {error.body}"


class Channel(HTTPChannel):
    """A connection whose refusals are problems, and reach a client that is still sending its body."""

    error_task_class = ProblemTask
    parser_class = Request
    request: Any
    server: Any
    _flush_some: Any
    _flush_exception: Any

    _refused = False
    # When the request that is coming in began, and which one that is.
    _began_s = 0.0
    _coming: Any = None
    _lingers_until_s = 0.0
    # Since when there has been something to send, as far as was seen.
    _owed_s = 0.0
    _active_s = 0.0
    # Whether the next request waits until the answer before it is sent; it holds no thread then.
    _waits = False

    @property
    def last_activity(self) -> float:
        """When something came or went last, by the steady clock."""
        return self._active_s

    @last_activity.setter
    def last_activity(self, now_s: float) -> None:
        # Waitress says it by the machine's clock, which may be set: an idle connection would be kept for a day, or a
        # busy one closed.
        self._active_s = time.monotonic()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sendbuf_len = min(self.sendbuf_len, _MOST_SENT_BYTES)

    def too_slow(self, now_s: float, patience_s: float) -> str | None:
        """`request` when what comes in takes too long, `reader` when what is ready is not taken; None when all is well.

        A byte now and then keeps a connection busy, and never gets to its end: so many bytes a second there must be.
        """
        if self.total_outbufs_len:
            # An answer that took long may have been ready for a moment only.
            self._owed_s = self._owed_s or now_s
            return "reader" if now_s - max(self.last_activity, self._owed_s) > patience_s else None
        self._owed_s = 0.0
        if self.request is None or self.requests:
            # What has come of the next request waits for the answer to this one, and nothing more of it is read before.
            self._coming = None
            return None
        if self._coming is not self.request:
            self._coming, self._began_s = self.request, now_s
        received = getattr(self.request, "header_bytes_received", 0) + getattr(self.request, "body_bytes_received", 0)
        return "request" if now_s - self._began_s > patience_s + received / _LEAST_BYTES_S else None

    def check_client_disconnected(self) -> bool:  # type: ignore[override]
        """Whether nobody is there any more to read the answer that is being made.

        The loop reads nothing meanwhile, so it does not know. Who only says that he sends no more looks the same, and
        is taken for gone.
        """
        if self.socket is None or super().check_client_disconnected():
            return True
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def service(self) -> None:
        """Answer one request, and remember whether it was refused; not before the answer to the one before it is sent.

        A client may send a thousand requests at once and read no answer. Each answer would hold a file, and beyond 16
        MB of them Waitress lets the thread wait for the reader.
        """
        with self.outbuf_lock:
            if self.connected and self.total_outbufs_len:
                self._flush_exception(self._flush_some, do_close=False)
            # What the loop sees is its own to change from here on.
            self._waits = waits = self.connected and bool(self.total_outbufs_len)
        if waits:
            self.server.pull_trigger()
            return
        self._refused = self._refused or bool(self.requests and self.requests[0].error)
        super().service()

    def send_continue(self) -> None:
        """Tell a client that waits for leave to send its body to send it, unless the request is refused already."""
        if self.request.error is None:
            super().send_continue()

    def write_soon(self, data: Any) -> int:
        """Send that, or keep it until it can be sent: much of it in a temporary file. Without room for that the answer
        is cut off.

        Its beginning is on its way already, so nothing else can be answered. `ClientDisconnected` ends the request.
        """
        with self.outbuf_lock:
            try:
                return int(super().write_soon(data))
            except OSError as error:
                asked: Any = self.requests[0]
                outcome = f"the answer to {asked.command} {asked.path} is cut off"
                log.error("%s", files.no_temporary_room(error, outcome).message)
                for one in self.outbufs:
                    with suppress(OSError):
                        one.close()
                # What was kept is not what was counted: to go on with it, the loop would never come to its end.
                self.outbufs = [OverflowableBuffer(self.adj.outbuf_overflow)]
                self.total_outbufs_len = self.current_outbuf_count = 0
                self.will_close = True
                raise ClientDisconnected from None

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Wait for no reader: each answer is handed over whole, and the next is not begun before it is sent."""

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
        if self._waits:
            # Waitress keeps small answers back while there are more requests.
            self._flush_exception(self._flush_some)
        super().handle_write()
        if not self.total_outbufs_len:
            self._go_on()

    def handle_close(self) -> None:
        """Close the connection; whoever waited for it lets go of what it has."""
        super().handle_close()
        self._go_on()

    def _go_on(self) -> None:
        if self._waits:
            self._waits = False
            self.server.add_task(self)

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
