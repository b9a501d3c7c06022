"""The metrics of the report worker."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

# How an attempt ends: `retry_later` by this server, `requeued` for the next one, and `unrecorded` when the row could
# not be written.
OUTCOMES: Final = ("complete", "failed", "retry_later", "requeued", "deleted", "unrecorded")
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class ReportMetrics:
    """Counts what one worker does in the registry of its application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "storemon_report_attempts", "Attempts to compute a report, by outcome.", ("outcome",), registry=registry
        )
        for outcome in OUTCOMES:
            self._attempts.labels(outcome)
        self._seconds = Histogram(
            "storemon_report_attempt_duration_seconds",
            "Time that an attempt took.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._deleted = Counter(
            "storemon_reports_deleted_for_room", "Reports deleted to make room for newer ones.", registry=registry
        )

    def count_attempt(self, outcome: str, seconds: float | None) -> None:
        """Count an attempt that ended, as one of `OUTCOMES`."""
        self._attempts.labels(outcome).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def count_deleted(self, count: int) -> None:
        """Count reports that were deleted to make room."""
        self._deleted.inc(count)
