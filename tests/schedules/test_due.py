"""When schedules are due: words and cron, daylight saving in both directions, and which days their windows mean."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise

import pytest
from load_helpers import us

from storemon_flask import zonedata
from storemon_flask.clock import minute_text
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US
from storemon_flask.schedules import due
from storemon_flask.schedules.due import Due


def times(when: Due, after: str, count: int = 3) -> list[str]:
    return [minute_text(at)[:-4] for at in islice(when.after(us(after)), count)]


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("daily 07:00", "Etc/UTC", "2026-11-28T07:00:00", ["2026-11-29 07:00", "2026-11-30 07:00", "2026-12-01 07:00"]),
        ("Daily 7:00", "Asia/Tokyo", "2026-11-28T00:00:00", ["2026-11-28 22:00", "2026-11-29 22:00", "2026-11-30 22:00"]),
        ("weekly mon 07:00", "Etc/UTC", "2026-11-28T00:00:00", ["2026-11-30 07:00", "2026-12-07 07:00", "2026-12-14 07:00"]),
        ("weekly Sunday 23:59", "Etc/UTC", "2026-11-28T00:00:00", ["2026-11-29 23:59", "2026-12-06 23:59", "2026-12-13 23:59"]),
        ("monthly 1 00:00", "Etc/UTC", "2026-11-28T00:00:00", ["2026-12-01 00:00", "2027-01-01 00:00", "2027-02-01 00:00"]),
        ("monthly last 06:30", "Etc/UTC", "2026-12-01T00:00:00", ["2026-12-31 06:30", "2027-01-31 06:30", "2027-02-28 06:30"]),
        ("0 7 * * 1-5", "Etc/UTC", "2026-11-27T08:00:00", ["2026-11-30 07:00", "2026-12-01 07:00", "2026-12-02 07:00"]),
        ("0 6 * * MON#1", "Etc/UTC", "2026-11-28T00:00:00", ["2026-12-07 06:00", "2027-01-04 06:00", "2027-02-01 06:00"]),
    ],
)  # fmt: skip
def test_words_and_cron_are_due_when_they_say(text: str, zone: str, after: str, expected: list[str]) -> None:
    assert times(due.parse(text, zone), after) == expected


# For each zone: a day whose early hour does not exist, and one that has an hour twice, as their midnights in UTC.
CHANGES = [
    # zone, spring (a wall clock that is skipped, when the night goes on), autumn (a wall clock that comes twice, first)
    ("America/Chicago", "30 2 * * *", "2026-03-08 08:00", "30 1 * * *", "2026-11-01 06:30"),
    ("Europe/Berlin", "30 2 * * *", "2026-03-29 01:00", "30 2 * * *", "2026-10-25 00:30"),
    # Half an hour, and in the other half of the year.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 15:30", "45 1 * * *", "2026-04-04 14:45"),
]


@pytest.mark.parametrize(("zone", "skipped", "goes_on", "twice", "first"), CHANGES)
def test_a_night_that_skips_the_time_has_it_once_as_it_goes_on(
    zone: str, skipped: str, goes_on: str, twice: str, first: str
) -> None:
    when, at_us = due.parse(skipped, zone), us(goes_on.replace(" ", "T") + ":00")
    before, changed, after = islice(when.after(at_us - 2 * DAY_US), 1, 4)
    assert changed == at_us
    # A day before and after, by the wall clock.
    assert 23 * HOUR_US <= changed - before <= 25 * HOUR_US
    assert 22 * HOUR_US <= after - changed <= 25 * HOUR_US


@pytest.mark.parametrize(("zone", "skipped", "goes_on", "twice", "first"), CHANGES)
def test_a_night_that_has_the_time_twice_has_it_once_the_first_time(
    zone: str, skipped: str, goes_on: str, twice: str, first: str
) -> None:
    when, at_us = due.parse(twice, zone), us(first.replace(" ", "T") + ":00")
    assert [at - at_us for at in islice(when.after(at_us - DAY_US - 1), 1, 3)] == [
        0,
        timedelta(days=1) // timedelta(microseconds=1) + overlap_us(zone, at_us),
    ]
    # Also when somebody looks between the two.
    local = datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(zonedata.zone(zone))
    assert local.strftime("%-M %-H") == " ".join(twice.split()[:2])
    assert when.next_us(at_us + 10 * MINUTE_US) > at_us + 20 * HOUR_US
    assert when.next_us(at_us + overlap_us(zone, at_us) - MINUTE_US) > at_us + 20 * HOUR_US


def overlap_us(zone: str, at_us: int) -> int:
    """Return by how much the wall clock is set back within a day after that instant."""
    offsets = [
        datetime.fromtimestamp(at / 1e6, UTC).astimezone(zonedata.zone(zone)).utcoffset()
        for at in (at_us, at_us + DAY_US)
    ]
    return (offsets[0] - offsets[1]) // timedelta(microseconds=1)  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize(("zone", "skipped", "goes_on", "twice", "first"), CHANGES)
def test_an_hourly_one_is_due_every_hour_of_a_year(
    zone: str, skipped: str, goes_on: str, twice: str, first: str
) -> None:
    found = list(islice(due.parse("0 * * * *", zone).after(us("2026-01-01T00:00:00")), 8784))
    gaps = {later - earlier for earlier, later in pairwise(found)}
    # Lord Howe's hours are half an hour off afterwards.
    assert gaps <= {HOUR_US, 90 * MINUTE_US, 30 * MINUTE_US}
    if zone != "Australia/Lord_Howe":
        assert gaps == {HOUR_US}


def test_a_daily_one_is_due_once_a_local_date_for_years_in_every_zone_of_the_sample() -> None:
    for zone in ("America/Chicago", "America/St_Johns", "Africa/Cairo", "Pacific/Auckland", "America/Santiago"):
        for hour in range(4):
            found = islice(due.parse(f"daily {hour}:30", zone).after(us("2024-12-31T12:00:00")), 1200)
            dates = [datetime.fromtimestamp(at / 1e6, UTC).astimezone(zonedata.zone(zone)).date() for at in found]
            assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(dates))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "due is ''; it must be `daily 07:00`, `weekly mon 07:00`, `monthly 1 07:00` (a day from 1 to 28, or "
             "`last`), or five fields of cron such as `0 7 * * 1-5`"),
        ("daily", "due is 'daily'; it must be `daily 07:00`"),
        ("daily 24:00", "due has the time '24:00'; it must be a time of day from 00:00 to 23:59"),
        ("weekly 07:00", "due is 'weekly 07:00'"),
        ("weekly moon 07:00", "due is 'weekly moon 07:00'"),
        ("monthly 31 07:00", "due is 'monthly 31 07:00'"),
        ("0 7 * * 9", "due is '0 7 * * 9', which is no cron (bad day-of-week)"),
        ("61 7 * * *", "due is '61 7 * * *', which is no cron (bad minute)"),
        ("0 7 30 2 *", "due is '0 7 30 2 *', which is no cron (bad day-of-month)"),
        ("* * * * * *", "due is '* * * * * *'; it must be"),
        ("@daily", "due is '@daily'; it must be"),
        ("*/20 * * * *", "due is '*/20 * * * *', more often than once an hour; it must be at least an hour from"),
    ],
)  # fmt: skip
def test_a_wrong_due_time_is_refused_with_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        due.parse(text, "Etc/UTC")
    assert refused.value.message.startswith(said)
    assert list(refused.value.members["errors"]) == ["due"]  # type: ignore[call-overload]


def test_a_zone_that_is_none_is_refused_and_its_case_does_not_matter() -> None:
    assert due.parse("daily 07:00", "america/new york").zone == "America/New_York"
    with pytest.raises(Unprocessable, match=r"^zone is 'Mars/Base'; it must be the name of one"):
        due.parse("daily 07:00", "Mars/Base")


@pytest.mark.parametrize(
    ("name", "due_at", "zone", "first", "end"),
    [
        # Monday 07:00 in New York: the week before it.
        ("last_week", "2026-11-23T12:00:00", "America/New_York", "2026-11-16", "2026-11-23"),
        ("last_week", "2026-11-25T12:00:00", "America/New_York", "2026-11-16", "2026-11-23"),
        # Sunday evening in UTC is Monday in Tokyo already.
        ("last_week", "2026-11-22T22:00:00", "Asia/Tokyo", "2026-11-16", "2026-11-23"),
        ("last_day", "2026-03-01T12:00:00", "America/New_York", "2026-02-28", "2026-03-01"),
        ("last_month", "2026-03-01T12:00:00", "America/New_York", "2026-02-01", "2026-03-01"),
        ("last_month", "2026-01-31T12:00:00", "America/New_York", "2025-12-01", "2026-01-01"),
        ("last_30_days", "2026-03-01T12:00:00", "America/New_York", "2026-01-30", "2026-03-01"),
        ("last_7_days", "2026-03-01T12:00:00", "America/New_York", "2026-02-22", "2026-03-01"),
        ("last_90_days", "2026-03-01T12:00:00", "America/New_York", "2025-12-01", "2026-03-01"),
        ("this_month", "2026-02-13T12:00:00", "America/New_York", "2026-02-01", "2026-03-01"),
        ("this_week", "2026-11-22T22:00:00", "Asia/Tokyo", "2026-11-23", "2026-11-30"),
    ],
)
def test_windows_are_whole_dates_before_the_due_date(name: str, due_at: str, zone: str, first: str, end: str) -> None:
    assert due.window_at(name, us(due_at), zone) == {"from": first, "to": end, "name": name}


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("0 * * * *", "last_hour"),
        ("daily 07:00", "last_day"),
        ("0 7 * * 1-5", "last_day"),
        ("weekly fri 07:00", "last_week"),
        ("monthly last 07:00", "last_month"),
    ],
)
def test_the_usual_window_is_as_long_as_the_time_from_one_to_the_next(text: str, window: str) -> None:
    for day in range(7):
        assert due.usual_window(due.parse(text, "Europe/Berlin"), us("2026-11-23T12:00:00") + day * DAY_US) == window


def test_up_to_a_hundred_missed_times_are_listed() -> None:
    when = due.parse("daily 07:00", "Etc/UTC")
    first = us("2026-11-25T07:00:00")
    assert when.missed(first, first) == [first]
    assert when.missed(first, first + 3 * DAY_US) == [first + day * DAY_US for day in range(4)]
    year = due.parse("0 * * * *", "Etc/UTC").missed(first, first + 365 * DAY_US)
    assert (len(year), year[-1]) == (100, first + 365 * DAY_US)


def first_instant(zone: str, day: date, wall: time) -> int:
    """The first minute at which the wall clock of the zone shows that time, or a later one of that date: by looking."""
    clock = zonedata.zone(zone)
    begin = datetime.combine(day, wall, UTC) - (datetime.combine(day, wall, clock).utcoffset() or timedelta())
    for minute in range(-180, 181):
        moment = begin + timedelta(minutes=minute)
        local = moment.astimezone(clock)
        if local.date() == day and local.time() >= wall:
            return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    raise AssertionError(day)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Sydney", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("daily", lambda day: True),
        ("weekly sun", lambda day: day.weekday() == 6),
        ("monthly last", lambda day: (day + timedelta(days=1)).day == 1),
        ("monthly 28", lambda day: day.day == 28),
        ("cron * * 0,6", lambda day: day.weekday() >= 5),
        ("cron 1-8 3,4,10,11 *", lambda day: day.day <= 8 and day.month in (3, 4, 10, 11)),
    ],
)
def test_both_clock_changes_of_a_year_hold_up_and_repeat_nothing(
    zone: str, text: str, holds: Callable[[date], bool]
) -> None:
    # In one of the hours that a zone skips or has twice, on a Sunday of spring or autumn, and 29 February.
    days = [day for day in (date(2024, 1, 5) + timedelta(days=number) for number in range(360)) if holds(day)]
    for wall in (time(1, 45), time(2, 15), time(3, 0)):
        cron = f"{wall.minute} {wall.hour} {text[5:]}" if text.startswith("cron") else f"{text} {wall:%H:%M}"
        found = due.parse(cron, zone).after(first_instant(zone, date(2024, 1, 4), time(12)))
        assert list(islice(found, len(days))) == [first_instant(zone, day, wall) for day in days]
