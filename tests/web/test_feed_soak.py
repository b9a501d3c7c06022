"""The real server under many pushes, a very large one, and clients that never finish: nothing lost, nobody else kept
waiting.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Server, sql
from conftest import http as ask

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

Serve = Callable[..., Server]
CLIENTS = 20
ROWS = 1000
SOAK_S = 60.0
LARGE_MB = 500
# Who is kept out waits for as long as another holds his place: for a minute, or to the end.
SLOWEST_S = 10.0
READS = ("/healthz", "/api/v1/stores", "/api/v1/loads?limit=5")
HEADER = b"store_id,timestamp_utc,status\n"


def peak_mb(server: Server) -> float:
    """The most memory that the server has had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def stamp(number: int) -> str:
    """The second of that number of a day long past."""
    return f"2024-10-{1 + number // 86400:02d} {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} UTC"


class Readers:
    """Threads that ask one address after the other, four times a second each, and remember how long every answer took."""

    def __init__(self, server: Server, paths: tuple[str, ...] = READS) -> None:
        self.taken: dict[str, list[float]] = {path: [] for path in paths}
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._server = server
        self._threads = [threading.Thread(target=self._read, args=(path,)) for path in paths]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self, path: str) -> None:
        while not self._stop.wait(0.1):
            started = time.perf_counter()
            try:
                answer = self._server.get(path)
            except OSError as error:
                self.errors.append(f"{path}: {error!r}")
                continue
            self.taken[path].append(time.perf_counter() - started)
            if answer.status != 200:
                self.errors.append(f"{path}: {answer.status} {answer.body!r}")

    def slowest(self, path: str) -> float:
        """The 99th percentile, in seconds."""
        found = sorted(self.taken[path])
        return found[int(0.99 * (len(found) - 1))]

    def said(self) -> str:
        """The p99 of each address in a line."""
        return ", ".join(
            f"{path} p99 {self.slowest(path) * 1000:.0f} ms of {len(taken)}" for path, taken in self.taken.items()
        )


def stored_polls(settings: Settings) -> int:
    return int(sql(settings.database, "SELECT coalesce(sum(length(polls)), 0) / 8 FROM poll_week")[0][0])


class Pushers:
    """Clients that push and one that reads reports, all until the end; what was stored, how long it took, what went
    wrong.
    """

    def __init__(self, server: Server) -> None:
        self.errors: list[str] = []
        self.pushed = [0] * CLIENTS
        self.taken: list[float] = []
        self.reports: list[int] = []
        self._server = server
        self._end = time.monotonic() + SOAK_S

    def run(self) -> None:
        """Until the end."""
        threads = [threading.Thread(target=self._push, args=(client,)) for client in range(CLIENTS)]
        threads.append(threading.Thread(target=self._report))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _push(self, client: int) -> None:
        rows = "".join(f"c{client}-{row},@,{'in' * (row % 7 == 0)}active\n" for row in range(ROWS))
        number = 0
        with contextlib.closing(http.client.HTTPConnection(urlsplit(self._server.url).netloc, timeout=120)) as line:
            while time.monotonic() < self._end:
                number += 1
                body = HEADER + rows.replace("@", stamp(number)).encode()
                started = time.perf_counter()
                line.request("POST", "/api/v1/feeds/polls", body, {"Content-Type": "text/csv"})
                answer = line.getresponse()
                said = answer.read()
                self.taken.append(time.perf_counter() - started)
                if answer.status != 200 or json.loads(said)["new"] != ROWS:
                    self.errors.append(f"{answer.status} {said!r}")
                else:
                    self.pushed[client] += ROWS

    def _report(self) -> None:
        while time.monotonic() < self._end:
            answer = self._server.wait_for(self._server.trigger())
            if answer.headers["X-Report-Status"] != "Complete":
                self.errors.append(repr(answer.body))
            self.reports.append(answer.body.count(b"\n"))


def test_twenty_clients_push_for_a_minute_while_reports_run(
    serve: Serve, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    first = HEADER + b"first,2024-10-01 00:00:00 UTC,active\n"
    assert ask(f"{server.url}/api/v1/feeds/polls", "POST", first).status == 200
    pushers = Pushers(server)
    with Readers(server) as readers:
        pushers.run()
    pushes, rows, reports = len(pushers.taken), sum(pushers.pushed), pushers.reports
    slowest = sorted(pushers.taken)[int(0.99 * (pushes - 1))]
    with capsys.disabled():
        print(
            f"\n{rows:,} rows in {pushes:,} pushes (p99 {slowest * 1000:.0f} ms), {len(reports)} reports; "
            f"{readers.said()}; peak {peak_mb(server):.0f} MB"
        )
    assert not pushers.errors, pushers.errors[:3]
    assert not readers.errors, readers.errors[:3]
    assert len(reports) > 2
    assert min(pushers.pushed) > 0
    assert stored_polls(settings) == rows + 1
    kept = "SELECT count(*), sum(new_count), sum(changed_count + repeated_count + rejected_count) FROM load_file"
    assert sql(settings.database, kept) == [(pushes + 1, rows + 1, 0)]
    assert reports[-1] == CLIENTS * ROWS + 2
    for path in READS:
        assert readers.slowest(path) < SLOWEST_S


def large_rows(count: int) -> Iterator[bytes]:
    """The rows of a CSV, 58 bytes each, 10,000 stores in turn, in pieces of 10,000 rows."""
    for number in range(count // 10_000):
        instant = stamp(number * 100)
        yield b"".join(b"store %06d,%s,active  \n" % (row, instant.encode()) for row in range(10_000))


def test_a_very_large_push_sits_in_no_memory_and_in_nobodys_way(
    serve: Serve, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    # As the unit and the container have it.
    server = serve(STOREMON_MAX_BODY_MB="1000", MALLOC_ARENA_MAX="2")
    assert (
        ask(f"{server.url}/api/v1/feeds/polls", "POST", HEADER + b"first,2024-10-01 00:00:00 UTC,active\n").status
        == 200
    )
    server.wait_for(server.trigger())
    size = len(next(large_rows(10_000)))
    count = LARGE_MB * 1_000_000 // size * 10_000
    before = peak_mb(server)
    place = urlsplit(server.url)

    def body() -> Iterator[bytes]:
        yield HEADER
        yield from large_rows(count)

    started = time.perf_counter()
    with Readers(server) as readers, contextlib.closing(http.client.HTTPConnection(place.netloc, timeout=600)) as line:
        length = str(len(HEADER) + count // 10_000 * size)
        line.request("POST", "/api/v1/feeds/polls", body(), {"Content-Type": "text/csv", "Content-Length": length})
        sent_s = time.perf_counter() - started
        answer = line.getresponse()
        said = json.loads(answer.read())
        whole_s = time.perf_counter() - started
    after = peak_mb(server)
    with capsys.disabled():
        print(
            f"\n{int(length) / 1e6:.0f} MB, {count:,} rows: sent in {sent_s:.1f} s, answered after {whole_s:.1f} s; "
            f"peak {before:.0f} -> {after:.0f} MB; {readers.said()}"
        )
    assert (answer.status, said["new"], said["rejected"]) == (200, count, 0)
    assert stored_polls(settings) == count + 1
    assert not readers.errors, readers.errors[:3]
    assert after < 450
    for path in READS:
        assert readers.slowest(path) < SLOWEST_S


def test_clients_that_never_finish_hurt_nobody(
    serve: Serve, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    place = urlsplit(server.url)
    assert (
        ask(f"{server.url}/api/v1/feeds/polls", "POST", HEADER + b"first,2024-10-01 00:00:00 UTC,active\n").status
        == 200
    )
    head = b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    with contextlib.ExitStack() as held:
        lines = [
            held.enter_context(contextlib.closing(socket.create_connection((place.hostname, place.port), timeout=30)))
            for _ in range(150)
        ]
        for number, line in enumerate(lines):
            part = (
                b"",
                head[:40],
                head + b"Content-Length: 1000000\r\n\r\n" + HEADER + b"lost,2024-10-01",
                head + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + HEADER,
                head + b"Content-Length: 5000000\r\n\r\n" + b"x" * 2_000_000,
            )[number % 5]
            line.sendall(part)
        # Gone in the middle, with a reset.
        for line in lines[2:50:5]:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            line.close()
        dripping = head + b"Content-Length: 15\r\n\r\n"
        lines[0].sendall(dripping)
        with Readers(server) as readers:
            for second in range(15):
                lines[0].sendall(b"store_id,status"[second : second + 1])
                body = HEADER + f"kept,2024-10-02 00:00:{second:02d} UTC,active\n".encode()
                assert ask(f"{server.url}/api/v1/feeds/polls", "POST", body).json["new"] == 1
                time.sleep(1)
        assert lines[0].recv(1000).startswith(b"HTTP/1.1 422 ")
        with capsys.disabled():
            print(f"\nbeside 150 unfinished requests: {readers.said()}")
    assert not readers.errors, readers.errors[:3]
    for path in READS:
        assert len(readers.taken[path]) > 20
        assert readers.slowest(path) < SLOWEST_S
    assert stored_polls(settings) == 16
    assert sql(settings.database, "SELECT count(*) FROM store_record WHERE store_id = 'lost'") == [(0,)]
    assert server.wait_for(server.trigger()).status == 200
