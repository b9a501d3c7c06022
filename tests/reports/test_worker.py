"""The worker: a report's life from its submission to its end; stopping, recovery, and an app that starts nothing."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_POLLS, ROOT, SMALL_CSV, environment, sql, wait_until
from worker_helpers import Clock, Queue, full_disk, row, state, take_step
from worker_helpers import clock as clock
from worker_helpers import queue as queue
from worker_helpers import queued_worker as queued_worker

from storemon_flask import create_app
from storemon_flask.database import polls, readings, reports
from storemon_flask.database.connections import Database
from storemon_flask.errors import NoPolls
from storemon_flask.model import ReportOutcome
from storemon_flask.reports import compute, stored
from storemon_flask.reports import worker as worker_module
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import DIED, MOST_TRIES, InlineExecutor, Worker
from storemon_flask.settings import Settings


def test_a_report_is_pending_then_complete_and_its_row_describes_its_file(
    queued_worker: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    assert row(settings, report_id, "state", "attempts", "progress", "started_us") == ("pending", 0, 0, None)
    assert not settings.reports_dir.exists()
    queue.run_all()
    data = (settings.reports_dir / f"report_{report_id}.csv").read_bytes()
    assert data == SMALL_CSV.encode()
    assert row(settings, report_id, "state", "attempts", "progress", "error") == ("complete", 1, 1.0, None)
    assert row(settings, report_id, "row_count", "byte_count", "sha256") == (
        4,
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    assert stored.get(queued_worker.database, report_id).altered == {"store_id": {0: "=cmd|x"}}
    requested, started, finished = row(settings, report_id, "requested_us", "started_us", "finished_us")
    assert requested <= started <= finished
    # The file alone: no temporary one is left beside it.
    assert [file.name for file in settings.reports_dir.iterdir()] == [f"report_{report_id}.csv"]


def test_the_row_says_running_while_it_is_computed(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    seen: list[str] = []
    write = compute.write

    def watched(*arguments: Any) -> Any:
        seen.append(state(settings, report_id))
        return write(*arguments)

    monkeypatch.setattr(compute, "write", watched)
    queue.run_all()
    assert seen == ["running"]
    assert state(settings, report_id) == "complete"


def test_the_as_of_is_settled_when_the_report_is_asked_for(
    queued_worker: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    sql(settings.database, "UPDATE store_record SET last_poll_us = last_poll_us + 3600000000")
    queue.run_all()
    assert row(settings, report_id, "as_of_us") == (1_728_907_200_000_000,)


def test_without_polls_nothing_is_promised(database: Database, settings: Settings, queue: Queue) -> None:
    with pytest.raises(NoPolls, match=NO_POLLS):
        Worker(database, settings, queue).submit(ReportRequest())
    assert queue.calls == []
    assert sql(settings.database, "SELECT count(*) FROM report") == [(0,)]


def test_a_report_is_computed_once_however_often_it_is_handed_over(
    queued_worker: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    queue.run_all()
    finished = row(settings, report_id, "finished_us", "attempts")
    queued_worker.run(report_id)
    queued_worker.run("no such report")
    assert row(settings, report_id, "finished_us", "attempts") == finished


def test_of_two_runners_that_reach_for_a_report_one_gets_it(
    queued_worker: Worker, settings: Settings, database: Database
) -> None:
    other = Database(settings.database)
    for at_us in range(20):
        report_id = queued_worker.submit(ReportRequest(at_us))
        barrier = threading.Barrier(2)

        def reach(mine: Database, wanted: str = report_id, start: threading.Barrier = barrier) -> bool:
            start.wait()
            return take_step(mine, reports.start, wanted, 1) is not None

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(reach, (database, other))) == [False, True]
        assert row(settings, report_id, "state", "attempts") == ("running", 1)
    other.close()


@pytest.mark.parametrize("step", ["complete", "fail", "advance", "requeue"])
@pytest.mark.parametrize("before", ["pending", "complete", "failed", "deleted"])
def test_only_a_running_report_can_end_or_advance(
    queued_worker: Worker, settings: Settings, database: Database, before: str, step: str
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    sql(settings.database, "UPDATE report SET state = ? WHERE id = ?", before, report_id)
    columns = ("state", "progress", "attempts", "error", "finished_us", "sha256")
    untouched = row(settings, report_id, *columns)
    if step == "complete":
        take_step(database, reports.complete, report_id, 9, ReportOutcome(1, 2, "f" * 64, {}, {}))
    elif step == "fail":
        take_step(database, reports.fail, report_id, 9, "why")
    elif step == "advance":
        take_step(database, reports.advance, report_id, 0.5)
    else:
        take_step(database, reports.requeue, report_id)
    assert row(settings, report_id, *columns) == untouched


def test_progress_never_falls_and_reaches_one_at_the_end(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four slices of one store, every step told.
    monkeypatch.setattr(readings, "STORES_PER_BATCH", 1)
    monkeypatch.setattr(worker_module, "_PROGRESS_EVERY_S", 0.0)
    report_id = queued_worker.submit(ReportRequest())
    seen: list[float] = []
    advance = Worker._advance

    def watched(worker: Worker, report_id: str, share: float) -> None:
        advance(worker, report_id, share)
        seen.append(row(settings, report_id, "progress")[0])
        # An earlier word that comes late changes nothing.
        take_step(database, reports.advance, report_id, 0.01)
        seen.append(row(settings, report_id, "progress")[0])

    monkeypatch.setattr(Worker, "_advance", watched)
    queue.run_all()
    assert seen == pytest.approx([0.2375, 0.2375, 0.475, 0.475, 0.7125, 0.7125, 0.95, 0.95])
    assert row(settings, report_id, "state", "progress") == ("complete", 1.0)


def test_slices_change_nothing_in_the_bytes(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "STORES_PER_BATCH", 1)
    report_id = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert (settings.reports_dir / f"report_{report_id}.csv").read_text() == SMALL_CSV


def test_a_reports_folder_that_cannot_be_made_fails_the_report_with_a_sentence(
    small_fleet: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a regular file")
    folder = tmp_path / "file" / "reports"
    report_id = Worker(database, replace(settings, reports_dir=folder), InlineExecutor()).submit(ReportRequest())
    assert row(settings, report_id, "state", "error", "progress", "sha256") == (
        "failed",
        f"the reports folder {folder} cannot be made: Not a directory",
        0,
        None,
    )


def test_a_report_that_cannot_be_written_fails_with_a_sentence_and_leaves_no_temporary_file(
    queued_worker: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    # A folder where the file should go: writing works, the rename does not.
    target = settings.reports_dir / f"report_{report_id}.csv"
    target.mkdir(parents=True)
    queue.run_all()
    assert row(settings, report_id, "state", "error") == ("failed", f"{target} cannot be written: Is a directory")
    assert list(settings.reports_dir.iterdir()) == [target]


def test_an_unexpected_error_fails_the_report_and_the_next_one_is_computed(
    queued_worker: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queued_worker.submit(ReportRequest())
    with monkeypatch.context() as broken:
        broken.setattr(polls, "read_in_batches", lambda *arguments: 1 // 0)
        queue.run_all()
    assert row(settings, first, "state", "error") == ("failed", "unexpected error (ZeroDivisionError); see the log")
    second = queued_worker.submit(ReportRequest())
    queue.run_all()
    assert state(settings, second) == "complete"


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

    class Ending(ThreadPoolExecutor):
        """The report goes on once no other is begun any more."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            go_on.set()
            super().shutdown(wait=wait)

    runner = Worker(database, settings, Ending(1))
    running, queued = runner.submit(ReportRequest()), runner.submit(ReportRequest(columns="full"))
    assert reached.wait(30)
    runner.stop(grace_s=60)
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
    stopper.join()
    assert row(settings, running, "state", "attempts", "error") == ("pending", 0, None)
    assert not (settings.reports_dir / f"report_{running}.csv").exists()
    # Asked for in the meantime: promised, and left for the next server too.
    late = runner.submit(ReportRequest())
    assert state(settings, late) == "pending"
    assert Worker(database, settings, InlineExecutor()).recover() == 2
    assert [state(settings, report_id) for report_id in (running, late)] == ["complete", "complete"]


def test_after_a_crash_pending_and_running_reports_run_again_in_order(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database, clock: Clock
) -> None:
    pending, running, done = (
        queued_worker.submit(ReportRequest(stores=stores)) for stores in (["worked"], None, ["silent"])
    )
    take_step(database, reports.start, running, 1)
    take_step(database, reports.advance, running, 0.5)
    queue.calls = [call for call in queue.calls if call[1] == done]
    queue.run_all()
    finished = row(settings, done, "finished_us", "attempts")

    again = Worker(database, settings, queue, clock=clock)
    assert again.recover() == 2
    assert [call[1] for call in queue.calls] == [pending, running]
    assert [state(settings, report_id) for report_id in (pending, running, done)] == ["pending", "pending", "complete"]
    queue.run_all()
    assert row(settings, pending, "state", "attempts") == ("complete", 1)
    assert row(settings, running, "state", "attempts", "error") == ("complete", 2, None)
    assert row(settings, done, "finished_us", "attempts") == finished
    assert (settings.reports_dir / f"report_{running}.csv").read_text() == SMALL_CSV


def test_a_report_under_which_the_server_died_twice_is_failed_with_the_reason(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    for attempt in (1, 2):
        take_step(database, reports.start, report_id, attempt)
        assert row(settings, report_id, "state", "attempts") == ("running", attempt)
        queue.calls.clear()
        assert queued_worker.recover() == (1 if attempt == 1 else 0)
    assert queue.calls == []
    assert row(settings, report_id, "state", "error") == ("failed", DIED)
    assert DIED == "the server died twice while it computed this report; its log may say why"


def test_a_report_that_the_server_killed_twice_is_in_the_log_and_in_the_numbers(
    queued_worker: Worker, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    for attempt in (1, 2):
        take_step(database, reports.start, report_id, attempt)
        queued_worker.recover()
    assert [(record.levelname, record.getMessage()) for record in caplog.records if record.levelname == "ERROR"] == [
        ("ERROR", f"report {report_id} failed: {DIED}")
    ]
    value = queued_worker.registry.get_sample_value
    assert value("storemon_report_attempts_total", {"outcome": "failed"}) == 1
    assert value("storemon_report_attempt_duration_seconds_count") == 0


def test_a_server_that_ended_in_order_and_could_not_put_reports_back_has_not_died(
    queued_worker: Worker, settings: Settings, database: Database, queue: Queue
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    for attempt in range(1, 5):
        take_step(database, reports.start, report_id, attempt)
        queue.calls.clear()
        assert queued_worker.recover(died=False) == 1
        assert row(settings, report_id, "state", "attempts", "died") == ("pending", 0, 0)
    queue.run_all()
    assert row(settings, report_id, "state", "attempts") == ("complete", 1)


def test_a_death_takes_no_try_away(
    queued_worker: Worker, settings: Settings, database: Database, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    take_step(database, reports.start, report_id, 1)
    queued_worker.recover()
    monkeypatch.setattr(os, "fsync", full_disk)
    for _ in range(MOST_TRIES):
        assert row(settings, report_id, "state") == ("pending",)
        queue.calls[:] = queue.calls[-1:]
        queued_worker.run(report_id)
    state, attempts, died, error = row(settings, report_id, "state", "attempts", "died", "error")
    assert (state, attempts, died) == ("failed", MOST_TRIES + 1, 1)
    assert error.endswith(f"(tried {MOST_TRIES} times)")


def test_what_is_kept_of_jobs_goes_when_they_end(queued_worker: Worker, queue: Queue) -> None:
    ids = [queued_worker.submit(ReportRequest(stores=[store])) for store in ("worked", "silent")]
    queued_worker.delete(ids[0])
    queue.run_all()
    queued_worker.delete(ids[1])
    assert queued_worker._cancelled == {}


def test_being_put_back_is_not_counted_as_a_try(queued_worker: Worker, settings: Settings, database: Database) -> None:
    report_id = queued_worker.submit(ReportRequest())
    for _ in range(5):
        take_step(database, reports.start, report_id, 1)
        take_step(database, reports.requeue, report_id)
        assert queued_worker.recover() == 1
    assert row(settings, report_id, "state", "attempts") == ("pending", 0)


def test_the_progress_a_caller_has_seen_does_not_fall_when_the_report_is_tried_again(
    queued_worker: Worker, settings: Settings, database: Database
) -> None:
    report_id = queued_worker.submit(ReportRequest())
    take_step(database, reports.start, report_id, 1)
    take_step(database, reports.advance, report_id, 0.5)
    queued_worker.recover()
    assert row(settings, report_id, "state", "progress") == ("pending", 0.5)
    take_step(database, reports.start, report_id, 2)
    assert row(settings, report_id, "state", "progress") == ("running", 0.5)


def test_create_app_starts_no_thread_and_touches_no_report_and_no_file(
    queued_worker: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    queued_worker.submit(ReportRequest())
    take_step(database, reports.start, queued_worker.submit(ReportRequest()), 1)
    database.close()
    before, threads = sql(settings.database, "SELECT * FROM report"), set(threading.enumerate())
    files = sorted(settings.home.rglob("*"))
    app = create_app(settings)
    assert app.test_client().get("/healthz").status_code == 200
    # One of another test may end meanwhile.
    assert set(threading.enumerate()) <= threads
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
