"""Equal reports on the same data are computed once, and each has a file and an id of its own; the queue is bounded."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_CSV, load_folder, sql
from flask import Flask
from flask.testing import FlaskClient
from job_helpers import Queue, files, row

from storemon_flask import create_app
from storemon_flask.database.connections import Database
from storemon_flask.errors import QueueFull
from storemon_flask.model import HOUR_US
from storemon_flask.reports import compute
from storemon_flask.reports import queue as report_store
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, queue: Queue) -> Worker:
    return Worker(database, settings, queue)


@pytest.fixture
def client(small_fleet: Path, settings: Settings, queue: Queue) -> Any:
    app = create_app(settings, queue)
    yield app.test_client()
    app.extensions["storemon"].database.close()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each report that is computed."""
    found: list[int] = []
    real = compute.compute

    def watched(*arguments: Any) -> Any:
        found.append(1)
        return real(*arguments)

    monkeypatch.setattr(compute, "compute", watched)
    return found


def trigger(client: FlaskClient, **body: Any) -> str:
    found: str = client.post("/trigger_report", json=body).json["report_id"]
    return found


def test_equal_reports_are_computed_once_into_one_file_and_answered_each_by_its_own_id(
    client: FlaskClient, queue: Queue, settings: Settings, computed: list[int]
) -> None:
    ids = [trigger(client) for _ in range(3)]
    assert len(set(ids)) == 3
    queue.run_all()
    assert computed == [1]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids)
    assert len({(settings.reports_dir / name).stat().st_ino for name in files(settings)}) == 1
    tags = set()
    for report_id in ids:
        answer = client.get(f"/get_report?report_id={report_id}", buffered=True)
        assert answer.text == SMALL_CSV
        assert answer.headers["X-Report-Status"] == "Complete"
        assert answer.headers["X-Report-As-Of"] == "2024-10-14T12:00:00.000000Z"
        assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.csv"
        tags.add(answer.headers["ETag"])
        assert client.get(f"/get_report?report_id={report_id}&format=json").json["report_id"] == report_id
        book = client.get(f"/get_report?report_id={report_id}&format=xlsx", buffered=True)
        assert book.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.xlsx"
        one = client.get(f"/api/v1/reports/{report_id}").json
        assert (one["report_id"], one["status"], one["attempts"], one["rows"]) == (report_id, "Complete", 1, 4)
    assert len(tags) == 1
    assert [one["report_id"] for one in client.get("/api/v1/reports").json["reports"]] == ids[::-1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"as_of": "2024-10-14T12:00:00Z"}),
        ({"stores": ["worked", "silent"]}, {"stores": ["silent", "worked", "silent"]}),
        ({"method": "nearest", "totals": False}, {}),
        ({"by": "day"}, {"by": "day", "windows": ["last_week"]}),
    ],
)
def test_what_is_asked_in_other_words_is_equal(
    client: FlaskClient, queue: Queue, computed: list[int], first: dict[str, Any], second: dict[str, Any]
) -> None:
    ids = [trigger(client, **first), trigger(client, **second)]
    queue.run_all()
    assert computed == [1]
    texts = {client.get(f"/get_report?report_id={report_id}", buffered=True).text for report_id in ids}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"as_of": "2024-10-14T12:00:00.000001Z"},
        {"columns": "full"},
        {"stores": ["worked"]},
        {"method": "previous"},
        {"by": "day"},
        {"kind": "outages"},
        {"totals": True},
    ],
)
def test_what_differs_in_anything_is_computed_for_itself(
    client: FlaskClient, queue: Queue, computed: list[int], other: dict[str, Any]
) -> None:
    trigger(client)
    trigger(client, **other)
    queue.run_all()
    assert computed == [1, 1]


@pytest.mark.parametrize("changed", [{"default_timezone": "UTC"}, {"reach_us": HOUR_US}, {"max_gap_us": HOUR_US}])
def test_by_other_rules_it_is_computed_for_itself(
    runner: Worker,
    queue: Queue,
    settings: Settings,
    database: Database,
    computed: list[int],
    changed: dict[str, Any],
) -> None:
    runner.submit(ReportRequest())
    Worker(database, replace(settings, **changed), queue).submit(ReportRequest())
    queue.run_all()
    assert computed == [1, 1]


def test_on_data_that_changed_it_is_computed_again_and_each_has_its_numbers(
    runner: Worker, queue: Queue, settings: Settings, database: Database, small_fleet: Path, computed: list[int]
) -> None:
    asked = ReportRequest(1_728_907_200_000_000)
    before = runner.submit(asked)
    queue.run_all()
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:30:00 UTC,active\n")
    load_folder(database, small_fleet)
    after, third = runner.submit(asked), runner.submit(asked)
    queue.run_all()
    assert computed == [1, 1]
    texts = [runner.path(report_id).read_text() for report_id in (before, after, third)]
    assert texts[0] != texts[1] == texts[2]


def test_the_data_are_those_of_the_moment_it_is_started_in(
    runner: Worker, queue: Queue, database: Database, small_fleet: Path, computed: list[int]
) -> None:
    asked = ReportRequest(1_728_907_200_000_000)
    ids = [runner.submit(asked)]
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:30:00 UTC,active\n")
    load_folder(database, small_fleet)
    ids.append(runner.submit(asked))
    queue.run_all()
    # Asked for before and after the load, and computed after it.
    assert computed == [1]
    assert len({runner.path(report_id).read_text() for report_id in ids}) == 1


def test_a_finished_report_gives_its_file_to_an_equal_one(
    runner: Worker, queue: Queue, settings: Settings, database: Database, computed: list[int]
) -> None:
    first = runner.submit(ReportRequest())
    queue.run_all()
    second = runner.submit(ReportRequest())
    assert row(settings, second, "state") == ("pending",)
    queue.run_all()
    assert computed == [1]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in (first, second))
    one, other = (report_store.get(database, report_id) for report_id in (first, second))
    assert (one.sha256, one.row_count, one.altered, one.method) == (
        other.sha256, other.row_count, other.altered, other.method
    )  # fmt: skip
    runner.delete(first)
    assert runner.path(second).read_text() == SMALL_CSV


def test_one_whose_file_is_gone_gives_none(
    runner: Worker, queue: Queue, settings: Settings, computed: list[int]
) -> None:
    first = runner.submit(ReportRequest())
    queue.run_all()
    runner.path(first).unlink()
    second = runner.submit(ReportRequest())
    queue.run_all()
    assert computed == [1, 1]
    assert runner.path(second).read_text() == SMALL_CSV


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_where_a_file_cannot_have_another_name_it_is_copied(
    runner: Worker,
    queue: Queue,
    settings: Settings,
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr(os, "link", refuse)
    ids = [runner.submit(ReportRequest()) for _ in range(3)]
    queue.run_all()
    assert computed == [1]
    assert {runner.path(report_id).read_text() for report_id in ids} == {SMALL_CSV}
    assert len({runner.path(report_id).stat().st_ino for report_id in ids}) == 3
    assert len(files(settings)) == 3


def test_of_equal_reports_only_that_fails_under_which_the_server_died(
    runner: Worker, queue: Queue, settings: Settings, database: Database, computed: list[int]
) -> None:
    ids = [runner.submit(ReportRequest()) for _ in range(3)]
    report_store.start(database, ids[0], 1)
    queue.jobs.clear()
    again = Worker(database, settings, queue)
    assert again.recover() == 3
    report_store.start(database, ids[0], 1)
    queue.jobs.clear()
    assert again.recover() == 2
    queue.run_all()
    assert row(settings, ids[0], "state", "died") == ("failed", 2)
    assert [row(settings, report_id, "state", "attempts", "died") for report_id in ids[1:]] == [("complete", 1, 0)] * 2
    assert computed == [1]


def test_one_that_is_asked_for_while_an_equal_one_waits_for_its_next_try_is_computed_at_once(
    runner: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    first = runner.submit(ReportRequest())
    report_store.start(database, first, 1)
    report_store.retry_later(database, first, "the disk is full", 1 << 60)
    queue.jobs.clear()
    second = runner.submit(ReportRequest())
    queue.run_all()
    assert row(settings, second, "state", "last_error") == ("complete", None)
    assert row(settings, first, "state", "attempts", "last_error") == ("pending", 1, "the disk is full")


def test_the_queue_is_bounded_and_an_equal_report_takes_no_place(
    runner: Worker, queue: Queue, settings: Settings, database: Database
) -> None:
    small = Worker(database, replace(settings, max_pending_reports=2), queue)
    small.submit(ReportRequest())
    small.submit(ReportRequest(columns="full"))
    with pytest.raises(QueueFull, match=r"2 report\(s\) are waiting, as many as may"):
        small.submit(ReportRequest(stores=["worked"]))
    for _ in range(3):
        small.submit(ReportRequest())
    assert sql(settings.database, "SELECT count(*) FROM report") == [(5,)]
    queue.run_all()
    assert row(settings, small.submit(ReportRequest(stores=["worked"])), "state") == ("pending",)


def test_a_full_queue_is_a_503_that_says_when_to_come_back(settings: Settings, small_fleet: Path, queue: Queue) -> None:
    app: Flask = create_app(replace(settings, max_pending_reports=1), queue)
    client = app.test_client()
    trigger(client)
    answer = client.post("/trigger_report", json={"columns": "full"})
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "10"
    assert answer.get_json(force=True)["type"] == "urn:storemon:problem:queue-full"
    app.extensions["storemon"].database.close()


def test_many_equal_triggers_at_once_all_get_the_same_bytes(
    small_fleet: Path, settings: Settings, database: Database
) -> None:
    runner = Worker(database, settings, ThreadPoolExecutor(2))
    start = threading.Barrier(16)

    def ask(_: int) -> list[str]:
        start.wait()
        return [runner.submit(ReportRequest()) for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        ids = [report_id for found in pool.map(ask, range(16)) for report_id in found]
    runner.stop(30)
    # What was queued when it stopped waits for the next server.
    again = Worker(database, settings, ThreadPoolExecutor(1))
    again.recover()
    again._executor.shutdown(wait=True)
    assert len(set(ids)) == 320
    assert sql(settings.database, "SELECT count(*) FROM report WHERE state = 'complete'") == [(320,)]
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids)
    read: Callable[[str], str] = lambda name: (settings.reports_dir / name).read_text()  # noqa: E731
    assert {read(name) for name in files(settings)} == {SMALL_CSV}
