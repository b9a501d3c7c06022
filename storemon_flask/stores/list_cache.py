"""The snapshot of a database kept between requests.

Whoever asks after a load was committed gets one that has that load.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakKeyDictionary

from storemon_flask.database import stores
from storemon_flask.database.connections import Database, Identity
from storemon_flask.database.newest import Newest, newest_poll
from storemon_flask.errors import Busy, OutOfMemory, lack_of_memory
from storemon_flask.model import SECOND_US, Rules
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import Snapshot

log = logging.getLogger("storemon.stores")
# Statuses turn with the clock, too: after this long a live snapshot is renewed aside, and served meanwhile.
RENEW_AGE_US: Final = 30 * SECOND_US
# An older one is served to nobody: when nobody asked for a while, it was not renewed either.
MOST_AGE_US: Final = 60 * SECOND_US
# Somebody who only counts stores, as a scraper of metrics does, waits this long and then takes the numbers there are.
_COUNTING_PATIENCE_S: Final = 2.0

# The machine's clock, microseconds.
Clock = Callable[[], int]
# Held while a request waits for a computation.
Slot = Callable[[], AbstractContextManager[None]]


def machine_clock() -> int:
    """Now."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a snapshot is made of besides the feeds."""

    file: Identity
    rules: Rules
    default_zone: str


@dataclass(slots=True, eq=False)
class _Computation:
    """A snapshot to come, which begins to read after the data version was `data_version` or more."""

    basis: _Basis
    data_version: int
    task: "Future[Snapshot] | None" = None


class _Keeper:
    """The snapshot of one database, and the one thread that makes the next.

    At most one computation runs and one more waits for it. A request joins the running one if that began after the data
    version which the request has seen, and else the waiting one: nobody waits for more than these two, however often
    polls are pushed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[_Basis, Snapshot] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._running: _Computation | None = None
        self._waiting: _Computation | None = None
        self._stopped = False

    def current(self, database: Database, rules: Rules, default_zone: str, clock: Clock, slot: Slot) -> Snapshot:
        """A snapshot of everything that was committed before the call."""
        known, coming = self._known_or_coming(database, rules, default_zone, clock)
        if known is not None:
            return known
        with slot():
            return _result(coming(), None)

    def latest(self, database: Database, rules: Rules, default_zone: str, clock: Clock) -> Snapshot | None:
        """The same, but after some seconds of waiting, or when it fails, the last one that was made; None without one."""
        known, coming = self._known_or_coming(database, rules, default_zone, clock)
        if known is not None:
            return known
        try:
            return _result(coming(), _COUNTING_PATIENCE_S)
        except Exception:  # an error is in the log already
            kept = self._kept
            return None if kept is None or kept[0] != _Basis(database.identity(), rules, default_zone) else kept[1]

    def stop(self) -> None:
        """Make no more; returns when the one that is being made is finished."""
        with self._lock:
            self._stopped = True
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Return when nothing is being made."""
        while True:
            with self._lock:
                coming = self._waiting or self._running
            if coming is None or coming.task is None:
                return
            with suppress(CancelledError):
                coming.task.exception()

    def _known_or_coming(
        self, database: Database, rules: Rules, default_zone: str, clock: Clock
    ) -> tuple[Snapshot | None, "Callable[[], Future[Snapshot]]"]:
        """The snapshot there is if it can be served, and what joins or begins the computation of the next."""
        with database.read() as connection:
            version = stores.data_version(connection)
            newest = newest_poll(database, connection, rules.latest_us(clock()))
        basis = _Basis(database.identity(), rules, default_zone)

        def coming() -> Future[Snapshot]:
            return self._coming(database, basis, version, newest, clock)

        known = self._usable(basis, version, newest, clock(), MOST_AGE_US)
        if known is not None and self._usable(basis, version, newest, clock(), RENEW_AGE_US) is None:
            coming()
        return known, coming

    def _usable(self, basis: _Basis, version: int, newest: Newest, now_us: int, most_age_us: int) -> Snapshot | None:
        """The kept snapshot if it is of that data version or a later one, and not too old; how old does not matter once
        the server stops. `newest` is the newest poll of now: the clock may have reached one, or have been set."""
        kept = self._kept
        # Data versions of one file only grow, also when a backup is restored into it.
        if kept is None or kept[0] != basis or kept[1].data_version < version:
            return None
        snapshot = kept[1]
        if self._stopped:
            return snapshot
        if snapshot.as_of.data_are_old:
            # Nothing turns with the clock but the words that say how old they are.
            as_of = replace(live_list.as_of_for(newest, now_us), note=snapshot.as_of.note)
            return replace(snapshot, as_of=as_of) if as_of.as_of_us == snapshot.as_of.as_of_us else None
        return snapshot if abs(now_us - snapshot.made_us) <= most_age_us else None

    def _coming(
        self, database: Database, basis: _Basis, version: int, newest: Newest, clock: Clock
    ) -> "Future[Snapshot]":
        with self._lock:
            for computation in (self._running, self._waiting):
                if computation is None or computation.task is None or computation.basis != basis:
                    continue
                if computation is self._waiting or computation.data_version >= version:
                    return computation.task
            known = self._usable(basis, version, newest, clock(), RENEW_AGE_US)
            if known is not None:
                # One that the caller could have joined has ended since it looked.
                made: Future[Snapshot] = Future()
                made.set_result(known)
                return made
            if self._stopped:
                raise _stopping()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="stores")
            self._waiting = _Computation(basis, version)
            self._waiting.task = self._pool.submit(self._make, database, self._waiting, clock)
            return self._waiting.task

    def _make(self, database: Database, computation: _Computation, clock: Clock) -> Snapshot:
        with self._lock:
            # From here on nobody joins who has seen a newer data version.
            self._running = computation
            if self._waiting is computation:
                self._waiting = None
        basis = computation.basis
        try:
            with lack_of_memory("the list of stores"), database.read() as connection:
                # The transaction begins here. The clock is read after it, so that no poll of a committed load lies
                # ahead of the as-of because a request had read the clock before that load.
                stores.data_version(connection)
                made = live_list.snapshot(database, basis.rules, basis.default_zone, clock())
            self._kept = (basis, made)
            return made
        except OutOfMemory as error:
            log.warning("the list of stores could not be computed: %s", error.message)
            raise
        except Exception:
            log.exception("the list of stores could not be computed")
            raise
        finally:
            with self._lock:
                self._running = None


def _result(coming: "Future[Snapshot]", patience_s: float | None) -> Snapshot:
    try:
        return coming.result(patience_s)
    except CancelledError:
        raise _stopping() from None


def _stopping() -> Busy:
    return Busy("the server is stopping; send the request again when it is back")


_keepers: "WeakKeyDictionary[Database, _Keeper]" = WeakKeyDictionary()
_lock = threading.Lock()


def current(
    database: Database, rules: Rules, default_zone: str, slot: Slot = nullcontext, clock: Clock = machine_clock
) -> Snapshot:
    """The stores of the database with everything that was committed before this call, also by another process.

    It waits for a computation when the data have changed; requests that wait at the same time share it. When only the
    clock has gone on, a live snapshot is served until it is a minute old (SPEC 7). `slot()` is entered while it waits.
    """
    return _keeper(database).current(database, rules, default_zone, clock, slot)


def latest(database: Database, rules: Rules, default_zone: str, clock: Clock = machine_clock) -> Snapshot | None:
    """The same for whom an older one is better than a long wait or an error: after two seconds the last one, or None."""
    return _keeper(database).latest(database, rules, default_zone, clock)


def wait(database: Database) -> None:
    """Return when no new snapshot of the database is being made."""
    _keeper(database).wait()


def stop(database: Database) -> None:
    """Make no more snapshots of the database: the server is going down."""
    _keeper(database).stop()


def _keeper(database: Database) -> _Keeper:
    with _lock:
        if database not in _keepers:
            _keepers[database] = _Keeper()
        return _keepers[database]
