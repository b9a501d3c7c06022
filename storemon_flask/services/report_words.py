"""What a report was asked, in words that a person reads over."""

from collections.abc import Sequence
from typing import Final

from storemon_flask.errors import Unprocessable
from storemon_flask.model import MINUTE_US
from storemon_flask.services import shapes
from storemon_flask.services.report_store import ReportRow
from storemon_flask.services.shapes import Shape, Window

# More names than these are counted instead.
_NAMED: Final = 3
_CLASSIC: Final = ("last_hour", "last_day", "last_week")
_BY: Final = {"hour": "hour by hour", "day": "day by day", "week": "week by week", "month": "month by month"}


def asked(row: ReportRow) -> str:
    """What was asked, without the as-of: which times, of which stores, how."""
    try:
        shape = shapes.read(row.shape or {})
    except Unprocessable:
        # Asked of another version, which knew more.
        return "a shape that this version does not know"
    if shape is None:
        parts = ["The last hour, day and week", _stores(row.stores, None)]
    else:
        parts = [_what(shape), _stores(row.stores, shape)]
        parts += ["with totals"] if shape.totals else []
        parts += ["by the previous poll"] if shape.method == "previous" else []
    parts += ["all columns"] if row.columns == "full" else []
    return ", ".join(parts)


def windows(row: ReportRow) -> dict[str, int]:
    """The names of a report's windows and how long each is in microseconds; 0 where stores differ in that, or nobody knows."""
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
    return f"the {window.name.replace('_', ' ')}" if window.length_us else f"“{window.name}”"


def _stores(named: Sequence[str] | None, shape: Shape | None) -> str:
    found = []
    if named is not None:
        found.append(_listed(named) if len(named) <= _NAMED else f"{len(named):,} named stores")
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
