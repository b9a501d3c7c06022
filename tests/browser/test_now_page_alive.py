"""Now, left open in a real browser: it renews itself and outlives the server; on paper, by keyboard, with 14,000
stores.
"""

import re
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from conftest import STOREMON, http
from made_fleet import load_fleet, write_fleet
from now_page import fleet as fleet
from now_page import ids
from now_page import open_fleet as open_fleet
from playwright.sync_api import Browser, Page, Route, expect
from watching import browser as browser
from watching import follow, no_violation, nothing_sticks_out, see_it_back, turn_clock_until, watched

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings


def test_it_renews_itself_and_keeps_scroll_focus_and_filter(browser: Browser, open_fleet: Any) -> None:
    with watched(browser, open_fleet.url, viewport={"width": 1000, "height": 500}) as page:
        page.clock.install()
        page.goto("/?q=kitchen")
        focused = page.locator("#rows [data-key]").nth(30)
        key = focused.get_attribute("data-key") or ""
        focused.focus()
        before = page.evaluate("scrollY")
        assert before > 200
        stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        body = (
            f"store_id,timestamp_utc,status\n{key.removeprefix('store-')},"
            f"{stamp},inactive\nstore-00100,{stamp},inactive\n"
        )
        down = page.locator(".counts .down b")
        shown = int(down.inner_text())
        url = open_fleet.url + "/api/v1/feeds/polls"
        assert http(url, "POST", body.encode(), Content_Type="text/csv").status == 200
        turn_clock_until(page, lambda: int(down.inner_text()) > shown, "more that are down")
        assert page.evaluate("document.activeElement.dataset.key") == key
        assert page.evaluate("scrollY") == before
        assert page.url.endswith("/?q=kitchen")
        assert page.get_by_label("Name or id").input_value() == "kitchen"


def comes_up(fleet: Any, page: Page, store_id: str) -> None:
    """A poll says that the store is active; returns when the page has heard of it."""
    body = f"store_id,timestamp_utc,status\n{store_id},{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC,active\n"
    assert http(fleet.url + "/api/v1/feeds/polls", "POST", body.encode(), Content_Type="text/csv").status == 200
    turn_clock_until(page, lambda: store_id not in ids(page), "the store to leave the list")


def test_when_the_store_with_the_focus_leaves_the_list_the_next_one_has_it(browser: Browser, open_fleet: Any) -> None:
    with watched(browser, open_fleet.url) as page:
        page.clock.install()
        page.goto("/?status=down&q=kitchen&sort=store_id")
        here = ids(page)
        page.locator("#rows [data-key]").nth(3).focus()
        comes_up(open_fleet, page, here[3])
        assert ids(page)[:5] == [*here[:3], *here[4:6]]
        assert page.evaluate("document.activeElement.dataset.key") == f"store-{here[4]}"
        page.goto(f"/?status=down&q={here[0]}")
        page.locator("#rows [data-key]").focus()
        comes_up(open_fleet, page, here[0])
        assert page.evaluate("document.activeElement.id") == "total"
        expect(page.locator("#total")).to_contain_text("No store matches")
        no_violation(page)


def test_a_server_that_goes_is_told_and_one_that_comes_back_is_used(
    browser: Browser, open_fleet: Any, serve: Callable[..., Any]
) -> None:
    port = urlsplit(open_fleet.url).port
    with watched(browser, open_fleet.url, errors_expected=True) as page:
        page.clock.install()
        page.goto("/?status=down")
        here = ids(page)
        open_fleet.end(signal.SIGKILL)
        page.clock.fast_forward(16_000)
        banner = page.locator("#gone")
        expect(banner).to_contain_text("The server does not answer")
        assert ids(page) == here
        serve([*STOREMON, "serve", "--port", str(port)])
        see_it_back(page)
        assert ids(page) == here


def test_a_server_that_takes_the_question_and_is_silent_counts_as_gone(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.clock.install()
        page.add_init_script(
            "const real = AbortSignal.timeout; AbortSignal.timeout = (ms) => real.call(AbortSignal, ms / 50)"
        )
        page.goto("/")
        fleet.process.send_signal(signal.SIGSTOP)
        try:
            page.clock.fast_forward(16_000)
            expect(page.locator("#gone")).to_contain_text("The server does not answer")
        finally:
            fleet.process.send_signal(signal.SIGCONT)


def test_a_store_leads_back_to_the_list_as_it_was_left(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/?group=South&sort=name")
        page.get_by_label("Name or id").fill("kitchen 4")
        expect(page).to_have_url(fleet.url + "/?q=kitchen+4&group=South&sort=name")
        # The list that is asked for then takes the place of this one.
        expect(page.locator("#total")).to_contain_text("of 149 stores")
        follow(page, page.locator("#rows a").first)
        follow(page, page.get_by_role("link", name="30 days"))
        follow(page, page.get_by_role("link", name="All stores"))
        expect(page).to_have_url(fleet.url + "/?q=kitchen+4&group=South&sort=name")
        follow(page, page.get_by_role("link", name="Now"))
        expect(page).to_have_url(fleet.url + "/")


@pytest.mark.parametrize("button", ["left", "middle"])
def test_whoever_is_faster_than_the_scripts_is_led_back_as_well(
    browser: Browser, fleet: Any, button: Literal["left", "middle"]
) -> None:
    with watched(browser, fleet.url) as page:
        held: list[Route] = []
        page.route(re.compile(r"/static/(now|store|app|renew)\.js"), lambda route: held.append(route))
        page.goto("/?group=South&sort=name", wait_until="commit")
        page.locator("#rows a").first.click()
        page.get_by_role("link", name="30 days").click()
        expect(page).to_have_url(re.compile("days=30"))
        led = page
        if button == "middle":
            with page.context.expect_page() as other:
                page.get_by_role("link", name="All stores").click(button=button)
            led = other.value
        else:
            page.get_by_role("link", name="All stores").click()
        expect(led).to_have_url(fleet.url + "/?group=South&sort=name")
        assert held


def test_on_paper_it_is_a_table_although_paper_is_narrow(browser: Browser, fleet: Any) -> None:
    # A4 between Chromium's margins.
    with watched(browser, fleet.url, viewport={"width": 718, "height": 1000}) as page:
        page.goto("/")
        page.emulate_media(media="print")
        nothing_sticks_out(page)
        assert page.locator("#rows tr").first.evaluate("row => getComputedStyle(row).display") == "table-row"
        expect(page.locator("#heads")).to_be_visible()


def test_a_long_name_of_a_group_leaves_the_page_as_wide_as_it_is(
    browser: Browser, database: Database, serve: Callable[..., Any], tmp_path: Path
) -> None:
    write_fleet(tmp_path / "made", 10, datetime.now(UTC), hours=3)
    (tmp_path / "made" / "stores.csv").write_text(f"store_id,name,group\nstore-00001,One,{'G' * 200}\n")
    load_fleet(database, tmp_path / "made")
    server = serve()
    for width in (320, 800, 1280):
        with watched(browser, server.url, viewport={"width": width, "height": 800}) as page:
            page.goto("/")
            nothing_sticks_out(page)


def test_the_keyboard_alone_is_enough(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        page.keyboard.press("Enter")
        expect(page).to_have_url(fleet.url + "/#main")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.key") == "status-all"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page).to_have_url(fleet.url + "/?status=down")


def inside(route: Route) -> str:
    """The page as a server makes it that is asked by another name."""
    text = route.fetch().text()
    origin = route.request.url
    assert origin in text
    return text.replace(origin, "http://inside/")


def test_an_empty_database_says_what_to_do_and_the_page_turns_into_the_list(
    browser: Browser, serve: Callable[..., Any], tmp_path: Path, settings: Settings
) -> None:
    server = serve()
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto("/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing loaded yet")
        no_violation(page)
        # Behind a proxy the server does not know how it is reached; the browser does.
        page.route("**/", lambda route: route.fulfill(body=inside(route), content_type="text/html"))
        page.reload()
        expect(page.locator("#origin")).to_have_text(server.url + "/")
        page.unroute_all()
        page.reload()
        write_fleet(tmp_path / "made", 20, datetime.now(UTC))
        with closing(Database(settings.database)) as database:
            load_fleet(database, tmp_path / "made")
        heading = page.get_by_role("heading", level=1)
        turn_clock_until(page, lambda: heading.inner_text() == "Now", "the list")
        assert len(ids(page)) == 20


def test_what_is_typed_before_the_script_has_come_counts(browser: Browser, fleet: Any) -> None:
    waiting: list[Route] = []
    with watched(browser, fleet.url) as page:
        page.route("**/static/now.js", lambda route: waiting.append(route))
        with page.expect_request("**/static/now.js"):
            page.goto("/", wait_until="commit")
        page.get_by_label("Name or id").fill("kitchen 499")
        waiting[0].continue_()
        expect(page.locator("#total")).to_contain_text("1–1 of 1 store")
        assert page.url.endswith("/?q=kitchen+499")


@pytest.mark.slow
def test_fourteen_thousand_stores_are_searched_and_leafed_through(
    browser: Browser, database: Database, serve: Callable[..., Any], tmp_path: Path
) -> None:
    write_fleet(tmp_path / "made", 14_000, datetime.now(UTC), hours=3)
    load_fleet(database, tmp_path / "made")
    with watched(browser, serve().url) as page:
        page.goto("/")
        expect(page.locator("#total")).to_contain_text("1–50 of 14,000 stores")
        follow(page, page.get_by_role("link", name="Last »"))
        expect(page.locator("#total")).to_contain_text("13,951–14,000 of 14,000 stores")
        page.get_by_label("Name or id").fill("kitchen 13999")
        expect(page.locator("#total")).to_contain_text("1–1 of 1 store")
        assert ids(page) == ["store-13995"]
