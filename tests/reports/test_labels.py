"""Reports limited by labels, and their totals of each value of each label."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import load_folder
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.labels import in_order
from storemon_flask.reports import compute
from storemon_flask.reports import csv as report_csv
from storemon_flask.reports import request as requests
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings

STORES = {
    "a": {"group": "North", "region": "West", "tag:city": "=1"},
    "b": {"group": "North", "region": "East", "tag:city": "Paris"},
    "c": {"region": "West"},
    "d": {"group": "South", "brand": "Acme, Inc"},
}
NAMES = ("group", "brand", "region", "tag:city")


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    folder = tmp_path / "labelled"
    folder.mkdir()
    polls = [
        f"{store},2024-10-{day} {hour:02d}:{7 * at:02d}:00 UTC,{'inactive' if (hour + at * day) % 5 == 0 else 'active'}"
        for at, store in enumerate(STORES)
        for day in (12, 13, 14)
        for hour in range(at, 20)
    ]
    (folder / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *polls, ""]))
    zones = [
        f"{store},{zone}" for store, zone in zip(STORES, ["Asia/Tokyo", "UTC", "America/New_York", "UTC"], strict=True)
    ]
    (folder / "zones.csv").write_text("\n".join(["store_id,timezone_str", *zones, ""]))
    with (folder / "stores.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["store_id", "name", *NAMES])
        writer.writerows([store, "", *(given.get(name, "") for name in NAMES)] for store, given in STORES.items())
    load_folder(database, folder)
    return database


def report(
    database: Database, settings: Settings, stores: list[str] | None = None, **fields: Any
) -> list[dict[str, str]]:
    request = ReportRequest(columns="full", stores=stores, fields=fields)
    query = compute.make_query(database, request, "America/Chicago", settings.max_report_rows)
    text = compute.compute(database, query, settings.rules, "America/Chicago")
    assert text.method["labels"] == fields.get("labels")
    return list(report_csv.text_rows(io.StringIO(text.csv, newline=""), text.altered))


def amounts(row: dict[str, str]) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if report_csv.is_number(name) or name.startswith("period")}


@pytest.mark.parametrize("shape", [{"windows": ["last_day", "last_week"]}, {"by": "day"}, {"by": "hour"}])
def test_a_total_of_a_label_is_the_fleet_of_a_report_of_its_stores(
    fleet: Database, settings: Settings, shape: dict[str, Any]
) -> None:
    rows = report(fleet, settings, totals=True, **shape)
    blocks = list(dict.fromkeys((row["kind"], row["group"]) for row in rows if row["kind"] != "store"))
    expected = [(name, value) for name in NAMES for value in sorted({given.get(name, "") for given in STORES.values()})]
    # Stores of no group count for the fleet only.
    assert blocks == [block for block in expected if block != ("group", "")] + [("fleet", "")]
    for kind, value in blocks[:-1]:
        stores = [store for store, given in STORES.items() if given.get(kind, "") == value]
        alone = [row for row in report(fleet, settings, stores, totals=True, **shape) if row["kind"] == "fleet"]
        of_label = [row for row in rows if (row["kind"], row["group"]) == (kind, value)]
        assert list(map(amounts, of_label)) == list(map(amounts, alone)), (kind, value)
        assert {row["store_id"] for row in of_label} == {""}


def test_only_labels_that_the_stores_of_the_report_have_are_added_up(fleet: Database, settings: Settings) -> None:
    rows = report(fleet, settings, ["c"], totals=True)
    assert [(row["kind"], row["group"]) for row in rows] == [("store", ""), ("region", "West"), ("fleet", "")]


@profile(max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.lists(st.sampled_from(["", "North", "West", "East", "Paris"]), min_size=1, max_size=3),
    )
)
def test_a_store_passes_with_one_value_of_each_label(asked: dict[str, list[str]]) -> None:
    if not asked:
        return
    query = requests.check(ReportRequest(fields={"labels": asked}))
    assert query.labels == tuple((name, tuple(dict.fromkeys(asked[name]))) for name in in_order(asked))
    assert not query.is_default


@pytest.mark.parametrize(
    ("labels", "stores"),
    [
        ({"region": ["West"]}, ["a", "c"]),
        ({"region": ["West", "East"]}, ["a", "b", "c"]),
        ({"region": [""]}, ["d"]),
        ({"region": ["West"], "group": ["North"]}, ["a"]),
        ({"tag:city": ["=1", "Paris"], "region": ["East"]}, ["b"]),
        ({"brand": ["Acme, Inc"]}, ["d"]),
    ],
)
def test_a_report_is_limited_by_labels(
    fleet: Database, settings: Settings, labels: dict[str, list[str]], stores: list[str]
) -> None:
    assert [row["store_id"] for row in report(fleet, settings, windows=["last_day"], labels=labels)] == stores
    whole = {row["store_id"]: amounts(row) for row in report(fleet, settings, windows=["last_day"])}
    limited = {row["store_id"]: amounts(row) for row in report(fleet, settings, windows=["last_day"], labels=labels)}
    assert limited == {store: whole[store] for store in stores}
    outages = report_outages(fleet, settings, labels)
    assert outages == [one for one in report_outages(fleet, settings, None) if one["store_id"] in stores]
    assert {one["store_id"] for one in outages} == set(stores)


def report_outages(database: Database, settings: Settings, labels: dict[str, list[str]] | None) -> list[dict[str, str]]:
    fields = {"kind": "outages"} | ({"labels": labels} if labels else {})
    query = compute.make_query(database, ReportRequest(fields=fields), "America/Chicago", 10**6)
    text = compute.compute(database, query, settings.rules, "America/Chicago")
    return list(report_csv.text_rows(io.StringIO(text.csv, newline=""), text.altered))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"region": ["Mars", "West"]}, "labels.region: no store is in 'Mars'"),
        ({"tag:nothing": ["x"]}, "labels.tag:nothing: no store is in 'x'"),
        ({"city": ["Paris"]}, "labels has 'city'; it must be of group, brand, region, platform or tag:NAME"),
        ({"region": "West"}, "labels.region is 'West'; it must be a list"),
        ({"region": []}, r"labels.region is \[\]; it must be a list of at least one text"),
        ({"region": [1]}, r"labels.region is \[1\]; it must be a list of at least one text"),
        ({}, r"labels is {}; it must be an object such as"),
        (["region"], r"labels is \['region'\]; it must be an object such as"),
    ],
)
def test_labels_that_cannot_be_are_named(fleet: Database, labels: Any, sentence: str) -> None:
    with pytest.raises(Unprocessable, match=sentence):
        compute.make_query(fleet, ReportRequest(fields={"labels": labels}), "America/Chicago", 10**6)


def test_rows_of_labels_count_for_the_most_rows(fleet: Database) -> None:
    def rows(most: int, **fields: Any) -> None:
        compute.make_query(fleet, ReportRequest(fields=fields), "America/Chicago", most)

    rows(4, windows=["last_day"])
    with pytest.raises(Unprocessable, match="would have 12 rows, more than the 11"):
        # Two brands (one of them none), three regions, three cities.
        rows(11, windows=["last_day"], totals=True)
    rows(12, windows=["last_day"], totals=True)


def test_it_is_described_in_words(fleet: Database, client: FlaskClient) -> None:
    body = {"labels": {"region": ["West"], "brand": [""], "tag:city": ["=1", "Paris"]}, "as_of": "2024-10-14T12:00:00Z"}
    refused = client.post("/trigger_report", json={**body, "labels": {"region": ["Mars"]}})
    assert (refused.status_code, refused.get_json()["errors"]) == (422, {"labels.region": ["unknown: Mars"]})
    answer = client.post("/trigger_report", json=body)
    assert answer.status_code == 202, answer.text
    page = client.get("/reports").text
    assert "with no brand, with region West, with city =1 and city Paris" in page


def test_an_address_of_a_report_names_labels(fleet: Database, client: FlaskClient, settings: Settings) -> None:
    path = (
        "/api/v1/reports/latest.csv?windows=last_day&as_of=2024-10-14T12:00:00Z&labels=region=West&labels=group%3DNorth"
    )
    answer = client.get(path)
    assert (answer.status_code, [line.split(",")[0] for line in answer.text.splitlines()]) == (200, ["store_id", "a"])
    wrong = client.get("/api/v1/reports/latest.csv?labels=city")
    assert (wrong.status_code, "it must be NAME=VALUE" in wrong.get_json()["detail"]) == (422, True)


def test_the_form_asks_by_label_and_is_filled_in_again(fleet: Database, client: FlaskClient) -> None:
    page = client.get("/reports").text
    assert '<input type="checkbox" name="labels" value="region=West">' in page
    form = {"as_of": "2024-10-14T12:00:00Z", "labels": ["region=West", "tag:city=\n=1"], "window": "last_day"}
    refused = client.post("/reports", data={**form, "labels": "city=Paris"})
    assert refused.status_code == 422
    assert "labels with which" not in refused.text
    assert "has &#39;city=Paris&#39;; it must be of group, brand, region, platform or tag:NAME" in refused.text
    unknown = client.post("/reports", data={**form, "labels": "region=Mars"})
    assert (unknown.status_code, "Only stores with these labels: unknown: Mars" in unknown.text) == (422, True)
    form["labels"] = ["region=West", "tag:city=", "tag:city==1"]
    sent = client.post("/reports", data=form)
    assert sent.status_code == 303, sent.text
    report_id = sent.headers["Location"].rstrip("/").rpartition("/")[2]
    asked = client.get(f"/api/v1/reports/{report_id}").get_json()
    assert asked["shape"]["labels"] == {"region": ["West"], "tag:city": ["", "=1"]}
