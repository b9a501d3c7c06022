"""Timelines: outages and status now against loops that a person can follow."""

import numpy as np
import pytest
from fleets import fleet
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core_properties import cases
from timeline_helpers import UTC9, ZONES, at, poll

from storemon_flask.core import evidence, report, status, timeline
from storemon_flask.model import DAY_US, Rules


def slow_outages(made, opened, heard, as_of):
    """Outages poll by poll: (store, first poll, last poll, polls, business time down)."""
    found, run = [], []
    unknown = timeline.stretches(opened, heard, int(opened.start_us.min()), int(opened.end_us.max()))
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
    opened = report.openings_for(made, as_of, rules)
    heard = evidence.gather(made.polls, opened, rules)
    o = timeline.outages(opened, heard, as_of)
    mine = [c.tolist() for c in (o.store, o.start_latest_us, o.end_earliest_us, o.polls, o.down_us)]
    assert list(zip(*mine, strict=True)) == (slow_outages(made, opened, heard, as_of) if len(opened) else [])
    assert (o.start_earliest_us <= o.start_us).all()
    assert (o.start_us <= o.start_latest_us).all()
    assert (o.end_earliest_us <= o.end_us).all()
    assert (o.end_us <= np.maximum(o.end_latest_us, o.end_us)).all()
    assert (o.end_us <= as_of).all()
    down = timeline.sums(timeline.stretches(opened, heard, 0, as_of), 0, as_of, made.size)["downtime"]
    assert sum(o.down_us.tolist()) == int(down.sum())


def now(polls, as_of, hours=UTC9, rules=Rules()):  # noqa: B008
    _, made = fleet(polls, hours, ZONES, as_of)
    table = report.compute(made, as_of, rules)
    word = status.STATUSES[int(table["status_now"][0])]
    return word, int(table["since_us"][0]), bool(table["since_or_earlier"][0])


@pytest.mark.parametrize(
    ("polls", "as_of", "expected"),
    [
        ([], at(12), ("no_data", -1, False)),
        ([poll(12, True)], at(18), ("closed", at(17), False)),
        ([poll(12, True)], at(8.5, 1), ("closed", at(17), False)),
        ([poll(12, True)], at(10, 1), ("waiting", at(9, 1), False)),
        ([poll(12, True)], at(11.5, 1), ("stale", at(11.5, 1), False)),
        ([poll(12, True)], at(16), ("stale", at(14.5), False)),
        ([poll(9.5, False), poll(10, True), poll(11, True)], at(12), ("up", at(10), False)),
        ([poll(9.5, True), poll(12, True)], at(12.5), ("up", at(12), False)),
        ([poll(9.5, True), poll(10, False), poll(11, False)], at(12), ("down", at(10), False)),
        ([poll(16, False), poll(9.25, False, 1)], at(10, 1), ("down", at(9.25, 1), False)),
    ],
)
def test_since_when_a_store_is_what_it_is(polls, as_of, expected):
    assert now([*polls, ("b", at(0), True)], as_of) == expected


def test_a_store_always_open_has_been_up_at_least_as_long_as_is_known_and_stale_since_its_last_poll():
    every_hour = [("a", at(hour), True) for hour in range(24 * 12)]
    assert now(every_hour, at(0.5, 11), []) == ("up", at(0), True)
    # A first poll within what is known is the first there was.
    assert now(every_hour[24 * 9 :], at(0.5, 11), []) == ("up", at(0, 9), False)
    word, since, earlier = now([("a", at(0), True)], at(0, 20), [])
    assert (word, since, earlier) == ("stale", at(2.5), False)


def slow_since(made, opened, place, as_of, rules):
    """(status, since) of one store, poll by poll; None for what only a longer history would tell."""
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
    if not polls:
        return "no_data", -1
    now = [(start, end) for start, end in mine if start <= as_of < end]
    if not now:
        return "closed", max((end for _, end in mine if end <= as_of), default=-1)
    start, end = now[0]
    heard = [one for one in polls if start <= one[0] < end]
    if heard and as_of - heard[-1][0] < rules.max_gap_us:
        since = heard[-1][0]
        for instant, up in reversed(heard):
            if up != heard[-1][1] or since - instant >= rules.max_gap_us:
                break
            since = instant
        return "up" if heard[-1][1] else "down", since
    if as_of - start < rules.max_gap_us:
        return "waiting", start
    if not heard and start < report.evidence_from(as_of, rules):
        return "stale", polls[-1][0] + rules.max_gap_us
    return "stale", (heard[-1][0] if heard else start) + rules.max_gap_us


@settings(max_examples=300)
@given(cases())
def test_since_is_what_a_loop_over_the_polls_finds(case):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    opened = report.openings_for(made, as_of, rules)
    table = report.compute(made, as_of, rules, opened)
    for place in range(made.size):
        word = status.STATUSES[int(table["status_now"][place])]
        assert (word, int(table["since_us"][place])) == slow_since(made, opened, place, as_of, rules)
        if table["since_or_earlier"][place]:
            assert word in ("up", "down")
            assert table["since_us"][place] < report.evidence_from(as_of, rules) + gap


@settings(max_examples=200)
@given(cases(), st.integers(1, 6 * DAY_US), st.integers(1, 6 * DAY_US), st.integers(0, 2 * DAY_US))
def test_neighbouring_ranges_add_up_and_say_the_same_of_their_outages(case, first, second, before):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap)
    _, made = fleet(polls, hours, zones, as_of)
    c = as_of - before
    b, a = c - second, c - second - first

    def sums(start, end):
        found = timeline.of(made, start, end, as_of, rules)
        return {name: values.tolist() for name, values in timeline.sums(found.stretches, start, end, made.size).items()}

    parts, whole = (sums(a, b), sums(b, c)), sums(a, c)
    for name, values in whole.items():
        assert values == [x + y for x, y in zip(parts[0][name], parts[1][name], strict=True)], name
    outages = [
        set(zip(o.store.tolist(), o.start_us.tolist(), o.end_us.tolist(), o.down_us.tolist(), strict=True))
        for o in (timeline.of(made, *span, as_of, rules).outages for span in ((a, b), (b, c), (a, c)))
    ]
    assert outages[0] | outages[1] == outages[2]
