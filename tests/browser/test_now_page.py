"""Now in a real browser against a real server: filter, search, sort, leaf through; it renews itself, and outlives the server."""

import csv
import io
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import STOREMON, http
from made_fleet import HOSTILE, clocks_back, live, load_fleet, write_fleet
from playwright.sync_api import Browser, Page, expect
from watching import browsing, no_violation, nothing_sticks_out, watched

from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database

COLUMNS = {"last day": "last_day", "last week": "last_week"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores as they are now."""
    live(database, tmp_path / "made")
    return serve()


@pytest.fixture
def old_fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores of a day when clocks were turned back."""
    clocks_back(database, tmp_path / "made")
    return serve()


def ids(page: Page) -> list[str]:
    """The ids of the stores in the list, from the top."""
    # A page that is still coming has some of its rows.
    page.wait_for_load_state("domcontentloaded")
    found: list[str] = page.locator("#rows [data-key]").evaluate_all(
        "links => links.map(one => one.dataset.key.slice('store-'.length))"
    )
    return found


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
                "rows => rows.map(row => [row.querySelector('[data-key]').dataset.key.slice(6), row.querySelector('.badge').className,"
                " ...[...row.querySelectorAll('td[data-label]')].slice(0, 2).map(cell => [cell.querySelector('title')?.textContent, cell.querySelector('b')?.textContent])])"
            )
            for store_id, badge, *windows in cells:
                row = rows[store_id]
                assert badge == f"badge {row['status_now']}"
                for (bar, percent), (label, window) in zip(windows, COLUMNS.items(), strict=True):
                    up, down, unknown = (row[f"{name}_{window}"] for name in ("uptime", "downtime", "unknown"))
                    assert bar == f"{label}: {up} h up, {down} h down, {unknown} h unknown"
                    expected = row[f"uptime_percent_{window}"]
                    assert percent == (f"{expected} %" if expected else "unknown")
                    compared += 1
            page.get_by_role("link", name="Next").click()
    assert compared == 300


def test_a_status_filters_and_the_address_says_so(browser: Browser, fleet: Any) -> None:
    counts = told(fleet, limit="1")["counts"]
    with watched(browser, fleet.url) as page:
        page.goto("/")
        page.get_by_role("link", name="Down", exact=False).first.click()
        expect(page.locator("#total")).to_contain_text(f"of {counts['down']}")
        assert parse_qs(urlsplit(page.url).query) == {"status": ["down"]}
        assert statuses(page) == {"Down"}
        assert ids(page) == [one["store_id"] for one in told(fleet, status="down", limit="50")["stores"]]
        page.get_by_role("link", name="Clear filters").click()
        expect(page.locator("#total")).to_contain_text("of 500")


def test_search_zone_group_and_order_apply_as_they_are_set(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/")
        page.get_by_label("Name or id").fill("KITCHEN 4")
        expect(page.locator("#total")).to_contain_text("of 110 stores")
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


def test_heads_sort_and_pages_are_leafed_through(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url) as page:
        page.goto("/")
        page.get_by_role("link", name="Last week").click()
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Last week")
        page.get_by_role("link", name="Last week").click()
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("Last week")
        seen = ids(page)
        for number in range(2, 11):
            page.get_by_role("link", name="Next").click()
            expect(page.locator("#pages")).to_contain_text(f"Page {number} of 10")
            seen += ids(page)
        everything = told(fleet, sort="uptime_percent_last_week", order="desc", limit="1000")["stores"]
        assert seen == [one["store_id"] for one in everything]
        page.get_by_role("link", name="First").click()
        assert ids(page) == seen[:50]


def test_it_works_without_scripts(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_label("Name or id").fill("kitchen 499")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#total")).to_contain_text("1–1 of 1 store")
        page.get_by_role("link", name="Kitchen 499").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Kitchen 499")


def test_it_renews_itself_and_keeps_scroll_focus_and_filter(browser: Browser, fleet: Any) -> None:
    with watched(browser, fleet.url, viewport={"width": 1000, "height": 500}) as page:
        page.clock.install()
        page.goto("/?q=kitchen")
        focused = page.locator("#rows [data-key]").nth(30)
        key = focused.get_attribute("data-key") or ""
        focused.focus()
        before = page.evaluate("scrollY")
        assert before > 200
        stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        body = f"store_id,timestamp_utc,status\n{key.removeprefix('store-')},{stamp},inactive\nstore-00100,{stamp},inactive\n"
        shown = page.locator(".counts .down b").inner_text()
        assert http(fleet.url + "/api/v1/feeds/polls", "POST", body.encode(), Content_Type="text/csv").status == 200
        for _ in range(12):
            page.clock.fast_forward(16_000)
            page.wait_for_timeout(250)
            if page.locator(".counts .down b").inner_text() != shown:
                break
        assert int(page.locator(".counts .down b").inner_text()) > int(shown)
        assert page.evaluate("document.activeElement.dataset.key") == key
        assert page.evaluate("scrollY") == before
        assert page.url.endswith("/?q=kitchen")
        assert page.get_by_label("Name or id").input_value() == "kitchen"


def test_a_server_that_goes_is_told_and_one_that_comes_back_is_used(
    browser: Browser, fleet: Any, serve: Callable[..., Any]
) -> None:
    port = urlsplit(fleet.url).port
    with watched(browser, fleet.url, errors_expected=True) as page:
        page.clock.install()
        page.goto("/?status=down")
        here = ids(page)
        fleet.end(signal.SIGKILL)
        page.clock.fast_forward(16_000)
        banner = page.locator("#gone")
        expect(banner).to_contain_text("The server does not answer")
        assert ids(page) == here
        serve([*STOREMON, "serve", "--port", str(port)])
        for _ in range(40):
            page.clock.fast_forward(4_000)
            page.wait_for_timeout(250)
            if banner.is_hidden():
                break
        expect(banner).to_be_hidden()
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
        page.locator("#rows a").first.click()
        page.get_by_role("link", name="30 days").click()
        page.get_by_role("link", name="All stores").click()
        expect(page).to_have_url(fleet.url + "/?q=kitchen+4&group=South&sort=name")
        page.get_by_role("link", name="Now").click()
        expect(page).to_have_url(fleet.url + "/")


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
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.key") == "status-all"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page).to_have_url(fleet.url + "/?status=down")


def test_an_empty_database_says_what_to_do_and_the_page_turns_into_the_list(
    browser: Browser, serve: Callable[..., Any], tmp_path: Path, settings: Settings
) -> None:
    server = serve()
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto("/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing loaded yet")
        no_violation(page)
        write_fleet(tmp_path / "made", 20, datetime.now(UTC))
        load_fleet(Database(settings.database), tmp_path / "made")
        heading = page.get_by_role("heading", level=1)
        for _ in range(20):
            page.clock.fast_forward(16_000)
            page.wait_for_timeout(250)
            if heading.inner_text() == "Now":
                break
        expect(heading).to_have_text("Now")
        assert len(ids(page)) == 20


def test_fourteen_thousand_stores_are_searched_and_leafed_through(
    browser: Browser, database: Database, serve: Callable[..., Any], tmp_path: Path
) -> None:
    write_fleet(tmp_path / "made", 14_000, datetime.now(UTC), hours=3)
    load_fleet(database, tmp_path / "made")
    with watched(browser, serve().url) as page:
        page.goto("/")
        expect(page.locator("#total")).to_contain_text("1–50 of 14,000 stores")
        page.get_by_role("link", name="Last »").click()
        expect(page.locator("#total")).to_contain_text("13,951–14,000 of 14,000 stores")
        page.get_by_label("Name or id").fill("kitchen 13999")
        expect(page.locator("#total")).to_contain_text("1–1 of 1 store")
        assert ids(page) == ["store-13995"]
