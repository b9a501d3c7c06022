"""Now in a real browser against a real server: filter, search, sort, leaf through."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from made_fleet import HOSTILE, clocks_back
from now_page import fleet as fleet
from now_page import ids
from playwright.sync_api import Browser, Page, expect
from watching import browser as browser
from watching import follow, no_violation, nothing_sticks_out, percentage_of, watched

from storemon_flask.database.connections import Database

COLUMNS = {"last day": "last_day", "last week": "last_week"}


@pytest.fixture
def old_fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores of a day when clocks were turned back."""
    clocks_back(database, tmp_path / "made")
    return serve()


def statuses(page: Page) -> set[str]:
    found = page.locator("#rows .badge").all_inner_texts()
    return {text.split()[-1] for text in found}


def told(server: Any, **query: str) -> Any:
    return server.get("/api/v1/stores?" + "&".join(f"{name}={value}" for name, value in query.items())).json


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wrong_with_it(browser: Browser, fleet: Any, scheme: Any) -> None:
    with watched(browser, fleet.url, color_scheme=scheme) as page:
        page.goto("/")
        assert len(ids(page)) == 50
        no_violation(page)


@pytest.mark.parametrize("width", [320, 800, 1280])
def test_nothing_sticks_out(browser: Browser, fleet: Any, width: int) -> None:
    with watched(browser, fleet.url, viewport={"width": width, "height": 800}) as page:
        page.goto("/?sort=store_id&order=desc")
        nothing_sticks_out(page)
        assert set(HOSTILE[1:3]) <= set(ids(page))


def test_its_numbers_are_those_of_the_csv(browser: Browser, old_fleet: Any) -> None:
    report_id = old_fleet.trigger(b'{"columns": "full"}')
    text = old_fleet.wait_for(report_id).body.decode()
    rows = {row["store_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    compared = 0
    with watched(browser, old_fleet.url) as page:
        page.goto("/")
        expect(page.get_by_text("Old data.")).to_be_visible()
        for _ in range(3):
            cells = page.locator("#rows tr").evaluate_all(
                "rows => rows.map(row => [row.querySelector('[data-key]').dataset.key.slice(6),"
                " row.querySelector('.badge').className,"
                " ...[...row.querySelectorAll('td[data-label]')].slice(0, 2).map(cell => "
                "[cell.querySelector('title')?.textContent, cell.querySelector('b, .little')?.textContent])])"
            )
            for store_id, badge, *windows in cells:
                row = rows[store_id]
                assert badge == f"badge {row['status_now']}"
                for (bar, percent), (label, window) in zip(windows, COLUMNS.items(), strict=True):
                    up, down, unknown = (row[f"{name}_{window}"] for name in ("uptime", "downtime", "unknown"))
                    assert bar == f"{label}: {up} h up, {down} h down, {unknown} h unknown"
                    assert percent == percentage_of(row, window)
                    compared += 1
            follow(page, page.get_by_role("link", name="Next"))
    assert compared == 300


def test_the_totals_are_of_the_filtered_stores_and_the_csv_is_the_list(browser: Browser, old_fleet: Any) -> None:
    with watched(browser, old_fleet.url) as page:
        page.goto("/")
        page.get_by_label("Group").select_option("South")
        expect(page.locator("#total")).to_contain_text("of 250 stores")
        totals = told(old_fleet, group="South", limit="1")["totals"]
        for label, window in COLUMNS.items():
            line = page.locator("#totals div").filter(has_text=re.compile(label, re.IGNORECASE))
            expect(line).to_contain_text(f"{totals[f'uptime_percent_{window}']:.2f} %")
            expect(line).to_contain_text(f"{round(totals[f'downtime_{window}']):,} h down")
        address = page.get_by_role("link", name="CSV").get_attribute("href")
        rows = list(csv.DictReader(io.StringIO(old_fleet.get(address).body.decode(), newline="")))
        assert [row["store_id"] for row in rows][:50] == ids(page)
        assert len(rows) == 250


def test_a_status_filters_and_the_address_says_so(browser: Browser, old_fleet: Any) -> None:
    counts = told(old_fleet, limit="1")["counts"]
    with watched(browser, old_fleet.url) as page:
        page.goto("/")
        follow(page, page.get_by_role("link", name="Down", exact=False).first)
        expect(page.locator("#total")).to_contain_text(f"of {counts['down']}")
        assert parse_qs(urlsplit(page.url).query) == {"status": ["down"]}
        assert statuses(page) == {"Down"}
        assert ids(page) == [one["store_id"] for one in told(old_fleet, status="down", limit="50")["stores"]]
        follow(page, page.get_by_role("link", name="Clear filters"))
        expect(page.locator("#total")).to_contain_text("of 500")


def test_search_zone_group_and_order_apply_as_they_are_set(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/")
        page.get_by_label("Name or id").fill("KITCHEN 4")
        expect(page.locator("#total")).to_contain_text("of 227 stores")
        page.get_by_label("Time zone").select_option("Asia/Kolkata")
        page.get_by_label("Group").select_option("South")
        page.get_by_label("Order by").select_option("store_id")
        page.get_by_label("Direction").select_option("descending")
        expect(page.locator("#rows [data-key]").first).to_have_attribute("data-key", "store-store-00494")
        wanted = parse_qs(urlsplit(page.url).query)
        assert wanted == {
            "q": ["KITCHEN 4"],
            "zone": ["Asia/Kolkata"],
            "group": ["South"],
            "sort": ["store_id"],
            "order": ["desc"],
        }
        here = ids(page)
        page.reload()
        assert ids(page) == here
        assert page.get_by_label("Group").input_value() == "South"


def test_heads_sort_and_pages_are_leafed_through(browser: Browser, old_fleet: Any) -> None:
    # Of old data the order stays as it is, however long this takes.
    with watched(browser, old_fleet.url) as page:
        page.goto("/")
        follow(page, page.get_by_role("link", name="Last week"))
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Last week")
        follow(page, page.get_by_role("link", name="Last week"))
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("Last week")
        seen = ids(page)
        for number in range(2, 11):
            follow(page, page.get_by_role("link", name="Next"))
            expect(page.locator("#pages")).to_contain_text(f"Page {number} of 10")
            seen += ids(page)
        everything = told(old_fleet, sort="uptime_percent_last_week", order="desc", limit="1000")["stores"]
        assert seen == [one["store_id"] for one in everything]
        follow(page, page.get_by_role("link", name="First"))
        assert ids(page) == seen[:50]


def test_it_works_without_scripts(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_label("Name or id").fill("kitchen 499")
        follow(page, page.get_by_role("button", name="Show"))
        expect(page.locator("#total")).to_contain_text("1–1 of 1 store")
        follow(page, page.get_by_role("link", name="Kitchen 499"))
        expect(page.get_by_role("heading", level=1)).to_have_text("Kitchen 499")
