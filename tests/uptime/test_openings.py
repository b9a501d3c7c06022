"""Hours and zones from a date on, and special hours, against the brute force, to the microsecond."""

from datetime import datetime, timedelta

from brute_calendar import calendar
from brute_force import measures
from brute_force import report as brute_force
from fleets import compute, fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.feeds import schema
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Rules
from storemon_flask.uptime import calendar as core_calendar
from storemon_flask.uptime import evidence, openings
from storemon_flask.uptime.measures import Periods, measure
from storemon_flask.uptime.zones import history, name_at, turns
from uptime.cases import DAYS, ENDS, TIMES

ZONES = [
    "America/Chicago",
    "America/Denver",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Etc/UTC",
]


@st.composite
def cases(draw):
    zone, day = draw(st.sampled_from(DAYS))
    middle = int(day.timestamp()) * 1_000_000
    as_of = middle + draw(st.integers(-3 * 24 * 60, 5 * 24 * 60)) * MINUTE_US
    days = [(day + timedelta(days=n)).date().isoformat() for n in range(-9, 7)]
    dates = st.sampled_from(["", *days, "1999-12-31", "2030-01-01"])
    rows = st.tuples(st.integers(0, 6), st.sampled_from(TIMES), st.sampled_from(ENDS))
    names = ["a", "b"]
    hours, special, zones = [], [], {}
    for name in names:
        for since in draw(st.lists(dates, max_size=3, unique=True)):
            hours += [(name, *row, since) for row in draw(st.lists(rows, min_size=1, max_size=8, unique=True))]
        for on in draw(st.lists(st.sampled_from(days), max_size=4, unique=True)):
            times = st.tuples(st.sampled_from(TIMES), st.sampled_from(ENDS))
            said = draw(st.one_of(st.just([("", "")]), st.lists(times, min_size=1, max_size=3, unique=True)))
            special += [(name, on, *row) for row in said]
        held = draw(
            st.lists(st.tuples(dates, st.sampled_from([zone, *ZONES])), max_size=3, unique_by=lambda one: one[0])
        )
        if held:
            zones[name] = sorted(held)
    near = st.one_of(
        st.integers(-9 * 48, 48).map(lambda half: as_of + half * HOUR_US // 2),
        st.integers(as_of - 9 * DAY_US, as_of),
    )
    polls = draw(st.lists(st.tuples(st.sampled_from(names), near, st.booleans()), max_size=30))
    method = draw(st.sampled_from(["nearest", "previous"]))
    return polls, hours, special, zones, as_of, method


@settings(max_examples=300)
@given(cases())
def test_every_column_of_every_store_equals_the_brute_force(case):
    polls, hours, special, zones, as_of, method = case
    rules = Rules(method=method)
    found = compute(polls, hours, zones, as_of, rules, special)
    expected = brute_force(polls, hours, zones, as_of, method=method, special=special)
    assert found == expected


@settings(max_examples=150)
@given(cases(), st.sampled_from(["hour", "day", "week"]))
def test_calendar_periods_of_a_store_that_moved_equal_the_brute_force(case, unit):
    polls, hours, special, zones, as_of, method = case
    rules = Rules(method=method)
    ids, made = fleet(polls, hours, zones, as_of, special)
    first = as_of - 5 * DAY_US
    opened = openings.build(made, first - 4 * DAY_US, as_of + DAY_US)
    heard = evidence.gather(made.polls, opened, rules)
    for place, store_id in enumerate(ids):
        spans = core_calendar.spans(made.zone_names[made.zone_of[place]], unit, first, as_of)
        # They tile the range, whatever the clocks did in it.
        assert spans.start_us[0] == first
        assert spans.end_us[-1] == as_of
        assert (spans.end_us[:-1] == spans.start_us[1:]).all()
        asked = Periods(spans.start_us * 0 + place, spans.start_us, spans.end_us)
        found = measure(opened, heard, asked, as_of)
        expected = measures(
            polls, hours, zones, as_of,
            [(store_id, *edges) for edges in zip(spans.start_us.tolist(), spans.end_us.tolist(), strict=True)],
            method=method, special=special,
        )  # fmt: skip
        assert [{name: int(values[n]) for name, values in found.items()} for n in range(len(spans))] == expected


@settings(max_examples=200)
@given(
    st.sampled_from(ZONES), st.sampled_from(ZONES), st.dates(datetime(1990, 1, 1).date(), datetime(2035, 1, 1).date())
)
def test_a_store_that_moves_has_whole_days_on_both_sides_of_the_midnight(before, after, date):
    day = schema.parse_date(date.isoformat())
    zone = history(before, [(day, after)])
    if before == after:
        assert zone == before
        return
    (turn,) = turns(zone)
    assert (name_at(zone, turn - 1), name_at(zone, turn)) == (before, after)
    first, last = day * DAY_US - 4 * DAY_US, day * DAY_US + 4 * DAY_US
    spans = core_calendar.spans(zone, "day", first, last)
    by_old, by_new = calendar(before, "day", first, last), calendar(after, "day", first, last)
    found = list(zip(spans.start_us.tolist(), spans.end_us.tolist(), spans.local_us.tolist(), strict=True))
    # The days before the last old one are the old zone's, those from the date on the new one's.
    assert [one for one in found if one[2] < (day - 1) * DAY_US] == [
        one[:3] for one in by_old if one[2] < (day - 1) * DAY_US
    ]
    assert [one for one in found if one[2] >= day * DAY_US] == [one[:3] for one in by_new if one[2] >= day * DAY_US]
