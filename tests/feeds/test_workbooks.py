"""Workbooks at every door: which sheets are feeds, what typed cells are, and what becomes of the reading process."""

import gc
import io
import os
import signal
import subprocess
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import STOREMON, environment, storemon
from feed_helpers import POLLS, problem, push, stored, upload
from flask.testing import FlaskClient
from load_helpers import load, put, put_zip, query, us
from workbook_helpers import Error, Rows, open_document, workbook

from storemon_flask.database import stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError, Stopped
from storemon_flask.feeds import sources, workbooks
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import LoadItem, Skipped, Source, Unreadable
from storemon_flask.settings import Settings

Make = Callable[[dict[str, Rows]], bytes]

HEADER = ("store_id", "timestamp_utc", "status")
HOURS = ("store_id", "day", "start_time_local", "end_time_local")
ROWS: list[tuple[Any, ...]] = [
    ("a", datetime(2024, 10, 14, 10), "active"),
    (1001, "2024-10-14 11:00:00 UTC", "inactive"),
    ("a", datetime(2024, 10, 14, 11, 0, 30), "Inactive"),
]
FORMATS = pytest.mark.parametrize("make", [workbook, open_document])


def found(path: Path) -> list[LoadItem]:
    return sources.find_sources([path])


def rejects(result: LoadResult) -> list[tuple[int, str, str]]:
    return [(reject.line, reject.reason, reject.text) for file in result.files for reject in file.rejects]


def children() -> list[str]:
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if "table_process" in line]


@FORMATS
def test_typed_cells_are_what_they_say(make: Make, tmp_path: Path, database: Database) -> None:
    hours = [
        HOURS,
        ("a", 0, time(9), time(17, 30)),
        ("a", 1, "9:00", timedelta(hours=24)),
        (1001, 2.0, timedelta(hours=10), "18:00"),
    ]
    zones = [("store_id", "timezone_str", "valid_from"), ("a", "Asia/Tokyo", None), ("a", "UTC", date(2024, 11, 1))]
    result = load(database, put(tmp_path / "all.xlsx", make({"polls": [HEADER, *ROWS], "h": hours, "z": zones})))
    assert [(file.file.rpartition("/")[2], file.feed, file.counts.new, file.error) for file in result.files] == [
        ("polls", "polls", 3, ""), ("h", "hours", 3, ""), ("z", "timezones", 2, "")
    ]  # fmt: skip
    assert query(database.path, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2") == [
        ("1001", "2024-10-14 11:00:00.000000Z", "inactive"),
        ("a", "2024-10-14 10:00:00.000000Z", "active"),
        ("a", "2024-10-14 11:00:30.000000Z", "inactive"),
    ]
    sql = "SELECT store_id, day, start_s, end_s FROM hours JOIN store_record ON number = store ORDER BY 1, 2"
    assert query(database.path, sql) == [("1001", 2, 36000, 64800), ("a", 0, 32400, 63000), ("a", 1, 32400, 86400)]
    assert query(database.path, "SELECT count(*) FROM timezone") == [(2,)]


@FORMATS
def test_what_cannot_be_used_is_rejected_with_the_row_of_the_sheet(
    make: Make, tmp_path: Path, database: Database
) -> None:
    rows = [
        (None, None, None),
        (*HEADER, "note"),
        ("a", datetime(2024, 10, 14, 10), "active", "a note"),
        (None, None, None),
        ("a", "yesterday", "active"),
        (8139926242460185114, datetime(2024, 10, 14, 10), "active"),
        (1.5, datetime(2024, 10, 14, 10), "active"),
        (date(2024, 1, 2), datetime(2024, 10, 14, 10), "active"),
        ("", "  ", ""),
        ("a", datetime(2024, 10, 14, 11), Error("#N/A")),
        (Error("#N/A"), datetime(2024, 10, 14, 11), "active"),
        ("a", datetime(2024, 10, 14, 12)),
        ("Total", 7),
    ]
    result = load(database, put(tmp_path / "polls", make({"Sheet1": rows})))
    (file,) = result.files
    assert (file.counts.rows, file.counts.new, file.counts.rejected) == (9, 1, 8)
    assert [(line, reason.partition(";")[0]) for line, reason, _ in rejects(result)] == [
        (5, "timestamp_utc is not a date and time (YYYY-MM-DD HH:MM:SS[.ffffff] [UTC])"),
        (6, "store_id is a number of more than 15 digits, of which a spreadsheet loses those at the end"),
        (7, "store_id is a number with a fraction"),
        (8, "store_id is a date or a time, which a spreadsheet makes of ids such as 1-2"),
        (10, "status is an error value of a spreadsheet"),
        (11, "store_id was destroyed by a spreadsheet (an error value, or a number wider than its column)"),
        (12, "status is neither active nor inactive"),
        (13, "timestamp_utc is a number, but not of seconds, milliseconds or microseconds since 1970 (9 or 10 digits are "
             "seconds, 12 or 13 milliseconds, 15 or 16 microseconds"),
    ]  # fmt: skip
    assert rejects(result)[0][2] == "a,yesterday,active"


def test_sheets_that_are_no_feeds_have_a_reason(tmp_path: Path) -> None:
    notes = [("What this is",)]
    sheets = {
        "polls": [HEADER, *ROWS],
        "hidden": [HEADER, *ROWS],
        "empty": [],
        "notes": notes,
        "titled": [("Hours of 2024",), (), HOURS, ("a", 0, "9:00", "17:00")],
    }
    path = put(tmp_path / "all.xlsx", workbook(sheets, hidden=["hidden"]))
    polls, hidden, notes_sheet, titled = found(path)
    assert isinstance(polls, Source)
    assert (polls.name, polls.format) == (f"{path}/polls", "sheet")
    assert hidden == Skipped(f"{path}/hidden", "it is hidden; show it to have it loaded", f"{path}/hidden")
    assert isinstance(notes_sheet, Skipped)
    assert notes_sheet.reason == "the header fits no feed: it has 1 column, of which storemon knows none"
    assert isinstance(titled, Unreadable)
    assert titled.reason == (
        f"{path}/titled: the header (of hours) is in row 3; remove what stands above it, rows 1 to 2"
    )


@pytest.mark.parametrize(
    ("sheets", "sentence"),
    [
        ({"a": [("x", "y")]}, "'a': the header fits no feed: it has 2 columns, of which storemon knows none; expected"),
        ({"a": [("x",)], "b": [("y",)]}, "none of its sheets ('a', 'b') begins with the header of a feed"),
        ({"a": []}, "it is empty"),
    ],
)
def test_a_workbook_without_a_feed_is_an_error_when_named_and_passed_over_beside_others(
    tmp_path: Path, sheets: dict[str, Rows], sentence: str
) -> None:
    data = workbook(sheets)
    (alone,) = found(put(tmp_path / "alone.xlsx", data))
    assert isinstance(alone, Unreadable)
    assert alone.reason.startswith(f"{tmp_path / 'alone.xlsx'}: {sentence}")
    folder = tmp_path / "folder"
    put(folder / "polls.csv", POLLS)
    put(folder / "budget.xlsx", data)
    passed, csv = found(folder)
    assert isinstance(csv, Source)
    assert isinstance(passed, Skipped)
    assert passed.reason.startswith(sentence)
    passed, _ = found(put_zip(tmp_path / "a.zip", {"polls.csv": POLLS.encode(), "budget.xlsx": data}))
    assert isinstance(passed, Skipped)
    assert passed.reason.startswith(sentence)


@FORMATS
def test_every_door_takes_a_workbook(make: Make, client: FlaskClient, settings: Settings, tmp_path: Path) -> None:
    data = make({"polls": [HEADER, *ROWS]})
    # Whatever it is called or labelled, and small or large.
    for kind in ("text/csv", "application/json", "application/vnd.ms-excel"):
        answer = push(client, "polls", data, kind)
        assert (answer.status_code, answer.json["rows"], answer.json["rejected"]) == (200, 3, 0), answer.text
    rows = stored(settings)["polls"]
    assert len(rows) == 3
    for name, body in (("polls.xlsx", data), ("what.csv", data), ("all.zip", zipped(("in/p.xlsx", data)))):
        (file,) = upload(client, (name, body)).json["files"]
        assert (file["feed"], file["unchanged"], file["error"]) == ("polls", 3, None)
        assert file["file"].endswith("/polls")
    put(tmp_path / "data" / "polls.ods", data)
    done = storemon(settings.home, "load-data", str(tmp_path / "data"))
    assert (done.returncode, "polls.ods/polls" in done.stdout) == (0, True), done.stderr
    piped = subprocess.run(
        [*STOREMON, "load-data", "-"], input=data, env=environment(settings.home), capture_output=True, check=False
    )
    assert (piped.returncode, b"standard input/polls" in piped.stdout) == (0, True), piped.stderr
    assert stored(settings)["polls"] == rows


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_a_body_is_one_feed(client: FlaskClient) -> None:
    hours = [HOURS, ("a", 0, "9:00", "17:00")]
    both = workbook({"polls": [HEADER, *ROWS], "hours": hours})
    sentence = problem(push(client, "polls", both), 422)
    assert sentence == (
        "it holds 2 CSVs or sheets, and this address takes one feed; send it to /api/v1/feeds (`curl -F file=@FILE`)"
    )
    assert "the header is that of hours, not of polls" in problem(push(client, "polls", workbook({"h": hours})), 422)
    assert push(client, "hours", workbook({"notes": [("x",)], "h": hours})).json["new"] == 1


def test_a_text_with_the_name_of_a_workbook_is_read_as_what_it_is(tmp_path: Path, database: Database) -> None:
    text = (POLLS + "a,2024-10-14 10:00:00 UTC,active\n").encode()
    page = b"<html><table><tr><td>store_id</td></tr></table></html>"
    for path in (put(tmp_path / "a.xls", text), put_zip(tmp_path / "a.zip", {"b.xlsx": text})):
        (file,) = load(database, path).files
        assert (file.counts.rows, file.error) == (1, "")
    for path in (put(tmp_path / "p.xls", page), put_zip(tmp_path / "p.zip", {"p.xls": page})):
        (file,) = load(database, path).files
        assert "it is a web page (HTML)" in file.error
    (empty,) = load(database, put_zip(tmp_path / "e.zip", {"e.xlsx": b""})).files
    assert empty.error.endswith("e.zip/e.xlsx is empty")


def test_the_bar_of_progress_ends_at_the_size_of_the_file(tmp_path: Path, database: Database) -> None:
    path = put(tmp_path / "all.xlsx", workbook({"one": [HEADER, *ROWS], "two": [HEADER, *ROWS]}))
    progress: list[int] = []
    options = LoadOptions(us("2024-10-14T12:00:00"), 0)
    load_sources(database, found(path), options, progress=lambda name, more: progress.append(more))
    assert sum(progress) == path.stat().st_size // 2 * 2


def test_giving_up_ends_the_process(tmp_path: Path, database: Database) -> None:
    many = [HEADER, *((f"s{number}", datetime(2024, 10, 14, 10), "active") for number in range(30_000))]
    path = put(tmp_path / "polls.xlsx", workbook({"polls": many}))
    items = found(path)
    assert children() == []
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise Stopped("the server is stopping")

    with pytest.raises(Stopped, match="nothing of this was stored"):
        load_sources(database, items, LoadOptions(us("2024-10-14T12:00:00"), 0, check=check))
    assert children() == []
    with path.open("rb") as file, pytest.raises(Stopped):
        workbooks.list_sheets(file, check)
    assert children() == []


def test_the_process_that_cannot_be_started_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "polls.xlsx", workbook({"polls": [HEADER, *ROWS]}))
    for executable in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr("sys.executable", executable)
        (item,) = found(path)
        assert isinstance(item, Unreadable)
        assert "the process that reads workbooks cannot be started here; save it as CSV" in item.reason


def test_what_takes_too_long_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [HEADER, *((f"s{number}", datetime(2024, 10, 14, 10), "active") for number in range(20_000))]
    path = put(tmp_path / "polls.xlsx", workbook({"polls": many}))
    monkeypatch.setattr(workbooks, "_CPU_S", 0)
    (item,) = found(path)
    assert isinstance(item, Unreadable)
    assert "s to read; save it as CSV" in item.reason
    assert children() == []


def test_a_folder_or_zip_of_workbooks_without_a_feed_is_an_error(tmp_path: Path, client: FlaskClient) -> None:
    notes = workbook({"notes": [("x", "y")]})
    packed = zipped(("in/budget.xlsx", notes))
    folder = put(tmp_path / "folder" / "budget.xlsx", notes).parent
    archive = put(tmp_path / "a.zip", packed)
    for path in (folder, archive):
        (wrong,) = (item for item in found(path) if isinstance(item, Unreadable))
        assert wrong.reason.startswith(f"{path} holds no workbook with a feed and no file named *.csv, ")
        assert "budget.xlsx: 'notes': the header fits no feed: it has 2 columns" in wrong.reason
        assert len(found(path)) == 2
    assert "body holds no workbook with a feed" in problem(push(client, "polls", packed), 422)
    assert "a.zip holds no workbook with a feed" in problem(upload(client, ("a.zip", packed)), 422)


def test_looking_at_the_sheets_of_a_body_ends_when_the_load_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sooner than any process has read them.
    monkeypatch.setattr(workbooks, "_CHECK_EVERY_S", 0.001)
    asked: list[int] = []

    def check() -> None:
        asked.append(len(asked))
        if len(asked) >= 2:
            raise Stopped("enough")

    many = workbook({f"s{number}": [HEADER] * 5_000 for number in range(10)})
    with pytest.raises(Stopped):
        sources.detect_format(io.BytesIO(many), "", check=check)
    assert children() == []


def test_reading_that_ends_with_an_error_takes_of_the_time_of_all_sheets(tmp_path: Path) -> None:
    book = workbook({"polls": [HEADER, *ROWS]})
    damaged = put(tmp_path / "a.xlsx", book[: len(book) // 2])
    time = workbooks.ReadingTime()
    with damaged.open("rb") as file, pytest.raises(DataError, match="it is damaged"):
        list(workbooks._ask(file, {"read": "sheets"}, lambda: None, time))
    assert 0 < workbooks.WORKBOOK_CPU_S - time._left_s < 10


def test_workbooks_in_a_zip_are_not_held_open(tmp_path: Path) -> None:
    book = workbook({"polls": [HEADER, *ROWS]})
    archive = put(tmp_path / "a.zip", zipped(*((f"{number}.xlsx", book) for number in range(5))))
    # What tests before this one have dropped without closing it.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    items = found(archive)
    assert len(items) == 5
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_zip_with_the_name_of_a_workbook_is_not_searched_in_a_zip(tmp_path: Path, database: Database) -> None:
    """There are zips that hold themselves."""
    data = zipped(("polls.csv", POLLS.encode()))
    for _ in range(400):
        data = zipped(("r.xlsx", data))
    (file,) = load(database, put(tmp_path / "a.zip", data)).files
    assert file.error == f"{tmp_path}/a.zip/r.xlsx is a zip inside a zip; unpack it first"


def test_the_death_of_the_process_stores_nothing_of_its_sheet(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the system has no memory left: that is no matter of time."""
    many = [HEADER, *((f"s{number}", datetime(2024, 10, 14, 10), "active") for number in range(30_000))]
    path = put(tmp_path / "polls.xlsx", workbook({"few": [HEADER, *ROWS], "many": many}))
    items = found(path)
    frames = 0
    read_frame = workbooks._read_frame

    def kill_later(answers: Any) -> Any:
        nonlocal frames
        frames += 1
        if frames == 6:
            # Of the first sheet there were four; of this one the first, and its first batch is on its way.
            # Tests before this one may have left others.
            command = ["pgrep", "-P", str(os.getpid()), "-f", "table_process"]
            (line,) = subprocess.run(command, capture_output=True).stdout.split()
            os.kill(int(line), signal.SIGKILL)
        return read_frame(answers)

    monkeypatch.setattr(workbooks, "_read_frame", kill_later)
    result = load_sources(database, items, LoadOptions(us("2024-10-15T12:00:00"), 0))
    few, killed = result.files
    assert (few.counts.new, few.error, killed.counts.rows) == (3, "", 0)
    assert killed.error.startswith("it takes more than 512 MB of memory to read, or is damaged; save it as CSV")
    with database.read() as connection:
        assert sorted(stores.ids(connection)) == ["1001", "a"]
