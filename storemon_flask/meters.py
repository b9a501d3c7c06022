"""What a server has done since it started, counted as it happens; /metrics reads it (web/exposition.py)."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# Seconds. A small call takes 2 ms, a report 50 ms to some seconds, a push of a million rows ten.
REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# What becomes of a report's job: tried again later, left for the next server, stopped as nobody wants it any more, or
# not to be written into its row.
OUTCOMES: Final = ("complete", "failed", "put_off", "put_back", "deleted", "unrecorded")
JOB_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Histogram:
    """How many values were at most as large as each bound (not summed up yet; the last one is "larger"), and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, int]]:
        """(upper bound, how many were at most that), the last one `+Inf`."""
        summed, found = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            summed += count
            found.append((bound, summed))
        return found


class Meters:
    """The counts of one server. Safe to share between threads; keys are of bounded number, whatever is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._request_s: dict[tuple[str, str], Histogram] = {}
        self._jobs: Counter[str] = Counter()
        self._job_s = Histogram(JOB_BUCKETS_S)
        self._dropped: Counter[str] = Counter()
        self._made_room = 0
        # What is true now and only the server knows, such as how many connections are open.
        self.gauges: dict[str, Callable[[], float]] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the rule, never the path: strangers choose paths."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._request_s.setdefault((method, route), Histogram(REQUEST_BUCKETS_S)).add(seconds)

    def job(self, outcome: str, seconds: float | None) -> None:
        """A report's job ended, as one of `OUTCOMES`."""
        with self._lock:
            self._jobs[outcome] += 1
            if seconds is not None:
                self._job_s.add(seconds)

    def made_room(self, count: int) -> None:
        """So many reports were deleted to make room."""
        with self._lock:
            self._made_room += count

    def deleted_for_room(self) -> int:
        """Reports that were deleted to make room."""
        with self._lock:
            return self._made_room

    def dropped(self, reason: str) -> None:
        """A connection was closed because its client was too slow."""
        with self._lock:
            self._dropped[reason] += 1

    def requests(
        self,
    ) -> tuple[dict[tuple[str, str, int], int], dict[tuple[str, str], tuple[list[tuple[str, int]], float]]]:
        """Counts by (method, route, status); by (method, route) buckets of seconds and their sum."""
        with self._lock:
            return dict(self._requests), {key: (one.buckets(), one.total) for key, one in self._request_s.items()}

    def jobs(self) -> tuple[dict[str, int], list[tuple[str, int]], float]:
        """Counts by outcome; buckets of seconds and their sum."""
        with self._lock:
            return dict(self._jobs), self._job_s.buckets(), self._job_s.total

    def drops(self) -> dict[str, int]:
        """Connections closed by reason."""
        with self._lock:
            return dict(self._dropped)
