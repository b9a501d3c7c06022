"""Databases that somebody changed: restore and check end in a sentence, and what restore takes is safe for everything
else.
"""

import io
import json
import logging
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from conftest import SMALL_FLEET

from storemon_flask import __main__, create_app
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import load

pytestmark = pytest.mark.slow

VALUES = [
    "odd", "", "[1", "{}", "[]", "[null]", '{"a":1}', "../../"
        "etc/passwd", "a" * 32, "1e999", b"", b"\xff\xfe", b"\xed\xa0\x80x",
    None, -1, 0, 1.5, 2**62, -(2**62),
]  # fmt: skip
COMMANDS = (
    ("check",), ("info",), ("loads",), ("rejects",), ("report",), ("stores",), ("store", "worked"), ("outages",),
    ("keys", "list"), ("prune", "--before", "2024-01-01", "--yes"), ("backup", "--force", "b.db"), ("load-data", "feeds"),
)  # fmt: skip
PAGES = (
    "/", "/stores/worked", "/reports", "/data", "/data/loads/1", "/metrics", "/readyz", "/api/v1/stores", "/api/v1/"
        "stores/worked",
    "/api/v1/stores/worked/timeline", "/api/v1/reports", "/api/v1/loads", "/api/v1/loads/1", "/api/v1/loads/1/rejects",
    "/api/v1/reports/latest.csv", "/get_report?report_id={id}", "/get_report?report_id={id}&"
        "format=json", "/reports/{id}",
)  # fmt: skip


class Home:
    """A home in the working directory, its database, and a good copy of it."""

    def __init__(self, folder: Path) -> None:
        feeds = folder / "feeds"
        feeds.mkdir()
        for name, text in SMALL_FLEET.items():
            (feeds / name).write_text(text)
        (feeds / "bad.csv").write_text("store_id,timestamp_utc,status\nx,noon,active\n")
        (feeds / "names.csv").write_text("store_id,name,group\nworked,W,North\n")
        (feeds / "special.csv").write_text("store_id,date,start_time_local,end_time_local\nworked,2024-10-14,,\n")
        assert self.run("load-data", "feeds")[0] == 0
        self.key = self.run("keys", "add", "--scope", "admin")[1].split()[0]
        self.good, self.spoilt = folder / "good.db", folder / "spoilt.db"
        self.database = folder / "instance" / "storemon.db"
        trigger = {"stores": ["worked", "silent"], "columns": "full"}
        self.ids = [self.asked("POST", "/trigger_report", body)[1]["report_id"] for body in ({}, trigger)]
        assert self.run("backup", str(self.good))[0] == 0

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and what a command printed; fails by whatever is no sentence."""
        sys.argv = ["storemon", *arguments]
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            __main__.main()
        out.flush()
        return int(left.value.code or 0), out.buffer.getvalue().decode(), err.getvalue()

    def asked(self, method: str, *paths: object) -> tuple[list[tuple[str, int]], dict[str, str]]:
        """The statuses of these addresses, and the last answer that is JSON; a dict is the body of the address before."""
        app = create_app(load(), InlineExecutor())
        client, statuses, last = app.test_client(), [], {}
        body = paths[1] if len(paths) > 1 and isinstance(paths[1], dict) else None
        for path in paths if body is None else paths[:1]:
            answer = client.open(
                path, method=method, json=body, headers={"Authorization": f"Bearer {self.key}"}, buffered=True
            )
            statuses.append((str(path), answer.status_code))
            last = json.loads(answer.data) if answer.is_json and answer.data.startswith(b"{") else last
        # What still computes a list would open the database again, while the test puts another in its place.
        app.extensions["storemon"].list_cache.stop()
        app.extensions["storemon"].database.close()
        return statuses, last

    def put(self, file: Path) -> None:
        """Make the home's database that file."""
        for old in self.database.parent.iterdir():
            old.unlink()
        shutil.copy(file, self.database)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("STOREMON_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    logging.disable(logging.CRITICAL)
    yield Home(tmp_path)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(4))
def test_a_value_that_somebody_wrote_is_refused_or_harmless(home: Home, seed: int) -> None:
    chance = random.Random(seed)
    with closing(sqlite3.connect(home.good)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        cells = [(t, row[1]) for (t,) in tables.fetchall() for row in connection.execute(f'PRAGMA table_info("{t}")')]
    outcomes = {"restored": 0, "refused": 0}
    while sum(outcomes.values()) < 50:
        (table, column), value = chance.choice(cells), chance.choice(VALUES)
        shutil.copy(home.good, home.spoilt)
        with closing(sqlite3.connect(home.spoilt)) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            how = "CAST(? AS TEXT)" if isinstance(value, bytes) and chance.random() < 0.5 else "?"
            try:
                connection.execute(f'UPDATE "{table}" SET "{column}" = {how}', [value])
            except sqlite3.Error:
                continue
        code, _, error = home.run("restore", "--yes", str(home.spoilt))
        if code:
            assert error.startswith("Error: ")
            outcomes["refused"] += 1
            home.put(home.spoilt)
            home.run("check")
            home.put(home.good)
            continue
        outcomes["restored"] += 1
        what = (table, column, value)
        statuses, _ = home.asked("GET", *(path.format(id=found) for found in home.ids for path in PAGES))
        assert [status for status in statuses if status[1] == 500] == [], what
        for arguments in COMMANDS:
            assert home.run(*arguments)[0] in (0, 1), what
    assert min(outcomes.values()) >= 5


def test_a_file_with_flipped_bytes_is_refused_or_whole(home: Home) -> None:
    chance = random.Random(1)
    good = home.good.read_bytes()
    for turn in range(120):
        data = bytearray(good)
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data) if turn % 2 else 200)] = chance.randrange(256)
        home.spoilt.write_bytes(data)
        began = time.monotonic()
        code, _, error = home.run("restore", "--yes", str(home.spoilt))
        assert time.monotonic() - began < 30
        assert code == 0 or error.startswith("Error: ")
        if not code:
            assert home.run("check")[0] in (0, 1)
