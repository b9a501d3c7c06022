"""How a store's page stands: on a phone nothing covers the day that is walked through; on paper and in the legend all
is in line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from made_fleet import load_fleet
from playwright.sync_api import Browser, Page
from store_page import OFF
from store_page import server as server
from store_page import turned_back as turned_back
from watching import browser as browser
from watching import serve_copy, watched

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

# Where the thing `one` begins and ends, in pixels.
LEFT, RIGHT = "one.getBoundingClientRect().left", "one.getBoundingClientRect().right"


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
        assert ["2 h down", 1] in lines
        assert {count for _, count in lines} == {1}


@pytest.fixture(scope="module")
def open_by_the_axis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of one store, open 03:00 to 06:00 and 12:00 to 21:00 of New York on days around a change of clocks."""
    folder = tmp_path_factory.mktemp("axis")
    hours = [f"one,{day},{times}\n" for day in range(7) for times in ("03:00,06:00", "12:00,21:00")]
    (folder / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n"
        + "".join(f"one,2024-11-{day:02d} {hour:02d}:00:00 UTC,active\n" for day in range(1, 11) for hour in range(24))
    )
    (folder / "hours.csv").write_text("store_id,day,start_time_local,end_time_local\n" + "".join(hours))
    (folder / "zones.csv").write_text("store_id,timezone_str\none,America/New_York\n")
    made = Database(folder / "storemon.db")
    load_fleet(made, folder)
    return made.path


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("width", [320, 360, 703, 704, 1280])
def test_an_opening_stands_under_its_hour(
    browser: Browser,
    open_by_the_axis: Path,
    settings: Settings,
    serve: Callable[..., Any],
    width: int,
    media: Literal["screen", "print"],
) -> None:
    server = serve_copy(open_by_the_axis, settings, serve)
    with watched(browser, server.url, viewport={"width": width, "height": 800}) as page:
        # Days of 24 hours after the one of the as-of, whose openings end there; then seven days of which one has 25.
        for query, rows in (("", range(1, 7)), ("?until=2024-11-07", (0, 1, 2, 3, 5, 6))):
            page.goto(f"/stores/one{query}")
            page.emulate_media(media=media)
            axis = dict(page.locator(".axis text").evaluate_all(f"all => all.map(one => [one.textContent, {LEFT}])"))
            assert list(axis) == ["00", "03", "06", "09", "12", "15", "18", "21"]
            for row in rows:
                openings = page.locator("#chart tr").nth(row).locator("rect.open")
                edges = openings.evaluate_all(f"all => all.map(one => [{LEFT}, {RIGHT}])")
                expected = [[axis["03"], axis["06"]], [axis["12"], axis["21"]]]
                assert [edge for one in edges for edge in one] == pytest.approx(
                    [edge for one in expected for edge in one], abs=1
                )
            days = page.locator("#chart svg.day").evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().width)"
            )
            (wide,) = page.locator("svg.axis").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
            assert days == pytest.approx([wide] * 7, abs=0.5)
