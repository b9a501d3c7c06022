"""The listener against a broker made of lists: when it stores, when it acknowledges, and what it does when either fails."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from conftest import PATIENCE_S, sql, wait_until
from prometheus_client import CollectorRegistry

from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import groups
from storemon_flask.settings import Settings
from storemon_flask.streams import address as addresses
from storemon_flask.streams import listener as listeners
from storemon_flask.streams.broker import BrokerLost
from storemon_flask.streams.listener import Backoff, Listener, StreamMetrics
from storemon_flask.streams.messages import Message


class ListBroker:
    """A broker that gives what is in a list, and again what was not acknowledged when the connection ended."""

    def __init__(self, database: Path) -> None:
        self.queue: list[bytes] = []
        self.unacknowledged: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.stored_when_acknowledged: list[int] = []
        self.refuses = 0
        self.fails_at: int | None = None
        self._database = database
        # The listener takes what is there while a test brings more.
        self._guard = threading.Lock()

    def add(self, *messages: bytes) -> None:
        with self._guard:
            self.queue += messages

    def connect(self, address: addresses.StreamAddress) -> "ListBroker":
        if self.refuses:
            self.refuses -= 1
            raise BrokerLost("the broker is not there")
        return self

    def receive(self, timeout_s: float) -> list[Message]:
        if not self.queue:
            time.sleep(min(timeout_s, 0.01))
        with self._guard:
            taken, self.queue = self.queue, []
            self.unacknowledged += taken
        return [Message(body, time.time_ns() // 1000, body) for body in taken]

    def acknowledge(self, messages: list[Message]) -> None:
        if self.fails_at == len(self.acknowledged):
            self.fails_at = None
            raise BrokerLost("the broker was lost")
        self.stored_when_acknowledged.append(stored(self._database))
        self.acknowledged += [message.body for message in messages]
        del self.unacknowledged[: len(messages)]

    def count_waiting(self) -> int:
        return len(self.queue)

    def close(self) -> None:
        with self._guard:
            self.queue, self.unacknowledged = self.unacknowledged + self.queue, []


def stored(database: Path) -> int:
    return int(sql(database, "SELECT count(*) FROM poll")[0][0]) if database.exists() else 0


def poll(number: int, store: str = "a") -> bytes:
    return f"{store},{1_700_000_000 + 60 * number},active".encode()


Start = Callable[..., Listener]


@pytest.fixture
def broker(settings: Settings) -> ListBroker:
    return ListBroker(settings.database)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def start(database: Database, settings: Settings, broker: ListBroker, registry: CollectorRegistry, monkeypatch):
    """Starts a listener in a thread; it is stopped after the test."""
    monkeypatch.setattr(listeners, "_FIRST_DELAY_S", 0.01)
    started: list[tuple[Listener, threading.Thread]] = []

    def begin(seconds: float = 0.1) -> Listener:
        address = replace(addresses.parse_address("amqp://h/?queue=polls"), seconds=seconds)
        listener = Listener(address, database, settings, StreamMetrics(registry), broker.connect)
        thread = threading.Thread(target=listener.run)
        thread.start()
        started.append((listener, thread))
        return listener

    yield begin
    for listener, thread in started:
        listener.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_messages_are_acknowledged_after_their_polls_are_stored(start: Start, broker: ListBroker, settings) -> None:
    broker.queue = [poll(number) for number in range(10)]
    start()
    wait_until(lambda: len(broker.acknowledged) == 10, "acknowledgements")
    assert broker.stored_when_acknowledged == [10]
    ((name, feed, new),) = sql(settings.database, "SELECT file, feed, new_count FROM load_file")
    assert (name, feed, new) == ("amqp://h queue polls", "polls", 10)


def test_a_batch_has_at_most_5000_rows_and_a_message_is_never_divided(
    start: Start, broker: ListBroker, settings
) -> None:
    three = b"\n".join(poll(number) for number in range(20_000, 20_003))
    broker.queue = [
        *(poll(number) for number in range(4_999)),
        three,
        *(poll(number) for number in range(5_000, 12_000)),
    ]
    start(seconds=0.3)
    wait_until(lambda: len(broker.acknowledged) == 12_000, "acknowledgements")
    assert broker.stored_when_acknowledged == [5_002, 10_002, 12_002]


def test_long_messages_make_a_batch_full_before_5000_rows(start: Start, broker: ListBroker, settings) -> None:
    broker.queue = [b"a" * (6 << 20)] * 7
    start(seconds=30)
    wait_until(lambda: len(broker.acknowledged) == 6, "two batches")
    assert sql(settings.database, "SELECT rejected_count FROM load_file") == [(3,), (3,)]


def test_a_batch_waits_no_longer_than_it_may(start: Start, broker: ListBroker) -> None:
    start(seconds=0.4)
    numbers = count()
    began_s = time.monotonic()

    def are_two_stored_while_more_comes() -> bool:
        broker.add(poll(next(numbers)))
        return len(broker.stored_when_acknowledged) >= 2

    wait_until(are_two_stored_while_more_comes, "two batches")
    assert time.monotonic() - began_s >= 0.8
    added = next(numbers)
    wait_until(lambda: len(broker.acknowledged) == added, "acknowledgements")
    took_s = time.monotonic() - began_s
    assert 2 <= len(broker.stored_when_acknowledged) <= took_s / 0.4


def test_bad_rows_are_listed_and_acknowledged(
    start: Start, broker: ListBroker, settings: Settings, registry: CollectorRegistry
) -> None:
    broker.queue = [poll(1), b"a,yesterday,active", b"nonsense", poll(2), b""]
    start()
    wait_until(lambda: len(broker.acknowledged) == 5, "acknowledgements")
    rejects = sql(settings.database, "SELECT line, text FROM reject ORDER BY line")
    assert rejects == [(2, "a,yesterday,active"), (3, "nonsense")]
    assert stored(settings.database) == 2
    assert registry.get_sample_value("storemon_stream_rejected_rows_total") == 2
    # They are counted after they are acknowledged.
    wait_until(lambda: registry.get_sample_value("storemon_stream_messages_total") == 5, "the count of messages")
    assert registry.get_sample_value("storemon_stream_batches_total") == 1


def test_messages_without_rows_make_no_load(start: Start, broker: ListBroker, settings: Settings) -> None:
    broker.queue = [b"", b"[]"]
    start()
    wait_until(lambda: len(broker.acknowledged) == 2, "acknowledgements")
    assert not settings.database.exists()


def test_a_broker_that_is_lost_before_the_acknowledgement_brings_all_again_and_nothing_is_stored_twice(
    start: Start, broker: ListBroker, settings: Settings, registry: CollectorRegistry
) -> None:
    broker.refuses, broker.fails_at = 3, 0
    broker.queue = [poll(number) for number in range(10)]
    start()
    wait_until(lambda: len(broker.acknowledged) == 10, "acknowledgements")
    counts = sql(settings.database, "SELECT new_count, unchanged_count FROM load_file ORDER BY id")
    assert counts == [(10, 0), (0, 10)]
    assert stored(settings.database) == 10
    assert registry.get_sample_value("storemon_stream_failures_total") == 4
    wait_until(lambda: registry.get_sample_value("storemon_stream_connected") == 1, "the connection")


def test_what_cannot_be_stored_is_not_acknowledged_and_comes_again(
    start: Start, broker: ListBroker, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    failures = iter((DatabaseError("the disk is full"), RuntimeError("nobody thought of this")))
    load = groups.load_sources

    def fail_at_first(*args: object, **options: object) -> object:
        for failure in failures:
            raise failure
        return load(*args, **options)

    monkeypatch.setattr(groups, "load_sources", fail_at_first)
    broker.queue = [poll(1), poll(2)]
    start()
    wait_until(lambda: len(broker.acknowledged) == 2, "acknowledgements")
    assert stored(settings.database) == 2


def test_what_has_come_in_is_stored_when_the_listener_is_stopped(
    start: Start, broker: ListBroker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the rest takes.
    monkeypatch.setattr(listeners, "_GRACE_S", PATIENCE_S)
    listener = start(seconds=60)
    broker.add(*(poll(number) for number in range(6_000)))
    wait_until(lambda: len(broker.acknowledged) == 5_000 and len(broker.unacknowledged) == 1_000, "a full batch")
    time.sleep(0.1)
    listener.stop()
    wait_until(lambda: len(broker.acknowledged) == 6_000, "the rest")
    assert stored(settings.database) == 6_000


def test_a_listener_that_is_stopped_gives_up_a_batch_that_waits_for_the_database(
    start: Start, broker: ListBroker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_GRACE_S", 0.2)
    database.prepare()
    with database.write():
        listener = start()
        broker.add(poll(1))
        wait_until(lambda: broker.unacknowledged, "the message")
        time.sleep(0.3)
        listener.stop()
        wait_until(lambda: broker.queue == [poll(1)], "the message to be given back")
    assert broker.acknowledged == []


def test_small_batches_share_a_load_after_the_first(
    start: Start, broker: ListBroker, settings: Settings, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a message a second made the list of loads 86,400 longer each day."""
    monkeypatch.setattr(groups, "_OWN_LOADS", 0)
    monkeypatch.setattr(groups, "_SHARED_LOAD_S", 3_600.0)
    start(seconds=0.05)
    for number in range(20):
        broker.add(poll(number), b"a,never,active")
        wait_until(lambda number=number: len(broker.acknowledged) == 2 * number + 2, "the batch")
    assert broker.stored_when_acknowledged[-1] == 20
    files = sql(settings.database, "SELECT file, row_count, new_count, rejected_count FROM load_file ORDER BY id")
    # The store is new in the first.
    assert files == [("amqp://h queue polls", 2, 1, 1), ("amqp://h queue polls", 38, 19, 19)]
    batches, rejects = (
        registry.get_sample_value(f"storemon_stream_{name}_total") for name in ("batches", "rejected_rows")
    )
    assert 20 <= (batches or 0) <= 40
    assert rejects == 20


def test_the_lag_is_the_age_of_the_last_poll_of_a_batch(
    start: Start, broker: ListBroker, registry: CollectorRegistry
) -> None:
    broker.queue = [f"a,{int(time.time()) - 100},active".encode(), b"bad"]
    start()
    wait_until(lambda: len(broker.acknowledged) == 2, "acknowledgements")
    assert 99 <= (registry.get_sample_value("storemon_stream_lag_seconds") or 0) <= 130


def test_each_try_waits_longer_than_the_one_before_up_to_a_minute() -> None:
    backoff = Backoff()
    delays = [backoff.next_s() for _ in range(12)]
    assert 0.375 <= delays[0] <= 0.625
    assert 45 <= delays[-1] <= 75
    backoff.reset()
    assert backoff.next_s() <= 0.625
