"""The hours in a row of a store's picture stand where its own clock shows them, on days of any length."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.pages.store_chart import hour_marks
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
