"""The likely range of reports: its columns, totals, the model of the fleet, and that they agree with each other."""

import csv
import io
from itertools import pairwise

import numpy as np
import pytest
from likely_helpers import AS_OF_US, FIRST_US, RULES, STORES, ZONE
from likely_helpers import outages_fleet as outages_fleet

from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, MINUTE_US, WEEK_US
from storemon_flask.reports import compute, likely
from storemon_flask.reports.csv import LIKELY_COLUMNS
from storemon_flask.reports.request import ReportRequest
from storemon_flask.uptime.likely import BOUNDS, SUMS, likely_of_sums


def report(database: Database, columns: str = "full", stores=None, **fields):
    """The rows and the method of a report."""
    query = compute.make_query(database, ReportRequest(AS_OF_US, columns, stores, fields), ZONE, 100_000)
    text = compute.compute(database, query, RULES, ZONE)
    return list(csv.DictReader(io.StringIO(text.csv))), text.method


def test_the_last_columns_are_the_likely_range_and_within_what_is_certain(outages_fleet):
    rows, method = report(outages_fleet)
    windows = ("last_hour", "last_day", "last_week")
    assert list(rows[0])[-6:] == [f"{name}_{window}" for name in LIKELY_COLUMNS for window in windows]
    ranged = 0
    for row in rows:
        for window in windows:
            low, high = (row[f"uptime_percent_likely_{side}_{window}"] for side in ("low", "high"))
            assert (low == "") == (high == "")
            if low:
                ranged += 1
                known = float(row[f"uptime_{window}"]) + float(row[f"downtime_{window}"])
                assert 100 * float(row[f"uptime_low_{window}"]) / known - 0.5 <= float(low)
                assert float(low) <= float(high) <= 100
    assert ranged >= STORES
    # Half of its hours have no poll, so it has no range; all others have one.
    assert [row["store_id"] for row in rows if not row["uptime_percent_likely_low_last_week"]] == ["s00"]
    assert 15 < method["likely_up_hours"] < 40
    assert 40 < method["likely_down_minutes"] < 85
    assert method["likely_note"] == ""
    assert method["likely_both_down"] > 30 + method["likely_both_down_by_chance"]


def test_a_classic_report_neither_fits_nor_has_the_columns(outages_fleet, monkeypatch):
    monkeypatch.setattr(likely, "read_model", None)
    rows, method = report(outages_fleet, "classic")
    assert not any("likely" in name for name in (*rows[0], *method))


def test_a_store_has_one_range_whoever_asks(outages_fleet):
    name = "uptime_percent_likely_low_last_week"
    alone, _ = report(outages_fleet, stores=["s07"])
    among, _ = report(outages_fleet)
    asked, _ = report(outages_fleet, windows=["last_week"])
    assert alone[0][name] == among[7][name] == asked[7][name] != ""


def test_rows_by_day_are_those_of_windows_of_a_day(outages_fleet):
    days = [np.datetime64(FIRST_US + day * DAY_US, "us").astype("datetime64[D]") for day in range(14, 22)]
    windows = [{"from": str(one), "to": str(other), "name": f"d{at}"} for at, (one, other) in enumerate(pairwise(days))]
    by_window, _ = report(outages_fleet, windows=windows)
    by_day, _ = report(outages_fleet, by="day", windows=[{"from": str(days[0]), "to": str(days[-1])}])
    assert len(by_day) == 7 * STORES
    for side in LIKELY_COLUMNS:
        expected = [row[f"{side}_d{at}"] for row in by_window for at in range(7)]
        assert [row[side] for row in by_day] == expected
        assert len(set(expected)) > 10


def test_totals_have_the_range_of_the_sums_of_their_stores(outages_fleet):
    rows, _ = report(outages_fleet, totals=True, windows=["last_week"])
    lines = {row["kind"] + row["group"]: row for row in rows if row["kind"] != "store"}
    with outages_fleet.read() as connection:
        schedule = readings.read_schedule(outages_fleet, connection, ZONE, None, AS_OF_US)
        sums = likely.read_sums(
            outages_fleet, connection, schedule, AS_OF_US - WEEK_US, AS_OF_US, AS_OF_US, RULES, ZONE
        )
    assert set(SUMS) < set(sums)
    for line, chosen in (
        ("fleet", np.ones(STORES, dtype=bool)),
        ("groupNorth", np.array(schedule.groups) == "North"),
        ("groupSouth", np.array(schedule.groups) == "South"),
    ):
        total = {name: values[chosen].sum() for name, values in sums.items()}
        bounds = likely_of_sums(total)
        known = int(total["uptime"] + total["downtime"])
        for name, column in zip(BOUNDS, LIKELY_COLUMNS, strict=True):
            assert lines[line][f"{column}_last_week"] == f"{round(100 * int(bounds[name]) / known, 2):.2f}"
        low, high = (float(lines[line][f"{column}_last_week"]) for column in LIKELY_COLUMNS)
        assert low < float(lines[line]["uptime_percent_last_week"]) < high
    # The fleet is known better than its parts.
    widths = {line: float(row["uptime_percent_likely_high_last_week"]) for line, row in lines.items()}
    widths = {line: widths[line] - float(row["uptime_percent_likely_low_last_week"]) for line, row in lines.items()}
    assert widths["fleet"] < widths["groupNorth"] < widths["groupSouth"]


def test_the_range_of_one_store_as_a_set_is_nearly_that_of_its_row(outages_fleet):
    """Three moments against the whole distribution: they differ by a few minutes of a week at most."""
    with outages_fleet.read() as connection:
        schedule = readings.read_schedule(outages_fleet, connection, ZONE, None, AS_OF_US)
        model = likely.read_model(outages_fleet, connection, ZONE, AS_OF_US, RULES)
        sums = likely.read_sums(
            outages_fleet, connection, schedule, AS_OF_US - WEEK_US, AS_OF_US, AS_OF_US, RULES, ZONE
        )
        assert likely.read_model(outages_fleet, connection, ZONE, AS_OF_US, RULES) is model
    rows, _ = report(outages_fleet)
    bounds = likely_of_sums(sums)
    known = sums["uptime"] + sums["downtime"]
    assert bounds["likely_low"][0] == -1
    for at in range(1, STORES):
        for name, column in zip(BOUNDS, LIKELY_COLUMNS, strict=True):
            of_row = float(rows[at][f"{column}_last_week"]) / 100 * known[at]
            assert bounds[name][at] == pytest.approx(of_row, abs=8 * MINUTE_US)


def test_without_outages_there_is_no_range_and_a_reason(database: Database, tmp_path):
    folder = tmp_path / "feeds"
    folder.mkdir()
    lines = [f"a,2024-10-{day:02d} {hour:02d}:00:00 UTC,active" for day in range(1, 20) for hour in range(24)]
    (folder / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *lines]) + "\n")
    load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(AS_OF_US, 0))
    rows, method = report(database, totals=True)
    assert {row[f"uptime_percent_likely_{side}_last_week"] for row in rows for side in ("low", "high")} == {""}
    assert method["likely_note"].startswith("the fleet's last 28 days have 0 pairs of neighbouring inactive polls")
    assert method["likely_up_hours"] is None


def test_thinned_polls_are_read_again_in_halves(outages_fleet, monkeypatch):
    """The range is of all polls, however few fit at once."""
    whole, _ = report(outages_fleet)
    monkeypatch.setattr(readings, "_POLLS_AT_ONCE", 1000)
    thinned, _ = report(outages_fleet)
    assert thinned == whole


def test_the_overview_has_the_range_of_the_report(outages_fleet, app):
    """Of the fleet and each group; of today and this week."""
    client = app.test_client()
    shown = client.get("/api/v1/overview").json
    body = {"columns": "full", "totals": True, "windows": ["today", "this_week"], "as_of": shown["as_of"]}
    answer = client.post("/trigger_report", json=body)
    report = client.get(f"/get_report?report_id={answer.json['report_id']}&format=json").json
    rows = {row["group"]: row for row in report["rows"] if row["kind"] != "store"}
    ranged = 0
    for window in ("today", "this_week"):
        for side in ("low", "high"):
            name = f"uptime_percent_likely_{side}_{window}"
            assert shown["fleet"][name] == rows[None][name]
            for group in shown["groups"]:
                assert group[name] == rows[group["group"]][name]
                ranged += group[name] is not None
    assert ranged >= 2
    assert shown["fleet"]["uptime_percent_likely_low_this_month"] is None
    low, high = (shown["fleet"][f"uptime_percent_likely_{side}_this_week"] for side in ("low", "high"))
    assert f"likely {low:.2f} to {high:.2f}" in client.get("/overview").text
