"""The snapshot of a database kept between requests: the old one is served while the new one is made."""

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final
from weakref import WeakKeyDictionary

from storemon_flask.model import SECOND_US, Rules
from storemon_flask.services import store_list
from storemon_flask.services.store_list import Snapshot
from storemon_flask.storage import stores
from storemon_flask.storage.db import Database

log = logging.getLogger("storemon.stores")
# Statuses turn with the clock, too: a live snapshot is old after this long.
MOST_AGE_US: Final = 30 * SECOND_US
# While polls are pushed every second, making snapshots takes no more than a quarter of the time.
_REST: Final = 3


class _Keeper:
    """The snapshot of one database, and the one thread that makes the next."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], Snapshot] | None = None
        self._making = threading.Lock()
        self._handing = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._task: Future[None] | None = None
        self._stopped = threading.Event()
        self._rested_s = 0.0

    def current(self, database: Database, rules: Rules, default_zone: str, now_us: int) -> tuple[Snapshot, bool]:
        """The snapshot to serve, and whether a newer one is being made."""
        with database.read() as connection:
            version = stores.data_version(connection)
        key = (database.identity(), rules, default_zone)
        kept = self._kept
        if kept is None or kept[0] != key:
            with self._making:
                kept = self._kept
                if kept is None or kept[0] != key:
                    kept = self._kept = (key, store_list.snapshot(database, rules, default_zone, now_us))
            return kept[1], False
        old = kept[1].data_version != version
        old |= not kept[1].moment.data_are_old and abs(now_us - kept[1].made_us) > MOST_AGE_US
        if old:
            self._renew(database, rules, default_zone, now_us)
        return kept[1], old

    def latest(
        self, database: Database, rules: Rules, default_zone: str, now_us: int, most_age_us: int
    ) -> Snapshot | None:
        """What there is, at once. One is made aside when there is none, or it is older than that and could differ."""
        kept = self._kept
        if kept is None or kept[0] != (database.identity(), rules, default_zone):
            self._renew(database, rules, default_zone, now_us)
            return None
        found = kept[1]
        if abs(now_us - found.made_us) > most_age_us:
            with database.read() as connection:
                same = stores.data_version(connection) == found.data_version
            if not (same and found.moment.data_are_old):
                self._renew(database, rules, default_zone, now_us)
        return found

    def stop(self) -> None:
        """Make no more; returns when the one that is being made is finished."""
        with self._handing:
            self._stopped.set()
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Return when nothing is being made."""
        task = self._task
        if task is not None:
            task.result()

    def _renew(self, database: Database, rules: Rules, default_zone: str, now_us: int) -> None:
        with self._handing:
            if self._stopped.is_set() or (self._task is not None and not self._task.done()):
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="stores")
            self._task = self._pool.submit(self._make, database, rules, default_zone, now_us)

    def _make(self, database: Database, rules: Rules, default_zone: str, now_us: int) -> None:
        if self._stopped.wait(max(self._rested_s - time.monotonic(), 0)):
            return
        began = time.monotonic()
        try:
            key = (database.identity(), rules, default_zone)
            self._kept = (key, store_list.snapshot(database, rules, default_zone, now_us))
        except Exception:
            # The old one is served on, and the next request tries again.
            log.exception("the list of stores could not be renewed")
        now = time.monotonic()
        self._rested_s = now + _REST * (now - began)


_keepers: "WeakKeyDictionary[Database, _Keeper]" = WeakKeyDictionary()
_lock = threading.Lock()


def current(database: Database, rules: Rules, default_zone: str, now_us: int) -> tuple[Snapshot, bool]:
    """The stores of the database, and whether newer numbers are on their way (SPEC 7 and the data version decide).

    The first call computes; later ones answer at once with what there is.
    """
    return _keeper(database).current(database, rules, default_zone, now_us)


def latest(database: Database, rules: Rules, default_zone: str, now_us: int, most_age_us: int) -> Snapshot | None:
    """The snapshot that there is, however old, without waiting; None before the first one.

    For those who look by the clock: the next is made aside, and only when this one is older than `most_age_us`.
    """
    return _keeper(database).latest(database, rules, default_zone, now_us, most_age_us)


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
