"""A store's days as a picture: places in percent of a row, and a sentence for everything that can be pointed at."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from storemon_flask.core.timeline import KNOWN, STATES
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.services.store_story import LocalDay, Story
from storemon_flask.web.pages import words

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# With more there is no room to say something of each; ticks that would touch become one.
_MOST_TOLD_POLLS: Final = 320
_MOST_TICKS: Final = 1200
_MOST_TOLD: Final = 500

_REASONS: Final = {
    ("up", "measured"): "polls on both sides say active",
    ("down", "measured"): "polls on both sides say inactive",
    ("up", "between"): "nearer to the poll that says active than to the one that says inactive",
    ("down", "between"): "nearer to the poll that says inactive than to the one that says active",
    ("up", "extrapolated"): "only the nearest poll, active, says so",
    ("down", "extrapolated"): "only the nearest poll, inactive, says so",
    ("unknown", "nothing"): "no poll speaks for this time",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Something in a row: where it begins, how wide it is, what kind it is, and the sentence it has (or none)."""

    at: str
    wide: str
    kind: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class ChartDay:
    """A row of the picture."""

    label: str
    note: str
    told: str
    percent: int
    sums: dict[str, int]
    wide: str
    open: list[Mark]
    stretches: list[Mark]
    polls: list[Mark]
    change: str
    now: str


def days(story: Story) -> list[ChartDay]:
    """The rows, the newest day first."""
    width = max(DAY_US, *(day.end_us - day.start_us for day in story.days))
    return [_day(story, day, width) for day in reversed(story.days)]


def hours_across(story: Story) -> list[tuple[int, str]]:
    """The hours that are written above the rows, and where."""
    width = max(DAY_US, *(day.end_us - day.start_us for day in story.days))
    return [(hour, _percent(hour * HOUR_US, width)) for hour in range(0, 24, 3)]


def _day(story: Story, day: LocalDay, width: int) -> ChartDay:
    found, zone = story.timeline, story.timeline.zone
    known = words.percent_of(day.sums["uptime"], day.sums["uptime"] + day.sums["downtime"])
    inside = (found.polls.instant_us >= day.start_us) & (found.polls.instant_us < day.end_us)
    label = f"{_EPOCH + timedelta(microseconds=day.local_us):%a %Y-%m-%d}"
    length = (day.end_us - day.start_us) / HOUR_US
    note = f"{length:g} h: clocks change" if length != 24 else ""
    polled = list(
        zip(
            found.polls.instant_us[inside].tolist(),
            found.polls.active[inside].tolist(),
            found.in_hours[inside].tolist(),
            strict=True,
        )
    )
    told = (
        ", ".join(
            f"{words.span(day.sums[name])} {word}"
            for name, word in (("uptime", "up"), ("downtime", "down"), ("unknown", "unknown"))
            if day.sums[name]
        )
        or "no business hours"
    )
    as_of = story.timeline.moment.as_of_us
    return ChartDay(
        label=label,
        note=note,
        told=f"{label}{f' ({note})' if note else ''}: {told}; {len(polled)} {'poll' if len(polled) == 1 else 'polls'}",
        percent=known,
        sums=day.sums,
        wide=_percent(day.end_us - day.start_us, width),
        open=[_mark(start, end, day, width, "open") for start, end in _within(found.openings, day)],
        stretches=list(_stretches(story, day, width, zone)),
        polls=_ticks(story, day, width, polled),
        change=_percent(day.change_us - day.start_us, width) if day.change_us >= 0 else "",
        now=_percent(as_of - day.start_us, width) if day.start_us < as_of < day.end_us else "",
    )  # fmt: skip


def _stretches(story: Story, day: LocalDay, width: int, zone: str) -> Iterator[Mark]:
    found = story.timeline.stretches
    speaks = len(found) <= _MOST_TOLD
    inside = (found.end_us > day.start_us) & (found.start_us < day.end_us)
    for start, end, state, known in zip(
        *(column[inside].tolist() for column in (found.start_us, found.end_us, found.state, found.known)), strict=True
    ):
        start, end = max(start, day.start_us), min(end, day.end_us)
        word, how = STATES[state], KNOWN[known]
        told = ""
        if speaks:
            told = f"{word.capitalize()} {_clock(start, zone)}–{_clock(end, zone)} ({words.span(end - start)}): {_REASONS[word, how]}. {_utc(start)}–{_utc(end)} UTC"
        yield _mark(start, end, day, width, word if word == "unknown" else f"{word} {how}", told)


def _ticks(story: Story, day: LocalDay, width: int, polled: list[tuple[int, bool, bool]]) -> list[Mark]:
    """Polls, each with its sentence while they are few; else those that would touch as one."""
    zone, total = story.timeline.zone, len(story.timeline.polls)
    found = []
    if total <= _MOST_TOLD_POLLS:
        for instant, active, counts in polled:
            word = "active" if active else "inactive"
            closed = "" if counts else ", outside business hours: does not count"
            told = f"Poll {_clock(instant, zone, seconds=True)}: {word}{closed}. {_utc(instant)} UTC"
            found.append(Mark(_percent(instant - day.start_us, width), "", word if counts else "closed", told))
        return found
    bins = max(_MOST_TICKS // len(story.days), 24)
    for kind in ("active", "inactive", "closed"):
        wanted = [
            at
            for at, active, counts in polled
            if ("closed" if not counts else "active" if active else "inactive") == kind
        ]
        places = sorted({(at - day.start_us) * bins // width for at in wanted})
        begin = 0
        for place in range(1, len(places) + 1):
            if place == len(places) or places[place] != places[place - 1] + 1:
                length = places[place - 1] - places[begin]
                found.append(Mark(_percent(places[begin], bins), _percent(length, bins) if length else "", kind))
                begin = place
    return found


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


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".") + "%"
