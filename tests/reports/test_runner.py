"""A report's life as a job: states, claims, progress, failure."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_POLLS, SMALL_CSV, sql
from job_helpers import Queue, row
from runner_helpers import queue as queue
from runner_helpers import state
from runner_helpers import waiting as waiting

from storemon_flask.database import polls, schedule
from storemon_flask.database.connections import Database
from storemon_flask.errors import NoPolls
from storemon_flask.model import ReportOutcome
from storemon_flask.reports import compute
from storemon_flask.reports import queue as report_store
from storemon_flask.reports import worker as runner_
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings


def test_a_report_is_pending_then_complete_and_its_row_describes_its_file(
    waiting: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = waiting.submit(ReportRequest())
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
    assert report_store.get(waiting.database, report_id).altered == {"store_id": {0: "=cmd|x"}}
    requested, started, finished = row(settings, report_id, "requested_us", "started_us", "finished_us")
    assert requested <= started <= finished
    # The file alone: no temporary one is left beside it.
    assert [file.name for file in settings.reports_dir.iterdir()] == [f"report_{report_id}.csv"]


def test_the_row_says_running_while_it_is_computed(
    waiting: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = waiting.submit(ReportRequest())
    seen: list[str] = []
    write = compute.write

    def watched(*arguments: Any) -> Any:
        seen.append(state(settings, report_id))
        return write(*arguments)

    monkeypatch.setattr(compute, "write", watched)
    queue.run_all()
    assert seen == ["running"]
    assert state(settings, report_id) == "complete"


def test_the_as_of_is_settled_when_the_report_is_asked_for(waiting: Worker, queue: Queue, settings: Settings) -> None:
    report_id = waiting.submit(ReportRequest())
    sql(settings.database, "UPDATE store_record SET last_poll_us = last_poll_us + 3600000000")
    queue.run_all()
    assert row(settings, report_id, "as_of_us") == (1_728_907_200_000_000,)


def test_without_polls_nothing_is_promised(database: Database, settings: Settings, queue: Queue) -> None:
    with pytest.raises(NoPolls, match=NO_POLLS):
        Worker(database, settings, queue).submit(ReportRequest())
    assert queue.jobs == []
    assert sql(settings.database, "SELECT count(*) FROM report") == [(0,)]


def test_a_report_is_computed_once_however_often_it_is_handed_over(
    waiting: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = waiting.submit(ReportRequest())
    queue.run_all()
    finished = row(settings, report_id, "finished_us", "attempts")
    waiting.run(report_id)
    waiting.run("no such report")
    assert row(settings, report_id, "finished_us", "attempts") == finished


def test_of_two_runners_that_reach_for_a_report_one_gets_it(
    waiting: Worker, settings: Settings, database: Database
) -> None:
    other = Database(settings.database)
    for at_us in range(20):
        report_id = waiting.submit(ReportRequest(at_us))
        barrier = threading.Barrier(2)

        def reach(mine: Database, wanted: str = report_id, start: threading.Barrier = barrier) -> bool:
            start.wait()
            return report_store.start(mine, wanted, 1) is not None

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(reach, (database, other))) == [False, True]
        assert row(settings, report_id, "state", "attempts") == ("running", 1)
    other.close()


@pytest.mark.parametrize("step", ["complete", "fail", "advance", "requeue"])
@pytest.mark.parametrize("before", ["pending", "complete", "failed", "deleted"])
def test_only_a_running_report_can_end_or_advance(
    waiting: Worker, settings: Settings, database: Database, before: str, step: str
) -> None:
    report_id = waiting.submit(ReportRequest())
    sql(settings.database, "UPDATE report SET state = ? WHERE id = ?", before, report_id)
    columns = ("state", "progress", "attempts", "error", "finished_us", "sha256")
    untouched = row(settings, report_id, *columns)
    if step == "complete":
        report_store.complete(database, report_id, 9, ReportOutcome(1, 2, "f" * 64, {}, {}))
    elif step == "fail":
        report_store.fail(database, report_id, 9, "why")
    elif step == "advance":
        report_store.advance(database, report_id, 0.5)
    else:
        report_store.requeue(database, report_id)
    assert row(settings, report_id, *columns) == untouched


def test_progress_never_falls_and_reaches_one_at_the_end(
    waiting: Worker, queue: Queue, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four slices of one store, every step told.
    monkeypatch.setattr(schedule, "STORES_PER_BATCH", 1)
    monkeypatch.setattr(runner_, "_PROGRESS_EVERY_S", 0.0)
    report_id = waiting.submit(ReportRequest())
    seen: list[float] = []
    advance = report_store.advance

    def watched(*arguments: Any) -> bool:
        wanted = advance(*arguments)
        seen.append(row(settings, report_id, "progress")[0])
        # An earlier word that comes late changes nothing.
        advance(database, report_id, 0.01)
        seen.append(row(settings, report_id, "progress")[0])
        return wanted

    monkeypatch.setattr(report_store, "advance", watched)
    queue.run_all()
    assert seen == pytest.approx([0.2375, 0.2375, 0.475, 0.475, 0.7125, 0.7125, 0.95, 0.95])
    assert row(settings, report_id, "state", "progress") == ("complete", 1.0)


def test_slices_change_nothing_in_the_bytes(
    waiting: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "STORES_PER_BATCH", 1)
    report_id = waiting.submit(ReportRequest())
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
    waiting: Worker, queue: Queue, settings: Settings
) -> None:
    report_id = waiting.submit(ReportRequest())
    # A folder where the file should go: writing works, the rename does not.
    target = settings.reports_dir / f"report_{report_id}.csv"
    target.mkdir(parents=True)
    queue.run_all()
    assert row(settings, report_id, "state", "error") == ("failed", f"{target} cannot be written: Is a directory")
    assert list(settings.reports_dir.iterdir()) == [target]


def test_an_unexpected_error_fails_the_report_and_the_next_one_is_computed(
    waiting: Worker, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = waiting.submit(ReportRequest())
    with monkeypatch.context() as broken:
        broken.setattr(polls, "read_in_batches", lambda *arguments: 1 // 0)
        queue.run_all()
    assert row(settings, first, "state", "error") == ("failed", "unexpected error (ZeroDivisionError); see the log")
    second = waiting.submit(ReportRequest())
    queue.run_all()
    assert state(settings, second) == "complete"
