"""Lists of loads have sums and no files; one load is shown with its first 1,000."""

import io
import re
import sqlite3
import zipfile
from contextlib import closing
from typing import Any

from conftest import sql, storemon
from feed_helpers import POLLS, ZONES, counts, problem, push, upload
from feed_helpers import fleet as fleet
from flask.testing import FlaskClient

from storemon_flask.database import loads, stores
from storemon_flask.settings import Settings

SUMS = ("rows", "new", "changed", "unchanged", "repeated", "rejected")


def many_members(count: int) -> bytes:
    """A zip of so many members, of which every second one is empty."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(count):
            row = f"s{number},2024-10-14 10:00:00 UTC,{'active' if number % 4 else 'up'}\n"
            made.writestr(f"{number:04}.csv", POLLS + row if number % 2 == 0 else "")
    return archive.getvalue()


def add_files(settings: Settings, load: int, count: int) -> None:
    """Files in the database as earlier versions stored them, however many there were."""
    with closing(sqlite3.connect(settings.database)) as connection, connection:
        connection.executemany(
            "INSERT INTO load_file (load, file, feed, sha256, loaded_us,"
            " row_count, new_count, changed_count, unchanged_count, "
            "repeated_count, rejected_count, reasons, notes, error) "
            "VALUES (?, ?, 'polls', '', 5, 3, 2, 0, 0, 0, 1, '{}', '[]', ?)",
            [(load, f"{number}.csv", "" if number % 2 else "broken") for number in range(count)],
        )


def test_a_load_of_many_files_is_one_entry_of_a_list(client: FlaskClient, settings: Settings) -> None:
    answer = upload(client, ("many.zip", many_members(100)))
    assert len(answer.json["files"]) == 100
    (entry,) = client.get("/api/v1/loads").json["loads"]
    expected = dict(zip(SUMS, (50, 25, 0, 0, 0, 25), strict=True))
    assert {name: entry[name] for name in SUMS} == expected
    assert (entry["file"], entry["file_count"], entry["failed_count"]) == ("many.zip/0000.csv", 100, 50)
    assert "files" not in entry
    assert len(client.get("/api/v1/loads").data) < 1_500
    page = client.get("/data").text
    assert "<bdi>many.zip/0000.csv</bdi> and 99 more" in page
    assert "50 not loaded" in page
    shown = client.get("/api/v1/loads/1").json
    assert {**entry, "files": shown["files"]} == shown
    assert sorted(file["file"] for file in shown["files"]) == [f"many.zip/{number:04}.csv" for number in range(100)]
    listed = storemon(settings.home, "loads").stdout
    assert len(re.findall(r"many\.zip/\d{4}\.csv", listed)) == 20
    assert "and 80 more; of all 100 files: 50 rows, 25 rejected, 50 files not loaded" in " ".join(listed.split())


def test_of_a_load_of_too_many_files_the_first_are_shown(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", POLLS + "a,2024-10-14 10:00:00 UTC,active\n")
    add_files(settings, 1, 2_499)
    shown = client.get("/api/v1/loads/1").json
    assert len(shown["files"]) == loads.MOST_FILES == 1_000
    assert (shown["file_count"], shown["failed_count"], shown["rows"], shown["rejected"]) == (
        2_500,
        1_250,
        7_498,
        2_499,
    )
    page = client.get("/data/loads/1").text
    assert page.count('<th scope="row" class="files">') == 1_000
    assert "2,500 files" in page
    assert "These are the first 1,000 of 2,500 files." in page


def test_one_zip_with_too_many_files_keeps_no_others_out(client: FlaskClient) -> None:
    answer = upload(client, ("many.zip", many_members(1_001)), ("a.csv", POLLS + "a,2024-10-14 10:00:00 UTC,active\n"))
    assert [file["error"] for file in answer.json["files"]] == [
        "many.zip holds 1,001 files, and one load takes at most 1,000; "
        "load them in several parts, or join files of one feed: a file "
        "may have any number of rows",
        None,
    ]
    alone = upload(client, ("many.zip", many_members(1_001)))
    assert alone.status_code == 422
    assert "one load takes at most 1,000" in alone.json["detail"]
    both = upload(client, ("a.zip", many_members(501)), ("b.zip", many_members(500)))
    assert both.status_code == 413
    assert both.get_json(force=True)["detail"].startswith(
        "there are more than 1,000 files, those in zips among them, and one load"
    )
    page = client.post(
        "/data",
        data={"file": [(io.BytesIO(many_members(501)), "a.zip"), (io.BytesIO(many_members(500)), "b.zip")]},
        content_type="multipart/form-data",
        headers={"Accept": "text/html"},
    )
    assert page.status_code == 413
    assert "there are more than 1,000 files" in page.text


def test_when_a_feed_was_last_loaded_is_looked_up_in_an_index(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", POLLS + "a,2024-10-14 10:00:00 UTC,active\n")
    with closing(sqlite3.connect(settings.database)) as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        found = stores.last_loaded(connection)
        connection.set_trace_callback(None)
        plans: list[Any] = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall() for statement in statements
        ]
    assert found == {"polls": sql(settings.database, "SELECT loaded_us FROM load_file")[0][0]}
    assert len(plans) == 5
    assert {row[3] for plan in plans for row in plan} == {"SEARCH load_file USING INDEX load_file_newest (feed=?)"}


# Loads listed over HTTP, page by page


COUNTS = ("rows", "new", "changed", "unchanged", "repeated", "rejected")


def test_loads_are_listed_newest_first_page_by_page(client: FlaskClient) -> None:
    for number in range(7):
        push(client, "timezones", ZONES + f"s{number},UTC\n" + "bad,x\n" * number)
    whole = client.get("/api/v1/loads").json
    assert [load["load_id"] for load in whole["loads"]] == [7, 6, 5, 4, 3, 2, 1]
    assert whole["next"] is None
    for load in whole["loads"]:
        shown = client.get(f"/api/v1/loads/{load['load_id']}").json
        (file,) = shown.pop("files")
        assert counts(file) == (load["load_id"], 1, 0, 0, 0, load["load_id"] - 1)
        assert set(load) == {
            "load_id",
            "started",
            "notes",
            "file",
            "file_count",
            "failed_count",
            "undoes",
            "undone_by",
            *COUNTS,
        }
        assert len(load["started"]) == 27
        assert "rejects" not in file
        assert shown == load
        assert [load[name] for name in ("file", "file_count", "failed_count")] == ["body", 1, 0]
        assert [load[name] for name in COUNTS] == [file[name] for name in COUNTS]
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
