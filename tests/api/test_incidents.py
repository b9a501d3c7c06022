"""Incidents and deliveries over HTTP: chosen, paged, with who was told."""

from typing import Any

from channel_helpers import down, now_us, put, tell
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database.connections import Database
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind


def listed(client: FlaskClient, query: str = "") -> Any:
    answer = client.get(f"/api/v1/incidents{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_the_lists_are_empty_at_first(client: FlaskClient) -> None:
    assert listed(client) == {"incidents": [], "next": None}
    assert client.get("/api/v1/deliveries").json == {"deliveries": [], "next": None}


def test_an_incident_says_what_since_when_how_long_and_who_was_told(client: FlaskClient, app: Flask) -> None:
    database: Database = app.extensions["storemon"].database
    now = now_us()
    for name in ("ops", "night"):
        client.post("/api/v1/channels", json={"name": name, "kind": "webhook", "url": "http://127.0.0.1:9/x"})
    first, second = put(
        database,
        down("1001", now - 2 * HOUR_US, "Main Street", ended_us=now - HOUR_US),
        down("NYC/7", now - 5 * MINUTE_US, "Harbor"),
    )
    tell(database, 1, first, "opened", "sent", now - 2 * HOUR_US)
    tell(database, 1, first, "resolved", "failed", now - HOUR_US)
    tell(database, 1, second, "opened", "sent", now)
    tell(database, 2, second, "opened", "waiting", now)
    found = listed(client)
    assert [one["incident_id"] for one in found["incidents"]] == [second, first]
    goes_on, over = found["incidents"]
    assert (goes_on["state"], goes_on["outcome"], goes_on["ended"], goes_on["resolved"]) == ("open", None, None, None)
    assert (goes_on["store_id"], goes_on["name"], goes_on["group"]) == ("NYC/7", "Harbor", "North")
    assert goes_on["business_minutes"] == 65
    assert goes_on["text"].startswith("Harbor (NYC/7): down for 1 h 5 min of business time, since ")
    assert [(one["channel"], one["state"], one["at"] is None) for one in goes_on["notified"]] == [
        ("night", "waiting", True), ("ops", "sent", False),
    ]  # fmt: skip
    assert (over["state"], over["outcome"], over["business_minutes"]) == ("resolved", "over", 120)
    # Of what is over: who is told that it is.
    assert [(one["channel"], one["state"]) for one in over["notified"]] == [("ops", "failed")]


def test_incidents_are_chosen_and_paged(client: FlaskClient, app: Flask) -> None:
    now = now_us()
    stale = IncidentKind.STALE
    put(
        app.extensions["storemon"].database,
        *(down(f"s{number}", now - HOUR_US, ended_us=now) for number in range(3)),
        down("a", now - HOUR_US),
        down("b", now - HOUR_US, kind=stale),
    )
    assert [one["store_id"] for one in listed(client, "?state=open")["incidents"]] == ["b", "a"]
    assert [one["store_id"] for one in listed(client, "?state=open&kind=stale")["incidents"]] == ["b"]
    assert [one["store_id"] for one in listed(client, "?subject=s1")["incidents"]] == ["s1"]
    ids, cursor = [], ""
    while True:
        page = listed(client, f"?limit=2{cursor}")
        ids += [one["store_id"] for one in page["incidents"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert ids == ["b", "a", "s2", "s1", "s0"]
    for query in ("?state=ended", "?kind=up", "?limit=0", "?limit=1001", "?cursor=0", "?cursor=x", "?colour=red"):
        assert client.get(f"/api/v1/incidents{query}").status_code == 422, query


def test_deliveries_are_those_of_one_channel_and_paged(client: FlaskClient) -> None:
    for name in ("a", "b"):
        client.post("/api/v1/channels", json={"name": name, "kind": "webhook", "url": "http://127.0.0.1:9/x"})
    for channel in (1, 2, 1):
        assert client.post(f"/api/v1/channels/{channel}/test").status_code == 200
    client.delete("/api/v1/channels/2")
    page = client.get("/api/v1/deliveries?limit=2").json
    assert page is not None
    assert [(one["delivery_id"], one["channel"]) for one in page["deliveries"]] == [(3, "a"), (2, "b")]
    rest = client.get(f"/api/v1/deliveries?limit=2&cursor={page['next']}").json
    assert rest is not None
    assert rest["next"] is None
    assert [(one["delivery_id"], one["answer"]) for one in rest["deliveries"]] == [(1, "Connection refused")]
    only = client.get("/api/v1/deliveries?channel=1").json
    assert only is not None
    assert [one["delivery_id"] for one in only["deliveries"]] == [3, 1]
