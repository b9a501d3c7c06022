"""Readers that take nothing, and many readers of something small: nobody else is kept waiting, refused, or pays with
disk.
"""

import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

import pytest
from conftest import Server, http

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

Serve = Callable[..., Server]
FIRST_S = 1_728_864_000
HEADER = "store_id,timestamp_utc,status\n"
REJECTS = 10_000
# More than there are threads.
READERS = 40
# A shared machine may hold up one answer; before, none came at all until the readers were let go.
MOST_S = 5.0


def push(server: Server, rows: str) -> int:
    """Load polls; the number of the load."""
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", (HEADER + rows).encode())
    assert answer.status == 200, answer
    return int(answer.json["load_id"])


@contextmanager
def readers_of_nothing(server: Server, path: str, readers: int, requests: int = 1) -> Iterator[None]:
    """Clients that each ask so many times at once and read none of the answers but the first word."""
    host, port = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(readers):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(30)
            reader.connect((host, int(port)))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * requests)
            assert reader.recv(12) == b"HTTP/1.1 200"
        yield


def check_that_others_are_answered(server: Server, paths: tuple[str, ...], seconds: float) -> None:
    """Fails when one of these is refused or takes long while so many seconds pass."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in paths:
            began = time.monotonic()
            answer = server.get(path)
            took.append(time.monotonic() - began)
            assert answer.status == 200, (path, answer)
        time.sleep(0.1)
    assert max(took) < MOST_S
    assert statistics.median(took) < 0.5


def test_readers_of_rejected_rows_that_take_nothing_keep_no_log_and_nobody_waiting(
    serve: Serve, settings: Settings
) -> None:
    server = serve()
    # In JSON each such letter has six characters: 24 MB, more than Waitress takes from a thread at once.
    load = push(server, f"s1,{'é' * 400},active\n" * REJECTS + f"s1,{FIRST_S},active\n")
    path = f"/api/v1/loads/{load}/rejects?format="
    wal = settings.database.with_name(f"{settings.database.name}-wal")
    with readers_of_nothing(server, f"{path}json", 12):
        # Each push writes its week anew; a transaction that stays open would keep every one of them in the log.
        for turn in range(60):
            rows = "".join(f"s{store},{FIRST_S + 60 * turn},active\n" for store in range(2000))
            push(server, rows)
            assert server.get("/healthz").status == 200
        check_that_others_are_answered(server, ("/healthz", "/api/v1/stores?limit=10", f"{path}csv"), 3)
        assert wal.stat().st_size < 80_000_000
    assert http(f"{server.url}{path}csv").body.count(b"\n") == REJECTS + 1


def test_twenty_readers_of_a_small_report_are_all_answered(serve: Serve) -> None:
    server = serve()
    push(server, "".join(f"s{store},{FIRST_S},active\n" for store in range(200)))
    report = server.trigger()
    server.wait_for(report)
    # A list: two threads that count at once may count one.
    statuses: list[int] = []

    def read() -> None:
        with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=60)) as line:
            for _ in range(30):
                line.request("GET", f"/get_report?report_id={report}&format=json")
                answer = line.getresponse()
                assert len(json.loads(answer.read())["rows"]) == 200
                statuses.append(answer.status)

    threads = [threading.Thread(target=read) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {200: 600}
