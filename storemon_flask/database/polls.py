"""Polls as packed weeks: one row per week and store, an array of big-endian integers `timestamp_us * 2 + active`.

Keyed by week first, so that a report reads neighbouring pages of the few weeks it needs, however long the history is.
No other module knows this layout.
"""

import sqlite3
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from storemon_flask.database import day_sums, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.poll_changes import (
    ABSENT,
    IN_WEEK,
    MOST_STORES,
    STORE_SHIFT,
    PollChanges,
    changes_of_merge,
)
from storemon_flask.database.stores import NOBODY_AHEAD, Ahead
from storemon_flask.errors import DatabaseError, DataError
from storemon_flask.model import EVER_US, WEEK_US, Bools, Counts, Ints, Polls

_PACKED: Final = np.dtype(">i8")
POLL_BYTES: Final = _PACKED.itemsize
# Up to so many stores of a week are looked up one by one; for more, all of the week between them is read.
_FEW_STORES: Final = 64
_BATCH_BYTES: Final = 1 << 20
_NEVER: Final = np.iinfo(np.int64).max
RUN_ROWS: Final = 1 << 19
STORES_PER_CELL: Final = 2048
_SPOOL_BYTES: Final = 8 << 20
_FEW_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of staged polls, and of each of their stores.

    `before_us` is the newest poll that a store had before (-1: none), `newest_us` the newest of those applied.
    `too_old` of the polls are older than `complete_from_us`, up to which polls were pruned (None: none were).
    """

    counts: Counts
    complete_from_us: int | None
    too_old: int
    number: Ints
    before_us: Ints
    newest_us: Ints


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest poll up to some latest time: `poll_us`, None when there is none; and the stores that have later polls.

    This holds for every latest time from `poll_us` up to, without, `holds_until_us`.
    """

    poll_us: int | None
    holds_until_us: int = -EVER_US
    ahead: Ahead = NOBODY_AHEAD

    def holds_at(self, latest_us: int) -> bool:
        """Return whether it holds for that latest time too, of the same data."""
        return (EVER_US if self.poll_us is None else self.poll_us) <= latest_us < self.holds_until_us


class StagedPolls:
    """Polls of one file, sorted and waiting, outside the write lock and in bounded memory.

    By store (an index into `ids`) and timestamp; a later row for the same two wins. Rows are gathered into runs; each
    is sorted, rid of repeats, and spooled (in memory while small, then in a temporary file that disappears with the
    process). The runs are merged one cell at a time: one week of one group of stores.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is where the spool goes when it outgrows memory."""
        self.ids: list[str] = []
        self.repeated = 0
        self._index: dict[str, int] = {}
        self._shared: list[str] | None = None
        self._local = np.empty(0, dtype=np.int64)
        self._weeks: list[Ints] = []
        self._keys: list[Ints] = []
        self._waiting = 0
        # Open for as long as this object is; close() ends it.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(folder))  # noqa: SIM115
        self._cells: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(self, ids: list[str], store: Ints, instant_us: Ints, active: Bools) -> None:
        """Add rows in file order; `store` indexes `ids`, which may hold ids that no row uses."""
        if not len(store):
            return
        local = self._local_of(ids, store)
        week = instant_us // WEEK_US
        self._weeks.append(week)
        self._keys.append((local << STORE_SHIFT) | ((instant_us - week * WEEK_US) << 1) | active)
        self._waiting += len(store)
        if self._waiting >= RUN_ROWS:
            self._flush()

    def _local_of(self, ids: list[str], store: Ints) -> Ints:
        """Return the rows' indexes in `self.ids`. Blocks that share one growing list of ids pay for each id once."""
        if ids is not self._shared:
            self._shared, self._local = ids, np.empty(0, dtype=np.int64)
        if len(ids) > len(self._local):
            fresh = np.full(len(ids) - len(self._local), -1, dtype=np.int64)
            self._local = np.concatenate([self._local, fresh])
        local = self._local[store]
        unseen = np.flatnonzero(local < 0)
        if len(unseen):
            for code in np.unique(store[unseen]).tolist():
                self._local[code] = self._index.setdefault(ids[code], len(self._index))
                if self._local[code] == len(self.ids):
                    self.ids.append(ids[code])
            if len(self.ids) > MOST_STORES:
                raise DataError(
                    f"the file names more than {MOST_STORES:,} stores, the most that one file can; "
                    "look whether store_id is the right column, or split the file; nothing of this was stored"
                )
            local = self._local[store]
        return local

    def cells(self) -> Iterator[tuple[int, Ints]]:
        """Yield (week, keys) of every week and group of stores that has polls; keys ascending, one per store and time.

        Where there are many, the next cell is put together in another thread while the caller stores this one.
        """
        self._flush()
        if self._spool.tell() <= _FEW_BYTES:
            # Among many threads the start of one more takes longer than all of this.
            yield from ((week, self._cell(week, group)) for week, group in sorted(self._cells))
            return
        with ThreadPoolExecutor(1, thread_name_prefix="cells") as pool:
            cells = ((week, pool.submit(self._cell, week, group)) for week, group in sorted(self._cells))
            # Pairs, so that the next one is under way; nothing follows the last.
            for (week, keys), _ in pairwise(chain(cells, [(0, Future[Ints]())])):
                yield week, keys.result()

    def _cell(self, week: int, group: int) -> Ints:
        parts = []
        for offset, count in self._cells[week, group]:
            self._spool.seek(offset)
            parts.append(np.frombuffer(self._spool.read(count * 8), dtype=np.int64))
        keys = np.concatenate(parts)
        latest = latest_of(keys) if len(parts) > 1 else keys
        self.repeated += len(keys) - len(latest)
        return latest

    def close(self) -> None:
        """Delete the temporary file."""
        self._spool.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        week, keys = np.concatenate(self._weeks), np.concatenate(self._keys)
        self._weeks, self._keys, self._waiting = [], [], 0
        # Sixteen-bit integers are sorted by radix: ten times faster, and a week number fits until the year 2598.
        order = np.argsort(week.astype(np.int16), kind="stable")
        week, keys = week[order], keys[order]
        edges = np.flatnonzero(np.diff(week, prepend=-1, append=-1))
        for first, stop in pairwise(edges.tolist()):
            latest = latest_of(keys[first:stop])
            self.repeated += stop - first - len(latest)
            self._spool_week(int(week[first]), latest)

    def _spool_week(self, week: int, keys: Ints) -> None:
        groups = np.arange(0, len(self.ids) + STORES_PER_CELL, STORES_PER_CELL)
        edges = np.searchsorted(keys, groups << STORE_SHIFT).tolist()
        start = self._spool.tell()
        try:
            self._spool.write(keys.tobytes())
        except OSError as error:
            raise DatabaseError(
                f"the temporary file beside the database cannot grow: {error.strerror or error}; "
                "nothing of this was stored"
            ) from error
        for group, (first, stop) in enumerate(pairwise(edges)):
            if stop > first:
                self._cells.setdefault((week, group), []).append((start + first * 8, stop - first))


def apply(
    connection: Connection, staged: StagedPolls, record: Callable[[int, PollChanges], None] = lambda week, changes: None
) -> Applied:
    """Merge staged polls into the weeks. Counts new, changed and unchanged polls; writes only weeks that change.

    `record` is given what becomes of each week of some stores.
    """
    counts = Counts()
    number, before = stores.numbers_and_last_polls(connection, staged.ids)
    first = np.full(len(number), np.iinfo(np.int64).max)
    last = np.full(len(number), -1)
    complete_from_us, too_old = stores.complete_from(connection), 0
    late = day_sums.LatePolls.of(connection)
    for week, keys in staged.cells():
        if complete_from_us is not None and week * WEEK_US < complete_from_us:
            too_old += int(np.count_nonzero((keys & IN_WEEK) >> 1 < complete_from_us - week * WEEK_US))
        index = keys >> STORE_SHIFT
        begins = np.flatnonzero(np.diff(index, prepend=-1))
        present = index[begins]
        stored = _stored_keys(connection, week, present, number)
        merged, dirty, was = _merge(keys, stored, counts)
        _write(connection, week, merged, dirty, number)
        if len(dirty) and late.is_late(week * WEEK_US):
            altered = keys[was != 1 + (keys & 1)] if len(was) else keys
            late.add(number[altered >> STORE_SHIFT], week * WEEK_US + ((altered & IN_WEEK) >> 1))
        record(week, changes_of_merge(keys, begins, was, stored, number))
        ends = np.append(begins[1:], len(keys)) - 1
        first[present] = np.minimum(first[present], week * WEEK_US + ((keys[begins] & IN_WEEK) >> 1))
        last[present] = np.maximum(last[present], week * WEEK_US + ((keys[ends] & IN_WEEK) >> 1))
    late.drop(connection)
    connection.executemany(
        "UPDATE store_record SET first_poll_us = min(coalesce(first_poll_us, ?), ?), "
        "last_poll_us = max(coalesce(last_poll_us, ?), ?) WHERE number = ?",
        zip(*[first.tolist()] * 2, *[last.tolist()] * 2, number.tolist(), strict=True),
    )
    return Applied(counts, complete_from_us, too_old, number, before, last)


def read_keys(connection: Connection, week: int, number: Ints) -> Ints:
    """Return what the week holds of the stores `number`, as keys by index, ascending."""
    return _stored_keys(connection, week, np.arange(len(number)), number)


def replace_keys(connection: Connection, week: int, keys: Ints, changed: Ints, number: Ints) -> None:
    """Make the week of the stores `changed` (indexes in `number`) hold their keys among those, ascending, alone."""
    day_sums.drop_week(connection, week, number[changed])
    empty = changed[~np.isin(changed, keys >> STORE_SHIFT)]
    connection.executemany(
        "DELETE FROM poll_week WHERE week = ? AND store = ?", [(week, store) for store in number[empty].tolist()]
    )
    _write(connection, week, keys, np.setdiff1d(changed, empty), number)


def update_spans(connection: Connection, number: Ints) -> None:
    """Set first and newest poll of those stores to those of what is stored."""
    weeks = weeks_from(connection, 0)
    spans = []
    for store in number.tolist():
        first_us = first_poll_in(connection, store, weeks)
        last_us = None if first_us is None else _last_poll_in(connection, store, reversed(weeks))
        spans.append((first_us, last_us, store))
    connection.executemany("UPDATE store_record SET first_poll_us = ?, last_poll_us = ? WHERE number = ?", spans)


def weeks_of(connection: Connection, store: int) -> list[int]:
    """Return the weeks in which the store has polls, ascending."""
    look = "SELECT 1 FROM poll_week WHERE week = ? AND store = ?"
    return [week for week in weeks_from(connection, 0) if connection.execute(look, (week, store)).fetchone()]


def read(connection: Connection, number: Ints, first_us: int, last_us: int) -> Polls:
    """Return the polls of the stores `number` (ascending) in `[first_us, last_us]`; `store` is the index in `number`.

    None from before the time up to which polls were pruned: not all of them are there.
    """
    return next(read_in_batches(connection, number, first_us, last_us, int(_NEVER)))


def read_in_batches(connection: Connection, number: Ints, first_us: int, last_us: int, most: int) -> Iterator[Polls]:
    """Yield the same in batches of about `most` polls, one at least: whole weeks, by store, then by time."""
    pruned_until_us = stores.complete_from(connection)
    complete_from_us = EVER_US if pruned_until_us is None else pruned_until_us
    first_us = max(first_us, complete_from_us)
    rows: list[tuple[int, bytes, int]] = []
    size = 0
    for week in range(first_us // WEEK_US, last_us // WEEK_US + 1):
        for store, blob in _rows(connection, week, number):
            if size + len(blob) > most * POLL_BYTES and rows:
                rows.sort(key=lambda row: row[0])
                yield _polls(rows, number, first_us, last_us, complete_from_us)
                rows, size = [], 0
            rows.append((store, blob, week))
            size += len(blob)
    rows.sort(key=lambda row: row[0])
    yield _polls(rows, number, first_us, last_us, complete_from_us)


def count_stores_polled(connection: Connection, number: Ints, first_us: int, last_us: int) -> int:
    """Return how many of the stores `number` (ascending) have a poll in `[first_us, last_us]`."""
    polled: set[int] = set()
    for week in range(last_us // WEEK_US, first_us // WEEK_US - 1, -1):
        missing = number[~np.isin(number, list(polled))] if polled else number
        rows = _rows(connection, week, missing) if len(missing) else []
        if not rows:
            continue
        sizes = np.array([len(blob) // POLL_BYTES for _, blob in rows])
        if not sizes.all():
            raise _damaged()
        packed = np.frombuffer(b"".join([blob for _, blob in rows]), dtype=_PACKED)
        inside = (packed >= 2 * first_us) & (packed <= 2 * last_us + 1)
        any_inside = np.logical_or.reduceat(inside, np.cumsum(sizes) - sizes)
        polled |= {store for (store, _), is_one in zip(rows, any_inside.tolist(), strict=True) if is_one}
    return len(polled)


def newest_up_to(connection: Connection, number: Ints, until_us: int) -> Ints:
    """Return the newest stored poll up to `until_us` of each store of `number` (ascending); -1 where there is none.

    Polls from before a prune count too, as far as they are there.
    """
    newest_us = np.full(len(number), -1)
    week = until_us // WEEK_US
    while (missing := np.flatnonzero(newest_us < 0)).size and week >= 0:
        rows = [(store, blob, week) for store, blob in _rows(connection, week, number[missing])]
        polls = _polls(rows, number[missing], week * WEEK_US, until_us, 0)
        ends = np.flatnonzero(np.diff(polls.store, append=-1))
        newest_us[missing[polls.store[ends]]] = polls.instant_us[ends]
        week -= 1
    return newest_us


def newest(connection: Connection, latest_us: int) -> Newest:
    """Return the newest poll of all up to `latest_us`.

    Usually no poll is later, and one look at the stores tells. Of a store that has later polls the week of that time
    is read, and older weeks only while no other store has a newer poll.
    """
    last_us = stores.newest_poll(connection)
    if last_us is None or last_us <= latest_us:
        return Newest(last_us)
    ahead, (newest_us, first_us) = (
        stores.polled_after(connection, latest_us),
        stores.polls_around(connection, latest_us),
    )
    both = stores.numbers_polled_after(connection, latest_us, ahead.count)
    poll_us, week = -1 if newest_us is None else newest_us, latest_us // WEEK_US
    holds_until_us = min(last_us if first_us is None else first_us, (week + 1) * WEEK_US)
    looked_at: int | None = week
    while len(both) and looked_at is not None and poll_us < (looked_at + 1) * WEEK_US:
        for at in range(0, len(both), _FEW_STORES):
            rows = _rows(connection, looked_at, both[at : at + _FEW_STORES])
            instant_us = _unpacked([(store, blob, looked_at) for store, blob in rows])[1] >> 1
            poll_us = max(poll_us, int(instant_us[instant_us <= latest_us].max(initial=-1)))
            holds_until_us = min(holds_until_us, int(instant_us[instant_us > latest_us].min(initial=holds_until_us)))
        (looked_at,) = connection.execute("SELECT max(week) FROM poll_week WHERE week < ?", [looked_at]).fetchone()
    return Newest(None if poll_us < 0 else poll_us, holds_until_us, ahead)


def statuses_at(connection: Connection, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bool]:
    """Return whether the polls of those store numbers and times are active, of those that are stored."""
    by_week: dict[tuple[int, int], list[int]] = {}
    for number, timestamp_us in wanted:
        by_week.setdefault((timestamp_us // WEEK_US, number), []).append(timestamp_us)
    statuses: dict[tuple[int, int], bool] = {}
    for (week, number), times in by_week.items():
        row = connection.execute("SELECT polls FROM poll_week WHERE week = ? AND store = ?", (week, number)).fetchone()
        if row is None:
            continue
        blob: bytes = row[0]

        def packed(at: int, blob: bytes = blob) -> int:
            """Return the poll at an index of the blob as the integer in which it is stored."""
            return int.from_bytes(blob[at * POLL_BYTES : (at + 1) * POLL_BYTES], "big")

        # Few of many: to decode them all takes longer.
        size = len(blob) // POLL_BYTES
        for timestamp_us in times:
            at = bisect_left(range(size), 2 * timestamp_us, key=packed)
            if at < size and packed(at) >> 1 == timestamp_us:
                statuses[number, timestamp_us] = bool(packed(at) & 1)
    return statuses


def count(connection: Connection) -> int:
    """Return how many polls there are."""
    (packed,) = connection.execute("SELECT coalesce(sum(length(polls)), 0) FROM poll_week").fetchone()
    return int(packed) // POLL_BYTES


def count_of_store(connection: Connection, number: int, first_us: int, last_us: int) -> int:
    """Return how many polls the store has in `[first_us, last_us]`; whole weeks are counted by their lengths."""
    first, last = first_us // WEEK_US, last_us // WEEK_US
    # Weeks come first in the key: one look-up for each is far less than a walk over all of them.
    (packed,) = connection.execute(
        "WITH RECURSIVE span (week) AS (SELECT :first + 1 UNION ALL SELECT week + 1 FROM span WHERE week + 1 < :last) "
        "SELECT coalesce(sum(length(polls)), 0) FROM span CROSS JOIN poll_week USING (week) "
        "WHERE store = :store AND week < :last",
        {"first": first, "last": last, "store": number},
    ).fetchone()
    total = int(packed) // POLL_BYTES
    for week in {first, last}:
        rows = [(number, blob, week) for _, blob in _rows(connection, week, np.array([number]))]
        instant_us = _unpacked(rows)[1] >> 1
        total += int(np.count_nonzero((instant_us >= first_us) & (instant_us <= last_us)))
    return total


def count_between(connection: Connection, number: Ints, first_us: int, last_us: int) -> int:
    """Return how many polls `read` returns; whole weeks are counted by their lengths."""
    complete_from_us = stores.complete_from(connection)
    first_us = first_us if complete_from_us is None else max(first_us, complete_from_us)
    first, last, total = first_us // WEEK_US, last_us // WEEK_US, 0
    for week in range(first + 1, last) if len(number) else ():
        total += _size(connection, week, number) // POLL_BYTES
    for week in {first, last} if len(number) and first_us <= last_us else ():
        instant_us = _unpacked([(store, blob, week) for store, blob in _rows(connection, week, number)])[1] >> 1
        total += int(np.count_nonzero((instant_us >= first_us) & (instant_us <= last_us)))
    return total


def count_before(connection: Connection, before_us: int) -> int:
    """Return how many polls there are before that time."""
    week = before_us // WEEK_US
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(polls)), 0) FROM poll_week WHERE week < ?", [week]
    ).fetchone()
    return int(size) // POLL_BYTES + sum(
        _polls_before(blob, before_us)
        for (blob,) in connection.execute("SELECT polls FROM poll_week WHERE week = ?", [week])
    )


def count_after(connection: Connection, after_us: int) -> int:
    """Return how many polls there are after that time."""
    week = after_us // WEEK_US
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(polls)), 0) FROM poll_week WHERE week > ?", [week]
    ).fetchone()
    # Only stores with later polls are read.
    of_week = "SELECT polls FROM store_record JOIN poll_week ON week = ? AND store = number WHERE last_poll_us > ?"
    return int(size) // POLL_BYTES + sum(
        len(blob) // POLL_BYTES - _polls_before(blob, after_us + 1)
        for (blob,) in connection.execute(of_week, (week, after_us))
    )


def delete_outside(connection: Connection, week: int, store: int, first_us: int, end_us: int) -> int:
    """Delete the store's polls of that week that are not in `[first_us, end_us)`; return how many those were."""
    row = connection.execute("SELECT polls FROM poll_week WHERE week = ? AND store = ?", (week, store)).fetchone()
    if row is None:
        return 0
    blob: bytes = row[0]
    day_sums.drop_week(connection, week, np.array([store]))
    rest = blob[_polls_before(blob, first_us) * POLL_BYTES : _polls_before(blob, end_us) * POLL_BYTES]
    if not rest:
        connection.execute("DELETE FROM poll_week WHERE week = ? AND store = ?", (week, store))
    elif len(rest) < len(blob):
        connection.execute("UPDATE poll_week SET polls = ? WHERE week = ? AND store = ?", (rest, week, store))
    return (len(blob) - len(rest)) // POLL_BYTES


def first_poll_in(connection: Connection, store: int, weeks: Iterable[int]) -> int | None:
    """Return the store's first poll of those ascending weeks; None when there is none."""
    for week in weeks:
        row = connection.execute(
            "SELECT substr(polls, 1, 8) FROM poll_week WHERE week = ? AND store = ?", (week, store)
        ).fetchone()
        if row is not None:
            return int.from_bytes(row[0], "big") >> 1
    return None


def _last_poll_in(connection: Connection, store: int, weeks: Iterable[int]) -> int | None:
    """Return the store's last poll of those descending weeks; None when there is none."""
    for week in weeks:
        row = connection.execute(
            "SELECT substr(polls, -8) FROM poll_week WHERE week = ? AND store = ?", (week, store)
        ).fetchone()
        if row is not None:
            return int.from_bytes(row[0], "big") >> 1
    return None


def weeks_from(connection: Connection, week: int) -> list[int]:
    """Return the weeks from that one on in which any store has polls: a poll may lie a century ahead."""
    weeks: list[int] = []
    while True:
        (next_week,) = connection.execute("SELECT min(week) FROM poll_week WHERE week >= ?", [week]).fetchone()
        if next_week is None:
            return weeks
        weeks.append(next_week)
        week = next_week + 1


def read_all(connection: Connection) -> Iterator[tuple[Ints, Ints, Bools]]:
    """Yield store numbers, timestamps and `active` of every poll, by week, store and time, about 130,000 at a time."""
    for rows in _all_rows(connection):
        sizes, packed = _unpacked(rows)
        store = np.repeat(np.array([store for store, _, _ in rows], dtype=np.int64), sizes)
        yield store, packed >> 1, (packed & 1).astype(bool)


def check(
    connection: Connection, report_problem: Callable[[str], None], on_weeks: Callable[[int], None]
) -> tuple[int, int]:
    """Report weeks that are not whole, ascending or inside their week, and stores whose first or newest poll is wrong.

    Returns how many weeks and polls there are; `on_weeks` is called with the number of weeks that are done.
    """
    spans = connection.execute(
        "SELECT number, store_id, coalesce(first_poll_us, ?), coalesce(last_poll_us, -1) FROM store_record "
        "ORDER BY number",
        [int(_NEVER)],
    ).fetchall()
    number = np.array([row[0] for row in spans], dtype=np.int64)
    first, last = np.full(len(number), _NEVER), np.full(len(number), -1)
    weeks = count = 0
    for rows in _all_rows(connection):
        try:
            sizes, packed = _unpacked(rows)
        except sqlite3.DatabaseError:
            for number_of_row, blob, week in rows:
                fault = _fault(blob, week)
                if fault:
                    report_problem(f"week {week} of store number {number_of_row} {fault}")
            whole = [row for row in rows if row[1] and len(row[1]) % POLL_BYTES == 0]
            sizes = np.array([len(blob) // POLL_BYTES for _, blob, _ in whole], dtype=np.int64)
            packed = np.frombuffer(b"".join([blob for _, blob, _ in whole]), dtype=_PACKED).astype(np.int64)
        else:
            whole = rows
        if whole:
            store, begins = np.array([row[0] for row in whole], dtype=np.int64), np.cumsum(sizes) - sizes
            # A row of no store is reported with the references between tables.
            known = np.isin(store, number)
            index = np.searchsorted(number, store[known])
            np.minimum.at(first, index, np.minimum.reduceat(packed, begins)[known] >> 1)
            np.maximum.at(last, index, np.maximum.reduceat(packed, begins)[known] >> 1)
        weeks += len(rows)
        count += len(packed)
        on_weeks(len(rows))
    for (_, store_id, first_us, last_us), real_first, real_last in zip(
        spans, first.tolist(), last.tolist(), strict=True
    ):
        if (first_us, last_us) != (real_first, real_last):
            report_problem(
                f"store {store_id!r} says that its polls reach from {_time_text(first_us)} to {_time_text(last_us)}; "
                f"they reach from {_time_text(real_first)} to {_time_text(real_last)}"
            )
    return weeks, count


def _polls(
    rows: list[tuple[int, bytes, int]], number: Ints, first_us: int, last_us: int, complete_from_us: int
) -> Polls:
    sizes, packed = _unpacked(rows)
    inside = np.flatnonzero((packed >= 2 * first_us) & (packed <= 2 * last_us + 1))
    picked = packed[inside]
    index = np.searchsorted(number, np.array([store for store, _, _ in rows], dtype=np.int64))
    of_row = np.diff(np.searchsorted(inside, np.cumsum(sizes)), prepend=0)
    return Polls(np.repeat(index, of_row), picked >> 1, (picked & 1).astype(bool), complete_from_us)


def _rows(connection: Connection, week: int, number: Ints, column: str = "polls") -> list[tuple[int, Any]]:
    if len(number) <= _FEW_STORES:
        sql = f"SELECT store, {column} FROM poll_week WHERE week = ? AND store = ?"
        return [row for store in number.tolist() for row in connection.execute(sql, (week, store))]
    span = (week, int(number.min()), int(number.max()))
    rows = connection.execute(
        f"SELECT store, {column} FROM poll_week WHERE week = ? AND store BETWEEN ? AND ?", span
    ).fetchall()
    if int(number.max()) - int(number.min()) + 1 == len(number):
        return rows
    numbers = set(number.tolist())
    return [row for row in rows if row[0] in numbers]


def _size(connection: Connection, week: int, number: Ints) -> int:
    """Return the bytes of the week's polls of those ascending stores."""
    first, last = int(number[0]), int(number[-1])
    if last - first + 1 > len(number):
        return sum(length for _, length in _rows(connection, week, number, "length(polls)"))
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(polls)), 0) FROM poll_week WHERE week = ? AND store BETWEEN ? AND ?",
        (week, first, last),
    ).fetchone()
    return int(size)


def _all_rows(connection: Connection) -> Iterator[list[tuple[int, bytes, int]]]:
    """Yield (store number, packed polls, week) of all rows, about `_BATCH_BYTES` at a time."""
    rows: list[tuple[int, bytes, int]] = []
    size = 0
    for row in connection.execute("SELECT store, polls, week FROM poll_week ORDER BY week, store"):
        rows.append(row)
        size += len(row[1])
        if size >= _BATCH_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _fault(blob: bytes, week: int) -> str | None:
    """Return what is wrong with a packed week; None when nothing is."""
    if not blob or len(blob) % POLL_BYTES:
        return f"has {len(blob)} bytes; it must be a multiple of 8, and not 0"
    timestamp_us = np.frombuffer(blob, dtype=_PACKED).astype(np.int64) >> 1
    if (timestamp_us // WEEK_US != week).any():
        return "has polls outside that week"
    return "is not in ascending order" if (np.diff(timestamp_us) <= 0).any() else None


def _polls_before(blob: bytes, before_us: int) -> int:
    """Return how many of a week's polls are before that time."""
    return int(np.searchsorted(np.frombuffer(blob, dtype=_PACKED).astype(np.int64), before_us * 2))


def _time_text(timestamp_us: int) -> str:
    return str(np.datetime64(timestamp_us, "us")) if -1 < timestamp_us < _NEVER else "never"


def _unpacked(rows: list[tuple[int, bytes, int]]) -> tuple[Ints, Ints]:
    """Return how many polls each of the rows (store, blob, week) has, and all of them, packed.

    An error of SQLite's kind for a damaged row: SQLite does not see what is in the middle of a long row, and a page of
    zeros there would be polls of 1970, so that a report would quietly do without the real ones.
    """
    lengths = np.array([len(blob) for _, blob, _ in rows], dtype=np.int64)
    sizes = lengths // POLL_BYTES
    if (sizes * POLL_BYTES != lengths).any() or not sizes.all():
        raise _damaged()
    packed = np.frombuffer(b"".join([blob for _, blob, _ in rows]), dtype=_PACKED).astype(np.int64)
    if len(rows):
        begins = 2 * WEEK_US * np.array([week for _, _, week in rows], dtype=np.int64)
        ends = np.cumsum(sizes)
        # Of two polls of one time one is odd: the later is more than the odd one of the time before.
        rising = packed[1:] > packed[:-1] | 1
        rising[ends[:-1] - 1] = True
        inside = (packed[ends - sizes] >= begins) & (packed[ends - 1] < begins + 2 * WEEK_US)
        if not (rising.all() and inside.all()):
            raise _damaged()
    return sizes, packed


def _damaged() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("a week of polls is not what was written")
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def _stored_keys(connection: Connection, week: int, present: Ints, number: Ints) -> Ints:
    """Return what the week holds of the stores `present` (indexes in `number`), as keys by index, ascending."""
    stored = _rows(connection, week, np.sort(number[present]))
    if not stored:
        return np.empty(0, dtype=np.int64)
    index = dict(zip(number[present].tolist(), present.tolist(), strict=True))
    rows = sorted((index[n], blob, week) for n, blob in stored)
    sizes, packed = _unpacked(rows)
    store = np.repeat(np.array([store for store, _, _ in rows], dtype=np.int64), sizes)
    return (store << STORE_SHIFT) | (packed - 2 * week * WEEK_US)


def _merge(keys: Ints, stored: Ints, counts: Counts) -> tuple[Ints, Ints, Ints]:
    """Return stored and new keys together, the new ones winning; the indexes of the stores that change; and what was
    stored for each new key (of an empty week nothing is said).
    """
    if not len(stored):
        counts.new += len(keys)
        return keys, _distinct(keys >> STORE_SHIFT), stored
    at = np.minimum(np.searchsorted(stored >> 1, keys >> 1), len(stored) - 1)
    known = (stored[at] >> 1) == (keys >> 1)
    same = stored[at] == keys
    counts.new += int((~known).sum())
    counts.changed += int((known & ~same).sum())
    counts.unchanged += int(same.sum())
    before = np.where(known, 1 + (stored[at] & 1), ABSENT)
    if same.all():
        return stored, np.empty(0, dtype=np.int64), before
    return latest_of(np.concatenate([stored, keys])), _distinct(keys[~same] >> STORE_SHIFT), before


def _distinct(ascending: Ints) -> Ints:
    return ascending[np.flatnonzero(np.diff(ascending, prepend=-1))]


def _write(connection: Connection, week: int, keys: Ints, dirty: Ints, number: Ints) -> None:
    index = keys >> STORE_SHIFT
    first, stop = np.searchsorted(index, dirty).tolist(), np.searchsorted(index, dirty, side="right").tolist()
    blob = memoryview(((keys & IN_WEEK) + 2 * week * WEEK_US).astype(_PACKED).tobytes())
    size = POLL_BYTES
    connection.executemany(
        "INSERT INTO poll_week (week, store, polls) VALUES (?, ?, ?) "
        "ON CONFLICT (week, store) DO UPDATE SET polls = excluded.polls",
        (
            (week, store, blob[a * size : b * size])
            for store, a, b in zip(number[dirty].tolist(), first, stop, strict=True)
        ),
    )


def latest_of(keys: Ints) -> Ints:
    """Return the keys ascending; of those that differ in the last bit only (one store and time) the one given last."""
    ascending = np.sort(keys)
    moment = ascending >> 1
    if not (moment[1:] == moment[:-1]).any():
        return ascending
    order = np.argsort(keys >> 1, kind="stable")
    keys = keys[order]
    moment = keys >> 1
    latest: Ints = keys[np.append(moment[1:] != moment[:-1], True)]
    return latest
