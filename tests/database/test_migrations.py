"""Databases made by every older schema: brought up to date, copied before, whole when that is interrupted."""

import gzip
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import STOREMON, environment, sql, storemon
from kill_points import killed_at

from storemon_flask import create_app
from storemon_flask.database import check, schema
from storemon_flask.database.db import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import load
from storemon_flask.reports import report
from storemon_flask.reports.report import Asked
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings

OLD = Path(__file__).parent.resolve().parent / "old_databases"
NAMES = sorted(file.name.removesuffix(".db.gz") for file in OLD.glob("*.db.gz"))
STEPS = [step.__name__ for step in schema.STEPS]
# Long after every poll of the feeds.
NOW_US = 1_800_000_000_000_000


@pytest.fixture
def old(settings: Settings) -> Callable[[str], Path]:
    """Puts the old database of that name in the settings' place."""

    def put(name: str) -> Path:
        settings.database.parent.mkdir(parents=True)
        settings.database.write_bytes(gzip.decompress((OLD / f"{name}.db.gz").read_bytes()))
        return settings.database

    return put


def schema_of(file: Path) -> dict[str, str]:
    """Every table, index and view with its text, blanks and quotes evened out."""
    rows = sql(file, "SELECT name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {name: re.sub(r"\s+", " ", text.replace('"', "")).strip() for name, text in rows}


def content_of(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    tables = [name for (name,) in sql(file, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {table: sql(file, f'SELECT * FROM "{table}"') for table in tables}


def full(database: Database, settings: Settings) -> str:
    question = report.ask(database, Asked(columns="full"), settings.default_timezone, settings.max_report_rows)
    return report.compute(database, question, settings.rules, settings.default_timezone).csv


def fresh(folder: Path, names: bool) -> Database:
    """The same feeds, loaded by this program."""
    database = Database(folder / "fresh" / "storemon.db")
    feeds = [
        OLD / "feeds" / name for name in ("polls.csv", "hours.csv", "zones.csv", *(["names.csv"] if names else []))
    ]
    load.run(database, load.find(feeds)[0], load.Terms(NOW_US, 0))
    return database


def prepare(file: Path) -> None:
    with closing(Database(file)) as database:
        database.prepare()


def test_there_is_a_file_of_every_schema_that_was() -> None:
    made = set()
    for name in NAMES:
        text = gzip.decompress((OLD / f"{name}.db.gz").read_bytes())
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(text)
            made.add(tuple(step for (step,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")))
    # The fifth and the sixth step came together.
    assert made >= {tuple(STEPS[:count]) for count in (1, 2, 3, 4, 6, 7)}
    assert len(NAMES) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_an_old_database_gets_the_schema_of_a_new_one_and_gives_the_same_reports(
    name: str, old: Callable[[str], Path], settings: Settings, tmp_path: Path
) -> None:
    file = old(name)
    database, new = Database(file), fresh(tmp_path, name >= "m003")
    text = full(database, settings)
    assert text == full(new, settings)
    assert text.count("\n") == (11 if name >= "m003" else 10)
    database.close()
    new.close()
    assert schema_of(file) == schema_of(new.path)
    assert sql(file, "SELECT name FROM _sqlite_migrations ORDER BY id") == [(step,) for step in STEPS]


@pytest.mark.parametrize("name", NAMES)
def test_an_old_database_takes_reports_and_keeps_those_it_had(
    name: str, old: Callable[[str], Path], settings: Settings
) -> None:
    before = sql(old(name), "SELECT id, state, as_of_us, row_count, sha256 FROM report")
    app = create_app(settings, InlineExecutor())
    client = app.test_client()
    new = client.post("/trigger_report").get_json()["report_id"]
    rows = client.get("/api/v1/reports").get_json()["reports"]
    assert [row["status"] for row in rows] == ["Complete"] * (len(before) + 1)
    assert {row["report_id"] for row in rows} == {new, *(row[0] for row in before)}
    app.extensions["storemon"].database.close()
    kept = sql(settings.database, "SELECT id, state, as_of_us, row_count, sha256 FROM report WHERE id <> ?", new)
    assert kept == before


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_an_old_database_is_kept_before_it_is_changed(
    name: str, old: Callable[[str], Path], settings: Settings
) -> None:
    file = old(name)
    before = schema_of(file), content_of(file)
    due = [step for step in STEPS if (step,) not in sql(file, "SELECT name FROM _sqlite_migrations")]
    prepare(file)
    kept = file.with_name(f"storemon.db.before-{due[0]}")
    assert sorted(p.name for p in file.parent.glob("storemon.db.before-*")) == [kept.name]
    assert (schema_of(kept), content_of(kept)) == before
    assert schema_of(file) != before[0] or name == "m004"
    assert storemon(settings.home, "check").returncode == (0 if name == "m001-draft" else 1)


def test_no_copy_is_made_of_a_new_database_or_of_one_that_is_up_to_date(settings: Settings, small_fleet: Path) -> None:
    prepare(settings.database)
    assert [file.name for file in settings.database.parent.iterdir() if "before" in file.name] == []


def test_without_room_for_the_copy_nothing_is_changed(
    old: Callable[[str], Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = old("m002")
    before = schema_of(file), content_of(file)
    full_disk = shutil._ntuple_diskusage(1000, 999, 1)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full_disk)
    with pytest.raises(DatabaseError) as refused:
        prepare(file)
    assert refused.value.message.startswith(
        f"{file} has an older schema, and the copy {file}.before-m003_names_and_keys"
    )
    assert "the disk is full" in refused.value.message
    assert (schema_of(file), content_of(file)) == before
    assert [p.name for p in file.parent.iterdir() if "before" in p.name] == []
    monkeypatch.undo()
    prepare(file)
    assert set(sql(file, "SELECT name FROM _sqlite_migrations")) == {(step,) for step in STEPS}


def test_a_damaged_database_is_not_migrated(old: Callable[[str], Path], settings: Settings) -> None:
    file = old("m002")
    (root,) = sql(file, "SELECT rootpage FROM sqlite_master WHERE name = 'hours'")[0]
    damaged = bytearray(file.read_bytes())
    damaged[(root - 1) * 16_384 : root * 16_384] = bytes(16_384)
    file.write_bytes(damaged)
    with pytest.raises(DatabaseError, match="damaged"):
        prepare(file)
    assert len(sql(file, "SELECT name FROM _sqlite_migrations")) == 2
    assert [p.name for p in file.parent.iterdir() if "before" in p.name] == []


# Where the process stops for good: while the copy is made, when it has its name, between two steps, before the commit.
POINTS = {
    "while the copy is made": "from storemon_flask.database import copies as at; at.verified = stop",
    "when the copy has its name": "from storemon_flask.database import files as at; at.sync_folder = stop",
    "between two steps": "from storemon_flask.database import schema as at\n"
    "steps = list(at.STEPS); steps[3].__code__ = (lambda db: __import__('__main__').stop()).__code__",
    "before the commit": """
import sqlite_utils.migrations as at
apply = at.Migrations.apply
def stopping(*args, **kwargs):
    apply(*args, **kwargs)
    stop()
at.Migrations.apply = stopping
""",
}


@pytest.mark.parametrize("point", POINTS)
def test_a_migration_that_is_killed_leaves_the_old_database_whole(
    point: str, old: Callable[[str], Path], settings: Settings
) -> None:
    file = old("m001")
    before = schema_of(file), content_of(file)
    code = "\nimport pathlib\nfrom storemon_flask.database.db import Database\nDatabase(pathlib.Path(sys.argv[1])).prepare()"
    killed_at(settings.home, POINTS[point] + code, file)
    assert (schema_of(file), content_of(file)) == before
    assert storemon(settings.home, "info").returncode == 0
    assert set(sql(file, "SELECT name FROM _sqlite_migrations")) == {(step,) for step in STEPS}
    assert content_of(file)["poll_week"] == before[1]["poll_week"]
    assert [p.name for p in file.parent.glob(".*.tmp*")] == []
    kept = file.with_name(f"storemon.db.before-{STEPS[1]}")
    assert (schema_of(kept), content_of(kept)) == before


def test_processes_that_find_the_same_steps_due_make_one_copy_and_migrate_once(
    old: Callable[[str], Path], settings: Settings
) -> None:
    import subprocess

    file = old("m001")
    before = schema_of(file)
    crowd = [
        subprocess.Popen(
            [*STOREMON, "info"], env=environment(settings.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in crowd:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert [p.name for p in file.parent.glob("*before*")] == [f"storemon.db.before-{STEPS[1]}"]
    assert schema_of(file.with_name(f"storemon.db.before-{STEPS[1]}")) == before


def test_check_says_that_a_schema_is_old_and_changes_nothing(old: Callable[[str], Path], settings: Settings) -> None:
    before = old("m001-draft").read_bytes()
    done = check.run(settings)
    assert done.problems == 0
    assert "the schema is older than this program (m002_schedule_version is due)" in done.notes[0]
    assert settings.database.read_bytes() == before
