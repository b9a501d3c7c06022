"""A second opinion: the uptime of fifty stores of the sample by `traces`, a public library of unevenly spaced series."""

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from brute_openings import openings  # the only part that is taken from there

traces = pytest.importorskip("traces")

from storemon_flask.database.connections import Database  # noqa: E402
from storemon_flask.feeds import load, sources  # noqa: E402
from storemon_flask.reports import compute  # noqa: E402
from storemon_flask.reports.request import ReportRequest  # noqa: E402
from storemon_flask.settings import load as load_settings  # noqa: E402

SAMPLE = Path(__file__).parent.parent / "storemon_flask" / "sample"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEK = 168 * 3_600_000_000
REACH = timedelta(hours=24)


def test_fifty_stores_have_the_uptime_and_downtime_that_traces_finds(tmp_path):
    database = Database(tmp_path / "storemon.db")
    load.load_sources(database, sources.find_sources([SAMPLE]), load.LoadOptions(1_790_000_000_000_000, 0))
    question = compute.make_query(database, ReportRequest(columns="full"), "America/Chicago", 10**9)
    text = compute.compute(database, question, load_settings({}).rules, "America/Chicago")
    database.close()
    ours = {row["store_id"]: row for row in csv.DictReader(io.StringIO(text.csv))}
    polls, hours, zones = _rows()
    as_of = question.as_of_us
    compared = 0
    for store_id in sorted(hours)[:50]:
        zone = zones.get(store_id, "America/Chicago")
        opened = openings(hours[store_id], [], zone, "America/Chicago", as_of - WEEK - 24 * 3_600_000_000, as_of)
        up, down = _by_traces(polls.get(store_id, {}), opened, as_of)
        assert abs(up - float(ours[store_id]["uptime_last_week"])) < 0.0051, store_id
        assert abs(down - float(ours[store_id]["downtime_last_week"])) < 0.0051, store_id
        compared += up > 0
    assert compared > 40


def _by_traces(polls, opened, as_of):
    """Hours up and down in the week: per opening a step function that changes at the midpoints, and its distribution."""
    up = down = 0.0
    for start, end in opened:
        first, last = max(start, as_of - WEEK), min(end, as_of)
        inside = sorted((t, state) for t, state in polls.items() if start <= t < end and t <= as_of)
        if not inside or first >= last:
            continue
        series = traces.TimeSeries(default=None)
        series[_time(start - 1_000_000)] = None
        for place, (t, state) in enumerate(inside):
            begins = start if not place else (inside[place - 1][0] + t) // 2
            series[max(_time(begins), _time(t) - REACH)] = state
            if place + 1 == len(inside) or inside[place + 1][0] - t > 2 * REACH / timedelta(microseconds=1):
                series[_time(t) + REACH] = None
        spent = dict(series.distribution(start=_time(first), end=_time(last), normalized=False).items())
        up += spent.get("active", 0) / 3600
        down += spent.get("inactive", 0) / 3600
    return up, down


def _time(instant_us):
    return EPOCH + timedelta(microseconds=instant_us)


def _rows():
    """The sample read by the csv module, with the bad rows left out by hand."""
    polls, hours, zones = {}, {}, {}
    with gzip.open(SAMPLE / "store_status.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            stamp = row["timestamp_utc"].removesuffix(" UTC")
            state = row["status"].strip().lower()
            if (
                stamp.startswith(("2999", "2024-13"))
                or state == "unknown"
                or not row["store_id"]
                or "E+" in row["store_id"]
            ):
                continue
            instant = (datetime.fromisoformat(stamp).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
            polls.setdefault(row["store_id"], {})[instant] = state
    with (SAMPLE / "menu_hours.csv").open() as stream:
        for row in csv.DictReader(stream):
            hours.setdefault(row["store_id"], []).append(
                (int(row["dayOfWeek"]), row["start_time_local"], row["end_time_local"], "")
            )
    with (SAMPLE / "timezones.csv").open() as stream:
        zones = {row["store_id"]: row["timezone_str"] for row in csv.DictReader(stream)}
    return polls, hours, zones
