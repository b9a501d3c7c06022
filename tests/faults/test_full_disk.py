"""A disk that fills up under a server and under commands: sentences, nothing acknowledged lost, and all well when there
is room.
"""

import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import accounting
import pytest
from accounting import Ledger, Shape
from checking import check
from conftest import STOREMON, Answer, Server, environment, http, storemon, wait_until
from serving import serve_at as serve_at
from small_disks import fill, mounted

pytestmark = pytest.mark.slow

SEED = 7
DISK_MB = 24
ROUNDS = 25
SHAPE = Shape(50, 40)
# What failed is tried again after 1, 4, 16, 64 and 256 s, and the disk may be full each time.
RETRIES_S = 900


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of our own."""
    with mounted(tmp_path / "disk", DISK_MB) as place:
        yield place


def push(server: Server, ledger: Ledger) -> Answer:
    batch = ledger.next()
    body = accounting.csv(ledger.shape, batch).encode()
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", body, Content_Type="text/csv")
    if answer.status == 200:
        assert answer.json["new"] == ledger.shape.rows
        ledger.acknowledged.add(batch)
    return answer


def trigger(server: Server, ledger: Ledger) -> Answer:
    answer = http(f"{server.url}/trigger_report", "POST", b"")
    if answer.status == 202:
        ledger.reports.add(answer.json["report_id"])
    return answer


def refused_well(answer: Answer) -> bool:
    """Whether it was refused; fails when that was anything but a problem that says what is wrong."""
    if answer.status in (200, 202):
        return False
    assert answer.status == 503, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert any(word in answer.json["detail"] for word in ("full", "grow", "disk", "written")), answer.json
    return True


def settled(server: Server, ledger: Ledger, outcomes: Counter[str]) -> None:
    """Every report that was answered ends: complete, or failed with a sentence."""
    for report_id in sorted(ledger.reports):
        answer = server.wait_for(report_id, RETRIES_S)
        if answer.status == 409:
            assert "unexpected" not in answer.json["error"], answer.json
            outcomes["reports failed, with the reason"] += 1
        else:
            outcomes["reports complete"] += 1


def books(home: Path, ledger: Ledger) -> None:
    with accounting.read(home / "instance" / "storemon.db") as connection:
        accounting.account(connection, ledger)
        states = accounting.account_of_reports(connection, ledger, home / "reports")
    assert set(states.values()) <= {"complete", "failed"}


def test_a_disk_that_is_full_now_and_then_loses_nothing_that_was_acknowledged(
    disk: Path, serve_at: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    home = disk / "home"
    home.mkdir()
    ledger, outcomes = Ledger(SHAPE), Counter[str]()
    server = serve_at(home, STOREMON_MIN_FREE_MB="0")
    assert push(server, ledger).status == 200
    for _ in range(ROUNDS):
        ballast = fill(disk, chance.choice((0, chance.randrange(300_000))))
        for _ in range(4):
            outcomes["pushes refused"] += refused_well(push(server, ledger))
            outcomes["triggers refused"] += refused_well(trigger(server, ledger))
        assert server.get("/healthz").status == 200
        command = storemon(home, "report", "-o", str(home / "out.csv"))
        if command.returncode:
            assert "Error: " in command.stderr
            outcomes["commands refused"] += 1
        assert "Traceback" not in command.stderr
        ballast.unlink()
        # There is room again: no restart, no repair.
        assert push(server, ledger).status == 200
        assert trigger(server, ledger).status == 202
    settled(server, ledger, outcomes)
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    books(home, ledger)
    check(home)
    with capsys.disabled():
        print(f"\nfull disk (seed {SEED}): {len(ledger.acknowledged)} pushes kept; {dict(outcomes)}")
    assert outcomes["pushes refused"] > ROUNDS // 2
    assert outcomes["reports complete"] >= ROUNDS


def test_a_load_that_fills_the_disk_is_said_and_the_files_before_it_are_whole(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    home = disk / "home"
    home.mkdir()
    ledger = Ledger(Shape(100, 100))
    feeds = disk.parent / "feeds"
    feeds.mkdir()
    refused = 0
    for _ in range(12):
        batch = ledger.next()
        file = feeds / f"{batch}.csv"
        file.write_text(accounting.csv(ledger.shape, batch))
        ballast = fill(disk, chance.randrange(900_000))
        done = storemon(home, "load-data", str(file))
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert "Error: " in done.stderr or "Not loaded: " in done.stderr
            refused += 1
        else:
            ledger.acknowledged.add(batch)
        ballast.unlink()
        if (home / "instance" / "storemon.db").exists() and ledger.acknowledged:
            with accounting.read(home / "instance" / "storemon.db") as connection:
                accounting.account(connection, ledger)
    again = storemon(home, "load-data", str(feeds))
    assert again.returncode == 0, again.stderr
    ledger.acknowledged.update(ledger.sent)
    books(home, ledger)
    check(home)
    with capsys.disabled():
        print(f"\nloads on a full disk (seed {SEED}): {refused} of 12 refused")
    assert refused >= 3


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("fiu-run"), reason="needs fiu-run (package fiu-utils)")
def test_writes_that_fail_at_random_lose_nothing_that_was_acknowledged(
    tmp_path: Path, serve_at: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    pipes = tmp_path / "fiu"
    pipes.mkdir()
    ledger, outcomes = Ledger(SHAPE), Counter[str]()
    command = ["fiu-run", "-x", "-f", str(pipes / "ctrl"), *STOREMON, "serve", "--port", "0"]
    server = serve_at(home, command)
    pid = server.process.pid
    # fiu-run becomes the program (exec), so its control is named for that process.
    wait_until(lambda: list(pipes.iterdir()), "the control of fiu-run")
    assert push(server, ledger).status == 200

    def control(order: str) -> None:
        done = subprocess.run(
            ["fiu-ctrl", "-f", str(pipes / "ctrl"), "-c", order, str(pid)], capture_output=True, text=True, timeout=30, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    enospc = 28
    for _ in range(ROUNDS):
        for point in ("posix/io/rw/pwrite", "posix/io/sync/fsync"):
            control(f"enable_random name={point},probability=0.15,failinfo={enospc}")
        for _ in range(4):
            outcomes["pushes refused"] += refused_well(push(server, ledger))
            outcomes["triggers refused"] += refused_well(trigger(server, ledger))
        for point in ("posix/io/rw/pwrite", "posix/io/sync/fsync"):
            control(f"disable name={point}")
        assert push(server, ledger).status == 200
    settled(server, ledger, outcomes)
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    books(home, ledger)
    check(home)
    with capsys.disabled():
        print(f"\nwrites that fail at random: {len(ledger.acknowledged)} pushes kept; {dict(outcomes)}")
    assert outcomes["pushes refused"] >= ROUNDS // 5


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path, serve_at: Callable[..., Server]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ledger = Ledger(SHAPE)
    # In blocks of 1,024 bytes; a command refused by it ends by no signal: Python ignores SIGXFSZ.
    limited = ["bash", "-c", 'ulimit -f 3000; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"]
    server = serve_at(home, limited)
    refused = 0
    while refused < 5:
        assert len(ledger.sent) < 1000
        refused += refused_well(push(server, ledger))
    assert server.get("/healthz").status == 200
    assert server.end() == 0
    assert ledger.acknowledged
    assert "Traceback" not in server.log.read_text()
    books(home, ledger)
    after = subprocess.run([*STOREMON, "report"], env=environment(home), capture_output=True, check=False)
    assert after.returncode == 0
    check(home)


def test_a_workbook_is_made_though_the_disk_of_the_reports_is_full(disk: Path, serve_at: Callable[..., Server]) -> None:
    home = disk / "home"
    home.mkdir()
    ledger = Ledger(SHAPE)
    server = serve_at(home, STOREMON_MIN_FREE_MB="0")
    assert push(server, ledger).status == 200
    report_id = trigger(server, ledger).json["report_id"]
    assert server.wait_for(report_id).status == 200
    fill(disk, 0)
    answer = server.get(f"/get_report?report_id={report_id}&format=xlsx")
    assert (answer.status, answer.body[:2]) == (200, b"PK")
    assert [file.name for file in (home / "reports").iterdir()] == [f"report_{report_id}.csv"]
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
