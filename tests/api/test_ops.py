"""/readyz: whether the service can work, and what the log says of it."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PATIENCE_S
from flask.testing import FlaskClient

from storemon_flask import create_app
from storemon_flask.database import readiness
from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings


def test_it_is_said_once_that_it_is_not_ready_and_once_that_it_is_again(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT_S", -1.0)
    caplog.set_level(logging.INFO, "storemon.web")
    settings.home.mkdir()
    client = create_app(settings).test_client()
    settings.reports_dir.write_text("in the way")
    for _ in range(3):
        assert client.get("/readyz").status_code == 503
    settings.reports_dir.unlink()
    for _ in range(3):
        assert client.get("/readyz").status_code == 200
    assert [(one.levelname, one.message) for one in caplog.records if one.name == "storemon.web"] == [
        ("WARNING", "not ready: the reports folder is not there and cannot be made"),
        ("INFO", "ready"),
    ]


def test_ready_before_the_first_load_and_after_it(client: FlaskClient, database: Database, settings: Settings) -> None:
    settings.home.mkdir()
    checks = dict.fromkeys(("database", "disk", "reports", "jobs"), "ok")
    assert client.get("/readyz").json == {"status": "ready", "checks": checks}
    assert not settings.database.exists()
    database.prepare()
    assert readiness.check(database, settings, True) == checks


def test_not_ready_says_what_is_wrong_and_no_path(settings: Settings) -> None:
    settings.home.mkdir()
    settings.reports_dir.write_text("in the way")
    app = create_app(replace(settings, min_free_mb=10**9))
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert answer.json["checks"]["reports"] == "the reports folder is not there and cannot be made"
    assert "MB free, less than the 1,000,000,000 of STOREMON_MIN_FREE_MB" in answer.json["detail"]
    assert str(settings.home) not in answer.text


def test_busy_is_not_the_same_as_not_writable(small_fleet: Path, database: Database, settings: Settings) -> None:
    with database.write():
        started = time.monotonic()
        assert readiness.check(database, settings, True)["database"] == "ok"
        assert time.monotonic() - started < PATIENCE_S
    database.close()
    settings.database.write_bytes(b"this is no database at all" * 100)
    assert readiness.check(database, settings, True)["database"].startswith("the database is not an SQLite database")
    assert readiness.check(database, settings, False)["jobs"] != "ok"
