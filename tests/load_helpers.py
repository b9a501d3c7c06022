"""A database and files for the tests of loading."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ingest_helpers import csv, put, query

from storemon_flask.database.connections import Database
from storemon_flask.feeds.csv_exact import BlockReader


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "home" / "storemon.db")) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV under the test's own folder."""

    def write(name: str, header: str, *rows: str) -> Path:
        return put(tmp_path / "data" / name, csv(header, *rows))

    return write


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in blocks of 4 KB, so that even a short one has many."""
    monkeypatch.setattr(BlockReader.__init__, "__defaults__", (4096,))


def polls(database: Database) -> list[tuple[str, str, str]]:
    return query(database.path, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY store_id, timestamp_utc")


def version_of(database: Database) -> int:
    return query(database.path, "SELECT version FROM data_version")[0][0]


def many(chance: random.Random, rows: int) -> list[str]:
    """Rows of many stores over several weeks, with many repeats."""
    return [
        f"s{chance.randrange(80)},2023-{chance.randint(1, 2):02d}-{chance.choice((1, 8, 15, 21, 28)):02d} "
        f"{chance.choice((0, 12)):02d}:00:00.{chance.randrange(2):06d} UTC,{chance.choice(('active', 'inactive'))}"
        for _ in range(rows)
    ]
