"""What may pass by itself is tried again, later and later; what may not fails at once."""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_CSV
from flask import Flask
from job_helpers import Clock, Queue, files, row

from storemon_flask.errors import DatabaseError, ReportFailed
from storemon_flask.jobs import retries
from storemon_flask.jobs.agenda import Agenda
from storemon_flask.jobs.runner import DIED, Runner
from storemon_flask.model import SECOND_US
from storemon_flask.services import report as report_service
from storemon_flask.services import report_store
from storemon_flask.services.report import Asked
from storemon_flask.settings import Settings
from storemon_flask.storage import polls
from storemon_flask.storage.db import Database

WAITS_S = [1, 4, 16, 64, 256, 900, 900]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, queue: Queue, clock: Clock) -> Runner:
    return Runner(database, settings, queue, clock=clock)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def full_disk(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sqlite_error(database: Database, code: str) -> DatabaseError:
    return DatabaseError("the database cannot be used", sqlite=code)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO", "EAGAIN", "EMFILE", "ENFILE"])
def test_what_the_system_says_of_a_full_disk_or_a_bad_one_passes(number: str) -> None:
    error = OSError(getattr(errno, number), "x")
    assert retries.passes(error)
    assert retries.passes(caused(ReportFailed("cannot be written"), error))


@pytest.mark.parametrize("number", ["EACCES", "EROFS", "ENOTDIR", "EISDIR", "EFBIG", "ENAMETOOLONG"])
def test_what_only_a_person_can_change_does_not_pass(number: str) -> None:
    assert not retries.passes(caused(ReportFailed("cannot be written"), OSError(getattr(errno, number), "x")))


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
    assert retries.passes(sqlite_error(database, code)) is passes


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
    assert retries.passes(locked.value)
    assert not retries.passes(wrong.value)
    assert not retries.passes(ZeroDivisionError())


def test_waits_grow_fourfold_up_to_a_quarter_of_an_hour() -> None:
    assert [retries.wait_us(tries) // SECOND_US for tries in range(1, retries.MOST_TRIES)] == WAITS_S
    assert retries.wait_us(10_000) == 900 * SECOND_US


def test_a_report_is_put_off_and_tried_again_when_it_is_due_and_not_before(
    runner: Runner, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = runner.submit(Asked())
    sentence = f"{settings.reports_dir / f'report_{report_id}.csv'} cannot be written: No space left on device"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    columns = ("state", "attempts", "last_error", "next_try_us", "error")
    assert row(settings, report_id, *columns) == ("pending", 1, sentence, clock.now_us + SECOND_US, None)
    assert files(settings) == []
    clock.turn(0.999)
    runner.tick()
    assert queue.jobs == []
    clock.turn(0.001)
    runner.tick()
    queue.run_all()
    assert row(settings, report_id, *columns) == ("complete", 2, sentence, None, None)
    assert (settings.reports_dir / f"report_{report_id}.csv").read_text() == SMALL_CSV


def test_after_the_last_try_it_fails_with_the_sentence_and_how_often_it_was_tried(
    runner: Runner, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    report_id = runner.submit(Asked())
    for tries, wait_s in enumerate(WAITS_S, 1):
        queue.run_all()
        assert row(settings, report_id, "state", "attempts") == ("pending", tries)
        clock.turn(wait_s - 0.000001)
        runner.tick()
        assert queue.jobs == []
        clock.turn(0.000001)
        runner.tick()
    queue.run_all()
    state, attempts, error = row(settings, report_id, "state", "attempts", "error")
    assert (state, attempts) == ("failed", 8)
    assert error.endswith("cannot be written: No space left on device (tried 8 times)")
    clock.turn(10_000)
    runner.tick()
    assert queue.jobs == []


@pytest.mark.parametrize(
    "error",
    [
        ReportFailed("no"),
        caused(ReportFailed("no"), PermissionError(errno.EACCES, "x")),
        DatabaseError("no", sqlite="SQLITE_CORRUPT"),
    ],
)
def test_what_does_not_pass_fails_at_the_first_try(
    runner: Runner, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(polls, "read_in_pieces", broken)
    report_id = runner.submit(Asked())
    queue.run_all()
    assert row(settings, report_id, "state", "attempts", "error", "last_error") == ("failed", 1, "no", None)


def test_the_next_try_survives_a_restart(
    runner: Runner,
    queue: Queue,
    clock: Clock,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_id = runner.submit(Asked())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    again = Runner(database, settings, queue, clock=clock)
    assert again.recover() == 1
    assert queue.jobs == []
    clock.turn(1)
    again.tick()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 2)
    # Tries that failed are no deaths of the server.
    assert row(settings, report_id, "died") == (0,)


def test_a_report_tried_often_is_not_taken_for_one_that_kills_the_server(
    runner: Runner, queue: Queue, clock: Clock, settings: Settings, database: Database
) -> None:
    report_id = runner.submit(Asked())
    for _ in range(3):
        report_store.claim(database, report_id, 1)
        report_store.put_off(database, report_id, "the disk is full", 1)
    report_store.claim(database, report_id, 1)
    assert runner.recover() == 1
    assert row(settings, report_id, "state", "attempts", "died") == ("pending", 4, 1)
    report_store.claim(database, report_id, 1)
    assert runner.recover() == 0
    assert row(settings, report_id, "state", "error") == ("failed", DIED)


def test_a_clock_that_is_set_back_holds_up_nothing(
    runner: Runner,
    queue: Queue,
    clock: Clock,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_id = runner.submit(Asked())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    clock.turn(-86_400)
    runner.tick()
    assert [job[1] for job in queue.jobs] == [report_id]
    # After a restart nobody knows that it was set back: at most the longest wait.
    queue.jobs.clear()
    again = Runner(database, settings, queue, clock=clock)
    again.recover()
    clock.turn(900)
    again.tick()
    assert [job[1] for job in queue.jobs] == [report_id]


def test_a_report_that_cannot_even_be_claimed_is_reached_for_again(
    runner: Runner, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = runner.submit(Asked())

    def refuse(*arguments: Any) -> Any:
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    with monkeypatch.context() as full:
        full.setattr(report_store, "claim", refuse)
        queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("pending", 0)
    clock.turn(10)
    runner.tick()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_that_the_progress_cannot_be_told_does_not_fail_a_report(
    runner: Runner, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storemon_flask.jobs import runner as runner_

    asked: list[float] = []

    def refuse(database: Database, job: str, part: float) -> bool:
        asked.append(part)
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    monkeypatch.setattr(runner_, "_PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr(report_store, "advance", refuse)
    report_id = runner.submit(Asked())
    queue.run_all()
    assert asked != []
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_an_outcome_whose_commit_was_not_seen_is_told_again_and_keeps_the_file(
    runner: Runner, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete: Callable[..., int] = report_store.complete
    told: list[int] = []

    def half(*arguments: Any) -> int:
        told.append(complete(*arguments))
        if len(told) == 1:
            raise DatabaseError("the disk reports an error", sqlite="SQLITE_IOERR")
        return told[-1]

    monkeypatch.setattr(report_store, "complete", half)
    report_id = runner.submit(Asked())
    queue.run_all()
    assert told == [1, 1]
    assert row(settings, report_id, "state") == ("complete",)
    assert files(settings) == [f"report_{report_id}.csv"]


def test_what_is_shown_of_a_report_that_waits_for_its_next_try(
    app: Flask, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    with monkeypatch.context() as full:
        full.setattr(report_service.os, "fsync", full_disk)
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


def test_an_agenda_is_in_order_and_each_name_has_one_time() -> None:
    agenda = Agenda()
    assert (agenda.due(0), agenda.wait_us(0)) == ([], None)
    agenda.add("b", 0, 30)
    agenda.add("a", 0, 20)
    agenda.add("b", 0, 10)
    assert agenda.wait_us(4) == 6
    assert agenda.due(9) == []
    assert agenda.due(20) == ["b", "a"]
    assert (agenda.due(99), agenda.wait_us(99)) == ([], None)
