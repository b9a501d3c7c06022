"""The counters of rows that came in: from 0 at the start of a server, never back, whatever is pruned or restored."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Server, http, storemon
from prometheus_client.parser import text_string_to_metric_families

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.settings import Settings
from storemon_flask.stores.list_cache import ListCache
from storemon_flask.web import metrics
from storemon_flask.web.metrics import OUTCOMES, DataCollector

HEAD = "store_id,timestamp_utc,status\n"
FEEDS = ("polls", "hours", "timezones", "special_hours", "stores", "none")


class Pushes:
    """Loads of polls that were never sent before, by one who is not the collector."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.database = Database(settings.database)
        self._file = folder / "polls.csv"
        self._next = 0

    def push(self, rows: int) -> None:
        stamps = (f"2023-01-25 {at // 60:02d}:{at % 60:02d}:00" for at in range(self._next, self._next + rows))
        self._file.write_text(HEAD + "".join(f"a,{stamp} UTC,active\n" for stamp in stamps))
        self._next += rows
        found = sources.find_sources([self._file])
        assert load.load_sources(self.database, found, load.LoadOptions(time.time_ns() // 1000, 0)).load

    def prune_all(self) -> None:
        """Every load that there is goes, and no poll."""
        with self.database.write() as connection:
            for table in ("load_file", "load"):
                connection.execute(f"DELETE FROM {table}")


@pytest.fixture
def pushes(settings: Settings, tmp_path: Path) -> Iterator[Pushes]:
    made = Pushes(settings, tmp_path)
    with closing(made.database):
        yield made


def begun(database: Database, settings: Settings) -> DataCollector:
    found = DataCollector(database, settings, ListCache(database, settings.rules, settings.default_timezone))
    found.begin()
    return found


Rows = dict[tuple[str, str], float]


def scrape(collector: DataCollector) -> tuple[Rows, float]:
    """The rows that came in, by feed and outcome; and the polls that are stored."""
    samples = [one for family in collector.collect() for one in family.samples]
    rows = {
        (one.labels["feed"], one.labels["outcome"]): one.value
        for one in samples
        if one.name == "storemon_loaded_rows_total"
    }
    (polls,) = (one.value for one in samples if one.name == "storemon_polls")
    return rows, polls


def new(collector: DataCollector) -> float:
    return scrape(collector)[0]["polls", "new"]


def test_what_was_there_before_is_not_counted_and_all_begins_at_nought(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    pushes.push(7)
    rows, polls = scrape(collector)
    nought = {(feed, outcome): 0 for feed in FEEDS for outcome in OUTCOMES}
    assert rows == {**nought, ("polls", "new"): 7}
    assert polls == 17
    assert new(collector) == 7
    assert new(begun(database, settings)) == 0


def test_numbers_that_are_given_again_after_a_prune_are_counted(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    collector = begun(database, settings)
    for _ in range(3):
        pushes.push(10)
    assert new(collector) == 30
    pushes.prune_all()
    for _ in range(4):
        pushes.push(7)
    # Numbers 1 to 3 were given twice, and nobody looked in between.
    assert new(collector) == 58
    pushes.prune_all()
    assert new(collector) == 58
    pushes.push(1)
    assert new(collector) == 59


def test_a_prune_of_the_newest_files_alone_hides_none(settings: Settings, database: Database, pushes: Pushes) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    pushes.push(1)
    pushes.push(2)
    assert new(collector) == 3
    with pushes.database.write() as connection:
        # A long load that began first ends last: its file has the highest number, and is the first to go.
        connection.execute("DELETE FROM load_file WHERE id = 3")
    pushes.push(4)
    assert new(collector) == 7


def test_the_clock_may_be_set_back_while_files_are_pruned(
    settings: Settings, database: Database, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 3_600 * 10**9)
    pushes.push(5)
    assert new(collector) == 5


def test_no_more_than_some_files_are_remembered(
    settings: Settings, database: Database, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_REMEMBERED_FILES", 2)
    collector = begun(database, settings)
    for _ in range(5):
        pushes.push(1)
    assert new(collector) == 5
    with pushes.database.write() as connection:
        connection.execute("DELETE FROM load_file WHERE id > 2")
    pushes.push(3)
    assert new(collector) == 8
    assert new(collector) == 8


def test_a_restored_backup_turns_no_counter_back(settings: Settings, database: Database, pushes: Pushes) -> None:
    pushes.push(4)
    collector = begun(database, settings)
    kept = settings.home / "kept.db"
    with closing(sqlite3.connect(settings.database)) as source, closing(sqlite3.connect(kept)) as target:
        source.backup(target)
    pushes.push(1)
    rows, polls = scrape(collector)
    assert (rows["polls", "new"], polls) == (1, 5)
    with closing(sqlite3.connect(kept)) as source, closing(sqlite3.connect(settings.database)) as target:
        source.backup(target)
    rows, polls = scrape(collector)
    assert (rows["polls", "new"], polls) == (1, 4)
    pushes.push(2)
    assert new(collector) == 3


def test_another_database_in_its_place_did_not_come_in(
    settings: Settings, database: Database, pushes: Pushes, tmp_path: Path
) -> None:
    other = Pushes(replace(settings, database=tmp_path / "other.db"), tmp_path)
    other.push(3)
    other.database.close()
    pushes.push(9)
    collector = begun(database, settings)
    assert new(collector) == 0
    pushes.database.close()
    database.close()
    for suffix in ("-wal", "-shm"):
        settings.database.with_name(settings.database.name + suffix).unlink(missing_ok=True)
    (tmp_path / "other.db").replace(settings.database)
    rows, polls = scrape(collector)
    assert (rows["polls", "new"], polls) == (0, 3)
    pushes.push(3)
    assert new(collector) == 3


def test_a_database_that_could_not_be_read_at_the_start_does_not_come_in_later(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    pushes.push(4)
    pushes.database.close()
    whole = settings.database.read_bytes()
    settings.database.write_bytes(b"this is no database at all" * 100)
    collector = begun(database, settings)
    settings.database.write_bytes(whole)
    assert new(collector) == 0
    pushes.push(2)
    assert new(collector) == 2


def test_a_server_counts_pushes_and_what_a_command_loads_beside_it_and_begins_anew(
    serve: Callable[..., Server], settings: Settings, small_fleet: Path, database: Database, tmp_path: Path
) -> None:
    database.close()

    def polls(server: Server) -> dict[str, float]:
        families = text_string_to_metric_families(server.get("/metrics").body.decode())
        samples = [one for family in families for one in family.samples if one.name == "storemon_loaded_rows_total"]
        return {one.labels["outcome"]: one.value for one in samples if one.labels["feed"] == "polls" and one.value}

    server = serve()
    # Nobody has looked at /metrics yet.
    body = HEAD + "worked,2024-10-14 11:20:00 UTC,active\nworked,noon,active\n"
    assert http(f"{server.url}/api/v1/feeds/polls", "POST", body.encode()).json["new"] == 1
    file = tmp_path / "more.csv"
    file.write_text(HEAD + "worked,2024-10-14 11:21:00 UTC,active\nworked,2024-10-14 11:22:00 UTC,active\n")
    assert storemon(settings.home, "load-data", str(file)).returncode == 0
    assert polls(server) == {"new": 3, "rejected": 1}
    pruned = storemon(settings.home, "prune", "--before", now_text(), "--yes")
    assert pruned.returncode == 0, pruned.stderr
    assert polls(server) == {"new": 3, "rejected": 1}
    server.end()
    assert polls(serve()) == {}


def now_text() -> str:
    """This instant, as a command takes it."""
    whole, us = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{us:06d}Z"
