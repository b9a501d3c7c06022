"""What the data say of themselves, cheap enough to be asked every few seconds."""

import shutil
import sqlite3
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from storemon_flask.database import loads, polls, reports, stores, tombstones
from storemon_flask.database.db import Database
from storemon_flask.database.newest import newest_poll
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds.headers import FEEDS
from storemon_flask.settings import Settings
from storemon_flask.stores import snapshots
from storemon_flask.uptime.status import STATUSES

# Counting all polls reads every page of them: it may take so small a part of the time.
_COUNTING_REST: Final = 100
# Reasons are fixed sentences; should one ever not be, there are no more than this.
_MOST_REASONS: Final = 60
OTHER: Final = "other"
# Of so many files it is remembered that they were counted; one of them that is still there tells where the new ones
# begin.
_REMEMBERED: Final = 1000
STATES: Final = ("pending", "running", "complete", "failed", "deleted")
# The feed of a file that is none.
NO_FEED: Final = "none"
OUTCOMES: Final = ("new", "changed", "unchanged", "repeated", "rejected")


@dataclass(slots=True)
class Vitals:
    """Sizes in bytes, instants in microseconds; None for what is not known (yet)."""

    reports: dict[str, int] = field(default_factory=dict)
    report_bytes: int = 0
    polls: int = 0
    # The newest poll that is not in the future, and how many stores have polls in the future.
    newest_poll_us: int | None = None
    stores_ahead: int = 0
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    stores: dict[str, int] | None = None
    stores_as_of_us: int | None = None
    database_bytes: int = 0
    wal_bytes: int = 0
    free_bytes: dict[str, int] = field(default_factory=dict)


class Watcher:
    """Reads the vitals of one database, and counts the rows that come in from now on, by whichever process.

    What is there now is not counted: counters begin at 0 with the server, and no prune and no restore turns them back.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._file: object = None
        self._rows = Counter({(feed, outcome): 0 for feed in (*FEEDS, NO_FEED) for outcome in OUTCOMES})
        self._rejects: Counter[str] = Counter()
        # (number, instant) of files that are counted, the last one seen at the end; the newest of all those instants.
        self._seen: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._newest_us = time.time_ns() // 1000
        # The last of them that was there at the last look.
        self._last: tuple[int, int] | None = None
        # Polls at the last count, and what was new since; the data version and the time of that count.
        self._polls = 0
        self._counted: int | None = None
        self._count_again_s = 0.0

    def begin(self) -> None:
        """Remember what was loaded before. Without it the clock tells, which may be set back before the first look."""
        with suppress(DatabaseError), self._lock, self._database.read() as connection:
            self._remember(connection)
            self._newest_us = max((loaded_us for _, loaded_us in self._seen), default=0)

    def _remember(self, connection: sqlite3.Connection) -> None:
        self._seen.clear()
        self._seen.extend(loads.newest_files(connection, _REMEMBERED))
        self._newest_us = max([self._newest_us, *(loaded_us for _, loaded_us in self._seen)])
        self._last = self._seen[-1] if self._seen else None

    def read(self) -> Vitals:
        """The vitals of now; without a database those of an empty one. `DatabaseError` when it cannot be read."""
        found = Vitals(reports=dict.fromkeys(STATES, 0))
        found.database_bytes, found.wal_bytes = self._database.sizes()
        for name, folder in (("database", self._settings.database.parent), ("reports", self._settings.reports_dir)):
            if folder.is_dir():
                found.free_bytes[name] = shutil.disk_usage(folder).free
        if not self._database.exists():
            return found
        with self._lock, self._database.read() as connection:
            if self._file != self._database.identity():
                # Another file stands at the path, with other polls.
                self._file, self._counted, self._count_again_s = self._database.identity(), None, 0.0
            self._read_on(connection)
            found.reports |= reports.count_by_state(connection)
            found.report_bytes = tombstones.bytes_taken(connection)
            found.polls = self._count(connection)
            newest = newest_poll(self._database, connection, self._settings.rules.latest_us(time.time_ns() // 1000))
            found.newest_poll_us, found.stores_ahead = newest.poll_us, newest.ahead.count
            found.rows, found.rejects = dict(self._rows), dict(self._rejects)
        self._stores(found)
        return found

    def _read_on(self, connection: sqlite3.Connection) -> None:
        """Count the files that came in since the last look.

        Numbers of pruned files are given again, but only above those that are there: while one that was counted is, new
        ones are above it. When none is (all were pruned, an old backup was restored), the new ones are known by their
        instants.
        """
        there = next((seen for seen in reversed(self._seen) if loads.is_there(connection, *seen)), None)
        if there != self._last:
            # Files are gone, and polls may be too.
            self._counted, self._count_again_s = None, 0.0
        last, after_us = (there[0], -1) if there is not None else (0, self._newest_us)
        for number, loaded_us, feed, counts, reasons in loads.since(connection, last, after_us):
            there = number, loaded_us
            self._seen.append(there)
            self._newest_us = max(self._newest_us, loaded_us)
            for outcome in OUTCOMES:
                self._rows[feed or NO_FEED, outcome] += getattr(counts, outcome)
            if feed == "polls":
                self._polls += counts.new
            for reason, count in reasons.items():
                known = reason in self._rejects or len(self._rejects) < _MOST_REASONS
                self._rejects[reason if known else OTHER] += count
        self._last = there
        if there is None:
            # All that is there now is looked at, and need not be again.
            self._remember(connection)

    def _count(self, connection: sqlite3.Connection) -> int:
        """Polls that are stored.

        Between two counts, the last one and what came in since; only removing is seen later.
        """
        version = stores.data_version(connection)
        if version != self._counted and time.monotonic() >= self._count_again_s:
            began = time.monotonic()
            self._polls = polls.count(connection)
            self._counted = version
            self._count_again_s = time.monotonic() + _COUNTING_REST * (time.monotonic() - began)
        return self._polls

    def _stores(self, found: Vitals) -> None:
        settings = self._settings
        kept = snapshots.latest(self._database, settings.rules, settings.default_timezone)
        if kept is not None:
            by_status = Counter(kept.columns["status"].tolist())
            found.stores = {name: by_status[place] for place, name in enumerate(STATUSES)}
            found.stores_as_of_us = kept.moment.as_of_us
