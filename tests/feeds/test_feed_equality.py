"""One engine behind every entry: the same fleet as files, pushes large and small, JSON, lines, gzip, zip and messages
gives the same bytes and rejects.
"""

import csv
import gzip
import importlib.util
import io
import json
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse
from workbook_helpers import workbook

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.database.connections import Database
from storemon_flask.feeds import csv_exact, load, sources
from storemon_flask.feeds.groups import PollGroups
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings
from storemon_flask.streams import address, listener
from storemon_flask.streams.messages import Message, MessageReader

COLUMNS = {
    "polls": ("store_id", "timestamp_utc", "status"),
    "hours": ("store_id", "dayOfWeek", "start_time_local", "end_time_local", "valid_from"),
    "special_hours": ("store_id", "date", "start_time_local", "end_time_local"),
    "timezones": ("store_id", "timezone_str", "valid_from"),
    "stores": ("store_id", "name", "group"),
}
Rows = list[tuple[str, ...]]
Fleet = dict[str, Rows]

ids = st.sampled_from(
    ["a", "b", "NYC/12", "=1+1", " é ", "007", "NA", 'q"u,o', "x" * 200, "", "8.1E+018", "x" * 201, "a\tb"]
)
instants = st.builds(
    "2024-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}".format,
    st.sampled_from([10, 10, 10, 11, 3]), st.integers(1, 14), st.sampled_from([" ", "T"]), st.integers(0, 23),
    st.integers(0, 59), st.integers(0, 59), st.sampled_from(["", " UTC", "Z", ".5 UTC", ".123456789", "+05:30", "-0800"]),
)  # fmt: skip
statuses = st.sampled_from(["active", "inactive", " Active", "INACTIVE ", "up", ""])
bad_instants = st.sampled_from(["", "yesterday", "2999-01-01 00:00:00", "2024-02-30 10:00", "1969-12-31 23:59:59"])
times = st.sampled_from(
    ["00:00", "9:00", "09:30", "12:00:00", "17:45", "23:59", "23:59:59", "24:00", "25:00", "noon", ""]
)
days = st.sampled_from([*"0123456", *"0123456", "7", "-1", "1.0", "Mon", ""])
dates = st.sampled_from(["", "", "2024-10-03", " 2024-10-10 ", "2024-02-30", "10/03/2024", "2200-01-01"])
zones = st.sampled_from(["America/New_York", "Asia/Tokyo", "UTC", " Europe/Paris ", "Mars/Phobos", "", "utc+3"])
names = st.one_of(
    st.sampled_from(["", "Alpha", "Beta, Inc.", '"q"', "=1+1", "x" * 200, "x" * 201, "a\x07b"]),
    st.text("aé ,\"'", max_size=9),
)


def cell_fits(row: tuple[str, ...]) -> bool:
    """A lone empty field would be a blank line, which is no row in CSV."""
    return any(cell.strip() for cell in row)


def rows(*cells: st.SearchStrategy[str]) -> st.SearchStrategy[Rows]:
    return st.lists(st.tuples(*cells).filter(cell_fits), max_size=25)


fleets = st.fixed_dictionaries(
    {
        "polls": rows(ids, st.one_of(instants, instants, instants, bad_instants), statuses).map(
            lambda found: [*found, ("a", "2024-10-14 12:00:00 UTC", "active")]
        ),
        # A file with a day 7 and no day 0 is refused as a whole.
        "hours": rows(ids, days, times, times, dates).map(lambda found: [*found, ("z", "0", "9:00", "10:00", "")]),
        "special_hours": rows(ids, dates, times, times),
        "timezones": rows(ids, zones, dates),
        "stores": rows(ids, names, names),
    }
)


def as_csv(feed: str, found: Rows) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS[feed], *found])
    return text.getvalue().encode()


def as_spreadsheet(feed: str, found: Rows, turn: int) -> bytes:
    """As a spreadsheet writes it: another delimiter and encoding, blank rows, and no empty fields at the end where the
    column is optional.
    """
    delimiter, encoding = [(";", "utf-16"), ("\t", "utf-16"), ("|", "utf-8-sig"), (";", "utf-8")][turn % 4]
    text = io.StringIO(newline="")
    text.write(f"sep={delimiter}\r\n" if turn % 2 else "")
    write = csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=turn % 3 % 2)
    for number, row in enumerate([COLUMNS[feed], *found]):
        optional = COLUMNS[feed][-1] in ("valid_from", "group") and not row[-1]
        write.writerow(row[:-1] if optional else row)
        write.writerows([[""] * (number % 7)] * (number % 3 == 1))
    return text.getvalue().encode(encoding)


def as_objects(feed: str, found: Rows) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS[feed], row, strict=True)) for row in found]


class Entry:
    """A home of its own, what was rejected on the way in, and the report that comes out."""

    def __init__(self, home: Settings, client: FlaskClient) -> None:
        self.home = home
        self.client = client
        self.rejected: Counter[tuple[str, str]] = Counter()

    def count(self, feed: str, reasons: dict[str, int]) -> None:
        for reason, found in reasons.items():
            self.rejected[feed, reason] += found

    def answered(self, answer: TestResponse) -> None:
        assert answer.status_code == 200, answer.text
        for file in answer.json.get("files", [answer.json]):
            assert file["error"] is None
            self.count(file["feed"], file["reasons"])

    def push(self, feed: str, body: bytes, kind: str, **headers: str) -> None:
        self.answered(
            self.client.post(
                f"/api/v1/feeds/{feed}",
                data=body,
                content_type=kind,
                headers=headers,
                # The client leaves it out when there is nothing.
                environ_overrides={"CONTENT_LENGTH": str(len(body))},
            )
        )

    def report(self) -> bytes:
        triggered = self.client.post("/trigger_report", json={"columns": "full", "as_of": "2024-10-14T12:00:00Z"})
        assert triggered.status_code == 202, triggered.text
        return self.client.get(f"/get_report?report_id={triggered.json['report_id']}", buffered=True).data


def by_files(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    folder = entry.home.home / "data"
    folder.mkdir()
    for feed, found in fleet.items():
        (folder / f"{feed}.csv").write_bytes(as_csv(feed, found))
    with closing(Database(entry.home.database)) as database:
        result = load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(1_740_000_000_000_000, 0))
    assert not result.failed
    for summary in result.files:
        entry.count(summary.feed, summary.reasons)


def by_spreadsheets(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    for turn, (feed, found) in enumerate(fleet.items(), start=sum(sizes)):
        data = as_spreadsheet(feed, found, turn)
        entry.push(feed, gzip.compress(data) if turn % 5 == 0 else data, "application/vnd.ms-excel")


def by_workbook(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    """A workbook with a sheet of each feed, all cells texts; uploaded, in a zip, or a sheet at a time."""
    sheets = {feed: [COLUMNS[feed], *found] for feed, found in fleet.items()}
    if sizes[0] % 3 == 0:
        for feed, rows in sheets.items():
            entry.push(feed, workbook({feed: rows}), "text/csv")
        return
    data, name = workbook(sheets), "export.xlsx"
    if sizes[0] % 3 == 1:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as members:
            members.writestr(name, data)
        data, name = archive.getvalue(), "export.zip"
    sent = {"file": (io.BytesIO(data), name)}
    entry.answered(entry.client.post("/api/v1/feeds", data=sent, content_type="multipart/form-data"))


def by_parquet(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    """One feed as a Parquet file whose empty fields are nulls, texts or both, and the others as CSV."""
    import pyarrow
    from pyarrow import parquet

    chosen = [*fleet][sizes[0] % len(fleet)]
    for feed, found in fleet.items():
        body = as_csv(feed, found)
        if feed == chosen:
            columns = {
                name: pyarrow.array(
                    [row[at] if row[at] or number % 2 else None for number, row in enumerate(found, sizes[-1])],
                    pyarrow.string(),
                )
                for at, name in enumerate(COLUMNS[feed])
            }
            made = io.BytesIO()
            parquet.write_table(pyarrow.table(columns), made, row_group_size=7)
            body = made.getvalue()
        entry.push(feed, body, "application/octet-stream")


def by_pushes(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    for feed, found in fleet.items():
        at = turn = 0
        while at < len(found):
            # The hours of one request are one replacement set; a zone without a date replaces those with one that came
            # before.
            whole = feed in ("hours", "special_hours", "timezones")
            size = len(found) if whole else sizes[turn % len(sizes)]
            entry.push(feed, as_csv(feed, found[at : at + size]), "text/csv")
            at, turn = at + size, turn + 1


def by_json(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    for feed, found in fleet.items():
        entry.push(feed, json.dumps(as_objects(feed, found), indent=sizes[0] % 3 or None).encode(), "application/json")


def by_lines(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    for feed, found in fleet.items():
        lines = (json.dumps(row, ensure_ascii=sizes[0] % 2 == 0) for row in as_objects(feed, found))
        entry.push(feed, "\n".join(lines).encode(), "application/x-ndjson")


def by_gzip(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    for feed, found in fleet.items():
        if sizes[0] % 2:
            entry.push(feed, gzip.compress(as_csv(feed, found)), "application/gzip")
        else:
            packed = gzip.compress(json.dumps(as_objects(feed, found)).encode())
            entry.push(feed, packed, "application/json", Content_Encoding="gzip")


def by_zip(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for feed, found in fleet.items():
            members.writestr(f"export/{feed}.csv", as_csv(feed, found))
    sent = {"file": (io.BytesIO(archive.getvalue()), "export.zip")}
    entry.answered(entry.client.post("/api/v1/feeds", data=sent, content_type="multipart/form-data"))


def by_messages(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    """Polls as a listener reads messages, of each of their forms and several rows each; the rest by pushes."""
    by_pushes(entry, {feed: found for feed, found in fleet.items() if feed != "polls"}, sizes)
    reader = MessageReader(address.parse_address("amqp://broker/?queue=polls").shape)
    records: list[csv_exact.Record] = []
    found, at, turn = fleet["polls"], 0, 0
    while at < len(found):
        some = found[at : at + sizes[turn % len(sizes)]]
        objects = as_objects("polls", some)
        forms = (
            as_csv("polls", some),
            as_csv("polls", some).partition(b"\n")[2],
            json.dumps(objects).encode(),
            "\n".join(map(json.dumps, objects)).encode(),
        )
        records += reader.read(Message(forms[turn % len(forms)], 0), len(records) + 1)
        at, turn = at + len(some), turn + 1
    with closing(Database(entry.home.database)) as database:
        source = listener.make_source("stream", records)
        summary = listener.store(PollGroups(database, "stream"), entry.home, source, lambda: None)
    assert summary.counts.rows == len(found)
    entry.count("polls", summary.reasons)


def by_small_pushes(entry: Entry, fleet: Fleet, sizes: list[int]) -> None:
    """A push for each poll, all of them in loads that pushes share where that may be."""
    by_pushes(entry, {feed: found for feed, found in fleet.items() if feed != "polls"}, sizes)
    groups = entry.client.application.extensions["storemon"].poll_groups
    for turn, row in enumerate(fleet["polls"], start=sizes[0]):
        groups._own_loads = 0
        if turn % 2:
            entry.push("polls", as_csv("polls", [row]), "text/csv")
        else:
            entry.push("polls", json.dumps(as_objects("polls", [row])[0]).encode(), "application/json")


ENTRIES: tuple[Callable[[Entry, Fleet, list[int]], None], ...] = (
    by_files,
    by_spreadsheets,
    by_workbook,
    # Without it, this is NOT tested.
    *([by_parquet] if importlib.util.find_spec("pyarrow") else []),
    by_pushes,
    by_small_pushes,
    by_json,
    by_lines,
    by_gzip,
    by_zip,
    by_messages,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once."""
    file = tmp_path_factory.mktemp("empty") / "storemon.db"
    with closing(Database(file)) as database:
        database.prepare()
    return file


@contextmanager
def home(empty: Path) -> Iterator[Entry]:
    with tempfile.TemporaryDirectory() as folder:
        found = settings_.load({"STOREMON_HOME": folder})
        found.database.parent.mkdir()
        shutil.copy(empty, found.database)
        app = create_app(found, InlineExecutor())
        try:
            yield Entry(found, app.test_client())
        finally:
            app.extensions["storemon"].database.close()


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(fleets, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_every_entry_gives_the_same_report_and_the_same_rejects(empty: Path, fleet: Fleet, sizes: list[int]) -> None:
    reports, rejects = {}, {}
    for enter in ENTRIES:
        with home(empty) as entry:
            enter(entry, fleet, sizes)
            reports[enter.__name__] = entry.report()
            rejects[enter.__name__] = entry.rejected
    assert len(reports["by_files"].splitlines()) >= 2
    for name in reports:
        assert reports[name] == reports["by_files"], name
        assert rejects[name] == rejects["by_files"], name
