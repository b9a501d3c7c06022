"""Uptime Kuma 1 and 2: beats as polls, and hours where version 2 has deleted the beats."""

import random
from pathlib import Path

import pytest
from cli_helpers import Run, home, run  # noqa: F401

from imports.made_sources import DOWN, MAINTENANCE, PENDING, START_US, UP, add_beats, add_monitor, kuma_time, make, read
from storemon_flask.errors import DataError
from storemon_flask.imports.kuma import KumaReader
from storemon_flask.imports.store_map import read_map

KUMA_1 = ("kuma1.sql",)
KUMA_2 = ("kuma1.sql", "kuma2_changes.sql")


def test_one_beat_in_ten_minutes_is_kept_and_both_sides_of_changes_and_gaps(tmp_path: Path) -> None:
    with make(tmp_path / "kuma.db", *KUMA_1) as kuma:
        add_monitor(kuma, 1, "Oak St")
        down = range(33, 36)
        # Nobody watched from 0:47 to 2:20.
        minutes = [*range(48), *range(140, 151)]
        add_beats(kuma, 1, [(minute, DOWN if minute in down else UP) for minute in minutes])
        polls, said = read(KumaReader(tmp_path / "kuma.db"))
    expected = "00:00 00:10 00:20 00:30 00:32 00:33- 00:35- 00:36 00:40 00:47 02:20 02:30"
    assert polls == [
        ("Oak St", f"{word.strip('-')}:00", "inactive" if word.endswith("-") else "active") for word in expected.split()
    ]
    assert said == [
        "from Uptime Kuma 1, 1 name, checked most often every 60 s; 12 of 59 checks are kept: one in 10 minutes, and "
        "both sides of each change and gap"
    ]


def test_pending_and_maintenance_are_no_polls(tmp_path: Path) -> None:
    with make(tmp_path / "kuma.db", *KUMA_1) as kuma:
        add_monitor(kuma, 1, "a")
        add_beats(kuma, 1, [(0, UP), (1, PENDING), (2, PENDING), (3, DOWN), (4, MAINTENANCE), (5, UP)])
        polls, said = read(KumaReader(tmp_path / "kuma.db"))
    assert polls == [("a", "00:00:00", "active"), ("a", "00:03:00", "inactive"), ("a", "00:05:00", "active")]
    assert "3 checks say neither (pending, maintenance): left out" in said


def test_groups_and_deleted_monitors_are_left_out_and_equal_names_told_apart(tmp_path: Path) -> None:
    with make(tmp_path / "kuma.db", *KUMA_1) as kuma:
        for number, (name, kind) in enumerate([("a", "http"), ("a", "ping"), ("all", "group")], start=1):
            add_monitor(kuma, number, name, kind)
        for number in (1, 2, 3, 9):
            add_beats(kuma, number, [(0, UP)])
        path = tmp_path / "kuma.db"
        polls, said = read(KumaReader(path))
        assert [store for store, _, _ in polls] == ["a (monitor 1)", "a (monitor 2)"]
        assert said[-1].startswith('left out, as no map has them: all and "monitor 9 (deleted)"')
        polls, said = read(KumaReader(path), {"all": "x", "a (monitor 1)": "", "monitor 9 (deleted)": "9"})
    assert polls == [("x", "00:00:00", "active"), ("9", "00:00:00", "active")]
    assert said[-1] == 'not in the map, left out: "a (monitor 2)"'


def _kuma_2(path: Path, retries: int = 0) -> None:
    """Down from 2:50 to 2:55 and over the whole of hour 6; Kuma itself was off in hour 4. Its old beats are gone."""
    hour = START_US // 1_000_000
    with make(path, *KUMA_2) as kuma:
        add_monitor(kuma, 1, "a", retries=retries)
        important = [(0, UP, 0, 0), (170, DOWN, 60, 0), (175, UP, 60, 0), (359, DOWN, 60, 0), (420, UP, 60, 0)]
        kuma.executemany(
            "INSERT INTO heartbeat (monitor_id, time, status, duration, retries, important) VALUES (1, ?, ?, ?, ?, 1)",
            [(kuma_time(minute), status, duration, tried) for minute, status, duration, tried in important],
        )
        counts = [(60, 0), (60, 0), (55, 5), (60, 0), (0, 0), (59, 1), (0, 60), (60, 0), (57, 3), (9, 0)]
        kuma.executemany(
            "INSERT INTO stat_hourly (monitor_id, timestamp, ping, up, down) VALUES (1, ?, 1, ?, ?)",
            [(hour + 3600 * index, *count) for index, count in enumerate(counts)],
        )


def test_kuma_2_gives_changes_with_both_sides_and_one_poll_for_each_whole_hour(tmp_path: Path) -> None:
    _kuma_2(tmp_path / "kuma.db")
    polls, said = read(KumaReader(tmp_path / "kuma.db"))
    expected = (
        # Hour 8 has checks that were tried again; of hour 9 too few are there.
        "00:00 01:30 02:49 02:50- 02:54- 02:55 03:30 05:58 05:59- 06:30- 06:59- 07:00 08:30"
    )
    assert polls == [
        ("a", f"{word.strip('-')}:00", "inactive" if word.endswith("-") else "active") for word in expected.split()
    ]
    assert said[0].startswith("from Uptime Kuma 2, 1 name")
    assert said[1].startswith("4 polls are derived from hourly counts")
    assert said[2].startswith("4 polls are derived: the last check before a change")
    assert said[3].startswith("1 hour with less than half")


def test_retries_before_a_beat_that_is_down_said_neither(tmp_path: Path) -> None:
    _kuma_2(tmp_path / "kuma.db", retries=3)
    polls, _ = read(KumaReader(tmp_path / "kuma.db"))
    assert ("a", "02:46:00", "active") in polls
    assert ("a", "02:49:00", "active") not in polls


def test_what_is_thinned_gives_the_report_of_all_beats(run: Run, home: Path) -> None:  # noqa: F811
    moved = random.Random(5)
    path = home / "kuma.db"
    beats, status = [], UP
    for minute in range(0, 3 * 1440, 2):
        if moved.random() < 0.02:
            status = 1 - status
        if not 1000 < minute < 1400:
            beats.append((minute + moved.random(), status))
    with make(path, *KUMA_1) as kuma:
        add_monitor(kuma, 1, "thin")
        add_beats(kuma, 1, beats)
    lines = [f"all,{kuma_time(minute)},{'active' if status else 'inactive'}" for minute, status in beats]
    (home / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *lines]) + "\n")
    assert run("load-data", "polls.csv").code == 0
    assert run("import", "uptime-kuma", path).code == 0
    rows = run("report", "--as-of", "2026-10-08T00:00:00Z", "--columns", "full").out.splitlines()
    (full,), (thin,) = ([row for row in rows if row.startswith(name)] for name in ("all,", "thin,"))
    assert thin.split(",")[1:7] == full.split(",")[1:7]
    assert float(full.split(",")[3]) > 20


def test_the_command_is_dry_then_loads_then_changes_nothing(run: Run, home: Path) -> None:  # noqa: F811
    path = home / "kuma.db"
    with make(path, *KUMA_1) as kuma:
        add_monitor(kuma, 1, "Oak St")
        add_beats(kuma, 1, [(minute, UP) for minute in range(60)])
        kuma.execute(
            "INSERT INTO heartbeat (monitor_id, time, status) VALUES (1, 'soon', 1), (1, '2026-10-05 00:00', 7)"
        )
        (home / "stores.csv").write_text("store_id,name\n0042,oak st\n")
        assert run("load-data", "stores.csv").code == 0
        dry = run("import", "uptime-kuma", path, "--dry-run", "--map", "names.csv")
        assert dry.code == 0
        assert "1 would be rejected: status is neither active nor inactive" in dry.out
        assert (home / "names.csv").read_text().splitlines()[1].startswith("Oak St,0042,name of a store,9,")
        # It is used as it is, and a second dry run leaves it.
        (home / "names.csv").write_text("name,store_id\nOak St,0042\n")
        assert run("import", "uptime-kuma", path, "--dry-run", "--map", "names.csv").code == 0
        first = run("import", "uptime-kuma", path, "--map", "names.csv")
        again = run("import", "uptime-kuma", path, "--map", "names.csv")
    counts = [
        line.split()[2:] for done in (first, again) for line in done.out.splitlines() if line.startswith("kuma.db")
    ]
    assert counts == [["9", "7", "0", "0", "0", "2"], ["9", "0", "0", "7", "0", "2"]]
    rejected = run("rejects", "--load", 2).out.splitlines()
    assert rejected[1:] == [
        '2,kuma.db,61,timestamp_utc is not a date and time (YYYY-MM-DD HH:MM:SS[.ffffff] [UTC]),"Oak St,soon,active"',
        '2,kuma.db,62,status is neither active nor inactive,"Oak St,2026-10-05 00:00,status 7"',
    ]
    assert "from Uptime Kuma 1, 1 name, checked most often every 60 s" in run("loads").out


def test_values_of_any_type_are_read(tmp_path: Path) -> None:
    """SQLite keeps text where a column is of numbers."""
    path = tmp_path / "kuma.db"
    with make(path, *KUMA_2) as kuma:
        add_monitor(kuma, 1, "a")
        add_beats(kuma, 1, [(600, UP), (601, DOWN), (602, UP)])
        kuma.execute("UPDATE monitor SET interval = 'often', maxretries = x'00ff'")
        kuma.execute("UPDATE heartbeat SET duration = 'long', important = 'yes' WHERE id = 2")
        kuma.execute("UPDATE heartbeat SET status = x'01' WHERE id = 3")
        kuma.executemany(
            "INSERT INTO stat_hourly (monitor_id, timestamp, ping, up, down) VALUES (1, ?, 0, 60, 0)",
            # As milliseconds, as what nobody reads, as text, and two that are right.
            [(START_US // 1000,), (99_999_999_999_999_999,), ("soon",), (START_US // 1_000_000,), (-1,)],
        )
        polls, _ = read(KumaReader(path))
    assert sorted(polls) == [
        ("a", "00:30:00", "active"), ("a", "10:00:00", "active"), ("a", "10:01:00", "inactive"),
        ("a", "10:02:00", "status b'\\x01'"),
    ]  # fmt: skip


def test_a_name_of_the_map_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with make(tmp_path / "kuma.db", *KUMA_1) as kuma:
        add_monitor(kuma, 1, "Oak St")
        add_beats(kuma, 1, [(0, UP)])
        polls, said = read(KumaReader(tmp_path / "kuma.db"), {"Oak St.": "7", "Oak St": "7", "Elm": ""})
    assert polls == [("7", "00:00:00", "active")]
    assert said[-1] == 'in the map, but not in Uptime Kuma 1: "Oak St." and Elm'


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_map_has_the_delimiters_of_feeds(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "map.csv"
    path.write_text(f"why{delimiter}name{delimiter}store_id\nnew{delimiter}Oak St{delimiter}7\n", encoding="utf-8-sig")
    assert read_map(path) == {"Oak St": "7"}
    path.write_text("name;store_id\nK\u00f6ln;7\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"is not UTF-8 text; save it as CSV UTF-8$"):
        read_map(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"x" * 5000, "is not an SQLite database"),
        (b"", "is not the database of an Uptime Kuma"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "kuma.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(KumaReader(path))
