"""Loading real files into a real database: counts, what wins, whole replacement sets, and nothing half-visible."""

import itertools
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_helpers import HOURS, POLLS, ROADS, ZONES, counts, csv, feeds, gz, load, put, put_zip, query, us

from storemon_flask.ingest import rejects, values
from storemon_flask.ingest.blocks import BlockReader
from storemon_flask.services import hours_set
from storemon_flask.storage import staging
from storemon_flask.storage.db import Database

HOURS_SQL = (
    "SELECT day, start_s, end_s FROM hours JOIN store ON store.number = hours.store WHERE store_id = ? ORDER BY 1, 2, 3"
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "home" / "storemon.db")) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV under the test's own folder."""

    def write(name: str, header: str, *rows: str) -> Path:
        return put(tmp_path / "data" / name, csv(header, *rows))

    return write


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in blocks of 4 KB, so that even a short one has many."""
    monkeypatch.setattr(BlockReader.__init__, "__defaults__", (4096,))


def _polls(database: Database) -> list[tuple[str, str, str]]:
    return query(database.path, "SELECT * FROM poll ORDER BY store_id, timestamp_utc")


def _hours(database: Database, store_id: str) -> list[tuple[int, int, int]]:
    return query(database.path, HOURS_SQL, store_id)


def _version(database: Database) -> int:
    return query(database.path, "SELECT version FROM data_version")[0][0]


@pytest.mark.parametrize("road", ROADS)
def test_every_row_of_a_polls_file_is_new_changed_unchanged_repeated_or_rejected(
    database: Database, file: Callable[..., Path], road: str
) -> None:
    first = file("a.csv", POLLS, "s1,2023-01-22 10:00:00,active", "s1,2023-01-22 11:00:00,active")
    (summary,) = load(database, first, road=road).files
    assert counts(summary) == (2, 2, 0, 0, 0, 0)
    second = file(
        "b.csv",
        POLLS,
        "s1,2023-01-22 10:00:00,active",
        "s1,2023-01-22 11:00:00,inactive",
        "s1,2023-01-22 12:00:00,active",
        "s1,2023-01-22T12:00:00Z,inactive",
        "s2,2023-01-22 12:00:00,active",
        "s2,never,active",
        "s2,2023-01-22 12:00:00,maybe",
        "s2,2023-01-22 12:00:01,maybe",
    )
    (summary,) = load(database, second, road=road).files
    assert (summary.file, summary.feed, summary.error) == (str(second), "polls", "")
    assert counts(summary) == (8, 2, 1, 1, 1, 3)
    assert summary.reasons == {values.STATUS: 2, values.INSTANT_FORM: 1}
    assert summary.sha256 == sha256(second.read_bytes()).hexdigest()
    assert _polls(database) == [
        ("s1", "2023-01-22 10:00:00.000000 UTC", "active"),
        ("s1", "2023-01-22 11:00:00.000000 UTC", "inactive"),
        ("s1", "2023-01-22 12:00:00.000000 UTC", "inactive"),
        ("s2", "2023-01-22 12:00:00.000000 UTC", "active"),
    ]
    assert feeds(database.path)["store"] == [
        ("s1", us("2023-01-22T10:00:00"), us("2023-01-22T12:00:00")),
        ("s2", us("2023-01-22T12:00:00"), us("2023-01-22T12:00:00")),
    ]


def test_a_microsecond_makes_another_poll(database: Database, file: Callable[..., Path]) -> None:
    path = file("a.csv", POLLS, "s,2023-01-22 10:00:00.000001,active", "s,2023-01-22 10:00:00.000002,inactive")
    assert counts(load(database, path).files[0]) == (2, 2, 0, 0, 0, 0)
    assert _polls(database) == [
        ("s", "2023-01-22 10:00:00.000001 UTC", "active"),
        ("s", "2023-01-22 10:00:00.000002 UTC", "inactive"),
    ]


def test_polls_at_both_edges_of_a_week_stay_where_they_are(database: Database, file: Callable[..., Path]) -> None:
    stamps = ["1970-01-01 00:00:00.000000", "1970-01-07 23:59:59.999999", "1970-01-08 00:00:00.000000"]
    load(database, file("a.csv", POLLS, *(f"s,{stamp},active" for stamp in stamps)))
    assert _polls(database) == [("s", f"{stamp} UTC", "active") for stamp in stamps]
    assert query(database.path, "SELECT week, length(polls) FROM poll_week ORDER BY 1") == [(0, 16), (1, 8)]


def test_a_poll_ahead_of_the_clock_is_rejected_and_one_within_the_allowance_is_not(
    database: Database, file: Callable[..., Path]
) -> None:
    path = file("a.csv", POLLS, "s,2024-10-14 12:05:00,active", "s,2024-10-14 12:05:00.000001,active")
    (summary,) = load(database, path, now="2024-10-14T12:00:00").files
    assert counts(summary) == (2, 1, 0, 0, 0, 1)
    assert summary.reasons == {values.INSTANT_FUTURE: 1}


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_the_later_row_wins_inside_a_file_across_files_and_across_loads(
    database: Database, file: Callable[..., Path], status: str
) -> None:
    other = {"active": "inactive", "inactive": "active"}[status]
    at = "2023-01-22 10:00:00"
    load(database, file("a.csv", POLLS, f"s,{at},{other}", f"s,{at},{status}"))
    assert _polls(database) == [("s", f"{at}.000000 UTC", status)]
    one, two = file("b.csv", POLLS, f"s,{at},{status}"), file("c.csv", POLLS, f"s,{at},{other}")
    result = load(database, one, two)
    assert [counts(summary) for summary in result.files] == [(1, 0, 0, 1, 0, 0), (1, 0, 1, 0, 0, 0)]
    assert _polls(database) == [("s", f"{at}.000000 UTC", other)]
    load(database, one)
    assert _polls(database) == [("s", f"{at}.000000 UTC", status)]


def test_the_same_file_again_changes_nothing_and_loading_a_then_b_then_a_leaves_a(
    database: Database, file: Callable[..., Path]
) -> None:
    a = file("a.csv", POLLS, "s,2023-01-22 10:00:00,active", "s,2023-01-22 11:00:00,active")
    b = file("b.csv", POLLS, "s,2023-01-22 10:00:00,inactive", "s,2023-01-22 11:00:00,active")
    load(database, a)
    before, version = feeds(database.path), _version(database)
    assert counts(load(database, a).files[0]) == (2, 0, 0, 2, 0, 0)
    assert _version(database) == version
    assert counts(load(database, b).files[0]) == (2, 0, 1, 1, 0, 0)
    assert feeds(database.path) != before
    assert _version(database) == version + 1
    assert counts(load(database, a).files[0]) == (2, 0, 1, 1, 0, 0)
    assert feeds(database.path) == before


def _many(chance: random.Random, rows: int) -> list[str]:
    """Rows of many stores over several weeks, with many repeats."""
    return [
        f"s{chance.randrange(80)},2023-{chance.randint(1, 2):02d}-{chance.choice((1, 8, 15, 21, 28)):02d} "
        f"{chance.choice((0, 12)):02d}:00:00.{chance.randrange(2):06d} UTC,{chance.choice(('active', 'inactive'))}"
        for _ in range(rows)
    ]


def _expected(rows: list[str]) -> list[tuple[str, str, str]]:
    latest = {tuple(row.split(",")[:2]): row.split(",")[2] for row in rows}
    return sorted((store, at, status) for (store, at), status in latest.items())


@pytest.mark.parametrize(
    ("run_rows", "stores_per_cell"), [(1, 1), (1, 2048), (300, 3), (300, 64), (1 << 20, 1), (1 << 20, 2048)]
)
@pytest.mark.usefixtures("small_blocks")
def test_staging_in_runs_and_cells_of_any_size_leaves_the_same_polls_and_counts(
    database: Database,
    file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    run_rows: int,
    stores_per_cell: int,
) -> None:
    monkeypatch.setattr(staging, "RUN_ROWS", run_rows)
    monkeypatch.setattr(staging, "STORES_PER_CELL", stores_per_cell)
    rows = _many(random.Random(7), 3000)
    distinct = len(_expected(rows))
    (first,) = load(database, file("a.csv", POLLS, *rows)).files
    assert counts(first) == (3000, distinct, 0, 0, 3000 - distinct, 0)
    assert _polls(database) == _expected(rows)
    more = _many(random.Random(8), 1000)
    old, new = _by_key(_expected(rows)), _by_key(_expected(more))
    (second,) = load(database, file("b.csv", POLLS, *more)).files
    changed = sum(key in old and old[key] != status for key, status in new.items())
    unchanged = sum(key in old and old[key] == status for key, status in new.items())
    fresh = sum(key not in old for key in new)
    assert min(changed, unchanged, fresh) > 10
    assert counts(second) == (1000, fresh, changed, unchanged, 1000 - len(new), 0)
    assert _polls(database) == _expected(rows + more)


def _by_key(rows: list[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    return {(store, at): status for store, at, status in rows}


def test_the_later_row_wins_across_staging_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "RUN_ROWS", 2)
    monkeypatch.setattr(staging, "STORES_PER_CELL", 1)
    rows = [("a", 5, 1), ("b", 5, 1), ("a", 5, 0), ("c", 9, 1), ("b", 5, 0), ("a", 5, 1), ("b", 7, 1)]
    with closing(staging.StagedPolls(tmp_path)) as staged:
        for store_id, at, active in rows:
            staged.add([store_id], np.array([0]), np.array([at]), np.array([active], dtype=bool))
        found = [
            (staged.ids[key >> staging.STORE_SHIFT], week, (key & staging.IN_WEEK) >> 1, key & 1)
            for week, keys in staged.cells()
            for key in keys.tolist()
        ]
        assert sorted(found) == [("a", 0, 5, 1), ("b", 0, 5, 0), ("b", 0, 7, 1), ("c", 0, 9, 1)]
        assert staged.repeated == 3


_small_rows = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s3"]),
        st.sampled_from(["01 10:00:00", "01 11:00:00", "08 10:00:00", "20 10:00:00.000001"]),
        st.sampled_from(["active", "inactive", "broken"]),
    ).map(lambda row: f"{row[0]},2023-02-{row[1]},{row[2]}"),
    min_size=1,
    max_size=24,
)
_numbers = itertools.count()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_small_rows, st.lists(st.integers(0, 24), max_size=3), st.lists(st.integers(0, 24), max_size=3), st.data())
def test_two_databases_loaded_in_different_splits_are_equal(
    tmp_path: Path, rows: list[str], cuts: list[int], other_cuts: list[int], data: st.DataObject
) -> None:
    folder = tmp_path / str(next(_numbers))
    found = []
    for number, places in enumerate((cuts, other_cuts)):
        edges = [0, *sorted(min(place, len(rows)) for place in places), len(rows)]
        parts = [rows[a:b] for a, b in itertools.pairwise(edges)]
        paths = [put(folder / f"{number}" / f"{n}.csv", csv(POLLS, *part)) for n, part in enumerate(parts)]
        with closing(Database(folder / f"{number}.db")) as database:
            if data.draw(st.booleans()):
                load(database, *paths)
            else:
                for path in paths:
                    load(database, path)
            found.append(feeds(database.path))
            assert query(database.path, "SELECT sum(row_count), sum(rejected_count) FROM load_file") == [
                (len(rows), sum(row.endswith("broken") for row in rows))
            ]
    assert found[0] == found[1]


def test_every_road_of_the_setting_loads_the_same(tmp_path: Path, file: Callable[..., Path]) -> None:
    rows = _many(random.Random(3), 2000)
    rows[100:100] = ['"s1",2023-01-01 00:00:00,active', "s1,never,active", "007,2023-01-01 00:00:00,inactive"]
    path = file("a.csv", POLLS, *rows)
    found, summaries = [], []
    for road in ROADS:
        with closing(Database(tmp_path / f"{road}.db")) as database:
            summaries.append(counts(load(database, path, road=road).files[0]))
            found.append(feeds(database.path))
    assert found[0] == found[1] == found[2]
    assert summaries[0] == summaries[1] == summaries[2]
    assert summaries[0][0] == 2003
    assert summaries[0][5] == 1


def test_the_view_poll_says_what_was_loaded_in_any_sqlite_shell(database: Database, file: Callable[..., Path]) -> None:
    rows = [
        "NYC/12,2023-01-22 12:09:39.388884 UTC,active",
        '"a ""b"", c",2023-01-22 12:09:39 UTC,inactive',
        "店,1970-01-01 00:00:00.000001 UTC,active",
        "店,2023-12-31 23:59:59.999999 UTC,inactive",
    ]
    load(database, file("a.csv", POLLS, *rows))
    expected = [
        ("NYC/12", "2023-01-22 12:09:39.388884 UTC", "active"),
        ('a "b", c', "2023-01-22 12:09:39.000000 UTC", "inactive"),
        ("店", "1970-01-01 00:00:00.000001 UTC", "active"),
        ("店", "2023-12-31 23:59:59.999999 UTC", "inactive"),
    ]
    assert _polls(database) == expected
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("no sqlite3 shell on PATH: the view was read with Python's SQLite only")
    told = subprocess.run(
        [shell, "-readonly", "-separator", "|", database.path, "SELECT * FROM poll ORDER BY store_id, timestamp_utc"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert told.stdout.splitlines() == ["|".join(row) for row in expected]


# Hours.


def test_hours_are_read_with_every_spelling_of_the_header_and_of_a_time(
    database: Database, file: Callable[..., Path]
) -> None:
    result = load(
        database,
        file("a.csv", HOURS, "a,0,9:00,17:00:30.5", "b,6,18:00,02:00"),
        file("b.csv", "End Time Local,Day,note,STORE_ID,start_time_local", "24:00,3,x,c,00:00"),
        file("c.csv", "store_id,day_of_week,start_time_local,end_time_local", "d,1,10:00,10:00"),
    )
    assert [counts(summary) for summary in result.files] == [(2, 2, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0)]
    assert feeds(database.path)["hours"] == [
        ("a", 0, 32_400, 61_230),
        ("b", 6, 64_800, 7_200),
        ("c", 3, 0, 86_400),
        ("d", 1, 36_000, 36_000),
    ]
    assert result.files[2].notes == ["1 rows with equal start and end were read as 24 hours"]


def test_a_stores_hours_are_replaced_whole_and_other_stores_keep_theirs(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "a,0,09:00,17:00", "a,1,09:00,17:00", "a,2,09:00,17:00", "b,0,09:00,17:00"))
    version = _version(database)
    (summary,) = load(
        database, file("b.csv", HOURS, "a,0,09:00,17:00", "a,1,09:00,18:00", "a,5,10:00,12:00", "a,5,10:00,12:00")
    ).files
    assert counts(summary) == (4, 1, 1, 1, 1, 0)
    assert summary.notes == ["2 earlier rows of these stores were replaced"]
    assert _hours(database, "a") == [(0, 32_400, 61_200), (1, 32_400, 64_800), (5, 36_000, 43_200)]
    assert _hours(database, "b") == [(0, 32_400, 61_200)]
    assert _version(database) == version + 1


def test_loading_hours_a_then_b_then_a_leaves_a(database: Database, file: Callable[..., Path]) -> None:
    a = file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00")
    b = file("b.csv", HOURS, "s,3,00:00,01:00")
    for path in (a, b, a):
        load(database, path)
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    version = _version(database)
    (summary,) = load(database, a).files
    assert counts(summary) == (2, 0, 0, 2, 0, 0)
    assert _version(database) == version


def test_the_hours_files_of_one_command_are_one_set_and_those_of_two_are_two(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    one, two = file("a.csv", HOURS, "s,0,09:00,17:00"), file("b.csv", HOURS, "s,1,09:00,17:00")
    load(database, one, two)
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    load(database, one)
    load(database, two)
    assert _hours(database, "s") == [(1, 32_400, 61_200)]
    load(database, put_zip(tmp_path / "both.zip", {"a.csv": one.read_bytes(), "b.csv": two.read_bytes()}))
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]


BAD_HOURS = {
    "a bad day": ("s,7,09:00,17:00", values.DAY),
    "a bad start": ("s,1,9am,17:00", values.TIME),
    "a bad end": ("s,1,09:00,25:00", values.TIME),
    "a start of 24:00": ("s,1,24:00,01:00", values.TIME),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_HOURS.values(), ids=BAD_HOURS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_store_with_a_rejected_row_keeps_the_hours_it_had(
    database: Database, file: Callable[..., Path], bad: str, reason: str, place: int
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    rows = ["s,2,10:00,11:00", "other,2,10:00,11:00"]
    rows.insert(place, bad)
    (summary,) = load(database, file("b.csv", HOURS, *rows)).files
    assert _hours(database, "s") == [(0, 32_400, 61_200)]
    assert _hours(database, "other") == [(2, 36_000, 39_600)]
    assert counts(summary) == (3, 1, 0, 0, 0, 2)
    assert summary.reasons == {reason: 1, hours_set.KEPT: 1}
    assert summary.notes == ["s: a row was rejected; the store keeps the hours it had"]
    kept = query(
        database.path,
        "SELECT line, reason, text FROM reject JOIN load_file ON load_file.id = load_file WHERE load = 2 ORDER BY line",
    )
    assert kept == sorted([(place + 2, reason, bad), (2 if place else 3, hours_set.KEPT, "s,2,10:00,11:00")])


def test_a_rejected_row_in_one_file_keeps_the_stores_rows_of_the_other_files_out(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    result = load(database, file("b.csv", HOURS, "s,2,10:00,11:00"), file("c.csv", HOURS, "s,3,10:00,late"))
    assert [counts(summary) for summary in result.files] == [(1, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 1)]
    assert _hours(database, "s") == [(0, 32_400, 61_200)]


def test_without_earlier_hours_the_valid_rows_apply_and_the_summary_names_the_store(
    database: Database, file: Callable[..., Path]
) -> None:
    (summary,) = load(database, file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,nine,17:00", "t,9,nine,17:00")).files
    assert _hours(database, "s") == [(0, 32_400, 61_200)]
    assert counts(summary) == (3, 1, 0, 0, 0, 2)
    assert summary.notes == [
        "s: a row was rejected; only its other rows apply",
        "t: no row could be used and it had none before; it counts as open 24x7",
    ]
    assert query(database.path, "SELECT store_id FROM store") == [("s",)]


@pytest.mark.parametrize("bad", ["s,1,09:00", "s,1,09:00,17:00,late"], ids=["too short", "too long"])
def test_a_store_named_by_a_row_of_the_wrong_length_keeps_its_hours_too_and_is_named(
    database: Database, file: Callable[..., Path], bad: str
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00"))
    (summary,) = load(database, file("b.csv", HOURS, "s,0,09:00,18:00", bad)).files
    assert summary.counts.rejected >= 1
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    assert summary.notes == ["s: a row was rejected; the store keeps the hours it had"]


@pytest.mark.usefixtures("small_blocks")
def test_an_hours_file_cut_short_spoils_no_store_of_the_other_files(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    rows = "".join(f"x{n},0,{n % 24:02d}:00,{n * 7 % 24:02d}:30\n" for n in range(20_000))
    whole = gz(f"{HOURS}\ns,1,nine,17:00\n{rows}".encode())
    cut = put(tmp_path / "data" / "b.csv.gz", whole[: len(whole) // 2])
    result = load(database, cut, file("c.csv", HOURS, "s,4,09:00,17:00"))
    assert "damaged or cut short" in result.files[0].error
    assert counts(result.files[0]) == (0, 0, 0, 0, 0, 0)
    assert counts(result.files[1]) == (1, 1, 0, 0, 0, 0)
    assert _hours(database, "s") == [(4, 32_400, 61_200)]


# Time zones.


def test_time_zones_are_replaced_per_store(database: Database, file: Callable[..., Path]) -> None:
    (first,) = load(database, file("a.csv", ZONES, "a,America/Denver", "b,Asia/Tokyo", "c,Mars/Base")).files
    assert counts(first) == (3, 2, 0, 0, 0, 1)
    assert first.reasons == {values.ZONE: 1}
    (second,) = load(
        database, file("b.csv", "timezone,Store ID", "UTC,a", "America/Chicago,a", "Asia/Tokyo,b", "Mars/Base,b")
    ).files
    assert counts(second) == (4, 0, 1, 1, 1, 1)
    assert feeds(database.path)["timezone"] == [("a", "America/Chicago"), ("b", "Asia/Tokyo")]


def _dirty(chance: random.Random, *columns: tuple[str, ...]) -> list[str]:
    """One row: of each column mostly the first texts, now and then another."""
    return [chance.choice(texts) if chance.random() < 0.1 else texts[chance.randrange(2)] for texts in columns]


@pytest.mark.parametrize("feed", ["hours", "timezones"])
@pytest.mark.parametrize("seed", range(3))
def test_the_small_feeds_read_plain_and_quoted_rows_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str, seed: int
) -> None:
    chance = random.Random(seed)
    times = ("09:00", "17:30", "9:00", " 23:59:59 ", "24:00", "25:00", "09:00:30.75", "", "9am")
    columns = {
        "hours": (("0", "6", " 3 ", "7", "", "x"), times, times),
        "timezones": (("UTC", "Asia/Tokyo", " America/Denver ", "Mars", ""),),
    }[feed]
    ids = ("a", "b", "", " a ", "007", "8.1E+18", "é" * 150, "x" * 41, "x" * 201)
    rows = []
    for number in range(2_000):
        (store_id,) = _dirty(chance, ids)
        rows.append([store_id if chance.random() < 0.1 else f"store {number % 300}", *_dirty(chance, *columns)])
    header = {"hours": HOURS, "timezones": ZONES}[feed]
    plain = put(tmp_path / "plain.csv", csv(header, *(",".join(row) for row in rows)))
    quoted = put(tmp_path / "quoted.csv", csv(header, *(",".join(f'"{field}"' for field in row) for row in rows)))
    found = []
    for path, block_bytes in ((quoted, 1 << 22), (plain, 1 << 22), (plain, 4096), (quoted, 100)):
        monkeypatch.setattr(BlockReader.__init__, "__defaults__", (block_bytes,))
        with closing(Database(tmp_path / f"{path.stem}-{block_bytes}.db")) as database:
            (summary,) = load(database, path).files
            told = query(database.path, "SELECT line, reason, replace(text, char(34), '') FROM reject ORDER BY line")
            found.append((counts(summary), summary.reasons, summary.notes, told, feeds(database.path)))
    assert found[0][0][0] == 2_000
    assert 50 < found[0][0][5] < 1_500
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert found[3] == found[0]


# Rejects.


def _kept(database: Database, load_number: int) -> int:
    return query(
        database.path,
        "SELECT count(*) FROM reject JOIN load_file ON load_file.id = load_file WHERE load = ?",
        load_number,
    )[0][0]


def test_the_first_ten_thousand_rejects_of_a_load_are_kept_and_every_one_is_counted(
    database: Database, file: Callable[..., Path]
) -> None:
    assert rejects.KEPT_PER_LOAD == 10_000
    one = file("a.csv", POLLS, *(f"s,never {n},active" for n in range(7_000)))
    two = file("b.csv", ZONES, *(f"s,Nowhere/{n}" for n in range(2_500)))
    three = file("c.csv", POLLS, *(f"s,never {n},active" for n in range(4_000)), "s,2023-01-01 00:00:00,active")
    result = load(database, one, two, three)
    assert [summary.counts.rejected for summary in result.files] == [7_000, 2_500, 4_000]
    assert result.rejected == 13_500
    per_file = query(
        database.path,
        "SELECT count(*), max(line) FROM reject GROUP BY load_file ORDER BY load_file",
    )
    assert per_file == [(7_000, 7_001), (2_500, 2_501), (500, 501)]
    assert load(database, one).rejected == 7_000
    assert _kept(database, 2) == 7_000


def test_no_more_than_ten_thousand_rejects_are_kept_when_hours_are_rejected_at_the_end(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("0.csv", HOURS, "s,0,09:00,17:00"))
    hours = file(
        "a.csv", HOURS, "s,9,09:00,17:00", *(f"s,{n % 7},{n // 60 % 24:02d}:{n % 60:02d},23:00" for n in range(600))
    )
    polls = file("b.csv", POLLS, *(f"s,never {n},active" for n in range(9_900)))
    result = load(database, hours, polls)
    assert [summary.counts.rejected for summary in result.files] == [601, 9_900]
    assert _kept(database, 2) == 10_000


def test_a_reject_keeps_the_first_thousand_characters_of_its_text(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", POLLS, "é" * 5_000 + ",2023-01-01 00:00:00,active"))
    assert query(database.path, "SELECT line, reason, text FROM reject") == [(2, values.ID_LONG, "é" * 1_000)]


# Nothing half-visible.


def test_nothing_of_a_file_is_seen_and_the_write_lock_is_free_while_it_is_read(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", POLLS, "s,2023-01-22 10:00:00,active"))
    before = feeds(database.path)
    seen = []

    def look(name: str, part: int) -> None:
        if part and not seen:
            seen.append(feeds(database.path))
            with closing(sqlite3.connect(database.path, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")

    load(database, file("b.csv", POLLS, *_many(random.Random(1), 500)), progress=look)
    assert seen == [before]
    assert len(_polls(database)) > 400


@pytest.mark.parametrize("feed", ["polls", "hours", "timezones"])
def test_a_file_that_fails_while_it_is_applied_leaves_everything_as_it_was(
    database: Database, file: Callable[..., Path], feed: str
) -> None:
    old = {
        "polls": file("polls.csv", POLLS, "s,2023-01-22 10:00:00,active"),
        "hours": file("hours.csv", HOURS, "s,0,09:00,17:00"),
        "timezones": file("zones.csv", ZONES, "s,Asia/Tokyo"),
    }
    load(database, *old.values())
    before, version = feeds(database.path), _version(database)
    with closing(sqlite3.connect(database.path)) as other:
        other.execute("CREATE TRIGGER boom BEFORE INSERT ON load_file BEGIN SELECT RAISE(ABORT, 'boom'); END")
        other.commit()
    new = {
        "polls": file("polls.csv", POLLS, "s,2023-01-22 10:00:00,inactive", "t,2023-01-22 10:00:00,active"),
        "hours": file("hours.csv", HOURS, "s,1,09:00,17:00", "t,1,09:00,17:00"),
        "timezones": file("zones.csv", ZONES, "s,UTC", "t,UTC"),
    }
    with pytest.raises(sqlite3.IntegrityError, match="boom"):
        load(database, new[feed])
    assert feeds(database.path) == before
    assert _version(database) == version
    assert query(database.path, "SELECT count(*) FROM load") == [(1,)]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("feed", ["polls", "hours", "timezones"])
def test_an_interrupted_load_leaves_everything_as_it_was(
    database: Database, file: Callable[..., Path], feed: str
) -> None:
    load(database, file("a.csv", POLLS, "s,2023-01-22 10:00:00,active"), file("b.csv", HOURS, "s,0,09:00,17:00"))
    before = feeds(database.path)
    new = {
        "polls": file("polls.csv", POLLS, "s,2023-01-22 10:00:00,inactive"),
        "hours": file("hours.csv", HOURS, "s,1,09:00,17:00"),
        "timezones": file("zones.csv", ZONES, "s,UTC"),
    }

    def interrupt(name: str, part: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(database, new[feed], progress=interrupt)
    assert feeds(database.path) == before
    assert query(database.path, "SELECT count(*) FROM load") == [(1,)]


@pytest.mark.usefixtures("small_blocks")
def test_a_file_cut_short_leaves_nothing_of_itself_and_the_others_are_loaded(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    whole = gz(csv(POLLS, *_many(random.Random(2), 20_000)))
    cut = put(tmp_path / "data" / "a.csv.gz", whole[: len(whole) * 3 // 4])
    told = []
    result = load(
        database, cut, file("b.csv", POLLS, "s,2023-01-22 10:00:00,active"), on_file=lambda done: told.append(done.file)
    )
    assert [bool(summary.error) for summary in result.files] == [True, False]
    assert counts(result.files[0]) == (0, 0, 0, 0, 0, 0)
    assert result.failed
    assert told == [summary.file for summary in result.files]
    assert _polls(database) == [("s", "2023-01-22 10:00:00.000000 UTC", "active")]
    assert query(database.path, "SELECT store_id FROM store") == [("s",)]
    assert query(database.path, "SELECT file, error <> '' FROM load_file ORDER BY id") == [
        (result.files[1].file, 0),
        (result.files[0].file, 1),
    ]


def test_progress_adds_up_to_the_bytes_on_disk_whatever_the_compression(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    rows = _many(random.Random(4), 3_000)
    plain = file("a.csv", POLLS, *rows)
    packed = put(tmp_path / "data" / "b.csv.gz", gz(plain.read_bytes()))
    told: dict[str, int] = {}

    def progress(name: str, part: int) -> None:
        assert part > 0
        told[name] = told.get(name, 0) + part

    load(database, plain, packed, progress=progress)
    assert told == {str(plain): plain.stat().st_size, str(packed): packed.stat().st_size}
