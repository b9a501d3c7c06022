"""`/`: every store as it is now, the worst first."""

import hashlib
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from storemon_flask.api.schemas import Closed, Whole
from storemon_flask.pages import now_rows, queries
from storemon_flask.pages.words import STATUS_WORDS, cut
from storemon_flask.stores import snapshots, store_pages, week_strip
from storemon_flask.stores.store_list import Snapshot
from storemon_flask.stores.store_pages import SORTS, Wanted
from storemon_flask.uptime.status import STATUSES
from storemon_flask.version import VERSION
from storemon_flask.web import authentication
from storemon_flask.web.app import runner

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


@blueprint.get("/stores")
def stores() -> ResponseReturnValue:
    """The same list by its other name."""
    query = request.query_string.decode("ascii", "replace")
    return redirect("/?" + query if query else "/")


@blueprint.get("/")
def now() -> ResponseReturnValue:
    """The page; nothing but its headers when it is what the browser has already."""
    query = queries.parameters(NowQuery())
    app = runner()
    if not app.database.exists():
        return render_template("first_run.html", keyed=authentication.keyed())
    found = snapshots.current(app.database, app.settings.rules, app.settings.default_timezone, app.places.for_a_list)
    if not found.ids:
        return render_template("first_run.html", keyed=authentication.keyed())
    answer = make_response("")
    answer.set_etag(_tag(found), weak=True)
    answer.headers["Cache-Control"] = "no-cache"
    if answer.make_conditional(request).status_code != 304:
        answer.set_data(_page(found, query))
    return answer


def _tag(found: Snapshot) -> str:
    said = (VERSION, found.made_us, found.data_version, found.moment, request.full_path)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def _page(found: Snapshot, query: dict[str, Any]) -> str:
    app = runner()
    statuses = [word for word in query["status"] if word]
    page = store_pages.page(
        found,
        Wanted(
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
    days = week_strip.of(app.database, found, page.places, app.settings.rules, app.settings.default_timezone)
    shown = {**query, "status": statuses}
    return render_template(
        "now.html",
        moment=found.moment,
        newest_us=int(found.columns["last_poll"].max()),
        page=page,
        rows=now_rows.rows(found, page.places, days),
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
    choices = store_pages.choices(found, name)
    return choices if len(choices) <= _MOST_CHOICES else None


def _link(query: dict[str, Any]) -> str:
    """The address of the list with that query; what is as ever is left out."""
    usual = {"status": [], "q": "", "zone": "", "group": "", "sort": "worst", "order": "asc", "page": 1}
    said = {name: value for name, value in query.items() if value != usual[name]}
    return "/?" + urlencode(said, doseq=True) if said else "/"
