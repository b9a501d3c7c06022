"""Feeds, loads, hours and zones over HTTP: what is answered to every kind of body, and what the database holds after it."""

import contextlib
import gc
import gzip
import io
import json
import socket
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import SMALL_CSV, Server, http, sql
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.jobs.executors import InlineExecutor
from storemon_flask.settings import Settings

POLLS = "store_id,timestamp_utc,status\n"
HOURS = "store_id,day,start_time_local,end_time_local\n"
ZONES = "store_id,timezone_str\n"
STORES = "store_id,name,group\n"
GOOD = {
    "polls": POLLS + "a,2024-10-14 10:00:00 UTC,active\nb,2024-10-14 10:00:00 UTC,inactive\n",
    "hours": HOURS + "a,0,09:00,17:00\na,1,09:00,17:00\nb,0,10:00,10:00\n",
    "timezones": ZONES + "a,Asia/Tokyo\nb,UTC\n",
    "stores": STORES + "a,Alpha,North\nb,Beta,\n",
}
# One row of each feed that cannot be used, and why.
BAD = {
    "polls": ("c,2024-10-14 10:00:00 UTC,up\n", "status is neither active nor inactive"),
    "hours": ("c,7,09:00,17:00\n", "day of week is not a whole number from 0 (Monday) to 6 (Sunday)"),
    "timezones": ("c,Mars/Phobos\n", "time zone is not the name of an IANA zone"),
    "stores": (f"c,{'x' * 201},\n", "name or group is longer than 200 characters"),
}
PROBLEM = "application/problem+json"


def push(client: FlaskClient, feed: str, body: str | bytes, kind: str = "text/csv", **more: Any) -> TestResponse:
    if not body:
        more["environ_overrides"] = {"CONTENT_LENGTH": "0"}
    return client.post(f"/api/v1/feeds/{feed}", data=body, content_type=kind, **more)


def upload(client: FlaskClient, *files: tuple[str, bytes | str], query: str = "") -> TestResponse:
    sent = [(io.BytesIO(data.encode() if isinstance(data, str) else data), name) for name, data in files]
    return client.post(f"/api/v1/feeds{query}", data={"file": sent}, content_type="multipart/form-data")


def counts(answer: Any) -> tuple[int, ...]:
    """rows, new, changed, unchanged, repeated, rejected."""
    found = tuple(answer[name] for name in ("rows", "new", "changed", "unchanged", "repeated", "rejected"))
    assert found[0] == sum(found[1:])
    assert sum(answer["reasons"].values()) == answer["rejected"]
    return found


def problem(answer: TestResponse, status: int) -> str:
    """The sentence of a problem of that status."""
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    body = answer.get_json(force=True)
    assert body["status"] == status
    assert body["type"].startswith("urn:storemon:problem:")
    detail: str = body["detail"]
    return detail


def stored(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """What the feeds left, by plain SQL."""
    return {
        "polls": sql(settings.database, "SELECT * FROM poll ORDER BY 1, 2"),
        "hours": sql(
            settings.database,
            "SELECT store_id, day, start_s, end_s FROM hours JOIN store ON number = store ORDER BY 1, 2, 3, 4",
        ),
        "timezones": sql(
            settings.database,
            "SELECT store_id, timezone.name FROM timezone JOIN store ON number = store ORDER BY 1",
        ),
        "stores": sql(settings.database, "SELECT store_id, name, group_name FROM store ORDER BY 1"),
    }


def report(client: FlaskClient) -> str:
    """The full report of now."""
    triggered = client.post("/trigger_report", json={"columns": "full"})
    assert triggered.status_code == 202, triggered.text
    return client.get(f"/get_report?report_id={triggered.json['report_id']}").text


def json_rows(feed: str) -> list[dict[str, str]]:
    names, *rows = GOOD[feed].splitlines()
    return [dict(zip(names.split(","), row.split(","), strict=True)) for row in rows]


def test_a_push_says_what_became_of_the_rows(client: FlaskClient, settings: Settings) -> None:
    answer = push(client, "polls", GOOD["polls"] + "a,2024-10-14 10:00:00 UTC,active\n,x,y\n")
    assert answer.status_code == 200
    assert answer.json == {
        "load_id": 1, "file": "body", "feed": "polls", "rows": 4, "new": 2, "changed": 0, "unchanged": 0,
        "repeated": 1, "rejected": 1, "reasons": {"store_id is empty": 1}, "notes": [], "error": None,
        "rejects": [{"line": 5, "reason": "store_id is empty", "text": ",x,y"}],
    }  # fmt: skip
    answer = push(client, "polls", POLLS + "a,2024-10-14T10:00:00Z,inactive\nb,2024-10-14 10:00,INACTIVE\n")
    assert counts(answer.json) == (2, 0, 1, 1, 0, 0)
    assert stored(settings)["polls"] == [
        ("a", "2024-10-14 10:00:00.000000 UTC", "inactive"),
        ("b", "2024-10-14 10:00:00.000000 UTC", "inactive"),
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
    assert stored(settings)["polls"] == [("9007199254740993", "2024-10-14 08:00:00.000000 UTC", "active")]


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
        (7, "row is nested too deeply"),
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
    assert answer["notes"] == ["a: a row was rejected; the store keeps the hours it had"]
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
        "c: no row could be used and it had none before; it counts as open 24x7",
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
        "nothing of it was stored: 1 row was rejected, and the load was to be atomic; "
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
    assert file["error"] == "nothing of it was stored: 1 row was rejected, and the load was to be atomic"
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


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status", "says"),
    [
        (GOOD["hours"], "text/csv", {}, 422, "the header is that of hours, not of polls"),
        ("a;b\n", "text/csv", {}, 422, "it seems to be separated by semicolons"),
        ("", "text/csv", {}, 422, "the file is empty"),
        ("", "application/json", {}, 400, "it is empty"),
        ("\n \n", "", {}, 422, "the file is empty"),
        ("{", "application/json", {}, 400, "the body is not a JSON object or a list of them"),
        ("[{},", "application/json", {}, 400, "its list has no end"),
        ("1", "application/json", {}, 400, "it begins with neither { nor ["),
        (GOOD["polls"], "application/json", {}, 400, "it begins with neither { nor ["),
        (b"[" * 100_000, "application/json", {}, 400, "nested too deeply"),
        (b"\xff\xfea\0", "text/csv", {}, 422, "UTF-16"),
        (b"store_id,\xff\n", "text/csv", {}, 422, "not UTF-8"),
        (GOOD["polls"], "text/plain", {}, 415, "Content-Type is text/plain; it must be text/csv, application/json"),
        (GOOD["polls"], "application/xml", {}, 415, "Content-Type is application/xml"),
        (GOOD["polls"], "multipart/form-data; boundary=x", {}, 415, "Content-Type is multipart/form-data"),
        (GOOD["polls"], "text/csv; charset=latin-1", {}, 415, "the charset is latin-1; it must be utf-8"),
        (GOOD["polls"], "text/csv", {"Content-Encoding": "br"}, 415, "Content-Encoding is 'br'; it must be gzip"),
        (GOOD["polls"], "text/csv", {"Content-Encoding": "gzip, gzip"}, 415, "Content-Encoding is 'gzip, gzip'"),
        (GOOD["polls"], "application/gzip", {}, 422, "damaged or cut short"),
        (gzip.compress(GOOD["polls"].encode(), mtime=0)[:-9], "application/gzip", {}, 422, "damaged or cut short"),
        (gzip.compress(GOOD["polls"].encode(), mtime=0)[:30], "text/csv", {"Content-Encoding": "gzip"}, 422, "damaged or cut short"),
        (gzip.compress(b"[]", mtime=0)[:-3], "application/json", {"Content-Encoding": "gzip"}, 422, "damaged or cut short"),
        (b"", "application/gzip", {}, 422, "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_no_feed_is_refused_with_a_sentence(
    client: FlaskClient,
    settings: Settings,
    body: bytes | str,
    kind: str,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    assert says in problem(push(client, "polls", body, kind, headers=headers), status)
    if settings.database.exists():
        assert sql(settings.database, "SELECT count(*) FROM store") == [(0,)]
    assert push(client, "polls", GOOD["polls"]).status_code == 200


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("atomic=2", "atomic"),
        ("atomic=yes", "atomic"),
        ("atomic=1&atomic=1", "atomic is given more than once"),
        ("atomc=1", "atomc is not a parameter of this address (the parameters are atomic)"),
    ],
)
def test_a_wrong_parameter_is_named(client: FlaskClient, query: str, says: str) -> None:
    for path in ("/api/v1/feeds/polls", "/api/v1/feeds"):
        assert says in problem(client.post(f"{path}?{query}", data=GOOD["polls"]), 422)


def test_other_feeds_and_methods_are_not_there(client: FlaskClient) -> None:
    problem(push(client, "prices", "x"), 404)
    problem(client.get("/api/v1/feeds/polls"), 405)
    problem(client.put("/api/v1/feeds/polls", data=GOOD["polls"]), 405)
    problem(client.post("/api/v1/loads", data=b""), 405)


@pytest.fixture
def small(tmp_path: Path) -> FlaskClient:
    """A client of an app that takes one megabyte."""
    made: Flask = create_app(
        settings_.load({"STOREMON_HOME": str(tmp_path / "small"), "STOREMON_MAX_BODY_MB": "1"}), InlineExecutor()
    )
    yield made.test_client()
    made.extensions["storemon"].database.close()


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[None]:
    """A form that is refused in the middle of its reading leaves its temporary files to the collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_too_much_is_413_plain_or_packed(small: FlaskClient) -> None:
    just = POLLS + "a,2024-10-14 10:00:00 UTC,active\n" * 30_000
    assert len(just) < 1_000_000
    assert counts(push(small, "polls", just).json) == (30_000, 1, 0, 0, 29_999, 0)
    more = POLLS + "a,2024-10-14 10:00:00 UTC,active\n" * 40_000
    assert "1,000,000 bytes" in problem(push(small, "polls", more), 413)
    for kind, body in (
        ("text/csv", more),
        ("application/x-ndjson", "{}\n" * 400_000),
        ("application/json", "[" + " " * 2_000_000),
    ):
        bomb = gzip.compress(body.encode())
        answer = push(small, "polls", bomb, kind, headers={"Content-Encoding": "gzip"})
        assert problem(answer, 413) == ("body is larger, unpacked, than STOREMON_MAX_BODY_MB allows; send it in parts")
    with left_to_the_collector():
        assert "1,000,000 bytes" in problem(upload(small, ("a.csv", more)), 413)


def test_a_zip_may_hold_no_more_than_a_body_in_all_its_files(small: FlaskClient) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as found:
        for number in range(3):
            found.writestr(f"{number}.csv", POLLS + f"{number},2024-10-14 10:00:00 UTC,active\n" * 15_000)
    answer = upload(small, ("all.zip", archive.getvalue()))
    assert answer.status_code == 200
    assert [file["error"] for file in answer.json["files"]] == [
        None,
        None,
        "all.zip/2.csv is larger, unpacked, than STOREMON_MAX_BODY_MB allows; send it in parts",
    ]


def a_zip(**members: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as found:
        for name, text in members.items():
            found.writestr(name, text)
    return archive.getvalue()


def test_uploads_of_every_kind_are_recognised_by_what_they_hold(client: FlaskClient, settings: Settings) -> None:
    answer = upload(
        client,
        ("Menu hours (1).csv", GOOD["hours"]),
        ("no ending", gzip.compress(GOOD["polls"].encode())),
        ("export.dat", a_zip(**{"x/z.csv": GOOD["timezones"], "__MACOSX/x/._z.csv": "?", "read.me": "?"})),
        ("stores.csv.gz", gzip.compress(GOOD["stores"].encode())),
    )
    assert answer.status_code == 200
    assert answer.json["load_id"] == 1
    assert [(file["file"], file["feed"], *counts(file), file["rejects"]) for file in answer.json["files"]] == [
        ("Menu hours (1).csv", "hours", 3, 3, 0, 0, 0, 0, []),
        ("no ending", "polls", 2, 2, 0, 0, 0, 0, []),
        ("export.dat/x/z.csv", "timezones", 2, 2, 0, 0, 0, 0, []),
        ("stores.csv.gz", "stores", 2, 2, 0, 0, 0, 0, []),
    ]
    assert [len(rows) for rows in stored(settings).values()] == [2, 3, 2, 2]


def test_the_list_of_a_zip_is_read_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", _counting(zipfile.ZipFile._RealGetContents, opened))
    archive = a_zip(**{f"{number:03}.csv": ZONES + f"s{number},UTC\n" for number in range(200)})
    opened.clear()
    answer = upload(client, ("many.zip", archive))
    assert [file["file"] for file in answer.json["files"]] == [f"many.zip/{number:03}.csv" for number in range(200)]
    assert [counts(file)[1] for file in answer.json["files"]] == [1] * 200
    assert len(opened) == 1


def _counting(method: Callable[[Any], None], calls: list[Any]) -> Callable[[Any], None]:
    def counted(self: Any) -> None:
        calls.append(self)
        method(self)

    return counted


def test_one_bad_file_does_not_keep_the_others_out(client: FlaskClient) -> None:
    answer = upload(
        client, ("a.csv", "x,y\n"), ("b.zip", b"PK\x03\x04 no"), ("c.zip", a_zip()), ("d.csv", GOOD["polls"])
    )
    assert answer.status_code == 200
    errors = {file["file"]: file["error"] for file in answer.json["files"]}
    assert "the header fits no feed" in errors["a.csv"]
    assert "is not a zip that can be read" in errors["b.zip"]
    assert errors["c.zip"] == "c.zip holds no file named *.csv or *.csv.gz"
    assert errors["d.csv"] is None
    assert {file["file"]: file["error"] for file in client.get("/api/v1/loads/1").json["files"]} == errors
    answer = upload(client, ("a.csv", "x,y\n"), ("b.zip", b"PK\x03\x04 no"))
    problem(answer, 422)
    assert set(answer.get_json(force=True)["errors"]) == {"a.csv", "b.zip"}


def test_names_of_files_are_shown_without_folders_and_without_harm(client: FlaskClient) -> None:
    names = [
        "../../etc/passwd",
        "C:/data/polls.csv",
        "x\x1b[31m\u202e.csv",
        "é" * 300,
        "same.csv",
        "same.csv",
        "same.csv",
    ]
    answer = upload(
        client, *((name, GOOD["timezones"]) for name in names), ("z.zip", a_zip(**{"a\x1b[2J.csv": GOOD["stores"]}))
    )
    assert answer.status_code == 200, answer.text
    shown = [file["file"] for file in answer.json["files"]]
    assert shown == [
        "passwd", "polls.csv", "x\ufffd[31m\ufffd.csv", "é" * 200, "same.csv", "same.csv (2)", "same.csv (3)",
        "z.zip/a\ufffd[2J.csv",
    ]  # fmt: skip


def test_what_is_no_file_is_refused(client: FlaskClient) -> None:
    assert "no file was sent" in problem(client.post("/api/v1/feeds", data={}, content_type="multipart/form-data"), 400)
    assert "is text/csv; send files as multipart/form-data" in problem(
        client.post("/api/v1/feeds", data=GOOD["polls"], content_type="text/csv"), 415
    )
    assert "of no stated type" in problem(client.post("/api/v1/feeds", data=b"x"), 415)
    sent = {"file": (io.BytesIO(GOOD["polls"].encode()), "p.csv"), "note": "hello"}
    answer = client.post("/api/v1/feeds", data=sent, content_type="multipart/form-data")
    assert problem(answer, 422) == "note: not a file; send files only, at most 1,000 of them"
    assert client.get("/api/v1/loads").json == {"loads": [], "next": None}
    body = b"--x\r\nContent-Disposition: form-data; name=file; filename=p.csv\r\n\r\n" + GOOD["polls"].encode()
    for broken in (body, b"", b"--x--\r\n"):
        with left_to_the_collector():
            answer = client.post("/api/v1/feeds", data=broken, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 400, answer.text
    sent = {"note": "x" * 600_000}
    answer = client.post("/api/v1/feeds", data=sent, content_type="multipart/form-data")
    assert problem(answer, 422) == "a field of the form: not a file; send files only, at most 1,000 of them"
    parts = [f'--x\r\nContent-Disposition: form-data; name="f"; filename="{n}"\r\n\r\na\r\n' for n in range(1001)]
    with left_to_the_collector():
        answer = client.post(
            "/api/v1/feeds", data="".join(parts) + "--x--\r\n", content_type="multipart/form-data; boundary=x"
        )
    assert "at most 1,000" in problem(answer, 422)


def test_an_empty_file_field_of_a_browser_is_an_empty_file(client: FlaskClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    answer = client.post("/api/v1/feeds", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code in (400, 422)


@pytest.fixture
def fleet(client: FlaskClient) -> FlaskClient:
    """A client after all four feeds were pushed."""
    for feed, text in GOOD.items():
        assert push(client, feed, text).status_code == 200
    return client


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
        ({"hours": [ROW, {**ROW, "day": 7}]}, 'row 2: day of week is not a whole number from 0 (Monday) to 6 (Sunday): {"store_id": "a", "day": 7,'),
        ({"hours": [{**ROW, "start_time_local": "24:00"}]}, '"start_time_local": "24:00"'),
        ({"hours": [{**ROW, "end_time_local": "\ud800"}]}, "row 1: end_time_local is no text"),
        ([ROW], "the body must be a JSON object"),
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
        ({"timezone": "Mars/Phobos"}, 'row 1: time zone is not the name of an IANA zone: {"store_id": "a", "timezone": "Mars/Phobos"}'),
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
        "polls": [("b", "2024-10-14 10:00:00.000000 UTC", "inactive")],
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
        sentence = f"there is no store {store_id!r}; GET /api/v1/stores lists those there are"
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


STRANGE = ["NYC/12", "a%2Fb", "..", ".", "é", "x" * 200, "x/hours", "hours", "%", "%25", "a b", "?", "#x", "=1+1", '"', "\u202e",
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


def test_loads_are_listed_newest_first_page_by_page(client: FlaskClient) -> None:
    for number in range(7):
        push(client, "timezones", ZONES + f"s{number},UTC\n" + "bad,x\n" * number)
    whole = client.get("/api/v1/loads").json
    assert [load["load_id"] for load in whole["loads"]] == [7, 6, 5, 4, 3, 2, 1]
    assert whole["next"] is None
    for load in whole["loads"]:
        (file,) = load["files"]
        assert counts(file) == (load["load_id"], 1, 0, 0, 0, load["load_id"] - 1)
        assert set(load) == {"load_id", "started", "files"}
        assert len(load["started"]) == 27
        assert "rejects" not in file
        assert client.get(f"/api/v1/loads/{load['load_id']}").json == load
    pages, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/api/v1/loads?limit=3{cursor and '&cursor=' + cursor}").json
        pages.append([load["load_id"] for load in page["loads"]])
        cursor = page["next"]
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert client.get("/api/v1/loads?limit=7").json["next"] is None
    assert client.get("/api/v1/loads?cursor=1").json == {"loads": [], "next": None}
    assert client.get("/api/v1/loads?cursor=9223372036854775807").json == whole
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=0", "cursor=9223372036854775808", "cursor=-1", "page=2"):
        assert query.partition("=")[0] in problem(client.get(f"/api/v1/loads?{query}"), 422)


def test_loads_that_never_were(client: FlaskClient, fleet: FlaskClient) -> None:
    for number in (0, 5, 99, 1 << 63, 10**40):
        for path in ("", "/rejects", "/rejects?format=csv"):
            assert f"there is no load {number}" in problem(client.get(f"/api/v1/loads/{number}{path}"), 404)
    for path in ("-1", "x", "1.0", "1/rejected"):
        problem(client.get(f"/api/v1/loads/{path}"), 404)
    assert "format" in problem(client.get("/api/v1/loads/1/rejects?format=xml"), 422)
    assert client.get("/api/v1/loads/1/rejects").json == {"load_id": 1, "rejects": []}
    assert client.get("/api/v1/loads/1/rejects?format=csv").text == "load,file,line,reason,text\n"


def test_head_has_no_body(fleet: FlaskClient) -> None:
    for path in ("/api/v1/loads", "/api/v1/loads/1", "/api/v1/loads/1/rejects"):
        answer = fleet.head(path)
        assert (answer.status_code, answer.data) == (200, b"")


def raw(url: str, *parts: bytes) -> bytes:
    """What the server answers to these bytes."""
    place = urlsplit(url)
    with contextlib.closing(socket.create_connection((place.hostname, place.port), timeout=20)) as line:
        for part in parts:
            line.sendall(part)
        found = b""
        while piece := line.recv(65536):
            found += piece
        return found


HEAD = b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/csv\r\n"


def test_bodies_on_the_wire(server: Server, settings: Settings) -> None:
    body = b"store_id,timestamp_utc,status\nworked,2024-10-14 11:15:00 UTC,inactive\n"
    chunks = b"".join(
        f"{len(body[at : at + 7]):x}\r\n".encode() + body[at : at + 7] + b"\r\n" for at in range(0, len(body), 7)
    )
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"unchanged":1' in answer.replace(b" ", b"")
    answer = raw(server.url, HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode(), body[:10], body[10:])
    assert answer.startswith(b"HTTP/1.1 200 ")
    answer = raw(server.url, HEAD + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"application/problem+json" in answer
    for wrong in (b"Content-Length: x\r\n\r\n", b"Content-Length: -1\r\n\r\n", b"Transfer-Encoding: br\r\n\r\n"):
        answer = raw(server.url, HEAD + wrong)
        assert answer.split(b" ")[1][:1] in (b"4", b"5"), answer
        assert b"application/problem+json" in answer
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nbad\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    (found,) = sql(settings.database, "SELECT count(*) FROM poll")
    assert found == (4,)
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()


def test_too_much_on_the_wire(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_MAX_BODY_MB="1")
    answer = raw(server.url, HEAD + b"Content-Length: 1000001\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"STOREMON_MAX_BODY_MB" in answer
    chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 11, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.get("/healthz").status == 200


def test_pushes_through_the_real_server(serve: Callable[..., Server], settings: Settings) -> None:
    server = serve()
    for feed, text in GOOD.items():
        answer = http(
            f"{server.url}/api/v1/feeds/{feed}",
            "POST",
            gzip.compress(text.encode()),
            Content_Type="text/csv",
            Content_Encoding="gzip",
        )
        assert answer.status == 200, answer.body
        assert answer.json["feed"] == feed
        assert answer.json["new"] == answer.json["rows"] > 0
    bad, reason = BAD["polls"]
    answer = http(f"{server.url}/api/v1/feeds/polls?atomic=1", "POST", (GOOD["polls"] + bad).encode())
    assert (answer.status, answer.json["rejects"][0]["reason"]) == (422, reason)
    assert http(f"{server.url}/api/v1/loads/5/rejects").json["rejects"] == answer.json["rejects"]
    assert http(f"{server.url}/api/v1/stores/a/hours", "DELETE").status == 204
    assert [len(rows) for rows in stored(settings).values()] == [2, 1, 2, 2]
