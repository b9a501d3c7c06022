"""The rows of the page Now: what is shown of a store, from a snapshot and its last days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from storemon_flask.formatting import known_text, knows_little
from storemon_flask.pages import words
from storemon_flask.stores.store_list import LISTED_WINDOWS, PERCENTAGES, Snapshot
from storemon_flask.stores.week_strip import Day
from storemon_flask.uptime.status import STATUSES

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOWS: Final = tuple(window.name for window in LISTED_WINDOWS)
# Of a day's column in the strip, in pixels.
_WIDE, _HIGH, _STEP = 10, 20, 13


@dataclass(frozen=True, slots=True)
class Bar:
    """Up, down and unknown time of a window, hundredths of hours, with the percentages; -1 where there is nothing to
    say.

    `known` says of how much time the percentage is, where that is little.
    """

    up: int
    down: int
    unknown: int
    percent: int
    low: int
    high: int
    known: str

    @property
    def business(self) -> int:
        """All of it."""
        return self.up + self.down + self.unknown

    @property
    def parts(self) -> list[tuple[str, str, str]]:
        """The word of each part that there is, where it begins and how wide it is, in percent of the bar."""
        found, begun = [], 0
        for word, length in (("up", self.up), ("unknown", self.unknown), ("down", self.down)):
            if length:
                found.append((word, share(begun, self.business), share(length, self.business)))
            begun += length
        return found

    @property
    def told(self) -> str:
        """The bar in words."""
        if not self.business:
            return "no business hours"
        return f"{words.hours(self.up)} h up, {words.hours(self.down)} h down, {words.hours(self.unknown)} h unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """A store in the list."""

    store_id: str
    name: str
    group: str
    zone: str
    status: str
    status_text: str
    since_us: int
    earlier: bool
    last_poll_us: int
    bars: dict[str, Bar]
    strip: dict[str, str]
    told: str


def rows(found: Snapshot, places: Sequence[int], days: Sequence[Sequence[Day]]) -> list[Row]:
    """The stores at those places, each with its days."""
    columns = found.columns

    def bar(window: str, place: int) -> Bar:
        names = ("uptime", "downtime", "unknown", "business", *PERCENTAGES)
        up, down, unknown, business, percent, low, high = (int(columns[f"{name}_{window}"][place]) for name in names)
        return Bar(up, down, unknown, percent, low, high, known_text(unknown, business))

    return [
        Row(
            found.ids[place],
            found.names[place],
            found.groups[place],
            found.zones[place],
            STATUSES[int(columns["status"][place])],
            found.status_text(place),
            int(columns["since"][place]),
            bool(columns["since_or_earlier"][place]),
            int(columns["last_poll"][place]),
            {window: bar(window, place) for window in _WINDOWS},
            _strip(week),
            "; ".join(map(_told, week)),
        )
        for place, week in zip(places, days, strict=True)
    ]


def share(part: int, whole: int) -> str:
    """A part of a whole as a percentage for a picture."""
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".") + "%" if whole else "0%"


def _strip(week: Sequence[Day]) -> dict[str, str]:
    """Paths of the strip: up narrow from below (`little` where the day knows little), unknown above it, down across the
    whole column from above."""
    paths = {"up": "", "little": "", "unknown": "", "down": "", "closed": ""}
    for place, day in enumerate(week):
        business, x = day.up_us + day.down_us + day.unknown_us, place * _STEP
        if not business:
            paths["closed"] += f"M{x + 3} {_HIGH - 1}h4v1h-4z"
            continue
        # However short: what is down is seen.
        down = max(round(_HIGH * day.down_us / business), 2) if day.down_us else 0
        unknown = min(round(_HIGH * day.unknown_us / business), _HIGH - down)
        if day.unknown_us and not unknown:
            unknown = min(1, _HIGH - down)
        up = _HIGH - down - unknown
        if up:
            paths["little" if knows_little(day.unknown_us, business) else "up"] += (
                f"M{x + 2} {_HIGH - up}h{_WIDE - 4}v{up}h-{_WIDE - 4}z"
            )
        if unknown:
            paths["unknown"] += f"M{x + 1} {down}h{_WIDE - 2}v{unknown}h-{_WIDE - 2}z"
        if down:
            paths["down"] += f"M{x} 0h{_WIDE}v{down}h-{_WIDE}z"
    return {word: path for word, path in paths.items() if path}


def _told(day: Day) -> str:
    date = f"{_EPOCH + timedelta(microseconds=day.local_us):%a %d}"
    if not day.up_us + day.down_us + day.unknown_us:
        return f"{date} closed"
    said = ((day.up_us, "up"), (day.down_us, "down"), (day.unknown_us, "unknown"))
    return f"{date} " + ", ".join(f"{length / 3.6e9:.1f} h {word}" for length, word in said if length)
