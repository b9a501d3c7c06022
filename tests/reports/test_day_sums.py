"""Sums of local days, held against the report that cuts the same days out of its window."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import load_folder
from report_helpers import fleet as fleet

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, HOUR_US, Rules
from storemon_flask.reports import compute
from storemon_flask.reports.day_sums import DaySums, read_day_sums
from storemon_flask.reports.request import ReportRequest
from storemon_flask.uptime.measures import MEASURES

ZONE = "America/Chicago"
EPOCH = date(1970, 1, 1)
# Store and day, to the measures in the order of `MEASURES`.
ByDay = dict[tuple[int, int], tuple[int, ...]]


def day_number(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


def sums_of(database: Database, first: str, last: str, as_of_us: int, rules: Rules, zone: str = ZONE) -> DaySums:
    shares: list[float] = []
    with database.read() as connection:
        schedule = readings.read_schedule(database, connection, zone, None, as_of_us)
        days = read_day_sums(
            database, connection, schedule, day_number(first), day_number(last), as_of_us, rules, shares.append
        )
    assert shares == sorted(shares)
    return days


def by_day(days: DaySums) -> ByDay:
    """The sums of days that are not all 0."""
    rows = zip(days.store.tolist(), days.day.tolist(), *(days.sums[name].tolist() for name in MEASURES), strict=True)
    return {(store, day): tuple(values) for store, day, *values in rows if any(values)}


def by_report(database: Database, first: str, last: str, as_of_us: int, rules: Rules, zone: str = ZONE) -> ByDay:
    """The same of the rows of a report by day."""
    end = (date.fromisoformat(last) + timedelta(days=1)).isoformat()
    request = ReportRequest(as_of_us, "full", None, {"by": "day", "windows": [{"from": first, "to": end}]})
    with database.read() as connection:
        schedule = readings.read_schedule(database, connection, zone, None, as_of_us)
        query = compute.make_query(database, request, zone, 10**9, connection)
        rows, _ = compute.measure_rows(connection, schedule, query, rules, lambda share: None)
    names = ("store", "local_us", *MEASURES)
    cells = zip(*(rows[name].tolist() for name in names), strict=True)
    return {(store, local // DAY_US): tuple(values) for store, local, *values in cells if any(values)}


@pytest.fixture
def uneven_fleet(database: Database, tmp_path: Path) -> Database:
    """Stores with no poll, with one, and with hundreds, around the end of summer time in the United States and Europe;
    with hours that changed, special hours, and zones that changed."""
    chance = np.random.default_rng(1)
    begin, end = instant("2024-10-20T00:00Z"), instant("2024-11-12T00:00Z")
    lines = ["store_id,timestamp_utc,status"]
    for number in range(30):
        for us in chance.integers(begin, end, [0, 1, 4, 300][number % 4]).tolist():
            at = str(np.datetime64(us, "us")).replace("T", " ")
            lines.append(f"s{number:02d},{at} UTC,{'active' if chance.random() < 0.7 else 'inactive'}")
    hours = [f"s{number:02d},{day},09:00,{17 + day % 5}:30," for number in range(0, 30, 3) for day in range(6)]
    hours += [f"s{number:02d},{day},20:00,03:00,2024-11-01" for number in range(0, 30, 6) for day in range(7)]
    folder = tmp_path / "feeds"
    folder.mkdir()
    for name, text in {
        "polls": "\n".join(lines),
        "hours": "store_id,day,start_time_local,end_time_local,valid_from\n" + "\n".join(hours),
        "special": "store_id,date,start_time_local,end_time_local\ns03,2024-11-03,,\ns07,2024-11-03,00:30,02:30",
        "zones": "store_id,timezone_str,valid_from\ns03,Asia/Tokyo,2024-11-02\ns06,Europe/Paris,\n"
        "s11,America/Los_Angeles,\ns15,Pacific/Kiritimati,\ns19,Asia/Kathmandu,2024-10-28\ns23,Africa/Cairo,",
        "names": "store_id,name\n" + "\n".join(f"s{number:02d},Store {number}" for number in range(30)),
    }.items():
        (folder / f"{name}.csv").write_text(text + "\n")
    load_folder(database, folder)
    return database


@pytest.mark.parametrize("as_of", ["2024-11-05T00:00Z", "2024-11-05T17:23:45.000001Z", "2024-12-01T00:00Z"])
@pytest.mark.parametrize("rules", [Rules(), Rules(HOUR_US, 3 * HOUR_US, "previous")], ids=["nearest", "previous"])
def test_each_day_has_the_sums_of_the_report_by_day(uneven_fleet: Database, as_of: str, rules: Rules) -> None:
    days = sums_of(uneven_fleet, "2024-10-25", "2024-11-06", instant(as_of), rules)
    rows = by_day(days)
    last = min("2024-11-06", as_of[:10])
    assert rows == by_report(uneven_fleet, "2024-10-25", last, instant(as_of), rules)
    assert {store for store, _ in rows} == set(range(30))
    # Every store has every day, in that order.
    size = day_number("2024-11-06") - day_number("2024-10-25") + 1
    assert len(days) == 30 * size
    assert days.store.tolist() == [store for store in range(30) for _ in range(size)]
    assert days.day.tolist() == list(range(day_number("2024-10-25"), day_number("2024-11-06") + 1)) * 30


def test_the_days_of_the_sample_add_up_to_its_report(fleet: Database) -> None:
    as_of_us = instant("2024-10-14T23:55Z")
    rows = by_day(sums_of(fleet, "2024-09-20", "2024-10-14", as_of_us, Rules()))
    assert rows == by_report(fleet, "2024-09-20", "2024-10-14", as_of_us, Rules())
    assert len({store for store, _ in rows}) == 40


def test_a_day_that_a_zone_skipped_has_nothing(database: Database, tmp_path: Path) -> None:
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\napia,Pacific/Apia\n")
    load_folder(database, tmp_path)
    days = sums_of(database, "2011-12-28", "2012-01-01", instant("2020-01-01T00:00Z"), Rules())
    assert days.sums["business"].tolist() == [DAY_US, DAY_US, 0, DAY_US, DAY_US]
    assert days.sums["unknown"].tolist() == days.sums["business"].tolist()


def test_days_after_the_as_of_and_no_stores_are_empty(database: Database, tmp_path: Path) -> None:
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\none,UTC\n")
    load_folder(database, tmp_path)
    days = sums_of(database, "2024-10-14", "2024-10-16", instant("2024-10-15T06:00Z"), Rules())
    assert days.sums["business"].tolist() == [DAY_US, 6 * HOUR_US, 0]
    later = sums_of(database, "2024-10-14", "2024-10-16", instant("2024-10-01T00:00Z"), Rules())
    assert not any(values.any() for values in later.sums.values())
    with database.read() as connection:
        nobody = readings.read_schedule(database, connection, ZONE, [], instant("2024-10-15T06:00Z"))
        none = read_day_sums(database, connection, nobody, 20_000, 20_001, 1, Rules(), lambda share: None)
    assert len(none) == 0
