"""The measures of windows and periods against an independent brute force, and the golden cases, to the microsecond."""

import csv
import io
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from brute_calendar import calendar as brute_calendar
from brute_force import measures as brute_force
from brute_force import report as brute_report
from fleets import DEFAULT_WINDOWS, compute, fleet
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Polls, Rules
from storemon_flask.reports import compute as reports
from storemon_flask.reports.request import ReportRequest
from storemon_flask.rules import DEFAULT_DAYPARTS, Daypart
from storemon_flask.uptime import calendar, evidence, openings
from storemon_flask.uptime.calendar import UNITS
from storemon_flask.uptime.measures import MEASURES, Periods, measure
from uptime.cases import cases
from uptime.test_calendar import anywhere, listed


@settings(max_examples=400)
@given(cases())
def test_every_column_of_every_store_equals_the_brute_report(case):
    polls, hours, zones, as_of, reach, gap = case
    assert compute(polls, hours, zones, as_of, Rules(reach, gap)) == brute_report(
        polls, hours, zones, as_of, reach_us=reach, max_gap_us=gap
    )


@settings(max_examples=200)
@given(cases())
def test_the_windows_of_a_report_add_up_and_the_bounds_hold(case):
    polls, hours, zones, as_of, reach, gap = case
    for row in compute(polls, hours, zones, as_of, Rules(reach, gap)).values():
        for window in ("last_hour", "last_day", "last_week"):
            parts = row[f"uptime_{window}"] + row[f"downtime_{window}"] + row[f"unknown_{window}"]
            assert parts == row[f"business_{window}"]
            assert 0 <= row[f"uptime_low_{window}"] <= row[f"uptime_{window}"] <= row[f"uptime_high_{window}"]
            assert row[f"uptime_high_{window}"] <= row[f"business_{window}"]
            assert row[f"measured_{window}"] <= row[f"business_{window}"] - row[f"unknown_{window}"]


@settings(max_examples=100)
@given(cases(), st.randoms())
def test_rows_may_come_in_any_order_when_no_store_and_instant_repeats(case, random):
    polls, hours, zones, as_of, reach, gap = case
    once = list({(store, instant): (store, instant, up) for store, instant, up in polls}.values())
    shuffled, shuffled_hours = list(once), list(hours)
    random.shuffle(shuffled)
    random.shuffle(shuffled_hours)
    rules = Rules(reach, gap)
    assert compute(shuffled, shuffled_hours, zones, as_of, rules) == compute(once, hours, zones, as_of, rules)


@settings(max_examples=100)
@given(cases())
@example(([("a", 0, True)], [], {}, WEEK_US, 24 * HOUR_US, 150 * MINUTE_US))
def test_polls_after_the_as_of_do_not_exist(case):
    polls, hours, zones, as_of, reach, gap = case
    before = [row for row in polls if row[1] <= as_of]
    stores = {store: zones.get(store, "America/Chicago") for store, _, _ in polls} | zones
    rules = Rules(reach, gap)
    assert compute(polls, hours, stores, as_of, rules) == compute(before, hours, stores, as_of, rules)


NAMES = ("a", "b", "c")
MONDAY = 1_728_864_000_000_000  # 2024-10-14T00:00:00Z
METHODS = st.sampled_from(["nearest", "previous"])


def measured(case, asked, method="nearest"):
    """The measures of each (store, start, end), from no more polls and openings than the rules say can matter."""
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap, method)
    _, made = fleet(polls, hours, everyone(zones), as_of)
    first = min([as_of, *(start for _, start, _ in asked)]) - rules.farthest_us
    near = made.polls.instant_us >= first
    heard = Polls(made.polls.store[near], made.polls.instant_us[near], made.polls.active[near])
    opened = openings.build(made, first // DAY_US * DAY_US, (as_of // DAY_US + 1) * DAY_US)
    rows = np.array([(NAMES.index(store), start, end) for store, start, end in asked], dtype=np.int64).reshape(-1, 3)
    found = measure(opened, evidence.gather(heard, opened, rules), Periods(*rows.T), as_of)
    assert tuple(found) == MEASURES
    columns = [found[name].tolist() for name in MEASURES]
    return [dict(zip(MEASURES, values, strict=True)) for values in zip(*columns, strict=True)]


def literally(case, asked, method="nearest"):
    polls, hours, zones, as_of, reach, gap = case
    rules = {"reach_us": reach, "max_gap_us": gap, "method": method}
    return brute_force(polls, hours, everyone(zones), as_of, asked, **rules)


def everyone(zones):
    """A zone for each of three stores, so that every one of them exists, with polls or without."""
    return {name: zones.get(name, "America/Chicago") for name in NAMES}


def added(rows):
    return {name: sum(row[name] for row in rows) for name in MEASURES}


@st.composite
def busy(draw):
    """A case in which stores were also polled again and again, at distances around those that the rules speak of."""
    polls, hours, zones, as_of, reach, gap = draw(cases())
    steps = st.sampled_from([10 * MINUTE_US, HOUR_US, gap, gap + 1, reach, 2 * reach, 2 * reach + 1])
    words = st.lists(st.booleans(), min_size=2, max_size=12)
    for name, step, said in draw(st.lists(st.tuples(st.sampled_from(NAMES), steps, words), max_size=4)):
        first = draw(anywhere(as_of - 8 * DAY_US, as_of))
        polls = [*polls, *((name, first + place * step, up) for place, up in enumerate(said))]
    return polls, hours, zones, as_of, reach, gap


def edges(case):
    """Where a period may begin or end: anywhere around the as-of, on half hours, on polls, at the as-of."""
    polls, _, _, as_of, _, _ = case
    return st.one_of(
        anywhere(as_of - 9 * DAY_US, as_of + 2 * DAY_US),
        st.integers(-9 * 48, 2 * 48).map(lambda half: (as_of // HOUR_US) * HOUR_US + half * HOUR_US // 2),
        st.sampled_from([as_of, *(instant for _, instant, _ in polls)]),
    )


def stretches(case):
    """Stores and stretches in any order; they overlap, repeat, are empty or reversed, and may end after the as-of."""
    return st.lists(st.tuples(st.sampled_from(NAMES), edges(case), edges(case)), max_size=12)


@settings(max_examples=300)
@given(busy(), METHODS, st.data())
def test_any_stretch_of_any_store_is_what_the_brute_force_says(case, method, data):
    asked = data.draw(stretches(case))
    assert measured(case, asked, method) == literally(case, asked, method)


@settings(max_examples=200)
@given(busy(), METHODS, st.data())
def test_the_parts_are_the_whole_and_the_bounds_hold(case, method, data):
    for row in measured(case, data.draw(stretches(case)), method):
        assert row["uptime"] + row["downtime"] + row["unknown"] == row["business"]
        assert 0 <= row["uptime_low"] <= row["uptime"] <= row["uptime_high"] <= row["business"]
        assert min(row["downtime"], row["unknown"]) >= 0
        assert row["measured"] <= row["uptime"] + row["downtime"]


@settings(max_examples=100)
@given(busy(), st.data())
def test_what_is_measured_and_certain_does_not_depend_on_the_method(case, data):
    asked = data.draw(stretches(case))
    for nearest, previous in zip(measured(case, asked), measured(case, asked, "previous"), strict=True):
        for name in ("business", "measured", "uptime_low", "uptime_high"):
            assert nearest[name] == previous[name]


@settings(max_examples=150)
@given(busy(), METHODS, st.data())
def test_windows_that_tile_a_range_sum_to_it(case, method, data):
    cuts = sorted(data.draw(st.lists(edges(case), min_size=2, max_size=20)))
    for store in NAMES:
        tiles = [(store, start, end) for start, end in pairwise(cuts)]
        [whole] = measured(case, [(store, cuts[0], cuts[-1])], method)
        assert added(measured(case, tiles, method)) == whole


@settings(max_examples=100)
@given(busy(), METHODS, st.data(), st.randoms())
def test_periods_may_come_in_any_order(case, method, data, random):
    asked = data.draw(stretches(case))
    order = list(range(len(asked)))
    random.shuffle(order)
    found = measured(case, asked, method)
    assert measured(case, [asked[place] for place in order], method) == [found[place] for place in order]


@settings(max_examples=150)
@given(busy(), METHODS)
def test_the_classic_windows_are_the_columns_of_a_report(case, method):
    polls, hours, zones, as_of, reach, gap = case
    table = compute(polls, hours, everyone(zones), as_of, Rules(reach, gap, method))
    assert table == brute_report(polls, hours, everyone(zones), as_of, reach_us=reach, max_gap_us=gap, method=method)
    for window, length_us in DEFAULT_WINDOWS.items():
        rows = measured(case, [(store, as_of - length_us, as_of) for store in NAMES], method)
        for store, row in zip(NAMES, rows, strict=True):
            assert row == {name: table[store][f"{name}_{window}"] for name in MEASURES}


# Examples

MONDAY_9_TO_12 = [("a", 0, "09:00", "12:00")]
PREVIOUS = Rules(method="previous")


def at(hour, minute=0, day=0):
    return MONDAY + day * DAY_US + hour * HOUR_US + minute * MINUTE_US


def minutes(polls, first, last, as_of=MONDAY + DAY_US, rules=PREVIOUS, hours=MONDAY_9_TO_12):
    """Uptime, downtime, unknown, measured, uptime_low and uptime_high of a stretch of store `a`, in minutes."""
    case = (polls, hours, {"a": "UTC"}, as_of, rules.reach_us, rules.max_gap_us)
    [row] = measured(case, [("a", first, last)], rules.method)
    names = ("uptime", "downtime", "unknown", "measured", "uptime_low", "uptime_high")
    return [row[name] / MINUTE_US for name in names]


def test_the_worked_example_of_the_contract_by_both_methods():
    polls = [("a", at(10, 14), True), ("a", at(11, 15), False)]
    assert minutes(polls, at(0), at(24), rules=Rules()) == [104.5, 75.5, 0, 61, 0, 180]
    assert minutes(polls, at(0), at(24)) == [61, 45, 74, 61, 0, 180]


def test_the_previous_poll_speaks_for_twice_the_reach_at_most():
    polls = [("a", at(9, 10), True), ("a", at(11, 30), False)]
    assert minutes(polls, at(9), at(12), rules=Rules(30 * MINUTE_US, HOUR_US, "previous")) == [60, 30, 90, 0, 0, 180]
    assert minutes(polls, at(9), at(12), rules=Rules(70 * MINUTE_US, HOUR_US, "previous")) == [140, 30, 10, 0, 0, 180]


def test_the_previous_poll_speaks_for_a_stretch_that_begins_more_than_a_reach_after_it():
    polls = [("a", at(9), False)]
    assert minutes(polls, at(10, 30), at(12), rules=Rules(HOUR_US, HOUR_US, "previous")) == [0, 30, 60, 0, 0, 90]


def test_the_previous_poll_of_another_opening_does_not_speak():
    hours = [("a", 0, "09:00", "12:00"), ("a", 0, "13:00", "14:00")]
    polls = [("a", at(9), True), ("a", at(12), False), ("a", at(13, 30), False)]
    assert minutes(polls, at(9), at(14), hours=hours) == [180, 30, 30, 0, 0, 240]


def test_a_stretch_begins_with_what_was_said_before_it_and_ends_with_the_as_of():
    polls = [("a", at(9, 30), True), ("a", at(10, 30), True), ("a", at(11, 30), False)]
    assert minutes(polls, at(10), at(12), as_of=at(11)) == [60, 0, 0, 30, 30, 60]
    assert minutes(polls, at(10), at(12), as_of=at(11, 40)) == [90, 10, 0, 90, 30, 100]
    assert minutes(polls, at(10), at(12), as_of=at(10)) == [0, 0, 0, 0, 0, 0]
    assert minutes(polls, at(11), at(10)) == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("method", ["nearest", "previous"])
def test_nothing_in_is_nothing_out(method):
    case = ([], [], {}, MONDAY, 24 * HOUR_US, 150 * MINUTE_US)
    assert measured(case, [], method) == []
    [row] = measured(case, [("b", MONDAY - HOUR_US, MONDAY)], method)
    silent = {"unknown": HOUR_US, "business": HOUR_US, "uptime_high": HOUR_US}
    assert row == dict.fromkeys(MEASURES, 0) | silent
    # A store that is always closed: one row of hours, on another day.
    [row] = measured((([], [("b", 0, "9:00", "10:00")]) + case[2:]), [("b", MONDAY - 3 * HOUR_US, MONDAY)], method)
    assert row == dict.fromkeys(MEASURES, 0)


def test_a_stretch_far_longer_than_the_openings_of_many_stores_is_what_lies_in_it():
    stores = np.array([0, 262_143], dtype=np.int64)
    opened = openings.Openings(stores, np.full(2, at(9)), np.full(2, at(12)))
    polls = Polls(stores, np.array([at(10), at(11)]), np.array([True, False]))
    spoken = evidence.gather(polls, opened, Rules())
    century = Periods(stores, np.full(2, 0), np.full(2, 2**52))
    found = measure(opened, spoken, century, 2**52)
    assert found["business"].tolist() == [3 * HOUR_US, 3 * HOUR_US]
    assert found["uptime"].tolist() == [3 * HOUR_US, 0]
    assert found["downtime"].tolist() == [0, 3 * HOUR_US]


# Calendar periods


# Periods, and longer ones that they tile. A business day goes from 05:00 to 05:00, as the dayparts together do.
TILES = [("hour", "day"), ("hour", "daypart"), ("daypart", "business day"), ("day", "week"), ("day", "month")]
BUSINESS_DAY = (Daypart("business day", 5 * 3600, 5 * 3600),)


def _spans(zone, unit, first, last):
    if unit == "business day":
        return calendar.spans(zone, "daypart", first, last, BUSINESS_DAY)
    return calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS)


@settings(max_examples=120)
@given(busy(), METHODS, st.sampled_from(UNITS), st.data())
def test_every_measure_of_every_calendar_period_is_what_the_brute_force_says(case, method, unit, data):
    first = data.draw(edges(case))
    last = data.draw(
        anywhere(first, first + {"hour": DAY_US, "daypart": 3 * DAY_US, "day": 9 * DAY_US}.get(unit, 40 * DAY_US))
    )
    zones = everyone(case[2])
    asked = [(name, a, b) for name in NAMES for a, b, *_ in brute_calendar(zones[name], unit, first, last)]
    found = [(name, a, b) for name in NAMES for a, b, *_ in listed(_spans(zones[name], unit, first, last))]
    assert found == asked
    assert measured(case, found, method) == literally(case, asked, method)


@settings(max_examples=100)
@given(busy(), METHODS, st.sampled_from(TILES), st.data())
def test_hours_sum_to_their_day_and_dayparts_and_days_to_their_week_and_month(case, method, units, data):
    first = data.draw(edges(case))
    last = data.draw(anywhere(first, first + (40 if units[0] == "day" else 3) * DAY_US))
    for name, zone in everyone(case[2]).items():
        small, large = (listed(_spans(zone, unit, first, last)) for unit in units)
        rows = list(zip(small, measured(case, [(name, a, b) for a, b, *_ in small], method), strict=True))
        for (start, end, *_), whole in zip(
            large, measured(case, [(name, a, b) for a, b, *_ in large], method), strict=True
        ):
            inside = [(span, row) for span, row in rows if start <= span[0] < end]
            assert sum(span[1] - span[0] for span, _ in inside) == end - start
            assert added([row for _, row in inside]) == whole


GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
NOW_US = 1_800_000_000_000_000


def full_report(folder: Path, database: Database) -> dict[str, dict[str, str]]:
    from storemon_flask import settings

    result = load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(NOW_US, 0))
    # expected.csv is no feed, and is named as such.
    assert [summary.file for summary in result.files if summary.error] == ["expected.csv"]
    rules = settings.load({}).rules
    text = reports.compute(
        database,
        reports.make_query(database, ReportRequest(columns="full"), "America/Chicago", 10**9),
        rules,
        "America/Chicago",
    )
    return {row["store_id"]: row for row in csv.DictReader(io.StringIO(text.csv))}


@pytest.mark.parametrize("case", CASES)
def test_a_golden_case_is_met_to_the_hundredth(case, tmp_path):
    database = Database(tmp_path / "storemon.db")
    found = full_report(GOLDEN / case, database)
    database.close()
    with (GOLDEN / case / "expected.csv").open() as stream:
        expected = list(csv.DictReader(stream))
    assert sorted(found) == sorted(row["store_id"] for row in expected)
    for row in expected:
        for column, value in row.items():
            if column == "store_id":
                continue
            assert abs(float(found[row["store_id"]][column]) - float(value)) < 0.0101, (case, row["store_id"], column)


def test_the_worked_example_is_exact_to_the_second():

    def instant(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000

    polls = [("cafe", instant("2023-01-23 10:14:00"), True), ("cafe", instant("2023-01-23 11:15:00"), False)]
    found = compute(polls, [("cafe", 0, "09:00", "12:00")], {"cafe": "Etc/UTC"}, instant("2023-01-23 13:00:00"))["cafe"]
    minute = 60_000_000
    assert found["uptime_last_day"] == 104.5 * minute
    assert found["downtime_last_day"] == 75.5 * minute
    assert found["unknown_last_day"] == 0
    assert found["measured_last_day"] == 61 * minute
    assert found["uptime_low_last_day"] == 0
    assert found["uptime_high_last_day"] == 180 * minute
    assert found["status_now"] == "closed"
