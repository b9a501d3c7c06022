"""Connections are tended by the steady clock: the machine's may be set."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import waitress.channel
import waitress.server
from conftest import Server, wait_until
from waitress.adjustments import Adjustments

from storemon_flask.web import channel
from storemon_flask.web.channel import Channel

TIMEOUT_S = 10


class Clocks:
    """A machine's clock and a steady one."""

    def __init__(self) -> None:
        self.machine_s = 1_728_907_200.0
        self.steady_s = 5_000.0

    def time(self) -> float:
        return self.machine_s

    def monotonic(self) -> float:
        return self.steady_s

    def turn(self, seconds: float) -> None:
        self.machine_s += seconds
        self.steady_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    for module in (waitress.channel, waitress.server, channel):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize("step_s", [-31_536_000, -86_400, -5, 0, 5, 86_400])
def test_an_idle_connection_is_closed_after_its_time_and_no_other_whatever_the_clock_is_set_to(
    clocks: Clocks, step_s: float
) -> None:
    limits: Any = Adjustments(channel_timeout=TIMEOUT_S, cleanup_interval=1)
    asked: list[float] = []
    server: Any = SimpleNamespace(
        adj=limits,
        active_channels={},
        metrics=SimpleNamespace(count_dropped=len),
        readable=lambda: asked.append(clocks.steady_s) or True,
    )
    channel.tend_steadily(server)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(1)
        made = Channel(server, ours, ("127.0.0.1", 1), limits, map={})
        server.active_channels[1] = made
        clocks.turn(6)
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        made.handle_read()
        made.request = None
        clocks.machine_s += step_s
        for _ in range(10):
            clocks.turn(1)
            assert server.readable() is True
        assert not made.will_close
        clocks.turn(1)
        server.readable()
        assert made.will_close
        assert theirs.recv(1) == b""
    assert len(asked) == 11


def test_waitress_itself_tends_nothing_by_the_machine_s_clock() -> None:
    server: Any = SimpleNamespace(adj=SimpleNamespace(cleanup_interval=1), active_channels={}, readable=lambda: True)
    channel.tend_steadily(server)
    assert server.next_channel_cleanup == float("inf")


def test_who_asks_much_at_once_and_reads_nothing_holds_no_thread(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_HTTP_THREADS="4")
    host, port = server.url.removeprefix("http://").split(":")
    length = len(server.get("/openapi.json").body)
    # More than 16 MB of answers for each: beyond that Waitress lets a thread wait.
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * (
        20_000_000 // len(server.get("/openapi.json").body)
    )
    with ExitStack() as stack:
        for _ in range(12):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(20)
            reader.connect((host, int(port)))
            reader.sendall(asked)
            assert reader.recv(12) == b"HTTP/1.1 200"

        def count() -> float:
            return sum(
                float(line.split()[1])
                for line in server.get("/metrics").body.decode().splitlines()
                if line.startswith("storemon_http_requests_total{") and "openapi" in line
            )

        def is_settled() -> bool:
            before = count()
            time.sleep(0.5)
            return count() == before

        wait_until(is_settled, "the end of what is answered", 20)
        for _ in range(20):
            assert server.get("/healthz").status == 200
        # The next one is not begun before the answer to the one before it is sent; the system takes some megabytes.
        assert count() * length < 12 * 8_000_000


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_requests_that_are_sent_at_once_are_all_answered_in_their_order(
    serve: Callable[..., Server], path: str
) -> None:
    server = serve()
    host, port = server.url.removeprefix("http://").split(":")
    length = len(server.get(path).body)
    with socket.create_connection((host, int(port)), timeout=20) as line:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        line.sendall(b"".join(head + f"X-Request-Id: number-{number}\r\n\r\n".encode() for number in range(100)))
        with line.makefile("rb") as read:
            for number in range(100):
                headers = {}
                assert read.readline() == b"HTTP/1.1 200 OK\r\n"
                while (header := read.readline()) != b"\r\n":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                assert headers["x-request-id"] == f"number-{number}"
                assert len(read.read(int(headers["content-length"]))) == length
