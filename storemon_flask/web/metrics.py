"""Metrics for Prometheus, in one registry for each application; the id, the count and the log line of each request."""

import logging
import math
import platform
import re
import secrets
import shutil
import threading
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from storemon_flask import logs
from storemon_flask.database import incidents, loads, messages, polls, reports, stores
from storemon_flask.database.connections import SQLITE_VERSION, Connection, Database
from storemon_flask.database.newest import newest_poll
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds.schema import FEEDS
from storemon_flask.model import Counts, IncidentKind
from storemon_flask.reports import retention
from storemon_flask.settings import Settings
from storemon_flask.stores.list_cache import ListCache
from storemon_flask.uptime.status import STATUSES
from storemon_flask.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("storemon.requests")

REQUEST_ID_HEADER: Final = "X-Request-Id"
UNMATCHED: Final = "unmatched"
_ROUTE: Final = "storemon.route"
# In the environment of a request: the seconds that it waited because it was asked to, which is not slow.
WAITED: Final = "storemon.waited_s"
# A UUID, a trace id or a counter, and nothing that could forge a line of the log.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_READS: Final = ("GET", "HEAD", "OPTIONS")
# A read that people see in the log although it went well.
_SLOW_S: Final = 5.0
_MAX_PATH: Final = 300
# A small call takes 2 ms, a report 50 ms to some seconds, a push of a million rows ten.
_REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_US: Final = 1_000_000
_REPORT_STATES: Final = ("pending", "running", "complete", "failed", "deleted")
OUTCOMES: Final = ("new", "changed", "unchanged", "repeated", "rejected")
# The feed of a file that is none.
NO_FEED: Final = "none"
# Reasons of rejects are fixed; this bounds them should one ever not be.
_MAX_REASONS: Final = 60
_OTHER_REASON: Final = "other"
# A count of all polls reads every page of them: it may take one part in so many of the time.
_COUNTING_REST: Final = 100
# Files that are remembered as counted; one of them that is still in the database shows where the new ones begin.
_REMEMBERED_FILES: Final = 1000


class Metrics:
    """The metrics of one application, counted from its start. Safe to share between threads."""

    def __init__(
        self, database: Database, settings: Settings, registry: CollectorRegistry, list_cache: ListCache
    ) -> None:
        # No series that say when each counter began: all began with the process.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self._requests = Counter(
            "storemon_http_requests",
            "Requests answered, by method, route and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "storemon_http_request_duration_seconds",
            "Time until the answer began, by method and route.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        build = Gauge("storemon_build_info", "What runs; always 1.", ("version", "python", "sqlite"), registry=registry)
        build.labels(VERSION, platform.python_version(), SQLITE_VERSION).set(1)
        self.data = DataCollector(database, settings, list_cache)
        registry.register(self.data)
        # Memory, processor time and open files of this process, under their usual names.
        ProcessCollector(registry=registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered. `route` is the rule, never the path: strangers choose paths."""
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format 0.0.4; `DatabaseError` when the database cannot be read."""
        return generate_latest(self.registry)


class DataCollector(Collector):
    """Reads the metrics of the data at each scrape, and counts the rows that any process has loaded since the start.

    What was loaded before is not counted: counters begin at 0 with the server, and no prune and no restore turns them
    back.
    """

    def __init__(self, database: Database, settings: Settings, list_cache: ListCache) -> None:
        self._database = database
        self._settings = settings
        self._list_cache = list_cache
        self._lock = threading.Lock()
        self._identity: object = None
        self._rows = Counter(
            "storemon_loaded_rows",
            "Rows that came in, by feed and what became of them.",
            ("feed", "outcome"),
            registry=None,
        )
        for feed in (*FEEDS, NO_FEED):
            for outcome in OUTCOMES:
                self._rows.labels(feed, outcome)
        self._rejects = Counter(
            "storemon_rejected_rows", "Rows that could not be used, by reason.", ("reason",), registry=None
        )
        self._reasons: set[str] = set()
        # (number, time of the load) of files that are counted, and the newest of all those times.
        self._counted_files: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_FILES)
        self._newest_load_us = time.time_ns() // 1000
        self._last_file: tuple[int, int] | None = None
        # What was counted of the last file.
        self._last_counts = Counts()
        self._last_reasons: dict[str, int] = {}
        # Polls at the last full count and those that came in since; the data version of that count, and when it may be
        # repeated.
        self._poll_count = 0
        self._counted_version: int | None = None
        self._count_again_s = 0.0

    def begin(self) -> None:
        """Remember what was loaded before. Without it the clock decides, which may be set back meanwhile."""
        with suppress(DatabaseError), self._lock, self._database.read() as connection:
            self._remember_files(connection)
            self._newest_load_us = max((loaded_us for _, loaded_us in self._counted_files), default=0)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; `DatabaseError` when the database cannot be read."""
        database_bytes, wal_bytes = self._database.sizes()
        folders = {"database": self._settings.database.parent, "reports": self._settings.reports_dir}
        free = {name: shutil.disk_usage(folder).free for name, folder in folders.items() if folder.is_dir()}
        yield _gauge("database_size_bytes", "The database file.", database_bytes)
        yield _gauge("database_wal_size_bytes", "Its write-ahead log.", wal_bytes)
        yield _gauges("disk_free_bytes", "Free space, by folder.", "place", free)
        if self._database.exists():
            with self._lock, self._database.read() as connection:
                metrics = self._read(connection)
            yield from metrics
            yield from self._stores()
        else:
            yield from _database_metrics({}, 0, 0, None, 0)
            yield from _alert_metrics({}, None)
        yield from self._rows.collect()
        yield from self._rejects.collect()

    def _read(self, connection: Connection) -> list[Metric]:
        if self._identity != self._database.identity():
            # Another file stands at the path, with other polls.
            self._identity = self._database.identity()
            self._counted_version, self._count_again_s = None, 0.0
        self._count_new_files(connection)
        latest_us = self._settings.rules.latest_us(time.time_ns() // 1000)
        newest = newest_poll(self._database, connection, latest_us)
        return [
            *_database_metrics(
                reports.count_by_state(connection),
                retention.bytes_taken(connection, self._settings.reports_dir),
                self._count_polls(connection),
                newest.poll_us,
                newest.ahead.count,
            ),
            *_alert_metrics(incidents.counts_by_kind(connection), messages.oldest_waiting_us(connection)),
        ]

    def _count_new_files(self, connection: Connection) -> None:
        """Count the files that came in since the last scrape.

        Numbers of pruned files are given again, but only above those that are there: while one that was counted is, new
        ones are above it. When none is (all were pruned, an old backup was restored), the time of their load decides.
        """
        last = next((file for file in reversed(self._counted_files) if loads.is_there(connection, *file)), None)
        if last != self._last_file:
            # Files are gone, and polls may be too.
            self._counted_version, self._count_again_s = None, 0.0
        counted = last
        after, after_us = (0, self._newest_load_us) if last is None else (last[0] - 1, -1)
        for number, loaded_us, feed, counts, reasons in loads.since(connection, after, after_us):
            last = number, loaded_us
            before, reasons_before = Counts(), dict[str, int]()
            if last != counted:
                self._counted_files.append(last)
            elif last == self._last_file:
                # Small pushes are added to a file for as long as it is the last.
                before, reasons_before = self._last_counts, self._last_reasons
            else:
                before, reasons_before = counts, reasons
            self._last_counts, self._last_reasons = counts, reasons
            self._newest_load_us = max(self._newest_load_us, loaded_us)
            for outcome in OUTCOMES:
                self._rows.labels(feed or NO_FEED, outcome).inc(getattr(counts, outcome) - getattr(before, outcome))
            if feed == "polls":
                self._poll_count += counts.new - before.new
            for reason, count in reasons.items():
                self._count_rejects(reason, count - reasons_before.get(reason, 0))
        self._last_file = last
        if last is None:
            # Nothing that is there now need be looked at again.
            self._remember_files(connection)

    def _count_rejects(self, reason: str, count: int) -> None:
        if reason not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            reason = _OTHER_REASON
        self._reasons.add(reason)
        self._rejects.labels(reason).inc(count)

    def _remember_files(self, connection: Connection) -> None:
        self._counted_files.clear()
        self._counted_files.extend(loads.newest_files(connection, _REMEMBERED_FILES))
        self._newest_load_us = max([self._newest_load_us, *(loaded_us for _, loaded_us in self._counted_files)])
        self._last_file = self._counted_files[-1] if self._counted_files else None
        if self._last_file is not None:
            newest = loads.since(connection, self._last_file[0] - 1, -1)
            for _, _, _, self._last_counts, self._last_reasons in newest:
                pass

    def _count_polls(self, connection: Connection) -> int:
        """Return how many polls are stored. New ones are added up; removed ones are seen at the next full count."""
        version = stores.data_version(connection)
        if version != self._counted_version and time.monotonic() >= self._count_again_s:
            began_s = time.monotonic()
            self._poll_count = polls.count(connection)
            self._counted_version = version
            self._count_again_s = time.monotonic() + _COUNTING_REST * (time.monotonic() - began_s)
        return self._poll_count

    def _stores(self) -> Iterator[Metric]:
        """Yield the stores by status, if a list of them was made already."""
        snapshot = self._list_cache.latest()
        if snapshot is None:
            return
        tally = Tally(snapshot.columns["status"].tolist())
        by_status = {status: tally[index] for index, status in enumerate(STATUSES)}
        yield _gauges("stores", "Stores by status, as of the last list.", "status", by_status)
        yield _gauge("stores_as_of_timestamp_seconds", "As-of of storemon_stores.", snapshot.as_of.as_of_us / _US)


def _database_metrics(
    counts: dict[str, int], report_bytes: int, poll_count: int, newest_us: int | None, stores_ahead: int
) -> Iterator[Metric]:
    by_state = {state: counts.get(state, 0) for state in _REPORT_STATES}
    about_files = "The files of finished reports, and long lists of the stores that were asked for."
    yield _gauges("reports", "Reports by state.", "state", by_state)
    yield _gauge("report_files_size_bytes", about_files, report_bytes)
    yield _gauge("polls", "Polls that are stored.", poll_count)
    if newest_us is not None:
        yield _gauge("newest_poll_timestamp_seconds", "The newest poll that is not in the future.", newest_us / _US)
    # Always there, so that a rule about silence holds before the first poll too.
    age_s = math.inf if newest_us is None else max(time.time() - newest_us / _US, 0)
    yield _gauge("newest_poll_age_seconds", "How old the newest poll is; +Inf before the first.", age_s)
    yield _gauge("stores_with_future_polls", "Stores with polls later than this machine's clock allows.", stores_ahead)


def _alert_metrics(open_by_kind: dict[str, int], oldest_us: int | None) -> Iterator[Metric]:
    by_kind = {kind.value: open_by_kind.get(kind, 0) for kind in IncidentKind}
    yield _gauges("incidents", "Incidents that are open, by kind.", "kind", by_kind)
    # 0 and not absent, so that a rule about it holds nothing against a server that has delivered all.
    age_s = 0.0 if oldest_us is None else max(time.time() - oldest_us / _US, 0)
    yield _gauge("oldest_undelivered_message_age_seconds", "How long the oldest message waits; 0 if none does.", age_s)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"storemon_{name}", about, value=value)


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(f"storemon_{name}", about, labels=(label,))
    for label_value, value in values.items():
        metric.add_metric((label_value,), value)
    return metric


def register(app: Flask, metrics: Metrics) -> None:
    """Give every request an id, count it and log it."""
    app.after_request(_note_route)
    app.wsgi_app = _Watched(app.wsgi_app, metrics)  # type: ignore[method-assign]


def request_id(given: str | None) -> str:
    """Return the id that a caller gave its request, if a log can take it, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def record(metrics: Metrics, environ: "WSGIEnvironment", status: int, seconds: float, length: int | None) -> None:
    """Count a request and log it: every one for programs, for people what changed something, failed or was slow.

    The log has the reason of a 503 already (`problems`, `ops`), however many there are. The query is left out: people
    put keys there.
    """
    given = environ.get("REQUEST_METHOD", "")
    method = given if given in _METHODS else "other"
    route = environ.get(_ROUTE, UNMATCHED)
    metrics.count_request(method, route, status, seconds)
    path = (environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "").partition("?")[0]
    path = logs.without_tokens(path)[:_MAX_PATH]
    slow = seconds - environ.get(WAITED, 0.0) > _SLOW_S
    for_people = status != 503 and (method not in _READS or status >= 400 or slow)
    ms = round(seconds * 1000, 1)
    log.log(
        logging.INFO if for_people else logging.DEBUG,
        "%s %s %d in %.0f ms", method, path, status, ms,
        extra={
            "event": "request", "method": method, "route": route, "path": path, "status": status, "ms": ms,
            "bytes": length, "remote": environ.get("REMOTE_ADDR"),
        },
    )  # fmt: skip


def _note_route(response: Response) -> Response:
    if request.url_rule is not None:
        request.environ[_ROUTE] = request.url_rule.rule
    return response


class _Watched:
    """The outermost layer of the app. It passes the body on as it is, so that Waitress can send a file itself."""

    def __init__(self, app: "WSGIApplication", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass the request on; its time is that until the answer begins."""
        started = time.perf_counter()
        own_id = request_id(environ.get("HTTP_X_REQUEST_ID"))
        status, length = 500, None

        def begin(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            """Note status and length, and add the request's id to the headers. A WSGI `start_response`."""
            nonlocal status, length
            status = int(line[:3])
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
            return start_response(line, [*headers, (REQUEST_ID_HEADER, own_id)], *error)

        with logs.marked(request_id=own_id):
            try:
                return self._app(environ, begin)
            finally:
                record(self._metrics, environ, status, time.perf_counter() - started, length)
