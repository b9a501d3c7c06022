"""Timestamps, dates, times of day and lengths of time: how people type them and how they are shown."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
from dateutil.parser import isoparse

from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Ints

# A future as-of is allowed (it asks how it stands if nothing more comes), one that no calendar here covers is not.
EARLIEST_US: Final = 0
LATEST_US: Final = 7_258_118_400_000_000  # 2200-01-01
_BLANK_BEFORE_OFFSET = re.compile(r"(:[0-9.]+) +([+-])")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp(text: str) -> int:
    """Microseconds since 1970 UTC of any ISO 8601 spelling; without a zone it means UTC. `ValueError` says what is
    allowed.

    More lenient than the polls feed: a date alone, basic format, week dates. A report of the wrong instant is seen at
    once, a poll at the wrong instant never.
    """
    cleaned = text.strip()
    if cleaned.upper().endswith("UTC"):
        cleaned = cleaned[:-3].rstrip() + "Z"
    cleaned = _BLANK_BEFORE_OFFSET.sub(r"\1\2", cleaned)
    try:
        moment = isoparse(cleaned)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since: timedelta = moment - EPOCH
        return since // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not an instant such as 2024-10-14T23:55:18Z") from None


def utc_datetime(timestamp_us: int) -> datetime:
    """Return the timestamp as a `datetime` in UTC."""
    return EPOCH + timedelta(microseconds=timestamp_us)


def timestamp_text(timestamp_us: int) -> str:
    """Return the timestamp in RFC 3339 with six digits and `Z`, as programs read it."""
    return f"{utc_datetime(timestamp_us):%Y-%m-%dT%H:%M:%S.%f}Z"


def minute_text(timestamp_us: int) -> str:
    """Return the timestamp to the minute, as people read it: `2024-10-14 23:55 UTC`."""
    return f"{utc_datetime(timestamp_us):%Y-%m-%d %H:%M} UTC"


def timestamp_texts(timestamps_us: Ints) -> list[str]:
    """Return the same as `timestamp_text` for each of many timestamps."""
    texts: list[str] = np.datetime_as_string(timestamps_us.astype("datetime64[us]"), timezone="UTC").tolist()
    return texts


def check_as_of(as_of_us: int) -> None:
    """`Unprocessable` for an as-of outside 1970 to 2200."""
    if not EARLIEST_US <= as_of_us <= LATEST_US:
        raise Unprocessable(
            "as_of must lie between 1970-01-01 and 2200-01-01",
            errors={"as_of": ["it must be between 1970-01-01 and 2200-01-01"]},
        )


def duration_text(length_us: int, at_least: bool = False) -> str:
    """A length of time, rounded down: `42 min`, `8 h 42 min`, `3 days 4 h`, `39 days`; with `at_least` `over 6 days`.

    Hours go up to two days, and from ten days on there are days alone.
    """
    if length_us < MINUTE_US:
        return "under 1 min" if length_us > 0 else "0 min"
    if length_us < HOUR_US:
        large, small = f"{length_us // MINUTE_US} min", ""
    elif length_us < 2 * DAY_US:
        minutes = length_us // MINUTE_US % 60
        large, small = f"{length_us // HOUR_US} h", f"{minutes} min" if minutes else ""
    else:
        days, hours = length_us // DAY_US, length_us // HOUR_US % 24
        large, small = f"{days:,} days", f"{hours} h" if hours and days < 10 else ""
    if at_least:
        return f"over {large}"
    return f"{large} {small}".rstrip()


FIRST_DAY: Final = date(1970, 1, 1)


def date_text(day: int) -> str:
    """A local date, given in days since 1970-01-01, as `YYYY-MM-DD`."""
    return (FIRST_DAY + timedelta(days=day)).isoformat()


def time_text(second: int) -> str:
    """A time of day as `HH:MM`, with seconds only where there are any; 86,400 is `24:00`."""
    text = f"{second // 3600:02d}:{second // 60 % 60:02d}"
    return f"{text}:{second % 60:02d}" if second % 60 else text
