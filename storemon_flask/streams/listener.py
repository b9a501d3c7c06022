"""The listener: messages become batches, which are loaded, and only what is committed is acknowledged.

At-least-once delivery and a load that changes nothing the second time are together as good as once.
"""

import io
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from storemon_flask.database.connections import Database
from storemon_flask.errors import Stopped, StoremonError
from storemon_flask.feeds import schema
from storemon_flask.feeds.csv_exact import Record
from storemon_flask.feeds.groups import PollGroups
from storemon_flask.feeds.load import load_options
from storemon_flask.feeds.schema import BadValue
from storemon_flask.feeds.sources import Source
from storemon_flask.model import FileSummary
from storemon_flask.settings import Settings
from storemon_flask.streams import broker as brokers
from storemon_flask.streams.address import StreamAddress
from storemon_flask.streams.broker import Broker
from storemon_flask.streams.messages import Message, MessageReader

log = logging.getLogger("storemon.streams")

MAX_ROWS: Final = 5_000
# Of messages that are long and have few rows.
MAX_BYTES: Final = 16 << 20
# A stop is noticed so fast.
_PATIENCE_S: Final = 0.25
# The broker is asked so often how much waits.
_WAITING_EVERY_S: Final = 10.0
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 60.0
# A batch that is being stored when the listener is stopped has so long: another load may hold the database.
_GRACE_S: Final = 5.0
_US: Final = 1_000_000
_ROW_BYTES: Final = 40


class StreamMetrics:
    """The metrics of one listener."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.connected = Gauge("storemon_stream_connected", "Whether there is a broker: 1 or 0.", registry=registry)
        self.waiting = Gauge(
            "storemon_stream_waiting_messages",
            "Messages that wait at the broker, where it says so.",
            registry=registry,
        )
        self.waiting.set(math.nan)
        self.lag = Gauge(
            "storemon_stream_lag_seconds",
            "How old the last poll of the last batch was when it was stored.",
            registry=registry,
        )
        self.messages = Counter("storemon_stream_messages", "Messages that were acknowledged.", registry=registry)
        self.batches = Counter("storemon_stream_batches", "Batches that were stored.", registry=registry)
        self.rejects = Counter(
            "storemon_stream_rejected_rows", "Rows of messages that could not be used.", registry=registry
        )
        self.failures = Counter(
            "storemon_stream_failures",
            "Times that the broker was lost or a batch could not be stored; what was not acknowledged comes again.",
            registry=registry,
        )


@dataclass(slots=True)
class Batch:
    """Messages that are stored and acknowledged together."""

    messages: list[Message] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    size: int = 0
    due_s: float = 0.0

    @property
    def is_full(self) -> bool:
        """Whether nothing more has room in it."""
        return len(self.records) >= MAX_ROWS or self.size >= MAX_BYTES


class Backoff:
    """How long to wait before the next try: longer each time, and not the same for all who wait."""

    def __init__(self) -> None:
        self._delay_s = _FIRST_DELAY_S

    def next_s(self) -> float:
        """Return how long to wait now."""
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, _LONGEST_DELAY_S)
        return delay_s * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """Begin anew: it went well."""
        self._delay_s = _FIRST_DELAY_S


class Listener:
    """Listens to one address until it is stopped, whatever becomes of the broker and the database meanwhile."""

    def __init__(
        self,
        address: StreamAddress,
        database: Database,
        settings: Settings,
        metrics: StreamMetrics,
        connect: Callable[[StreamAddress], Broker] = brokers.connect,
    ) -> None:
        self._address = address
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._connect = connect
        self._reader = MessageReader(address.shape)
        self._groups = PollGroups(database, address.name, self._check)
        self._backoff = Backoff()
        # No event: its lock may be held by the very thread that a signal interrupts.
        self._stopped = False
        self._stopped_s = 0.0

    def stop(self) -> None:
        """Let `run` end: what came in is stored and acknowledged, or comes again. May be called in a signal handler."""
        self._stopped_s = time.monotonic()
        self._stopped = True

    def run(self) -> None:
        """Listen until `stop`. What fails is tried again, for ever: it is logged and counted."""
        while not self._stopped:
            try:
                with closing(self._connect(self._address)) as broker:
                    log.info("listening to %s", self._address.name)
                    self._metrics.connected.set(1)
                    self._listen(broker)
            except StoremonError as error:
                self._metrics.connected.set(0)
                if not self._stopped:
                    self._metrics.failures.inc()
                    delay_s = self._backoff.next_s()
                    log.warning("%s; trying again in %.1f s", error.message, delay_s)
                    self._wait(delay_s)
            except Exception:
                # A thread that ended would be missed by nobody until a report is wrong.
                self._metrics.connected.set(0)
                self._metrics.failures.inc()
                log.exception("listening to %s failed; trying again", self._address.name)
                self._wait(self._backoff.next_s())
        self._metrics.connected.set(0)
        log.info("stopped listening to %s", self._address.name)

    def _wait(self, seconds: float) -> None:
        """Wait for so long, or until the listener is stopped."""
        end_s = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < end_s:
            time.sleep(min(_PATIENCE_S, seconds))

    def _listen(self, broker: Broker) -> None:
        batch = Batch()
        # What came in and has no place in this batch any more.
        incoming: deque[Message] = deque()
        ask_again_s = 0.0
        while True:
            # Asked before what has come in is stored, so that nothing is left in the batch at the end.
            stopping = self._stopped
            now_s = time.monotonic()
            if batch.messages and (stopping or batch.is_full or now_s >= batch.due_s):
                self._store(broker, batch)
                batch = Batch()
            if stopping:
                return
            if now_s >= ask_again_s:
                ask_again_s = now_s + _WAITING_EVERY_S
                self._ask_how_many_wait(broker)
            if not incoming:
                until_due_s = batch.due_s - now_s if batch.messages else _PATIENCE_S
                incoming.extend(broker.receive(min(max(until_due_s, 0.001), _PATIENCE_S)))
            while incoming and not batch.is_full:
                self._add(batch, incoming.popleft())

    def _add(self, batch: Batch, message: Message) -> None:
        if not batch.messages:
            batch.due_s = time.monotonic() + self._address.seconds
        batch.messages.append(message)
        batch.size += len(message.body)
        batch.records += self._reader.read(message, len(batch.records) + 1)

    def _ask_how_many_wait(self, broker: Broker) -> None:
        waiting = broker.count_waiting()
        if waiting is not None:
            self._metrics.waiting.set(waiting)

    def _store(self, broker: Broker, batch: Batch) -> None:
        """Store the batch, then acknowledge it; a `StoremonError` between them lets it come again."""
        began_s = time.perf_counter()
        if batch.records:
            source = make_source(self._address.name, batch.records)
            summary = store(self._groups, self._settings, source, self._check)
            self._metrics.batches.inc()
            self._metrics.rejects.inc(summary.counts.rejected)
            newest_us = _find_last_timestamp_us(batch.records)
            if newest_us is not None:
                self._metrics.lag.set(max(time.time() - newest_us / _US, 0))
            log.debug(
                "stored %d rows of %d messages, %d rejected",
                summary.counts.rows, len(batch.messages), summary.counts.rejected,
                extra={"event": "batch", "ms": round((time.perf_counter() - began_s) * 1000, 1)},
            )  # fmt: skip
        broker.acknowledge(batch.messages)
        self._metrics.messages.inc(len(batch.messages))
        self._backoff.reset()

    def _check(self) -> None:
        if self._database.stopping or (self._stopped and time.monotonic() > self._stopped_s + _GRACE_S):
            raise Stopped("the listener is stopped")


def make_source(name: str, records: list[Record]) -> Source:
    """Return polls as a source of that name, about as long as they would be as CSV."""
    size = _ROW_BYTES * len(records)
    return Source(name, size, io.BytesIO, format="records", feed="polls", records=[records])


def store(groups: PollGroups, settings: Settings, source: Source, check: Callable[[], None]) -> FileSummary:
    """Store polls as a load, or as part of one that small batches share, and return what became of them."""
    result = groups.load(source, load_options(settings, check))
    if result.error is not None:
        raise result.error
    return result.files[0]


def _find_last_timestamp_us(records: list[Record]) -> int | None:
    """The timestamp of the last record that has one."""
    for record in reversed(records):
        if not record.problem:
            try:
                return int(schema.parse_timestamp(record.fields[1]))
            except BadValue:
                continue
    return None
