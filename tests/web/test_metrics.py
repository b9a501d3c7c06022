"""Metrics, from the counts of one application to what the database says; request ids and the log lines of requests."""

import errno
import json
import logging
import math
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, http, sql, storemon, wait_until
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from worker_helpers import Queue

from storemon_flask import clock, create_app, logs
from storemon_flask.database import polls
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.settings import Settings
from storemon_flask.stores.list_cache import ListCache
from storemon_flask.web import metrics
from storemon_flask.web.metrics import OUTCOMES, DataCollector

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
    assert value(found, "storemon_report_attempts_total", outcome="complete") == 1
    assert value(found, "storemon_report_attempt_duration_seconds_count") == 1
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
    read, ids = polls.read_in_batches, []

    def outcomes() -> dict[str, float]:
        return {
            dict(labels)["outcome"]: count
            for (name, labels), count in scrape(client).items()
            if name == "storemon_report_attempts_total" and count
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
            patched.setattr(polls, "read_in_batches", watched)
            assert client.post("/trigger_report").status_code == 202

    trigger(OSError(errno.ENOSPC, "full"))
    assert outcomes() == {"retry_later": 1}
    trigger(ValueError("no"))
    assert outcomes() == {"retry_later": 1, "failed": 1}
    trigger(None)
    assert outcomes() == {"retry_later": 1, "failed": 1, "deleted": 1}
    assert client.post("/trigger_report").status_code == 202
    assert outcomes() == {"retry_later": 1, "failed": 1, "deleted": 1, "complete": 1}


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

    wait_until(lambda: [one for one in lines() if one.get("event") == "report"], "the line of the report")
    found = lines()
    (line,) = [one for one in found if one.get("event") == "report"]
    assert (line["report_id"], line["outcome"]) == (report_id, "complete")
    (mine,) = [one for one in found if one.get("request_id") == "mine-1" and one.get("event") == "request"]
    assert (mine["method"], mine["route"], mine["status"], mine["remote"]) == (
        "POST",
        "/trigger_report",
        202,
        "127.0.0.1",
    )
    assert [one["status"] for one in found if one.get("event") == "request"][-1] == 404
    assert key not in server.log.read_text()


HEAD = "store_id,timestamp_utc,status\n"
FEEDS = ("polls", "hours", "timezones", "special_hours", "stores", "none")


class Pushes:
    """Loads of polls that were never sent before, by one who is not the collector."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.database = Database(settings.database)
        self._file = folder / "polls.csv"
        self._next = 0

    def push(self, rows: int) -> None:
        stamps = (f"2023-01-25 {at // 60:02d}:{at % 60:02d}:00" for at in range(self._next, self._next + rows))
        self._file.write_text(HEAD + "".join(f"a,{stamp} UTC,active\n" for stamp in stamps))
        self._next += rows
        found = sources.find_sources([self._file])
        assert load.load_sources(self.database, found, load.LoadOptions(time.time_ns() // 1000, 0)).load

    def prune_all(self) -> None:
        """Every load that there is goes, and no poll."""
        with self.database.write() as connection:
            for table in ("poll_change", "fact_change", "load_file", "load"):
                connection.execute(f"DELETE FROM {table}")


@pytest.fixture
def pushes(settings: Settings, tmp_path: Path) -> Iterator[Pushes]:
    made = Pushes(settings, tmp_path)
    with closing(made.database):
        yield made


def begun(database: Database, settings: Settings) -> DataCollector:
    found = DataCollector(database, settings, ListCache(database, settings.rules, settings.default_timezone))
    found.begin()
    return found


Rows = dict[tuple[str, str], float]


def collect(collector: DataCollector) -> tuple[Rows, float]:
    """The rows that came in, by feed and outcome; and the polls that are stored."""
    samples = [one for family in collector.collect() for one in family.samples]
    rows = {
        (one.labels["feed"], one.labels["outcome"]): one.value
        for one in samples
        if one.name == "storemon_loaded_rows_total"
    }
    (polls,) = (one.value for one in samples if one.name == "storemon_polls")
    return rows, polls


def new(collector: DataCollector) -> float:
    return collect(collector)[0]["polls", "new"]


def test_what_was_there_before_is_not_counted_and_all_begins_at_nought(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    pushes.push(7)
    rows, polls = collect(collector)
    nought = {(feed, outcome): 0 for feed in FEEDS for outcome in OUTCOMES}
    assert rows == {**nought, ("polls", "new"): 7}
    assert polls == 17
    assert new(collector) == 7
    assert new(begun(database, settings)) == 0


def test_numbers_that_are_given_again_after_a_prune_are_counted(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    collector = begun(database, settings)
    for _ in range(3):
        pushes.push(10)
    assert new(collector) == 30
    pushes.prune_all()
    for _ in range(4):
        pushes.push(7)
    # Numbers 1 to 3 were given twice, and nobody looked in between.
    assert new(collector) == 58
    pushes.prune_all()
    assert new(collector) == 58
    pushes.push(1)
    assert new(collector) == 59


def test_a_prune_of_the_newest_files_alone_hides_none(settings: Settings, database: Database, pushes: Pushes) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    pushes.push(1)
    pushes.push(2)
    assert new(collector) == 3
    with pushes.database.write() as connection:
        # A long load that began first ends last: its file has the highest number, and is the first to go.
        connection.execute("DELETE FROM load_file WHERE id = 3")
    pushes.push(4)
    assert new(collector) == 7


def test_the_clock_may_be_set_back_while_files_are_pruned(
    settings: Settings, database: Database, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushes.push(10)
    collector = begun(database, settings)
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 3_600 * 10**9)
    pushes.push(5)
    assert new(collector) == 5


def test_no_more_than_some_files_are_remembered(
    settings: Settings, database: Database, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_REMEMBERED_FILES", 2)
    collector = begun(database, settings)
    for _ in range(5):
        pushes.push(1)
    assert new(collector) == 5
    with pushes.database.write() as connection:
        connection.execute("DELETE FROM load_file WHERE id > 2")
    pushes.push(3)
    assert new(collector) == 8
    assert new(collector) == 8


def test_a_restored_backup_turns_no_counter_back(settings: Settings, database: Database, pushes: Pushes) -> None:
    pushes.push(4)
    collector = begun(database, settings)
    kept = settings.home / "kept.db"
    with closing(sqlite3.connect(settings.database)) as source, closing(sqlite3.connect(kept)) as target:
        source.backup(target)
    pushes.push(1)
    rows, polls = collect(collector)
    assert (rows["polls", "new"], polls) == (1, 5)
    with closing(sqlite3.connect(kept)) as source, closing(sqlite3.connect(settings.database)) as target:
        source.backup(target)
    rows, polls = collect(collector)
    assert (rows["polls", "new"], polls) == (1, 4)
    pushes.push(2)
    assert new(collector) == 3


def test_another_database_in_its_place_did_not_come_in(
    settings: Settings, database: Database, pushes: Pushes, tmp_path: Path
) -> None:
    other = Pushes(replace(settings, database=tmp_path / "other.db"), tmp_path)
    other.push(3)
    other.database.close()
    pushes.push(9)
    collector = begun(database, settings)
    assert new(collector) == 0
    pushes.database.close()
    database.close()
    for suffix in ("-wal", "-shm"):
        settings.database.with_name(settings.database.name + suffix).unlink(missing_ok=True)
    (tmp_path / "other.db").replace(settings.database)
    rows, polls = collect(collector)
    assert (rows["polls", "new"], polls) == (0, 3)
    pushes.push(3)
    assert new(collector) == 3


def test_a_database_that_could_not_be_read_at_the_start_does_not_come_in_later(
    settings: Settings, database: Database, pushes: Pushes
) -> None:
    pushes.push(4)
    pushes.database.close()
    whole = settings.database.read_bytes()
    settings.database.write_bytes(b"this is no database at all" * 100)
    collector = begun(database, settings)
    settings.database.write_bytes(whole)
    assert new(collector) == 0
    pushes.push(2)
    assert new(collector) == 2


def test_a_server_counts_pushes_and_what_a_command_loads_beside_it_and_begins_anew(
    serve: Callable[..., Server], settings: Settings, small_fleet: Path, database: Database, tmp_path: Path
) -> None:
    database.close()

    def polls(server: Server) -> dict[str, float]:
        families = text_string_to_metric_families(server.get("/metrics").body.decode())
        samples = [one for family in families for one in family.samples if one.name == "storemon_loaded_rows_total"]
        return {one.labels["outcome"]: one.value for one in samples if one.labels["feed"] == "polls" and one.value}

    server = serve()
    # Nobody has looked at /metrics yet.
    body = HEAD + "worked,2024-10-14 11:20:00 UTC,active\nworked,noon,active\n"
    assert http(f"{server.url}/api/v1/feeds/polls", "POST", body.encode()).json["new"] == 1
    file = tmp_path / "more.csv"
    file.write_text(HEAD + "worked,2024-10-14 11:21:00 UTC,active\nworked,2024-10-14 11:22:00 UTC,active\n")
    assert storemon(settings.home, "load-data", str(file)).returncode == 0
    assert polls(server) == {"new": 3, "rejected": 1}
    pruned = storemon(settings.home, "prune", "--before", now_text(), "--yes")
    assert pruned.returncode == 0, pruned.stderr
    assert polls(server) == {"new": 3, "rejected": 1}
    server.end()
    assert polls(serve()) == {}


def now_text() -> str:
    """This instant, as a command takes it."""
    whole, us = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{us:06d}Z"
