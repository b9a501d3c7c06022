"""What is left beside a database that everybody has closed: nothing, so that the file alone is all of it."""

from pathlib import Path

from conftest import Server, sql

from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database


def beside(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()} - {file.name, f"{file.name}.server-lock"}


def test_whoever_read_before_it_wrote_leaves_no_log_behind(
    small_fleet: Path, database: Database, settings: Settings
) -> None:
    database.close()
    with database.read() as connection:
        connection.execute("SELECT count(*) FROM store").fetchone()
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
