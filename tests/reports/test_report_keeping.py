"""The reports folder against the rows: files of no report, and reports without a file."""

import sqlite3
from pathlib import Path
from threading import Thread

import pytest
from conftest import sql
from flask import Flask
from job_helpers import files, row
from keeping_helpers import clock as clock
from keeping_helpers import file_of
from keeping_helpers import runner as runner

from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings


def test_files_of_no_report_and_reports_without_a_file_are_found_and_nothing_is_changed(
    runner: Worker, settings: Settings, database: Database
) -> None:
    whole, missing, deleted, failed, waiting = (runner.submit(ReportRequest(number)) for number in range(5))
    file_of(settings, missing).unlink()
    for state, report_id in (("deleted", deleted), ("failed", failed), ("pending", waiting)):
        sql(settings.database, "UPDATE report SET state = ? WHERE id = ?", state, report_id)
    unknown = file_of(settings, "f" * 32)
    for other in (unknown, settings.reports_dir / "report_mine.csv", settings.reports_dir / "notes.txt"):
        other.write_text("x")
    before = files(settings)
    of_none = sorted([file_of(settings, deleted), file_of(settings, failed), unknown])
    assert reports.files_of_no_report(database.read, settings.reports_dir) == of_none
    assert reports.missing_files(database.read, settings.reports_dir) == [missing]
    assert files(settings) == before
    assert row(settings, missing, "state") == ("complete",)
    assert row(settings, whole, "state") == ("complete",)


def test_without_a_database_or_a_folder_there_is_nothing_to_do(
    runner: Worker, database: Database, settings: Settings
) -> None:
    settings.database.unlink()
    runner._retention.run(1)
    assert not settings.database.exists()
    database.prepare()
    assert reports.files_of_no_report(database.read, settings.reports_dir) == []
    assert reports.missing_files(database.read, settings.reports_dir) == []


def test_a_report_that_is_deleted_while_files_are_looked_for_is_not_missing(
    runner: Worker, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, missing = runner.submit(ReportRequest(1)), runner.submit(ReportRequest(2))
    file_of(settings, missing).unlink()
    states = reports.states
    read: list[int] = []

    def watched(connection: sqlite3.Connection) -> dict[str, str]:
        rows = states(connection)
        read.append(len(rows))
        if len(read) == 1:
            deleting = Thread(target=runner.delete, args=(deleted,))
            deleting.start()
            deleting.join()
        return rows

    monkeypatch.setattr(reports, "states", watched)
    assert reports.missing_files(database.read, settings.reports_dir) == [missing]
    assert read == [2, 2]


def test_files_of_no_report_are_removed_and_others_stay(
    runner: Worker, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    deleted, failed, complete = (runner.submit(ReportRequest(number)) for number in range(3))
    sql(settings.database, "UPDATE report SET state = 'deleted', deleted_us = 1 WHERE id = ?", deleted)
    sql(settings.database, "UPDATE report SET state = 'failed' WHERE id = ?", failed)
    kept = ["report_mine.csv", ".report_mine.csv.01234567.tmp", f"report_{complete}.csv"]
    for name in (*kept, f"report_{'f' * 32}.csv", f".report_{deleted}.csv.01234567.tmp"):
        (settings.reports_dir / name).write_text("x")
    assert runner.recover() == 0
    assert files(settings) == sorted(kept)
    assert "4 file(s) that belong to no report removed" in caplog.text


def test_what_a_running_report_has_begun_to_write_stays(runner: Worker, settings: Settings) -> None:
    running, pending = runner.submit(ReportRequest(1)), runner.submit(ReportRequest(2))
    sql(settings.database, "UPDATE report SET state = 'running' WHERE id = ?", running)
    sql(settings.database, "UPDATE report SET state = 'pending' WHERE id = ?", pending)
    for report_id in (running, pending):
        (settings.reports_dir / f".report_{report_id}.csv.01234567.tmp").write_text("x")
    runner._retention.run(runner._clock())
    # The other is of a try that is over.
    assert [name for name in files(settings) if name.startswith(".")] == [f".report_{running}.csv.01234567.tmp"]


def test_a_complete_report_without_its_file_is_a_410_that_says_so(
    runner: Worker, settings: Settings, app: Flask
) -> None:
    report_id = runner.submit(ReportRequest())
    file_of(settings, report_id).unlink()
    runner.recover()
    assert row(settings, report_id, "state") == ("complete",)
    answer = app.test_client().get(f"/get_report?report_id={report_id}")
    assert (answer.status_code, answer.get_json(force=True)["detail"]) == (
        410,
        f"the report's file report_{report_id}.csv is no longer in the reports folder; trigger a new report",
    )


def test_a_folder_that_cannot_be_listed_does_not_keep_the_server_from_starting(
    runner: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = runner.submit(ReportRequest())

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "iterdir", refuse)
        assert runner.recover() == 0
    assert "cannot be read: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("complete",)
