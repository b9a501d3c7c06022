"""A database file in the making, for tests of storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import sql

from storemon_flask.database import schema
from storemon_flask.database.connections import Database

TABLES = {
    "store_record", "poll_week", "hours", "special_hours", "timezone", "load", "load_file", "reject", "report", "report_text", "data_version", "api_key", "secret",
}  # fmt: skip


MIGRATIONS = [migration.__name__ for migration in schema.MIGRATIONS]


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
