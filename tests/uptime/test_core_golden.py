"""The golden cases, through the files: three CSVs in, the report out."""

import csv
import io
from pathlib import Path

import pytest
from fleets import compute

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.reports import compute as reports
from storemon_flask.reports.request import ReportRequest

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
NOW_US = 1_800_000_000_000_000


def full_report(folder: Path, database: Database) -> dict[str, dict[str, str]]:
    from storemon_flask import settings

    result = load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(NOW_US, 0))
    # expected.csv is no feed, and is named as such.
    assert [summary.file for summary in result.files if summary.error] == ["expected.csv"]
    rules = settings.load({}).rules
    text = reports.compute(
        database,
        reports.make_query(database, ReportRequest(columns="full"), "America/Chicago", 10**9),
        rules,
        "America/Chicago",
    )
    return {row["store_id"]: row for row in csv.DictReader(io.StringIO(text.csv))}


@pytest.mark.parametrize("case", CASES)
def test_a_golden_case_is_met_to_the_hundredth(case, tmp_path):
    database = Database(tmp_path / "storemon.db")
    found = full_report(GOLDEN / case, database)
    database.close()
    with (GOLDEN / case / "expected.csv").open() as stream:
        expected = list(csv.DictReader(stream))
    assert sorted(found) == sorted(row["store_id"] for row in expected)
    for row in expected:
        for column, value in row.items():
            if column == "store_id":
                continue
            assert abs(float(found[row["store_id"]][column]) - float(value)) < 0.0101, (case, row["store_id"], column)


def test_the_worked_example_is_exact_to_the_second():
    from datetime import UTC, datetime

    def instant(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000

    polls = [("cafe", instant("2023-01-23 10:14:00"), True), ("cafe", instant("2023-01-23 11:15:00"), False)]
    found = compute(polls, [("cafe", 0, "09:00", "12:00")], {"cafe": "Etc/UTC"}, instant("2023-01-23 13:00:00"))["cafe"]
    minute = 60_000_000
    assert found["uptime_last_day"] == 104.5 * minute
    assert found["downtime_last_day"] == 75.5 * minute
    assert found["unknown_last_day"] == 0
    assert found["measured_last_day"] == 61 * minute
    assert found["uptime_low_last_day"] == 0
    assert found["uptime_high_last_day"] == 180 * minute
    assert found["status_now"] == "closed"
