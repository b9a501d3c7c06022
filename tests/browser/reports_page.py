"""What tests of the pages of reports look at."""

import csv
import io
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from watching import serve_copy

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.settings import Settings

STORES = 500
HOSTILE = ("<script>alert(1)</script>", "مطعم السلام", "🍕/..?#&", "x" * 200)
AS_OF = "2024-10-14T12:00:00Z"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of a made fleet: a poll an hour for two days, every fifth store off in the last hours.

    To be copied.
    """
    folder = tmp_path_factory.mktemp("fleet")
    database = Database(folder.with_name("fleet.db"))
    ids = [*HOSTILE, *(f"store-{number:03d}" for number in range(STORES - len(HOSTILE)))]
    with (folder / "polls.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["store_id", "timestamp_utc", "status"])
        for place, store_id in enumerate(ids):
            for hour in range(49):
                off = place % 5 == 0 and hour > 44
                rows.writerow(
                    [
                        store_id,
                        f"2024-10-{12 + (12 + hour) // 24:02d} {(12 + hour) % 24:02d}:00:00 UTC",
                        "inactive" if off else "active",
                    ]
                )
    with (folder / "stores.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["store_id", "name", "group"])
        rows.writerows(
            [store_id, f"{HOSTILE[place % 4][:40]} {place}", "North" if place % 2 else "South"]
            for place, store_id in enumerate(ids)
        )
    found = sources.find_sources([folder])
    result = load.load_sources(database, found, load.LoadOptions(time.time_ns() // 1000, 300_000_000))
    assert (result.failed, result.rejected) == (False, 0)
    database.close()
    return database.path


@pytest.fixture
def server(fleet: Path, settings: Settings, serve: Callable[..., Any]) -> Any:
    """A real server over the made fleet."""
    return serve_copy(fleet, settings, serve)


def the_csv(url: str, report_id: str) -> list[list[str]]:
    with urllib.request.urlopen(f"{url}/get_report?report_id={report_id}", timeout=30) as answer:
        return list(csv.reader(io.StringIO(answer.read().decode(), newline="")))


def made(page: Page, url: str) -> str:
    """The id of the report whose finished table the page shows."""
    expect(page.locator("table.cells")).to_be_visible()
    return page.url.rpartition("/")[2].partition("?")[0]


def cells(page: Page) -> list[list[str]]:
    """The table as it is shown, without units, signs and what stores are called."""
    # A page that is still coming has some of its rows.
    page.wait_for_load_state("domcontentloaded")
    found: list[list[str]] = page.locator("table.cells").evaluate(
        """table => {
            const copy = table.cloneNode(true);
            copy.querySelectorAll(".called").forEach(one => one.remove());
            return [...copy.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()));
        }"""
    )
    return found


def trigger(url: str, **asked: Any) -> str:
    """The id of a finished report."""
    request = urllib.request.Request(f"{url}/trigger_report", json.dumps(asked).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        report_id: str = json.load(answer)["report_id"]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{url}/api/v1/reports/{report_id}", timeout=30) as answer:
            if json.load(answer)["status"] == "Complete":
                return report_id
        time.sleep(0.05)
    raise AssertionError("the report did not come")
