"""The single file's pages in a real browser, from the first visit on: templates, styles and scripts are inside it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Server
from made_fleet import write_fleet
from playwright.sync_api import expect
from watching import browsing, no_violation, watched

# These tests build the same file, so they run in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("binary")]
# Off in the last hours.
OFF = "store-00056"


def test_from_an_empty_database_to_a_report(single_file: Path, tmp_path: Path) -> None:
    feeds = tmp_path / "made"
    write_fleet(feeds, 80, datetime(2024, 11, 3, 20, tzinfo=UTC))
    server = Server(tmp_path / "home", [str(single_file), "serve", "--port", "0"])
    try:
        with browsing() as browser, watched(browser, server.url) as page:
            heading = page.get_by_role("heading", level=1)
            page.goto("/")
            expect(heading).to_have_text("Nothing loaded yet")
            page.goto("/data")
            page.locator("#files").set_input_files(sorted(feeds.iterdir()))
            page.get_by_role("button", name="Load", exact=True).click()
            page.wait_for_url("**/data/loads/1")
            expect(page.get_by_label("Table of files").locator("tbody tr")).to_have_count(4)
            page.goto("/data")
            expect(page.get_by_text("80 stores.")).to_be_visible()
            no_violation(page)

            page.goto("/?status=down")
            expect(heading).to_have_text("Now")
            down = {store["store_id"] for store in server.get("/api/v1/stores?status=down").json["stores"]}
            assert OFF in down
            expect(page.locator("#rows tr")).to_have_count(len(down))
            no_violation(page)

            page.locator(f"#rows [data-key='store-{OFF}']").click()
            page.wait_for_url(f"**/stores/{OFF}")
            expect(page.locator("#chart tr")).to_have_count(7)
            no_violation(page)

            page.goto("/reports")
            page.get_by_role("button", name="Make report").click()
            # Below the totals, which a report asked for on the page has.
            expect(page.locator("table.cells tbody tr:not(.total)")).to_have_count(80)
            report_id = page.url.rpartition("/")[2].partition("?")[0]
            header, *rows = server.get(f"/get_report?report_id={report_id}").body.splitlines()
            assert header.startswith(b"kind,store_id,")
            assert len([row for row in rows if row.startswith(b"store,")]) == 80
            no_violation(page)

            page.goto("/docs")
            expect(page.get_by_text("/trigger_report").first).to_be_visible()
        assert "Traceback" not in server.log.read_text()
    finally:
        assert server.end() == 0
