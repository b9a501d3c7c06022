"""The page `/alerts`: open and past incidents, channels, and delivery attempts."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate
from werkzeug.datastructures import MultiDict

from storemon_flask.alerts import catalogue as incidents
from storemon_flask.alerts.catalogue import IncidentView
from storemon_flask.database.channels import KINDS
from storemon_flask.database.incidents import Incident
from storemon_flask.delivery import catalogue as channels
from storemon_flask.delivery import words
from storemon_flask.delivery.catalogue import ADDRESS_FIELDS, ChannelView, NewChannel
from storemon_flask.errors import StoremonError
from storemon_flask.model import DEFAULT_KINDS, IncidentKind
from storemon_flask.web import contract, problems
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Closed, Whole

blueprint = Blueprint("alert_pages", __name__)

_OPEN_SHOWN: Final = 20
_HISTORY_SHOWN: Final = 15
_TRIES_SHOWN: Final = 10
_TRIES_PER_PAGE: Final = 100
_MOST: Final = (1 << 63) - 1
# Class of the badge and sign of each kind; one that is over has others.
_LOOKS: Final = {
    IncidentKind.DOWN: ("down", "▼"),
    IncidentKind.NOT_OPENED: ("down", "▼"),
    IncidentKind.MANY_DOWN: ("down", "▼"),
    IncidentKind.STALE: ("stale", "?"),
    IncidentKind.BLIND: ("stale", "?"),
    IncidentKind.UNSTABLE: ("stale", "↕"),
    IncidentKind.FEED: ("stale", "!"),
}
_OVER: Final = ("closed", "✓")
_KIND_HINTS: Final = {
    IncidentKind.BLIND: "hardly any polls arrive",
    IncidentKind.MANY_DOWN: "of a group or of the fleet, as one",
    IncidentKind.FEED: "its data are old or refused",
    IncidentKind.DOWN: "in its business hours",
    IncidentKind.NOT_OPENED: "its hours began, but it is not up",
    IncidentKind.STALE: "of one store",
    IncidentKind.UNSTABLE: "up and down by turns",
}
_ADDRESS_HINTS: Final = {
    "email": "E-mail: addresses, with commas between them",
    "webhook": "Signed webhook: the URL that takes a POST of JSON",
    "apprise": "Slack, Teams, Telegram, ntfy, SMS …: the address that apprise has for it",
    "folder": "Folder: a path on the server’s machine",
}


def _choice(default: str, *values: str) -> fields.String:
    return fields.String(load_default=default, validate=validate.OneOf((default, *values)))


def _number() -> Whole:
    return Whole(load_default=None, validate=validate.Range(1, _MOST))


class AlertsQuery(Closed):
    """What the address of the page may say; a field that is empty says nothing. `tested`: a channel.

    What is open stands above the history, which has only what is over unless it is asked for all.
    """

    state = _choice("resolved", "open", "any")
    kind = _choice("", *IncidentKind)
    subject = fields.String(load_default="")
    before = _number()
    tested = _number()


class DeliveriesQuery(Closed):
    """Which tries the page of all of them shows."""

    channel = _number()
    before = _number()


@contract.page(blueprint, "GET", "/alerts", scope="read")
def alerts() -> ResponseReturnValue:
    """Return the page: open and past incidents, channels with a form for another, and the newest attempts."""
    return _page(MultiDict())


@contract.page(blueprint, "POST", "/alerts", scope="admin")
def add() -> ResponseReturnValue:
    """Add the channel of the form and show its secret, this once; an error is shown at the form."""
    app, form = storemon(), request.form
    try:
        with app.slots.for_change():
            added = channels.add(app.database, app.settings, _new_channel(form), _now_us())
    except StoremonError as error:
        if error.status >= 500:
            raise
        return _page(form, error=error)
    return _page(MultiDict(), added=added)


@contract.page(blueprint, "POST", "/alerts/channels/<int:channel>/test", scope="admin")
def test(channel: int) -> ResponseReturnValue:
    """Send a marked example to a channel; the browser is sent to what came of it."""
    app = storemon()
    problems.lead_back(url_for("alert_pages.alerts"), "Alerts")
    with app.slots.for_change():
        channels.test(app.database, app.settings, channels.find(app.database, channel))
    return redirect(url_for("alert_pages.alerts", tested=channel) + "#channels", 303)


@contract.page(blueprint, "GET", "/alerts/channels/<int:channel>/remove", scope="read")
def ask_remove(channel: int) -> ResponseReturnValue:
    """Return the page that says what goes with a channel, and asks."""
    problems.lead_back(url_for("alert_pages.alerts"), "Alerts")
    database, back = storemon().database, url_for("alert_pages.alerts")
    removed = channels.find(database, channel)
    reasons = channels.losses(database, removed)
    return render_template("remove.html", what="channel", name=removed.name, back=back, word="Alerts", reasons=reasons)


@contract.page(blueprint, "POST", "/alerts/channels/<int:channel>/remove", scope="admin")
def remove(channel: int) -> ResponseReturnValue:
    """Remove a channel; the browser is sent back to those that are left."""
    database = storemon().database
    problems.lead_back(url_for("alert_pages.alerts"), "Alerts")
    with storemon().slots.for_change():
        channels.remove(database, channels.find(database, channel), _now_us())
    return redirect(url_for("alert_pages.alerts") + "#channels", 303)


@contract.page(blueprint, "GET", "/alerts/deliveries", scope="read")
def deliveries() -> ResponseReturnValue:
    """Return the page of every try to send a message, the newest first."""
    query = contract.read_query(DeliveriesQuery(), ignore_unknown=True)
    tries = channels.newest_tries(storemon().database, _TRIES_PER_PAGE + 1, query["channel"], query["before"])
    return render_template(
        "deliveries.html",
        tries=tries[:_TRIES_PER_PAGE],
        query=query,
        channel=channels.name_of(storemon().database, query["channel"]) if query["channel"] else "",
        older=tries[_TRIES_PER_PAGE - 1].number if len(tries) > _TRIES_PER_PAGE else None,
    )


def incident_rows(views: Sequence[IncidentView], now_us: int) -> list[dict[str, Any]]:
    """Return incidents for the templates, in the words that messages use."""
    return [_row(view, now_us) for view in views]


def _subject(incident: Incident) -> str:
    """Return what people call the subject of an incident; the id of a store with a name stands beside it."""
    name = incident.details.get("name") if incident.scope == "store" else None
    return words.cut_name(name) if name else words.subject_text(incident)


def _row(view: IncidentView, now_us: int) -> dict[str, Any]:
    incident = view.incident
    over = incident.outcome is not None
    look, sign = _OVER if over else _LOOKS[incident.kind]
    return {
        "store_id": incident.subject if incident.scope == "store" else None,
        "subject": _subject(incident),
        "label": words.KIND_WORDS[incident.kind].label,
        "ended": words.KIND_WORDS[incident.kind].over,
        "look": look,
        "sign": sign,
        "text": words.incident_text(incident, now_us),
        "certainty": "" if over else words.certainty_text(incident, now_us),
        "notified": view.told_text(),
        "over": over,
        "found_us": incident.resolved_us or incident.opened_us,
        "recent": view.is_recent(now_us),
    }


def _page(
    form: "MultiDict[str, str]",
    error: StoremonError | None = None,
    added: tuple[ChannelView, list[str]] | None = None,
) -> ResponseReturnValue:
    database, now_us = storemon().database, _now_us()
    query = contract.read_query(AlertsQuery() if request.method == "GET" else None, ignore_unknown=True) or {
        "state": "resolved", "kind": "", "subject": "", "before": None, "tested": None,
    }  # fmt: skip
    open_views = incidents.open_views(database)
    subject = query["subject"].strip()
    past = incidents.newest_views(
        database,
        _HISTORY_SHOWN + 1,
        None if query["state"] == "any" else query["state"],
        query["kind"] or None,
        subject or None,
        query["before"],
    )
    listed = channels.views(database)
    page = render_template(
        "alerts.html",
        open=incident_rows(open_views[:_OPEN_SHOWN], now_us),
        open_count=len(open_views),
        counts=_counts(open_views),
        past=incident_rows(past[:_HISTORY_SHOWN], now_us),
        query=query,
        older=_link(query, past[_HISTORY_SHOWN - 1].incident.id) if len(past) > _HISTORY_SHOWN else None,
        newest=_link(query, None) if query["before"] else None,
        kinds={kind.value: words.KIND_WORDS[kind].label for kind in words.SEVERITY},
        channels=listed,
        failing=sum(1 for view in listed if view.trouble),
        kind_hints=_KIND_HINTS,
        ticked=form.getlist("kinds") if form else DEFAULT_KINDS,
        heard=channels.received_text,
        when_sent=channels.when_text,
        channel_kinds={kind: _ADDRESS_HINTS[kind] for kind in KINDS},
        tested=next((view for view in listed if view.channel.id == query["tested"]), None),
        tries=channels.newest_tries(database, _TRIES_SHOWN),
        added=added,
        form=form,
        error=error,
        wrong=_wrong(error),
    )
    answer = make_response(page, error.status if error else 200)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _counts(views: Sequence[IncidentView]) -> dict[str, int]:
    """Return how many of each kind there are, by its label, the worst first."""
    kinds = [view.incident.kind for view in views]
    return {words.KIND_WORDS[kind].label: kinds.count(kind) for kind in words.SEVERITY if kind in kinds}


def _link(query: Mapping[str, Any], before: int | None) -> str:
    defaults = {"state": "resolved", "kind": "", "subject": "", "before": None}
    asked = {**query, "before": before}
    search = urlencode({name: asked[name] for name, default in defaults.items() if asked[name] != default})
    return f"/alerts?{search}#history" if search else "/alerts#history"


def _new_channel(form: "MultiDict[str, str]") -> NewChannel:
    return NewChannel(
        form.get("name", ""),
        form.get("kind", ""),
        form.get("address", ""),
        form.getlist("kinds"),
        form.get("groups", "").splitlines(),
        form.get("stores", "").splitlines(),
        form.get("digest", ""),
        form.get("quiet", ""),
    )


def _wrong(error: StoremonError | None) -> dict[str, str]:
    """Return what is wrong with each input of the form."""
    errors = error.members.get("errors") if error else None
    if not isinstance(errors, dict):
        return {"name": error.message} if error else {}
    addresses = set(ADDRESS_FIELDS.values())
    return {
        "address" if name in addresses else name: "; ".join(map(str, sentences)) for name, sentences in errors.items()
    }


def _now_us() -> int:
    return time.time_ns() // 1000
