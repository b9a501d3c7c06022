"""Feeds over HTTP: what is answered to every kind of body, and what the database holds after it."""

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
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from conftest import PATIENCE_S, SMALL_CSV, Server, http, sql
from feed_helpers import BAD, GOOD, HOURS, POLLS, ZONES, counts, problem, push, stored, upload
from feed_helpers import fleet as fleet
from flask import Flask
from flask.testing import FlaskClient
from load_helpers import Cut

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.api import feeds
from storemon_flask.errors import Stopped
from storemon_flask.feeds import json_rows, sources
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings


def rows_of(feed: str) -> list[dict[str, str]]:
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
    rows = rows_of(feed)
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
        "1 row with equal start and end was read as 24 hours",
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
    rows = [*rows_of(feed), dict(zip(names, bad.rstrip("\n").split(","), strict=True))]
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
    client: FlaskClient, runner: Worker, settings: Settings
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
    assert feeds._CLIENT_EVERY_S == 1
    # The first push makes the database, which may take more than a second.
    monkeypatch.setattr(feeds, "_CLIENT_EVERY_S", PATIENCE_S)
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


# Files and zips over HTTP, and feeds that are too large or no feeds at all


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status", "says"),
    [
        (GOOD["hours"], "text/csv", {}, 422, "the header is that of hours, not of polls"),
        ("a;b\n", "text/csv", {}, 422, "it has 2 columns separated by semicolons, of which storemon knows none"),
        ("", "text/csv", {}, 422, "the file is empty"),
        ("", "application/json", {}, 400, "it is empty"),
        ("\n \n", "", {}, 422, "the file is empty"),
        ("{", "application/json", {}, 400, "the body is not a JSON object or a list of them"),
        ("[{},", "application/json", {}, 400, "its list has no end"),
        ("1", "application/json", {}, 400, "it begins with neither { nor ["),
        ("store,when\n", "application/json", {}, 400, "it begins with neither { nor ["),
        ("store,when\n", "text/plain", {}, 422, "the header fits no feed: it has 2 "
            "columns, of which storemon knows none"),
        ("<polls/>", "application/xml", {}, 422, "the header fits no feed: it has 1 "
            "column, of which storemon knows none"),
        (b"[" * 100_000, "application/json", {}, 400, "nested too deeply"),
        (b"\xff\xfea\0", "text/csv", {}, 422, "it has 1 column, of which storemon knows none"),
        (b"store_id,\xff\n", "text/csv", {}, 422, "not UTF-8"),
        (GOOD["polls"], "multipart/form-data; boundary=x", {}, 415, "Content-Type is multipart/form-data"),
        (GOOD["polls"], "text/csv; charset=latin-1", {}, 415, "the charset is latin-1; it must be utf-8"),
        (GOOD["polls"], "text/csv", {"Content-Encoding": "br"}, 415, "Content-Encoding is 'br'; it must be gzip"),
        (GOOD["polls"], "text/csv", {"Content-Encoding": "gzip, gzip"}, 415, "Content-Encoding is 'gzip, gzip'"),
        (gzip.compress(GOOD["polls"].encode(), mtime=0)[:-9], "application/gzip", {}, 422, "damaged or cut short"),
        (gzip.compress(GOOD["polls"].encode(), mtime=0)[:30], "text/csv", {"Content-Encoding": "gzip"}, 422, "damaged or "
            "cut short"),
        (gzip.compress(b"[]", mtime=0)[:-3], "application/json", {"Content-Encoding": "gzip"}, 422, "damaged or "
            "cut short"),
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
        assert sql(settings.database, "SELECT count(*) FROM store_record") == [(0,)]
    assert push(client, "polls", GOOD["polls"]).status_code == 200


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("atomic=2", "atomic"),
        ("atomic=yes", "atomic"),
        ("atomic=1&atomic=1", "atomic is given more than once"),
        ("atomc=1", "atomc is not a parameter of this address (the parameters are atomic, dry_run, days, encoding)"),
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
        assert problem(answer, 413) == (
            "body is larger, unpacked, than the 1 MB that STOREMON_MAX_BODY_MB "
            "allows for all of a request; send it in parts, or "
            "have that setting raised"
        )
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
        "all.zip/2.csv is larger, unpacked, than the 1 MB that "
        "STOREMON_MAX_BODY_MB allows for all of a request; send it in parts, or "
        "have that setting raised",
    ]


def a_zip(**members: str | bytes) -> bytes:
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
    assert errors["c.zip"] == "c.zip holds no workbook and no file named *.csv, *.csv.gz or *.csv.zst"
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
    too_much = (
        "the form has more than 1,000 files, or a long field that is no file; send files only, at most 1,000 of them"
    )
    assert problem(answer, 422) == too_much
    parts = [f'--x\r\nContent-Disposition: form-data; name="f"; filename="{n}"\r\n\r\na\r\n' for n in range(1001)]
    with left_to_the_collector():
        answer = client.post(
            "/api/v1/feeds", data="".join(parts) + "--x--\r\n", content_type="multipart/form-data; boundary=x"
        )
    assert problem(answer, 422) == too_much


def test_an_empty_file_field_of_a_browser_is_an_empty_file(client: FlaskClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    answer = client.post("/api/v1/feeds", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code in (400, 422)


# What a pushed body is: its content decides, whatever it is labelled as


ROWS = [
    {"store_id": "a", "timestamp_utc": "2024-10-14 10:00:00", "status": "active"},
    {"store_id": "b", "timestamp_utc": "2024-10-14 10:00:00", "status": "inactive"},
]
LINES = "\n".join(map(json.dumps, ROWS))
LABELS = (
    "", "application/"
        "x-www-form-urlencoded", "application/octet-stream", "text/plain", "text/plain; charset=utf-8", "text/csv",
    "application/json", "application/json;"
        " charset=utf-8", "application/jsonl", "application/x-ndjson", "application/x-jsonlines",
    "application/vnd.shipper+json", "text/json", "application/gzip-is-not-this", "image/png",
)  # fmt: skip
BODIES = {
    "csv": GOOD["polls"].encode(),
    "csv with CRLF": GOOD["polls"].replace("\n", "\r\n").encode(),
    "csv in quotes": "\n".join(
        ",".join(f'"{field}"' for field in line.split(",")) for line in GOOD["polls"].splitlines()
    ).encode(),
    "a list": json.dumps(ROWS).encode(),
    "an indented list": json.dumps(ROWS, indent=2).encode(),
    "ndjson": LINES.encode(),
    "ndjson with CRLF": LINES.replace("\n", "\r\n").encode() + b"\r\n",
    "ndjson behind blank lines": b"\n \r\n" + LINES.encode(),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("body", BODIES)
def test_every_label_is_read_by_its_content(client: FlaskClient, body: str, bom: bytes, packed: bool) -> None:
    data = bom + BODIES[body]
    if packed:
        data = gzip.compress(data, mtime=0)
    push(client, "polls", GOOD["polls"])
    for label in LABELS:
        answer = push(client, "polls", data, label)
        assert answer.status_code == 200, (label, answer.text)
        assert counts(answer.json) == (2, 0, 0, 2, 0, 0), label


@pytest.mark.parametrize(
    ("body", "label", "note"),
    [
        ("csv", "application/json", "its Content-Type is application/json, but it is CSV, and was read so"),
        ("csv", "application/x-ndjson", "its Content-Type is application/x-ndjson, but it is CSV, and was read so"),
        ("a list", "text/csv", "its Content-Type is text/csv, but it is JSON, and was read so"),
        ("ndjson", "text/csv", "its Content-Type is text/csv, but it is NDJSON, and was read so"),
        ("ndjson", "application/json", ""),
        ("a list", "application/x-ndjson", ""),
        ("csv", "text/plain", ""),
        ("csv", "", ""),
    ],
)
def test_a_label_that_contradicts_the_content_is_noted(client: FlaskClient, body: str, label: str, note: str) -> None:
    answer = push(client, "polls", BODIES[body], label).json
    assert answer["new"] == 2
    assert [found for found in answer["notes"] if "Content-Type" in found] == ([note] if note else [])


@pytest.mark.parametrize("label", ["", "application/json", "application/x-ndjson", "text/plain", "text/csv"])
def test_one_object_is_one_row(client: FlaskClient, label: str) -> None:
    assert counts(push(client, "polls", json.dumps(ROWS[0]), label).json) == (1, 1, 0, 0, 0, 0)
    if label != "application/x-ndjson":
        assert counts(push(client, "polls", json.dumps(ROWS[0], indent=1), label).json) == (1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize("label", ["", "application/json", "text/plain", "application/jsonl"])
def test_a_broken_line_among_objects_is_one_reject(client: FlaskClient, label: str) -> None:
    first, second = LINES.splitlines()
    for lines in ((first, "{broken", second), ("{broken", first, second), (first, second, first[:-5])):
        answer = push(client, "polls", "\n".join(lines), label).json
        assert (answer["rows"], answer["rejected"]) == (3, 1)
        assert answer["reasons"] == {json_rows.NOT_JSON: 1}


def test_broken_json_is_still_refused_as_json(client: FlaskClient) -> None:
    for label in ("", "application/json", "text/plain"):
        for body, why in (
            ('{"store_id": 1', "row 1: "),
            ('[{"store_id": 1}', "its list has no end"),
            ("[1] 2", "something follows its end"),
        ):
            assert why in problem(push(client, "polls", body, label), 400)
    assert "begins with neither" in problem(push(client, "polls", "7", "application/json"), 400)


def test_a_header_in_brackets_is_csv_when_it_says_so(client: FlaskClient) -> None:
    assert "the header fits no feed: it has 2 columns, of which storemon knows none" in problem(
        push(client, "polls", "[store_id],[x]\n", "text/csv"), 422
    )


def test_nothing_is_lost_of_what_is_looked_at(client: FlaskClient) -> None:
    filler = " " * 5000
    row = json.dumps({**ROWS[0], "x": "y" * 60_000})
    bodies = [
        f"{filler}\n{LINES}",
        f"{row}\n{LINES}\n",
        f"[{filler}{row}]",
        POLLS + f"a,2024-10-14,{'x' * 3_000_000}\n",
    ]
    for body in bodies:
        for sizes in ((1,), (700,), ()):
            if sizes == (1,) and len(body) > 100_000:
                continue
            stream, _, note = sources.detect_format(cast(Any, Cut(body.encode(), sizes)), "")
            assert stream.read() == body.encode()
            assert note == ""


def test_a_zip_of_one_csv_is_a_body_as_that_csv_is(client: FlaskClient) -> None:
    archive = a_zip(**{"deep/a.csv": GOOD["polls"], "notes.txt": "x"})
    for data in (archive, gzip.compress(archive), a_zip(**{"a.csv.gz": GOOD["polls"]})):
        for kind in ("application/zip", "text/csv", "application/json", "application/octet-stream"):
            answer = push(client, "polls", data, kind)
            assert (answer.status_code, counts(answer.json)[0]) == (200, 2), answer.text
    sentence = problem(push(client, "polls", a_zip(**{"a.csv": GOOD["polls"], "b.csv": GOOD["hours"]})), 422)
    assert "it holds 2 CSVs or sheets, and this address takes one feed; send it to /api/v1/feeds" in sentence
    assert "body holds no workbook and no file named *.csv" in problem(
        push(client, "polls", a_zip(**{"a.bin": "x"})), 422
    )
    assert "a zip inside a zip" in problem(push(client, "polls", a_zip(**{"a.csv": archive})), 422)
    assert "is not a zip that can be read" in problem(push(client, "polls", archive[:-30]), 422)


def test_a_body_labelled_gzip_that_is_none_is_read_as_what_it_is(client: FlaskClient) -> None:
    assert push(client, "polls", GOOD["polls"], "application/gzip").json["new"] == 2


def test_a_gzip_within_a_gzip_is_recognised_by_its_bytes() -> None:
    data = gzip.compress(gzip.compress(LINES.encode()))
    stream, form, _ = sources.detect_format(io.BytesIO(data), "application/gzip")
    assert (stream.read(), form) == (LINES.encode(), "ndjson")


def test_depth_is_limited_alike_in_every_form_and_on_every_interpreter(client: FlaskClient) -> None:
    def row(levels: int) -> str:
        nested = "[" * (levels - 1) + "]" * (levels - 1)
        return f'{{"store_id":"a","timestamp_utc":"2024-10-14 10:00:00","status":"active","x":{nested},"y":"[{{[{{"}}'

    limit = json_rows.MAX_DEPTH
    assert push(client, "polls", f"[{row(limit)}]", "application/json").json["new"] == 1
    assert "row 2 is nested too deeply (more than 64 levels)" in problem(
        push(client, "polls", f"[{row(2)},{row(limit + 1)}]", "application/json"), 400
    )
    answer = push(client, "polls", f"{row(limit)}\n{row(limit + 1)}\n{row(900)[:-300]}", "application/json").json
    assert (answer["unchanged"], answer["reasons"]) == (1, {json_rows.TOO_DEEP: 2})
    wide = json.dumps({**ROWS[0], "x": [[] for _ in range(1000)]})
    assert push(client, "polls", wide, "application/json").json["unchanged"] == 1


# Loads listed over HTTP, and bodies on the wire of a real server


def raw(url: str, *parts: bytes) -> bytes:
    """What the server answers to these bytes."""
    address = urlsplit(url)
    with contextlib.closing(socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)) as line:
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
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nbad\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    (found,) = sql(settings.database, "SELECT count(*) FROM poll")
    assert found == (4,)
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()


def test_too_much_on_the_wire(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_MAX_BODY_MB="1")
    assert raw(server.url, HEAD + b"Content-Length: 100000001\r\n\r\n").startswith(b"HTTP/1.1 413 ")
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
