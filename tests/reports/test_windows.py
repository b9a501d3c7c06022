"""Where windows lie: calendar ones in each zone against `zoneinfo`, by literal instants, and as dates that are given."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from brute_openings import EPOCH, to_utc
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from load_helpers import us
from report_helpers import asked, rows_of
from report_helpers import fleet as fleet

from storemon_flask.cli.report import report
from storemon_flask.clock import timestamp_text
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US
from storemon_flask.reports.request import ReportRequest, check, describe_windows, window_words
from storemon_flask.reports.windows import CALENDAR_WINDOWS, WINDOW_NAMES, Window, named_window, range_in_zone

ZONES = (
    "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Kiritimati", "Pacific/Apia",
    "America/Sao_Paulo", "America/Havana", "Etc/UTC",
)  # fmt: skip
# Which dates a window has, by today's date: literally, of every date that it could be.
HAS: dict[str, Callable[[date, date], bool]] = {
    "today": lambda day, today: day == today,
    "yesterday": lambda day, today: (today - day).days == 1,
    "this_week": lambda day, today: day.isocalendar()[:2] == today.isocalendar()[:2],
    "last_week_calendar": lambda day, today: day.isocalendar()[:2] == (today - timedelta(days=7)).isocalendar()[:2],
    "this_month": lambda day, today: (day.year, day.month) == (today.year, today.month),
    "last_month": lambda day, today: 12 * day.year + day.month == 12 * today.year + today.month - 1,
    "last_7_days": lambda day, today: 1 <= (today - day).days <= 7,
    "last_30_days": lambda day, today: 1 <= (today - day).days <= 30,
    "last_90_days": lambda day, today: 1 <= (today - day).days <= 90,
}


def dates_of(name: str, today: date) -> tuple[date, date]:
    """Return the first and the last date of a window."""
    near = [today + timedelta(days=number) for number in range(-100, 40)]
    dates = [day for day in near if HAS[name](day, today)]
    assert dates == [dates[0] + timedelta(days=number) for number in range(len(dates))]
    return dates[0], dates[-1]


def local_date(zone: str, as_of_us: int) -> date:
    """Return the date on the wall at an instant."""
    return (EPOCH + timedelta(microseconds=as_of_us)).astimezone(ZoneInfo(zone)).date()


def slow_range(name: str, zone: str, as_of_us: int) -> tuple[int, int]:
    """Return from when to when a window goes, by `zoneinfo`."""
    first, last = dates_of(name, local_date(zone, as_of_us))
    return to_utc(first, 0, zone), min(to_utc(last + timedelta(days=1), 0, zone), as_of_us)


@pytest.mark.parametrize(
    ("zone", "as_of", "name", "first", "last"),
    [
        # Sunday 07:00, on the day that has 25 hours.
        ("America/New_York", "2024-11-03T12:00:00", "today", "2024-11-03T04:00:00", "2024-11-03T12:00:00"),
        ("America/New_York", "2024-11-03T12:00:00", "yesterday", "2024-11-02T04:00:00", "2024-11-03T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "yesterday", "2024-11-03T04:00:00", "2024-11-04T05:00:00"),
        ("America/New_York", "2024-11-03T12:00:00", "this_week", "2024-10-28T04:00:00", "2024-11-03T12:00:00"),
        ("America/New_York", "2024-11-03T12:00:00", "last_week_calendar", "2024-10-21T04:00:00", "2024-10-28T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_week_calendar", "2024-10-28T04:00:00", "2024-11-04T05:00:00"),
        ("America/New_York", "2024-11-03T12:00:00", "this_month", "2024-11-01T04:00:00", "2024-11-03T12:00:00"),
        ("America/New_York", "2024-11-03T12:00:00", "last_month", "2024-10-01T04:00:00", "2024-11-01T04:00:00"),
        ("America/New_York", "2024-12-01T12:00:00", "last_month", "2024-11-01T04:00:00", "2024-12-01T05:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_7_days", "2024-10-28T04:00:00", "2024-11-04T05:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_30_days", "2024-10-05T04:00:00", "2024-11-04T05:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_90_days", "2024-08-06T04:00:00", "2024-11-04T05:00:00"),
        # The first instant of a date: nothing of it is over yet.
        ("Europe/Berlin", "2024-10-27T22:00:00", "today", "2024-10-26T22:00:00", "2024-10-27T22:00:00"),
        ("Europe/Berlin", "2024-10-27T23:00:00", "today", "2024-10-27T23:00:00", "2024-10-27T23:00:00"),
        ("Europe/Berlin", "2024-10-27T23:00:00", "this_week", "2024-10-27T23:00:00", "2024-10-27T23:00:00"),
        ("Europe/Berlin", "2024-10-27T23:00:00", "yesterday", "2024-10-26T22:00:00", "2024-10-27T23:00:00"),
        # Half an hour is skipped on 6 October.
        ("Australia/Lord_Howe", "2024-10-07T00:00:00", "yesterday", "2024-10-05T13:30:00", "2024-10-06T13:00:00"),
        # Monday already, by fourteen hours.
        ("Pacific/Kiritimati", "2024-11-03T12:00:00", "this_week", "2024-11-03T10:00:00", "2024-11-03T12:00:00"),
        ("Pacific/Kiritimati", "2024-11-03T12:00:00", "last_month", "2024-09-30T10:00:00", "2024-10-31T10:00:00"),
        # There was no 30 December 2011: it is a date of a window, and empty.
        ("Pacific/Apia", "2011-12-30T22:00:00", "yesterday", "2011-12-30T10:00:00", "2011-12-30T10:00:00"),
        ("Pacific/Apia", "2011-12-30T22:00:00", "last_7_days", "2011-12-24T10:00:00", "2011-12-30T10:00:00"),
        ("Pacific/Apia", "2012-01-01T22:00:00", "last_month", "2011-12-01T10:00:00", "2011-12-31T10:00:00"),
        ("Etc/UTC", "2024-03-01T00:00:00", "last_month", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("Etc/UTC", "2024-01-15T00:00:00", "last_month", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
    ],
)  # fmt: skip
def test_a_calendar_window_is_dates_of_its_zone(zone: str, as_of: str, name: str, first: str, last: str) -> None:
    assert range_in_zone(named_window(name), zone, us(as_of)) == (us(first), us(last))
    assert slow_range(name, zone, us(as_of)) == (us(first), us(last))


# Days around those on which a clock or a calendar jumps, and any other.
JUMPS = ("2011-12-30", "2018-02-18", "2018-11-04", "2024-03-10", "2024-03-31", "2024-10-06", "2024-10-27", "2024-11-03")
INSTANTS = st.one_of(
    st.integers(us("1990-01-01T00:00:00") // MINUTE_US, us("2030-01-01T00:00:00") // MINUTE_US).map(
        lambda minute: minute * MINUTE_US
    ),
    st.builds(
        lambda day, minute: us(f"{day}T00:00:00") + minute * MINUTE_US,
        st.sampled_from(JUMPS),
        st.integers(-4 * 1440, 40 * 1440),
    ),
)


@given(st.sampled_from(ZONES), st.sampled_from(CALENDAR_WINDOWS), INSTANTS)
@hypothesis_settings(max_examples=400)
@example("Pacific/Apia", "last_7_days", us("2011-12-30T10:00:00"))
@example("America/Havana", "today", us("2024-11-03T05:30:00"))
@example("America/Sao_Paulo", "yesterday", us("2018-11-04T03:00:00"))
def test_every_calendar_window_is_what_zoneinfo_says(zone: str, name: str, as_of_us: int) -> None:
    assert range_in_zone(named_window(name), zone, as_of_us) == slow_range(name, zone, as_of_us)


@given(st.sampled_from(ZONES), INSTANTS)
def test_windows_fit_together(zone: str, as_of_us: int) -> None:
    lies = {name: range_in_zone(named_window(name), zone, as_of_us) for name in WINDOW_NAMES}
    assert all(first <= last <= as_of_us for first, last in lies.values())
    for before, after in (("yesterday", "today"), ("last_week_calendar", "this_week"), ("last_month", "this_month")):
        assert lies[before][1] == lies[after][0]
        assert lies[after][1] == as_of_us
    assert {lies[name][1] for name in ("last_7_days", "last_30_days", "last_90_days")} == {lies["today"][0]}
    assert lies["last_week"] == (as_of_us - WEEK_US, as_of_us)


def test_a_store_that_moved_has_the_dates_of_where_it_was() -> None:
    moved = "America/New_York 2024-10-02 Asia/Tokyo"
    # 2 October begins in Tokyo while it is 11:00 of the 1st in New York: that date has 11 hours.
    as_of_us = us("2024-10-02T03:00:00")
    assert range_in_zone(named_window("yesterday"), moved, as_of_us) == (
        us("2024-10-01T04:00:00"), us("2024-10-01T15:00:00"),
    )  # fmt: skip
    assert range_in_zone(named_window("today"), moved, as_of_us) == (us("2024-10-01T15:00:00"), as_of_us)


AS_OF = "2024-10-10T13:20:00Z"


@pytest.mark.parametrize(
    "more", [{}, {"by": "day"}, {"totals": True}, {"kind": "outages", "columns": "classic"}, {"method": "previous"}]
)
def test_a_calendar_window_is_the_same_as_its_dates(fleet: Database, client: FlaskClient, more: dict[str, Any]) -> None:
    zones = sorted({row["timezone"] for row in rows_of(asked(client, columns="full"))})
    assert len(zones) > 2
    rows = 0
    for name in ("this_week", "last_7_days", "last_month") if more else CALENDAR_WINDOWS:
        for zone in zones[:3]:
            first, last = dates_of(name, local_date(zone, us(AS_OF[:-1])))
            dates = {"from": str(first), "to": str(last + timedelta(days=1)), "name": name}
            body = {"as_of": AS_OF, "columns": "full", "zones": [zone], **more}
            text = asked(client, **body, windows=[name])
            assert text == asked(client, **body, windows=[dates])
            rows += text.count("\n") - 1
    assert rows > 20


def test_every_name_is_in_the_help_and_has_words() -> None:
    (option,) = [one for one in report.params if one.name == "windows"]
    for name in WINDOW_NAMES:
        assert name in option.help  # type: ignore[attr-defined]
        assert "_" not in window_words(name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["today", "this_week"], "Today and this week"),
        (["last_week_calendar"], "The last calendar week"),
        (["last_month", "last_7_days"], "Last month and the last 7 days"),
        (["last_hour", "yesterday"], "The last hour and yesterday"),
    ],
)
def test_windows_are_described_in_words(names: list[str], words: str) -> None:
    assert describe_windows(check(ReportRequest(fields={"windows": names}))) == words


def test_other_windows_lie_where_they_are_said_to() -> None:
    as_of_us = us("2024-10-10T13:20:00")
    for name, length_us in (("last_hour", HOUR_US), ("last_day", DAY_US), ("last_week", WEEK_US)):
        assert range_in_zone(named_window(name), "Etc/UTC", as_of_us) == (as_of_us - length_us, as_of_us)
    instants = Window("mine", 0, as_of_us - DAY_US, as_of_us + DAY_US)
    assert range_in_zone(instants, "Asia/Tokyo", as_of_us) == (as_of_us - DAY_US, as_of_us)
    dates = Window("mine", 0, us("2024-10-01T00:00:00"), us("2024-10-02T00:00:00"), local=True)
    first_us, end_us = range_in_zone(dates, "Asia/Tokyo", as_of_us)
    assert (timestamp_text(first_us), end_us - first_us) == ("2024-09-30T15:00:00.000000Z", DAY_US)


# The period before


def slow_before(first: date, last: date, zone: str, as_of_us: int, of_month: bool) -> tuple[int, int]:
    """Return from when to when the period before those dates goes, by `zoneinfo`."""
    count = (last - first).days + 1
    month_before = (first - timedelta(days=1)).replace(day=1)
    begin = month_before if of_month else first - timedelta(days=count)
    end_us = to_utc(first, 0, zone)
    if to_utc(last + timedelta(days=1), 0, zone) > as_of_us:
        wall = (EPOCH + timedelta(microseconds=as_of_us)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        elapsed_s = (wall - datetime.combine(first, time.min)) // timedelta(seconds=1)
        days, seconds = divmod(max(elapsed_s, 0), 86_400)
        end_us = min(end_us, to_utc(begin + timedelta(days=days), seconds, zone))
    begin_us = to_utc(begin, 0, zone)
    return begin_us, max(begin_us, min(end_us, as_of_us))


@pytest.mark.parametrize(
    ("zone", "as_of", "name", "first", "last"),
    [
        # Monday 07:00, after the Sunday that has 25 hours.
        ("America/New_York", "2024-11-04T12:00:00", "today", "2024-11-03T04:00:00", "2024-11-03T12:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "yesterday", "2024-11-02T04:00:00", "2024-11-03T04:00:00"),
        ("America/New_York", "2024-11-05T12:00:00", "yesterday", "2024-11-03T04:00:00", "2024-11-04T05:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "this_week", "2024-10-28T04:00:00", "2024-10-28T11:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_week_calendar", "2024-10-21T04:00:00", "2024-10-28T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "this_month", "2024-10-01T04:00:00", "2024-10-04T11:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_month", "2024-09-01T04:00:00", "2024-10-01T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_7_days", "2024-10-21T04:00:00", "2024-10-28T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_30_days", "2024-09-05T04:00:00", "2024-10-05T04:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_hour", "2024-11-04T10:00:00", "2024-11-04T11:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_day", "2024-11-02T12:00:00", "2024-11-03T12:00:00"),
        ("America/New_York", "2024-11-04T12:00:00", "last_week", "2024-10-21T12:00:00", "2024-10-28T12:00:00"),
        # A shorter month ends at its end.
        ("Etc/UTC", "2024-03-05T10:00:00", "this_month", "2024-02-01T00:00:00", "2024-02-05T10:00:00"),
        ("Etc/UTC", "2024-03-31T10:00:00", "this_month", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("Etc/UTC", "2024-03-31T10:00:00", "last_month", "2024-01-01T00:00:00", "2024-02-01T00:00:00"),
        # Sunday has no 02:30, which is then 03:30.
        ("Europe/Berlin", "2024-04-01T00:30:00", "today", "2024-03-30T23:00:00", "2024-03-31T01:30:00"),
        ("Pacific/Apia", "2011-12-30T22:00:00", "today", "2011-12-30T10:00:00", "2011-12-30T10:00:00"),
    ],
)  # fmt: skip
def test_the_period_before_is_of_the_same_kind(zone: str, as_of: str, name: str, first: str, last: str) -> None:
    before = range_in_zone(replace(named_window(name), previous=True), zone, us(as_of))
    assert tuple(map(timestamp_text, before)) == (f"{first}.000000Z", f"{last}.000000Z")


@pytest.mark.parametrize(
    ("window", "first", "last"),
    [
        ({"from": "2024-11-01", "to": "2024-11-04"}, "2024-10-29T00:00:00", "2024-11-01T00:00:00"),
        # They go on: up to Monday noon, as is the fourth day.
        ({"from": "2024-11-01", "to": "2024-11-08"}, "2024-10-25T00:00:00", "2024-10-28T12:00:00"),
        ({"from": "2024-10-01", "to": "2024-11-01"}, "2024-08-31T00:00:00", "2024-10-01T00:00:00"),
        ({"from": "2024-10-01", "to": "2024-11-01", "name": "last_month"}, "2024-09-01T00:00:00", "2024-10-01T00:00:00"),
        ({"from": "2024-10-01", "to": "2024-10-31", "name": "last_month"}, "2024-09-01T00:00:00", "2024-10-01T00:00:00"),
        ({"from": "2024-10-02", "to": "2024-10-04", "name": "last_month"}, "2024-09-30T00:00:00", "2024-10-02T00:00:00"),
        ({"from": "2024-11-01T10:00Z", "to": "2024-11-01T12:30Z"}, "2024-11-01T07:30:00", "2024-11-01T10:00:00"),
    ],
)  # fmt: skip
def test_the_period_before_given_dates_is_as_long(window: dict[str, str], first: str, last: str) -> None:
    query = check(ReportRequest(fields={"windows": [window], "compare": "previous"}))
    now, before = query.measured_windows
    assert (now.previous, before.previous, now.name) == (False, True, before.name)
    lies = range_in_zone(before, "Etc/UTC", us("2024-11-04T12:00:00"))
    assert tuple(map(timestamp_text, lies)) == (f"{first}.000000Z", f"{last}.000000Z")


@given(st.sampled_from(ZONES), st.sampled_from(CALENDAR_WINDOWS), INSTANTS)
@hypothesis_settings(max_examples=400)
@example("America/New_York", "today", us("2024-11-04T06:30:00"))
@example("Pacific/Apia", "last_month", us("2012-01-30T22:00:00"))
def test_every_period_before_is_what_zoneinfo_says(zone: str, name: str, as_of_us: int) -> None:
    first, last = dates_of(name, local_date(zone, as_of_us))
    before = range_in_zone(replace(named_window(name), previous=True), zone, as_of_us)
    assert before == slow_before(first, last, zone, as_of_us, name.endswith("_month"))


GIVEN = [
    {"from": "2024-10-02", "to": "2024-10-05", "name": "three days"},
    {"from": "2024-10-02T09:00:00Z", "to": "2024-10-05T09:30:15Z", "name": "a stretch"},
]


def before_as_asked(window: str | dict[str, str], zone: str, as_of_us: int) -> dict[str, str]:
    """Return the period before a window, as somebody would ask for it directly."""
    if isinstance(window, dict) and len(window["from"]) > 10:
        first_us, end_us = us(window["from"][:-1]), us(window["to"][:-1])
        return {"name": window["name"], "from": timestamp_text(2 * first_us - end_us), "to": window["from"]}
    if isinstance(window, dict):
        first, end = (date.fromisoformat(window[edge]) for edge in ("from", "to"))
        return {"name": window["name"], "from": str(first - (end - first)), "to": str(first)}
    if window in CALENDAR_WINDOWS:
        first, last = dates_of(window, local_date(zone, as_of_us))
        lies = slow_before(first, last, zone, as_of_us, window.endswith("_month"))
    else:
        length_us = {"last_hour": HOUR_US, "last_day": DAY_US, "last_week": WEEK_US}[window]
        lies = (as_of_us - 2 * length_us, as_of_us - length_us)
    return {"name": window, **dict(zip(("from", "to"), map(timestamp_text, lies), strict=True))}


@pytest.mark.parametrize("more", [{}, {"columns": "classic", "method": "previous"}])
@pytest.mark.parametrize("as_of", ["2024-10-10T13:20:00Z", "2024-10-07T06:30:15Z"])
def test_the_columns_of_the_period_before_are_a_report_of_it(
    fleet: Database, client: FlaskClient, as_of: str, more: dict[str, Any]
) -> None:
    as_of_us, names = us(as_of[:-1]), [*WINDOW_NAMES, *GIVEN]
    compared = unknown = 0
    for zone in sorted({row["timezone"] for row in rows_of(asked(client, columns="full"))}):
        body = {"as_of": as_of, "columns": "full", "zones": [zone], "totals": True, **more}
        rows = rows_of(asked(client, **body, windows=names, compare="previous"))
        plain = rows_of(asked(client, **{**body, "columns": "full"}, windows=names))
        directly = [before_as_asked(window, zone, as_of_us) for window in names]
        before = rows_of(asked(client, **{**body, "columns": "full"}, windows=directly))
        for row, now, then in zip(rows, plain, before, strict=True):
            own = [name for name in now if name in row and name.startswith(("uptime_", "downtime_"))]
            assert [row[name] for name in own] == [now[name] for name in own]
            for window in (one if isinstance(one, str) else one["name"] for one in names):
                percents = [one[f"uptime_percent_{window}"] for one in (now, then)]
                change = str(Decimal(percents[0]) - Decimal(percents[1])) if all(percents) else ""
                assert row[f"uptime_percent_previous_{window}"] == percents[1], (zone, window)
                assert row[f"change_points_{window}"] == change
                compared, unknown = compared + bool(change), unknown + (not change)
                for name in () if more else ("downtime", "unknown", "business"):
                    assert row[f"{name}_previous_{window}"] == then[f"{name}_{window}"], (zone, window, name)
    assert compared > 200
    assert unknown > 40


def test_the_columns_follow_those_of_the_windows(fleet: Database, client: FlaskClient) -> None:
    text = asked(client, windows=["today", "last_month"], compare="previous")
    assert text.splitlines()[0] == (
        "store_id,uptime_today,uptime_last_month,downtime_today,downtime_last_month,"
        "uptime_percent_today,uptime_percent_previous_today,change_points_today,"
        "uptime_percent_last_month,uptime_percent_previous_last_month,change_points_last_month"
    )
    full = asked(client, windows=["today"], compare="previous", columns="full").splitlines()[0]
    assert (
        "uptime_high_today,uptime_percent_previous_today,change_points_today,"
        "downtime_previous_today,unknown_previous_today,business_previous_today,uptime_percent_likely_low_today,"
    ) in full
    answer = client.post("/trigger_report", json={"windows": ["last_week"], "compare": "previous", "totals": True}).json
    found = client.get(f"/get_report?report_id={answer['report_id']}&format=json").json
    assert found["method"]["compare"] == "previous"
    changes = [row["change_points_last_week"] for row in found["rows"]]
    assert min(change for change in changes if change is not None) < 0
    assert all(change is None or isinstance(change, float) for change in changes)


def test_before_1970_nothing_is_known(fleet: Database, client: FlaskClient) -> None:
    windows = ["last_hour", "last_90_days", "this_month"]
    body = {"windows": windows, "compare": "previous", "columns": "full"}
    rows = rows_of(asked(client, as_of="1970-01-01T00:30:00Z", **body))
    assert len(rows) == 40
    assert {row[f"change_points_{name}"] for row in rows for name in windows} == {""}
    long = {"from": "1970-01-01", "to": "1971-02-01", "name": "first"}
    rows = rows_of(asked(client, **{**body, "windows": [long]}))
    assert {row["uptime_percent_previous_first"] for row in rows} == {""}


def test_the_overview_has_the_numbers_of_a_report_against_the_period_before(
    fleet: Database, client: FlaskClient
) -> None:
    overview = client.get("/api/v1/overview").json
    windows = ["today", "this_week", "this_month"]
    body = {"as_of": overview["as_of"], "windows": windows, "compare": "previous", "totals": True, "columns": "full"}
    rows = rows_of(asked(client, **body))
    totals = {row["group"].removeprefix("'"): row for row in rows if row["kind"] != "store"}
    shown = {group["group"]: group for group in overview["groups"] if group["group"]} | {"": overview["fleet"]}
    assert sorted(totals) == sorted(shown) == ["", "=East", "North", "South"]
    for group, row in totals.items():
        cells = {f"uptime_percent_{window}": row[f"uptime_percent_{window}"] for window in windows}
        cells["uptime_percent_previous_this_week"] = row["uptime_percent_previous_this_week"]
        cells["change"] = row["change_points_this_week"]
        assert {name: shown[group][name] for name in cells} == {name: float(cell) for name, cell in cells.items()}
