"""Export: the feeds written as files that load into an empty database and give the same reports, byte for byte."""

import csv
import tempfile
from pathlib import Path

from conftest import load_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask import settings as settings_
from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import export
from storemon_flask.database.connections import Database
from storemon_flask.feeds import headers, load, sources
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest

IDS = st.sampled_from(["007", "NA", "=1+1", "a,b", 'say "no"', "é 店 😀", "-5", "8139926242460185114", "NYC/12", "'x"])
INSTANTS = st.integers(instant("2024-10-01T00:00Z"), instant("2024-10-14T00:00Z"))
DATES = st.sampled_from(["", "2024-10-03", "2024-10-09"])
TIMES = st.sampled_from(["0:00", "09:00", "17:30:15", "23:59:59"])
FEEDS = st.fixed_dictionaries(
    {
        "polls": st.lists(st.tuples(IDS, INSTANTS, st.sampled_from(["active", "inactive"])), min_size=1, max_size=30),
        "hours": st.lists(st.tuples(IDS, st.integers(0, 6), TIMES, st.one_of(TIMES, st.just("24:00")), DATES), max_size=12),
        "special_hours": st.lists(
            st.tuples(IDS, st.sampled_from(["2024-10-08", "2024-10-12"]), *[st.sampled_from(["10:00", "11:00"])] * 2),
            max_size=4,
        ),
        "timezones": st.lists(st.tuples(IDS, st.sampled_from(["Asia/Tokyo", "America/Denver", "UTC"]), DATES), max_size=6),
        "stores": st.lists(st.tuples(IDS, st.sampled_from(["", "=Bar", "Café, 2"]), st.sampled_from(["", "North"])), max_size=6),
    }
)  # fmt: skip


def write(folder: Path, feeds: dict[str, list[tuple[object, ...]]]) -> None:
    folder.mkdir()
    for feed, rows in feeds.items():
        with (folder / f"{feed}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([column.name for column in headers.FEEDS[feed]])
            for row in rows:
                at = _text(row[1]) if feed == "polls" else row[1]
                writer.writerow([row[0], at, *row[2:]])


def _text(instant_us: object) -> str:
    from storemon_flask.clock import timestamp_text

    assert isinstance(instant_us, int)
    return timestamp_text(instant_us)


def reports(database: Database) -> list[str]:
    """The full report, and the days of two weeks."""
    rules, zone = settings_.load({}).rules, "America/Chicago"
    found = []
    for shape in ({}, {"by": "day", "windows": [{"from": "2024-10-01", "to": "2024-10-14"}], "method": "previous"}):
        question = compute.make_query(database, ReportRequest(None, "full", None, shape), zone, 10**6)
        found.append(compute.compute(database, question, rules, zone).csv)
    return found


@settings(max_examples=20)
@given(FEEDS)
def test_what_is_exported_and_loaded_gives_the_same_bytes(feeds):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write(home / "in", feeds)
        first, second = Database(home / "first.db"), Database(home / "second.db")
        try:
            load_folder(first, home / "in")
            written = export.export(first, home / "out")
            assert [one.file.name for one in written] == [
                "polls.csv", "menu_hours.csv", "special_hours.csv", "timezones.csv", "stores.csv",
            ]  # fmt: skip
            found = load.load_sources(
                second, sources.find_sources([home / "out"]), load.LoadOptions(instant("2025-01-01T00:00Z"), 0)
            )
            assert [(summary.error, summary.counts.rejected) for summary in found.files] == [("", 0)] * 5
            assert reports(second) == reports(first)
            again = export.export(second, home / "again")
            for one, other in zip(written, again, strict=True):
                assert sorted(one.file.read_text().splitlines()) == sorted(other.file.read_text().splitlines())
        finally:
            first.close()
            second.close()
