"""Format timestamps, durations, amounts and names for pages; registered as filters of the templates."""

from typing import Final

import numpy as np
from flask import Flask
from markupsafe import Markup

from storemon_flask.characters import escaped
from storemon_flask.clock import duration_text, minute_text, timestamp_text, utc_datetime
from storemon_flask.formatting import group_thousands, hundredths, known_text, percent_hundredths
from storemon_flask.model import HOUR_US
from storemon_flask.uptime.zones import local_text as local_text
from storemon_flask.uptime.zones import wall_clock as wall_clock

_CUT_AT: Final = 60

# The word of a status, and a sign that tells it apart without colour.
STATUS_WORDS: Final = {
    "down": ("Down", "▼"),
    "stale": ("Stale", "?"),
    "waiting": ("Waiting", "…"),
    "up": ("Up", "●"),
    "closed": ("Closed", "–"),
    "no_data": ("No data", "∅"),
}
STATUS_MEANINGS: Final = {
    "down": "open, and the newest poll says inactive",
    "stale": "open, and the newest poll is too old to go by",
    "waiting": "just opened, not polled yet",
    "up": "open, and the newest poll says active",
    "closed": "outside business hours",
    "no_data": "never polled",
}


def register(app: Flask) -> None:
    """Register the filters and words of the templates."""
    app.jinja_env.filters |= {
        "local_time": local_time,
        "utc_time": utc_time,
        "utc_minute": minute_text,
        "thousands": lambda number: group_thousands(str(number)),
        "utc_text": utc_text,
        "duration": duration_text,
        "hours": hours,
        "many_hours": many_hours,
        "percent": percent,
        "cut": cut,
        # In sentences: a name that turns the direction of text would turn what is said of it. In cells <bdi> keeps it
        # apart.
        "visible": escaped,
        "capital": lambda sentence: sentence[:1].upper() + sentence[1:],
        "count": lambda number: f"{number:,}",
    }
    app.jinja_env.globals |= {"STATUS_WORDS": STATUS_WORDS, "STATUS_MEANINGS": STATUS_MEANINGS}
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def utc_text(timestamp_us: int) -> str:
    """Return `2024-10-14 23:55:18 UTC`."""
    return f"{utc_datetime(timestamp_us):%Y-%m-%d %H:%M:%S} UTC"


def local_time(timestamp_us: int, zone: str, ago: bool = False) -> Markup:
    """Return a `<time>` in the zone, UTC on hover; with `ago` a script adds how long ago that is."""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        timestamp_text(timestamp_us),
        utc_text(timestamp_us),
        Markup(" data-ago" if ago else ""),
        local_text(timestamp_us, zone),
    )


def utc_time(timestamp_us: int) -> Markup:
    """Return a `<time>` in UTC, for what belongs to no store; a script adds how long ago that is."""
    return Markup('<time datetime="{}" data-ago>{}</time>').format(timestamp_text(timestamp_us), utc_text(timestamp_us))


def hours(hundredths: int) -> str:
    """Return hundredths of an hour (or of anything) with two decimals; a dash where there is no value."""
    return f"{hundredths // 100}.{hundredths % 100:02d}" if hundredths >= 0 else "–"


def many_hours(hundredths: int) -> str:
    """Return hundredths of an hour with thousands separators; with decimals below a hundred hours."""
    return hours(hundredths) if hundredths < 100_00 else f"{(hundredths + 50) // 100:,}"


def percent(hundredths: int) -> str:
    """Return hundredths of a percent as text; a dash where there is no value."""
    return f"{hours(hundredths)} %" if hundredths >= 0 else "–"


def share(part: int, whole: int) -> str:
    """Return a part of a whole as a percentage for a picture."""
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".") + "%" if whole else "0%"


def percent_of(part: int, whole: int) -> int:
    """Return 100 x part / whole in hundredths, rounded as in reports; -1 where the whole is 0."""
    return int(percent_hundredths(np.array([part]), np.array([whole]))[0])


def known_of(sums: dict[str, int], unit_us: int = HOUR_US) -> str:
    """Return the note on a percentage of measures in microseconds that knows little, else nothing."""
    unknown, business = (hundredths(np.array([sums[name]]), unit_us)[0] for name in ("unknown", "business"))
    return known_text(int(unknown), int(business), "h" if unit_us == HOUR_US else "min")


def cut(text: str, most: int = _CUT_AT) -> str:
    """Return the text, or its beginning when it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"
