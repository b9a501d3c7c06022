"""Large answers are made whole before they are sent; places for making them, and bytes that wait for readers, are
limited.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import sql
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask import slots as places_
from storemon_flask.database import loads
from storemon_flask.errors import Unprocessable
from storemon_flask.reports import queue, xlsx
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings
from storemon_flask.web import answers

BUSY = "too many large answers are being made; try again in some seconds, or fetch CSV"


@pytest.fixture
def app(settings: Settings, small_fleet: Path) -> Iterator[Flask]:
    """An app with eight threads, so that two long answers may be made at once."""
    made = create_app(replace(settings, http_threads=8), InlineExecutor())
    yield made
    made.extensions["storemon"].database.close()


def places(app: Flask) -> int:
    """How many are free."""
    free: int = app.extensions["storemon"].slots._answers._value
    return free


def get(client: FlaskClient, path: str, method: str = "GET") -> TestResponse:
    """The answer, begun and not read."""
    return client.open(path, method=method, buffered=False)


@pytest.fixture
def paths(client: FlaskClient) -> dict[str, str]:
    report_id = client.post("/trigger_report").json["report_id"]
    (load,) = client.get("/api/v1/loads").json["loads"]
    report, rejects = f"/get_report?report_id={report_id}&format=", f"/api/v1/loads/{load['load_id']}/rejects?format="
    return {
        "json": f"{report}json",
        "xlsx": f"{report}xlsx",
        "csv": f"{report}csv",
        "rejects": f"{rejects}json",
        "rejects.csv": f"{rejects}csv",
    }


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is a large one, and nobody waits long for a place."""
    monkeypatch.setattr(answers, "SMALL_BYTES", 1)
    monkeypatch.setattr(places_, "PATIENCE_S", 0.2)


def unsent(app: Flask) -> int:
    """How many bytes wait for their readers."""
    counted = app.extensions["storemon"].slots.unsent
    return int(counted._most - counted._left)


@pytest.mark.parametrize("form", ["json", "rejects", "rejects.csv"])
def test_a_small_answer_needs_no_place(app: Flask, client: FlaskClient, paths: dict[str, str], form: str) -> None:
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(app.extensions["storemon"].slots.for_an_answer())
        assert client.get(paths[form], buffered=True).status_code == 200


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("refused", ["json", "xlsx", "rejects", "rejects.csv"])
def test_beyond_the_places_a_large_answer_is_a_503_and_everything_else_is_answered(
    app: Flask, client: FlaskClient, paths: dict[str, str], refused: str
) -> None:
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(app.extensions["storemon"].slots.for_an_answer())
        answer = client.get(paths[refused], buffered=True)
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
        assert (answer.headers["Retry-After"], answer.get_json(force=True)["detail"]) == ("2", BUSY)
        for path in (paths["csv"], "/healthz", "/api/v1/stores"):
            assert client.get(path, buffered=True).status_code == 200
    assert client.get(paths[refused], buffered=True).status_code == 200
    assert places(app) == 2


@pytest.mark.usefixtures("large")
def test_who_finds_no_place_waits_for_one(app: Flask, client: FlaskClient, paths: dict[str, str]) -> None:
    held = ExitStack()
    for _ in range(2):
        held.enter_context(app.extensions["storemon"].slots.for_an_answer())
    release = threading.Timer(0.05, held.close)
    release.start()
    assert client.get(paths["json"], buffered=True).status_code == 200
    release.join()


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["json", "xlsx", "rejects", "rejects.csv"])
def test_no_place_is_held_while_an_answer_is_sent_and_its_bytes_count_until_then(
    app: Flask, client: FlaskClient, paths: dict[str, str], form: str, method: str
) -> None:
    whole = client.get(paths[form], buffered=True).data
    for _ in range(5):
        answer = get(client, paths[form], method)
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(whole)
        assert places(app) == 2
        assert unsent(app) == len(whole)
        assert len(answer.get_data()) == (len(whole) if method == "GET" else 0)
        answer.close()
        answer.close()
        assert (places(app), unsent(app)) == (2, 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("form", ["json", "xlsx"])
def test_too_many_bytes_that_wait_for_their_readers_are_a_503(
    app: Flask, client: FlaskClient, paths: dict[str, str], form: str
) -> None:
    app.extensions["storemon"].slots.unsent = places_.Unsent(len(client.get(paths[form], buffered=True).data) + 10)
    held = get(client, paths[form])
    answer = client.get(paths[form], buffered=True)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "MB of answers wait for their readers" in answer.get_json(force=True)["detail"]
    held.close()
    assert (places(app), unsent(app)) == (2, 0)
    assert client.get(paths[form], buffered=True).status_code == 200


@pytest.mark.usefixtures("large")
def test_without_room_for_temporary_files_it_is_a_503_that_says_so(
    settings: Settings, small_fleet: Path, app: Flask, client: FlaskClient, paths: dict[str, str]
) -> None:
    runner = app.extensions["storemon"]
    runner.settings = replace(runner.settings, min_free_mb=1_000_000_000)
    answer = client.get(paths["json"], buffered=True)
    assert answer.status_code == 503
    assert "is full, so this answer cannot be made; make room there" in answer.get_json(force=True)["detail"]
    assert (places(app), unsent(app)) == (2, 0)


def test_what_goes_wrong_holds_no_place(
    app: Flask, client: FlaskClient, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise Unprocessable("a sheet has fewer rows")

    monkeypatch.setattr(xlsx, "write", refuse)
    assert client.get(paths["xlsx"], buffered=True).status_code == 422
    monkeypatch.setattr(queue, "file_of", lambda row, folder: folder / "gone.csv")
    assert client.get(paths["json"], buffered=True).status_code == 410
    assert client.get("/api/v1/loads/99/rejects").status_code == 404
    assert places(app) == 2


def test_a_long_answer_is_read_from_its_file_while_it_is_sent(
    app: Flask, client: FlaskClient, paths: dict[str, str], settings: Settings
) -> None:
    answer = get(client, paths["json"])
    for file in settings.reports_dir.iterdir():
        # Deleted meanwhile: what was begun is sent to its end.
        file.unlink()
    assert [row["store_id"] for row in answer.get_json()["rows"]][-2:] == ["silent", "worked"]
    answer.close()
    assert client.get(paths["json"], buffered=True).status_code == 410


def rejected(client: FlaskClient, settings: Settings, form: str) -> tuple[int, str, Callable[[], None]]:
    """A load with two rejected rows, the address of those, and what prunes it."""
    bad = b"store_id,timestamp_utc,status\nworked,noon,active\nworked,2pm,active\n"
    load = client.post("/api/v1/feeds/polls", data=bad).json["load_id"]

    def prune() -> None:
        file = sql(settings.database, "SELECT id FROM load_file WHERE load = ?", load)[0][0]
        for table, column, value in (("reject", "load_file", file), ("load_file", "id", file), ("load", "id", load)):
            sql(settings.database, f"DELETE FROM {table} WHERE {column} = ?", value)

    return load, f"/api/v1/loads/{load}/rejects?format={form}", prune


@pytest.mark.parametrize("form", ["json", "csv"])
def test_rejects_that_were_begun_are_whole_though_their_load_is_pruned(
    client: FlaskClient, settings: Settings, form: str
) -> None:
    _, path, prune = rejected(client, settings, form)
    answer = get(client, path)
    prune()
    assert answer.text.count("worked,") == 2
    answer.close()
    assert client.get(path, buffered=True).status_code == 404


@pytest.mark.parametrize("form", ["json", "csv"])
def test_rejects_of_a_load_that_is_pruned_before_they_are_read_are_a_404(
    app: Flask, client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    load, path, prune = rejected(client, settings, form)
    find = loads.find

    def found_and_pruned(connection: sqlite3.Connection, number: int) -> loads.LoadRow | None:
        row = find(connection, number)
        prune()
        return row

    monkeypatch.setattr(loads, "find", found_and_pruned)
    answer = client.get(path, buffered=True)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.get_json(force=True)["detail"] == f"there is no load {load}; GET /api/v1/loads lists those there are"
    assert "Content-Disposition" not in answer.headers
    assert places(app) == 2
