"""SIGKILL at random moments: nothing half-loaded, nothing promised is lost, nothing half-written is served.

Before each kill the process is frozen, so that it can be seen what the kill falls into.
"""

import hashlib
import http.client
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import STOREMON, Server, environment, storemon, wait_until
from kill_helpers import being_written, kill

from storemon_flask.settings import Settings

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at locks and threads the way Linux shows them"),
]

SEED = 20_241_014
LOADS_KILLED = 30
SERVERS_KILLED = 20
FILES = 4
STORES = 250
POLLS = 1_000
FIRST_S = 1_727_740_800  # 2024-10-01
STEP_S = 600
# A kill that is aimed waits this long at most for something to fall into.
AIM_S = 10.0
# Each a microsecond after the newest poll.
_NUMBERS = itertools.count(1)


def truth(number: int, version: int) -> np.ndarray:
    """(store, poll) -> active, of file `number`; the two versions differ in every poll."""
    store, poll = np.indices((STORES, POLLS))
    return ((store * 7 + poll * 3 + number) // 5 + version) % 2 == 1


def write_file(file: Path, number: int, version: int) -> None:
    times = [time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(FIRST_S + STEP_S * poll)) for poll in range(POLLS)]
    words = np.array(["inactive", "active"])[truth(number, version).astype(int)]
    with file.open("w") as stream:
        stream.write("store_id,timestamp_utc,status\n")
        for store in range(STORES):
            stream.writelines(
                f"file{number}-store{store},{at},{word}\n" for at, word in zip(times, words[store], strict=True)
            )


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders with the same polls, one of which says the opposite of the other."""
    folders = [tmp_path_factory.mktemp(f"version{version}") for version in (0, 1)]
    for version, folder in enumerate(folders):
        for number in range(FILES):
            write_file(folder / f"polls{number}.csv", number, version)
    return folders


def looks(database: Path, reports: Path) -> Callable[[], set[str]]:
    """A look at what a frozen process is in the middle of."""
    old = set(reports.glob(".*.tmp"))

    def look() -> set[str]:
        found = {"inside a transaction"} if being_written(database) else set()
        return found | ({"inside a report's file"} if set(reports.glob(".*.tmp")) - old else set())

    return look


def versions_held(connection: sqlite3.Connection) -> list[int | None]:
    """The version of each file that the database holds, None where it holds nothing of it; fails for a mixture."""
    blobs: dict[str, list[bytes]] = {}
    query = "SELECT store_id, polls FROM poll_week JOIN store_record ON number = store ORDER BY store_id, week"
    for store_id, blob in connection.execute(query):
        blobs.setdefault(store_id, []).append(blob)
    held: list[int | None] = []
    instants = 1_000_000 * (FIRST_S + STEP_S * np.arange(POLLS))
    for number in range(FILES):
        mine = [blobs.pop(f"file{number}-store{store}", []) for store in range(STORES)]
        if not any(mine):
            held.append(None)
            continue
        packed = np.array([np.frombuffer(b"".join(parts), dtype=">i8").astype(np.int64) for parts in mine])
        assert packed.shape == (STORES, POLLS)
        assert (packed >> 1 == instants).all()
        active = (packed & 1).astype(bool)
        held.append(int((active == truth(number, 1)).all()))
        assert (active == truth(number, held[-1] or 0)).all(), f"polls{number}.csv is half loaded"
    assert blobs == {}
    return held


def check_database(file: Path, digests: dict[str, int]) -> list[int | None]:
    """The versions held, after checking that the database is sound and that its list of loads says the same."""
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        held = versions_held(connection)
        said: list[int | None] = [None] * FILES
        rows = connection.execute(
            "SELECT file, sha256, row_count, rejected_count FROM load_file ORDER BY id"
        ).fetchall()
        for name, sha256, count, rejected in rows:
            assert (count, rejected) == (STORES * POLLS, 0)
            said[int(name.removeprefix("polls").removesuffix(".csv"))] = digests[sha256]
        assert held == said
        newest = connection.execute(
            "SELECT count(*), min(last_poll_us), max(last_poll_us) FROM store_record"
        ).fetchone()
        whole = sum(version is not None for version in held)
        last_us = 1_000_000 * (FIRST_S + STEP_S * (POLLS - 1))
        assert newest == ((whole * STORES, last_us, last_us) if whole else (0, None, None))
    return held


def test_a_load_killed_at_any_moment_leaves_each_file_whole_or_untouched(
    feeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    digests = {
        hashlib.sha256(file.read_bytes()).hexdigest(): version
        for version, folder in enumerate(feeds)
        for file in folder.iterdir()
    }
    seen: Counter[str] = Counter()
    states: Counter[str] = Counter()

    def start(home: Path, version: int) -> subprocess.Popen[str]:
        home.mkdir(exist_ok=True)
        command = [*STOREMON, "load-data", str(feeds[version])]
        return subprocess.Popen(
            command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )

    began = time.monotonic()
    assert start(tmp_path / "measured", 0).wait(300) == 0
    duration = time.monotonic() - began
    home = tmp_path / "home0"
    for turn in range(2 * LOADS_KILLED):
        if seen["killed"] == LOADS_KILLED:
            break
        if turn % 6 == 0:
            # From nothing: the database itself is made under the kill.
            home = tmp_path / f"home{turn}"
        database = home / "instance" / "storemon.db"
        process = start(home, turn % 2)
        time.sleep(chance.uniform(0.1, 1.0) * duration)
        kill(process, looks(database, home / "reports"), seen, duration if turn % 3 == 2 else 0.0)
        if process.returncode == 0:
            # The machine has become faster than it was when it was measured.
            duration *= 0.9
        if not database.exists():
            states["no database"] += 1
            continue
        with closing(sqlite3.connect(database)) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
        if not made:
            states["an empty database"] += 1
            continue
        held = check_database(database, digests)
        states["between two files" if len(set(held)) > 1 else "all files alike"] += 1
    # Whatever the last kill left, the next load goes through.
    assert start(home, 1).wait(300) == 0
    assert check_database(home / "instance" / "storemon.db", digests) == [1] * FILES
    left = sorted(path.name for path in (home / "instance").iterdir())
    assert left == ["storemon.db"]
    with capsys.disabled():
        print(f"\nloads of {duration:.1f} s: {dict(seen)}; left behind: {dict(states)}")
    assert seen["killed"] == LOADS_KILLED
    assert seen["inside a transaction"] >= 5
    assert states["between two files"] >= 3


class Askers:
    """Threads that trigger reports as fast as they are answered, and remember every id that was promised.

    Of each three, two name an as-of so little after the newest poll that the numbers are the same: they are computed.
    """

    def __init__(self, server: Server, many: int = 2) -> None:
        self.promised: list[str] = []
        self._server = server
        self._over = False
        self._threads = [threading.Thread(target=self._ask) for _ in range(many)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        # The answer is cut off when the server is killed: nothing was promised then.
        with suppress(OSError, http.client.HTTPException):
            while not self._over:
                number = next(_NUMBERS)
                as_of = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(FIRST_S + STEP_S * (POLLS - 1)))
                body = b"" if number % 3 == 0 else f'{{"as_of": "{as_of}.{number:06}Z"}}'.encode()
                self.promised.append(self._server.trigger(body))
                time.sleep(0.1)

    def wait_for_promises(self, count: int) -> None:
        wait_until(lambda: len(self.promised) >= count, "promised reports")

    def stop(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(60)


def check_reports(server: Server, promised: set[str], known: bytes, outcomes: Counter[str]) -> None:
    """Every report promised is complete with the right bytes, or failed with its reason."""
    for report_id in sorted(promised):
        answer = server.wait_for(report_id)
        if answer.status == 409:
            assert answer.json["error"].startswith("the server died twice while it computed this report; ")
            outcomes["failed with the reason"] += 1
        else:
            assert answer.body == known
            assert answer.headers["ETag"] == f'"{hashlib.sha256(known).hexdigest()}"'
            outcomes["complete"] += 1


def unfinished(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        query = "SELECT count(*) FROM report WHERE state IN ('pending', 'running')"
        return int(connection.execute(query).fetchone()[0])


def reports_in(database: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the state of each report, and the digest of each complete one, of a database that is whole."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = dict(connection.execute("SELECT id, state FROM report"))
        complete = dict(connection.execute("SELECT id, sha256 FROM report WHERE state = 'complete'"))
    return rows, complete


def files_served(reports: Path) -> Iterator[tuple[str, bytes]]:
    for file in reports.glob("report_*.csv"):
        yield file.name.removeprefix("report_").removesuffix(".csv"), file.read_bytes()


def test_a_server_killed_at_any_moment_loses_no_promised_report(
    feeds: list[Path], settings: Settings, serve: Callable[[], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED + 1)
    home = settings.home
    home.mkdir()
    assert storemon(home, "load-data", str(feeds[0])).returncode == 0
    known = storemon(home, "report").stdout.encode()
    assert known.count(b"\n") == 1 + FILES * STORES
    digest = hashlib.sha256(known).hexdigest()
    database, reports = settings.database, settings.reports_dir
    seen: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    promised: set[str] = set()
    checked: set[str] = set()
    for turn in range(SERVERS_KILLED):
        server = serve()
        askers = Askers(server)
        if turn % 2 == 1:
            # However slow the machine is, there are enough reports to look at in the end.
            askers.wait_for_promises(8)
        time.sleep(chance.uniform(0.0, 1.2))
        kill(server.process, looks(database, reports), seen, AIM_S if turn % 2 == 1 else 0.0)
        askers.stop()
        server.end(signal.SIGKILL)
        promised.update(askers.promised)
        rows, complete = reports_in(database)
        assert promised <= rows.keys()
        # No file half-written: each that bears its final name is whole, also when its row does not say so yet.
        whole = {report_id: hashlib.sha256(data).hexdigest() for report_id, data in files_served(reports)}
        assert set(whole.values()) <= {digest}
        assert complete.items() <= whole.items()
        seen["with a temporary file left"] += any(reports.glob(".*.tmp"))
        seen["with reports unfinished"] += any(state in ("pending", "running") for state in rows.values())
        if turn % 4 == 3:
            # Meanwhile some died twice; now a server lives for as long as it takes.
            server = serve()
            wait_until(lambda: unfinished(database) == 0, "every report to end", patience_s=600)
            check_reports(server, promised - checked, known, outcomes)
            for file in reports.glob(".*"):
                for wrong in (file.name, file.name.removeprefix(".report_"), f"../reports/{file.name}"):
                    assert server.get(f"/get_report?report_id={wrong}").status == 404
            checked |= promised
            assert server.end() == 0
    assert checked == promised
    assert unfinished(database) == 0
    temporary = len(list(reports.glob(".*.tmp")))
    with capsys.disabled():
        print(f"\nservers: {dict(seen)}; {len(promised)} promised: {dict(outcomes)}; {temporary} temporary files left")
    assert seen["killed"] == SERVERS_KILLED
    assert seen["with reports unfinished"] >= SERVERS_KILLED // 2
    assert seen["inside a transaction"] + seen["inside a report's file"] >= 3
    assert outcomes["complete"] >= 50
    # What a killed server had begun to write is thrown away by the next one, or it would pile up for ever.
    assert temporary == 0
