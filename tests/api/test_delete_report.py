"""`DELETE /api/v1/reports/ID`: in every state, shared or not, and at every moment of the computation."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_CSV, WholeAnswers, sql
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from worker_helpers import Queue, files, row, take_step

from storemon_flask import create_app
from storemon_flask.database import polls, reports
from storemon_flask.database.connections import Database
from storemon_flask.reports import compute, stored
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

GONE = "the report was deleted; ask for a new one"


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def client(small_fleet: Path, settings: Settings, queue: Queue) -> Any:
    app = create_app(settings, queue)
    app.test_client_class = WholeAnswers
    yield app.test_client()
    app.extensions["storemon"].database.close()


def trigger(client: FlaskClient) -> str:
    found: str = client.post("/trigger_report").json["report_id"]
    return found


def delete(client: FlaskClient, report_id: str) -> TestResponse:
    return client.delete(f"/api/v1/reports/{report_id}")


def refused(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    detail: str = json.loads(answer.data)["detail"]
    return detail


def is_gone(client: FlaskClient, report_id: str) -> bool:
    for path in (f"/get_report?report_id={report_id}", f"/api/v1/reports/{report_id}"):
        assert refused(client.get(path), 410) == GONE
    assert refused(delete(client, report_id), 410) == GONE
    return report_id not in client.get("/api/v1/reports").text


def test_a_waiting_report_is_cancelled_and_never_computed(
    client: FlaskClient, queue: Queue, settings: Settings
) -> None:
    report_id = trigger(client)
    answer = delete(client, report_id)
    assert (answer.status_code, answer.data) == (204, b"")
    assert is_gone(client, report_id)
    queue.run_all()
    assert row(settings, report_id, "state", "attempts", "gone") == ("deleted", 0, "asked")
    assert files(settings) == []


def test_a_finished_report_goes_with_its_file_and_its_row_stays(
    client: FlaskClient, queue: Queue, settings: Settings
) -> None:
    kept, report_id = trigger(client), ""
    queue.run_all()
    report_id = trigger(client)
    queue.run_all()
    assert delete(client, report_id).status_code == 204
    assert is_gone(client, report_id)
    assert files(settings) == [f"report_{kept}.csv"]
    assert row(settings, report_id, "query_text", "outcome_text", "query_digest") == (None, None, None)
    assert client.get(f"/get_report?report_id={kept}").text == SMALL_CSV


def test_a_failed_report_can_be_deleted(client: FlaskClient, database: Database) -> None:
    report_id = trigger(client)
    take_step(database, reports.start, report_id, 1)
    take_step(database, reports.fail, report_id, 2, "why")
    assert delete(client, report_id).status_code == 204
    assert is_gone(client, report_id)


def test_an_unknown_id_is_a_404_and_makes_no_database(settings: Settings) -> None:
    app = create_app(settings, Queue())
    assert refused(delete(app.test_client(), "0" * 32), 404).startswith("there is no report of that id")
    assert not settings.database.exists()
    app.extensions["storemon"].database.close()


@pytest.mark.parametrize("step", ["compute", "write", "complete"])
def test_a_running_report_that_is_deleted_leaves_nothing_at_whatever_step(
    client: FlaskClient, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    report_id = trigger(client)
    module, name = {
        "compute": (polls, "read_in_batches"),
        "write": (compute, "write"),
        "complete": (Worker, "_record"),
    }[step]
    real = getattr(module, name)
    steps: list[str] = []

    def watched(*arguments: Any) -> Any:
        assert row(settings, report_id, "state") == ("running",)
        assert delete(client, report_id).status_code == 204
        steps.append(step)
        return real(*arguments)

    written: list[Any] = []
    write = compute.write
    monkeypatch.setattr(compute, "write", lambda *arguments: written.append(write(*arguments)) or written[-1])
    if step == "write":
        real = compute.write
    monkeypatch.setattr(module, name, watched)
    queue.run_all()
    assert steps == [step]
    assert is_gone(client, report_id)
    assert files(settings) == []
    # It stops at its next step: what was still computing is never written.
    assert len(written) == (0 if step == "compute" else 1)


@pytest.mark.parametrize("deleted", [0, 1])
@pytest.mark.parametrize("when", ["waiting", "running", "complete"])
def test_of_two_equal_ones_the_other_keeps_its_file(
    client: FlaskClient, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, when: str, deleted: int
) -> None:
    ids = [trigger(client), trigger(client)]
    read = polls.read_in_batches
    deletions: list[int] = []

    def watched(*arguments: Any) -> Any:
        if when == "running" and not deletions:
            deletions.append(delete(client, ids[deleted]).status_code)
        return read(*arguments)

    monkeypatch.setattr(polls, "read_in_batches", watched)
    if when == "waiting":
        assert delete(client, ids[deleted]).status_code == 204
    queue.run_all()
    if when == "complete":
        assert delete(client, ids[deleted]).status_code == 204
    assert deletions == ([204] if when == "running" else [])
    other = ids[1 - deleted]
    assert is_gone(client, ids[deleted])
    assert client.get(f"/get_report?report_id={other}").text == SMALL_CSV
    # The next start sees nothing amiss either.
    app = client.application
    app.extensions["storemon"].worker.recover()
    assert client.get(f"/get_report?report_id={other}").text == SMALL_CSV
    assert files(settings) == [f"report_{other}.csv"]
    assert delete(client, other).status_code == 204
    assert is_gone(client, other)
    assert files(settings) == []


def test_the_same_asked_again_after_a_cancelled_one_is_computed_anew(
    client: FlaskClient, queue: Queue, settings: Settings
) -> None:
    first = trigger(client)
    delete(client, first)
    second = trigger(client)
    queue.run_all()
    assert client.get(f"/get_report?report_id={second}").text == SMALL_CSV
    assert files(settings) == [f"report_{second}.csv"]


def test_a_deleted_report_that_stops_takes_nothing_from_an_equal_one_that_came_after(
    client: FlaskClient, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trigger(client)
    second: list[str] = []
    record = Worker._record

    def watched(*arguments: Any) -> int:
        if not second:
            delete(client, first)
            second.append(trigger(client))
        return record(*arguments)

    monkeypatch.setattr(Worker, "_record", watched)
    queue.run_all()
    queue.run_all()
    assert row(settings, second[0], "state") == ("complete",)
    assert client.get(f"/get_report?report_id={second[0]}").text == SMALL_CSV
    assert files(settings) == [f"report_{second[0]}.csv"]


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_a_report_that_is_deleted_while_it_is_sent_is_a_410(
    client: FlaskClient, queue: Queue, settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    report_id = trigger(client)
    queue.run_all()
    file_of = stored.file_of

    def watched(*arguments: Any) -> Path:
        file = file_of(*arguments)
        file.unlink()
        return file

    monkeypatch.setattr(stored, "file_of", watched)
    answer = client.get(f"/get_report?report_id={report_id}&format={form}")
    assert refused(answer, 410).endswith("is no longer in the reports folder; ask for a new report")
    assert client.get(f"/api/v1/reports/{report_id}/diff?against={report_id}").status_code == 410


def test_of_many_who_delete_one_succeeds(client: FlaskClient, queue: Queue, settings: Settings) -> None:
    report_id = trigger(client)
    queue.run_all()
    start, codes = threading.Barrier(8), []

    def ask() -> None:
        mine = client.application.test_client()
        start.wait()
        codes.append(delete(mine, report_id).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(codes) == [204] + [410] * 7
    assert files(settings) == []


def test_deletions_that_race_with_completions_leave_no_orphan_and_no_lie(
    small_fleet: Path, settings: Settings, database: Database
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from storemon_flask.reports.request import ReportRequest

    runner = Worker(database, settings, ThreadPoolExecutor(2))
    deleted: list[str] = []
    kept: list[str] = []
    for number in range(60):
        # Every third pair is equal.
        asked = [ReportRequest(number + 1), ReportRequest(number + 1 if number % 3 == 0 else number + 1000)]
        first, second = (runner.submit(one) for one in asked)
        deleter = threading.Thread(target=runner.delete, args=(first,))
        deleter.start()
        deleter.join(30)
        deleted.append(first)
        kept.append(second)
    runner._executor.shutdown(wait=True)
    states = dict(sql(settings.database, "SELECT id, state FROM report"))
    assert {states[report_id] for report_id in deleted} == {"deleted"}
    assert {states[report_id] for report_id in kept} == {"complete"}
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in kept)
