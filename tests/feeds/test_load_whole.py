"""What a load rejects is kept, and nothing of it is seen half-done."""

import itertools
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ingest_helpers import HOURS, NOW, POLLS, SKEW_US, ZONES, counts, csv, feeds, gz, load, put, query, us
from load_helpers import database as database
from load_helpers import file as file
from load_helpers import many, polls, version_of
from load_helpers import small_blocks as small_blocks

from storemon_flask.database.connections import Database
from storemon_flask.errors import Stopped
from storemon_flask.feeds import load as load_service
from storemon_flask.feeds import rejects, sources, values


def _kept(database: Database, load_number: int) -> int:
    return query(
        database.path,
        "SELECT count(*) FROM reject JOIN load_file ON load_file.id = load_file WHERE load = ?",
        load_number,
    )[0][0]


def test_the_first_ten_thousand_rejects_of_a_load_are_kept_and_every_one_is_counted(
    database: Database, file: Callable[..., Path]
) -> None:
    assert rejects.MAX_REJECTS_PER_LOAD == 10_000
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

    load(database, file("b.csv", POLLS, *many(random.Random(1), 500)), progress=look)
    assert seen == [before]
    assert len(polls(database)) > 400


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
    before, version = feeds(database.path), version_of(database)
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
    assert version_of(database) == version
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


_BAD_ROWS = {
    "commas": (POLLS, ",,"),
    "quotes": (POLLS, '"s"x,2023-01-22 10:00:00,active'),
    "timestamps": (POLLS, "s,never {n},active"),
    "stores": (POLLS, "s{n},2023-01-22 10:00:00,active"),
    "hours": (HOURS, "s,9,09:00,17:00"),
    "quoted hours": (HOURS, '"s","9",09:00,17:00'),
    "zones": (ZONES, "s{n},Mars/{n}"),
}


@pytest.mark.parametrize("rows", _BAD_ROWS)
def test_a_load_is_given_up_wherever_it_is_and_leaves_nothing(
    database: Database, file: Callable[..., Path], rows: str
) -> None:
    load(database, file("a.csv", POLLS, "s,2023-01-22 10:00:00,active"), file("b.csv", HOURS, "s,0,09:00,17:00"))
    before = feeds(database.path)
    header, row = _BAD_ROWS[rows]
    found = sources.find_sources([file("big.csv", header, *(row.format(n=n) for n in range(10_000)))])

    def run(most_checks: int) -> int:
        """How often the load asked whether it is wanted; from so many times on it is not."""
        checks = itertools.count(1)
        asked = 0

        def check() -> None:
            nonlocal asked
            asked = next(checks)
            if asked >= most_checks:
                raise Stopped("the server is stopping")

        terms = load_service.LoadOptions(us(NOW), SKEW_US, check=check)
        with pytest.raises(Stopped) as raised:
            load_service.load_sources(database, found, terms)
        assert raised.value.message == "the server is stopping; nothing of this was stored"
        return asked

    for most_checks in (1, 2, 3, 4):
        # The fast reader reads two blocks at a time.
        assert most_checks <= run(most_checks) <= most_checks + 2
    assert feeds(database.path) == before
    assert query(database.path, "SELECT count(*) FROM load") == [(1,)]


def test_a_load_that_is_given_up_says_which_files_are_in(database: Database, file: Callable[..., Path]) -> None:
    files = [file(f"{n}.csv", ZONES, f"s{n},UTC") for n in range(8)]
    found = sources.find_sources(files)
    stored = []

    def check() -> None:
        if len(stored) == 7:
            raise Stopped("the server is stopping")

    with pytest.raises(Stopped) as raised:
        load_service.load_sources(
            database, found, load_service.LoadOptions(us(NOW), SKEW_US, check=check), on_file=stored.append
        )
    first = ", ".join(str(path) for path in files[:5])
    assert raised.value.message == (
        f"the server is stopping; stored before: {first} and 2 more; nothing of the other files was"
    )
    assert query(database.path, "SELECT count(*) FROM store_zone") == [(7,)]


@pytest.mark.usefixtures("small_blocks")
def test_a_file_cut_short_leaves_nothing_of_itself_and_the_others_are_loaded(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    whole = gz(csv(POLLS, *many(random.Random(2), 20_000)))
    cut = put(tmp_path / "data" / "a.csv.gz", whole[: len(whole) * 3 // 4])
    told = []
    result = load(
        database, cut, file("b.csv", POLLS, "s,2023-01-22 10:00:00,active"), on_file=lambda done: told.append(done.file)
    )
    assert [bool(summary.error) for summary in result.files] == [True, False]
    assert counts(result.files[0]) == (0, 0, 0, 0, 0, 0)
    assert result.failed
    assert told == [summary.file for summary in result.files]
    assert polls(database) == [("s", "2023-01-22 10:00:00.000000Z", "active")]
    assert query(database.path, "SELECT store_id FROM store_record") == [("s",)]
    assert query(database.path, "SELECT file, error <> '' FROM load_file ORDER BY id") == [
        (result.files[1].file, 0),
        (result.files[0].file, 1),
    ]


def test_progress_adds_up_to_the_bytes_on_disk_whatever_the_compression(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    rows = many(random.Random(4), 3_000)
    plain = file("a.csv", POLLS, *rows)
    packed = put(tmp_path / "data" / "b.csv.gz", gz(plain.read_bytes()))
    told: dict[str, int] = {}

    def progress(name: str, part: int) -> None:
        assert part > 0
        told[name] = told.get(name, 0) + part

    load(database, plain, packed, progress=progress)
    assert told == {str(plain): plain.stat().st_size, str(packed): packed.stat().st_size}
