"""A dry run says what the load will say, to the last note, and changes nothing."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run
from cli_helpers import database as database_of
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import SMALL_FLEET
from flask.testing import FlaskClient
from load_helpers import HOURS, NOW, POLLS, SKEW_US, ZONES, csv, put, put_zip, us

from storemon_flask.database.connections import Database
from storemon_flask.errors import Stopped
from storemon_flask.feeds import load as load_service
from storemon_flask.feeds import sources
from storemon_flask.feeds.load import LoadOptions, LoadResult
from storemon_flask.model import FileSummary


def dump(path: Path) -> list[str]:
    """Everything that the database holds."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def shown(result: LoadResult) -> list[Any]:
    """All that a load says, without its number."""
    files = [(one.file, one.feed, one.counts, one.reasons, one.rejects, one.notes, one.error) for one in result.files]
    return [files, result.notes, result.refused, str(result.error)]


def load(database: Database, *paths: Path, **options: Any) -> LoadResult:
    told: list[FileSummary] = []
    result = load_service.load_sources(
        database, sources.find_sources(list(paths)), LoadOptions(us(NOW), SKEW_US, **options), on_file=told.append
    )
    assert sorted(one.file for one in told) == sorted(one.file for one in result.files)
    return result


def feeds(folder: Path) -> list[Path]:
    """Files of every kind: known and new rows, changed and repeated ones, rejects, no feed, hours and zones apart."""
    return [
        put(folder / "a.csv", csv(POLLS, "worked,2024-10-14 10:14:00,active", "worked,2024-10-14 11:15:00,active",
            "new,2024-10-14 09:00:00,active", "new,2024-10-14 09:00:00,inactive", "new,2024-10-14 09:00:00,perhaps")),
        put(folder / "b.csv", csv(POLLS, "new,2024-10-14 09:00:00,active", "Worked,2024-10-14 09:00:00,active")),
        put(folder / "h1.csv", csv(HOURS, "new,0,09:00,12:00", "later,1,09:00,12:00", "bad,9,09:00,12:00")),
        put(folder / "h2.csv", csv(HOURS, "worked,2,09:00,12:00")),
        put(folder / "z.csv", csv(ZONES, "new,EST", "worked,Nowhere/At_All")),
        put(folder / "letter.csv", b"Dear all,\nplease find attached\n"),
        put_zip(folder / "more.zip", {"polls.csv": csv(POLLS, "zipped,2024-10-14 08:00:00,active")}),
    ]  # fmt: skip


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("chosen", [slice(None), slice(0, 2), slice(2, 5), slice(4, 5), slice(5, 6)])
def test_it_says_what_the_load_says_and_changes_nothing(
    database: Database, small_fleet: Path, tmp_path: Path, atomic: bool, chosen: slice
) -> None:
    paths = feeds(tmp_path)[chosen]
    before = dump(database.path)
    tried = load(database, *paths, atomic=atomic, dry_run=True)
    assert (dump(database.path), tried.load) == (before, 0)
    done = load(database, *paths, atomic=atomic)
    assert shown(done) == shown(tried)
    assert done.load == 2
    # Then nothing is new.
    again = load(database, *paths, atomic=atomic, dry_run=True)
    assert sum(one.counts.new for one in again.files) == 0


def test_where_there_is_no_database_none_is_made(database: Database, tmp_path: Path) -> None:
    paths = feeds(tmp_path)
    tried = load(database, *paths, dry_run=True)
    assert not database.path.parent.exists()
    assert shown(load(database, *paths)) == shown(tried)


def test_readers_see_nothing_of_it_and_others_write_after_it(
    database: Database, small_fleet: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    written = threading.Event()

    def others() -> None:
        with database.write() as connection:
            connection.execute("UPDATE load SET notes = '[]'")
        written.set()

    writer = threading.Thread(target=others)

    def check() -> None:
        if writer.ident is None:
            writer.start()
        with closing(sqlite3.connect(f"file:{database.path}?mode=ro", uri=True)) as connection:
            seen.append(connection.execute("SELECT count(*) FROM store_record").fetchone()[0])

    rows = [f"s{number},2024-10-{day:02d} 10:00:00,active" for number in range(3000) for day in range(1, 8)]
    tried = load(database, put(tmp_path / "many.csv", csv(POLLS, *rows)), dry_run=True, check=check)
    writer.join(30)
    assert (tried.files[0].counts.new, written.is_set(), set(seen)) == (21_000, True, {4})


def test_it_stops_when_it_is_told_to(database: Database, small_fleet: Path, tmp_path: Path) -> None:
    def check() -> None:
        raise Stopped("the server stops")

    before = dump(database.path)
    with pytest.raises(Stopped, match="the server stops; nothing of this was stored"):
        load(database, *feeds(tmp_path)[:2], dry_run=True, check=check)
    assert dump(database.path) == before


def test_the_command_shows_examples_and_changes_nothing(run: Run, home: Path) -> None:
    file = put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active", *["s,2023-01-22 10:00:00,maybe"] * 5))
    done = run("load-data", "--dry-run", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("s,2023-01-22 10:00:00,maybe") == 3
    assert "    5 rejected: status is neither active nor inactive\n      line 3: s,2023-01-22" in done.out
    assert "1 store is new in this load: s" in done.out
    assert done.out.endswith("Nothing was changed: this was a dry run.\n")
    assert not database_of(home).exists()
    assert run("load-data", "--dry-run", "--strict", file).code == 1


def test_over_http_the_answer_is_that_of_the_load(client: FlaskClient, small_fleet: Path) -> None:
    body = SMALL_FLEET["polls.csv"] + "worked,2024-10-14 10:14:00 UTC,maybe\nother,2024-10-14 10:14:00 UTC,active\n"

    def push(query: str) -> Any:
        return client.post(f"/api/v1/feeds/polls?{query}", data=body, content_type="text/csv")

    tried = push("dry_run=1")
    assert client.get("/api/v1/loads").json["loads"][0]["load_id"] == 1
    refused = push("dry_run=1&atomic=1")
    assert (refused.status_code, "load_id" in refused.json, refused.json["rejected"]) == (422, False, 1)
    assert "/api/v1/loads/" not in refused.json["detail"]
    done = push("dry_run=0")
    assert (tried.status_code, tried.json | {"load_id": 2}) == (200, done.json)
    assert (tried.json["load_id"], tried.json["new"], tried.json["unchanged"]) == (0, 1, 4)
    assert push("dry_run=2").status_code == 422
