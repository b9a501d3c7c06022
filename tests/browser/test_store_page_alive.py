"""A store's page left open: it renews itself, keeps what one was at, outlives the server, and leads back to the list."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from conftest import STOREMON, http
from playwright.sync_api import Browser, Page, Request, Response, expect
from store_page import OFF
from store_page import server as server
from store_page import turned_back as turned_back
from watching import browser as browser
from watching import follow, no_violation, see_it_back, turn_clock_until, watched

# Minutes more or less make no poll a day older.
TODAY = datetime(2026, 3, 5, 6, 7, tzinfo=UTC)


def push(server: Any, *polls: str) -> None:
    body = "store_id,timestamp_utc,status\n" + "".join(f"{OFF},{poll}\n" for poll in polls)
    assert http(server.url + "/api/v1/feeds/polls", "POST", body.encode(), Content_Type="text/csv").status == 200


def remember(page: Page) -> None:
    """Mark every row of the chart, to see later which are the same."""
    page.evaluate("document.querySelectorAll('#chart svg').forEach(one => (one.remembered = true))")


def remembered(page: Page) -> list[bool]:
    found: list[bool] = page.locator("#chart svg").evaluate_all("all => all.map(one => Boolean(one.remembered))")
    return found


def asked_again(page: Page) -> None:
    """Half a minute passes, more when the page is not done with what came before; returns when it has had its answer
    to what it asked meanwhile."""
    asked: list[Request] = []
    answered: list[Request] = []

    def note(request: Request) -> None:
        if "/stores/" in request.url:
            asked.append(request)

    def note_answer(answer: Response) -> None:
        answered.append(answer.request)

    page.on("request", note)
    page.on("response", note_answer)
    turn_clock_until(page, lambda: any(one in asked for one in answered), "an answer", 31_000)
    page.remove_listener("request", note)
    page.remove_listener("response", note_answer)


def test_it_renews_itself_and_keeps_scroll_focus_and_place(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, viewport={"width": 1000, "height": 500}) as page:
        page.clock.install(time=TODAY)
        page.goto(f"/stores/{OFF}")
        remember(page)
        told = page.locator("#told")
        page.locator("#chart svg").first.focus()
        while not told.inner_text().startswith("Down ") or "polls on both sides" not in told.inner_text():
            page.keyboard.press("ArrowRight")
        walked, place = told.inner_text(), page.locator("#chart svg").first.get_attribute("aria-valuenow")
        before = page.evaluate("scrollY")
        assert before > 100
        # An earlier outage too: what was walked to is further right among the things to tell of now.
        push(server, "2024-11-03 14:10:00 UTC,inactive", "2024-11-03 20:30:00 UTC,active")
        asked_again(page)
        expect(page.locator("#status")).to_contain_text("Up")
        with watched(browser, server.url) as other:
            other.clock.install(time=TODAY)
            other.goto(f"/stores/{OFF}")
            for piece in ("#status", "#sums", "#chart", "#listed"):
                assert page.locator(piece).inner_text() == other.locator(piece).inner_text()
            marks = "all => all.map(one => [one.getAttribute('class').replace(' here', ''), one.getAttribute('x')])"
            assert page.locator("#chart rect").evaluate_all(marks) == other.locator("#chart rect").evaluate_all(marks)
        # Only the day that changed was drawn again.
        assert remembered(page) == [False, *[True] * 6]
        assert page.evaluate("document.activeElement.dataset.key") == "day-2024-11-03"
        assert told.inner_text().split(":")[0] == walked.split(":")[0]
        assert page.locator("#chart svg").first.get_attribute("aria-valuenow") > place
        assert page.evaluate("scrollY") == before
        assert page.locator("#chart [tabindex='0']").count() == 1
        page.keyboard.press("ArrowDown")
        expect(told).to_contain_text("Sat 2024-11-02")
        no_violation(page)


def test_a_new_day_comes_by_itself_and_the_chosen_one_stays(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}")
        page.locator("#chart svg").nth(2).focus()
        push(server, "2024-11-04 20:30:00 UTC,active")
        asked_again(page)
        expect(page.locator("#chart th").first).to_contain_text("Mon 2024-11-04")
        assert page.evaluate("document.activeElement.dataset.key") == "day-2024-11-01"
        assert page.get_by_label("up to").input_value() == "2024-11-04"
        # The oldest day goes; who was there stands at the end of the page's days.
        page.locator("#chart svg").last.focus()
        push(server, "2024-11-05 20:30:00 UTC,active")
        asked_again(page)
        expect(page.locator("#chart th").first).to_contain_text("Tue 2024-11-05")
        assert page.evaluate("document.activeElement.dataset.key") == "day-2024-10-30"


def test_what_somebody_fills_in_stays(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}")
        page.get_by_label("up to").fill("2024-10-30")
        push(server, "2024-11-04 20:30:00 UTC,active")
        asked_again(page)
        expect(page.locator("#chart th").first).to_contain_text("Mon 2024-11-04")
        assert page.get_by_label("up to").input_value() == "2024-10-30"


def test_days_gone_by_stay_as_they_are(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}?days=2&until=2024-11-02")
        remember(page)
        page.evaluate("document.querySelector('#sums').firstElementChild.remembered = true")
        asked_again(page)
        push(server, "2024-11-03 20:30:00 UTC,active")
        asked_again(page)
        expect(page.locator("#status")).to_contain_text("Up")
        assert remembered(page) == [True, True]
        # Its numbers are those up to the last of its days.
        assert page.evaluate("Boolean(document.querySelector('#sums').firstElementChild.remembered)")


def test_a_server_that_goes_is_told_and_one_that_comes_back_is_used(
    browser: Browser, server: Any, serve: Callable[..., Any]
) -> None:
    port = urlsplit(server.url).port
    with watched(browser, server.url, errors_expected=True) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}")
        remember(page)
        server.end(signal.SIGKILL)
        page.clock.fast_forward(31_000)
        banner = page.locator("#gone")
        expect(banner).to_contain_text("The server does not answer")
        serve([*STOREMON, "serve", "--port", str(port)])
        see_it_back(page)
        assert remembered(page) == [True] * 7


def test_a_store_that_was_removed_is_told(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}")
        assert http(f"{server.url}/api/v1/stores/{OFF}", "DELETE").status == 204
        asked_again(page)
        expect(page.locator("#gone")).to_contain_text("the server answered 404")
        expect(page.locator("h1")).to_be_visible()


def test_nothing_is_asked_while_nobody_looks_and_nothing_changes_in_print(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto(f"/stores/{OFF}")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/stores/" in request.url else None)
        page.evaluate("Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true })")
        page.evaluate("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
        page.clock.fast_forward(61_000)
        assert asked == []
        push(server, "2024-11-03 20:30:00 UTC,active")
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#status")).to_contain_text("Up")
        assert len(asked) == 1
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        push(server, "2024-11-03 20:40:00 UTC,inactive")
        page.clock.fast_forward(61_000)
        assert len(asked) == 1
        expect(page.locator("#status")).to_contain_text("Up")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        expect(page.locator("#status")).to_contain_text("Down")


def test_in_a_tab_of_its_own_it_leads_to_the_list_that_it_came_from(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto("/?group=South&sort=name")
        with page.context.expect_page() as coming:
            page.locator("#rows a").first.click(modifiers=["Control"])
        tab = coming.value
        expect(tab.locator("h1")).to_be_visible()
        follow(tab, tab.get_by_role("link", name="30 days"))
        expect(tab.locator("#chart tr")).to_have_count(30)
        follow(tab, tab.get_by_role("link", name="All stores"))
        expect(tab).to_have_url(f"{server.url}/?group=South&sort=name")
    with watched(browser, server.url) as page:
        # From nowhere there is no list to go back to.
        page.goto(f"/stores/{OFF}", referer=f"{server.url}/data?before=1")
        follow(page, page.get_by_role("link", name="All stores"))
        expect(page).to_have_url(f"{server.url}/")
