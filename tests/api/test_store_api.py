"""The calls about stores over HTTP: values, parameters, errors, and that every answer fits its schema."""

import csv
import io
import json
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import pytest
from conftest import FORMULA_ID, NEWEST, QUOTED_ID, STORE_IDS, load_folder, storemon
from flask import url_for

from storemon_flask import clock
from storemon_flask.api.schemas import StoreDetailSchema, StoresSchema, TimelineSchema
from storemon_flask.database import polls
from storemon_flask.stores import detail as timelines

HOUR = timedelta(hours=1)
EMPTY = {"down": 0, "stale": 0, "waiting": 0, "up": 0, "closed": 0, "no_data": 0}


def get(client, path, schema=None, **query):
    answer = client.get(path, query_string=query)
    assert answer.content_type == "application/json", answer.text
    assert answer.status_code == 200
    if schema is not None:
        assert schema.validate(answer.json) == {}
    return answer.json


def problem(client, path, expected, /, **query):
    answer = client.get(path, query_string=query)
    assert (answer.status_code, answer.content_type) == (expected, "application/problem+json"), answer.text
    return answer.json


def stores(client, **query):
    return get(client, "/api/v1/stores", StoresSchema(), **query)


def timeline(client, store_id, **query):
    return get(client, f"/api/v1/stores/{quote(store_id, safe='')}/timeline", TimelineSchema(), **query)


def ids(answer):
    return [one["store_id"] for one in answer["stores"]]


def test_the_list_of_old_data_says_so_and_is_of_the_newest_poll(small_fleet, client):
    answer = stores(client)
    assert (answer["as_of"], answer["data_are_old"]) == (NEWEST, True)
    assert answer["notice"].endswith(f"days old; everything here is as of that poll, {NEWEST}")
    assert (answer["total"], answer["next"]) == (4, None)
    assert answer["counts"] == EMPTY | {"up": 1, "closed": 1, "no_data": 2}
    assert ids(answer) == ["worked", FORMULA_ID, QUOTED_ID, "silent"]
    assert answer["stores"][1]["since"] == "2024-10-13T11:30:00.000000Z"
    assert answer["stores"][1]["uptime_percent_last_day"] == 100.0


def test_a_list_of_a_fleet_that_is_polled_now_is_of_now(database, client, tmp_path):
    now = datetime.now(UTC)
    rows = ["on", "off", "gone"]
    polls = [(rows[0], now - HOUR, "active"), (rows[1], now - HOUR, "inactive"), (rows[2], now - 3 * HOUR, "active")]
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n" + "".join(f"{one},{at:%Y-%m-%d %H:%M:%S},{word}\n" for one, at, word in polls)
    )
    load_folder(database, tmp_path / "feeds")
    before = time.time_ns() // 1000
    answer = stores(client)
    assert before <= clock.parse_timestamp(answer["as_of"]) <= time.time_ns() // 1000
    assert (answer["data_are_old"], answer["notice"]) == (False, None)
    assert [(one["store_id"], one["status"]) for one in answer["stores"]] == [
        *(("off", "down"), ("gone", "stale"), ("on", "up"))
    ]
    gone_since = clock.parse_timestamp(answer["stores"][1]["since"]) / 1e6
    assert gone_since == int((now - 3 * HOUR).timestamp())
    assert answer["stores"][1]["status_text"] == "no poll for 3 h"


def test_after_a_load_the_list_has_it(small_fleet, client, database, tmp_path):
    assert stores(client)["total"] == 4
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "names.csv").write_text("store_id,name,group\nworked,The Corner,North\nnew,Annex,South\n")
    load_folder(database, tmp_path / "more")
    assert stores(client)["total"] == 5
    new = stores(client, q="corner")
    assert ids(new) == ["worked"]
    assert (new["stores"][0]["name"], new["stores"][0]["group"]) == ("The Corner", "North")
    assert ids(stores(client, group="South")) == ["new"]
    assert ids(stores(client, group="", sort="store_id")) == [FORMULA_ID, QUOTED_ID, "silent"]


def test_filters_sorts_and_pages(small_fleet, client):
    assert ids(stores(client, status=["up", "closed"])) == ["worked", FORMULA_ID]
    some = stores(client, status="no_data", zone="Asia/Tokyo")
    assert (ids(some), some["total"], some["counts"]) == (["silent"], 1, EMPTY | {"no_data": 1})
    assert ids(stores(client, q="NYC")) == [QUOTED_ID]
    assert ids(stores(client, sort="store_id", order="desc")) == sorted(STORE_IDS, reverse=True)
    found, cursor = [], None
    for _ in range(4):
        page = stores(client, sort="last_poll", limit=1, **({"cursor": cursor} if cursor else {}))
        found += ids(page)
        cursor = page["next"]
    assert (found, cursor) == (["worked", FORMULA_ID, QUOTED_ID, "silent"], None)


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"status": "broken"}, "status", "status must be one of"),
        ({"sort": "colour"}, "sort", "worst"),
        ({"order": "up"}, "order", "asc"),
        ({"limit": "0"}, "limit", "1"),
        ({"limit": "1001"}, "limit", "1000"),
        ({"limit": "many"}, "limit", "integer"),
        ({"cursor": "nonsense"}, "cursor", "cursor is broken"),
        ({"page": "2"}, "page", "is not a parameter"),
        ({"q": ["a", "b"]}, "q", "more than once"),
    ],
)
def test_a_wrong_parameter_is_named(small_fleet, client, query, field, said):
    answer = problem(client, "/api/v1/stores", 422, **query)
    assert field in answer["errors"]
    assert said in answer["detail"]


def test_one_store(small_fleet, client):
    one = get(client, "/api/v1/stores/worked", StoreDetailSchema())
    assert one["status"] == "closed"
    assert (one["first_poll"], one["polls"]) == ("2024-10-14T10:14:00.000000Z", 2)
    assert one["always_open"] is False
    assert one["hours"] == [{"day": 0, "start_time_local": "09:00", "end_time_local": "12:00", "valid_from": None}]
    assert one["special_hours"] == []
    silent = get(client, "/api/v1/stores/silent", StoreDetailSchema())
    assert (silent["first_poll"], silent["polls"], silent["always_open"], silent["hours"]) == (None, 0, True, [])
    listed = {row["store_id"]: row for row in stores(client)["stores"]}
    assert {name: one[name] for name in listed["worked"]} == listed["worked"]


@pytest.mark.parametrize("store_id", STORE_IDS)
def test_any_id_is_one_segment_of_the_path(small_fleet, client, store_id):
    path = f"/api/v1/stores/{quote(store_id, safe='')}"
    assert get(client, path, StoreDetailSchema())["store_id"] == store_id
    assert timeline(client, store_id)["store_id"] == store_id


@pytest.mark.parametrize("path", ["/api/v1/stores/nobody", "/api/v1/stores/nobody/timeline", "/api/v1/stores/%ff%00"])
def test_an_unknown_store_is_404_and_says_so(small_fleet, client, path):
    assert "there is no store" in problem(client, path, 404)["detail"]


def test_a_timeline(small_fleet, client):
    answer = timeline(client, "worked", **{"from": "2024-10-14T00:00:00Z"})
    assert (answer["timezone"], answer["from"], answer["to"]) == ("UTC", "2024-10-14T00:00:00.000000Z", NEWEST)
    assert answer["openings"] == [{"start": "2024-10-14T09:00:00.000000Z", "end": NEWEST}]
    assert [(one["start"][11:19], one["end"][11:19], one["state"], one["known"]) for one in answer["stretches"]] == [
        ("09:00:00", "10:14:00", "up", "extrapolated"),
        ("10:14:00", "10:44:30", "up", "between"),
        ("10:44:30", "11:15:00", "down", "between"),
        ("11:15:00", "12:00:00", "down", "extrapolated"),
    ]
    assert answer["polls"] == [
        {"at": "2024-10-14T10:14:00.000000Z", "status": "active", "counts": True},
        {"at": "2024-10-14T11:15:00.000000Z", "status": "inactive", "counts": True},
    ]
    assert answer["outages"] == [
        {
            "start": "2024-10-14T10:44:30.000000Z",
            "end": NEWEST,
            "start_earliest": "2024-10-14T10:14:00.000000Z",
            "start_latest": "2024-10-14T11:15:00.000000Z",
            "end_earliest": "2024-10-14T11:15:00.000000Z",
            "end_latest": NEWEST,
            "down_us": 4_530_000_000,
            "polls": 1,
            "ongoing": True,
        }
    ]
    assert answer["sums"] == {
        "uptime_us": 6_270_000_000,
        "downtime_us": 4_530_000_000,
        "unknown_us": 0,
        "business_us": 10_800_000_000,
        "measured_us": 3_660_000_000,
        "uptime_low_us": 0,
        "uptime_high_us": 10_800_000_000,
    }


def test_a_timeline_is_of_seven_days_and_ends_at_the_as_of(small_fleet, client):
    answer = timeline(client, "silent")
    assert (answer["from"], answer["to"]) == ("2024-10-07T12:00:00.000000Z", NEWEST)
    assert [one["state"] for one in answer["stretches"]] == ["unknown"]
    later = timeline(client, "silent", **{"from": "2024-10-14", "to": "2030-01-01"})
    assert (later["from"], later["to"]) == ("2024-10-14T00:00:00.000000Z", NEWEST)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "yesterday"}, "is not an instant such as"),
        ({"from": "2024-09-13T11:59:59Z"}, "at most 31 days before to"),
        ({"from": "2024-10-13", "to": "2024-10-13"}, "from must lie before to"),
        ({"from": "2030-01-01"}, "from must lie before to"),
        ({"from": "1969-12-31"}, "must not lie before 1970"),
        ({"from": "0001-01-01", "to": "0001-01-02"}, "must not lie before 1970"),
        ({"to": "0001-01-02"}, "from must lie before to"),
        ({"to": "1970-01-01T00:00:00Z"}, "from must lie before to"),
        ({"since": "2024-10-13"}, "is not a parameter"),
    ],
)
def test_a_wrong_range_is_said(small_fleet, client, query, said):
    assert said in problem(client, "/api/v1/stores/worked/timeline", 422, **query)["detail"]


def test_the_first_days_of_all_time_have_a_timeline(small_fleet, client):
    answer = timeline(client, "worked", to="1970-01-08T00:00:00Z")
    assert (answer["from"], [one["state"] for one in answer["stretches"]]) == (
        "1970-01-01T00:00:00.000000Z",
        ["unknown"],
    )


def test_an_outage_is_told_whole_however_far_before_the_range_it_began(database, client, tmp_path):
    (tmp_path / "feeds").mkdir()
    first = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [f"s,{first - HOUR:%Y-%m-%d %H:%M:%S},active"]
    rows += [f"s,{first + hour * HOUR:%Y-%m-%d %H:%M:%S},inactive" for hour in range(24 * 100)]
    (tmp_path / "feeds" / "polls.csv").write_text("store_id,timestamp_utc,status\n" + "\n".join(rows) + "\n")
    load_folder(database, tmp_path / "feeds")
    answer = timeline(client, "s", **{"from": "2024-03-30", "to": "2024-03-31"})
    assert [(one["start"], one["start_earliest"], one["polls"], one["ongoing"]) for one in answer["outages"]] == [
        ("2023-12-31T23:30:00.000000Z", "2023-12-31T23:00:00.000000Z", 2400, True)
    ]
    assert answer["sums"]["downtime_us"] == 86_400_000_000


def test_without_a_poll_there_is_a_list_all_the_same(database, client, tmp_path):
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "zones.csv").write_text("store_id,timezone\nsilent,Asia/Tokyo\n")
    load_folder(database, tmp_path / "feeds")
    answer = stores(client)
    assert (answer["data_are_old"], [one["status"] for one in answer["stores"]]) == (False, ["no_data"])
    assert [one["state"] for one in timeline(client, "silent")["stretches"]] == ["unknown"]


def test_an_empty_database_has_an_empty_list(database, client):
    database.prepare()
    answer = stores(client)
    assert (answer["stores"], answer["total"], answer["counts"]) == ([], 0, EMPTY)


def test_the_calls_need_a_key_that_may_read(app):
    scopes = {name: view.scope for name, view in app.view_functions.items() if name.startswith("stores.")}
    reading = ("stores.stores", "stores.stores_csv", "stores.one_store", "stores.store_timeline")
    assert {endpoint for endpoint, scope in scopes.items() if scope == "read"} == set(reading)
    assert len(scopes) == len(reading) + 5


def test_the_real_server_answers_and_ends_in_good_order(server):
    answer = server.get("/api/v1/stores?limit=2")
    assert (answer.status, len(answer.json["stores"])) == (200, 2)
    assert server.get(f"/api/v1/stores/{quote(QUOTED_ID, safe='')}/timeline").json["store_id"] == QUOTED_ID
    assert server.end() == 0


@pytest.mark.parametrize(
    ("segment", "store_id"),
    [("~.", "."), ("~..", ".."), ("~~..", "~.."), ("%7E%2E%2E", ".."), ("~...", "~..."), ("~a", "~a"), ("...", "...")],
)
def test_ids_that_mean_folders_are_written_with_a_tilde(client, segment, store_id):
    polls = f"store_id,timestamp_utc,status\n{store_id},2024-10-14 11:00:00,active\n"
    assert client.post("/api/v1/feeds/polls", data=polls).status_code == 200
    assert client.get(f"/api/v1/stores/{segment}").json["store_id"] == store_id
    assert client.put(f"/api/v1/stores/{segment}/timezone", json={"timezone": "UTC"}).status_code == 200
    with client.application.test_request_context():
        assert unquote(segment) == url_for("store.store", store_id=store_id).removeprefix("/stores/")


def test_a_timeline_of_too_many_polls_is_refused_before_it_is_made(small_fleet, client, monkeypatch):
    monkeypatch.setattr(timelines, "MOST_POLLS", 2)
    assert len(timeline(client, "worked")["polls"]) == 2
    monkeypatch.setattr(timelines, "MOST_POLLS", 1)
    monkeypatch.setattr(polls, "read", None)
    found = problem(client, "/api/v1/stores/worked/timeline", 422)
    assert found["detail"] == (
        "the store has 2 polls from 2024-10-07T12:00:00.000000Z to "
        "2024-10-14T12:00:00.000000Z, and one answer has at most 1; "
        "ask for fewer days, or for a report of its outages"
    )
    assert found["errors"] == {"from": [found["detail"]]}


def test_a_timeline_of_many_polls_takes_a_slot_for_large_answers(small_fleet, client, runner, monkeypatch):
    whole = timeline(client, "worked")
    entered = []

    @contextmanager
    def take_slot():
        entered.append(1)
        yield

    monkeypatch.setattr(runner.slots, "for_answer", take_slot)
    assert timeline(client, "worked") == whole
    assert entered == []
    monkeypatch.setattr(timelines, "_MANY_POLLS", 1)
    assert timeline(client, "worked") == whole
    assert client.get("/stores/worked", headers={"Accept": "text/html"}).status_code == 200
    assert entered == [1, 1]


def test_polls_of_a_store_are_counted_at_both_edges_and_in_whole_weeks(database, tmp_path):
    start_us, day_us = 1_728_000_000_000_000, 86_400_000_000
    rows = "".join(f"a,{(start_us + day * day_us) // 1000},active\n" for day in range(30))
    (tmp_path / "polls.csv").write_text("store_id,timestamp_utc,status\n" + rows)
    load_folder(database, tmp_path)
    with database.read() as connection:
        for first, last in ((0, 29), (1, 28), (3, 3), (5, 6), (2, 20), (29, 40)):
            count = polls.count_of_store(connection, 1, start_us + first * day_us, start_us + last * day_us)
            assert count == min(last, 29) - first + 1
        assert polls.count_of_store(connection, 1, start_us + 1, start_us + day_us - 1) == 0


def test_the_csv_is_the_list_with_its_filters_and_order(client, small_fleet, settings):
    answer = client.get("/api/v1/stores.csv?sort=store_id&order=desc")
    assert answer.headers["Content-Disposition"] == "attachment; filename=stores.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    everything = stores(client, sort="store_id", order="desc")["stores"]
    assert [row["store_id"].removeprefix("'") for row in rows] == [one["store_id"] for one in everything]
    assert list(rows[0]) == list(everything[0]) or set(rows[0]) == set(everything[0])
    # A spreadsheet would run the id of the last one.
    assert rows[-1]["store_id"] == f"'{FORMULA_ID}"
    for row, one in zip(rows, everything, strict=True):
        for name, value in one.items():
            shown = "" if value is None else value if isinstance(value, str) else json.dumps(value)
            assert row[name].removeprefix("'") == shown
    assert client.get("/api/v1/stores.csv?q=nothing+like+it").text == answer.text.partition("\n")[0] + "\n"
    assert client.get("/api/v1/stores.csv?status=up").text.count("\n") == 2
    assert problem(client, "/api/v1/stores.csv", 422, limit=3)["errors"] == {
        "limit": ["is not a parameter of this address"]
    }


def test_the_csv_is_that_of_the_command(client, small_fleet, settings):
    done = storemon(settings.home, "stores", "--csv", "--limit", "1000")
    assert (done.returncode, done.stdout) == (0, client.get("/api/v1/stores.csv").text)


def test_the_list_has_the_totals_of_all_its_pages(small_fleet, client):
    answer = stores(client, limit=1, status="up")
    assert answer["totals"]["uptime_percent_last_day"] == 100.0
    assert answer["totals"]["business_last_week"] == 168.0
    assert stores(client, limit=1)["totals"] == stores(client)["totals"]
    assert stores(client)["totals"]["downtime_last_day"] == 1.26
