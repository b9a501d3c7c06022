"""The hours of one command, archive or request: one replacement set, however many files it has (SPEC 2)."""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.small import Rows
from storemon_flask.model import FileSummary, Hours, Ints
from storemon_flask.storage import stores

KEPT: Final = "another hours row of this store was rejected; the store keeps the hours it had"
# A row as one integer: store << 37 | day << 34 | start second << 17 | end second.
_STORE, _DAY, _START = 37, 34, 17
_SECONDS: Final = (1 << _START) - 1
_Block = tuple[Ints, Ints, Callable[[list[int]], list[str]]]


class HoursSet:
    """Gathers the hours files of a load and applies them together."""

    def __init__(self) -> None:
        self.files: list[tuple[FileSummary, RejectLog]] = []
        self.spoiled: set[str] = set()
        # Per file and block: keys, lines, and how to get at the rows' texts.
        self._blocks: list[list[_Block]] = []
        self._ids: dict[str, int] = {}

    def add(self, summary: FileSummary, log: RejectLog, blocks: Iterable[Rows], spoiled: set[str]) -> None:
        """One file's good rows, and the stores it has bad rows of; nothing is kept when reading it fails half-way."""
        read = [(self._keys(rows), rows.line, rows.texts) for rows in blocks]
        self.files.append((summary, log))
        self._blocks.append(read)
        self.spoiled |= spoiled

    def apply(self, connection: sqlite3.Connection, unusable: list[str]) -> bool:
        """Replace the hours of every store in the set and fill in the summaries; whether anything changed.

        `unusable` names the files of the load that could not be read: they may have held more hours of the same stores.
        """
        for store_id in self.spoiled:
            self._ids.setdefault(store_id, len(self._ids))
        old = self._stored(connection)
        kept = {store_id for store_id in self.spoiled if self._has(old, store_id)}
        self._reject_rows_of(kept)
        per_file = [self._usable(blocks, kept) for blocks in self._blocks]
        keys = np.concatenate([np.empty(0, dtype=np.int64), *per_file])
        ends = np.cumsum([len(part) for part in per_file]).tolist()
        distinct, first = np.unique(keys, return_index=True)
        old = old[np.isin(old >> _STORE, distinct >> _STORE)]
        is_first = np.zeros(len(keys), dtype=bool)
        is_first[first] = True
        for (summary, log), part, end in zip(self.files, per_file, ends, strict=True):
            self._count(summary, log, part, is_first[end - len(part) : end], old)
        changed = np.unique(np.setxor1d(distinct, old, assume_unique=True) >> _STORE)
        self._replace(connection, distinct[np.isin(distinct >> _STORE, changed)])
        if self.files:
            self._note(self.files[-1][0], distinct, kept, old[~np.isin(old, distinct)], unusable)
        return bool(len(changed))

    def _keys(self, rows: Rows) -> Ints:
        """The rows as integers, with a store's place among the ids of the set."""
        used = np.unique(rows.codes[0])
        place = np.zeros(len(rows.values[0]) + 1, dtype=np.int64)
        for code in used.tolist():
            place[code] = self._ids.setdefault(rows.values[0][code], len(self._ids))
        day, start, end = (
            np.array([value if isinstance(value, int) else 0 for value in found], dtype=np.int64)[codes]
            for found, codes in zip(rows.values[1:], rows.codes[1:], strict=True)
        )
        return (place[rows.codes[0]] << _STORE) | (day << _DAY) | (start << _START) | end

    def _stored(self, connection: sqlite3.Connection) -> Ints:
        """The hours that the set's stores have so far, as integers, ascending."""
        known, _ = stores.rows_of(connection, list(self._ids))
        if not len(known.number):
            return np.empty(0, dtype=np.int64)
        hours = stores.hours(connection, int(known.number.min()), int(known.number.max()))
        at = np.minimum(np.searchsorted(known.number, hours.store), len(known.number) - 1)
        mine = known.number[at] == hours.store
        place = np.array([self._ids[store_id] for store_id in known.ids], dtype=np.int64)[at[mine]]
        return np.sort(
            (place << _STORE) | (hours.day[mine] << _DAY) | (hours.start_s[mine] << _START) | hours.end_s[mine]
        )

    def _has(self, keys: Ints, store_id: str) -> bool:
        """Whether one of the ascending keys is of that store."""
        place = self._ids[store_id]
        first, stop = np.searchsorted(keys, [place << _STORE, (place + 1) << _STORE]).tolist()
        return bool(stop > first)

    def _usable(self, blocks: list[_Block], kept: set[str]) -> Ints:
        keys = np.concatenate([np.empty(0, dtype=np.int64), *(keys for keys, _, _ in blocks)])
        return keys[~np.isin(keys >> _STORE, [self._ids[store_id] for store_id in kept])] if kept else keys

    def _reject_rows_of(self, kept: set[str]) -> None:
        if not kept:
            return
        places = [self._ids[store_id] for store_id in kept]
        for (_, log), blocks in zip(self.files, self._blocks, strict=True):
            for keys, line, texts in blocks:
                rows = np.flatnonzero(np.isin(keys >> _STORE, places)).tolist()
                for row, text in zip(rows, texts(rows) if rows else [], strict=True):
                    log.add(int(line[row]), KEPT, text)

    def _count(self, summary: FileSummary, log: RejectLog, keys: Ints, is_first: np.ndarray, old: Ints) -> None:
        counts = summary.counts
        once = keys[is_first]
        same = np.isin(once, old)
        # The same store, day and start with another end is that row, changed.
        altered = ~same & np.isin(once >> _START, old >> _START)
        counts.repeated = len(keys) - len(once)
        counts.unchanged = int(same.sum())
        counts.changed = int(altered.sum())
        counts.new = len(once) - counts.unchanged - counts.changed
        counts.rejected = log.count
        counts.rows = len(keys) + counts.rejected
        all_day = int((((once >> _START) & _SECONDS) == (once & _SECONDS)).sum())
        if all_day:
            summary.notes.append(f"{all_day:,} rows with equal start and end were read as 24 hours")

    def _replace(self, connection: sqlite3.Connection, keys: Ints) -> None:
        """These rows, ascending, become the hours of their stores."""
        places, store = np.unique(keys >> _STORE, return_inverse=True)
        ids = list(self._ids)
        stores.replace_hours(
            connection,
            [ids[place] for place in places.tolist()],
            Hours(store, (keys >> _DAY) & 7, (keys >> _START) & _SECONDS, keys & _SECONDS),
        )

    def _note(self, summary: FileSummary, keys: Ints, kept: set[str], gone: Ints, unusable: list[str]) -> None:
        if len(gone):
            summary.notes.append(f"{len(gone):,} earlier rows of these stores were replaced")
            if unusable:
                ids = list(self._ids)
                summary.notes += [
                    f"{ids[place]}: lost earlier hours, and {', '.join(unusable)} could not be read; was its week in there?"
                    for place in np.unique(gone >> _STORE).tolist()
                ]
        for store_id in sorted(self.spoiled):
            if store_id in kept:
                summary.notes.append(f"{store_id}: a row was rejected; the store keeps the hours it had")
            elif self._has(keys, store_id):
                summary.notes.append(f"{store_id}: a row was rejected; only its other rows apply")
            else:
                summary.notes.append(f"{store_id}: no row could be used and it had none before; it counts as open 24x7")
