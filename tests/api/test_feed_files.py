"""Files and zips over HTTP, and feeds that are too large or no feeds at all."""

import contextlib
import gc
import gzip
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import sql
from feed_helpers import GOOD, POLLS, ZONES, counts, problem, push, stored, upload
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings


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
        ("store,when\n", "application/json", {}, 400, "it begins with neither { nor ["),
        ("store,when\n", "text/plain", {}, 422, "the header fits no feed: it has 2 columns, of which storemon knows none"),
        ("<polls/>", "application/xml", {}, 422, "the header fits no feed: it has 1 column, of which storemon knows none"),
        (b"[" * 100_000, "application/json", {}, 400, "nested too deeply"),
        (b"\xff\xfea\0", "text/csv", {}, 422, "UTF-16"),
        (b"store_id,\xff\n", "text/csv", {}, 422, "not UTF-8"),
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
        assert sql(settings.database, "SELECT count(*) FROM store_record") == [(0,)]
    assert push(client, "polls", GOOD["polls"]).status_code == 200


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("atomic=2", "atomic"),
        ("atomic=yes", "atomic"),
        ("atomic=1&atomic=1", "atomic is given more than once"),
        ("atomc=1", "atomc is not a parameter of this address (the parameters are atomic, days)"),
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
            "body is larger, unpacked, than the 1 MB that STOREMON_MAX_BODY_MB allows for all of a request; send it in parts, or "
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
        "all.zip/2.csv is larger, unpacked, than the 1 MB that STOREMON_MAX_BODY_MB allows for all of a request; send it in parts, or "
        "have that setting raised",
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
