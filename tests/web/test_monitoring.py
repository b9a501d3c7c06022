"""What is seen of a running service: logs, request ids, /readyz, /metrics."""

import errno
import json
import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, http, sql, wait_until
from flask import Flask
from flask.testing import FlaskClient
from job_helpers import Queue
from prometheus_client.parser import text_string_to_metric_families

from storemon_flask import clock, create_app, logs
from storemon_flask.api import ops
from storemon_flask.database import polls, readiness
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.settings import Settings

ROOT = Path(__file__).parent.resolve().parent.parent
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(client: FlaskClient) -> Samples:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_the_age_of_the_newest_poll_is_infinite_before_the_first(client: FlaskClient, database: Database) -> None:
    for prepare in (lambda: None, database.prepare):
        prepare()
        found = scrape(client)
        assert value(found, "storemon_newest_poll_age_seconds") == math.inf
        assert ("storemon_newest_poll_timestamp_seconds", ()) not in found


@pytest.mark.usefixtures("small_fleet")
def test_metrics_say_what_the_database_says(client: FlaskClient, settings: Settings, app: Flask) -> None:
    client.post("/trigger_report")
    more = b"store_id,timestamp_utc,status\nworked,2024-10-14 11:20:00 UTC,active\nworked,noon,active\n"
    assert scrape(client)["storemon_polls", ()] == 4
    assert client.post("/api/v1/feeds/polls", data=more).json["new"] == 1
    app.extensions["storemon"].list_cache.wait()
    found = scrape(client)
    (stored,) = sql(settings.database, "SELECT sum(length(polls)) / 8 FROM poll_week")[0]
    assert value(found, "storemon_polls") == stored == 5
    # Of the push; what was loaded before the server started is nothing that came in.
    assert value(found, "storemon_loaded_rows_total", feed="polls", outcome="new") == 1
    reasons = {labels[0][1]: count for (name, labels), count in found.items() if name == "storemon_rejected_rows_total"}
    assert list(reasons.values()) == [1]
    assert value(found, "storemon_reports", state="complete") == 1
    assert value(found, "storemon_reports", state="pending") == 0
    assert value(found, "storemon_report_jobs_total", outcome="complete") == 1
    assert value(found, "storemon_report_job_duration_seconds_count") == 1
    assert sum(count for (name, _), count in found.items() if name == "storemon_stores") == 4
    assert value(found, "storemon_newest_poll_timestamp_seconds") == 1_728_907_200
    assert value(found, "storemon_newest_poll_age_seconds") == pytest.approx(time.time() - 1_728_907_200, abs=60)
    assert value(found, "storemon_database_size_bytes") == settings.database.stat().st_size


def test_the_age_of_the_newest_poll_is_never_negative_and_those_in_the_future_are_counted(
    client: FlaskClient, small_fleet: Path, database: Database, tmp_path: Path
) -> None:
    found = scrape(client)
    assert value(found, "storemon_stores_with_future_polls") == 0
    # Stored while the clock was ahead; the newest that is allowed is 5 minutes ahead.
    now = datetime.now(UTC)
    rows = "".join(
        f"{store},{now + timedelta(seconds=ahead):%Y-%m-%d %H:%M:%S} UTC,active\n"
        for store, ahead in (("worked", 240), ("silent", 86_400), ("silent", 90_000), ("new", 10**9))
    )
    (tmp_path / "ahead.csv").write_text(f"store_id,timestamp_utc,status\n{rows}")
    load.load_sources(database, sources.find_sources([tmp_path / "ahead.csv"]), load.LoadOptions(clock.LATEST_US, 0))
    found = scrape(client)
    assert value(found, "storemon_stores_with_future_polls") == 2
    assert value(found, "storemon_newest_poll_age_seconds") == 0
    assert value(found, "storemon_newest_poll_timestamp_seconds") == int(now.timestamp()) + 240


NAMES = re.compile(r"^\| `(storemon_[a-z_]+)`", re.MULTILINE)


def test_the_docs_name_every_metric_and_no_other(server: Server) -> None:
    server.wait_for(server.trigger())
    assert server.get("/api/v1/stores").status == 200
    wait_until(lambda: b"storemon_stores{" in server.get("/metrics").body, "the stores")
    found = {family.name for family in text_string_to_metric_families(server.get("/metrics").body.decode())}
    told = set(NAMES.findall((ROOT / "docs" / "monitoring.md").read_text("utf-8")))
    assert {name.removesuffix("_total") for name in told} == {name for name in found if name.startswith("storemon_")}
    # Those are of the process, under their usual names.
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= found


def test_what_becomes_of_a_job_is_counted(
    client: FlaskClient, app: Flask, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ids = polls.read_by_stores, []

    def outcomes() -> dict[str, float]:
        return {
            dict(labels)["outcome"]: count
            for (name, labels), count in scrape(client).items()
            if name == "storemon_report_jobs_total" and count
        }

    def trigger(error: Exception | None) -> None:
        def watched(*arguments: Any) -> Any:
            if error is not None:
                raise error
            ids.append(
                sql(app.extensions["storemon"].settings.database, "SELECT id FROM report ORDER BY rowid DESC")[0][0]
            )
            app.extensions["storemon"].worker.delete(ids[-1])
            return read(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(polls, "read_by_stores", watched)
            assert client.post("/trigger_report").status_code == 202

    trigger(OSError(errno.ENOSPC, "full"))
    assert outcomes() == {"put_off": 1}
    trigger(ValueError("no"))
    assert outcomes() == {"put_off": 1, "failed": 1}
    trigger(None)
    assert outcomes() == {"put_off": 1, "failed": 1, "deleted": 1}
    assert client.post("/trigger_report").status_code == 202
    assert outcomes() == {"put_off": 1, "failed": 1, "deleted": 1, "complete": 1}


def test_it_is_said_once_that_it_is_not_ready_and_once_that_it_is_again(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "KEPT_S", -1.0)
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


def test_refusals_are_no_lines_for_people_one_by_one(
    settings: Settings, small_fleet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "storemon.requests")
    app = create_app(replace(settings, max_pending_reports=1), Queue())
    for columns in ("classic", "full"):
        app.test_client().post("/trigger_report", json={"columns": columns})
    levels = [(one.levelname, one.status) for one in caplog.records if one.name == "storemon.requests"]
    assert levels == [("INFO", 202), ("DEBUG", 503)]
    app.extensions["storemon"].database.close()


def test_requests_are_counted_by_route_and_never_by_path(client: FlaskClient) -> None:
    for number in range(20):
        assert client.get(f"/nothing/{number}").status_code == 404
        assert client.get(f"/api/v1/loads/{number}").status_code == 404
    client.open("/healthz", method="BREW")
    found = scrape(client)
    assert value(found, "storemon_http_requests_total", method="GET", route="unmatched", status="404") == 20
    assert (
        value(found, "storemon_http_requests_total", method="GET", route="/api/v1/loads/<int:load>", status="404") == 20
    )
    assert value(found, "storemon_http_request_duration_seconds_count", method="GET", route="unmatched") == 20
    methods = {dict(labels)["method"] for name, labels in found if name == "storemon_http_requests_total"}
    assert methods == {"GET", "other"}


def test_a_sane_request_id_is_kept_and_another_is_replaced(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "trace-1.2:3"}).headers["X-Request-Id"] == "trace-1.2:3"
    for given in ("", "a b", "x" * 129, "<script>", "\u00e9"):
        made = client.get("/nothing", headers={"X-Request-Id": given}).headers.getlist("X-Request-Id")
        assert len(made) == 1
        assert made[0] != given
        assert len(made[0]) == 16
    assert client.get("/healthz").headers["X-Request-Id"] != client.get("/healthz").headers["X-Request-Id"]


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
        assert time.monotonic() - started < 10
    database.close()
    settings.database.write_bytes(b"this is no database at all" * 100)
    assert readiness.check(database, settings, True)["database"].startswith("the database is not an SQLite database")
    assert readiness.check(database, settings, False)["jobs"] != "ok"


def test_a_line_cannot_be_forged() -> None:
    evil = "/x\n2024-01-01 ERROR forged\x1b[31m\u2028\r"
    record = logging.LogRecord("storemon.requests", logging.INFO, "", 1, "%s", (evil,), None)
    text, told = logs.TextLines().format(record), logs.JsonLines().format(record)
    assert len(text.splitlines()) == len(told.splitlines()) == 1
    assert "\x1b" not in text + told
    assert json.loads(told)["message"] == evil


def test_json_logs_have_a_line_for_each_request_and_each_job_and_no_secret(
    serve: Callable[..., Server], small_fleet: Path
) -> None:
    key = "a-master-key-that-must-not-be-seen"
    server = serve(STOREMON_LOG_FORMAT="json", STOREMON_API_KEY=key)
    bearer = {"Authorization": f"Bearer {key}"}
    made = http(server.url + "/trigger_report", "POST", b"", X_Request_Id="mine-1", **bearer)
    report_id = made.json["report_id"]
    assert made.headers["X-Request-Id"] == "mine-1"
    server.get(f"/nothing%0A%1b?key={key}", **bearer)

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in server.log.read_text().splitlines()]

    wait_until(lambda: [one for one in lines() if one.get("event") == "job"], "the job's line")
    found = lines()
    (job,) = [one for one in found if one.get("event") == "job"]
    assert (job["report_id"], job["outcome"]) == (report_id, "complete")
    (mine,) = [one for one in found if one.get("request_id") == "mine-1" and one.get("event") == "request"]
    assert (mine["method"], mine["route"], mine["status"], mine["remote"]) == (
        "POST",
        "/trigger_report",
        202,
        "127.0.0.1",
    )
    assert [one["status"] for one in found if one.get("event") == "request"][-1] == 404
    assert key not in server.log.read_text()
