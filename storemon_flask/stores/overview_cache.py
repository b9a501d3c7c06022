"""Keep the overview between requests; one thread computes the next."""

import logging
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from storemon_flask.database.connections import Database, Identity
from storemon_flask.errors import SERVER_STOPPING, Busy, StoremonError, lack_of_memory
from storemon_flask.model import Rules
from storemon_flask.stores.list_cache import ListCache, Slot
from storemon_flask.stores.live_list import Snapshot
from storemon_flask.stores.overview import Overview, compute_overview

log = logging.getLogger("storemon.stores")
# Of unchanged data one this old is served while the next is computed; statuses change with the clock, too.
MAX_AGE_S: Final = 120.0
# What takes longer to compute than this is not computed for each load: at most for a tenth of the time, and one that is
# up to twenty times as old as that takes is served meanwhile.
_CHEAP_S: Final = 0.25
_RENEW_AFTER: Final = 10
_SERVE_UNTIL: Final = 20


@dataclass(frozen=True, slots=True)
class _Cached:
    """An overview with the database file that it is of, when it was ready by the monotonic clock, and how long it
    took."""

    file: Identity
    overview: Overview
    ready_s: float
    cost_s: float


class OverviewCache:
    """The overview of one database. Those that wait at the same time share one computation."""

    def __init__(self, database: Database, list_cache: ListCache, rules: Rules, default_zone: str) -> None:
        self._database = database
        self._list_cache = list_cache
        self._rules = rules
        self._default_zone = default_zone
        self._lock = threading.Lock()
        self._cached: _Cached | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[_Cached] | None = None
        self._stopped = False
        # How far the computation that runs is, 0 to 1.
        self.progress = 0.0

    def current(self, wait_s: float, slot: Slot) -> Overview | None:
        """Return the overview, of all that was committed before the call where that is computed quickly (SPEC 7); None
        when it is not ready after `wait_s`. `slot()` is held while it waits."""
        snapshot = self._list_cache.current(slot)
        file = self._database.identity()
        cached = self._cached
        if cached is not None and cached.file == file:
            if self._is_current(cached.overview, snapshot):
                # Nothing but the words that say how old the data are may have changed.
                return replace(cached.overview, as_of=replace(snapshot.as_of, as_of_us=cached.overview.as_of.as_of_us))
            if self._may_be_served(cached, snapshot):
                return cached.overview
        end_s = time.monotonic() + wait_s
        with slot():
            while True:
                try:
                    computed = self._join_or_start(file, snapshot).result(max(end_s - time.monotonic(), 0.0))
                except TooLong:
                    return None
                except CancelledError:
                    raise Busy(SERVER_STOPPING) from None
                # One that was already running may be of older data.
                if computed.file == file and (
                    computed.overview.data_version >= snapshot.data_version or self._may_be_served(computed, snapshot)
                ):
                    return computed.overview

    def stop(self) -> None:
        """Compute no more; return when the running computation has ended."""
        with self._lock:
            self._stopped = True
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _is_current(self, overview: Overview, snapshot: Snapshot) -> bool:
        same_instant = overview.as_of.as_of_us == snapshot.as_of.as_of_us or overview.made_us == snapshot.made_us
        return same_instant and overview.data_version >= snapshot.data_version

    def _may_be_served(self, cached: _Cached, snapshot: Snapshot) -> bool:
        """Return whether an overview of before is served; it starts the next one when it is time for that."""
        age_s = time.monotonic() - cached.ready_s
        costly = cached.cost_s > _CHEAP_S
        unchanged = cached.overview.data_version >= snapshot.data_version
        same_kind = cached.overview.as_of.data_are_old == snapshot.as_of.data_are_old
        serve = same_kind and ((unchanged and age_s <= MAX_AGE_S) or (costly and age_s <= _SERVE_UNTIL * cached.cost_s))
        if serve and (not costly or age_s > _RENEW_AFTER * cached.cost_s):
            with suppress(Busy):
                self._join_or_start(cached.file, snapshot)
        return serve

    def _join_or_start(self, file: Identity, snapshot: Snapshot) -> "Future[_Cached]":
        with self._lock:
            if self._running is not None and not self._running.done():
                return self._running
            if self._stopped:
                raise Busy(SERVER_STOPPING)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="overview")
            self.progress = 0.0
            self._running = self._pool.submit(self._compute, file, snapshot)
            return self._running

    def _compute(self, file: Identity, snapshot: Snapshot) -> _Cached:
        begin_s = time.monotonic()
        try:
            with lack_of_memory("the overview"):
                overview = compute_overview(
                    self._database, snapshot, self._rules, self._default_zone, self._note_progress
                )
        except StoremonError as error:
            log.warning("the overview could not be computed: %s", error.message)
            raise
        except Exception:
            log.exception("the overview could not be computed")
            raise
        ready_s = time.monotonic()
        self._cached = _Cached(file, overview, ready_s, ready_s - begin_s)
        return self._cached

    def _note_progress(self, share: float) -> None:
        self.progress = share
