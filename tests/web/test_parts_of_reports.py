"""Parts of a finished report from the real server: the right bytes, and slow readers of them hold nobody up."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_CSV, Server, http
from job_helpers import files

from storemon_flask.settings import Settings


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-", 0, None), ("5-", 5, None), ("5-9", 5, 10), ("-7", -7, None), ("0-0", 0, 1), ("10-99999", 10, None)],
)
def test_a_part_is_those_bytes_and_no_more(server: Server, asked: str, start: int, end: int | None) -> None:
    report_id = server.trigger()
    whole = server.wait_for(report_id).body
    assert whole == SMALL_CSV.encode()
    part = http(f"{server.url}/get_report?report_id={report_id}", Range=f"bytes={asked}")
    first = len(whole) + start if start < 0 else start
    assert (part.status, part.body) == (206, whole[start:end])
    last = first + len(part.body) - 1
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
    assert part.headers["Content-Length"] == str(len(part.body))
    # The connection is good for the next question.
    assert server.get("/healthz").json == {"status": "ok"}


def test_a_part_beyond_the_end_is_refused(server: Server) -> None:
    report_id = server.trigger()
    server.wait_for(report_id)
    beyond = http(f"{server.url}/get_report?report_id={report_id}", Range="bytes=99999-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(SMALL_CSV)}")


@pytest.mark.parametrize("more", [b"", b"Range: bytes=0-\r\n", b"Range: bytes=3-\r\n"])
def test_readers_who_stop_reading_leave_threads_to_others(
    serve: Any, server: Server, settings: Settings, more: bytes
) -> None:
    server.end()
    few = serve(STOREMON_HTTP_THREADS="2")
    report_id = few.trigger()
    few.wait_for(report_id)
    (name,) = files(settings)
    with Path(settings.reports_dir / name).open("ab") as file:
        # As long as a report of many rows; more than is kept for a slow reader.
        file.truncate(40_000_000)
    host, port = few.url.removeprefix("http://").split(":")
    with ExitStack() as held:
        for _ in range(4):
            peer = held.enter_context(socket.create_connection((host, int(port)), timeout=20))
            peer.sendall(
                b"GET /get_report?report_id=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % (report_id.encode(), more)
            )
            assert peer.recv(10) == b"HTTP/1.1 2"
        for _ in range(4):
            assert few.get("/healthz").json == {"status": "ok"}
