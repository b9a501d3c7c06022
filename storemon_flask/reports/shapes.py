"""What a report of another shape is asked: windows, calendar periods, which stores, totals, method.

Read once, for every door.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from storemon_flask import clock
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US
from storemon_flask.uptime.calendar import UNITS

LAST: Final = {"last_hour": HOUR_US, "last_day": DAY_US, "last_week": WEEK_US, "last_30_days": 30 * DAY_US}
BY: Final = UNITS
METHODS: Final = ("nearest", "previous")
FIELDS: Final = ("kind", "windows", "by", "groups", "zones", "totals", "method", "shortest_minutes")
KINDS: Final = ("times", "outages")
_RANGE_OF: Final = {"hour": "last_day", "day": "last_week", "week": "last_30_days", "month": "last_30_days"}
_MOST_WINDOWS: Final = 50
_LONGEST_US: Final = 400 * DAY_US
_EPOCH: Final = date(1970, 1, 1)
_WITH_OFFSET: Final = re.compile(r"([zZ]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)\s*$")


@dataclass(frozen=True, slots=True)
class Window:
    """A window by its name: the last `length_us` before the as-of, or from one instant to another, or from one local
    date to another in each store's own zone (`local`: then both are midnights of the wall clock, as if it were UTC)."""

    name: str
    length_us: int = 0
    from_us: int = 0
    to_us: int = 0
    local: bool = False

    def at(self, as_of_us: int) -> tuple[int, int]:
        """From when to when, for a report at `as_of_us`."""
        return (as_of_us - self.length_us, as_of_us) if self.length_us else (self.from_us, self.to_us)


@dataclass(frozen=True, slots=True)
class Shape:
    """A report's shape: one row per store and all windows beside each other, or (`by`) one row per store and period."""

    windows: tuple[Window, ...]
    by: str | None
    method: str
    totals: bool
    groups: tuple[str, ...] | None
    zones: tuple[str, ...] | None
    kind: str = "times"
    # Outages with less business time down than this are left out.
    shortest_us: int = 0


def read(asked: Mapping[str, Any]) -> Shape | None:
    """The shape that the fields of a request ask for; None when they ask for the classic one.

    `Unprocessable` names the field, its value and what is allowed.
    """
    usual = {"kind": "times", "method": "nearest", "totals": False}
    if all(asked.get(name) is None or asked[name] == usual.get(name, ...) for name in FIELDS):
        return None
    if _one_of("kind", asked.get("kind"), KINDS) == "outages":
        return _outages(asked)
    if asked.get("shortest_minutes") is not None:
        raise _wrong("shortest_minutes", "is of outages", "left out without kind outages", "kind")
    by = _one_of("by", asked.get("by"), BY)
    windows = tuple(_window(place, one) for place, one in enumerate(_list("windows", asked.get("windows"))))
    if not windows:
        windows = (
            (_last(_RANGE_OF[by]),) if by else tuple(_last(name) for name in ("last_hour", "last_day", "last_week"))
        )
    if len(windows) > _MOST_WINDOWS:
        raise _wrong("windows", f"has {len(windows)} entries", f"at most {_MOST_WINDOWS}", "many")
    if by and len(windows) > 1:
        raise _wrong("windows", f"has {len(windows)} entries", f"one window with `by`, which is cut into {by}s", "one")
    names = [window.name for window in windows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _wrong("windows", f"names {twice!r} twice", "a name of its own for each window", "twice")
    totals = asked.get("totals") or False
    if not isinstance(totals, bool):
        raise _wrong("totals", f"is {totals!r}", "true or false")
    return Shape(
        windows,
        by,
        _one_of("method", asked.get("method"), METHODS) or "nearest",
        totals,
        _texts("groups", asked.get("groups")),
        _texts("zones", asked.get("zones")),
    )


def _outages(asked: Mapping[str, Any]) -> Shape:
    for name in ("by", "totals", "method"):
        if asked.get(name) not in (None, False, "nearest"):
            raise _wrong(name, "does not go with outages", "left out", "kind")
    windows = tuple(_window(place, one) for place, one in enumerate(_list("windows", asked.get("windows"))))
    if len(windows) > 1:
        raise _wrong("windows", f"has {len(windows)} entries", "one window, in which outages are looked for", "one")
    shortest = asked.get("shortest_minutes") or 0
    if (
        isinstance(shortest, bool)
        or not isinstance(shortest, int | float)
        or not 0 <= shortest <= _LONGEST_US / MINUTE_US
    ):
        raise _wrong("shortest_minutes", f"is {shortest!r}", "a number of minutes from 0 to 576000", "number")
    return Shape(
        windows or (_last("last_week"),),
        None,
        "nearest",
        False,
        _texts("groups", asked.get("groups")),
        _texts("zones", asked.get("zones")),
        "outages",
        round(shortest * MINUTE_US),
    )


def window_of_text(text: str) -> str | dict[str, str]:
    """A window as a request names it, of `last_week` or `[NAME=]FROM..TO`; what it may be is for `read` to say."""
    name, _, span = text.rpartition("=")
    first, dots, last = span.partition("..")
    if not dots:
        return text
    return {"from": first, "to": last, **({"name": name} if name else {})}


def text_of_window(asked: str | Mapping[str, str]) -> str:
    """The same window as text."""
    if isinstance(asked, str):
        return asked
    name = f"{asked['name']}=" if "name" in asked else ""
    return f"{name}{asked['from']}..{asked['to']}"


def check_as_of(shape: Shape, as_of_us: int) -> None:
    """`Unprocessable` when a window ends after the as-of, where nothing is known yet."""
    for place, window in enumerate(shape.windows):
        # A local date is at most a day ahead of the same date in UTC.
        if window.at(as_of_us)[0 if window.local else 1] > as_of_us + (DAY_US if window.local else 0):
            what = f"{window.name!r} ends after the as-of"
            raise _wrong(f"windows[{place}]", what, "a window that ends by the as-of", "after")


def _last(name: str) -> Window:
    return Window(name, LAST[name])


def _window(place: int, asked: Any) -> Window:
    field = f"windows[{place}]"
    if isinstance(asked, str):
        if asked not in LAST:
            raise _wrong(field, f"is {asked!r}", f"{', '.join(LAST)}, or an object with from and to")
        return _last(asked)
    if not isinstance(asked, dict):
        raise _wrong(field, f"is {asked!r}", f"{', '.join(LAST)}, or an object with from and to")
    for name in asked:
        if name not in ("from", "to", "name"):
            raise _wrong(f"{field}.{name}", "is not a field of a window", "from, to and name")
    (from_us, local), (to_us, to_local) = (_edge(f"{field}.{edge}", asked.get(edge)) for edge in ("from", "to"))
    if local != to_local:
        raise _wrong(field, "mixes a date with an instant", "two dates, or two instants with an offset", "mixed")
    if to_us <= from_us:
        raise _wrong(field, f"runs from {asked['from']!r} to {asked['to']!r}", "an end after its start", "order")
    if to_us - from_us > _LONGEST_US:
        raise _wrong(field, f"is {(to_us - from_us) / DAY_US:.0f} days long", "at most 400 days", "long")
    name = asked.get("name", f"{asked['from']}_{asked['to']}")
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise _wrong(f"{field}.name", f"is {name!r}", "1 to 100 printable characters", "name")
    return Window(name, 0, from_us, to_us, local)


def _edge(field: str, value: Any) -> tuple[int, bool]:
    """Microseconds, and whether the value is a local date."""
    allowed = "a date such as 2024-10-01 or an instant with an offset such as 2024-10-01T09:00:00-05:00"
    edge_us, local = _edge_of_text(field, value, allowed)
    if not clock.EARLIEST_US <= edge_us <= clock.LATEST_US:
        raise _wrong(field, f"is {value[:100]!r}", "between 1970-01-01 and 2200-01-01", "range")
    return edge_us, local


def _edge_of_text(field: str, value: Any, allowed: str) -> tuple[int, bool]:
    if not isinstance(value, str):
        raise _wrong(field, "is missing" if value is None else f"is {value!r}", allowed, "missing")
    try:
        if len(value) == len("2024-10-01"):
            return (date.fromisoformat(value) - _EPOCH).days * DAY_US, True
        if not _WITH_OFFSET.search(value):
            raise ValueError
        return clock.parse_timestamp(value), False
    except ValueError:
        raise _wrong(field, f"is {value[:100]!r}", allowed, "instant") from None


def _one_of(field: str, value: Any, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise _wrong(field, f"is {value!r}", ", ".join(allowed))
    found: str | None = value
    return found


def _texts(field: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    found = _list(field, value)
    if not found or not all(isinstance(one, str) for one in found):
        raise _wrong(field, f"is {value!r}"[:200], "a list of at least one text")
    return tuple(dict.fromkeys(found))


def _list(field: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(field, f"is {value!r}"[:200], "a list")
    return value


def _wrong(field: str, what: str, allowed: str, why: str = "choice") -> Unprocessable:
    sentence = f"{what}; it must be {allowed}"
    return Unprocessable(f"{field} {sentence}", why=why, errors={field: [sentence]})
