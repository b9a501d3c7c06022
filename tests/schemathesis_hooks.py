"""What OpenAPI cannot say of a request, told to schemathesis, so that what it takes for right is right.

Bodies that are no JSON get content. Cases that it takes for right are mended where only the data, or two parameters
together, make them wrong: ids that must exist, rows that `atomic` must be able to use, ranges and their limits.

By hand, with PYTHONPATH=tests and SCHEMATHESIS_HOOKS=schemathesis_hooks:
    schemathesis --config-file tests/schemathesis.toml run http://127.0.0.1:8000/openapi.json
"""

import gzip
import json
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, Final

import requests
import schemathesis
from hypothesis import strategies as st

LAST: Final = (
    "last_hour", "last_day", "last_week", "today", "yesterday", "this_week", "last_week_calendar", "this_month",
    "last_month", "last_7_days", "last_30_days", "last_90_days",
)  # fmt: skip
KNOWN_IDS: Final = ("worked", "silent", 'NYC/12, "east"')
HEADERS: Final = {
    "polls": ("store_id", "timestamp_utc", "status"),
    "hours": ("store_id", "day", "start_time_local", "end_time_local", "valid_from"),
    "special_hours": ("store_id", "date", "start_time_local", "end_time_local"),
    "timezones": ("store_id", "timezone_str", "valid_from"),
    "stores": ("store_id", "name", "group"),
}
VALUES: Final = {
    "polls": ("2024-10-14 11:15:00 UTC", "inactive"),
    # A day of both numberings: 0 to 6, and 1 to 7 with `days=iso`.
    "hours": (1, "09:00", "17:30", "2024-10-01"),
    "special_hours": ("2024-12-25", "", ""),
    "timezones": ("Europe/Berlin", ""),
    "stores": ("Broadway 12", "north"),
}
IDS: Final = ("s1", "s2", "007", "stra\u00dfe", "'=1", "", 'open " quote', "8.1E+018")


def csv(feed: str, ids: Sequence[str]) -> str:
    """A feed with a row for each id."""
    rows = [HEADERS[feed], *((one, *VALUES[feed]) for one in ids)]
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def ndjson(feed: str, ids: Sequence[str]) -> str:
    """The same as NDJSON."""
    return "".join(json.dumps(dict(zip(HEADERS[feed], (one, *VALUES[feed]), strict=True))) + "\n" for one in ids)


@schemathesis.serializer("text/csv", "application/x-ndjson", "application/gzip")
def as_it_is(context: Any, value: Any) -> bytes:
    """Text as it is, anything else as JSON; packed where it is to be."""
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()
    return gzip.compress(text, mtime=0) if context.case.media_type == "application/gzip" else text


# The cursor of the first page; others are made by the service alone.
schemathesis.openapi.format("cursor", st.just(""))
schemathesis.openapi.format("date", st.dates(date(1970, 1, 1), date(2199, 12, 31)).map(str))
schemathesis.openapi.format("store-id", st.sampled_from(KNOWN_IDS))
schemathesis.openapi.format("report-window", st.sampled_from(LAST))
schemathesis.openapi.format("moment", st.just("2024-10-14T10:00:00Z"))
schemathesis.openapi.format("iana-zone", st.sampled_from(("America/Chicago", "Europe/Berlin", "Asia/Tokyo", "UTC")))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Mend what was meant to be right, and one thing that was meant to be wrong."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _fit_case(case)
    elif isinstance(case.body, str | bytes) and not case.body.strip():
        # Nothing but blanks is no JSON, and taken for an empty body.
        case.body = "{" if isinstance(case.body, str) else b"{"


def _fit_case(case: Any) -> None:
    path, query = case.operation.path, case.query or {}
    _fit_labels(case.body, query)
    if path == "/trigger_report" and isinstance(case.body, dict) and "stores" in case.body:
        _load_known(case)
    if isinstance(case.body, dict) and "as_of" in case.body:
        case.body["as_of"] = "2024" + case.body["as_of"][4:]
    if path == "/trigger_report" and isinstance(case.body, dict):
        _fit_shape(case.body)
    if path.endswith("/latest.csv") and query:
        _load_known(case)
        query.pop("stores", None)
        if "as_of" in query:
            query["as_of"] = "2024" + query["as_of"][4:]
        _fit_shape(query, in_a_body=False)
    if path.startswith("/api/v1/feeds"):
        _fit_feed(case, path.rpartition("/")[2], str(query.get("atomic", 0)) == "1", query.get("encoding") == "cp1252")
    if path.startswith(("/api/v1/stores/", "/api/v1/outages")):
        _fit_as_of(query)
    if path == "/api/v1/overview":
        # Stores must have the tag that groups are made by.
        query |= {"by": "region"} if "by" in query else {}
    if path.endswith("/timeline") and query:
        _fit_range(query)
    if isinstance(case.body, dict) and path.startswith(("/api/v1/schedules", "/api/v1/channels")):
        _fit_schedule_or_channel(case, path)


def _fit_as_of(query: dict[str, Any]) -> None:
    """An as-of of the years that there are; no `at`, which must not be after it, nor long before."""
    query.pop("at", None)
    if "as_of" in query:
        query["as_of"] = "2024" + query["as_of"][4:]


def _fit_labels(body: Any, query: dict[str, Any]) -> None:
    """Filters of lists that are labels; none of reports, for stores with such a label must exist."""
    if "label" in query:
        query["label"] = ["region=West"]
    query.pop("labels", None)
    for fields in (body, body.get("report")) if isinstance(body, dict) else ():
        if isinstance(fields, dict):
            fields.pop("labels", None)


def _fit_schedule_or_channel(case: Any, path: str) -> None:
    """Texts that are due times, zones, addresses and names; of channels only the kind that needs nothing else."""
    body, name = case.body, f"a name {Random(repr(case.body)).random()}"
    if path.endswith("/run") and body.get("due"):
        body["due"] = "2024" + body["due"][4:]
    elif path == "/api/v1/channels":
        case.body = {"name": name, "kind": "webhook", "url": "http://127.0.0.1:9/", "kinds": body.get("kinds", [])}
    elif path == "/api/v1/schedules":
        body |= {"name": name, "due": "weekly mon 07:00", "channels": []}
        body |= {"zone": "Europe/Berlin"} if body.get("zone") else {}
        report = body.get("report")
        if report:
            if "stores" in report:
                _load_known(case)
            windows = report.pop("windows", None)
            _fit_shape(report)
            if report.get("kind") == "outages":
                report.pop("columns", None)
            if windows:
                one = report.get("by") or report.get("kind") == "outages"
                report["windows"] = [*dict.fromkeys(windows)][: 1 if one else None]


def _load_known(case: Any) -> None:
    rows = [{"store_id": one, "timezone_str": "UTC"} for one in KNOWN_IDS]
    headers = {"Authorization": f"Bearer {os.environ.get('SCHEMATHESIS_KEY', '')}"}
    base = case.operation.base_url.rstrip("/")
    answer = requests.post(f"{base}/api/v1/feeds/timezones", json=rows, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text


def _fit_feed(case: Any, feed: str, atomic: bool, windows: bool) -> None:
    """Text that is the feed; with `atomic`, rows that can be used; with `windows`, none that only UTF-8 can have."""
    random = Random(repr(case.body))
    ids = IDS[:3] if atomic else random.choices(IDS, k=random.randrange(6))
    ids = [one for one in ids if not windows or one.isascii()]
    if case.media_type == "multipart/form-data":
        case.body = {"file": [csv(random.choice(list(HEADERS)), ids) for _ in range(random.randint(1, 3))]}
    elif case.media_type in ("text/csv", "application/gzip"):
        case.body = csv(feed, ids)
    elif case.media_type == "application/x-ndjson":
        case.body = ndjson(feed, ids)
    elif atomic:
        case.body = [json.loads(line) for line in ndjson(feed, ids).splitlines()]


def _fit_shape(body: dict[str, Any], in_a_body: bool = True) -> None:
    """Fields that go together, windows that are over, and only what there is."""
    body.pop("groups", None)
    body.pop("zones", None)
    if body.get("kind") == "outages":
        for name in ("by", "totals", "method"):
            body.pop(name, None)
    else:
        body.pop("shortest_minutes", None)
    if body.get("by") or body.get("kind") == "outages":
        body.pop("compare", None)
    if body.get("windows"):
        names = [one for one in body["windows"] if one in LAST]
        dates = {"from": "2023-03-01", "to": "2023-03-20"} if in_a_body else "2023-03-01/2023-03-20"
        found = [*dict.fromkeys(names), *([dates] if len(names) < len(body["windows"]) else [])]
        body["windows"] = found[:1] if body.get("by") or body.get("kind") == "outages" else found


def _fit_range(query: dict[str, Any]) -> None:
    """At most 31 days that are not over before they begin, and begin before the as-of."""
    if "as_of" in query:
        query["as_of"] = "2024-10-14T12:00:00Z"
    if "from" in query:
        begin = datetime(2024, 10, 1, tzinfo=UTC)
        query["from"] = begin.isoformat()
        if "to" in query:
            query["to"] = (begin + timedelta(days=7)).isoformat()
    elif "to" in query:
        query["to"] = "2024-10-14T12:00:00Z"
