"""The likely range of listed stores: that of the report, of the store's page and of the terminal."""

import csv
import io
import json
from dataclasses import replace

import pytest
from conftest import storemon
from flask.testing import FlaskClient
from likely_helpers import AS_OF_US, RULES, STORES, ZONE
from likely_helpers import outages_fleet as outages_fleet

from storemon_flask.database.connections import Database
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.stores import live_likely, live_list
from storemon_flask.stores.live_likely import LIKELY_PERCENTAGES
from storemon_flask.stores.live_list import Snapshot


@pytest.fixture
def snapshot(outages_fleet: Database) -> Snapshot:
    return live_list.compute_snapshot(outages_fleet, RULES, ZONE, AS_OF_US)


def ranges_of(database: Database, snapshot: Snapshot, indices: list[int]) -> list[dict[str, float | None]]:
    return live_likely.likely_ranges(database, snapshot, indices, RULES, ZONE)


@pytest.mark.parametrize("at_once", [1, 7, 250])
def test_they_are_those_of_the_report_in_any_order_and_number(
    outages_fleet: Database, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(live_likely, "_STORES_AT_ONCE", at_once)
    query = compute.make_query(outages_fleet, ReportRequest(snapshot.as_of.as_of_us, "full"), ZONE, 10**6)
    text = compute.compute(outages_fleet, query, RULES, ZONE).csv
    reported = {row["store_id"]: row for row in csv.DictReader(io.StringIO(text))}
    indices = [5, 0, *range(STORES - 1, 5, -1)]
    listed = ranges_of(outages_fleet, snapshot, indices)
    for index, likely in zip(indices, listed, strict=True):
        row = reported[snapshot.ids[index]]
        assert list(likely) == list(LIKELY_PERCENTAGES)
        assert likely == {name: float(row[name]) if row[name] else None for name in LIKELY_PERCENTAGES}
    # Half of the hours of the store 0 have no poll.
    assert listed[1]["uptime_percent_likely_low_last_week"] is None
    assert sum(likely["uptime_percent_likely_low_last_week"] is not None for likely in listed) == len(indices) - 1


def test_they_are_computed_once_for_each_store_of_a_snapshot_and_only_for_those_asked_for(
    outages_fleet: Database, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ranges_of(outages_fleet, snapshot, [3, 4])
    assert set(snapshot.derived["likely"]) == {3, 4}  # type: ignore[call-overload]
    monkeypatch.setattr(live_likely, "read_model", None)
    assert ranges_of(outages_fleet, snapshot, [4, 3]) == first[::-1]
    with pytest.raises(TypeError):
        ranges_of(outages_fleet, snapshot, [5])


def test_a_store_that_is_gone_has_no_range(outages_fleet: Database, snapshot: Snapshot) -> None:
    snapshot = replace(snapshot, ids=[*snapshot.ids[:2], "gone", *snapshot.ids[3:]])
    gone, there = ranges_of(outages_fleet, snapshot, [2, 3])
    assert gone == dict.fromkeys(LIKELY_PERCENTAGES)
    assert there["uptime_percent_likely_high_last_week"] is not None


def test_list_page_store_and_terminal_say_the_same(
    outages_fleet: Database, client: FlaskClient, settings: Settings
) -> None:
    records = client.get("/api/v1/stores?limit=1000").json["stores"]
    assert len(records) == STORES
    pages = {}
    for record in records:
        one = client.get(f"/api/v1/stores/{record['store_id']}").json
        assert {name: record[name] for name in LIKELY_PERCENTAGES} == {name: one[name] for name in LIKELY_PERCENTAGES}
        low, high = (record[f"uptime_percent_likely_{side}_last_week"] for side in ("low", "high"))
        pages[record["store_id"]] = f"likely {low:.2f} to {high:.2f}" if low is not None else None
    page = client.get("/").text
    for store_id, text in pages.items():
        row = page.split(f'data-key="store-{store_id}"')[1].split("</tr>")[0]
        week = row.split('data-label="last week"')[1].split("</td>")[0]
        assert ("likely " in week) == (text is not None)
        assert text is None or text in week
    assert sum(text is None for text in pages.values()) == 1
    sent = client.get("/api/v1/stores.csv").text
    outages_fleet.close()
    done = storemon(settings.home, "stores", "--json")
    assert json.loads(done.stdout)["stores"] == records
    rows = list(csv.DictReader(io.StringIO(storemon(settings.home, "stores", "--csv").stdout)))
    for record, row in zip(records, rows, strict=True):
        for name in LIKELY_PERCENTAGES:
            assert row[name] == ("" if record[name] is None else str(record[name]))
    assert rows == list(csv.DictReader(io.StringIO(sent)))
