"""A schema is brought up to date whole or not at all, by whoever comes first."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import environment, sql
from storage_helpers import MIGRATIONS, TABLES, names
from storage_helpers import file as file
from storage_helpers import opened as opened

from storemon_flask.database import schema
from storemon_flask.database.db import Database
from storemon_flask.settings import Settings


def m999_half_way(made: Any) -> None:
    made.execute("CREATE TABLE half (x)")
    made.execute("ALTER TABLE store_record ADD COLUMN half TEXT")
    made.execute("INSERT INTO no_such_table VALUES (1)")


def m999_one_more_table(made: Any) -> None:
    made.execute("CREATE TABLE more (x)")


def with_step(monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))


def test_a_migration_that_fails_leaves_the_old_schema_and_data(
    small_fleet: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sql(settings.database, "SELECT * FROM sqlite_master"), sql(settings.database, "SELECT * FROM poll")
    with monkeypatch.context() as newer:
        with_step(newer, m999_half_way)
        database = Database(settings.database)
        with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
            database.prepare()
        database.close()
    assert before == (
        sql(settings.database, "SELECT * FROM sqlite_master"),
        sql(settings.database, "SELECT * FROM poll"),
    )
    assert [name for (name,) in sql(settings.database, "SELECT name FROM _sqlite_migrations")] == MIGRATIONS


def test_a_first_migration_that_fails_leaves_an_empty_file_that_works_later(
    opened: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        with_step(newer, m999_half_way)
        with pytest.raises(sqlite3.OperationalError):
            opened.prepare()
    assert names(file) == set()
    opened.prepare()
    assert names(file) >= TABLES


@pytest.mark.parametrize("door", ["read", "write"])
def test_an_older_database_is_brought_up_to_date_by_whoever_opens_it_first(
    small_fleet: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    polls_before = sql(settings.database, "SELECT * FROM poll")
    with_step(monkeypatch, m999_one_more_table)
    database = Database(settings.database)
    with getattr(database, door)() as connection:
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)
    database.close()
    assert sql(settings.database, "SELECT * FROM poll") == polls_before


def test_processes_that_create_the_database_at_once_all_succeed(tmp_path: Path) -> None:
    code = """
import pathlib, sys
import sqlite_utils
from storemon_flask.database import loads
from storemon_flask.database.db import Database
print("ready", flush=True)
for line in sys.stdin:
    database = Database(pathlib.Path(line.strip()))
    with database.write() as connection:
        loads.begin(connection, 1)
    database.close()
    print("done", flush=True)
"""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(4)
    ]
    said = [process.stdout.readline() for process in crowd if process.stdout]
    files = [tmp_path / str(attempt) / "some.db" for attempt in range(10)]
    for made in files:
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write(f"{made}\n")
        said += [process.stdout.readline() for process in crowd if process.stdout]
    errors = [process.communicate(timeout=60)[1] for process in crowd]
    assert errors == [""] * 4
    assert said == ["ready\n"] * 4 + ["done\n"] * 40
    for made in files:
        assert sql(made, "SELECT id FROM load") == [(1,), (2,), (3,), (4,)]
        assert [name for (name,) in sql(made, "SELECT name FROM _sqlite_migrations")] == MIGRATIONS
