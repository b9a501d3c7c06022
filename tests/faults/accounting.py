"""An independent account of what a database must hold: read with plain sqlite3 and numpy, past all of storemon's own
code.

Polls are sent in batches. Batch `b` has one poll of each of its stores at each of its hours, `b` seconds past the hour,
so that every poll tells which batch it is of while all batches share stores and packed weeks.
"""

import hashlib
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FIRST_S = 1_714_521_600  # 2024-05-01
HOUR_S = 3600
WEEK_US = 7 * 24 * HOUR_S * 1_000_000
HEADER = "store_id,timestamp_utc,status\n"


@dataclass(frozen=True)
class Shape:
    """How large each batch is: stores, polls a store, hours between two of them."""

    stores: int
    polls: int
    every_h: int = 1

    @property
    def rows(self) -> int:
        return self.stores * self.polls

    def instants_s(self, batch: int) -> np.ndarray:
        """Unix seconds of the polls of each store of that batch."""
        return FIRST_S + HOUR_S * self.every_h * np.arange(self.polls) + batch


def active(batch: np.ndarray | int, store: np.ndarray, instant_s: np.ndarray) -> np.ndarray:
    """The word of each poll, as a truth that can be asked again."""
    hours: np.ndarray = instant_s // HOUR_S
    return (batch * 5 + store * 7 + hours * 3) % 11 < 6


def csv(shape: Shape, batch: int) -> str:
    """That batch as a feed."""
    seconds = shape.instants_s(batch)
    times = [time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) for at in seconds.tolist()]
    parts = [HEADER]
    for store in range(shape.stores):
        words = active(batch, np.array(store), seconds).tolist()
        parts += [f"s{store},{at},{'active' if up else 'inactive'}\n" for at, up in zip(times, words, strict=True)]
    return "".join(parts)


@dataclass
class Ledger:
    """What was sent and what of it was acknowledged; `pruning_us` and `pruned_us`: where polls may, and must, be gone."""

    shape: Shape
    sent: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    reports: set[str] = field(default_factory=set)
    pruning_us: int = 0
    pruned_us: int = 0

    @property
    def acknowledged_rows(self) -> int:
        return len(self.acknowledged) * self.shape.rows

    def next(self) -> int:
        """The number of a batch not sent before."""
        batch = len(self.sent)
        assert batch < HOUR_S
        self.sent.add(batch)
        return batch


def sound(connection: sqlite3.Connection) -> None:
    """Fails when SQLite finds anything wrong with the file, or a row points at nothing."""
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def polls(connection: sqlite3.Connection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store (the number in its id), instant in microseconds and word of every poll; fails for a week that is not in
    order.
    """
    # Before the last step of the schema the table had the name that a view has now.
    (table,) = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('store', 'store_record')"
    ).fetchone()
    rows = connection.execute(
        "SELECT week, CAST(substr(store_id, 2) AS INTEGER), polls, first_poll_us, last_poll_us "
        f"FROM poll_week JOIN {table} ON number = store ORDER BY store, week"
    ).fetchall()
    stores, instants, words = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    for week, store, blob, first_us, last_us in rows:
        assert blob
        assert len(blob) % 8 == 0
        packed = np.frombuffer(blob, dtype=">i8").astype(np.int64)
        instant = packed >> 1
        assert (np.diff(instant) > 0).all(), "a week out of order"
        assert (instant // WEEK_US == week).all(), "a poll in another's week"
        assert last_us >= instant[-1]
        assert first_us <= instant[0]
        stores.append(np.full(len(packed), store))
        instants.append(instant)
        words.append((packed & 1).astype(bool))
    return np.concatenate(stores), np.concatenate(instants), np.concatenate(words)


def account(connection: sqlite3.Connection, ledger: Ledger) -> set[int]:
    """The batches held; fails for one that was acknowledged and is not there, one that is there in part, or one nobody
    sent.
    """
    sound(connection)
    store, instant_us, word = polls(connection)
    assert (instant_us % 1_000_000 == 0).all()
    seconds = instant_us // 1_000_000
    batch = seconds % HOUR_S
    assert (word == active(batch, store, seconds)).all(), "a poll says what it was not sent with"
    held, counts = np.unique(batch[instant_us >= ledger.pruning_us], return_counts=True)
    found = dict(zip(held.tolist(), counts.tolist(), strict=True))
    unsent = found.keys() - ledger.sent
    assert not unsent, f"batches nobody sent: {unsent}"
    for number, count in found.items():
        late = int((ledger.shape.instants_s(number) * 1_000_000 >= ledger.pruning_us).sum())
        assert count == late * ledger.shape.stores, f"batch {number} is there in part: {count} rows"
    lost = ledger.acknowledged - found.keys()
    assert not lost, f"acknowledged and lost: {lost}"
    assert not (instant_us < ledger.pruned_us).any(), "what was said to be pruned is there"
    return set(found)


def account_of_reports(connection: sqlite3.Connection, ledger: Ledger, folder: Path) -> dict[str, str]:
    """State by id; fails when an id that was answered is unknown, or a complete report has not just the file that it
    says.
    """
    rows = connection.execute("SELECT id, state, sha256 FROM report").fetchall()
    states = {report_id: state for report_id, state, *_ in rows}
    lost = ledger.reports - states.keys()
    assert not lost, f"answered and lost: {lost}"
    for report_id, state, sha256 in rows:
        if state == "complete":
            found = hashlib.sha256((folder / f"report_{report_id}.csv").read_bytes()).hexdigest()
            assert found == sha256, f"the file of report {report_id} is not the one that was made"
    return states


def read(database: Path) -> "closing[sqlite3.Connection]":
    """A connection of our own that leaves the log where a killed process left it, for the next start to find."""
    return closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=60))


def left_over(home: Path) -> list[str]:
    """Files in the home that nobody ought to have left once everything has ended in good order."""
    expected = {"storemon.db", "storemon.db.server-lock"}
    beside = [path.name for path in (home / "instance").iterdir()]
    odd = [name for name in beside if name not in expected]
    reports = home / "reports"
    odd += [path.name for path in reports.iterdir() if not path.name.startswith("report_")] if reports.exists() else []
    return sorted(odd)
