"""The metrics as Prometheus reads them: names, help and units. Imported at the first /metrics, not at the start."""

import math
import platform
import sqlite3
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from storemon_flask.meters import OUTCOMES, Meters
from storemon_flask.version import VERSION
from storemon_flask.web.vitals import Vitals

_US: Final = 1_000_000
_GAUGES: Final = {
    "connections": "Connections that are open.",
    "requests_waiting": "Requests that wait for a thread.",
}


def text(meters: Meters, vitals: Vitals, now_us: int) -> bytes:
    """All metrics in the text format 0.0.4, from a registry that lives for this answer."""
    registry = CollectorRegistry()
    registry.register(_Given([*_requests(meters), *_jobs(meters), *_data(vitals, now_us), *_house(meters, vitals)]))
    # Memory, processor time and open files of this process, under their usual names.
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Given(Collector):
    """Metrics that are ready."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """They."""
        return self._metrics


def _requests(meters: Meters) -> Iterator[Metric]:
    counts, seconds = meters.requests()
    total = CounterMetricFamily(
        "storemon_http_requests",
        "Requests answered, by method, route and status.",
        labels=("method", "route", "status"),
    )
    for (method, route, status), count in sorted(counts.items()):
        total.add_metric((method, route, str(status)), count)
    yield total
    taken = HistogramMetricFamily(
        "storemon_http_request_duration_seconds",
        "Time until the answer began, by method and route.",
        labels=("method", "route"),
    )
    for key, (buckets, summed) in sorted(seconds.items()):
        taken.add_metric(key, buckets, summed)
    yield taken
    dropped = CounterMetricFamily(
        "storemon_http_connections_dropped", "Connections closed because their client was too slow.", labels=("reason",)
    )
    for reason in ("request", "reader"):
        dropped.add_metric((reason,), meters.drops().get(reason, 0))
    yield dropped
    for name, read in sorted(meters.gauges.items()):
        yield GaugeMetricFamily(f"storemon_http_{name}", _GAUGES[name], value=read())


def _jobs(meters: Meters) -> Iterator[Metric]:
    outcomes, buckets, summed = meters.jobs()
    total = CounterMetricFamily("storemon_report_jobs", "Jobs of reports that ended, by outcome.", labels=("outcome",))
    for outcome in OUTCOMES:
        total.add_metric((outcome,), outcomes.get(outcome, 0))
    yield total
    yield CounterMetricFamily(
        "storemon_reports_deleted_for_room",
        "Reports deleted to make room for newer ones.",
        value=meters.deleted_for_room(),
    )
    yield HistogramMetricFamily(
        "storemon_report_job_duration_seconds", "Time that a report's job took.", buckets=buckets, sum_value=summed
    )


def _data(vitals: Vitals, now_us: int) -> Iterator[Metric]:
    queue = GaugeMetricFamily(
        "storemon_reports", "Reports by state; equal ones that are pending share a job.", labels=("state",)
    )
    for state, count in vitals.reports.items():
        queue.add_metric((state,), count)
    yield queue
    yield GaugeMetricFamily(
        "storemon_report_files_size_bytes",
        "The files of finished reports, and long lists of what was asked.",
        value=vitals.report_bytes,
    )
    yield GaugeMetricFamily("storemon_polls", "Polls that are stored.", value=vitals.polls)
    rows = CounterMetricFamily(
        "storemon_loaded_rows", "Rows that came in, by feed and what became of them.", labels=("feed", "outcome")
    )
    for key, count in sorted(vitals.rows.items()):
        rows.add_metric(key, count)
    yield rows
    rejects = CounterMetricFamily(
        "storemon_rejected_rows", "Rows that could not be used, by reason.", labels=("reason",)
    )
    for reason, count in sorted(vitals.rejects.items()):
        rejects.add_metric((reason,), count)
    yield rejects
    newest = vitals.newest_poll_us
    if newest is not None:
        yield GaugeMetricFamily(
            "storemon_newest_poll_timestamp_seconds", "The newest poll that is not in the future.", value=newest / _US
        )
    # Always there, so that a rule about silence holds for a feed that never spoke.
    age = math.inf if newest is None else max(now_us - newest, 0) / _US
    yield GaugeMetricFamily(
        "storemon_newest_poll_age_seconds", "How old the newest poll is; +Inf before the first.", value=age
    )
    yield GaugeMetricFamily(
        "storemon_stores_with_future_polls",
        "Stores with polls later than this machine's clock allows.",
        value=vitals.stores_ahead,
    )
    if vitals.stores is not None and vitals.stores_as_of_us is not None:
        stores = GaugeMetricFamily("storemon_stores", "Stores by status, as of the last look.", labels=("status",))
        for status, count in vitals.stores.items():
            stores.add_metric((status,), count)
        yield stores
        at = vitals.stores_as_of_us / _US
        yield GaugeMetricFamily("storemon_stores_as_of_timestamp_seconds", "The instant of storemon_stores.", value=at)


def _house(meters: Meters, vitals: Vitals) -> Iterator[Metric]:
    yield GaugeMetricFamily("storemon_database_size_bytes", "The database file.", value=vitals.database_bytes)
    yield GaugeMetricFamily("storemon_database_wal_size_bytes", "Its write-ahead log.", value=vitals.wal_bytes)
    free = GaugeMetricFamily("storemon_disk_free_bytes", "Free space where things are kept.", labels=("place",))
    for place, size in vitals.free_bytes.items():
        free.add_metric((place,), size)
    yield free
    build = GaugeMetricFamily("storemon_build_info", "What runs; always 1.", labels=("version", "python", "sqlite"))
    build.add_metric((VERSION, platform.python_version(), sqlite3.sqlite_version), 1)
    yield build
