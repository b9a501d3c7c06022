"""Triggers without end, from a key that may only read: neither the database nor the reports folder grows with them."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Server, http, sql, wait_until

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

STORES = 4_000
SECONDS = 20.0
FIRST_S = 1_728_864_000
PATIENCE_S = 600.0
MAX_MB = 10


def as_of(seconds: int) -> str:
    """An instant so many seconds after the polls."""
    return datetime.fromtimestamp(FIRST_S + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Attack:
    """Threads that trigger reports as fast as they are answered: of all stores, and as of ever other instants."""

    def __init__(self, server: Server, names: list[str]) -> None:
        self.over = threading.Event()
        self.accepted = 0
        self.wrong: list[object] = []
        self._server = server
        self._lock = threading.Lock()
        bodies: tuple[Callable[[int], object], ...] = (
            lambda number: {"stores": names},
            lambda number: {"stores": names[::-1]},
            lambda number: {"as_of": as_of(number)},
            lambda number: {"as_of": as_of(-number), "columns": "full"},
        )
        self._threads = [threading.Thread(target=self._trigger, args=(body_of,)) for body_of in bodies]
        for thread in self._threads:
            thread.start()

    def _trigger(self, body_of: Callable[[int], object]) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            answer = http(f"{self._server.url}/trigger_report", "POST", json.dumps(body_of(number)).encode())
            if answer.status == 202:
                with self._lock:
                    self.accepted += 1
            elif answer.status != 503 or "Retry-After" not in answer.headers:
                self.wrong.append(answer)

    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)


def test_triggers_fill_neither_the_database_nor_the_reports_folder(
    serve: Callable[..., Server], settings: Settings
) -> None:
    server = serve(STOREMON_MAX_REPORTS_MB=str(MAX_MB))
    names = [f"{number:036d}" for number in range(STORES)]
    polls = "store_id,timestamp_utc,status\n" + "".join(f"{name},{FIRST_S},active\n" for name in names)
    assert http(f"{server.url}/api/v1/feeds/polls", "POST", polls.encode()).status == 200
    before = settings.database.stat().st_size
    end = time.monotonic() + SECONDS
    largest = {"reports": 0, "log": 0}

    def made_room() -> list[tuple[str]]:
        return sql(settings.database, "SELECT id FROM report WHERE gone = 'room'")

    attack = Attack(server, names)
    log = settings.database.with_name(f"{settings.database.name}-wal")
    while attack.is_running():
        # On a slow machine it takes longer until there is too much.
        if time.monotonic() > end and (made_room() or time.monotonic() > end + PATIENCE_S):
            attack.over.set()
        if settings.reports_dir.is_dir():
            largest["reports"] = max(largest["reports"], _size(settings.reports_dir))
        largest["log"] = max(largest["log"], log.stat().st_size if log.exists() else 0)
        time.sleep(0.2)
    assert attack.wrong == []
    newest = server.trigger()
    assert server.wait_for(newest).status == 200
    # The limit, and the file that is written at the moment.
    assert largest["reports"] < (MAX_MB + 2) * 1_000_000
    # It makes room after it has said that a report is complete.
    wait_until(lambda: _size(settings.reports_dir) < MAX_MB * 1_000_000, "room to be made")
    assert largest["log"] < 50_000_000
    # Rows of some hundred bytes, and what was asked once.
    grown = settings.database.stat().st_size - before
    assert grown < 2_000_000 + 1_000 * attack.accepted, (grown, attack.accepted)
    assert sql(settings.database, f"SELECT count(*) FROM report_text WHERE store_count = {STORES}") in ([(0,)], [(1,)])
    gone = made_room()
    assert gone
    answer = server.get(f"/get_report?report_id={gone[0][0]}")
    assert answer.status == 410
    assert "to make room for newer ones" in answer.json["detail"]


def _size(folder: Path) -> int:
    """Bytes of the files; one of several names counts once."""
    sizes = {}
    for file in folder.iterdir():
        try:
            sizes[file.stat().st_ino] = file.stat().st_size
        except FileNotFoundError:
            continue
    return sum(sizes.values())
