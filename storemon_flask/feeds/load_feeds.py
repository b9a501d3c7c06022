"""A feed read and waiting: what a file holds, ready to be put into the database in somebody's transaction."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from storemon_flask.database import opening_hours, polls, stores
from storemon_flask.database.few_heard import minute_text
from storemon_flask.database.staging import StagedPolls
from storemon_flask.feeds.polls import PollBlock
from storemon_flask.feeds.rejects import RejectLog
from storemon_flask.feeds.tables import Rows
from storemon_flask.model import UNDATED, Counts, FileSummary


class Staged(Protocol):
    """One file, read to its end."""

    summary: FileSummary
    log: RejectLog
    large: bool

    @property
    def fitting(self) -> int:
        """How many of its rows are not rejected."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Put it in, and fill in the summary's counts."""

    def close(self) -> None:
        """Give back what it takes."""


Key = tuple[Any, ...]
Said = tuple[str, ...]
# More polls than this make a commit whose log is worth moving aside.
_LARGE_ROWS = 200_000


class Polls:
    """The polls feed."""

    def __init__(self, summary: FileSummary, log: RejectLog, blocks: Iterable[PollBlock], folder: Path) -> None:
        """Reads everything; `folder` is where what outgrows memory goes."""
        self.summary = summary
        self.log = log
        self.applied: polls.Applied | None = None
        self._rows = 0
        self._staged = StagedPolls(folder)
        try:
            for block in blocks:
                self._staged.add(block.ids, block.store, block.timestamp_us, block.active)
                self._rows += block.rows
        except BaseException:
            self._staged.close()
            raise
        self.large = self._rows > _LARGE_ROWS

    @property
    def fitting(self) -> int:
        """How many of its rows are polls."""
        return self._rows - self.log.count

    def apply(self, connection: sqlite3.Connection) -> None:
        """Merge them with what is stored; counts new, changed and unchanged polls."""
        self.applied = polls.apply(connection, self._staged)
        counts = self.summary.counts = self.applied.counts
        counts.rows = self._rows
        counts.repeated = self._staged.repeated
        counts.rejected = self.log.count
        if self.applied.complete_from_us is not None and self.applied.too_old:
            until = minute_text(self.applied.complete_from_us)
            self.summary.notes.append(
                f"{self.applied.too_old:,} polls are older than {until}, up to which polls were pruned; "
                "they count for nothing, and the time before stays unknown"
            )
        if counts.new or counts.changed:
            stores.data_changed(connection)

    def close(self) -> None:
        """Give the temporary file back."""
        self._staged.close()


class Facts:
    """A feed that says something of a key, such as a store or a store from a date on: the last row of a key wins."""

    large = False

    def __init__(
        self,
        summary: FileSummary,
        log: RejectLog,
        keyed: Iterable[tuple[Key, Said]],
        stored: Callable[[sqlite3.Connection, Iterable[str]], dict[Any, Said]],
        replace: Callable[[sqlite3.Connection, dict[Any, Said], list[Any]], None],
        spoiled: set[str],
    ) -> None:
        """Reads everything; `stored` and `replace` are the storage's; reading adds to `spoiled` the stores with a
        rejected row.
        """
        self.summary = summary
        self.log = log
        self.spoiled = spoiled
        self._stored = stored
        self._replace = replace
        self._said: dict[Key, Said] = {}
        self._rows = 0
        for key, said in keyed:
            self._said[key] = said
            self._rows += 1

    @property
    def store_ids(self) -> set[str]:
        """The stores that it says something of."""
        return {key[0] for key in self._said}

    def stores_with(self, value: str) -> set[str]:
        """The stores of which it says that."""
        return {key[0] for key, said in self._said.items() if value in said}

    @property
    def fitting(self) -> int:
        """How many of its rows say something."""
        return self._rows

    def apply(self, connection: sqlite3.Connection) -> None:
        """Replace what is stored of these keys; counts new, changed and unchanged ones.

        What a store has been told without a date replaces all that it was told before with one.
        """
        old = self._stored(connection, {key[0]: None for key in self._said})
        changed = {key: said for key, said in self._said.items() if old.get(key) != said}
        undated = {key[0] for key in self._said if key[-1] == UNDATED}
        gone = [key for key in old if key[0] in undated and key not in self._said]
        self._replace(connection, changed, gone)
        new = sum(not any(old.get(key, ())) for key in changed)
        self.summary.counts = Counts(
            rows=self._rows + self.log.count,
            new=new,
            changed=len(changed) - new,
            unchanged=len(self._said) - len(changed),
            repeated=self._rows - len(self._said),
            rejected=self.log.count,
        )
        if gone:
            self.summary.notes.append(f"{len(gone):,} zones that held from a date on were replaced")
        if changed or gone:
            stores.data_changed(connection)

    def close(self) -> None:
        """Nothing is held."""


def zones(summary: FileSummary, log: RejectLog, blocks: Iterable[Rows], spoiled: set[str]) -> Facts:
    """The time zones feed: a store's zone, from a date on."""
    keyed = (((store_id, valid_from), (zone,)) for store_id, zone, valid_from in _rows(blocks))
    return Facts(summary, log, keyed, opening_hours.zones_of, opening_hours.replace_zones, spoiled)


def names(summary: FileSummary, log: RejectLog, blocks: Iterable[Rows], spoiled: set[str]) -> Facts:
    """The stores feed: names and groups."""
    keyed = (((store_id,), (name, group)) for store_id, name, group in _rows(blocks))
    return Facts(
        summary,
        log,
        keyed,
        stores.names_of,
        lambda connection, names, gone: stores.replace_names(connection, names),
        spoiled,
    )


def _rows(blocks: Iterable[Rows]) -> Iterator[tuple[Any, ...]]:
    for block in blocks:
        for codes in zip(*(column.tolist() for column in block.codes), strict=True):
            yield tuple(values[code] for values, code in zip(block.values, codes, strict=True))
