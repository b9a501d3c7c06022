"""What the data say of themselves, cheap enough to be asked every few seconds."""

import shutil
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from storemon_flask.core.status import STATUSES
from storemon_flask.model import SECOND_US
from storemon_flask.services import snapshots
from storemon_flask.settings import Settings
from storemon_flask.storage import loads, polls, reports, stores
from storemon_flask.storage.db import Database

# Counting all polls reads every page of them: it may take so small a part of the time.
_COUNTING_REST: Final = 100
# Somebody who only scrapes makes the list of stores be computed once in so long.
_STORES_AGE_US: Final = 60 * SECOND_US
# Reasons are fixed sentences; should one ever not be, there are no more than this.
_MOST_REASONS: Final = 60
OTHER: Final = "other"
STATES: Final = ("pending", "running", "complete", "failed", "deleted")
OUTCOMES: Final = ("new", "changed", "unchanged", "repeated", "rejected")


@dataclass(slots=True)
class Vitals:
    """Sizes in bytes, instants in microseconds; None for what is not known (yet)."""

    reports: dict[str, int] = field(default_factory=dict)
    polls: int = 0
    newest_poll_us: int | None = None
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    stores: dict[str, int] | None = None
    stores_as_of_us: int | None = None
    database_bytes: int = 0
    wal_bytes: int = 0
    free_bytes: dict[str, int] = field(default_factory=dict)


class Watcher:
    """Reads the vitals of one database; what only grows is read on from where it was."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._file: object = None
        self._last_load_file = 0
        self._rows: Counter[tuple[str, str]] = Counter()
        self._rejects: Counter[str] = Counter()
        # Polls at the last count, and what was new since; the data version and the time of that count.
        self._polls = 0
        self._counted: int | None = None
        self._count_again_s = 0.0

    def read(self, now_us: int) -> Vitals:
        """The vitals of now; without a database those of an empty one. `DatabaseError` when it cannot be read."""
        found = Vitals(reports=dict.fromkeys(STATES, 0))
        found.database_bytes, found.wal_bytes = self._database.sizes()
        for name, folder in (("database", self._settings.database.parent), ("reports", self._settings.reports_dir)):
            if folder.is_dir():
                found.free_bytes[name] = shutil.disk_usage(folder).free
        if not self._database.exists():
            return found
        with self._lock, self._database.read() as connection:
            if self._file != self._database.identity() or loads.newest_file(connection) < self._last_load_file:
                # Another file stands at the path, or a backup was restored: what was counted is of the one before.
                self._forget()
                self._file = self._database.identity()
            self._read_on(connection)
            found.reports |= reports.count_by_state(connection)
            found.polls = self._count(connection)
            found.newest_poll_us = stores.newest_poll(connection)
            found.rows, found.rejects = dict(self._rows), dict(self._rejects)
        self._stores(found, now_us)
        return found

    def _read_on(self, connection: sqlite3.Connection) -> None:
        for number, feed, counts, reasons in loads.since(connection, self._last_load_file):
            self._last_load_file = number
            for outcome in OUTCOMES:
                self._rows[feed or "none", outcome] += getattr(counts, outcome)
            if feed == "polls":
                self._polls += counts.new
            for reason, count in reasons.items():
                known = reason in self._rejects or len(self._rejects) < _MOST_REASONS
                self._rejects[reason if known else OTHER] += count

    def _count(self, connection: sqlite3.Connection) -> int:
        """Polls that are stored. Between two counts, the last one and what came in since; only removing is seen later."""
        version = stores.data_version(connection)
        if version != self._counted and time.monotonic() >= self._count_again_s:
            began = time.monotonic()
            self._polls = polls.count(connection)
            self._counted = version
            self._count_again_s = time.monotonic() + _COUNTING_REST * (time.monotonic() - began)
        return self._polls

    def _stores(self, found: Vitals, now_us: int) -> None:
        settings = self._settings
        kept = snapshots.latest(self._database, settings.rules, settings.default_timezone, now_us, _STORES_AGE_US)
        if kept is not None:
            by_status = Counter(kept.columns["status"].tolist())
            found.stores = {name: by_status[place] for place, name in enumerate(STATUSES)}
            found.stores_as_of_us = kept.moment.as_of_us
