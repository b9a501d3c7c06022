"""Timelines: outages and status now against loops that a person can follow."""

import numpy as np
import pytest
from fleets import fleet, openings_for
from hypothesis import given, settings
from hypothesis import strategies as st
from timeline_helpers import UTC9, ZONES, at, poll, statuses, sums, timeline_of

from storemon_flask.model import DAY_US, Rules
from storemon_flask.uptime import evidence, status, timeline
from uptime.test_core_properties import cases


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
