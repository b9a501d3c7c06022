"""`POST /trigger_report`: what is accepted, what is refused, and with which words (SPEC 4 and 5)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import FORMULA_ID, NO_POLLS, QUOTED_ID, SMALL_CSV, sql
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from storemon_flask.settings import Settings

pytestmark = pytest.mark.usefixtures("small_fleet")


def csv_of(client: FlaskClient, answer: TestResponse) -> str:
    assert answer.status_code == 202, answer.text
    return client.get(answer.headers["Location"]).text


def refused(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    detail: str = json.loads(answer.data)["detail"]
    return detail


def test_answers_202_with_an_id_and_where_the_report_will_be(client: FlaskClient) -> None:
    answer = client.post("/trigger_report")
    assert answer.status_code == 202
    assert answer.content_type == "application/json"
    report_id = answer.json["report_id"]
    assert answer.json == {"report_id": report_id, "status": "Running"}
    assert re.fullmatch("[0-9a-f]{32}", report_id)
    assert answer.headers["Location"] == f"/get_report?report_id={report_id}"


def test_two_equal_requests_get_two_ids_and_the_same_bytes(client: FlaskClient) -> None:
    first, second = client.post("/trigger_report"), client.post("/trigger_report")
    assert first.json["report_id"] != second.json["report_id"]
    assert csv_of(client, first) == csv_of(client, second) == SMALL_CSV


@pytest.mark.parametrize("body", [b"", b"{}", b"  \n", b" {} "])
def test_an_empty_body_asks_for_every_store_as_of_the_newest_poll(client: FlaskClient, body: bytes) -> None:
    assert csv_of(client, client.post("/trigger_report", data=body)) == SMALL_CSV


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
    ],
)
def test_the_body_is_read_as_json_whatever_its_content_type(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post("/trigger_report", data=b'{"stores": ["worked"]}', content_type=content_type)
    assert csv_of(client, answer).splitlines()[1:] == ["worked,0.00,1.74,1.74,60.00,1.26,1.26"]


def test_a_body_with_a_byte_order_mark_is_read(client: FlaskClient) -> None:
    answer = client.post("/trigger_report", data=b'\xef\xbb\xbf{"stores": ["silent"]}')
    assert csv_of(client, answer).splitlines()[1:] == ["silent,0.00,0.00,0.00,0.00,0.00,0.00"]


def test_stores_picks_its_rows_once_each_in_code_point_order(client: FlaskClient) -> None:
    answer = client.post("/trigger_report", json={"stores": ["worked", QUOTED_ID, FORMULA_ID, "worked"]})
    lines = csv_of(client, answer).splitlines()
    assert lines[1:] == [line for line in SMALL_CSV.splitlines()[1:] if not line.startswith("silent")]


def test_columns_full_adds_its_columns_after_the_classic_ones(client: FlaskClient) -> None:
    answer = client.post("/trigger_report", json={"columns": "full", "stores": ["worked"]})
    header, row = csv_of(client, answer).splitlines()
    assert header == (
        "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,downtime_last_hour,downtime_last_day,"
        "downtime_last_week,unknown_last_hour,unknown_last_day,unknown_last_week,business_last_hour,business_last_day,"
        "business_last_week,uptime_percent_last_hour,uptime_percent_last_day,uptime_percent_last_week,"
        "measured_last_hour,measured_last_day,measured_last_week,uptime_low_last_hour,uptime_low_last_day,"
        "uptime_low_last_week,uptime_high_last_hour,uptime_high_last_day,uptime_high_last_week,"
        "polls_last_week,last_poll_utc,status_now,timezone,name,group,"
        "uptime_percent_likely_low_last_hour,uptime_percent_likely_low_last_day,uptime_percent_likely_low_last_week,"
        "uptime_percent_likely_high_last_hour,uptime_percent_likely_high_last_day,uptime_percent_likely_high_last_week"
    )
    # 104.5 of 180 minutes up is 58.0555...%; 15 measured minutes of the last hour, 61 of the day.
    assert row == (
        "worked,0.00,1.74,1.74,60.00,1.26,1.26,0.00,0.00,0.00,60.00,3.00,3.00,0.00,58.06,58.06,"
        "15.00,1.02,1.02,0.00,0.00,0.00,60.00,3.00,3.00,2,2024-10-14T11:15:00.000000Z,closed,UTC,,,,,,,,"
    )


@pytest.mark.parametrize(
    "as_of",
    [
        "2024-10-14T11:00:00Z",
        "2024-10-14 11:00:00 UTC",
        "2024-10-14T11:00:00",
        "2024-10-14T13:00+02:00",
        "20241014T11Z",
    ],
)
def test_as_of_is_read_in_any_iso_spelling_and_later_polls_do_not_exist(client: FlaskClient, as_of: str) -> None:
    answer = client.post("/trigger_report", json={"as_of": as_of, "stores": ["worked"]})
    assert client.get(answer.headers["Location"]).headers["X-Report-As-Of"] == "2024-10-14T11:00:00.000000Z"
    # Only the active poll of 10:14 exists at 11:00: open since 09:00, up all the time.
    assert csv_of(client, answer).splitlines()[1:] == ["worked,60.00,2.00,2.00,0.00,0.00,0.00"]


@pytest.mark.parametrize("as_of", ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z"])
def test_the_first_and_the_last_as_of_allowed_give_a_report(client: FlaskClient, as_of: str) -> None:
    answer = client.post("/trigger_report", json={"as_of": as_of, "stores": ["worked"]})
    assert csv_of(client, answer).splitlines()[1:] == ["worked,0.00,0.00,0.00,0.00,0.00,0.00"]


@pytest.mark.parametrize("as_of", ["1969-12-31T23:59:59Z", "2200-01-01T00:00:00.000001Z", "0001-01-01T00:00:00+14:00"])
def test_an_as_of_outside_1970_to_2200_is_refused(client: FlaskClient, as_of: str) -> None:
    detail = refused(client.post("/trigger_report", json={"as_of": as_of}), 422)
    assert detail == "as_of must lie between 1970-01-01 and 2200-01-01"


@pytest.mark.parametrize(
    "as_of", ["", "yesterday", "2024-13-01T00:00:00Z", "9999-12-31T24:00:00Z", "1728907200", "٢٠٢٤"]
)
def test_an_as_of_that_is_no_instant_is_refused_with_its_text(client: FlaskClient, as_of: str) -> None:
    detail = refused(client.post("/trigger_report", json={"as_of": as_of}), 422)
    assert detail == (
        f"as_of: {as_of!r} is not an instant such as 2024-10-14T23:55:18Z "
        f"(the fields allowed are as_of, stores, columns, windows, "
        "kind, shortest_minutes, by, groups, labels, zones, totals, method, compare)"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"as_of": 1728907200}, "as_of"),
        ({"as_of": True}, "as_of"),
        ({"as_of": None}, "as_of"),
        ({"as_of": ["2024-10-14T12:00:00Z"]}, "as_of"),
        ({"stores": "worked"}, "stores"),
        ({"stores": {"worked": 1}}, "stores"),
        ({"stores": [7]}, "stores"),
        ({"stores": ["worked", None]}, "stores"),
        ({"stores": None}, "stores"),
        ({"stores": []}, "stores"),
        ({"columns": "fancy"}, "columns"),
        ({"columns": ["full"]}, "columns"),
        ({"columns": 1}, "columns"),
        ({"columns": None}, "columns"),
        ({"reach": 1}, "reach"),
        ({"store": ["worked"]}, "store"),
        ({"As_Of": "2024-10-14T12:00:00Z"}, "As_Of"),
        ({"stores": ["worked"], "": 1}, ""),
    ],
)
def test_a_wrong_or_unknown_field_is_a_422_that_names_it(
    client: FlaskClient, settings: Settings, body: dict[str, Any], field: str
) -> None:
    answer = client.post("/trigger_report", json=body)
    assert re.match(rf"{field}(\[\d+\])?: ", refused(answer, 422))
    assert list(json.loads(answer.data)["errors"]) == [field]
    assert sql(settings.database, "SELECT count(*) FROM report") == [(0,)]


def test_an_empty_list_of_stores_says_what_to_do(client: FlaskClient) -> None:
    detail = refused(client.post("/trigger_report", json={"stores": []}), 422)
    assert detail.startswith("stores: name at least one store, or leave it out")


def test_unknown_stores_are_named(client: FlaskClient) -> None:
    answer = client.post("/trigger_report", json={"stores": ["worked", "WORKED", "ghost"]})
    assert refused(answer, 422) == "unknown stores: 'WORKED', 'ghost'"
    assert json.loads(answer.data)["errors"] == {"stores": ["unknown: WORKED", "unknown: ghost"]}


def test_many_unknown_stores_are_counted_after_the_first_ten(client: FlaskClient) -> None:
    answer = client.post("/trigger_report", json={"stores": [f"g{number}" for number in range(1200)]})
    detail = refused(answer, 422)
    assert detail.startswith("unknown stores: 'g0', 'g1', ")
    assert detail.endswith("'g9' and 1,190 more")
    assert len(json.loads(answer.data)["errors"]["stores"]) == 100


@pytest.mark.parametrize("store_id", ["\ud800", "a\x00b", "x" * 100_000, "worked' OR 1=1 --"])
def test_store_ids_that_no_feed_could_hold_are_unknown_and_break_nothing(client: FlaskClient, store_id: str) -> None:
    answer = client.post("/trigger_report", data=json.dumps({"stores": [store_id]}))
    assert refused(answer, 422).startswith("unknown stores: ")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"stores"', b"null", b"true", b"NaN"])
def test_json_that_is_no_object_is_a_422_that_says_so(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/trigger_report", data=body)
    assert refused(answer, 422) == "the body is not a JSON object; send {} or nothing for the defaults"


@pytest.mark.parametrize(
    "body",
    [
        b"stores=worked",
        b"{",
        b"{'stores': ['worked']}",
        b'{"stores": ["worked"]} {}',
        b"\xff\xfe\x00",
        b'{"a": "\xe9"}',
        b"\x00" * 64,
        b'{"as_of": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_not_json_is_a_400_that_says_what_to_send(client: FlaskClient, body: bytes) -> None:
    detail = refused(client.post("/trigger_report", data=body), 400)
    assert detail.startswith("the body is not JSON (")
    assert detail.endswith("; send {} or nothing for the defaults")


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"stores":' * 100_000, b'{"stores": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
)
def test_a_body_nested_without_end_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/trigger_report", data=body)
    assert answer.status_code in (400, 422)
    assert answer.content_type == "application/problem+json"


def test_a_report_never_changes_whatever_is_loaded_later(client: FlaskClient, small_fleet: Path) -> None:
    from conftest import load_folder

    from storemon_flask.database.connections import Database

    where = client.post("/trigger_report").headers["Location"]
    (small_fleet / "polls.csv").write_text(
        "store_id,timestamp_utc,status\nworked,2024-10-14 10:14:00 UTC,inactive\nnew,2024-10-15 12:00:00 UTC,active\n"
    )
    database: Database = client.application.extensions["storemon"].database
    load_folder(database, small_fleet)
    assert client.get(where).text == SMALL_CSV
    later = client.get(client.post("/trigger_report").headers["Location"])
    assert later.headers["X-Report-As-Of"] == "2024-10-15T12:00:00.000000Z"
    assert [line.split(",")[0] for line in later.text.splitlines()[1:]] == [
        "'=cmd|x",
        '"NYC/12',
        "new",
        "silent",
        "worked",
    ]


class TestWithoutPolls:
    @pytest.fixture
    def small_fleet(self) -> None:
        """Nothing is loaded."""

    def test_is_a_409_with_the_sentence_that_says_what_to_run(self, client: FlaskClient) -> None:
        answer = client.post("/trigger_report")
        assert refused(answer, 409) == NO_POLLS
        assert json.loads(answer.data)["status"] == 409

    def test_the_stores_asked_for_do_not_change_that(self, client: FlaskClient) -> None:
        assert refused(client.post("/trigger_report", json={"stores": ["x"]}), 409) == NO_POLLS

    def test_an_as_of_gives_an_empty_report(self, client: FlaskClient) -> None:
        answer = client.post("/trigger_report", json={"as_of": "2024-10-14T12:00:00Z"})
        assert csv_of(client, answer) == SMALL_CSV.splitlines()[0] + "\n"

    def test_a_store_without_polls_is_all_unknown_at_a_given_as_of(
        self, client: FlaskClient, settings: Settings, tmp_path: Path
    ) -> None:
        from conftest import load_folder

        (tmp_path / "zones.csv").write_text("store_id,timezone_str\nsilent,Asia/Tokyo\n")
        load_folder(client.application.extensions["storemon"].database, tmp_path)
        assert refused(client.post("/trigger_report"), 409) == NO_POLLS
        answer = client.post("/trigger_report", json={"as_of": "2024-10-14T12:00:00Z", "columns": "full"})
        assert csv_of(client, answer).splitlines()[1] == (
            "silent,0.00,0.00,0.00,0.00,0.00,0.00,60.00,24.00,168.00,60.00,24.00,168.00,,,,"
            "0.00,0.00,0.00,0.00,0.00,0.00,60.00,24.00,168.00,0,,no_data,Asia/Tokyo,,,,,,,,"
        )
