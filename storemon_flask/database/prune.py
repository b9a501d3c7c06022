"""Old polls, rejected rows and loads deleted in short transactions, beside a server that goes on working."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from storemon_flask.clock import minute_text
from storemon_flask.database import polls, stores, undo
from storemon_flask.database.connections import Connection, Database, connect, explained_errors, named_rows
from storemon_flask.database.newest import look as look_for_newest
from storemon_flask.database.newest import newest_poll
from storemon_flask.errors import DatabaseError, Unprocessable
from storemon_flask.model import DAY_US, WEEK_US
from storemon_flask.settings import Settings

log = logging.getLogger("storemon.retention")
# A transaction takes about so long, whatever the disk: the next one is made smaller or larger.
_TARGET_S: Final = 0.2
_FEWEST, _MOST = 50, 20_000
# SQLite lets others who wait try again every 100 ms: in a shorter pause they might never have their turn.
_PAUSE_S: Final = 0.12
_NEVER_US: Final = 1 << 61


@dataclass(slots=True)
class Pruned:
    """What was (or would be) deleted: polls, rejected rows, loads."""

    polls: int = 0
    rejects: int = 0
    loads: int = 0

    @property
    def bytes(self) -> int:
        """Return the bytes of the polls."""
        return self.polls * polls.POLL_BYTES

    def __iadd__(self, other: "Pruned") -> "Pruned":
        self.polls += other.polls
        self.rejects += other.rejects
        self.loads += other.loads
        return self


# Deletes some of what is to be deleted, about as much as the number says, and returns it; None when nothing is left.
_Step = Callable[[Connection, int], Pruned | None]


def completeness_note(complete_from_us: int) -> str:
    """Return from when on polls are complete, and what that means for the time before, as a note."""
    return f"polls are complete from {minute_text(complete_from_us)} on; time before it counts as unknown"


def complete_from(database: Database) -> int | None:
    """Return the time before which polls were pruned, microseconds; None when none ever were."""
    with database.read() as connection:
        return stores.complete_from(connection)


def count_before(connection: Connection, before_us: int) -> Pruned:
    """Return what `delete_before` would delete."""
    rejects, loads = connection.execute(
        "SELECT (SELECT count(*) FROM reject JOIN load_file ON load_file.id = load_file JOIN load ON load.id = load "
        "WHERE started_us < :before_us), (SELECT count(*) FROM load WHERE started_us < :before_us)",
        {"before_us": before_us},
    ).fetchone()
    return Pruned(polls.count_before(connection, before_us), rejects, loads)


def delete_before(
    database: Database,
    before_us: int,
    now_us: int,
    progress: Callable[[Pruned], None] = lambda pruned: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Delete what is older than that time and return what it was; stopped or killed, the next run does the rest.

    From the first moment on the time before it counts as unknown, whatever is still there of its polls.

    `Unprocessable` for a time in the future, `DatabaseError` when there is no database.
    """
    if before_us > now_us:
        raise Unprocessable(
            "the date lies in the future: everything would be taken out, and what is not loaded yet too"
        )
    _require(database)
    with database.write() as connection:
        # Before the first poll is deleted: some of a store's polls must never count as all of them.
        complete_from_us = stores.complete_from(connection)
        if complete_from_us is None or complete_from_us < before_us:
            connection.execute("UPDATE data_version SET complete_from_us = ?", [before_us])
            stores.data_changed(connection)
    pruned = _in_steps(database, _store_by_store(lambda: (before_us, _NEVER_US)), _FEWEST * 4, progress, stopped)
    pruned += _in_steps(database, partial(_delete_loads, before_us), _MOST // 4, progress, stopped)
    return pruned


def count_future(database: Database, latest_us: int) -> tuple[Pruned, int]:
    """Return what `delete_future` would delete, and of how many stores. Errors as there."""
    _check_future(database, latest_us)
    with database.read() as connection:
        return Pruned(polls.count_after(connection, latest_us)), stores.polled_after(connection, latest_us).count


def delete_future(
    database: Database,
    latest_us: Callable[[], int],
    progress: Callable[[Pruned], None] = lambda pruned: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Delete the polls after that time (`Rules.latest_us` of now) and return what they were; may be stopped or killed.

    The time is asked for at each step: meanwhile polls come in that were in the future when this began.

    `Unprocessable` when no poll is earlier: then it is the clock that is wrong. `DatabaseError` without a database.
    """
    _check_future(database, latest_us())
    step = _store_by_store(lambda: (-_NEVER_US, latest_us() + 1))
    return _in_steps(database, step, _FEWEST * 4, progress, stopped)


def apply_retention(
    database: Database, settings: Settings, now_us: int, stopped: Callable[[], bool] = lambda: False
) -> Pruned:
    """Delete what is older than STOREMON_KEEP_POLLS_DAYS, if that is set, and log it.

    The days count back from the newest poll that is not in the future, or from now if that is earlier: neither a clock
    that is set ahead nor a feed that has stopped nor a poll of next year empties the history.
    """
    if not settings.keep_polls_days or not database.exists():
        return Pruned()
    with database.read() as connection:
        newest_us = newest_poll(database, connection, settings.rules.latest_us(now_us)).poll_us
    if newest_us is None:
        return Pruned()
    before_us = min(newest_us, now_us) - settings.keep_polls_days * DAY_US
    pruned = delete_before(database, before_us, now_us, stopped=stopped)
    if pruned.polls or pruned.loads:
        log.info(
            "older than %d days: %d polls, %d rejected rows and %d loads taken out",
            settings.keep_polls_days,
            pruned.polls,
            pruned.rejects,
            pruned.loads,
        )
    return pruned


def space(database: Database) -> tuple[int, int]:
    """Return the file's bytes, and how many of them are free for what is loaded next."""
    with database.read() as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return pages * size, free * size


def vacuum(database: Database) -> None:
    """Write the file anew without its free pages; only for whoever holds the server's lock.

    Needs as much room again, and writers wait meanwhile.
    """
    with explained_errors(database.path), closing(connect(database.path, "rw")) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _check_future(database: Database, latest_us: int) -> None:
    _require(database)
    newest = look_for_newest(database, latest_us)
    if newest.ahead and newest.poll_us is None:
        raise Unprocessable(
            f"every poll is later than {minute_text(latest_us)}, so nothing would be left; "
            "set this machine's clock first"
        )


def _require(database: Database) -> None:
    if not database.exists():
        raise DatabaseError(f"there is no database at {database.path}; run `storemon load-data` to make it")


def _in_steps(
    database: Database, step: _Step, size: int, progress: Callable[[Pruned], None], stopped: Callable[[], bool]
) -> Pruned:
    """Take steps until none is left, each in a transaction of its own, and return what all of them deleted."""
    pruned = Pruned()
    while not stopped():
        started = time.monotonic()
        with database.write() as connection:
            deleted = step(connection, size)
        if deleted is None:
            break
        pruned += deleted
        progress(deleted)
        size = _next_size(size, time.monotonic() - started)
    return pruned


def _store_by_store(kept_us: Callable[[], tuple[int, int]]) -> _Step:
    """Return the step that deletes polls outside that range of the stores that come next."""
    last_store = 0

    def step(connection: Connection, weeks: int) -> Pruned | None:
        """Delete from the next stores, at most so many weeks; return None when no store is left."""
        nonlocal last_store
        deleted, store = _delete_outside(connection, *kept_us(), last_store, weeks)
        if store is None:
            return None
        last_store = store
        return Pruned(deleted)

    return step


def _next_size(size: int, took_s: float) -> int:
    """Let others have their turn; return the size of the next transaction."""
    time.sleep(max(_PAUSE_S, took_s / 2))
    if took_s > _TARGET_S:
        return max(_FEWEST, size // 2)
    return min(_MOST, size * 2) if took_s < _TARGET_S / 2 else size


def _delete_outside(
    connection: Connection, first_us: int, end_us: int, after_store: int, weeks: int
) -> tuple[int, int | None]:
    """Delete the polls outside `[first_us, end_us)` of the stores that come next after `after_store`, looking at about
    `weeks` of their weeks.

    Returns how many were deleted and the last store's number; None when no store is left that has such polls.
    """
    deleted, looked, last_store = 0, 0, None
    later_weeks = polls.weeks_from(connection, end_us // WEEK_US)
    chosen = named_rows(
        connection,
        "SELECT number, first_poll_us, last_poll_us FROM store_record "
        "WHERE number > ? AND (first_poll_us < ? OR last_poll_us >= ?) ORDER BY number LIMIT ?",
        (after_store, first_us, end_us, weeks),
    ).fetchall()
    for row in chosen:
        last_store, oldest_us, newest_us = row["number"], row["first_poll_us"], row["last_poll_us"]
        earlier_weeks = range(oldest_us // WEEK_US, min(first_us, newest_us) // WEEK_US + 1)
        for week in (*earlier_weeks, *later_weeks):
            deleted += polls.delete_outside(connection, week, last_store, first_us, end_us)
        new_oldest_us: int | None = None if newest_us < first_us or oldest_us >= end_us else oldest_us
        new_newest_us = newest_us
        if new_oldest_us is not None and oldest_us < first_us:
            remaining = range(first_us // WEEK_US, newest_us // WEEK_US + 1)
            new_oldest_us = polls.first_poll_in(connection, last_store, remaining)
        elif new_oldest_us is not None:
            new_newest_us = int(polls.newest_up_to(connection, np.array([last_store]), end_us - 1)[0])
        connection.execute(
            "UPDATE store_record SET first_poll_us = ?, last_poll_us = ? WHERE number = ?",
            (new_oldest_us, None if new_oldest_us is None else new_newest_us, last_store),
        )
        looked += ((newest_us if new_oldest_us is None else new_oldest_us) - oldest_us) // WEEK_US
        looked += len(later_weeks) + 1
        if looked >= weeks:
            break
    if last_store is not None:
        stores.data_changed(connection)
    return deleted, last_store


def _delete_loads(before_us: int, connection: Connection, rows: int) -> Pruned | None:
    """Delete up to `rows` rejected rows of old loads, or, when none are left, as many loads; None when neither are."""
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
    undo.drop_pruned(connection, max(load for (load,) in old), time.time_ns() // 1000)
    connection.executemany("DELETE FROM load_file WHERE load = ?", old)
    connection.executemany("DELETE FROM load WHERE id = ?", old)
    return Pruned(loads=len(old))
