"""Old polls, rejected rows and loads taken out in short transactions, beside a server that goes on answering and storing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from storemon_flask.errors import DatabaseError, Unprocessable
from storemon_flask.services.few_heard import minute_text
from storemon_flask.storage import pruning, stores
from storemon_flask.storage.db import Database
from storemon_flask.storage.pruning import Pruned as Pruned

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
    """Take out what is older than that instant; what was. Stopped or killed, it has done a part, and the next run does the rest.

    From the first moment on the time before that instant counts as unknown, whatever is still there of its polls.

    `Unprocessable` for an instant of the future, `DatabaseError` when there is no database.
    """
    if before_us > now_us:
        raise Unprocessable(
            "the date lies in the future: everything would be taken out, and what is not loaded yet too"
        )
    if not database.exists():
        raise DatabaseError(f"there is no database at {database.path}; run `storemon load-data` to make it")
    done = Pruned()
    with database.write() as connection:
        pruning.begin(connection, before_us)
    size = _FEWEST * 4
    store: int | None = 0
    while store is not None and not stopped():
        started = time.monotonic()
        with database.write() as connection:
            part, store = pruning.polls(connection, before_us, store, size)
        done += part
        progress(part)
        size = _next(size, time.monotonic() - started)
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
    """Write the file anew without its free pages. Writers wait meanwhile, so only for whoever holds the server's lock."""
    pruning.vacuum(database.path)
