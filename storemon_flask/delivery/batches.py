"""Decide when a channel's notices go into a message: many notices in one message, and not too many messages.

A batch waits for the group time after its first notice, and for the interval after the channel's last message. It holds
everything that waits then, what began and what is over, so that an end waits no longer than the rest. After the twelfth
message within an hour a channel hears once an hour, until an hour passes without news. A channel with a digest hears
once a day; in quiet hours nothing is sent, and what was held back comes at their end.

What a clock that was ahead wrote, before it was set back, neither waits nor holds anything up.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Final

from storemon_flask import zonedata
from storemon_flask.clock import EPOCH, utc_datetime
from storemon_flask.database.channels import Channel
from storemon_flask.database.messages import Notice
from storemon_flask.model import HOUR_US, SECOND_US
from storemon_flask.settings import Settings

MOST_PER_HOUR: Final = 12
# A message of the hourly digest is written so soon after its hour at the latest; a later one had no news to wait for.
_HOURLY_SLACK_US: Final = 30 * SECOND_US
_DAY_MINUTES: Final = 24 * 60
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})")
_TIME_EXAMPLE: Final = "08:00 America/New_York"
_SPAN_EXAMPLE: Final = "22:00-08:00 America/New_York"


@dataclass(frozen=True, slots=True)
class DailyTime:
    """A time of day in a zone: minutes after midnight on the wall clock.

    On the day that the clock skips it, it is when the clock does; where the clock shows it twice, it is the first time.
    """

    minute: int
    zone: str

    def __str__(self) -> str:
        return f"{_minute_text(self.minute)} {self.zone}"

    def next_us(self, from_us: int) -> int:
        """Return the first instant of that time at or after another."""
        day = _local_day(from_us, self.zone) - timedelta(days=1)
        while (instant_us := _instant_us(day, self.minute, self.zone)) < from_us:
            day += timedelta(days=1)
        return instant_us


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A part of every day in a zone, from minute to minute on the wall clock; an end up to the start is of the next
    day."""

    start_minute: int
    end_minute: int
    zone: str

    def __str__(self) -> str:
        return f"{_minute_text(self.start_minute)}-{_minute_text(self.end_minute)} {self.zone}"

    def over_us(self, at_us: int) -> int:
        """Return the first instant at or after another that is not quiet."""
        while (end_us := self._end_us(at_us)) is not None:
            at_us = end_us
        return at_us

    def _end_us(self, at_us: int) -> int | None:
        today = _local_day(at_us, self.zone)
        for day in (today - timedelta(days=1), today):
            end_day = day + timedelta(days=self.end_minute <= self.start_minute)
            end_us = _instant_us(end_day, self.end_minute, self.zone)
            if _instant_us(day, self.start_minute, self.zone) <= at_us < end_us:
                return end_us
        return None


@dataclass(frozen=True, slots=True)
class Pace:
    """When a channel is sent messages: at once, or at the time of its digest; never in its quiet hours."""

    group_us: int
    interval_us: int
    digest: DailyTime | None = None
    quiet: QuietHours | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The notices that go into a message now; without any, when to look again (None: nothing waits).

    `digest`: it sums up a longer time. `limited`: it is the last one for an hour.
    """

    notices: tuple[Notice, ...] = ()
    look_again_us: int | None = None
    digest: bool = False
    limited: bool = False


def pace_of(channel: Channel, settings: Settings) -> Pace:
    """Return when a channel may be sent messages, by its own rules and the settings."""
    return Pace(
        settings.alert_group_s * SECOND_US,
        settings.alert_interval_s * SECOND_US,
        None if channel.digest is None else parse_daily_time(channel.digest),
        None if channel.quiet is None else parse_quiet_hours(channel.quiet),
    )


def decide(waiting: Sequence[Notice], written_us: Sequence[int], now_us: int, pace: Pace) -> Decision:
    """Return which of the waiting notices go into a message now, or when to look again.

    `written_us` are the times of the channel's messages of the last day, oldest first.
    """
    if not waiting:
        return Decision()
    written = [at_us for at_us in written_us if at_us <= now_us]
    made_us = min(notice.made_us for notice in waiting)
    hourly = _hears_hourly(written) and made_us < written[-1] + HOUR_US
    due_us, held = _due_us(made_us, written, hourly, now_us, pace)
    if due_us > now_us:
        return Decision(look_again_us=due_us)
    limited = pace.digest is None and not hourly and _hears_hourly([*written, now_us])
    return Decision(tuple(waiting), digest=hourly or held or pace.digest is not None, limited=limited)


def _due_us(made_us: int, written: Sequence[int], hourly: bool, now_us: int, pace: Pace) -> tuple[int, bool]:
    """Return when a message is due, now or later, and whether quiet hours held it back."""
    if made_us > now_us:
        due_us = now_us
    elif pace.digest is not None:
        due_us = pace.digest.next_us(made_us)
    else:
        due_us = made_us + pace.group_us
    if written:
        due_us = max(due_us, written[-1] + (HOUR_US if hourly else pace.interval_us))
    if pace.quiet is None:
        return max(due_us, now_us), False
    held = pace.quiet.over_us(due_us) > due_us
    return pace.quiet.over_us(max(due_us, now_us)), held


def _hears_hourly(written: Sequence[int]) -> bool:
    """Return whether a channel that was sent messages at those times had twelve within an hour, and no hour without
    news since."""
    hourly = False
    for index, at_us in enumerate(written):
        if hourly:
            hourly = at_us - written[index - 1] <= HOUR_US + _HOURLY_SLACK_US
        else:
            first = index - MOST_PER_HOUR + 1
            hourly = first >= 0 and at_us - written[first] < HOUR_US
    return hourly


def parse_daily_time(text: str) -> DailyTime:
    """Return the time of `08:00 America/New_York`; `ValueError` says what is wrong."""
    time, zone = _split(text, "a time of day", _TIME_EXAMPLE)
    return DailyTime(_minute(time, _TIME_EXAMPLE) % _DAY_MINUTES, _zone(zone, f"{time} America/New_York"))


def parse_quiet_hours(text: str) -> QuietHours:
    """Return the hours of `22:00-08:00 America/New_York`; `ValueError` says what is wrong."""
    span, zone = _split(re.sub(r"\s*[-\u2013\u2014]\s*(?=\d)", "-", text, count=1), "quiet hours", _SPAN_EXAMPLE)
    start, dash, end = span.partition("-")
    if not dash:
        raise ValueError(f"{span!r} has no end; write when they begin and end, such as {_SPAN_EXAMPLE}")
    first, last = (_minute(time, _SPAN_EXAMPLE) % _DAY_MINUTES for time in (start, end))
    if first == last:
        raise ValueError(f"{span!r} would be quiet always; leave some time to be told, such as {_SPAN_EXAMPLE}")
    return QuietHours(first, last, _zone(zone, f"{span} America/New_York"))


def _split(text: str, what: str, example: str) -> tuple[str, str]:
    words = text.split(maxsplit=1)
    if not words:
        raise ValueError(f"{what} must be given, such as {example}")
    return words[0], words[1] if len(words) > 1 else ""


def _minute(text: str, example: str) -> int:
    match = _TIME.fullmatch(text)
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else -1
    if not 0 <= minute <= _DAY_MINUTES:
        raise ValueError(f"{text!r} is no time of day from 00:00 to 24:00; write it such as {example}")
    return minute


def _zone(text: str, example: str) -> str:
    """Return the zone in the spelling that exists."""
    cleaned = text.strip()
    if not cleaned:
        raise ValueError(f"the time zone is missing; write it behind the time, such as {example}")
    if (name := zonedata.find(cleaned)) is not None:
        return name
    meant = zonedata.of_windows(cleaned) or next(iter(get_close_matches(cleaned, zonedata.names(), 1)), None)
    hint = f"did you mean {meant}?" if meant else f"write one such as {example}"
    raise ValueError(f"{cleaned!r} is no IANA time zone; {hint}")


def _minute_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _local_day(at_us: int, zone: str) -> date:
    return utc_datetime(at_us).astimezone(zonedata.zone(zone)).date()


def _instant_us(day: date, minute: int, zone: str) -> int:
    """Return the first instant at which the wall clock shows that time of a date, or skips it."""
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60)
    skips_to, plain = (
        (local.replace(tzinfo=zonedata.zone(zone), fold=fold) - EPOCH) // timedelta(seconds=1) for fold in (1, 0)
    )
    # Only where the clock skips that time does the offset after it give an earlier instant than the one before.
    while skips_to < plain:
        middle = (skips_to + plain) // 2
        shown = utc_datetime(middle * SECOND_US).astimezone(zonedata.zone(zone)).replace(tzinfo=None)
        skips_to, plain = (skips_to, middle) if shown >= local else (middle + 1, plain)
    return plain * SECOND_US
