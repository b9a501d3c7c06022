"""Draw a timeline as lines of text: a row per local day, a cell per half hour, readable without colour."""

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
from storemon_flask.clock import EPOCH, utc_datetime
from storemon_flask.formatting import hundredths, knows_little, percent_hundredths
from storemon_flask.model import HOUR_US, Bools, Ints
from storemon_flask.stores.detail import StoreTimeline, measure_spans
from storemon_flask.uptime import timeline
from storemon_flask.uptime.timeline import Segments

CELL_US: Final = HOUR_US // 2
LEGEND: Final = "= up  X down  ? unknown  . closed   half an hour a cell, the worst of it shown"
_UNSURE: Final = re.compile(r"\d+\.\d\d\?")
_UP, _DOWN, _UNKNOWN, _CLOSED, _OUTSIDE = "=", "X", "?", ".", " "
_COLOURS: Final = {_UP: "green", _DOWN: "red", _UNKNOWN: "yellow", _CLOSED: "bright_black"}


@dataclass(frozen=True, slots=True)
class Clock:
    """Formats timestamps in the local time of a zone."""

    zone: ZoneInfo

    def local(self, timestamp_us: int) -> datetime:
        """Return the local time."""
        return utc_datetime(timestamp_us).astimezone(self.zone)

    def text(self, timestamp_us: int) -> str:
        """Return date, minute and the zone's abbreviation."""
        return f"{self.local(timestamp_us):%Y-%m-%d %H:%M %Z}"

    def midnight(self, day: date) -> int:
        """Return when a local date begins."""
        return (datetime.combine(day, time(), self.zone).astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def clock(zone_name: str, utc: bool) -> Clock:
    """Return the clock of a zone, or of UTC."""
    return Clock(zonedata.zone("Etc/UTC" if utc else zone_name))


def rows(shown: StoreTimeline, clock: Clock, colour: bool, width: int | None = None) -> Iterator[str]:
    """Yield a line of hours, then each local day of the range with its uptime, and how much is known where that is
    little. Columns are closer to each other where the lines would be wider than the terminal's `width`.
    """
    days = list(_days(shown, clock))
    label_width = max((len(label) for label, _, _ in days), default=0)
    cells_width = max((-((start - end) // CELL_US) for _, start, end in days), default=0)
    changes = any(end - start != 24 * HOUR_US for _, start, end in days)
    gap = " " if width and label_width + cells_width + 17 + 8 * changes > width else "  "
    yield " " * label_width + gap + "".join(f"{hour:<6}" for hour in range(0, 24, 3)).rstrip()
    spans = [(max(start, shown.from_us), min(end, shown.to_us)) for _, start, end in days]
    for (label, start, end), sums in zip(days, measure_spans(shown.reading, spans), strict=True):
        cells = _cells(shown, start, end)
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
    """Return the line with its percentages that know little, which have a `?`, in grey."""
    return _UNSURE.sub(lambda match: _grey(match[0], colour), line)


def _grey(text: str, colour: bool) -> str:
    return click.style(text, fg="bright_black") if colour else text


def _days(shown: StoreTimeline, clock: Clock) -> Iterator[tuple[str, int, int]]:
    """Yield label, start and end of every local date of the range; one that the zone skipped is left out."""
    day = clock.local(shown.from_us).date()
    last = clock.local(shown.to_us - 1).date()
    while day <= last:
        start, end = clock.midnight(day), clock.midnight(day + timedelta(days=1))
        if end > start:
            yield f"{clock.local(start):%a} {day:%m-%d} {clock.local(start):%Z}", start, end
        day += timedelta(days=1)


def _cells(shown: StoreTimeline, start: int, end: int) -> str:
    left = np.arange(start, end, CELL_US, dtype=np.int64)
    right = np.minimum(left + CELL_US, end)
    left, right = np.maximum(left, shown.from_us), np.minimum(right, shown.to_us)
    cells = np.where(left < right, _CLOSED, _OUTSIDE)
    # The worst comes last and stays.
    for state, sign in ((timeline.UP, _UP), (timeline.UNKNOWN, _UNKNOWN), (timeline.DOWN, _DOWN)):
        cells[_touched(shown.segments, state, left, right)] = sign
    return "".join(cells.tolist())


def _touched(segments: Segments, state: int, left: Ints, right: Ints) -> Bools:
    """Return which of `[left, right)` have some time of that state."""
    some = segments.state == state
    start, end = segments.start_us[some], segments.end_us[some]
    if not len(start):
        return np.zeros(len(left), dtype=bool)
    index = np.searchsorted(end, left, side="right")
    touched: Bools = (index < len(start)) & (start[np.minimum(index, len(start) - 1)] < right) & (left < right)
    return touched


def _painted(cells: str, colour: bool) -> str:
    if not colour:
        return cells
    return "".join(click.style("".join(run), fg=_COLOURS.get(sign)) for sign, run in groupby(cells))
