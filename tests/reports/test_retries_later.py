"""Tries over restarts, clocks set back and outcomes that cannot be written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from job_helpers import Clock, Queue, files, row
from retry_helpers import clock as clock
from retry_helpers import full_disk
from retry_helpers import queue as queue
from retry_helpers import runner as runner

from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.reports import queue as report_store
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import DIED, Worker
from storemon_flask.settings import Settings


def test_the_next_try_survives_a_restart(
    runner: Worker,
    queue: Queue,
    clock: Clock,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_id = runner.submit(ReportRequest())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    again = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    assert again.recover() == 1
    assert queue.jobs == []
    clock.turn(1)
    again.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 2)
    # Tries that failed are no deaths of the server.
    assert row(settings, report_id, "died") == (0,)


def test_a_report_tried_often_is_not_taken_for_one_that_kills_the_server(
    runner: Worker, queue: Queue, clock: Clock, settings: Settings, database: Database
) -> None:
    report_id = runner.submit(ReportRequest())
    for _ in range(3):
        report_store.start(database, report_id, 1)
        report_store.retry_later(database, report_id, "the disk is full", 1)
    report_store.start(database, report_id, 1)
    assert runner.recover() == 1
    assert row(settings, report_id, "state", "attempts", "died") == ("pending", 4, 1)
    report_store.start(database, report_id, 1)
    assert runner.recover() == 0
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
    runner = Worker(database, settings, queue, Scheduler(steady, threaded=False), clock)
    report_id = runner.submit(ReportRequest())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        queue.run_all()
    clock.turn(step_s)
    runner.scheduler.run_due()
    assert queue.jobs == []
    steady.turn(1)
    runner.scheduler.run_due()
    assert [job[1] for job in queue.jobs] == [report_id]
    # After a restart nobody knows that it was set back: at most the longest wait.
    queue.jobs.clear()
    again = Worker(database, settings, queue, Scheduler(steady, threaded=False), clock)
    again.recover()
    steady.turn(900)
    again.scheduler.run_due()
    assert [job[1] for job in queue.jobs] == [report_id]


def test_a_report_that_cannot_even_be_claimed_is_reached_for_again(
    runner: Worker, queue: Queue, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = runner.submit(ReportRequest())

    def refuse(*arguments: Any) -> Any:
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    with monkeypatch.context() as full:
        full.setattr(report_store, "start", refuse)
        queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("pending", 0)
    clock.turn(10)
    runner.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_that_the_progress_cannot_be_told_does_not_fail_a_report(
    runner: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storemon_flask.reports import worker as runner_

    asked: list[float] = []

    def refuse(database: Database, job: str, part: float) -> bool:
        asked.append(part)
        raise DatabaseError("full", sqlite="SQLITE_FULL")

    monkeypatch.setattr(runner_, "_PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr(report_store, "advance", refuse)
    report_id = runner.submit(ReportRequest())
    queue.run_all()
    assert asked != []
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_an_outcome_whose_commit_was_not_seen_is_told_again_and_keeps_the_file(
    runner: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete: Callable[..., int] = report_store.complete
    told: list[int] = []

    def half(*arguments: Any) -> int:
        told.append(complete(*arguments))
        if len(told) == 1:
            raise DatabaseError("the disk reports an error", sqlite="SQLITE_IOERR")
        return told[-1]

    monkeypatch.setattr(report_store, "complete", half)
    report_id = runner.submit(ReportRequest())
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
