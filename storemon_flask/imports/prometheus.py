"""Prometheus: the samples of a metric that is 1 or 0, as `probe_success` and `up` are.

A range query would give a value at every step, also where no sample is. So the raw samples are asked for: an instant
query with a range selector, some hours at a time.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from storemon_flask.characters import count_text, list_ids
from storemon_flask.clock import minute_text
from storemon_flask.errors import DataError
from storemon_flask.imports.checks import ACTIVE, INACTIVE, Check, timestamp_us
from storemon_flask.imports.fetching import Service, text_of
from storemon_flask.model import DAY_US, HOUR_US

# What Prometheus keeps by default.
DEFAULT_SPAN_US: Final = 15 * DAY_US
_STEP_US: Final = 6 * HOUR_US
_US: Final = 1_000_000
_STATUS: Final = {"1": ACTIVE, "0": INACTIVE}
_NAMES_SHOWN: Final = 5


class PrometheusReader:
    """Reads the samples from one instant to another; the store's name is the value of one label."""

    def __init__(
        self,
        address: str,
        query: str,
        label: str,
        from_us: int | None = None,
        to_us: int | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._service = Service(address)
        self._query = query.strip()
        self._label = label
        self._to_us = time.time_ns() // 1000 if to_us is None else to_us
        self._from_us = max(self._to_us - DEFAULT_SPAN_US, 0) if from_us is None else from_us
        if self._from_us >= self._to_us:
            raise DataError(f"there is no time from {minute_text(self._from_us)} to {minute_text(self._to_us)}")
        self._on_progress = on_progress
        self.label = "Prometheus"
        self.has_checks = True
        self.name = f"{self._service.host} {self._query}"
        self.aside: dict[str, str] = {}
        self._series: dict[str, set[str]] = {}

    def checks(self, is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        """Return name and check of every sample."""
        start_us, row = self._from_us, 0
        while start_us < self._to_us:
            end_us = min(start_us + _STEP_US, self._to_us)
            self._on_progress(start_us - self._from_us, self._to_us - self._from_us)
            for name, samples in self._samples(start_us, end_us).items():
                if is_included(name):
                    for at_us, text, value in sorted(samples):
                        row += 1
                        yield name, Check(row, at_us, text, _STATUS.get(value, value))
            start_us = end_us
        self._on_progress(1, 1)

    def notes(self) -> list[str]:
        """Return notes about the series: the span read, and labels that several share or that are missing."""
        notes = [f"the samples of {self._query} from {minute_text(self._from_us)} to {minute_text(self._to_us)}"]
        several = sorted(name for name, series in self._series.items() if len(series) > 1)
        if several:
            listed = list_ids(several[:_NAMES_SHOWN], len(several))
            notes.append(f"several series have one {self._label}: {listed}; their samples are put together")
        if "" in self._series:
            count = count_text(len(self._series[""]), "series", "series")
            notes.append(f"{count} without the label {self._label}: its samples are rejected")
        return notes

    def _samples(self, start_us: int, end_us: int) -> dict[str, list[tuple[int, str, str]]]:
        """The samples after the one instant and up to the other, by name."""
        length_ms = -(-(end_us - start_us) // 1000)
        answer = self._service.post(
            "/api/v1/query", query=f"{self._query}[{length_ms}ms]", time=f"{end_us // _US}.{end_us % _US:06d}"
        )
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or data.get("resultType") != "matrix":
            raise DataError(
                f"{self._service.shown} has no samples of {self._query}: --query must be a metric with or without "
                'labels, such as probe_success{job="stores"}'
            )
        samples_by_name: dict[str, list[tuple[int, str, str]]] = {}
        try:
            for series in data["result"]:
                labels = series["metric"]
                name = text_of(labels.get(self._label, ""))
                self._series.setdefault(name, set()).add(str(sorted(labels.items())))
                samples = [(timestamp_us(str(at)), str(at), text_of(value)) for at, value in series["values"]]
                # The sample at the start was one of the step before, as Prometheus 2 has both ends.
                samples_by_name.setdefault(name, []).extend(
                    (at_us, text, value)
                    for at_us, text, value in samples
                    if at_us is not None and (at_us > start_us or start_us == self._from_us)
                )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DataError(f"{self._service.shown} answered with something else than series of samples") from None
        return samples_by_name
