"""A system without memory or threads for something: a sentence, nothing half done, and the next request finds all as
before.
"""

import io
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SMALL_CSV, sql
from flask import Flask
from flask.testing import FlaskClient
from worker_helpers import Clock, Queue, row
from worker_helpers import clock as clock
from worker_helpers import queue as queue

from storemon_flask import cli, errors
from storemon_flask.cli.command import CommandLine
from storemon_flask.database import polls, readings
from storemon_flask.database.connections import Connections, Database
from storemon_flask.errors import OutOfMemory
from storemon_flask.reports import stored
from storemon_flask.reports import worker as worker_module
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings
from storemon_flask.stores import detail, live_list

Patch = Callable[[Any, str], None]
PAGE = {"Accept": "text/html"}
POLL = b"store_id,timestamp_utc,status\nnew,2024-10-14 11:00:00 UTC,active\n"


def too_large(*arguments: Any, **named: Any) -> Any:
    return np.ones(1 << 50)


def no_thread(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("can't start new thread")


def no_memory(*arguments: Any, **named: Any) -> Any:
    raise MemoryError


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Lets a function fail for want of memory the first time it is called."""

    def patch(owner: Any, name: str) -> None:
        whole, calls = getattr(owner, name), []

        def first_fails(*arguments: Any, **named: Any) -> Any:
            calls.append(1)
            return no_memory() if len(calls) == 1 else whole(*arguments, **named)

        monkeypatch.setattr(owner, name, first_fails)

    return patch


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not enough memory for this; try again later"),
        (OSError(12, "Cannot allocate memory"), "there is not enough memory for this; try"),
        (RuntimeError("can't start new thread"), "there are not enough threads for this; try"),
        (ImportError("x.so: failed to map segment from shared object"), "there is not enough memory for this; try"),
    ],
)
def test_whoever_says_that_there_is_no_memory_is_understood(error: Exception, words: str) -> None:
    found = errors.out_of_memory(error)
    assert found is not None
    assert found.message.startswith(words)
    assert (found.status, found.retry_after_s) == (503, 10)
    wrapped = ValueError("x")
    wrapped.__cause__ = error
    assert errors.out_of_memory(wrapped) is not None


@pytest.mark.parametrize("error", [OSError(28, "x"), RuntimeError("x"), ImportError("no module"), ValueError("memory")])
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert errors.out_of_memory(error) is None


def test_the_sentence_says_how_much_was_asked_for() -> None:
    with pytest.raises(OutOfMemory) as raised, errors.lack_of_memory("a report", "ask for less"):
        too_large()
    assert raised.value.message == (
        "there is not enough memory for a report (8,589,934,592.0 MiB more were asked for); ask for less"
    )


def test_sqlite_without_memory_is_no_damaged_disk(database: Database, small_fleet: Path) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_NOMEM"
    with pytest.raises(OutOfMemory, match="not enough memory"), database.read():
        raise error


@pytest.mark.parametrize(
    ("path", "owner", "name"),
    [
        ("/", live_list, "compute_snapshot"),
        ("/api/v1/stores", live_list, "compute_snapshot"),
        ("/stores/worked", detail, "_timeline"),
        ("/api/v1/stores/worked/timeline", detail, "_timeline"),
        ("/api/v1/stores/worked", live_list, "store_columns"),
        ("/reports", stored, "newest"),
    ],
)
def test_a_request_without_memory_is_asked_to_come_again_and_the_next_one_is_answered(
    client: FlaskClient, small_fleet: Path, once: Patch, path: str, owner: Any, name: str
) -> None:
    once(owner, name)
    page = not path.startswith("/api")
    answer = client.get(path, headers=PAGE if page else {})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "not enough memory for" in answer.text
    assert answer.mimetype == ("text/html" if page else "application/problem+json")
    if not page:
        assert answer.json["type"] == "urn:storemon:problem:out-of-memory"
    assert client.get(path, headers=PAGE if page else {}).status_code == 200


def test_a_report_that_had_no_memory_is_tried_again(
    small_fleet: Path, database: Database, settings: Settings, queue: Queue, clock: Clock, once: Patch
) -> None:
    once(readings, "read_batches")
    runner = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    report_id = runner.submit(ReportRequest())
    queue.run_all()
    state, why = row(settings, report_id, "state", "last_error")
    assert state == "pending"
    assert why.startswith("there is not enough memory for this report")
    clock.turn(2)
    runner.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state") == ("complete",)
    assert runner.path(report_id).read_text() == SMALL_CSV


def test_a_report_that_never_has_memory_fails_with_how_much_it_asked_for(
    small_fleet: Path,
    database: Database,
    settings: Settings,
    queue: Queue,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "read_batches", too_large)
    runner = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    report_id = runner.submit(ReportRequest())
    for _ in range(worker_module.MOST_TRIES):
        queue.run_all()
        clock.turn(1000)
        runner.scheduler.run_due()
    assert row(settings, report_id, "state", "error") == (
        "failed",
        "there is not enough memory for this report (8,589,934,592.0 "
        "MiB more were asked for); ask for fewer stores, days or "
        "columns, or give the server more memory (tried 8 times)",
    )


def test_a_report_that_gets_no_thread_is_begun_later(
    small_fleet: Path, database: Database, settings: Settings, queue: Queue, clock: Clock, once: Patch
) -> None:
    runner = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    once(queue, "submit")
    report_id = runner.submit(ReportRequest())
    assert queue.calls == []
    clock.turn(10)
    runner.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state") == ("complete",)


@pytest.mark.parametrize("way", ["push", "multipart", "page"])
def test_a_load_without_memory_stores_nothing_and_can_be_sent_again(
    client: FlaskClient, small_fleet: Path, settings: Settings, once: Patch, way: str
) -> None:
    once(polls, "_write")
    before = sql(settings.database, "SELECT count(*), max(number) FROM store_record")

    def send() -> Any:
        if way == "push":
            return client.post("/api/v1/feeds/polls", data=POLL, content_type="text/csv")
        address, headers = ("/api/v1/feeds", {}) if way == "multipart" else ("/data", PAGE)
        files = {"file": (io.BytesIO(POLL), "polls.csv")}
        return client.post(address, data=files, content_type="multipart/form-data", headers=headers)

    answer = send()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "not enough memory for loading" in answer.text
    assert "is not stored; load it again later" in answer.text
    assert sql(settings.database, "SELECT count(*), max(number) FROM store_record") == before
    assert sql(settings.database, "SELECT count(*) FROM load") == [(1,)]
    assert send().status_code in (200, 303)
    assert sql(settings.database, "SELECT count(*) FROM load") == [(2,)]


def test_load_data_without_memory_says_so(
    settings: Settings, small_fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "_write", no_memory)
    file = tmp_path / "more.csv"
    file.write_bytes(POLL)
    done = CliRunner().invoke(cli.COMMANDS[0], [str(file)], obj=CommandLine(settings, lambda known: Flask("x")))
    assert done.exit_code == 1
    assert "Error: there is not enough memory for loading " in done.output
    assert "Traceback" not in done.output
    assert sql(settings.database, "SELECT count(*) FROM load") == [(1,)]


def test_every_command_says_it_in_a_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommandLine, "settings", property(no_memory))
    arguments = {
        "diff": ["a", "b"],
        "store": ["x"],
        "backup": ["x"],
        "restore": ["x"],
        "prune": ["--before", "2024-01-01"],
        "export": ["x"],
        "import": ["uptime-kuma", __file__],
        "listen": ["mqtt://broker/polls"],
    }
    for command in cli.COMMANDS:
        name = command.name or ""
        is_group = isinstance(command, click.Group) and not command.invoke_without_command
        words = arguments.get(name, ["list"] if is_group else [])
        done = CliRunner().invoke(command, words, obj=CommandLine(settings, lambda known: Flask("x")))
        assert (name, done.exit_code) == (name, 1), done.output
        assert "Error: there is not enough memory for `storemon " in done.output, name


def test_a_thread_for_a_snapshot_that_cannot_be_started_is_started_for_the_next_request(
    client: FlaskClient, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        answer = client.get("/api/v1/stores")
        assert (answer.status_code, answer.json["detail"].split(" for ")[0]) == (503, "there are not enough threads")
    assert client.get("/api/v1/stores").json["total"] == 4


def test_what_is_committed_is_no_failure_when_the_log_cannot_be_moved(database: Database, small_fleet: Path) -> None:
    with database.write(checkpoint_in=SimpleNamespace(submit=no_thread)) as connection:  # type: ignore[arg-type]
        connection.execute("UPDATE store_record SET name = 'kept' WHERE store_id = 'worked'")
    assert sql(database.path, "SELECT name FROM store_record WHERE store_id = 'worked'") == [("kept",)]


def test_a_connection_whose_rollback_failed_is_not_used_again(tmp_path: Path) -> None:
    connections, opened = Connections(lambda: (1, 1)), []

    def open_one() -> sqlite3.Connection:
        opened.append(sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False))
        return opened[-1]

    with connections.used("reader", open_one) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with connections.used("reader", open_one) as inner:
            assert inner is connection
    with connections.used("reader", open_one) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    with connections.used("reader", open_one) as connection:
        assert not connection.in_transaction
    connections.close()
    assert len(opened) == 2
