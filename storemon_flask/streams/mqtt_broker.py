"""Topics of an MQTT 5 broker through paho-mqtt: one session that the broker keeps, QoS 1, acknowledged by hand."""

import logging
import time
from contextlib import suppress
from typing import Any, Final

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from storemon_flask.streams.address import StreamAddress
from storemon_flask.streams.broker import CONNECT_TIMEOUT_S, HEARTBEAT_S, MAX_UNACKNOWLEDGED, BrokerLost
from storemon_flask.streams.messages import Message

log = logging.getLogger("storemon.streams")

# The broker keeps what comes in for so long while nobody listens.
_SESSION_S: Final = 30 * 86_400
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
# A packet at a time is taken by the library; so many, or so many bytes, before who waits for them gets them.
_MOST_AT_ONCE: Final = 1_000
_MOST_BYTES_AT_ONCE: Final = 8 << 20
_CLOSED: Final = "the connection was closed"


class MqttBroker:
    """A connection that is subscribed to one topic; see `Broker`."""

    def __init__(self, address: StreamAddress) -> None:
        self._address = address
        self._messages: list[Message] = []
        self._size = 0
        # What the broker has said: of the connection, of the subscription, and of the end.
        self._answers: dict[str, Any] = {}
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            # The listener connects anew itself.
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_message = self._add
        client.on_connect = self._note_session
        client.on_subscribe = lambda client, data, mid, codes, properties: self._answer("subscribe", codes[0])
        client.on_disconnect = self._note_end
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        try:
            if address.scheme == "mqtts":
                client.tls_set(ca_certs=address.ca_file)
            self._subscribe()
        except (OSError, ValueError) as error:
            self.close()
            raise self._make_lost(str(error)) from error
        except BrokerLost:
            self.close()
            raise

    def _subscribe(self) -> None:
        session: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = _SESSION_S
        session.ReceiveMaximum = MAX_UNACKNOWLEDGED
        port = self._address.port or _PORTS[self._address.scheme]
        self._client.connect(self._address.host, port, HEARTBEAT_S, clean_start=False, properties=session)
        self._wait_for("connect")
        # Retained messages come once, with a new session, and not at each connection.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        code, _ = self._client.subscribe(self._address.topic, options=options)
        if code != mqtt.MQTT_ERR_SUCCESS:
            raise self._make_lost(mqtt.error_string(code))
        self._wait_for("subscribe")

    def _wait_for(self, answer: str) -> None:
        end_s = time.monotonic() + CONNECT_TIMEOUT_S
        while answer not in self._answers:
            if time.monotonic() > end_s:
                raise self._make_lost(f"no answer to {answer} within {CONNECT_TIMEOUT_S} s")
            before = len(self._messages)
            self._loop(0.2)
            if len(self._messages) > before:
                # What the broker has kept comes before its answer, and may take a slow machine long.
                end_s = time.monotonic() + CONNECT_TIMEOUT_S
        code = self._answers.pop(answer)
        if code.is_failure:
            raise self._make_lost(f"{answer} is refused: {code}")

    def _note_session(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if not code.is_failure and not flags.session_present:
            log.info("%s: the broker begins a session; nothing of before comes", self._address.name)
        self._answer("connect", code)

    def _note_end(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        # Of an end that the broker gave no reason for the library makes up one; and it tells of each end twice.
        self._answers.setdefault("disconnect", code if flags.is_disconnect_packet_from_server else _CLOSED)

    def _answer(self, what: str, code: Any) -> None:
        self._answers[what] = code

    def _add(self, client: Any, data: Any, message: mqtt.MQTTMessage) -> None:
        handle = (message.mid, message.qos)
        self._size += len(message.payload)
        self._messages.append(
            Message(bytes(message.payload), time.time_ns() // 1000, handle, message.topic, message.retain)
        )

    def _loop(self, timeout_s: float) -> None:
        code = self._client.loop(timeout_s)
        if code != mqtt.MQTT_ERR_SUCCESS:
            reason = self._answers.get("connect") or self._answers.get("disconnect")
            raise self._make_lost(str(reason) if reason is not None else mqtt.error_string(code))

    def receive(self, timeout_s: float) -> list[Message]:
        """Return what has come in, in order; wait for it at most so long."""
        try:
            self._loop(timeout_s)
            before = 0
            while before < len(self._messages) < _MOST_AT_ONCE and self._size < _MOST_BYTES_AT_ONCE:
                before = len(self._messages)
                self._loop(0)
        except OSError as error:
            raise self._make_lost(str(error)) from error
        messages, self._messages, self._size = self._messages, [], 0
        return messages

    def acknowledge(self, messages: list[Message]) -> None:
        """Tell the broker that these need never come again."""
        for message in messages:
            code = self._client.ack(*message.handle)
            if code not in (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_AGAIN):
                raise self._make_lost(mqtt.error_string(code))

    def count_waiting(self) -> int | None:
        """Return None: MQTT does not say."""
        return None

    def close(self) -> None:
        """End the connection; the broker keeps the session, and what is not acknowledged comes again."""
        with suppress(OSError, ValueError):
            self._client.disconnect()
            # What was acknowledged last is sent before.
            while self._client.want_write() and self._client.loop(0.2) == mqtt.MQTT_ERR_SUCCESS:
                pass

    def _make_lost(self, why: str) -> BrokerLost:
        return BrokerLost(f"{self._address.name}: {' '.join(why.split()) or 'the connection was closed'}")
