"""What loads did, kept so that it can be undone, and undoing it.

A load touches the polls and facts (hours, special hours, zones, names) that it brings, whether it changes them or not.
It stands as long as it is not undone.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from storemon_flask.characters import count_text
from storemon_flask.clock import minute_text
from storemon_flask.database import day_sums, loads, poll_changes, polls, stores
from storemon_flask.database.connections import Connection, named_rows
from storemon_flask.database.poll_changes import History, PollChanges
from storemon_flask.database.stores import Version
from storemon_flask.errors import Conflict, DatabaseError
from storemon_flask.labels import is_packed
from storemon_flask.model import DAY_US, UNDATED, WEEK_US, Bools, Counts, FileSummary, Ints

# As whose feed an undo, and a removal, is listed.
UNDO_FEED: Final = "undo"
REMOVAL_FEED: Final = "removal"
# That a load removed a store, among the facts that it changed: it touches all that the store has.
_REMOVED: Final = "removal"
# So much may be kept however small the database is.
ALWAYS_BYTES = 16 << 20
# What a row of a table takes beside its values, about.
_ROW_BYTES: Final = 40
_CHUNK: Final = 500
_MOST_NAMED: Final = 10
# To delete more stores than this it is worth an index.
_FEW_STORES: Final = 20


@dataclass(frozen=True, slots=True)
class UndoLimits:
    """How long what loads replaced is kept, and how many hundredths of the database it may be."""

    days: int = 30
    percent: int = 10


DEFAULT_LIMITS: Final = UndoLimits()


@dataclass(frozen=True, slots=True)
class _FactTable:
    """The table of a feed of facts: its columns for date (empty: it has none) and values."""

    name: str
    day: str
    values: tuple[str, ...]


_FACTS: Final = {
    "hours": _FactTable("hours", "valid_from", ("day", "start_s", "end_s")),
    "special_hours": _FactTable("special_hours", "date", ("start_s", "end_s")),
    "timezones": _FactTable("timezone", "valid_from", ("name",)),
    "stores": _FactTable("store_record", "", ("name", "group_name", "labels")),
}
# How the stores are named that a later load has something of, by feed.
_CONFLICT_WORDS: Final = {
    "hours": "hours of",
    "special_hours": "special hours of",
    "timezones": "a zone of",
    "stores": "a name of",
    _REMOVED: "the removal of",
}
_FACT_WORDS: Final = {
    "hours": ("row of hours", "rows of hours"),
    "special_hours": ("row of special hours", "rows of special hours"),
    "timezones": ("zone", "zones"),
    "stores": ("name", "names"),
}


@dataclass(slots=True)
class Effect:
    """What an undo does, or would do: `taken_out` and `returned` by feed, polls whose status is again that of before,
    the stores that go and those that come back, and sentences on what goes on all the same.
    """

    taken_out: dict[str, int] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)
    changed_polls: int = 0
    stores_gone: list[str] = field(default_factory=list)
    stores_back: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows it is about."""
        return sum(self.taken_out.values()) + sum(self.returned.values()) + self.changed_polls

    def sentences(self) -> list[str]:
        """Say what happens, one sentence for each kind."""
        sentences = []
        for feed in dict.fromkeys((*self.taken_out, *self.returned)):
            out, back = self.taken_out.get(feed, 0), self.returned.get(feed, 0)
            sentences += [f"taken out: {_amount(feed, out)}"] if out else []
            sentences += [f"returned: {_amount(feed, back)}"] if back else []
        if self.changed_polls:
            sentences.append(f"{count_text(self.changed_polls, 'poll')} with the earlier status again")
        for stores_said, what in ((self.stores_gone, "gone"), (self.stores_back, "back")):
            if stores_said:
                sentences.append(f"{count_text(len(stores_said), 'store')} {what}: {_listed(stores_said)}")
        return sentences + self.warnings


class Recorder:
    """Keeps what one load does, in the transaction that does it."""

    def __init__(self, connection: Connection, load: int) -> None:
        self._connection = connection
        self._load = load
        self._bytes = 0

    def polls(self, week: int, changes: PollChanges) -> None:
        """Keep what the load did to polls of a week."""
        if not len(changes.number):
            return
        packed = poll_changes.pack(changes)
        self._connection.execute(
            "INSERT INTO poll_change (load, week, part, changes) SELECT :load, :week, "
            "coalesce((SELECT max(part) FROM poll_change WHERE load = :load AND week = :week), 0) + 1, :changes",
            {"load": self._load, "week": week, "changes": packed},
        )
        self._bytes += len(packed) + _ROW_BYTES

    @contextmanager
    def facts(self, feed: str, touched: Iterable[Version], changed: Collection[Version]) -> Iterator[None]:
        """Keep what the block does, which touches those stores and dates of a feed, and changes some of them."""
        number = {}
        if _any_facts(self._connection, feed):
            number = stores.numbers_of(self._connection, [*{store_id: None for store_id, _ in changed}])
        before = {
            key: _fact_text(_fact_rows(self._connection, feed, number[key[0]], key[1])) if key[0] in number else None
            for key in changed
        }
        yield
        versions = list(dict.fromkeys([*touched, *changed]))
        others = {store_id: None for store_id, _ in versions if store_id not in number}
        number |= stores.numbers_of(self._connection, [*others])
        self.add_facts(
            (feed, number[store_id], day, int((store_id, day) in before), before.get((store_id, day)))
            for store_id, day in versions
            if store_id in number
        )

    def add_facts(self, rows: Iterable[tuple[str, int, int, int, str | None]]) -> None:
        """Keep (feed, store number, day, whether it was changed, rows of before); the first of a load counts."""
        listed = list(rows)
        self._connection.executemany(
            "INSERT INTO fact_change (load, feed, store, day, changed, before) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (load, feed, store, day) DO UPDATE SET changed = 1, before = excluded.before "
            "WHERE fact_change.changed = 0 AND excluded.changed = 1",
            [(self._load, *row) for row in listed],
        )
        self._bytes += sum(len(before or "") + _ROW_BYTES for *_, before in listed)

    def finish(self) -> None:
        """Note how much is kept, and which stores the load made. Of a load whose first files were dropped, the others
        are not kept either.
        """
        (dropped,) = self._connection.execute("SELECT undo_dropped_load FROM data_version").fetchone()
        if self._load <= dropped:
            for table in ("poll_change", "fact_change"):
                self._connection.execute(f"DELETE FROM {table} WHERE load = ?", [self._load])
            self._bytes = 0
        self._connection.execute("UPDATE load SET undo_bytes = undo_bytes + ? WHERE id = ?", (self._bytes, self._load))
        self._connection.execute("UPDATE data_version SET undo_bytes = undo_bytes + ?", [self._bytes])
        self._connection.execute("UPDATE store_record SET created_load = ? WHERE created_load IS NULL", [self._load])
        self._bytes = 0


def drop_what_is_too_much(connection: Connection, limits: UndoLimits, now_us: int) -> None:
    """Drop what is kept of the oldest loads: those that are too old, then those that there is no room for."""
    while True:
        kept_bytes, after = connection.execute("SELECT undo_bytes, undo_dropped_load FROM data_version").fetchone()
        row = connection.execute("SELECT id, started_us FROM load WHERE id > ? ORDER BY id LIMIT 1", [after]).fetchone()
        if row is None:
            return
        load, started_us = row
        if started_us < now_us - limits.days * DAY_US or not limits.days:
            _drop_up_to(connection, load, "old", now_us)
        elif kept_bytes > _most_bytes(connection, limits):
            _drop_up_to(connection, load, "room", now_us)
        else:
            return


def _most_bytes(connection: Connection, limits: UndoLimits) -> int:
    if not limits.percent:
        return 0
    (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    return max(ALWAYS_BYTES, int(pages) * int(size) * limits.percent // 100)


def drop_pruned(connection: Connection, last_load: int, now_us: int) -> None:
    """Drop what is kept of loads up to that number, which are to be deleted; and let no store name them."""
    _drop_up_to(connection, last_load, "pruned", now_us)
    connection.execute("UPDATE store_record SET created_load = 0 WHERE created_load <= ?", [last_load])
    connection.execute("UPDATE removed_store SET created_load = 0 WHERE created_load <= ?", [last_load])


def _drop_up_to(connection: Connection, last_load: int, reason: str, now_us: int) -> None:
    (after,) = connection.execute("SELECT undo_dropped_load FROM data_version").fetchone()
    if last_load <= after:
        return
    span = (after, last_load)
    (size,) = connection.execute(
        "SELECT coalesce(sum(undo_bytes), 0) FROM load WHERE id > ? AND id <= ?", span
    ).fetchone()
    for table, column in (("poll_change", "load"), ("fact_change", "load"), ("removed_store", "removed_by")):
        connection.execute(f"DELETE FROM {table} WHERE {column} > ? AND {column} <= ?", span)
    connection.execute(
        "UPDATE load SET undo_bytes = 0, undo_dropped_us = ?, undo_dropped = ? WHERE id > ? AND id <= ?",
        (now_us, reason, *span),
    )
    connection.execute("UPDATE data_version SET undo_dropped_load = ?, undo_bytes = undo_bytes - ?", (last_load, size))


def undo(
    connection: Connection,
    load: int,
    now_us: int,
    limits: UndoLimits,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, FileSummary]:
    """Undo a load, as a load of its own; return the number of that, and its only file.

    `NotFound` without the load, `Conflict` when it cannot be undone; the transaction is to be rolled back then.
    """
    _require_undoable(connection, load)
    work = _Undo(connection, load, progress, loads.begin(connection, now_us, undoes=load))
    work.run()
    loads.set_undone(connection, load, work.number)
    summary = _record_as_load(connection, work, f"load {load}", UNDO_FEED, now_us, limits)
    return work.number, summary


def plan(connection: Connection, load: int) -> Effect:
    """Return what undoing a load would do; changes nothing. Errors as of `undo`."""
    _require_undoable(connection, load)
    work = _Undo(connection, load, lambda done, total: None, 0)
    work.run()
    return work.effect


def reason_against(connection: Connection, load: int) -> str:
    """Return why a load cannot be undone, as far as one look tells; empty when nothing is against it."""
    try:
        _require_undoable(connection, load)
    except Conflict as error:
        return error.message
    return ""


def remove_store(connection: Connection, store_id: str, now_us: int, limits: UndoLimits) -> tuple[int, FileSummary]:
    """Remove a store with its polls, hours, zones and name, as a load; return its number, and its only file."""
    known, _ = stores.rows_of(connection, [store_id])
    number = known.number
    work = _Changes(connection, loads.begin(connection, now_us))
    for week in polls.weeks_of(connection, int(number[0])):
        work.change_polls(week, number, polls.read_keys(connection, week, number), np.empty(0, dtype=np.int64))
    for feed in _FACTS:
        for day in _fact_days(connection, feed, int(number[0])):
            work.change_fact(feed, int(number[0]), day, None)
    work.recorder.add_facts([(_REMOVED, int(number[0]), 0, 1, None)])
    work.remove_stores(number.tolist())
    (addresses,) = connection.execute(
        "SELECT count(*) FROM push_token WHERE store_id = ? AND revoked_us IS NULL", [store_id]
    ).fetchone()
    if addresses:
        which, end = ("address still works", "it") if addresses == 1 else ("addresses still work", "them")
        work.effect.warnings.append(
            f"{addresses:,} push {which}: the next push makes the store again; `storemon tokens revoke` ends {end}"
        )
    return work.number, _record_as_load(connection, work, f"store {store_id}", REMOVAL_FEED, now_us, limits)


def remove_facts(
    connection: Connection, store_id: str, feed: str, day: int | None, now_us: int, limits: UndoLimits
) -> tuple[int, FileSummary] | None:
    """Remove a store's hours or special hours, of one date or of all, as a load; None when there are none."""
    known, _ = stores.rows_of(connection, [store_id])
    number = int(known.number[0])
    days = [one for one in _fact_days(connection, feed, number) if day is None or one == day]
    if not days:
        return None
    work = _Changes(connection, loads.begin(connection, now_us))
    for one in days:
        work.change_fact(feed, number, one, None)
    name = f"{feed.replace('_', ' ')} of store {store_id}"
    return work.number, _record_as_load(connection, work, name, REMOVAL_FEED, now_us, limits)


def check(connection: Connection, report_problem: Callable[[str], None]) -> int:
    """Report what is kept for undoing loads and is not whole; return how many rows that is."""
    rows = 0
    bytes_of: dict[int, int] = {}
    for load, week, packed in connection.execute("SELECT load, week, changes FROM poll_change"):
        rows += 1
        bytes_of[load] = bytes_of.get(load, 0) + len(packed) + _ROW_BYTES
        try:
            poll_changes.unpack(packed)
        except DatabaseError as error:
            report_problem(f"load {load}, week {week}: {error.message}")
    for load, feed, store, before in connection.execute("SELECT load, feed, store, before FROM fact_change"):
        rows += 1
        bytes_of[load] = bytes_of.get(load, 0) + len(before or "") + _ROW_BYTES
        if not _is_fact(feed, before):
            report_problem(f"load {load}, {feed} of store number {store}: the rows of before are not what was written")
    together = 0
    for load, size in connection.execute("SELECT id, undo_bytes FROM load"):
        together += size
        if size != bytes_of.get(load, 0):
            report_problem(
                f"load {load}: {size:,} bytes are to be kept for undoing it, and {bytes_of.get(load, 0):,} are"
            )
    dropped, recorded_bytes = connection.execute("SELECT undo_dropped_load, undo_bytes FROM data_version").fetchone()
    if recorded_bytes != together:
        report_problem(f"{recorded_bytes:,} bytes are kept for undoing loads, and {together:,} when they are added up")
    for (load,) in connection.execute("SELECT id FROM load WHERE (undo_dropped_us IS NULL) = (id <= ?)", [dropped]):
        report_problem(f"load {load}: it is not certain whether what it replaced was dropped")
    for (store_id,) in connection.execute(
        "SELECT store_id FROM removed_store WHERE number IN (SELECT number FROM store_record) "
        "OR store_id IN (SELECT store_id FROM store_record)"
    ):
        report_problem(f"store {store_id!r} is there, and was removed")
    return rows


class _Changes:
    """Changes of what is stored that are recorded as the load `number`; with 0 nothing is changed, only counted."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.recorder = Recorder(connection, number)
        self.effect = Effect()
        self.stores: set[int] = set()

    def change_polls(self, week: int, numbers: Ints, old: Ints, new: Ints) -> None:
        """Make the week of those stores hold `new` in place of `old`, all it holds of them."""
        changes = poll_changes.difference(old, new, numbers)
        out, back = (
            int((changes.after == poll_changes.ABSENT).sum()),
            int((changes.before == poll_changes.ABSENT).sum()),
        )
        self._count("polls", out, back)
        self.effect.changed_polls += len(changes.time) - out - back
        if self.number and len(changes.number):
            polls.replace_keys(self.connection, week, new, np.searchsorted(numbers, changes.number), numbers)
            self.recorder.polls(week, changes)
            self.stores.update(changes.number.tolist())

    def change_fact(self, feed: str, store: int, day: int, text: str | None) -> None:
        """Make a store have those rows of a feed on a date, in place of what it has."""
        current = _fact_text(_fact_rows(self.connection, feed, store, day))
        if current == text:
            return
        self._count(feed, _fact_count(current), _fact_count(text))
        if not self.number:
            return
        self.recorder.add_facts([(feed, store, day, 1, current)])
        _write_fact(self.connection, feed, store, day, text)

    def remove_stores(self, numbers: list[int]) -> None:
        """Take stores out that have nothing any more."""
        with _index_on_stores(self.connection) if self.number and len(numbers) > _FEW_STORES else nullcontext():
            self._remove_stores(numbers)

    def _remove_stores(self, numbers: list[int]) -> None:
        for number in numbers:
            store_id, created = self.connection.execute(
                "SELECT store_id, created_load FROM store_record WHERE number = ?", [number]
            ).fetchone()
            self.effect.stores_gone.append(store_id)
            if self.number:
                self.connection.execute("DELETE FROM store_record WHERE number = ?", [number])
                self.connection.execute(
                    "INSERT INTO removed_store (number, store_id, removed_by, created_load) VALUES (?, ?, ?, ?)",
                    (number, store_id, self.number, created or 0),
                )
                self.stores.discard(number)
        if self.number and numbers:
            day_sums.drop_stores(self.connection, numbers)

    def _count(self, feed: str, out: int, back: int) -> None:
        for counted, count in ((self.effect.taken_out, out), (self.effect.returned, back)):
            if count:
                counted[feed] = counted.get(feed, 0) + count


class _Undo(_Changes):
    """A load that is being undone."""

    def __init__(self, connection: Connection, load: int, progress: Callable[[int, int], None], number: int) -> None:
        super().__init__(connection, number)
        self._load = load
        self._progress = progress
        self._undone = _undone(connection)
        self._chain = self._read_chain()
        # The load that stands again, if that is what happens.
        self._again: int | None = self._chain[-1] if len(self._chain) % 2 == 0 else None
        rows = connection.execute("SELECT id, undoes FROM load WHERE id > ?", [load]).fetchall()
        self._counts = {later: self._is_in_the_way(later, undoes) for later, undoes in rows}
        # Later loads that changed what was before the one that stands again: it might have brought what it did not.
        self._beneath = {
            later
            for later, undoes in rows
            if self._counts[later] and undoes is not None and self._again is not None and undoes < self._again
        }
        # By load and feed: how many polls, or of how many stores anything else.
        self._conflicts: dict[int, dict[str, int]] = {}
        # Who removed which store, whether that stands or not.
        self._removals: list[tuple[int, int]] = connection.execute(
            "SELECT load, store FROM fact_change WHERE feed = ? ORDER BY load", [_REMOVED]
        ).fetchall()
        # By load: stores that it removed, perhaps without a row of this load.
        self._removers: dict[int, set[int]] = {}

    def _is_in_the_way(self, later: int, undoes: int | None) -> bool:
        """Whether a later load counts where it touched the same rows. One that is undone does not, nor does the undo of
        a load that itself is later: it stands again, or not.
        """
        return later not in self._undone and later != self.number and (undoes is None or undoes < self._load)

    def run(self) -> None:
        """Do it; `Conflict` when a later load touched the same rows."""
        numbers, exists = self._stores_then()
        self._bring_stores_back(numbers[exists])
        weeks = [
            week
            for (week,) in self.connection.execute(
                "SELECT DISTINCT week FROM poll_change WHERE load IN (?, ?) ORDER BY week", (self._load, self._first)
            )
        ]
        for done, week in enumerate(weeks):
            self._progress(done, len(weeks))
            self._undo_week(week)
        self._undo_facts()
        if self._conflicts or self._removers:
            raise self._conflict()
        if self.number:
            polls.update_spans(self.connection, np.array(sorted(self.stores), dtype=np.int64))
        self.remove_stores(_stored_among(self.connection, numbers[~exists]))
        self._progress(len(weeks), len(weeks))

    def _bring_stores_back(self, numbers: Ints) -> None:
        returning = set(numbers.tolist())
        removed = self.connection.execute("SELECT number, store_id, created_load FROM removed_store ORDER BY number")
        rows = [row for row in removed.fetchall() if row[0] in returning]
        self.effect.stores_back = [store_id for _, store_id, _ in rows]
        if self.number:
            self.connection.executemany(
                "INSERT INTO store_record (number, store_id, created_load) VALUES (?, ?, ?)", rows
            )
            self.connection.executemany("DELETE FROM removed_store WHERE number = ?", [row[:1] for row in rows])

    @property
    def _first(self) -> int:
        """The load back to which the history matters."""
        return self._load if self._again is None or not self._beneath else self._again

    def _undo_week(self, week: int) -> None:
        rows = [
            (load, poll_changes.unpack(packed))
            for load, packed in self.connection.execute(
                "SELECT load, changes FROM poll_change WHERE week = ? AND load >= ? AND load <> ? "
                "ORDER BY load DESC, part DESC",
                (week, self._first, self.number),
            )
        ]
        numbers = np.unique(
            np.concatenate([changes.number for load, changes in rows if load in (self._load, self._first)])
        )
        current = polls.read_keys(self.connection, week, numbers)
        history = History(current, numbers)
        complete_from_us = stores.complete_from(self.connection)
        first_time = 0 if complete_from_us is None else complete_from_us - week * WEEK_US
        touched: list[tuple[int, Ints]] = []
        changed, moments, brought = current, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for load, changes in rows:
            touched_moments, altered = history.take_back(changes)
            if load > self._load:
                touched.append((load, touched_moments))
            elif load == self._load:
                moments = poll_changes.union(moments, altered.moment)
                changed = poll_changes.revert(changed, altered, first_time)
            elif load == self._first:
                brought = poll_changes.union(brought, touched_moments)
        self._require_not_removed(numbers[np.unique(moments >> (poll_changes.STORE_SHIFT - 1))])
        either = poll_changes.union(moments, brought)
        for load, touched_moments in touched:
            if self._counts[load]:
                in_the_way = poll_changes.is_in(touched_moments, either if load in self._beneath else moments)
                self._add_conflict(load, "polls", int(in_the_way.sum()))
        if not (self._conflicts or self._removers):
            self.change_polls(week, numbers, current, changed)

    def _add_conflict(self, load: int, feed: str, count: int) -> None:
        if count:
            counts = self._conflicts.setdefault(load, {})
            counts[feed] = counts.get(feed, 0) + count

    def _require_not_removed(self, numbers: Ints) -> None:
        """A later removal of one of those stores is in the way, also when the store had no row of this load then."""
        for load, store in self._removals:
            if self._counts.get(load) and poll_changes.is_in(np.array([store]), numbers)[0]:
                self._removers.setdefault(load, set()).add(store)

    def _require_nothing_under_removals(self) -> None:
        """A removal that stands again would have removed what came back beneath it meanwhile."""
        removed = [store for load, store in self._removals if load == self._again]
        for load in self._beneath if removed else ():
            back = np.intersect1d(removed, _stores_of(self.connection, [load]))
            if len(back):
                self._removers.setdefault(load, set()).update(back.tolist())

    def _undo_facts(self) -> None:
        # Through all later loads, each row by the key of this one's: an index on stores would make every load slower.
        later = self.connection.execute(
            "SELECT later.load, own.load, own.feed, count(DISTINCT own.store) "
            "FROM fact_change AS later CROSS JOIN fact_change AS own "
            "ON own.load IN (:load, :first) AND own.feed = later.feed AND own.store = later.store "
            "AND (later.day = own.day OR later.feed IN ('hours', 'timezones') "
            "AND (later.day = :undated OR own.day = :undated AND own.load < :load)) "
            "WHERE later.load > :load AND later.load <> :number AND (own.changed = 1 OR own.load < :load) "
            "GROUP BY later.load, own.load, own.feed",
            {"load": self._load, "first": self._first, "undated": UNDATED, "number": self.number},
        ).fetchall()
        counts: dict[tuple[int, str], int] = {}
        for load, own_load, feed, count in later:
            # What stands again touched what its undo altered, and more.
            if self._counts[load] and (own_load == self._load or load in self._beneath):
                counts[load, feed] = max(counts.get((load, feed), 0), count)
        for (load, feed), count in counts.items():
            self._add_conflict(load, feed, count)
        self._require_nothing_under_removals()
        facts = self.connection.execute(
            "SELECT feed, store, day, before FROM fact_change WHERE load = ? AND changed = 1 AND feed <> ?",
            (self._load, _REMOVED),
        ).fetchall()
        self._require_not_removed(np.unique(np.array([row[1] for row in facts], dtype=np.int64)))
        if not (self._conflicts or self._removers):
            for feed, store, day, before in facts:
                self.change_fact(feed, store, day, before)

    def _stores_then(self) -> tuple[Ints, Bools]:
        """Return the stores that this load touched, or one that stands or not because of it; and which are there then.

        A store is there when the last load to touch it, of those that stand, did not remove it. What touched it before
        all loads that can be undone stands.
        """
        (dropped,) = self.connection.execute("SELECT undo_dropped_load FROM data_version").fetchone()
        gone = self._undone
        for at, load in enumerate(self._chain):
            gone = gone - {load} if at % 2 else gone | {load}
        numbers = _stores_of(self.connection, self._chain)
        removed_by = {store: load for load, store in self._removals if load not in gone}
        made_by_undone = self.connection.execute(
            "SELECT number, created_load FROM store_record WHERE created_load > :dropped "
            "UNION ALL SELECT number, created_load FROM removed_store WHERE created_load > :dropped",
            {"dropped": dropped},
        )
        doubtful = {number for number, created in made_by_undone if created in gone}.union(removed_by)
        exists = ~np.isin(numbers, list(doubtful))
        for load in self._standing(dropped, gone):
            if exists.all():
                break
            touched = numbers[~exists & np.isin(numbers, list(doubtful))]
            touched = np.intersect1d(touched, _stores_of(self.connection, [load]))
            doubtful.difference_update(touched.tolist())
            there = [number for number in touched.tolist() if removed_by.get(number) != load]
            exists |= np.isin(numbers, there)
        return numbers, exists

    def _read_chain(self) -> list[int]:
        """This load, the one that it undid, and so on: each stands when the one before does not, and the other way."""
        chain: list[int] = []
        load: int | None = self._load
        while load is not None:
            chain.append(load)
            row = self.connection.execute("SELECT undoes FROM load WHERE id = ?", [load]).fetchone()
            load = None if row is None else row[0]
        return chain

    def _standing(self, dropped: int, gone: set[int]) -> list[int]:
        """Loads, but no undos, that stand then and that something is kept of, the newest first."""
        kept_loads = "SELECT id FROM load WHERE undoes IS NULL AND id > ? ORDER BY id DESC"
        return [load for (load,) in self.connection.execute(kept_loads, [dropped]) if load not in gone]

    def _conflict(self) -> Conflict:
        for load, removed in self._removers.items():
            self._conflicts.setdefault(load, {}).setdefault(_REMOVED, len(removed))
        listed = sorted(self._conflicts.items(), reverse=True)
        named = "; ".join(f"load {load}: {_conflict_text(counts)}" for load, counts in listed[:_MOST_NAMED])
        more = f", and {count_text(len(listed) - _MOST_NAMED, 'other load')}" if len(listed) > _MOST_NAMED else ""
        return Conflict(
            f"load {self._load} cannot be undone: later loads brought or changed the same data ({named}{more}); undo "
            f"{'that one' if len(listed) == 1 else 'those'} first, the newest first, or load the right data; "
            "nothing was changed",
            conflicts=[{"load_id": load, "by_feed": counts} for load, counts in listed],
        )


def _require_undoable(connection: Connection, load: int) -> None:
    row = named_rows(
        connection,
        "SELECT load.*, started_us, (SELECT started_us FROM load AS by WHERE by.id = load.undone_by) AS undone_us, "
        "EXISTS (SELECT 1 FROM poll_change WHERE load = load.id) OR EXISTS (SELECT 1 FROM fact_change WHERE load = "
        "load.id) OR undoes IS NOT NULL AS is_kept FROM load WHERE id = ?",
        [load],
    ).fetchone()
    if row is None:
        raise loads.no_load(load)
    if row["undone_by"] is not None:
        when = "" if row["undone_us"] is None else f", {minute_text(row['undone_us'])}"
        raise Conflict(
            f"load {load} was undone by load {row['undone_by']}{when}; to have it again, undo load {row['undone_by']}"
        )
    if row["undo_dropped_us"] is not None:
        why = {
            "old": "it is kept for STOREMON_UNDO_DAYS",
            "room": "with what later loads replaced it would take more than STOREMON_UNDO_PERCENT of the database",
            "pruned": "older loads were pruned",
        }[row["undo_dropped"]]
        raise Conflict(
            f"load {load} cannot be undone any more: what it replaced was dropped "
            f"{minute_text(row['undo_dropped_us'])}, because {why}"
        )
    if not row["is_kept"]:
        raise Conflict(f"load {load} stored nothing, so there is nothing to undo")


@contextmanager
def _index_on_stores(connection: Connection) -> Iterator[None]:
    """Have an index in which SQLite finds that no polls name a deleted store: else it reads all weeks for each store.

    An index that was always there would make every load slower.
    """
    connection.execute("CREATE INDEX poll_week_store ON poll_week (store)")
    yield
    connection.execute("DROP INDEX poll_week_store")


def _stored_among(connection: Connection, numbers: Ints) -> list[int]:
    """Return which of those stores are there."""
    if not len(numbers):
        return []
    stored = {number for (number,) in connection.execute("SELECT number FROM store_record")}
    return [number for number in numbers.tolist() if number in stored]


def _undone(connection: Connection) -> set[int]:
    """Return the loads that are undone."""
    return {load for (load,) in connection.execute("SELECT id FROM load WHERE undone_by IS NOT NULL")}


def _stores_of(connection: Connection, numbers: Collection[int]) -> Ints:
    """Return the numbers of the stores that those loads touched, ascending."""
    parts = [np.empty(0, dtype=np.int64)]
    for load in numbers:
        rows = connection.execute("SELECT changes FROM poll_change WHERE load = ?", [load])
        parts += [np.unique(poll_changes.unpack(packed).number) for (packed,) in rows]
        rows = connection.execute("SELECT DISTINCT store FROM fact_change WHERE load = ?", [load])
        parts.append(np.array([store for (store,) in rows], dtype=np.int64))
    return np.unique(np.concatenate(parts))


def _record_as_load(
    connection: Connection, work: _Changes, name: str, feed: str, now_us: int, limits: UndoLimits
) -> FileSummary:
    """Record the changes as a load with one file, whose notes say what happened."""
    effect = work.effect
    returned = sum(effect.returned.values())
    summary = FileSummary(name, feed, notes=effect.sentences())
    summary.counts = Counts(rows=effect.rows, new=returned, changed=effect.rows - returned)
    loads.add_file(connection, work.number, now_us, summary)
    work.recorder.finish()
    drop_what_is_too_much(connection, limits, now_us)
    stores.data_changed(connection)
    stores.schedule_changed(connection)
    return summary


def _fact_rows(connection: Connection, feed: str, store: int, day: int) -> list[tuple[Any, ...]]:
    table = _FACTS[feed]
    columns = ", ".join(table.values)
    if not table.day:
        rows = connection.execute(f"SELECT {columns} FROM {table.name} WHERE number = ?", [store]).fetchall()
        return [row for row in rows if any(row)]
    return connection.execute(
        f"SELECT {columns} FROM {table.name} WHERE store = ? AND {table.day} = ? ORDER BY {columns}", (store, day)
    ).fetchall()


def _any_facts(connection: Connection, feed: str) -> bool:
    """Return whether there may be anything of a feed."""
    return connection.execute(f"SELECT 1 FROM {_FACTS[feed].name} LIMIT 1").fetchone() is not None


def _fact_days(connection: Connection, feed: str, store: int) -> list[int]:
    table = _FACTS[feed]
    if not table.day:
        return [0] if _fact_rows(connection, feed, store, 0) else []
    rows = connection.execute(f"SELECT DISTINCT {table.day} FROM {table.name} WHERE store = ? ORDER BY 1", [store])
    return [day for (day,) in rows]


def _write_fact(connection: Connection, feed: str, store: int, day: int, text: str | None) -> None:
    table = _FACTS[feed]
    rows = _read_fact(text)
    marks = ", ".join("?" * len(table.values))
    columns = ", ".join(table.values)
    if not table.day:
        (values,) = rows or [("",) * len(table.values)]
        connection.execute(f"UPDATE {table.name} SET ({columns}) = ({marks}) WHERE number = ?", (*values, store))
        return
    connection.execute(f"DELETE FROM {table.name} WHERE store = ? AND {table.day} = ?", (store, day))
    connection.executemany(
        f"INSERT INTO {table.name} (store, {table.day}, {columns}) VALUES (?, ?, {marks})",
        [(store, day, *row) for row in rows],
    )


def _fact_text(rows: list[tuple[Any, ...]]) -> str | None:
    return json.dumps(rows, separators=(",", ":")) if rows else None


def _fact_count(text: str | None) -> int:
    return len(_read_fact(text))


def _read_fact(text: str | None) -> Any:
    try:
        return [] if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatabaseError(f"what is kept for undoing a load is not what was written: {error}") from error


def _is_fact(feed: str, before: str | None) -> bool:
    if before is None:
        return True
    if feed not in _FACTS:
        return False
    kind = int if feed in ("hours", "special_hours") else str
    try:
        rows = _read_fact(before)
    except DatabaseError:
        return False
    width = len(_FACTS[feed].values)
    are_rows = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == width and all(type(value) is kind for value in row) for row in rows
    )
    return are_rows and (feed != "stores" or all(is_packed(row[-1]) for row in rows))


def _amount(feed: str, count: int) -> str:
    return count_text(count, "poll") if feed == "polls" else count_text(count, *_FACT_WORDS[feed])


def _conflict_text(counts: dict[str, int]) -> str:
    """Return the counts of a later load in words: polls, and of how many stores it has anything else."""
    return ", ".join(
        count_text(count, "poll") if feed == "polls" else f"{_CONFLICT_WORDS[feed]} {count_text(count, 'store')}"
        for feed, count in counts.items()
    )


def _listed(store_ids: list[str]) -> str:
    more = len(store_ids) - _MOST_NAMED
    return ", ".join(store_ids[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
