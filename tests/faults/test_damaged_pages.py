"""Every page of a small database zeroed in turn: what is read is right, or it is said that the database is damaged."""

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import accounting
import pytest
from accounting import Ledger, Shape
from conftest import Server, http, storemon
from forks import ForkServer
from serving import forks as forks

from storemon_flask.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its commands")]

# Weeks of 1,000 polls are longer than a page lets a row be: they have overflow pages of their own.
SHAPE = Shape(12, 150)
BATCHES = 12
PAGE = 16_384


@pytest.fixture(scope="module")
def sound_home(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sound")
    ledger = Ledger(SHAPE)
    for _ in range(BATCHES):
        file = home / "feed.csv"
        file.write_text(accounting.csv(SHAPE, ledger.next()))
        assert forks.run(home, "load-data", str(file)).returncode == 0
        file.unlink()
    return home


def pages_of(database: Path, table: str) -> list[tuple[int, str]]:
    """(page number, kind) of every page of a table below its root; needs SQLite's `dbstat`."""
    with closing(sqlite3.connect(database)) as connection:
        try:
            rows = connection.execute("SELECT pageno, pagetype FROM dbstat WHERE name = ?", [table]).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite was built without dbstat")
    return sorted(rows)


def zero(database: Path, page: int) -> None:
    with database.open("r+b") as stream:
        stream.seek((page - 1) * PAGE)
        stream.write(bytes(PAGE))


def test_whatever_page_is_zeroed_no_wrong_number_is_told(
    sound_home: Path, forks: ForkServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sound_home / "instance" / "storemon.db"
    commands = (("report", "--columns", "full"), ("store", "s7"), ("stores",), ("info",))
    known = {}
    for command in commands:
        known[command] = forks.run(sound_home, *command).out.read_bytes()
    count = whole.stat().st_size // PAGE
    assert {"leaf", "overflow"} <= {kind for _, kind in pages_of(whole, "poll_week")}
    outcomes: Counter[str] = Counter()
    for page in range(1, count + 1):
        home = tmp_path / "damaged"
        (home / "instance").mkdir(parents=True)
        database = home / "instance" / "storemon.db"
        shutil.copyfile(whole, database)
        zero(database, page)
        for command in commands:
            done = forks.run(home, *command)
            out, err = done.out.read_bytes(), done.err.read_text()
            done.err.unlink()
            assert "Traceback" not in err, (page, command, err)
            if done.returncode == 0:
                if command[0] != "info":
                    assert out == known[command], (page, command)
                outcomes["right"] += 1
            else:
                assert done.returncode == 1, (page, command, err)
                assert "storemon.db is" in err, (page, command, err)
                outcomes["said"] += 1
        shutil.rmtree(home)
    with capsys.disabled():
        print(f"\n{count} pages zeroed in turn, {len(commands)} commands each: {dict(outcomes)}")
    # Pages of what is kept for undoing loads are read by none of these commands.
    assert outcomes["said"] > 3 * count // 4


@pytest.mark.parametrize("kind", ["leaf", "overflow"])
def test_a_server_over_a_zeroed_page_says_so_and_serves_no_number_from_it(
    kind: str, sound_home: Path, serve: Callable[..., Server], settings: Settings
) -> None:
    settings.database.parent.mkdir(parents=True)
    shutil.copyfile(sound_home / "instance" / "storemon.db", settings.database)
    page = next(page for page, found in pages_of(settings.database, "poll_week") if found == kind)
    zero(settings.database, page)
    said = f"{settings.database} is damaged; restore it from a backup"
    server = serve()
    report = server.wait_for(server.trigger())
    assert (report.status, said in report.json["error"]) == (409, True)
    # Which store the page is of is not known; one of them at least cannot be shown, and none is shown wrongly.
    refused = 0
    for store in range(SHAPE.stores):
        answer = server.get(f"/api/v1/stores/s{store}/timeline")
        if answer.status != 200:
            assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
            assert said in answer.json["detail"]
            refused += 1
    assert refused > 0
    body = accounting.csv(SHAPE, BATCHES).encode()
    pushed = http(f"{server.url}/api/v1/feeds/polls", "POST", body, Content_Type="text/csv")
    assert (pushed.status, said in pushed.json["detail"]) == (503, True)
    assert server.get("/healthz").status == 200
    assert server.end() == 0
    checked = storemon(settings.home, "check")
    assert checked.returncode == 1
    assert "Traceback" not in checked.stderr
