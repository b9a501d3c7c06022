"""One store in a real browser against a real server: its days, what is told of them, its outages and numbers; on paper."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from channel_helpers import put
from conftest import http
from made_fleet import HOSTILE, load_fleet
from playwright.sync_api import Browser, expect
from store_page import OFF
from store_page import server as server
from store_page import turned_back as turned_back
from watching import browser as browser
from watching import follow, no_violation, nothing_sticks_out, percentage_of, watched

from storemon_flask.clock import parse_timestamp
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.model import HOUR_US, IncidentKind, Outcome
from storemon_flask.settings import Settings

NUMBERS = ("uptime", "downtime", "unknown", "business", "measured")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wrong_with_it(browser: Browser, server: Any, scheme: Any) -> None:
    with watched(browser, server.url, color_scheme=scheme) as page:
        page.goto(f"/stores/{OFF}")
        no_violation(page)


@pytest.mark.parametrize("store_id", HOSTILE)
def test_hostile_names_and_ids_are_only_text(browser: Browser, server: Any, store_id: str) -> None:
    with watched(browser, server.url, viewport={"width": 320, "height": 700}) as page:
        page.goto("/?sort=store_id&q=" + quote(store_id))
        page.locator(f"#rows [data-key='store-{store_id}']").click()
        expect(page).to_have_url(f"{server.url}/stores/{quote(store_id, safe='')}")
        expect(page.locator("main")).to_contain_text(store_id)
        nothing_sticks_out(page)
        follow(page, page.get_by_role("link", name="14 days"))
        expect(page.locator("#chart tr")).to_have_count(14)


def test_its_numbers_are_those_of_the_csv(browser: Browser, server: Any) -> None:
    report_id = server.trigger(b'{"columns": "full"}')
    text = server.wait_for(report_id).body.decode()
    rows = {row["store_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    with watched(browser, server.url) as page:
        for store_id in (OFF, "store-00007", "store-00120"):
            page.goto(f"/stores/{store_id}")
            table = page.locator(".numbers tbody tr")
            for place, window in enumerate(("last_day", "last_week"), start=1):
                cells = table.nth(place).locator("td").all_inner_texts()
                expected = rows[store_id]
                assert cells[2:] == [expected[f"{name}_{window}"] for name in NUMBERS]
                low, high = (expected[f"uptime_percent_likely_{side}_{window}"] for side in ("low", "high"))
                likely = f" likely {low} to {high}" if low else ""
                assert " ".join(cells[0].split()) == percentage_of(expected, window) + likely


def test_a_day_of_25_hours_is_one_and_says_so(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}")
        first = page.locator("#chart tr").first
        expect(first).to_contain_text("Sun 2024-11-03")
        expect(first).to_contain_text("25 h: clocks change")
        # The ordinary days beside it are 24 of its 25 hours wide.
        widths = page.locator("#chart .ground").evaluate_all("all => all.map(one => one.getAttribute('width'))")
        assert widths == ["100%", *["96%"] * 6]
        expect(page.locator("#chart .change")).to_have_count(1)
        # Six o'clock is seven hours after its midnight; on the day before, six.
        assert first.locator("text").all_text_contents() == ["06", "12", "18"]
        lines = page.locator("#chart tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('.hour')].map(one => one.getAttribute('x1')))"
        )
        assert lines[:2] == [["28%", "52%", "76%"], ["24%", "48%", "72%"]]
        expect(page.locator("#chart text")).to_have_count(3)
        page.goto("/stores/store-00003")
        expect(page.locator("#chart tr").first).not_to_contain_text("clocks change")


def test_on_a_phone_a_day_with_its_note_leaves_room_for_its_uptime(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, viewport={"width": 320, "height": 700}) as page:
        page.goto(f"/stores/{OFF}")
        first = page.locator("#chart tr").first
        note = first.locator("th small").bounding_box()
        uptime = first.locator("td").last.bounding_box()
        assert note is not None
        assert uptime is not None
        assert note["x"] + note["width"] <= uptime["x"] or note["y"] >= uptime["y"] + uptime["height"]


def test_a_date_leads_to_its_days(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}?days=1")
        until = page.get_by_label("up to")
        assert until.input_value() == "2024-11-03"
        until.fill("2024-11-02")
        follow(page, page.get_by_role("button", name="Show"))
        expect(page).to_have_url(f"{server.url}/stores/{OFF}?days=1&until=2024-11-02")
        expect(page.locator("#chart th")).to_have_text(["Sat 2024-11-02"])
        assert until.input_value() == "2024-11-02"


@pytest.mark.parametrize("store_id", [".", "..", "~.."])
def test_a_store_whose_id_means_a_folder_has_a_page(
    browser: Browser, serve: Callable[..., Any], database: Database, tmp_path: Path, store_id: str
) -> None:
    (tmp_path / "polls.csv").write_text(f"store_id,timestamp_utc,status\n{store_id},2024-11-03 10:00:00 UTC,active\n")
    load_fleet(database, tmp_path)
    server = serve()
    with watched(browser, server.url) as page:
        page.goto("/")
        page.locator(f"#rows [data-key='store-{store_id}']").click()
        expect(page).to_have_url(f"{server.url}/stores/~{store_id}")
        expect(page.locator("h1")).to_have_text(store_id)
        follow(page, page.get_by_role("link", name="14 days"))
        expect(page.locator("#chart tr")).to_have_count(14)


def test_every_poll_is_a_tick(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}")
        polls = server.get(f"/api/v1/stores/{OFF}/timeline?from=2024-10-28T04:00:00Z").json["polls"]
        assert page.locator("#chart .p").count() == len(polls)
        counted = sum(one["counts"] for one in polls)
        assert page.locator("#chart .p.active, #chart .p.inactive").count() == counted > 5


def test_pointing_and_the_keyboard_tell_instants_and_reasons(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}")
        told = page.locator("#told")
        page.locator("#chart .s.down.measured").first.hover()
        expect(told).to_contain_text("polls on both sides say inactive")
        expect(told).to_contain_text("UTC")
        expect(told).to_contain_text("EST")
        row = page.locator("#chart svg").first
        # The focus may scroll, and what then comes under the pointer would be told.
        page.mouse.move(0, 0)
        row.focus()
        expect(told).to_contain_text("25 h: clocks change")
        seen = []
        for _ in range(40):
            page.keyboard.press("ArrowRight")
            seen.append(told.inner_text())
        assert row.get_attribute("aria-valuetext") == seen[-1]
        assert any(text.startswith("Poll ") and "inactive" in text for text in seen)
        assert any("nearer to the poll that says inactive" in text for text in seen)
        page.keyboard.press("ArrowDown")
        expect(told).to_contain_text("Sat 2024-11-02")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Home")
        assert page.locator("#chart [tabindex='0']").count() == 1


def test_its_outages_are_those_of_the_api(browser: Browser, server: Any) -> None:
    found = server.get(f"/api/v1/stores/{OFF}/timeline?from=2024-10-28T04:00:00Z").json["outages"]
    assert len(found) == 1
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}")
        rows = page.get_by_role("region", name="Outages on these days").locator("tbody tr")
        expect(rows).to_have_count(1)
        assert rows.locator("time").first.get_attribute("datetime") == found[0]["start"]
        expect(rows).to_contain_text("goes on")


def test_other_days_are_a_link_away(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}?days=1")
        expect(page.locator("#chart tr")).to_have_count(1)
        follow(page, page.get_by_role("link", name="Earlier"))
        expect(page).to_have_url(f"{server.url}/stores/{OFF}?days=1&until=2024-11-02")
        expect(page.locator("#chart tr")).to_contain_text("Sat 2024-11-02")
        follow(page, page.get_by_role("link", name="Later"))
        expect(page).to_have_url(f"{server.url}/stores/{OFF}?days=1")


def test_on_paper_there_is_what_one_would_hand_over(browser: Browser, server: Any) -> None:
    # An outage that has ended has the widest row.
    ended = f"store_id,timestamp_utc,status\n{OFF},2024-11-01 16:30:00,inactive\n".encode()
    assert http(server.url + "/api/v1/feeds/polls", "POST", ended, Content_Type="text/csv").status == 200
    with watched(browser, server.url) as page:
        page.goto(f"/stores/{OFF}")
        page.emulate_media(media="print")
        # A4 between Chromium's margins.
        page.set_viewport_size({"width": 718, "height": 1000})
        nothing_sticks_out(page)
        assert (
            page.locator(".scroll").evaluate_all("all => all.map(one => one.scrollWidth > one.clientWidth)")
            == [False] * 2
        )
        for gone in (".top", "#told", ".paging"):
            expect(page.locator(gone).first).to_be_hidden()
        for kept in ("#chart svg", ".numbers", "h1"):
            expect(page.locator(kept).first).to_be_visible()
        assert page.pdf().startswith(b"%PDF")


def test_a_store_that_is_not_there_is_a_page(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        answer = page.goto("/stores/nowhere")
        assert answer is not None
        assert answer.status == 404
        expect(page.locator("main")).to_contain_text("There is no store 'nowhere'")
        no_violation(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_blind_time_is_hatched_and_named(browser: Browser, server: Any, settings: Settings, scheme: Any) -> None:
    timeline = json.loads(http(f"{server.url}/api/v1/stores/{OFF}/timeline").body)
    as_of_us = parse_timestamp(timeline["as_of"])
    since_us = as_of_us - 20 * HOUR_US
    details = {"reason": "silence", "count": 300, "of": 500}
    found = Incident(0, IncidentKind.BLIND, "fleet", "", since_us, since_us + 2 * HOUR_US, details=details)
    with closing(Database(settings.database)) as database:
        put(database, replace(found, resolved_us=as_of_us, ended_us=as_of_us - HOUR_US, outcome=Outcome.OVER))
    with watched(browser, server.url, color_scheme=scheme) as page:
        page.goto(f"/stores/{OFF}")
        no_violation(page)
        expect(page.locator("#chart .blind").first).to_be_visible()
        expect(page.locator("#blindness li")).to_contain_text("(19 h): polls missing for all stores")
        expect(page.locator("#samples")).to_contain_text("polls missing for many stores, or wrong: the poller")
        day = page.locator("#chart svg.day", has=page.locator(".blind")).first
        assert "Polls missing for all stores" in (day.get_attribute("aria-valuetext") or "")
        day.locator(".blind").first.hover()
        expect(page.locator("#told")).to_contain_text("Polls missing for all stores, ")
        nothing_sticks_out(page)
