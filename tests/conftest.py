"""A tiny fleet, an app that computes at once, and a real server in a home of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.reports.worker import InlineExecutor, Worker
from storemon_flask.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
STOREMON = [sys.executable, "-m", "storemon_flask"]
# Nothing in these tests takes longer than a few seconds; a shared machine may be slow.
PATIENCE_S = 30.0
# What some answers are asked for takes seconds on a fast machine, and minutes on one that is slow and busy.
ANSWER_PATIENCE_S = 4 * PATIENCE_S
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# The worked example of SPEC 3, an id that a spreadsheet would run, one that CSV must quote, and one never polled.
FORMULA_ID = "=cmd|x"
QUOTED_ID = 'NYC/12, "east"'
STORE_IDS = (FORMULA_ID, QUOTED_ID, "silent", "worked")
NEWEST = "2024-10-14T12:00:00.000000Z"
SMALL_FLEET = {
    "polls.csv": f"""store_id,timestamp_utc,status
worked,2024-10-14 10:14:00 UTC,active
worked,2024-10-14 11:15:00 UTC,inactive
{FORMULA_ID},2024-10-14 11:30:00 UTC,active
{FORMULA_ID},2024-10-14 12:00:00 UTC,active
""",
    "hours.csv": """store_id,day,start_time_local,end_time_local
worked,0,09:00,12:00
"NYC/12, ""east""\",0,09:00,17:00
""",
    "zones.csv": """store_id,timezone_str
worked,UTC
"NYC/12, ""east""\",America/New_York
silent,Asia/Tokyo
""",
}
SMALL_CSV = f"""store_id,uptime_last_hour,uptime_last_day,uptime_last_week,downtime_last_hour,downtime_last_day,downtime_last_week
'{FORMULA_ID},60.00,24.00,24.50,0.00,0.00,0.00
"NYC/12, ""east""\",0.00,0.00,0.00,0.00,0.00,0.00
silent,0.00,0.00,0.00,0.00,0.00,0.00
worked,0.00,1.74,1.74,60.00,1.26,1.26
"""
NO_POLLS = "no polls loaded; run `storemon load-data`"


_DATABASES: WeakSet[Database] = WeakSet()
# Kept until they are closed: one that is collected before would be warned of.
_NEW_DATABASES: list[Database] = []
_make_database = Database.__init__


def _make_known_database(self: Database, path: Path) -> None:
    _make_database(self, path)
    _DATABASES.add(self)
    _NEW_DATABASES.append(self)


Database.__init__ = _make_known_database  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Close what a test left open: Python 3.13 warns of a connection that is collected, in whichever test that happens.

    A database that outlives the test opens new connections at its next use.
    """
    try:
        yield
    finally:
        for database in list(_DATABASES):
            database.close()
        _NEW_DATABASES.clear()


def pytest_xdist_auto_num_workers() -> int:
    """Some more than there are processors: many tests wait for a server, a command or a page."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_.load({"STOREMON_HOME": str(tmp_path / "home")})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    made = Database(settings.database)
    yield made
    made.close()


@pytest.fixture
def small_fleet(database: Database, tmp_path: Path) -> Path:
    """The tiny fleet, loaded; the folder of its files."""
    folder = tmp_path / "feeds"
    folder.mkdir()
    for name, text in SMALL_FLEET.items():
        (folder / name).write_text(text)
    load_folder(database, folder)
    return folder


def load_folder(database: Database, folder: Path) -> None:
    found = sources.find_sources([folder])
    result = load.load_sources(database, found, load.LoadOptions(time.time_ns() // 1000, 300_000_000))
    assert (result.failed, result.rejected) == (False, 0)


class CompiledTemplates(BytecodeCache):
    """Templates compiled once a process: hundreds of apps would each compile theirs."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = CompiledTemplates()


class WholeAnswers(FlaskClient):
    """A client that reads every answer to its end, so that no file is left open."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=buffered, **kwargs)


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """An app whose reports are computed before `POST /trigger_report` answers."""
    made = create_app(settings, InlineExecutor())
    made.test_client_class = WholeAnswers
    made.jinja_env.bytecode_cache = COMPILED
    yield made
    # A list of stores that is being computed would open a connection again.
    made.extensions["storemon"].overview_cache.stop()
    made.extensions["storemon"].list_cache.stop()
    made.extensions["storemon"].database.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> Worker:
    found: Worker = app.extensions["storemon"].worker
    return found


def sql(file: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a second program reads or writes in the database."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def wait_until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `holds` answers as soon as that is true; fails when it never is."""
    end = time.monotonic() + patience_s
    while True:
        # Looked at once more after the end: on a busy machine this process may have stood still until then.
        is_last = time.monotonic() >= end
        found = holds()
        if found:
            return found
        assert not is_last, f"waited {patience_s:.0f} s in vain for {what}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, also when it is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def http(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_PATIENCE_S) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The caller's environment without its storemon settings, and those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
    return {**kept, "STOREMON_HOME": str(home), "PYTHONUNBUFFERED": "1", **variables}


def storemon(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [*STOREMON, *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=home if home.is_dir() else None,
    )


class Server:
    """A `storemon serve` process: started, asked, and ended by a signal."""

    def __init__(self, home: Path, command: list[str] | None = None, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.log = home / "server.log"
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            command or [*STOREMON, "serve", "--port", "0"],
            env=environment(home, **variables),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # A group of its own, so that a test can see whether anything of it is left.
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        if "http://" not in self.first_line:
            self.end()
            raise AssertionError(f"the server did not start: {self.log.read_text()}")
        self.url = next(word for word in self.first_line.split() if word.startswith("http://"))

    def get(self, path: str, **headers: str) -> Answer:
        return http(self.url + path, **headers)

    def trigger(self, body: bytes = b"") -> str:
        """The id of a report the server has promised."""
        answer = http(self.url + "/trigger_report", "POST", body)
        assert answer.status == 202, answer.body
        found: str = answer.json["report_id"]
        return found

    def wait_for(self, report_id: str, patience_s: float = PATIENCE_S) -> Answer:
        """The answer for that report once it is complete or failed."""

        def ended() -> Answer | None:
            answer = self.get(f"/get_report?report_id={report_id}")
            running = answer.headers["Content-Type"] == "application/json" and answer.json["status"] == "Running"
            return None if running else answer

        found: Answer = wait_until(ended, f"report {report_id}", patience_s)
        return found

    def end(self, signum: int = signal.SIGTERM, patience_s: float = PATIENCE_S) -> int:
        """The exit code after that signal; fails when the server does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(patience_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self._log.close()


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[..., Server]]:
    """Starts servers in the home of the settings; all are ended after the test."""
    started: list[Server] = []

    def start(command: list[str] | None = None, **variables: str) -> Server:
        started.append(Server(settings.home, command, **variables))
        return started[-1]

    yield start
    for server in started:
        server.end(signal.SIGKILL)


@pytest.fixture
def server(serve: Callable[..., Server], small_fleet: Path, database: Database) -> Server:
    """A real server over the tiny fleet."""
    database.close()
    return serve()


@pytest.fixture(scope="session")
def single_file() -> Path:
    """`dist/storemon`, built from these sources."""
    done = subprocess.run(["make", "binary"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "dist" / "storemon"


def is_closed(line: socket.socket) -> bool:
    """Whether the other side has closed it; what it sent before is read."""
    line.settimeout(0.01)
    try:
        while line.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
