"""Small pushes of polls that come in at once share one transaction, and one row in the list of loads.

A push that brings news (a store that is new, a poll that needs a note) is a load of its own, and so is one that comes
in alone, unless very many do: then a load of up to a minute has them all. Whatever is done together, each push is
counted as if it had been stored alone, after those before it.
"""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from storemon_flask.database import loads, polls, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.errors import SERVER_STOPPING, DataError, Stopped, StoremonError, lack_of_memory
from storemon_flask.feeds.csv_exact import Room
from storemon_flask.feeds.load import (
    LoadOptions,
    LoadResult,
    SmallPolls,
    load_sources,
    read_small_polls,
    store_together,
)
from storemon_flask.feeds.schema import TIMESTAMP_FUTURE
from storemon_flask.feeds.sources import Source
from storemon_flask.model import DAY_US, Counts

log = logging.getLogger("storemon.web")

# A larger body is a load of its own.
MOST_BYTES: Final = 16_384
# How long the first of a group waits for others, where there were some before.
GATHER_S: Final = 0.05
_MOST_PUSHES: Final = 500
# So many pushes in a row that come in alone are loads of their own, and then one in so many seconds.
_OWN_LOADS: Final = 30
_OWN_LOAD_EVERY_S: Final = 30.0
# A load that pushes share takes them for so long.
_SHARED_LOAD_S: Final = 60.0
# Without an answer for so long, the threads that wait are needed elsewhere.
_SLOW_S: Final = 0.25


# Store number and time.
_Key = tuple[int, int]


@dataclass(eq=False, slots=True)
class _Push:
    """One push on its way: what it brings, and what came of it (None: it must be a load of its own)."""

    read: SmallPolls
    options: LoadOptions
    leads: bool = False
    woken: threading.Event = field(default_factory=threading.Event)
    result: LoadResult | None = None
    error: StoremonError | None = None


@dataclass(slots=True)
class _SharedLoad:
    """A load that pushes are added to: its number, its file (number, and when it was loaded), until when, and its room
    for rejects.
    """

    load: int
    file: tuple[int, int]
    until_s: float
    room: Room


class PollGroups:
    """The groups of one application, or of one listener. Safe to share between threads."""

    def __init__(self, database: Database, name: str = "pushes", check: Callable[[], None] = lambda: None) -> None:
        """`name` is that of the file of a load that is shared; `check` raises when nothing is to be stored any more."""
        self._database = database
        self._name = name
        self._check_more = check
        self._changed = threading.Condition()
        self._waiting: deque[_Push] = deque()
        # How many pushes are being read, and whether one of them leads: it stores what waits.
        self._arriving = 0
        self._led = False
        # How many were in the last group: as many will probably come again.
        self._expected = 1
        self._began_s = float("inf")
        self._shared: _SharedLoad | None = None
        self._own_loads = float(_OWN_LOADS)
        self._counted_s = time.monotonic()

    @property
    def is_slow(self) -> bool:
        """Whether a group has waited long for the database already: another push had better come again."""
        return time.monotonic() - self._began_s > _SLOW_S

    def load(self, source: Source, options: LoadOptions) -> LoadResult:
        """Load polls that may be stored together with those of others; return when they are committed.

        The source can be opened again. Result and errors are those of `load_sources`.
        """
        result = None
        if source.size <= MOST_BYTES and not (options.atomic or options.dry_run) and self._database.exists():
            result = self._load_together(source, options)
        return load_sources(self._database, [source], options) if result is None else result

    def _load_together(self, source: Source, options: LoadOptions) -> LoadResult | None:
        """Return what came of the source in a group; None when it must be a load of its own."""
        with self._changed:
            self._arriving += 1
        push: _Push | None = None
        try:
            read = read_small_polls(source, options)
            if read.rows and not read.summary.notes and TIMESTAMP_FUTURE not in read.log.reasons:
                push = _Push(read, options)
        except DataError:
            # A load of its own keeps what was wrong.
            return None
        finally:
            with self._changed:
                self._arriving -= 1
                if push is not None:
                    push.leads = not self._led
                    self._led = True
                    self._waiting.append(push)
                if self._is_gathered():
                    self._changed.notify_all()
        if push is None:
            return None
        if not push.leads:
            push.woken.wait()
        if push.leads:
            self._lead()
        if push.error is not None:
            raise copy.copy(push.error)
        return push.result

    def _lead(self) -> None:
        """Store everything that waits, this thread's push first, and hand over to one that came in meanwhile."""
        group: list[_Push] = []
        try:
            self._began_s = time.monotonic()
            self._gather()
            if len(self._waiting) == 1 and self._takes_own_load():
                group = self._take()
                return
            with lack_of_memory("storing these polls"), self._database.write(check=self._check) as connection:
                # Those too that came in while the lock was waited for.
                group = self._take()
                shared = self._apply(connection, [push for push in group if not _is_given_up(push)])
            self._shared = shared
        except BaseException as error:
            self._shared = None
            group = group or self._take()
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, StoremonError):
                # Whosever fault it is, the others must not suffer.
                log.exception("%d pushes could not be stored together; each is stored alone", len(group))
            for push in group:
                push.result, push.error = None, error if isinstance(error, StoremonError) else None
        finally:
            self._hand_over(group)

    def _hand_over(self, group: list[_Push]) -> None:
        self._began_s = float("inf")
        with self._changed:
            self._expected = len(group)
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].woken.set()
        for push in group:
            push.woken.set()

    def _gather(self) -> None:
        """Wait for those who are being read, and for as many as there were last time."""
        with self._changed:
            self._changed.wait_for(self._is_gathered, GATHER_S)

    def _is_gathered(self) -> bool:
        return not self._arriving and len(self._waiting) >= min(self._expected, _MOST_PUSHES)

    def _take(self) -> list[_Push]:
        with self._changed:
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_PUSHES))]

    def _takes_own_load(self) -> bool:
        """Return whether a push that comes in alone is a load of its own: too many of them would hide the others."""
        now_s = time.monotonic()
        since_s, self._counted_s = now_s - self._counted_s, now_s
        self._own_loads = min(self._own_loads + since_s / _OWN_LOAD_EVERY_S, _OWN_LOADS)
        if self._own_loads < 1:
            return False
        self._own_loads -= 1
        return True

    def _check(self) -> None:
        self._check_more()
        if self._database.stopping:
            raise Stopped(f"{SERVER_STOPPING}; nothing of this was stored")

    def _apply(self, connection: Connection, group: list[_Push]) -> _SharedLoad | None:
        """Store those of the group that bring no news, in one load; return it."""
        ids = {store_id: None for push in group for store_id, _, _ in push.read.rows}
        known, _ = stores.rows_of(connection, list(ids))
        number = dict(zip(known.ids, known.number.tolist(), strict=True))
        last_us = dict(zip(known.ids, known.last_poll_us.tolist(), strict=True))
        complete_from_us = stores.complete_from(connection) or 0
        plain = [push for push in group if _brings_no_news(push, last_us, complete_from_us)]
        if not plain:
            return self._shared
        polls_of = [[((number[store_id], us), active) for store_id, us, active in push.read.rows] for push in plain]
        statuses = polls.statuses_at(connection, {key for rows in polls_of for key, _ in rows})
        for push, rows in zip(plain, polls_of, strict=True):
            _count(push.read, rows, statuses)
        shared = self._shared
        if shared is not None and not _takes_more(connection, shared):
            shared = None
        options = replace(plain[-1].options, check=self._check)
        room = Room() if shared is None else shared.room
        reads = [push.read for push in plain]
        before = shared.load if shared else 0
        load = store_together(connection, self._database, self._name, reads, options, before, room)
        if shared is None:
            (file,) = loads.newest_files(connection, 1)
            shared = _SharedLoad(load, file, time.monotonic() + _SHARED_LOAD_S, room)
        else:
            loads.merge_newest_file(connection, shared.file[0])
        for push in plain:
            push.result = LoadResult(load, [push.read.summary])
        return shared


def _is_given_up(push: _Push) -> bool:
    """Return whether nobody waits for what comes of a push any more; that is its error then."""
    try:
        push.options.check()
    except Stopped as error:
        push.error = Stopped(f"{error.message}; nothing of this was stored")
        return True
    return False


def _brings_no_news(push: _Push, last_us: Mapping[str, int], complete_from_us: int) -> bool:
    """Return whether a load of this push alone would have no notes (`load_notes`): its stores were polled before, not
    later than the clock allows, and its polls neither lie before a prune nor move the newest poll by more than a day.
    """
    before_us = [last_us.get(store_id, -1) for store_id, _, _ in push.read.rows]
    times_us = [us for _, us, _ in push.read.rows]
    return (
        min(before_us) >= 0
        and max(before_us) <= push.options.latest_us
        and min(times_us) >= complete_from_us
        and max(times_us) <= max(before_us) + DAY_US
    )


def _count(read: SmallPolls, rows: list[tuple[_Key, bool]], statuses: dict[_Key, bool]) -> None:
    """Set what becomes of the rows of a push, and let `statuses`, what was stored before it, have them."""
    latest = dict(rows)
    before = {key: statuses.get(key) for key in latest}
    new = sum(status is None for status in before.values())
    unchanged = sum(before[key] is active for key, active in latest.items())
    read.summary.counts = Counts(
        rows=len(rows) + read.log.count,
        new=new,
        changed=len(latest) - new - unchanged,
        unchanged=unchanged,
        repeated=len(rows) - len(latest),
        rejected=read.log.count,
    )
    read.summary.reasons, read.summary.rejects = dict(read.log.reasons.most_common()), read.log.rejects
    statuses.update(latest)


def _takes_more(connection: Connection, shared: _SharedLoad) -> bool:
    """Return whether pushes may be added to that load: its time is not over, and nothing was loaded after it."""
    return (
        time.monotonic() < shared.until_s
        and loads.next_number(connection, shared.load) is None
        and loads.newest_files(connection, 1) == [shared.file]
    )
