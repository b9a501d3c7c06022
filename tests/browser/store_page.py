"""What tests of a store's page look at."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_fleet import clocks_back
from watching import serve_copy

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

# In New York, as of 2024-11-03 15:00 EST; open 08:00 to 20:00, off since 10:30.
OFF = "store-00056"


@pytest.fixture(scope="module")
def turned_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 500 stores of a day when clocks were turned back; to be copied."""
    folder = tmp_path_factory.mktemp("turned-back")
    with closing(Database(folder / "storemon.db")) as made:
        clocks_back(made, folder / "made")
    return made.path


@pytest.fixture
def server(turned_back: Path, settings: Settings, serve: Callable[..., Any]) -> Any:
    """A real server over those stores."""
    return serve_copy(turned_back, settings, serve)
