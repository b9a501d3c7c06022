"""A report's life as a job: stopping, recovery, and an app that starts nothing."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL_CSV, environment, sql, wait_until
from job_helpers import Queue, row
from retry_helpers import full_disk
from runner_helpers import queue as queue
from runner_helpers import state
from runner_helpers import waiting as waiting

from storemon_flask import create_app
from storemon_flask.database import polls
from storemon_flask.database.connections import Database
from storemon_flask.reports import queue as report_store
from storemon_flask.reports.queue import MOST_TRIES
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import DIED, InlineExecutor, Worker
from storemon_flask.settings import Settings


@pytest.fixture
def at_a_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """(reached, go on): a report stands still before its first step until told to go on."""
    reached, go_on = threading.Event(), threading.Event()
    read = polls.read_in_batches

    def slow(*arguments: Any) -> Any:
        reached.set()
        assert go_on.wait(30)
        return read(*arguments)

    monkeypatch.setattr(polls, "read_in_batches", slow)
    yield reached, go_on
    go_on.set()


def test_stopping_lets_a_running_report_finish_within_the_grace(
    small_fleet: Path,
    database: Database,
    settings: Settings,
    at_a_step: tuple[threading.Event, threading.Event],
) -> None:
    reached, go_on = at_a_step
    runner = Worker(database, settings, ThreadPoolExecutor(1))
    running, queued = runner.submit(ReportRequest()), runner.submit(ReportRequest(columns="full"))
    assert reached.wait(30)
    threading.Timer(0.1, go_on.set).start()
    runner.stop(grace_s=30)
    assert state(settings, running) == "complete"
    # What had not begun waits for the next server.
    assert row(settings, queued, "state", "attempts") == ("pending", 0)


def test_stopping_puts_back_a_report_that_takes_longer_than_the_grace(
    small_fleet: Path,
    database: Database,
    settings: Settings,
    at_a_step: tuple[threading.Event, threading.Event],
) -> None:
    reached, go_on = at_a_step
    runner = Worker(database, settings, ThreadPoolExecutor(1))
    running = runner.submit(ReportRequest())
    assert reached.wait(30)
    stopper = threading.Thread(target=runner.stop, args=(0.0,))
    stopper.start()
    wait_until(runner._stopping.is_set, "the grace to be over")
    go_on.set()
    stopper.join(30)
    assert row(settings, running, "state", "attempts", "error") == ("pending", 0, None)
    assert not (settings.reports_dir / f"report_{running}.csv").exists()
    # Asked for in the meantime: promised, and left for the next server too.
    late = runner.submit(ReportRequest())
    assert state(settings, late) == "pending"
    assert Worker(database, settings, InlineExecutor()).recover() == 2
    assert [state(settings, report_id) for report_id in (running, late)] == ["complete", "complete"]


def test_after_a_crash_pending_and_running_reports_run_again_in_order(
    waiting: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    pending, running, done = (waiting.submit(ReportRequest(stores=stores)) for stores in (["worked"], None, ["silent"]))
    report_store.start(database, running, 1)
    report_store.advance(database, running, 0.5)
    queue.jobs = [job for job in queue.jobs if job[1] == done]
    queue.run_all()
    finished = row(settings, done, "finished_us", "attempts")

    again = Worker(database, settings, queue)
    assert again.recover() == 2
    assert [job[1] for job in queue.jobs] == [pending, running]
    assert [state(settings, report_id) for report_id in (pending, running, done)] == ["pending", "pending", "complete"]
    queue.run_all()
    assert row(settings, pending, "state", "attempts") == ("complete", 1)
    assert row(settings, running, "state", "attempts", "error") == ("complete", 2, None)
    assert row(settings, done, "finished_us", "attempts") == finished
    assert (settings.reports_dir / f"report_{running}.csv").read_text() == SMALL_CSV


def test_a_report_under_which_the_server_died_twice_is_failed_with_the_reason(
    waiting: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    report_id = waiting.submit(ReportRequest())
    for attempt in (1, 2):
        report_store.start(database, report_id, attempt)
        assert row(settings, report_id, "state", "attempts") == ("running", attempt)
        queue.jobs.clear()
        assert waiting.recover() == (1 if attempt == 1 else 0)
    assert queue.jobs == []
    assert row(settings, report_id, "state", "error") == ("failed", DIED)
    assert DIED == "the server died twice while it computed this report; see its log, then trigger the report again"


def test_a_report_that_the_server_killed_twice_is_in_the_log_and_in_the_numbers(
    waiting: Worker, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = waiting.submit(ReportRequest())
    for attempt in (1, 2):
        report_store.start(database, report_id, attempt)
        waiting.recover()
    assert [(record.levelname, record.getMessage()) for record in caplog.records if record.levelname == "ERROR"] == [
        ("ERROR", f"report {report_id} failed: {DIED}")
    ]
    value = waiting.registry.get_sample_value
    assert value("storemon_report_jobs_total", {"outcome": "failed"}) == 1
    assert value("storemon_report_job_duration_seconds_count") == 0


def test_a_server_that_ended_in_order_and_could_not_put_reports_back_has_not_died(
    waiting: Worker, settings: Settings, database: Database, queue: Queue
) -> None:
    report_id = waiting.submit(ReportRequest())
    for attempt in range(1, 5):
        report_store.start(database, report_id, attempt)
        queue.jobs.clear()
        assert waiting.recover(died=False) == 1
        assert row(settings, report_id, "state", "attempts", "died") == ("pending", 0, 0)
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_a_death_takes_no_try_away(
    waiting: Worker, settings: Settings, database: Database, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = waiting.submit(ReportRequest())
    report_store.start(database, report_id, 1)
    waiting.recover()
    monkeypatch.setattr(os, "fsync", full_disk)
    for _ in range(MOST_TRIES):
        assert row(settings, report_id, "state") == ("pending",)
        queue.jobs[:] = queue.jobs[-1:]
        waiting.run(report_id)
    state, attempts, died, error = row(settings, report_id, "state", "attempts", "died", "error")
    assert (state, attempts, died) == ("failed", MOST_TRIES + 1, 1)
    assert error.endswith(f"(tried {MOST_TRIES} times)")


def test_what_is_kept_of_jobs_goes_when_they_end(waiting: Worker, queue: Queue) -> None:
    ids = [waiting.submit(ReportRequest(stores=[store])) for store in ("worked", "silent")]
    waiting.delete(ids[0])
    queue.run_all()
    waiting.delete(ids[1])
    assert waiting._cancelled == {}


def test_being_put_back_is_not_counted_as_a_try(waiting: Worker, settings: Settings, database: Database) -> None:
    report_id = waiting.submit(ReportRequest())
    for _ in range(5):
        report_store.start(database, report_id, 1)
        report_store.requeue(database, report_id)
        assert waiting.recover() == 1
    assert row(settings, report_id, "state", "attempts") == ("pending", 0)


def test_the_progress_a_caller_has_seen_does_not_fall_when_the_report_is_tried_again(
    waiting: Worker, settings: Settings, database: Database
) -> None:
    report_id = waiting.submit(ReportRequest())
    report_store.start(database, report_id, 1)
    report_store.advance(database, report_id, 0.5)
    waiting.recover()
    assert row(settings, report_id, "state", "progress") == ("pending", 0.5)
    report_store.start(database, report_id, 2)
    assert row(settings, report_id, "state", "progress") == ("running", 0.5)


def test_create_app_starts_no_thread_and_touches_no_report_and_no_file(
    waiting: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    waiting.submit(ReportRequest())
    report_store.start(database, waiting.submit(ReportRequest()), 1)
    database.close()
    before, threads = sql(settings.database, "SELECT * FROM report"), set(threading.enumerate())
    files = sorted(settings.home.rglob("*"))
    app = create_app(settings)
    assert app.test_client().get("/healthz").status_code == 200
    assert set(threading.enumerate()) == threads
    assert sorted(settings.home.rglob("*")) == files
    assert sql(settings.database, "SELECT * FROM report") == before


def test_create_app_makes_nothing_on_disk(settings: Settings) -> None:
    create_app(settings)
    assert not settings.home.exists()


def test_importing_wsgi_starts_no_thread_and_makes_nothing(tmp_path: Path) -> None:
    code = "import threading, wsgi; print(threading.active_count(), wsgi.app.name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, PYTHONPATH=str(ROOT)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "1 storemon_flask\n"
    assert list(tmp_path.iterdir()) == []
