"""Senders that trickle and readers that stall, through a real nginx: it holds them itself, and storemon is free for
others.
"""

import contextlib
import gzip
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Server, http, is_closed, wait_until
from nginx_helpers import needs_nginx, nginx_before
from server_helpers import connections_held

pytestmark = [pytest.mark.slow, needs_nginx]

SENDERS = 200
READERS = 50
# More than all of them have together: they come from one address.
AT_ONCE = 1000
REJECTS = 10_000
HEADER = "store_id,timestamp_utc,status\n"
FIRST_S = 1_728_864_000
# What deploy/nginx.conf gives a header, and a reader between two pieces.
HEADER_S = 10
SEND_S = 30
# A busy machine may hold up one answer. Were senders and readers not held by nginx, all would wait for them, for
# HEADER_S and longer.
USUAL_HEALTH_S = 0.5
MOST_HEALTH_S = 5.0
BODY = b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = BODY + b"Transfer-Encoding: chunked\r\n\r\n"


def connect(port: int, stack: ExitStack) -> socket.socket:
    line = stack.enter_context(socket.socket())
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(30)
    line.connect(("127.0.0.1", port))
    return line


@contextmanager
def trickling(port: int, senders: int) -> Iterator[list[socket.socket]]:
    """Give connections that each send a byte every half second: every second one in its header, the others in a body."""
    over = threading.Event()
    with ExitStack() as stack:
        lines = [connect(port, stack) for _ in range(senders)]
        for number, line in enumerate(lines):
            line.sendall(b"GET / HTTP/1.1\r\nX: " if number % 2 == 0 else BODY + b"Content-Length: 1000000\r\n\r\n")

        def trickle() -> None:
            while not over.wait(0.5):
                for line in lines:
                    # nginx may have closed it.
                    with contextlib.suppress(OSError):
                        line.send(b"s")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield lines
        finally:
            over.set()
            thread.join()


def health(port: int, seconds: float) -> list[float]:
    """Ask for /healthz for so long, once at least; how long each answer took."""
    took = []
    end = time.monotonic() + seconds
    while not took or time.monotonic() < end:
        began = time.monotonic()
        assert http(f"http://127.0.0.1:{port}/healthz").status == 200
        took.append(time.monotonic() - began)
        time.sleep(0.1)
    return took


def are_soon(took: list[float]) -> bool:
    return statistics.median(took) <= USUAL_HEALTH_S and max(took) <= MOST_HEALTH_S


def test_senders_that_trickle_and_readers_that_stall_are_held_by_nginx_alone(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    bad = HEADER + f"s1,{'x' * 500},active\n" * REJECTS + f"s1,{FIRST_S},active\n"
    load = http(f"{server.url}/api/v1/feeds/polls", "POST", bad.encode()).json["load_id"]
    path = f"/api/v1/loads/{load}/rejects?format=csv"
    whole_bytes = len(server.get(path).body)
    with nginx_before(server, tmp_path / "nginx", AT_ONCE) as port, ExitStack() as stack:
        readers = []
        for _ in range(READERS):
            # Not all at first: nginx gives each 10 s for its header.
            readers.append(connect(port, stack))
            readers[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert readers[-1].recv(12) == b"HTTP/1.1 200"
        stalled = time.monotonic()
        with trickling(port, SENDERS) as senders:
            took = health(port, HEADER_S + 5)
            assert are_soon(took), took
            # All of the answers are with nginx, and none of the bodies has come through.
            wait_until(lambda: connections_held(server) <= 2, "the server to be rid of its clients")
            wait_until(lambda: all(map(is_closed, senders[::2])), "the end of every header that trickles")
            # A body may come slowly, as long as it comes.
            assert not any(map(is_closed, senders[1::2]))
            took = health(port, stalled + SEND_S + 10 - time.monotonic())
            assert are_soon(took), took
        for line in readers:
            line.settimeout(30)
            count = 0
            with contextlib.suppress(ConnectionResetError):
                while piece := line.recv(1 << 20):
                    count += len(piece)
            assert count < whole_bytes
        assert http(f"http://127.0.0.1:{port}{path}").body.count(b"xxxxx,") == REJECTS
        assert "Traceback" not in server.log.read_text()


def test_answers_are_compressed_and_have_the_id_of_the_request(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    with nginx_before(server, tmp_path / "nginx") as port:
        url = f"http://127.0.0.1:{port}"
        answer = http(f"{url}/openapi.json", Accept_Encoding="gzip")
        assert gzip.decompress(answer.body) == server.get("/openapi.json").body
        assert len(answer.headers["X-Request-Id"]) == 32
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert http(f"{url}/healthz", X_Request_Id="mine-7").headers["X-Request-Id"] == "mine-7"


# What comes first, and then without end; nginx refuses digits that count and reads the others as long as they come.
ENDLESS = {
    "digits": (b"", b"f", True),
    "zeros": (b"", b"0", False),
    "a chunk's extension": (b"5;", b"x", False),
    "a trailer": (b"0\r\n", b"x", False),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_lines_of_chunks_never_reach_the_server(
    serve: Callable[..., Server], tmp_path: Path, kind: str
) -> None:
    first, rest, is_cut_off = ENDLESS[kind]
    server = serve()
    with nginx_before(server, tmp_path / "nginx", AT_ONCE) as port, ExitStack() as stack:
        lines = [connect(port, stack) for _ in range(20)]
        for line in lines:
            line.sendall(CHUNKED + first)
        took = []
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for line in lines:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    line.sendall(rest * 1000)
            took += health(port, 0.1)
            wait_until(lambda: connections_held(server) <= 2, "the server to be rid of its clients")
        assert are_soon(took), took
        if is_cut_off:
            wait_until(lambda: all(map(is_closed, lines)), "nginx to cut them off")
        else:
            assert not any(map(is_closed, lines))
