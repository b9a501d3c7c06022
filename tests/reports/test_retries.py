"""What may pass by itself is tried again, later and later; what may not fails at once."""

import errno
import os
import sqlite3
from typing import Any

import pytest
from conftest import SMALL_CSV
from job_helpers import Clock, Queue, files, row
from retry_helpers import clock as clock
from retry_helpers import full_disk
from retry_helpers import queue as queue
from retry_helpers import runner as runner

from storemon_flask.database import polls
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, ReportFailed
from storemon_flask.model import SECOND_US
from storemon_flask.reports import queue as retries
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

WAITS_S = [1, 4, 16, 64, 256, 900, 900]


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def sqlite_error(database: Database, code: str) -> DatabaseError:
    return DatabaseError("the database cannot be used", sqlite=code)


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO", "EAGAIN", "EMFILE", "ENFILE"])
def test_what_the_system_says_of_a_full_disk_or_a_bad_one_passes(number: str) -> None:
    error = OSError(getattr(errno, number), "x")
    assert retries.is_temporary(error)
    assert retries.is_temporary(caused(ReportFailed("cannot be written"), error))


@pytest.mark.parametrize("number", ["EACCES", "EROFS", "ENOTDIR", "EISDIR", "EFBIG", "ENAMETOOLONG"])
def test_what_only_a_person_can_change_does_not_pass(number: str) -> None:
    assert not retries.is_temporary(caused(ReportFailed("cannot be written"), OSError(getattr(errno, number), "x")))


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
    assert retries.is_temporary(sqlite_error(database, code)) is passes


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
    assert retries.is_temporary(locked.value)
    assert not retries.is_temporary(wrong.value)
    assert not retries.is_temporary(ZeroDivisionError())


def test_waits_grow_fourfold_up_to_a_quarter_of_an_hour() -> None:
    assert [retries.retry_wait_us(tries) // SECOND_US for tries in range(1, retries.MOST_TRIES)] == WAITS_S
    assert retries.retry_wait_us(10_000) == 900 * SECOND_US


def test_a_report_is_put_off_and_tried_again_when_it_is_due_and_not_before(
    runner: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = runner.submit(ReportRequest())
    sentence = f"{settings.reports_dir / f'report_{report_id}.csv'} cannot be written: No space left on device"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    columns = ("state", "attempts", "last_error", "next_try_us", "error")
    assert row(settings, report_id, *columns) == ("pending", 1, sentence, clock.now_us + SECOND_US, None)
    assert files(settings) == []
    clock.turn(0.999)
    runner.scheduler.run_due()
    assert queue.jobs == []
    clock.turn(0.001)
    runner.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, *columns) == ("complete", 2, sentence, None, None)
    assert (settings.reports_dir / f"report_{report_id}.csv").read_text() == SMALL_CSV


def test_after_the_last_try_it_fails_with_the_sentence_and_how_often_it_was_tried(
    runner: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    report_id = runner.submit(ReportRequest())
    for tries, wait_s in enumerate(WAITS_S, 1):
        queue.run_all()
        assert row(settings, report_id, "state", "attempts") == ("pending", tries)
        clock.turn(wait_s - 0.000001)
        runner.scheduler.run_due()
        assert queue.jobs == []
        clock.turn(0.000001)
        runner.scheduler.run_due()
    queue.run_all()
    state, attempts, error = row(settings, report_id, "state", "attempts", "error")
    assert (state, attempts) == ("failed", 8)
    assert error.endswith("cannot be written: No space left on device (tried 8 times)")
    clock.turn(10_000)
    runner.scheduler.run_due()
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
    runner: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(polls, "read_in_batches", broken)
    report_id = runner.submit(ReportRequest())
    queue.run_all()
    assert row(settings, report_id, "state", "attempts", "error", "last_error") == ("failed", 1, "no", None)
