"""A file's polls, sorted and waiting, outside the write lock and in bounded memory.

Rows are gathered into runs; each run is sorted, rid of repeats, and spooled (in memory while small, then in a temporary
file that disappears with the process). The runs are put together again one cell at a time: one week of one group of
stores.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from storemon_flask.errors import DatabaseError, DataError
from storemon_flask.model import WEEK_US, Bools, Ints

RUN_ROWS: Final = 1 << 19
STORES_PER_CELL: Final = 2048
_CELLS_AHEAD: Final = 1
_SPOOL_BYTES: Final = 8 << 20
# A key is store << 41 | (instant within its week) << 1 | active: a week is less than 2^40 microseconds. That leaves 22
# bits for the stores of one file.
STORE_SHIFT: Final = 41
MOST_STORES: Final = 1 << 22
IN_WEEK: Final = (1 << STORE_SHIFT) - 1


class StagedPolls:
    """Polls of one file by store (an index into `ids`) and instant; a later row for the same two wins."""

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
        """Rows in file order; `store` indexes `ids`, which may hold ids that no row uses."""
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
        """The rows' places in `self.ids`. Blocks that share one growing list of ids pay for each of them once."""
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
        """(week, keys) for every week and group of stores that has polls; keys ascending, one per store and instant.

        The next cell is put together in another thread while the caller stores this one.
        """
        self._flush()
        with ThreadPoolExecutor(1, thread_name_prefix="cells") as pool:
            under_way: deque[tuple[int, Future[Ints]]] = deque()
            for week, group in sorted(self._cells):
                under_way.append((week, pool.submit(self._cell, week, group)))
                if len(under_way) > _CELLS_AHEAD:
                    yield self._next(under_way)
            while under_way:
                yield self._next(under_way)

    @staticmethod
    def _next(under_way: "deque[tuple[int, Future[Ints]]]") -> tuple[int, Ints]:
        week, keys = under_way.popleft()
        return week, keys.result()

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
        """Forget everything and give the disk back."""
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
                f"the temporary file beside the database cannot grow: {error.strerror or error}; nothing of this was stored"
            ) from error
        for group, (first, stop) in enumerate(pairwise(edges)):
            if stop > first:
                self._cells.setdefault((week, group), []).append((start + first * 8, stop - first))


def latest_of(keys: Ints) -> Ints:
    """The keys ascending, of those that differ in the last bit only (one store and instant) the one given last."""
    ascending = np.sort(keys)
    moment = ascending >> 1
    if not (moment[1:] == moment[:-1]).any():
        return ascending
    order = np.argsort(keys >> 1, kind="stable")
    keys = keys[order]
    moment = keys >> 1
    latest: Ints = keys[np.append(moment[1:] != moment[:-1], True)]
    return latest
