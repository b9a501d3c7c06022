"""The last seven local days of some stores: the same as a report by day says, for any choice of stores and parts."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import load_folder, sql
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.model import Rules
from storemon_flask.stores import live_list

ZONES = ("America/New_York", "Asia/Kolkata", "UTC")
AS_OF = datetime(2024, 11, 6, 9, 30, tzinfo=UTC)


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    folder = tmp_path / "feeds"
    folder.mkdir()
    polls, hours, zones = (
        ["store_id,timestamp_utc,status"],
        ["store_id,day,start_time_local,end_time_local"],
        ["store_id,timezone_str"],
    )
    special = ["store_id,date,start_time_local,end_time_local"]
    for store in range(11):
        for hour in range(0, 24 * 10, 1 + store % 3):
            stamp = datetime.fromtimestamp(AS_OF.timestamp() - hour * 3600, UTC)
            polls.append(
                f"s{store:02d},{stamp:%Y-%m-%d %H:%M:%S},{'inactive' if (hour + store) % 11 < 3 else 'active'}"
            )
        if store % 2:
            hours += [f"s{store:02d},{day},0{store % 9}:00,2{store % 4}:30" for day in range(6)]
            special.append(f"s{store:02d},2024-11-0{1 + store % 5},10:00,11:00")
        zones.append(f"s{store:02d},{ZONES[store % 3]}")
    for name, rows in (("polls", polls), ("hours", hours), ("zones", zones), ("special", special)):
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    load_folder(database, folder)
    return database


NOVEMBER = {"from": "2024-10-20", "to": "2024-11-10"}


def days_of(database: Database, ids: list[str]) -> dict[str, list[live_list.Day]]:
    found = live_list.compute_snapshot(database, Rules(), "America/Chicago", int(AS_OF.timestamp()) * 1_000_000)
    places = [found.ids.index(store_id) for store_id in ids]
    return dict(zip(ids, live_list.last_days(database, found, places, Rules(), "America/Chicago"), strict=True))


@pytest.mark.parametrize("size", [2, 3, 4096])
def test_they_are_those_of_a_report_by_day(
    app: Flask, client: FlaskClient, fleet: Database, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(readings, "STORES_PER_BATCH", size)
    answer = client.post(
        "/trigger_report",
        json={"as_of": "2024-11-06T09:30:00Z", "windows": [NOVEMBER], "by": "day", "columns": "full"},
    )
    assert answer.status_code == 202, answer.text
    rows = client.get(f"/get_report?report_id={answer.json['report_id']}&format=json").json["rows"]
    told = {(row["store_id"], row["period"][:10]): row for row in rows}
    wanted = ["s09", "s00", "s04", "s05", "s10"]
    compared = 0
    for store_id, week in days_of(fleet, wanted).items():
        assert len(week) == 7
        for day in week:
            label = date.fromordinal(date(1970, 1, 1).toordinal() + day.local_us // 86_400_000_000).isoformat()
            row = told[store_id, label]
            for name, value in (("uptime", day.up_us), ("downtime", day.down_us), ("unknown", day.unknown_us)):
                # Hundredths of an hour, half up.
                assert round(row[f"{name}_hours"] * 100) == (value + 18_000_000) // 36_000_000
                compared += 1
    assert compared == 5 * 7 * 3


def test_the_longest_day_is_25_hours(fleet: Database) -> None:
    (week,) = days_of(fleet, ["s00"]).values()
    whole = [day.up_us + day.down_us + day.unknown_us for day in week]
    assert whole[3] == 25 * 3_600_000_000
    assert whole[2] == 24 * 3_600_000_000


def test_a_store_removed_since_has_none(fleet: Database, settings: object) -> None:
    found = live_list.compute_snapshot(fleet, Rules(), "America/Chicago", int(AS_OF.timestamp()) * 1_000_000)
    gone = found.ids.index("s03")
    sql(fleet.path, "UPDATE store_record SET store_id = 'elsewhere' WHERE store_id = 's03'")
    sql(fleet.path, "UPDATE data_version SET schedule = schedule + 1")
    assert live_list.last_days(fleet, found, [gone], Rules(), "America/Chicago") == [[]]
    assert np.array(found.ids).tolist()[gone] == "s03"
