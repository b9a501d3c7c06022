"""Equal reports that wait share one job and one file, never one id; the queue is bounded."""

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
from storemon_flask.reports import queue as report_store
from storemon_flask.reports.report import Asked
from storemon_flask.reports.worker import Runner, thread
from storemon_flask.settings import Settings


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def runner(small_fleet: Path, database: Database, settings: Settings, queue: Queue) -> Runner:
    return Runner(database, settings, queue)


@pytest.fixture
def client(small_fleet: Path, settings: Settings, queue: Queue) -> Any:
    app = create_app(settings, queue)
    yield app.test_client()
    app.extensions["storemon"].database.close()


def trigger(client: FlaskClient, **body: Any) -> str:
    found: str = client.post("/trigger_report", json=body).json["report_id"]
    return found


def test_equal_reports_are_computed_once_into_one_file_and_answered_each_by_its_own_id(
    client: FlaskClient, queue: Queue, settings: Settings
) -> None:
    ids = [trigger(client) for _ in range(3)]
    assert len(set(ids)) == 3
    assert [job[1] for job in queue.jobs] == ids[:1]
    queue.run_all()
    assert files(settings) == [f"report_{ids[0]}.csv"]
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
    client: FlaskClient, queue: Queue, first: dict[str, Any], second: dict[str, Any]
) -> None:
    ids = [trigger(client, **first), trigger(client, **second)]
    assert len(queue.jobs) == 1
    queue.run_all()
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
def test_what_differs_in_anything_is_another_job(client: FlaskClient, queue: Queue, other: dict[str, Any]) -> None:
    ids = [trigger(client), trigger(client, **other)]
    assert [job[1] for job in queue.jobs] == ids


@pytest.mark.parametrize("changed", [{"default_timezone": "UTC"}, {"reach_us": HOUR_US}, {"max_gap_us": HOUR_US}])
def test_other_rules_are_another_job(
    runner: Runner, queue: Queue, settings: Settings, database: Database, changed: dict[str, Any]
) -> None:
    first = runner.submit(Asked())
    second = Runner(database, replace(settings, **changed), queue).submit(Asked())
    assert [job[1] for job in queue.jobs] == [first, second]


def test_data_that_changed_are_another_job_and_each_has_its_numbers(
    runner: Runner, queue: Queue, settings: Settings, database: Database, small_fleet: Path
) -> None:
    asked = Asked(1_728_907_200_000_000)
    before = runner.submit(asked)
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:30:00 UTC,active\n")
    load_folder(database, small_fleet)
    after, third = runner.submit(asked), runner.submit(asked)
    assert [job[1] for job in queue.jobs] == [before, after]
    assert row(settings, third, "shares") == (after,)


def test_a_finished_report_is_not_shared(runner: Runner, queue: Queue, settings: Settings) -> None:
    first = runner.submit(Asked())
    queue.run_all()
    second = runner.submit(Asked())
    assert row(settings, second, "state", "shares") == ("pending", None)
    queue.run_all()
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in (first, second))


def test_one_that_joins_a_running_report_is_as_far_as_that_and_ends_with_it(
    client: FlaskClient, queue: Queue, settings: Settings, database: Database
) -> None:
    first = trigger(client)
    report_store.claim(database, first, 5)
    report_store.advance(database, first, 0.5)
    second = trigger(client)
    for report_id in (first, second):
        assert client.get(f"/get_report?report_id={report_id}").json["progress"] == 0.5
    assert row(settings, second, "state", "attempts", "started_us", "shares") == ("running", 1, 5, first)
    report_store.fail(database, first, 9, "why")
    assert row(settings, second, "state", "error", "finished_us") == ("failed", "why", 9)


def test_shared_reports_come_back_after_a_crash_as_one_job(
    runner: Runner, queue: Queue, settings: Settings, database: Database
) -> None:
    ids = [runner.submit(Asked()) for _ in range(3)]
    report_store.claim(database, ids[0], 1)
    queue.jobs.clear()
    again = Runner(database, settings, queue)
    assert again.recover() == 3
    # Whoever asks now does not share the fate of a job under which the server died.
    late = [again.submit(Asked()) for _ in range(2)]
    assert [job[1] for job in queue.jobs] == [ids[0], late[0]]
    report_store.claim(database, ids[0], 1)
    assert again.recover() == 2
    assert {row(settings, report_id, "state") for report_id in ids} == {("failed",)}
    queue.run_all()
    assert [row(settings, report_id, "state", "attempts", "died") for report_id in late] == [("complete", 1, 0)] * 2


def test_one_that_is_asked_for_while_an_equal_one_waits_for_its_next_try_is_computed_at_once(
    runner: Runner, queue: Queue, settings: Settings, database: Database
) -> None:
    first = runner.submit(Asked())
    report_store.claim(database, first, 1)
    report_store.put_off(database, first, "the disk is full", 1 << 60)
    queue.jobs.clear()
    second = runner.submit(Asked())
    queue.run_all()
    assert row(settings, second, "state", "shares", "last_error") == ("complete", None, None)
    assert row(settings, first, "state", "attempts", "last_error") == ("pending", 1, "the disk is full")


def test_the_queue_is_bounded_and_an_equal_report_takes_no_place(
    runner: Runner, queue: Queue, settings: Settings, database: Database
) -> None:
    small = Runner(database, replace(settings, max_pending_reports=2), queue)
    small.submit(Asked())
    small.submit(Asked(columns="full"))
    with pytest.raises(QueueFull, match=r"2 report\(s\) are waiting, as many as may"):
        small.submit(Asked(stores=["worked"]))
    for _ in range(3):
        small.submit(Asked())
    assert sql(settings.database, "SELECT count(*) FROM report") == [(5,)]
    queue.run_all()
    assert row(settings, small.submit(Asked(stores=["worked"])), "state") == ("pending",)


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
    runner = Runner(database, settings, thread(2))
    start = threading.Barrier(16)

    def ask(_: int) -> list[str]:
        start.wait()
        return [runner.submit(Asked()) for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        ids = [report_id for found in pool.map(ask, range(16)) for report_id in found]
    runner.stop(30)
    # What was queued when it stopped waits for the next server.
    again = Runner(database, settings, thread(1))
    again.recover()
    again._executor.shutdown(wait=True)
    assert len(set(ids)) == 320
    jobs = dict(sql(settings.database, "SELECT id, coalesce(shares, id) FROM report WHERE state = 'complete'"))
    assert set(jobs) == set(ids)
    assert files(settings) == sorted(f"report_{job}.csv" for job in set(jobs.values()))
    read: Callable[[str], str] = lambda name: (settings.reports_dir / name).read_text()  # noqa: E731
    assert {read(name) for name in files(settings)} == {SMALL_CSV}
