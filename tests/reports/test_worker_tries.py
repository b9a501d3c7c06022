"""The queue: equal reports on the same data are computed once, what may pass is tried again, and how many may wait."""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_CSV, load_folder, sql
from flask import Flask
from flask.testing import FlaskClient
from worker_helpers import Clock, Queue, files, full_disk, row, take_step
from worker_helpers import clock as clock
from worker_helpers import queue as queue
from worker_helpers import queued_worker as queued_worker

from storemon_flask import create_app
from storemon_flask.database import polls, reports
from storemon_flask.database.connections import Connection, Database
from storemon_flask.errors import DatabaseError, QueueFull, ReportFailed
from storemon_flask.model import HOUR_US, SECOND_US
from storemon_flask.reports import compute, stored
from storemon_flask.reports import worker as worker_module
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import DIED, Worker
from storemon_flask.settings import Settings


@pytest.fixture
def client(small_fleet: Path, settings: Settings, queue: Queue) -> Any:
    app = create_app(settings, queue)
    yield app.test_client()
    app.extensions["storemon"].database.close()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each report that is computed."""
    found: list[int] = []
    real = compute.compute

    def watched(*arguments: Any) -> Any:
        found.append(1)
        return real(*arguments)

    monkeypatch.setattr(compute, "compute", watched)
    return found


def trigger(client: FlaskClient, **body: Any) -> str:
    found: str = client.post("/trigger_report", json=body).json["report_id"]
    return found


def test_equal_reports_are_computed_once_into_one_file_and_answered_each_by_its_own_id(
    client: FlaskClient, queue: Queue, settings: Settings, computed: list[int]
) -> None:
    ids = [trigger(client) for _ in range(3)]
    assert len(set(ids)) == 3
    queue.run_all()
    assert computed == [1]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids)
    assert len({(settings.reports_dir / name).stat().st_ino for name in files(settings)}) == 1
    tags = set()
    for report_id in ids:
        answer = client.get(f"/get_report?report_id={report_id}", buffered=True)
        assert answer.text == SMALL_CSV
        assert answer.headers["X-Report-Status"] == "Complete"
        assert answer.headers["X-Report-As-Of"] == "2024-10-14T12:00:00.000000Z"
        assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.csv"
        tags.add(answer.headers["ETag"])
        assert client.get(f"/get_report?report_id={report_id}&format=json").json["report_id"] == report_id
        book = client.get(f"/get_report?report_id={report_id}&format=xlsx", buffered=True)
        assert book.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.xlsx"
        one = client.get(f"/api/v1/reports/{report_id}").json
        assert (one["report_id"], one["status"], one["attempts"], one["rows"]) == (report_id, "Complete", 1, 4)
    assert len(tags) == 1
    assert [one["report_id"] for one in client.get("/api/v1/reports").json["reports"]] == ids[::-1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"as_of": "2024-10-14T12:00:00Z"}),
        ({"stores": ["worked", "silent"]}, {"stores": ["silent", "worked", "silent"]}),
        ({"method": "nearest", "totals": False}, {}),
        ({"by": "day"}, {"by": "day", "windows": ["last_week"]}),
    ],
)
def test_what_is_asked_in_other_words_is_equal(
    client: FlaskClient, queue: Queue, computed: list[int], first: dict[str, Any], second: dict[str, Any]
) -> None:
    ids = [trigger(client, **first), trigger(client, **second)]
    queue.run_all()
    assert computed == [1]
    texts = {client.get(f"/get_report?report_id={report_id}", buffered=True).text for report_id in ids}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"as_of": "2024-10-14T12:00:00.000001Z"},
        {"columns": "full"},
        {"stores": ["worked"]},
        {"method": "previous"},
        {"by": "day"},
        {"kind": "outages"},
        {"totals": True},
    ],
)
def test_what_differs_in_anything_is_computed_for_itself(
    client: FlaskClient, queue: Queue, computed: list[int], other: dict[str, Any]
) -> None:
    trigger(client)
    trigger(client, **other)
    queue.run_all()
    assert computed == [1, 1]


@pytest.mark.parametrize("changed", [{"default_timezone": "UTC"}, {"reach_us": HOUR_US}, {"max_gap_us": HOUR_US}])
def test_by_other_rules_it_is_computed_for_itself(
    queued_worker: Worker,
    queue: Queue,
    settings: Settings,
    database: Database,
    computed: list[int],
    changed: dict[str, Any],
) -> None:
    queued_worker.submit(ReportRequest())
    Worker(database, replace(settings, **changed), queue).submit(ReportRequest())
    queue.run_all()
    assert computed == [1, 1]


def test_on_data_that_changed_it_is_computed_again_and_each_has_its_numbers(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database, small_fleet: Path, computed: list[int]
) -> None:
    asked = ReportRequest(1_728_907_200_000_000)
    before = queued_worker.submit(asked)
    queue.run_all()
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:30:00 UTC,active\n")
    load_folder(database, small_fleet)
    after, third = queued_worker.submit(asked), queued_worker.submit(asked)
    queue.run_all()
    assert computed == [1, 1]
    texts = [queued_worker.path(report_id).read_text() for report_id in (before, after, third)]
    assert texts[0] != texts[1] == texts[2]


def test_the_data_are_those_of_the_moment_it_is_started_in(
    queued_worker: Worker, queue: Queue, database: Database, small_fleet: Path, computed: list[int]
) -> None:
    asked = ReportRequest(1_728_907_200_000_000)
    ids = [queued_worker.submit(asked)]
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:30:00 UTC,active\n")
    load_folder(database, small_fleet)
    ids.append(queued_worker.submit(asked))
    queue.run_all()
    # Asked for before and after the load, and computed after it.
    assert computed == [1]
    assert len({queued_worker.path(report_id).read_text() for report_id in ids}) == 1


def test_a_finished_report_gives_its_file_to_an_equal_one(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database, computed: list[int]
) -> None:
    first = queued_worker.submit(ReportRequest())
    queue.run_all()
    second = queued_worker.submit(ReportRequest())
    assert row(settings, second, "state") == ("pending",)
    queue.run_all()
    assert computed == [1]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in (first, second))
    one, other = (stored.get(database, report_id) for report_id in (first, second))
    assert (one.sha256, one.row_count, one.altered, one.method) == (
        other.sha256, other.row_count, other.altered, other.method
    )  # fmt: skip
    queued_worker.delete(first)
    assert queued_worker.path(second).read_text() == SMALL_CSV


def test_one_whose_file_is_gone_gives_none(
    queued_worker: Worker, queue: Queue, settings: Settings, computed: list[int]
) -> None:
    first = queued_worker.submit(ReportRequest())
    queue.run_all()
    queued_worker.path(first).unlink()
    second = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert computed == [1, 1]
    assert queued_worker.path(second).read_text() == SMALL_CSV


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_where_a_file_cannot_have_another_name_it_is_copied(
    queued_worker: Worker,
    queue: Queue,
    settings: Settings,
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr(os, "link", refuse)
    ids = [queued_worker.submit(ReportRequest()) for _ in range(3)]
    queue.run_all()
    assert computed == [1]
    assert {queued_worker.path(report_id).read_text() for report_id in ids} == {SMALL_CSV}
    assert len({queued_worker.path(report_id).stat().st_ino for report_id in ids}) == 3
    assert len(files(settings)) == 3


def test_of_equal_reports_only_that_fails_under_which_the_server_died(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database, computed: list[int]
) -> None:
    ids = [queued_worker.submit(ReportRequest()) for _ in range(3)]
    take_step(database, reports.start, ids[0], 1)
    queue.calls.clear()
    again = Worker(database, settings, queue)
    assert again.recover() == 3
    take_step(database, reports.start, ids[0], 1)
    queue.calls.clear()
    assert again.recover() == 2
    queue.run_all()
    assert row(settings, ids[0], "state", "died") == ("failed", 2)
    assert [row(settings, report_id, "state", "attempts", "died") for report_id in ids[1:]] == [("complete", 1, 0)] * 2
    assert computed == [1]


def test_one_that_is_asked_for_while_an_equal_one_waits_for_its_next_try_is_computed_at_once(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    first = queued_worker.submit(ReportRequest())
    take_step(database, reports.start, first, 1)
    take_step(database, reports.retry_later, first, "the disk is full", 1 << 60)
    queue.calls.clear()
    second = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert row(settings, second, "state", "last_error") == ("complete", None)
    assert row(settings, first, "state", "attempts", "last_error") == ("pending", 1, "the disk is full")


def test_the_queue_is_bounded_and_an_equal_report_takes_no_place(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    small = Worker(database, replace(settings, max_pending_reports=2), queue)
    small.submit(ReportRequest())
    small.submit(ReportRequest(columns="full"))
    with pytest.raises(QueueFull, match=r"2 report\(s\) are waiting, as many as may"):
        small.submit(ReportRequest(stores=["worked"]))
    for _ in range(3):
        small.submit(ReportRequest())
    assert sql(settings.database, "SELECT count(*) FROM report") == [(5,)]
    queue.run_all()
    assert row(settings, small.submit(ReportRequest(stores=["worked"])), "state") == ("pending",)


def test_a_full_queue_is_a_503_that_says_when_to_come_back(settings: Settings, small_fleet: Path, queue: Queue) -> None:
    app: Flask = create_app(replace(settings, max_pending_reports=1), queue)
    client = app.test_client()
    trigger(client)
    answer = client.post("/trigger_report", json={"columns": "full"})
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "10"
    assert answer.get_json(force=True)["type"] == "urn:storemon:problem:queue-full"
    app.extensions["storemon"].database.close()


def test_many_equal_triggers_at_once_all_get_the_same_bytes(
    small_fleet: Path, settings: Settings, database: Database
) -> None:
    queued_worker = Worker(database, settings, ThreadPoolExecutor(2))
    start = threading.Barrier(16)

    def ask(_: int) -> list[str]:
        start.wait()
        return [queued_worker.submit(ReportRequest()) for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        ids = [report_id for found in pool.map(ask, range(16)) for report_id in found]
    queued_worker.stop(30)
    # What was queued when it stopped waits for the next server.
    again = Worker(database, settings, ThreadPoolExecutor(1))
    again.recover()
    again._executor.shutdown(wait=True)
    assert len(set(ids)) == 320
    assert sql(settings.database, "SELECT count(*) FROM report WHERE state = 'complete'") == [(320,)]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids)
    read: Callable[[str], str] = lambda name: (settings.reports_dir / name).read_text()  # noqa: E731
    assert {read(name) for name in files(settings)} == {SMALL_CSV}


WAITS_S = [1, 4, 16, 64, 256, 900, 900]


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def sqlite_error(database: Database, code: str) -> DatabaseError:
    return DatabaseError("the database cannot be used", sqlite=code)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO", "EAGAIN", "EMFILE", "ENFILE"])
def test_what_the_system_says_of_a_full_disk_or_a_bad_one_passes(number: str) -> None:
    error = OSError(getattr(errno, number), "x")
    assert worker_module.is_temporary(error)
    assert worker_module.is_temporary(caused(ReportFailed("cannot be written"), error))


@pytest.mark.parametrize("number", ["EACCES", "EROFS", "ENOTDIR", "EISDIR", "EFBIG", "ENAMETOOLONG"])
def test_what_only_a_person_can_change_does_not_pass(number: str) -> None:
    assert not worker_module.is_temporary(
        caused(ReportFailed("cannot be written"), OSError(getattr(errno, number), "x"))
    )


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("SQLITE_BUSY", True),
        ("SQLITE_BUSY_SNAPSHOT", True),
        ("SQLITE_FULL", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_CORRUPT", False),
        ("SQLITE_NOTADB", False),
        ("SQLITE_READONLY_DBMOVED", False),
    ],
)
def test_what_sqlite_says_decides(database: Database, code: str, passes: bool) -> None:
    assert worker_module.is_temporary(sqlite_error(database, code)) is passes


def test_a_real_lock_passes_and_a_wrong_statement_does_not(settings: Settings, database: Database) -> None:
    database.prepare()
    with sqlite3.connect(settings.database) as first, sqlite3.connect(settings.database, timeout=0) as second:
        first.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            second.execute("BEGIN IMMEDIATE")
        first.rollback()
        with pytest.raises(sqlite3.OperationalError) as wrong:
            second.execute("no such statement")
    first.close()
    second.close()
    assert worker_module.is_temporary(locked.value)
    assert not worker_module.is_temporary(wrong.value)
    assert not worker_module.is_temporary(ZeroDivisionError())


def test_waits_grow_fourfold_up_to_a_quarter_of_an_hour() -> None:
    assert [worker_module.retry_wait_us(tries) // SECOND_US for tries in range(1, worker_module.MOST_TRIES)] == WAITS_S
    assert worker_module.retry_wait_us(10_000) == 900 * SECOND_US


def test_a_report_is_put_off_and_tried_again_when_it_is_due_and_not_before(
    queued_worker: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    sentence = f"{settings.reports_dir / f'report_{report_id}.csv'} cannot be written: No space left on device"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    columns = ("state", "attempts", "last_error", "next_try_us", "error")
    assert row(settings, report_id, *columns) == ("pending", 1, sentence, clock.now_us + SECOND_US, None)
    assert files(settings) == []
    clock.turn(0.999)
    queued_worker.scheduler.run_due()
    assert queue.calls == []
    clock.turn(0.001)
    queued_worker.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, *columns) == ("complete", 2, sentence, None, None)
    assert (settings.reports_dir / f"report_{report_id}.csv").read_text() == SMALL_CSV


def test_after_the_last_try_it_fails_with_the_sentence_and_how_often_it_was_tried(
    queued_worker: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    report_id = queued_worker.submit(ReportRequest())
    for tries, wait_s in enumerate(WAITS_S, 1):
        queue.run_all()
        assert row(settings, report_id, "state", "attempts") == ("pending", tries)
        clock.turn(wait_s - 0.000001)
        queued_worker.scheduler.run_due()
        assert queue.calls == []
        clock.turn(0.000001)
        queued_worker.scheduler.run_due()
    queue.run_all()
    state, attempts, error = row(settings, report_id, "state", "attempts", "error")
    assert (state, attempts) == ("failed", 8)
    assert error.endswith("cannot be written: No space left on device (tried 8 times)")
    clock.turn(10_000)
    queued_worker.scheduler.run_due()
    assert queue.calls == []


@pytest.mark.parametrize(
    "error",
    [
        ReportFailed("no"),
        caused(ReportFailed("no"), PermissionError(errno.EACCES, "x")),
        DatabaseError("no", sqlite="SQLITE_CORRUPT"),
    ],
)
def test_what_does_not_pass_fails_at_the_first_try(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(polls, "read_in_batches", broken)
    report_id = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert row(settings, report_id, "state", "attempts", "error", "last_error") == ("failed", 1, "no", None)


def test_the_next_try_survives_a_restart(
    queued_worker: Worker,
    queue: Queue,
    clock: Clock,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    again = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    assert again.recover() == 1
    assert queue.calls == []
    clock.turn(1)
    again.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 2)
    # Tries that failed are no deaths of the server.
    assert row(settings, report_id, "died") == (0,)


def test_a_report_tried_often_is_not_taken_for_one_that_kills_the_server(
    queued_worker: Worker, queue: Queue, clock: Clock, settings: Settings, database: Database
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    for _ in range(3):
        take_step(database, reports.start, report_id, 1)
        take_step(database, reports.retry_later, report_id, "the disk is full", 1)
    take_step(database, reports.start, report_id, 1)
    assert queued_worker.recover() == 1
    assert row(settings, report_id, "state", "attempts", "died") == ("pending", 4, 1)
    take_step(database, reports.start, report_id, 1)
    assert queued_worker.recover() == 0
    assert row(settings, report_id, "state", "error") == ("failed", DIED)


@pytest.mark.parametrize("step_s", [-86_400, 86_400])
def test_a_clock_that_is_set_makes_nothing_due_and_holds_up_nothing(
    small_fleet: Path,
    queue: Queue,
    clock: Clock,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    step_s: int,
) -> None:
    steady = Clock(5)
    queued_worker = Worker(database, settings, queue, Scheduler(steady, threaded=False), clock)
    report_id = queued_worker.submit(ReportRequest())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    clock.turn(step_s)
    queued_worker.scheduler.run_due()
    assert queue.calls == []
    steady.turn(1)
    queued_worker.scheduler.run_due()
    assert [call[1] for call in queue.calls] == [report_id]
    # After a restart nobody knows that it was set back: at most the longest wait.
    queue.calls.clear()
    again = Worker(database, settings, queue, Scheduler(steady, threaded=False), clock)
    again.recover()
    steady.turn(900)
    again.scheduler.run_due()
    assert [call[1] for call in queue.calls] == [report_id]


def test_a_report_that_cannot_even_be_claimed_is_reached_for_again(
    queued_worker: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = queued_worker.submit(ReportRequest())

    def refuse(*arguments: Any) -> Any:
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    with monkeypatch.context() as full:
        full.setattr(reports, "start", refuse)
        queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("pending", 0)
    clock.turn(10)
    queued_worker.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_that_the_progress_cannot_be_told_does_not_fail_a_report(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def refuse(connection: Connection, report_id: str, part: float) -> bool:
        asked.append(part)
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    monkeypatch.setattr(worker_module, "_PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr(reports, "advance", refuse)
    report_id = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert asked != []
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_an_outcome_whose_commit_was_not_seen_is_told_again_and_keeps_the_file(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete: Callable[..., int] = reports.complete
    told: list[int] = []

    def half(*arguments: Any) -> int:
        told.append(complete(*arguments))
        if len(told) == 1:
            raise DatabaseError("the disk reports an error", sqlite="SQLITE_IOERR")
        return told[-1]

    monkeypatch.setattr(reports, "complete", half)
    report_id = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert told == [1, 1]
    assert row(settings, report_id, "state") == ("complete",)
    assert files(settings) == [f"report_{report_id}.csv"]


def test_what_is_shown_of_a_report_that_waits_for_its_next_try(
    app: Flask, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        report_id = client.post("/trigger_report").json["report_id"]
    found = client.get(f"/get_report?report_id={report_id}")
    assert found.headers["Retry-After"] == "1"
    assert (found.json["status"], found.json["attempts"]) == ("Running", 1)
    assert found.json["last_error"].endswith("cannot be written: No space left on device")
    one = client.get(f"/api/v1/reports/{report_id}").json
    (listed,) = client.get("/api/v1/reports").json["reports"]
    assert one == listed
    assert {name: one[name] for name in ("attempts", "last_error", "next_try")} == {
        name: found.json[name] for name in ("attempts", "last_error", "next_try")
    }
    assert one["next_try"] > one["started"]
