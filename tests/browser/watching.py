"""A page in the system's Chromium that is watched: no console error, nothing from another host, no violation that axe
finds.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from storemon_flask.formatting import known_text
from storemon_flask.settings import Settings

# Slow machines; nothing waits for this long when all is well.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
# Wide and narrow, light and dark; all four take four times as long, and three are left to the slow tests.
LOOKS = pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (320, "dark"),
        pytest.param(1280, "light", marks=pytest.mark.slow),
        pytest.param(320, "light", marks=pytest.mark.slow),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
    ],
)


def chromium() -> str:
    """Where the system's Chromium is; without one the test is skipped, and fails where one must be there."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        message = "no Chromium here: install the package chromium to run the tests of pages in a browser"
        if os.environ.get("TESTS_NEED_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser, ended afterwards."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


def serve_copy(made: Path, settings: Settings, serve: Callable[..., Any]) -> Any:
    """A real server over a copy of that database."""
    settings.database.parent.mkdir(parents=True)
    shutil.copy(made, settings.database)
    return serve()


def follow(page: Page, target: Locator) -> None:
    """Click what leads to another page, and wait until that page is whole: a click alone returns on the old page or
    with a part of the new one."""
    with page.expect_navigation():
        target.click()


def turn_clock_until(page: Page, holds: Callable[[], object], what: str, step_ms: int = 16_000) -> None:
    """Turn the page's clock on until that holds: the page asks its server each time, which answers when it can."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        page.clock.fast_forward(step_ms)
        page.wait_for_timeout(250)


def see_it_back(page: Page) -> None:
    """A server that was gone has come back: turn the page's clock on until its banner goes."""
    turn_clock_until(page, page.locator("#gone").is_hidden, "the banner to go", 4_000)


@contextmanager
def watched(browser: Browser, url: str, *, errors_expected: bool = False, **options: Any) -> Iterator[Page]:
    """A page that starts at `url`; fails at the end when the console had an error or another host was asked."""
    context = browser.new_context(base_url=url, **options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    said: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: hosts.add(urlsplit(request.url).hostname or "") if request.url.startswith("http") else None,
    )
    try:
        yield page
        assert hosts <= {"127.0.0.1"}, hosts
        assert errors_expected or said == [], said
    finally:
        context.close()


def nothing_sticks_out(page: Page) -> None:
    """Fails when the page can be moved sideways."""
    # Before its styles have come a page may be of any width.
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


def no_violation(page: Page) -> None:
    """Fails with what axe has against the page, if anything."""
    # All of it is to be looked at.
    page.wait_for_load_state("load")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def percentage_of(row: dict[str, str], window: str) -> str:
    """What pages write of the percentage in a row of a full report."""
    percent = row[f"uptime_percent_{window}"]
    unknown, business = (round(100 * float(row[f"{name}_{window}"])) for name in ("unknown", "business"))
    return f"{percent} % {known_text(unknown, business)}".strip() if percent else "unknown"
