"""The reports folder against the rows: orphans, strangers, lost and regained files."""

import sqlite3
from pathlib import Path
from threading import Thread

import pytest
from conftest import SMALL_CSV, sql
from flask import Flask
from job_helpers import files, row
from keeping_helpers import clock as clock
from keeping_helpers import file_of
from keeping_helpers import runner as runner

from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.reports import retention
from storemon_flask.reports.report import Asked
from storemon_flask.reports.retention import Differences
from storemon_flask.reports.worker import Runner
from storemon_flask.settings import Settings

AGREE = Differences([], [], [])


def test_what_differs_is_told_and_nothing_is_changed(runner: Runner, settings: Settings, database: Database) -> None:
    whole, missing, deleted, failed, waiting = (runner.submit(Asked(number)) for number in range(5))
    file_of(settings, missing).unlink()
    for state, report_id in (("deleted", deleted), ("failed", failed), ("pending", waiting)):
        sql(settings.database, "UPDATE report SET state = ? WHERE id = ?", state, report_id)
    stranger = file_of(settings, "f" * 32)
    for other in (stranger, settings.reports_dir / "report_mine.csv", settings.reports_dir / "notes.txt"):
        other.write_text("x")
    before = files(settings)
    assert retention.consistency(database.read, settings.reports_dir) == Differences(
        sorted([file_of(settings, deleted), file_of(settings, failed)]), [stranger], [missing]
    )
    assert files(settings) == before
    assert row(settings, missing, "state") == ("complete",)
    assert row(settings, whole, "state") == ("complete",)


def test_a_shared_file_is_everybodys_until_the_last_one_goes(
    runner: Runner, settings: Settings, database: Database
) -> None:
    first = runner.submit(Asked())
    second = "ab" * 16
    sql(
        settings.database,
        "INSERT INTO report (id, state, as_of_us, columns, requested_us, shares) VALUES (?, 'complete', 1, 'classic', 1, ?)",
        second,
        first,
    )
    assert retention.consistency(database.read, settings.reports_dir) == AGREE
    runner.delete(first)
    assert retention.consistency(database.read, settings.reports_dir) == AGREE
    runner.delete(second)
    assert (files(settings), retention.consistency(database.read, settings.reports_dir)) == ([], AGREE)


def test_without_a_database_or_a_folder_nothing_differs(database: Database, settings: Settings) -> None:
    assert retention.tidy(database, settings.reports_dir, 1) == retention.Tidied(0, 0, 0, 0)
    assert not settings.database.exists()
    database.prepare()
    assert retention.consistency(database.read, settings.reports_dir) == AGREE


def test_a_report_that_is_deleted_while_differences_are_looked_for_is_not_missing(
    runner: Runner, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, missing = runner.submit(Asked(1)), runner.submit(Asked(2))
    file_of(settings, missing).unlink()
    states = reports.states
    read: list[int] = []

    def watched(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
        rows = states(connection)
        read.append(len(rows))
        if len(read) == 1:
            deleting = Thread(target=runner.delete, args=(deleted,))
            deleting.start()
            deleting.join()
        return rows

    monkeypatch.setattr(reports, "states", watched)
    assert retention.consistency(database.read, settings.reports_dir) == Differences([], [], [missing])
    assert read == [2, 2]


def test_a_start_removes_what_is_surely_its_own_and_leaves_the_rest(
    runner: Runner, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    deleted, failed = runner.submit(Asked(1)), runner.submit(Asked(2))
    sql(settings.database, "UPDATE report SET state = 'deleted' WHERE id = ?", deleted)
    sql(settings.database, "UPDATE report SET state = 'failed' WHERE id = ?", failed)
    kept = ["report_mine.csv", f"report_{'f' * 32}.csv", ".report_mine.csv.01234567.tmp"]
    for name in (*kept, f".report_{deleted}.csv.01234567.tmp"):
        (settings.reports_dir / name).write_text("x")
    assert runner.recover() == 0
    assert files(settings) == sorted(kept)
    assert "2 file(s) of deleted or failed reports removed" in caplog.text
    assert "1 file(s) named like reports are of no report of this database; they stay" in caplog.text


def test_a_report_without_its_file_is_a_410_with_the_reason_and_comes_back_with_its_file(
    runner: Runner, settings: Settings, database: Database, app: Flask, tmp_path: Path
) -> None:
    report_id = runner.submit(Asked())
    aside = file_of(settings, report_id).rename(tmp_path / "aside")
    runner.recover()
    assert row(settings, report_id, "state", "gone") == ("deleted", "lost")
    answer = app.test_client().get(f"/get_report?report_id={report_id}")
    assert (answer.status_code, answer.get_json(force=True)["detail"]) == (
        410,
        "the report's file was no longer in the reports folder when the server started; trigger a new report",
    )
    # Another file in its place is not it, and not ours to remove.
    file_of(settings, report_id).write_text("something else")
    runner.recover()
    assert row(settings, report_id, "state", "gone") == ("deleted", "lost")
    assert file_of(settings, report_id).read_text() == "something else"
    aside.replace(file_of(settings, report_id))
    runner.recover()
    assert row(settings, report_id, "state", "gone", "deleted_us") == ("complete", None, None)
    answer = app.test_client().get(f"/get_report?report_id={report_id}")
    assert (answer.text, answer.status_code) == (SMALL_CSV, 200)
    assert (
        app.test_client().get(f"/get_report?report_id={report_id}&format=json").json["rows"][0]["store_id"] == "=cmd|x"
    )


def test_a_folder_that_cannot_be_listed_does_not_keep_the_server_from_starting(
    runner: Runner, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = runner.submit(Asked())

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "iterdir", refuse)
        assert runner.recover() == 0
    assert "cannot be looked through: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("complete",)
