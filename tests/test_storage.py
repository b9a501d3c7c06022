"""The database file: schema, migrations, files that are something else, readers and writers side by side."""

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment, load_folder, sql, storemon

from storemon_flask.errors import DatabaseError
from storemon_flask.services import catalogue
from storemon_flask.settings import Settings
from storemon_flask.storage import db, loads, migrations, polls, schema, stores
from storemon_flask.storage.db import Database

TABLES = {
    "store", "poll_week", "hours", "special_hours", "timezone", "load", "load_file", "reject", "report", "data_version", "api_key", "secret",
}  # fmt: skip
STEPS = [step.__name__ for step in schema.STEPS]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
def opened(file: Path) -> Iterator[Database]:
    made = Database(file)
    yield made
    made.close()


def names(file: Path) -> set[str]:
    return {name for (name,) in sql(file, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_schema_has_its_tables_its_view_and_strict_types(opened: Database, file: Path) -> None:
    opened.prepare()
    assert names(file) == TABLES | {"_sqlite_migrations"}
    assert sql(file, "SELECT name FROM sqlite_master WHERE type = 'view'") == [("poll",)]
    strict = {name for name, is_strict in sql(file, "SELECT name, strict FROM pragma_table_list") if is_strict}
    assert strict == TABLES
    assert sql(file, "PRAGMA integrity_check") == [("ok",)]
    assert sql(file, "PRAGMA journal_mode") == [("wal",)]
    assert sql(file, "PRAGMA page_size") == [(16_384,)]
    assert sql(file, "SELECT * FROM data_version") == [(1, 0, 0)]


def test_preparing_twice_changes_nothing(opened: Database, file: Path) -> None:
    opened.prepare()
    before = sql(file, "SELECT * FROM sqlite_master")
    again = Database(file)
    again.prepare()
    again.close()
    assert sql(file, "SELECT * FROM sqlite_master") == before
    assert sql(file, "SELECT migration_set, name FROM _sqlite_migrations") == [("storemon", name) for name in STEPS]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO report (id, state, as_of_us, columns, requested_us) VALUES ('x', 'sleeping', 0, 'classic', 0)",
        "INSERT INTO report (id, state, as_of_us, columns, requested_us, progress) VALUES ('x', 'running', 0, '', 0, 2)",
        "INSERT INTO hours VALUES (1, -1000000, 7, 0, 60)",
        "INSERT INTO hours VALUES (1, -1000000, 0, 86400, 60)",
        "INSERT INTO special_hours VALUES (1, 19000, -1, 60)",
        "INSERT INTO data_version VALUES (2, 0, 0)",
        "INSERT INTO load_file VALUES (1, 1, 'f', 'polls', '', 0, 2, 1, 0, 0, 0, 0, '{}', '[]', '')",
    ],
)
def test_the_tables_refuse_what_cannot_be(opened: Database, statement: str) -> None:
    with opened.write() as connection:
        connection.execute("INSERT INTO store (number, store_id) VALUES (1, 's')")
        connection.execute("INSERT INTO load VALUES (1, 0)")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            connection.execute(statement)


def test_hours_need_their_store(opened: Database) -> None:
    with opened.write() as connection, pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("INSERT INTO hours VALUES (99, -1000000, 0, 0, 60)")


@pytest.mark.usefixtures("small_fleet")
def test_the_view_shows_the_polls_to_any_sqlite_shell(settings: Settings) -> None:
    assert sql(settings.database, "SELECT * FROM poll ORDER BY 1, 2") == [
        ("=cmd|x", "2024-10-14 11:30:00.000000 UTC", "active"),
        ("=cmd|x", "2024-10-14 12:00:00.000000 UTC", "active"),
        ("worked", "2024-10-14 10:14:00.000000 UTC", "active"),
        ("worked", "2024-10-14 11:15:00.000000 UTC", "inactive"),
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
        "CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT, PRIMARY KEY (migration_set, name));"
        "INSERT INTO _sqlite_migrations VALUES ('theirs', 'm001', '2024-01-01');",
    )
    assert refusal(file) == f"{file} is another program's database; set STOREMON_DATABASE to another path"
    assert names(file) == {table, "_sqlite_migrations"}


def test_a_database_of_a_newer_storemon_is_refused_and_names_the_step(opened: Database, file: Path) -> None:
    opened.prepare()
    sql(file, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('storemon', 'm999_x', '2030')")
    sentence = refusal(file)
    assert sentence.startswith(f"{file} was made by a newer storemon (it has m999_x); ")


@pytest.mark.parametrize("content", [b"store_id,timestamp_utc,status\n" * 100, b"SQLite format 3\x00", b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_kept(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert refusal(file) == (
        f"{file} is not an SQLite database; set STOREMON_DATABASE to another path or move the file away"
    )
    assert file.read_bytes() == content


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
    made.execute("ALTER TABLE store ADD COLUMN half TEXT")
    made.execute("INSERT INTO no_such_table VALUES (1)")


def m999_one_more_table(made: Any) -> None:
    made.execute("CREATE TABLE more (x)")


def with_step(monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, step))
    monkeypatch.setattr(migrations, "_NAMES", (*migrations._NAMES, step.__name__))


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
    assert [name for (name,) in sql(settings.database, "SELECT name FROM _sqlite_migrations")] == STEPS


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
from storemon_flask.storage import loads
from storemon_flask.storage.db import Database
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
    for file in files:
        for process in crowd:
            assert process.stdin is not None
            process.stdin.write(f"{file}\n")
        said += [process.stdout.readline() for process in crowd if process.stdout]
    errors = [process.communicate(timeout=60)[1] for process in crowd]
    assert errors == [""] * 4
    assert said == ["ready\n"] * 4 + ["done\n"] * 40
    for file in files:
        assert sql(file, "SELECT id FROM load") == [(1,), (2,), (3,), (4,)]
        assert [name for (name,) in sql(file, "SELECT name FROM _sqlite_migrations")] == STEPS


def test_a_write_waits_for_another_writer_and_never_says_locked(opened: Database, file: Path) -> None:
    opened.prepare()
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.5, other.commit)
    started = time.monotonic()
    timer.start()
    with opened.write() as connection:
        waited = time.monotonic() - started
        loads.begin(connection, 1)
    timer.join()
    other.close()
    assert 0.45 < waited < 10
    assert sql(file, "SELECT id FROM load") == [(1,)]


def test_a_writer_that_waits_in_vain_says_so_in_a_sentence(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    database = Database(file)
    database.prepare()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(DatabaseError, match=r"some\.db was locked by another program for more than "),
            database.write(),
        ):
            pass
    with database.write() as connection:
        assert loads.begin(connection, 1) == 1
    database.close()


def test_many_writing_threads_lose_nothing(opened: Database, file: Path) -> None:
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(25):
                with opened.write() as connection:
                    (before,) = connection.execute("SELECT version FROM data_version").fetchone()
                    connection.execute("UPDATE data_version SET version = ?", [before + 1])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sql(file, "SELECT version FROM data_version") == [(100,)]


@pytest.mark.usefixtures("small_fleet")
def test_a_reader_is_not_blocked_by_a_writer_and_does_not_see_its_half(database: Database, settings: Settings) -> None:
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM poll_week")
        started = time.monotonic()
        with database.read() as connection:
            assert polls.count(connection) == 4
        assert time.monotonic() - started < 5
        other.rollback()


@pytest.mark.usefixtures("small_fleet")
def test_a_reader_sees_one_moment_however_long_it_reads(database: Database, settings: Settings) -> None:
    with database.read() as connection:
        assert polls.count(connection) == 4
        sql(settings.database, "DELETE FROM poll_week")
        sql(settings.database, "UPDATE data_version SET version = 77")
        with database.read() as inner:
            assert (polls.count(inner), stores.data_version(inner)) == (4, 3)
        assert polls.count(connection) == 4
    with database.read() as connection:
        assert (polls.count(connection), stores.data_version(connection)) == (0, 77)


@pytest.mark.usefixtures("small_fleet")
def test_a_reader_cannot_write(database: Database) -> None:
    with database.read() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM poll_week")


def test_an_error_in_a_write_takes_everything_of_it_back(opened: Database, file: Path) -> None:
    def interrupted() -> None:
        with opened.write() as connection:
            loads.begin(connection, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sql(file, "SELECT * FROM load") == []
    with opened.write() as connection:
        assert loads.begin(connection, 2) == 1


def test_the_data_version_counts_changes_of_the_feeds_and_nothing_else(
    small_fleet: Path, database: Database, settings: Settings
) -> None:
    def version() -> int:
        return int(sql(settings.database, "SELECT version FROM data_version")[0][0])

    assert version() == 3
    load_folder(database, small_fleet)
    assert version() == 3
    (small_fleet / "polls.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 10:14:00 UTC,inactive\n")
    load_folder(database, small_fleet)
    assert version() == 4


@pytest.mark.parametrize("command", [["report"], ["rejects"], ["info"]])
def test_commands_that_only_read_never_make_a_database(tmp_path: Path, command: list[str]) -> None:
    done = storemon(tmp_path, *command)
    tried = f"there is no database at {tmp_path / 'instance' / 'storemon.db'}; run `storemon load-data` to make it"
    assert tried in done.stdout + done.stderr
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_info_counts_what_there_is(small_fleet: Path, settings: Settings) -> None:
    found = catalogue.info(settings)
    assert ("stores", "4") in found
    assert ("polls", "4") in found
    assert ("newest poll", "2024-10-14T12:00:00.000000Z") in found
    assert ("loads", "1, 0 rows rejected") in found


def test_writers_have_their_turns_in_the_order_they_came(database: Database) -> None:
    """A lock that anybody may take next lets one of many wait for seconds."""
    order: list[int] = []
    threads = []

    def write(number: int) -> None:
        with database.write():
            order.append(number)

    with database.write():
        for number in range(12):
            threads.append(threading.Thread(target=write, args=(number,)))
            threads[-1].start()
            waiting = time.monotonic() + 10
            while len(database._line._waiting) < number + 2 and time.monotonic() < waiting:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(12))


def test_whoever_gives_up_waiting_keeps_nobody_waiting(database: Database) -> None:
    refused: list[str] = []

    def write() -> None:
        try:
            with database.write():
                raise AssertionError("there was no turn to have")
        except DatabaseError as error:
            refused.append(error.message)

    with database.write():
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        database.stop_waiting()
        for thread in threads:
            thread.join()
    assert refused == ["the server is stopping; send the request again when it is back"] * 3
    with database.write(last_word=True) as connection:
        connection.execute("SELECT 1")
