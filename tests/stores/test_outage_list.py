"""Outages of all stores as a live view: the rows of a report of outages, and what was going on at a time of the past."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from conftest import load_folder
from report_helpers import fleet as fleet
from report_helpers import rows_of
from store_helpers import ZONE

from storemon_flask import clock
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest, window_of_text
from storemon_flask.stores import live_list, outage_list
from storemon_flask.stores.outage_list import Moment, OutageQuery, make_window, parse_moment
from storemon_flask.uptime.status import STATUSES

AS_OF_US = clock.parse_timestamp("2024-10-14T23:24:54.433110Z")


@pytest.fixture
def snapshot(fleet, settings):
    return live_list.compute_snapshot(fleet, settings.rules, ZONE, AS_OF_US + HOUR_US)


def listed(database, snapshot, settings, query):
    every = outage_list.read_outages(database, snapshot, [query], settings.rules, ZONE)
    return rows_of(outage_list.render(every, outage_list.select(every, query)).csv)


def report(database, settings, as_of_us, **fields):
    request = ReportRequest(as_of_us, "classic", None, {"kind": "outages", **fields})
    query = compute.make_query(database, request, ZONE, 10**6)
    return rows_of(compute.compute(database, query, settings.rules, ZONE).csv)


@pytest.mark.parametrize(
    ("window", "shortest", "group"),
    [
        ("today", 0, None),
        ("yesterday", 0, None),
        ("last_7_days", 45.5, None),
        ("this_month", 0, "North"),
        ("last_month", 0, None),
        ("last_day", 0, None),
        ("2024-10-13..2024-10-14", 0, "=East"),
        ("2024-10-13T17:30Z..2024-10-13T17:31Z", 0, None),
    ],
)
def test_the_rows_are_those_of_a_report_of_outages(fleet, snapshot, settings, window, shortest, group):
    asked, shortest_us = make_window(window, shortest)
    query = OutageQuery(asked, group=group, shortest_us=shortest_us, sort="store_id", descending=False)
    rows = listed(fleet, snapshot, settings, query)
    groups = {} if group is None else {"groups": [group]}
    as_of_us = snapshot.as_of.as_of_us
    assert rows == report(
        fleet, settings, as_of_us, windows=[window_of_text(window)], shortest_minutes=shortest, **groups
    )
    assert rows


def test_labels_choose_the_stores_that_a_report_chooses(fleet, settings, tmp_path):
    ids = live_list.compute_snapshot(fleet, settings.rules, ZONE, AS_OF_US).ids
    (tmp_path / "labels").mkdir()
    rows = [
        f"{store_id},Store {at},{('West', 'East', '')[at % 3]},{('a', 'b')[at % 2]}" for at, store_id in enumerate(ids)
    ]
    (tmp_path / "labels" / "stores.csv").write_text("store_id,name,region,tag:shift\n" + "\n".join(rows) + "\n")
    load_folder(fleet, tmp_path / "labels")
    snapshot = live_list.compute_snapshot(fleet, settings.rules, ZONE, AS_OF_US + HOUR_US)
    window = make_window("last_7_days")[0]
    every = listed(fleet, snapshot, settings, OutageQuery(window))
    for labels in ({"region": ["West"]}, {"region": ["East", ""]}, {"region": ["West", "East"], "tag:shift": ["b"]}):
        query = OutageQuery(window, labels=labels, sort="store_id", descending=False)
        rows = listed(fleet, snapshot, settings, query)
        as_of_us = snapshot.as_of.as_of_us
        assert rows == report(fleet, settings, as_of_us, windows=["last_7_days"], labels=labels)
        assert 0 < len(rows) < len(every)


def test_what_was_read_for_a_longer_window_serves_a_shorter_one(fleet, snapshot, settings):
    long, short = (OutageQuery(make_window(name)[0]) for name in ("last_month", "today"))
    alone = listed(fleet, snapshot, settings, short)
    listed(fleet, snapshot, settings, long)
    read = snapshot.derived[outage_list.OutageList]
    assert listed(fleet, snapshot, settings, short) == alone
    assert snapshot.derived[outage_list.OutageList] is read


@pytest.mark.parametrize(
    "text", ["2024-10-13T15:00", "2024-10-13T21:30", "2024-10-13T15:00Z", "2024-10-13 15:00 -05:00"]
)
def test_what_was_going_on_at_a_time_had_begun_and_was_not_over(fleet, snapshot, settings, text):
    moment = parse_moment(text)
    every = report(fleet, settings, snapshot.as_of.as_of_us, windows=["last_90_days"])
    every += [one for one in report(fleet, settings, snapshot.as_of.as_of_us, windows=["today"]) if one not in every]
    expected = []
    for row in every:
        at_us = moment.us
        if moment.local:
            wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(row["timezone"]))
            at_us = round(wall.timestamp()) * 1_000_000
        if clock.parse_timestamp(row["start"]) <= at_us < clock.parse_timestamp(row["end"]):
            expected.append(row)
    query = OutageQuery(make_window("today")[0], moment, sort="start", descending=False)
    key = lambda row: (row["start"], row["store_id"])  # noqa: E731
    rows = listed(fleet, snapshot, settings, query)
    assert rows == sorted(expected, key=key)
    assert rows


def test_a_moment_without_an_offset_is_of_each_stores_clock():
    assert parse_moment("2024-10-13T15:00") == Moment(clock.parse_timestamp("2024-10-13T15:00Z"), True)
    assert parse_moment("2024-10-13T15:00+02:00") == Moment(clock.parse_timestamp("2024-10-13T13:00Z"), False)
    for wrong in ("soon", "", "1960-01-01T00:00"):
        with pytest.raises(ValueError, match="must be"):
            parse_moment(wrong)


@pytest.mark.parametrize("text", ["2024-10-16T00:00", "2023-01-01T00:00Z"])
def test_a_moment_after_the_as_of_or_long_ago_is_refused(fleet, snapshot, settings, text):
    query = OutageQuery(make_window("today")[0], parse_moment(text))
    with pytest.raises(Unprocessable, match="at must not be after the as-of, nor more than 400 days before it"):
        listed(fleet, snapshot, settings, query)


def test_every_store_that_is_down_has_one_that_goes_on_since_then(fleet, snapshot, settings):
    query = OutageQuery(make_window("today")[0], state="ongoing")
    since = {row["store_id"]: row["start"] for row in listed(fleet, snapshot, settings, query)}
    down = np.flatnonzero(snapshot.columns["status"] == STATUSES.index("down")).tolist()
    assert down
    for index in down:
        record = snapshot.record(index)
        assert since[record["store_id"]] == record["since"]


def test_states_part_the_list_and_the_longest_come_first(fleet, snapshot, settings):
    window = make_window("last_7_days")[0]
    every = listed(fleet, snapshot, settings, OutageQuery(window))
    ongoing = listed(fleet, snapshot, settings, OutageQuery(window, state="ongoing"))
    over = listed(fleet, snapshot, settings, OutageQuery(window, state="over"))
    assert [row for row in every if row["ongoing"] == "yes"] == ongoing
    assert [row for row in every if row["ongoing"] == "no"] == over
    minutes = [float(row["down_minutes"]) for row in every]
    assert minutes == sorted(minutes, reverse=True)


@pytest.mark.parametrize("descending", [False, True])
def test_stores_without_a_group_come_last_either_way(fleet, snapshot, settings, descending):
    query = OutageQuery(make_window("last_7_days")[0], sort="group", descending=descending)
    groups = [row["group"] for row in listed(fleet, snapshot, settings, query)]
    named = [group.removeprefix("'") for group in groups if group]
    assert groups[len(named) :] == [""] * (len(groups) - len(named))
    assert named == sorted(named, reverse=descending)
    assert 1 < len(set(named)) < len(named) < len(groups)


def test_another_as_of_is_judged_as_it_was_then(fleet, settings):
    as_of_us = AS_OF_US - 3 * DAY_US
    query = OutageQuery(make_window("yesterday")[0], sort="store_id", descending=False)
    every = outage_list.read_outages_as_of(fleet, as_of_us, query, settings.rules, ZONE)
    rows = rows_of(outage_list.render(every, outage_list.select(every, query)).csv)
    assert rows == report(fleet, settings, as_of_us, windows=["yesterday"])
    assert rows


def test_a_wrong_window_is_a_sentence():
    with pytest.raises(Unprocessable, match=r"^window is 'next_week'; it must be last_hour, .*, or FROM\.\.TO$"):
        make_window("next_week")
    with pytest.raises(Unprocessable, match="an end after its start"):
        make_window("2024-10-08..2024-10-08")


def test_requests_at_the_same_time_share_one_reading(fleet, snapshot, settings, monkeypatch):
    read, real, all_wait = [], outage_list._read, threading.Barrier(3)

    def slow(*arguments):
        read.append(arguments)
        time.sleep(0.2)
        return real(*arguments)

    monkeypatch.setattr(outage_list, "_read", slow)
    query = OutageQuery(make_window("yesterday")[0])

    def ask(_):
        all_wait.wait(30)
        rows = listed(fleet, snapshot, settings, query)
        fleet.close()
        return rows

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, range(3)))
    assert len(read) == 1
    assert answers[0] == answers[1] == answers[2] != []


def test_an_empty_list_is_a_header(fleet, snapshot, settings):
    query = OutageQuery(make_window("2031-01-01..2031-01-02")[0])
    assert listed(fleet, snapshot, settings, query) == []
    assert listed(fleet, snapshot, settings, OutageQuery(make_window("today")[0], group="nowhere")) == []
