"""What a report was asked, in words that a person reads over."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from storemon_flask import clock
from storemon_flask.errors import Unprocessable
from storemon_flask.model import MINUTE_US
from storemon_flask.reports import shapes
from storemon_flask.reports.queue import ReportRecord
from storemon_flask.reports.shapes import Shape, Window

# More names than these are counted instead.
_NAMED: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLASSIC: Final = ("last_hour", "last_day", "last_week")
_BY: Final = {"hour": "hour by hour", "day": "day by day", "week": "week by week", "month": "month by month"}


def asked(row: ReportRecord) -> str:
    """What was asked, without the as-of: which times, of which stores, how."""
    try:
        shape = shapes.read(row.shape or {})
    except Unprocessable:
        # Asked of another version, which knew more.
        return "a shape that this version does not know"
    if shape is None:
        parts = ["The last hour, day and week", _stores(row, None)]
    else:
        parts = [_what(shape), _stores(row, shape)]
        parts += ["with totals"] if shape.totals else []
        parts += ["by the previous poll"] if shape.method == "previous" else []
    parts += ["all columns"] if row.columns == "full" else []
    return ", ".join(parts)


def windows(row: ReportRecord) -> dict[str, int]:
    """The names of a report's windows and how long each is in microseconds; 0 where stores differ in that, or nobody
    knows.
    """
    names = (row.method or {}).get("windows") or _CLASSIC
    try:
        shape = shapes.read(row.shape or {})
    except Unprocessable:
        return dict.fromkeys(names, 0)
    if shape is None:
        return {name: shapes.LAST.get(name, 0) for name in names}
    # Local dates are as long as the days between them are, which differs where clocks change.
    lengths = {one.name: 0 if one.local else one.length_us or one.to_us - one.from_us for one in shape.windows}
    return {name: lengths.get(name, 0) for name in names}


def _what(shape: Shape) -> str:
    windows = _listed([_window(window) for window in shape.windows])
    if shape.kind == "outages":
        minutes = shape.shortest_us / MINUTE_US
        at_least = f" of at least {minutes:g} minutes" if minutes else ""
        return f"Outages{at_least} in {windows}"
    if shape.by:
        return f"{_BY[shape.by].capitalize()} in {windows}"
    return windows[:1].upper() + windows[1:]


def _window(window: Window) -> str:
    if window.length_us:
        return f"the {window.name.replace('_', ' ')}"
    words = window_words(window.name)
    return words if words != window.name else f"“{window.name}”"


def window_words(name: str) -> str:
    """A window's name as people say it: `2 to 4 November 2024` where it has none of its own but its dates, the last of
    which is no part of it. Any other name is as it is.
    """
    if name in shapes.LAST:
        return name.replace("_", " ")
    first, _, end = name.partition("_")
    try:
        if not (len(first) == len(end) == len("2024-10-01")):
            edges = [clock.parse_timestamp(edge) for edge in (first, end)]
            return " to ".join(f"{_EPOCH + timedelta(microseconds=edge):%Y-%m-%d %H:%M}" for edge in edges) + " UTC"
        return _days(date.fromisoformat(first), date.fromisoformat(end) - timedelta(days=1))
    except (ValueError, OverflowError):
        return name


def _days(first: date, last: date) -> str:
    """From one day to another, both of them included."""
    if first == last:
        return f"{last.day} {last:%B %Y}"
    month = "" if (first.year, first.month) == (last.year, last.month) else f" {first:%B}"
    year = "" if first.year == last.year else f" {first.year}"
    return f"{first.day}{month}{year} to {last.day} {last:%B %Y}"


def _stores(row: ReportRecord, shape: Shape | None) -> str:
    found, named, number = [], row.stores, row.stores_asked
    if named is not None and number is not None:
        found.append(_listed(named) if number <= _NAMED else f"{number:,} named stores")
    if shape is not None and shape.groups is not None:
        found.append(
            "in the groups " + _some(shape.groups) if len(shape.groups) > 1 else f"in the group {shape.groups[0]}"
        )
    if shape is not None and shape.zones is not None:
        found.append("in " + _some(shape.zones))
    if not found:
        return "every store"
    return ("" if named is not None else "stores ") + ", ".join(found)


def _some(names: Sequence[str]) -> str:
    return _listed(names) if len(names) <= _NAMED else f"{_listed(names[:_NAMED])} and {len(names) - _NAMED:,} more"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
