"""Alerts and schedules in a real browser against a real server, which finds out itself what is wrong and tells it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channel_helpers import sink
from conftest import http, wait_until
from made_fleet import live
from playwright.sync_api import Browser, expect
from watching import LOOKS, follow, no_violation, nothing_sticks_out, watched
from watching import browser as browser

from storemon_flask.database.connections import Database


@pytest.fixture
def server(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores as they are now, of which many are down; it tells at once."""
    live(database, tmp_path / "made")
    return serve(STOREMON_ALERT_GROUP_SECONDS="0")


def wait_for_incidents(server: Any) -> None:
    """Return once the server has found out what is wrong."""
    wait_until(lambda: server.get("/api/v1/incidents?state=open").json["incidents"], "incidents")


@LOOKS
def test_every_page_of_alerts_is_whole_and_accessible(browser: Browser, server: Any, width: int, scheme: str) -> None:
    with (
        sink() as (url, _),
        watched(browser, server.url, viewport={"width": width, "height": 900}, color_scheme=scheme) as page,
    ):
        body = b'{"name": "ops", "kind": "webhook", "url": "%s"}' % url.encode()
        assert http(server.url + "/api/v1/channels", "POST", body).status == 201
        assert http(server.url + "/api/v1/channels/1/test", "POST").json["delivered"]
        body = b'{"name": "Weekly", "due": "weekly mon 07:00", "channels": ["ops"]}'
        assert http(server.url + "/api/v1/schedules", "POST", body).status == 201
        wait_for_incidents(server)
        for path in (
            "/alerts?state=any",
            "/alerts/deliveries",
            "/alerts/channels/1/remove",
            "/reports/schedules",
            "/reports/schedules/1/remove",
            "/",
        ):
            page.goto(path)
            for details in page.locator("details.ask").all():
                if details.get_attribute("open") is None:
                    details.locator("summary").click()
            nothing_sticks_out(page)
            no_violation(page)


@pytest.mark.parametrize("scripted", [True, False])
def test_a_channel_is_added_tested_told_and_removed(browser: Browser, server: Any, scripted: bool) -> None:
    with sink() as (url, receiver), watched(browser, server.url, java_script_enabled=scripted) as page:
        page.goto("/")
        follow(page, page.get_by_role("link", name="Alerts"))
        page.get_by_text("Add a channel").click()
        page.get_by_label("Name", exact=True).fill("ops")
        page.get_by_label("Signed webhook").check()
        page.get_by_label("Address", exact=True).fill(url)
        follow(page, page.get_by_role("button", name="Add the channel"))
        expect(page.get_by_role("status").filter(has_text="is added")).to_contain_text("whsec_")
        follow(page, page.get_by_role("button", name="Test ops"))
        expect(page.locator("#tested")).to_contain_text("delivered 200 OK: word")
        assert len(receiver.got) >= 1
        wait_for_incidents(server)
        page.reload()
        expect(page.get_by_role("list", name="Open incidents").locator("li").first).to_contain_text("Many down")
        follow(page, page.get_by_role("link", name="Remove ops"))
        follow(page, page.get_by_role("button", name="Remove the channel"))
        expect(page.get_by_text("Nobody is told.")).to_be_visible()


def test_the_page_renews_itself_and_keeps_what_is_typed(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.clock.install()
        page.goto("/alerts")
        page.get_by_text("Add a channel").click()
        page.get_by_label("Name", exact=True).fill("half a na")
        body = b'{"name": "from elsewhere", "kind": "webhook", "url": "http://127.0.0.1:9/x"}'
        assert http(server.url + "/api/v1/channels", "POST", body).status == 201
        page.clock.fast_forward(16_000)
        expect(page.locator("#channel-list")).to_contain_text("from elsewhere")
        assert page.get_by_label("Name", exact=True).input_value() == "half a na"


def test_the_next_runs_are_told_in_the_readers_zone(browser: Browser, server: Any) -> None:
    body = b'{"name": "Weekly", "due": "weekly mon 07:00", "zone": "America/New_York"}'
    assert http(server.url + "/api/v1/schedules", "POST", body).status == 201
    with watched(browser, server.url, timezone_id="Asia/Kolkata", locale="en-GB") as page:
        page.goto("/reports/schedules")
        # 07:00 in New York is 17:30 in Kolkata in winter, 16:30 in summer.
        first = page.locator("time[data-reader]").first
        expect(first).to_have_text(re.compile(r"^your time: Mon \d{4}-\d\d-\d\d 1[67]:30 GMT\+5:30$"))
        follow(page, page.get_by_role("button", name="Run Weekly now"))
        expect(page.locator("#schedule-list")).to_contain_text("by hand")


@pytest.mark.parametrize("scripted", [True, False])
@pytest.mark.parametrize(
    ("path", "form", "field", "button"),
    [
        ("/alerts", "Add a channel", "Address", "Add the channel"),
        ("/reports/schedules", "Add a schedule", "Due", "Add the schedule"),
    ],
)
def test_an_error_of_a_form_is_in_sight_however_long_the_page_is(
    browser: Browser, server: Any, path: str, form: str, field: str, button: str, scripted: bool
) -> None:
    wait_for_incidents(server)
    viewport = {"width": 360, "height": 500}
    with watched(browser, server.url, errors_expected=True, java_script_enabled=scripted, viewport=viewport) as page:
        page.goto(path)
        if not page.get_by_label("Name", exact=True).is_visible():
            page.get_by_text(form).click()
        page.get_by_label("Name", exact=True).fill("ops")
        page.get_by_label(field, exact=True).fill("nowhere")
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("alert")).to_be_in_viewport()
        expect(page.get_by_label(field, exact=True)).to_have_value("nowhere")
        assert page.get_by_label(field, exact=True).get_attribute("aria-invalid") == "true"
