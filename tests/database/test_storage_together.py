"""Readers and writers of one database side by side."""

import contextlib
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import load_folder, sql, storemon
from storage_helpers import file as file
from storage_helpers import opened as opened

from storemon_flask.database import db, loads, polls, stores
from storemon_flask.database.db import Database
from storemon_flask.errors import DatabaseError, Stopped
from storemon_flask.settings import Settings
from storemon_flask.stores import catalogue


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


def test_info_counts_what_there_is(small_fleet: Path, settings: Settings, database: Database) -> None:
    found = catalogue.info(settings, database)
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


def test_a_statement_is_interrupted_by_what_its_check_raises(database: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Stopped("enough")

    def write() -> None:
        with database.write(check=check) as connection:
            loads.begin(connection, 1)
            connection.execute(endless)

    with pytest.raises(Stopped, match="enough"):
        write()
    assert asked == 3
    with database.write() as connection:
        # Nothing of it is there, and the connection is of use again.
        assert loads.begin(connection, 2) == 1


def test_a_writer_that_is_not_wanted_any_more_does_not_wait_for_its_turn(database: Database) -> None:
    def check() -> None:
        raise Stopped("enough")

    def write() -> None:
        with pytest.raises(Stopped, match="enough"), database.write(check=check):
            raise AssertionError("there was no turn to have")

    with database.write(), ThreadPoolExecutor(1) as pool:
        pool.submit(write).result(10)
