"""The SQL views, and the page that describes them to analysts: its commands run."""

import importlib.util
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import sql
from hypothesis import given
from hypothesis import strategies as st
from load_helpers import file as file

from storemon_flask.database import schema
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources

PAGE = (Path(__file__).parent.resolve().parent.parent / "docs" / "sql.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
VIEWS = ("opening_hours", "poll", "special_opening_hours", "store_zone", "store")
DAY_US = 86_400_000_000
SIX_WEEKS_US = 42 * DAY_US
START_US = 1_704_067_200_000_000  # 2024-01-01


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


def text(us: int) -> str:
    return str(np.datetime64(us, "us")).replace("T", " ") + "Z"


@pytest.fixture
def analysed(tmp_path: Path, file: Callable[..., Path]) -> Path:
    """A folder with `instance/storemon.db`, of two stores with hours, special hours, a zone and a name."""
    database = Database(tmp_path / "instance" / "storemon.db")
    feeds = [
        file("polls.csv", "store_id,timestamp_utc,status", "a,2024-10-14 11:30:00 UTC,active",
             "a,2024-10-14 12:00:00.000001 UTC,inactive", "b,2024-09-30 23:59:59.999999 UTC,inactive"),
        file("hours.csv", "store_id,dayOfWeek,start_time_local,end_time_local,valid_from",
             "a,0,09:00:00,17:30:15,", "a,6,22:00:00,24:00:00,2024-05-06"),
        file("special.csv", "store_id,date,"
            "start_time_local,end_time_local", "a,2024-12-25,,", "a,2024-12-24,09:00,12:00"),
        file("zones.csv", "store_id,timezone_str,valid_from", "a,Europe/Berlin,", "a,America/Chicago,2024-07-01"),
        file("names.csv", "store_id,name,group", "a,The Corner,north", "c,Never polled,"),
    ]  # fmt: skip
    load.load_sources(database, sources.find_sources(feeds), load.LoadOptions(1_729_000_000_000_000, 0))
    database.close()
    return tmp_path


def test_every_view_shows_readable_units(analysed: Path) -> None:
    path = analysed / "instance/storemon.db"
    rows = {view: sql(path, f"SELECT * FROM {view} ORDER BY 1, 2, 3") for view in VIEWS}
    assert rows == {
        "poll": [
            ("a", "2024-10-14 11:30:00.000000Z", "active", "2024-10-14"),
            ("a", "2024-10-14 12:00:00.000001Z", "inactive", "2024-10-14"),
            ("b", "2024-09-30 23:59:59.999999Z", "inactive", "2024-09-30"),
        ],
        "store": [
            ("a", "The Corner", "north", "", "2024-10-14 11:30:00.000000Z", "2024-10-14 12:00:00.000001Z"),
            ("b", "", "", "", "2024-09-30 23:59:59.999999Z", "2024-09-30 23:59:59.999999Z"),
            ("c", "Never polled", "", "", None, None),
        ],
        "opening_hours": [
            ("a", 0, "Monday", "09:00:00", "17:30:15", None),
            ("a", 6, "Sunday", "22:00:00", "24:00:00", "2024-05-06"),
        ],
        "special_opening_hours": [("a", "2024-12-24", "09:00:00", "12:00:00"), ("a", "2024-12-25", None, None)],
        "store_zone": [("a", "America/Chicago", "2024-07-01"), ("a", "Europe/Berlin", None)],
    }


def test_the_page_names_every_view_with_its_columns(analysed: Path) -> None:
    for view in VIEWS:
        (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{view}` |"))
        columns = [name for _, name, *_ in sql(analysed / "instance/storemon.db", f"PRAGMA table_info({view})")]
        assert [name for name in re.findall(r"`(\w+)`", line.split("|")[3]) if name in columns] == columns


def test_the_views_of_an_empty_database_are_empty(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "empty.db")) as database:
        database.prepare()
    assert [sql(tmp_path / "empty.db", f"SELECT * FROM {view}") for view in VIEWS] == [[]] * len(VIEWS)


@pytest.mark.parametrize("call", ["date(timestamp_utc)", "strftime('%Y-%m-%d', timestamp_utc)", "day"])
def test_the_date_of_a_timestamp_is_its_day(analysed: Path, call: str) -> None:
    found = sql(analysed / "instance/storemon.db", f"SELECT {call}, count(*) FROM poll GROUP BY 1 ORDER BY 1")
    assert found == [("2024-09-30", 1), ("2024-10-14", 2)]


# Edges of days and weeks, and any other instant; one store may have more polls in a week than others have in all.
instants = st.one_of(
    st.integers(START_US, START_US + SIX_WEEKS_US),
    st.tuples(st.integers(0, 42), st.integers(-2, 2)).map(lambda at: START_US + at[0] * DAY_US + at[1]),
)


@given(st.dictionaries(st.tuples(st.sampled_from("abc"), instants), st.booleans(), min_size=1, max_size=60))
def test_poll_shows_what_was_packed(polls: dict[tuple[str, int], bool]) -> None:
    weeks: dict[tuple[int, str], list[int]] = {}
    for (store, us), active in sorted(polls.items()):
        weeks.setdefault((us // (7 * DAY_US), store), []).append(2 * us + active)
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in schema.MIGRATIONS:
            migration(connection)
        connection.executemany(
            "INSERT INTO store_record (number, store_id) VALUES (?, ?)", [(ord(s), s) for s in "abc"]
        )
        connection.executemany(
            "INSERT INTO poll_week VALUES (?, ?, ?)",
            [(week, ord(store), np.array(packed, ">i8").tobytes()) for (week, store), packed in weeks.items()],
        )
        expected = sorted(
            (store, text(us), "active" if active else "inactive", text(us)[:10])
            for (store, us), active in polls.items()
        )
        assert sorted(connection.execute("SELECT * FROM poll")) == expected
        for day in {row[3] for row in expected}:
            found = sorted(connection.execute("SELECT * FROM poll WHERE day = ?", [day]))
            assert found == [row for row in expected if row[3] == day]
        found = sorted(connection.execute("SELECT * FROM poll WHERE store_id = 'a'"))
        assert found == [row for row in expected if row[0] == "a"]


def test_a_condition_on_day_or_store_unpacks_no_other_weeks(tmp_path: Path) -> None:
    """Work is counted in SQLite's own steps: a day of a year must not cost a tenth of the year."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in schema.MIGRATIONS:
            migration(connection)
        connection.executemany(
            "INSERT INTO store_record (number, store_id) VALUES (?, ?)", [(n, f"s{n}") for n in range(20)]
        )
        for week in range(2817, 2869):
            packed = 2 * (week * 7 * DAY_US + np.arange(168) * DAY_US // 24)
            blob = packed.astype(">i8").tobytes()
            connection.executemany("INSERT INTO poll_week VALUES (?, ?, ?)", [(week, n, blob) for n in range(20)])
        steps = {}
        for where in ("1", "day = '2024-10-14'", "store_id = 's7'"):
            count = 0

            def tick() -> int:
                nonlocal count
                count += 1
                return 0

            connection.set_progress_handler(tick, 1000)
            (rows,) = connection.execute(
                f"SELECT count(*) FROM (SELECT max(timestamp_utc) FROM "
                f"poll WHERE {where} GROUP BY store_id, timestamp_utc)"
            ).fetchone()
            connection.set_progress_handler(None, 0)
            steps[where] = count
            assert rows == {"1": 52 * 20 * 168, "day = '2024-10-14'": 20 * 24, "store_id = 's7'": 52 * 168}[where]
    assert steps["day = '2024-10-14'"] * 25 < steps["1"]
    assert steps["store_id = 's7'"] * 10 < steps["1"]


def test_the_questions_of_the_page_run_in_python_and_the_shell(analysed: Path) -> None:
    path = analysed / "instance/storemon.db"
    questions = blocks("sqlite3", "sql")
    answers = [sql(path, question) for question in questions]
    assert answers == [
        [("2024-10-14", 2, 50.0)],
        [("a", "2024-10-14 11:30:00.000000Z", "active")],
        [("a", "09:00:00", "17:30:15", "America/Chicago"), ("a", "09:00:00", "17:30:15", "Europe/Berlin")],
        [("c", "Never polled", None), ("b", "", "2024-09-30 23:59:59.999999Z")],
    ]
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("no sqlite3 shell on PATH: the questions ran with Python's SQLite only")
    for question, answer in zip(questions, answers, strict=True):
        command = [shell, "-readonly", "-separator", "|", str(path), question]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        assert shown.splitlines() == ["|".join("" if cell is None else str(cell) for cell in row) for row in answer]


@pytest.mark.parametrize("section", ["sqlite3", "Datasette"])
def test_the_commands_of_the_page_run(analysed: Path, section: str) -> None:
    (command,) = blocks(section, "sh")
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"no {program} on PATH")
    done = subprocess.run(["sh", "-ec", command], cwd=analysed, capture_output=True, text=True, check=True, timeout=60)
    if section == "sqlite3":
        header, *rows = done.stdout.splitlines()
        assert header == "store_id,timestamp_utc,status,day"
        assert rows[0] == 'a,"2024-10-14 11:30:00.000000Z",active,2024-10-14'
    else:
        rows = json.loads(done.stdout)
        assert [row["timestamp_utc"][11:] for row in rows] == ["11:30:00.000000Z", "12:00:00.000001Z"]


def test_pandas_reads_the_polls_as_the_page_says(analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(analysed)
    names: dict[str, object] = {}
    (program,) = blocks("pandas", "python")
    exec(program, names)
    polls, by_day = names["polls"], names["by_day"]
    assert isinstance(polls, pd.DataFrame)
    assert isinstance(by_day, pd.DataFrame)
    assert [stamp.isoformat() for stamp in polls["timestamp_utc"]] == [
        "2024-10-14T11:30:00+00:00",
        "2024-10-14T12:00:00.000001+00:00",
    ]
    assert by_day.to_dict("index") == {"2024-10-14": {"active": 1, "inactive": 1}}


def test_duckdb_attaches_lists_and_reads(analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    monkeypatch.chdir(analysed)
    with duckdb.connect() as connection:
        _load_sqlite_of_duckdb(connection)
        (script,) = blocks("DuckDB", "sql")
        answers = [connection.execute(question).fetchall() for question in script.split(";\n") if question.strip()]
        assert {(name,) for name in VIEWS} <= set(answers[1])
        assert answers[2] == [(2,)]
        assert [(str(day)[:10], percent) for day, percent in answers[4]] == [("2024-09-30", 0.0), ("2024-10-14", 50.0)]
        for view in VIEWS:
            rows = connection.execute(f"SELECT * FROM storemon.{view} ORDER BY ALL").fetchall()
            expected = sql(analysed / "instance/storemon.db", f"SELECT * FROM {view}")
            as_text = [tuple(cell if cell is None else str(cell) for cell in row) for row in expected]
            assert sorted(rows, key=repr) == sorted(as_text, key=repr)
            assert [column[0] for column in connection.description] == [
                name for _, name, *_ in sql(analysed / "instance/storemon.db", f"PRAGMA table_info({view})")
            ]
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        casts = "epoch_us(CAST(timestamp_utc AS TIMESTAMPTZ)), epoch_us(CAST(timestamp_utc AS TIMESTAMP))"
        found = connection.execute(f"SELECT DISTINCT {casts} FROM storemon.poll ORDER BY 1").fetchall()
        assert [first for first, _ in found][1:] == [1_728_905_400_000_000, 1_728_907_200_000_001]
        assert all(first == second for first, second in found)


def _load_sqlite_of_duckdb(connection: Any) -> None:
    """DuckDB's extension for SQLite: from its own folder, from the package that carries it, or skip."""
    spec = importlib.util.find_spec("duckdb_extension_sqlite_scanner")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    files = [file for folder in folders for file in Path(folder).rglob("*.duckdb_extension")]
    try:
        connection.execute(f"LOAD '{files[0]}'" if files else "LOAD sqlite")
    except Exception as error:
        pytest.skip(f"DuckDB's extension for SQLite is not installed: {str(error).splitlines()[0]}")
