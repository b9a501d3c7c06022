"""Queues through kombu: RabbitMQ and other AMQP brokers, and whatever else kombu has a transport for."""

import bz2
import lzma
import ssl
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import kombu
from kombu import compression
from kombu.exceptions import KombuError

from storemon_flask.streams.address import StreamAddress
from storemon_flask.streams.broker import CONNECT_TIMEOUT_S, HEARTBEAT_S, MAX_UNACKNOWLEDGED, BrokerLost
from storemon_flask.streams.messages import MAX_MESSAGE_BYTES, Message

_AMQP: Final = ("amqp", "amqps")
# Twice in each heartbeat's time.
_HEARTBEAT_CHECKS: Final = 2
_NOT_FOUND: Final = "404"
_MAX_LZMA_BYTES: Final = 64 << 20
_DECODERS: Final[dict[str, Callable[[], Any]]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=_MAX_LZMA_BYTES),
}


class KombuBroker:
    """A connection that consumes one queue; see `Broker`."""

    def __init__(self, address: StreamAddress) -> None:
        self._address = address
        self._is_amqp = address.scheme in _AMQP
        self._messages: list[Message] = []
        self._heartbeat_due_s = 0.0
        try:
            self._connection = kombu.Connection(
                address.broker,
                connect_timeout=CONNECT_TIMEOUT_S,
                heartbeat=HEARTBEAT_S if self._is_amqp else 0,
                ssl=_tls_options(address) if address.scheme == "amqps" else False,
                transport_options={} if self._is_amqp else {"visibility_timeout": 3600},
            )
            # What else can be wrong is what its transport says.
            self._errors: tuple[type[BaseException], ...] = (
                *self._connection.connection_errors,
                *self._connection.channel_errors,
                KombuError,
                OSError,
                ImportError,
            )
        except (ImportError, KeyError, ValueError, KombuError) as error:
            raise self._make_lost(error) from error
        try:
            self._consume()
        except self._errors as error:
            self.close()
            raise self._make_lost(error) from error

    def _consume(self) -> None:
        # The listener waits and tries again itself.
        self._connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        address = self._address
        queue = kombu.Queue(address.queue, durable=True, no_declare=True)
        # Only AMQP compares a queue that is there with the one that is asked for.
        if not (self._is_amqp and self._is_there(queue)):
            queue(self._connection.channel()).queue_declare()
        self._channel: Any = self._connection.channel()
        self._queue = queue(self._channel)
        if address.exchange:
            self._queue.bind_to(address.exchange, address.routing_key)
        self._channel.basic_qos(0, MAX_UNACKNOWLEDGED, False)
        consumer = kombu.Consumer(
            self._channel,
            [self._queue],
            auto_declare=False,
            on_message=self._add,
            # It is compressed in a way that nobody knows: its bytes become a rejected row.
            on_decode_error=lambda message, error: self._add(message),
        )
        consumer.consume()

    def _is_there(self, queue: Any) -> bool:
        """Whether the queue is there. One that somebody made otherwise (quorum, with a limit) is taken as it is."""
        channel = self._connection.channel()
        try:
            queue(channel).queue_declare(passive=True)
        except self._connection.channel_errors as error:
            if not _is_not_found(error):
                raise
            return False
        channel.close()
        return True

    def _add(self, message: Any) -> None:
        body = message.body
        body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
        self._messages.append(Message(body, time.time_ns() // 1000, message))

    def receive(self, timeout_s: float) -> list[Message]:
        """Return what has come in, in order; wait for it at most so long."""
        try:
            # It waits for the first and takes one at a time.
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=timeout_s)
            self._send_heartbeat()
        except self._errors as error:
            raise self._make_lost(error) from error
        messages, self._messages = self._messages, []
        return messages

    def _send_heartbeat(self) -> None:
        if self._is_amqp and time.monotonic() >= self._heartbeat_due_s:
            self._heartbeat_due_s = time.monotonic() + HEARTBEAT_S / _HEARTBEAT_CHECKS
            self._connection.heartbeat_check(rate=_HEARTBEAT_CHECKS)

    def acknowledge(self, messages: list[Message]) -> None:
        """Tell the broker that these need never come again."""
        try:
            if self._is_amqp:
                # One for all up to the last.
                messages[-1].handle.ack(multiple=True)
            else:
                for message in messages:
                    message.handle.ack()
        except self._errors as error:
            raise self._make_lost(error) from error

    def count_waiting(self) -> int | None:
        """Return how many messages wait in the queue, those on their way to us not among them."""
        try:
            return int(self._queue.queue_declare(passive=True).message_count)
        except self._errors as error:
            # Redis has no queue that is empty.
            if not self._is_amqp and _is_not_found(error):
                return 0
            raise self._make_lost(error) from error

    def close(self) -> None:
        """Give back what is not acknowledged, and end the connection."""
        with suppress(*self._errors):
            self._connection.release()

    def _make_lost(self, error: BaseException) -> BrokerLost:
        return BrokerLost(f"{self._address.name}: {_describe(error)}")


def _unpack(content_type: str, body: bytes) -> bytes:
    """Return a body that its header says is compressed, up to just more than a message may have.

    What is raised here makes the bytes as they came the message.
    """
    decoder = _DECODERS[content_type]()
    data: bytes = decoder.decompress(body, MAX_MESSAGE_BYTES + 1)
    if len(data) <= MAX_MESSAGE_BYTES and not decoder.eof:
        raise ValueError("the message is cut short")
    return data


for _content_type in compression.encoders():
    # kombu's own decoders make a message of some megabytes as long as it says it is.
    compression.register(compression.get_encoder(_content_type)[0], partial(_unpack, _content_type), _content_type)


def _tls_options(address: StreamAddress) -> dict[str, Any]:
    return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": address.ca_file, "server_hostname": address.host}


def _is_not_found(error: BaseException) -> bool:
    # Transports of kombu's own have it as text.
    return str(getattr(error, "reply_code", "")) == _NOT_FOUND


def _describe(error: BaseException) -> str:
    """Return why, in the words of the error, on one line."""
    words = " ".join(str(error).split())
    return words or type(error).__name__
