"""Clients that are slow on purpose: half-open connections, a body without end, readers that do not read. The server
answers the others all the while, in bounded memory."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server, http, wait_until

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

# A machine that is shared may hold up one answer of a hundred; the figures are printed.
MOST_S = 5.0
REPORT_MB = 20


def place(server: Server) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def rss_mb(server: Server, name: str = "VmRSS") -> float:
    """Megabytes of memory of the server now, or with `VmHWM` at the most since `from_now`."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1000
    raise AssertionError(f"no {name}")


def from_now(server: Server) -> float:
    """Megabytes of memory of the server now; what it took at the most is counted anew."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return rss_mb(server)


def more_mb(server: Server, before_mb: float) -> float:
    """How much more than that it took at the most."""
    return rss_mb(server, "VmHWM") - before_mb


@contextmanager
def answering(server: Server) -> Iterator[list[float]]:
    """Asks /healthz all the while; afterwards the list has the seconds each answer took. None may take `MOST_S`."""
    took: list[float] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.05):
            began = time.monotonic()
            try:
                assert http(server.url + "/healthz").status == 200
            except BaseException as error:
                failed.append(error)
                return
            took.append(time.monotonic() - began)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield took
    finally:
        done.set()
        asker.join(60)
    assert failed == []
    assert len(took) >= 10
    assert max(took) < MOST_S


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def gone(peer: socket.socket) -> bool:
    """Whether the server has closed it: what it sent before is read away."""
    peer.settimeout(0.01)
    try:
        while peer.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_two_hundred_half_open_connections_keep_nobody_out_and_are_let_go(
    serve: Callable[..., Server], small_fleet: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.close()
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="3")
    assert server.get("/healthz").status == 200
    before = from_now(server)
    with ExitStack() as stack, answering(server) as took:
        peers = [stack.enter_context(socket.create_connection(place(server), timeout=20)) for _ in range(200)]
        for number, peer in enumerate(peers):
            # A third says nothing, a third stops in its headers, a third in its body.
            peer.sendall(
                (
                    b"",
                    b"GET /healthz HTTP/1.1\r\nHost: ",
                    b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
                )[number % 3]
            )
        wait_until(lambda: all(gone(peer) for peer in peers), "the end of all connections", 60)
    with capsys.disabled():
        print(f"\n200 half-open: at most {more_mb(server, before):.1f} MB more, /healthz at most {max(took):.3f} s")
    assert more_mb(server, before) < 40


def test_a_body_without_end_is_cut_off_at_the_limit(
    serve: Callable[..., Server], small_fleet: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.close()
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="3", STOREMON_MAX_BODY_MB="50")
    assert server.get("/healthz").status == 200
    before = from_now(server)
    head = b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with answering(server) as took, socket.create_connection(place(server), timeout=20) as fast:
        fast.sendall(head)
        sent, began = 0, time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 60:
                fast.sendall(piece)
                sent += len(piece)
        assert sent >= 50_000_000
        assert time.monotonic() - began < 30
    with capsys.disabled():
        print(f"\nendless body: at most {more_mb(server, before):.1f} MB more, /healthz at most {max(took):.3f} s")
    assert more_mb(server, before) < 60


@pytest.fixture
def large_report(serve: Callable[..., Server], settings: Settings, tmp_path: Path) -> Any:
    """A server with reports: (server, id by the form to fetch it in). All but that for workbooks are of about 20 MB."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    stores = 90_000
    hours = np.arange(stores) % 24
    with (folder / "polls.csv").open("w") as stream:
        stream.write("store_id,timestamp_utc,status\n")
        stream.writelines(
            f"a-store-of-many-{number:08d},2024-10-14 {hour:02d}:00:00 UTC,active\n"
            for number, hour in enumerate(hours)
        )
    database = Database(settings.database)
    result = load.load_sources(
        database, sources.find_sources([folder]), load.LoadOptions(time.time_ns() // 1000, 300_000_000)
    )
    assert (result.failed, result.rejected) == (False, 0)
    database.close()
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="5")
    full, few = server.trigger(b'{"columns": "full"}'), [f"a-store-of-many-{number:08d}" for number in range(5000)]
    size = len(server.wait_for(full).body)
    assert 0.9 * REPORT_MB < size / 1_000_000 < 1.1 * REPORT_MB
    # A workbook of all of them takes half a minute of computing.
    short = server.trigger(json.dumps({"stores": few}).encode())
    assert server.wait_for(short).body.count(b"\n") == 5001
    return server, {"csv": full, "json": full, "xlsx": short}


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_fifty_slow_readers_of_a_large_report_hold_up_nobody(
    large_report: tuple[Server, dict[str, str]], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server, ids = large_report
    path = f"/get_report?report_id={ids[form]}&format={form}"
    # Once alone, so that what one answer takes is not counted for the fifty.
    alone = server.get(path)
    assert alone.status == 200
    before = from_now(server)
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as stack, answering(server) as took:
        peers = []
        for _ in range(50):
            peer = stack.enter_context(socket.socket())
            # So small that little is hidden in the system's buffers.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(place(server))
            peer.settimeout(60)
            peer.sendall(ask)
            peers.append(peer)
        begun = [peer.recv(12) for peer in peers]
        answered, refused = (begun.count(b"HTTP/1.1 " + status) for status in (b"200", b"503"))
        assert answered + refused == 50
        # A file is sent without a thread, so everybody gets it; of the others two at a time are made.
        assert (answered == 50) if form == "csv" else (2 <= answered < 50)
        # A reader holds nothing that another needs: the next one is served while they all stay.
        assert server.get(path).status == 200
        # They take nothing, and the system cuts them off. The workbook is so short that it is on its way whole.
        wait_until(lambda: open_files(server) < 50 + (form == "xlsx") * answered, "the end of the readers", 60)
    more = more_mb(server, before)
    with capsys.disabled():
        print(
            f"\n50 slow readers of {len(alone.body) / 1e6:.1f} MB {form}: {answered} answered, {refused} refused, "
            f"at most {more:.1f} MB more, /healthz at most {max(took):.3f} s"
        )
    assert max(took) < 1
    assert more < 150
    # And it works as before.
    assert server.get(path).status == 200
