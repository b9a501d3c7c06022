"""Undoing loads and removing stores over HTTP, on pages and on the command line."""

import os
import pty
import subprocess

from conftest import STOREMON, environment, sql, storemon
from feed_helpers import POLLS, push
from flask.testing import FlaskClient

from storemon_flask.settings import Settings

WRONG = POLLS + "a,2024-10-14 10:00:00 UTC,inactive\nb,2024-10-14 10:00:00 UTC,active\n"
RIGHT = POLLS + "a,2024-10-14 10:00:00 UTC,active\n"


def status_of(settings: Settings) -> list[tuple[str, str]]:
    return sql(settings.database, "SELECT store_id, status FROM poll ORDER BY store_id")


def test_a_load_is_undone_over_http(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", RIGHT)
    push(client, "polls", WRONG)
    in_the_way = client.post("/api/v1/loads/1/undo")
    assert (in_the_way.status_code, in_the_way.json["conflicts"]) == (409, [{"load_id": 2, "by_feed": {"polls": 1}}])

    answer = client.post("/api/v1/loads/2/undo")

    assert answer.status_code == 200
    assert (answer.json["load_id"], answer.json["feed"], answer.json["rows"]) == (3, "undo", 2)
    assert answer.json["notes"] == [
        "taken out: 1 poll",
        "1 poll with the earlier status again",
        "1 store gone: b",
    ]
    assert status_of(settings) == [("a", "active")]
    assert client.get("/api/v1/loads/2").json["undone_by"] == 3
    assert client.get("/api/v1/loads/3").json["undoes"] == 2
    assert client.post("/api/v1/loads/2/undo").status_code == 409
    assert client.post("/api/v1/loads/9/undo").status_code == 404


def test_the_page_says_what_undoing_does_and_then_does_it(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", RIGHT)
    push(client, "polls", WRONG)
    assert 'href="/data/loads/2/undo"' in client.get("/data/loads/2").text
    asked = client.get("/data/loads/2/undo").text
    assert "taken out: 1 poll" in asked
    assert "1 store gone: b" in asked
    assert len(status_of(settings)) == 2

    done = client.post("/data/loads/2/undo")

    assert (done.status_code, done.headers["Location"]) == (303, "/data/loads/3")
    assert status_of(settings) == [("a", "active")]
    undone = client.get("/data/loads/2").text
    assert '<b>Undone.</b> <a href="/data/loads/3">Load 3</a> undid this load' in undone
    assert 'href="/data/loads/3/undo"' in undone
    assert "/data/loads/2/undo" not in undone
    assert client.get("/data").text.count("undone by load 3") == 1
    assert "This load undid" in client.get("/data/loads/3").text


def test_a_store_is_removed_on_its_page_and_comes_back(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", RIGHT)
    assert "Remove this store" in client.get("/stores/a").text

    removed = client.post("/stores/a/remove")

    assert (removed.status_code, removed.headers["Location"]) == (303, "/data/loads/2")
    assert client.get("/stores/a").status_code == 404
    assert client.post("/api/v1/loads/2/undo").json["notes"] == ["returned: 1 poll", "1 store back: a"]
    assert status_of(settings) == [("a", "active")]


def test_at_a_terminal_the_commands_ask(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", RIGHT)
    push(client, "polls", WRONG)
    for arguments, question, answers in (
        (("loads", "undo", "2"), "Undo load 2? [y/N]:", (b"\n", b"n\n", b"y\n")),
        (
            ("stores", "remove", "a"),
            "Remove store a with its polls, hours, special hours, zones and name? [y/N]:",
            (b"n\n", b"y\n"),
        ),
    ):
        for answer in answers:
            ours, theirs = pty.openpty()
            with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs) as terminal:
                keyboard.write(answer)
                done = subprocess.run(
                    [*STOREMON, *arguments],
                    stdin=terminal,
                    env=environment(settings.home),
                    capture_output=True,
                    text=True,
                )
            assert question in done.stdout + done.stderr
            assert done.returncode == (0 if answer == b"y\n" else 130)
            if arguments[0] == "loads":
                assert "taken out: 1 poll" in done.stderr
                undone = [("a", "active")] if answer == b"y\n" else [("a", "inactive"), ("b", "active")]
                assert status_of(settings) == undone
    assert status_of(settings) == []


def test_the_commands_do_the_same(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", RIGHT)
    push(client, "polls", WRONG)

    undone = storemon(settings.home, "loads", "undo", "2")

    assert undone.returncode == 0, undone.stderr
    assert undone.stdout.startswith("load 2 was undone, by load 3\n")
    assert status_of(settings) == [("a", "active")]
    assert storemon(settings.home, "stores", "remove", "a").returncode == 0
    assert status_of(settings) == []
    for wrong in ("x", "-1", "1.0", "9" * 20, "9" * 5_000):
        for arguments in (("loads", "undo", "--", wrong), ("rejects", f"--load={wrong}")):
            refused = storemon(settings.home, *arguments)
            assert refused.returncode == 2
            assert "is not the number of a load; run `storemon loads` and give" in " ".join(refused.stderr.split())
    refused = storemon(settings.home, "loads", "undo", "1", "--yes")
    assert refused.returncode == 1
    assert "load 4: 1 poll, the removal of 1 store" in " ".join(refused.stderr.split())
    listed = storemon(settings.home, "loads").stdout
    assert "undone by load 3" in listed
    assert [line.split()[3:5] for line in listed.splitlines() if " undo " in line] == [["load", "2"]]
    assert "removal" in listed
