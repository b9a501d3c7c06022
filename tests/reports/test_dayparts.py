"""Reports by daypart: rows, totals, the setting, and the same answers from the command line and the pages (SPEC 3.6)."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import load_folder, storemon
from flask.testing import FlaskClient

from storemon_flask.database.connections import Database
from storemon_flask.reports import diff
from storemon_flask.reports.diff import ReportFile
from storemon_flask.settings import Settings

WINDOW = {"from": "2024-11-02", "to": "2024-11-04"}
ASKED: dict[str, Any] = {"by": "daypart", "windows": [WINDOW], "as_of": "2024-11-04T12:00:00Z", "columns": "full"}


@pytest.fixture
def two_stores(database: Database, tmp_path: Path) -> Database:
    """A store in New York, where the clock goes back on 3 November, and one in Tokyo; neither has hours, so both are
    always open. New York is down from 10:30 to 12:30 on the 2nd."""
    polls = [
        f"{store},2024-11-{day:02d}T{hour:02d}:00:00Z,{'inactive' if (store, day, hour) in DOWN else 'active'}"
        for store in ("ny", "tokyo")
        for day in (1, 2, 3, 4)
        for hour in range(24)
    ]
    (tmp_path / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *polls]) + "\n")
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\nny,America/New_York\ntokyo,Asia/Tokyo\n")
    (tmp_path / "names.csv").write_text("store_id,name,group\nny,NY,All\ntokyo,T,All\n")
    load_folder(database, tmp_path)
    return database


# 11:00 and 12:00 on the wall.
DOWN = {("ny", 2, 15), ("ny", 2, 16)}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def report_text(client: FlaskClient, **body: Any) -> str:
    report_id = client.post("/trigger_report", json=body).json["report_id"]
    answer = client.get(f"/get_report?report_id={report_id}&wait=30")
    assert answer.status_code == 200, answer.text
    return answer.text


NAMES = ("store_id", "period", "daypart", "uptime_hours", "downtime_hours", "business_hours")


def test_a_store_has_a_row_for_each_date_and_part_and_late_is_of_the_evening_before(
    two_stores: Database, client: FlaskClient
) -> None:
    rows = rows_of(report_text(client, **ASKED))
    ny = [tuple(row[name] for name in NAMES[1:]) for row in rows if row["store_id"] == "ny"]
    assert ny == [
        ("2024-11-01", "late", "5.00", "0.00", "5.00"),
        ("2024-11-02", "breakfast", "5.50", "0.50", "6.00"),
        ("2024-11-02", "lunch", "2.50", "1.50", "4.00"),
        ("2024-11-02", "dinner", "7.00", "0.00", "7.00"),
        # From 22:00 to 05:00, with the hour that comes twice.
        ("2024-11-02", "late", "8.00", "0.00", "8.00"),
        ("2024-11-03", "breakfast", "6.00", "0.00", "6.00"),
        ("2024-11-03", "lunch", "4.00", "0.00", "4.00"),
        ("2024-11-03", "dinner", "7.00", "0.00", "7.00"),
        # Cut at the end of the window.
        ("2024-11-03", "late", "2.00", "0.00", "2.00"),
    ]
    assert rows[1]["period_start"] == "2024-11-02T09:00:00.000000Z"
    assert sum(float(row["business_hours"]) for row in rows) == 49 + 48


def test_totals_add_up_a_part_of_a_date_over_zones(two_stores: Database, client: FlaskClient) -> None:
    rows = rows_of(report_text(client, **ASKED, totals=True))
    totals = [row for row in rows if row["kind"] != "store"]
    shown = [
        (row["kind"], row["period"], row["daypart"], row["business_hours"], row["downtime_hours"]) for row in totals
    ]
    fleet = [row[1:] for row in shown if row[0] == "fleet"]
    assert [row[1:] for row in shown if row[0] == "group"] == fleet
    assert fleet == [
        ("2024-11-01", "late", "10.00", "0.00"),
        ("2024-11-02", "breakfast", "12.00", "0.50"),
        ("2024-11-02", "lunch", "8.00", "1.50"),
        ("2024-11-02", "dinner", "14.00", "0.00"),
        ("2024-11-02", "late", "15.00", "0.00"),
        ("2024-11-03", "breakfast", "12.00", "0.00"),
        ("2024-11-03", "lunch", "8.00", "0.00"),
        ("2024-11-03", "dinner", "14.00", "0.00"),
        ("2024-11-03", "late", "4.00", "0.00"),
    ]


def test_the_window_is_the_last_week_where_none_is_given(two_stores: Database, client: FlaskClient) -> None:
    rows = rows_of(report_text(client, by="daypart"))
    week = rows_of(report_text(client))
    for row in week:
        hours = [float(one["uptime_hours"]) for one in rows if one["store_id"] == row["store_id"]]
        assert sum(hours) == pytest.approx(float(row["uptime_last_week"]), abs=0.2)
    assert len(rows) > 50


def test_the_setting_decides_the_parts_and_stands_in_the_method(
    two_stores: Database, client: FlaskClient, settings: Settings
) -> None:
    report_id = client.post("/trigger_report", json=ASKED).json["report_id"]
    usual = client.get(f"/get_report?report_id={report_id}&wait=30").text
    described = client.get(f"/api/v1/reports/{report_id}").json
    assert described["method"]["dayparts"] == [
        "breakfast 05:00-11:00", "lunch 11:00-15:00", "dinner 15:00-22:00", "late 22:00-05:00",
    ]  # fmt: skip
    two_stores.close()
    options = ["--by", "daypart", "--window", "2024-11-02..2024-11-04", "--as-of", ASKED["as_of"], "--columns", "full"]
    assert storemon(settings.home, "report", *options).stdout == usual
    own = storemon(settings.home, "report", *options, STOREMON_DAYPARTS="night 20:00-8:00, day 8:00-20:00")
    rows = rows_of(own.stdout)
    assert [tuple(row[name] for name in NAMES) for row in rows if row["store_id"] == "ny"] == [
        ("ny", "2024-11-01", "night", "8.00", "0.00", "8.00"),
        ("ny", "2024-11-02", "day", "10.00", "2.00", "12.00"),
        ("ny", "2024-11-02", "night", "13.00", "0.00", "13.00"),
        ("ny", "2024-11-03", "day", "12.00", "0.00", "12.00"),
        ("ny", "2024-11-03", "night", "4.00", "0.00", "4.00"),
    ]


def test_a_difference_matches_rows_by_their_part(two_stores: Database, client: FlaskClient) -> None:
    before = report_text(client, **ASKED)
    (line,) = [line for line in before.splitlines() if line.startswith("ny,") and ",2024-11-02,lunch," in line]
    after = before.replace(line, line.replace(",2.50,1.50,", ",3.00,1.00,"))
    found = diff.compare(ReportFile(io.StringIO(before), {}), ReportFile(io.StringIO(after), {}), 10)
    assert [(one.column, float(one.change)) for one in found.changes] == [
        ("uptime_hours", 0.5), ("downtime_hours", -0.5),
    ]  # fmt: skip
    assert {(one.row["period"], one.row["daypart"]) for one in found.changes} == {("2024-11-02", "lunch")}


def test_pages_have_the_parts(two_stores: Database, client: FlaskClient) -> None:
    assert '<option value="daypart">store and daypart</option>' in client.get("/reports").text
    report_id = client.post("/trigger_report", json=ASKED).json["report_id"]
    client.get(f"/get_report?report_id={report_id}&wait=30")
    assert "breakfast" in client.get(f"/reports/{report_id}?q=breakfast").text
    page = client.get("/stores/ny?by=daypart&window=2024-11-02..2024-11-03&as_of=2024-11-04T12:00:00Z").text
    assert "2024-11-02 lunch" in page
    assert "2024-11-01 late" in page
