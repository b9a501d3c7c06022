"""The page `/overview`: the fleet's week, its days, groups and hours, and the stores that stand out."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.clock import date_text, timestamp_text, utc_datetime
from storemon_flask.formatting import known_text
from storemon_flask.labels import GROUP, TAG_PREFIX
from storemon_flask.model import DAY_US
from storemon_flask.pages import now, words
from storemon_flask.reports.request import window_words
from storemon_flask.stores.live_list import Day
from storemon_flask.stores.overview import (
    GROUP_SORTS,
    TIMEZONE,
    TREND_DAYS,
    WINDOWS,
    DayRow,
    GroupRow,
    Overview,
    StoreRow,
    Sums,
    check_grouping,
    group_rows,
    groupings,
    hour_sums,
    most_changed_stores,
    trend,
    worst_stores,
)
from storemon_flask.version import VERSION
from storemon_flask.web import authentication, contract
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Whole

blueprint = Blueprint("overview", __name__)

# How long a request waits for an overview that is being computed, before it shows how far that is.
_WAIT_S: Final = 1.5
_MOST_GROUPS: Final = 100
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# In the picture of days: the height of what is above and below the line, in pixels.
_DOWN_HEIGHT: Final = 90
_UNKNOWN_HEIGHT: Final = 24
# What the scale of down time may end with, in hundredths of a percent.
_SCALES: Final = (100, 200, 500, 1_000, 2_000, 5_000, 10_000)
# From which share of down time on, in hundredths of a percent, a cell of the heat map has which shade.
_SHADES: Final = (0, 1, 100, 200, 500, 1_000, 2_000)
_GROUP_HEADS: Final = (
    ("name", "Group", False),
    ("stores", "Stores", True),
    ("down", "Down now", True),
    ("today", "Today", True),
    ("this_week", "This week", True),
    ("change", "Change", True),
    ("this_month", "This month", True),
    ("worst_store", "Worst store this week", False),
    ("without_hours", "No hours", True),
    ("without_timezone", "No zone", True),
)


class PageQuery(Closed):
    """What the address of the page may say."""

    by = fields.String(load_default="group")
    days = Whole(load_default=TREND_DAYS[0], validate=validate.OneOf(TREND_DAYS))
    sort = fields.String(load_default="this_week", validate=validate.OneOf(GROUP_SORTS))
    order = fields.String(load_default="asc", validate=validate.OneOf(("asc", "desc")))


@contract.page(blueprint, "GET", "/overview", scope="read")
def overview() -> ResponseReturnValue:
    """Return the page; its headers alone when the browser has it already; how far it is while it is computed."""
    query = contract.read_query(PageQuery(), ignore_unknown=True)
    app = storemon()
    if not app.database.exists():
        return render_template("first_run.html", keyed=authentication.needs_key())
    made = app.overview_cache.current(_WAIT_S, app.slots.for_list)
    if made is None:
        return render_template("overview_wait.html", share=app.overview_cache.progress), 200, {"Retry-After": "1"}
    if not made.ids:
        return render_template("first_run.html", keyed=authentication.needs_key())
    check_grouping(made, query["by"])
    answer = make_response("")
    state = (VERSION, made.made_us, made.data_version, made.as_of, request.full_path)
    answer.set_etag(hashlib.sha256(repr(state).encode()).hexdigest()[:32], weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        answer.set_data(_page(made, query))
    return answer


def _page(made: Overview, query: dict[str, Any]) -> str:
    by = query["by"]
    rows = group_rows(made, by, query["sort"], query["order"] == "desc")
    days = trend(made, query["days"])
    first, end = made.heat_days
    return render_template(
        "overview.html",
        as_of=made.as_of,
        as_of_text=timestamp_text(made.as_of.as_of_us),
        counts=made.counts,
        stores=len(made.ids),
        windows={window: _number(made.fleet(window)) for window in WINDOWS},
        change=_change(made.change),
        chart=_chart(days),
        days=[_day(row) for row in reversed(days)],
        groups=[_group(row, by) for row in rows[:_MOST_GROUPS]],
        more_groups=max(len(rows) - _MOST_GROUPS, 0),
        groupings={name: _grouping_words(name) for name in groupings(made)},
        heads=_GROUP_HEADS,
        hours=[[_hour(sums) for sums in day] for day in hour_sums(made)],
        hours_first=date_text(first),
        hours_end=date_text(end),
        has_report=lambda periods: periods * len(made.ids) <= storemon().settings.max_report_rows,
        weekdays=WEEKDAYS,
        window_words=window_words,
        worst=[_store(row) for row in worst_stores(made)],
        changed=[_store(row) for row in most_changed_stores(made)],
        query=query,
        trend_days=TREND_DAYS,
        link=lambda **changed: _link({**query, **changed}),
    )


def _grouping_words(name: str) -> str:
    return "time zone" if name == TIMEZONE else name.removeprefix(TAG_PREFIX)


def _link(query: dict[str, Any]) -> str:
    """Return the address of the page with that query, without defaults."""
    defaults = {"by": "group", "days": TREND_DAYS[0], "sort": "this_week", "order": "asc"}
    return url_for("overview.overview", **{name: one for name, one in query.items() if one != defaults[name]})


def _number(sums: Sums) -> dict[str, Any]:
    """Return what the template says of sums: percentages in hundredths, and a note where they know little."""
    unknown, business = sums.hundredths("unknown"), sums.hundredths("business")
    return {
        "percent": sums.percent,
        "low": sums.percent_low,
        "high": sums.percent_high,
        "likely": sums.percent_likely,
        "known": known_text(unknown, business),
        "business": business,
        "downtime": sums.hundredths("downtime"),
        "unknown": unknown,
        "uptime": sums.hundredths("uptime"),
    }


def _change(hundredths: int | None) -> dict[str, str] | None:
    """Return a change of percentages with its sign, and whether it is for the better; None without one."""
    if hundredths is None:
        return None
    text = f"{'−' if hundredths < 0 else '+'}{words.hours(abs(hundredths))}" if hundredths else "±0.00"
    return {"text": text, "kind": "worse" if hundredths < 0 else "better" if hundredths else "same"}


def _filters(by: str, name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the field and value that choose the stores of a group, on the form of reports and on Now."""
    if by == GROUP:
        return ("groups", name), ("group", name)
    if by == TIMEZONE:
        return ("zones", name), ("zone", name)
    return ("labels", f"{by}={name}"), ("label", f"{by}={name}")


def _group(row: GroupRow, by: str) -> dict[str, Any]:
    of_report, of_now = _filters(by, row.name)
    days = [Day(one.day * DAY_US, one.sums.uptime, one.sums.downtime, one.sums.unknown) for one in row.days]
    return {
        "name": row.name,
        "asks": of_report if row.name else None,
        "now": dict([of_now]) if row.name else None,
        "stores": row.stores,
        "down": row.down,
        "windows": {window: _number(sums) for window, sums in row.windows.items()},
        "change": _change(row.change),
        "sparkline": now.sparkline(days),
        "text": "; ".join(map(now.day_text, days)),
        "worst": _store(row.worst) if row.worst else None,
        "without_hours": row.without_hours,
        "without_timezone": row.without_timezone,
    }


def _store(row: StoreRow) -> dict[str, Any]:
    return {
        "store_id": row.store_id,
        "name": row.name,
        "group": row.group,
        "timezone": row.timezone,
        "status": row.status,
        "week": _number(row.week),
        "previous_week": _number(row.previous_week),
        "change": _change(row.change),
    }


def _day(row: DayRow) -> dict[str, Any]:
    return {
        "date": date_text(row.day),
        "weekday": WEEKDAYS[utc_datetime(row.day * DAY_US).weekday()],
        "window": f"{date_text(row.day)}..{date_text(row.day + 1)}",
        **_number(row.sums),
    }


def _down_share(sums: Sums) -> int:
    """Return the share of the known time that was down, in hundredths of a percent; -1 where nothing is known."""
    return words.percent_of(sums.downtime, sums.uptime + sums.downtime)


def _hour(sums: Sums) -> dict[str, Any]:
    """Return a cell of the heat map: its shade, its share of down time, and a sentence."""
    share, business = _down_share(sums), sums.business
    number = _number(sums)
    if share < 0:
        text = f"nothing known of {words.hours(number['business'])} h" if business else "no business hours"
        return {"shade": "unknown" if business else "closed", "share": "?" if business else "·", "text": text}
    shade = sum(share >= edge for edge in _SHADES) - 1
    known = f", {number['known']}" if number["known"] else ""
    return {
        "shade": f"shade-{shade}",
        "share": _short(share),
        "known": number["known"],
        "text": f"{words.hours(number['downtime'])} h down, {words.percent(share)} of the known time{known}",
    }


def _short(share: int) -> str:
    """Return hundredths of a percent in as few digits as tell them apart."""
    if not share:
        return "0"
    return f"{share / 100:.1f}" if share < 995 else f"{(share + 50) // 100}"


@dataclass(frozen=True, slots=True)
class _Bar:
    """A day in the picture: where it is, what of it is drawn, and its sentence. Lengths along are in percent, heights
    in pixels."""

    x: str
    width: str
    down: int
    little: bool
    unknown: int
    text: str
    week_begins: bool


def _chart(days: list[DayRow]) -> dict[str, Any]:
    """Return the picture of days: the share that was down above a line, the share that is unknown hanging below it."""
    shares = [_down_share(row.sums) for row in days]
    scale = next(one for one in _SCALES if one >= max([*shares, 0]))
    bars = []
    for index, (row, share) in enumerate(zip(days, shares, strict=True)):
        number, business = _number(row.sums), row.sums.business
        down = round(_DOWN_HEIGHT * share / scale) if share > 0 else 0
        unknown = round(_UNKNOWN_HEIGHT * row.sums.unknown / business) if business else 0
        weekday = utc_datetime(row.day * DAY_US).weekday()
        amounts = (
            f"{words.percent(number['percent'])} up, {words.hours(number['downtime'])} h down, "
            f"{words.hours(number['unknown'])} h unknown"
            if business
            else "no business hours"
        )
        bars.append(
            _Bar(
                words.share(index * 10 + 1, len(days) * 10),
                words.share(8, len(days) * 10),
                max(down, 2) if share > 0 else 0,
                bool(number["known"]),
                max(unknown, 1) if row.sums.unknown else 0,
                f"{WEEKDAYS[weekday][:3]} {date_text(row.day)}: {amounts}",
                weekday == 0,
            )
        )
    worst = max(range(len(days)), key=lambda index: shares[index])
    text = f"Down time of all stores on each of {len(days)} days, {date_text(days[0].day)} to {date_text(days[-1].day)}"
    if shares[worst] > 0:
        text += f"; the most on {date_text(days[worst].day)}, {words.percent(shares[worst])} of the known time"
    return {
        "bars": bars,
        "text": text,
        "scale": f"{scale // 100} %",
        "half": f"{scale / 200:g} %",
        "line": _DOWN_HEIGHT + 4,
        "middle": _DOWN_HEIGHT // 2 + 4,
        "height": _DOWN_HEIGHT + _UNKNOWN_HEIGHT + 8,
        "first": date_text(days[0].day),
        "last": date_text(days[-1].day),
        "end": date_text(days[-1].day + 1),
    }
