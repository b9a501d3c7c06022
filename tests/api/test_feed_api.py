"""Feeds over HTTP: what is answered to every kind of body, and what the database holds after it."""

import gzip
import io
import json
from typing import Any

import pytest
from conftest import sql
from feed_helpers import BAD, GOOD, HOURS, POLLS, ZONES, counts, problem, push, stored, upload
from flask.testing import FlaskClient

from storemon_flask.api import feeds
from storemon_flask.errors import Stopped
from storemon_flask.reports.worker import Runner
from storemon_flask.settings import Settings


def json_rows(feed: str) -> list[dict[str, str]]:
    names, *rows = GOOD[feed].splitlines()
    return [dict(zip(names.split(","), row.split(","), strict=True)) for row in rows]


def test_a_push_says_what_became_of_the_rows(client: FlaskClient, settings: Settings) -> None:
    answer = push(client, "polls", GOOD["polls"] + "a,2024-10-14 10:00:00 UTC,active\n,x,y\n")
    assert answer.status_code == 200
    assert answer.json == {
        "load_id": 1, "file": "body", "feed": "polls", "rows": 4, "new": 2, "changed": 0, "unchanged": 0,
        "repeated": 1, "rejected": 1, "reasons": {"store_id is empty": 1}, "error": None,
        "rejects": [{"line": 5, "reason": "store_id is empty", "text": ",x,y"}],
        "notes": [
            "2 stores are new in this load: a and b",
            "2 polled stores have no hours, so they count as open 24x7: a and b",
            "2 polled stores have no time zone, so they count in America/Chicago: a and b",
        ],
    }  # fmt: skip
    answer = push(client, "polls", POLLS + "a,2024-10-14T10:00:00Z,inactive\nb,2024-10-14 10:00,INACTIVE\n")
    assert counts(answer.json) == (2, 0, 1, 1, 0, 0)
    assert stored(settings)["polls"] == [
        ("a", "2024-10-14 10:00:00.000000Z", "inactive"),
        ("b", "2024-10-14 10:00:00.000000Z", "inactive"),
    ]


@pytest.mark.parametrize("feed", sorted(GOOD))
def test_every_form_of_a_feed_is_the_same_feed_and_again_changes_nothing(
    client: FlaskClient, settings: Settings, feed: str
) -> None:
    rows = json_rows(feed)
    first = push(client, feed, GOOD[feed])
    assert first.status_code == 200, first.text
    assert counts(first.json) == (len(rows), len(rows), 0, 0, 0, 0)
    held, versions = stored(settings), sql(settings.database, "SELECT version, schedule FROM data_version")
    lines = "\n".join(json.dumps(row) for row in rows)
    packed = gzip.compress(GOOD[feed].encode())
    again = [
        push(client, feed, GOOD[feed]),
        push(client, feed, GOOD[feed], ""),
        push(client, feed, GOOD[feed], "application/x-www-form-urlencoded"),
        push(client, feed, GOOD[feed], "application/octet-stream"),
        push(client, feed, GOOD[feed], "text/csv; charset=utf-8"),
        push(client, feed, "\ufeff" + GOOD[feed].replace("\n", "\r\n"), "TEXT/CSV; header=present"),
        push(client, feed, json.dumps(rows), "application/json"),
        push(client, feed, json.dumps(rows), ""),
        push(client, feed, "\ufeff \n" + json.dumps(rows, indent=2), ""),
        push(client, feed, lines, "application/x-ndjson"),
        push(client, feed, lines, "application/ndjson"),
        push(client, feed, packed, "application/gzip"),
        push(client, feed, packed, "application/x-gzip"),
        push(client, feed, packed, ""),
        push(client, feed, packed, "text/csv", headers={"Content-Encoding": "gzip"}),
        push(client, feed, packed, "", headers={"Content-Encoding": "GZIP"}),
        push(client, feed, gzip.compress(lines.encode()), "application/ndjson", headers={"Content-Encoding": "x-gzip"}),
        push(client, feed, GOOD[feed], headers={"Content-Encoding": "identity"}),
        client.post(f"/api/v1/feeds/{feed}?atomic=1", data=GOOD[feed], content_type="text/csv"),
        client.post(f"/api/v1/feeds/{feed}?atomic=0", json=rows),
    ]
    for number, answer in enumerate(again, start=2):
        assert answer.status_code == 200, answer.text
        assert counts(answer.json) == (len(rows), 0, 0, len(rows), 0, 0)
        assert (answer.json["load_id"], answer.json["feed"]) == (number, feed)
    assert stored(settings) == held
    assert sql(settings.database, "SELECT version, schedule FROM data_version") == versions


def test_one_json_object_is_one_row(client: FlaskClient, settings: Settings) -> None:
    row = {"store_id": 9007199254740993, "timestamp_utc": "2024-10-14T10:00:00+02:00", "status": " Active ", "by": {}}
    assert counts(push(client, "polls", json.dumps(row), "application/json").json) == (1, 1, 0, 0, 0, 0)
    assert stored(settings)["polls"] == [("9007199254740993", "2024-10-14 08:00:00.000000Z", "active")]


@pytest.mark.parametrize("feed", sorted(GOOD))
def test_no_rows_change_nothing(client: FlaskClient, feed: str) -> None:
    header = GOOD[feed].splitlines()[0]
    for body, kind in (("[]", "application/json"), ("", "application/x-ndjson"), (header, "text/csv")):
        assert counts(push(client, feed, body, kind).json) == (0,) * 6


def test_the_first_100_rejects_are_in_the_answer_and_all_at_their_address(client: FlaskClient) -> None:
    rows = "".join(f"store {number},yesterday,active\n" for number in range(250))
    answer = push(client, "polls", POLLS + "=a,2024-10-14 10:00:00 UTC,active\n" + rows + '=1+1,"x\ny",active\n').json
    reason = "timestamp_utc is not a date and time (YYYY-MM-DD HH:MM:SS[.ffffff] [UTC])"
    assert counts(answer) == (252, 1, 0, 0, 0, 251)
    assert answer["reasons"] == {reason: 251}
    assert answer["rejects"] == [
        {"line": 3 + number, "reason": reason, "text": f"store {number},yesterday,active"} for number in range(100)
    ]
    listed = client.get("/api/v1/loads/1/rejects")
    assert listed.content_type == "application/json"
    assert listed.json == {
        "load_id": 1,
        "rejects": [
            *(
                {"file": "body", "line": 3 + number, "reason": reason, "text": f"store {number},yesterday,active"}
                for number in range(250)
            ),
            {"file": "body", "line": 253, "reason": reason, "text": '=1+1,"x\ny",active'},
        ],
    }
    as_csv = client.get("/api/v1/loads/1/rejects?format=csv")
    assert as_csv.content_type == "text/csv; charset=utf-8"
    assert as_csv.headers["Content-Disposition"] == "attachment; filename=rejects_1.csv"
    lines = as_csv.text.split("\n")
    assert lines[:2] == ["load,file,line,reason,text", f'1,body,3,{reason},"store 0,yesterday,active"']
    assert lines[-3:] == [f'1,body,253,{reason},"\'=1+1,""x', 'y"",active"', ""]


def test_rejects_of_json_name_the_row_and_those_of_ndjson_the_line(client: FlaskClient) -> None:
    good = {"store_id": "a", "timestamp_utc": "2024-10-14 10:00:00", "status": "active"}
    rows: list[Any] = [
        good,
        7,
        {**good, "status": None},
        {**good, "store_id": ["a"]},
        {"store_id": "a", "status": "active"},
    ]
    answer = push(client, "polls", json.dumps(rows), "application/json").json
    assert [(reject["line"], reject["reason"]) for reject in answer["rejects"]] == [
        (2, "row is not a JSON object"),
        (3, "status is neither active nor inactive"),
        (4, "store_id is a list"),
        (5, "timestamp_utc is missing"),
    ]
    assert answer["rejects"][0]["text"] == "7"
    body = f"\n{json.dumps(good)}\n{{broken\n\n{json.dumps(rows[3])}\n".encode() + b'{"\xff":1}\n' + b"[" * 5000
    answer = push(client, "polls", body, "application/x-ndjson").json
    assert [(reject["line"], reject["reason"]) for reject in answer["rejects"]] == [
        (3, "row is not JSON"),
        (5, "store_id is a list"),
        (6, "row is not UTF-8 text"),
        (7, "row is nested too deeply (more than 64 levels)"),
    ]
    assert counts(answer) == (5, 0, 0, 1, 0, 4)


def test_a_broken_line_of_hours_keeps_the_store_open_when_it_was(client: FlaskClient, settings: Settings) -> None:
    push(client, "hours", GOOD["hours"])
    rows = [
        json.dumps({"store_id": "a", "day": day, "start_time_local": "8:00", "end_time_local": "9:00"})
        for day in range(7)
    ]
    answer = push(client, "hours", "\n".join([*rows[:6], rows[6][:-1]]), "application/x-ndjson").json
    assert counts(answer) == (7, 0, 0, 0, 0, 7)
    assert answer["notes"] == ["an hours row was rejected: store a keeps the hours it had"]
    assert [row for row in stored(settings)["hours"] if row[0] == "a"] == [
        ("a", 0, 32400, 61200),
        ("a", 1, 32400, 61200),
    ]
    texts = [reject["text"] for reject in client.get("/api/v1/loads/2/rejects").json["rejects"]]
    assert sorted(texts) == sorted([*rows[:6], rows[6][:-1]])


def test_hours_replace_a_store_and_say_what_they_mean(client: FlaskClient, settings: Settings) -> None:
    push(client, "hours", GOOD["hours"])
    answer = push(client, "hours", HOURS + "a,2,00:00,00:00\nc,0,9:00,x\n").json
    assert counts(answer) == (2, 1, 0, 0, 0, 1)
    assert answer["notes"] == [
        "1 rows with equal start and end were read as 24 hours",
        "2 earlier rows of these stores were replaced",
        "an hours row was rejected: store c had none before and counts as open 24x7",
    ]
    assert stored(settings)["hours"] == [("a", 2, 0, 0), ("b", 0, 36000, 36000)]


@pytest.mark.parametrize("feed", sorted(GOOD))
@pytest.mark.parametrize("form", ["text/csv", "application/json", "application/x-ndjson"])
def test_atomic_with_one_bad_row_applies_nothing(client: FlaskClient, settings: Settings, feed: str, form: str) -> None:
    push(client, "polls", POLLS + "kept,2024-10-14 09:00:00 UTC,active\n")
    before = stored(settings)
    bad, reason = BAD[feed]
    names = GOOD[feed].splitlines()[0].split(",")
    rows = [*json_rows(feed), dict(zip(names, bad.rstrip("\n").split(","), strict=True))]
    body = {
        "text/csv": GOOD[feed] + bad,
        "application/json": json.dumps(rows),
        "application/x-ndjson": "\n".join(map(json.dumps, rows)),
    }[form]
    answer = client.post(f"/api/v1/feeds/{feed}?atomic=1", data=body, content_type=form)
    assert problem(answer, 422) == (
        "nothing of it was stored: 1 row was rejected, and the load was to be all or nothing; "
        "all rejected rows are at /api/v1/loads/2/rejects"
    )
    found = answer.get_json(force=True)
    text = bad.rstrip("\n") if form == "text/csv" else json.dumps(rows[-1])
    line = len(rows) + (form == "text/csv")
    reject = {"file": "body", "line": line, "reason": reason, "text": text}
    assert (found["load_id"], found["rejected"], found["rejects"]) == (2, 1, [reject])
    assert stored(settings) == before
    assert client.get("/api/v1/loads/2/rejects").json == {"load_id": 2, "rejects": [reject]}
    (file,) = client.get("/api/v1/loads/2").json["files"]
    assert counts(file) == (1, 0, 0, 0, 0, 1)
    assert file["error"] == "nothing of it was stored: 1 row was rejected, and the load was to be all or nothing"
    assert push(client, feed, body, form).json["new"] == len(rows) - 1


def test_atomic_over_files_is_all_or_nothing(client: FlaskClient, settings: Settings) -> None:
    files = [(f"{feed}.csv", text) for feed, text in GOOD.items()]
    spoiled = [*files, ("more.csv", ZONES + "x,Nowhere\ny,Neither\nz,UTC\n")]
    answer = upload(client, *spoiled, query="?atomic=1")
    assert "2 rows were rejected" in problem(answer, 422)
    body = answer.get_json(force=True)
    assert (body["load_id"], body["rejected"]) == (1, 2)
    assert [(reject["file"], reject["line"]) for reject in body["rejects"]] == [("more.csv", 2), ("more.csv", 3)]
    assert stored(settings) == {"polls": [], "hours": [], "timezones": [], "stores": []}
    listed = client.get("/api/v1/loads/1").json["files"]
    assert sorted((file["file"], file["rejected"]) for file in listed) == sorted(
        [("polls.csv", 0), ("hours.csv", 0), ("timezones.csv", 0), ("stores.csv", 0), ("more.csv", 2)]
    )
    assert all(file["error"].startswith("nothing of it was stored: 2 rows were rejected") for file in listed)

    answer = upload(client, *files, ("notes.csv", "a,b\n1,2\n"), query="?atomic=1")
    assert "header fits no feed" in problem(answer, 422) or "a file could not be used" in problem(answer, 422)
    assert stored(settings)["stores"] == []

    answer = upload(client, *files, query="?atomic=1")
    assert answer.status_code == 200
    assert [counts(file)[1] for file in answer.json["files"]] == [2, 3, 2, 2]
    assert [len(rows) for rows in stored(settings).values()] == [2, 3, 2, 2]


def test_a_push_ends_with_the_server_and_nothing_of_it_is_stored(
    client: FlaskClient, runner: Runner, settings: Settings
) -> None:
    push(client, "polls", GOOD["polls"])
    before = stored(settings)
    runner.stop_waiting()
    stopping = "the server is stopping; send the request again when it is back"
    for answer in (
        push(client, "timezones", GOOD["timezones"]),
        push(client, "hours", "[{}]", "application/json"),
        upload(client, ("zones.csv", GOOD["timezones"])),
    ):
        assert problem(answer, 503) == f"{stopping}; nothing of this was stored"
        assert answer.headers["Retry-After"] == "2"
    assert stored(settings) == before
    assert sql(settings.database, "SELECT count(*) FROM load") == [(1,)]


def test_a_push_whose_client_is_gone_for_a_second_is_given_up(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"waitress.client_disconnected": lambda: True}
    # Who sends little may close his side with it.
    assert push(client, "polls", GOOD["polls"], environ_overrides=gone).status_code == 200
    monkeypatch.setattr(feeds, "_CLIENT_EVERY_S", 0)
    answer = push(client, "timezones", GOOD["timezones"], environ_overrides=gone)
    assert problem(answer, 503) == "the client closed the connection before the answer; nothing of this was stored"
    with pytest.raises(Stopped, match="closed the connection before the answer; nothing of this was stored"):
        _read_form(client, gone)
    assert stored(settings)["timezones"] == []


def _read_form(client: FlaskClient, environ: dict[str, Any]) -> None:
    """Read the files of a form as an upload does, outside of any answer."""
    files = {"file": (io.BytesIO(b"x" * 100_000), "zones.csv")}
    with client.application.test_request_context("/api/v1/feeds", method="POST", data=files, environ_overrides=environ):
        feeds.uploaded()
