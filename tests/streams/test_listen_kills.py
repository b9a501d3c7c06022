"""200,000 messages, three SIGKILLs of who listens, two restarts of the broker: nothing is lost, nothing is there twice."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from broker_helpers import (
    PATIENCE_S,
    AmqpPublisher,
    BrokerServer,
    Listening,
    MqttPublisher,
    count_polls,
    running_mosquitto,
    running_rabbitmq,
)
from conftest import Server, http, sql, wait_until
from kill_helpers import being_written, kill

pytestmark = pytest.mark.slow

MESSAGES = 200_000
STORES = 500
CHUNK = 2_000
# When this share of the polls is stored.
KILLS = (0.15, 0.45, 0.75)
RESTARTS = (0.3, 0.6)
# So much slower than pushes of the same rows, 5,000 in each, may it be; and single polls by HTTP it must outrun.
LEAST_OF_PUSHES = 0.05


class Publisher(Protocol):
    """Publishes polls by their numbers."""

    def publish_polls(self, numbers: range) -> None: ...
    def close(self) -> None: ...


def poll(number: int) -> tuple[str, int, str]:
    """The store, the second and the status of a poll."""
    store, minute = number % STORES, number // STORES
    return f"store-{store}", 1_700_000_000 + 60 * minute, "active" if (store + minute) % 3 else "inactive"


def as_json(number: int) -> bytes:
    return b'{"store_id": "%s", "timestamp_utc": %d, "status": "%s"}' % tuple(
        value.encode() if isinstance(value, str) else value for value in poll(number)
    )


class AmqpPolls(AmqpPublisher):
    """Single polls as JSON."""

    def publish_polls(self, numbers: range) -> None:
        self.publish([as_json(number) for number in numbers])


class MqttPolls(MqttPublisher):
    """Single polls, the store as a level of the topic."""

    def publish_polls(self, numbers: range) -> None:
        polls = [poll(number) for number in numbers]
        self.publish([(f"polls/{store}", f"{second},{status}".encode()) for store, second, status in polls])


@pytest.fixture(params=["amqp", "mqtt"])
def broker(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[BrokerServer, str, Callable[[], Publisher]]]:
    """A broker, the address to listen to, and how to publish."""
    folder = tmp_path / "broker"
    folder.mkdir()
    if request.param == "amqp":
        with running_rabbitmq(folder) as rabbitmq:
            address = f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/?queue=polls"
            yield rabbitmq, address, lambda: AmqpPolls(rabbitmq.port, "polls")
    else:
        with running_mosquitto(folder) as mosquitto:
            address = f"mqtt://127.0.0.1:{mosquitto.port}/?topic=polls/{{store_id}}"
            yield mosquitto, address, lambda: MqttPolls(mosquitto.port)


def test_nothing_is_lost_and_nothing_is_there_twice(
    broker: tuple[BrokerServer, str, Callable[[], Publisher]], tmp_path: Path
) -> None:
    server, address, make_publisher = broker
    home = tmp_path / "home"
    database = home / "instance" / "storemon.db"
    listening = Listening(home, address)
    wait_until(lambda: "listening to" in listening.logged(), "the listener", PATIENCE_S)
    seen: Counter[str] = Counter()
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            with closing(make_publisher()) as publisher:
                for first in range(0, MESSAGES, CHUNK):
                    publisher.publish_polls(range(first, first + CHUNK))
        except BaseException as error:
            failures.append(error)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        for share, action in sorted(
            [*((share, "kill") for share in KILLS), *((share, "restart") for share in RESTARTS)]
        ):
            _wait_for_polls(home, round(share * MESSAGES), failures)
            if action == "restart":
                server.restart(down_s=1)
            else:
                # In the middle of a commit if there is one soon, else wherever it is.
                kill(listening.process, lambda: {"a commit"} if being_written(database) else set(), seen, aim_s=3)
                listening.process.wait()
                listening = Listening(home, address)
        _wait_for_polls(home, MESSAGES, failures)
        publishing.join()
        assert listening.end() == 0
    finally:
        listening.end(signal.SIGKILL)
        publishing.join()
    assert seen["killed"] == len(KILLS)
    assert failures == []
    _compare(database)
    # Whoever comes now gets nothing more.
    rows_before = sql(database, "SELECT sum(row_count) FROM load_file")
    said_before = listening.logged().count("listening to")
    listening = Listening(home, address)
    wait_until(lambda: listening.logged().count("listening to") > said_before, "the last listener", PATIENCE_S)
    time.sleep(5)
    assert listening.end() == 0
    assert sql(database, "SELECT sum(row_count) FROM load_file") == rows_before
    print(f"{rows_before[0][0]:,} rows for {MESSAGES:,} messages; {dict(seen)}")


def _wait_for_polls(home: Path, count: int, failures: list[BaseException]) -> None:
    wait_until(lambda: failures or count_polls(home) >= count, f"{count:,} polls", 600)
    assert failures == []


def _compare(database: Path) -> None:
    stored = sql(
        database, "SELECT store_id, CAST(strftime('%s', substr(timestamp_utc, 1, 19)) AS INTEGER), status FROM poll"
    )
    assert len(stored) == MESSAGES
    assert set(stored) == {poll(number) for number in range(MESSAGES)}
    counts = sql(database, "SELECT sum(new_count), sum(changed_count), sum(rejected_count) FROM load_file")
    assert counts == [(MESSAGES, 0, 0)]


# It compares how fast two things are, one after the other.
@pytest.mark.alone
def test_it_outruns_single_pushes(
    broker: tuple[BrokerServer, str, Callable[[], Publisher]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows from a full queue, and by HTTP: 5,000 in a push, and one in a push."""
    _, address, make_publisher = broker
    messages, singles = 50_000, 500
    home = tmp_path / "home"
    listening = Listening(home, address)
    try:
        # The queue, or the session, is there; then it is filled while nobody listens.
        wait_until(lambda: "listening to" in listening.logged(), "the listener", PATIENCE_S)
        assert listening.end() == 0
        with closing(make_publisher()) as publisher:
            for first in range(0, messages, CHUNK):
                publisher.publish_polls(range(first, first + CHUNK))
        listening = Listening(home, address)
        wait_until(lambda: listening.logged().count("listening to") >= 3, "the listener", PATIENCE_S)
        began_s = time.monotonic()
        wait_until(lambda: count_polls(home) == messages, "the polls", 300)
        listened = messages / (time.monotonic() - began_s)
        assert listening.end() == 0
    finally:
        listening.end(signal.SIGKILL)
    server = Server(tmp_path / "other")
    try:
        url = f"{server.url}/api/v1/feeds/polls"
        began_s = time.monotonic()
        for first in range(0, messages, 5_000):
            body = b"\n".join(as_json(number) for number in range(first, first + 5_000))
            assert http(url, "POST", body).status == 200
        pushed = messages / (time.monotonic() - began_s)
        began_s = time.monotonic()
        for number in range(singles):
            assert http(url, "POST", as_json(number)).status == 200
        pushed_singly = singles / (time.monotonic() - began_s)
    finally:
        server.end()
    print(f"listened {listened:,.0f}/s, pushed {pushed:,.0f}/s, singly {pushed_singly:,.0f}/s")
    assert listened > LEAST_OF_PUSHES * pushed
    assert listened > pushed_singly
