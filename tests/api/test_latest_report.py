"""`GET /api/v1/reports/latest.csv`: one address for spreadsheets and scripts (SPEC 5)."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import QUOTED_ID, SMALL_CSV, Server, http, load_folder, sql
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from worker_helpers import NOON_US, Clock, Queue, state

from storemon_flask import create_app
from storemon_flask.api import schemas
from storemon_flask.database.connections import Database
from storemon_flask.model import HOUR_US
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings

PATH = "/api/v1/reports/latest.csv"
KEY = "a-key-of-the-settings-that-allows-everything"


@pytest.fixture
def clock(app: Flask) -> Clock:
    """The clock of the app's runner."""
    # Later than what the tests push.
    found = Clock(NOON_US + HOUR_US)
    runner: Worker = app.extensions["storemon"].worker
    runner._clock = found
    return found


@pytest.fixture
def client(small_fleet: Path, app: Flask) -> FlaskClient:
    return app.test_client()


def get(client: FlaskClient, **query: Any) -> TestResponse:
    return client.get(PATH, query_string=query, buffered=True)


def report_id(answer: TestResponse) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["Content-Disposition"].removeprefix("attachment; filename=report_").removesuffix(".csv")


def reports(settings: Settings) -> int:
    return int(sql(settings.database, "SELECT count(*) FROM report")[0][0])


def push(client: FlaskClient, minute: int, status: str = "active") -> None:
    row = f"store_id,timestamp_utc,status\nworked,2024-10-14 12:{minute:02} UTC,{status}\n"
    assert client.post("/api/v1/feeds/polls", data=row).json["new"] == 1


def test_it_computes_the_report_and_answers_it_as_get_report_does(client: FlaskClient) -> None:
    answer = get(client)
    assert (answer.status_code, answer.text) == (200, SMALL_CSV)
    same = client.get(f"/get_report?report_id={report_id(answer)}", buffered=True)
    for name in ("Content-Type", "ETag", "X-Report-Status", "X-Report-As-Of", "Content-Disposition", "Cache-Control"):
        assert answer.headers[name] == same.headers[name], name
    assert client.get(PATH, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    part = client.get(PATH, headers={"Range": "bytes=0-7"}, buffered=True)
    assert (part.status_code, part.text) == (206, "store_id")
    assert client.head(PATH).headers["Content-Length"] == str(len(SMALL_CSV))


def test_on_data_that_did_not_change_it_is_the_same_report_however_old(
    client: FlaskClient, clock: Clock, settings: Settings
) -> None:
    first = get(client)
    clock.turn(30 * 86_400)
    assert report_id(get(client)) == report_id(get(client, max_age=0)) == report_id(first)
    assert reports(settings) == 1


def test_a_report_that_was_triggered_is_as_good(client: FlaskClient, settings: Settings) -> None:
    triggered = client.post("/trigger_report").json["report_id"]
    assert report_id(get(client)) == triggered
    assert reports(settings) == 1


def test_when_the_data_changed_max_age_says_whether_the_last_report_will_do(
    client: FlaskClient, clock: Clock, settings: Settings
) -> None:
    first = get(client)
    push(client, 10)
    clock.turn(60)
    assert report_id(get(client, max_age=60)) == report_id(first)
    assert reports(settings) == 1
    newer = get(client, max_age=59)
    assert newer.headers["X-Report-As-Of"] == "2024-10-14T12:10:00.000000Z"
    assert reports(settings) == 2
    push(client, 20)
    clock.turn(10)
    # The newest that is fresh enough, not the first.
    assert report_id(get(client, max_age=3600)) == report_id(newer)
    assert get(client).headers["X-Report-As-Of"] == "2024-10-14T12:20:00.000000Z"


def test_a_report_of_a_clock_that_was_set_back_is_not_fresh(client: FlaskClient, clock: Clock) -> None:
    first = get(client)
    push(client, 10)
    clock.turn(-3600)
    assert report_id(get(client, max_age=60)) != report_id(first)


def test_polls_in_the_future_are_reported_when_their_time_has_come_each_once(
    client: FlaskClient, clock: Clock, settings: Settings
) -> None:
    def as_of() -> str:
        return get(client).headers["X-Report-As-Of"]

    push(client, 40)
    push(client, 50)
    clock.now_us = NOON_US
    seen = []
    for _ in range(13):
        seen += [as_of(), as_of()]
        clock.turn(300)
    # The limit is five minutes ahead of the clock: 12:40 counts from 12:35 on.
    assert seen == [f"2024-10-14T12:{minute:02}:00.000000Z" for minute in [0] * 14 + [40] * 4 + [50] * 8]
    assert reports(settings) == 3


def test_where_every_poll_is_in_the_future_there_is_no_report_but_of_a_named_instant(
    client: FlaskClient, clock: Clock, settings: Settings
) -> None:
    clock.now_us = 60_000_000
    for refused in (get(client), client.post("/trigger_report")):
        assert (refused.status_code, refused.json["type"]) == (409, "urn:storemon:problem:only-future-polls")
        assert refused.json["detail"] == (
            "every poll is later than 1970-01-01 00:06 UTC, the latest "
            "that this machine's clock allows; set the clock, or give an "
            "as_of"
        )
    assert reports(settings) == 0
    assert get(client, as_of="2024-10-14T12:00:00Z").text == SMALL_CSV


def test_one_whose_as_of_was_named_answers_only_who_names_it(client: FlaskClient, settings: Settings) -> None:
    named = client.post("/trigger_report", json={"as_of": "2024-10-14T12:00:00Z"}).json["report_id"]
    other = get(client, max_age=3600)
    assert report_id(other) != named
    assert report_id(get(client, as_of="2024-10-14T14:00:00+02:00")) == named
    assert other.text == get(client, as_of="2024-10-14 12:00").text
    assert reports(settings) == 2


ASKED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"columns": "full"}, {"columns": "full"}),
    ({"stores": ["worked", QUOTED_ID]}, {"stores": ["worked", QUOTED_ID]}),
    ({"stores": "silent"}, {"stores": ["silent"]}),
    ({"windows": ["last_day", "last_month"]}, {"windows": ["last_day", "last_month"]}),
    (
        {"windows": ["2024-10-13/2024-10-14", "2024-10-14T09:00:00Z/2024-10-14T12:00:00+00:00/the morning/of it"]},
        {
            "windows": [
                {"from": "2024-10-13", "to": "2024-10-14"},
                {"from": "2024-10-14T09:00:00Z", "to": "2024-10-14T12:00:00+00:00", "name": "the morning/of it"},
            ]
        },
    ),
    ({"by": "day", "totals": "true", "method": "previous"}, {"by": "day", "totals": True, "method": "previous"}),
    ({"totals": "false"}, {}),
    ({"zones": ["UTC", "Asia/Tokyo"]}, {"zones": ["UTC", "Asia/Tokyo"]}),
    ({"groups": [""]}, {"groups": [""]}),
    ({"kind": "outages", "shortest_minutes": "0.5"}, {"kind": "outages", "shortest_minutes": 0.5}),
]


@pytest.mark.parametrize(("query", "body"), ASKED)
def test_the_parameters_are_those_of_a_trigger(
    client: FlaskClient, settings: Settings, query: dict[str, Any], body: dict[str, Any]
) -> None:
    get(client, by="hour")
    triggered = client.post("/trigger_report", json=body)
    assert triggered.status_code == 202, triggered.text
    answer = get(client, **query)
    assert report_id(answer) == triggered.json["report_id"]
    assert answer.text == client.get(triggered.headers["Location"], buffered=True).text
    assert reports(settings) == 2


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"max_age": "-1"}, "max_age "),
        ({"max_age": "1.5"}, "max_age "),
        ({"max_age": "soon"}, "max_age "),
        ({"max_age": ["1", "2"]}, "max_age is given more than once"),
        ({"as_of": "yesterday"}, "as_of "),
        ({"columns": "fancy"}, "columns "),
        ({"stores": "ghost"}, "unknown stores: 'ghost'"),
        ({"windows": "2024-10-14/2024-10-13"}, "windows[0] runs from"),
        ({"windows": "2024-10-14/2024-10-14T00:00:00Z"}, "windows[0] mixes"),
        ({"windows": "/"}, "windows[0].from is ''"),
        ({"windows": "soon"}, "windows[0] is 'soon'"),
        ({"totals": "yes"}, "totals "),
        ({"shortest_minutes": "nan", "kind": "outages"}, "shortest_minutes "),
        ({"shortest_minutes": "5"}, "shortest_minutes "),
        ({"groups": "nowhere"}, "groups: no store is in"),
        ({"wait": "5"}, "wait is not a parameter"),
        ({"store": "worked"}, "store is not a parameter"),
    ],
)
def test_a_wrong_parameter_is_a_422_that_names_it(
    client: FlaskClient, settings: Settings, query: dict[str, Any], detail: str
) -> None:
    answer = get(client, **query)
    assert answer.status_code == 422
    assert answer.json["detail"].startswith(detail)
    assert reports(settings) == 0


def test_one_whose_file_is_gone_is_computed_anew(client: FlaskClient, settings: Settings) -> None:
    first = get(client)
    (settings.reports_dir / f"report_{report_id(first)}.csv").unlink()
    second = get(client)
    assert second.text == SMALL_CSV
    assert report_id(second) != report_id(first)


def test_another_version_or_other_rules_do_not_answer_for_this_one(client: FlaskClient, settings: Settings) -> None:
    first = report_id(get(client))
    rules = create_app(replace(settings, max_gap_us=settings.max_gap_us // 2), InlineExecutor())
    assert report_id(get(rules.test_client(), max_age=3600)) != first
    rules.extensions["storemon"].database.close()
    # What an older program wrote had another version in its digest.
    sql(settings.database, "UPDATE report SET query_digest = 'of another version'")
    assert report_id(get(client, max_age=3600)) != first


def test_a_report_that_failed_is_a_409_and_the_next_call_tries_anew(client: FlaskClient, settings: Settings) -> None:
    settings.reports_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.reports_dir.write_text("in the way")
    answer = get(client)
    assert (answer.status_code, answer.json["title"]) == (409, "Report failed")
    assert "cannot be made: Not a directory" in answer.json["error"]
    settings.reports_dir.unlink()
    assert get(client).text == SMALL_CSV


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://elsewhere.example", "Sec-Fetch-Dest": "empty"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}, 200),
        ({"Origin": "http://localhost", "Sec-Fetch-Dest": "empty"}, 200),
    ],
)
def test_a_page_of_another_site_may_link_to_it_and_not_load_it(
    client: FlaskClient, settings: Settings, headers: dict[str, str], status: int
) -> None:
    assert client.get(PATH, headers=headers, buffered=True).status_code == status
    assert reports(settings) == (status == 200)


def test_a_key_that_may_read_may_ask(settings: Settings, small_fleet: Path) -> None:
    from storemon_flask.settings import Secret

    app = create_app(replace(settings, api_key=Secret(KEY)), InlineExecutor())
    locked = app.test_client()
    assert locked.get(PATH).status_code == 401
    added = app.extensions["storemon"].database
    from storemon_flask.database import keys

    read = keys.add(added, "read", "sheet", 1)
    assert locked.get(PATH, headers={"Authorization": f"Bearer {read}"}, buffered=True).text == SMALL_CSV
    added.close()


class TestOnItsWay:
    @pytest.fixture
    def queue(self) -> Queue:
        return Queue()

    @pytest.fixture
    def app(self, settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
        monkeypatch.setattr(schemas, "MAX_WAIT_S", 0.2)
        made = create_app(replace(settings, http_threads=16, max_pending_reports=2), queue)
        yield made
        made.extensions["storemon"].database.close()

    def test_after_the_longest_wait_it_is_a_503_and_the_next_call_waits_for_the_same_report(
        self, client: FlaskClient, queue: Queue, settings: Settings
    ) -> None:
        for _ in range(3):
            answer = get(client)
            assert (answer.status_code, answer.json["type"]) == (503, "urn:storemon:problem:not-complete")
            assert answer.headers["Retry-After"] == "2"
            assert "being computed" in answer.json["detail"]
        assert (reports(settings), len(queue.calls)) == (1, 1)
        queue.run_all()
        assert get(client).text == SMALL_CSV

    def test_one_on_its_way_for_other_data_will_do_within_max_age_only(
        self, client: FlaskClient, queue: Queue, settings: Settings
    ) -> None:
        assert get(client).status_code == 503
        push(client, 10)
        assert get(client, max_age=3600).status_code == 503
        assert reports(settings) == 1
        assert get(client).status_code == 503
        assert reports(settings) == 2
        queue.run_all()

    def test_the_bounds_of_the_queue_hold(self, client: FlaskClient, settings: Settings) -> None:
        for columns in ("classic", "full"):
            assert get(client, columns=columns).json["title"] == "Not complete yet"
        answer = get(client, by="day")
        assert (answer.status_code, answer.json["title"]) == (503, "Queue full")
        assert answer.headers["Retry-After"] == "10"
        assert reports(settings) == 2

    def test_one_that_went_wrong_before_is_not_waited_for(
        self, client: FlaskClient, queue: Queue, settings: Settings
    ) -> None:
        get(client)
        sql(settings.database, "UPDATE report SET last_error = 'no room', attempts = 1")
        get(client)
        assert reports(settings) == 2


class TestWithoutPolls:
    def test_it_is_a_409_that_says_what_to_run(self, app: Flask, database: Database) -> None:
        answer = get(app.test_client())
        assert (answer.status_code, answer.json["title"]) == (409, "No polls loaded")


def test_a_flood_of_equal_calls_is_one_computation(serve: Callable[..., Server], small_fleet: Path) -> None:
    server = serve(STOREMON_HTTP_THREADS="32")
    together = threading.Barrier(24)

    def call(_: int) -> Any:
        together.wait()
        while True:
            answer = http(f"{server.url}{PATH}?columns=full")
            if answer.status != 503:
                return answer
            time.sleep(0.05)

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(call, range(24)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sql(server.home / "instance" / "storemon.db", "SELECT count(*) FROM report") == [(1,)]


def test_a_load_between_two_calls_is_in_the_second(
    client: FlaskClient, small_fleet: Path, app: Flask, tmp_path: Path
) -> None:
    first = get(client)
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "polls.csv").write_text("store_id,timestamp_utc,status\nnew,2024-10-14 11:59:00 UTC,active\n")
    load_folder(app.extensions["storemon"].database, folder)
    second = get(client)
    assert "new" not in first.text
    assert [line for line in second.text.splitlines() if line.startswith("new,")] != []


def test_of_two_that_find_nothing_the_second_finds_what_the_first_has_added(
    client: FlaskClient, app: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when that is complete before the second gets to adding."""
    runner: Worker = app.extensions["storemon"].worker
    known = runner._latest
    looked: list[str] = []

    def slow(*arguments: Any) -> Any:
        report_id = known(*arguments)
        looked.append("nothing" if report_id is None else state(settings, report_id))
        if len(looked) == 1:
            assert client.post("/trigger_report").status_code == 202
        return report_id

    monkeypatch.setattr(runner, "_latest", slow)
    assert get(client).text == SMALL_CSV
    assert looked == ["nothing", "complete"]
    assert reports(settings) == 1
