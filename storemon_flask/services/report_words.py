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
_BY: Final = {"hour": "hour by hour", "day": "day by day", "week": "week by week", "month": "month by month"}


def asked(row: ReportRow) -> str:
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


def _stores(row: ReportRow, shape: Shape | None) -> str:
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
