"""Channels over HTTP: added, listed without secrets, tested at a real receiver, removed."""

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from channel_helpers import down, now_us, put, sink
from conftest import sql
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database import channels
from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

WEBHOOK = {"name": "ops", "kind": "webhook", "url": "http://127.0.0.1:9/in?token=s3cret-token"}


def add(client: FlaskClient, **body: Any) -> Any:
    answer = client.post("/api/v1/channels", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json


def test_a_webhook_is_added_with_a_secret_that_is_shown_once(client: FlaskClient, settings: Settings) -> None:
    made = add(client, **WEBHOOK, kinds=["down"], stores=["a"], quiet="22:00 - 8:00 america/new_york")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32}", made["secret"])
    assert (made["channel_id"], made["name"], made["address"]) == (1, "ops", "http://127.0.0.1:9/...")
    assert (made["kinds"], made["groups"], made["stores"]) == (["down"], [], ["a"])
    assert (made["digest"], made["quiet"]) == (None, "22:00-08:00 America/New_York")
    assert made["notes"] == ["there is no store a yet; is the id right?"]
    listed = client.get("/api/v1/channels")
    assert listed.json is not None
    (one,) = listed.json["channels"]
    assert one == {name: value for name, value in made.items() if name not in ("secret", "notes")}
    assert "s3cret-token" not in listed.text + str(made)
    assert made["secret"] not in listed.text
    assert sql(settings.database, "SELECT address, secret FROM channel") == [(WEBHOOK["url"], made["secret"])]


def test_a_channel_that_names_no_kinds_receives_all_but_stale(client: FlaskClient) -> None:
    every = ["down", "not_opened", "stale", "blind", "many_down", "unstable", "feed"]
    assert add(client, **WEBHOOK)["kinds"] == [kind for kind in every if kind != "stale"]
    # All of them are no choice: kinds of later versions are among them.
    assert add(client, **{**WEBHOOK, "name": "all"}, kinds=every)["kinds"] == []
    assert add(client, **{**WEBHOOK, "name": "one"}, kinds=["stale"])["kinds"] == ["stale"]


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"kind": "pigeon"}, "kind", "Must be one of: email, webhook, apprise, folder."),
        ({"url": None}, "url", "is missing; a channel of kind webhook needs it"),
        ({"url": "ftp://a"}, "url", "http"),
        ({"to": "a@example.com"}, "to", "does not go with kind webhook, whose address is url"),
        ({"kinds": ["gone"]}, "kinds", "Must be one of: down"),
        ({"digest": "8 o'clock"}, "digest", "no time of day"),
        ({"quiet": "22:00-08:00 Mars/Olympus"}, "quiet", "no IANA time zone"),
        ({"name": "a\u202eb"}, "name", "characters that can be seen"),
        ({"name": " "}, "name", "1 to 100 characters"),
        ({"secret": "x"}, "secret", "Unknown field"),
        ({"kind": "email", "url": None, "to": "nobody"}, "to", "no mail address"),
        ({"kind": "folder", "url": None, "folder": "/no/such/folder"}, "folder", "there is no folder"),
        ({"kind": "folder", "url": None, "folder": "\ud800"}, "folder", "is no text of at most 4,000 characters"),
        ({"url": "https://a/" + "x" * 4000}, "url", "is no text of at most 4,000 characters"),
        ({"kind": "apprise", "url": "ntfy://["}, "url", "that is no address of apprise"),
        ({"groups": ["\ud800"]}, "groups", "each must be a text of at most 200 characters"),
        ({"stores": ["x" * 201]}, "stores", "each must be a text of at most 200 characters"),
        ({"digest": "08:00 " + "x" * 10_000}, "digest", "is longer than 100 characters"),
        ({"kind": "apprise", "url": "no address"}, "url", "no address of apprise"),
    ],
)
def test_what_is_wrong_is_named_at_its_field(
    client: FlaskClient, settings: Settings, change: dict[str, Any], field: str, sentence: str
) -> None:
    answer = client.post("/api/v1/channels", json={**WEBHOOK, **change})
    assert answer.status_code == 422
    assert answer.json is not None
    assert sentence in str(answer.json["errors"][field])
    assert not settings.database.exists() or sql(settings.database, "SELECT count(*) FROM channel") == [(0,)]


def test_a_folder_that_cannot_be_looked_at_is_named(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    answer = client.post("/api/v1/channels", json={"name": "ops", "kind": "folder", "folder": "/shut/in"})
    assert (answer.status_code, answer.json and answer.json["errors"]) == (
        422, {"folder": ["the folder /shut/in cannot be used: Permission denied"]},
    )  # fmt: skip


def test_what_was_wrong_is_quoted_as_far_as_anybody_reads(client: FlaskClient) -> None:
    answer = client.post("/api/v1/channels", json={"name": "ops", "kind": "email", "to": "x" * 3_999})
    assert (answer.status_code, len(answer.data) < 6_000) == (422, True)
    body = {"kind": "report", "by": "x" * 1_000_000}
    assert len(client.post("/trigger_report", json=body).data) < 6_000


def test_a_name_is_given_once_and_is_free_again_when_its_channel_is_removed(client: FlaskClient) -> None:
    add(client, **WEBHOOK)
    again = client.post("/api/v1/channels", json=WEBHOOK)
    assert (again.status_code, again.json and again.json["detail"]) == (
        409, "there is a channel 'ops' already; remove it first, or choose another name",
    )  # fmt: skip
    assert client.delete("/api/v1/channels/1").status_code == 204
    assert client.delete("/api/v1/channels/1").status_code == 404
    assert add(client, **WEBHOOK)["channel_id"] == 2


def test_a_test_arrives_signed_and_stands_in_the_log(client: FlaskClient) -> None:
    with sink() as (url, receiver):
        made = add(client, name="ops", kind="webhook", url=url)
        answer = client.post("/api/v1/channels/1/test")
    assert (answer.status_code, answer.json) == (200, {"delivered": True, "code": 200, "answer": "200 OK: word"})
    ((headers, raw),) = receiver.got
    body = json.loads(raw)
    assert (body["type"], body["data"]["test"]) == ("incidents.changed", True)
    listed = client.get("/api/v1/channels").json
    assert listed is not None
    assert (listed["channels"][0]["last"]["code"], listed["channels"][0]["trouble"]) == (200, None)
    log = client.get("/api/v1/deliveries").json
    assert log is not None
    assert log["next"] is None
    (one,) = log["deliveries"]
    assert (one["channel"], one["purpose"], one["message_id"]) == ("ops", "test", headers["webhook-id"])
    assert (one["delivered"], one["code"], one["answer"]) == (True, 200, "200 OK: word")
    assert made["secret"] not in str(log)
    assert "tok3n-secret" not in str(log)


def test_the_signature_is_that_of_standard_webhooks(client: FlaskClient) -> None:
    with sink() as (url, receiver):
        secret = add(client, name="ops", kind="webhook", url=url)["secret"]
        client.post("/api/v1/channels/1/test")
    ((headers, raw),) = receiver.got
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + raw
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_a_test_that_is_refused_says_so_and_a_channel_that_was_switched_off_comes_back(
    client: FlaskClient, app: Flask
) -> None:
    database: Database = app.extensions["storemon"].database
    with sink(500) as (url, receiver):
        add(client, name="ops", kind="webhook", url=url)
        answer = client.post("/api/v1/channels/1/test").json
        assert answer == {"delivered": False, "code": 500, "answer": "500 Internal Server Error: word"}
        with database.write() as connection:
            channels.disable(connection, 1, "the receiver asks for no more messages", now_us())
        (one,) = client.get("/api/v1/channels").json["channels"]  # type: ignore[index]
        assert one["disabled"]
        assert one["trouble"].startswith("switched off since 20")
        assert "a test that is delivered switches it on again" in one["trouble"]
        assert client.post("/api/v1/channels/1/test").json["delivered"] is False  # type: ignore[index]
        assert client.get("/api/v1/channels").json["channels"][0]["disabled"] == one["disabled"]  # type: ignore[index]
        receiver.status = 200
        assert client.post("/api/v1/channels/1/test").json["delivered"] is True  # type: ignore[index]
    (one,) = client.get("/api/v1/channels").json["channels"]  # type: ignore[index]
    assert (one["disabled"], one["trouble"]) == (None, None)


def test_only_admins_change_and_readers_look(settings: Settings, app: Flask, client: FlaskClient) -> None:
    from storemon_flask.database import keys

    database: Database = app.extensions["storemon"].database
    put(database, down("a", now_us()))
    made = {scope: keys.add(database, scope, "", 1) for scope in ("read", "write", "admin")}
    calls = [("POST", "/api/v1/channels"), ("DELETE", "/api/v1/channels/7"), ("POST", "/api/v1/channels/7/test")]
    for scope, allowed in (("read", False), ("write", False), ("admin", True)):
        headers = {"Authorization": f"Bearer {made[scope]}"}
        for path in ("/api/v1/channels", "/api/v1/incidents", "/api/v1/deliveries"):
            assert client.get(path, headers=headers).status_code == 200
        for method, path in calls:
            status = client.open(path, method=method, headers=headers, json={}).status_code
            assert status == (422 if path.endswith("channels") else 404) if allowed else 403, (scope, path)


def test_a_number_that_no_channel_has_is_not_found(client: FlaskClient, tmp_path: Path) -> None:
    for number in (1, 1 << 63, 10**30):
        answer = client.post(f"/api/v1/channels/{number}/test")
        assert (answer.status_code, answer.json and answer.json["detail"]) == (
            404, f"there is no channel {number}; the list of channels has those there are",
        )  # fmt: skip
    made = add(client, name="box", kind="folder", folder=str(tmp_path))
    assert (made["secret"], made["address"]) == (None, str(tmp_path))
