"""Gatus: its SQLite file, or its API.

It keeps the newest results (100 of an endpoint by default) and the newest changes (50); its file also has counts, of
hours for two days and then of days, which say nothing of when.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from storemon_flask.database import foreign
from storemon_flask.database.foreign import GatusCheck, HourCount
from storemon_flask.errors import DataError
from storemon_flask.imports.checks import ACTIVE, INACTIVE, Check, timestamp_us
from storemon_flask.imports.fetching import Service, text_of
from storemon_flask.imports.hours import HourlyNotes, Seen, usual_checks, with_hours

_HOUR_S: Final = 3600
_US: Final = 1_000_000
# Go's way to write a time: `2026-08-17 10:00:00.123456789 +0000 UTC m=+60.5`.
_GO_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ([-+]\d{4}) \S+(?: m=\S+)?")
_PAGE: Final = 100
_MOST_PAGES: Final = 1_000


class _Endpoint(NamedTuple):
    name: str
    # How its checks and hours are read, when they are wanted.
    read: Callable[[], tuple[Sequence[GatusCheck], Sequence[HourCount]]]


class GatusReader:
    """Reads a Gatus: a file, or where `source` begins with http:// or https://, a service."""

    def __init__(self, source: str, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        self.label = "Gatus"
        self.has_checks = True
        self.aside: dict[str, str] = {}
        self._on_progress = on_progress
        self._hourly = HourlyNotes()
        self._service = Service(source) if re.match(r"https?://", source, re.IGNORECASE) else None
        self._path = Path(source)
        self.name = self._service.host if self._service else self._path.name

    def checks(self, is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        """Return name and check of every result and change that is left, and of hours whose results are gone."""
        if self._service is not None:
            yield from self._of(_endpoints_of_service(self._service), is_included)
            return
        with foreign.open_foreign(self._path) as database:
            if not database.columns("endpoints") or not database.columns("endpoint_results"):
                raise DataError(
                    f"{self._path} is not the database of a Gatus: it has no tables endpoints and endpoint_results. "
                    "A Gatus that keeps all in memory has no file; give its address instead"
                )
            endpoints = [
                _Endpoint(
                    _name(endpoint.group, endpoint.name),
                    lambda number=endpoint.id: (  # type: ignore[misc]
                        foreign.gatus_checks(database, number),
                        _whole_hours(foreign.gatus_hours(database, number)),
                    ),
                )
                for endpoint in foreign.gatus_endpoints(database)
            ]
            yield from self._of(endpoints, is_included)

    def notes(self) -> list[str]:
        """Return notes about polls derived from hourly counts."""
        return self._hourly.sentences()

    def _of(self, endpoints: Sequence[_Endpoint], is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        for done, endpoint in enumerate(endpoints):
            self._on_progress(done, len(endpoints))
            if is_included(endpoint.name):
                checks, hours = endpoint.read()
                for check in with_hours(_seen(checks, hours), hours, self._hourly):
                    yield endpoint.name, check
        self._on_progress(len(endpoints), len(endpoints))


def _name(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _seen(results: Sequence[GatusCheck], hours: Sequence[HourCount]) -> Iterator[Seen]:
    """Results and changes in the order of time, each instant once.

    A change is the first result that differed. The one before it, which said the other, may be gone: it was made one
    interval earlier.
    """
    unreadable, checks = [], {}
    for one in results:
        text = _plain_time(one.time)
        at_us = timestamp_us(text)
        check = Check(one.id, at_us, text, ACTIVE if one.success else INACTIVE)
        if at_us is None:
            unreadable.append(Seen(check))
        else:
            checks[at_us] = check
    yield from unreadable
    times = sorted(checks)
    interval_us = _interval_us(times, hours)
    for index, at_us in enumerate(times):
        is_gone = interval_us and (not index or at_us - times[index - 1] > 1.5 * interval_us)
        yield Seen(checks[at_us], at_us - interval_us if is_gone else None)


def _interval_us(times: Sequence[int], hours: Sequence[HourCount]) -> int:
    """How long it usually is from one check to the next: by the hours, else by the newest results; 0: unknown."""
    usual = usual_checks(hours)
    if usual:
        return round(_HOUR_S * _US / usual)
    newest = times[-_PAGE:]
    gaps = [later - earlier for earlier, later in pairwise(newest)]
    return round(median(gaps)) if len(gaps) > 1 else 0


def _plain_time(text: str) -> str:
    go = _GO_TIME.fullmatch(text)
    return f"{go[1]}{go[2]}" if go else text


def _whole_hours(rows: Sequence[HourCount]) -> list[HourCount]:
    """The rows that are of one hour. One that has no other within half a day of it may be of a whole day."""
    near_s = _HOUR_S * 12
    hours = []
    for index, row in enumerate(rows):
        before = index > 0 and row.second - rows[index - 1].second < near_s
        after = index + 1 < len(rows) and rows[index + 1].second - row.second < near_s
        if before or after:
            hours.append(row)
    return hours


# The API


def _endpoints_of_service(service: Service) -> list[_Endpoint]:
    listed = service.get("/api/v1/endpoints/statuses", page="1", pageSize="1")
    if not isinstance(listed, list) or not all(_text(one, "key") for one in listed):
        raise DataError(f"{service.shown} is not a Gatus: it does not answer with a list of endpoints")
    endpoints = []
    for one in listed:
        key = _text(one, "key")
        endpoints.append(
            _Endpoint(
                _name(_text(one, "group"), _text(one, "name")),
                lambda key=key: (_checks_of_service(service, key), []),  # type: ignore[misc]
            )
        )
    return endpoints


def _checks_of_service(service: Service, key: str) -> list[GatusCheck]:
    checks: list[GatusCheck] = []
    for page in range(1, _MOST_PAGES):
        answer = service.get(f"/api/v1/endpoints/{quote(key, safe='')}/statuses", page=str(page), pageSize=str(_PAGE))
        results = _list(answer, "results")
        if page == 1:
            checks += [
                GatusCheck(0, _text(event, "timestamp"), _text(event, "type") == "HEALTHY")
                for event in _list(answer, "events")
                if _text(event, "type") in ("HEALTHY", "UNHEALTHY")
            ]
        if not results:
            break
        checks += [
            GatusCheck(number, _text(result, "timestamp"), isinstance(result, dict) and result.get("success") is True)
            for number, result in enumerate(results, start=(page - 1) * _PAGE + 1)
        ]
    return checks


def _list(value: Any, key: str) -> list[Any]:
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, list) else []


def _text(value: Any, key: str) -> str:
    return text_of(value.get(key, "")) if isinstance(value, dict) else ""
