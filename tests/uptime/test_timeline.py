"""Segments, runs, outages and status now against loops that a person can follow."""

import numpy as np
import pytest
from fleets import DEFAULT_WINDOWS, fleet, openings_for, report_table
from hypothesis import given, settings
from hypothesis import strategies as st
from timeline_helpers import MONDAY, UTC9, ZONES, at, poll, statuses, sums, timeline_of

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Rules
from storemon_flask.uptime import evidence, status, timeline
from storemon_flask.uptime.timeline import KNOWN, STATES
from uptime.cases import cases


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


def slow_outages(made, opened, heard, as_of):
    """Outages poll by poll: (store, first poll, last poll, polls, business time down)."""
    found, run = [], []
    unknown = timeline.find_segments(opened, heard, int(opened.start_us.min()), int(opened.end_us.max()))
    gaps = [
        (store, a)
        for store, a, state in zip(
            unknown.store.tolist(), unknown.start_us.tolist(), unknown.state.tolist(), strict=True
        )
        if state == timeline.UNKNOWN
    ]

    def close():
        down = sum(max(0, min(int(heard.right_us[i]), as_of) - int(heard.left_us[i])) for i in run)
        if run and down:
            first, last = int(heard.instant_us[run[0]]), int(heard.instant_us[run[-1]])
            found.append((int(heard.store[run[0]]), first, last, len(run), down))
        run.clear()

    for i in range(len(heard)):
        store, instant = int(heard.store[i]), int(heard.instant_us[i])
        if run:
            before = int(heard.instant_us[run[-1]])
            apart = int(heard.store[run[-1]]) != store or any(s == store and before <= a <= instant for s, a in gaps)
            if apart or heard.active[i]:
                close()
        if not heard.active[i]:
            run.append(i)
    close()
    return found


@settings(max_examples=200)
@given(cases())
def test_outages_are_the_runs_that_a_loop_over_the_polls_finds(case):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    opened = openings_for(made, as_of, rules)
    heard = evidence.gather(made.polls, opened, rules)
    o = timeline.find_outages(opened, heard, as_of)
    mine = [c.tolist() for c in (o.store, o.start_latest_us, o.end_earliest_us, o.polls, o.down_us)]
    assert list(zip(*mine, strict=True)) == (slow_outages(made, opened, heard, as_of) if len(opened) else [])
    assert (o.start_earliest_us <= o.start_us).all()
    assert (o.start_us <= o.start_latest_us).all()
    assert (o.end_earliest_us <= o.end_us).all()
    assert (o.end_us <= np.maximum(o.end_latest_us, o.end_us)).all()
    assert (o.end_us <= as_of).all()
    down = sums(timeline.find_segments(opened, heard, 0, as_of), 0, as_of, made.size)["downtime"]
    assert sum(o.down_us.tolist()) == int(down.sum())


def now(polls, as_of, hours=UTC9, rules=Rules()):  # noqa: B008
    _, made = fleet(polls, hours, ZONES, as_of)
    current, since_us, earlier = statuses(made, as_of, rules)
    return status.STATUSES[int(current[0])], int(since_us[0]), bool(earlier[0])


@pytest.mark.parametrize(
    ("polls", "as_of", "expected"),
    [
        ([], at(12), ("no_data", -1, False)),
        ([poll(12, True)], at(18), ("closed", at(17), False)),
        ([poll(12, True)], at(8.5, 1), ("closed", at(17), False)),
        ([poll(12, True)], at(10, 1), ("waiting", at(9, 1), False)),
        ([poll(12, True)], at(11.5, 1), ("stale", at(12), False)),
        ([poll(12, True)], at(16), ("stale", at(12), False)),
        ([poll(12, True), poll(18, True)], at(11.5, 1), ("stale", at(18), False)),
        ([poll(9.5, False), poll(10, True), poll(11, True)], at(12), ("up", at(9.75), False)),
        ([poll(9.5, True), poll(12, True)], at(12.5), ("up", at(9), False)),
        ([poll(9.5, True), poll(10, False), poll(11, False)], at(12), ("down", at(9.75), False)),
        # Closed time does not end a run.
        ([poll(16, False), poll(9.25, False, 1)], at(10, 1), ("down", at(9), False)),
        ([poll(15.5, True), poll(16, False), poll(9.25, False, 1)], at(10, 1), ("down", at(15.75), False)),
        ([poll(16, True), poll(9.25, False, 1)], at(10, 1), ("down", at(9, 1), False)),
    ],
)
def test_since_when_a_store_is_what_it_is(polls, as_of, expected):
    assert now([*polls, ("b", at(0), True)], as_of) == expected


def test_a_store_always_open_has_been_up_at_least_as_long_as_is_looked_at_and_stale_since_its_last_poll():
    every_hour = [("a", at(hour), True) for hour in range(24 * 12)]
    assert now(every_hour, at(0.5, 11), []) == ("up", at(0, 5), True)
    # A first poll within what is known is the first there was; it speaks for the day before it, too.
    assert now(every_hour[24 * 9 :], at(0.5, 11), []) == ("up", at(0, 8), False)
    assert now([("a", at(0), True)], at(0, 20), []) == ("stale", at(0), False)
    # Who is down may be so for longer than was read.
    hourly_down = [(store, instant, False) for store, instant, _ in every_hour]
    assert now(hourly_down, at(0.5, 11), []) == ("down", at(0, -1), True)


def slow_since(made, opened, place, as_of, rules, word):
    """Since when a store is what it is, from the polls and openings there are."""
    mine = [
        (int(start), int(end))
        for store, start, end in zip(opened.store, opened.start_us, opened.end_us, strict=True)
        if store == place
    ]
    polls = [
        (int(t), bool(up))
        for store, t, up in zip(made.polls.store, made.polls.instant_us, made.polls.active, strict=True)
        if store == place
    ]
    if word == "stale":
        return polls[-1][0]
    if word == "closed":
        return max((end for _, end in mine if end <= as_of), default=-1)
    current = [opening for opening in mine if opening[0] <= as_of < opening[1]]
    if word == "waiting":
        return current[0][0]
    # Business time moment by moment backwards, as the stretches have it: the run ends where there is another state.
    found = timeline.find_segments(opened, evidence.gather(made.polls, opened, rules), 0, as_of + 2 * rules.farthest_us)
    stretches = [
        (int(start), int(end), int(state))
        for store, start, end, state in zip(found.store, found.start_us, found.end_us, found.state, strict=True)
        if store == place
    ]
    newest = max(t for t, _ in polls if current[0][0] <= t)
    wanted = timeline.UP if word == "up" else timeline.DOWN
    at_newest = max(n for n, (start, end, _) in enumerate(stretches) if start <= newest <= end)
    since = newest
    for start, _, state in stretches[at_newest::-1]:
        if state != wanted:
            break
        since = start
    return since


@settings(max_examples=300)
@given(cases())
def test_since_is_what_going_back_in_the_stretches_finds(case):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    opened = openings_for(made, as_of, rules)
    current, begun, earlier = statuses(made, as_of, rules)
    for place in range(made.size):
        word = status.STATUSES[int(current[place])]
        since = int(begun[place])
        if word == "no_data":
            assert since == -1
        elif word == "up" and earlier[place]:
            assert slow_since(made, opened, place, as_of, rules, word) <= since
        else:
            assert since == slow_since(made, opened, place, as_of, rules, word)
        assert word in ("up", "down") or not earlier[place]


@settings(max_examples=200)
@given(cases(), st.integers(1, 6 * DAY_US), st.integers(1, 6 * DAY_US), st.integers(0, 2 * DAY_US))
def test_neighbouring_ranges_add_up_and_say_the_same_of_their_outages(case, first, second, before):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    c = as_of - before
    b, a = c - second, c - second - first

    def total(start, end):
        found = timeline_of(made, start, end, as_of, rules)
        return {name: values.tolist() for name, values in sums(found.segments, start, end, made.size).items()}

    parts, whole = (total(a, b), total(b, c)), total(a, c)
    for name, values in whole.items():
        assert values == [x + y for x, y in zip(parts[0][name], parts[1][name], strict=True)], name
    outages = [
        set(zip(o.store.tolist(), o.start_us.tolist(), o.end_us.tolist(), o.down_us.tolist(), strict=True))
        for o in (timeline_of(made, *span, as_of, rules).outages for span in ((a, b), (b, c), (a, c)))
    ]
    assert outages[0] | outages[1] == outages[2]
