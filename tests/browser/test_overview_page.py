"""The overview in a real browser against a real server: every number is that of the report it leads to."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from made_fleet import load_fleet, write_fleet
from playwright.sync_api import Browser, Page, expect
from watching import LOOKS, follow, no_violation, nothing_sticks_out, watched
from watching import browser as browser

from storemon_flask.database.connections import Database


@pytest.fixture
def fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 60 stores with eleven days of polls up to Wednesday, 2024-11-06 20:00 UTC."""
    write_fleet(tmp_path / "made", 60, datetime(2024, 11, 6, 20, tzinfo=UTC), hours=11 * 24)
    load_fleet(database, tmp_path / "made")
    return serve()


def report_rows(server: Any, page: Page) -> list[dict[str, str]]:
    """The rows of the report whose page is shown."""
    answer = server.wait_for(page.url.rpartition("/")[2])
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))


def figure(page: Page, key: str) -> str:
    """The number on a button, without the words for those who do not see it."""
    text: str = page.locator(f'[data-key="{key}"]').evaluate("one => one.lastChild.textContent.trim()")
    shown = page.locator(f'[data-key="{key}"]').inner_text()
    return next((word for word in shown.replace(":", " ").split() if word[0].isdigit() and "." in word), text)


@LOOKS
def test_nothing_is_wrong_with_it(browser: Browser, fleet: Any, width: int, scheme: Any) -> None:
    with watched(browser, fleet.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto("/overview?by=timezone&days=90")
        expect(page.locator("#groups tr")).to_have_count(4)
        no_violation(page)
        nothing_sticks_out(page)


def test_numbers_are_those_of_the_reports_they_lead_to(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        for key, kind, window in (
            ("fleet-this_week", "fleet", "this_week"),
            ("fleet-this_month", "fleet", "this_month"),
            ("this_week-North", "group", "this_week"),
            ("today-South", "group", "today"),
        ):
            page.goto("/overview")
            number = figure(page, key)
            follow(page, page.locator(f'[data-key="{key}"]'))
            (row,) = (one for one in report_rows(fleet, page) if one["kind"] == kind)
            assert number == row[f"uptime_percent_{window}"], key
            # The page of the report shows it, too.
            expect(page.locator("main")).to_contain_text(number)


def test_a_day_of_the_table_is_that_of_its_report(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/overview")
        page.get_by_text("The days as a table").click()
        number = figure(page, "day-2024-11-06")
        follow(page, page.locator('[data-key="day-2024-11-06"]'))
        (row,) = (one for one in report_rows(fleet, page) if one["kind"] == "fleet")
        assert number == row["uptime_percent_2024-11-06_2024-11-07"]


def test_a_store_leads_to_its_page_with_the_same_number(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/overview")
        row = page.locator("#worst-list tbody tr").first
        number = row.locator("td").nth(1).inner_text().split(" %")[0]
        follow(page, row.get_by_role("link"))
        assert "window=this_week" in page.url
        week = page.locator("tr", has=page.get_by_text("This week", exact=False)).first
        expect(week).to_contain_text(number)


def test_it_is_used_with_the_keyboard_and_without_scripts(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url, java_script_enabled=False) as page:
        page.goto("/overview")
        page.locator('[data-key="by-timezone"]').focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.url.endswith("/overview?by=timezone#by")
        page.locator('[data-key="this_week-UTC"]').focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        (row,) = (one for one in report_rows(fleet, page) if one["kind"] == "fleet")
        assert row["kind"] == "fleet"
