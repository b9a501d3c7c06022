"""When notices become a message: no notice is lost or repeated, and no channel gets too many messages."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask import zonedata
from storemon_flask.clock import parse_timestamp, timestamp_text
from storemon_flask.database.messages import Notice
from storemon_flask.delivery.batches import (
    DailyTime,
    Decision,
    Pace,
    QuietHours,
    decide,
    parse_daily_time,
    parse_quiet_hours,
)
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, SECOND_US

# Changes of the clock at 2:00, at midnight, by half an hour, in the other hemisphere, and none.
ZONES = ("America/New_York", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata")
START = parse_timestamp("2026-11-28T12:00:00Z")
NO_LIMITS = Pace(0, 0)


def notice(number: int, made_us: int, event: str = "opened", incident: int | None = None) -> Notice:
    return Notice(number, 1, number if incident is None else incident, event, made_us)


def run(made: list[int], pace: Pace, until_us: int | None = None) -> list[tuple[int, Decision]]:
    """Return the messages, with their times, of a courier that looks at each notice and whenever asked to look again."""
    coming = [notice(number, made_us) for number, made_us in enumerate(sorted(made))]
    waiting: list[Notice] = []
    written: list[tuple[int, Decision]] = []
    look_again_us: int | None = None
    while coming or waiting:
        times = [*([coming[0].made_us] if coming else []), *([look_again_us] if look_again_us is not None else [])]
        now_us = min(times)
        if until_us is not None and now_us > until_us:
            break
        while coming and coming[0].made_us <= now_us:
            waiting.append(coming.pop(0))
        recent = [at_us for at_us, _ in written if at_us > now_us - DAY_US]
        decision = decide(waiting, recent, now_us, pace)
        was_told_to_look = now_us == look_again_us
        look_again_us = decision.look_again_us
        if decision.notices:
            written.append((now_us, decision))
            waiting = [one for one in waiting if one not in decision.notices]
            assert look_again_us is None
        else:
            assert look_again_us is not None
            assert look_again_us > now_us, "a courier must not look again and again at one moment"
            assert not was_told_to_look, "a time to look again must be one to write at"
    return written


# Offsets in seconds: storms within minutes, and news over two days.
MADE = st.one_of(
    st.lists(st.integers(0, 4 * 3600), min_size=1, max_size=120),
    st.lists(st.integers(0, 2 * 86_400), min_size=1, max_size=60),
    st.integers(5, 90).map(lambda step: list(range(0, 6 * 3600, 60 * step // 5))),
)
PACES = st.builds(
    Pace,
    group_us=st.sampled_from((0, 60, 600)).map(lambda seconds: seconds * SECOND_US),
    interval_us=st.sampled_from((0, 60, 300, 3000)).map(lambda seconds: seconds * SECOND_US),
)


@settings(max_examples=150, deadline=None)
@given(MADE, PACES)
def test_no_notice_is_lost_or_repeated_and_messages_keep_the_limits(offsets: list[int], pace: Pace) -> None:
    made = [START + offset * SECOND_US for offset in offsets]
    messages = run(made, pace)

    said = [one.id for _, decision in messages for one in decision.notices]
    assert sorted(said) == list(range(len(made)))
    times = [at_us for at_us, _ in messages]
    assert all(later - before >= max(pace.interval_us, 1) for before, later in pairwise(times))
    for index, at_us in enumerate(times):
        assert index < 12 or at_us - times[index - 12] >= HOUR_US


@settings(max_examples=150, deadline=None)
@given(MADE, PACES)
def test_a_message_is_as_early_as_it_may_be(offsets: list[int], pace: Pace) -> None:
    last_us, hourly = None, False
    for at_us, decision in run([START + offset * SECOND_US for offset in offsets], pace):
        oldest_us = min(one.made_us for one in decision.notices)
        if not decision.digest:
            due_us = oldest_us + pace.group_us
            assert at_us == (due_us if last_us is None else max(due_us, last_us + pace.interval_us))
        else:
            # An hour after the twelfth one, or after the digest before it.
            assert hourly
            assert last_us is not None
            assert at_us == max(oldest_us + pace.group_us, last_us + max(HOUR_US, pace.interval_us))
        last_us, hourly = at_us, decision.limited or decision.digest


def test_one_message_says_all_of_a_load() -> None:
    pace = Pace(60 * SECOND_US, 300 * SECOND_US)
    ((at_us, decision),) = run([START + second * 1000 for second in range(5000)], pace)
    assert at_us == START + 60 * SECOND_US
    assert len(decision.notices) == 5000
    assert not decision.digest


def test_an_end_waits_no_longer_than_the_batch() -> None:
    pace = Pace(60 * SECOND_US, 300 * SECOND_US)
    opened, resolved = notice(1, START), notice(2, START + 59 * SECOND_US, "resolved", incident=1)
    decision = decide([opened, resolved], [], START + 60 * SECOND_US, pace)
    assert decision.notices == (opened, resolved)


def test_the_twelfth_message_in_an_hour_says_that_the_rest_follows_hourly() -> None:
    pace = Pace(60 * SECOND_US, 300 * SECOND_US)
    # News every minute for four hours, and once more when it was calm for two.
    messages = run([START + minute * MINUTE_US for minute in (*range(240), 400)], pace)
    times = [(at_us - START) // MINUTE_US for at_us, _ in messages]
    assert times == [*range(1, 57, 5), 56 + 60, 56 + 120, 56 + 180, 56 + 240, 401]
    assert [index for index, (_, decision) in enumerate(messages) if decision.limited] == [11]
    assert [decision.digest for _, decision in messages] == [False] * 12 + [True] * 4 + [False]


def test_few_messages_are_never_limited() -> None:
    pace = Pace(0, 0)
    messages = run([START + 330 * second * SECOND_US for second in range(60)], pace)
    assert len(messages) == 60
    assert not any(decision.limited or decision.digest for _, decision in messages)


def test_without_notices_there_is_nothing_to_wait_for() -> None:
    assert decide([], [START], START, NO_LIMITS) == Decision()


@pytest.mark.parametrize("pace", [Pace(60 * SECOND_US, 300 * SECOND_US), Pace(0, 0, parse_daily_time("08:00 UTC"))])
def test_a_clock_set_back_delays_nothing(pace: Pace) -> None:
    # The clock was a week ahead when the notice was made and the last message written.
    decision = decide([notice(1, START + 7 * DAY_US)], [START + 7 * DAY_US], START, pace)
    assert len(decision.notices) == 1


def test_a_machine_that_slept_says_all_at_once() -> None:
    pace = Pace(60 * SECOND_US, 300 * SECOND_US)
    waiting = [notice(number, START + number * HOUR_US) for number in range(3)]
    assert decide(waiting, [], START + 3 * DAY_US, pace) == Decision(tuple(waiting))


def wall(at_us: int, zone: str) -> datetime:
    """Return the wall clock, by the standard library."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(zonedata.zone(zone)).replace(tzinfo=None)


def first_shown_us(day: datetime, minute: int, zone: str) -> int:
    """Return the first instant, minute by minute, at which the wall clock shows that time of a day or a later one."""
    wanted = day + timedelta(minutes=minute)
    at_us = (wanted - datetime(1970, 1, 1)) // timedelta(minutes=1) * MINUTE_US - 15 * HOUR_US
    while wall(at_us, zone) < wanted:
        at_us += MINUTE_US
    return at_us


# Around both changes of the clocks there, and at any other time.
INSTANTS = st.one_of(
    st.sampled_from(
        ("2026-03-08", "2026-11-01", "2026-03-29", "2026-10-25", "2026-04-05", "2026-09-06", "2026-10-04", "2026-04-24")
    ).flatmap(lambda day: st.integers(-36 * 60, 60 * 60).map(lambda m: parse_timestamp(day) + m * MINUTE_US)),
    st.integers(0, 2 * 365 * 24 * 60).map(lambda m: START + m * MINUTE_US),
)
MINUTES = st.one_of(st.integers(0, 24 * 60 - 1), st.integers(0, 200))


@settings(max_examples=100, deadline=None)
@given(INSTANTS, MINUTES, st.sampled_from(ZONES))
def test_a_digest_comes_when_the_clock_first_shows_its_time(made_us: int, minute: int, zone: str) -> None:
    pace = Pace(60 * SECOND_US, 0, DailyTime(minute, zone))
    ((at_us, decision),) = run([made_us], pace)
    today = datetime.combine(wall(made_us, zone).date(), datetime.min.time())
    due = [first_shown_us(today + timedelta(days=days), minute, zone) for days in (-1, 0, 1)]
    assert at_us == min(due_us for due_us in due if due_us >= made_us)
    assert decision.digest
    assert not decision.limited


@settings(max_examples=100, deadline=None)
@given(INSTANTS, MINUTES, MINUTES, st.sampled_from(ZONES))
def test_nothing_is_sent_in_quiet_hours_and_all_at_their_end(made_us: int, start: int, end: int, zone: str) -> None:
    if start == end:
        end = (start + 60) % (24 * 60)
    quiet = QuietHours(start, end, zone)
    ((at_us, decision),) = run([made_us], Pace(0, 0, quiet=quiet))
    today = datetime.combine(wall(made_us, zone).date(), datetime.min.time())
    days = [today + timedelta(days=number) for number in range(-2, 3)]
    spans = [
        (first_shown_us(day, start, zone), first_shown_us(day + timedelta(days=end <= start), end, zone))
        for day in days
    ]  # fmt: skip
    expected_us = made_us
    for since_us, until_us in spans:
        if since_us <= expected_us < until_us:
            expected_us = until_us
    assert at_us == expected_us
    assert decision.digest == (expected_us > made_us)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=60), st.sampled_from(ZONES), st.booleans())
def test_nothing_is_lost_with_digests_and_quiet_hours(offsets: list[int], zone: str, daily: bool) -> None:
    # Across the change in spring, and another one in autumn, in New York.
    for start in ("2026-03-07", "2026-10-31"):
        made = [parse_timestamp(start) + offset * SECOND_US for offset in offsets]
        digest = DailyTime(8 * 60, zone) if daily else None
        quiet = QuietHours(22 * 60, 7 * 60, zone)
        messages = run(made, Pace(60 * SECOND_US, 300 * SECOND_US, digest, quiet))
        assert sorted(one.id for _, decision in messages for one in decision.notices) == list(range(len(made)))
        for at_us, _ in messages:
            assert 7 <= wall(at_us, zone).hour < 22
        if daily:
            assert {wall(at_us, zone).strftime("%H:%M:%S") for at_us, _ in messages} == {"08:00:00"}


@pytest.mark.parametrize(
    ("text", "from_time", "expected"),
    [
        # Skipped: when the clock skips it. Shown twice: the first time.
        ("02:30 America/New_York", "2026-03-08T00:00:00Z", "2026-03-08T07:00:00Z"),
        ("01:30 America/New_York", "2026-11-01T00:00:00Z", "2026-11-01T05:30:00Z"),
        ("01:30 America/New_York", "2026-11-01T05:31:00Z", "2026-11-02T06:30:00Z"),
        ("08:00 America/New_York", "2026-03-07T14:00:00Z", "2026-03-08T12:00:00Z"),
        ("08:00 America/New_York", "2026-10-31T13:00:00Z", "2026-11-01T13:00:00Z"),
        ("24:00 Europe/Berlin", "2026-11-28T12:00:00Z", "2026-11-28T23:00:00Z"),
        ("8:05 asia/kolkata", "2026-11-28T12:00:00Z", "2026-11-29T02:35:00Z"),
    ],
)
def test_the_time_of_a_digest(text: str, from_time: str, expected: str) -> None:
    assert timestamp_text(parse_daily_time(text).next_us(parse_timestamp(from_time))) == expected.replace(
        "Z", ".000000Z"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("08:00 America/New_York", "08:00 America/New_York"),
        ("  8:00   america/new york ", "08:00 America/New_York"),
        ("24:00 UTC", "00:00 UTC"),
    ],
)
def test_a_time_of_day_is_read(text: str, shown: str) -> None:
    assert str(parse_daily_time(text)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("22:00-08:00 America/New_York", "22:00-08:00 America/New_York"),
        ("22:00 - 8:00 America/New_York", "22:00-08:00 America/New_York"),
        ("22:00–24:00 America/Argentina/Buenos_Aires", "22:00-00:00 America/Argentina/Buenos_Aires"),
        ("00:00-08:00 Etc/GMT-3", "00:00-08:00 Etc/GMT-3"),
    ],
)
def test_quiet_hours_are_read(text: str, shown: str) -> None:
    assert str(parse_quiet_hours(text)) == shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a time of day must be given, such as 08:00 America/New_York"),
        ("8am America/New_York", "'8am' is no time of day from 00:00 to 24:00; write it such as 08:00 America/New_York"),
        ("8 UTC", "'8' is no time of day from 00:00 to 24:00; write it such as 08:00 America/New_York"),
        ("24:01 UTC", "'24:01' is no time of day from 00:00 to 24:00; write it such as 08:00 America/New_York"),
        ("08:60 UTC", "'08:60' is no time of day from 00:00 to 24:00; write it such as 08:00 America/New_York"),
        ("07:30", "the time zone is missing; write it behind the time, such as 07:30 America/New_York"),
        ("07:30 America/NewYork", "'America/NewYork' is no IANA time zone; did you mean America/New_York?"),
        ("07:30 Eastern Standard Time", "'Eastern Standard Time' is no IANA time zone; did you mean America/New_York?"),
        ("07:30 Xyzzy", "'Xyzzy' is no IANA time zone; write one such as 07:30 America/New_York"),
    ],
)  # fmt: skip
def test_a_wrong_time_of_day_is_explained(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        parse_daily_time(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "quiet hours must be given, such as 22:00-08:00 America/New_York"),
        ("22:00 America/New_York", "'22:00' has no end; write when they begin and end, such as 22:00-08:00 America/New_York"),
        ("22:00-8 UTC", "'8' is no time of day from 00:00 to 24:00; write it such as 22:00-08:00 America/New_York"),
        ("08:00-08:00 UTC", "'08:00-08:00' would be quiet always; leave some time to be told, such as 22:00-08:00 America/New_York"),
        ("00:00-24:00 UTC", "'00:00-24:00' would be quiet always; leave some time to be told, such as 22:00-08:00 America/New_York"),
        ("22:00-08:00", "the time zone is missing; write it behind the time, such as 22:00-08:00 America/New_York"),
    ],
)  # fmt: skip
def test_wrong_quiet_hours_are_explained(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        parse_quiet_hours(text)
