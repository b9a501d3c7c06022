"""A database file in the making, a backup, and what is restored from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import load_folder, sql
from database.test_backup import dump

from storemon_flask.database import backup as copies
from storemon_flask.database import schema
from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

TABLES = {
    "incident",
    "channel",
    "message",
    "notice",
    "delivery",
    "schedule",
    "schedule_channel",
    "schedule_run",
    "store_record", "poll_week", "hours", "special_hours", "timezone", "load", "load_file", "reject", "report", "report_text", "data_version", "api_key", "push_token", "secret",
    "poll_change", "fact_change", "removed_store", "day_sum", "day_sum_state",
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


NOW_US = 1_730_000_000_000_000


KEPT = "storemon.db.before-restore-20241027T033320Z"


@pytest.fixture
def backup(small_fleet: Path, settings: Settings, database: Database, tmp_path: Path) -> Path:
    """A backup of the tiny fleet, whose database has had one load more since."""
    target = tmp_path / "b.db"
    copies.backup(settings.database, target)
    more = tmp_path / "more"
    more.mkdir()
    (more / "polls.csv").write_text("store_id,timestamp_utc,status\nlater,2024-10-15 09:00:00 UTC,active\n")
    load_folder(database, more)
    database.close()
    return target


def content(file: Path) -> list[str]:
    """Everything but the data version, which goes on counting, and the token of the sums of days, which is another."""
    versions = ('INTO "data_version"', 'INTO "day_sum_state"')
    return [line for line in dump(file) if not any(version in line for version in versions)]
