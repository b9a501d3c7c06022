"""Loading real files of polls into a real database: counts, and what wins."""

import errno
import io
import itertools
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from load_helpers import (
    HOURS,
    NOW,
    POLLS,
    SKEW_US,
    ZONES,
    counts,
    csv,
    feeds,
    gz,
    load,
    many,
    put,
    query,
    stored_polls,
    us,
    version_of,
)
from load_helpers import file as file
from load_helpers import small_blocks as small_blocks

from storemon_flask.database import polls as staging
from storemon_flask.database.connections import Database
from storemon_flask.errors import Stopped
from storemon_flask.feeds import csv_exact, schema, sources
from storemon_flask.feeds import load as load_service


def test_every_row_of_a_polls_file_is_new_changed_unchanged_repeated_or_rejected(
    database: Database, file: Callable[..., Path]
) -> None:
    first = file("a.csv", POLLS, "s1,2023-01-22 10:00:00,active", "s1,2023-01-22 11:00:00,active")
    (summary,) = load(database, first).files
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
    (summary,) = load(database, second).files
    assert (summary.file, summary.feed, summary.error) == (str(second), "polls", "")
    assert counts(summary) == (8, 2, 1, 1, 1, 3)
    assert summary.reasons == {schema.STATUS: 2, schema.TIMESTAMP_FORM: 1}
    assert summary.sha256 == sha256(second.read_bytes()).hexdigest()
    assert stored_polls(database) == [
        ("s1", "2023-01-22 10:00:00.000000Z", "active"),
        ("s1", "2023-01-22 11:00:00.000000Z", "inactive"),
        ("s1", "2023-01-22 12:00:00.000000Z", "inactive"),
        ("s2", "2023-01-22 12:00:00.000000Z", "active"),
    ]
    assert feeds(database.path)["store"] == [
        ("s1", us("2023-01-22T10:00:00"), us("2023-01-22T12:00:00")),
        ("s2", us("2023-01-22T12:00:00"), us("2023-01-22T12:00:00")),
    ]


def test_a_microsecond_makes_another_poll(database: Database, file: Callable[..., Path]) -> None:
    path = file("a.csv", POLLS, "s,2023-01-22 10:00:00.000001,active", "s,2023-01-22 10:00:00.000002,inactive")
    assert counts(load(database, path).files[0]) == (2, 2, 0, 0, 0, 0)
    assert stored_polls(database) == [
        ("s", "2023-01-22 10:00:00.000001Z", "active"),
        ("s", "2023-01-22 10:00:00.000002Z", "inactive"),
    ]


def test_polls_at_both_edges_of_a_week_stay_where_they_are(database: Database, file: Callable[..., Path]) -> None:
    stamps = ["1970-01-01 00:00:00.000000", "1970-01-07 23:59:59.999999", "1970-01-08 00:00:00.000000"]
    load(database, file("a.csv", POLLS, *(f"s,{stamp},active" for stamp in stamps)))
    assert stored_polls(database) == [("s", f"{stamp}Z", "active") for stamp in stamps]
    assert query(database.path, "SELECT week, length(polls) FROM poll_week ORDER BY 1") == [(0, 16), (1, 8)]


def test_a_poll_ahead_of_the_clock_is_rejected_and_one_within_the_allowance_is_not(
    database: Database, file: Callable[..., Path]
) -> None:
    path = file("a.csv", POLLS, "s,2024-10-14 12:05:00,active", "s,2024-10-14 12:05:00.000001,active")
    (summary,) = load(database, path, now="2024-10-14T12:00:00").files
    assert counts(summary) == (2, 1, 0, 0, 0, 1)
    assert summary.reasons == {schema.TIMESTAMP_FUTURE: 1}


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_the_later_row_wins_inside_a_file_across_files_and_across_loads(
    database: Database, file: Callable[..., Path], status: str
) -> None:
    other = {"active": "inactive", "inactive": "active"}[status]
    at = "2023-01-22 10:00:00"
    load(database, file("a.csv", POLLS, f"s,{at},{other}", f"s,{at},{status}"))
    assert stored_polls(database) == [("s", f"{at}.000000Z", status)]
    one, two = file("b.csv", POLLS, f"s,{at},{status}"), file("c.csv", POLLS, f"s,{at},{other}")
    result = load(database, one, two)
    assert [counts(summary) for summary in result.files] == [(1, 0, 0, 1, 0, 0), (1, 0, 1, 0, 0, 0)]
    assert stored_polls(database) == [("s", f"{at}.000000Z", other)]
    load(database, one)
    assert stored_polls(database) == [("s", f"{at}.000000Z", status)]


def test_the_same_file_again_changes_nothing_and_loading_a_then_b_then_a_leaves_a(
    database: Database, file: Callable[..., Path]
) -> None:
    a = file("a.csv", POLLS, "s,2023-01-22 10:00:00,active", "s,2023-01-22 11:00:00,active")
    b = file("b.csv", POLLS, "s,2023-01-22 10:00:00,inactive", "s,2023-01-22 11:00:00,active")
    load(database, a)
    before, version = feeds(database.path), version_of(database)
    assert counts(load(database, a).files[0]) == (2, 0, 0, 2, 0, 0)
    assert version_of(database) == version
    assert counts(load(database, b).files[0]) == (2, 0, 1, 1, 0, 0)
    assert feeds(database.path) != before
    assert version_of(database) == version + 1
    assert counts(load(database, a).files[0]) == (2, 0, 1, 1, 0, 0)
    assert feeds(database.path) == before


def _expected(rows: list[str]) -> list[tuple[str, str, str]]:
    latest = {tuple(row.split(",")[:2]): row.split(",")[2] for row in rows}
    return sorted((store, at.replace(" UTC", "Z"), status) for (store, at), status in latest.items())


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
    rows = many(random.Random(7), 3000)
    distinct = len(_expected(rows))
    (first,) = load(database, file("a.csv", POLLS, *rows)).files
    assert counts(first) == (3000, distinct, 0, 0, 3000 - distinct, 0)
    assert stored_polls(database) == _expected(rows)
    more = many(random.Random(8), 1000)
    old, new = _by_key(_expected(rows)), _by_key(_expected(more))
    (second,) = load(database, file("b.csv", POLLS, *more)).files
    changed = sum(key in old and old[key] != status for key, status in new.items())
    unchanged = sum(key in old and old[key] == status for key, status in new.items())
    fresh = sum(key not in old for key in new)
    assert min(changed, unchanged, fresh) > 10
    assert counts(second) == (1000, fresh, changed, unchanged, 1000 - len(new), 0)
    assert stored_polls(database) == _expected(rows + more)


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


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_small_rows, st.lists(st.integers(0, 24), max_size=3), st.lists(st.integers(0, 24), max_size=3), st.data())
def test_two_databases_loaded_in_different_splits_are_equal(
    tmp_path: Path, rows: list[str], cuts: list[int], other_cuts: list[int], data: st.DataObject
) -> None:
    folder = tmp_path / str(next(_numbers))
    found = []
    for number, indexes in enumerate((cuts, other_cuts)):
        edges = [0, *sorted(min(index, len(rows)) for index in indexes), len(rows)]
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


def test_the_view_poll_says_what_was_loaded_in_any_sqlite_shell(database: Database, file: Callable[..., Path]) -> None:
    rows = [
        "NYC/12,2023-01-22 12:09:39.388884 UTC,active",
        '"a ""b"", c",2023-01-22 12:09:39 UTC,inactive',
        "店,1970-01-01 00:00:00.000001 UTC,active",
        "店,2023-12-31 23:59:59.999999 UTC,inactive",
    ]
    load(database, file("a.csv", POLLS, *rows))
    expected = [
        ("NYC/12", "2023-01-22 12:09:39.388884Z", "active"),
        ('a "b", c', "2023-01-22 12:09:39.000000Z", "inactive"),
        ("店", "1970-01-01 00:00:00.000001Z", "active"),
        ("店", "2023-12-31 23:59:59.999999Z", "inactive"),
    ]
    assert stored_polls(database) == expected
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("no sqlite3 shell on PATH: the view was read with Python's SQLite only")
    shell = subprocess.run(
        [
            shell,
            "-readonly",
            "-separator",
            "|",
            database.path,
            "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shell.stdout.splitlines() == ["|".join(row) for row in expected]


# What a load rejects is stored, and nothing of it is seen half-done


def _stored_rejects(database: Database, load_number: int) -> int:
    return query(
        database.path,
        "SELECT count(*) FROM reject JOIN load_file ON load_file.id = load_file WHERE load = ?",
        load_number,
    )[0][0]


def test_the_first_ten_thousand_rejects_of_a_load_are_stored_and_every_one_is_counted(
    database: Database, file: Callable[..., Path]
) -> None:
    assert csv_exact.MAX_REJECTS_PER_LOAD == 10_000
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
    assert _stored_rejects(database, 2) == 7_000


def test_no_more_than_ten_thousand_rejects_are_stored_when_hours_are_rejected_at_the_end(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("0.csv", HOURS, "s,0,09:00,17:00"))
    hours = file(
        "a.csv", HOURS, "s,9,09:00,17:00", *(f"s,{n % 7},{n // 60 % 24:02d}:{n % 60:02d},23:00" for n in range(600))
    )
    polls = file("b.csv", POLLS, *(f"s,never {n},active" for n in range(9_900)))
    result = load(database, hours, polls)
    assert [summary.counts.rejected for summary in result.files] == [601, 9_900]
    assert _stored_rejects(database, 2) == 10_000


def test_a_reject_keeps_the_first_thousand_characters_of_its_text(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", POLLS, "é" * 5_000 + ",2023-01-01 00:00:00,active"))
    assert query(database.path, "SELECT line, reason, text FROM reject") == [(2, schema.ID_LONG, "é" * 1_000)]


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
    assert len(stored_polls(database)) > 400


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
    "commas": (POLLS, ",,x"),
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
    reported = []
    result = load(
        database,
        cut,
        file("b.csv", POLLS, "s,2023-01-22 10:00:00,active"),
        on_file=lambda done: reported.append(done.file),
    )
    assert [bool(summary.error) for summary in result.files] == [True, False]
    assert counts(result.files[0]) == (0, 0, 0, 0, 0, 0)
    assert result.failed
    assert reported == [summary.file for summary in result.files]
    assert stored_polls(database) == [("s", "2023-01-22 10:00:00.000000Z", "active")]
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
    reported: dict[str, int] = {}

    def progress(name: str, part: int) -> None:
        assert part > 0
        reported[name] = reported.get(name, 0) + part

    load(database, plain, packed, progress=progress)
    assert reported == {str(plain): plain.stat().st_size, str(packed): packed.stat().st_size}


def test_what_was_staged_is_gone_when_the_file_cannot_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk on a network may say only then that something went wrong."""

    class Failing(io.BytesIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(staging, "_SPOOL_BYTES", 10)
    closed = []
    close = staging.StagedPolls.close
    monkeypatch.setattr(staging.StagedPolls, "close", lambda self: (closed.append(self), close(self)))
    rows = csv(POLLS, *(f"s{store},1728864000,active" for store in range(100)))
    with closing(Database(tmp_path / "storemon.db")) as database:
        options = load_service.LoadOptions(us("2026-01-01T00:00:00"), SKEW_US)
        source = sources.Source("polls.csv", len(rows), lambda: Failing(rows))
        result = load_service.load_sources(database, [source], options)
        assert [file.error for file in result.files] == ["polls.csv cannot be read: Input/output error"]
        assert query(database.path, "SELECT count(*) FROM poll") == [(0,)]
    assert len(closed) == 1
