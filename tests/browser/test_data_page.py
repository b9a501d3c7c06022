"""Data in a real browser against a real server: drop files, choose them, be told what became of their rows."""

import io
import json
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import http
from playwright.sync_api import Browser, Page, Response, expect
from watching import LOOKS, follow, no_violation, nothing_sticks_out, watched
from watching import browser as browser

POLLS = "store_id,timestamp_utc,status\n" + "".join(
    f"store-{store:03d},2024-10-14 {hour:02d}:00:00 UTC,active\n" for store in range(500) for hour in range(4)
)
ZONES = "store_id,timezone_str\n" + "".join(f"store-{store:03d},America/Denver\n" for store in range(500))
BAD = (
    "store_id,timestamp_utc,status\na,2024-10-14 10:00:00 UTC,"
    "maybe\n<script>alert(1)</script>,x,active\nb,2024-10-14 10:00:00 UTC,active\n"
)
DROP = """async ([files, kind]) => {
  const carried = new DataTransfer();
  for (const [name, bytes] of files) carried.items.add(new File([new Uint8Array(bytes)], name));
  const place = document.getElementById("drop");
  for (const type of kind) place.dispatchEvent(new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def server(serve: Callable[..., Any]) -> Any:
    """A real server over nothing yet."""
    return serve()


def drop(
    page: Page, *files: tuple[str, str | bytes], kind: tuple[str, ...] = ("dragenter", "dragover", "drop")
) -> None:
    """Files dropped on their place, as the browser tells of it."""
    told = [[name, list(text.encode() if isinstance(text, str) else text)] for name, text in files]
    page.evaluate(DROP, [told, kind])


def told(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        return json.load(answer)


def counts(page: Page) -> list[list[str]]:
    """The table of a load's files."""
    found: list[list[str]] = page.get_by_label("Table of files").evaluate(
        "place => [...place.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return found


def apply_preview(page: Page) -> None:
    page.wait_for_url("**/data/previews/*")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/data/loads/1")


def test_dropped_files_are_loaded_and_counted_as_the_service_says(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto("/data")
        expect(page.get_by_text("Nothing is loaded yet.")).to_be_visible()
        no_violation(page)
        drop(page, ("polls.csv", POLLS), kind=("dragenter", "dragover"))
        expect(page.locator("#drop.over")).to_be_visible()
        drop(page, ("polls.csv", POLLS), ("zones.csv", ZONES))
        apply_preview(page)
        files = told(server.url, "/api/v1/loads/1")["files"]
        names = ("file", "feed", "rows", "new", "changed", "unchanged", "repeated", "rejected")
        assert counts(page) == [
            [f"{file[name]:,}" if isinstance(file[name], int) else file[name] for name in names] for file in files
        ]
        assert counts(page)[0] == ["polls.csv", "polls", "2,000", "2,000", "0", "0", "0", "0"]
        follow(page, page.get_by_role("link", name="Data").first)
        expect(page.get_by_text("500 stores.")).to_be_visible()
        assert page.get_by_text("Nothing is loaded yet.").count() == 0


def test_a_zip_is_chosen_by_keyboard_and_its_rejects_are_downloaded(
    browser: Browser, server: Any, tmp_path: Path
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bad <b>.csv", BAD)
        archive.writestr("zones.csv", ZONES)
    with watched(browser, server.url) as page:
        page.goto("/data")
        page.locator("#files").set_input_files(
            {"name": "all.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
        )
        page.locator("#files").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Days of the week in hours files")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Encoding of CSV files")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Check")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Load", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/data/loads/1")
        rejects = told(server.url, "/api/v1/loads/1/rejects")["rejects"]
        shown = page.get_by_label("Table of rejected rows").locator("tbody tr")
        assert [shown.nth(place).locator("td").all_inner_texts()[1:] for place in range(shown.count())] == [
            [str(reject["line"]), reject["reason"], reject["text"]] for reject in rejects
        ]
        assert len(rejects) == 2
        with page.expect_download() as coming:
            page.get_by_role("link", name="Rejected rows as CSV").click()
        assert coming.value.suggested_filename == "rejects_1.csv"
        assert len(coming.value.path().read_text("utf-8").splitlines()) == 3


def test_all_or_nothing_is_the_other_button(browser: Browser, server: Any) -> None:
    # The answer to the upload is 422, which the console repeats.
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": "bad.csv", "mimeType": "text/csv", "buffer": BAD.encode()})
        page.get_by_role("button", name="Load all or nothing").click()
        page.wait_for_url("**/data/loads/1")
        expect(page.get_by_text("nothing of it was stored: 2 rows were rejected")).to_be_visible()
        no_violation(page)


def test_hours_numbered_from_1_are_refused_until_that_is_chosen(browser: Browser, server: Any) -> None:
    rows = "".join(f"a,{day},09:00,17:00\n" for day in range(1, 8))
    file = {
        "name": "hours.csv",
        "mimeType": "text/csv",
        "buffer": f"store_id,day,start_time_local,end_time_local\n{rows}".encode(),
    }
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.locator("#files").set_input_files(file)
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/1")
        expect(page.get_by_text("its days are numbered from 1")).to_be_visible()
        page.goto("/data")
        page.locator("#files").set_input_files(file)
        page.get_by_label("Days of the week in hours files").select_option("iso")
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/2")
        assert told(server.url, "/api/v1/loads/2")["files"][0]["new"] == 7


def test_windows_text_is_read_when_that_is_chosen(browser: Browser, server: Any) -> None:
    file = {"name": "stores.csv", "mimeType": "text/csv", "buffer": "store_id;name\nCafé;Zürich\n".encode("cp1252")}
    with watched(browser, server.url) as page:
        page.goto("/data")
        page.locator("#files").set_input_files(file)
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/1")
        expect(page.get_by_text("on the page Data with that choice").first).to_be_visible()
        page.goto("/data")
        page.locator("#files").set_input_files(file)
        page.get_by_label("Encoding of CSV files").select_option("cp1252")
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/2")
        expect(page.get_by_text("1 store is new in this load: Café")).to_be_visible()
        assert told(server.url, "/api/v1/loads/2")["files"][0]["new"] == 1


def test_progress_is_shown_and_a_stop_sends_nothing(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        # The upload hangs until it is stopped.
        page.route("**/data/previews", lambda route: None)
        drop(page, ("polls.csv", POLLS))
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_role("status").filter(has_text="Sending")).to_be_visible()
        expect(page.get_by_role("button", name="Load", exact=True)).to_be_disabled()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("alert").filter(has_text="Stopped before everything was sent")).to_be_visible()
        expect(page.get_by_role("button", name="Load", exact=True)).to_be_enabled()
        page.unroute_all()
        assert told(server.url, "/api/v1/loads")["loads"] == []
        no_violation(page)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("mine.csv", "store,when\n1,2\n", "the header fits no feed: it has 2 columns, of which storemon knows none"),
        ("<script>.csv", "", "the file is empty"),
    ],
)
def test_what_is_no_feed_leads_to_the_page_of_its_load(
    browser: Browser, server: Any, name: str, text: str, sentence: str
) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": name, "mimeType": "text/csv", "buffer": text.encode()})
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/1")
        about = page.locator(".about").filter(has_text=name)
        expect(about).to_contain_text(sentence)
        follow(page, page.get_by_role("link", name="Data").first)
        expect(page.get_by_label("Table of loads").locator("tbody tr")).to_contain_text("1 not loaded")


@pytest.mark.parametrize("name", ["Load", "Load all or nothing"])
def test_after_a_refusal_the_button_that_was_pressed_has_the_focus(browser: Browser, server: Any, name: str) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": "no.csv", "mimeType": "text/csv", "buffer": b"a,b\n"})
        button = page.get_by_role("button", name=name, exact=True)
        refusing = {"yes": True}

        def answer(route: Any) -> None:
            if refusing["yes"]:
                route.fulfill(status=503, json={"detail": "Too much is loaded."})

        page.route("**/api/v1/feeds*", answer)
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#refused")).to_contain_text("Too much is loaded.")
        expect(button).to_be_focused()
        # Stopped by hand: the button that stops is gone.
        refusing["yes"] = False
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Stop").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#refused")).to_contain_text("Stopped")
        expect(button).to_be_focused()
        page.unroute_all()


def test_a_server_that_does_not_answer_is_said(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.route("**/data/previews", lambda route: route.abort("connectionrefused"))
        drop(page, ("polls.csv", POLLS))
        expect(page.locator("#refused")).to_contain_text("The server does not answer")
        page.unroute_all()
        drop(page, ("polls.csv", POLLS))
        apply_preview(page)


@LOOKS
def test_no_page_of_data_keeps_anybody_out_and_each_is_small(
    browser: Browser, server: Any, scheme: str, width: int
) -> None:
    with watched(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto("/data")
        no_violation(page)
        bad = "store_id,timestamp_utc,status\n" + "".join(f"{'<' * 300}{row},x,up\n" for row in range(300))
        drop(page, ("x" * 190 + ".csv", bad), ("مطعم.csv", ZONES), ("🍕#?&.csv", "a,b\n"))
        apply_preview(page)
    for address in ("/data/loads/1", "/data"):
        # Each with nothing kept by the browser: all that is sent counts.
        with watched(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
            answers: list[Response] = []
            page.on("response", lambda answer, answers=answers: answers.append(answer))
            page.goto(address, wait_until="networkidle")
            sizes = {answer.url: len(answer.body()) for answer in answers}
            assert len(sizes) >= 4
            assert sum(sizes.values()) < 150_000, sizes
            no_violation(page)
            nothing_sticks_out(page)


def test_without_a_script_the_form_still_loads(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, java_script_enabled=False) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": "zones.csv", "mimeType": "text/csv", "buffer": ZONES.encode()})
        page.get_by_role("button", name="Load", exact=True).click()
        page.wait_for_url("**/data/loads/1")
        assert page.locator("tbody tr").first.locator("td").all_inner_texts()[1:3] == ["500", "500"]


@LOOKS
def test_a_push_address_is_made_shown_once_used_and_revoked(
    browser: Browser, server: Any, scheme: str, width: int
) -> None:
    with watched(
        browser,
        server.url,
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
        java_script_enabled=False,
        errors_expected=True,
    ) as page:
        page.goto("/data")
        page.get_by_role("link", name="Push addresses").click()
        page.get_by_label("Store id").fill("NYC/12")
        page.get_by_label("What has it").fill("tablet, upstairs")
        page.get_by_role("button", name="Make an address").click()
        address = page.locator(".address").inner_text()
        assert address.startswith(f"{server.url}/push/st_")
        assert address.endswith("?status=active")
        assert "There is no store NYC/12 yet" in page.locator("section.banner").inner_text()
        nothing_sticks_out(page)
        token = address.removeprefix(f"{server.url}/push/").removesuffix("?status=active")
        assert http(address).json["store_id"] == "NYC/12"
        page.goto("/data/push")
        assert token not in page.content()
        assert token[:11] in page.content()
        page.get_by_label("Store id").fill("8.1E+18")
        page.get_by_role("button", name="Make an address").click()
        assert page.locator("#error").inner_text().startswith("✕ '8.1E+18' is no store: ")
        assert page.get_by_label("Store id").input_value() == "8.1E+18"
        page.get_by_role("button", name=f"Revoke {token[:11]}").click()
        expect(page.get_by_role("button", name=f"Revoke {token[:11]}")).to_have_count(0)
        assert http(address).status == 404
    with watched(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto("/data/push")
        no_violation(page)
        nothing_sticks_out(page)


def test_a_double_click_on_apply_loads_once(browser: Browser, server: Any) -> None:
    with watched(browser, server.url) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": "p.csv", "mimeType": "text/csv", "buffer": POLLS.encode()})
        page.get_by_role("button", name="Check").click()
        page.wait_for_url("**/data/previews/*")
        preview = page.url
        page.get_by_role("button", name="Apply").dblclick()
        page.wait_for_url("**/data/loads/1")
        # Back to what was applied leads to its load.
        page.goto(preview)
        page.wait_for_url("**/data/loads/1")
        assert len(told(server.url, "/api/v1/loads")["loads"]) == 1


def test_a_check_that_is_refused_says_why(browser: Browser, server: Any) -> None:
    with watched(browser, server.url, errors_expected=True) as page:
        page.goto("/data")
        page.locator("#files").set_input_files({"name": "p.csv", "mimeType": "text/csv", "buffer": POLLS.encode()})
        page.route("**/data/previews", lambda route: route.fulfill(status=503, json={"detail": "Too many previews."}))
        button = page.get_by_role("button", name="Check")
        button.click()
        expect(page.locator("#refused")).to_contain_text("Too many previews.")
        expect(button).to_be_focused()
        page.unroute_all()
        button.click()
        page.wait_for_url("**/data/previews/*")


@pytest.mark.parametrize("script", [True, False])
@LOOKS
def test_a_check_shows_what_apply_then_loads(
    browser: Browser, server: Any, scheme: str, width: int, script: bool
) -> None:
    size = {"width": width, "height": 800}
    with watched(
        browser, server.url, color_scheme=scheme, viewport=size, java_script_enabled=script, errors_expected=True
    ) as page:
        page.goto("/data")
        page.locator("#files").set_input_files(
            [
                {"name": name, "mimeType": "text/csv", "buffer": text.encode()}
                for name, text in (("polls.csv", POLLS), ("bad.csv", BAD), ("no.csv", "a,b\n"))
            ]
        )
        page.get_by_role("button", name="Check").click()
        page.wait_for_url("**/data/previews/*")
        page.reload()
        expect(page.get_by_text("would be rejected: status is neither")).to_be_visible()
        shown = counts(page)
        nothing_sticks_out(page)
        if script:
            no_violation(page)
        assert told(server.url, "/api/v1/loads")["loads"] == []
        page.get_by_role("button", name="Apply").click()
        page.wait_for_url("**/data/loads/1")
        assert sorted(row[1:] for row in counts(page)) == sorted(row[1:] for row in shown)
        assert shown[0] == ["polls.csv", "polls", "2,000", "2,000", "0", "0", "0", "0"]
