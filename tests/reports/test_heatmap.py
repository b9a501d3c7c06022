"""The heat map of a window against the sums of a report by hour (SPEC 3.7)."""

from typing import Any

import numpy as np
import pytest
from report_helpers import fleet as fleet

from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.reports import compute
from storemon_flask.reports.heatmap import read_heat_map
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.uptime.heatmap import HEAT_MEASURES, WEEK


@pytest.mark.parametrize("window", ["last_week", "last_30_days", {"from": "2024-09-25", "to": "2024-10-14"}])
def test_the_heat_map_is_the_sums_of_a_report_by_hour(
    fleet: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, window: Any
) -> None:
    # Several batches.
    monkeypatch.setattr(readings, "_STORE_DAYS", 200)
    zone = "America/Chicago"
    request = ReportRequest(columns="full", fields={"by": "hour", "windows": [window]})
    shares: list[float] = []
    with fleet.read() as connection:
        query = compute.make_query(fleet, request, zone, 10**9, connection)
        schedule = readings.read_schedule(fleet, connection, zone, None, query.as_of_us)
        rows, _ = compute.measure_rows(connection, schedule, query, settings.rules, lambda share: None)
        names = sorted(set(schedule.groups))
        group_of = np.array([names.index(group) for group in schedule.groups], dtype=np.int64)
        heat_map = read_heat_map(
            connection, schedule, query.windows[0], query.as_of_us, settings.rules, group_of, shares.append
        )
        whole = read_heat_map(connection, schedule, query.windows[0], query.as_of_us, settings.rules)
    assert len(shares) > 1
    assert shares[-1] == 1
    local = rows["local_us"]
    # 1970-01-05 was a Monday.
    weekday, hour = (local // DAY_US - 4) % 7, local % DAY_US // HOUR_US
    for name in HEAT_MEASURES:
        expected = np.zeros((len(names), *WEEK), dtype=np.int64)
        np.add.at(expected, (group_of[rows["store"]], weekday, hour), rows[name])
        assert expected.any() or name == "unknown", name
        assert np.array_equal(heat_map.groups[name], expected), name
        assert np.array_equal(heat_map.fleet[name], expected.sum(axis=0)), name
        assert np.array_equal(whole.groups[name][0], heat_map.fleet[name]), name


def test_no_store_and_no_time_make_an_empty_heat_map(database: Database, fleet: Database, settings: Settings) -> None:
    with fleet.read() as connection:
        query = compute.make_query(fleet, ReportRequest(), "America/Chicago", 10**9, connection)
        schedule = readings.read_schedule(fleet, connection, "America/Chicago", None, query.as_of_us)
        empty = read_heat_map(connection, schedule, compute.requests.Window("none", 0, 5, 5), 10, settings.rules)
    assert all(values.shape == (1, *WEEK) and not values.any() for values in empty.groups.values())
