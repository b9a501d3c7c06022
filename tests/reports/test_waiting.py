"""Waiting for the end of a report (`Worker.wait_for`, `get_report?wait=`): woken at once, and never too
many.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, SMALL_CSV, Server, http, sql, wait_until
from flask import Flask
from flask.testing import FlaskClient
from worker_helpers import Queue, take_step

from storemon_flask import create_app
from storemon_flask.database import reports
from storemon_flask.reports import worker as worker_module
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

# As long as a request may wait. Who is woken is answered in a small part of that, also on a slow machine.
LONG_S = 60.0


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def app(settings: Settings, small_fleet: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """An app with eight threads, of which two may wait, whose reports a test runs; nobody looks without being told."""
    monkeypatch.setattr(worker_module, "_LOOK_EVERY_S", LONG_S)
    made = create_app(replace(settings, http_threads=8), queue)
    yield made
    made.extensions["storemon"].database.close()


@pytest.fixture
def runner(app: Flask) -> Worker:
    found: Worker = app.extensions["storemon"].worker
    return found


def trigger(client: FlaskClient, **body: Any) -> str:
    found: str = client.post("/trigger_report", json=body).json["report_id"]
    return found


def waiters(runner: Worker) -> int:
    return 2 - runner.slots._waits._value


class Waiting:
    """A request that waits in a thread of its own, once it does."""

    def __init__(self, app: Flask, runner: Worker, report_id: str, form: str = "csv", wait: str = "60") -> None:
        before = waiters(runner)
        self._pool = ThreadPoolExecutor(1)
        self._began = time.monotonic()
        path = f"/get_report?report_id={report_id}&format={form}&wait={wait}"
        self._future = self._pool.submit(lambda: app.test_client().get(path, buffered=True))
        wait_until(lambda: waiters(runner) > before, "a request that waits")
        time.sleep(0.05)
        assert not self._future.done()

    def answer(self) -> Any:
        found = self._future.result(LONG_S)
        self._pool.shutdown()
        assert time.monotonic() - self._began < LONG_S / 2
        return found


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_it_is_answered_as_soon_as_the_report_is_complete(
    app: Flask, client: FlaskClient, runner: Worker, queue: Queue, form: str
) -> None:
    report_id = trigger(client)
    waiting = Waiting(app, runner, report_id, form)
    queue.run_all()
    answer = waiting.answer()
    assert answer.status_code == 200
    assert form != "csv" or answer.text == SMALL_CSV
    assert form != "json" or answer.json["report_id"] == report_id
    assert form != "xlsx" or answer.data.startswith(b"PK")
    assert waiters(runner) == 0


def test_of_equal_reports_each_is_waited_for(app: Flask, client: FlaskClient, runner: Worker, queue: Queue) -> None:
    first, second = trigger(client), trigger(client)
    requests = [Waiting(app, runner, report_id) for report_id in (first, second)]
    queue.run_all()
    assert [request.answer().text for request in requests] == [SMALL_CSV, SMALL_CSV]


def test_it_is_woken_when_the_report_fails(
    app: Flask, client: FlaskClient, runner: Worker, queue: Queue, settings: Settings
) -> None:
    settings.reports_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.reports_dir.write_text("in the way")
    waiting = Waiting(app, runner, trigger(client))
    queue.run_all()
    answer = waiting.answer()
    assert (answer.status_code, answer.json["title"]) == (409, "Report failed")


def test_it_is_woken_when_the_report_is_deleted(app: Flask, client: FlaskClient, runner: Worker, queue: Queue) -> None:
    first, second = trigger(client), trigger(client)
    gone, kept = Waiting(app, runner, first), Waiting(app, runner, second)
    assert client.delete(f"/api/v1/reports/{first}").status_code == 204
    assert gone.answer().status_code == 410
    queue.run_all()
    assert kept.answer().text == SMALL_CSV


def test_a_try_that_failed_does_not_end_the_wait(
    app: Flask, client: FlaskClient, runner: Worker, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = trigger(client)
    waiting = Waiting(app, runner, report_id)
    with monkeypatch.context() as full:
        full.setattr(worker_module.compute, "write", no_space)
        queue.run_all()
    assert sql(runner.settings.database, "SELECT state, attempts FROM report") == [("pending", 1)]
    time.sleep(0.1)
    assert waiters(runner) == 1
    runner.run(report_id)
    assert waiting.answer().text == SMALL_CSV


def no_space(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def test_after_the_wait_it_is_the_state(client: FlaskClient, runner: Worker) -> None:
    began = time.monotonic()
    report_id = trigger(client)
    answer = client.get(f"/get_report?report_id={report_id}&wait=0.2")
    assert time.monotonic() - began >= 0.2
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert answer.json == {"report_id": report_id, "status": "Running", "progress": 0}
    assert waiters(runner) == 0


def test_no_more_than_a_quarter_of_the_threads_wait_and_the_next_is_answered_at_once(
    app: Flask, client: FlaskClient, runner: Worker, queue: Queue
) -> None:
    report_id = trigger(client)
    requests = [Waiting(app, runner, report_id) for _ in range(2)]
    began = time.monotonic()
    assert client.get(f"/get_report?report_id={report_id}&wait=60").status_code == 202
    assert time.monotonic() - began < LONG_S / 2
    queue.run_all()
    assert [request.answer().status_code for request in requests] == [200, 200]


def test_of_fewer_than_four_threads_none_waits(settings: Settings, small_fleet: Path, queue: Queue) -> None:
    app = create_app(replace(settings, http_threads=3), queue)
    client = app.test_client()
    began = time.monotonic()
    assert client.get(f"/get_report?report_id={trigger(client)}&wait=60").status_code == 202
    assert time.monotonic() - began < LONG_S / 2
    app.extensions["storemon"].database.close()


def test_when_the_server_stops_nobody_waits(app: Flask, client: FlaskClient, runner: Worker) -> None:
    report_id = trigger(client)
    waiting = Waiting(app, runner, report_id)
    runner.stop_waiting()
    assert waiting.answer().status_code == 202
    began = time.monotonic()
    assert client.get(f"/get_report?report_id={report_id}&wait=60").status_code == 202
    assert time.monotonic() - began < LONG_S / 2


def test_a_job_that_another_process_ends_is_seen_too(
    app: Flask, client: FlaskClient, runner: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_LOOK_EVERY_S", 0.05)
    report_id = trigger(client)
    waiting = Waiting(app, runner, report_id)
    take_step(runner.database, reports.start, report_id, 1)
    take_step(runner.database, reports.fail, report_id, 2, "by somebody else")
    assert waiting.answer().json["error"] == "by somebody else"


def test_nothing_is_kept_of_reports_that_nobody_waits_for() -> None:
    waiters = worker_module._Waiters()
    with waiters.waiting("a") as first, waiters.waiting("b") as second:
        waiters.wake("a")
        assert (first.is_set(), second.is_set()) == (True, False)
        waiters.wake("b")
        assert second.is_set()
    waiters.wake("a")
    assert waiters._events == {}
    waiters.stop()
    with waiters.waiting("c") as late:
        assert late.is_set()


@pytest.mark.parametrize(
    "wait", ["", "-1", "61", "60.1", "1e2", "1e999", "nan", "inf", "ten", " 1", "+1", "٣", "9" * 400, "1.2.3", "."]
)
def test_any_other_wait_is_a_400_that_says_what_it_may_be(client: FlaskClient, wait: str) -> None:
    answer = client.get("/get_report", query_string={"report_id": "0" * 32, "wait": wait})
    assert answer.status_code == 400
    assert answer.json["detail"] == f"wait is {wait[:100]!r}; it must be a number of seconds from 0 to 60"


# A server that makes the file "waiting" once a request has a slot to wait in and is about to look again.
TELLING = [
    sys.executable,
    "-c",
    """
import pathlib, runpy, sys
from storemon_flask.reports import worker
waiting = worker._Waiters.waiting
def telling(waiters, report_id):
    pathlib.Path("waiting").touch()
    return waiting(waiters, report_id)
worker._Waiters.waiting = telling
sys.argv = ["storemon", "serve", "--port", "0"]
runpy.run_module("storemon_flask", run_name="__main__")
""",
]


def wait_for_a_waiter(server: Server) -> None:
    wait_until((server.home / "waiting").exists, "a request that waits")


def log_of(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_a_stopping_server_does_not_wait_for_those_who_wait(serve: Callable[..., Server], small_fleet: Path) -> None:
    # A report that never ends: nobody computes it.
    server = serve(TELLING, STOREMON_LOG_FORMAT="json")
    report_id = server.trigger()
    server.wait_for(report_id)
    database = server.home / "instance" / "storemon.db"
    sql(database, "UPDATE report SET state = 'pending', finished_us = NULL")
    statuses: list[int] = []
    thread = threading.Thread(
        target=lambda: statuses.append(http(f"{server.url}/get_report?report_id={report_id}&wait=60").status)
    )
    thread.start()
    wait_for_a_waiter(server)
    assert server.end() == 0
    thread.join()
    assert statuses == [202]
    # Waitress waits 5 s for its threads, and ends then: this one had ended before.
    told = [one["message"] for one in log_of(server)]
    answered = max(place for place, line in enumerate(told) if line.startswith("GET /get_report 202 "))
    assert answered < told.index("stopping: the running report is finished or requeued")


def test_who_hangs_up_gives_the_thread_back(serve: Callable[..., Server], small_fleet: Path) -> None:
    server = serve(TELLING, STOREMON_HTTP_THREADS="4", STOREMON_LOG_FORMAT="json")
    report_id = server.trigger()
    server.wait_for(report_id)
    sql(server.home / "instance" / "storemon.db", "UPDATE report SET state = 'pending', finished_us = NULL")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
        peer.sendall(b"GET /get_report?report_id=%s&wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % report_id.encode())
        wait_for_a_waiter(server)
        # One of four threads may wait, and does.
        assert took(f"{server.url}/get_report?report_id={report_id}&wait=20") < 15
    wait_until(lambda: took(f"{server.url}/get_report?report_id={report_id}&wait=2") >= 2, "a place to wait at")

    def waited() -> list[float]:
        return [one["ms"] for one in log_of(server) if one.get("route") == "/get_report" and one["status"] == 202]

    assert 2000 <= max(waited()) < 40_000


def took(address: str) -> float:
    """How long it takes until that is answered with 202."""
    began = time.monotonic()
    assert http(address).status == 202
    return time.monotonic() - began


def test_pandas_takes_no_report_that_is_not_complete_for_a_table(
    serve: Callable[..., Server], small_fleet: Path
) -> None:
    import urllib.error

    import pandas as pd

    server = serve()
    address = f"{server.url}/get_report?report_id={server.trigger()}"
    table = pd.read_csv(address + "&wait=30")
    assert table.shape == (4, 7)
    database = server.home / "instance" / "storemon.db"
    for error in (None, "the disk is full, or so"):
        sql(database, "UPDATE report SET state = 'pending', finished_us = NULL, last_error = ?", error)
        for engine in ("c", "python"):
            with pytest.raises(pd.errors.ParserError):
                pd.read_csv(address, engine=engine)
    sql(database, "UPDATE report SET state = 'failed', error = 'the disk is full'")
    with pytest.raises(urllib.error.HTTPError, match="409"):
        pd.read_csv(address)
