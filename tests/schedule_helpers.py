"""A small fleet with a history of two weeks, schedules of it, and the messages that they cause."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import load_folder, sql
from load_helpers import us
from worker_helpers import Clock

from storemon_flask.clock import timestamp_text
from storemon_flask.database import channels
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.schedules import catalogue
from storemon_flask.schedules.catalogue import NewSchedule, ScheduleView
from storemon_flask.schedules.runner import Runner
from storemon_flask.settings import Secret, Settings

# Monday 07:00 in New York.
DUE_US = us("2024-10-14T11:00:00")
FIRST_US = us("2024-10-05T00:00:00")
STORES = 14


def polls(first_us: int, end_us: int) -> str:
    """Hourly polls of the fleet: store N is down for N hours on Wednesday, and store 13 is polled on two days of seven."""
    lines = ["store_id,timestamp_utc,status"]
    wednesday = us("2024-10-09T17:00:00")
    for number in range(STORES):
        for at in range(first_us + number * MINUTE_US, end_us, HOUR_US):
            down = wednesday <= at < wednesday + number * HOUR_US
            if number < 13 or at // DAY_US % 7 < 2:
                lines.append(f"store-{number:02d},{timestamp_text(at)},{'inactive' if down else 'active'}")
    return "\n".join(lines) + "\n"


def load_polls(database: Database, folder: Path, first_us: int, end_us: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "polls.csv").write_text(polls(first_us, end_us))
    load_folder(database, folder)


@pytest.fixture
def weeks(database: Database, tmp_path: Path) -> Database:
    """Fourteen stores of two groups, open from 9 to 21, polled until ten minutes before the report is due."""
    folder = tmp_path / "feeds"
    folder.mkdir()
    ids = [f"store-{number:02d}" for number in range(STORES)]
    (folder / "hours.csv").write_text(
        "store_id,day,start_time_local,end_time_local\n"
        + "".join(f"{one},{day},09:00,21:00\n" for one in ids for day in range(7))
    )
    (folder / "zones.csv").write_text(
        "store_id,timezone_str\n"
        + "".join(f"{one},{('America/New_York', 'America/Los_Angeles')[n % 2]}\n" for n, one in enumerate(ids))
    )
    (folder / "names.csv").write_text(
        "store_id,name,group\n"
        + "".join(f"{one},Shop <{n}> & Söhne,{('North', 'South')[n % 2]}\n" for n, one in enumerate(ids))
    )
    (folder / "polls.csv").write_text(polls(FIRST_US, DUE_US - 10 * MINUTE_US))
    load_folder(database, folder)
    return database


def add_channel(database: Database, name: str, kind: str = "email", address: str = "boss@shops.example") -> int:
    with database.write() as connection:
        return channels.add(connection, Channel(0, name, kind, Secret(address), Secret(""), Filters(), None, None, 1))


def add_schedule(database: Database, settings: Settings, **fields: Any) -> ScheduleView:
    """A schedule that was added two days before its report is due."""
    new = {"name": "Shops", "due": "weekly mon 07:00", "zone": "America/New_York", "report": {}, **fields}
    return catalogue.add(database, settings, NewSchedule(**new), DUE_US - 2 * DAY_US)


def make_runner(
    database: Database, settings: Settings, clock: Clock, wake: Callable[[], object] = lambda: None
) -> Runner:
    """A runner whose reports are computed at once."""
    worker = Worker(database, settings, InlineExecutor(), Scheduler(clock, threaded=False), clock)
    return Runner(worker, wake, clock)


def runs(settings: Settings) -> list[tuple[str, str, str]]:
    """When each run was due, its state and its note."""
    rows = sql(settings.database, "SELECT due_us, state, note FROM schedule_run ORDER BY due_us")
    return [(timestamp_text(due_us)[:16], state, note) for due_us, state, note in rows]


def messages(settings: Settings) -> dict[str, Any]:
    """The contents of all messages by their ids."""
    return {name: json.loads(content) for name, content in sql(settings.database, "SELECT id, content FROM message")}
