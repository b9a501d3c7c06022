"""A fleet with outages, for the tests of the likely range."""

import numpy as np
import pytest

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, WEEK_US, Rules

# Monday to Sunday of four weeks.
FIRST_US = 1_727_654_400_000_000
AS_OF_US = FIRST_US + 4 * WEEK_US
RULES = Rules()
ZONE = "Etc/UTC"
STORES = 24


@pytest.fixture
def outages_fleet(database: Database, tmp_path):
    """Stores that are open from 08:00 to 20:00, polled every 20 minutes, with outages of 10 to 150 minutes; one of them
    has no polls in half of its hours."""
    random = np.random.default_rng(5)
    folder = tmp_path / "feeds"
    folder.mkdir()
    polls, hours, names = ["store_id,timestamp_utc,status"], ["store_id,dayOfWeek,start_time_local,end_time_local"], []
    for number in range(STORES):
        names.append(f"s{number:02d},Store {number},{'North' if number % 3 else 'South'}")
        hours += [f"s{number:02d},{day},08:00,20:00" for day in range(7)]
        for day in range(28):
            down = np.zeros(720, dtype=bool)
            at = random.exponential(1500)
            while at < 720:
                length = random.exponential(60)
                down[int(at) : int(at + length)] = True
                at += length + random.exponential(1500)
            start = np.datetime64(FIRST_US + day * DAY_US, "us") + np.timedelta64(8, "h")
            for minute in range(int(random.integers(20)), 720, 20):
                if number == 0 and minute < 360:
                    continue
                stamp = str(start + np.timedelta64(minute, "m")).replace("T", " ")[:19]
                polls.append(f"s{number:02d},{stamp} UTC,{'inactive' if down[minute] else 'active'}")
    (folder / "polls.csv").write_text("\n".join(polls) + "\n")
    (folder / "hours.csv").write_text("\n".join(hours) + "\n")
    zones = [f"s{number:02d},{ZONE}" for number in range(STORES)]
    (folder / "zones.csv").write_text("\n".join(["store_id,timezone_str", *zones]) + "\n")
    (folder / "names.csv").write_text("\n".join(["store_id,name,group", *names]) + "\n")
    load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(AS_OF_US, 0))
    return database
