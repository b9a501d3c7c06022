"""Lay out the chart of a store's days: positions in percent of a row, and a sentence for each mark."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np

from storemon_flask.clock import duration_text
from storemon_flask.model import DAY_US, HOUR_US, Bools, Ints
from storemon_flask.pages import words
from storemon_flask.stores.detail import LocalDay, StoreDetail
from storemon_flask.uptime import zones
from storemon_flask.uptime.timeline import BETWEEN, DOWN, KNOWN, MEASURED, STATES, UNKNOWN, UP

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# With more there is no room to say something of each, nor to show each: those that are short and touch become one.
_MOST_STRETCHES: Final = 700
_MOST_TOLD: Final = 300
# The first length that counts as too short to be seen, as a part of a row.
_SHORT: Final = 400

_JOINED: Final = len(KNOWN)
_HOW: Final = (*KNOWN, "joined")
_CODES: Final = (("up", UP), ("down", DOWN), ("unknown", UNKNOWN))
_REASONS: Final = {
    ("up", "measured"): "polls on both sides say active",
    ("down", "measured"): "polls on both sides say inactive",
    ("up", "between"): "nearer to the poll that says active than to the one that says inactive",
    ("down", "between"): "nearer to the poll that says inactive than to the one that says active",
    ("up", "extrapolated"): "only the nearest poll, active, says so",
    ("down", "extrapolated"): "only the nearest poll, inactive, says so",
    ("up", "joined"): "the nearer polls say active",
    ("down", "joined"): "the nearer polls say inactive",
    ("unknown", "nothing"): "no poll speaks for this time",
}


KINDS: Final = ("active", "inactive", "closed")
# With more polls there is no room to say something of each, and no more ticks than that are drawn.
MOST_TOLD: Final = 240
MOST_TICKS: Final = 900
# Ticks nearer than this part of a row touch.
_TOUCHING: Final = 400


@dataclass(frozen=True, slots=True)
class Tick:
    """Polls of one kind from the first to the last of them, each no further than `Ticks.apart_us` from the one before."""

    first_us: int
    last_us: int
    kind: str


class Ticks:
    """The polls on some days of one row width. `apart_us` is how far apart polls may be that are drawn as one; -1: each
    is drawn by itself."""

    def __init__(self, days: list[LocalDay], width_us: int, instant_us: Ints, active: Bools, in_hours: Bools) -> None:
        """`instant_us` ascends; `in_hours` says which polls count."""
        kind = np.where(in_hours, np.where(active, 0, 1), 2)
        self._instant_us = {name: instant_us[kind == place] for place, name in enumerate(KINDS)}
        self.apart_us = -1 if len(instant_us) <= MOST_TOLD else self._apart(days, width_us // _TOUCHING)

    def of(self, day: LocalDay) -> Iterator[Tick]:
        """Its ticks, kind by kind: what is down is drawn over what is up."""
        for kind in KINDS:
            found = self._of(kind, day)
            ends = np.flatnonzero(np.diff(found) > self.apart_us)
            firsts, lasts = found[np.append(0, ends + 1)[: len(found)]], found[np.append(ends, -1)[: len(found)]]
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                yield Tick(first, last, kind)

    def _of(self, kind: str, day: LocalDay) -> Ints:
        found = self._instant_us[kind]
        begin, end = found.searchsorted((day.start_us, day.end_us))
        inside: Ints = found[begin:end]
        return inside

    def _apart(self, days: list[LocalDay], touching_us: int) -> int:
        """As far as ticks touch; further while that leaves too many, and no further than it takes."""
        found = [self._of(kind, day) for kind in KINDS for day in days]
        gaps = np.sort(np.concatenate([np.diff(one) for one in found]))
        # Every day has a tick of each kind that it has polls of, whatever is drawn as one.
        room = MOST_TICKS - sum(len(one) > 0 for one in found)
        return max(touching_us, int(gaps[-room - 1]) if len(gaps) > room else 0)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something in a row: where it begins, how wide it is, what kind it is, and the sentence it has (or none)."""

    at: str
    wide: str
    kind: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class _Groups:
    """Stretches in order, as columns (`how` indexes `_HOW`), and which are drawn as one: those from each `first` up to
    the next.
    """

    start_us: Ints
    end_us: Ints
    state: Ints
    how: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.first)

    def of(self, day: LocalDay) -> Iterator[slice]:
        """Of each group that lies in that day, the places of its stretches that do."""
        begin = int(self.end_us.searchsorted(day.start_us, side="right"))
        stop = int(self.start_us.searchsorted(day.end_us, side="left"))
        if begin < stop:
            edges = self.first[(self.first > begin) & (self.first < stop)].tolist()
            for one, following in pairwise([begin, *edges, stop]):
                yield slice(one, following)

    def joined(self, apart: Bools) -> "_Groups":
        """With those drawn as one that are not `apart` from the stretch before."""
        return replace(self, first=np.flatnonzero(np.append(True, apart)) if len(self.start_us) else self.first)


@dataclass(frozen=True, slots=True)
class ChartDay:
    """A row of the picture. `hours`: places of every sixth hour, with its name where it is not that above the rows."""

    key: str
    label: str
    note: str
    told: str
    percent: int
    known: str
    sums: dict[str, int]
    wide: str
    open: list[Mark]
    stretches: list[Mark]
    polls: list[Mark]
    hours: list[tuple[str, str]]
    change: str
    now: str


def days(detail: StoreDetail) -> list[ChartDay]:
    """The rows, the newest day first."""
    width = max(DAY_US, *(day.end_us - day.start_us for day in detail.days))
    groups, found = _together(detail, width), detail.timeline
    ticks = Ticks(detail.days, width, found.polls.instant_us, found.polls.active, found.in_hours)
    return [_day(detail, day, width, groups, ticks) for day in reversed(detail.days)]


def hours_across(detail: StoreDetail) -> list[tuple[int, str]]:
    """The hours that are written above the rows, and where."""
    width = max(DAY_US, *(day.end_us - day.start_us for day in detail.days))
    return [(hour, _percent(hour * HOUR_US, width)) for hour in range(0, 24, 3)]


def _day(detail: StoreDetail, day: LocalDay, width: int, groups: _Groups, ticks: Ticks) -> ChartDay:
    found = detail.timeline
    percent = words.percent_of(day.sums["uptime"], day.sums["uptime"] + day.sums["downtime"])
    inside = (found.polls.instant_us >= day.start_us) & (found.polls.instant_us < day.end_us)
    label = f"{_EPOCH + timedelta(microseconds=day.local_us):%a %Y-%m-%d}"
    length = (day.end_us - day.start_us) / HOUR_US
    moved = [turn for turn in zones.turns(detail.store.zone) if day.start_us < turn <= day.end_us]
    note = f"{length:g} h: {'another time zone' if moved else 'clocks change'}" if length != 24 else ""
    polled = int(inside.sum())
    told = (
        ", ".join(
            f"{duration_text(day.sums[name])} {word}"
            for name, word in (("uptime", "up"), ("downtime", "down"), ("unknown", "unknown"))
            if day.sums[name]
        )
        or "no business hours"
    )
    as_of = detail.store.as_of.as_of_us
    return ChartDay(
        key=f"day-{_EPOCH + timedelta(microseconds=day.local_us):%Y-%m-%d}",
        label=label,
        note=note,
        told=f"{label}{f' ({note})' if note else ''}: {told}; {polled} {'poll' if polled == 1 else 'polls'}",
        percent=percent,
        known=words.known_of(day.sums),
        sums=day.sums,
        wide=_percent(day.end_us - day.start_us, width),
        open=[_mark(start, end, day, width, "open") for start, end in _within(found.openings, day)],
        stretches=list(_stretches(groups, day, width, detail)),
        polls=list(_ticks(detail, day, width, ticks)),
        hours=list(hours_of(day, moved[0] if moved else day.change_us, width)),
        change=_percent(day.change_us - day.start_us, width) if day.change_us >= 0 else "",
        now=_percent(as_of - day.start_us, width) if day.start_us < as_of < day.end_us else "",
    )  # fmt: skip


def hours_of(day: LocalDay, change_us: int, width: int) -> Iterator[tuple[str, str]]:
    """Where 06, 12 and 18 stand in a row; named when the clocks, changed at `change_us` (-1: never), have moved them."""
    later_us, change = day.end_us - day.start_us - DAY_US, change_us - day.start_us
    for hour in (6, 12, 18):
        at = hour * HOUR_US
        if later_us and 0 <= change <= at:
            yield f"{hour:02}", _percent(max(at + later_us, change), width)
        else:
            yield "", _percent(at, width)


def _together(detail: StoreDetail, width: int) -> _Groups:
    """Every stretch of the picture in order, each alone while there is room; else those that touch and are short
    together.
    """
    found = detail.timeline.segments
    groups = _Groups(found.start_us, found.end_us, found.state, found.known, np.arange(len(found)))
    if len(groups) > _MOST_STRETCHES:
        groups = _joined(groups)
    touch = groups.end_us[:-1] == groups.start_us[1:]
    length = groups.end_us - groups.start_us
    longer = np.maximum(length[1:], length[:-1])
    shortest = width // _SHORT
    while len(groups) > _MOST_STRETCHES and shortest < width:
        groups = groups.joined(~touch | (longer >= shortest))
        shortest *= 2
    return groups


def _joined(groups: _Groups) -> _Groups:
    """Neighbours that say the same as one stretch, where polls on both sides of them say something."""
    sure = (groups.how == MEASURED) | (groups.how == BETWEEN)
    alike = (groups.end_us[:-1] == groups.start_us[1:]) & (groups.state[1:] == groups.state[:-1]) & sure[1:] & sure[:-1]
    first = groups.joined(~alike).first
    last = np.append(first[1:], len(sure)) - 1
    how = np.where(last > first, _JOINED, groups.how[first])
    return _Groups(groups.start_us[first], groups.end_us[last], groups.state[first], how, np.arange(len(first)))


def _stretches(groups: _Groups, day: LocalDay, width: int, detail: StoreDetail) -> Iterator[Mark]:
    zone, complete_from_us = detail.store.zone, detail.timeline.polls.complete_from_us
    for inside in groups.of(day):
        begins = np.maximum(groups.start_us[inside], day.start_us)
        ends = np.minimum(groups.end_us[inside], day.end_us)
        start, end = int(begins[0]), int(ends[-1])
        count, word, how = len(begins), STATES[groups.state[inside.start]], _HOW[groups.how[inside.start]]
        when = f"{_clock(start, zone)}–{_clock(end, zone)}"
        if count == 1:
            told = f"{word.capitalize()} {when} ({duration_text(end - start)}): {_REASONS[word, how]}."
            if word == "unknown" and start < complete_from_us:
                told = f"{told[:-1]}; polls from before {_date_and_time(complete_from_us)} UTC were pruned."
            kind = "unknown" if word == "unknown" else f"{word} {'measured' if how == 'joined' else how}"
        else:
            lengths, state = ends - begins, groups.state[inside]
            sums = {word: int(lengths[state == code].sum()) for word, code in _CODES}
            some = ", ".join(f"{duration_text(length)} {word}" for word, length in sums.items() if length)
            told = f"{when}: {some}, in {count} stretches too short to show."
            kind = "mixed" if sum(map(bool, sums.values())) > 1 else f"{word} extrapolated"
        speaks = len(groups) <= _MOST_TOLD or count > 1
        yield _mark(start, end, day, width, kind, f"{told} {_utc(start)}–{_utc(end)} UTC" if speaks else "")


def _ticks(detail: StoreDetail, day: LocalDay, width: int, ticks: Ticks) -> Iterator[Mark]:
    """Polls; each with its sentence where each stands by itself."""
    found, told = detail.timeline.polls, ""
    for tick in ticks.of(day):
        if ticks.apart_us < 0:
            place = int(found.instant_us.searchsorted(tick.first_us))
            word = "active" if found.active[place] else "inactive"
            closed = ", outside business hours: does not count" if tick.kind == "closed" else ""
            clock = _clock(tick.first_us, detail.store.zone, seconds=True)
            told = f"Poll {clock}: {word}{closed}. {_utc(tick.first_us)} UTC"
        mark = _mark(tick.first_us, tick.last_us, day, width, tick.kind, told)
        yield mark if tick.last_us > tick.first_us else replace(mark, wide="")


def _mark(start: int, end: int, day: LocalDay, width: int, kind: str, told: str = "") -> Mark:
    return Mark(_percent(start - day.start_us, width), _percent(end - start, width), kind, told)


def _within(openings: object, day: LocalDay) -> list[tuple[int, int]]:
    rows = zip(openings.start_us.tolist(), openings.end_us.tolist(), strict=True)  # type: ignore[attr-defined]
    return [(max(a, day.start_us), min(b, day.end_us)) for a, b in rows if b > day.start_us and a < day.end_us]


def _clock(instant_us: int, zone: str, seconds: bool = False) -> str:
    local = words.wall_clock(instant_us, zone)
    return f"{local:%H:%M:%S %Z}" if seconds else f"{local:%H:%M %Z}"


def _utc(instant_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=instant_us):%H:%M:%S}"


def _date_and_time(instant_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=instant_us):%Y-%m-%d %H:%M}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".") + "%"
