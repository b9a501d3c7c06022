"""Pushes from many clients at a real server that is killed in the middle: what was acknowledged is there afterwards."""

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Server, sql, wait_until

from storemon_flask.database import tokens
from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

STORES = 40
CLIENTS = 16
BEGIN_S = 1_730_000_000


@pytest.fixture
def addresses(settings: Settings) -> Iterator[list[str]]:
    """A token for each store."""
    with closing(Database(settings.database)) as database:
        yield [tokens.add(database, f"s{number}", "", 1) for number in range(STORES)]


class Clients:
    """Clients that push one poll at a time until they are stopped or the server is gone."""

    def __init__(self, server: Server, first: int, addresses: list[str]) -> None:
        self.acknowledged: list[tuple[str, int, str]] = []
        self.addressed: list[tuple[str, str, str]] = []
        self.answers: dict[int, int] = {}
        self.counts = [0, 0, 0, 0]
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._address = urlsplit(server.url)
        self._threads = [
            threading.Thread(target=self._push, args=(number, first, addresses)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _push(self, number: int, first: int, addresses: list[str]) -> None:
        line = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        done = 0
        try:
            while not self._stop.is_set():
                done += 1
                if done % 5 == 0:
                    self._push_by_address(line, addresses[(number + done) % STORES], done)
                    continue
                # Half of the clients push polls that others push too.
                at = first + (done if number % 2 else 100_000 + number * 5_000 + done)
                poll = (f"s{(number + done) % STORES}", BEGIN_S + at, "active" if done % 3 else "inactive")
                rows = [dict(zip(("store_id", "timestamp_utc", "status"), poll, strict=True))]
                if done % 7 == 0:
                    rows.append({"store_id": "s1", "timestamp_utc": "noon", "status": "active"})
                line.request("POST", "/api/v1/feeds/polls", json.dumps(rows))
                answer = line.getresponse()
                body = json.loads(answer.read())
                with self._guard:
                    self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
                    if answer.status == 200:
                        assert body["rows"] == len(rows)
                        assert body["rejected"] == len(rows) - 1
                        assert body["new"] + body["changed"] + body["unchanged"] == 1
                        self.acknowledged.append(poll)
                        for index, name in enumerate(("new", "changed", "unchanged", "rejected")):
                            self.counts[index] += body[name]
        except (OSError, http.client.HTTPException):
            pass
        finally:
            line.close()

    def _push_by_address(self, line: http.client.HTTPConnection, token: str, done: int) -> None:
        line.request("GET", f"/push/{token}?status={'active' if done % 2 else 'inactive'}")
        answer = line.getresponse()
        body = json.loads(answer.read())
        with self._guard:
            self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
            if answer.status == 200:
                self.addressed.append((body["store_id"], body["timestamp_utc"], body["status"]))


def loaded(server: Server) -> None:
    rows = "".join(f"s{number},{BEGIN_S - 60},active\n" for number in range(STORES))
    now = "".join(f"s{number},{int(time.time()) - 3600},active\n" for number in range(STORES))
    line = http.client.HTTPConnection(urlsplit(server.url).hostname or "", urlsplit(server.url).port, timeout=30)
    with closing(line):
        line.request("POST", "/api/v1/feeds/polls", "store_id,timestamp_utc,status\n" + rows + now)
        assert line.getresponse().status == 200


def polls(database: Path) -> dict[tuple[str, str], str]:
    return {
        (store, when): status
        for store, when, status in sql(database, "SELECT store_id, timestamp_utc, status FROM poll")
    }


def key(store: str, at_s: int) -> tuple[str, str]:
    return store, time.strftime("%Y-%m-%d %H:%M:%S.000000Z", time.gmtime(at_s))


def test_pushes_of_many_clients_add_up_in_a_few_loads(
    serve: Callable[..., Server], settings: Settings, addresses: list[str]
) -> None:
    server = serve()
    loaded(server)
    before = len(polls(settings.database))
    began_s = time.monotonic()
    clients = Clients(server, 0, addresses)
    time.sleep(4)
    wait_until(lambda: len(clients.acknowledged) + len(clients.addressed) > 100, "some pushes")
    clients.end()
    took_s = time.monotonic() - began_s
    assert set(clients.answers) == {200}
    pushed = len(clients.acknowledged) + len(clients.addressed)
    assert pushed > 100
    assert server.end() == 0
    stored = polls(settings.database)
    for store, at_s, _ in clients.acknowledged:
        assert key(store, at_s) in stored
    for store, when, _ in clients.addressed:
        assert (store, when.replace("T", " ")) in stored
    sums = sql(
        settings.database,
        "SELECT sum(row_count), sum(new_count), sum(rejected_count), sum(file <> 'pushes'), sum(file = 'pushes'), "
        "sum(row_count - new_count - changed_count - unchanged_count - repeated_count - rejected_count) "
        "FROM load_file WHERE load > 1",
    )
    rows, new, rejected, alone, shared, difference = sums[0]
    assert rows == pushed + clients.counts[3]
    assert rejected == clients.counts[3] == sql(settings.database, "SELECT count(*) FROM reject")[0][0]
    assert new == len(stored) - before >= clients.counts[0]
    assert difference == 0
    # How many come in alone is chance, but they may be loads of their own only so often; each ends one that is shared.
    assert alone <= 31 + took_s / 30
    assert shared <= alone + 1 + took_s / 60


@pytest.mark.slow
@pytest.mark.parametrize("aim_s", [0.3, 0.9, 1.7, 2.6])
def test_what_was_acknowledged_is_there_after_a_kill(
    serve: Callable[..., Server], settings: Settings, addresses: list[str], aim_s: float
) -> None:
    kept: list[tuple[str, int, str]] = []
    addressed: list[tuple[str, str, str]] = []
    for life in range(3):
        server = serve()
        if not life:
            loaded(server)
        clients = Clients(server, life * 1_000_000, addresses)
        time.sleep(aim_s + life / 7)
        wait_until(lambda clients=clients: len(clients.acknowledged) > 7, "acknowledgements")
        server.end(signal.SIGKILL)
        clients.end()
        assert set(clients.answers) <= {200}
        kept += clients.acknowledged
        addressed += clients.addressed
    server = serve()
    assert server.get("/readyz").status == 200
    assert server.end() == 0
    stored = polls(settings.database)
    assert len(kept) > 20
    assert not [poll for poll in kept if key(*poll[:2]) not in stored]
    assert not [poll for poll in addressed if (poll[0], poll[1].replace("T", " ")) not in stored]
    # Whoever alone pushed a poll finds it as it was.
    times: dict[tuple[str, int], set[str]] = {}
    for store, at_s, status in kept:
        times.setdefault((store, at_s), set()).add(status)
    for (store, at_s), statuses in times.items():
        assert stored[key(store, at_s)] in statuses
    faults = sql(
        settings.database,
        "SELECT count(*) FROM load_file WHERE row_count <> "
        "new_count + changed_count + unchanged_count + repeated_count + rejected_count",
    )
    assert faults == [(0,)]
    assert sql(settings.database, "PRAGMA integrity_check") == [("ok",)]
    new, before = sql(settings.database, "SELECT sum(new_count), 0 FROM load_file")[0]
    assert new - before == len(stored)
