"""The page `/stores/ID`: one store in detail."""

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
from storemon_flask.model import CLOSED, MINUTE_US, UNDATED, Hours, SpecialHours
from storemon_flask.pages import store_chart, words
from storemon_flask.reports import request as requests
from storemon_flask.reports.request import ReportQuery, ReportRequest
from storemon_flask.stores.detail import MOST_DAYS, DetailQuery, Numbers, StoreDetail, build_detail, open_store
from storemon_flask.uptime import zones
from storemon_flask.uptime.timeline import Outages
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
        state = (VERSION, opened.data_version, opened.as_of, rules, default_zone, request.full_path)
        answer.set_etag(hashlib.sha256(repr(state).encode()).hexdigest()[:32], weak=True)
        if answer.make_conditional(request).status_code == 304:
            return answer
        detail = build_detail(opened, asked, app.slots.for_answer)
    answer.set_data(_page(detail, asked, query))
    return answer


def _report_query(query: dict[str, Any]) -> ReportQuery | None:
    """Return the windows of the report whose numbers are asked for; None without one."""
    windows = [requests.window_of_text(text) for text in query["window"]]
    given = {"windows": windows or None, "by": query["by"], "method": query["method"]}
    report = requests.check(ReportRequest(fields=given))
    return None if report.is_default else report


def _page(detail: StoreDetail, asked: DetailQuery, query: dict[str, Any]) -> str:
    store, snapshot, outages = detail.store, detail.snapshot, detail.timeline.outages
    (_, first_zone), *moves = zones.versions(store.zone)
    return render_template(
        "store.html",
        store=snapshot.record(0),
        since_us=int(snapshot.columns["since"][0]),
        last_poll_us=store.last_poll_us,
        poll_count=detail.poll_count,
        as_of=store.as_of,
        zone=store.zone,
        detail=detail,
        days=store_chart.chart_days(detail),
        axis=store_chart.chart_axis(detail),
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
