"""Signed webhooks, by Standard Webhooks 1.0: a POST whose receiver can tell who sent it, and whether it came before."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from storemon_flask.delivery import content
from storemon_flask.delivery.answer import Answer
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.http import call_until, check_url, shown_url
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.model import SECOND_US
from storemon_flask.settings import Secret, Settings

_PREFIX: Final = "whsec_"


def new_secret() -> Secret:
    """Return a secret for signatures: 192 random bits."""
    return Secret(_PREFIX + base64.b64encode(secrets.token_bytes(24)).decode())


def check(address: str, settings: Settings) -> str:
    """Return the address as it is stored; `Unprocessable` when it is none."""
    return check_url(address)


def shown(address: str) -> str:
    """Return the address without what may be secret."""
    return shown_url(address)


def signature(secret: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    try:
        key = base64.b64decode(secret.value.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = secret.value.encode()
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def send(parcel: Parcel, deadline: Deadline) -> Answer:
    """Call the address of the channel with the event of the message; its id is the same at every try."""
    message, channel = parcel.message, parcel.channel
    body = content.webhook_body(message.content)
    timestamp = parcel.now_us // SECOND_US
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(channel.secret, message.id, timestamp, body),
    }
    return call_until(channel.address.value, deadline, body, headers).without([channel.secret.value])
