"""`/`: every store as it is now, the worst first."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.formatting import known_text, knows_little
from storemon_flask.pages import queries, words
from storemon_flask.pages.words import STATUS_WORDS, cut
from storemon_flask.stores import list_pages, live_list
from storemon_flask.stores.list_pages import SORTS, ListQuery
from storemon_flask.stores.live_list import LISTED_WINDOWS, PERCENTAGES, Day, Snapshot
from storemon_flask.uptime.status import STATUSES
from storemon_flask.version import VERSION
from storemon_flask.web import authentication, contract
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Whole

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


class NowQuery(Closed):
    """What the address of the page may say; a field that is empty says nothing."""

    status = fields.List(
        fields.String(validate=validate.OneOf(("", *STATUSES), error=f"must be one of: {', '.join(STATUSES)}")),
        load_default=(),
    )
    q = fields.String(load_default="")
    zone = fields.String(load_default="")
    group = fields.String(load_default="")
    sort = fields.String(load_default="worst", validate=validate.OneOf(SORTS))
    order = fields.String(load_default="asc", validate=validate.OneOf(("asc", "desc")))
    page = Whole(load_default=1, validate=validate.Range(1, 1_000_000))


@contract.page(blueprint, "GET", "/stores", scope="read")
def stores() -> ResponseReturnValue:
    """The same list by its other name."""
    query = request.query_string.decode("ascii", "replace")
    return redirect("/?" + query if query else "/")


@contract.page(blueprint, "GET", "/", scope="read")
def now() -> ResponseReturnValue:
    """The page; nothing but its headers when it is what the browser has already."""
    query = queries.parameters(NowQuery())
    app = storemon()
    if not app.database.exists():
        return render_template("first_run.html", keyed=authentication.needs_key())
    found = app.list_cache.current(app.slots.for_list)
    if not found.ids:
        return render_template("first_run.html", keyed=authentication.needs_key())
    answer = make_response("")
    answer.set_etag(_tag(found), weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        answer.set_data(_page(found, query))
    return answer


def _tag(found: Snapshot) -> str:
    said = (VERSION, found.made_us, found.data_version, found.as_of, request.full_path)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def _page(found: Snapshot, query: dict[str, Any]) -> str:
    app = storemon()
    statuses = [word for word in query["status"] if word]
    page = list_pages.select_page(
        found,
        ListQuery(
            statuses=statuses,
            text=query["q"].strip() or None,
            timezone=query["zone"] or None,
            group=query["group"] or None,
            sort=query["sort"],
            descending=query["order"] == "desc",
            limit=PER_PAGE,
            skip=(query["page"] - 1) * PER_PAGE,
        ),
    )
    days = live_list.last_days(app.database, found, page.indices, app.settings.rules, app.settings.default_timezone)
    shown = {**query, "status": statuses}
    return render_template(
        "now.html",
        as_of=found.as_of,
        newest_us=int(found.columns["last_poll"].max()),
        page=page,
        rows=rows(found, page.indices, days),
        query=shown,
        number=page.begin // PER_PAGE + 1,
        last=max(page.total - 1, 0) // PER_PAGE + 1,
        all=sum(page.counts.values()),
        zones=_choices(found, "timezone"),
        groups=_choices(found, "group"),
        sorts=_SORTS if query["sort"] in _SORTS else {**_SORTS, query["sort"]: query["sort"].replace("_", " ")},
        filtered=bool(query["q"].strip() or query["zone"] or query["group"]),
        only=_only(shown),
        link=lambda **changed: _link({**shown, "page": 1, **changed}),
    )


def _only(query: dict[str, Any]) -> list[str]:
    """What the list is kept to, for paper: there the form is not seen."""
    statuses = ", ".join(STATUS_WORDS[word][0] for word in query["status"])
    said = (
        ("name or id has", f"“{cut(query['q'].strip())}”" if query["q"].strip() else ""),
        ("zone", query["zone"]),
        ("group", query["group"]),
        ("status", statuses),
    )
    return [f"{name} {value}" for name, value in said if value]


def _choices(found: Snapshot, name: str) -> list[str] | None:
    """What to choose from; None when that is too much for a list."""
    choices = list_pages.distinct_texts(found, name)
    return choices if len(choices) <= _MOST_CHOICES else None


def _link(query: dict[str, Any]) -> str:
    """The address of the list with that query; what is as ever is left out."""
    usual = {"status": [], "q": "", "zone": "", "group": "", "sort": "worst", "order": "asc", "page": 1}
    said = {name: value for name, value in query.items() if value != usual[name]}
    return "/?" + urlencode(said, doseq=True) if said else "/"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOWS: Final = tuple(LISTED_WINDOWS)
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
