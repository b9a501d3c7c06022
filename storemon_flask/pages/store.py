"""`/stores/ID`: one store, and why its numbers are what they are."""

import hashlib
import time
from datetime import date, timedelta
from itertools import groupby
from typing import Any, Final

import numpy as np
from flask import Blueprint, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.clock import date_text, time_text, timestamp_text
from storemon_flask.formatting import decimals, hundredths
from storemon_flask.model import CLOSED, MINUTE_US, UNDATED
from storemon_flask.pages import queries, store_chart, words
from storemon_flask.reports import report_words, shapes
from storemon_flask.reports.shapes import Shape
from storemon_flask.stores import detail as store_story
from storemon_flask.stores.detail import Numbers, Question, Story
from storemon_flask.stores.live_list import StoreDetail
from storemon_flask.uptime import zones
from storemon_flask.uptime.timeline import Outages
from storemon_flask.version import VERSION
from storemon_flask.web import contract
from storemon_flask.web.app import runner
from storemon_flask.web.contract import Closed, Instant, Whole

blueprint = Blueprint("store", __name__)

DAYS: Final = (1, 7, 14, 30)
# So many outages are shown, the newest; a program can have all.
_MOST_OUTAGES: Final = 30
_AMOUNTS: Final = ("uptime", "downtime", "unknown", "business", "measured")
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class StoreQuery(Closed):
    """Which days are shown: how many, up to which; at which instant it is judged; and the windows of a report, as its
    command takes them, with the unit they are cut into and the method."""

    days = Whole(load_default=7, validate=validate.Range(1, store_story.MOST_DAYS))
    until = fields.Date(load_default=None)
    as_of = Instant(load_default=None)
    window = fields.List(fields.String(), load_default=())
    by = fields.String(load_default=None, validate=validate.OneOf(shapes.BY))
    method = fields.String(load_default=None, validate=validate.OneOf(shapes.METHODS))


@contract.page(blueprint, "GET", "/stores/<store:store_id>", scope="read")
def store(store_id: str) -> ResponseReturnValue:
    """The page; nothing but its headers when it is what the browser has already."""
    query = queries.parameters(StoreQuery())
    question = Question(query["days"], query["until"], query["as_of"], _shape(query))
    app, now_us = runner(), time.time_ns() // 1000
    answer = make_response("")
    said = (
        VERSION,
        store_story.told_by(app.database, now_us, app.settings.rules, question.as_of_us),
        app.settings.rules,
        app.settings.default_timezone,
        request.full_path,
    )
    answer.set_etag(hashlib.sha256(repr(said).encode()).hexdigest()[:32], weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        answer.set_data(_page(store_id, question, query, now_us))
    return answer


def _shape(query: dict[str, Any]) -> Shape | None:
    """The shape of the report whose numbers are asked for; None without one.

    `Unprocessable` says what is wrong about it.
    """
    windows = [shapes.window_of_text(text) for text in query["window"]]
    return shapes.read({"windows": windows or None, "by": query["by"], "method": query["method"]})


def _page(store_id: str, question: Question, query: dict[str, Any], now_us: int) -> str:
    app = runner()
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    story = store_story.store_story(
        app.database, store_id, question, rules, default_zone, now_us, app.places.for_an_answer
    )
    snapshot, outages = story.detail.snapshot, story.timeline.outages
    (_, first_zone), *moves = zones.versions(story.detail.zone)
    return render_template(
        "store.html",
        store=snapshot.record(0),
        since_us=int(snapshot.columns["since"][0]),
        last_poll_us=int(snapshot.columns["last_poll"][0]),
        moment=snapshot.moment,
        story=story,
        days=store_chart.days(story),
        axis=store_chart.hours_across(story),
        outages=_outages(outages.picked(np.arange(max(len(outages) - _MOST_OUTAGES, 0), len(outages)))),
        more_outages=max(len(outages) - _MOST_OUTAGES, 0),
        weeks=_weeks(story.detail),
        special=_special(story.detail),
        first_zone=first_zone,
        moves=[(name, date_text(day)) for day, name in moves],
        shown_from=timestamp_text(story.days[0].start_us),
        shown_to=timestamp_text(min(story.days[-1].end_us, snapshot.moment.as_of_us)),
        numbers=[_figures(numbers) for numbers in story.numbers],
        method=question.shape.method if question.shape else rules.method,
        asked_as_of=None if question.as_of_us is None else timestamp_text(question.as_of_us),
        rules=rules,
        query=query,
        choices=DAYS,
        **_around(store_id, story, query),
    )


def _around(store_id: str, story: Story, query: dict[str, Any]) -> dict[str, Any]:
    """The last day shown, and the addresses of other days: `link(days)`, those before and after (None: there are none)."""
    count, until = query["days"], query["until"]
    shown = min(until or story.newest, story.newest)

    # What the page speaks of stays when other days are looked at.
    kept: dict[str, Any] = {
        name: request.args.getlist(name) for name in ("as_of", "window", "by", "method") if name in request.args
    }

    def link(days: int, last: date | None) -> str:
        when = None if last is None or last >= story.newest else last.isoformat()
        return url_for(
            "store.store", store_id=store_id, days=None if days == DAYS[1] else days, until=when, **kept
        )  # fmt: skip

    earlier, first = shown - timedelta(days=count), story.detail.first_poll_us
    before = first >= 0 and story.days[0].start_us > first
    return {
        "shown": shown,
        "kept": [(name, value) for name, values in kept.items() for value in values],
        "link": lambda days: link(days, until),
        "earlier": link(count, earlier) if before else None,
        "later": link(count, shown + timedelta(days=count)) if shown < story.newest else None,
    }


def _figures(numbers: Numbers) -> dict[str, Any]:
    """A row of numbers as reports print them: `cells` of the amounts with their `unit`, and percentages in hundredths;
    `known`: of how much the percentage is, if little."""
    sums = numbers.sums
    business = sums["business"]
    minutes = numbers.unit_us == MINUTE_US
    cells = {name: decimals(hundredths(np.array([sums[name]]), numbers.unit_us))[0] for name in _AMOUNTS}
    return {
        "name": report_words.window_words(numbers.name),
        "unit": "min" if minutes else "h",
        "cells": list(cells.values()),
        "known": words.known_of(sums, numbers.unit_us),
        "percent": words.percent_of(sums["uptime"], sums["uptime"] + sums["downtime"]),
        "low": words.percent_of(sums["uptime_low"], business),
        "high": words.percent_of(sums["uptime_high"], business),
    }


def _outages(outages: Outages) -> list[dict[str, Any]]:
    """The newest first; `down_minutes` as the report of outages prints it."""
    names = ("start_us", "end_us", "start_earliest_us", "start_latest_us", "end_earliest_us", "end_latest_us")
    columns = [getattr(outages, name).tolist() for name in (*names, "down_us", "polls", "ongoing")]
    rows: list[dict[str, Any]] = [
        dict(zip((*names, "down_us", "polls", "ongoing"), row, strict=True)) for row in zip(*columns, strict=True)
    ]
    minutes = decimals(hundredths(outages.down_us, MINUTE_US))
    return [{**row, "down_minutes": text} for row, text in zip(rows, minutes, strict=True)][::-1]


def _weeks(detail: StoreDetail) -> list[tuple[str | None, list[tuple[str, list[str]]]]]:
    """Weekly hours by the date they hold from (None: from ever on): each weekday with its times."""
    hours = detail.hours
    rows = sorted(
        zip(*(column.tolist() for column in (hours.from_day, hours.day, hours.start_s, hours.end_s)), strict=True)
    )
    found = []
    for valid_from, version in groupby(rows, key=lambda row: row[0]):
        times: dict[int, list[str]] = {day: [] for day in range(7)}
        for _, day, start, end in version:
            # A version may say that a store is closed altogether.
            if 0 <= day < 7 and start != CLOSED:
                times[day].append(f"{time_text(start)}–{time_text(end)}")
        week = [(name, times[day]) for day, name in enumerate(_WEEKDAYS)]
        found.append((None if valid_from == UNDATED else date_text(valid_from), week))
    return found


def _special(detail: StoreDetail) -> list[tuple[str, str]]:
    """Dates that have hours of their own, the newest first."""
    special = detail.special
    rows = zip(special.date.tolist(), special.start_s.tolist(), special.end_s.tolist(), strict=True)
    found = [
        (date_text(day), "closed" if start == CLOSED else f"{time_text(start)}–{time_text(end)}")
        for day, start, end in rows
    ]
    return found[::-1][:60]
