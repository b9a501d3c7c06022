"""Outages in a real browser against a real server: what goes on, periods, filters, a time of the past."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from made_fleet import clocks_back
from now_page import fleet as fleet
from playwright.sync_api import Browser, Page, expect
from watching import browser as browser
from watching import follow, no_violation, nothing_sticks_out, watched

from storemon_flask.database.connections import Database


@pytest.fixture
def old_fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores of a day when clocks were turned back."""
    clocks_back(database, tmp_path / "made")
    return serve()


def names(page: Page, section: str) -> list[str]:
    page.wait_for_load_state("domcontentloaded")
    return page.locator(f"#{section} tbody th a > bdi").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wrong_with_it(browser: Browser, fleet: Any, scheme: Any) -> None:
    with watched(browser, fleet.url, color_scheme=scheme) as page:
        page.goto("/outages?window=last_7_days")
        assert len(names(page, "ongoing")) > 0
        no_violation(page)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out(browser: Browser, fleet: Any, width: int) -> None:
    with watched(browser, fleet.url, viewport={"width": width, "height": 800}) as page:
        page.goto("/outages?window=last_7_days&sort=name&order=asc")
        nothing_sticks_out(page)
        page.goto(f"/outages?at={quote((datetime.now(UTC) - timedelta(hours=2)).strftime('%Y-%m-%dT%H:%MZ'))}")
        assert len(names(page, "list")) > 0
        nothing_sticks_out(page)


@pytest.mark.parametrize("scripts", [True, False])
def test_questions_take_two_clicks(browser: Browser, old_fleet: Any, scripts: bool) -> None:
    with watched(browser, old_fleet.url, java_script_enabled=scripts) as page:
        page.goto("/")
        follow(page, page.get_by_role("link", name="Outages"))
        ongoing = old_fleet.get("/api/v1/outages?state=ongoing&limit=1000").json
        expect(page.locator("#total")).to_contain_text(f"{ongoing['total']} going on")
        assert ongoing["total"] > 20
        assert len(names(page, "ongoing")) == 20
        expect(page.get_by_role("link", name=f"All {ongoing['total']} that go on")).to_be_visible()
        # Longer than two hours this month.
        follow(page, page.get_by_role("link", name="This month, 2 h or longer"))
        long = old_fleet.get("/api/v1/outages?window=this_month&shortest_minutes=120&limit=1000").json
        expect(page.locator("#total")).to_contain_text(
            f"{long['ongoing']} going on, {long['total'] - long['ongoing']} over"
        )
        # At 14:00 of each store's clock.
        follow(page, page.get_by_role("link", name="Outages"))
        page.get_by_label("Going on at").fill("2024-11-03T14:00")
        follow(page, page.get_by_role("button", name="Show"))
        then = old_fleet.get("/api/v1/outages?at=2024-11-03T14:00&limit=1000").json
        expect(
            page.get_by_role("heading", name="Going on at 2024-11-03 14:00 of each store’s own clock")
        ).to_be_visible()
        expect(page.locator("#total")).to_contain_text(f"{then['total']} outages")
        first = then["outages"][0]
        assert names(page, "list")[0] == (first["name"] or first["store_id"])


def test_a_head_sorts_and_a_store_leads_to_its_day(browser: Browser, old_fleet: Any) -> None:
    with watched(browser, old_fleet.url) as page:
        page.goto("/outages?state=ongoing&group=South")
        follow(page, page.get_by_role("link", name="Store", exact=True))
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Store")
        rows = old_fleet.get("/api/v1/outages?state=ongoing&group=South&sort=name&order=asc&limit=50").json["outages"]
        assert names(page, "list") == [row["name"][:60] for row in rows]
        follow(page, page.locator("#list tbody th a").first)
        expect(page.get_by_role("heading", level=1)).to_contain_text(rows[0]["name"][:20])
