"""`GET /get_report`: every state of a report, as CSV and as JSON (SPEC 5)."""

import hashlib
import json
from typing import Any

import pytest
from conftest import FORMULA_ID, NEWEST, QUOTED_ID, SMALL_CSV, STORE_IDS, sql
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from worker_helpers import Queue, take_step

from storemon_flask.database import reports
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

pytestmark = pytest.mark.usefixtures("small_fleet")


@pytest.fixture
def report_id(client: FlaskClient) -> str:
    """A complete report of everything."""
    found: str = client.post("/trigger_report").json["report_id"]
    return found


@pytest.fixture
def waiting_id(runner: Worker) -> str:
    """A report that nobody computes yet."""
    return Worker(runner.database, runner.settings, Queue()).submit(ReportRequest())


def get(client: FlaskClient, report_id: str, form: str | None = None, **headers: str) -> TestResponse:
    query = {"report_id": report_id, **({} if form is None else {"format": form})}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get("/get_report", query_string=query, headers=named)


def refused(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    detail: str = json.loads(answer.data)["detail"]
    return detail


def test_a_pending_report_is_running_at_progress_zero(client: FlaskClient, waiting_id: str) -> None:
    answer = get(client, waiting_id)
    assert (answer.status_code, answer.content_type) == (202, "application/json")
    assert answer.json == {"report_id": waiting_id, "status": "Running", "progress": 0}
    assert answer.headers["Retry-After"] == "1"
    assert "X-Report-Status" not in answer.headers


@pytest.mark.parametrize("form", [None, "csv", "json"])
def test_a_running_report_says_how_far_it_is(
    client: FlaskClient, runner: Worker, waiting_id: str, form: str | None
) -> None:
    assert take_step(runner.database, reports.start, waiting_id, 2) is not None
    take_step(runner.database, reports.advance, waiting_id, 0.25)
    answer = get(client, waiting_id, form)
    assert answer.status_code == 202
    assert answer.json == {"report_id": waiting_id, "status": "Running", "progress": 0.25}
    assert answer.headers["Retry-After"] == "1"


def test_a_complete_report_is_its_csv_as_an_attachment(client: FlaskClient, report_id: str) -> None:
    answer = get(client, report_id)
    assert answer.status_code == 200
    assert answer.data == SMALL_CSV.encode()
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.csv"
    assert answer.headers["Content-Length"] == str(len(SMALL_CSV))
    assert answer.headers["X-Report-Status"] == "Complete"
    assert answer.headers["X-Report-As-Of"] == NEWEST
    assert answer.headers["ETag"] == f'"{hashlib.sha256(SMALL_CSV.encode()).hexdigest()}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "Retry-After" not in answer.headers


def test_format_csv_is_the_default(client: FlaskClient, report_id: str) -> None:
    assert get(client, report_id, "csv").data == get(client, report_id).data == SMALL_CSV.encode()


def test_whoever_has_these_bytes_is_told_304(client: FlaskClient, report_id: str) -> None:
    tag = get(client, report_id).headers["ETag"]
    for known in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        answer = get(client, report_id, If_None_Match=known)
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == tag
    answer = get(client, report_id, If_None_Match='"other"')
    assert (answer.status_code, answer.data) == (200, SMALL_CSV.encode())


@pytest.mark.parametrize(
    ("asked", "first", "stop"), [("bytes=0-7", 0, 8), ("bytes=9-", 9, None), ("bytes=-4", -4, None)]
)
def test_a_range_is_a_206_of_these_bytes(
    client: FlaskClient, report_id: str, asked: str, first: int, stop: int | None
) -> None:
    answer = get(client, report_id, Range=asked)
    size = len(SMALL_CSV)
    assert (answer.status_code, answer.data) == (206, SMALL_CSV.encode()[first:stop])
    start = first % size
    assert answer.headers["Content-Range"] == f"bytes {start}-{(stop or size) - 1}/{size}"


def test_a_range_beyond_the_end_is_a_416_that_names_the_size(client: FlaskClient, report_id: str) -> None:
    answer = get(client, report_id, Range="bytes=100000-")
    refused(answer, 416)
    assert answer.headers["Content-Range"] == f"bytes */{len(SMALL_CSV)}"


def test_head_has_the_headers_and_no_body(client: FlaskClient, report_id: str) -> None:
    answer = client.head(f"/get_report?report_id={report_id}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(SMALL_CSV))
    assert answer.headers["X-Report-Status"] == "Complete"


def test_format_json_holds_the_rows_with_ids_unaltered_and_numbers_as_numbers(
    client: FlaskClient, report_id: str
) -> None:
    answer = get(client, report_id, "json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    body = answer.json
    assert [key for key in body if key != "rows"] == ["report_id", "status", "as_of", "method"]
    assert (body["report_id"], body["status"], body["as_of"]) == (report_id, "Complete", NEWEST)
    assert [row["store_id"] for row in body["rows"]] == [FORMULA_ID, QUOTED_ID, "silent", "worked"]
    assert body["rows"][3] == {
        "store_id": "worked",
        "uptime_last_hour": 0.0,
        "uptime_last_day": 1.74,
        "uptime_last_week": 1.74,
        "downtime_last_hour": 60.0,
        "downtime_last_day": 1.26,
        "downtime_last_week": 1.26,
    }
    assert list(body["rows"][0]) == SMALL_CSV.splitlines()[0].split(",")


def test_format_json_of_full_columns_has_null_where_the_csv_is_empty(client: FlaskClient) -> None:
    report_id = client.post("/trigger_report", json={"columns": "full"}).json["report_id"]
    rows: dict[str, dict[str, Any]] = {row["store_id"]: row for row in get(client, report_id, "json").json["rows"]}
    assert tuple(rows) == STORE_IDS
    silent, worked = rows["silent"], rows["worked"]
    assert [silent[f"uptime_percent_last_{window}"] for window in ("hour", "day", "week")] == [None, None, None]
    assert (silent["last_poll_utc"], silent["status_now"], silent["timezone"]) == (None, "no_data", "Asia/Tokyo")
    assert (silent["polls_last_week"], silent["unknown_last_week"]) == (0, 168.0)
    assert [worked[f"uptime_percent_last_{window}"] for window in ("hour", "day", "week")] == [0.0, 58.06, 58.06]
    assert (worked["polls_last_week"], worked["last_poll_utc"]) == (2, "2024-10-14T11:15:00.000000Z")
    assert isinstance(worked["polls_last_week"], int)
    assert rows[FORMULA_ID]["timezone"] == "America/Chicago"
    assert rows[FORMULA_ID]["status_now"] == "up"


def test_format_json_of_no_stores_is_an_empty_list(app: Flask, client: FlaskClient, settings: Settings) -> None:
    for table in ("poll_week", "hours", "timezone", "store_record"):
        sql(settings.database, f"DELETE FROM {table}")
    report_id = client.post("/trigger_report", json={"as_of": "2024-10-14T12:00:00Z"}).json["report_id"]
    assert get(client, report_id, "json").json["rows"] == []


@pytest.mark.parametrize("form", ["xml", "CSV", "", "json "])
def test_any_other_format_is_a_400_that_names_it(client: FlaskClient, report_id: str, form: str) -> None:
    assert refused(get(client, report_id, form), 400) == f"format is {form!r}; it must be csv, json or xlsx"


@pytest.mark.parametrize("query", ["", "?report_id=", "?id=abc", "?Report_Id=abc"])
def test_without_an_id_it_is_a_400_that_says_how_to_name_it(client: FlaskClient, query: str) -> None:
    detail = refused(client.get("/get_report" + query), 400)
    assert detail.startswith("name the report: /get_report?report_id=ID")


@pytest.mark.parametrize(
    "wrong",
    ["0" * 32, "x", "../../etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%2e%2e%2f", "a%00b", "%ff%fe", "x" * 10_000, "'--"],
)
def test_an_unknown_id_is_a_404_that_says_what_makes_one(client: FlaskClient, report_id: str, wrong: str) -> None:
    detail = refused(client.get(f"/get_report?report_id={wrong}"), 404)
    assert detail == "there is no report of that id; the list of reports has those there are"


def test_the_id_is_matched_exactly(client: FlaskClient, report_id: str) -> None:
    for wrong in (report_id.upper() + "x", report_id + ".csv", " " + report_id, report_id[:-1] + "%", report_id[:31]):
        refused(get(client, wrong), 404)


def test_a_deleted_report_is_a_410(client: FlaskClient, settings: Settings, report_id: str) -> None:
    sql(settings.database, "UPDATE report SET state = 'deleted' WHERE id = ?", report_id)
    for form in ("csv", "json"):
        assert refused(get(client, report_id, form), 410) == "the report was deleted; ask for a new one"


def test_a_report_whose_file_was_removed_is_a_410_that_names_the_file(
    client: FlaskClient, settings: Settings, report_id: str
) -> None:
    (settings.reports_dir / f"report_{report_id}.csv").unlink()
    for form in ("csv", "json"):
        assert refused(get(client, report_id, form), 410) == (
            f"the report's file report_{report_id}.csv is no longer in the reports folder; ask for a new report"
        )


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_failed_report_is_a_409_with_the_reason(
    client: FlaskClient, runner: Worker, waiting_id: str, form: str
) -> None:
    take_step(runner.database, reports.start, waiting_id, 2)
    take_step(runner.database, reports.fail, waiting_id, 3, "the disk is full")
    answer = get(client, waiting_id, form)
    detail = "the report failed and will not come: the disk is full; ask for a new one"
    assert refused(answer, 409) == detail
    assert (answer.json["report_id"], answer.json["error"]) == (waiting_id, "the disk is full")
    assert answer.json["type"] == "urn:storemon:problem:report-failed"
    assert "Retry-After" not in answer.headers


class TestBeforeAnythingIsLoaded:
    @pytest.fixture
    def small_fleet(self) -> None:
        """Nothing is loaded."""

    def test_every_id_is_unknown_and_no_database_is_made(self, client: FlaskClient, settings: Settings) -> None:
        refused(get(client, "0" * 32), 404)
        assert not settings.database.exists()
