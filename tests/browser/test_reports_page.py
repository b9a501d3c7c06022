"""Reports in a real browser against a real server: ask, watch, look, download, print; the numbers are the CSV's."""

import csv
import io
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_fleet import load_fleet
from playwright.sync_api import Browser, Response, expect
from reports_page import HOSTILE, STORES, cells, made, the_csv, trigger
from reports_page import fleet as fleet
from reports_page import server as server
from watching import LOOKS, follow, no_violation, nothing_sticks_out, watched
from watching import browser as browser

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings


def test_asking_by_the_button_leads_to_the_numbers_of_the_csv(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto("/reports")
        page.get_by_role("button", name="Make report").click()
        page.wait_for_url(re.compile("/reports/[0-9a-f]{32}$"))
        report_id = made(page, server.url)
        expected = the_csv(server.url, report_id)
        # A header, the stores, and totals of two groups and of all.
        assert len(expected) == STORES + 4
        assert page.locator("th .called").first.inner_text() == f"{HOSTILE[0][:40]} 0 · South"
        assert [row[0] for row in cells(page)[1:4]] == ["all stores", "North", "South"]
        seen: dict[str, list[str]] = {}
        while True:
            seen |= {row[0]: [cell.replace(",", "") for cell in row[1:]] for row in cells(page)[1:]}
            following = page.get_by_role("link", name="Next").first
            if not following.count():
                break
            follow(page, following)
        assert seen == {row[1] or row[2] or "all stores": [row[0], *row[2:]] for row in expected[1:]}


def test_the_keyboard_alone_asks_sorts_and_filters(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto("/reports")
        page.get_by_label("Columns").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        report_id = made(page, server.url)
        page.get_by_role("link", name="downtime last day").focus()
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("sort=downtime_last_day&order=desc"))
        header, *rows = the_csv(server.url, report_id)
        rows = [row for row in rows if row[0] == "store"]
        worst = sorted((row[header.index("downtime_last_day")] for row in rows), key=float, reverse=True)
        shown = [row for row in cells(page) if row[1] in ("kind", "store")]
        column = next(place for place, cell in enumerate(shown[0]) if cell.startswith("downtime last day"))
        assert [row[column] for row in shown[1:]] == worst[: len(shown) - 1]
        assert page.locator("th[aria-sort=descending]").count() == 1
        page.get_by_label("Filter").focus()
        page.keyboard.type("STORE-007")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("q=STORE-007"))
        assert [row[0] for row in cells(page)[1:]] == ["store-007"]


@LOOKS
def test_this_week_against_the_week_before_is_two_clicks_away(
    browser: Browser, server: Any, scheme: str, width: int
) -> None:
    with watched(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto("/")
        page.get_by_role("link", name="Reports").click()
        no_violation(page)
        nothing_sticks_out(page)
        page.get_by_role("button", name="This week").click()
        report_id = made(page, server.url)
        header, *lines = the_csv(server.url, report_id)
        fleet = dict(zip(header, lines[-1], strict=True))
        shown = cells(page)
        assert (shown[1][0], fleet["kind"]) == ("all stores", "fleet")
        # Percentages stand before any amount of time.
        units = [cell.split()[-1] for cell in shown[0]]
        assert units.index("%") < units.index("h")
        for name, words in (("uptime_percent_this_week", "uptime this week"),):
            at = next(at for at, cell in enumerate(shown[0]) if cell.rpartition(" ")[0] == words)
            assert shown[1][at].replace(",", "").removeprefix("+").startswith(fleet[name]), name
        no_violation(page)
        nothing_sticks_out(page)


def test_progress_is_shown_while_it_runs_and_the_table_comes_by_itself(
    browser: Browser, server: Any, settings: Settings
) -> None:
    report_id = trigger(server.url)
    _state(settings, report_id, "running", 0.25)
    with watched(browser, server.url) as page:
        page.goto(f"/reports/{report_id}")
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_js_property("value", 25)
        _state(settings, report_id, "running", 0.5)
        expect(bar).to_have_js_property("value", 50)
        no_violation(page)
        _state(settings, report_id, "complete", 1)
        made(page, server.url)


def test_the_list_renews_a_row_and_keeps_what_is_typed(browser: Browser, server: Any, settings: Settings) -> None:
    report_id = trigger(server.url)
    _state(settings, report_id, "running", 0.25)
    with watched(browser, server.url) as page:
        page.goto("/reports")
        page.get_by_label("As of").fill("2024-10-14")
        row = page.locator(f"#report-{report_id}")
        expect(row).to_contain_text("Running")
        _state(settings, report_id, "complete", 1)
        expect(row).to_contain_text("Complete")
        assert page.get_by_label("As of").input_value() == "2024-10-14"


def _state(settings: Settings, report_id: str, state: str, progress: float) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(settings.database, timeout=30)) as connection, connection:
        connection.execute("UPDATE report SET state = ?, progress = ? WHERE id = ?", (state, progress, report_id))


def test_the_server_gone_is_said_and_recovered_from(browser: Browser, server: Any, settings: Settings) -> None:
    report_id = trigger(server.url)
    _state(settings, report_id, "running", 0.25)
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto(f"/reports/{report_id}")
        answers = {"gone": True}

        def answer(route: Any) -> None:
            route.abort("connectionrefused") if answers["gone"] else route.continue_()

        page.route("**/api/v1/reports/*", answer)
        expect(page.get_by_role("status").filter(has_text="does not answer")).to_be_visible()
        _state(settings, report_id, "complete", 1)
        answers["gone"] = False
        made(page, server.url)
        page.unroute_all()


def test_what_is_wrong_is_said_at_the_form(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/reports")
        page.get_by_label("As of").fill("yesterday")
        page.get_by_role("button", name="Make report").click()
        expect(page.get_by_role("alert")).to_contain_text("Not asked for yet: see what is marked below.")
        typed = page.get_by_label("As of")
        expect(typed).to_have_accessible_description(re.compile("'yesterday' is not an instant such as"))
        assert typed.input_value() == "yesterday"
        expect(page.locator("#error")).to_be_focused()
        no_violation(page)
        page.get_by_role("alert").get_by_role("link", name="As of").click()
        expect(typed).to_be_focused()


@LOOKS
def test_a_window_half_typed_is_marked_in_its_own_row(browser: Browser, server: Any, scheme: str, width: int) -> None:
    with watched(
        browser, server.url, errors_expected=True, color_scheme=scheme, viewport={"width": width, "height": 800}
    ) as page:
        page.goto("/reports")
        page.get_by_text("More: windows").click()
        page.get_by_label("From (window 3)").fill("2024-10-01")
        page.get_by_role("button", name="Make report").click()
        page.get_by_role("alert").get_by_role("link", name="To (window 3)").click()
        missing = page.get_by_label("to (window 3)")
        expect(missing).to_be_focused()
        expect(missing).to_have_accessible_description(re.compile("is missing; it must be a date such as"))
        assert page.locator("[aria-invalid]").count() == 1
        no_violation(page)
        nothing_sticks_out(page)


def test_a_report_is_downloaded_as_it_is(browser: Browser, server: Any) -> None:
    report_id = trigger(server.url, columns="full")
    with watched(browser, server.url) as page:
        page.goto(f"/reports/{report_id}")
        for name, suffix in (("CSV", "csv"), ("Excel", "xlsx"), ("JSON", "json")):
            with page.expect_download() as coming:
                page.get_by_role("link", name=name, exact=True).click()
            assert coming.value.suggested_filename == f"report_{report_id}.{suffix}"
            if suffix == "csv":
                text = coming.value.path().read_text("utf-8")
                assert list(csv.reader(io.StringIO(text, newline=""))) == the_csv(server.url, report_id)


def test_two_reports_are_compared(browser: Browser, server: Any) -> None:
    trigger(server.url, as_of="2024-10-14T06:00:00Z")
    report_id = trigger(server.url)
    with watched(browser, server.url) as page:
        page.goto(f"/reports/{report_id}")
        follow(page, page.get_by_role("button", name="Compare"))
        expect(page.get_by_role("heading", name="What changed")).to_be_visible()
        assert page.locator("tbody tr").count() == 100
        points = [
            abs(float(text))
            for text in page.locator("td.change").evaluate_all(
                "cells => cells.map(cell => cell.textContent.replace('−', '-').split(' ')[1]).filter(text => /^[+-]/.test(text))"
            )
        ]
        assert points
        assert points == sorted(points, reverse=True)
        summary = page.get_by_text("6 cells").first
        summary.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".changes li").first).to_be_visible()
        no_violation(page)
        nothing_sticks_out(page)


def test_paper_has_the_table_and_nothing_to_press(browser: Browser, server: Any) -> None:
    report_id = trigger(server.url, columns="full")
    with watched(browser, server.url) as page:
        page.goto(f"/reports/{report_id}?limit=25")
        page.emulate_media(media="print")
        for gone in ("nav", "form", "button", ".actions", "summary"):
            assert page.locator(gone).locator("visible=true").count() == 0, gone
        assert page.locator("table.cells").is_visible()
        expect(page.locator(".paper")).to_contain_text("Not on paper, but in the CSV: uptime likely low last hour")
        assert page.locator("thead th").nth(4).bounding_box()["width"] > 10  # type: ignore[index]
        hidden = page.locator("thead th").filter(has_text="measured last day")
        assert (hidden.bounding_box() or {"width": 0})["width"] < 10
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (320, "screen"), (1032, "print")])
def test_an_ordinary_uuid_is_read_whole_on_screen_phone_and_paper(
    browser: Browser, server: Any, width: int, media: Any
) -> None:
    # Its digits are as wide as they come.
    uuid = "8d08d8d0-d0d8-48d8-88d0-d0d8d8d8d0d8"
    body = f"store_id,timestamp_utc,status\n{uuid},2024-10-14 11:00:00,active\n".encode()
    request = urllib.request.Request(f"{server.url}/api/v1/feeds/polls", body, {"Content-Type": "text/csv"})
    urllib.request.urlopen(request, timeout=30).close()
    for columns in ("classic", "full"):
        report_id = trigger(server.url, columns=columns)
        with watched(browser, server.url, viewport={"width": width, "height": 700}) as page:
            page.goto(f"/reports/{report_id}?q={uuid}")
            page.emulate_media(media=media)
            cell = page.locator(f"th bdi[title='{uuid}']")
            expect(cell).to_have_text(uuid)
            box = cell.evaluate(
                "one => [one.scrollWidth <= one.clientWidth, one.scrollHeight <= one.clientHeight, one.clientHeight]"
            )
            assert box[:2] == [True, True], (columns, box)
            # In one line where there is room for it, and never a letter a line.
            assert box[2] < (30 if width > 320 else 70), (columns, box)
            nothing_sticks_out(page)


@LOOKS
def test_no_page_of_reports_keeps_anybody_out(browser: Browser, server: Any, scheme: str, width: int) -> None:
    ids = [
        trigger(server.url),
        trigger(server.url, columns="full"),
        trigger(server.url, by="day", totals=True),
        trigger(server.url, kind="outages"),
    ]
    # Rows are alike, and axe looks at each of their cells.
    addresses = ["/reports", *(f"/reports/{one}?limit=25" for one in ids)]
    with watched(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        for address in addresses:
            page.goto(address)
            for details in page.locator("details").all():
                details.evaluate("one => one.open = true")
            no_violation(page)
            nothing_sticks_out(page)


@pytest.mark.slow
def test_each_page_is_small(browser: Browser, server: Any) -> None:
    # Ids as long as those of most fleets, each with a name.
    ids = [f"8d08d8d0-d0d8-48d8-88d0-{number:012d}" for number in range(500)]
    polls = [f"{one},2024-10-{day} 0{hour}:00:00,inactive" for one in ids for day in (13, 14) for hour in (1, 2)]
    stores = [f"{one},The shop at the corner of Harbour Street {place},North" for place, one in enumerate(ids)]
    for feed, header, rows in (
        ("polls", "store_id,timestamp_utc,status", polls),
        ("stores", "store_id,name,group", stores),
    ):
        request = urllib.request.Request(
            f"{server.url}/api/v1/feeds/{feed}", "\n".join([header, *rows, ""]).encode(), {"Content-Type": "text/csv"}
        )
        urllib.request.urlopen(request, timeout=60).close()
    asked: list[dict[str, Any]] = [
        {}, {"columns": "full"}, {"kind": "outages"}, {"by": "day"}, {"by": "day", "columns": "full", "totals": True},
    ]  # fmt: skip
    addresses = ["/reports", *(f"/reports/{trigger(server.url, stores=ids, **one)}?limit=500" for one in asked)]
    for address in addresses:
        with watched(browser, server.url) as page:
            answers: list[Response] = []
            page.on("response", lambda answer, answers=answers: answers.append(answer))
            page.goto(address, wait_until="networkidle")
            # Asked for now: a handler that waits for a body may be still waiting when the page is closed.
            sizes = {answer.url: len(answer.body()) for answer in answers}
            assert len(sizes) >= 4
            assert sum(sizes.values()) < 150_000, (address, sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_known_little_of_can_be_read(
    browser: Browser, database: Database, serve: Callable[..., Any], tmp_path: Path, scheme: Any
) -> None:
    """Grey is enough to be read, in the report's table and on the page of the store that it leads to."""
    (tmp_path / "polls.csv").write_text("store_id,timestamp_utc,status\none,2024-10-14 12:00:00 UTC,active\n")
    load_fleet(database, tmp_path)
    server = serve()
    report_id = server.trigger(b'{"columns": "full", "windows": ["last_week", "last_30_days"]}')
    server.wait_for(report_id)
    with watched(browser, server.url, color_scheme=scheme) as page:
        page.goto(f"/reports/{report_id}")
        expect(page.locator("td.little .known").first).to_have_text("of 24 h known")
        no_violation(page)
        follow(page, page.get_by_role("link", name="one", exact=True))
        expect(page.locator("#notice")).to_contain_text("Not now.")
        expect(page.locator("#sums .little").first).to_contain_text("of 24 h known")
        no_violation(page)
        nothing_sticks_out(page)
