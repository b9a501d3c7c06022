"""How a store's page stands: on a phone nothing covers the day that is walked through; on paper and in the legend all is in line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_fleet import load_fleet
from playwright.sync_api import Browser, Page
from store_page import OFF
from store_page import server as server
from store_page import turned_back as turned_back
from watching import browser as browser
from watching import watched

from storemon_flask.storage.db import Database


def covered(page: Page) -> float:
    """How many pixels of the focused day lie under the sentence."""
    found: float = page.evaluate(
        """() => {
          const day = document.activeElement.getBoundingClientRect(), told = document.getElementById("told").getBoundingClientRect();
          if (!document.activeElement.matches("#chart svg")) throw new Error("no day has the focus");
          return Math.min(day.bottom, told.bottom) - Math.max(day.top, told.top);
        }"""
    )
    return found


@pytest.mark.parametrize("width", [320, 360])
def test_on_a_phone_the_day_that_is_walked_through_is_not_covered(browser: Browser, server: Any, width: int) -> None:
    with watched(browser, server.url, viewport={"width": width, "height": 640}) as page:
        page.goto(f"/stores/{OFF}?days=30")
        page.locator("#chart svg").first.focus()
        for key in [*["ArrowDown"] * 29, *["ArrowUp"] * 29]:
            assert covered(page) <= 0
            page.keyboard.press(key)
            page.keyboard.press("ArrowRight")
        assert page.locator("#chart tr").count() == 30


def test_samples_and_their_words_stand_in_line(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, viewport={"width": 1280, "height": 800}) as page:
        page.goto(f"/stores/{OFF}")
        off = page.locator(".legend li").evaluate_all(
            """all => all.map(item => {
              const words = document.createRange();
              words.selectNode(item.lastChild);
              const middle = box => (box.top + box.bottom) / 2, mine = middle(words.getBoundingClientRect());
              const line = all.filter(other => Math.abs(other.getBoundingClientRect().top - item.getBoundingClientRect().top) < 20);
              const sums = line.map(other => { const range = document.createRange(); range.selectNode(other.lastChild); return middle(range.getBoundingClientRect()); });
              return Math.max(...sums.map(one => Math.abs(one - mine)));
            })"""
        )
        assert len(off) >= 9
        assert max(off) <= 1


def test_on_paper_the_uptime_of_a_day_is_not_broken(
    browser: Browser, database: Database, serve: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n"
        + "".join(
            f"one,2024-11-02 {hour:02d}:00:00 UTC,{'inactive' if hour in (10, 11) else 'active'}\n"
            for hour in range(24)
        )
    )
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\none,UTC\n")
    load_fleet(database, tmp_path)
    with watched(browser, serve().url, viewport={"width": 718, "height": 1000}) as page:
        page.goto("/stores/one")
        page.emulate_media(media="print")
        lines = page.locator(".days tbody small").evaluate_all(
            """all => all.map(one => { const range = document.createRange(); range.selectNodeContents(one);
               return [one.innerText, new Set([...range.getClientRects()].map(box => box.top)).size]; })"""
        )
        assert ["2 h 00 min down", 1] in lines
        assert {count for _, count in lines} == {1}
