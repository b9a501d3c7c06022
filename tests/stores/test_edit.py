"""One store's hours and zone over HTTP, stores removed, ids of any kind in an address."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from conftest import Server, http, sql
from feed_helpers import GOOD, counts, problem, push, stored
from feed_helpers import fleet as fleet
from flask.testing import FlaskClient

from storemon_flask.settings import Settings


def report(client: FlaskClient) -> str:
    """The full report of now."""
    triggered = client.post("/trigger_report", json={"columns": "full"})
    assert triggered.status_code == 202, triggered.text
    return client.get(f"/get_report?report_id={triggered.json['report_id']}").text


ROW = {"day": 3, "start_time_local": "08:00", "end_time_local": "24:00"}


def test_put_hours_replaces_one_store_and_the_report_follows(fleet: FlaskClient, settings: Settings) -> None:
    before = report(fleet)
    answer = fleet.put("/api/v1/stores/a/hours", json={"hours": [ROW, {**ROW, "day": 0}, ROW]})
    assert answer.status_code == 200, answer.text
    assert counts(answer.json) == (3, 2, 0, 0, 1, 0)
    assert (answer.json["feed"], answer.json["load_id"], answer.json["error"]) == ("hours", 5, None)
    assert answer.json["notes"] == ["2 earlier rows of these stores were replaced"]
    assert stored(settings)["hours"] == [("a", 0, 28800, 86400), ("a", 3, 28800, 86400), ("b", 0, 36000, 36000)]
    after = report(fleet)
    assert after != before
    assert after.splitlines()[2] == before.splitlines()[2]
    again = fleet.put("/api/v1/stores/a/hours", json={"hours": [ROW, {**ROW, "day": 0}]})
    assert counts(again.json) == (2, 0, 0, 2, 0, 0)
    assert fleet.get("/api/v1/loads/5").json["files"][0]["file"] == "body"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "hours: Missing data for required field"),
        ({"hours": []}, "hours: must be 1 to 1,000 rows; DELETE makes the store open 24x7"),
        ({"hours": [ROW] * 1001}, "hours: must be 1 to 1,000 rows"),
        ({"hours": "x"}, "hours: Not a valid list"),
        ({"hours": [ROW], "zone": 1}, "zone: Unknown field (the fields allowed are hours, valid_from)"),
        ({"hours": [{**ROW, "note": 1}]}, "Unknown field"),
        ({"hours": [{**ROW, "day": "3"}]}, "Not a valid integer"),
        ({"hours": [{**ROW, "day": 3.5}]}, "Not a valid integer"),
        ({"hours": [{**ROW, "end_time_local": "1" * 101}]}, "is longer than 100 characters"),
        ({"hours": [{**ROW, "end_time_local": None}]}, "Field may not be null"),
        ({"hours": [ROW, {**ROW, "day": 7}]}, 'row 2: day of week is not a whole number from 0 '
            '(Monday) to 6 (Sunday): {"store_id": "a", "day": 7,'),
        ({"hours": [{**ROW, "start_time_local": "24:00"}]}, '"start_time_local": "24:00"'),
        ({"hours": [{**ROW, "end_time_local": "\ud800"}]}, "row 1: end_time_local is no text"),
        ([ROW], "the body is not a JSON object; it must be an object with hours"),
    ],
)  # fmt: skip
def test_wrong_hours_name_the_field_and_change_nothing(
    fleet: FlaskClient, settings: Settings, body: Any, says: str
) -> None:
    held = stored(settings)
    answer = fleet.put("/api/v1/stores/a/hours", json=body)
    assert says in problem(answer, 422)
    assert answer.get_json(force=True)["errors"]
    assert stored(settings) == held


def test_a_zone_is_set_or_refused(fleet: FlaskClient, settings: Settings) -> None:
    before = report(fleet)
    answer = fleet.put("/api/v1/stores/a/timezone", json={"timezone": " Europe/Paris "})
    assert counts(answer.json) == (1, 0, 1, 0, 0, 0)
    assert stored(settings)["timezones"] == [("a", "Europe/Paris"), ("b", "UTC")]
    assert report(fleet) != before
    assert counts(fleet.put("/api/v1/stores/a/timezone", json={"timezone": "Europe/Paris"}).json) == (1, 0, 0, 1, 0, 0)
    for wrong, says in (
        ({"timezone": "Mars/Phobos"}, 'row 1: time zone is not the name of an IANA '
            'zone: {"store_id": "a", "timezone": "Mars/Phobos"}'),
        ({"timezone": "UTC" * 50_000}, "timezone: is longer than 100 characters"),
        ({"timezone": 1}, "timezone: Not a valid string"),
        ({"timezone": ""}, "time zone is not the name of an IANA zone"),
        ({"zone": "UTC"}, "timezone"),
        ({}, "timezone: Missing data"),
    ):  # fmt: skip
        answer = fleet.put("/api/v1/stores/a/timezone", json=wrong)
        assert says in problem(answer, 422)
    assert stored(settings)["timezones"][0] == ("a", "Europe/Paris")
    for path in ("hours", "timezone"):
        assert "not JSON" in problem(fleet.put(f"/api/v1/stores/a/{path}", data=b"{"), 400)
        assert "not JSON" in problem(fleet.put(f"/api/v1/stores/a/{path}", data=b"[" * 100_000), 400)
        problem(fleet.put(f"/api/v1/stores/a/{path}", data=b" " * 17_000_000), 413)
        problem(fleet.put(f"/api/v1/stores/a/{path}?x=1", json={}), 422)


def test_hours_removed_mean_open_all_day_and_can_be_pushed_again(fleet: FlaskClient, settings: Settings) -> None:
    before = report(fleet)
    answer = fleet.delete("/api/v1/stores/a/hours")
    assert (answer.status_code, answer.data) == (204, b"")
    assert stored(settings)["hours"] == [("b", 0, 36000, 36000)]
    assert report(fleet) != before
    assert fleet.delete("/api/v1/stores/a/hours").status_code == 204
    assert counts(push(fleet, "hours", GOOD["hours"]).json) == (3, 2, 0, 1, 0, 0)
    assert report(fleet) == before


def test_a_store_removed_is_gone_from_new_reports_and_stays_in_old_ones(fleet: FlaskClient, settings: Settings) -> None:
    done = fleet.post("/trigger_report", json={"columns": "full"}).json["report_id"]
    before = fleet.get(f"/get_report?report_id={done}").text
    answer = fleet.delete("/api/v1/stores/a")
    assert (answer.status_code, answer.data) == (204, b"")
    assert stored(settings) == {
        "polls": [("b", "2024-10-14 10:00:00.000000Z", "inactive")],
        "hours": [("b", 0, 36000, 36000)],
        "timezones": [("b", "UTC")],
        "stores": [("b", "Beta", "")],
    }
    assert [line.split(",")[0] for line in report(fleet).splitlines()] == ["store_id", "b"]
    assert fleet.get(f"/get_report?report_id={done}").text == before
    assert "there is no store 'a'" in problem(fleet.delete("/api/v1/stores/a"), 404)
    for feed, text in GOOD.items():
        # One of the two stores is new again.
        found = counts(push(fleet, feed, text).json)
        assert found[1] > 0
        assert found[3] > 0
    assert report(fleet) == before


def test_stores_that_are_not_there(client: FlaskClient, fleet: FlaskClient) -> None:
    for store_id in ("c", "A", "a ", "%", "x" * 201):
        path = f"/api/v1/stores/{quote(store_id, safe='')}"
        sentence = f"there is no store {store_id!r}; the list of stores has those there are"
        assert problem(client.put(f"{path}/hours", json={"hours": [ROW]}), 404) == sentence
        assert problem(client.put(f"{path}/timezone", json={"timezone": "UTC"}), 404) == sentence
        assert problem(client.delete(f"{path}/hours"), 404) == sentence
        assert problem(client.delete(path), 404) == sentence


def test_without_a_database_nothing_is_there_and_none_is_made(client: FlaskClient, settings: Settings) -> None:
    problem(client.put("/api/v1/stores/a/hours", json={"hours": [ROW]}), 404)
    problem(client.put("/api/v1/stores/a/timezone", json={"timezone": "UTC"}), 404)
    problem(client.delete("/api/v1/stores/a"), 404)
    problem(client.delete("/api/v1/stores/a/hours"), 404)
    assert client.get("/api/v1/loads").json == {"loads": [], "next": None}
    problem(client.get("/api/v1/loads/1"), 404)
    problem(client.get("/api/v1/loads/1/rejects"), 404)
    assert not settings.database.exists()


def test_a_store_whose_id_could_not_be_loaded_any_more_can_be_removed_and_not_changed(
    fleet: FlaskClient, settings: Settings
) -> None:
    sql(settings.database, "UPDATE store_record SET store_id = 'a' || char(8203) WHERE store_id = 'b'")
    answer = fleet.put("/api/v1/stores/a%E2%80%8B/timezone", json={"timezone": "UTC"})
    assert problem(answer, 422) == (
        "the id 'a<U+200B>' would be read as 'a', another store; remove this one and load its data under an id without "
        "invisible characters"
    )
    assert fleet.delete("/api/v1/stores/a%E2%80%8B").status_code == 204


STRANGE = ["NYC/12", "a%2Fb", "..", ".", "é", "x" * 200, "x/hours", "hours", "%", "%25", "a b", "?", "#x", "=1+1", '"', "a\u00a0b",
           "+", "a;b", "\u65e5\u672c", "//", "/"]  # fmt: skip


def edits_of_strange_ids(ask: Callable[[str, str, Any], tuple[int, bytes]]) -> None:
    """Every operation on every strange store, each by its own address."""
    rows = [{"store_id": one, "timestamp_utc": "2024-10-14 10:00", "status": "active"} for one in STRANGE]
    status, body = ask("POST", "/api/v1/feeds/polls", rows)
    assert (status, json.loads(body)["new"]) == (200, len(STRANGE))
    for one in STRANGE:
        path = f"/api/v1/stores/{quote(one, safe='')}"
        if one in (".", ".."):
            # Clients take such segments out of an address unless they are encoded.
            path = f"/api/v1/stores/{one.replace('.', '%2E')}"
        status, body = ask("PUT", f"{path}/hours", {"hours": [ROW]})
        assert (status, json.loads(body)["new"]) == (200, 1), (one, body)
        status, body = ask("PUT", f"{path}/timezone", {"timezone": "UTC"})
        assert (status, json.loads(body)["new"]) == (200, 1), (one, body)


def remove_strange_ids(ask: Callable[[str, str, Any], tuple[int, bytes]], left: Callable[[], list[str]]) -> None:
    there = set(STRANGE)
    for one in STRANGE:
        path = f"/api/v1/stores/{quote(one, safe='').replace('.', '%2E')}"
        assert ask("DELETE", f"{path}/hours", None) == (204, b"")
        assert ask("DELETE", path, None) == (204, b"")
        there.remove(one)
        assert set(left()) == there
        assert ask("DELETE", path, None)[0] == 404


def test_any_id_can_be_named_in_an_address(client: FlaskClient, settings: Settings) -> None:
    def ask(method: str, path: str, body: Any) -> tuple[int, bytes]:
        answer = client.open(path, method=method, json=body)
        return answer.status_code, answer.data

    edits_of_strange_ids(ask)
    assert (
        {row[0] for row in stored(settings)["hours"]}
        == {row[0] for row in stored(settings)["timezones"]}
        == set(STRANGE)
    )
    remove_strange_ids(ask, lambda: [row[0] for row in stored(settings)["stores"]])


def test_the_same_ids_through_the_real_server(serve: Callable[..., Server], settings: Settings) -> None:
    server = serve()

    def ask(method: str, path: str, body: Any) -> tuple[int, bytes]:
        answer = http(server.url + path, method, None if body is None else json.dumps(body).encode())
        return answer.status, answer.body

    edits_of_strange_ids(ask)
    remove_strange_ids(ask, lambda: [row[0] for row in stored(settings)["stores"]])
