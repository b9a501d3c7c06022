"""How pages write instants, lengths of time, amounts and names; registered as filters of the templates."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from flask import Flask
from markupsafe import Markup

from storemon_flask import zonedata
from storemon_flask.characters import escaped
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.formatting import hundredths, known_text, percent_hundredths
from storemon_flask.model import HOUR_US
from storemon_flask.uptime import zones

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
    """Give the templates their filters and words."""
    app.jinja_env.filters |= {
        "local_time": local_time,
        "utc_time": utc_time,
        "utc_minute": utc_minute,
        "utc_text": utc_text,
        "duration": duration_text,
        "hours": hours,
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


def wall_clock(instant_us: int, zone: str) -> datetime:
    """The wall clock of a zone (or of a history of zones, `core.zones`) at an instant."""
    name = zones.name_at(zone, instant_us)
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(zonedata.zone(name))


def local_text(instant_us: int, zone: str) -> str:
    """`Mon 2024-10-14 18:55 CDT`."""
    return f"{wall_clock(instant_us, zone):%a %Y-%m-%d %H:%M %Z}"


def utc_text(instant_us: int) -> str:
    """`2024-10-14 23:55:18 UTC`."""
    return f"{_EPOCH + timedelta(microseconds=instant_us):%Y-%m-%d %H:%M:%S} UTC"


def utc_minute(instant_us: int) -> str:
    """`2024-10-14 23:55 UTC`, where a `<time>` cannot stand."""
    return f"{_EPOCH + timedelta(microseconds=instant_us):%Y-%m-%d %H:%M} UTC"


def local_time(instant_us: int, zone: str, ago: bool = False) -> Markup:
    """A `<time>` in the zone with its abbreviation, UTC on hover; with `ago` a script adds how long ago that is."""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        timestamp_text(instant_us),
        utc_text(instant_us),
        Markup(" data-ago" if ago else ""),
        local_text(instant_us, zone),
    )


def utc_time(instant_us: int) -> Markup:
    """A `<time>` in UTC, for what belongs to no store; a script adds how long ago that is."""
    return Markup('<time datetime="{}" data-ago>{}</time>').format(timestamp_text(instant_us), utc_text(instant_us))


def hours(hundredths: int) -> str:
    """Hundredths of an hour (or of anything) with two decimals, as reports print them; a dash for nothing."""
    return f"{hundredths // 100}.{hundredths % 100:02d}" if hundredths >= 0 else "–"


def percent(hundredths: int) -> str:
    """Hundredths of a percent as reports print them; a dash for nothing."""
    return f"{hours(hundredths)} %" if hundredths >= 0 else "–"


def share(part: int, whole: int) -> str:
    """Return a part of a whole as a percentage for a picture."""
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".") + "%" if whole else "0%"


def percent_of(part: int, whole: int) -> int:
    """100 x part / whole in hundredths, half up, as reports round it; -1 where the whole is 0."""
    return int(percent_hundredths(np.array([part]), np.array([whole]))[0])


def known_of(sums: dict[str, int], unit_us: int = HOUR_US) -> str:
    """What stands beside the percentage of sums in microseconds where it knows little; nothing where it knows enough."""
    unknown, business = (hundredths(np.array([sums[name]]), unit_us)[0] for name in ("unknown", "business"))
    return known_text(int(unknown), int(business), "h" if unit_us == HOUR_US else "min")


def cut(text: str, most: int = _CUT_AT) -> str:
    """The text, or its beginning when it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"
