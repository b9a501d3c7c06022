"""The chart of a store: each poll lies within a tick of its kind, no tick spans time without polls, hours are in place."""

import re
from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta
from itertools import chain, pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US
from storemon_flask.pages.store import KINDS, MOST_SINGLE_TICKS, MOST_TICKS, Ticks, hour_marks
from storemon_flask.stores.detail import LocalDay


def local_day(zone: str, day: date) -> LocalDay:
    start, end = (datetime(one.year, one.month, one.day, tzinfo=ZoneInfo(zone)) for one in (day, day + timedelta(1)))
    start_us, end_us = (int(one.timestamp()) * 1_000_000 for one in (start, end))
    minute = 60_000_000
    offsets = [
        datetime.fromtimestamp(at // 1_000_000, ZoneInfo(zone)).utcoffset() for at in range(start_us, end_us, minute)
    ]
    change = next((place for place in range(1, len(offsets)) if offsets[place] != offsets[place - 1]), None)
    return LocalDay(start_us, end_us, 0, -1 if change is None else start_us + change * minute, {})


@pytest.mark.parametrize(
    ("zone", "day", "named"),
    [
        ("America/New_York", date(2024, 11, 3), ["06", "12", "18"]),
        ("America/New_York", date(2024, 3, 10), ["06", "12", "18"]),
        ("America/New_York", date(2024, 3, 11), ["", "", ""]),
        ("Australia/Lord_Howe", date(2024, 4, 7), ["06", "12", "18"]),
        ("Antarctica/Troll", date(2024, 3, 31), ["06", "12", "18"]),
        # The clocks go from 24:00 to 23:00, and on the next day nothing has moved.
        ("America/Havana", date(2024, 11, 3), ["06", "12", "18"]),
        ("America/Asuncion", date(2024, 3, 23), ["", "", ""]),
        ("UTC", date(2024, 3, 31), ["", "", ""]),
    ],
)
def test_every_hour_stands_where_the_stores_own_clock_shows_it(zone: str, day: date, named: list[str]) -> None:
    one = local_day(zone, day)
    for width in (DAY_US, 25 * HOUR_US):
        found = list(hour_marks(one, one.change_us, width))
        assert [name for name, _ in found] == named
        for hour, (_, place) in zip((6, 12, 18), found, strict=True):
            instant_us = one.start_us + float(place.rstrip("%")) / 100 * width
            local = datetime.fromtimestamp(instant_us / 1e6, ZoneInfo(zone))
            off = local - datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo(zone))
            # Places have two digits after the point: nine seconds.
            assert abs(off) <= timedelta(seconds=9)


def test_an_hour_that_the_clocks_skip_stands_where_they_are_changed() -> None:
    day = LocalDay(0, 22 * HOUR_US, 0, 6 * HOUR_US, {})
    assert list(hour_marks(day, 6 * HOUR_US, DAY_US)) == [("06", "25%"), ("12", "41.67%"), ("18", "66.67%")]


KIND_OF = {(True, True): "active", (False, True): "inactive", (True, False): "closed", (False, False): "closed"}


def some_days(count: int) -> list[LocalDay]:
    return [LocalDay(day * DAY_US, (day + 1) * DAY_US, 0, -1, {}) for day in range(count)]


def ticks_of(count: int, polls: list[tuple[int, bool, bool]]) -> Ticks:
    columns = list(zip(*polls, strict=True)) or [(), (), ()]
    at, active, in_hours = (np.array(column, kind) for column, kind in zip(columns, ("i8", "?", "?"), strict=True))
    return Ticks(some_days(count), DAY_US, at, active, in_hours)


def made(count: int, step_us: int, seed: int, shares: tuple[float, float, float]) -> list[tuple[int, bool, bool]]:
    """Polls on and around those days: every so often with a jitter, of each the share that there is, is active, counts."""
    chance = np.random.default_rng(seed)
    at = np.arange(-HOUR_US, count * DAY_US + HOUR_US, step_us)
    at += chance.integers(0, chance.integers(1, step_us + 1), len(at))
    there, active, in_hours = (chance.random(len(at)) < share for share in shares)
    return list(zip(at[there].tolist(), active[there].tolist(), in_hours[there].tolist(), strict=True))


@given(
    st.sampled_from((1, 2, 7, 14, 30)),
    st.sampled_from((1, 7, 24, 30, 49, 60, 61)),
    st.integers(0, 1 << 32),
    st.tuples(*(st.sampled_from((0.02, 0.5, 0.97, 1.0)) for _ in range(3))),
)
def test_every_poll_lies_within_a_tick_of_its_kind_and_no_tick_spans_a_gap(
    count: int, minutes: int, seed: int, shares: tuple[float, float, float]
) -> None:
    polls = made(count, minutes * MINUTE_US, seed, shares)
    found = ticks_of(count, polls)
    drawn = 0
    for day in some_days(count):
        ticks = list(found.in_day(day))
        drawn += len(ticks)
        of_day = [poll for poll in polls if day.start_us <= poll[0] < day.end_us]
        for kind in KINDS:
            wanted = [at for at, active, in_hours in of_day if KIND_OF[active, in_hours] == kind]
            mine = [tick for tick in ticks if tick.kind == kind]
            inside = [wanted[bisect_left(wanted, tick.first_us) : bisect_right(wanted, tick.last_us)] for tick in mine]
            # Each is in one of them, which begins and ends with a poll.
            assert list(chain.from_iterable(inside)) == wanted
            assert [(one[0], one[-1]) for one in inside] == [(tick.first_us, tick.last_us) for tick in mine]
            assert all(later - at <= found.apart_us for one in inside for at, later in pairwise(one))
            # What is left apart is further apart than what is drawn as one.
            assert all(later[0] - one[-1] > found.apart_us for one, later in pairwise(inside))
    assert drawn <= (MOST_TICKS if len(polls) > MOST_SINGLE_TICKS else MOST_SINGLE_TICKS)
    assert (found.apart_us == -1) == (len(polls) <= MOST_SINGLE_TICKS)


def test_polls_are_together_no_further_apart_than_it_takes() -> None:
    every_minute = ticks_of(1, [(minute * MINUTE_US, True, True) for minute in range(1440)])
    assert every_minute.apart_us == DAY_US // 400
    assert [(tick.first_us, tick.last_us) for tick in every_minute.in_day(some_days(1)[0])] == [(0, 1439 * MINUTE_US)]
    # 30 days of 1,440 half hours, and one hole: 900 ticks cannot show each.
    halves = [(30 * place * MINUTE_US, True, True) for place in range(1440) if place not in (100, 101)]
    found = ticks_of(30, halves)
    assert found.apart_us == 30 * MINUTE_US
    assert sum(len(list(found.in_day(day))) for day in some_days(30)) == 31


@pytest.mark.parametrize(("days", "minute"), [(14, 5), (30, 5), (30, 47)])
def test_a_store_polled_every_hour_has_every_poll_in_its_place(client: FlaskClient, days: int, minute: int) -> None:
    rows = ["store_id,timestamp_utc,status\n"]
    rows += [
        f"busy,2024-09-{day:02d} {hour:02d}:{minute:02d}:30,{'inactive' if hour == 14 else 'active'}\n"
        for day in range(1, 31)
        for hour in range(24)
    ]
    zone = "store_id,timezone_str\nbusy,UTC\n"
    assert client.post("/api/v1/feeds/polls", data="".join(rows)).status_code == 200
    assert client.post("/api/v1/feeds/timezones", data=zone).status_code == 200
    text = client.get(f"/stores/busy?days={days}").text
    drawn = re.findall(r'<svg class="day.*?</svg>', text, re.DOTALL)
    assert len(drawn) == days
    # The newest day ends with the newest poll, before which all is judged.
    for day in drawn[1:]:
        ticks = re.findall(r'<rect class="p (\w+)" x="([\d.]+)%" width="1">', day)
        assert len(ticks) == day.count('class="p ') == 24
        for kind, hours in (("active", [*range(14), *range(15, 24)]), ("inactive", [14])):
            places = [float(at) for one, at in ticks if one == kind]
            # A place has two digits after the point.
            assert places == pytest.approx([(hour + (minute + 0.5) / 60) / 0.24 for hour in hours], abs=0.005001)
