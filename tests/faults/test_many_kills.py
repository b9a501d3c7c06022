"""Hundreds of SIGKILLs at random moments of every kind of work: nothing that was acknowledged is lost, nothing is there
in part.
"""

import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import accounting
import pytest
from accounting import Ledger
from checking import check
from conftest import wait_until
from forks import ForkServer
from serving import forks as forks
from victims import VICTIMS, Ground, Victim

from storemon_flask.server import commands

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at locks and threads the way Linux shows them"),
]

SEED = 20_261_124
AT_LEAST = 300
TOTAL: Counter[str] = Counter()


def account(ground: Ground) -> Counter[str]:
    """States of the reports, once everything in the ledger has been found."""
    if not ground.database.exists():
        ground.seen["no database yet"] += 1
        assert not ground.ledger.acknowledged
        return Counter()
    with accounting.read(ground.database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "poll_week" not in tables:
            ground.seen["an empty database"] += 1
            assert not tables
            assert not ground.ledger.acknowledged
            return Counter()
        held = accounting.account(connection, ground.ledger)
        ground.seen["stored, not yet acknowledged"] += len(held - ground.ledger.acknowledged)
        if "_sqlite_migrations" in tables:
            return Counter(accounting.account_of_reports(connection, ground.ledger, ground.home / "reports").values())
    return Counter()


def finish(ground: Ground) -> None:
    """After the last kill a server runs until every report has ended and stops in good order; then the books are
    checked.
    """
    server = ground.forks.start(ground.home, "serve", "--port", "0")
    try:
        server.url()
        wait_until(lambda: not account(ground).keys() & {"pending", "running"}, "every report to end", 900)
    finally:
        with suppress(ProcessLookupError):
            server.send_signal(15)
    assert server.wait(120) == 0
    # Before the books are read: even a read-only connection leaves its files beside the database.
    assert accounting.left_over(ground.home) == []
    ended = account(ground)
    assert ended.keys() <= {"complete", "failed"}
    for state, count in ended.items():
        ground.seen[f"reports {state}"] += count
    if ground.known:
        with accounting.read(ground.database) as connection:
            sizes = connection.execute("SELECT DISTINCT byte_count FROM report WHERE state = 'complete'").fetchall()
            errors = connection.execute("SELECT DISTINCT error FROM report WHERE state = 'failed'").fetchall()
        assert {size for (size,) in sizes} <= {len(ground.known)}
        assert all("died" in error for (error,) in errors), errors
        for file in (ground.home / "reports").glob("report_*.csv"):
            assert file.read_bytes() == ground.known
    check(ground.home)
    TOTAL["rows acknowledged"] += ground.ledger.acknowledged_rows
    TOTAL["reports answered"] += len(ground.ledger.reports)


@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.name.replace(" ", "-"))
def test_whatever_is_killed_at_any_moment_keeps_what_it_acknowledged(
    victim: Victim, forks: ForkServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if victim.command not in {command.name for command in commands()}:
        pytest.skip(f"there is no command `storemon {victim.command}` yet: its {victim.kills} kills are left out")
    chance = random.Random(f"{SEED} {victim.name}")
    seen: Counter[str] = Counter()
    duration_s, began, ground = 0.0, time.monotonic(), None
    for turn in range(4 * victim.kills):
        # On a fast machine some that are aimed at end before they are hit.
        if seen["killed"] >= victim.kills and seen["inside a write"] >= victim.kills // 5:
            break
        if turn % victim.turns_a_home == 0:
            if ground is not None:
                finish(ground)
            ground = Ground(forks, tmp_path / f"home{turn}", chance, Ledger(victim.shape), seen, duration_s)
            ground.home.mkdir()
            victim.set_up(ground)
        assert ground is not None
        victim.turn(ground, turn)
        duration_s = ground.duration_s
        account(ground)
        victim.after(ground)
    assert ground is not None
    finish(ground)
    TOTAL.update({what: seen[what] for what in ("killed", "inside a write")})
    with capsys.disabled():
        print(f"\n{victim.name} (seed {SEED}, {time.monotonic() - began:.0f} s): {dict(seen)}")
    assert seen["killed"] >= victim.kills
    assert seen["inside a write"] >= victim.kills // 5


def test_the_kills_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Told last: what all victims together came to."""
    if TOTAL["killed"] < AT_LEAST and len(TOTAL) == 0:
        pytest.skip("the kills were not run")
    with capsys.disabled():
        print(f"\nall kills: {dict(TOTAL)}; nothing lost")
    known = {command.name for command in commands()}
    assert TOTAL["killed"] >= sum(victim.kills for victim in VICTIMS if victim.command in known)
