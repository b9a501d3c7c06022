"""Retention: how long reports are kept, the room they take, and files that belong to no report."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from conftest import Server, http, sql, wait_until
from flask import Flask
from worker_helpers import Clock, Queue, file_of, files, row
from worker_helpers import clock as clock
from worker_helpers import inline_worker as inline_worker
from worker_helpers import queue as queue
from worker_helpers import queued_worker as queued_worker

from storemon_flask import create_app
from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.errors import DiskFull, Gone, NotFound, QueueFull
from storemon_flask.model import DAY_US, SECOND_US
from storemon_flask.reports import retention, stored
from storemon_flask.reports import worker as worker_module
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings


def test_reports_are_kept_so_long_and_then_deleted_with_their_files(
    inline_worker: Worker, settings: Settings, database: Database, clock: Clock
) -> None:
    old = inline_worker.submit(ReportRequest())
    inline_worker.recover()
    clock.turn(3600)
    new = inline_worker.submit(ReportRequest())
    clock.turn(90 * 86_400 - 3600)
    inline_worker.scheduler.run_due()
    # To the microsecond: it is not older than 90 days yet.
    assert row(settings, old, "state") == ("complete",)
    clock.turn(3600)
    inline_worker.scheduler.run_due()
    assert row(settings, old, "state", "gone", "deleted_us") == ("deleted", "old", clock.now_us)
    assert row(settings, new, "state") == ("complete",)
    assert files(settings) == [f"report_{new}.csv"]
    with pytest.raises(Gone, match="older than reports are kept here; ask for a new one"):
        stored.get(database, old)


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
    queued_worker: Worker, settings: Settings, database: Database, clock: Clock
) -> None:
    report_id = queued_worker.submit(ReportRequest(1))
    later_us = clock.now_us + 1
    assert retention.delete_before(database, settings.reports_dir, later_us, later_us) == 0
    assert row(settings, report_id, "state") == ("pending",)


def test_many_old_reports_go_in_parts(
    inline_worker: Worker, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [inline_worker.submit(ReportRequest(number)) for number in range(7)]
    monkeypatch.setattr(retention, "_CHUNK", 3)
    now_us = inline_worker._clock() + DAY_US
    assert retention.delete_before(database, settings.reports_dir, now_us, now_us) == 7
    assert {row(settings, report_id, "state") for report_id in ids} == {("deleted",)}
    assert files(settings) == []


def test_a_deleted_report_is_a_410_for_four_times_as_long_as_one_is_kept_and_then_unknown(
    inline_worker: Worker, settings: Settings, database: Database, clock: Clock
) -> None:
    first, kept = inline_worker.submit(ReportRequest()), inline_worker.submit(ReportRequest(1))
    inline_worker.delete(first)
    inline_worker.recover()
    # It could not be removed when its report was deleted.
    file_of(settings, first).write_text("x")
    clock.turn(4 * 90 * 86_400)
    inline_worker.scheduler.run_due()
    with pytest.raises(Gone):
        stored.get(database, first)
    clock.turn(3600)
    inline_worker.scheduler.run_due()
    with pytest.raises(NotFound):
        stored.get(database, first)
    assert files(settings) == []
    # That one was deleted a moment ago.
    assert row(settings, kept, "state", "gone") == ("deleted", "old")


def test_a_deleted_report_keeps_nothing_of_what_it_was_asked(inline_worker: Worker, settings: Settings) -> None:
    windows = [{"from": "2024-10-14T00:00:00Z", "to": "2024-10-14T06:00:00Z", "name": "a name that says much"}]
    report_id = inline_worker.submit(ReportRequest(fields={"windows": windows}, stores=["worked"]))
    inline_worker.delete(report_id)
    (kept,) = sql(settings.database, "SELECT * FROM report WHERE id = ?", report_id)
    assert "much" not in repr(kept)
    assert "worked" not in repr(kept)
    assert sql(settings.database, "SELECT * FROM report_text") == []


def test_a_file_that_cannot_be_removed_goes_at_the_next_start(
    inline_worker: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = inline_worker.submit(ReportRequest())

    def refuse(file: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "unlink", refuse)
        inline_worker.delete(report_id)
    assert "cannot be removed, and is tried again within the hour: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("deleted",)
    assert files(settings) == [f"report_{report_id}.csv"]
    inline_worker.recover()
    assert files(settings) == []


def test_a_real_server_deletes_and_forgets(serve: Callable[..., Server], small_fleet: Path, settings: Settings) -> None:
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
    wait_until(lambda: again.get(f"/get_report?report_id={second}").status == 410, "the old report is deleted")
    wait_until(lambda: files(settings) == [], "its file is removed")


def test_files_of_no_report_and_reports_without_a_file_are_found_and_nothing_is_changed(
    inline_worker: Worker, settings: Settings, database: Database
) -> None:
    whole, missing, deleted, failed, waiting = (inline_worker.submit(ReportRequest(number)) for number in range(5))
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
    inline_worker: Worker, database: Database, settings: Settings
) -> None:
    settings.database.unlink()
    inline_worker._retention.run(1)
    assert not settings.database.exists()
    database.prepare()
    assert reports.files_of_no_report(database.read, settings.reports_dir) == []
    assert reports.missing_files(database.read, settings.reports_dir) == []


def test_a_report_that_is_deleted_while_files_are_looked_for_is_not_missing(
    inline_worker: Worker, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, missing = inline_worker.submit(ReportRequest(1)), inline_worker.submit(ReportRequest(2))
    file_of(settings, missing).unlink()
    states = reports.states
    read: list[int] = []

    def watched(connection: sqlite3.Connection) -> dict[str, str]:
        rows = states(connection)
        read.append(len(rows))
        if len(read) == 1:
            deleting = Thread(target=inline_worker.delete, args=(deleted,))
            deleting.start()
            deleting.join()
        return rows

    monkeypatch.setattr(reports, "states", watched)
    assert reports.missing_files(database.read, settings.reports_dir) == [missing]
    assert read == [2, 2]


def test_files_of_no_report_are_removed_and_others_stay(
    inline_worker: Worker, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    deleted, failed, complete = (inline_worker.submit(ReportRequest(number)) for number in range(3))
    sql(settings.database, "UPDATE report SET state = 'deleted', deleted_us = 1 WHERE id = ?", deleted)
    sql(settings.database, "UPDATE report SET state = 'failed' WHERE id = ?", failed)
    kept = ["report_mine.csv", ".report_mine.csv.01234567.tmp", f"report_{complete}.csv"]
    for name in (*kept, f"report_{'f' * 32}.csv", f".report_{deleted}.csv.01234567.tmp"):
        (settings.reports_dir / name).write_text("x")
    assert inline_worker.recover() == 0
    assert files(settings) == sorted(kept)
    assert "4 file(s) that belong to no report removed" in caplog.text


def test_what_a_running_report_has_begun_to_write_stays(inline_worker: Worker, settings: Settings) -> None:
    running, pending = inline_worker.submit(ReportRequest(1)), inline_worker.submit(ReportRequest(2))
    sql(settings.database, "UPDATE report SET state = 'running' WHERE id = ?", running)
    sql(settings.database, "UPDATE report SET state = 'pending' WHERE id = ?", pending)
    for report_id in (running, pending):
        (settings.reports_dir / f".report_{report_id}.csv.01234567.tmp").write_text("x")
    inline_worker._retention.run(inline_worker._clock())
    # The other is of a try that is over.
    assert [name for name in files(settings) if name.startswith(".")] == [f".report_{running}.csv.01234567.tmp"]
    # For a process that starts now, the first is of a try of the one before, although the report runs again.
    inline_worker._retention = retention.Retention(inline_worker.database, settings, inline_worker.metrics)
    (settings.reports_dir / f".report_{running}.csv.89abcdef.tmp").write_text("x")
    inline_worker._retention.run(inline_worker._clock())
    assert [name for name in files(settings) if name.startswith(".")] == [f".report_{running}.csv.89abcdef.tmp"]


def test_a_complete_report_without_its_file_is_a_410_that_says_so(
    inline_worker: Worker, settings: Settings, app: Flask
) -> None:
    report_id = inline_worker.submit(ReportRequest())
    file_of(settings, report_id).unlink()
    inline_worker.recover()
    assert row(settings, report_id, "state") == ("complete",)
    answer = app.test_client().get(f"/get_report?report_id={report_id}")
    assert (answer.status_code, answer.get_json(force=True)["detail"]) == (
        410,
        f"the report's file report_{report_id}.csv is no longer in the reports folder; ask for a new report",
    )


def test_a_folder_that_cannot_be_listed_does_not_keep_the_server_from_starting(
    inline_worker: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report_id = inline_worker.submit(ReportRequest())

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "iterdir", refuse)
        assert inline_worker.recover() == 0
    assert "cannot be read: Permission denied" in caplog.text
    assert row(settings, report_id, "state") == ("complete",)


AS_OF_US = 1_728_907_200_000_000
# The test's reports have one block each, of the 244 that a megabyte has.
BLOCKS = 1_000_000 // 4096


@pytest.fixture
def make_runner(small_fleet: Path, settings: Settings, database: Database, clock: Clock) -> Callable[..., Worker]:
    def made(**changes: int) -> Worker:
        return Worker(database, replace(settings, **changes), InlineExecutor(), Scheduler(clock, threaded=False), clock)

    return made


@pytest.fixture
def fleet_of_many(small_fleet: Path, database: Database, settings: Settings) -> Database:
    """A fleet of more than a thousand stores with long ids."""
    rows = "".join(f"{number:036d},active,2024-10-14 12:00:00 UTC\n" for number in range(1_000))
    client = create_app(settings).test_client()
    answer = client.post("/api/v1/feeds/polls", data="store_id,status,timestamp_utc\n" + rows)
    assert answer.json["new"] == 1_000
    return database


def database_bytes(settings: Settings) -> int:
    """Bytes of the pages that are in use."""
    [(pages, page_bytes)] = sql(
        settings.database,
        "SELECT page_count - freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    return int(pages * page_bytes)


def trigger(inline_worker: Worker, clock: Clock, count: int) -> list[str]:
    """The ids of so many different reports, a second apart."""
    ids = []
    for _ in range(count):
        clock.turn(1)
        ids.append(inline_worker.submit(ReportRequest(clock.now_us)))
    return ids


def test_the_oldest_reports_make_room_for_new_ones(
    make_runner: Callable[..., Worker], settings: Settings, database: Database, clock: Clock
) -> None:
    inline_worker = make_runner(max_reports_mb=1)
    ids = trigger(inline_worker, clock, BLOCKS)
    assert len(files(settings)) == BLOCKS
    ids += trigger(inline_worker, clock, 1)
    # Down to 95 % of the room.
    left = 950_000 // 4096
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids[-left:])
    assert row(settings, ids[0], "state", "gone", "deleted_us") == ("deleted", "room", clock.now_us)
    assert row(settings, ids[-left], "state") == ("complete",)
    assert inline_worker.registry.get_sample_value("storemon_reports_deleted_for_room_total") == BLOCKS + 1 - left
    with pytest.raises(Gone, match="deleted to make room for newer ones; ask for a new one"):
        stored.get(database, ids[0])


def test_there_is_no_limit_with_0_and_a_lower_one_holds_from_the_start_of_a_server(
    make_runner: Callable[..., Worker], settings: Settings, clock: Clock
) -> None:
    ids = trigger(make_runner(max_reports_mb=0), clock, BLOCKS + 20)
    assert len(files(settings)) == BLOCKS + 20
    limited = make_runner(max_reports_mb=1)
    limited.recover()
    left = 950_000 // 4096
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids[-left:])
    assert row(settings, ids[0], "state", "gone") == ("deleted", "room")
    # What is larger than all of the room stays while it is the last; the hourly job looks again.
    with limited.path(ids[-1]).open("ab") as file:
        file.write(b"x" * 2_000_000)
    clock.turn(3600)
    limited.scheduler.run_due()
    assert files(settings) == [f"report_{ids[-1]}.csv"]
    last = trigger(limited, clock, 1)
    assert files(settings) == [f"report_{last[0]}.csv"]


def test_a_folder_that_cannot_be_listed_after_a_report_leaves_it_complete(
    make_runner: Callable[..., Worker],
    settings: Settings,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    inline_worker = make_runner(max_reports_mb=1)
    trigger(inline_worker, clock, BLOCKS)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as denied:
        denied.setattr(Path, "iterdir", refuse)
        (report_id,) = trigger(inline_worker, clock, 1)
    assert row(settings, report_id, "state") == ("complete",)
    assert len(files(settings)) == BLOCKS + 1
    sentence = f"the reports folder {settings.reports_dir} cannot be read: Permission denied"
    assert [one.message for one in caplog.records if one.levelname != "INFO"] == [
        f"older reports cannot be deleted now: {sentence}"
    ]
    assert (
        inline_worker.registry.get_sample_value("storemon_report_attempts_total", {"outcome": "complete"}) == BLOCKS + 1
    )
    trigger(inline_worker, clock, 1)
    assert len(files(settings)) == 950_000 // 4096


def test_the_report_just_completed_stays_however_large_and_a_file_of_many_names_counts_once(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    queue = Queue()
    inline_worker = Worker(
        database, replace(settings, max_reports_mb=1), queue, Scheduler(clock, threaded=False), clock
    )
    first = [inline_worker.submit(ReportRequest()) for _ in range(BLOCKS + 5)]
    queue.run_all()
    assert {row(settings, report_id, "state") for report_id in first} == {("complete",)}
    # All of them have this file.
    with inline_worker.path(first[0]).open("ab") as file:
        file.write(b"x" * 2_000_000)
    inline_worker._retention.add_bytes(first[0], 2_000_000, clock())
    assert {row(settings, report_id, "state") for report_id in first} == {("complete",)}
    inline_worker = Worker(database, inline_worker.settings, queue, Scheduler(clock, threaded=False), clock)
    clock.turn(1)
    last = inline_worker.submit(ReportRequest(AS_OF_US + 1))
    queue.run_all()
    assert {row(settings, report_id, "gone") for report_id in first} == {("room",)}
    assert files(settings) == [f"report_{last}.csv"]


def test_rows_are_bounded_and_those_deleted_go_first(
    make_runner: Callable[..., Worker], settings: Settings, database: Database, clock: Clock
) -> None:
    inline_worker = make_runner()
    inline_worker._retention = retention.Retention(database, settings, inline_worker.metrics, most_rows=40)
    ids = trigger(inline_worker, clock, 40)
    inline_worker.delete(ids[5])
    ids += trigger(inline_worker, clock, 1)
    assert sql(settings.database, "SELECT count(*) FROM report")[0][0] <= 40
    with pytest.raises(NotFound):
        stored.get(database, ids[5])
    ids += trigger(inline_worker, clock, 200)
    assert sql(settings.database, "SELECT count(*) FROM report")[0][0] <= 40
    assert row(settings, ids[-1], "state") == ("complete",)


def test_equal_reports_that_wait_are_bounded(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    inline_worker = Worker(database, settings, Queue(), Scheduler(clock, threaded=False), clock)
    inline_worker._retention = retention.Retention(database, settings, inline_worker.metrics, most_rows=10)
    for _ in range(10):
        inline_worker.submit(ReportRequest())
    with pytest.raises(QueueFull, match="10 reports wait or are kept, and there may be 10"):
        inline_worker.submit(ReportRequest())
    assert sql(settings.database, "SELECT count(*) FROM report") == [(10,)]


def test_no_report_is_begun_on_a_full_disk(small_fleet: Path, settings: Settings) -> None:
    app: Flask = create_app(replace(settings, min_free_mb=10**9))
    client = app.test_client()
    for answer in (client.post("/trigger_report"), client.get("/api/v1/reports/latest.csv")):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "60"
        assert answer.json["type"] == "urn:storemon:problem:disk-full"
        assert (
            "MB free, less than the 1,000,000,000 of STOREMON_MIN_FREE_MB; reports are made again"
            in answer.json["detail"]
        )
    assert sql(settings.database, "SELECT count(*) FROM report") == [(0,)]


def test_a_report_on_its_way_waits_for_room(
    small_fleet: Path, settings: Settings, database: Database, clock: Clock
) -> None:
    queue = Queue()
    inline_worker = Worker(database, settings, queue, Scheduler(clock, threaded=False), clock)
    report_id = inline_worker.submit(ReportRequest())
    inline_worker.settings = replace(settings, min_free_mb=10**9)
    queue.run_all()
    state, error = row(settings, report_id, "state", "last_error")
    assert state == "pending"
    assert "STOREMON_MIN_FREE_MB" in error
    assert files(settings) == []
    inline_worker.settings = settings
    clock.turn(worker_module.retry_wait_us(1) / SECOND_US)
    inline_worker.scheduler.run_due()
    queue.run_all()
    assert row(settings, report_id, "state") == ("complete",)


def test_disk_full_is_a_passing_fault(settings: Settings) -> None:
    from storemon_flask.database import readiness

    with pytest.raises(DiskFull) as raised:
        readiness.require_room(replace(settings, min_free_mb=10**9))
    assert worker_module.is_temporary(raised.value)


def test_what_equal_reports_ask_is_stored_once(fleet_of_many: Database, settings: Settings, clock: Clock) -> None:
    queue = Queue()
    inline_worker = Worker(fleet_of_many, settings, queue, Scheduler(clock, threaded=False), clock)
    names = [f"{number:036d}" for number in range(200)]
    first = inline_worker.submit(ReportRequest(stores=names[::-1]))
    size = database_bytes(settings)
    others = [inline_worker.submit(ReportRequest(stores=names)) for _ in range(1_500)]
    assert (database_bytes(settings) - size) / 1_500 < 500
    queue.run_all()
    assert (database_bytes(settings) - size) / 1_500 < 500
    texts = "SELECT count(*) FROM report_text WHERE store_count = 200"
    assert sql(settings.database, texts) == [(1,)]
    # One that comes later has the same text.
    alone = inline_worker.submit(ReportRequest(stores=names))
    queue.run_all()
    assert sql(settings.database, texts) == [(1,)]
    for report_id in (first, others[-1], alone):
        assert stored.get(fleet_of_many, report_id).stores == names
    listed = stored.newest(fleet_of_many, None, 3)
    assert [one.stores for one in listed] == [names[:10]] * 3
    assert [one.stores_asked for one in listed] == [200] * 3
    inline_worker.delete(first)
    assert sql(settings.database, texts) == [(1,)]
    retention.delete_before(fleet_of_many, settings.reports_dir, clock() + 1, clock())
    assert sql(settings.database, "SELECT count(*) FROM report_text") == [(0,)]


def test_a_list_of_reports_does_not_read_what_they_asked(
    fleet_of_many: Database, settings: Settings, clock: Clock
) -> None:
    inline_worker = Worker(fleet_of_many, settings, Queue(), Scheduler(clock, threaded=False), clock)
    for _ in range(3):
        inline_worker.submit(ReportRequest(stores=[f"{number:036d}" for number in range(1_000)]))
    # Whoever reads this fails.
    sql(settings.database, "UPDATE report_text SET large = 'no JSON'")
    assert [one.stores_asked for one in stored.newest(fleet_of_many, None, 3)] == [1000] * 3


def test_whether_an_as_of_was_asked_is_of_each_report(
    fleet_of_many: Database, settings: Settings, clock: Clock
) -> None:
    queue = Queue()
    inline_worker = Worker(fleet_of_many, settings, queue, Scheduler(clock, threaded=False), clock)
    names = [f"{number:036d}" for number in range(1_000)]
    newest = inline_worker.submit(ReportRequest(stores=names, fields={"totals": True}))
    as_of_us = stored.get(fleet_of_many, newest).as_of_us
    asked = inline_worker.submit(ReportRequest(as_of_us, stores=names, fields={"totals": True}))
    queue.run_all()
    rows = [stored.get(fleet_of_many, report_id) for report_id in (newest, asked)]
    assert [(one.as_of_asked, one.shape) for one in rows] == [(False, {"totals": True}), (True, {"totals": True})]


def test_the_lists_of_reports_that_wait_are_bounded(
    fleet_of_many: Database, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_WAITING_BYTES", 100_000)
    inline_worker = Worker(fleet_of_many, settings, Queue(), Scheduler(clock, threaded=False), clock)
    names = [f"{number:036d}" for number in range(1_000)]
    for number in range(3):
        inline_worker.submit(ReportRequest(stores=names[number:]))
    with pytest.raises(QueueFull, match="the reports that wait ask for 0 MB of names of stores"):
        inline_worker.submit(ReportRequest(stores=names[4:]))
    # An equal one adds nothing.
    inline_worker.submit(ReportRequest(stores=names[2:]))


def test_rows_of_reports_made_room_for_take_their_texts_along(
    fleet_of_many: Database, settings: Settings, clock: Clock
) -> None:
    inline_worker = Worker(
        fleet_of_many, replace(settings, max_reports_mb=1), InlineExecutor(), Scheduler(clock, threaded=False), clock
    )
    names = [f"{number:036d}" for number in range(1_000)]
    for number in range(30):
        clock.turn(1)
        newest = inline_worker.submit(ReportRequest(stores=names[number:]))
    with fleet_of_many.read() as connection:
        assert retention.bytes_taken(connection, settings.reports_dir) <= 1_000_000
    assert sum(file.stat().st_size for file in settings.reports_dir.iterdir()) < 1_000_000
    assert row(settings, newest, "state") == ("complete",)
