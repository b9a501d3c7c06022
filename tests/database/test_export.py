"""`storemon export`: loaded into an empty database, its files give the same reports, byte for byte."""

import csv
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from conftest import environment, load_folder, sql, storemon
from hypothesis import given, settings
from hypothesis import settings as profile
from hypothesis import strategies as st
from kill_helpers import killed_at

from storemon_flask import settings as settings_
from storemon_flask.clock import parse_timestamp
from storemon_flask.database import export
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import load, schema, sources
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings

FEEDS = Path(__file__).parent / "export_feeds"
FILES = ["menu_hours.csv", "polls.csv", "special_hours.csv", "stores.csv", "timezones.csv"]
NOW_US = 1_800_000_000_000_000


def full(database: Database, settings: Settings) -> str:
    question = compute.make_query(
        database, ReportRequest(columns="full"), settings.default_timezone, settings.max_report_rows
    )
    return compute.compute(database, question, settings.rules, settings.default_timezone).csv


def loaded(database: Database, *paths: Path) -> Database:
    load.load_sources(database, sources.find_sources(list(paths)), load.LoadOptions(NOW_US, 0))
    return database


def test_the_files_of_an_export_are_feeds_and_give_the_same_report(tmp_path: Path, settings: Settings) -> None:
    first = loaded(Database(settings.database), FEEDS)
    first.close()
    done = storemon(settings.home, "export", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == FILES
    assert f"{tmp_path / 'out' / 'polls.csv'}: 634 rows, 0.0 MB\n" in done.stdout
    other = tmp_path / "other"
    again = storemon(other, "load-data", "--strict", str(tmp_path / "out"))
    assert again.returncode == 0, again.stdout
    texts = [storemon(home, "report", "--columns", "full").stdout for home in (settings.home, other)]
    assert texts[0] == texts[1]
    assert texts[0].count("\n") == 11
    assert sql(other / "instance/storemon.db", "SELECT * FROM poll ORDER BY 1, 2") == sql(
        settings.database, "SELECT * FROM poll ORDER BY 1, 2"
    )


def is_id(text: str) -> bool:
    try:
        schema.parse_store_id(text)
    except schema.BadValue:
        return False
    return True


ids = st.one_of(
    st.sampled_from(
        [
            "=1+1",
            "\uff1d1+1",
            "\uff0b",
            "\uff0d1",
            "\uff20x",
            "007",
            "NA",
            "nan",
            'a"b',
            "a,b",
            '"',
            "a  b",
            "-1",
            "+",
            "@x",
            "'q",
            "a\u00a0b",
            "1E5",
            "ﬃ☃",
        ]
    ),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12),
).filter(is_id)
names = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)
tags = st.one_of(
    st.sampled_from(['"', "a,b", "a;b", "A", "a", " a b ", "a:b", "'", "0", "Ä_ä"]),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="="), min_size=1, max_size=40),
).filter(schema.strip_ends)
labels = st.dictionaries(
    st.one_of(st.sampled_from(["brand", "Region", "PLATFORM"]), tags.map(lambda name: f"tag:{name}")), names, max_size=5
).filter(lambda given: len({schema.strip_ends(name.partition(":")[2]) or name for name in given}) == len(given))
seconds = st.integers(1_704_067_200_000_000, 1_705_500_000_000_000)
times = st.integers(0, 86_399).map(lambda s: f"{s // 3600}:{s // 60 % 60:02d}:{s % 60:02d}")
hours = st.tuples(st.integers(0, 6), times, st.one_of(times, st.just("24:00")))


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, list[dict[str, object]]]:
    stores = draw(st.lists(ids, min_size=1, max_size=6, unique=True))
    some = st.lists(st.sampled_from(stores), max_size=6)
    return {
        "polls": [
            {"store_id": store, "timestamp_utc": instant(draw(seconds)), "status": draw(st.sampled_from(["active", "inactive"]))}
            for store in [stores[0], *draw(some), *draw(some)]
        ],
        "hours": [
            dict(zip(("store_id", "day", "start_time_local", "end_time_local"), (store, *draw(hours)), strict=True))
            for store in draw(some)
        ],
        "timezones": [
            {"store_id": store, "timezone_str": draw(st.sampled_from(["Asia/Tokyo", "Europe/Paris"]))} for store in draw(some)
        ],
        "stores": [
            {"store_id": store, "name": draw(names), "group": draw(names), **draw(labels)} for store in stores[-2:]
        ],
    }  # fmt: skip


def instant(us: int) -> str:
    import numpy as np

    return str(np.datetime64(us, "us")).replace("T", " ") + " UTC"


@profile(max_examples=20)
@given(fleets())
def test_whatever_was_taken_in_comes_out_as_it_was(fleet: dict[str, list[dict[str, object]]]) -> None:
    import io
    import json
    from functools import partial

    from storemon_flask.feeds.sources import Source

    with tempfile.TemporaryDirectory() as folder:
        home = settings_.load({"STOREMON_HOME": folder})
        first, second = Database(home.database), Database(Path(folder) / "second.db")
        for feed, rows in fleet.items():
            text = json.dumps(rows).encode()
            source = Source("body", len(text), partial(io.BytesIO, text), format="json", feed=feed)
            load.load_sources(first, [source], load.LoadOptions(NOW_US, 0))
        export.export(first, Path(folder) / "out")
        result = load.load_sources(second, sources.find_sources([Path(folder) / "out"]), load.LoadOptions(NOW_US, 0))
        assert (result.failed, result.rejected) == (False, 0)
        assert full(first, home) == full(second, home)
        for table in (
            "SELECT * FROM poll ORDER BY 1, 2",
            "SELECT store_id, name, group_name, labels FROM store_record ORDER BY 1",
        ):
            assert sql(first.path, table) == sql(second.path, table)
        first.close()
        second.close()


def test_a_folder_that_holds_something_is_left_alone_unless_forced(
    small_fleet: Path, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "polls.csv").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    refused = storemon(settings.home, "export", str(out))
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)
    assert (out / "polls.csv").read_text() == "mine"
    assert storemon(settings.home, "export", str(out), "--force").returncode == 0
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, "notes.txt"])
    assert (out / "polls.csv").read_text().splitlines()[0] == "store_id,timestamp_utc,status"
    assert (out / "notes.txt").read_text() == "mine too"


def test_an_export_makes_neither_database_nor_folder_where_there_is_no_data(settings: Settings, tmp_path: Path) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "export", str(tmp_path / "out"))
    assert (done.returncode, "there is no database" in done.stderr) == (1, True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["home"]
    assert list(settings.home.iterdir()) == []


def test_a_killed_export_leaves_no_feed(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    code = """
import dataclasses, pathlib
from storemon_flask.database import export
from storemon_flask.database.connections import Database
export.FEEDS = (*export.FEEDS[:3], dataclasses.replace(export.FEEDS[3], batches=stop))
export.export(Database(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""
    out = tmp_path / "out"
    killed_at(settings.home, code, settings.database, out)
    assert list(out.glob("*.csv")) == []
    with closing(Database(settings.database)) as database:
        export.export(database, out, overwrite=True)
    assert sorted(file.name for file in out.glob("*.csv")) == FILES


def test_a_folder_that_cannot_be_written_is_a_sentence(small_fleet: Path, database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match=r"cannot be written: Not a directory"):
        export.export(database, tmp_path / "file" / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_an_export_that_finds_no_room_leaves_nothing_and_the_feeds_that_were_there(
    settings: Settings, tmp_path: Path
) -> None:
    first = loaded(Database(settings.database), FEEDS)
    first.close()
    before, new = tmp_path / "before", tmp_path / "new" / "out"
    assert storemon(settings.home, "export", str(before)).returncode == 0
    # The last of them is too large for the limit below.
    sql(settings.database, "UPDATE store_record SET name = printf('%.*c', 9000, 'n')")
    whole = {file.name: file.read_bytes() for file in before.iterdir()}
    for folder in (before, new):
        # No file may grow beyond 64 blocks of 512 or 1,024 bytes; the signal about it is ignored, so `write` fails.
        command = f"trap '' XFSZ; ulimit -f 64; exec {sys.executable} -m storemon_flask export --force {folder}"
        done = subprocess.run(
            ["bash", "-c", command], env=environment(settings.home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.endswith(f"Error: {folder} cannot be written: File too large\n")
    assert {file.name: file.read_bytes() for file in before.iterdir()} == whole
    assert not new.parent.exists()


IDS = st.sampled_from(["007", "NA", "=1+1", "a,b", 'say "no"', "é 店 😀", "-5", "8139926242460185114", "NYC/12", "'x"])
INSTANTS = st.integers(parse_timestamp("2024-10-01T00:00Z"), parse_timestamp("2024-10-14T00:00Z"))
DATES = st.sampled_from(["", "2024-10-03", "2024-10-09"])
TIMES = st.sampled_from(["0:00", "09:00", "17:30:15", "23:59:59"])
DRAWN_FEEDS = st.fixed_dictionaries(
    {
        "polls": st.lists(st.tuples(IDS, INSTANTS, st.sampled_from(["active", "inactive"])), min_size=1, max_size=30),
        "hours": st.lists(st.tuples(IDS, st.integers(0, 6), TIMES, st.one_of(TIMES, st.just("24:00")), DATES), max_size=12),
        "special_hours": st.lists(
            st.tuples(IDS, st.sampled_from(["2024-10-08", "2024-10-12"]), *[st.sampled_from(["10:00", "11:00"])] * 2),
            max_size=4,
        ),
        "timezones": st.lists(st.tuples(IDS, st.sampled_from(["Asia/Tokyo", "America/"
            "Denver", "UTC"]), DATES), max_size=6),
        "stores": st.lists(st.tuples(IDS, st.sampled_from(["", "=Bar", "Café, 2"]), st.sampled_from(["", "North"])), max_size=6),
    }
)  # fmt: skip


def write(folder: Path, feeds: dict[str, list[tuple[object, ...]]]) -> None:
    folder.mkdir()
    for feed, rows in feeds.items():
        with (folder / f"{feed}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([column.name for column in schema.FEEDS[feed]])
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
@given(DRAWN_FEEDS)
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
                second, sources.find_sources([home / "out"]), load.LoadOptions(parse_timestamp("2025-01-01T00:00Z"), 0)
            )
            assert [(summary.error, summary.counts.rejected) for summary in found.files] == [("", 0)] * 5
            assert reports(second) == reports(first)
            again = export.export(second, home / "again")
            for one, other in zip(written, again, strict=True):
                assert sorted(one.file.read_text().splitlines()) == sorted(other.file.read_text().splitlines())
        finally:
            first.close()
            second.close()
