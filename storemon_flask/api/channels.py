"""Channels: list, add, remove, test."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import Blueprint
from marshmallow import fields, validate

from storemon_flask.clock import timestamp_text
from storemon_flask.database.channels import KINDS
from storemon_flask.database.messages import Delivery
from storemon_flask.delivery import catalogue
from storemon_flask.delivery.answer import Answer as DeliveryAnswer
from storemon_flask.delivery.catalogue import ADDRESS_FIELDS, ChannelView, NewChannel
from storemon_flask.errors import Unprocessable
from storemon_flask.model import SECOND_US, IncidentKind
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, Closed, operation

blueprint = Blueprint("channels", __name__)

_INSTANT: Final = "date-time"


def _text(about: str, **options: Any) -> fields.String:
    null = options.pop("null", False)
    form = {"format": options.pop("format")} if "format" in options else {}
    return fields.String(required=True, allow_none=null, metadata={"description": about, **form}, **options)


def _optional(about: str, **options: Any) -> fields.String:
    return fields.String(load_default=None, allow_none=True, metadata={"description": about}, **options)


def _texts(about: str, **options: Any) -> fields.List[Any]:
    return fields.List(fields.String(**options), load_default=list, metadata={"description": about})


class NewChannelSchema(Closed):
    """A channel to add."""

    example: ClassVar[Mapping[str, Any] | None] = {"name": "ops", "kind": "webhook", "url": "https://example.com/in"}

    name = _text("what it is called, for people", validate=validate.Length(1, 100))
    kind = _text(
        "email, webhook (signed), apprise (Slack, Teams, Telegram, ntfy, PagerDuty, SMS and a hundred more) or folder",
        validate=validate.OneOf(KINDS),
    )
    url = _optional("of a webhook, or the address of a service as apprise writes it")
    to = _optional("mail addresses, with commas between them")
    folder = _optional("a folder of the server's machine, which is there")
    kinds = _texts(
        "only these kinds of incidents; all but stale if left out", validate=validate.OneOf(list(IncidentKind))
    )
    groups = _texts("only stores of these groups; all if left out")
    stores = _texts("only these stores, besides those of the groups")
    digest = _optional("once a day at that time, as 08:00 America/New_York; at once if left out")
    quiet = _optional("nothing is sent then, as 22:00-08:00 America/New_York")


class TrySchema(Closed):
    """One try to send a message."""

    at = _text("when it began", format=_INSTANT)
    delivered = fields.Boolean(required=True, metadata={"description": "whether the receiver took it"})
    code = fields.Integer(required=True, allow_none=True, metadata={"description": "of the answer, if there was one"})
    answer = _text("its first 200 characters, or what went wrong")
    duration_ms = fields.Integer(required=True, metadata={"description": "how long it took"})


class ChannelSchema(Closed):
    """Where messages go, and what of. Its address is shown without what may be secret."""

    channel_id = fields.Integer(required=True, metadata={"description": "its number"})
    name = _text("what it is called")
    kind = _text("how it is sent to", validate=validate.OneOf(KINDS))
    address = _text("where to, without secrets: https://hooks.example.com/...")
    kinds = fields.List(fields.String(), required=True, metadata={"description": "only these kinds; empty: all"})
    groups = fields.List(fields.String(), required=True, metadata={"description": "only these groups; empty: all"})
    stores = fields.List(fields.String(), required=True, metadata={"description": "these stores besides"})
    digest = _text("the time of its message each day; null: at once", null=True)
    quiet = _text("when nothing is sent; null: never", null=True)
    created = _text("when it was added", format=_INSTANT)
    disabled = _text("since when it is switched off, because its receiver wants no more", null=True, format=_INSTANT)
    trouble = _text("why it receives no messages now; null when all is well", null=True)
    last = fields.Nested(
        TrySchema, required=True, allow_none=True, metadata={"description": "its newest attempt; null before the first"}
    )


class AddedChannelSchema(ChannelSchema):
    """A channel that was just added."""

    secret = _text("what a webhook is signed with, shown this once; null for the other kinds", null=True)
    notes = fields.List(
        fields.String(), required=True, metadata={"description": "what of its groups and stores is not there yet"}
    )


class ChannelsSchema(Closed):
    """Every channel, by name."""

    channels = fields.List(fields.Nested(ChannelSchema), required=True, metadata={"description": "where messages go"})


class TestedSchema(Closed):
    """What came of a test."""

    delivered = fields.Boolean(required=True, metadata={"description": "whether the receiver took it"})
    code = fields.Integer(required=True, allow_none=True, metadata={"description": "of the answer, if there was one"})
    answer = _text("its first 200 characters, or what went wrong")


_MISSING: Final = Answer("no such channel")


@operation(
    blueprint, "GET", "/api/v1/channels", scope="read", tag="alerts",
    answers={200: Answer("every channel", ChannelsSchema())},
)  # fmt: skip
def channels() -> dict[str, Any]:
    """List the channels, what each receives, and the result of its newest attempt."""
    return {"channels": [channel_json(view) for view in catalogue.views(storemon().database)]}


@operation(
    blueprint, "POST", "/api/v1/channels", scope="admin", tag="alerts", body=NewChannelSchema(),
    answers={
        201: Answer("the channel", AddedChannelSchema()),
        409: Answer("there is one of that name"),
        413: Answer("larger than 16 MiB"),
    },
)  # fmt: skip
def add_channel(body: dict[str, Any]) -> dict[str, Any]:
    """Add a channel, which receives incidents that begin from now on. Nothing is sent yet: test it.

    It needs `url`, `to` or `folder`, by its kind. Secrets of an address are stored and never shown again.
    """
    app = storemon()
    with app.slots.for_change():
        view, notes = catalogue.add(app.database, app.settings, new_channel(body), time.time_ns() // 1000)
    return added_json(view, notes)


@operation(
    blueprint, "DELETE", "/api/v1/channels/<int:channel>", scope="admin", tag="alerts",
    answers={204: Answer("it is removed"), 404: _MISSING},
)  # fmt: skip
def remove_channel(channel: int) -> None:
    """Remove a channel with its address and secret. What waits for it is not sent; the log of deliveries stays."""
    database = storemon().database
    catalogue.remove(database, catalogue.find(database, channel), time.time_ns() // 1000)


@operation(
    blueprint, "POST", "/api/v1/channels/<int:channel>/test", scope="admin", tag="alerts",
    answers={200: Answer("what came of it, whether it was delivered or not", TestedSchema()), 404: _MISSING},
)  # fmt: skip
def test_channel(channel: int) -> dict[str, Any]:
    """Send a marked example to a channel now, once, and say what came of it, within 30 seconds.

    One that its receiver switched off is switched on again when the example arrives.
    """
    app = storemon()
    with app.slots.for_change():
        return tested_json(catalogue.test(app.database, app.settings, catalogue.find(app.database, channel)))


def new_channel(body: dict[str, Any]) -> NewChannel:
    """Return the channel that a body asks for; `Unprocessable` for an address of another kind."""
    field = ADDRESS_FIELDS[body["kind"]]
    others = [name for name in dict.fromkeys(ADDRESS_FIELDS.values()) if name != field and body[name] is not None]
    if others:
        sentence = f"does not go with kind {body['kind']}, whose address is {field}"
        raise Unprocessable(f"{others[0]} {sentence}", errors={name: [sentence] for name in others})
    return NewChannel(
        body["name"],
        body["kind"],
        body[field] or "",
        body["kinds"],
        body["groups"],
        body["stores"],
        body["digest"],
        body["quiet"],
    )


def channel_json(view: ChannelView) -> dict[str, Any]:
    """Return a channel as API and command line write it."""
    channel = view.channel
    return {
        "channel_id": channel.id,
        "name": channel.name,
        "kind": channel.kind,
        "address": view.shown,
        "kinds": list(channel.filters.kinds),
        "groups": list(channel.filters.groups),
        "stores": list(channel.filters.stores),
        "digest": channel.digest,
        "quiet": channel.quiet,
        "created": timestamp_text(channel.created_us),
        "disabled": None if channel.disabled_us is None else timestamp_text(channel.disabled_us),
        "trouble": view.trouble or None,
        "last": None if view.last is None else try_json(view.last),
    }


def added_json(view: ChannelView, notes: list[str]) -> dict[str, Any]:
    """Return a channel that was just added, with its secret, which is shown nowhere else."""
    return {**channel_json(view), "secret": view.channel.secret.value or None, "notes": notes}


def try_json(delivery: Delivery) -> dict[str, Any]:
    """Return one try to send a message, as `TrySchema` has it."""
    return {
        "at": timestamp_text(delivery.started_us),
        "delivered": delivery.delivered,
        "code": delivery.code,
        "answer": delivery.answer,
        "duration_ms": delivery.duration_us * 1000 // SECOND_US,
    }


def tested_json(answer: DeliveryAnswer) -> dict[str, Any]:
    """Return what came of a test, as `TestedSchema` has it."""
    return {"delivered": answer.delivered, "code": answer.code, "answer": answer.text}
