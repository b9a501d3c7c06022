"""A made fleet of stores for the tests of pages, loaded into a database."""

import csv
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources

HOSTILE = ("<script>alert(1)</script>", "مطعم السلام", "🍕/..?#&", "x" * 200)
ZONES = ("America/New_York", "America/Denver", "Asia/Kolkata", "UTC")


def write_fleet(folder: Path, stores: int, newest: datetime, hours: int = 49, always_open: bool = False) -> list[str]:
    """A poll an hour up to `newest`; every fifth store off in the last hours, every seventh without polls for half a
    day. Open 24x7, but for every third (unless `always_open`): 08:00 to 20:00. The ids, in code point order."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [*HOSTILE, *(f"store-{number:05d}" for number in range(stores - len(HOSTILE)))]
    instants = [f"{newest - timedelta(hours=back):%Y-%m-%d %H:%M:%S} UTC" for back in range(hours)]
    tables: dict[str, list[list[str]]] = {
        "polls.csv": [["store_id", "timestamp_utc", "status"]],
        "hours.csv": [["store_id", "day", "start_time_local", "end_time_local"]],
        "zones.csv": [["store_id", "timezone_str"]],
        "stores.csv": [["store_id", "name", "group"]],
    }
    for place, store_id in enumerate(ids):
        tables["polls.csv"] += [
            [store_id, instant, "inactive" if place % 5 == 0 and back < 5 else "active"]
            for back, instant in enumerate(instants)
            if not (place % 7 == 0 and 12 <= back < 40)
        ]
        if place % 3 == 0 and not always_open:
            tables["hours.csv"] += [[store_id, str(day), "08:00", "20:00"] for day in range(7)]
        tables["zones.csv"].append([store_id, ZONES[place % len(ZONES)]])
        name = f"{HOSTILE[place % 4][:40]} {place}" if place < 8 else f"Kitchen {place}"
        tables["stores.csv"].append([store_id, name, "North" if place % 2 else "South"])
    for name, rows in tables.items():
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return sorted(ids)


def load_fleet(database: Database, folder: Path) -> None:
    """What is in the folder becomes the data; the database is closed afterwards."""
    found = sources.find_sources([folder])
    result = load.load_sources(database, found, load.LoadOptions(time.time_ns() // 1000, 300_000_000))
    assert (result.failed, result.rejected) == (False, 0)
    database.close()


def live(database: Database, folder: Path, always_open: bool = False) -> None:
    """500 stores; the newest poll is from a few minutes ago."""
    write_fleet(folder, 500, datetime.now(UTC) - timedelta(minutes=3), always_open=always_open)
    load_fleet(database, folder)


def clocks_back(database: Database, folder: Path) -> None:
    """500 stores as of 2024-11-03 20:00 UTC: the day on which New York and Denver turn their clocks back."""
    write_fleet(folder, 500, datetime(2024, 11, 3, 20, tzinfo=UTC), hours=72)
    load_fleet(database, folder)
