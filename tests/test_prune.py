"""Prune: old polls and loads go, in short transactions; what stays counts as before."""

from pathlib import Path

import pytest
from conftest import load_folder, sql, storemon

from storemon_flask.errors import Unprocessable
from storemon_flask.services import prune
from storemon_flask.services.instants import read as instant
from storemon_flask.storage.db import Database

NOW_US = instant("2025-01-01T00:00Z")
HEAD = "store_id,timestamp_utc,status\n"


@pytest.fixture
def polled(database: Database, tmp_path: Path) -> Database:
    """Two stores: one polled over four weeks, one long ago only."""
    folder = tmp_path / "feeds"
    folder.mkdir()
    rows = [f"a,2024-{month:02d}-{day:02d} 12:00:00 UTC,active" for month in (9, 10) for day in range(1, 29)]
    (folder / "polls.csv").write_text(
        HEAD + "\n".join([*rows, "b,2024-08-01 12:00:00 UTC,inactive"]) + "\n"
    )
    load_folder(database, folder)
    return database


def test_polls_before_the_instant_go_and_all_others_stay(polled: Database) -> None:
    before = sql(polled.path, "SELECT * FROM poll WHERE timestamp_utc >= '2024-09-15' ORDER BY 1, 2")
    at = instant("2024-09-15T00:00Z")
    told = prune.look(polled, at)
    done = prune.run(polled, at, NOW_US)
    assert (told.polls, done.polls) == (15, 15)
    assert sql(polled.path, "SELECT * FROM poll ORDER BY 1, 2") == before
    spans = dict(sql(polled.path, "SELECT store_id, first_poll_us FROM store"))
    assert spans == {"a": instant("2024-09-15T12:00Z"), "b": None}
    assert dict(sql(polled.path, "SELECT store_id, last_poll_us FROM store"))["b"] is None
    # A second time there is nothing to do, and nothing is counted as changed.
    version = sql(polled.path, "SELECT version FROM data_version")
    assert prune.run(polled, at, NOW_US).polls == 0
    assert sql(polled.path, "SELECT version FROM data_version") == version


def test_one_that_is_stopped_goes_on_where_it_was(polled: Database) -> None:
    at = instant("2024-10-01T00:00Z")
    assert prune.run(polled, at, NOW_US, stopped=lambda: True).polls == 0
    parts: list[int] = []
    done = prune.run(polled, at, NOW_US, progress=lambda part: parts.append(part.polls))
    assert (done.polls, sum(parts)) == (29, 29)


def test_a_date_of_the_future_is_refused(polled: Database) -> None:
    with pytest.raises(Unprocessable, match="the date lies in the future"):
        prune.run(polled, NOW_US + 1, NOW_US)
    assert len(sql(polled.path, "SELECT * FROM poll")) == 57


def test_the_command_says_what_it_would_do_then_does_it_and_the_database_is_sound(
    polled: Database, tmp_path: Path
) -> None:
    place = {"STOREMON_DATABASE": str(polled.path)}
    told = storemon(tmp_path, "prune", "--before", "2024-09-15", "--dry-run", **place)
    assert (told.returncode, "15 polls" in told.stdout + told.stderr) == (0, True), told
    assert len(sql(polled.path, "SELECT * FROM poll")) == 57
    done = storemon(tmp_path, "prune", "--before", "2024-09-15", "--yes", **place)
    assert done.returncode == 0, done.stderr
    assert len(sql(polled.path, "SELECT * FROM poll")) == 42
    checked = storemon(tmp_path, "check", **place)
    assert checked.returncode == 0, checked.stdout + checked.stderr
