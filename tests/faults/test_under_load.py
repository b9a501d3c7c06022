"""Ten thousand triggers in a minute, and a soak of everything at once with flat memory, against the real server."""

import contextlib
import http.client
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import accounting
import numpy as np
import pytest
from accounting import Ledger, Shape
from checking import check
from conftest import SMALL_CSV, Server, sql, wait_until

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

TRIGGERS = 10_000
MINUTE_S = 60.0
CLIENTS = 8
STORES = 500
# Shorter ones are for trying the test itself.
SOAK_S = float(os.environ.get("SOAK_SECONDS", "300"))
# Of what a server of this size has (about 100 MB); what has to grow with 300 s of reports is a few bytes each.
MOST_MB_A_MINUTE = 2.0


class Line:
    """One kept connection to a server."""

    def __init__(self, server: Server) -> None:
        self._line = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any, bytes]:
        """Status, headers and body."""
        self._line.request(method, path, body)
        answer = self._line.getresponse()
        return answer.status, answer.headers, answer.read()

    def close(self) -> None:
        self._line.close()


def together(work: list[Callable[[], None]]) -> None:
    """Run all in threads of their own; fails with the first error of any."""
    errors: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def test_ten_thousand_triggers_in_a_minute_are_all_kept(
    server: Server, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    promised: list[str] = []
    answered: list[int] = []
    slowest_s = 0.0
    began = time.monotonic()
    over = threading.Event()
    numbers = iter(range(TRIGGERS))

    def trigger() -> None:
        with contextlib.closing(Line(server)) as line:
            # Spread over the minute, in whatever order the clients get to it.
            for number in numbers:
                time.sleep(max(0.0, began + MINUTE_S * number / TRIGGERS - time.monotonic()))
                status, headers, body = line.ask("POST", "/trigger_report")
                # A list: two threads that count at once may count one.
                answered.append(status)
                if status == 202:
                    promised.append(json.loads(body)["report_id"])
                else:
                    assert status == 503, body
                    assert headers["Retry-After"]
                    assert headers["Content-Type"] == "application/problem+json"

    def health() -> None:
        nonlocal slowest_s
        with contextlib.closing(Line(server)) as line:
            while not over.wait(0.2):
                asked = time.monotonic()
                assert line.ask("GET", "/healthz")[0] == 200
                slowest_s = max(slowest_s, time.monotonic() - asked)

    def all_triggers() -> None:
        try:
            together([trigger] * CLIENTS)
        finally:
            over.set()

    together([all_triggers, health])
    taken_s = time.monotonic() - began
    unfinished = "SELECT count(*) FROM report WHERE state IN ('pending', 'running')"
    wait_until(lambda: sql(settings.database, unfinished) == [(0,)], "every report to end", 1200)
    ended_s = time.monotonic() - began
    statuses = Counter(answered)
    states = dict(sql(settings.database, "SELECT id, state FROM report"))
    assert len(promised) == len(set(promised)) == statuses[202]
    assert Counter(states[report_id] for report_id in promised) == {"complete": statuses[202]}
    for report_id in promised[:: max(1, len(promised) // 100)]:
        assert server.get(f"/get_report?report_id={report_id}").body.decode() == SMALL_CSV
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    check(settings.home)
    with capsys.disabled():
        print(
            f"\n{TRIGGERS:,} triggers in {taken_s:.0f} s: {dict(statuses)}; all done after {ended_s:.0f} s; "
            f"healthz at most {slowest_s * 1000:.0f} ms"
        )
    assert sum(statuses.values()) == TRIGGERS


class Soak:
    """Everything that is asked of one server at once until the end, and what its memory was meanwhile."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # After the first minute nothing is new in a push: what a server has in memory may grow with its polls, and here
        # it must not.
        self.ledger = Ledger(Shape(20, 1))
        self.done: Counter[str] = Counter()
        self.ids: list[str] = []
        self.memory: list[tuple[float, float]] = []
        self._guard = threading.Lock()
        self._again = itertools.count()
        self._end = time.monotonic() + SOAK_S

    def run(self) -> None:
        """Ask until the end; fails with the first answer that is not as it should be."""
        zones = "".join(f"s{store},Europe/Berlin\n" for store in range(STORES))
        with contextlib.closing(Line(self.server)) as line:
            assert line.ask("POST", "/api/v1/feeds/timezones", "store_id,timezone_str\n" + zones)[0] == 200
            self.push(line)
        steps = (self.push, self.push, self.trigger, self.poll, self.poll, self.download, self.download)
        together([partial(self._until_the_end, step) for step in steps] + [self._watch])

    def push(self, line: Line) -> None:
        with self._guard:
            sent = len(self.ledger.sent)
            batch = self.ledger.next() if sent < SOAK_S else next(self._again) % sent
        status, _, body = line.ask("POST", "/api/v1/feeds/polls", accounting.csv(self.ledger.shape, batch))
        assert status == 200, body
        said = json.loads(body)
        assert said["new"] + said["unchanged"] == self.ledger.shape.rows, said
        with self._guard:
            self.ledger.acknowledged.add(batch)
        time.sleep(0.15)

    def trigger(self, line: Line) -> None:
        status, _, body = line.ask("POST", "/trigger_report")
        assert status == 202, body
        self.ids.append(json.loads(body)["report_id"])
        time.sleep(0.2)

    def poll(self, line: Line) -> None:
        for path in ("/api/v1/stores?limit=50", "/api/v1/reports?limit=5", "/api/v1/loads?limit=5", "/healthz"):
            status, _, body = line.ask("GET", path)
            assert status == 200, body
        time.sleep(0.1)

    def download(self, line: Line) -> None:
        if self.ids:
            wanted = self.ids[-1 - len(self.ids) // 3]
            status, _, body = line.ask("GET", f"/get_report?report_id={wanted}")
            assert status in (200, 202), body
            if status == 200:
                assert body.count(b"\n") == 1 + STORES
                self.done["complete downloads"] += 1
        time.sleep(0.1)

    def _until_the_end(self, step: Callable[[Line], None]) -> None:
        with contextlib.closing(Line(self.server)) as line:
            while time.monotonic() < self._end:
                step(line)
                self.done[step.__name__] += 1

    def _watch(self) -> None:
        while time.monotonic() < self._end:
            self.memory.append((time.monotonic(), resident_mb(self.server)))
            time.sleep(0.5)

    def rise(self) -> tuple[float, str]:
        """MB a minute after the first fifth of the time, and the memory in words."""
        at, megabytes = np.array(self.memory).T
        late = at > at[0] + SOAK_S / 5
        a_minute = 60 * float(np.polyfit(at[late], megabytes[late], 1)[0])
        tenths = " ".join(f"{part.mean():.0f}" for part in np.array_split(megabytes, 10))
        return a_minute, (
            f"{megabytes[late][0]:.0f} to {megabytes[-1]:.0f} MB (peak "
            f"{megabytes.max():.0f}; by tenths of the time {tenths}), "
            f"{a_minute:+.2f} MB a minute"
        )


def test_memory_stays_flat_while_everything_is_asked_at_once(
    serve: Callable[..., Server], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    soak = Soak(server)
    soak.run()
    a_minute, memory = soak.rise()
    with capsys.disabled():
        print(f"\nsoak of {SOAK_S:.0f} s: {dict(soak.done)}; memory {memory}")
    for report_id in soak.ids[-3:]:
        assert server.wait_for(report_id, 600).headers["X-Report-Status"] == "Complete"
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    with accounting.read(settings.database) as connection:
        held = accounting.account(connection, soak.ledger)
        promised = Ledger(soak.ledger.shape, reports=set(soak.ids))
        accounting.account_of_reports(connection, promised, settings.reports_dir)
    assert held == soak.ledger.acknowledged
    check(settings.home)
    assert min(soak.done[name] for name in ("push", "trigger", "poll", "complete downloads")) > SOAK_S / 4
    if SOAK_S >= 120:
        assert a_minute < MOST_MB_A_MINUTE
