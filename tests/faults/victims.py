"""What is killed by the hundred: each victim does one kind of work in a home of its own and keeps its ledger."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import accounting
from accounting import Ledger, Shape
from forks import Forked, ForkServer
from kill_helpers import being_written, kill

# So long at most a kill that is aimed waits for a write; on a fast machine one comes within a tenth of a second.
AIM_S = 20.0
CLIENTS = 3


@dataclass
class Ground:
    """The home a victim works in, what it was sent, and what the kills fell into."""

    forks: ForkServer
    home: Path
    chance: random.Random
    ledger: Ledger
    seen: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0
    known: bytes = b""

    @property
    def database(self) -> Path:
        return self.home / "instance" / "storemon.db"

    def looks(self) -> Callable[[], set[str]]:
        """A look at what a frozen process is in the middle of: a transaction, or a file not yet in its place."""

        def unfinished() -> set[Path]:
            return {path for path in self.home.rglob("*") if path.name.endswith((".tmp", ".part", ".new"))}

        old = unfinished()

        def look() -> set[str]:
            found = {"inside a transaction"} if being_written(self.database) else set()
            return found | ({"inside a file"} if unfinished() - old else set())

        return look

    def loaded(self, batches: int) -> None:
        """That many batches, loaded by the command and so acknowledged."""
        for _ in range(batches):
            batch, file = self.feed()
            assert self.forks.run(self.home, "load-data", str(file)).returncode == 0
            self.ledger.acknowledged.add(batch)

    def feed(self) -> tuple[int, Path]:
        """A batch never sent before, as a file."""
        batch = self.ledger.next()
        folder = self.home / "feeds"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"batch{batch}.csv"
        file.write_text(accounting.csv(self.ledger.shape, batch))
        return batch, file

    def command(self, turn: int, *arguments: str) -> Forked:
        """The command, killed at a random moment, every other time as soon as it is inside a write."""
        aimed = turn % 2 == 1
        if not self.duration_s:
            self.duration_s = 0.3
        looks = self.looks()
        process = self.forks.start(self.home, *arguments)
        time.sleep(self.chance.uniform(0.0, 0.5 if aimed else 1.0) * self.duration_s)
        kill(process, looks, self.seen, AIM_S if aimed else 0.0)
        # Random moments should spread over the work itself, however fast the machine is now.
        self.duration_s *= 0.85 if process.returncode == 0 else 1.03
        return process


@dataclass(frozen=True)
class Victim:
    """One kind of work: how it is set up, what a turn does, and what must hold after each kill besides the ledger."""

    name: str
    command: str
    kills: int
    shape: Shape
    set_up: Callable[[Ground], None]
    turn: Callable[[Ground, int], None]
    after: Callable[[Ground], None] = lambda ground: None
    # A new home after so many turns.
    turns_a_home: int = 20


def nothing(ground: Ground) -> None:
    """The database itself is made under the kill."""


def load(ground: Ground, turn: int) -> None:
    """Three files of polls, each of which must be there whole or not at all."""
    fed = [ground.feed() for _ in range(3)]
    done = ground.command(turn, "load-data", *(str(file) for _, file in fed))
    if done.returncode == 0:
        ground.ledger.acknowledged.update(batch for batch, _ in fed)


def served(ground: Ground, turn: int, client: Callable[[http.client.HTTPConnection], None]) -> None:
    """A server with clients that do their work over and over until it is killed."""
    looks = ground.looks()
    process = ground.forks.start(ground.home, "serve", "--port", "0")
    if turn % 5 == 0:
        # While it starts: the lock, the recovery of what the last one left.
        time.sleep(ground.chance.uniform(0.0, 0.15))
        kill(process, looks, ground.seen)
        return
    place = urlsplit(process.url())

    def ask() -> None:
        # The answer is cut off when the server is killed: nothing was acknowledged then.
        with suppress(OSError, http.client.HTTPException):
            line = http.client.HTTPConnection(place.netloc, timeout=30)
            try:
                while True:
                    client(line)
            finally:
                line.close()

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(ground.chance.uniform(0.02, 0.4))
    kill(process, looks, ground.seen, AIM_S if turn % 2 else 0.0)
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def push(ground: Ground, turn: int) -> None:
    """Small batches pushed over HTTP; each one that was answered 200 is acknowledged."""
    guard = threading.Lock()

    def client(line: http.client.HTTPConnection) -> None:
        with guard:
            batch = ground.ledger.next()
        body = accounting.csv(ground.ledger.shape, batch)
        line.request("POST", "/api/v1/feeds/polls", body, {"Content-Type": "text/csv"})
        answer = line.getresponse()
        said = json.loads(answer.read())
        assert (answer.status, said["new"]) == (200, ground.ledger.shape.rows), said
        with guard:
            ground.ledger.acknowledged.add(batch)

    served(ground, turn, client)


def some_polls(ground: Ground) -> None:
    """Data for reports, and the report that all of them must be."""
    ground.loaded(2)
    ground.known = ground.forks.run(ground.home, "report").out.read_bytes()
    assert ground.known.count(b"\n") == 1 + ground.ledger.shape.stores


def trigger(ground: Ground, turn: int) -> None:
    """Reports triggered as fast as they are answered; each id of a 202 is a promise."""
    guard = threading.Lock()

    def client(line: http.client.HTTPConnection) -> None:
        line.request("POST", "/trigger_report")
        answer = line.getresponse()
        said = json.loads(answer.read())
        if answer.status == 503:
            assert answer.getheader("Retry-After"), said
            time.sleep(0.05)
            return
        assert answer.status == 202, said
        with guard:
            ground.ledger.reports.add(said["report_id"])
        # Not more than can be computed before the end.
        time.sleep(0.03)

    served(ground, turn, client)


def report_file(ground: Ground, turn: int) -> None:
    """`report -o` over an older file."""
    (ground.home / "out.csv").write_text("old\n")
    ground.command(turn, "report", "-o", "out.csv")


def whole_or_old(ground: Ground) -> None:
    """The file is the older one or the whole new one; what a killed command had begun stays beside it, under a dot."""
    assert (ground.home / "out.csv").read_bytes() in (b"old\n", ground.known)
    for file in ground.home.glob(".out.csv.*.tmp"):
        file.unlink()


def weeks_of_polls(ground: Ground) -> None:
    """Half a year of polls."""
    ground.loaded(4)


def prune(ground: Ground, turn: int) -> None:
    """What is older than a day that moves on by some days a turn."""
    first_us = accounting.FIRST_S * 1_000_000
    before_us = first_us + (1 + turn % 20) * 7 * 86_400 * 1_000_000
    ground.ledger.pruning_us = max(ground.ledger.pruning_us, before_us)
    day = time.strftime("%Y-%m-%d", time.gmtime(before_us // 1_000_000))
    done = ground.command(turn, "prune", "--before", day, "--yes")
    if done.returncode == 0:
        ground.ledger.pruned_us = before_us


def backup(ground: Ground, turn: int) -> None:
    """A backup over the one before."""
    ground.command(turn, "backup", "kept.db")


def backup_is_whole(ground: Ground) -> None:
    """There is no backup yet, or one that opens and holds all that the database held."""
    kept = ground.home / "kept.db"
    if kept.exists():
        with accounting.read(kept) as connection:
            accounting.account(connection, ground.ledger)
    ground.seen["backups whole"] += kept.exists()


VICTIMS = (
    Victim("load", "load-data", 60, Shape(100, 100), nothing, load),
    Victim("push", "serve", 60, Shape(20, 5), nothing, push),
    Victim("report", "serve", 60, Shape(400, 300), some_polls, trigger, turns_a_home=15),
    Victim("report in a file", "report", 40, Shape(400, 300), some_polls, report_file, whole_or_old),
    Victim("prune", "prune", 40, Shape(100, 350, 12), weeks_of_polls, prune),
    Victim("backup", "backup", 40, Shape(300, 300), weeks_of_polls, backup, backup_is_whole),
)
