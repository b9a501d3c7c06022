"""What is left beside a database that everybody has closed: nothing, so that the file alone is all of it."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, Server, sql

from storemon_flask.database.db import Database
from storemon_flask.settings import Settings


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
from storemon_flask.database.db import Database

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
