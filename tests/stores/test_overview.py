"""The overview: every number is that of a report, and what stands out is in order."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from conftest import load_folder
from store_helpers import ZONE

from storemon_flask import clock
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.formatting import knows_little
from storemon_flask.model import DAY_US, Rules
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest, check
from storemon_flask.stores import live_list, overview
from storemon_flask.stores.overview import Overview, Sums, compute_overview

# A Thursday; in Kiribati it is Friday already.
NOW = datetime(2024, 11, 7, 15, 47, 11, tzinfo=UTC)
ZONES = ("America/New_York", "Pacific/Kiritimati", "Asia/Kolkata", "UTC")
DAYS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The feeds of 14 stores over 40 days: store 1 is down more and more, store 2 was down last week, 3 is not polled,
    4 has few polls."""
    folder = tmp_path_factory.mktemp("overview")
    polls, hours, zones, stores = [], [], [], []
    for number in range(14):
        store_id = f"s{number:02d}"
        stores.append([store_id, f"Kitchen {number}", ("North", "South", "")[number % 3]])
        if number != 5:
            zones.append([store_id, ZONES[number % 4]])
        if number % 2:
            hours += [[store_id, str(day), "10:00", "22:30"] for day in range(7 if number % 5 else 5)]
        for back in range(DAYS * 24):
            at = NOW - timedelta(hours=back, minutes=(number * 7 + back) % 50)
            down = (number * 31 + back * 17) % 23 == 0
            down |= number == 1 and back < 60 and back % 3 > 0
            down |= number == 2 and 7 * 24 < back < 10 * 24
            if number != 3 and (number != 4 or back % 60 == 0):
                polls.append([store_id, f"{at:%Y-%m-%d %H:%M:%S} UTC", "inactive" if down else "active"])
    for name, header, rows in (
        ("polls", ["store_id", "timestamp_utc", "status"], polls),
        ("hours", ["store_id", "day", "start_time_local", "end_time_local"], hours),
        ("zones", ["store_id", "timezone_str"], zones),
        ("stores", ["store_id", "name", "group"], stores),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *rows])
    return folder


@pytest.fixture(scope="module")
def fleet(folder, tmp_path_factory):
    made = Database(tmp_path_factory.mktemp("home") / "storemon.db")
    load_folder(made, folder)
    yield made
    made.close()


def overview_of(database: Database, now: datetime = NOW) -> Overview:
    now_us = clock.parse_timestamp(now.isoformat())
    return compute_overview(database, live_list.compute_snapshot(database, Rules(), ZONE, now_us), Rules(), ZONE)


@pytest.fixture(scope="module")
def made(fleet):
    return overview_of(fleet)


def report(database, made, **fields):
    """The rows of a report at the as-of of the overview."""
    query = check(ReportRequest(made.as_of.as_of_us, "full", None, fields))
    text = compute.compute(database, query, Rules(), ZONE).csv
    return list(csv.DictReader(io.StringIO(text, newline="")))


def local_dates(made, store, first, last):
    """The window of local dates from `first` days to `last` days after today in a store's zone, the last included."""
    today = datetime.fromtimestamp(made.as_of.as_of_us / 1e6, UTC).astimezone(zone_of(made, store)).date()
    edges = (today + timedelta(days=first), today + timedelta(days=last + 1))
    return {"from": edges[0].isoformat(), "to": edges[1].isoformat(), "name": "w"}


def zone_of(made, store):
    from zoneinfo import ZoneInfo

    return ZoneInfo(made.timezones[store])


def cells(sums: Sums) -> dict[str, str]:
    """What a report shows of sums."""
    amounts = {name: f"{sums.hundredths(name) / 100:.2f}" for name in ("uptime", "downtime", "unknown", "business")}
    return amounts | {"uptime_percent": f"{sums.percent / 100:.2f}" if sums.percent >= 0 else ""}


def row_cells(row):
    return {name: row[f"{name}_w"] for name in ("uptime", "downtime", "unknown", "business", "uptime_percent")}


def test_each_window_of_each_store_is_that_of_a_report(fleet, made):
    now = datetime.fromtimestamp(made.as_of.as_of_us / 1e6, UTC)
    assert made.as_of.as_of_us == clock.parse_timestamp(NOW.isoformat())
    for store, store_id in enumerate(made.ids):
        local = now.astimezone(zone_of(made, store))
        windows = {
            "today": local_dates(made, store, 0, 0),
            "this_week": local_dates(made, store, -local.weekday(), 0),
            "this_month": local_dates(made, store, 1 - local.day, 0),
        }
        before = local - timedelta(days=7)
        monday = (before - timedelta(days=before.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        windows["previous_this_week"] = {"from": monday.isoformat(), "to": before.isoformat(), "name": "w"}
        for name, window in windows.items():
            (row,) = (one for one in report(fleet, made, windows=[window]) if one["store_id"] == store_id)
            sums = Sums(*(int(made.windows[name][one][store]) for one in overview._MEASURES))
            assert row_cells(row) == cells(sums), (store_id, name)
            assert row["uptime_low_w"] == f"{sums.hundredths('uptime_low') / 100:.2f}"
            assert row["uptime_high_w"] == f"{sums.hundredths('uptime_high') / 100:.2f}"


def likely_cell(bound: int) -> str:
    """What a report shows of a bound of the likely range."""
    return f"{bound / 100:.2f}" if bound >= 0 else ""


def test_the_fleet_has_the_change_and_the_likely_range_of_a_report(fleet, made):
    database_report = compute.compute(
        fleet,
        check(
            ReportRequest(
                made.as_of.as_of_us, "full", None, {"windows": ["this_week"], "compare": "previous", "totals": True}
            )
        ),
        Rules(),
        ZONE,
    ).csv
    rows = list(csv.DictReader(io.StringIO(database_report, newline="")))
    (total,) = (row for row in rows if row["kind"] == "fleet")
    week = made.fleet("this_week")
    assert total["uptime_percent_previous_this_week"] == f"{made.fleet('previous_this_week').percent / 100:.2f}"
    assert float(total["change_points_this_week"]) == made.change / 100
    for name, bound in zip(("low", "high"), week.percent_likely, strict=True):
        assert total[f"uptime_percent_likely_{name}_this_week"] == likely_cell(bound)
    for row in overview.group_rows(made, "group")[:2]:
        (total,) = (one for one in rows if one["kind"] == "group" and one["group"] == row.name)
        low, high = row.windows["this_week"].percent_likely
        assert total["uptime_percent_likely_low_this_week"] == likely_cell(low)
        assert total["uptime_percent_likely_high_this_week"] == likely_cell(high)
        assert float(total["change_points_this_week"]) == row.change / 100
    for row in overview.most_changed_stores(made):
        (one,) = (one for one in rows if one["store_id"] == row.store_id)
        assert one["uptime_percent_previous_this_week"] == f"{row.previous_week.percent / 100:.2f}"


def test_the_trend_is_the_fleet_by_day(fleet, made):
    rows = overview.trend(made, 30)
    assert len(rows) == 30
    first, end = clock.date_text(rows[0].day), clock.date_text(rows[-1].day + 1)
    assert end == "2024-11-09"
    by_day = report(fleet, made, windows=[{"from": first, "to": end}], by="day", totals=True)
    expected = {
        row["period"]: [row[f"{name}_hours"] for name in ("uptime", "downtime", "unknown")]
        for row in by_day
        if row["kind"] == "fleet"
    }
    assert {
        clock.date_text(row.day): [f"{row.sums.hundredths(name) / 100:.2f}" for name in overview._MEASURES[:3]]
        for row in rows
    } == expected


def test_groups_are_totals_of_a_report(fleet, made):
    rows = {row.name: row for row in overview.group_rows(made, "group")}
    assert set(rows) == {"North", "South", ""}
    assert sum(row.stores for row in rows.values()) == 14
    assert rows["South"].without_timezone == 0
    assert rows[""].without_timezone == 1
    assert sum(row.without_hours for row in rows.values()) == 7
    today = local_dates(made, 3, 0, 0)
    days = report(fleet, made, windows=[today], totals=True)
    # The zones of the others have another date.
    for name in ("North", "South"):
        (row,) = (one for one in days if one["kind"] == "group" and one["group"] == name)
        dates = [day for day in rows[name].days if clock.date_text(day.day) == today["from"]]
        assert row_cells(row) == cells(dates[0].sums)


def test_groups_by_zone_and_their_order(made):
    by_zone = overview.group_rows(made, "timezone")
    assert {row.name for row in by_zone} == {*ZONES, "America/Chicago"}
    percents = [row.windows["this_week"].percent for row in by_zone if not row.windows["this_week"].little_known]
    assert percents == sorted(percents)
    for sort in overview.GROUP_SORTS:
        up = overview.group_rows(made, "group", sort)
        down = overview.group_rows(made, "group", sort, descending=True)
        # The stores without a group are below the groups, either way.
        assert [up[-1].name, down[-1].name] == ["", ""]
        assert {row.name for row in up} == {row.name for row in down} == {"North", "South", ""}
    names = [row.name for row in overview.group_rows(made, "group", "name", descending=True)]
    assert names == ["South", "North", ""]
    stores = [row.stores for row in overview.group_rows(made, "timezone", "stores", descending=True)]
    assert stores == sorted(stores, reverse=True)


def test_what_groups_cannot_be_made_by_is_refused(made):
    with pytest.raises(Unprocessable, match=r"by is 'colour'; it must be one of group, timezone"):
        overview.check_grouping(made, "colour")


def test_the_worst_know_enough_and_come_in_order(made):
    rows = overview.worst_stores(made)
    assert rows[0].store_id == "s01"
    assert len(rows) == 10
    assert "s03" not in [row.store_id for row in rows]
    enough = [row for row in rows if not row.week.little_known]
    assert rows[: len(enough)] == enough
    assert [row.week.percent for row in enough] == sorted(row.week.percent for row in enough)
    worst_of_group = {row.name: row.worst.store_id for row in overview.group_rows(made, "group")}
    assert worst_of_group["South"] == "s01"


def test_the_most_changed_were_known_in_both_weeks(made):
    rows = overview.most_changed_stores(made)
    assert {rows[0].store_id, rows[1].store_id} == {"s01", "s02"}
    sizes = [abs(row.change) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0
    for row in rows:
        for sums in (row.week, row.previous_week):
            assert not knows_little(sums.hundredths("unknown"), sums.hundredths("business"))
    (better,) = (row for row in rows if row.store_id == "s02")
    (worse,) = (row for row in rows if row.store_id == "s01")
    assert worse.change < 0 < better.change


def test_the_hours_of_the_week_are_those_of_a_report(fleet, made):
    first, end = (clock.date_text(day) for day in made.heat_days)
    rows = report(fleet, made, windows=[{"from": first, "to": end}], by="hour")
    down = np.zeros((7, 24))
    for row in rows:
        at = datetime.fromisoformat(row["period"])
        down[at.weekday(), at.hour] += float(row["downtime_minutes"])
    sums = overview.hour_sums(made)
    minutes = np.array([[hour.downtime / 60e6 for hour in day] for day in sums])
    np.testing.assert_allclose(minutes, down, atol=0.005 * len(rows) / 168)
    assert minutes.sum() > 1000


def test_counts_and_change_of_the_fleet(made):
    assert sum(made.counts.values()) == 14
    assert made.counts["no_data"] == 1
    week, before = made.fleet("this_week"), made.fleet("previous_this_week")
    assert made.change == week.percent - before.percent
    assert overview.change_between(Sums(), week) is None
    assert week.business == week.uptime + week.downtime + week.unknown
    assert 0 <= week.percent_low <= week.percent_high <= 10_000


def test_a_store_that_came_after_the_snapshot_has_no_data(fleet, made):
    snapshot = live_list.compute_snapshot(fleet, Rules(), ZONE, made.as_of.as_of_us)
    older = replace(
        snapshot, ids=snapshot.ids[1:], columns={name: values[1:] for name, values in snapshot.columns.items()}
    )
    assert compute_overview(fleet, older, Rules(), ZONE).counts["no_data"] == made.counts["no_data"] + 1


def test_on_a_monday_the_week_is_a_part_of_a_day(fleet):
    monday = overview_of(fleet, datetime(2024, 11, 4, 12, tzinfo=UTC))
    for name in overview._MEASURES:
        utc = [index for index, zone in enumerate(monday.timezones) if zone == "UTC"]
        np.testing.assert_array_equal(monday.windows["this_week"][name][utc], monday.windows["today"][name][utc])
    assert monday.fleet("previous_this_week").business < 14 * DAY_US
