"""Sums by hour of the week against the brute force by hour, on days when a clock or a calendar jumps (SPEC 3.7)."""

from datetime import datetime

import numpy as np
from brute_calendar import calendar as brute_calendar
from brute_openings import EPOCH
from fleets import fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Polls, Rules
from storemon_flask.uptime import evidence, openings
from storemon_flask.uptime.heatmap import HEAT_MEASURES, WEEK, ZoneHours, sum_by_hour_of_week
from uptime.test_calendar import anywhere, instant
from uptime.test_measures import METHODS, NAMES, busy, edges, everyone, literally


def heat_map(case, ranges, group_of, method="nearest"):
    """The sums of each group; `ranges` are by name of a store, from no more polls than the rules say can matter."""
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap, method)
    ids, made = fleet(polls, hours, everyone(zones), as_of)
    assert tuple(ids) == NAMES
    of_zone = [(as_of, as_of)] * len(made.zone_names)
    for index, name in enumerate(NAMES):
        first, last = ranges[name]
        of_zone[made.zone_of[index]] = (first, min(last, as_of))
    first = min([as_of, *(start for start, _ in of_zone)]) - rules.farthest_us
    near = made.polls.instant_us >= first
    heard = Polls(made.polls.store[near], made.polls.instant_us[near], made.polls.active[near])
    opened = openings.build(made, first // DAY_US * DAY_US, (as_of // DAY_US + 1) * DAY_US)
    groups = max(group_of) + 1
    zone_hours = ZoneHours(made.zone_names, of_zone)
    gathered = evidence.gather(heard, opened, rules)
    return sum_by_hour_of_week(opened, gathered, made.zone_of, np.array(group_of), groups, zone_hours)


def literal_heat_map(case, ranges, group_of, method):
    """The same, hour by hour, by the weekday and the hour that Python's calendar has."""
    as_of = case[3]
    zones = everyone(case[2])
    sums = {name: np.zeros((max(group_of) + 1, *WEEK), dtype=np.int64) for name in HEAT_MEASURES}
    hours = [
        (group, name, start, end, wall)
        for group, name in zip(group_of, NAMES, strict=True)
        for start, end, wall, _ in brute_calendar(zones[name], "hour", ranges[name][0], min(ranges[name][1], as_of))
    ]
    rows = literally(case, [(name, start, end) for _, name, start, end, _ in hours], method)
    for (group, _, _, _, wall), row in zip(hours, rows, strict=True):
        local = EPOCH + (wall // MINUTE_US) * (datetime(2000, 1, 1, 0, 1) - datetime(2000, 1, 1))
        for name in HEAT_MEASURES:
            sums[name][group, local.weekday(), local.hour] += row[name]
    return sums


@settings(max_examples=50)
@given(busy(), METHODS, st.lists(st.integers(0, 2), min_size=3, max_size=3), st.data())
def test_sums_by_hour_of_the_week_are_those_of_the_hours_of_the_brute_force(case, method, group_of, data):
    first = data.draw(edges(case))
    last = data.draw(anywhere(first, first + 4 * DAY_US))
    # A window of local dates begins elsewhere in another zone.
    by_zone = {zone: data.draw(st.integers(-30, 30)) * HOUR_US // 2 for zone in sorted(set(everyone(case[2]).values()))}
    ranges = {name: (first + by_zone[zone], last + by_zone[zone]) for name, zone in everyone(case[2]).items()}
    fast, slow = heat_map(case, ranges, group_of, method), literal_heat_map(case, ranges, group_of, method)
    assert tuple(fast) == HEAT_MEASURES
    for name in HEAT_MEASURES:
        assert np.array_equal(fast[name], slow[name]), name


def test_an_hour_that_comes_twice_counts_to_its_hour():
    # The clock of New York went back on Sunday 5 November 2023, from 02:00 to 01:00; the store is always open.
    first, last = instant(2023, 11, 5, 4), instant(2023, 11, 6, 5)
    polls = [("a", first + hour * HOUR_US, hour not in (1, 2)) for hour in range(26)]
    case = (polls, [], {"a": "America/New_York"}, last, 24 * HOUR_US, 150 * MINUTE_US)
    sums = heat_map(case, dict.fromkeys(NAMES, (first, last)), [0, 1, 1])
    sunday = {name: (values[0, 6] / HOUR_US).tolist() for name, values in sums.items()}
    assert sunday["business"] == [1, 2, *[1] * 22]
    # Down from 00:30 to the second 01:30.
    assert sunday["downtime"] == [0.5, 1.5, *[0] * 22]
    assert sunday["unknown"] == [0] * 24
    assert sums["business"][0].sum() == 25 * HOUR_US


def test_without_a_store_or_a_time_there_is_nothing():
    nothing = heat_map(([], [], {}, instant(2024, 1, 1), HOUR_US, HOUR_US), dict.fromkeys(NAMES, (0, 0)), [0, 0, 0])
    assert all(values.shape == (1, *WEEK) and not values.any() for values in nothing.values())
