"""Signed webhooks, by the published example of Standard Webhooks and against a receiver."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from delivery_helpers import NOW_US, Sink, add_channel, answering, parcel, send
from delivery_helpers import prepared as prepared
from delivery_helpers import sink as sink

from storemon_flask.database.connections import Database
from storemon_flask.delivery import courier, transports, webhook
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Secret, Settings


def test_the_published_example_has_its_published_signature() -> None:
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = webhook.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_receiver_can_verify_what_it_gets(prepared: Database, settings: Settings, sink: Sink) -> None:
    channel = add_channel(prepared, "webhook", f"{sink.url}/hook")
    one = parcel(settings, prepared, channel)
    assert courier.send_once(one, Deadline(20)).text == "200 OK: thanks"
    assert courier.send_once(replace(one, now_us=NOW_US + 5_000_000), Deadline(20)).delivered
    first, second = sink.calls
    event = json.loads(first.body)
    assert (event["type"], event["data"]["test"]) == ("incidents.changed", True)
    assert first.headers["Content-Type"] == "application/json"
    # The same id and bytes at each try, each with the time of the try.
    assert (first.body, first.message_id) == (second.body, second.message_id) == (first.body, "msg_1")
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 5
    key = base64.b64decode(channel.secret.value.removeprefix("whsec_"))
    for call in sink.calls:
        signed = f"{call.message_id}.{call.headers['webhook-timestamp']}.".encode() + call.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert call.headers["webhook-signature"] == f"v1,{expected}"


def test_secrets_differ_and_are_not_shown(prepared: Database, settings: Settings, sink: Sink) -> None:
    first, second = webhook.new_secret(), webhook.new_secret()
    assert first.value != second.value
    assert len(base64.b64decode(first.value.removeprefix("whsec_"))) == 24
    assert first.value not in f"{first!r} {first}"
    channel = add_channel(prepared, "webhook", f"{sink.url}/hook/tokentoken")
    sink.behave = answering(500, f"{channel.secret.value} /hook/tokentoken".encode())
    assert send(settings, prepared, channel).text == "500 Internal Server Error: *** ***"
    assert "tokentoken" not in repr(channel)
    assert transports.shown_address(channel) == f"{sink.url}/..."


def test_only_valid_addresses_and_kinds_are_accepted(settings: Settings) -> None:
    assert transports.check_channel("webhook", "https://example.com/x", settings) == "https://example.com/x"
    with pytest.raises(Unprocessable):
        transports.check_channel("webhook", "example.com/x", settings)
    with pytest.raises(Unprocessable) as bad:
        transports.check_channel("pigeon", "x", settings)
    assert bad.value.message == "'pigeon' is no kind of channel; it must be one of email, webhook, apprise, folder"
