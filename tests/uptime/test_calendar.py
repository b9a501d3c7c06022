"""Calendar periods against `zoneinfo`, on the days when a clock or a calendar jumps."""

from datetime import UTC, datetime
from random import Random

import numpy as np
import pytest
from brute_calendar import calendar as by_zoneinfo
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask import zonedata
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from storemon_flask.rules import DEFAULT_DAYPARTS, Daypart
from storemon_flask.uptime import calendar
from storemon_flask.uptime.calendar import UNITS
from storemon_flask.uptime.zones import changes_of_year
from uptime.cases import DAYS

EPOCH = datetime(1970, 1, 1)
ZONES = sorted(zonedata.names())


def instant(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND_US


def listed(spans):
    """(start, end, wall clock at the whole period's start, offset there) of each period."""
    columns = (spans.start_us, spans.end_us, spans.local_us, spans.offset_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def shown(zone, unit, first, last):
    """(wall clock at the start, offset in hours, length in hours) of each period."""
    return [
        (str(np.datetime64(local, "us").astype("datetime64[m]")), offset / 3600, (end - start) / HOUR_US)
        for start, end, local, offset in listed(calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS))
    ]


def anywhere(first_us, last_us):
    """Any microsecond of `[first_us, last_us)`; by minutes, as `st.integers` alone rarely leaves the beginning."""
    minutes = st.integers(0, (last_us - first_us) // MINUTE_US - 1)
    return st.builds(lambda minute, rest: first_us + minute * MINUTE_US + rest, minutes, st.integers(0, MINUTE_US - 1))


@pytest.mark.parametrize(
    ("zone", "first", "days", "expected"),
    [
        ("America/New_York", instant(2023, 3, 11, 5), 3, [
            ("2023-03-11T00:00", -5, 24), ("2023-03-12T00:00", -5, 23), ("2023-03-13T00:00", -4, 24),
        ]),
        ("America/New_York", instant(2023, 11, 4, 4), 3, [
            ("2023-11-04T00:00", -4, 24), ("2023-11-05T00:00", -4, 25), ("2023-11-06T00:00", -5, 24),
        ]),
        ("Australia/Lord_Howe", instant(2023, 4, 1, 13), 2, [
            ("2023-04-02T00:00", 11, 24.5), ("2023-04-03T00:00", 10.5, 24),
        ]),
        ("Australia/Lord_Howe", instant(2023, 9, 30, 13, 30), 2, [
            ("2023-10-01T00:00", 10.5, 23.5), ("2023-10-02T00:00", 11, 24),
        ]),
        # The zone crossed the date line: there was no 30 December.
        ("Pacific/Apia", instant(2011, 12, 29, 10), 2, [("2011-12-29T00:00", -10, 24), ("2011-12-31T00:00", 14, 24)]),
        # Midnight is skipped: the day begins at 01:00. And it comes an hour late: the day before has 25.
        ("America/Sao_Paulo", instant(2018, 11, 3, 3), 2, [("2018-11-03T00:00", -3, 24), ("2018-11-04T01:00", -2, 23)]),
        ("America/Sao_Paulo", instant(2018, 2, 17, 2), 2, [("2018-02-17T00:00", -2, 25), ("2018-02-18T00:00", -3, 24)]),
        # Midnight comes twice: the first one counts.
        ("America/Havana", instant(2023, 11, 4, 4), 2, [("2023-11-04T00:00", -4, 24), ("2023-11-05T00:00", -4, 25)]),
        ("America/St_Johns", instant(2006, 10, 28, 2, 30), 2, [
            ("2006-10-28T00:00", -2.5, 24), ("2006-10-29T00:00", -2.5, 25),
        ]),
    ],
)  # fmt: skip
def test_a_day_is_as_long_as_its_zone_makes_it(zone, first, days, expected):
    last = first + round(sum(length for *_, length in expected) * HOUR_US)
    assert len(expected) == days
    assert shown(zone, "day", first, last) == expected


@pytest.mark.parametrize(
    ("zone", "first", "expected"),
    [
        ("America/New_York", instant(2023, 3, 12, 6), [("2023-03-12T01:00", -5, 1), ("2023-03-12T03:00", -4, 1)]),
        ("America/New_York", instant(2023, 11, 5, 5), [
            ("2023-11-05T01:00", -4, 1), ("2023-11-05T01:00", -5, 1), ("2023-11-05T02:00", -5, 1),
        ]),
        ("Australia/Lord_Howe", instant(2023, 4, 1, 14), [
            ("2023-04-02T01:00", 11, 1), ("2023-04-02T01:30", 10.5, 0.5), ("2023-04-02T02:00", 10.5, 1),
        ]),
        ("Australia/Lord_Howe", instant(2023, 9, 30, 14, 30), [
            ("2023-10-01T01:00", 10.5, 1), ("2023-10-01T02:30", 11, 0.5), ("2023-10-01T03:00", 11, 1),
        ]),
        ("Pacific/Apia", instant(2011, 12, 30, 9), [("2011-12-29T23:00", -10, 1), ("2011-12-31T00:00", 14, 1)]),
        ("Asia/Kathmandu", instant(2023, 1, 25, 0, 15), [("2023-01-25T06:00", 5.75, 1), ("2023-01-25T07:00", 5.75, 1)]),
        ("America/St_Johns", instant(2006, 10, 29, 2, 30), [
            ("2006-10-29T00:00", -2.5, 1 / 60), ("2006-10-28T23:01", -3.5, 59 / 60), ("2006-10-29T00:00", -3.5, 1),
        ]),
    ],
)  # fmt: skip
def test_an_hour_begins_when_the_clock_shows_a_full_one_or_is_changed(zone, first, expected):
    last = first + round(sum(length for *_, length in expected) * HOUR_US)
    assert shown(zone, "hour", first, last) == expected


@pytest.mark.parametrize(
    ("unit", "day", "expected"),
    [
        ("week", (2023, 3, 8), ("2023-03-06T00:00", -5, 167)),
        ("week", (2023, 3, 15), ("2023-03-13T00:00", -4, 168)),
        ("week", (2023, 11, 2), ("2023-10-30T00:00", -4, 169)),
        ("month", (2023, 3, 31), ("2023-03-01T00:00", -5, 31 * 24 - 1)),
        ("month", (2024, 2, 29), ("2024-02-01T00:00", -5, 29 * 24)),
        ("month", (2023, 11, 2), ("2023-11-01T00:00", -4, 30 * 24 + 1)),
    ],
)
def test_a_week_is_from_monday_and_a_month_from_its_first(unit, day, expected):
    noon = instant(*day, 16)
    touched = shown("America/New_York", unit, noon - 40 * DAY_US, noon + 40 * DAY_US)
    assert expected in touched
    # Cut to a minute of it, the period is that minute, and still says when it began.
    assert shown("America/New_York", unit, noon, noon + MINUTE_US) == [(*expected[:2], 1 / 60)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("length", [0, -1, -5 * DAY_US])
def test_a_range_without_a_moment_has_no_periods(unit, length):
    spans = calendar.spans(
        "America/New_York", unit, instant(2023, 3, 12), instant(2023, 3, 12) + length, DEFAULT_DAYPARTS
    )
    assert len(spans) == 0
    assert listed(spans) == []


@st.composite
def ranges(draw, most_us):
    zone, day = draw(st.sampled_from(DAYS))
    middle = int(day.timestamp()) * SECOND_US
    half = st.integers(-144, 144).map(lambda half: middle + half * HOUR_US // 2)
    first = draw(st.one_of(anywhere(middle - 3 * DAY_US, middle + 3 * DAY_US), half))
    return (
        zone,
        first,
        draw(st.one_of(st.just(first), anywhere(first, first + most_us), half.filter(lambda t: t >= first))),
    )


@settings(max_examples=300)
@given(st.sampled_from(UNITS), st.data())
def test_calendar_periods_and_their_labels_are_those_of_zoneinfo(unit, data):
    zone, first, last = data.draw(ranges(5 * DAY_US if unit == "hour" else 100 * DAY_US))
    assert listed(calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS)) == by_zoneinfo(zone, unit, first, last)


@settings(max_examples=300)
@given(st.sampled_from(UNITS), st.data())
def test_each_period_joins_the_next_and_together_they_cover_the_range(unit, data):
    zone, first, last = data.draw(ranges(100 * DAY_US))
    spans = calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS)
    assert len(spans) == len(spans.end_us) == len(spans.local_us) == len(spans.offset_s)
    if first == last:
        assert len(spans) == 0
        return
    assert (int(spans.start_us[0]), int(spans.end_us[-1])) == (first, last)
    assert np.array_equal(spans.start_us[1:], spans.end_us[:-1])
    assert (spans.end_us > spans.start_us).all()


HOURS_AND_HALVES = st.lists(st.integers(0, 47), min_size=1, max_size=8, unique=True)


def made_dayparts(halves):
    """Parts that begin at those half hours of the day."""
    starts = sorted(half * 1800 for half in halves)
    return tuple(Daypart(f"part {at}", at, end) for at, end in zip(starts, [*starts[1:], starts[0]], strict=True))


@settings(max_examples=300)
@given(HOURS_AND_HALVES, st.data())
def test_dayparts_wherever_they_begin_are_those_of_zoneinfo(halves, data):
    zone, first, last = data.draw(ranges(10 * DAY_US))
    dayparts = made_dayparts(halves)
    spans = calendar.spans(zone, "daypart", first, last, dayparts)
    assert listed(spans) == by_zoneinfo(zone, "daypart", first, last, dayparts)
    assert set((spans.local_us % DAY_US).tolist()) <= {part.start_s * SECOND_US for part in dayparts}


@pytest.mark.parametrize(
    ("zone", "first", "days", "halves", "expected"),
    [
        # The clock goes from 02:00 to 03:00, and from 02:00 back to 01:00; 01:30 means the first.
        ("America/New_York", instant(2023, 3, 12, 5), 1, [3, 5, 10], [
            ("2023-03-11T05:00", -5, 1.5), ("2023-03-12T01:30", -5, 1), ("2023-03-12T02:30", -4, 1.5),
            ("2023-03-12T05:00", -4, 20),
        ]),
        ("America/New_York", instant(2023, 11, 5, 4), 1, [3, 5, 10], [
            ("2023-11-04T05:00", -4, 1.5), ("2023-11-05T01:30", -4, 2), ("2023-11-05T02:30", -5, 2.5),
            ("2023-11-05T05:00", -5, 18),
        ]),
        # A part from 02:30 to 03:00, which the clock skips.
        ("America/New_York", instant(2023, 3, 12, 5), 1, [5, 6], [
            ("2023-03-11T03:00", -5, 2), ("2023-03-12T03:00", -4, 22),
        ]),
        # A date that was skipped whole has no parts; the late part of the one before it ends on the next there is.
        ("Pacific/Apia", instant(2011, 12, 30, 8), 1, [10, 44], [
            ("2011-12-29T22:00", -10, 7), ("2011-12-31T05:00", 14, 17),
        ]),
    ],
)  # fmt: skip
def test_dayparts_on_days_when_the_clock_changes(zone, first, days, halves, expected):
    spans = calendar.spans(zone, "daypart", first, first + days * DAY_US, made_dayparts(halves))
    assert [
        (str(np.datetime64(local, "us").astype("datetime64[m]")), offset / 3600, (end - start) / HOUR_US)
        for start, end, local, offset in listed(spans)
    ] == expected


def _around_a_change(data, zone, most_us):
    """A range of a year since 1973 that has a change of the zone in or near it, if there is one."""
    year = data.draw(st.integers(1973, 2060))
    moments = [second * SECOND_US for second, _, _ in changes_of_year(zone, year)] or [instant(year, 6, 30)]
    middle = data.draw(st.sampled_from(moments))
    first = data.draw(anywhere(middle - 3 * DAY_US, middle + DAY_US))
    return first, data.draw(anywhere(first, first + most_us))


@pytest.mark.slow
@settings(max_examples=300)
@given(st.sampled_from(ZONES), st.data())
def test_the_periods_of_zones_drawn_of_all_are_those_of_zoneinfo(zone, data):
    for unit in UNITS:
        first, last = _around_a_change(data, zone, 5 * DAY_US if unit == "hour" else 100 * DAY_US)
        assert listed(calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS)) == by_zoneinfo(zone, unit, first, last)


@pytest.mark.slow
def test_hours_tile_the_days_and_days_the_weeks_and_months_of_a_hundred_zones_since_1973():
    first, last = instant(1973, 1, 1), instant(2038, 1, 1)
    for zone in Random(7).sample(ZONES, 100):
        spans = {unit: calendar.spans(zone, unit, first, last, DEFAULT_DAYPARTS) for unit in UNITS}
        for unit, found in spans.items():
            assert (int(found.start_us[0]), int(found.end_us[-1])) == (first, last), (zone, unit)
            assert np.array_equal(found.start_us[1:], found.end_us[:-1]), (zone, unit)
            assert (found.end_us > found.start_us).all(), (zone, unit)
        assert (spans["hour"].end_us - spans["hour"].start_us).max() == HOUR_US, zone
        for small, large in (("hour", "day"), ("day", "week"), ("day", "month")):
            assert np.isin(spans[large].start_us, spans[small].start_us).all(), (zone, small, large)
