"""What a report is asked for: read and checked once for HTTP, pages and command line, and described in words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final

from storemon_flask import clock, labels
from storemon_flask.characters import join_words
from storemon_flask.database.reports import ReportRecord
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US
from storemon_flask.reports.windows import WINDOW_NAMES, Window, named_window
from storemon_flask.rules import DEFAULT_DAYPARTS, Daypart
from storemon_flask.uptime.calendar import UNITS as UNITS

DEFAULT_WINDOWS: Final = ("last_hour", "last_day", "last_week")
METHODS: Final = ("nearest", "previous")
KINDS: Final = ("times", "outages")
COLUMNS: Final = ("classic", "full")
COMPARISONS: Final = ("previous",)
# The fields of a request besides as-of, columns and stores.
FIELDS: Final = (
    "kind", "windows", "by", "groups", "labels", "zones", "totals", "method", "compare", "shortest_minutes",
)  # fmt: skip
_WINDOW_OF_UNIT: Final = {
    "hour": "last_day", "daypart": "last_week", "day": "last_week", "week": "last_30_days", "month": "last_30_days",
}  # fmt: skip
_MOST_WINDOWS: Final = 50
_LONGEST_US: Final = 400 * DAY_US
_EPOCH: Final = date(1970, 1, 1)
# Names of windows that say too little, or that are no English, without their underscores.
_WINDOW_WORDS: Final = {"last_week_calendar": "last calendar week"}
_DATE_LENGTH: Final = len("2024-10-01")
_WITH_OFFSET: Final = re.compile(r"([zZ]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)\s*$")
# A description counts more names than these.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """A report as it is asked for, unchecked: as-of (None: the newest poll that is not in the future), columns, store
    ids (None: all), and the other `FIELDS` by name."""

    as_of_us: int | None = None
    columns: str = "classic"
    stores: Sequence[str] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A checked request: one row per store with all windows beside each other, with `by` one row per store and calendar
    period, with the kind `outages` one row per outage that has at least `shortest_us` of business time down.

    `is_default`: no field but as-of, columns and stores was given. Its full columns end with the status of each store.
    `dayparts` are those that `by` daypart has rows for. With `compare` each window has the period before it beside it.
    """

    as_of_us: int
    windows: tuple[Window, ...]
    columns: str = "classic"
    stores: tuple[str, ...] | None = None
    is_default: bool = False
    kind: str = "times"
    by: str | None = None
    method: str = "nearest"
    totals: bool = False
    groups: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    labels: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    shortest_us: int = 0
    dayparts: tuple[Daypart, ...] = ()
    compare: str | None = None

    @property
    def measured_windows(self) -> tuple[Window, ...]:
        """The windows, and with `compare` after all of them, in the same order, the periods before them."""
        return self.windows + tuple(replace(one, previous=True) for one in self.windows if self.compare)

    @property
    def has_status(self) -> bool:
        """Whether the report has the status of each store."""
        return self.is_default and self.full

    @property
    def full(self) -> bool:
        """Whether the report has all columns."""
        return self.columns == "full"

    def unit_us(self, window: Window) -> int:
        """Return the unit in which amounts of the window, or of its periods, are printed."""
        minutes = self.by == "hour" if self.by else window.name == "last_hour"
        return MINUTE_US if minutes else HOUR_US


def check(request: ReportRequest, dayparts: tuple[Daypart, ...] = DEFAULT_DAYPARTS) -> ReportQuery:
    """Return the query of a request, with those dayparts if it is by daypart; its as-of is 1970 where none is given.

    `Unprocessable` names the field, its value and what is allowed. Whether the stores exist is for the database to say.
    """
    fields = request.fields
    usual = {"kind": "times", "method": "nearest", "totals": False}
    is_default = all(fields.get(name) is None or fields[name] == usual.get(name, ...) for name in FIELDS)
    kind = _one_of("kind", fields.get("kind"), KINDS) or "times"
    if kind == "outages":
        _refuse_fields_of_times(fields)
    elif fields.get("shortest_minutes") is not None:
        raise _wrong("shortest_minutes", "is of outages", "left out without kind outages")
    by = _one_of("by", fields.get("by"), UNITS)
    windows = _windows(fields.get("windows"), kind, by)
    compare = _comparison(fields.get("compare"), by, windows)
    totals = fields.get("totals") or False
    if not isinstance(totals, bool):
        raise _wrong("totals", f"is {totals!r}", "true or false")
    return ReportQuery(
        request.as_of_us or 0,
        windows,
        request.columns,
        None if request.stores is None else tuple(dict.fromkeys(request.stores)),
        is_default,
        kind,
        by,
        _one_of("method", fields.get("method"), METHODS) or "nearest",
        totals,
        _texts("groups", fields.get("groups")),
        _texts("zones", fields.get("zones")),
        _labels(fields.get("labels")),
        _shortest_us(fields.get("shortest_minutes") or 0),
        dayparts if by == "daypart" else (),
        compare,
    )


def stored_query(record: ReportRecord, dayparts: tuple[Daypart, ...] = DEFAULT_DAYPARTS) -> ReportQuery:
    """Return the query of a stored report; `Unprocessable` when another version made it that knew more."""
    return check(ReportRequest(record.as_of_us, record.columns, record.stores, record.shape or {}), dayparts)


def window_of_text(text: str) -> str | dict[str, str]:
    """Return a window as a request has it, of `last_week` or `[NAME=]FROM..TO`; `check` says what it may be."""
    name, _, span = text.rpartition("=")
    first, dots, last = span.partition("..")
    if not dots:
        return text
    return {"from": first, "to": last, **({"name": name} if name else {})}


def text_of_window(window: str | Mapping[str, str]) -> str:
    """Return the same window as text."""
    if isinstance(window, str):
        return window
    name = f"{window['name']}=" if "name" in window else ""
    return f"{name}{window['from']}..{window['to']}"


def describe(record: ReportRecord) -> str:
    """Return what a report was asked for in words, without the as-of: which times, of which stores, how."""
    try:
        query = stored_query(record)
    except Unprocessable:
        return "a report that this version does not know"
    times = "The last hour, day and week" if query.is_default else describe_windows(query)
    parts = [times, _stores_text(record, query)]
    parts += ["against the period before"] if query.compare else []
    parts += ["with totals"] if query.totals else []
    parts += ["by the previous poll"] if query.method == "previous" else []
    parts += ["all columns"] if query.full else []
    return ", ".join(parts)


def window_lengths(record: ReportRecord) -> dict[str, int]:
    """Return a report's windows with their lengths in microseconds; 0 where that is unknown or differs by store."""
    names = (record.method or {}).get("windows") or DEFAULT_WINDOWS
    try:
        windows = stored_query(record).windows
    except Unprocessable:
        windows = ()
    # Local dates are as long as the days between them are, which differs where clocks change.
    lengths = {one.name: 0 if one.differs_by_zone else one.length_us or one.to_us - one.from_us for one in windows}
    return {name: lengths.get(name, 0) for name in names}


def window_words(name: str) -> str:
    """Return a window's name in words: `2 to 4 November 2024` where that is its dates, the last of which is outside it.
    Any other name is as it is."""
    if name in WINDOW_NAMES:
        return _WINDOW_WORDS.get(name, name.replace("_", " "))
    first, _, end = name.partition("_")
    try:
        if not len(first) == len(end) == _DATE_LENGTH:
            edges = [clock.utc_datetime(clock.parse_timestamp(edge)) for edge in (first, end)]
            return " to ".join(f"{edge:%Y-%m-%d %H:%M}" for edge in edges) + " UTC"
        return _days_text(date.fromisoformat(first), date.fromisoformat(end) - timedelta(days=1))
    except (ValueError, OverflowError):
        return name


def _refuse_fields_of_times(fields: Mapping[str, Any]) -> None:
    for name in ("by", "totals", "method", "compare"):
        if fields.get(name) not in (None, False, "nearest"):
            raise _wrong(name, "does not go with outages", "left out")


def _comparison(value: Any, by: str | None, windows: Sequence[Window]) -> str | None:
    compare = _one_of("compare", value, COMPARISONS)
    if compare is None:
        return None
    if by:
        raise _wrong("compare", f"does not go with by {by}, whose rows follow each other", "left out")
    names = [window.name for window in windows]
    for index, name in enumerate(names):
        if name.startswith("previous_") and name.removeprefix("previous_") in names:
            what = f"is called {name!r}, as the period before another window is"
            raise _wrong(f"windows[{index}]", what, "a window of another name, with compare")
    return compare


def _windows(value: Any, kind: str, by: str | None) -> tuple[Window, ...]:
    windows = tuple(_window(index, one) for index, one in enumerate(_list("windows", value)))
    if not windows:
        usual = "last_week" if kind == "outages" else _WINDOW_OF_UNIT.get(by or "")
        return tuple(map(named_window, (usual,) if usual else DEFAULT_WINDOWS))
    if len(windows) > 1 and kind == "outages":
        raise _wrong("windows", f"has {len(windows)} entries", "one window, in which outages are looked for")
    if len(windows) > _MOST_WINDOWS:
        raise _wrong("windows", f"has {len(windows)} entries", f"at most {_MOST_WINDOWS}")
    if len(windows) > 1 and by:
        raise _wrong("windows", f"has {len(windows)} entries", f"one window with `by`, which is cut into {by}s")
    names = [window.name for window in windows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong("windows", f"names {twice!r} twice", "a name of its own for each window")
    return windows


def _window(index: int, value: Any) -> Window:
    field_name = f"windows[{index}]"
    if isinstance(value, str) and value in WINDOW_NAMES:
        return named_window(value)
    if not isinstance(value, dict):
        raise _wrong(field_name, f"is {value!r}", f"{', '.join(WINDOW_NAMES)}, or an object with from and to")
    for name in value:
        if name not in ("from", "to", "name"):
            raise _wrong(f"{field_name}.{name}", "is not a field of a window", "from, to and name")
    (from_us, local), (to_us, to_local) = (_edge(f"{field_name}.{edge}", value.get(edge)) for edge in ("from", "to"))
    if local != to_local:
        raise _wrong(field_name, "mixes a date with an instant", "two dates, or two instants with an offset")
    if to_us <= from_us:
        raise _wrong(field_name, f"runs from {value['from']!r} to {value['to']!r}", "an end after its start")
    if to_us - from_us > _LONGEST_US:
        raise _wrong(field_name, f"is {(to_us - from_us) / DAY_US:.0f} days long", "at most 400 days")
    name = value.get("name", f"{value['from']}_{value['to']}")
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise _wrong(f"{field_name}.name", f"is {name!r}", "1 to 100 printable characters")
    return Window(name, 0, from_us, to_us, local)


def check_window_ends(query: ReportQuery) -> None:
    """`Unprocessable` when a window ends after the as-of, where nothing is known yet."""
    for index, window in enumerate(query.windows):
        if window.follows_as_of:
            continue
        # A local date is at most a day ahead of the same date in UTC.
        latest_us = query.as_of_us + (DAY_US if window.local else 0)
        if (window.from_us if window.local else window.to_us) > latest_us:
            what = f"{window.name!r} ends after the as-of"
            raise _wrong(f"windows[{index}]", what, "a window that ends by the as-of")


def _edge(field_name: str, value: Any) -> tuple[int, bool]:
    """Return microseconds, and whether the value is a local date."""
    allowed = "a date such as 2024-10-01 or an instant with an offset such as 2024-10-01T09:00:00-05:00"
    if not isinstance(value, str):
        raise _wrong(field_name, "is missing" if value is None else f"is {value!r}", allowed)
    local = len(value) == _DATE_LENGTH
    try:
        if not (local or _WITH_OFFSET.search(value)):
            raise ValueError
        edge_us = (date.fromisoformat(value) - _EPOCH).days * DAY_US if local else clock.parse_timestamp(value)
    except ValueError:
        raise _wrong(field_name, f"is {value[:100]!r}", allowed) from None
    if not clock.EARLIEST_US <= edge_us <= clock.LATEST_US:
        raise _wrong(field_name, f"is {value[:100]!r}", "between 1970-01-01 and 2200-01-01")
    return edge_us, local


def _shortest_us(minutes: Any) -> int:
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes <= _LONGEST_US / MINUTE_US:
        raise _wrong("shortest_minutes", f"is {minutes!r}", "a number of minutes from 0 to 576000")
    return round(minutes * MINUTE_US)


def _one_of(field_name: str, value: Any, allowed: Sequence[str]) -> str | None:
    if value is not None and value not in allowed:
        raise _wrong(field_name, f"is {value!r}", ", ".join(allowed))
    chosen: str | None = value
    return chosen


def _texts(field_name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    texts = _list(field_name, value)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _wrong(field_name, f"is {value!r}"[:200], "a list of at least one text")
    return tuple(dict.fromkeys(texts))


def _labels(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Return the values that are asked for of each label, by name; the empty one is that of stores without it."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value:
        raise _wrong("labels", f"is {value!r}"[:200], 'an object such as {"region": ["West", "East"]}')
    for name in value:
        if not labels.is_label(name):
            raise _wrong("labels", f"has {name!r}"[:200], f"of {labels.NAMES_TEXT}")
    return tuple((name, _texts(f"labels.{name}", value[name]) or ()) for name in labels.in_order(value))


def _list(field_name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(field_name, f"is {value!r}"[:200], "a list")
    return value


def _wrong(field_name: str, what: str, allowed: str) -> Unprocessable:
    sentence = f"{what}; it must be {allowed}"
    return Unprocessable(f"{field_name} {sentence}", errors={field_name: [sentence]})


def describe_windows(query: ReportQuery) -> str:
    """Return which times a report is of, in words."""
    windows = join_words([_window_text(window) for window in query.windows])
    if query.kind == "outages":
        at_least = f" of at least {query.shortest_us / MINUTE_US:g} minutes" if query.shortest_us else ""
        return f"Outages{at_least} in {windows}"
    if query.by:
        return f"{query.by.capitalize()} by {query.by} in {windows}"
    return windows[:1].upper() + windows[1:]


def _window_text(window: Window) -> str:
    words = window_words(window.name)
    if window.follows_as_of:
        return f"the {words}" if words.startswith("last ") and window.name != "last_month" else words
    words = words if words != window.name else f"“{window.name}”"
    if not window.local:
        return words
    first, last = (clock.utc_datetime(edge_us).date() for edge_us in (window.from_us, window.to_us - DAY_US))
    dates = _days_text(first, last)
    return words if words == dates else f"{words} ({dates})"


def _days_text(first: date, last: date) -> str:
    """Return `2 to 4 November 2024`, both days included."""
    if first == last:
        return f"{last.day} {last:%B %Y}"
    month = "" if (first.year, first.month) == (last.year, last.month) else f" {first:%B}"
    year = "" if first.year == last.year else f" {first.year}"
    return f"{first.day}{month}{year} to {last.day} {last:%B %Y}"


def _stores_text(record: ReportRecord, query: ReportQuery) -> str:
    texts, ids, count = [], record.stores, record.stores_asked
    if ids is not None and count is not None:
        texts.append(join_words(ids) if count <= _NAMED else f"{count:,} named stores")
    if query.groups is not None:
        texts.append(f"in the group{'s' if len(query.groups) > 1 else ''} {_some(query.groups)}")
    texts += [
        f"with {_some([labels.label_text(name, value) for value in values])}" for name, values in query.labels or ()
    ]
    if query.zones is not None:
        texts.append(f"in {_some(query.zones)}")
    if not texts:
        return "every store"
    return ("" if ids is not None else "stores ") + ", ".join(texts)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return join_words(names[:_NAMED]) + more
