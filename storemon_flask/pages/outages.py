"""The page `/outages`: what is going on now, what is over, what was going on at a time of the past."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.api.schemas import read_label_filters
from storemon_flask.errors import Unprocessable
from storemon_flask.labels import label_texts
from storemon_flask.model import MINUTE_US, Ints
from storemon_flask.pages import words
from storemon_flask.pages.label_choices import label_choices
from storemon_flask.reports.request import window_words
from storemon_flask.stores import live_list, outage_list
from storemon_flask.stores.live_list import Snapshot
from storemon_flask.stores.outage_list import DEFAULT_WINDOW, SORTS, STATES, OutageList, OutageQuery
from storemon_flask.uptime.status import STATUSES
from storemon_flask.version import VERSION
from storemon_flask.web import authentication, contract
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Whole

blueprint = Blueprint("outages_page", __name__)

_PER_PAGE: Final = 50
# So many of those that go on are shown above those that are over.
_ONGOING_SHOWN: Final = 20
# So many fit into a list to choose from; more are typed.
_MOST_CHOICES: Final = 200
_WINDOWS: Final = ("today", "yesterday", "this_week", "last_7_days", "this_month", "last_month")
# Long outages are looked for in this one.
_LONG_WINDOW: Final = "this_month"
_LENGTHS: Final = {0: "any length", 15: "15 min", 30: "30 min", 60: "1 h", 120: "2 h", 240: "4 h", 480: "8 h"}
_DEFAULTS: Final = {
    "window": DEFAULT_WINDOW,
    "at": "",
    "state": "any",
    "group": "",
    "label": [],
    "shortest_minutes": 0,
    "sort": "down_minutes",
    "order": "desc",
    "page": 1,
}


class _Minutes(fields.Float):
    """A number of minutes; an empty text is 0."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return 0.0 if value == "" else super()._deserialize(value, attr, data, **kwargs)


class OutagesPageQuery(Closed):
    """What the address of the page may say; a field that is empty says nothing."""

    window = fields.String(load_default=DEFAULT_WINDOW, validate=validate.Length(max=200))
    at = fields.String(load_default="", validate=validate.Length(max=100))
    state = fields.String(load_default="any", validate=validate.OneOf(STATES))
    group = fields.String(load_default="")
    label = fields.List(fields.String(), load_default=())
    shortest_minutes = _Minutes(load_default=0.0, allow_nan=False, validate=validate.Range(0, 576_000))
    sort = fields.String(load_default="down_minutes", validate=validate.OneOf(SORTS))
    order = fields.String(load_default="desc", validate=validate.OneOf(("asc", "desc")))
    page = Whole(load_default=1, validate=validate.Range(1, 1_000_000))


@dataclass(frozen=True, slots=True)
class _Section:
    """A table of the page: its title, how many outages it has on all its pages, the rows of this page, their number
    and the last; `more` is where all are, when only the first are here."""

    key: str
    title: str
    total: int
    rows: list[dict[str, Any]]
    page: int = 1
    last: int = 1
    more: str = ""


@contract.page(blueprint, "GET", "/outages", scope="read")
def outages() -> ResponseReturnValue:
    """Return the page; its headers alone when the browser has it already."""
    query = contract.read_query(OutagesPageQuery(), ignore_unknown=True)
    app = storemon()
    if not app.database.exists():
        return render_template("first_run.html", keyed=authentication.needs_key())
    snapshot = app.list_cache.current(app.slots.for_list)
    if not snapshot.ids:
        return render_template("first_run.html", keyed=authentication.needs_key())
    answer = make_response("")
    answer.set_etag(_tag(snapshot), weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        page, answer.status_code = _page(snapshot, query)
        answer.set_data(page)
    return answer


def _tag(snapshot: Snapshot) -> str:
    state = (VERSION, snapshot.made_us, snapshot.data_version, snapshot.as_of, request.full_path)
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


def _page(snapshot: Snapshot, query: dict[str, Any]) -> tuple[str, int]:
    """Return the page and its status; what is wrong with a field is said above the form."""
    sections: Sequence[_Section] = ()
    wrong = ""
    query = {**query, "label": [text for text in query["label"] if text]}
    try:
        sections = _sections(snapshot, query)
    except (ValueError, Unprocessable) as error:
        wrong = error.message if isinstance(error, Unprocessable) else f"At {error}"
    groups = live_list.distinct_texts(snapshot, "group")
    windows = _WINDOWS if query["window"] in _WINDOWS else (*_WINDOWS, query["window"])
    shortest = query["shortest_minutes"]
    lengths = _LENGTHS if shortest in _LENGTHS else {**_LENGTHS, shortest: f"{shortest:g} min"}
    page = render_template(
        "outages.html",
        as_of=snapshot.as_of,
        query=query,
        wrong=wrong,
        sections=sections,
        windows={name: window_words(name) for name in windows},
        long_window=_LONG_WINDOW,
        lengths=dict(sorted(lengths.items())),
        labels=[] if wrong else label_choices(snapshot, query["label"]),
        groups=groups if len(groups) <= _MOST_CHOICES else None,
        link=lambda **changed: _link({**query, "page": 1, **changed}),
        csv=_link({**query, "page": 1}, url_for("outages.outages_csv")),
    )
    return page, 422 if wrong else 200


def _link(query: dict[str, Any], path: str = "/outages") -> str:
    """Return the address of the page, or of another path, with that query, without defaults."""
    chosen = {name: value for name, value in query.items() if value != _DEFAULTS[name]}
    if "shortest_minutes" in chosen:
        chosen["shortest_minutes"] = f"{chosen['shortest_minutes']:g}"
    return f"{path}?{urlencode(chosen, doseq=True)}" if chosen else path


def _sections(snapshot: Snapshot, query: dict[str, Any]) -> list[_Section]:
    """Return what is going on now and what is over of the window; or what was going on at the time asked for."""
    app = storemon()
    window, shortest_us = outage_list.make_window(query["window"], query["shortest_minutes"])
    asked = OutageQuery(
        window=window,
        moment=outage_list.parse_moment(query["at"]) if query["at"] else None,
        state=query["state"],
        group=query["group"] or None,
        labels=read_label_filters("label", query["label"]),
        shortest_us=shortest_us,
        sort=query["sort"],
        descending=query["order"] == "desc",
    )
    # What goes on now is shown whatever the window is: it touches the last instant.
    now_us = snapshot.as_of.as_of_us
    now = replace(asked, window=outage_list.window_between(now_us - 1, now_us), state="ongoing")
    both = asked.moment is None and asked.state == "any"
    rules, zone = app.settings.rules, app.settings.default_timezone
    queries = [asked, now] if both else [asked]
    listed = outage_list.read_outages(app.database, snapshot, queries, rules, zone, app.slots.for_list)
    if both:
        index = outage_list.select(listed, now)
        more = _link({**query, "page": 1, "state": "ongoing"}) if len(index) > _ONGOING_SHOWN else ""
        rows = _rows(snapshot, listed, index[:_ONGOING_SHOWN])
        first = [_Section("ongoing", "Going on now", len(index), rows, more=more)]
        asked = replace(asked, state="over")
    else:
        first = []
    return [*first, _whole_section(snapshot, listed, asked, query)]


def _whole_section(snapshot: Snapshot, listed: OutageList, asked: OutageQuery, query: dict[str, Any]) -> _Section:
    """Return a section that has pages."""
    index = outage_list.select(listed, asked)
    last = max(len(index) - 1, 0) // _PER_PAGE + 1
    page = min(query["page"], last)
    rows = _rows(snapshot, listed, index[(page - 1) * _PER_PAGE : page * _PER_PAGE])
    window = words.cut(window_words(query["window"]))
    title = f"Over, {window}" if asked.state == "over" else f"Going on now, and in {window}"
    if asked.moment is not None:
        at = words.utc_text(asked.moment.us).removesuffix(" UTC")
        title = f"Going on at {at[:16]}" + (" of each store’s own clock" if asked.moment.local else " UTC")
    return _Section("list", title, len(index), rows, page, last)


def _index_of_id(snapshot: Snapshot) -> dict[str, int]:
    """Return the index of each store of the snapshot, made once for all requests."""
    known = snapshot.derived_from_texts.get("index_of_id")
    if not isinstance(known, dict):
        known = {store_id: index for index, store_id in enumerate(snapshot.ids)}
        snapshot.derived_from_texts["index_of_id"] = known
    return known


def _rows(snapshot: Snapshot, listed: OutageList, index: Ints) -> list[dict[str, Any]]:
    """Return those outages for the template, each with the status of its store if it goes on."""
    schedule, some = listed.schedule, listed.outages.pick(index)
    as_of_us = listed.as_of.as_of_us
    index_of_id = _index_of_id(snapshot)
    rows = []
    for row, store in enumerate(some.store.tolist()):
        store_id, ongoing = schedule.ids[store], bool(some.ongoing[row])
        listed_at = index_of_id.get(store_id)
        start_us, end_us = int(some.start_us[row]), int(some.end_us[row])
        zone = schedule.zone_of_store[store]
        rows.append(
            {
                "key": f"{store_id}-{start_us}",
                "store_id": store_id,
                "name": schedule.names[store],
                "group": schedule.groups[store],
                "labels": label_texts(schedule.labels.of_store(store)),
                "zone": zone,
                "start_us": start_us,
                "end_us": end_us,
                "ongoing": ongoing,
                "length_us": (as_of_us if ongoing else end_us) - start_us,
                "down_us": int(some.down_us[row]) // MINUTE_US * MINUTE_US,
                "polls": int(some.polls[row]),
                "status": STATUSES[int(snapshot.columns["status"][listed_at])]
                if ongoing and listed_at is not None
                else "",
                "until": "" if ongoing else f"{words.wall_clock(end_us - 1, zone):%Y-%m-%d}",
            }
        )
    return rows
