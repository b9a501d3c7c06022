"""Old polls, rejected rows and loads taken out in short transactions, beside a server that goes on answering and
storing.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from storemon_flask.clock import minute_text
from storemon_flask.database import pruning, stores
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import look as look_for_newest
from storemon_flask.database.pruning import Pruned as Pruned
from storemon_flask.errors import DatabaseError, Unprocessable

# A transaction takes about so long, whatever the disk: the next one is made smaller or larger.
_TARGET_S: Final = 0.2
_FEWEST, _MOST = 50, 20_000
# SQLite lets others who wait try again every 100 ms: in a shorter pause they might never have their turn.
_PAUSE_S: Final = 0.12


@dataclass(frozen=True, slots=True)
class Space:
    """The file's bytes, and how many of them are free for what is loaded next."""

    file: int
    free: int


def completeness(instant_us: int) -> str:
    """Say from when on polls are complete, and what that means for the time before."""
    return f"polls are complete from {minute_text(instant_us)} on; time before it counts as unknown"


def complete_from(database: Database) -> int | None:
    """Return the instant before which polls were pruned, microseconds; None when none ever were."""
    with database.read() as connection:
        return stores.complete_from(connection)


def look(database: Database, before_us: int) -> Pruned:
    """What `run` would take out."""
    with database.read() as connection:
        return pruning.count(connection, before_us)


def run(
    database: Database,
    before_us: int,
    now_us: int,
    progress: Callable[[Pruned], None] = lambda part: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Take out what is older than that instant; what was. Stopped or killed, it has done a part, and the next run does
    the rest.

    From the first moment on the time before that instant counts as unknown, whatever is still there of its polls.

    `Unprocessable` for an instant of the future, `DatabaseError` when there is no database.
    """
    if before_us > now_us:
        raise Unprocessable(
            "the date lies in the future: everything would be taken out, and what is not loaded yet too"
        )
    if not database.exists():
        raise _no_database(database)
    done = Pruned()
    with database.write() as connection:
        pruning.begin(connection, before_us)
    done += _store_by_store(database, lambda: before_us, pruning.polls, progress, stopped)
    size = _MOST // 4
    while not stopped():
        started = time.monotonic()
        with database.write() as connection:
            rest = pruning.loads(connection, before_us, size)
        if rest is None:
            break
        done += rest
        progress(rest)
        size = _next(size, time.monotonic() - started)
    return done


def look_ahead(database: Database, latest_us: int) -> tuple[Pruned, int]:
    """What `run_ahead` would take out, and of how many stores. Errors as there."""
    _check_ahead(database, latest_us)
    with database.read() as connection:
        return pruning.count_future(connection, latest_us)


def run_ahead(
    database: Database,
    latest_us: Callable[[], int],
    progress: Callable[[Pruned], None] = lambda part: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Take out the polls after that instant (`Rules.latest_us` of now); what was. Stopped or killed, it has done a
    part.

    The instant is asked for at each step: while this goes on, polls come in that were in the future when it began.

    `Unprocessable` when no poll is earlier: then it is the clock that is wrong. `DatabaseError` when there is no
    database.
    """
    _check_ahead(database, latest_us())
    return _store_by_store(database, latest_us, pruning.future_polls, progress, stopped)


def _check_ahead(database: Database, latest_us: int) -> None:
    if not database.exists():
        raise _no_database(database)
    newest = look_for_newest(database, latest_us)
    if newest.ahead and newest.poll_us is None:
        raise Unprocessable(
            f"every poll is later than {minute_text(latest_us)}, so nothing would be left; set this machine's clock first"
        )


def _no_database(database: Database) -> DatabaseError:
    return DatabaseError(f"there is no database at {database.path}; run `storemon load-data` to make it")


def _store_by_store(
    database: Database,
    instant_us: Callable[[], int],
    take_out: Callable[[sqlite3.Connection, int, int, int], tuple[Pruned, int | None]],
    progress: Callable[[Pruned], None],
    stopped: Callable[[], bool],
) -> Pruned:
    """Take polls out of some stores after the other, each time in a transaction of its own."""
    done, size = Pruned(), _FEWEST * 4
    store: int | None = 0
    while store is not None and not stopped():
        started = time.monotonic()
        with database.write() as connection:
            part, store = take_out(connection, instant_us(), store, size)
        done += part
        progress(part)
        size = _next(size, time.monotonic() - started)
    return done


def _next(size: int, took_s: float) -> int:
    """Let others have their turn; the size of the next transaction."""
    time.sleep(max(_PAUSE_S, took_s / 2))
    if took_s > _TARGET_S:
        return max(_FEWEST, size // 2)
    return min(_MOST, size * 2) if took_s < _TARGET_S / 2 else size


def space(database: Database) -> Space:
    """How large the file is and how much of it is free."""
    with database.read() as connection:
        return Space(*pruning.free_bytes(connection))


def vacuum(database: Database) -> None:
    """Write the file anew without its free pages.

    Writers wait meanwhile, so only for whoever holds the server's lock.
    """
    pruning.vacuum(database.path)
