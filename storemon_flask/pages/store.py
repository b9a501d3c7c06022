"""The page `/stores/ID`: one store in detail, with the chart of its days."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby, pairwise
from typing import Any, Final

import numpy as np
from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.alerts import catalogue as incidents
from storemon_flask.api.feeds import one_load
from storemon_flask.characters import count_text
from storemon_flask.clock import date_text, duration_text, minute_text, time_text, timestamp_text, utc_datetime
from storemon_flask.formatting import decimals, hundredths
from storemon_flask.labels import label_texts
from storemon_flask.model import CLOSED, DAY_US, HOUR_US, MINUTE_US, UNDATED, Bools, Hours, Ints, SpecialHours
from storemon_flask.pages import words
from storemon_flask.pages.alerts import incident_rows
from storemon_flask.reports import request as requests
from storemon_flask.reports.blind_spans import BlindSpan
from storemon_flask.reports.request import ReportQuery, ReportRequest
from storemon_flask.stores import edit
from storemon_flask.stores.detail import (
    MOST_DAYS,
    DetailQuery,
    LocalDay,
    Numbers,
    StoreDetail,
    build_detail,
    open_store,
)
from storemon_flask.uptime import zones
from storemon_flask.uptime.likely import BOUNDS
from storemon_flask.uptime.timeline import BETWEEN, DOWN, KNOWN, MEASURED, STATES, UNKNOWN, UP, Outages
from storemon_flask.version import VERSION
from storemon_flask.web import contract
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Instant, Whole

blueprint = Blueprint("store", __name__)

DAYS: Final = (1, 7, 14, 30)
# So many outages are shown, the newest; the timeline as JSON has all.
_MOST_OUTAGES: Final = 30
_AMOUNTS: Final = ("uptime", "downtime", "unknown", "business", "measured")
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class StoreQuery(Closed):
    """How many days are shown, up to which; the as-of; and the windows of a report as its command takes them, with
    periods and method."""

    days = Whole(load_default=7, validate=validate.Range(1, MOST_DAYS))
    until = fields.Date(load_default=None)
    as_of = Instant(load_default=None)
    window = fields.List(fields.String(), load_default=())
    by = fields.String(load_default=None, validate=validate.OneOf(requests.UNITS))
    method = fields.String(load_default=None, validate=validate.OneOf(requests.METHODS))


@contract.page(blueprint, "GET", "/stores/<store:store_id>", scope="read")
def store(store_id: str) -> ResponseReturnValue:
    """Return the page; its headers alone when the browser has it already."""
    query = contract.read_query(StoreQuery(), ignore_unknown=True)
    asked = DetailQuery(query["days"], query["until"], _report_query(query))
    app, now_us = storemon(), time.time_ns() // 1000
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    answer = make_response("")
    answer.headers["Cache-Control"] = "no-cache"
    with app.database.read() as connection:
        opened = open_store(app.database, connection, store_id, rules, default_zone, now_us, query["as_of"])
        current = incidents.of_stores(connection, [store_id], now_us) if query["as_of"] is None else {}
        # Incidents begin and end without a change of the data.
        changing = (opened.data_version, opened.as_of, opened.blind_spans(), current)
        state = (VERSION, *changing, rules, default_zone, app.settings.dayparts, request.full_path)
        answer.set_etag(hashlib.sha256(repr(state).encode()).hexdigest()[:32], weak=True)
        if answer.make_conditional(request).status_code == 304:
            return answer
        detail = build_detail(opened, asked, app.slots.for_answer)
    answer.set_data(_page(detail, asked, query, incident_rows(current.get(store_id, []), now_us)))
    return answer


@contract.page(blueprint, "POST", "/stores/<store:store_id>/remove", scope="admin")
def remove(store_id: str) -> ResponseReturnValue:
    """Remove a store; the browser is sent to the load that did it."""
    with one_load() as options:
        result = edit.remove(storemon().database, store_id, options)
    return redirect(url_for("data_pages.load", load=result.load), 303)


def _report_query(query: dict[str, Any]) -> ReportQuery | None:
    """Return the windows of the report whose numbers are asked for; None without one."""
    windows = [requests.window_of_text(text) for text in query["window"]]
    given = {"windows": windows or None, "by": query["by"], "method": query["method"]}
    report = requests.check(ReportRequest(fields=given), storemon().settings.dayparts)
    return None if report.is_default else report


def _page(detail: StoreDetail, asked: DetailQuery, query: dict[str, Any], news: list[dict[str, Any]]) -> str:
    store, snapshot, outages = detail.store, detail.snapshot, detail.timeline.outages
    (_, first_zone), *moves = zones.versions(store.zone)
    return render_template(
        "store.html",
        store=snapshot.record(0),
        labels=label_texts(snapshot.labels.of_store(0)),
        since_us=int(snapshot.columns["since"][0]),
        last_poll_us=store.last_poll_us,
        poll_count=detail.poll_count,
        as_of=store.as_of,
        zone=store.zone,
        detail=detail,
        days=chart_days(detail),
        blind_spans=[blind_text(detail, span) for span in reversed(detail.timeline.blind_spans)],
        axis=chart_axis(detail),
        outages=_outages(outages.pick(np.arange(max(len(outages) - _MOST_OUTAGES, 0), len(outages)))),
        more_outages=max(len(outages) - _MOST_OUTAGES, 0),
        weeks=_weeks(store.part.hours),
        special=_special(store.part.special),
        first_zone=first_zone,
        moves=[(name, date_text(day)) for day, name in moves],
        shown_from=timestamp_text(detail.days[0].start_us),
        shown_to=timestamp_text(min(detail.days[-1].end_us, store.as_of.as_of_us)),
        numbers=[_figures(numbers) for numbers in detail.numbers],
        method=asked.report.method if asked.report else store.rules.method,
        asked_as_of=None if query["as_of"] is None else timestamp_text(query["as_of"]),
        rules=store.rules,
        incidents=news,
        query=query,
        choices=DAYS,
        **_around(detail, query),
    )


def _around(detail: StoreDetail, query: dict[str, Any]) -> dict[str, Any]:
    """Return the last day shown, and the addresses of other days: `link(days)`, those before and after (or None)."""
    count, until = query["days"], query["until"]
    shown = min(until or detail.newest, detail.newest)

    # The as-of and the windows stay when other days are looked at.
    unchanged: dict[str, Any] = {
        name: request.args.getlist(name) for name in ("as_of", "window", "by", "method") if name in request.args
    }

    def link(days: int, last: date | None) -> str:
        """Return the address of this page with so many days up to `last` (None: up to the newest)."""
        when = None if last is None or last >= detail.newest else last.isoformat()
        count = None if days == DAYS[1] else days
        return url_for("store.store", store_id=detail.store.store_id, days=count, until=when, **unchanged)

    earlier, first = shown - timedelta(days=count), detail.store.first_poll_us
    before = first >= 0 and detail.days[0].start_us > first
    return {
        "shown": shown,
        "kept": [(name, value) for name, values in unchanged.items() for value in values],
        "link": lambda days: link(days, until),
        "earlier": link(count, earlier) if before else None,
        "later": link(count, shown + timedelta(days=count)) if shown < detail.newest else None,
    }


def _figures(numbers: Numbers) -> dict[str, Any]:
    """Return a row for the template: `cells` of amounts with their `unit`, percentages in hundredths, and a note where
    they know little."""
    sums = numbers.sums
    business = sums["business"]
    minutes = numbers.unit_us == MINUTE_US
    cells = {name: decimals(hundredths(np.array([sums[name]]), numbers.unit_us))[0] for name in _AMOUNTS}
    return {
        "name": requests.window_words(numbers.name),
        "unit": "min" if minutes else "h",
        "cells": list(cells.values()),
        "known": words.known_of(sums, numbers.unit_us),
        "likely": [
            words.percent_of(sums[name], sums["uptime"] + sums["downtime"]) for name in BOUNDS if sums[name] >= 0
        ],
        "percent": words.percent_of(sums["uptime"], sums["uptime"] + sums["downtime"]),
        "low": words.percent_of(sums["uptime_low"], business),
        "high": words.percent_of(sums["uptime_high"], business),
    }


def _outages(outages: Outages) -> list[dict[str, Any]]:
    """Return the outages for the template, the newest first."""
    names = ("start_us", "end_us", "start_earliest_us", "start_latest_us", "end_earliest_us", "end_latest_us")
    columns = [getattr(outages, name).tolist() for name in (*names, "down_us", "polls", "ongoing")]
    rows: list[dict[str, Any]] = [
        dict(zip((*names, "down_us", "polls", "ongoing"), row, strict=True)) for row in zip(*columns, strict=True)
    ]
    minutes = decimals(hundredths(outages.down_us, MINUTE_US))
    return [{**row, "down_minutes": text} for row, text in zip(rows, minutes, strict=True)][::-1]


def _weeks(hours: Hours) -> list[tuple[str | None, list[tuple[str, list[str]]]]]:
    """Return weekly hours by the date they hold from (None: always): each weekday with its times."""
    rows = sorted(
        zip(*(column.tolist() for column in (hours.from_day, hours.day, hours.start_s, hours.end_s)), strict=True)
    )
    weeks = []
    for valid_from, version in groupby(rows, key=lambda row: row[0]):
        times: dict[int, list[str]] = {day: [] for day in range(7)}
        for _, day, start, end in version:
            # A version may say that a store is closed altogether.
            if 0 <= day < 7 and start != CLOSED:
                times[day].append(f"{time_text(start)}–{time_text(end)}")
        week = [(name, times[day]) for day, name in enumerate(_WEEKDAYS)]
        weeks.append((None if valid_from == UNDATED else date_text(valid_from), week))
    return weeks


def _special(special: SpecialHours) -> list[tuple[str, str]]:
    """Return the special dates, the newest first."""
    rows = zip(special.date.tolist(), special.start_s.tolist(), special.end_s.tolist(), strict=True)
    dates = [
        (date_text(day), "closed" if start == CLOSED else f"{time_text(start)}–{time_text(end)}")
        for day, start, end in rows
    ]
    return dates[::-1][:60]


# There is no room to draw more: those that are short and touch are drawn as one.
_MOST_SEGMENTS: Final = 700
# With more, only those drawn as one have a sentence.
_MOST_SENTENCES: Final = 300
# One of so many parts of a row is the first length that is too short to be seen.
_SHORT: Final = 400

_MERGED: Final = len(KNOWN)
_HOW: Final = (*KNOWN, "merged")
_STATES: Final = (("up", UP), ("down", DOWN), ("unknown", UNKNOWN))
_REASONS: Final = {
    ("up", "measured"): "polls on both sides say active",
    ("down", "measured"): "polls on both sides say inactive",
    ("up", "between"): "nearer to the poll that says active than to the one that says inactive",
    ("down", "between"): "nearer to the poll that says inactive than to the one that says active",
    ("up", "extrapolated"): "only the nearest poll, active, says so",
    ("down", "extrapolated"): "only the nearest poll, inactive, says so",
    ("up", "merged"): "the nearer polls say active",
    ("down", "merged"): "the nearer polls say inactive",
    ("unknown", "nothing"): "no poll speaks for this time",
}

KINDS: Final = ("active", "inactive", "closed")
# With more polls there is no room for a sentence of each, and no more ticks than that are drawn.
MOST_SINGLE_TICKS: Final = 240
MOST_TICKS: Final = 900


@dataclass(frozen=True, slots=True)
class Mark:
    """Something in a row: where it begins and how wide it is, in percent; what kind it is; its sentence, if any."""

    x: str
    width: str
    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Polls of one kind from the first to the last, each no further than `Ticks.apart_us` from the one before."""

    first_us: int
    last_us: int
    kind: str


class Ticks:
    """The polls on some days of one row width. `apart_us` is how far apart polls may be that are drawn as one; -1: each
    is drawn by itself."""

    def __init__(self, days: list[LocalDay], width_us: int, poll_us: Ints, active: Bools, in_hours: Bools) -> None:
        """`poll_us` ascends; `in_hours` says which polls count."""
        kind = np.where(in_hours, np.where(active, 0, 1), 2)
        self._poll_us = {name: poll_us[kind == code] for code, name in enumerate(KINDS)}
        self.apart_us = -1 if len(poll_us) <= MOST_SINGLE_TICKS else self._apart(days, width_us // _SHORT)

    def in_day(self, day: LocalDay) -> Iterator[Tick]:
        """Yield the ticks of a day, kind by kind: what is down is drawn over what is up."""
        for kind in KINDS:
            poll_us = self._in_day(kind, day)
            ends = np.flatnonzero(np.diff(poll_us) > self.apart_us)
            firsts = poll_us[np.append(0, ends + 1)[: len(poll_us)]]
            lasts = poll_us[np.append(ends, -1)[: len(poll_us)]]
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                yield Tick(first, last, kind)

    def _in_day(self, kind: str, day: LocalDay) -> Ints:
        poll_us = self._poll_us[kind]
        begin, end = poll_us.searchsorted((day.start_us, day.end_us))
        inside: Ints = poll_us[begin:end]
        return inside

    def _apart(self, days: list[LocalDay], touching_us: int) -> int:
        """Return how far ticks touch; further while that leaves too many, and no further than it takes."""
        polls = [self._in_day(kind, day) for kind in KINDS for day in days]
        gaps = np.sort(np.concatenate([np.diff(some) for some in polls]))
        # Every day has a tick of each kind that it has polls of, whatever is drawn as one.
        room = MOST_TICKS - sum(len(some) > 0 for some in polls)
        return max(touching_us, int(gaps[-room - 1]) if len(gaps) > room else 0)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Segments in order, as columns (`how` indexes `_HOW`). Those from each `first` up to the next are drawn as one."""

    start_us: Ints
    end_us: Ints
    state: Ints
    how: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.first)

    def in_day(self, day: LocalDay) -> Iterator[slice]:
        """Yield, for each group that touches that day, its segments that do."""
        begin = int(self.end_us.searchsorted(day.start_us, side="right"))
        stop = int(self.start_us.searchsorted(day.end_us, side="left"))
        if begin < stop:
            edges = self.first[(self.first > begin) & (self.first < stop)].tolist()
            for one, following in pairwise([begin, *edges, stop]):
                yield slice(one, following)

    def regroup(self, apart: Bools) -> "_Groups":
        """Return the segments with those drawn as one that are not `apart` from the one before."""
        return replace(self, first=np.flatnonzero(np.append(True, apart)) if len(self.start_us) else self.first)


def chart_days(detail: StoreDetail) -> list[dict[str, Any]]:
    """Return the rows for the template, the newest day first."""
    width = _row_width(detail)
    groups, shown = _group_segments(detail, width), detail.timeline
    ticks = Ticks(detail.days, width, shown.polls.instant_us, shown.polls.active, shown.in_hours)
    return [_chart_day(detail, day, width, groups, ticks) for day in reversed(detail.days)]


def chart_axis(detail: StoreDetail) -> list[tuple[int, str]]:
    """Return the hours that are written above the rows, and where."""
    return [(hour, words.share(hour * HOUR_US, _row_width(detail))) for hour in range(0, 24, 3)]


def _row_width(detail: StoreDetail) -> int:
    return max(DAY_US, *(day.end_us - day.start_us for day in detail.days))


def _chart_day(detail: StoreDetail, day: LocalDay, width: int, groups: _Groups, ticks: Ticks) -> dict[str, Any]:
    """Return a row; `hours` has every sixth hour, named where it is not below that above the rows."""
    shown, as_of_us = detail.timeline, detail.store.as_of.as_of_us
    date = utc_datetime(day.local_us)
    length = (day.end_us - day.start_us) / HOUR_US
    moved = [turn for turn in zones.turns(detail.store.zone) if day.start_us < turn <= day.end_us]
    note = f"{length:g} h: {'another time zone' if moved else 'clocks change'}" if length != 24 else ""
    first, last = shown.polls.instant_us.searchsorted((day.start_us, day.end_us)).tolist()
    polls = count_text(last - first, "poll")
    names = (("uptime", "up"), ("downtime", "down"), ("unknown", "unknown"))
    sums = _lengths_text((word, day.sums[name]) for name, word in names) or "no business hours"
    opened = shown.openings.cut(day.start_us, day.end_us)
    blind = list(_blind_marks(detail, day, width))
    # The sentence ends with UTC, which the row's text leaves out for all.
    unseen = [mark.text.partition(". ")[0] for mark in blind]
    return {
        "key": f"day-{date:%Y-%m-%d}",
        "label": f"{date:%a %Y-%m-%d}",
        "note": note,
        "text": "; ".join([f"{date:%a %Y-%m-%d}{f' ({note})' if note else ''}: {sums}", polls, *unseen]),
        "percent": words.percent_of(day.sums["uptime"], day.sums["uptime"] + day.sums["downtime"]),
        "known": words.known_of(day.sums),
        "sums": day.sums,
        "width": words.share(day.end_us - day.start_us, width),
        "open": [
            _mark(start, end, day, width, "open")
            for start, end in zip(opened.start_us.tolist(), opened.end_us.tolist(), strict=True)
        ],
        "segments": list(_segment_marks(groups, day, width, detail)),
        "blind": blind,
        "polls": list(_poll_marks(detail, day, width, ticks)),
        "hours": list(hour_marks(day, moved[0] if moved else day.change_us, width)),
        "change": words.share(day.change_us - day.start_us, width) if day.change_us >= 0 else "",
        "now": words.share(as_of_us - day.start_us, width) if day.start_us < as_of_us < day.end_us else "",
    }


def hour_marks(day: LocalDay, change_us: int, width: int) -> Iterator[tuple[str, str]]:
    """Yield where 06, 12 and 18 are in a row; named when the clocks, changed at `change_us` (-1: never), moved them."""
    later_us, change = day.end_us - day.start_us - DAY_US, change_us - day.start_us
    for hour in (6, 12, 18):
        at = hour * HOUR_US
        if later_us and 0 <= change <= at:
            yield f"{hour:02}", words.share(max(at + later_us, change), width)
        else:
            yield "", words.share(at, width)


def _group_segments(detail: StoreDetail, width: int) -> _Groups:
    """Return every segment, each alone while there is room; else those that touch and are short as one."""
    segments = detail.timeline.segments
    groups = _Groups(segments.start_us, segments.end_us, segments.state, segments.known, np.arange(len(segments)))
    if len(groups) > _MOST_SEGMENTS:
        groups = _merge_alike(groups)
    touch = groups.end_us[:-1] == groups.start_us[1:]
    length = groups.end_us - groups.start_us
    longer = np.maximum(length[1:], length[:-1])
    shortest = width // _SHORT
    while len(groups) > _MOST_SEGMENTS and shortest < width:
        groups = groups.regroup(~touch | (longer >= shortest))
        shortest *= 2
    return groups


def _merge_alike(groups: _Groups) -> _Groups:
    """Return the segments with neighbours of one state as one, where polls on both sides of them are known."""
    sure = (groups.how == MEASURED) | (groups.how == BETWEEN)
    alike = (groups.end_us[:-1] == groups.start_us[1:]) & (groups.state[1:] == groups.state[:-1]) & sure[1:] & sure[:-1]
    first = groups.regroup(~alike).first
    last = np.append(first[1:], len(sure)) - 1
    how = np.where(last > first, _MERGED, groups.how[first])
    return _Groups(groups.start_us[first], groups.end_us[last], groups.state[first], how, np.arange(len(first)))


def _segment_marks(groups: _Groups, day: LocalDay, width: int, detail: StoreDetail) -> Iterator[Mark]:
    zone, complete_from_us = detail.store.zone, detail.timeline.polls.complete_from_us
    for inside in groups.in_day(day):
        starts = np.maximum(groups.start_us[inside], day.start_us)
        ends = np.minimum(groups.end_us[inside], day.end_us)
        start, end, count = int(starts[0]), int(ends[-1]), len(starts)
        state, how = STATES[groups.state[inside.start]], _HOW[groups.how[inside.start]]
        when = f"{_clock(start, zone)}–{_clock(end, zone)}"
        if count == 1:
            why = _REASONS[state, how]
            if state == "unknown" and start < complete_from_us:
                why = f"{why}; polls from before {minute_text(complete_from_us)} were pruned"
            text = f"{state.capitalize()} {when} ({duration_text(end - start)}): {why}."
            kind = "unknown" if state == "unknown" else f"{state} {'measured' if how == 'merged' else how}"
        else:
            lengths, states = ends - starts, groups.state[inside]
            sums = [(word, int(lengths[states == code].sum())) for word, code in _STATES]
            text = f"{when}: {_lengths_text(sums)}, in {count} segments too short to show."
            kind = "mixed" if sum(length > 0 for _, length in sums) > 1 else f"{state} extrapolated"
        has_text = len(groups) <= _MOST_SENTENCES or count > 1
        yield _mark(start, end, day, width, kind, f"{text} {_utc(start)}–{_utc(end)} UTC" if has_text else "")


def _blind_marks(detail: StoreDetail, day: LocalDay, width: int) -> Iterator[Mark]:
    """Yield the times of the day in which the poller was blind for the store."""
    zone = detail.store.zone
    for span in detail.timeline.blind_spans:
        known_until_us = detail.store.as_of.as_of_us if span.end_us is None else span.end_us
        start, end = max(span.start_us, day.start_us), min(known_until_us, day.end_us)
        if start < end:
            label = f"{span.label[0].upper()}{span.label[1:]}"
            text = f"{label}, {_clock(start, zone)}–{_clock(end, zone)}. {_utc(start)}–{_utc(end)} UTC"
            yield _mark(start, end, day, width, "blind", text)


def blind_text(detail: StoreDetail, span: BlindSpan) -> str:
    """Return a time in which the poller was blind, with its label, in the store's local time."""
    zone = detail.store.zone
    start = f"{words.wall_clock(span.start_us, zone):%a %Y-%m-%d %H:%M %Z}"
    if span.end_us is None:
        return f"{start}, no end known: {span.label}"
    end = f"{words.wall_clock(span.end_us, zone):%a %Y-%m-%d %H:%M %Z}"
    return f"{start} to {end} ({duration_text(span.end_us - span.start_us)}): {span.label}"


def _poll_marks(detail: StoreDetail, day: LocalDay, width: int, ticks: Ticks) -> Iterator[Mark]:
    """Yield the ticks; each with its sentence where each poll is drawn by itself."""
    polls, text = detail.timeline.polls, ""
    for tick in ticks.in_day(day):
        if ticks.apart_us < 0:
            status = "active" if polls.active[polls.instant_us.searchsorted(tick.first_us)] else "inactive"
            closed = ", outside business hours: does not count" if tick.kind == "closed" else ""
            clock = f"{words.wall_clock(tick.first_us, detail.store.zone):%H:%M:%S %Z}"
            text = f"Poll {clock}: {status}{closed}. {_utc(tick.first_us)} UTC"
        mark = _mark(tick.first_us, tick.last_us, day, width, tick.kind, text)
        yield mark if tick.last_us > tick.first_us else replace(mark, width="")


def _mark(start: int, end: int, day: LocalDay, width: int, kind: str, text: str = "") -> Mark:
    return Mark(words.share(start - day.start_us, width), words.share(end - start, width), kind, text)


def _lengths_text(lengths: Iterator[tuple[str, int]] | list[tuple[str, int]]) -> str:
    return ", ".join(f"{duration_text(length)} {word}" for word, length in lengths if length)


def _clock(at_us: int, zone: str) -> str:
    return f"{words.wall_clock(at_us, zone):%H:%M %Z}"


def _utc(at_us: int) -> str:
    return f"{utc_datetime(at_us):%H:%M:%S}"
