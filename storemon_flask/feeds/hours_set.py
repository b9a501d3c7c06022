"""The hours of one command, archive or request: one replacement set, however many files it has (SPEC 2).

Hours come in versions, each of one store and one local date: weekly hours from that date on, special hours on that
date.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.database import stores
from storemon_flask.database.opening_hours import Version
from storemon_flask.feeds import version_rows
from storemon_flask.feeds.lookalikes import named_stores
from storemon_flask.feeds.rejects import RejectLog
from storemon_flask.feeds.tables import Rows
from storemon_flask.feeds.version_rows import SECONDS, START, VERSION, Feed
from storemon_flask.model import UNDATED, Bools, FileSummary, Ints

KEPT: Final = "another hours row of this store was rejected; the store keeps the hours it had"
HALF: Final = "only one of start_time_local and end_time_local is empty; both are when a store is closed all day"
BOTH: Final = "another row of this store and date says otherwise about whether it is closed all day"


@dataclass(slots=True)
class _Block:
    """Rows of a file: keys (-1 once it is rejected), lines, and how to get at their texts."""

    keys: Ints
    line: Ints
    texts: Callable[[list[int]], list[str]]


class HoursSet:
    """Gathers the files of a load that are of one feed, weekly or special hours, and applies them together."""

    def __init__(self, feed: Feed) -> None:
        self.files: list[tuple[FileSummary, RejectLog]] = []
        self.spoiled: set[str] = set()
        self._feed = feed
        self._blocks: list[list[_Block]] = []
        self._places: dict[Version, int] = {}

    def add(self, summary: FileSummary, log: RejectLog, blocks: Iterable[Rows], spoiled: set[str]) -> None:
        """One file's good rows, and the stores it has bad rows of; nothing is kept when reading it fails half-way."""
        read = [
            _Block(version_rows.keys_of(self._feed, rows, self._place_of), rows.line, rows.texts) for rows in blocks
        ]
        self.files.append((summary, log))
        self._blocks.append(read)
        self.spoiled |= spoiled

    def apply(self, connection: sqlite3.Connection, unusable: list[str]) -> bool:
        """Replace the hours of every version in the set and fill in the summaries; whether anything changed.

        What a store is told without a date replaces all its versions. `unusable` names the files of the load that could
        not be read: they may have held more hours of the same stores.
        """
        self._reject_impossible()
        old = self._stored(connection)
        kept = self.spoiled & self._stores_of(old)
        self._reject(lambda keys: self._is_of(keys, kept), KEPT)
        per_file = [self._keys(blocks) for blocks in self._blocks]
        keys = np.concatenate([np.empty(0, dtype=np.int64), *per_file])
        ends = np.cumsum([len(part) for part in per_file]).tolist()
        distinct, first = np.unique(keys, return_index=True)
        old = old[np.isin(old >> VERSION, self._replaced(distinct))]
        is_first = np.zeros(len(keys), dtype=bool)
        is_first[first] = True
        for (summary, log), part, end in zip(self.files, per_file, ends, strict=True):
            _count(summary, log, part, is_first[end - len(part) : end], old)
        changed = np.unique(np.setxor1d(distinct, old, assume_unique=True) >> VERSION)
        if len(changed):
            versions = list(self._places)
            rows = distinct[np.isin(distinct >> VERSION, changed)]
            self._feed.replace(connection, [versions[place] for place in changed.tolist()], changed, rows)
        if self.files:
            self._note(self.files[-1][0], distinct, kept, old[~np.isin(old, distinct)], unusable)
        return bool(len(changed))

    @property
    def fitting(self) -> list[int]:
        """How many rows of each file are not rejected so far."""
        return [len(self._keys(blocks)) for blocks in self._blocks]

    def stores_by_file(self) -> list[tuple[str, set[str]]]:
        """Of each file its name and the stores whose rows in it apply."""
        return [
            (summary.file, self._stores_of(self._keys(blocks)))
            for (summary, _), blocks in zip(self.files, self._blocks, strict=True)
        ]

    def _place_of(self, version: Version) -> int:
        return self._places.setdefault(version, len(self._places))

    def _stored(self, connection: sqlite3.Connection) -> Ints:
        """The hours that the set's stores have so far, as integers, ascending."""
        ids = dict.fromkeys([*(store_id for store_id, _ in self._places), *self.spoiled])
        known, _ = stores.rows_of(connection, list(ids))
        return version_rows.stored_keys(
            self._feed, connection, dict(zip(known.number.tolist(), known.ids, strict=True)), self._place_of
        )

    def _stores_of(self, keys: Ints) -> set[str]:
        """The stores that some rows are of."""
        versions = list(self._places)
        return {versions[place][0] for place in np.unique(keys >> VERSION).tolist()}

    def _is_of(self, keys: Ints, store_ids: set[str]) -> Bools:
        """Which rows are of one of the stores."""
        places = [place for (store_id, _), place in self._places.items() if store_id in store_ids] if store_ids else []
        return np.isin(keys >> VERSION, places)

    def _replaced(self, keys: Ints) -> Ints:
        """The versions that the rows replace: their own, and all those of a store that has rows without a date."""
        own = np.unique(keys >> VERSION)
        versions = list(self._places)
        undated = {versions[place][0] for place in own.tolist() if versions[place][1] == UNDATED}
        others = [place for (store_id, day), place in self._places.items() if day != UNDATED and store_id in undated]
        return np.union1d(own, np.array(others, dtype=np.int64))

    def _keys(self, blocks: list[_Block]) -> Ints:
        """The rows that were not rejected, in file order."""
        keys = np.concatenate([np.empty(0, dtype=np.int64), *(block.keys for block in blocks)])
        return keys[keys >= 0]

    def _reject_impossible(self) -> None:
        """Reject rows that have one time only, and those of a date that is closed all day and not."""
        self._reject(version_rows.half_closed, HALF, spoil=True)
        everything = self._keys([block for blocks in self._blocks for block in blocks])
        both = version_rows.closed_and_open(everything)
        self._reject(lambda keys: np.isin(keys >> VERSION, both), BOTH, spoil=True)

    def _reject(self, wrong: Callable[[Ints], Bools], reason: str, spoil: bool = False) -> None:
        for (_, log), blocks in zip(self.files, self._blocks, strict=True):
            for block in blocks:
                rows = np.flatnonzero((block.keys >= 0) & wrong(block.keys))
                if not len(rows):
                    continue
                if spoil:
                    self.spoiled |= self._stores_of(block.keys[rows])
                for line, text in zip(block.line[rows].tolist(), block.texts(rows.tolist()), strict=True):
                    log.add(line, reason, text)
                block.keys[rows] = -1

    def _note(self, summary: FileSummary, keys: Ints, kept: set[str], gone: Ints, unusable: list[str]) -> None:
        if len(gone):
            summary.notes.append(f"{len(gone):,} earlier rows of these stores were replaced")
            if unusable:
                lost = sorted(self._stores_of(gone))
                summary.notes.append(
                    f"{named_stores(lost)} lost earlier hours, and {', '.join(unusable)} could not be read; "
                    f"{'was its week' if len(lost) == 1 else 'were their weeks'} in there?"
                )
        summary.notes += self._consequences(kept, self._stores_of(keys) if self.spoiled else set())

    def _consequences(self, kept: set[str], applied: set[str]) -> Iterator[str]:
        """Which hours the stores have of which a row was rejected: those they had, or their other rows, or none."""
        name = "hours" if self._feed is version_rows.WEEKLY else "special hours"
        for store_ids, one, several in (
            (self.spoiled & kept, f"keeps the {name} it had", f"keep the {name} they had"),
            (self.spoiled & applied - kept, "has its other rows only", "have their other rows only"),
            (
                self.spoiled - applied - kept,
                *(
                    ("had none before and counts as open 24x7", "had none before and count as open 24x7")
                    if self._feed is version_rows.WEEKLY
                    else ("has its weekly hours then", "have their weekly hours then")
                ),
            ),
        ):
            if store_ids:
                alone = len(store_ids) == 1
                rows = f"{'a' if name != 'hours' else 'an'} {name} row was" if alone else f"{name} rows were"
                yield f"{rows} rejected: {named_stores(sorted(store_ids))} {one if alone else several}"


def _count(summary: FileSummary, log: RejectLog, keys: Ints, is_first: Bools, old: Ints) -> None:
    counts = summary.counts
    once = keys[is_first]
    same = np.isin(once, old)
    # The same version, day and start with another end is that row, changed.
    altered = ~same & np.isin(once >> START, old >> START)
    counts.repeated = len(keys) - len(once)
    counts.unchanged = int(same.sum())
    counts.changed = int(altered.sum())
    counts.new = len(once) - counts.unchanged - counts.changed
    counts.rejected = log.count
    counts.rows = len(keys) + counts.rejected
    start, end = (once >> START) & SECONDS, once & SECONDS
    all_day = int(((start == end) & ~version_rows.closed(once)).sum())
    if all_day:
        summary.notes.append(f"{all_day:,} rows with equal start and end were read as 24 hours")
