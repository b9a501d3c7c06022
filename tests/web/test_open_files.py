"""A process that may open few files: more are asked for, fewer connections are held, and none of it costs a processor."""

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import STOREMON, Server, wait_until
from server_helpers import Serve

from storemon_flask.settings import Settings
from storemon_flask.settings import load as load_settings
from storemon_flask.web import accepting

resource = pytest.importorskip("resource")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# 400 connections, 32 threads that answer and one that computes.
NEEDED = 32 + 3 * 400 + 8 * (32 + 1)


def limited(order: str) -> list[str]:
    return ["bash", "-c", f'{order}; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"]


def limits(server: Server) -> tuple[int, int]:
    """How many files it may open, and how many it may allow itself."""
    found: tuple[int, int] = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    return found


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def processor_s(server: Server) -> float:
    """Seconds of a processor it has taken so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def idle_clients(server: Server, count: int) -> Iterator[list[socket.socket]]:
    host, port = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(count)]


def lines(server: Server, words: str) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if words in line]


@linux
@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < NEEDED, reason="the hard limit here is too small")
def test_a_soft_limit_is_raised_to_what_the_connections_need(serve: Serve) -> None:
    server = serve(limited("ulimit -S -n 100"))
    assert limits(server) == (NEEDED, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with idle_clients(server, 300):
        wait_until(lambda: open_files(server) >= 300, "the connections")
        assert server.get("/healthz").status == 200
    assert server.log.read_text() == ""


@linux
def test_under_a_small_hard_limit_fewer_connections_are_held_and_one_warning_says_so(serve: Serve) -> None:
    server = serve(limited("ulimit -n 100"))
    before_s, began_s = processor_s(server), time.monotonic()
    with idle_clients(server, 80) as clients:
        wait_until(lambda: lines(server, "reached the connection limit"), "the connections")
        # Two loops of the server, in which it could open more and does not.
        wait_until(lambda: time.monotonic() - began_s > 2, "two seconds")
        assert open_files(server) < 50
        assert processor_s(server) - before_s < 1
        for client in clients:
            client.close()
        assert server.get("/healthz").status == 200
    assert [line.partition(" WARNING storemon.server: ")[2] for line in lines(server, "STOREMON_")] == [
        "STOREMON_MAX_CONNECTIONS is 400, which takes 1,496 open files, and this process may have no more than 100: it holds 10 "
        "connections at once; allow it more (ulimit -n, or LimitNOFILE= under systemd), or set STOREMON_MAX_CONNECTIONS or "
        "STOREMON_HTTP_THREADS lower"
    ]
    assert lines(server, "open files") == lines(server, "STOREMON_")


@linux
def test_a_server_that_can_open_no_more_files_waits_and_goes_on_when_it_can(serve: Serve) -> None:
    server = serve()
    assert server.get("/healthz").status == 200
    allowed = limits(server)
    # Somebody takes them away while it runs; what the loop and its threads have open stays.
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (open_files(server) + 20, allowed[1]))
    with idle_clients(server, 100) as clients:
        wait_until(lambda: lines(server, "no connection can be accepted"), "the server to find out")
        before_s, began_s = processor_s(server), time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > 3, "three seconds")
        assert processor_s(server) - before_s < 1
        # The client that came last waits, and is served as soon as files may be opened.
        clients[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, allowed)
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    # Nothing else: what the server does by itself meanwhile (it compiles its pages) has no files either.
    assert server.log.read_text().partition(" ERROR storemon.server: ")[2] == (
        "no connection can be accepted: Too many open files; those that come wait until some are closed. Allow more open files "
        "(ulimit -n, or LimitNOFILE= under systemd), or set STOREMON_MAX_CONNECTIONS lower\n"
    )


class Listening:
    """A server of Waitress, as far as it accepts."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.asked = 0

    def accept(self) -> str:
        self.asked += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return "a connection"

    def readable(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(accepting, "time", SimpleNamespace(monotonic=lambda: clock.s))
    return clock


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_all_its_addresses_rest_for_a_second_and_the_log_is_told_once_a_minute(
    error: int, now: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = Listening(), Listening()
    patience = accepting.Patience()
    for server in (one, other):
        patience.give(server)
    assert (one.readable(), one.accept()) == (True, "a connection")
    one.error = error
    with caplog.at_level(logging.INFO, "storemon"):
        for second in range(61):
            now.s = 1000.0 + second
            assert (one.readable(), other.readable()) == (True, True)
            assert one.accept() is None
            now.s += 0.99
            assert (one.readable(), other.readable()) == (False, False)
            assert len(caplog.records) == (1 if second < 60 else 2)
    assert (one.asked, other.asked) == (62, 0)


def test_another_error_of_accepting_is_waitresses_to_handle(now: SimpleNamespace) -> None:
    server = Listening()
    accepting.Patience().give(server)
    server.error = errno.EPROTO
    with pytest.raises(OSError, match="Protocol error"):
        server.accept()
    assert server.readable()


class Limits:
    """What the system says of open files; `least_refused`: from so many on it lets nobody have them."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, soft: int, hard: int, least_refused: float = float("inf")) -> None:
        self.now, self.least_refused = (soft, hard), least_refused

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, which: int, wanted: tuple[int, int]) -> None:
        if wanted[0] >= self.least_refused:
            raise ValueError("current limit exceeds maximum limit")
        self.now = wanted


@pytest.mark.parametrize(
    ("found", "allowed", "held"),
    [
        (Limits(1024, 4096), (NEEDED, 4096), 400),
        (Limits(1024, -1), (NEEDED, -1), 400),
        (Limits(-1, -1), (-1, -1), 400),
        (Limits(4096, 4096), (4096, 4096), 400),
        (Limits(256, 1024), (1024, 1024), 242),
        (Limits(1024, 4096, least_refused=1025), (1024, 4096), 242),
        (Limits(100, 100), (100, 100), 10),
        (None, None, 400),
    ],
)
def test_as_many_connections_are_held_as_there_can_be_files_for(
    found: Any, allowed: tuple[int, int] | None, held: int, settings: Settings, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "resource", found)
    assert accepting.connections(settings) == held
    assert getattr(found, "now", None) == allowed
    assert len(caplog.records) == (held != 400)


def test_the_setting_counts_and_so_do_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1024, 100_000)
    monkeypatch.setitem(sys.modules, "resource", limits)
    variables = {"STOREMON_MAX_CONNECTIONS": "2000", "STOREMON_HTTP_THREADS": "8", "STOREMON_REPORT_WORKERS": "2"}
    assert accepting.connections(load_settings({"STOREMON_HOME": str(tmp_path), **variables})) == 2000
    assert limits.now == (32 + 6000 + 80, 100_000)
