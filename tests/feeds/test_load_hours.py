"""Loading hours and time zones: every spelling, and whole replacement sets."""

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ingest_helpers import HOURS, ZONES, counts, csv, feeds, gz, load, put, put_zip, query
from load_helpers import database as database
from load_helpers import file as file
from load_helpers import small_blocks as small_blocks
from load_helpers import version_of

from storemon_flask.database.connections import Database
from storemon_flask.feeds import hours, values
from storemon_flask.feeds.csv_exact import BlockReader

HOURS_SQL = "SELECT day, start_s, end_s FROM hours JOIN store_record ON store_record.number = hours.store WHERE store_id = ? ORDER BY 1, 2, 3"


def _hours(database: Database, store_id: str) -> list[tuple[int, int, int]]:
    return query(database.path, HOURS_SQL, store_id)


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
    version = version_of(database)
    (summary,) = load(
        database, file("b.csv", HOURS, "a,0,09:00,17:00", "a,1,09:00,18:00", "a,5,10:00,12:00", "a,5,10:00,12:00")
    ).files
    assert counts(summary) == (4, 1, 1, 1, 1, 0)
    assert summary.notes == ["2 earlier rows of these stores were replaced"]
    assert _hours(database, "a") == [(0, 32_400, 61_200), (1, 32_400, 64_800), (5, 36_000, 43_200)]
    assert _hours(database, "b") == [(0, 32_400, 61_200)]
    assert version_of(database) == version + 1


def test_loading_hours_a_then_b_then_a_leaves_a(database: Database, file: Callable[..., Path]) -> None:
    a = file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00")
    b = file("b.csv", HOURS, "s,3,00:00,01:00")
    for path in (a, b, a):
        load(database, path)
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    version = version_of(database)
    (summary,) = load(database, a).files
    assert counts(summary) == (2, 0, 0, 2, 0, 0)
    assert version_of(database) == version


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
    "a bad day": ("s,8,09:00,17:00", values.DAY),
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
    assert summary.reasons == {reason: 1, hours.STORE_KEEPS_HOURS: 1}
    assert summary.notes == ["an hours row was rejected: store s keeps the hours it had"]
    kept = query(
        database.path,
        "SELECT line, reason, text FROM reject JOIN load_file ON load_file.id = load_file WHERE load = 2 ORDER BY line",
    )
    assert kept == sorted([(place + 2, reason, bad), (2 if place else 3, hours.STORE_KEEPS_HOURS, "s,2,10:00,11:00")])


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
        "an hours row was rejected: store s has its other rows only",
        "an hours row was rejected: store t had none before and counts as open 24x7",
    ]
    assert query(database.path, "SELECT store_id FROM store_record") == [("s",)]


@pytest.mark.parametrize("bad", ["s,1,09:00", "s,1,09:00,17:00,late"], ids=["too short", "too long"])
def test_a_store_named_by_a_row_of_the_wrong_length_keeps_its_hours_too_and_is_named(
    database: Database, file: Callable[..., Path], bad: str
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00"))
    (summary,) = load(database, file("b.csv", HOURS, "s,0,09:00,18:00", bad)).files
    assert summary.counts.rejected >= 1
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    assert summary.notes == ["an hours row was rejected: store s keeps the hours it had"]


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
