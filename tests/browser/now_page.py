"""What tests of the page Now look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_fleet import live
from playwright.sync_api import Page

from storemon_flask.database.connections import Database


@pytest.fixture
def fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over 500 stores as they are now."""
    live(database, tmp_path / "made")
    return serve()


@pytest.fixture
def open_fleet(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """The same, always open: nobody's hours begin or end while a test runs."""
    live(database, tmp_path / "made", always_open=True)
    return serve()


def ids(page: Page) -> list[str]:
    """The ids of the stores in the list, from the top."""
    # A page that is still coming has some of its rows.
    page.wait_for_load_state("domcontentloaded")
    found: list[str] = page.locator("#rows [data-key]").evaluate_all(
        "links => links.map(one => one.dataset.key.slice('store-'.length))"
    )
    return found
