"""The real server over real HTTP: the whole flow, and orderly ends."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import (
    NEWEST,
    NO_POLLS,
    SMALL_CSV,
    STOREMON,
    Server,
    environment,
    http,
    sql,
)
from server_helpers import Serve, nothing_runs

from storemon_flask.server import GRACE_S
from storemon_flask.settings import Settings

# "Within seconds": what is running gets its grace, and the rest is quick.
QUICK_S = GRACE_S + 5


def test_the_whole_flow_over_http(server: Server) -> None:
    assert server.first_line == f"storemon serves {server.url}  (Ctrl-C stops)\n"
    assert server.url.startswith("http://127.0.0.1:")
    assert server.get("/healthz").json == {"status": "ok"}
    triggered = http(server.url + "/trigger_report", "POST", b"")
    assert triggered.status == 202
    report_id = triggered.json["report_id"]
    assert triggered.headers["Location"] == f"/get_report?report_id={report_id}"
    answer = server.wait_for(report_id)
    assert (answer.status, answer.body) == (200, SMALL_CSV.encode())
    assert answer.headers["X-Report-Status"] == "Complete"
    assert answer.headers["X-Report-As-Of"] == NEWEST
    assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.csv"
    assert server.get(f"/get_report?report_id={report_id}", If_None_Match=answer.headers["ETag"]).status == 304
    part = server.get(f"/get_report?report_id={report_id}", Range="bytes=0-7")
    assert (part.status, part.body) == (206, b"store_id")
    rows = server.get(f"/get_report?report_id={report_id}&format=json").json["rows"]
    assert [row["store_id"] for row in rows] == ["=cmd|x", 'NYC/12, "east"', "silent", "worked"]
    assert server.end() == 0


def test_the_command_line_gives_the_same_bytes_as_http(server: Server) -> None:
    body = json.dumps({"columns": "full", "as_of": "2024-10-14T11:20:00Z", "stores": ["worked", "=cmd|x"]}).encode()
    answer = server.wait_for(server.trigger(body))
    done = subprocess.run(
        [*STOREMON, "report", "--columns", "full", "--as-of", "2024-10-14T11:20:00Z", "--store", "worked"]
        + ["--store", "=cmd|x"],
        env=environment(server.home),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == answer.body
    assert done.stderr == b"as of 2024-10-14T11:20:00.000000Z: 2 stores\n"


def test_bare_curl_is_understood(server: Server) -> None:
    body = b'{"stores": ["silent"]}'
    answer = http(server.url + "/trigger_report", "POST", body, Content_Type="application/x-www-form-urlencoded")
    assert server.wait_for(answer.json["report_id"]).body.splitlines()[1:] == [b"silent" + b",0.00" * 6]
    wrong = http(
        server.url + "/trigger_report", "POST", b'{"store": 1}', Content_Type="application/x-www-form-urlencoded"
    )
    assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
    assert wrong.json["detail"].startswith("store: ")


def test_a_body_in_chunks_without_a_length_is_read(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(
            b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b'8\r\n{"bogus"\r\n4\r\n: 1}\r\n0\r\n\r\n'
        )
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"detail": "bogus: ' in answer


def test_without_polls_the_server_serves_and_says_what_to_run(serve: Serve) -> None:
    server = serve()
    answer = http(server.url + "/trigger_report", "POST", b"")
    assert (answer.status, answer.json["detail"]) == (409, NO_POLLS)


def test_a_terminal_that_is_closed_does_not_end_the_server(server: Server) -> None:
    for _ in range(3):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert server.get("/healthz").status == 200
    assert server.process.poll() is None
    assert server.end() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly_and_nothing_is_left_running(
    server: Server, settings: Settings, signum: signal.Signals
) -> None:
    ids = [server.trigger() for _ in range(3)]
    port = int(server.url.rpartition(":")[2])
    started = time.monotonic()
    assert server.end(signum) == 0
    assert time.monotonic() - started < QUICK_S
    assert nothing_runs(server.process.pid)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "stopping: the running report is finished or requeued" in log
    # The lock is free, nothing says "running", and the write-ahead log is folded into the database.
    assert not settings.database.with_name("storemon.db.server-pid").exists()
    states = dict(sql(settings.database, "SELECT id, state FROM report"))
    assert set(states) == set(ids)
    assert set(states.values()) <= {"complete", "pending"}


@pytest.mark.slow
def test_a_signal_at_the_very_first_moment_ends_the_server_cleanly_too(serve: Serve) -> None:
    codes = []
    for _ in range(3):
        codes.append(serve().end(signal.SIGTERM))
    assert codes == [0, 0, 0]


def test_a_connection_left_open_does_not_keep_the_server_from_ending(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as idle,
        socket.create_connection((host, int(port)), timeout=30) as half,
    ):
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        half.sendall(b"POST /trigger_report HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < QUICK_S


def test_a_trigger_that_waits_for_a_load_does_not_keep_the_server_from_ending(
    server: Server, settings: Settings
) -> None:
    with (
        contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as loading,
        ThreadPoolExecutor(1) as pool,
    ):
        loading.execute("BEGIN IMMEDIATE")
        asked = pool.submit(http, server.url + "/trigger_report", "POST", b"")
        time.sleep(0.3)
        started = time.monotonic()
        try:
            assert server.end() == 0
            assert time.monotonic() - started < QUICK_S
        finally:
            loading.rollback()
            # Nothing was promised: the connection is cut, or answered with an error.
            with contextlib.suppress(OSError):
                assert asked.result(30).status >= 500


def test_what_was_unfinished_is_computed_by_the_next_server(serve: Serve, server: Server, settings: Settings) -> None:
    server.end(signal.SIGKILL)
    waiting, running, dying = "a" * 32, "b" * 32, "c" * 32
    columns = "(id, state, as_of_us, columns, requested_us, attempts, died)"
    for report_id, state, attempts in ((waiting, "pending", 0), (running, "running", 1), (dying, "running", 2)):
        values = (report_id, state, 1_728_907_200_000_000, "classic", 1, attempts, max(0, attempts - 1))
        sql(settings.database, f"INSERT INTO report {columns} VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
    again = serve()
    assert again.wait_for(waiting).body == again.wait_for(running).body == SMALL_CSV.encode()
    failed = again.wait_for(dying)
    assert (failed.status, failed.json["report_id"]) == (409, dying)
    assert failed.json["error"] == (
        "the server died twice while it computed this report; see its log, then trigger the report again"
    )
    assert "2 unfinished report(s) of the last run are computed now" in again.log.read_text()


def test_what_a_killed_server_had_begun_to_write_is_thrown_away_by_the_next(
    serve: Serve, small_fleet: Path, settings: Settings
) -> None:
    settings.reports_dir.mkdir()
    kept = [settings.reports_dir / name for name in (".gitkeep", "notes.txt", "report_old.csv")]
    begun = settings.reports_dir / f".report_{'0' * 32}.csv.0123abcd.tmp"
    for file in [*kept, begun]:
        file.write_text("x")
    server = serve()
    report_id = server.trigger()
    server.wait_for(report_id)
    assert not begun.exists()
    assert {file.name for file in settings.reports_dir.iterdir()} == {
        f"report_{report_id}.csv",
        *(file.name for file in kept),
    }
