"""Incidents, who was told of them, and every delivery attempt."""

import time
from typing import Any, Final

from flask import Blueprint
from marshmallow import fields, validate

from storemon_flask.alerts import catalogue
from storemon_flask.api.channels import TrySchema, try_json
from storemon_flask.delivery import catalogue as deliveries_
from storemon_flask.model import IncidentKind, Outcome
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, Closed, Whole, operation

blueprint = Blueprint("incidents", __name__)

STATES: Final = ("open", "resolved")
PURPOSES: Final = ("incidents", "digest", "report", "test")
_TOLD: Final = ("waiting", "sent", "failed")
_MOST: Final = (1 << 63) - 1


def _text(about: str, null: bool = False, **options: Any) -> fields.String:
    form = {"format": options.pop("format")} if "format" in options else {}
    return fields.String(required=True, allow_none=null, metadata={"description": about, **form}, **options)


def _instant(about: str, null: bool = False) -> fields.String:
    return _text(about, null, format="date-time")


def _filter(about: str, **options: Any) -> fields.String:
    return fields.String(load_default=None, metadata={"description": about}, **options)


class _PageSchema(Closed):
    """A page of a list, the newest first."""

    limit = Whole(load_default=50, validate=validate.Range(1, 1000), metadata={"description": "entries a page"})
    cursor = Whole(
        load_default=None,
        validate=validate.Range(1, _MOST),
        metadata={"description": "what `next` of the page before said"},
    )


class IncidentsQuerySchema(_PageSchema):
    """Which incidents."""

    state = _filter("only what goes on, or what is over", validate=validate.OneOf(STATES))
    kind = _filter("only this kind", validate=validate.OneOf(list(IncidentKind)))
    subject = _filter("only of the store of this id, or the group or time zone of this name")


class DeliveriesQuerySchema(_PageSchema):
    """Which attempts."""

    channel = Whole(
        load_default=None, validate=validate.Range(1, _MOST), metadata={"description": "only of this channel"}
    )


class ToldSchema(Closed):
    """A channel that is told of an incident."""

    channel = _text("its name")
    state = _text("waiting, sent, or failed for good", validate=validate.OneOf(_TOLD))
    at = _instant("when it was sent; null before", null=True)


class IncidentSchema(Closed):
    """One incident: the fields of a webhook, when it was detected, and who is told."""

    incident_id = fields.Integer(required=True, metadata={"description": "its number"})
    kind = _text("what is wrong", validate=validate.OneOf(list(IncidentKind)))
    state = _text("whether it goes on", validate=validate.OneOf(STATES))
    outcome = _text(
        "how it ended: over, closed for the day, corrected (it never was, as late polls show), unknown (polls stopped) "
        "or removed; null while it goes on",
        null=True,
        validate=validate.OneOf(list(Outcome)),
    )
    scope = _text("what it is about", validate=validate.OneOf(("store", "group", "zone", "fleet")))
    store_id = _text("the store, if it is about one", null=True)
    name = _text("the name of that store, when the incident was detected", null=True)
    group = _text("the group, or that of the store", null=True)
    timezone = _text("the time zone, or that of the store", null=True)
    since = _instant("since when it is so; polls that come late may move it")
    ended = _instant("until when it was so; null while it goes on", null=True)
    business_minutes = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "how long in business time, where it is of one opening of a store; whole minutes"},
    )
    text = _text("the same as a sentence")
    detected = _instant("when its beginning was detected")
    resolved = _instant("when its end was detected; null while it is open", null=True)
    notified = fields.List(
        fields.Nested(ToldSchema),
        required=True,
        metadata={"description": "who is told that it began, or once it is over, that it ended"},
    )


class IncidentsSchema(Closed):
    """Incidents, the newest first."""

    incidents = fields.List(fields.Nested(IncidentSchema), required=True, metadata={"description": "a page of them"})
    next = _text("the cursor of the next page; null at the end", null=True)


class DeliverySchema(TrySchema):
    """One attempt to send a message, and which message."""

    delivery_id = fields.Integer(required=True, metadata={"description": "its number"})
    message_id = _text("the id of the message, the same at every try; a webhook has it as webhook-id")
    channel_id = fields.Integer(required=True, metadata={"description": "the channel"})
    channel = _text("its name")
    purpose = _text("what the message is", validate=validate.OneOf(PURPOSES))


class DeliveriesSchema(Closed):
    """Tries, the newest first."""

    deliveries = fields.List(fields.Nested(DeliverySchema), required=True, metadata={"description": "a page of them"})
    next = _text("the cursor of the next page; null at the end", null=True)


@operation(
    blueprint, "GET", "/api/v1/incidents", scope="read", tag="alerts", query=IncidentsQuerySchema(),
    answers={200: Answer("the newest incidents first", IncidentsSchema())},
)  # fmt: skip
def incidents(query: dict[str, Any]) -> dict[str, Any]:
    """List the open and past incidents of stores, groups, zones, the fleet and its feeds, and who is told."""
    now_us, limit = time.time_ns() // 1000, query["limit"]
    views = catalogue.newest_views(
        storemon().database, limit + 1, query["state"], query["kind"], query["subject"], query["cursor"]
    )
    page = views[:limit]
    return {
        "incidents": [catalogue.record_of(view, now_us) for view in page],
        "next": str(page[-1].incident.id) if len(views) > limit else None,
    }


@operation(
    blueprint, "GET", "/api/v1/deliveries", scope="read", tag="alerts", query=DeliveriesQuerySchema(),
    answers={200: Answer("the newest tries first", DeliveriesSchema())},
)  # fmt: skip
def deliveries(query: dict[str, Any]) -> dict[str, Any]:
    """List every attempt to send a message: when, what the receiver answered, how long it took."""
    limit = query["limit"]
    tries = deliveries_.newest_tries(storemon().database, limit + 1, query["channel"], query["cursor"])
    return {
        "deliveries": [delivery_json(one) for one in tries[:limit]],
        "next": str(tries[limit - 1].number) if len(tries) > limit else None,
    }


def delivery_json(one: deliveries_.LoggedTry) -> dict[str, Any]:
    """Return one try, as `DeliverySchema` has it."""
    return {
        "delivery_id": one.number,
        "message_id": one.delivery.message,
        "channel_id": one.delivery.channel,
        "channel": one.channel,
        "purpose": one.delivery.purpose,
        **try_json(one.delivery),
    }
