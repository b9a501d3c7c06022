"""A week of polls that is not what was written is said, by reports and by loads, and nothing is computed from it."""

from pathlib import Path

import pytest
from conftest import sql, storemon
from flask.testing import FlaskClient
from load_helpers import POLLS, csv, put

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

# Stores are numbered as they come: `worked` has the polls of 10:14 and 11:15.
ACTIVE_AT_1115 = f"X'{2 * instant('2024-10-14T11:15:00Z') + 1:016X}'"
WEEK = "FROM poll_week JOIN store_record ON number = store WHERE store_id = 'worked'"
DAMAGES = {
    "zeros at its end": "substr(polls, 1, 8) || zeroblob(8)",
    "zeros at its begin": "zeroblob(8) || substr(polls, 9, 8)",
    "out of order": "substr(polls, 9, 8) || substr(polls, 1, 8)",
    "the same instant twice": "substr(polls, 1, 8) || substr(polls, 1, 8)",
    "both statuses at one instant": f"substr(polls, 9, 8) || {ACTIVE_AT_1115}",
    "cut in the middle of a poll": "substr(polls, 1, 13)",
    "nothing": "zeroblob(0)",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_week_is_said_and_not_computed_from(
    small_fleet: Path, database: Database, settings: Settings, client: FlaskClient, damage: str, tmp_path: Path
) -> None:
    database.close()
    sql(
        settings.database,
        f"UPDATE poll_week SET polls = CAST({damage} AS BLOB) WHERE store = (SELECT number {WEEK})",
    )
    said = f"{settings.database} is damaged; restore it from a backup"
    done = storemon(settings.home, "report")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    report_id = client.post("/trigger_report").json["report_id"]
    answer = client.get(f"/get_report?report_id={report_id}")
    assert answer.status_code == 409
    assert said in answer.json["error"]
    timeline = client.get("/api/v1/stores/worked/timeline")
    assert (timeline.status_code, timeline.content_type) == (503, "application/problem+json")
    assert said in timeline.json["detail"]
    # A merge would make the damage look whole.
    before = sql(settings.database, f"SELECT polls {WEEK}")
    more = put(tmp_path / "more.csv", csv(POLLS, "worked,2024-10-14 11:45:00 UTC,active"))
    loaded = storemon(settings.home, "load-data", str(more))
    assert loaded.returncode == 1
    assert said in loaded.stderr
    assert sql(settings.database, f"SELECT polls {WEEK}") == before
