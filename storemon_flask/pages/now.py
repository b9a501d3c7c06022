"""The page `/`: every store as it is now, the worst first."""

import hashlib
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.alerts import catalogue as incidents
from storemon_flask.api.schemas import read_label_filters
from storemon_flask.clock import utc_datetime
from storemon_flask.delivery import catalogue as channels
from storemon_flask.delivery.catalogue import ChannelView
from storemon_flask.formatting import known_text, knows_little
from storemon_flask.labels import label_text, label_texts, split_filter
from storemon_flask.model import HOUR_US, Ints
from storemon_flask.pages import words
from storemon_flask.pages.alerts import incident_rows
from storemon_flask.pages.label_choices import label_choices
from storemon_flask.pages.words import STATUS_WORDS, cut
from storemon_flask.stores import live_likely, live_list
from storemon_flask.stores.live_likely import LikelyRange
from storemon_flask.stores.live_list import (
    LACKING,
    LISTED_WINDOWS,
    PERCENTAGES,
    SORTS,
    Day,
    ListPage,
    ListQuery,
    Snapshot,
)
from storemon_flask.uptime.likely import BOUNDS
from storemon_flask.uptime.status import STATUSES
from storemon_flask.version import VERSION
from storemon_flask.web import authentication, contract
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Percentage, Whole

blueprint = Blueprint("now", __name__)

PER_PAGE: Final = 50
# So many fit into a list to choose from; more are typed.
_MOST_CHOICES: Final = 200
_SORTS: Final = {
    "worst": "worst first",
    "name": "name",
    "store_id": "id",
    "status": "status",
    "since": "since when",
    "last_poll": "newest poll",
    "uptime_percent_last_day": "uptime, last day",
    "uptime_percent_last_week": "uptime, last week",
    "downtime_last_day": "downtime, last day",
    "downtime_last_week": "downtime, last week",
    "unknown_last_week": "unknown, last week",
}
_WINDOWS: Final = {"last_week": "last week", "last_day": "last day"}
_LACKING: Final = {"hours": "business hours", "zone": "time zone"}


class NowQuery(Closed):
    """What the address of the page may say; a field that is empty says nothing."""

    status = fields.List(
        fields.String(validate=validate.OneOf(("", *STATUSES), error=f"must be one of: {', '.join(STATUSES)}")),
        load_default=(),
    )
    q = fields.String(load_default="")
    zone = fields.String(load_default="")
    group = fields.String(load_default="")
    label = fields.List(fields.String(), load_default=())
    below = Percentage(load_default=None)
    below_window = fields.String(load_default="last_week", validate=validate.OneOf(LISTED_WINDOWS))
    without = fields.List(
        fields.String(validate=validate.OneOf(("", *LACKING), error=f"must be one of: {', '.join(LACKING)}")),
        load_default=(),
    )
    sort = fields.String(load_default="worst", validate=validate.OneOf(SORTS))
    order = fields.String(load_default="asc", validate=validate.OneOf(("asc", "desc")))
    page = Whole(load_default=1, validate=validate.Range(1, 1_000_000))


@contract.page(blueprint, "GET", "/stores", scope="read")
def stores() -> ResponseReturnValue:
    """Redirect to the list."""
    query = request.query_string.decode("ascii", "replace")
    return redirect("/?" + query if query else "/")


@contract.page(blueprint, "GET", "/", scope="read")
def now() -> ResponseReturnValue:
    """Return the page; its headers alone when the browser has it already."""
    query = contract.read_query(NowQuery(), ignore_unknown=True)
    app = storemon()
    if not app.database.exists():
        return render_template("first_run.html", keyed=authentication.needs_key())
    snapshot = app.list_cache.current(app.slots.for_list)
    if not snapshot.ids:
        return render_template("first_run.html", keyed=authentication.needs_key())
    answer = make_response("")
    failing = channels.failing(app.database)
    answer.set_etag(_tag(snapshot, failing), weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        answer.set_data(_page(snapshot, query, failing))
    return answer


def _tag(snapshot: Snapshot, failing: Sequence[ChannelView]) -> str:
    with storemon().database.read() as connection:
        numbers = incidents.state_numbers(connection)
    alert_state = numbers, [(one.channel.id, one.trouble) for one in failing]
    state = (VERSION, snapshot.made_us, snapshot.data_version, snapshot.as_of, request.full_path, alert_state)
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


def _page(snapshot: Snapshot, query: dict[str, Any], failing: Sequence[ChannelView]) -> str:
    app, now_us = storemon(), time.time_ns() // 1000
    statuses, without = ([word for word in query[name] if word] for name in ("status", "without"))
    asked_labels = [text for text in query["label"] if text]
    page = live_list.select_page(
        snapshot,
        ListQuery(
            statuses=statuses,
            text=query["q"].strip() or None,
            timezone=query["zone"] or None,
            group=query["group"] or None,
            labels=read_label_filters("label", asked_labels),
            below=query["below"],
            below_window=query["below_window"],
            without=without,
            sort=query["sort"],
            descending=query["order"] == "desc",
            limit=PER_PAGE,
            skip=(query["page"] - 1) * PER_PAGE,
        ),
    )
    shown_stores = (app.database, snapshot, page.indices, app.settings.rules, app.settings.default_timezone)
    days, likely = live_list.last_days(*shown_stores), live_likely.likely_ranges(*shown_stores)
    with app.database.read() as connection:
        larger = incidents.larger_views(connection)
        wrong = incidents.of_stores(connection, [snapshot.ids[index] for index in page.indices], now_us)
    # Without a percentage its window says nothing.
    window = query["below_window"] if query["below"] is not None else "last_week"
    shown = {**query, "status": statuses, "without": without, "below_window": window}
    shown["label"] = asked_labels
    return render_template(
        "now.html",
        as_of=snapshot.as_of,
        newest_us=int(snapshot.columns["last_poll"].max()),
        page=page,
        totals=_totals(snapshot, page),
        rows=_rows(snapshot, page.indices, days, likely),
        incidents={store_id: incident_rows(views, now_us) for store_id, views in wrong.items()},
        larger=incident_rows(larger, now_us),
        failing=failing,
        query=shown,
        number=page.begin // PER_PAGE + 1,
        last=max(page.total - 1, 0) // PER_PAGE + 1,
        all=sum(page.counts.values()),
        zones=_choices(snapshot, "timezone"),
        groups=_choices(snapshot, "group"),
        labels=label_choices(snapshot, asked_labels),
        sorts=_SORTS if query["sort"] in _SORTS else {**_SORTS, query["sort"]: query["sort"].replace("_", " ")},
        filtered=any([query["q"].strip(), query["zone"], query["group"], asked_labels, query["below"], without]),
        windows=_WINDOWS,
        lacking=_LACKING,
        only=_only(shown),
        link=lambda **changed: _link({**shown, "page": 1, **changed}),
        csv=_link({**shown, "page": 1}, url_for("stores.stores_csv")),
    )


def _only(query: dict[str, Any]) -> list[str]:
    """Return what the list is filtered by, for paper: there the form is not shown."""
    statuses = ", ".join(STATUS_WORDS[word][0] for word in query["status"])
    below = "" if query["below"] is None else f"{query['below']:g} %"
    filters = (
        ("name or id has", f"“{cut(query['q'].strip())}”" if query["q"].strip() else ""),
        ("zone", query["zone"]),
        ("group", query["group"]),
        *(("", label_text(*split_filter(text))) for text in query["label"]),
        (f"uptime of the {_WINDOWS[query['below_window']]} below", below),
        ("without", " and ".join(_LACKING[name] for name in query["without"])),
        ("status", statuses),
    )
    return [f"{name} {value}".strip() for name, value in filters if value]


def _choices(snapshot: Snapshot, name: str) -> list[str] | None:
    """Return the texts to choose from; None when there are too many for a list."""
    choices = live_list.distinct_texts(snapshot, name)
    return choices if len(choices) <= _MOST_CHOICES else None


def _link(query: dict[str, Any], path: str = "/") -> str:
    """Return the address of the list, or of another path, with that query, without defaults."""
    defaults = {"status": [], "q": "", "zone": "", "group": "", "sort": "worst", "order": "asc", "page": 1}
    defaults |= {"below": None, "below_window": "last_week", "without": [], "label": []}
    chosen = {name: value for name, value in query.items() if value != defaults[name]}
    if query["below"] is not None:
        chosen["below"] = f"{query['below']:.15g}"
    return f"{path}?{urlencode(chosen, doseq=True)}" if chosen else path


# A day's column in the sparkline, in pixels.
_WIDTH, _HEIGHT, _STEP = 10, 20, 13


def _rows(
    snapshot: Snapshot, indices: Sequence[int], days: Sequence[Sequence[Day]], likely: Sequence[LikelyRange]
) -> list[dict[str, Any]]:
    """Return the stores at those indices for the template, each with its days and its likely range."""
    columns = snapshot.columns
    return [
        {
            "store_id": snapshot.ids[index],
            "name": snapshot.names[index],
            "group": snapshot.groups[index],
            "labels": label_texts(snapshot.labels.of_store(index)),
            "zone": snapshot.zones[index],
            "status": STATUSES[int(columns["status"][index])],
            "status_text": snapshot.status_text(index),
            "since_us": int(columns["since"][index]),
            "earlier": bool(columns["since_or_earlier"][index]),
            "last_poll_us": int(columns["last_poll"][index]),
            "bars": {
                window: {**_bar(columns, window, index), "likely": _likely(ranges, window)} for window in LISTED_WINDOWS
            },
            "sparkline": sparkline(week),
            "text": "; ".join(map(day_text, week)),
        }
        for index, week, ranges in zip(indices, days, likely, strict=True)
    ]


def _likely(ranges: LikelyRange, window: str) -> list[int]:
    """Return the likely range of a window in hundredths of percent; empty where polls cannot say."""
    sides = [ranges[f"uptime_percent_{name}_{window}"] for name in BOUNDS]
    return [round(side * 100) for side in sides if side is not None]


def _totals(snapshot: Snapshot, page: ListPage) -> dict[str, dict[str, Any]]:
    """Return the bar of each window of all stores that the list is filtered to, with the hours that were down."""
    columns = live_list.total_columns(snapshot, page.matching)
    return {
        window: {**_bar(columns, window, 0), "downtime": int(columns[f"downtime_{window}"][0])}
        for window in LISTED_WINDOWS
    }


def _bar(columns: dict[str, Ints], window: str, index: int) -> dict[str, Any]:
    """Return the segments of a window's bar, with its percentages in hundredths; -1 where there is none.

    `known` says of how much time the percentage is, where that is little.
    """
    names = ("uptime", "downtime", "unknown", "business", *PERCENTAGES)
    up, down, unknown, business, percent, low, high = (int(columns[f"{name}_{window}"][index]) for name in names)
    # Each is rounded by itself: their sum can be another hundredth than the business time.
    total, begin, segments = up + down + unknown, 0, []
    for word, length in (("up", up), ("unknown", unknown), ("down", down)):
        if length:
            segments.append((word, words.share(begin, total), words.share(length, total)))
        begin += length
    text = f"{words.hours(up)} h up, {words.hours(down)} h down, {words.hours(unknown)} h unknown"
    return {
        "segments": segments,
        "text": text if total else "no business hours",
        "percent": percent,
        "low": low,
        "high": high,
        "known": known_text(unknown, business),
    }


def sparkline(week: Sequence[Day]) -> dict[str, str]:
    """Return the paths of the sparkline: up narrow from below (`little` where the day knows little), unknown above it,
    down across the whole column from above."""
    paths = {"up": "", "little": "", "unknown": "", "down": "", "closed": ""}
    for at, day in enumerate(week):
        business, x = day.up_us + day.down_us + day.unknown_us, at * _STEP
        if not business:
            paths["closed"] += f"M{x + 3} {_HEIGHT - 1}h4v1h-4z"
            continue
        # However short: what is down is seen.
        down = max(round(_HEIGHT * day.down_us / business), 2) if day.down_us else 0
        unknown = min(round(_HEIGHT * day.unknown_us / business), _HEIGHT - down)
        if day.unknown_us and not unknown:
            unknown = min(1, _HEIGHT - down)
        up = _HEIGHT - down - unknown
        if up:
            paths["little" if knows_little(day.unknown_us, business) else "up"] += (
                f"M{x + 2} {_HEIGHT - up}h{_WIDTH - 4}v{up}h-{_WIDTH - 4}z"
            )
        if unknown:
            paths["unknown"] += f"M{x + 1} {down}h{_WIDTH - 2}v{unknown}h-{_WIDTH - 2}z"
        if down:
            paths["down"] += f"M{x} 0h{_WIDTH}v{down}h-{_WIDTH}z"
    return {word: path for word, path in paths.items() if path}


def day_text(day: Day) -> str:
    """Return the amounts of a local date as text."""
    lengths = ((day.up_us, "up"), (day.down_us, "down"), (day.unknown_us, "unknown"))
    text = ", ".join(f"{length / HOUR_US:.1f} h {word}" for length, word in lengths if length)
    return f"{utc_datetime(day.local_us):%a %d} {text or 'closed'}"
