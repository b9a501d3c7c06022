"""The hours of one load: one replacement set, however many files it has (SPEC 2), compared with what is stored as
whole arrays.

Hours come in versions, each of one store and one local date: weekly hours from that date on, special hours on that
date. A row is one integer, version << 37 | weekday << 34 | start << 17 | end, where the version is an index and times
are seconds after midnight.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.characters import count_text, list_stores
from storemon_flask.feeds.csv_exact import RejectLog
from storemon_flask.feeds.readers import CodedRows
from storemon_flask.model import CLOSED, FOREVER, UNDATED, Bools, FileSummary, Hours, Ints, SpecialHours

STORE_KEEPS_HOURS: Final = "another hours row of this store was rejected; the store keeps the hours it had"
ONE_TIME_EMPTY: Final = (
    "only one of start_time_local and end_time_local is empty; both are when a store is closed all day"
)
CLOSED_AND_OPEN: Final = "another row of this store and date says otherwise about whether it is closed all day"

# That leaves 26 bits for versions: 67 million stores and dates in one load, whose texts alone would take 10 GB.
_VERSION: Final = 37
_WEEKDAY: Final = 34
_START: Final = 17
_SECONDS: Final = (1 << _START) - 1
# No time of day is as late: what `CLOSED` becomes.
_CLOSED: Final = _SECONDS

Version = tuple[str, int]


# The columns of a feed that hold a row's date, weekday (None: it has none) and start; its end follows the start.
_COLUMNS: Final = {"hours": (4, 1, 2), "special_hours": (1, None, 2)}


@dataclass(slots=True)
class _Block:
    """Rows of a file: keys (-1 once a row is rejected), lines, and a function that gives their texts."""

    keys: Ints
    line: Ints
    texts: Callable[[list[int]], list[str]]


class HoursSet:
    """Gathers the files of a load that are of one feed, weekly or special hours, and compares them with what is
    stored.
    """

    def __init__(self, feed: str) -> None:
        self.files: list[tuple[FileSummary, RejectLog]] = []
        # The stores of which a row was rejected.
        self.rejected_stores: set[str] = set()
        self.feed = feed
        self._date, self._weekday, self._start = _COLUMNS[feed]
        self._blocks: list[list[_Block]] = []
        self._versions: dict[Version, int] = {}

    def add(self, summary: FileSummary, log: RejectLog, blocks: Iterable[CodedRows], rejected_stores: set[str]) -> None:
        """Add one file's good rows and the stores it has bad rows of; nothing is added when reading it fails
        half-way.
        """
        read = [_Block(self._keys_of(rows), rows.line, rows.texts) for rows in blocks]
        self.files.append((summary, log))
        self._blocks.append(read)
        self.rejected_stores |= rejected_stores

    @property
    def store_ids(self) -> list[str]:
        """The stores that the files name, also in rejected rows."""
        return list(dict.fromkeys([*(store_id for store_id, _ in self._versions), *self.rejected_stores]))

    @property
    def versions(self) -> list[Version]:
        """The stores and dates that rows apply to."""
        versions = list(self._versions)
        keys = _accepted([block for blocks in self._blocks for block in blocks])
        return [versions[index] for index in np.unique(keys >> _VERSION).tolist()]

    @property
    def good_rows(self) -> list[int]:
        """How many rows of each file are not rejected so far."""
        return [len(_accepted(blocks)) for blocks in self._blocks]

    def stores_by_file(self) -> list[tuple[str, set[str]]]:
        """The name of each file, and the stores whose rows in it apply."""
        return [
            (summary.file, self._stores_of(_accepted(blocks)))
            for (summary, _), blocks in zip(self.files, self._blocks, strict=True)
        ]

    def compare(
        self, ids: Mapping[int, str], stored: Hours | SpecialHours | None, unreadable: list[str]
    ) -> tuple[list[Version], Hours | SpecialHours] | None:
        """Return the versions that change and all rows they have from now on, and fill in the files' summaries; None
        when nothing changes. `store` of a row is an index into the versions.

        `ids` are the set's stores that exist, by number; `stored` are the hours of these, and perhaps of others. Rows
        without a date replace all versions of their store. `unreadable` names the files of the load that could not be
        read: they may have held more hours of the same stores.
        """
        self._reject_impossible()
        old = self._stored_keys(ids, stored)
        keepers = self.rejected_stores & self._stores_of(old)
        keepers_versions = self._versions_of(keepers)
        self._reject(lambda keys: np.isin(keys >> _VERSION, keepers_versions), STORE_KEEPS_HOURS)
        per_file = [_accepted(blocks) for blocks in self._blocks]
        keys = np.concatenate(per_file)
        distinct, first = np.unique(keys, return_index=True)
        old = old[np.isin(old >> _VERSION, self._replaced(distinct))]
        is_first = np.zeros(len(keys), dtype=bool)
        is_first[first] = True
        first_per_file = np.split(is_first, np.cumsum([len(file_keys) for file_keys in per_file])[:-1])
        for (summary, log), file_keys, file_first in zip(self.files, per_file, first_per_file, strict=True):
            _count(summary, log, file_keys, file_first, old)
        self._note(self.files[-1][0], distinct, keepers, old[~np.isin(old, distinct)], unreadable)
        changed = np.unique(np.setxor1d(distinct, old, assume_unique=True) >> _VERSION)
        if not len(changed):
            return None
        versions = list(self._versions)
        return self._rows([versions[index] for index in changed.tolist()], changed, distinct)

    def _rows(self, versions: list[Version], indexes: Ints, keys: Ints) -> tuple[list[Version], Hours | SpecialHours]:
        """The versions, whose indexes ascend, with the rows among the keys that are theirs."""
        keys = keys[np.isin(keys >> _VERSION, indexes)]
        version = np.searchsorted(indexes, keys >> _VERSION)
        date = np.array([date for _, date in versions], dtype=np.int64)[version]
        start, end = (keys >> _START) & _SECONDS, keys & _SECONDS
        if self._weekday is None:
            start, end = (np.where(column == _CLOSED, CLOSED, column) for column in (start, end))
            return versions, SpecialHours(version, date, start, end)
        forever = np.full(len(keys), FOREVER)
        return versions, Hours(version, (keys >> _WEEKDAY) & 7, start, end, date, forever)

    def _keys_of(self, rows: CodedRows) -> Ints:
        """The rows of a block as integers, in file order."""
        ids, dates = rows.values[0], rows.values[self._date]
        codes = rows.codes[0] * len(dates) + rows.codes[self._date]
        distinct, row_of = np.unique(codes, return_inverse=True)
        indexes = [self._index_of((ids[code // len(dates)], dates[code % len(dates)])) for code in distinct.tolist()]
        weekday = 0 if self._weekday is None else _integers(rows, self._weekday)
        start, end = _integers(rows, self._start), _integers(rows, self._start + 1)
        return _packed(np.array(indexes, dtype=np.int64)[row_of], weekday, start, end)

    def _stored_keys(self, ids: Mapping[int, str], stored: Hours | SpecialHours | None) -> Ints:
        """What is stored of those stores, as integers, ascending."""
        if stored is None:
            return np.empty(0, dtype=np.int64)
        rows = np.isin(stored.store, list(ids))
        store, start, end = stored.store[rows], stored.start_s[rows], stored.end_s[rows]
        date = (stored.from_day if isinstance(stored, Hours) else stored.date)[rows]
        weekday = stored.day[rows] if isinstance(stored, Hours) else 0
        _, first, row_of = np.unique(store * (4 * FOREVER) + date, return_index=True, return_inverse=True)
        indexes = [
            self._index_of((ids[number], day))
            for number, day in zip(store[first].tolist(), date[first].tolist(), strict=True)
        ]
        return np.sort(_packed(np.array(indexes, dtype=np.int64)[row_of], weekday, start, end))

    def _index_of(self, version: Version) -> int:
        return self._versions.setdefault(version, len(self._versions))

    def _stores_of(self, keys: Ints) -> set[str]:
        versions = list(self._versions)
        return {versions[index][0] for index in np.unique(keys >> _VERSION).tolist()}

    def _versions_of(self, store_ids: set[str]) -> Ints:
        versions = [index for (store_id, _), index in self._versions.items() if store_id in store_ids]
        return np.array(versions, dtype=np.int64)

    def _replaced(self, keys: Ints) -> Ints:
        """The versions that the rows replace: their own, and all those of a store that has rows without a date."""
        own = np.unique(keys >> _VERSION)
        versions = list(self._versions)
        undated = {versions[index][0] for index in own.tolist() if versions[index][1] == UNDATED}
        return np.union1d(own, self._versions_of(undated))

    def _reject_impossible(self) -> None:
        """Reject rows that have one time only, and those of a date that is closed all day and not."""
        self._reject(_has_one_time, ONE_TIME_EMPTY, of_store=True)
        keys = _accepted([block for blocks in self._blocks for block in blocks])
        closed = _is_closed(keys)
        both = np.intersect1d(keys[closed] >> _VERSION, keys[~closed] >> _VERSION)
        self._reject(lambda keys: np.isin(keys >> _VERSION, both), CLOSED_AND_OPEN, of_store=True)

    def _reject(self, wrong: Callable[[Ints], Bools], reason: str, of_store: bool = False) -> None:
        """Reject the wrong rows; `of_store`: their stores count among those that have a rejected row."""
        for (_, log), blocks in zip(self.files, self._blocks, strict=True):
            for block in blocks:
                rows = np.flatnonzero((block.keys >= 0) & wrong(block.keys))
                if not len(rows):
                    continue
                if of_store:
                    self.rejected_stores |= self._stores_of(block.keys[rows])
                for line, text in zip(block.line[rows].tolist(), block.texts(rows.tolist()), strict=True):
                    log.add(line, reason, text)
                block.keys[rows] = -1

    def _note(self, summary: FileSummary, keys: Ints, keepers: set[str], removed: Ints, unreadable: list[str]) -> None:
        if len(removed):
            rows = count_text(len(removed), "earlier row of these stores was", "earlier rows of these stores were")
            summary.notes.append(f"{rows} replaced")
            if unreadable:
                lost = sorted(self._stores_of(removed))
                summary.notes.append(
                    f"{list_stores(lost)} lost earlier hours, and {', '.join(unreadable)} could not be read; "
                    f"{'was its week' if len(lost) == 1 else 'were their weeks'} in there?"
                )
        if self.rejected_stores:
            summary.notes += self._consequences(keepers, self._stores_of(keys))

    def _consequences(self, keepers: set[str], applied: set[str]) -> Iterator[str]:
        """Sentences about the hours of the stores that have a rejected row: those they had, their other rows, or
        none.
        """
        name, weekly = self.feed.replace("_", " "), self.feed == "hours"
        none_left = (
            ("had none before and counts as open 24x7", "had none before and count as open 24x7")
            if weekly
            else ("has its weekly hours then", "have their weekly hours then")
        )
        rejected = self.rejected_stores
        for store_ids, one, several in (
            (rejected & keepers, f"keeps the {name} it had", f"keep the {name} they had"),
            (rejected & applied - keepers, "has its other rows only", "have their other rows only"),
            (rejected - applied - keepers, *none_left),
        ):
            if store_ids:
                alone = len(store_ids) == 1
                rows = f"{'an' if weekly else 'a'} {name} row was" if alone else f"{name} rows were"
                yield f"{rows} rejected: {list_stores(sorted(store_ids))} {one if alone else several}"


def _accepted(blocks: list[_Block]) -> Ints:
    """The rows that were not rejected, in file order."""
    keys = np.concatenate([np.empty(0, dtype=np.int64), *(block.keys for block in blocks)])
    return keys[keys >= 0]


def _is_closed(keys: Ints) -> Bools:
    """Which rows say that a store is closed all day."""
    closed: Bools = (keys & _SECONDS) == _CLOSED
    return closed


def _has_one_time(keys: Ints) -> Bools:
    one_time: Bools = (((keys >> _START) & _SECONDS) == _CLOSED) != _is_closed(keys)
    return one_time


def _integers(rows: CodedRows, column: int) -> Ints:
    # Values that could not be read are something else; no good row has one.
    values = np.array([value if isinstance(value, int) else 0 for value in rows.values[column]], dtype=np.int64)
    integers: Ints = values[rows.codes[column]]
    return integers


def _packed(version: Ints, weekday: Ints | int, start: Ints, end: Ints) -> Ints:
    start, end = (np.where(column == CLOSED, _CLOSED, column) for column in (start, end))
    keys: Ints = (version << _VERSION) | (np.int64(weekday) << _WEEKDAY) | (start << _START) | end
    return keys


def _count(summary: FileSummary, log: RejectLog, keys: Ints, is_first: Bools, old: Ints) -> None:
    counts = summary.counts
    once = keys[is_first]
    same = np.isin(once, old)
    # The same version, day and start with another end is that row, changed.
    altered = ~same & np.isin(once >> _START, old >> _START)
    counts.repeated = len(keys) - len(once)
    counts.unchanged = int(same.sum())
    counts.changed = int(altered.sum())
    counts.new = len(once) - counts.unchanged - counts.changed
    counts.rejected = log.count
    counts.rows = len(keys) + counts.rejected
    start, end = (once >> _START) & _SECONDS, once & _SECONDS
    all_day = int(((start == end) & ~_is_closed(once)).sum())
    if all_day:
        rows = count_text(all_day, "row with equal start and end was", "rows with equal start and end were")
        summary.notes.append(f"{rows} read as 24 hours")
