"""Large answers are made whole before they are sent, parts of reports are the right bytes, and slow clients, without
a proxy, hold nobody up.
"""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE_S, SMALL_CSV, Server, http, is_closed, sql, wait_until
from flask import Flask
from flask.testing import FlaskClient
from server_helpers import connections_held
from werkzeug.test import TestResponse
from worker_helpers import files

from storemon_flask import create_app, slots
from storemon_flask.database import loads
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.feeds import load, sources
from storemon_flask.reports import stored, xlsx
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings
from storemon_flask.web import answers

BUSY = "too many large answers are being made; try again in some seconds, or fetch CSV"


@pytest.fixture
def app(settings: Settings, small_fleet: Path) -> Iterator[Flask]:
    """An app with eight threads, so that two long answers may be made at once."""
    made = create_app(replace(settings, http_threads=8), InlineExecutor())
    yield made
    made.extensions["storemon"].database.close()


def free_slots(app: Flask) -> int:
    """How many are free."""
    free: int = app.extensions["storemon"].slots._answers._value
    return free


def get(client: FlaskClient, path: str, method: str = "GET") -> TestResponse:
    """The answer, begun and not read."""
    return client.open(path, method=method, buffered=False)


@pytest.fixture
def paths(client: FlaskClient) -> dict[str, str]:
    report_id = client.post("/trigger_report").json["report_id"]
    (load,) = client.get("/api/v1/loads").json["loads"]
    report, rejects = f"/get_report?report_id={report_id}&format=", f"/api/v1/loads/{load['load_id']}/rejects?format="
    return {
        "json": f"{report}json",
        "xlsx": f"{report}xlsx",
        "csv": f"{report}csv",
        "rejects": f"{rejects}json",
        "rejects.csv": f"{rejects}csv",
    }


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is a large one, and nobody waits long for a slot."""
    monkeypatch.setattr(answers, "SMALL_BYTES", 1)
    monkeypatch.setattr(slots, "PATIENCE_S", 0.2)


def unsent(app: Flask) -> int:
    """How many bytes wait for their readers."""
    counted = app.extensions["storemon"].slots.unsent
    return int(counted._most - counted._left)


@pytest.mark.parametrize("form", ["json", "rejects", "rejects.csv"])
def test_a_small_answer_needs_no_slot(app: Flask, client: FlaskClient, paths: dict[str, str], form: str) -> None:
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(app.extensions["storemon"].slots.for_answer())
        assert client.get(paths[form], buffered=True).status_code == 200


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("refused", ["json", "xlsx", "rejects", "rejects.csv"])
def test_beyond_the_slots_a_large_answer_is_a_503_and_everything_else_is_answered(
    app: Flask, client: FlaskClient, paths: dict[str, str], refused: str
) -> None:
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(app.extensions["storemon"].slots.for_answer())
        answer = client.get(paths[refused], buffered=True)
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
        assert (answer.headers["Retry-After"], answer.get_json(force=True)["detail"]) == ("2", BUSY)
        for path in (paths["csv"], "/healthz", "/api/v1/stores"):
            assert client.get(path, buffered=True).status_code == 200
    assert client.get(paths[refused], buffered=True).status_code == 200
    assert free_slots(app) == 2


@pytest.mark.usefixtures("large")
def test_who_finds_no_slot_waits_for_one(
    app: Flask, client: FlaskClient, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "PATIENCE_S", 2 * PATIENCE_S)
    all_slots, held = app.extensions["storemon"].slots, ExitStack()
    for _ in range(2):
        held.enter_context(all_slots.for_answer())
    before = all_slots._answers_waiting._value

    def free_them() -> None:
        wait_until(lambda: all_slots._answers_waiting._value < before, "a request that waits")
        held.close()

    with ThreadPoolExecutor(1) as pool:
        freed = pool.submit(free_them)
        assert client.get(paths["json"], buffered=True).status_code == 200
        freed.result()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["json", "xlsx", "rejects", "rejects.csv"])
def test_no_slot_is_held_while_an_answer_is_sent_and_its_bytes_count_until_then(
    app: Flask, client: FlaskClient, paths: dict[str, str], form: str, method: str
) -> None:
    whole = client.get(paths[form], buffered=True).data
    for _ in range(5):
        answer = get(client, paths[form], method)
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(whole)
        assert free_slots(app) == 2
        assert unsent(app) == len(whole)
        assert len(answer.get_data()) == (len(whole) if method == "GET" else 0)
        answer.close()
        answer.close()
        assert (free_slots(app), unsent(app)) == (2, 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("form", ["json", "xlsx"])
def test_too_many_bytes_that_wait_for_their_readers_are_a_503(
    app: Flask, client: FlaskClient, paths: dict[str, str], form: str
) -> None:
    app.extensions["storemon"].slots.unsent = slots.Unsent(len(client.get(paths[form], buffered=True).data) + 10)
    held = get(client, paths[form])
    answer = client.get(paths[form], buffered=True)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "MB of answers wait for their readers" in answer.get_json(force=True)["detail"]
    held.close()
    assert (free_slots(app), unsent(app)) == (2, 0)
    assert client.get(paths[form], buffered=True).status_code == 200


@pytest.mark.usefixtures("large")
def test_without_room_for_temporary_files_it_is_a_503_that_says_so(
    settings: Settings, small_fleet: Path, app: Flask, client: FlaskClient, paths: dict[str, str]
) -> None:
    runner = app.extensions["storemon"]
    runner.settings = replace(runner.settings, min_free_mb=1_000_000_000)
    answer = client.get(paths["json"], buffered=True)
    assert answer.status_code == 503
    assert "is full, so this answer cannot be made; make room there" in answer.get_json(force=True)["detail"]
    assert (free_slots(app), unsent(app)) == (2, 0)


def test_what_goes_wrong_holds_no_slot(
    app: Flask, client: FlaskClient, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise Unprocessable("a sheet has fewer rows")

    monkeypatch.setattr(xlsx, "write", refuse)
    assert client.get(paths["xlsx"], buffered=True).status_code == 422
    monkeypatch.setattr(stored, "file_of", lambda row, folder: folder / "gone.csv")
    assert client.get(paths["json"], buffered=True).status_code == 410
    assert client.get("/api/v1/loads/99/rejects").status_code == 404
    assert free_slots(app) == 2


def test_a_long_answer_is_read_from_its_file_while_it_is_sent(
    app: Flask, client: FlaskClient, paths: dict[str, str], settings: Settings
) -> None:
    answer = get(client, paths["json"])
    for file in settings.reports_dir.iterdir():
        # Deleted meanwhile: what was begun is sent to its end.
        file.unlink()
    assert [row["store_id"] for row in answer.get_json()["rows"]][-2:] == ["silent", "worked"]
    answer.close()
    assert client.get(paths["json"], buffered=True).status_code == 410


def rejected(client: FlaskClient, settings: Settings, form: str) -> tuple[int, str, Callable[[], None]]:
    """A load with two rejected rows, the address of those, and what prunes it."""
    bad = b"store_id,timestamp_utc,status\nworked,noon,active\nworked,2pm,active\n"
    load = client.post("/api/v1/feeds/polls", data=bad).json["load_id"]

    def prune() -> None:
        file = sql(settings.database, "SELECT id FROM load_file WHERE load = ?", load)[0][0]
        for table, column, value in (("reject", "load_file", file), ("load_file", "id", file), ("load", "id", load)):
            sql(settings.database, f"DELETE FROM {table} WHERE {column} = ?", value)

    return load, f"/api/v1/loads/{load}/rejects?format={form}", prune


@pytest.mark.parametrize("form", ["json", "csv"])
def test_rejects_that_were_begun_are_whole_though_their_load_is_pruned(
    client: FlaskClient, settings: Settings, form: str
) -> None:
    _, path, prune = rejected(client, settings, form)
    answer = get(client, path)
    prune()
    assert answer.text.count("worked,") == 2
    answer.close()
    assert client.get(path, buffered=True).status_code == 404


@pytest.mark.parametrize("form", ["json", "csv"])
def test_rejects_of_a_load_that_is_pruned_before_they_are_read_are_a_404(
    app: Flask, client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    load, path, prune = rejected(client, settings, form)
    find = loads.find

    def found_and_pruned(connection: sqlite3.Connection, number: int) -> loads.LoadRow | None:
        row = find(connection, number)
        prune()
        return row

    monkeypatch.setattr(loads, "find", found_and_pruned)
    answer = client.get(path, buffered=True)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json(force=True)["detail"] == f"there is no load {load}; the list of loads has those there are"
    assert "Content-Disposition" not in answer.headers
    assert free_slots(app) == 2


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
            peer = held.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            peer.sendall(
                b"GET /get_report?report_id=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % (report_id.encode(), more)
            )
            assert peer.recv(10) == b"HTTP/1.1 2"
        for _ in range(4):
            assert few.get("/healthz").json == {"status": "ok"}


# A machine that is shared may hold up one answer of a hundred; the figures are printed.
MOST_S = 5.0
REPORT_MB = 20


def address(server: Server) -> tuple[str, int]:
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
    assert len(took) >= 3
    assert max(took) < MOST_S


@pytest.mark.slow
def test_two_hundred_half_open_connections_keep_nobody_out_and_are_let_go(
    serve: Callable[..., Server], small_fleet: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.close()
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="3")
    assert server.get("/healthz").status == 200
    before = from_now(server)
    with ExitStack() as stack, answering(server) as took:
        peers = [stack.enter_context(socket.create_connection(address(server), timeout=PATIENCE_S)) for _ in range(200)]
        for number, peer in enumerate(peers):
            # A third says nothing, a third stops in its headers, a third in its body.
            peer.sendall(
                (
                    b"",
                    b"GET /healthz HTTP/1.1\r\nHost: ",
                    b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
                )[number % 3]
            )
        wait_until(lambda: all(is_closed(peer) for peer in peers), "the end of all connections", 60)
    with capsys.disabled():
        print(f"\n200 half-open: at most {more_mb(server, before):.1f} MB more, /healthz at most {max(took):.3f} s")
    assert more_mb(server, before) < 40


@pytest.mark.slow
def test_a_body_without_end_is_cut_off_at_the_limit(
    serve: Callable[..., Server], small_fleet: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.close()
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="3", STOREMON_MAX_BODY_MB="50")
    assert server.get("/healthz").status == 200
    before = from_now(server)
    head = (
        b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        b"text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with answering(server) as took, socket.create_connection(address(server), timeout=2 * PATIENCE_S) as fast:
        fast.sendall(head)
        sent = 0
        with suppress(ConnectionError):
            # Cut off at 114 MB and what is on its way.
            while sent < 200_000_000:
                fast.sendall(piece)
                sent += len(piece)
        assert 50_000_000 <= sent < 200_000_000
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
    # With as many arenas of memory as deploy/ allows: a thread reads up to 2.5 MB of a file at once.
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="5", MALLOC_ARENA_MAX="2")
    full, few = server.trigger(b'{"columns": "full"}'), [f"a-store-of-many-{number:08d}" for number in range(5000)]
    size = len(server.wait_for(full).body)
    assert 0.9 * REPORT_MB < size / 1_000_000 < 1.1 * REPORT_MB
    # A workbook of all of them takes half a minute of computing.
    short = server.trigger(json.dumps({"stores": few}).encode())
    assert server.wait_for(short).body.count(b"\n") == 5001
    return server, {"csv": full, "json": full, "xlsx": short}


@pytest.mark.slow
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
            peer.connect(address(server))
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
        # They take nothing, and the system cuts them off; one whose workbook is on its way whole is idle.
        wait_until(lambda: connections_held(server) < 10, "the end of the readers", 60)
    more = more_mb(server, before)
    with capsys.disabled():
        print(
            f"\n50 slow readers of {len(alone.body) / 1e6:.1f} MB {form}: {answered} answered, {refused} refused, "
            f"at most {more:.1f} MB more, /healthz at most {max(took):.3f} s"
        )
    # Where readers held threads, others would wait until these are cut off, after 5 s.
    assert sorted(took)[len(took) * 9 // 10] < 1
    assert more < 150
    # And it works as before.
    assert server.get(path).status == 200
