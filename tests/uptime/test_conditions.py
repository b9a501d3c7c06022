"""What alerts judge of a store, against the same worked out poll by poll."""

import numpy as np
from fleets import fleet, openings_for
from hypothesis import given
from hypothesis import strategies as st

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Rules
from storemon_flask.uptime import conditions, evidence
from storemon_flask.uptime.conditions import CHANGES_US

# A Monday; the fleet's as-of lies in its week.
MONDAY = 1_728_864_000_000_000
RULES = Rules()


def find(polls, hours, as_of_us):
    zones = {row[0]: "UTC" for row in (*polls, *hours)}
    ids, made = fleet(polls, hours, zones, as_of_us)
    opened = openings_for(made, as_of_us, RULES)
    gathered = evidence.gather(made.polls, opened, RULES)
    found = conditions.find(as_of_us, made.size, opened, gathered, as_of_us - WEEK_US - RULES.farthest_us)
    columns = found.columns()
    return {store: {name: int(values[at]) for name, values in columns.items()} for at, store in enumerate(ids)}


def expected(polls, opened, as_of_us):
    """The same for one store, from its polls by instant and the edges of its openings."""
    inside = [
        (start, end, [t for t in sorted(polls) if start <= t < end]) for start, end in opened if start <= as_of_us
    ]
    none = dict.fromkeys(conditions.Conditions.__slots__, -1)
    none |= {"polls": 0, "active_polls": 0, "down_polls": 0, "changes": 0}
    if not inside:
        return none
    start, end, times = inside[-1]
    wanted = none | {"opened_us": start, "closes_us": end, "polls": len(times)}
    wanted["active_polls"] = sum(polls[t] for t in times)

    def left(at, some, opens):
        return opens if at == 0 else some[at - 1] + (some[at] - some[at - 1]) // 2

    active = [at for at, t in enumerate(times) if polls[t]]
    if active:
        wanted["first_up_us"] = left(active[0], times, start)
    down = [at for at, t in enumerate(times) if not polls[t]]
    if down:
        last = first = down[-1]
        while first and not polls[times[first - 1]]:
            first -= 1
        until = end if last + 1 == len(times) else left(last + 1, times, start)
        wanted |= {"down_from_us": left(first, times, start), "down_until_us": min(until, as_of_us)}
        wanted |= {"down_polls": last - first + 1, "seen_us": times[first]}
        before = [t for one in inside for t in one[2] if t < times[first]]
        wanted["last_up_us"] = before[-1] if before and polls[before[-1]] else -1

    previous, changes = None, []
    for opens, _, some in inside:
        for at, t in enumerate(some):
            if previous is not None and polls[t] != previous:
                changes.append(left(at, some, opens))
            previous = polls[t]

    def business_since(instant):
        return sum(max(0, min(closes, as_of_us) - max(opens, instant)) for opens, closes in opened)

    recent = [change for change in changes if business_since(change) <= CHANGES_US]
    wanted["changes"] = len(recent)
    if recent:
        wanted["changes_from_us"] = recent[0]
    if changes:
        wanted |= {"changed_us": changes[-1], "calm_us": business_since(changes[-1])}
    return wanted


polls_of_a_store = st.dictionaries(st.integers(0, 3 * 24 * 12), st.booleans(), max_size=40)


@given(
    st.lists(polls_of_a_store, min_size=1, max_size=3),
    st.integers(0, 3 * 24 * 60),
    st.sampled_from([("10:00", "22:00"), ("08:30", "12:00"), ("18:00", "02:00")]),
)
def test_conditions_are_those_of_the_polls(stores, minute, span):
    as_of_us = MONDAY + minute * MINUTE_US
    rows, hours, wanted = [], [], {}
    for number, some in enumerate(stores):
        name = f"s{number}"
        polls = {MONDAY + 5 * at * MINUTE_US: up for at, up in some.items()}
        rows += [(name, t, up) for t, up in polls.items()]
        hours += [(name, day, *span) for day in range(7)]
        first, last = (int(text[:2]) * HOUR_US + int(text[3:]) * MINUTE_US for text in span)
        last += DAY_US if last < first else 0
        days = [MONDAY + day * DAY_US for day in range(-9, 5)]
        past = {t: up for t, up in polls.items() if t <= as_of_us}
        wanted[name] = expected(past, [(day + first, day + last) for day in days], as_of_us)
    assert find(rows, hours, as_of_us) == wanted


def test_a_store_that_is_always_open_opened_before_everything():
    found = find([("a", MONDAY + HOUR_US, False)], [("b", 0, "10:00", "11:00")], MONDAY + 2 * HOUR_US)
    assert found["a"]["opened_us"] == 0
    assert found["a"]["closes_us"] > MONDAY + 2 * DAY_US
    assert found["a"]["down_polls"] == 1
    assert found["b"]["closes_us"] == MONDAY - WEEK_US + 11 * HOUR_US


def test_a_gap_of_which_nothing_is_known_ends_a_run():
    polls = [("a", MONDAY, False), ("a", MONDAY + 50 * HOUR_US, False), ("a", MONDAY + 51 * HOUR_US, False)]
    found = find(polls, [], MONDAY + 52 * HOUR_US)["a"]
    assert (found["down_polls"], found["seen_us"]) == (2, MONDAY + 50 * HOUR_US)
    assert found["down_from_us"] == MONDAY + 26 * HOUR_US
    assert found["last_up_us"] == -1


def test_polls_that_were_left_out_count():
    made = fleet(
        [("a", MONDAY + minute * MINUTE_US, minute >= 300) for minute in range(600)], [], {"a": "UTC"}, MONDAY + DAY_US
    )[1]
    as_of_us = MONDAY + 10 * HOUR_US
    opened = openings_for(made, as_of_us, RULES)
    thin = evidence.thin_out(made.polls, opened, RULES, MONDAY)
    assert len(thin) < 60
    found = conditions.find(as_of_us, 1, opened, evidence.gather(thin, opened, RULES), MONDAY - 8 * DAY_US)
    assert (found.polls.tolist(), found.active_polls.tolist(), found.down_polls.tolist()) == ([600], [300], [300])


def test_no_store_and_no_poll():
    found = find([], [("a", 0, "10:00", "11:00")], MONDAY)["a"]
    assert (found["polls"], found["changes"], found["down_from_us"]) == (0, 0, -1)
    empty = np.empty(0, dtype=np.int64)
    opened = openings_for(fleet([], [], {}, MONDAY)[1], MONDAY, RULES)
    nothing = evidence.Evidence(empty, empty, empty, empty.astype(bool), empty, empty, empty.astype(bool))
    assert all(len(values) == 0 for values in conditions.find(MONDAY, 0, opened, nothing, 0).columns().values())
