"""Timelines: the worked example, and stretches against the report."""

import pytest
from fleets import DEFAULT_WINDOWS, fleet, report_table
from hypothesis import given, settings
from timeline_helpers import MONDAY, UTC9, ZONES, at, poll, sums, timeline_of

from storemon_flask.model import HOUR_US, MINUTE_US, WEEK_US, Rules
from storemon_flask.uptime import timeline
from storemon_flask.uptime.timeline import KNOWN, STATES
from uptime.test_core_properties import cases


def of(polls, hours=UTC9, zones=ZONES, first=MONDAY, last=at(0, 7), as_of=None, rules=Rules()):  # noqa: B008
    as_of = last if as_of is None else as_of
    _, made = fleet(polls, hours, zones, as_of)
    return timeline_of(made, first, last, as_of, rules)


def shown(found, day=0):
    """(hours since midnight, state, how it is known) of a day's stretches."""
    s = found.segments
    return [
        ((a - at(0, day)) / HOUR_US, (b - at(0, day)) / HOUR_US, STATES[state], KNOWN[known])
        for a, b, state, known in zip(*(c.tolist() for c in (s.start_us, s.end_us, s.state, s.known)), strict=True)
        if at(0, day) <= a < at(0, day + 1)
    ]


def test_the_worked_example_of_the_contract():
    found = of([poll(10 + 14 / 60, True), poll(11.25, False)], [("a", 0, "09:00", "12:00")], last=at(13), first=at(0))
    line = 10 + 44.5 / 60
    assert shown(found) == [
        (9, pytest.approx(10 + 14 / 60), "up", "extrapolated"),
        (pytest.approx(10 + 14 / 60), pytest.approx(line), "up", "between"),
        (pytest.approx(line), 11.25, "down", "between"),
        (11.25, 12, "down", "extrapolated"),
    ]
    o = found.outages
    assert len(o) == 1
    assert [int(o.start_us[0]), int(o.end_us[0])] == [at(line), at(12)]
    assert [int(o.start_earliest_us[0]), int(o.start_latest_us[0])] == [at(10 + 14 / 60), at(11.25)]
    assert [int(o.end_earliest_us[0]), int(o.end_latest_us[0])] == [at(11.25), at(12)]
    assert [int(o.down_us[0]), int(o.polls[0]), bool(o.ongoing[0])] == [75.5 * MINUTE_US, 1, False]


def test_neighbours_that_agree_within_the_max_gap_are_one_measured_stretch_and_a_wider_gap_is_extrapolated():
    found = of([poll(9, True), poll(10, True), poll(12, True), poll(15, True)])
    assert shown(found) == [(9, 12, "up", "measured"), (12, 17, "up", "extrapolated")]


def test_time_beyond_the_reach_is_unknown_and_so_is_an_opening_without_a_poll():
    found = of([poll(12, True)], rules=Rules(HOUR_US, HOUR_US))
    assert shown(found) == [
        (9, 11, "unknown", "nothing"),
        (11, 13, "up", "extrapolated"),
        (13, 17, "unknown", "nothing"),
    ]
    assert shown(found, 1) == [(9, 17, "unknown", "nothing")]
    assert len(found.outages) == 0


def test_an_outage_runs_on_over_closed_time_and_counts_business_time_only():
    polls = [poll(15, True), poll(16, False), poll(10, False, 1), poll(11, True, 1)]
    o = of(polls).outages
    assert o.start_us.tolist() == [at(15.5)]
    assert o.end_us.tolist() == [at(10.5, 1)]
    assert o.down_us.tolist() == [3 * HOUR_US]
    assert o.polls.tolist() == [2]
    assert (o.start_earliest_us.tolist(), o.start_latest_us.tolist()) == ([at(15)], [at(16)])
    assert (o.end_earliest_us.tolist(), o.end_latest_us.tolist()) == ([at(10, 1)], [at(11, 1)])


@pytest.mark.parametrize(
    ("between", "why"),
    [([poll(16.5, True)], "an active poll"), ([], "an opening of which nothing is known")],
)
def test_an_active_poll_or_unknown_business_time_ends_an_outage(between, why):
    polls = [poll(16, False), *between, poll(10, False, 1 if between else 2)]
    assert of(polls).outages.polls.tolist() == [1, 1], why


def test_an_outage_beyond_the_reach_is_bounded_by_unknown_time():
    o = of([poll(10, False), poll(16, False)], rules=Rules(HOUR_US, HOUR_US)).outages
    assert o.start_us.tolist() == o.start_earliest_us.tolist() == [at(9), at(15)]
    assert o.end_us.tolist() == o.end_latest_us.tolist() == [at(11), at(17)]


def test_an_outage_that_reaches_the_as_of_is_going_on_and_is_whole_where_it_only_touches_the_range():
    polls = [poll(9, True), poll(11, False), poll(12, False), poll(13, False)]
    o = of(polls, first=at(12.5), last=at(13), as_of=at(13.5)).outages
    assert (o.start_us.tolist(), o.end_us.tolist(), o.ongoing.tolist()) == ([at(10)], [at(13.5)], [True])
    assert of([*polls, poll(13.25, True)], last=at(13.5)).outages.ongoing.tolist() == [False]


def test_without_any_store_or_poll_there_is_nothing_and_no_error():
    assert len(of([], [], {}).segments) == 0
    assert [s[2:] for s in shown(of([]), 4)] == [("unknown", "nothing")]
    assert len(of([]).outages) == 0


@settings(max_examples=300)
@given(cases())
def test_the_sums_of_the_stretches_are_the_columns_of_the_report(case):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    table = report_table(made, as_of, rules)
    for window, length_us in DEFAULT_WINDOWS.items():
        first = as_of - length_us
        found = timeline_of(made, first, as_of, as_of, rules).segments
        for name, values in sums(found, first, as_of, made.size).items():
            assert values.tolist() == table[f"{name}_{window}"].tolist(), (name, window)
    week = timeline_of(made, as_of - WEEK_US, as_of, as_of, rules).segments
    for window, length_us in DEFAULT_WINDOWS.items():
        cut = sums(week, as_of - length_us, as_of, made.size)
        assert {f"{name}_{window}": values.tolist() for name, values in cut.items()}.items() <= {
            name: values.tolist() for name, values in table.items()
        }.items()


@settings(max_examples=200)
@given(cases())
def test_the_stretches_are_the_openings_cut_into_unlike_neighbours(case):
    polls, hours, zones, as_of, reach, gap = case
    _, made = fleet(polls, hours, zones, as_of)
    found = timeline_of(made, as_of - WEEK_US, as_of, as_of, Rules(reach, gap))
    s, merged = found.segments, []
    for store, start, end, state, known in zip(
        *(c.tolist() for c in (s.store, s.start_us, s.end_us, s.state, s.known)), strict=True
    ):
        assert (state == timeline.UNKNOWN) == (known == timeline.NOTHING)
        if merged and merged[-1][0] == store and merged[-1][2] == start:
            assert merged[-1][3] != (state, known)
            merged[-1] = (store, merged[-1][1], end, (state, known))
        else:
            merged.append((store, start, end, (state, known)))
    o = found.openings
    assert [row[:3] for row in merged] == list(
        zip(o.store.tolist(), o.start_us.tolist(), o.end_us.tolist(), strict=True)
    )
