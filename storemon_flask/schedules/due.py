"""When a schedule is due, in its own time zone, and which days its windows then mean."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final

from cronsim import CronSim, CronSimError

from storemon_flask import zonedata
from storemon_flask.clock import EPOCH, utc_datetime
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.reports.windows import CALENDAR_WINDOWS, window_dates

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_CRON: Final = re.compile(r"[0-9A-Za-z*/,#-]+( [0-9A-Za-z*/,#-]+){4}")
ALLOWED: Final = (
    "`daily 07:00`, `weekly mon 07:00`, `monthly 1 07:00` (a day from 1 to 28, or `last`), or five fields of cron such "
    "as `0 7 * * 1-5`"
)
# Of whole dates, where those of a report that names them roll.
_DATES_OF: Final = {"last_day": "yesterday", "last_week": "last_week_calendar"}
WINDOWS: Final = ("last_hour", *_DATES_OF, *CALENDAR_WINDOWS)
# The number of due times that are checked for two that lie too close.
_LOOKED_AT: Final = 100
# At most this many missed due times are listed: after a year of sleep nobody needs every hour of it.
MOST_MISSED: Final = 100


@dataclass(frozen=True, slots=True)
class Due:
    """When something is due: `text` as people wrote it, `cron` as five fields, in a time zone."""

    text: str
    cron: str
    zone: str

    def after(self, after_us: int) -> Iterator[int]:
        """Yield the due instants after that one, each later than the one before.

        A time that a night skips is due when that night goes on, and one that a night has twice is due the first time.
        An hourly one is due every hour.
        """
        last_us = after_us
        for moment in CronSim(self.cron, utc_datetime(after_us).astimezone(zonedata.zone(self.zone))):
            due_us = (moment - EPOCH) // timedelta(microseconds=1)
            # In the second pass of a repeated hour, cronsim begins with the first pass.
            if due_us > last_us:
                last_us = due_us
                yield due_us

    def next_us(self, after_us: int) -> int:
        """Return the first due instant after that one."""
        return next(self.after(after_us))

    def missed(self, first_us: int, now_us: int) -> list[int]:
        """Return the due times from the first, which is one, up to now: the newest `MOST_MISSED` of them."""
        due = [first_us]
        for due_us in self.after(first_us):
            if due_us > now_us:
                break
            due = [*due[-MOST_MISSED + 1 :], due_us]
        return due


@lru_cache(256)
def parse(text: str, zone: str) -> Due:
    """Return the parsed due time; `Unprocessable` says what is allowed."""
    words = text.split()
    zone_info = zonedata.find(zone)
    if zone_info is None:
        raise _wrong("zone", f"is {zone[:100]!r}", "the name of one, such as America/New_York")
    due = Due(" ".join(words).lower(), _cron(words), zone_info)
    _check(due)
    return due


def window_at(name: str, due_us: int, zone: str) -> str | dict[str, str]:
    """Return a window of a schedule, for a report that is due then: as a request has it.

    `last_hour` is the hour before. The others are whole local dates of each store, counted from the date at which the
    schedule is due in its own zone.
    """
    if name == "last_hour":
        return name
    today = utc_datetime(due_us).astimezone(zonedata.zone(zone)).date()
    first, end = window_dates(_DATES_OF.get(name, name), today)
    return {"from": first.isoformat(), "to": end.isoformat(), "name": name}


def local_text(timestamp_us: int, zone: str) -> str:
    """Return an instant in a zone, as people read it: `Mon 2026-11-23 07:00 EST`."""
    return f"{utc_datetime(timestamp_us).astimezone(zonedata.zone(zone)):%a %Y-%m-%d %H:%M %Z}"


def usual_window(due: Due, now_us: int) -> str:
    """Return the window of a schedule that names none: as long as the time from one due time to the next."""
    first, second = islice(due.after(now_us), 2)
    days = (second - first) / DAY_US
    if second - first <= HOUR_US:
        return "last_hour"
    # From Friday to Monday is the weekend of a schedule of working days.
    return "last_day" if days < 5 else "last_week" if days < 15 else "last_month"


def _cron(words: list[str]) -> str:
    match [word.lower() for word in words]:
        case ["daily", at]:
            return f"{_time(at)} * * *"
        case ["weekly", day, at] if any(day in (name, name[:3]) for name in _DAYS):
            return f"{_time(at)} * * {day[:3].upper()}"
        case ["monthly", day, at] if day == "last" or (day.isascii() and day.isdigit() and 1 <= int(day) <= 28):
            return f"{_time(at)} {'L' if day == 'last' else int(day)} * *"
    cron = " ".join(words)
    if not _CRON.fullmatch(cron):
        raise _wrong("due", f"is {cron[:100]!r}", ALLOWED)
    return cron


def _time(text: str) -> str:
    """Return minute and hour of a time of day, as cron has them."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise _wrong("due", f"has the time {text[:20]!r}", "a time of day from 00:00 to 23:59")
    return f"{int(match[2])} {int(match[1])}"


def _check(due: Due) -> None:
    """Refuse cron text that is wrong, never due, or due more often than hourly."""
    # In UTC, where no hour is skipped or comes twice.
    plain = Due(due.text, due.cron, "Etc/UTC")
    try:
        times = list(islice(plain.after(0), _LOOKED_AT))
    except CronSimError as error:
        raise _wrong(
            "due", f"is {due.text!r}, which is no cron ({str(error)[:1].lower()}{str(error)[1:]})", ALLOWED
        ) from None
    if len(times) < 2:
        raise _wrong("due", f"is {due.text!r}, which never comes", ALLOWED)
    if min(later - earlier for earlier, later in pairwise(times)) < HOUR_US:
        raise _wrong(
            "due", f"is {due.text!r}, more often than once an hour", "at least an hour from one time to the next"
        )


def _wrong(field: str, what: str, allowed: str) -> Unprocessable:
    sentence = f"{what}; it must be {allowed}"
    return Unprocessable(f"{field} {sentence}", errors={field: [sentence]})
