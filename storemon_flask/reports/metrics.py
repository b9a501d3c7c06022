"""The metrics of the report worker."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

# How a job ends: to be tried again later, to be run by the next server, not wanted any more, or not recorded in its
# row.
OUTCOMES: Final = ("complete", "failed", "put_off", "put_back", "deleted", "unrecorded")
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class ReportMetrics:
    """Counts the jobs of one worker in the registry of its application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "storemon_report_jobs", "Jobs of reports that ended, by outcome.", ("outcome",), registry=registry
        )
        for outcome in OUTCOMES:
            self._jobs.labels(outcome)
        self._seconds = Histogram(
            "storemon_report_job_duration_seconds",
            "Time that a report's job took.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._deleted = Counter(
            "storemon_reports_deleted_for_room", "Reports deleted to make room for newer ones.", registry=registry
        )

    def count_job(self, outcome: str, seconds: float | None) -> None:
        """Count a job that ended, as one of `OUTCOMES`."""
        self._jobs.labels(outcome).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def count_deleted(self, count: int) -> None:
        """Count reports that were deleted to make room."""
        self._deleted.inc(count)
