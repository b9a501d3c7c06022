"""Keep the snapshot of the live list between requests. Each request gets one with every load committed before it."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Final

from storemon_flask.database import stores
from storemon_flask.database.connections import Database, Identity
from storemon_flask.database.newest import newest_poll
from storemon_flask.database.polls import Newest
from storemon_flask.errors import SERVER_STOPPING, Busy, StoremonError, lack_of_memory
from storemon_flask.model import SECOND_US, Rules
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import Snapshot

log = logging.getLogger("storemon.stores")
# Statuses change with the clock, too: after this long a live snapshot is renewed, and served meanwhile.
RENEW_AGE_US: Final = 30 * SECOND_US
# An older one is not served: when nobody asked for a while, it was not renewed either.
MAX_AGE_US: Final = 60 * SECOND_US
# Metrics wait this long for a snapshot and then take the last one.
_METRICS_WAIT_S: Final = 2.0

# Held while a request waits for a computation.
Slot = Callable[[], AbstractContextManager[None]]


@dataclass(slots=True, eq=False)
class _Computation:
    """A snapshot to come of a database file, with everything up to `data_version`."""

    file: Identity
    data_version: int
    future: "Future[Snapshot] | None" = None


class ListCache:
    """The snapshot of one database, and the one thread that computes the next.

    At most one computation runs and one more waits for it. A request joins the running one if that began after the data
    version which the request has seen, and else the waiting one: nobody waits for more than these two, however often
    polls are pushed.
    """

    def __init__(self, database: Database, rules: Rules, default_zone: str) -> None:
        self._database = database
        self._rules = rules
        self._default_zone = default_zone
        self._lock = threading.Lock()
        self._cached: tuple[Identity, Snapshot] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._running: _Computation | None = None
        self._waiting: _Computation | None = None
        self._stopped = False

    def current(self, slot: Slot = nullcontext) -> Snapshot:
        """Return a snapshot of everything that was committed before the call, also by another process.

        It waits for a computation when the data have changed; requests that wait at the same time share it. When only
        time has passed, a live snapshot is served until it is a minute old (SPEC 7). `slot()` is held while it waits.
        """
        cached, compute = self._cached_or_compute()
        if cached is not None:
            return cached
        with slot():
            return _result(compute(), None)

    def latest(self) -> Snapshot | None:
        """Return the same; but after two seconds of waiting, or on an error, the last snapshot, or None."""
        cached, compute = self._cached_or_compute()
        if cached is not None:
            return cached
        try:
            return _result(compute(), _METRICS_WAIT_S)
        except Exception:  # an error is in the log already
            last = self._cached
            return None if last is None or last[0] != self._database.identity() else last[1]

    def stop(self) -> None:
        """Compute no more snapshots; return when the running computation has ended."""
        with self._lock:
            self._stopped = True
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Return when no snapshot is being computed."""
        while True:
            with self._lock:
                computation = self._waiting or self._running
            if computation is None or computation.future is None:
                return
            with suppress(CancelledError):
                computation.future.exception()

    def _now_us(self) -> int:
        return time.time_ns() // 1000

    def _cached_or_compute(self) -> tuple[Snapshot | None, "Callable[[], Future[Snapshot]]"]:
        """Return the snapshot if it can be served, and what joins or starts the computation of the next."""
        with self._database.read() as connection:
            version = stores.data_version(connection)
            newest = newest_poll(self._database, connection, self._rules.latest_us(self._now_us()))
        file = self._database.identity()

        def compute() -> Future[Snapshot]:
            """Join or start the computation of a snapshot of the data of now."""
            return self._join_or_start(file, version, newest)

        cached = self._usable(file, version, newest, MAX_AGE_US)
        if cached is not None and self._usable(file, version, newest, RENEW_AGE_US) is None:
            compute()
        return cached, compute

    def _usable(self, file: Identity, version: int, newest: Newest, max_age_us: int) -> Snapshot | None:
        """Return the cached snapshot if it has that data version or a later one and is not too old.

        Its age does not matter once the server stops. `newest` is the newest poll of now: the clock may have reached
        one, or have been set.
        """
        # Data versions of one file only grow, also when a backup is restored into it.
        if self._cached is None or self._cached[0] != file or self._cached[1].data_version < version:
            return None
        snapshot, now_us = self._cached[1], self._now_us()
        if self._stopped:
            return snapshot
        if snapshot.as_of.data_are_old:
            # Nothing changes with the clock but the words that say how old they are.
            as_of = replace(live_list.as_of_for(newest, now_us), note=snapshot.as_of.note)
            return replace(snapshot, as_of=as_of) if as_of.as_of_us == snapshot.as_of.as_of_us else None
        return snapshot if abs(now_us - snapshot.made_us) <= max_age_us else None

    def _join_or_start(self, file: Identity, version: int, newest: Newest) -> "Future[Snapshot]":
        with self._lock:
            for computation in (self._running, self._waiting):
                if computation is None or computation.future is None or computation.file != file:
                    continue
                if computation is self._waiting or computation.data_version >= version:
                    return computation.future
            cached = self._usable(file, version, newest, RENEW_AGE_US)
            if cached is not None:
                # A computation that the caller could have joined has ended since it looked.
                done: Future[Snapshot] = Future()
                done.set_result(cached)
                return done
            if self._stopped:
                raise _stopping()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="stores")
            self._waiting = _Computation(file, version)
            self._waiting.future = self._pool.submit(self._compute, self._waiting)
            return self._waiting.future

    def _compute(self, computation: _Computation) -> Snapshot:
        with self._lock:
            # From here on nobody joins who has seen a newer data version.
            self._running = computation
            if self._waiting is computation:
                self._waiting = None
        try:
            with lack_of_memory("the list of stores"), self._database.read() as connection:
                # The transaction begins here. The clock is read after it, so that no poll of a committed load lies
                # ahead of the as-of because a request had read the clock before that load.
                stores.data_version(connection)
                snapshot = live_list.compute_snapshot(self._database, self._rules, self._default_zone, self._now_us())
            self._cached = (computation.file, snapshot)
            return snapshot
        except StoremonError as error:
            log.warning("the list of stores could not be computed: %s", error.message)
            raise
        except Exception:
            log.exception("the list of stores could not be computed")
            raise
        finally:
            with self._lock:
                self._running = None


def _result(future: "Future[Snapshot]", timeout_s: float | None) -> Snapshot:
    try:
        return future.result(timeout_s)
    except CancelledError:
        raise _stopping() from None


def _stopping() -> Busy:
    return Busy(SERVER_STOPPING)
