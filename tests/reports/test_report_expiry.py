"""How long reports are kept, and what becomes of them then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Server, sql
from job_helpers import Clock, files, row
from keeping_helpers import clock as clock
from keeping_helpers import file_of
from keeping_helpers import runner as runner

from storemon_flask.database.connections import Database
from storemon_flask.errors import Gone, NotFound
from storemon_flask.model import DAY_US
from storemon_flask.reports import queue, retention
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings


def test_reports_are_kept_so_long_and_then_deleted_with_their_files(
    runner: Worker, settings: Settings, database: Database, clock: Clock
) -> None:
    old = runner.submit(ReportRequest())
    runner.recover()
    clock.turn(3600)
    new = runner.submit(ReportRequest())
    clock.turn(90 * 86_400 - 3600)
    runner.scheduler.run_due()
    # To the microsecond: it is not older than 90 days yet.
    assert row(settings, old, "state") == ("complete",)
    clock.turn(3600)
    runner.scheduler.run_due()
    assert row(settings, old, "state", "gone", "deleted_us") == ("deleted", "old", clock.now_us)
    assert row(settings, new, "state") == ("complete",)
    assert files(settings) == [f"report_{new}.csv"]
    with pytest.raises(Gone, match="older than STOREMON_KEEP_REPORTS_DAYS allows; trigger a new one"):
        queue.get(database, old)


def test_old_reports_are_deleted_at_a_start_too_and_none_with_0_days(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    forever = Worker(
        database, replace(settings, keep_reports_days=0), InlineExecutor(), Scheduler(clock, threaded=False), clock
    )
    report_id = forever.submit(ReportRequest())
    clock.turn(36_500 * 86_400)
    forever.recover()
    assert row(settings, report_id, "state") == ("complete",)
    Worker(
        database, replace(settings, keep_reports_days=1), InlineExecutor(), Scheduler(clock, threaded=False), clock
    ).recover()
    assert row(settings, report_id, "state") == ("deleted",)
    assert files(settings) == []


def test_what_is_on_its_way_is_never_too_old(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    report_id = queue.submit(database, settings, ReportRequest(1), 1)
    assert retention.delete_before(database, settings.reports_dir, clock.now_us, clock.now_us) == 0
    assert row(settings, report_id, "state") == ("pending",)


def test_many_old_reports_go_in_parts(
    runner: Worker, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [runner.submit(ReportRequest(number)) for number in range(7)]
    monkeypatch.setattr(retention, "_CHUNK", 3)
    now_us = runner._clock() + DAY_US
    assert retention.delete_before(database, settings.reports_dir, now_us, now_us) == 7
    assert {row(settings, report_id, "state") for report_id in ids} == {("deleted",)}
    assert files(settings) == []


def test_a_deleted_report_is_a_410_for_four_times_as_long_as_one_is_kept_and_then_unknown(
    runner: Worker, settings: Settings, database: Database, clock: Clock
) -> None:
    first, kept = runner.submit(ReportRequest()), runner.submit(ReportRequest(1))
    runner.delete(first)
    runner.recover()
    # It could not be removed when its report was deleted.
    file_of(settings, first).write_text("x")
    clock.turn(4 * 90 * 86_400)
    runner.scheduler.run_due()
    with pytest.raises(Gone):
        queue.get(database, first)
    clock.turn(3600)
    runner.scheduler.run_due()
    with pytest.raises(NotFound):
        queue.get(database, first)
    assert files(settings) == []
    # That one was deleted a moment ago.
    assert row(settings, kept, "state", "gone") == ("deleted", "old")


def test_a_deleted_report_keeps_nothing_of_what_it_was_asked(runner: Worker, settings: Settings) -> None:
    windows = [{"from": "2024-10-14T00:00:00Z", "to": "2024-10-14T06:00:00Z", "name": "a name that says much"}]
    report_id = runner.submit(ReportRequest(fields={"windows": windows}, stores=["worked"]))
    runner.delete(report_id)
    (kept,) = sql(settings.database, "SELECT * FROM report WHERE id = ?", report_id)
    assert "much" not in repr(kept)
    assert "worked" not in repr(kept)
    assert sql(settings.database, "SELECT * FROM report_text") == []


def test_a_file_that_cannot_be_removed_goes_at_the_next_start(
    runner: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = runner.submit(ReportRequest())

    def refuse(file: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "unlink", refuse)
        runner.delete(report_id)
    assert "cannot be removed, and is tried again within the hour: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("deleted",)
    assert files(settings) == [f"report_{report_id}.csv"]
    runner.recover()
    assert files(settings) == []


def test_a_real_server_deletes_and_forgets(serve: Callable[..., Server], small_fleet: Path, settings: Settings) -> None:
    from conftest import http

    server = serve()
    first = server.trigger()
    assert server.wait_for(first).status == 200
    second = server.trigger(b'{"columns": "full"}')
    server.wait_for(second)
    assert http(f"{server.url}/api/v1/reports/{first}", "DELETE").status == 204
    assert server.get(f"/get_report?report_id={first}").status == 410
    server.end()
    sql(settings.database, "UPDATE report SET finished_us = finished_us - ?", 2 * DAY_US)
    again = serve(STOREMON_KEEP_REPORTS_DAYS="1")
    assert again.get(f"/get_report?report_id={second}").status == 410
    assert files(settings) == []
