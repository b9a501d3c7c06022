"""The database file: its schema, and files that are something else."""

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, environment, sql, storemon
from database_helpers import MIGRATIONS, NOW_US, TABLES, names
from database_helpers import backup as backup
from database_helpers import file as file
from database_helpers import opened as opened

from storemon_flask.database import backup as copies
from storemon_flask.database import check, loads, reports, schema
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings


def test_the_schema_has_its_tables_its_views_and_strict_types(opened: Database, file: Path) -> None:
    opened.prepare()
    assert names(file) == TABLES | {"_sqlite_migrations"}
    views = sql(file, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")
    assert [name for (name,) in views] == ["opening_hours", "poll", "special_opening_hours", "store", "store_zone"]
    strict = {name for name, is_strict in sql(file, "SELECT name, strict FROM pragma_table_list") if is_strict}
    assert strict == TABLES
    assert sql(file, "PRAGMA integrity_check") == [("ok",)]
    assert sql(file, "PRAGMA journal_mode") == [("wal",)]
    assert sql(file, "PRAGMA page_size") == [(16_384,)]
    assert sql(file, "SELECT * FROM data_version") == [(1, 0, 0, None, 0, 0)]


def test_preparing_twice_changes_nothing(opened: Database, file: Path) -> None:
    opened.prepare()
    before = sql(file, "SELECT * FROM sqlite_master")
    again = Database(file)
    again.prepare()
    again.close()
    assert sql(file, "SELECT * FROM sqlite_master") == before
    assert sql(file, "SELECT migration_set, name FROM _sqlite_migrations") == [
        ("storemon", name) for name in MIGRATIONS
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO report (id, state, as_of_us, columns, requested_us) VALUES ('x', 'sleeping', 0, 'classic', 0)",
        "INSERT INTO report (id, state, as_of_us, columns, "
        "requested_us, progress) VALUES ('x', 'running', 0, '', 0, 2)",
        "INSERT INTO hours VALUES (1, -1000000, 7, 0, 60)",
        "INSERT INTO hours VALUES (1, -1000000, 0, 86400, 60)",
        "INSERT INTO special_hours VALUES (1, 19000, -1, 60)",
        "INSERT INTO data_version VALUES (2, 0, 0, NULL, 0, 0)",
        "INSERT INTO load_file VALUES (1, 1, 'f', 'polls', '', 0, 2, 1, 0, 0, 0, 0, '{}', '[]', '')",
    ],
)
def test_the_tables_refuse_what_cannot_be(opened: Database, statement: str) -> None:
    with opened.write() as connection:
        connection.execute("INSERT INTO store_record (number, store_id) VALUES (1, 's')")
        connection.execute("INSERT INTO load (id, started_us) VALUES (1, 0)")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(statement)


def test_hours_need_their_store(opened: Database) -> None:
    with opened.write() as connection, pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("INSERT INTO hours VALUES (99, -1000000, 0, 0, 60)")


@pytest.mark.usefixtures("small_fleet")
def test_the_view_shows_the_polls_to_any_sqlite_shell(settings: Settings) -> None:
    assert sql(settings.database, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2") == [
        ("=cmd|x", "2024-10-14 11:30:00.000000Z", "active"),
        ("=cmd|x", "2024-10-14 12:00:00.000000Z", "active"),
        ("worked", "2024-10-14 10:14:00.000000Z", "active"),
        ("worked", "2024-10-14 11:15:00.000000Z", "inactive"),
    ]


def test_an_empty_file_becomes_a_database(opened: Database, file: Path) -> None:
    file.touch()
    with opened.write() as connection:
        assert loads.begin(connection, 1) == 1
    assert names(file) >= TABLES


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    database = Database(tmp_path / "a" / "b c" / "q?%20#.db")
    database.prepare()
    database.close()
    assert [path.name for path in (tmp_path / "a" / "b c").iterdir()] == ["q?%20#.db"]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError) as caught:
        Database(tmp_path / "file" / "below" / "x.db").prepare()
    assert caught.value.message == f"{tmp_path / 'file' / 'below'} cannot be made: Not a directory"


def test_reading_makes_no_database(opened: Database, file: Path) -> None:
    with pytest.raises(DatabaseError) as caught, opened.read():
        pass
    assert caught.value.message == f"there is no database at {file}; run `storemon load-data` to make it"
    assert list(file.parent.iterdir()) == []


def refusal(file: Path) -> str:
    """The sentence both doors refuse that file with."""
    sentences = []
    for door in ("read", "write"):
        database = Database(file)
        try:
            with pytest.raises(DatabaseError) as caught, getattr(database, door)():
                pass
        finally:
            database.close()
        sentences.append(caught.value.message)
    assert sentences[0] == sentences[1]
    return sentences[0]


def foreign(file: Path, script: str) -> bytes:
    """Another program's database; its bytes."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)
    return file.read_bytes()


def test_another_programs_database_is_refused(file: Path) -> None:
    foreign(file, "CREATE TABLE customer (name TEXT); INSERT INTO customer VALUES ('Ada');")
    assert refusal(file) == f"{file} is another program's database; set STOREMON_DATABASE to another path"
    assert names(file) == {"customer"}


def test_another_programs_database_is_not_changed_by_a_byte(file: Path) -> None:
    before = foreign(file, "CREATE TABLE customer (name TEXT); INSERT INTO customer VALUES ('Ada');")
    refusal(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == hashlib.sha256(before).hexdigest()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("table", ["customer", "store"])
def test_a_database_that_another_program_makes_with_sqlite_utils_is_refused(file: Path, table: str) -> None:
    foreign(
        file,
        f"CREATE TABLE {table} (name TEXT);"
        "CREATE TABLE _sqlite_migrations (migration_set TEXT, name "
        "TEXT, applied_at TEXT, PRIMARY KEY (migration_set, name));"
        "INSERT INTO _sqlite_migrations VALUES ('theirs', 'm001', '2024-01-01');",
    )
    assert refusal(file) == f"{file} is another program's database; set STOREMON_DATABASE to another path"
    assert names(file) == {table, "_sqlite_migrations"}


def test_a_database_of_a_newer_storemon_is_refused_and_names_the_step(opened: Database, file: Path) -> None:
    opened.prepare()
    sql(file, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('storemon', 'm999_x', '2030')")
    sentence = refusal(file)
    assert sentence.startswith(f"{file} was made by a newer storemon (it has m999_x); ")


def test_a_database_from_before_the_first_release_is_refused_with_the_way_over(opened: Database, file: Path) -> None:
    opened.prepare()
    sql(file, "UPDATE _sqlite_migrations SET name = 'm007_completeness_and_notes'")
    before = file.read_bytes()
    assert refusal(file) == (
        f"{file} was made by a storemon from before the first "
        f"release, and this one does not read it; to carry it over, "
        "run `storemon export FOLDER` with the old version, move the file away, and run `storemon load-data FOLDER` "
        "with this one"
    )
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"store_id,timestamp_utc,status\n" * 100, b"SQLite format 3\x00", b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_kept(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert refusal(file) == (
        f"{file} is not an SQLite database; set STOREMON_DATABASE to another path or move the file away"
    )
    assert file.read_bytes() == content


def test_a_folder_is_refused_as_one(file: Path) -> None:
    file.mkdir()
    assert refusal(file) == f"{file} is a folder; STOREMON_DATABASE names a file, such as {file / 'storemon.db'}"
    assert list(file.iterdir()) == []


def test_a_damaged_database_is_a_sentence(opened: Database, file: Path) -> None:
    opened.prepare()
    opened.close()
    data = bytearray(file.read_bytes())
    data[16_384:] = b"\xa5" * (len(data) - 16_384)
    file.write_bytes(bytes(data))
    database = Database(file)
    with pytest.raises(DatabaseError) as caught, database.read() as connection:
        connection.execute("SELECT * FROM report").fetchall()
    database.close()
    assert caught.value.message == f"{file} is damaged; restore it from a backup"


def test_a_database_cut_short_is_a_sentence_on_the_command_line(settings: Settings, small_fleet: Path) -> None:
    settings_file = settings.database
    sql(settings_file, "PRAGMA wal_checkpoint(TRUNCATE)")
    settings_file.write_bytes(settings_file.read_bytes()[: 16_384 * 2])
    for suffix in ("-wal", "-shm"):
        settings_file.with_name(settings_file.name + suffix).unlink(missing_ok=True)
    done = storemon(settings.home, "report")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {settings_file} is damaged; restore it from a backup\n"


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
    fresh = Database(settings.home / "fresh.db")
    fresh.prepare()
    fresh.close()
    schema_of_both = [
        sql(file, "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
        for file in (settings.database, settings.home / "fresh.db")
    ]
    assert schema_of_both[0] == schema_of_both[1]
    steps = "SELECT id, migration_set, name, length(applied_at) FROM _sqlite_migrations"
    assert sql(settings.database, steps) == sql(settings.home / "fresh.db", steps)


def test_processes_that_create_the_database_at_once_all_succeed(tmp_path: Path) -> None:
    code = """
import pathlib, sys
from storemon_flask.database import loads
from storemon_flask.database.connections import Database
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


KEY_COMES_BACK = "CREATE TRIGGER back AFTER UPDATE ON data_version BEGIN UPDATE api_key SET revoked_us = NULL; END"
ENDLESS = "CREATE VIEW later AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def spoil(file: Path, how: str) -> None:
    """Make the file foreign in one way."""
    scripts = {
        "trigger": KEY_COMES_BACK,
        "view": ENDLESS,
        "table": "CREATE TABLE theirs (x)",
        "index": "CREATE INDEX theirs ON report (error)",
        "changed view": "DROP VIEW store; CREATE VIEW store AS SELECT 1 AS store_id",
        "view for a table": "ALTER TABLE secret RENAME TO gone; CREATE VIEW secret AS SELECT * FROM gone",
        "missing table": "DROP TABLE secret",
        "view for the steps": (
            "ALTER TABLE _sqlite_migrations RENAME TO steps; CREATE VIEW _sqlite_migrations AS SELECT * FROM steps"
        ),
        "changed table": (
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'value BLOB', 'value TEXT') "
            "WHERE name = 'secret'"
        ),
    }
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(scripts[how])


CASES = [
    ("trigger", "has the trigger 'back'"),
    ("view", "has the view 'later', which is not storemon's"),
    ("table", "has the table 'theirs', which is not storemon's"),
    ("index", "has the index 'theirs', which is not storemon's"),
    ("changed view", "has the view 'store' in another form"),
    ("view for a table", "has the view 'secret' in another form"),
    ("missing table", "has no table 'secret'"),
    ("view for the steps", "is another program's database"),
    ("changed table", "has the table 'secret' in another form"),
]


@pytest.mark.parametrize(("how", "sentence"), CASES)
def test_restore_refuses_a_schema_that_is_not_ours_and_changes_nothing(
    backup: Path, settings: Settings, how: str, sentence: str
) -> None:
    spoil(backup, how)
    before = settings.database.read_bytes()
    with pytest.raises(DatabaseError, match=sentence):
        copies.restore(settings.database, backup, NOW_US)
    assert settings.database.read_bytes() == before


@pytest.mark.parametrize(("how", "sentence"), [case for case in CASES if case[0] not in ("view", "table", "index")])
def test_the_database_in_use_is_refused_with_triggers_or_changed_tables(
    backup: Path, settings: Settings, how: str, sentence: str
) -> None:
    spoil(settings.database, how)
    with pytest.raises(DatabaseError, match=sentence):
        check.check_database(settings)
    with pytest.raises(DatabaseError, match=sentence), Database(settings.database).read():
        pass
    with pytest.raises(DatabaseError, match=sentence), Database(settings.database).write():
        pass


@pytest.mark.parametrize("how", ["view", "table", "index"])
def test_what_somebody_added_to_the_database_in_use_is_a_note(backup: Path, settings: Settings, how: str) -> None:
    spoil(settings.database, how)
    checked = check.check_database(settings)
    assert checked.problems == 0
    assert [note for note in checked.notes if f"has the {how} " in note and "not storemon's" in note]


def test_what_sqlite_makes_for_itself_is_accepted(backup: Path, settings: Settings) -> None:
    sql(backup, "ANALYZE")
    assert copies.restore(settings.database, backup, NOW_US)[0].stores > 0
    assert check.check_database(settings).problems == 0


def test_reading_ends_when_the_time_of_a_file_of_its_size_is_over(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "READ_S", 0.2)
    begun = time.monotonic()
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with (
        pytest.raises(DatabaseError, match="much longer than a file of its size takes"),
        check.open_unchanged(backup) as connection,
    ):
        connection.execute(endless).fetchone()
    assert time.monotonic() - begun < PATIENCE_S


@pytest.mark.parametrize("report_id", ["../../etc/passwd", "/etc/passwd", "a" * 31, "A" * 32, "0" * 32 + "\n"])
def test_an_id_that_storemon_does_not_make_names_no_file(tmp_path: Path, report_id: str) -> None:
    with pytest.raises(DatabaseError, match="is no id that storemon makes"):
        reports.path_of(tmp_path, report_id)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE load_file SET reasons = '[1]' WHERE id = 1", "load_file: row 1 has in reasons JSON of another form"),
        ('UPDATE load_file SET reasons = \'{"a": "b"}\' WHERE id = 1', "row 1 has in reasons JSON of another form"),
        ("UPDATE load SET notes = '7' WHERE id = 1", "load: row 1 has in notes JSON of another form"),
        ("UPDATE load_file SET file = CAST(x'ff41' AS TEXT) WHERE id = 1", "row 1 has in file text that is not UTF-8"),
        (
            "INSERT INTO report (id, state, as_of_us, columns, "
            "requested_us) VALUES ('../../x', 'failed', 0, 'basic', 0)",
            "report: row 1 has in id an id that storemon does not make",
        ),
    ],
)
def test_values_that_storemon_does_not_write_are_named(
    backup: Path, settings: Settings, statement: str, sentence: str
) -> None:
    sql(backup, statement)
    with pytest.raises(DatabaseError, match=sentence):
        copies.restore(settings.database, backup, NOW_US)
    sql(settings.database, statement)
    part = next(part for part in check.check_database(settings).sections if part.name == "texts and their forms")
    assert any(sentence in problem for problem in part.problems)
