"""The couriers: when messages go out, in which order, how often they are tried, and what they leave behind."""

import json
import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import sql, wait_until
from delivery_helpers import (
    NOW_US,
    Sink,
    add_channel,
    add_message,
    add_news,
    answering,
    message,
    running_sink,
    seconds_of,
    tries,
)
from delivery_helpers import prepared as prepared
from delivery_helpers import sink as sink

from storemon_flask import settings as settings_
from storemon_flask.database import channels, messages
from storemon_flask.database.channels import Channel
from storemon_flask.database.connections import Database
from storemon_flask.delivery import content, courier, transports, webhook
from storemon_flask.delivery.courier import RETRY_WAITS_S, Couriers, send_test
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings

SECOND = 1_000_000


class Clock:
    """A clock that stands where a test puts it."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def couriers(prepared: Database, settings: Settings, clock: Clock) -> Couriers:
    """Couriers whose threads do not run: tests take their steps."""
    return Couriers(prepared, settings, clock)


Start = Callable[..., Couriers]


@pytest.fixture
def start(prepared: Database, settings: Settings) -> Iterator[Start]:
    """Starts couriers; they are stopped after the test."""
    started: list[Couriers] = []

    def begin(**options: Any) -> Couriers:
        started.append(Couriers(prepared, options.pop("settings", settings), **options))
        started[-1].start()
        return started[-1]

    yield begin
    for one in started:
        one.stop(0)


def hook(database: Database, sink: Sink, path: str = "/") -> Channel:
    return add_channel(database, "webhook", sink.url + path)


def deliver_all(couriers: Couriers) -> int:
    count = 0
    while couriers.deliver_next():
        count += 1
    return count


def test_news_waits_for_the_group_and_goes_out_once(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    channel = hook(prepared, sink)
    add_news(prepared, 3, [channel])
    clock.now_us = NOW_US + 59 * SECOND
    assert not couriers.deliver_next()
    assert sink.calls == []
    clock.now_us = NOW_US + 60 * SECOND
    assert couriers.deliver_next()
    assert not couriers.deliver_next()
    (call,) = sink.calls
    assert [one["store_id"] for one in json.loads(call.body)["data"]["incidents"]] == ["s0", "s1", "s2"]
    (only,) = tries(prepared)
    assert (only.message, only.channel, only.delivered, only.code, only.answer) == (
        call.message_id,
        channel.id,
        True,
        200,
        "200 OK: thanks",
    )
    sent = message(prepared, call.message_id)
    assert (sent.state, sent.attempts, sent.finished_us, sent.error, sent.purpose) == (
        "sent",
        1,
        clock.now_us,
        None,
        "incidents",
    )
    assert sql(prepared.path, "SELECT count(*), count(message), count(DISTINCT message) FROM notice") == [(3, 3, 1)]
    # What the message said of their beginning is known when they end.
    assert sql(prepared.path, "SELECT count(*) FROM incident WHERE announced_us = since_us") == [(3,)]


@pytest.mark.slow
@pytest.mark.alone
def test_five_thousand_stores_are_one_message(prepared: Database, start: Start, sink: Sink, settings: Settings) -> None:
    running = start(settings=settings_.load({"STOREMON_HOME": str(settings.home), "STOREMON_ALERT_GROUP_SECONDS": "1"}))
    all_channels = [hook(prepared, sink, f"/{number}") for number in range(2)]
    add_news(prepared, 5000, all_channels, made_us=time.time_ns() // 1000)
    made = time.monotonic()
    running.wake()
    wait_until(lambda: len(sink.calls) == 2, "both messages")
    # Group time, and two seconds.
    assert 0.5 < time.monotonic() - made < 3
    assert sorted(call.path for call in sink.calls) == ["/0", "/1"]
    assert {json.loads(call.body)["data"]["incidents_total"] for call in sink.calls} == {5000}


def test_a_message_is_tried_for_six_hours_with_one_id_and_given_up(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    channel = hook(prepared, sink)
    sink.behave = answering(500, b"no")
    first = add_message(prepared, channel, "first")
    second = add_message(prepared, channel, "second")
    for wait_s in RETRY_WAITS_S:
        assert couriers.deliver_next()
        assert not couriers.deliver_next()
        assert message(prepared, first).error == "500 Internal Server Error: no"
        clock.now_us += wait_s * SECOND - 1
        assert not couriers.deliver_next()
        clock.now_us += 1
    assert clock.now_us - NOW_US == 6 * 3600 * SECOND
    assert couriers.deliver_next()
    given_up = message(prepared, first)
    assert (given_up.state, given_up.attempts) == ("failed", 8)
    assert given_up.error == "given up after 8 tries in 6 hours: 500 Internal Server Error: no"
    assert [call.message_id for call in sink.calls] == [first] * 8
    assert len({call.body for call in sink.calls}) == 1
    with prepared.read() as connection:
        assert [one.given_up for one in messages.troubles(connection, 3).values()] == [True]
    # The next one is not held up any longer.
    sink.behave = answering(200)
    assert deliver_all(couriers) == 1
    assert message(prepared, second).state == "sent"
    assert [one.delivered for one in tries(prepared)] == [False] * 8 + [True]
    counts = {outcome: couriers._outcomes.labels(outcome)._value.get() for outcome in courier.OUTCOMES}
    assert counts == {"delivered": 1, "retry_later": 7, "given_up": 1, "gone": 0}


def test_the_receiver_says_when_to_come_again(prepared: Database, couriers: Couriers, sink: Sink, clock: Clock) -> None:
    sent = add_message(prepared, hook(prepared, sink))
    sink.behave = answering(429, Retry_After="100")
    assert deliver_all(couriers) == 1
    clock.now_us += 99 * SECOND
    assert deliver_all(couriers) == 0
    clock.now_us += 1 * SECOND
    # Those hundred seconds were the first two waits; the third is five minutes anyway.
    sink.behave = answering(503, Retry_After="1")
    assert deliver_all(couriers) == 1
    clock.now_us += 299 * SECOND
    assert deliver_all(couriers) == 0
    sink.behave = answering(200)
    clock.now_us += 1 * SECOND
    assert deliver_all(couriers) == 1
    assert message(prepared, sent).state == "sent"


def test_a_receiver_that_puts_off_for_ever_is_given_up_after_six_hours(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    put_off = add_message(prepared, hook(prepared, sink))
    sink.behave = answering(429, Retry_After="99999999999999")
    assert deliver_all(couriers) == 1
    with prepared.read() as connection:
        # The banner does not wait for a third try that may be hours away.
        (trouble,) = messages.troubles(connection, 3).values()
    assert (trouble.attempts, trouble.given_up) == (1, False)
    clock.now_us += 6 * 3600 * SECOND - 1
    assert deliver_all(couriers) == 0
    clock.now_us += 1
    assert deliver_all(couriers) == 1
    assert message(prepared, put_off).state == "failed"
    assert message(prepared, put_off).error == "given up after 2 tries in 6 hours: 429 Too Many Requests"


def test_a_receiver_that_answers_gone_is_sent_nothing_more(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    channel = hook(prepared, sink)
    add_news(prepared, 1, [channel], made_us=NOW_US)
    ids = [add_message(prepared, channel, text) for text in ("first", "second")]
    sink.behave = answering(410, b"never again")
    assert deliver_all(couriers) == 1
    clock.now_us += 3600 * SECOND
    assert deliver_all(couriers) == 0
    assert [message(prepared, one).state for one in ids] == ["failed", "failed"]
    assert message(prepared, ids[0]).error == "410 Gone: never again"
    with prepared.read() as connection:
        found = channels.find(connection, channel.id)
        assert messages.waiting_notices(connection, channel.id) == []
    assert found is not None
    assert found.disabled_reason == "the receiver asks for no more messages (410 Gone: never again)"
    with prepared.write() as connection:
        channels.enable(connection, channel.id)
    sink.behave = answering(200)
    after = add_message(prepared, channel)
    assert deliver_all(couriers) == 1
    assert message(prepared, after).state == "sent"


def test_messages_of_a_channel_go_out_in_order_and_of_others_meanwhile(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    with running_sink() as other:
        slow, quick = hook(prepared, sink), hook(prepared, other)
        sink.behave = answering(500)
        # The clock was set back an hour between them.
        slow_ids = [add_message(prepared, slow, str(number), NOW_US - number * 3600 * SECOND) for number in range(3)]
        quick_ids = [add_message(prepared, quick, str(number)) for number in range(3)]
        assert deliver_all(couriers) == 4
        assert [call.message_id for call in other.calls] == quick_ids
        sink.behave = answering(200)
        clock.now_us += 5 * SECOND
        assert deliver_all(couriers) == 3
        assert [call.message_id for call in sink.calls] == [slow_ids[0], *slow_ids]


@pytest.mark.parametrize("hours", [-24 * 400, -1, 24 * 400])
def test_setting_the_clock_delays_nothing(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock, hours: int
) -> None:
    channel = hook(prepared, sink)
    sink.behave = answering(500)
    tried = add_message(prepared, channel)
    assert deliver_all(couriers) == 1
    clock.now_us += hours * 3600 * SECOND
    sink.behave = answering(200)
    assert deliver_all(couriers) == 1
    assert message(prepared, tried).state == "sent"
    add_news(prepared, 1, [channel], made_us=clock.now_us - 60 * SECOND)
    assert deliver_all(couriers) == 1


def test_a_clock_set_back_keeps_new_messages_and_waits_for_the_next_try(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    written = add_message(prepared, hook(prepared, sink))
    clock.now_us -= 3600 * SECOND
    sink.behave = answering(500)
    # It was written in an hour; it goes out now, and is tried again in five seconds by the new clock, not at once.
    assert deliver_all(couriers) == 1
    clock.now_us += 5 * SECOND - 1
    assert deliver_all(couriers) == 0
    with prepared.read() as connection:
        assert messages.next_wait_us(connection, clock.now_us, []) == 1
    sink.behave = answering(200)
    clock.now_us += 1
    assert deliver_all(couriers) == 1
    assert message(prepared, written).state == "sent"


def test_setting_the_clock_forward_gives_up_no_message(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock
) -> None:
    """A laptop that slept for three days tries again when it wakes, before its network is there."""
    tried = add_message(prepared, hook(prepared, sink))
    clock.now_us += 3 * 86_400 * SECOND
    sink.behave = sink.close
    assert deliver_all(couriers) == 1
    assert message(prepared, tried).state == "pending"
    sink.behave = answering(200)
    clock.now_us += 5 * SECOND
    assert deliver_all(couriers) == 1


def test_a_receiver_that_hangs_holds_one_courier_only(prepared: Database, start: Start, sink: Sink) -> None:
    sink.behave = sink.hang
    with running_sink() as other:
        for text in ("one", "two"):
            add_message(prepared, hook(prepared, sink), text)
        stuck = hook(prepared, sink, "/stuck")
        add_message(prepared, stuck, "three")
        quick = hook(prepared, other)
        ids = [add_message(prepared, quick, str(number)) for number in range(5)]
        # One receiver takes both couriers for as long as a try may take, and no longer.
        running = start()
        wait_until(lambda: len(sink.calls) == 2, "two that hang")
        sink.released.set()
        wait_until(lambda: len(other.calls) == 5, "what others are sent")
        assert [call.message_id for call in other.calls] == ids
        running.stop(5)


def test_stopping_waits_for_a_sending_message_and_cuts_off_one_that_hangs(
    prepared: Database, start: Start, sink: Sink, settings: Settings
) -> None:
    sink.behave = sink.hang
    sent = add_message(prepared, hook(prepared, sink))
    running = start()
    wait_until(lambda: sink.calls, "the call")
    threading.Timer(0.3, sink.released.set).start()
    sink.behave = answering(200)
    assert 0.2 < seconds_of(lambda: running.stop(10)) < 5
    # The one that was released was closed without an answer.
    assert (message(prepared, sent).state, message(prepared, sent).attempts) == ("pending", 1)

    sink.released.clear()
    sink.behave = sink.hang
    sql(prepared.path, "UPDATE message SET next_try_us = 0")
    running = start()
    wait_until(lambda: len(sink.calls) == 2, "the second call")
    assert seconds_of(lambda: running.stop(0.5)) < 2
    # Nobody knows what came of it: it is sent again, and no try is counted.
    assert message(prepared, sent).state == "sending"
    assert len(tries(prepared)) == 1
    sink.behave = answering(200)
    start()
    wait_until(lambda: message(prepared, sent).state == "sent", "the message")
    assert message(prepared, sent).attempts == 2
    assert {call.message_id for call in sink.calls} == {sent}


def test_two_couriers_write_and_send_everything_once(
    prepared: Database, start: Start, sink: Sink, settings: Settings
) -> None:
    at_once = settings_.load(
        {
            "STOREMON_HOME": str(settings.home),
            "STOREMON_ALERT_GROUP_SECONDS": "0",
            "STOREMON_ALERT_INTERVAL_SECONDS": "0",
        }
    )
    five = [hook(prepared, sink, f"/{number}") for number in range(5)]
    running = start(settings=at_once)
    at = threading.Lock()
    busy: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def answer(handler: Any) -> None:
        with at:
            busy[handler.path] += 1
            most[handler.path] = max(most[handler.path], busy[handler.path])
        time.sleep(0.005)
        with at:
            busy[handler.path] -= 1
        answering(200)(handler)

    sink.behave = answer
    for number in range(40):
        add_news(prepared, 1, five, made_us=time.time_ns() // 1000, first=number)
        running.wake()
    wait_until(
        lambda: sql(prepared.path, "SELECT count(*) FROM notice WHERE message IS NULL") == [(0,)], "all messages", 60
    )
    wait_until(
        lambda: sql(prepared.path, "SELECT count(*) FROM message WHERE state <> 'sent'") == [(0,)], "all sent", 60
    )
    running.stop(5)
    assert most == Counter({f"/{number}": 1 for number in range(5)})
    assert len({call.message_id for call in sink.calls}) == len(sink.calls)
    for one in five:
        told = [
            incident["store_id"]
            for call in sink.calls
            if call.path == f"/{five.index(one)}"
            for incident in json.loads(call.body)["data"]["incidents"]
        ]
        assert len(told) == len(set(told))
    assert sql(prepared.path, "SELECT count(*) FROM notice") == [(200,)]


def test_the_outcome_of_a_message_is_recorded_even_late(
    prepared: Database,
    couriers: Couriers,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = add_message(prepared, hook(prepared, sink))
    refused = 2
    note = Couriers._note

    def full(self: Couriers, *arguments: Any) -> None:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise DatabaseError("the disk is full")
        note(self, *arguments)

    monkeypatch.setattr(Couriers, "_note", full)
    monkeypatch.setattr(courier, "_RECORD_AGAIN_S", 0.01)
    with caplog.at_level(logging.WARNING, "storemon.delivery"):
        assert deliver_all(couriers) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "what became of a message cannot be recorded yet: the disk is full"
    ] * 2
    assert (len(sink.calls), message(prepared, sent).state) == (1, "sent")


def test_a_fault_in_the_message_of_one_channel_holds_up_no_other(
    prepared: Database, couriers: Couriers, sink: Sink, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, other = hook(prepared, sink, "/odd"), hook(prepared, sink, "/other")
    (odd_incident,) = add_news(prepared, 1, [odd], made_us=NOW_US)
    add_news(prepared, 1, [other], made_us=NOW_US, first=1)
    compose = content.compose

    def faulty(decision: Any, *arguments: Any) -> Any:
        if decision.notices[0].incident == odd_incident:
            raise KeyError("nobody thought of this")
        return compose(decision, *arguments)

    monkeypatch.setattr(content, "compose", faulty)
    clock.now_us += 60 * SECOND
    assert deliver_all(couriers) == 1
    assert [call.path for call in sink.calls] == ["/other"]
    # It is not tried again and again at once; later it is, and nothing was lost.
    assert couriers._wait_s() == courier._LOOK_EVERY_S
    monkeypatch.setattr(content, "compose", compose)
    monkeypatch.setattr(couriers, "_held_up", {odd.id: time.monotonic()})
    assert deliver_all(couriers) == 1
    assert [call.path for call in sink.calls] == ["/other", "/odd"]


def test_the_answer_to_a_test_is_told_when_the_disk_is_full(
    prepared: Database, settings: Settings, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = hook(prepared, sink)

    def full(*_: object) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(messages, "add_tried", full)
    answer = send_test(prepared, settings, channel)
    assert (answer.delivered, answer.text) == (True, "200 OK: thanks")
    assert tries(prepared) == []


def test_a_fault_of_ours_is_an_answer_without_secrets(
    prepared: Database,
    couriers: Couriers,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = hook(prepared, sink, "/tokentokentoken")
    sent = add_message(prepared, channel)

    def fails(*_: object) -> None:
        raise KeyError(f"{channel.address.value} {channel.secret.value}")

    monkeypatch.setattr(webhook, "call_until", fails)
    with caplog.at_level(logging.DEBUG, "storemon"):
        assert deliver_all(couriers) == 1
    assert (message(prepared, sent).state, message(prepared, sent).attempts) == ("pending", 1)
    (only,) = tries(prepared)
    assert only.answer.startswith("KeyError in ")
    assert "tokentoken" not in caplog.text + only.answer
    assert channel.secret.value not in caplog.text + only.answer


def test_the_test_of_a_channel_is_sent_and_logged_at_once(
    prepared: Database, couriers: Couriers, settings: Settings, sink: Sink
) -> None:
    channel = hook(prepared, sink)
    sink.behave = answering(500)
    waiting = add_message(prepared, channel)
    assert deliver_all(couriers) == 1
    sink.behave = answering(200, b"got it")
    answer = send_test(prepared, settings, channel)
    assert (answer.delivered, answer.code, answer.text) == (True, 200, "200 OK: got it")
    sink.behave = answering(403, b"who are you?")
    refused = send_test(prepared, settings, channel)
    assert (refused.delivered, refused.code, refused.text) == (False, 403, "403 Forbidden: who are you?")
    assert [(one.purpose, one.delivered, one.code) for one in tries(prepared)] == [
        ("incidents", False, 500),
        ("test", True, 200),
        ("test", False, 403),
    ]
    assert json.loads(sink.calls[-1].body)["data"]["test"]
    # It does not stand in the way of what waits, is not tried again, and is nothing that was given up.
    with prepared.read() as connection:
        assert messages.troubles(connection, 3) == {}
        assert messages.last_deliveries(connection)[channel.id].code == 403
        oldest = messages.oldest_waiting_us(connection)
    assert oldest == message(prepared, waiting).created_us


def test_a_removed_channel_is_sent_nothing(prepared: Database, couriers: Couriers, sink: Sink, clock: Clock) -> None:
    channel = hook(prepared, sink)
    add_news(prepared, 2, [channel])
    waiting = add_message(prepared, channel)

    def remove(handler: Any) -> None:
        with prepared.write() as connection:
            channels.remove(connection, channel.id, NOW_US)
        answering(500)(handler)

    sink.behave = remove
    assert deliver_all(couriers) == 1
    clock.now_us += 3600 * SECOND
    assert deliver_all(couriers) == 0
    assert (message(prepared, waiting).state, message(prepared, waiting).error) == ("failed", "the channel was removed")


def test_a_file_goes_into_a_folder_whole_and_once(
    prepared: Database, couriers: Couriers, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    channel = add_channel(prepared, "folder", str(folder))
    sent = add_message(prepared, channel, "Käse is down")
    assert deliver_all(couriers) == 1
    assert [(file.name, file.read_text("utf-8")) for file in folder.iterdir()] == [
        (f"{sent}.txt", "Käse is down\n\nKäse is down\n\n")
    ]
    assert transports.check_channel("folder", str(folder), settings) == str(folder)
    folder.rename(tmp_path / "away")
    add_message(prepared, channel)
    assert deliver_all(couriers) == 1
    assert tries(prepared)[-1].answer == f"{folder}: No such file or directory"


def test_every_content_is_sent_as_it_is(prepared: Database, couriers: Couriers, sink: Sink) -> None:
    channel = hook(prepared, sink)
    said = content.example(NOW_US, "https://monitor.example")
    with prepared.write() as connection:
        messages.add(connection, channel.id, "report", said, NOW_US, message_id="rep_3_1764000000_2")
    assert deliver_all(couriers) == 1
    assert (sink.calls[0].message_id, json.loads(sink.calls[0].body)) == ("rep_3_1764000000_2", said["event"])


def test_couriers_start_while_a_load_of_another_process_holds_the_database(
    prepared: Database, start: Start, sink: Sink
) -> None:
    interrupted = add_message(prepared, hook(prepared, sink))
    sql(prepared.path, "UPDATE message SET state = 'sending', attempts = 1")
    with closing(sqlite3.connect(prepared.path, isolation_level=None)) as loading:
        loading.execute("BEGIN IMMEDIATE")
        start()
        assert message(prepared, interrupted).state == "sending"
        loading.rollback()
    wait_until(lambda: message(prepared, interrupted).state == "sent", "the interrupted message to be sent")
    assert [call.message_id for call in sink.calls] == [interrupted]
