"""The couriers: threads of the server that write messages when they are due, send them, and try again.

A message is committed before it is sent, and what became of it after: whenever the server dies, nothing is lost, and
what was being sent is sent again at the next start, with the same id. Each channel is sent one message at a time, in
their order. Times of tries are of the machine's clock, for they outlive the process; waits within it are not.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from storemon_flask.characters import count_text
from storemon_flask.database import channels, incidents, messages
from storemon_flask.database.channels import Channel
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.messages import Delivery, Message
from storemon_flask.delivery import batches, content, transports
from storemon_flask.delivery.answer import Answer, hide
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.errors import StoremonError, out_of_memory
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US
from storemon_flask.settings import Settings

log = logging.getLogger("storemon.delivery")

COURIERS: Final = 2
# The waits after failed attempts; when the one after the last, six hours after the first, fails, storemon gives up.
RETRY_WAITS_S: Final = (5, 60, 300, 1800, 7200, 7200, 5035)
# Other processes write messages, too, and the machine's clock may be set.
_LOOK_EVERY_S: Final = 10.0
# Wait before repeating a read or write of the database that failed; shorter for recording the outcome of a message.
_TROUBLE_S: Final = 30.0
_RECORD_AGAIN_S: Final = 2.0
# A channel whose message cannot be written because of an internal error is looked at again after this.
_FAULT_S: Final = 300.0
# The deadline for testing a channel: a person waits for it.
TEST_S: Final = 30.0
# What becomes of a try: `retry_later` by any server, `gone` when the receiver asked for no more.
OUTCOMES: Final = ("delivered", "retry_later", "given_up", "gone")


def _now_us() -> int:
    return time.time_ns() // 1000


class Couriers:
    """Two threads that send what is due. Safe to share between threads; `clock` tells the time in microseconds."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], int] = _now_us,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._outcomes = Counter(
            "storemon_deliveries",
            "Tries to deliver a message, by outcome.",
            ("outcome",),
            registry=registry or CollectorRegistry(),
        )
        for outcome in OUTCOMES:
            self._outcomes.labels(outcome)
        self._threads: list[threading.Thread] = []
        # Held by the courier that requeues what the last server was sending, which is done once.
        self._requeuing = threading.Lock()
        self._requeued = False
        # Only one courier writes messages, and one claims at a time.
        self._composing = threading.Lock()
        self._claiming = threading.Lock()
        # Until when (by the monotonic clock) channels wait after an internal error about them.
        self._held_up: dict[int, float] = {}
        # Guards all below, and wakes who waits for a change of them; held for moments only.
        self._changed = threading.Condition()
        self._changes = 0
        self._busy: set[int] = set()
        self._deadlines: set[Deadline] = set()
        self._stopping = False
        self._cut_off = False

    def start(self) -> None:
        """Start sending: first what the last server was sending when it died, then whatever is due."""
        for number in range(COURIERS):
            thread = threading.Thread(target=self._run, name=f"courier-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Make the couriers look now, because something was committed that may be due."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def stop_taking(self) -> None:
        """Stop taking new messages, without waiting."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def stop(self, grace_s: float) -> None:
        """Stop. A message being sent has `grace_s` seconds; then it is cut off and sent again after the next start."""
        self.stop_taking()
        end = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            self._cut_off = True
            cut_off = list(self._deadlines)
        for deadline in cut_off:
            deadline.cut()
        if cut_off:
            log.info("%d message(s) that were being sent are sent again after the next start", len(cut_off))

    def deliver_next(self) -> bool:
        """Write the messages that are due, send one, and record the result; return False when none was to be sent."""
        self._compose()
        with self._claimed() as claimed:
            if claimed is None:
                return False
            message, channel = claimed
            now_us, started = self._clock(), time.monotonic()
            answer = self._try(message, channel, now_us)
            if self._cut_off:
                # The next server sends it again: nobody knows what was received before the connection was cut.
                return True
            delivery = _delivery(message, answer, now_us, started)
            self._outcomes.labels(_outcome(message, answer)).inc()
            self._record(lambda connection: self._note(connection, message, channel, answer, delivery))
            _log_outcome(message, channel, answer)
        return True

    def _requeue(self) -> None:
        """Requeue once what the last server was sending when it died.

        It is done by a courier, for while a load of another process holds the database the server must answer.
        """
        with self._requeuing:
            if self._requeued:
                return
            with self._database.write() as connection:
                again = messages.requeue_sending(connection)
            self._requeued = True
        if again:
            log.info("%d message(s) that were being sent when the last server ended are sent again", again)

    def _run(self) -> None:
        while not self._stopping:
            seen = self._changes
            try:
                self._requeue()
                wait_s = 0.0 if self.deliver_next() else self._wait_s()
            except Exception as error:
                known = error if isinstance(error, StoremonError) else out_of_memory(error)
                if known is None:
                    log.exception("messages cannot be sent now")
                elif not self._stopping:
                    log.warning("messages cannot be sent now: %s", known.message)
                wait_s = _TROUBLE_S
            self._pause(wait_s, seen)

    def _pause(self, wait_s: float, seen: int) -> None:
        """Wait for that time, or until there is an unseen change."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._changes != seen, wait_s)

    def _wait_s(self) -> float:
        """Return how long to wait until something may be due."""
        now_us = self._clock()
        with self._changed:
            busy = sorted(self._busy)
        with self._database.read() as connection:
            waits_us = [messages.next_wait_us(connection, now_us, busy)]
            for decision in self._decisions(connection, now_us).values():
                due_us = now_us if decision.notices else decision.look_again_us
                waits_us.append(None if due_us is None else max(0, due_us - now_us))
        return min([_LOOK_EVERY_S, *(wait_us / SECOND_US for wait_us in waits_us if wait_us is not None)])

    def _decisions(self, connection: Connection, now_us: int) -> dict[int, batches.Decision]:
        """Decide what each channel with waiting notices is sent now, or when; not for those that had an error."""
        decisions = {}
        for channel_id in messages.channels_with_notices(connection):
            if self._held_up.get(channel_id, 0.0) <= time.monotonic():
                with self._isolated(channel_id):
                    decisions[channel_id] = self._decide(connection, channel_id, now_us)[1]
        return decisions

    @contextmanager
    def _isolated(self, channel_id: int) -> Iterator[None]:
        """Have an internal error about one channel delay that channel, and no other."""
        try:
            yield
        except Exception as error:
            if isinstance(error, StoremonError) or out_of_memory(error) is not None:
                raise
            log.exception("the message of channel %d cannot be written now; its notices wait", channel_id)
            self._held_up[channel_id] = time.monotonic() + _FAULT_S

    def _decide(self, connection: Connection, channel_id: int, now_us: int) -> tuple[Channel, batches.Decision]:
        channel = channels.find(connection, channel_id)
        assert channel is not None
        waiting = messages.waiting_notices(connection, channel_id)
        written_us = messages.created_since(connection, channel_id, now_us - DAY_US)
        return channel, batches.decide(waiting, written_us, now_us, batches.pace_of(channel, self._settings))

    def _compose(self) -> None:
        """Write the messages that are due, each in one transaction; do nothing if another courier is doing so."""
        if not self._composing.acquire(blocking=False):
            return
        try:
            now_us = self._clock()
            with self._database.read() as connection:
                decisions = self._decisions(connection, now_us)
            due = [channel_id for channel_id, decision in decisions.items() if decision.notices]
            for channel_id in due:
                with self._isolated(channel_id), self._database.write() as connection:
                    self._compose_one(connection, channel_id, now_us)
            if len(due) > 1:
                self.wake()
        finally:
            self._composing.release()

    def _compose_one(self, connection: Connection, channel_id: int, now_us: int) -> None:
        channel, decision = self._decide(connection, channel_id, now_us)
        if not decision.notices or channel.disabled_us is not None or channel.removed_us is not None:
            return
        numbers = [notice.incident for notice in decision.notices]
        body = content.compose(decision, incidents.by_ids(connection, numbers), now_us, self._settings.public_url)
        purpose = "digest" if decision.digest else "incidents"
        messages.add(connection, channel_id, purpose, body, now_us, [notice.id for notice in decision.notices])
        incidents.note_announced(connection, numbers)

    @contextmanager
    def _claimed(self) -> Iterator[tuple[Message, Channel] | None]:
        """Yield the message to send now and its channel, reserved for this courier; None when nothing is due."""
        claimed = self._claim()
        try:
            yield claimed
        finally:
            if claimed is not None:
                with self._changed:
                    self._busy.discard(claimed[1].id)

    def _claim(self) -> tuple[Message, Channel] | None:
        with self._claiming:
            with self._changed:
                if self._stopping:
                    return None
                busy = sorted(self._busy)
            now_us = self._clock()
            with self._database.read() as connection:
                wait_us = messages.next_wait_us(connection, now_us, busy)
            if wait_us is None or wait_us > 0:
                # Check first, so as not to take the write lock for nothing.
                return None
            with self._database.write() as connection:
                message = messages.claim(connection, now_us, busy)
                channel = None if message is None else channels.find(connection, message.channel)
            if message is None or channel is None:
                return None
            with self._changed:
                self._busy.add(channel.id)
            return message, channel

    def _try(self, message: Message, channel: Channel, now_us: int) -> Answer:
        deadline = Deadline(transports.DEADLINES_S[channel.kind])
        with self._changed:
            self._deadlines.add(deadline)
        try:
            return send_once(Parcel(message, channel, self._settings, self._database, now_us), deadline)
        finally:
            with self._changed:
                self._deadlines.discard(deadline)

    def _note(
        self, connection: Connection, message: Message, channel: Channel, answer: Answer, delivery: Delivery
    ) -> None:
        """Record the result of an attempt, and the new state of its message and channel."""
        now_us = self._clock()
        messages.add_delivery(connection, delivery)
        outcome = _outcome(message, answer)
        if outcome == "delivered":
            messages.finish(connection, message.id, None, now_us)
        elif outcome == "gone":
            messages.finish(connection, message.id, answer.text, now_us)
            channels.disable(connection, channel.id, f"the receiver asks for no more messages ({answer.text})", now_us)
        elif outcome == "given_up":
            tries, first_us = messages.tries_of(connection, message.id)
            hours = round(max(0, now_us - first_us) / HOUR_US)
            sentence = f"given up after {tries} tries in {count_text(hours, 'hour')}: {answer.text}"
            messages.finish(connection, message.id, sentence, now_us)
        else:
            wait_us, used = _next_try(message, answer)
            messages.retry_later(connection, message.id, now_us + wait_us, answer.text, used)

    def _record(self, write: Callable[[Connection], None]) -> None:
        """Record an outcome, again and again while that fails (a full disk): the message must not be sent twice."""
        while True:
            try:
                with self._database.write(even_stopping=True) as connection:
                    write(connection)
                return
            except StoremonError as error:
                log.warning("what became of a message cannot be recorded yet: %s", error.message)
            with self._changed:
                if self._changed.wait_for(lambda: self._stopping, _RECORD_AGAIN_S):
                    return


def send_once(parcel: Parcel, deadline: Deadline) -> Answer:
    """Try once to deliver a message and return the result, also of an internal error; it contains no secrets."""
    try:
        with deadline:
            return transports.send(parcel, deadline)
    except Exception as error:
        # A message is kept and tried again whatever is wrong. No traceback: what was sent, and where, stands in it.
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{frame.tb_frame.f_code.co_qualname} line {frame.tb_lineno}" if frame else "?"
        secrets = [parcel.channel.address.value, parcel.channel.secret.value, parcel.settings.smtp_url.value]
        sentence = f"{type(error).__name__} in {where}: {hide(str(error), secrets)}"
        known = isinstance(error, StoremonError) or out_of_memory(error) is not None
        log.log(logging.WARNING if known else logging.ERROR, "message %s: %s", parcel.message.id, sentence)
        return Answer(False, sentence).without(secrets)


def send_test(database: Database, settings: Settings, channel: Channel) -> Answer:
    """Send a marked example to a channel now, log the attempt, and return the result.

    It is not tried again, and is no reason to wait for messages of the channel.
    """
    now_us, started = _now_us(), time.monotonic()
    example = Message(
        id=messages.new_id(),
        channel=channel.id,
        purpose="test",
        state="sending",
        created_us=now_us,
        content=content.example(now_us, settings.public_url),
        attempts=1,
        next_try_us=now_us,
        finished_us=None,
        error=None,
    )
    answer = send_once(Parcel(example, channel, settings, database, now_us), Deadline(TEST_S))
    state, error = ("sent", None) if answer.delivered else ("failed", answer.text)
    try:
        with database.write() as connection:
            messages.add_tried(connection, replace(example, state=state, error=error, finished_us=_now_us()))
            messages.add_delivery(connection, _delivery(example, answer, now_us, started))
    except StoremonError as trouble:
        # On a full disk, too, who asked is told what came of it.
        log.warning("the log of deliveries lacks this test: %s", trouble.message)
    _log_outcome(example, channel, answer)
    return answer


def _outcome(message: Message, answer: Answer) -> str:
    """Return what happens to a message after an attempt, one of `OUTCOMES`."""
    if answer.delivered:
        return "delivered"
    if answer.gone:
        return "gone"
    return "given_up" if message.attempts > len(RETRY_WAITS_S) else "retry_later"


def _next_try(message: Message, answer: Answer) -> tuple[int, int]:
    """Return the wait before the next attempt, in microseconds, and how many of the waits it uses up.

    It is longer with each attempt, and not before the receiver asks; but what the receiver asks for is part of the six
    hours after which a message is given up.
    """
    used = message.attempts
    wait_s = RETRY_WAITS_S[used - 1]
    asked_s = min(answer.retry_after_s or 0, sum(RETRY_WAITS_S[used - 1 :]))
    covered_s = wait_s
    while used < len(RETRY_WAITS_S) and covered_s + RETRY_WAITS_S[used] <= asked_s:
        covered_s += RETRY_WAITS_S[used]
        used += 1
    return round(max(wait_s, asked_s) * SECOND_US), used


def _delivery(message: Message, answer: Answer, started_us: int, started: float) -> Delivery:
    duration_us = round((time.monotonic() - started) * SECOND_US)
    return Delivery(
        message.id,
        message.channel,
        message.purpose,
        started_us,
        duration_us,
        answer.delivered,
        answer.code,
        answer.text,
    )


def _log_outcome(message: Message, channel: Channel, answer: Answer) -> None:
    if answer.delivered:
        log.info("message %s delivered to %s", message.id, channel.name)
    else:
        log.warning("message %s not delivered to %s: %s", message.id, channel.name, answer.text)
