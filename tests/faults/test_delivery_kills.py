"""A server killed a hundred times while it evaluates and delivers: everything is told, and repeats have the same id."""

import json
import random
import signal
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import sql, wait_until
from delivery_helpers import FROM, Sink, add_channel, answering, running_mail_server
from delivery_helpers import sink as sink
from forks import Forked, ForkServer
from serving import forks as forks

from storemon_flask import settings as settings_
from storemon_flask.clock import timestamp_text
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources

KILLS = 100
STORES = 400
# So few are down at once that they are no storm, and each long enough to be seen by some server.
DOWN_AT_ONCE = 20
FLIPPED = 2
SECOND_US = 1_000_000


class Fleet:
    """Stores of which two more are down after each step, and two that were down for ten steps are up."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._file = folder / "polls.csv"
        self._first = 0
        self.was_down: set[str] = set()
        self._put([f"s{number:03d}" for number in range(STORES)], "active", time.time_ns() // 1000 - 600 * SECOND_US)

    def step(self) -> None:
        down = [f"s{number:03d}" for number in range(self._first, self._first + FLIPPED)]
        up_again = [f"s{number - DOWN_AT_ONCE:03d}" for number in range(self._first, self._first + FLIPPED)]
        self._first += FLIPPED
        self.was_down |= set(down)
        now_us = time.time_ns() // 1000
        rows = [(one, "inactive") for one in down]
        rows += [(one, "active") for one in up_again if one in self.was_down]
        self._put([one for one, _ in rows], dict(rows), now_us)

    def recover(self) -> None:
        self._put(sorted(self.was_down), "active", time.time_ns() // 1000)

    def _put(self, stores: list[str], status: str | dict[str, str], at_us: int) -> None:
        lines = [
            f"{one},{timestamp_text(at_us)},{status if isinstance(status, str) else status[one]}" for one in stores
        ]
        self._file.write_text("\n".join(["store_id,timestamp_utc,status", *lines, ""]))
        options = load.LoadOptions(time.time_ns() // 1000, 300_000_000)
        result = load.load_sources(self._database, sources.find_sources([self._file]), options)
        assert (result.failed, result.rejected) == (False, 0)


class Receiver:
    """The sink: keeps what it was sent by id, knows that each message was committed, and fails now and then."""

    def __init__(self, sink: Sink, database: Path, chance: random.Random) -> None:
        self.bodies: dict[str, set[bytes]] = {}
        self.states: Counter[str] = Counter()
        self.troubles = True
        self._sink, self._database, self._chance = sink, database, chance
        self._guard = threading.Lock()
        sink.behave = self._answer

    def _answer(self, handler: Any) -> None:
        with self._guard:
            call = self._sink.calls[-1]
            ((state,),) = sql(self._database, "SELECT state FROM message WHERE id = ?", call.message_id)
            self.states[state] += 1
            self.bodies.setdefault(call.message_id, set()).add(call.body)
            odds = self._chance.random()
        if self.troubles:
            time.sleep(odds / 3)
        if self.troubles and odds < 0.1:
            return answering(500)(handler)
        if self.troubles and odds < 0.15:
            return self._sink.close(handler)
        return answering(200)(handler)


def look(database: Path, seen: Counter[str]) -> None:
    """Count what a kill fell into."""
    for state, count in sql(
        database, "SELECT state, count(*) FROM message WHERE state IN ('pending', 'sending') GROUP BY state"
    ):
        seen[f"with a message {state}"] += bool(count)
    ((waiting,),) = sql(database, "SELECT count(*) FROM notice WHERE message IS NULL")
    seen["with notices in no message"] += bool(waiting)


@pytest.mark.slow
def test_everything_is_told_however_often_the_server_is_killed(
    forks: ForkServer, tmp_path: Path, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(20_261_128)
    home = tmp_path / "home"
    with running_mail_server() as mail_server:
        variables = {
            "STOREMON_SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}",
            "STOREMON_MAIL_FROM": FROM,
            "STOREMON_ALERT_GROUP_SECONDS": "0",
            "STOREMON_ALERT_INTERVAL_SECONDS": "0",
        }
        settings = settings_.load({"STOREMON_HOME": str(home)})
        with closing(Database(settings.database)) as database:
            database.prepare()
            hook = add_channel(database, "webhook", sink.url)
            mail = add_channel(database, "email", "ops@example.com")
            # A hundred messages and more come within an hour.
            sql(settings.database, "UPDATE channel SET filters = ?", json.dumps({"kinds": ["down"]}))
            fleet = Fleet(database, tmp_path)
            receiver = Receiver(sink, settings.database, chance)
            seen: Counter[str] = Counter()

            def start() -> Forked:
                server = forks.start(home, "serve", "--port", "0", **variables)
                server.url()
                # No message is held back because so many came before within the hour, nor by a try that failed: what
                # gathers meanwhile would be more than the body of one webhook holds.
                sql(settings.database, "UPDATE message SET created_us = created_us - 7200000000, next_try_us = 0")
                return server

            for _ in range(KILLS):
                server = start()
                fleet.step()
                time.sleep(chance.uniform(0.2, 2.0))
                server.send_signal(signal.SIGKILL)
                assert server.wait() == -signal.SIGKILL
                look(settings.database, seen)

            receiver.troubles = False
            server = start()
            known = "SELECT count(DISTINCT subject) FROM incident WHERE kind = 'down'"
            wait_until(lambda: sql(settings.database, known) == [(len(fleet.was_down),)], "the last to be seen", 180)
            fleet.recover()
            wait_for_the_end(settings.database)
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        check(settings.database, fleet, hook.id, mail.id, receiver, mail_server.mails)
    with capsys.disabled():
        repeats = len(sink.calls) - len(receiver.bodies)
        print(f"\n{KILLS} kills: {dict(seen)}; {len(receiver.bodies)} webhooks, {repeats} repeated")
    assert seen["with a message sending"] > 5
    assert repeats > 0


def wait_for_the_end(database: Path) -> None:
    def over() -> bool:
        waiting = "SELECT (SELECT count(*) FROM incident WHERE kind = 'down' AND resolved_us IS NULL), (SELECT count(*) FROM notice WHERE message IS NULL), (SELECT count(*) FROM message WHERE state IN ('pending', 'sending'))"
        # Tries that failed before need not be waited for.
        sql(
            database, "UPDATE message SET next_try_us = 0, created_us = created_us - 7200000000 WHERE state = 'pending'"
        )
        return sql(database, waiting) == [(0, 0, 0)]

    wait_until(over, "everything to be told", 180)


def check(database: Path, fleet: Fleet, hook: int, mail: int, receiver: Receiver, mails: list[Any]) -> None:
    # One incident for each store that was down, each over.
    down = sql(database, "SELECT subject, outcome FROM incident WHERE kind = 'down'")
    assert sorted(subject for subject, _ in down) == sorted(fleet.was_down)
    assert {outcome for _, outcome in down} == {"over"}
    numbers = {number for (number,) in sql(database, "SELECT id FROM incident WHERE kind = 'down'")}
    # Nothing arrived that was not committed before, and all repeats are the same.
    assert set(receiver.states) == {"sending"}
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values())
    told: dict[str, set[int]] = {"open": set(), "resolved": set()}
    for (body,) in receiver.bodies.values():
        event = json.loads(body)
        assert event["data"]["incidents_total"] == len(event["data"]["incidents"])
        for incident in event["data"]["incidents"]:
            told[incident["state"]].add(incident["incident_id"])
    assert told["resolved"] == numbers
    for channel, arrived in ((hook, set(receiver.bodies)), (mail, mail_ids(mails))):
        written = sql(database, "SELECT id, state FROM message WHERE channel = ?", channel)
        assert {state for _, state in written} == {"sent"}
        assert arrived == {one for one, _ in written}
        for event in ("opened", "resolved"):
            of = sql(database, "SELECT incident FROM notice WHERE channel = ? AND event = ?", channel, event)
            assert {number for (number,) in of} == numbers


def mail_ids(mails: list[Any]) -> set[str]:
    """The ids of the messages that came as mails; the repeats of each say the same."""
    texts: dict[str, set[str]] = {}
    for one in mails:
        message_id = one["Message-ID"].strip("<>").removesuffix("@monitor.example")
        texts.setdefault(message_id, set()).add(one["Subject"] + one.get_body(("plain",)).get_content())
    assert all(len(said) == 1 for said in texts.values())
    return set(texts)
