"""Mixed load for minutes, good clients and bad ones at once: nothing that the server holds grows, and nobody is refused
without need.

`STOREMON_SOAK_SECONDS` says how long it lasts, where a slow machine does not need longer for as much; the promise is
about 300.
"""

import contextlib
import gzip
import http.client
import io
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import PATIENCE_S, Server, sql, wait_until

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

SOAK_S: Final = float(os.environ.get("STOREMON_SOAK_SECONDS", "120"))
STORES: Final = 2000
# So many batches of polls; then they come again, and only one poll of each changes: data that grow would need memory
# that grows.
BATCHES: Final = 20
BATCH_STORES: Final = 400
FIRST_S: Final = 1_728_864_000
REJECTS: Final = 10_000
BOUNDARY: Final = "end-of-part"
HEADER: Final = "store_id,timestamp_utc,status\n"
CONNECTION_TIMEOUT_S: Final = 15
SLOW_READERS: Final = 6
# Of the last quarter of the time over the second, which is when everything has been asked for many times.
MOST_GROWTH_MB: Final = 60.0
MOST_WAL_MB: Final = 80.0
MOST_TEMPORARY_MB: Final = 150.0


class Sample(NamedTuple):
    """What the server holds at one time."""

    memory_mb: float
    open_files: float
    threads: float
    wal_mb: float
    temporary_mb: float


class Answer(NamedTuple):
    """An answer that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def batch_of_polls(number: int, turn: int) -> str:
    """One poll each of some stores; one of them says something else in every second turn."""
    at = FIRST_S + 600 * number
    first = BATCH_STORES * number % STORES
    rows = [
        f"s{first + store},{at},{'in' if (store + number) % 7 == 0 or (store == 1 and turn % 2) else ''}active\n"
        for store in range(BATCH_STORES)
    ]
    return HEADER + "".join(rows)


def zip_that_grows() -> bytes:
    """A form with a small zip of which 60 MB would come out."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("polls.csv", HEADER.encode() + b"x" * 60_000_000)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="polls.zip"\r\n\r\n'.encode()
    return head + target.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


# Two large answers are made at once, and others wait a second for a place. On a slow machine some would find none, so
# here they wait longer: then nobody is to be refused.
PATIENT_SERVER: Final = [
    sys.executable,
    "-c",
    f"from storemon_flask import __main__, slots; slots.PATIENCE_S = {PATIENCE_S}; __main__.main()",
    *("serve", "--port", "0"),
]

COUNT: Final = "import time; began = time.monotonic(); sum(range(5_000_000)); print(time.monotonic() - began)"
COUNT_S: Final = 0.15
REPORTS: Final[tuple[dict[str, object], ...]] = (
    {},
    {"columns": "full"},
    {"by": "day", "windows": [{"from": "2024-10-13", "to": "2024-10-15"}], "method": "previous"},
)
# What is wrong with each, and what may be answered.
BAD_BODIES: Final[dict[str, tuple[bytes, tuple[int, ...]]]] = {
    "no feed": (b"name,price\nx,1\n" * 1000, (422,)),
    "rows that do not fit": ((HEADER + "s1,noon,active\n" * 200 + "s1,1728864000,up\n" * 200).encode(), (200,)),
    "quotes that stay open": ((HEADER + 's1,"1728864000,active\n' * 2000).encode(), (200, 422)),
    "JSON that ends early": (b'[{"store_id": "s1", "timestamp_utc": 17', (400,)),
    "damaged gzip": (gzip.compress(batch_of_polls(0, 0).encode())[:-20], (400, 422)),
    "gzip that grows": (gzip.compress(HEADER.encode() + b"\n" * 60_000_000), (413,)),
    "zip that grows": (zip_that_grows(), (413, 422)),
    "no text": (bytes(range(256)) * 400, (422,)),
}


class Soak:
    """Clients of every kind until the end, each doing one thing again and again, and what the server held meanwhile."""

    def __init__(self, server: Server, wal: Path, temporary: Path) -> None:
        self.server = server
        self.samples: list[Sample] = []
        self.health_s: list[float] = []
        self.slowness: list[float] = []
        self.done: Counter[str] = Counter()
        # When each refusal (503) came, by what was asked.
        self.refused: list[tuple[float, str]] = []
        self._wal = wal
        self._temporary = temporary
        self._address = urlsplit(server.url)
        self._reports: list[str] = []
        self._batches = itertools.count()
        self._bad = itertools.cycle(BAD_BODIES)
        self._began = time.monotonic()
        self._rejects = ""
        self._errors: list[BaseException] = []
        self._over = threading.Event()

    def ask(self, kind: str, path: str, body: bytes | None = None, accept: str = "*/*", method: str = "") -> Answer:
        """Return the answer; a refusal is counted as one of that kind."""
        with contextlib.closing(http.client.HTTPConnection(self._address.netloc, timeout=60)) as line:
            headers = {"Accept": accept}
            if path == "/api/v1/feeds":
                headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
            line.request(method or ("GET" if body is None else "POST"), path, body, headers)
            answer = line.getresponse()
            read = Answer(answer.status, answer.headers, answer.read())
        self.done[kind] += 1
        if read.status == 503:
            assert read.headers["Retry-After"]
            self.refused.append((time.monotonic() - self._began, kind))
        return read

    def expect(self, kind: str, path: str, body: bytes | None = None, accept: str = "*/*") -> Answer:
        """Return the answer, which must be a success or a refusal."""
        answer = self.ask(kind, path, body, accept)
        assert answer.status in (200, 202, 503), (path, answer)
        return answer

    def prepare(self) -> None:
        """Push what the readers read: zones, two batches of polls, and a load with as many rejects as are kept."""
        zones = "store_id,timezone_str\n" + "".join(f"s{store},Europe/Berlin\n" for store in range(STORES))
        assert self.ask("prepare", "/api/v1/feeds/timezones", zones.encode()).status == 200
        bad = HEADER + f"s1,{'x' * 500},active\n" * REJECTS
        answer = self.ask("prepare", "/api/v1/feeds/polls", bad.encode() + f"s1,{FIRST_S},active\n".encode())
        assert answer.status == 200, answer
        self._rejects = f"/api/v1/loads/{json.loads(answer.body)['load_id']}/rejects?format="
        self.push_good()
        self.ask_for_report()

    def push_good(self) -> None:
        """Push one batch of polls; all of it is taken."""
        turn, number = divmod(next(self._batches), BATCHES)
        answer = self.expect("push", "/api/v1/feeds/polls", batch_of_polls(number, turn).encode())
        if answer.status == 200:
            counts = json.loads(answer.body)
            assert counts["new"] + counts["changed"] + counts["unchanged"] == BATCH_STORES, counts

    def push_bad(self) -> None:
        """Push something that is wrong."""
        kind = next(self._bad)
        body, statuses = BAD_BODIES[kind]
        answer = self.ask(
            f"bad push: {kind}", "/api/v1/feeds" if kind.startswith("zip") else "/api/v1/feeds/polls", body
        )
        assert answer.status in (*statuses, 503), (kind, answer)

    def ask_for_report(self) -> None:
        """Trigger a report, wait for it, and read it in every form; the last twenty are kept."""
        asked = REPORTS[len(self._reports) % len(REPORTS)]
        answer = self.expect("trigger", "/trigger_report", json.dumps(asked).encode())
        if answer.status != 202:
            return
        report = json.loads(answer.body)["report_id"]
        path = f"/get_report?report_id={report}"
        while not self._over.is_set():
            if self.expect("get_report", f"{path}&wait=5").status == 200:
                break
            time.sleep(0.2)
        else:
            return
        assert len(json.loads(self.expect("report JSON", f"{path}&format=json").body)) > 0
        self.expect("report workbook", f"{path}&format=xlsx")
        self._reports.append(report)
        if len(self._reports) > 20:
            self.ask("delete", f"/api/v1/reports/{self._reports[-20]}", method="DELETE")

    def compare_reports(self) -> None:
        """Ask what changed between the last report and the one before it that was asked for alike."""
        reports = self._reports[-len(REPORTS) - 1 :]
        if len(reports) > len(REPORTS):
            self.expect("diff", f"/api/v1/reports/{reports[-1]}/diff?against={reports[0]}&limit=100")

    def read_lists(self) -> None:
        """Ask for lists and what machines read."""
        for path in ("/api/v1/stores?limit=1000", "/api/v1/reports?limit=5", "/api/v1/loads?limit=50", "/metrics"):
            self.expect(path.partition("?")[0], path)
        self.expect("latest report", "/api/v1/reports/latest.csv?max_age=30")

    def read_pages(self) -> None:
        """Look at every page."""
        for path in ("/", "/stores/s1", "/reports", "/data"):
            self.expect(f"page {path}", path, accept="text/html")

    def read_timelines(self) -> None:
        """Ask for the timeline of one store after the other."""
        store = self.done["timeline"] % STORES
        self.expect("timeline", f"/api/v1/stores/s{store}/timeline?from=2024-10-13&to=2024-10-15")
        self.expect("openapi", "/openapi.json")

    def read_rejects(self) -> None:
        """Read all rejected rows in one go."""
        form = ("json", "csv")[self.done["rejects"] % 2]
        answer = self.expect("rejects", f"{self._rejects}{form}")
        assert answer.status == 503 or answer.body.count(b"xxxxx,") == REJECTS

    def read_rejects_slowly(self) -> None:
        """Ask for rejected rows and take a little at a time, or nothing; the server closes the connection of who takes
        nothing.
        """
        stalls = self.done["slow readers"] % 2 == 0
        self.done["slow readers"] += 1
        with contextlib.closing(socket.socket()) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(PATIENCE_S)
            line.connect((self._address.hostname, self._address.port))
            line.sendall(f"GET {self._rejects}csv HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if stalls:
                self._over.wait(2 * CONNECTION_TIMEOUT_S)
                return
            for _ in range(50):
                if not line.recv(1000) or self._over.wait(0.2):
                    return

    def send_slowly(self) -> None:
        """Send a body a little at a time and leave before its end."""
        self.done["slow senders"] += 1
        with contextlib.closing(
            socket.create_connection((self._address.hostname, self._address.port), PATIENCE_S)
        ) as line:
            line.sendall(
                b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
                + HEADER.encode()
            )
            for row in range(30):
                line.sendall(f"s{row},{FIRST_S},active\n".encode())
                if self._over.wait(0.2):
                    return

    def watch(self) -> None:
        """Note what the server holds."""
        self.samples.append(hold(self.server, self._wal, self._temporary))
        time.sleep(0.3)

    def time_machine(self) -> None:
        """Note how many times as long as beside a soak on an ordinary machine another process takes to count."""
        done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
        self.slowness.append(max(1.0, float(done.stdout) / COUNT_S))

    def check_health(self) -> None:
        """Ask for /healthz and note how long its answer took."""
        asked = time.monotonic()
        assert self.ask("health", "/healthz").status == 200
        self.health_s.append(time.monotonic() - asked)

    def run(self) -> None:
        """Do everything at once until the end; fails with the first answer that is not as it should be."""
        self.prepare()
        self._began = time.monotonic()
        steps: list[tuple[Callable[[], None], float]] = [
            (self.push_good, 0.5), (self.push_good, 0.5), (self.push_bad, 0.5), (self.ask_for_report, 0.5),
            (self.compare_reports, 1), (self.read_lists, 0.5), (self.read_pages, 1), (self.read_timelines, 0.5),
            (self.read_rejects, 1), (self.watch, 0), (self.check_health, 0.2), (self.send_slowly, 0.5),
            (self.time_machine, 4),
            *[(self.read_rejects_slowly, 0.5)] * SLOW_READERS,
        ]  # fmt: skip
        threads = [threading.Thread(target=self._repeat, args=step) for step in steps]
        for thread in threads:
            thread.start()
        self._over.wait(SOAK_S)
        # What a slow machine comes to at last would count as growth, were there no more of it before.
        end = time.monotonic() + 9 * SOAK_S
        while self.done_often() <= SOAK_S / 4 and time.monotonic() < end and not self._over.wait(1):
            pass
        self._over.set()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def done_often(self) -> int:
        """How often everything that is done often was done."""
        return min(self.done[kind] for kind in ("push", "trigger", "rejects", "timeline", "/api/v1/stores"))

    def _repeat(self, step: Callable[[], None], pause_s: float) -> None:
        try:
            while not self._over.wait(pause_s):
                step()
        except BaseException as error:
            self._errors.append(error)
            self._over.set()


def hold(server: Server, wal: Path, temporary: Path) -> Sample:
    """Return what the server holds now; `temporary` is its folder for temporary files, which are gone from it while
    they are open.
    """
    process = Path(f"/proc/{server.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    count, unsent_bytes = 0, 0
    for file in (process / "fd").iterdir():
        # Each may be closed while it is looked at.
        with contextlib.suppress(FileNotFoundError):
            count += 1
            if file.readlink().is_relative_to(temporary):
                unsent_bytes += file.stat().st_size
    with contextlib.suppress(FileNotFoundError):
        unsent_bytes += sum(file.stat().st_size for file in temporary.iterdir())
    return Sample(
        int(status["VmRSS"].split()[0]) / 1024,
        count,
        int(status["Threads"]),
        wal.stat().st_size / 1e6 if wal.exists() else 0.0,
        unsent_bytes / 1e6,
    )


def test_what_a_server_holds_stays_flat_under_mixed_load(
    serve: Callable[..., Server], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    server = serve(
        PATIENT_SERVER,
        TMPDIR=str(temporary),
        # As deploy/ sets it.
        MALLOC_ARENA_MAX="2",
        STOREMON_MAX_BODY_MB="20",
        STOREMON_CONNECTION_TIMEOUT_SECONDS=str(CONNECTION_TIMEOUT_S),
    )
    wal = settings.database.with_name(f"{settings.database.name}-wal")
    soak = Soak(server, wal, temporary)
    soak.run()

    quarters = np.array_split(np.array(soak.samples), 4)
    early, late = (Sample(*np.median(quarters[number], axis=0).round(1).tolist()) for number in (1, 3))
    most = Sample(*np.array(soak.samples).max(axis=0).round(1).tolist())
    # What is there for a moment comes and goes; what is left behind stays.
    least_early, least_late = (Sample(*quarters[number].min(axis=0).tolist()) for number in (1, 3))
    health_s = np.percentile(soak.health_s, [50, 95, 100])
    slowness = float(np.median(soak.slowness))
    refused = Counter(kind for _, kind in soak.refused)
    tenths = " ".join(f"{part.mean():.0f}" for part in np.array_split([one.memory_mb for one in soak.samples], 10))
    with capsys.disabled():
        print(
            f"\nsoak of {SOAK_S:.0f} s: {dict(sorted(soak.done.items()))}\nrefused: {dict(refused)}\n"
            f"second quarter {early}\nlast quarter   {late}\nmost           {most}\n"
            f"memory by tenths of the time: {tenths} MB\n"
            f"/healthz median, p95, most: {' '.join(f'{value * 1000:.0f}' for value in health_s)} ms "
            f"on a machine {slowness:.1f} times as slow as an ordinary one\n"
            f"least open files {least_early.open_files:.0f}, {least_late.open_files:.0f}; "
            f"least threads {least_early.threads:.0f}, {least_late.threads:.0f}"
        )

    wait_until(
        lambda: hold(server, wal, temporary).temporary_mb == 0, "the end of every temporary file", 4 * PATIENCE_S
    )
    assert late.memory_mb < early.memory_mb + MOST_GROWTH_MB
    assert least_late.open_files <= least_early.open_files + 10
    assert least_late.threads <= least_early.threads + 1
    assert late.temporary_mb < early.temporary_mb + 2 * SLOW_READERS
    assert most.wal_mb < MOST_WAL_MB
    assert most.temporary_mb < MOST_TEMPORARY_MB
    assert health_s[1] < 0.5 * slowness
    assert refused == {}
    assert soak.done_often() > SOAK_S / 10
    assert min(soak.done[f"bad push: {kind}"] for kind in BAD_BODIES) > 0
    assert "Traceback" not in server.log.read_text()
    assert sql(settings.database, "SELECT count(*) FROM report WHERE state = 'failed'") == [(0,)]
    # Nothing of what was acknowledged is gone, and nothing was stored twice.
    polls = sql(settings.database, "SELECT sum(length(polls)) / 8 FROM poll_week")[0][0]
    assert polls == BATCHES * BATCH_STORES
    assert server.end() == 0
