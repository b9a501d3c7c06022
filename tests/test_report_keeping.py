"""The reports folder against the rows: orphans, strangers, lost and regained files, and what was kept long enough."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from conftest import SMALL_CSV, Server, sql, wait_until
from flask import Flask
from job_helpers import Clock, files, row

from storemon_flask.errors import Gone, NotFound
from storemon_flask.jobs.alarm import Alarm
from storemon_flask.jobs.executors import InlineExecutor
from storemon_flask.jobs.runner import Runner
from storemon_flask.model import DAY_US
from storemon_flask.services import report_keeping, report_store
from storemon_flask.services.report import Asked
from storemon_flask.services.report_keeping import Differences
from storemon_flask.settings import Settings
from storemon_flask.storage import reports
from storemon_flask.storage.db import Database

AGREE = Differences([], [], [])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, clock: Clock) -> Runner:
    return Runner(database, settings, InlineExecutor(), clock=clock)


def file_of(settings: Settings, report_id: str) -> Path:
    return settings.reports_dir / f"report_{report_id}.csv"


def test_what_differs_is_told_and_nothing_is_changed(runner: Runner, settings: Settings, database: Database) -> None:
    whole, missing, deleted, failed, waiting = (runner.submit(Asked(number)) for number in range(5))
    file_of(settings, missing).unlink()
    for state, report_id in (("deleted", deleted), ("failed", failed), ("pending", waiting)):
        sql(settings.database, "UPDATE report SET state = ? WHERE id = ?", state, report_id)
    stranger = file_of(settings, "f" * 32)
    for other in (stranger, settings.reports_dir / "report_mine.csv", settings.reports_dir / "notes.txt"):
        other.write_text("x")
    before = files(settings)
    assert report_keeping.consistency(database.read, settings.reports_dir) == Differences(
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
    assert report_keeping.consistency(database.read, settings.reports_dir) == AGREE
    runner.delete(first)
    assert report_keeping.consistency(database.read, settings.reports_dir) == AGREE
    runner.delete(second)
    assert (files(settings), report_keeping.consistency(database.read, settings.reports_dir)) == ([], AGREE)


def test_without_a_database_or_a_folder_nothing_differs(database: Database, settings: Settings) -> None:
    assert report_keeping.tidy(database, settings.reports_dir, 1) == report_keeping.Tidied(0, 0, 0, 0)
    assert not settings.database.exists()
    database.prepare()
    assert report_keeping.consistency(database.read, settings.reports_dir) == AGREE


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
    assert report_keeping.consistency(database.read, settings.reports_dir) == Differences([], [], [missing])
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


def test_reports_are_kept_so_long_and_then_deleted_with_their_files(
    runner: Runner, settings: Settings, database: Database, clock: Clock
) -> None:
    old = runner.submit(Asked())
    runner.recover()
    clock.turn(3600)
    new = runner.submit(Asked())
    clock.turn(90 * 86_400 - 3600)
    runner.tick()
    # To the microsecond: it is not older than 90 days yet.
    assert row(settings, old, "state") == ("complete",)
    clock.turn(3600)
    runner.tick()
    assert row(settings, old, "state", "gone", "deleted_us") == ("deleted", "old", clock.now_us)
    assert row(settings, new, "state") == ("complete",)
    assert files(settings) == [f"report_{new}.csv"]
    with pytest.raises(Gone, match="older than STOREMON_KEEP_REPORTS_DAYS allows; trigger a new one"):
        report_store.get(database, old)


def test_old_reports_are_deleted_at_a_start_too_and_none_with_0_days(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    forever = Runner(database, replace(settings, keep_reports_days=0), InlineExecutor(), clock=clock)
    report_id = forever.submit(Asked())
    clock.turn(36_500 * 86_400)
    forever.recover()
    assert row(settings, report_id, "state") == ("complete",)
    Runner(database, replace(settings, keep_reports_days=1), InlineExecutor(), clock=clock).recover()
    assert row(settings, report_id, "state") == ("deleted",)
    assert files(settings) == []


def test_what_is_on_its_way_is_never_too_old(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    report_store.add(database, "ab" * 16, Asked(), "UTC", 10**6, 1)
    assert report_keeping.expire(database, settings.reports_dir, clock.now_us, clock.now_us) == 0
    assert row(settings, "ab" * 16, "state") == ("pending",)


def test_many_old_reports_go_in_parts(
    runner: Runner, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [runner.submit(Asked(number)) for number in range(7)]
    monkeypatch.setattr(report_keeping, "_CHUNK", 3)
    now_us = runner._clock() + DAY_US
    assert report_keeping.expire(database, settings.reports_dir, now_us, now_us) == 7
    assert {row(settings, report_id, "state") for report_id in ids} == {("deleted",)}
    assert files(settings) == []


def test_a_deleted_report_is_a_410_for_four_times_as_long_as_one_is_kept_and_then_unknown(
    runner: Runner, settings: Settings, database: Database, clock: Clock
) -> None:
    first, kept = runner.submit(Asked()), runner.submit(Asked(1))
    sharing = "ab" * 16
    columns = "(id, state, as_of_us, columns, requested_us, finished_us, shares)"
    sql(settings.database, f"INSERT INTO report {columns} VALUES (?, 'complete', 1, 'x', 1, 1, ?)", sharing, first)
    runner.delete(first)
    runner.recover()
    assert row(settings, sharing, "state", "gone") == ("deleted", "old")
    # It could not be removed when its report was deleted.
    file_of(settings, first).write_text("x")
    clock.turn(4 * 90 * 86_400)
    runner.tick()
    with pytest.raises(Gone):
        report_store.get(database, first)
    clock.turn(3600)
    runner.tick()
    for report_id in (first, sharing):
        with pytest.raises(NotFound):
            report_store.get(database, report_id)
    assert files(settings) == []
    # That one was deleted a moment ago.
    assert row(settings, kept, "state", "gone") == ("deleted", "old")


def test_the_alarm_is_set_again_when_keeping_goes_wrong(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_for: list[float] = []

    class Noted(Alarm):
        def set(self, ring: Callable[[], None], delay_s: float) -> None:
            set_for.append(delay_s)

    def broken(*arguments: object) -> int:
        raise RuntimeError("not foreseen")

    runner = Runner(database, settings, InlineExecutor(), Noted(), clock)
    monkeypatch.setattr(report_keeping, "expire", broken)
    with pytest.raises(RuntimeError, match="not foreseen"):
        runner.recover()
    assert set_for == [60.0]


def test_a_file_that_cannot_be_removed_goes_at_the_next_start(
    runner: Runner, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = runner.submit(Asked())

    def refuse(file: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "unlink", refuse)
        runner.delete(report_id)
    assert "cannot be removed, the next start tries again: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("deleted",)
    assert files(settings) == [f"report_{report_id}.csv"]
    runner.recover()
    assert files(settings) == []


def test_an_alarm_rings_at_the_earliest_time_again_and_again_and_never_after_it_is_stopped() -> None:
    rung: list[int] = []
    alarm = Alarm()

    def ring() -> None:
        rung.append(1)
        if len(rung) == 1:
            raise RuntimeError("said in the log, and the next one rings all the same")

    alarm.set(ring, 3600)
    alarm.set(ring, 0.01)
    wait_until(lambda: len(rung) == 1, "the first ring")
    alarm.set(ring, 0)
    wait_until(lambda: len(rung) == 2, "the second ring")
    alarm.stop()
    alarm.set(ring, 0)
    assert alarm._thread is not None
    assert not alarm._thread.is_alive()
    assert len(rung) == 2


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
