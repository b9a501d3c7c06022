"""Readers and writers of one database side by side."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, Server, load_folder, sql, storemon, wait_until
from database_helpers import file as file
from database_helpers import opened as opened

from storemon_flask.cli.info import info_rows
from storemon_flask.database import connections, loads, polls, stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, Stopped
from storemon_flask.settings import Settings


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
    assert 0.45 < waited < PATIENCE_S
    assert sql(file, "SELECT id FROM load") == [(1,)]


def test_a_writer_that_waits_in_vain_says_so_in_a_sentence(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
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
        assert time.monotonic() - started < PATIENCE_S
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
    found = info_rows(settings, database)
    assert ("stores", "4") in found
    assert ("polls", "4") in found
    assert ("newest poll", "2024-10-14T12:00:00.000000Z") in found
    assert ("loads", "1, 0 rows rejected") in found


def test_a_write_inside_a_write_raises_at_once(database: Database) -> None:
    with database.write() as connection:
        loads.begin(connection, 1)
        with pytest.raises(RuntimeError, match="a write inside a write of the same thread"), database.write():
            pass
        loads.begin(connection, 2)
    assert sql(database.path, "SELECT id FROM load") == [(1,), (2,)]


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
            wait_until(lambda: len(database._line._waiting) == len(threads) + 1, "the next in the line")
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
    with database.write(even_stopping=True) as connection:
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
        pool.submit(write).result(PATIENCE_S)


def beside(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()} - {file.name, f"{file.name}.server-lock"}


def test_whoever_read_before_it_wrote_leaves_no_log_behind(
    small_fleet: Path, database: Database, settings: Settings
) -> None:
    database.close()
    with database.read() as connection:
        connection.execute("SELECT count(*) FROM store_record").fetchone()
    with database.write() as connection:
        connection.execute("INSERT INTO load (started_us) VALUES (7)")
    database.close()
    assert beside(settings.database) == set()
    assert sql(settings.database, "SELECT count(*) FROM load WHERE started_us = 7") == [(1,)]


def test_a_server_that_stops_in_good_order_leaves_no_log_behind(server: Server, settings: Settings) -> None:
    server.wait_for(server.trigger())
    assert server.end() == 0
    assert beside(settings.database) == set()
    assert sql(settings.database, "SELECT state FROM report") == [("complete",)]


def test_who_reads_while_the_database_is_closed_reads_to_the_end(small_fleet: Path, database: Database) -> None:
    reading, closed = threading.Event(), threading.Event()
    found: list[object] = []

    def read() -> None:
        with database.read() as connection:
            reading.set()
            assert closed.wait(30)
            found.append(connection.execute("SELECT count(*) FROM store_record").fetchone())
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("SELECT 1")
        found.append("closed")

    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(30)
    database.close()
    closed.set()
    thread.join(30)
    assert found == [(4,), "closed"]
    assert beside(database.path) == set()


def test_a_write_that_began_before_the_close_is_committed(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO load (started_us) VALUES (7)")
        database.close()
        connection.execute("INSERT INTO load (started_us) VALUES (8)")
    assert sql(database.path, "SELECT started_us FROM load ORDER BY 1") == [(7,), (8,)]
    assert beside(database.path) == set()


def test_a_reader_keeps_its_file_when_another_takes_its_place(
    small_fleet: Path, database: Database, tmp_path: Path
) -> None:
    other = Database(tmp_path / "other.db")
    other.prepare()
    other.close()
    database.close()
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM store_record").fetchone() == (4,)
        other.path.replace(database.path)
        with database.read() as inner:
            assert inner.execute("SELECT count(*) FROM store_record").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM store_record").fetchone() == (4,)
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM store_record").fetchone() == (0,)


READERS = """
import sys, threading, time
from pathlib import Path
from storemon_flask.database.connections import Database

database, wrong, done = Database(Path(sys.argv[1])), set(), threading.Event()
database.prepare()

def read():
    while not done.is_set():
        try:
            with database.read() as connection:
                rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) SELECT sum(i) FROM n"
                assert connection.execute(rows).fetchone() == (40504500,)
        except BaseException as error:
            wrong.add(repr(error))

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(300):
    time.sleep(0.003)
    database.close()
done.set()
for thread in threads:
    thread.join()
print(sorted(wrong))
"""


def test_closing_again_and_again_beside_readers_crashes_nothing(tmp_path: Path) -> None:
    # In a process of its own: what went wrong here once was a segmentation fault.
    done = subprocess.run(
        [sys.executable, "-c", READERS, str(tmp_path / "storemon.db")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
