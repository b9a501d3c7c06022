"""A timeline as lines of text: a row per local day, a cell per half hour, told apart without colour."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

import click
import numpy as np

from storemon_flask import zonedata
from storemon_flask.formatting import hundredths, knows_little, percent_hundredths
from storemon_flask.model import HOUR_US, Bools, Ints
from storemon_flask.stores.detail import StoreTimeline
from storemon_flask.uptime import timeline
from storemon_flask.uptime.timeline import Segments

CELL_US: Final = HOUR_US // 2
LEGEND: Final = "= up  X down  ? unknown  . closed   half an hour a cell, the worst of it shown"
_UNSURE: Final = re.compile(r"\d+\.\d\d\?")
_UP, _DOWN, _UNKNOWN, _CLOSED, _OUTSIDE = "=", "X", "?", ".", " "
_COLOURS: Final = {_UP: "green", _DOWN: "red", _UNKNOWN: "yellow", _CLOSED: "bright_black"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """How instants are written: in the time of a zone, with its abbreviation."""

    zone: ZoneInfo

    def local(self, instant_us: int) -> datetime:
        """The wall clock at an instant."""
        return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(self.zone)

    def text(self, instant_us: int) -> str:
        """Date, minute and the zone's abbreviation."""
        return f"{self.local(instant_us):%Y-%m-%d %H:%M %Z}"

    def midnight(self, day: date) -> int:
        """The instant at which a local date begins."""
        return (datetime.combine(day, time(), self.zone).astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def clock(zone_name: str, utc: bool) -> Clock:
    """The clock of a zone, or of UTC."""
    return Clock(zonedata.zone("Etc/UTC" if utc else zone_name))


def rows(found: StoreTimeline, clock: Clock, colour: bool, width: int | None = None) -> Iterator[str]:
    """The picture: hours across, then each local day of the range with its uptime (and of how much that is, where
    little is known); a zone's change makes rows of 23 or 25 h.

    Its parts stand closer to each other where it would be wider than the terminal's `width`.
    """
    days = list(_days(found, clock))
    label_width = max((len(label) for label, _, _ in days), default=0)
    cells_width = max((-((start - end) // CELL_US) for _, start, end in days), default=0)
    changes = any(end - start != 24 * HOUR_US for _, start, end in days)
    gap = " " if width and label_width + cells_width + 17 + 8 * changes > width else "  "
    yield " " * label_width + gap + "".join(f"{hour:<6}" for hour in range(0, 24, 3)).rstrip()
    shown = [(max(start, found.from_us), min(end, found.to_us)) for _, start, end in days]
    for (label, start, end), sums in zip(days, found.known.measure(shown), strict=True):
        cells = _cells(found, start, end)
        length = f"{gap}{(end - start) / HOUR_US:g} h" if end - start != 24 * HOUR_US else ""
        day = {name: np.array([value]) for name, value in sums.items()}
        percent = int(percent_hundredths(day["uptime"], day["uptime"] + day["downtime"])[0])
        share = f"{percent // 100:3d}.{percent % 100:02d} %" if percent >= 0 else ""
        unknown, business = (int(hundredths(day[name], HOUR_US)[0]) for name in ("unknown", "business"))
        unsure = bool(share) and knows_little(unknown, business)
        if unsure:
            # Whole hours, and no sign of percent: 80 columns have no room for more.
            known = f"{(business - unknown + 50) // 100}h" if business - unknown >= 100 else "<1h"
            share = f"{share.removesuffix(' %')} of {known}"
        if width and label_width + len(gap + cells + gap + share + length) > width:
            # The cells show that the day is longer.
            length = ""
        share = _grey(share, colour) if unsure else share
        yield f"{label:<{label_width}}{gap}{_painted(cells, colour)}{gap}{share}{length}".rstrip()


def dimmed(line: str, colour: bool) -> str:
    """The line with its percentages that know little, which have a `?`, in grey."""
    return _UNSURE.sub(lambda found: _grey(found[0], colour), line)


def _grey(text: str, colour: bool) -> str:
    return click.style(text, fg="bright_black") if colour else text


def _days(found: StoreTimeline, clock: Clock) -> Iterator[tuple[str, int, int]]:
    """The label, start and end of every local date of the range; one that a zone has skipped is not there."""
    day = clock.local(found.from_us).date()
    last = clock.local(found.to_us - 1).date()
    while day <= last:
        start, end = clock.midnight(day), clock.midnight(day + timedelta(days=1))
        if end > start:
            yield f"{clock.local(start):%a} {day:%m-%d} {clock.local(start):%Z}", start, end
        day += timedelta(days=1)


def _cells(found: StoreTimeline, start: int, end: int) -> str:
    left = np.arange(start, end, CELL_US, dtype=np.int64)
    right = np.minimum(left + CELL_US, end)
    left, right = np.maximum(left, found.from_us), np.minimum(right, found.to_us)
    cells = np.where(left < right, _CLOSED, _OUTSIDE)
    # The worst comes last and stays.
    for state, sign in ((timeline.UP, _UP), (timeline.UNKNOWN, _UNKNOWN), (timeline.DOWN, _DOWN)):
        cells[_touched(found.segments, state, left, right)] = sign
    return "".join(cells.tolist())


def _touched(segments: Segments, state: int, left: Ints, right: Ints) -> Bools:
    """Which of `[left, right)` have some time of that state."""
    wanted = segments.state == state
    start, end = segments.start_us[wanted], segments.end_us[wanted]
    if not len(start):
        return np.zeros(len(left), dtype=bool)
    place = np.searchsorted(end, left, side="right")
    touched: Bools = (place < len(start)) & (start[np.minimum(place, len(start) - 1)] < right) & (left < right)
    return touched


def _painted(cells: str, colour: bool) -> str:
    if not colour:
        return cells
    return "".join(click.style("".join(run), fg=_COLOURS.get(sign)) for sign, run in groupby(cells))
