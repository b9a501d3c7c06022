"""Old polls and old loads taken out, a stretch of stores at a time: each call is short, and leaves everything true."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from storemon_flask.database import polls as polls_storage
from storemon_flask.database import stores
from storemon_flask.database.connections import BUSY_TIMEOUT_S, explained_errors
from storemon_flask.model import WEEK_US

_PACKED: Final = np.dtype(">i8")


@dataclass(slots=True)
class Pruned:
    """What was (or would be) taken out: polls and their bytes, rejected rows, loads."""

    polls: int = 0
    bytes: int = 0
    rejects: int = 0
    loads: int = 0

    def __iadd__(self, other: "Pruned") -> "Pruned":
        self.polls += other.polls
        self.bytes += other.bytes
        self.rejects += other.rejects
        self.loads += other.loads
        return self


def begin(connection: sqlite3.Connection, before_us: int) -> None:
    """Let nothing be known of the time before that instant, from now on; an earlier prune's later instant stays.

    Done before the first poll is taken out: a part of a store's polls must never count as all of them.
    """
    complete_from_us = stores.complete_from(connection)
    if complete_from_us is None or complete_from_us < before_us:
        connection.execute("UPDATE data_version SET complete_from_us = ?", [before_us])
        stores.data_changed(connection)


def count(connection: sqlite3.Connection, before_us: int) -> Pruned:
    """What there is from before that instant."""
    week = before_us // WEEK_US
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(polls)), 0) FROM poll_week WHERE week < ?", [week]
    ).fetchone()
    for (blob,) in connection.execute("SELECT polls FROM poll_week WHERE week = ?", [week]):
        size += _PACKED.itemsize * _older(blob, before_us)
    rejects, loads = connection.execute(
        "SELECT (SELECT count(*) FROM reject JOIN load_file ON load_file.id = load_file JOIN load ON load.id = load "
        "WHERE started_us < :before_us), (SELECT count(*) FROM load WHERE started_us < :before_us)",
        {"before_us": before_us},
    ).fetchone()
    return Pruned(size // _PACKED.itemsize, size, rejects, loads)


def polls(connection: sqlite3.Connection, before_us: int, after_store: int, weeks: int) -> tuple[Pruned, int | None]:
    """Take out the old polls of the stores that come next after `after_store`, looking at about `weeks` of their weeks.

    Returns what was taken out and the last store's number; None when no store is left that has such polls.
    """
    pruned, last_week = Pruned(), before_us // WEEK_US
    looked, last_store = 0, None
    chosen = connection.execute(
        "SELECT number, first_poll_us, last_poll_us FROM store_record WHERE number > ? AND first_poll_us < ? ORDER BY number LIMIT ?",
        (after_store, before_us, weeks),
    ).fetchall()
    for number, first_us, last_us in chosen:
        for week in range(first_us // WEEK_US, min(last_week, last_us // WEEK_US) + 1):
            pruned.polls += _prune_week(connection, week, number, before_us)
        first = _first_poll(connection, number, before_us, last_us) if last_us >= before_us else None
        connection.execute(
            "UPDATE store_record SET first_poll_us = ?, last_poll_us = ? WHERE number = ?",
            (first, None if first is None else last_us, number),
        )
        last_store = number
        looked += ((last_us if first is None else first) - first_us) // WEEK_US + 1
        if looked >= weeks:
            break
    if pruned.polls:
        stores.data_changed(connection)
    pruned.bytes = pruned.polls * _PACKED.itemsize
    return pruned, last_store


def count_future(connection: sqlite3.Connection, latest_us: int) -> tuple[Pruned, int]:
    """What there is of polls after that instant, and of how many stores."""
    week, size = latest_us // WEEK_US, 0
    of_week = "SELECT polls FROM store_record JOIN poll_week ON week = ? AND store = number WHERE last_poll_us > ?"
    for (blob,) in connection.execute(of_week, (week, latest_us)):
        size += len(blob) - _PACKED.itemsize * _older(blob, latest_us + 1)
    (later,) = connection.execute(
        "SELECT coalesce(sum(length(polls)), 0) FROM poll_week WHERE week > ?", [week]
    ).fetchone()
    size += later
    return Pruned(size // _PACKED.itemsize, size), stores.polled_after(connection, latest_us).count


def future_polls(
    connection: sqlite3.Connection, latest_us: int, after_store: int, weeks: int
) -> tuple[Pruned, int | None]:
    """Take out the polls after `latest_us` of the stores that come next after `after_store`, looking at about `weeks`
    of their weeks.

    Returns what was taken out and the last store's number; None when no store is left that has such polls.
    """
    pruned, looked, last_store = Pruned(), 0, None
    there = _weeks_from(connection, latest_us // WEEK_US)
    chosen = connection.execute(
        "SELECT number, first_poll_us FROM store_record WHERE number > ? AND last_poll_us > ? ORDER BY number LIMIT ?",
        (after_store, latest_us, weeks),
    ).fetchall()
    for number, first_us in chosen:
        for week in there:
            pruned.polls += _take_out_later(connection, week, number, latest_us)
        remains = first_us <= latest_us
        last = polls_storage.newest_before(connection, [number], latest_us + 1).get(number) if remains else None
        connection.execute(
            "UPDATE store_record SET first_poll_us = ?, last_poll_us = ? WHERE number = ?",
            (first_us if remains else None, last, number),
        )
        last_store = number
        looked += len(there) + 1
        if looked >= weeks:
            break
    if last_store is not None:
        stores.data_changed(connection)
    pruned.bytes = pruned.polls * _PACKED.itemsize
    return pruned, last_store


def loads(connection: sqlite3.Connection, before_us: int, rows: int) -> Pruned | None:
    """Take out up to `rows` rejected rows of old loads, or, when none are left, as many loads; None when neither are."""
    rejects = connection.execute(
        "DELETE FROM reject WHERE rowid IN (SELECT reject.rowid FROM load JOIN load_file ON load_file.load = load.id "
        "JOIN reject ON reject.load_file = load_file.id WHERE started_us < ? LIMIT ?)",
        (before_us, rows),
    ).rowcount
    if rejects:
        return Pruned(rejects=rejects)
    old = connection.execute("SELECT id FROM load WHERE started_us < ? LIMIT ?", (before_us, rows)).fetchall()
    if not old:
        return None
    connection.executemany("DELETE FROM load_file WHERE load = ?", old)
    connection.executemany("DELETE FROM load WHERE id = ?", old)
    return Pruned(loads=len(old))


def free_bytes(connection: sqlite3.Connection) -> tuple[int, int]:
    """(bytes of the file, bytes of it that are free for what comes)."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return pages * size, free * size


def vacuum(path: Path) -> None:
    """Write the file anew, without what is free in it.

    Needs as much room again, and others who write wait meanwhile.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with (
        explained_errors(path),
        closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as connection,
    ):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _prune_week(connection: sqlite3.Connection, week: int, number: int, before_us: int) -> int:
    row = connection.execute("SELECT polls FROM poll_week WHERE week = ? AND store = ?", (week, number)).fetchone()
    if row is None:
        return 0
    blob: bytes = row[0]
    older = _older(blob, before_us)
    if older * _PACKED.itemsize == len(blob):
        connection.execute("DELETE FROM poll_week WHERE week = ? AND store = ?", (week, number))
    elif older:
        rest = blob[older * _PACKED.itemsize :]
        connection.execute("UPDATE poll_week SET polls = ? WHERE week = ? AND store = ?", (rest, week, number))
    return older


def _take_out_later(connection: sqlite3.Connection, week: int, number: int, latest_us: int) -> int:
    row = connection.execute("SELECT polls FROM poll_week WHERE week = ? AND store = ?", (week, number)).fetchone()
    if row is None:
        return 0
    blob: bytes = row[0]
    left = _older(blob, latest_us + 1)
    if not left:
        connection.execute("DELETE FROM poll_week WHERE week = ? AND store = ?", (week, number))
    elif left * _PACKED.itemsize < len(blob):
        rest = blob[: left * _PACKED.itemsize]
        connection.execute("UPDATE poll_week SET polls = ? WHERE week = ? AND store = ?", (rest, week, number))
    return len(blob) // _PACKED.itemsize - left


def _weeks_from(connection: sqlite3.Connection, week: int) -> list[int]:
    """The weeks from that one on in which any store has polls: a poll may lie a century ahead."""
    found: list[int] = []
    while True:
        (next_week,) = connection.execute("SELECT min(week) FROM poll_week WHERE week >= ?", [week]).fetchone()
        if next_week is None:
            return found
        found.append(next_week)
        week = next_week + 1


def _older(blob: bytes, before_us: int) -> int:
    """How many of a week's polls are from before that instant."""
    return int(np.searchsorted(np.frombuffer(blob, dtype=_PACKED).astype(np.int64), before_us * 2))


def _first_poll(connection: sqlite3.Connection, number: int, before_us: int, last_us: int) -> int | None:
    """The store's first poll from `before_us` on, all older ones being gone."""
    for week in range(before_us // WEEK_US, last_us // WEEK_US + 1):
        row = connection.execute(
            "SELECT substr(polls, 1, 8) FROM poll_week WHERE week = ? AND store = ?", (week, number)
        ).fetchone()
        if row is not None:
            return int.from_bytes(row[0], "big") >> 1
    return None
