"""The page Overview as the server makes it: its numbers are those of the JSON, and its buttons ask for reports."""

import re
import threading
from dataclasses import replace

import pytest
from conftest import NEWEST, load_folder

from pages.test_docs_page import Page
from storemon_flask.pages.overview import _change, _chart, _hour
from storemon_flask.stores import overview_cache
from storemon_flask.stores.overview import DayRow, Sums

HOUR = 3_600_000_000


def page_of(client, path="/overview"):
    answer = client.get(path, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.mimetype) == (200, "text/html"), answer.text
    page = Page(answer.text)
    assert page.open == []
    return page


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def test_it_says_what_the_json_says(client, small_fleet):
    page = page_of(client)
    assert "Old data." in page.text
    html = client.get("/overview").text
    shown = client.get("/api/v1/overview").json
    for window in ("this_week", "today", "this_month"):
        assert f"{shown['fleet'][f'uptime_percent_{window}']:.2f} %" in html
    assert "58.06 %" in words(html[html.index('id="worst"') :])
    assert "No store of which enough is known in both weeks has changed." in html


def test_a_number_makes_the_report_that_explains_it(client, small_fleet):
    assert (
        client.post("/api/v1/feeds/stores", data="store_id,name,group\nworked,,North & Co\nsilent,,South\n").status_code
        == 200
    )
    html = client.get("/overview").text
    as_of = re.findall(r'<form id="ask-this_week"[^>]*><input type="hidden" name="as_of" value="([^"]+)"', html)
    assert as_of == [NEWEST]
    button = re.findall(r'<button class="figure" form="ask-this_week" name="(\w+)" value="([^"]+)"', html)
    assert button == [("groups", "North &amp; Co"), ("groups", "South")]
    form = {"as_of": NEWEST, "columns": "full", "totals": "1", "window": "this_week", "groups": "North & Co"}
    answer = client.post("/reports", data=form)
    assert answer.status_code == 303
    report_id = answer.headers["Location"].rpartition("/")[2]
    rows = client.get(f"/get_report?report_id={report_id}&format=json").json["rows"]
    (row,) = (one for one in client.get("/api/v1/overview").json["groups"] if one["group"] == "North & Co")
    (total,) = (one for one in rows if one["kind"] == "group")
    for name in ("uptime_percent", "uptime", "downtime", "unknown", "business"):
        assert total[f"{name}_this_week"] == row[f"{name}_this_week"]


def test_the_windows_of_its_forms_are_those_of_reports(client, small_fleet):
    html = client.get("/overview?days=90").text
    forms = re.findall(r'<form id="(ask-\w+)".*?</form>', html, re.DOTALL)
    assert forms == ["ask-today", "ask-this_week", "ask-this_month", "ask-date", "ask-days", "ask-hours"]
    for name in forms:
        form = html[html.index(f'<form id="{name}"') :].partition("</form>")[0]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', form))
        if name == "ask-date":
            fields["window"] = re.findall(r'form="ask-date" name="window" value="([^"]+)"', html)[0]
            assert fields["window"] == "2024-10-14..2024-10-15"
        assert client.post("/reports", data=fields).status_code == 303, name


def test_a_report_that_would_be_too_long_is_not_offered(app, client, small_fleet):
    html = client.get("/overview").text
    assert ('data-key="ask-days"' in html, 'data-key="ask-hours"' in html) == (True, True)
    application = app.extensions["storemon"]
    # Four stores have 120 days, and 2,688 hours.
    application.settings = replace(application.settings, max_report_rows=120)
    html = client.get("/overview").text
    assert ('data-key="ask-days"' in html, 'data-key="ask-hours"' in html) == (True, False)
    assert "would be too long" in html


def test_groups_are_made_by_any_label_and_lead_to_reports_and_lists_of_it(client, small_fleet):
    feed = "store_id,name,group,region,tag:city\nworked,,North,West & Co,\nsilent,,South,,Paris\n"
    assert client.post("/api/v1/feeds/stores", data=feed).status_code == 200
    html = client.get("/overview?by=region").text
    assert re.findall(r'data-key="by-([^"]+)"', html) == ["group", "region", "tag:city", "timezone"]
    rows = html[html.index('id="groups"') :].partition("</tbody>")[0]
    (asked,) = re.findall(r'<button class="figure" form="ask-this_week" name="labels" value="([^"]+)"', rows)
    assert asked == "region=West &amp; Co"
    assert 'href="/?label=region%3DWest%20%26%20Co"' in rows or 'href="/?label=region%3DWest+%26+Co"' in rows
    assert "no region" in rows
    form = {"as_of": NEWEST, "columns": "full", "totals": "1", "window": "this_week", "labels": "region=West & Co"}
    report_id = client.post("/reports", data=form).headers["Location"].rpartition("/")[2]
    shown = client.get(f"/get_report?report_id={report_id}&format=json").json["rows"]
    assert [row["store_id"] for row in shown if row["kind"] == "store"] == ["worked"]
    (fleet,) = (row for row in shown if row["kind"] == "fleet")
    (row,) = (one for one in client.get("/api/v1/overview?by=region").json["groups"] if one["group"] == "West & Co")
    assert fleet["uptime_percent_this_week"] == row["uptime_percent_this_week"]


def test_groups_are_sorted_by_links_and_lead_to_now(client, small_fleet):
    html = client.get("/overview?by=timezone&sort=name&order=desc").text
    heads = html[html.index('id="groups"') :].partition("</tbody>")[0]
    assert re.findall(r'data-key="group-([^"]+)"', heads) == [
        "UTC",
        "Asia/Tokyo",
        "America/New_York",
        "America/Chicago",
    ]
    assert 'href="/?zone=Asia%2FTokyo"' in heads
    assert 'aria-sort="descending"' in html
    assert 'href="/overview?by=timezone&amp;sort=name#by"' in html


def test_while_it_is_computed_it_says_how_far_it_is(client, small_fleet, monkeypatch):
    go_on = threading.Event()
    real = overview_cache.compute_overview

    def slow(database, snapshot, rules, zone, progress):
        progress(0.42)
        assert go_on.wait(30)
        return real(database, snapshot, rules, zone, progress)

    monkeypatch.setattr(overview_cache, "compute_overview", slow)
    monkeypatch.setattr("storemon_flask.pages.overview._WAIT_S", 0.05)
    waiting = client.get("/overview")
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (200, "1")
    assert "42 %" in waiting.text
    assert '<noscript><meta http-equiv="refresh" content="1"></noscript>' in waiting.text
    go_on.set()
    monkeypatch.setattr("storemon_flask.pages.overview._WAIT_S", 30.0)
    assert 'id="groups"' in client.get("/overview").text


def test_a_browser_that_has_it_gets_the_headers_alone(client, small_fleet):
    first = client.get("/overview")
    again = client.get("/overview", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/overview?days=90").headers["ETag"] != first.headers["ETag"]


def test_without_data_it_says_how_to_begin(client, database, tmp_path):
    assert "/api/v1/feeds/polls" in client.get("/overview").text or "Data" in client.get("/overview").text
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text("store_id,timestamp_utc,status\n")
    load_folder(database, tmp_path / "feeds")
    assert 'id="groups"' not in client.get("/overview").text


@pytest.mark.parametrize("query", ["by=colour", "sort=x", "days=31", "order=up"])
def test_what_is_wrong_is_no_fault_of_the_server(client, small_fleet, query):
    answer = client.get(f"/overview?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == 422
    assert "must be one of" in answer.text


@pytest.mark.parametrize(
    ("sums", "shade", "share"),
    [
        (Sums(), "closed", "·"),
        (Sums(unknown=HOUR), "unknown", "?"),
        (Sums(uptime=HOUR), "shade-0", "0"),
        (Sums(uptime=9_999 * HOUR, downtime=HOUR), "shade-1", "0.0"),
        (Sums(uptime=98 * HOUR, downtime=2 * HOUR), "shade-3", "2.0"),
        (Sums(uptime=HOUR, downtime=HOUR), "shade-6", "50"),
        (Sums(downtime=HOUR), "shade-6", "100"),
    ],
)
def test_cells_of_the_heat_map(sums, shade, share):
    cell = _hour(sums)
    assert (cell["shade"], cell["share"]) == (shade, share)


def test_the_picture_of_days_shows_down_above_and_unknown_below():
    days = [
        DayRow(19_000, Sums(uptime=99 * HOUR, downtime=HOUR)),
        DayRow(19_001, Sums(uptime=40 * HOUR, unknown=60 * HOUR)),
        DayRow(19_002, Sums()),
        DayRow(19_003, Sums(uptime=40 * HOUR, downtime=10 * HOUR, unknown=50 * HOUR)),
    ]
    chart = _chart(days)
    assert chart["scale"] == "20 %"
    assert [(bar.down, bar.unknown, bar.little) for bar in chart["bars"]] == [
        (4, 0, False),
        (0, 14, True),
        (0, 0, False),
        (90, 12, True),
    ]
    assert chart["bars"][2].text.endswith("no business hours")
    assert chart["text"].endswith("; the most on 2022-01-11, 20.00 % of the known time")


def test_changes_have_a_sign_and_a_kind():
    assert _change(None) is None
    assert [_change(one)["text"] for one in (-5, 0, 123)] == ["−0.05", "±0.00", "+1.23"]
    assert [_change(one)["kind"] for one in (-5, 0, 123)] == ["worse", "same", "better"]
