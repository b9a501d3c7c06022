"""The overview over HTTP and at the command line: the same document, its parameters, and what is refused."""

import json
import threading

import pytest
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import NEWEST, QUOTED_ID, load_folder

from storemon_flask.api.schemas import OverviewSchema
from storemon_flask.stores import overview_cache


def get(client, **query):
    answer = client.get("/api/v1/overview", query_string=query)
    assert answer.status_code == 200, answer.text
    assert OverviewSchema().validate(answer.json) == {}
    return answer.json


def test_it_has_what_the_schema_says(client, small_fleet):
    shown = get(client)
    assert (shown["as_of"], shown["data_are_old"], shown["by"]) == (NEWEST, True, "group")
    assert shown["counts"] == {"down": 0, "stale": 0, "waiting": 0, "up": 1, "closed": 1, "no_data": 2}
    assert (shown["fleet"]["stores"], shown["fleet"]["without_hours"], shown["fleet"]["without_timezone"]) == (4, 2, 1)
    # It is Monday: today is the week. One store is up since 11:30, the other was up for 1.74 and down for 1.26 h.
    assert shown["fleet"]["downtime_this_week"] == shown["fleet"]["downtime_today"] == 1.26
    assert shown["fleet"]["change"] is None
    assert shown["fleet"]["uptime_percent_previous_this_week"] is None
    assert len(shown["days"]) == 30
    assert [len(shown[name]) for name in ("hours", "worst_stores", "most_changed_stores")] == [168, 1, 0]
    (worst,) = shown["worst_stores"]
    assert (worst["store_id"], worst["status"], worst["uptime_percent_this_week"]) == ("worked", "closed", 58.06)
    # The line between the polls of 10:14 and 11:15 is 10:44:30.
    assert {hour["hour"]: hour["downtime"] for hour in shown["hours"] if hour["downtime"]} == {10: 0.26, 11: 1.0}
    assert all(hour["weekday"] == 0 for hour in shown["hours"] if hour["downtime"])


def test_groups_by_zone_in_an_order(client, small_fleet):
    shown = get(client, by="timezone", sort="name", order="desc", days="90")
    assert [row["group"] for row in shown["groups"]] == ["UTC", "Asia/Tokyo", "America/New_York", "America/Chicago"]
    assert len(shown["days"]) == 90
    (nobody,) = get(client)["groups"]
    assert (nobody["group"], nobody["stores"], nobody["worst_store"]) == (None, 4, "worked")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"by": "colour"}, "by is 'colour'; it must be one of group, timezone"),
        ({"days": "31"}, "days must be one of: 30, 90"),
        ({"sort": "x"}, "sort must be one of: name, stores"),
        ({"until": "x"}, "until is not a parameter of this address"),
    ],
)
def test_what_is_wrong_is_named(client, small_fleet, query, sentence):
    answer = client.get("/api/v1/overview", query_string=query)
    assert (answer.status_code, sentence in answer.json["detail"]) == (422, True), answer.text


def test_a_load_is_in_the_next_answer(client, small_fleet):
    assert get(client)["counts"]["up"] == 1
    body = (
        f'store_id,timestamp_utc,status\n"{QUOTED_ID.replace(chr(34), chr(34) * 2)}",2024-10-14 13:30:00 UTC,active\n'
    )
    assert client.post("/api/v1/feeds/polls", data=body).status_code == 200
    shown = get(client)
    assert (shown["as_of"], shown["counts"]["up"]) == ("2024-10-14T13:30:00.000000Z", 2)


def test_until_it_is_ready_it_says_how_far_it_is(client, small_fleet, monkeypatch):
    go_on = threading.Event()
    real = overview_cache.compute_overview

    def slow(database, snapshot, rules, zone, progress):
        progress(0.25)
        assert go_on.wait(30)
        return real(database, snapshot, rules, zone, progress)

    monkeypatch.setattr(overview_cache, "compute_overview", slow)
    monkeypatch.setattr("storemon_flask.api.overview._WAIT_S", 0.05)
    answer = client.get("/api/v1/overview")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "the overview is being computed (25% is done)" in answer.json["detail"]
    go_on.set()
    monkeypatch.setattr("storemon_flask.api.overview._WAIT_S", 30.0)
    assert get(client)["as_of"] == NEWEST


def test_without_stores_every_list_is_empty(client, database, tmp_path):
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text("store_id,timestamp_utc,status\n")
    load_folder(database, tmp_path / "feeds")
    shown = get(client)
    assert (shown["groups"], shown["worst_stores"], shown["fleet"]["stores"]) == ([], [], 0)
    assert shown["fleet"]["uptime_percent_this_week"] is None


def test_the_command_has_the_same_document(home, small_fleet, client, run):
    shown = json.loads(run("overview", "--json").out)
    over_http = get(client)
    # How old the newest poll is may say another day.
    assert {**shown, "notice": None} == {**over_http, "notice": None}


def test_the_command_in_80_columns(home, small_fleet, run):
    done = run("overview", "--by", "timezone", "--sort", "name")
    assert (done.code, max(map(len, done.out.splitlines()))) == (0, 79)
    lines = [line.split() for line in done.out.splitlines()]
    assert done.out.startswith("4 stores: 1 up, 1 closed, 2 no_data\n")
    assert "Mon     .." not in done.out
    assert ["UTC", "1", "0", "58.06", "58.06", "58.06?", "-", "worked", "58.06"] in lines
    assert ["worked", "58.06", "-", "1.26"] in lines


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("--by", "colour"), "by is 'colour'"), (("--sort", "x"), "'x' is none of name"), (("--days", "7"), "'7' is not")],
)
def test_the_command_names_what_is_wrong(home, small_fleet, run, arguments, sentence):
    done = run("overview", *arguments)
    assert done.code in (1, 2)
    assert sentence in done.err
