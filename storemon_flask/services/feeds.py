"""A feed read and waiting: what a file holds, ready to be put into the database in somebody's transaction."""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from storemon_flask.ingest.polls import PollBlock
from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.small import Rows
from storemon_flask.model import Counts, FileSummary
from storemon_flask.storage import polls, stores
from storemon_flask.storage.staging import StagedPolls


class Staged(Protocol):
    """One file, read to its end."""

    summary: FileSummary
    log: RejectLog
    large: bool

    def apply(self, connection: sqlite3.Connection) -> None:
        """Put it in, and fill in the summary's counts."""

    def close(self) -> None:
        """Give back what it takes."""


# More polls than this make a commit whose log is worth moving aside.
_LARGE_ROWS = 200_000


class Polls:
    """The polls feed."""

    def __init__(self, summary: FileSummary, log: RejectLog, blocks: Iterable[PollBlock], folder: Path) -> None:
        """Reads everything; `folder` is where what outgrows memory goes."""
        self.summary = summary
        self.log = log
        self._rows = 0
        self._staged = StagedPolls(folder)
        try:
            for block in blocks:
                self._staged.add(block.ids, block.store, block.instant_us, block.active)
                self._rows += block.rows
        except BaseException:
            self._staged.close()
            raise
        self.large = self._rows > _LARGE_ROWS

    def apply(self, connection: sqlite3.Connection) -> None:
        """Merge them with what is stored; counts new, changed and unchanged polls."""
        counts = self.summary.counts = polls.apply(connection, self._staged)
        counts.rows = self._rows
        counts.repeated = self._staged.repeated
        counts.rejected = self.log.count
        if counts.new or counts.changed:
            stores.data_changed(connection)

    def close(self) -> None:
        """Give the temporary file back."""
        self._staged.close()


class Facts:
    """A feed that says one thing of a store, such as its zone: the last row of a store wins."""

    large = False

    def __init__(
        self,
        summary: FileSummary,
        log: RejectLog,
        blocks: Iterable[Rows],
        stored: Callable[[sqlite3.Connection, Iterable[str]], dict[str, tuple[str, ...]]],
        replace: Callable[[sqlite3.Connection, dict[str, tuple[str, ...]]], None],
    ) -> None:
        """Reads everything; `stored` and `replace` are the storage's."""
        self.summary = summary
        self.log = log
        self._stored = stored
        self._replace = replace
        self._said: dict[str, tuple[str, ...]] = {}
        self._rows = 0
        for block in blocks:
            ids, *facts = block.values
            store, *codes = (column.tolist() for column in block.codes)
            for place, which in zip(store, zip(*codes, strict=True), strict=True):
                self._said[ids[place]] = tuple(values[code] for values, code in zip(facts, which, strict=True))
            self._rows += len(block.line)

    def apply(self, connection: sqlite3.Connection) -> None:
        """Replace what is stored of these stores; counts new, changed and unchanged ones."""
        old = self._stored(connection, self._said)
        changed = {store_id: said for store_id, said in self._said.items() if old.get(store_id) != said}
        self._replace(connection, changed)
        new = sum(not any(old.get(store_id, ())) for store_id in changed)
        self.summary.counts = Counts(
            rows=self._rows + self.log.count,
            new=new,
            changed=len(changed) - new,
            unchanged=len(self._said) - len(changed),
            repeated=self._rows - len(self._said),
            rejected=self.log.count,
        )
        if changed:
            stores.data_changed(connection)

    def close(self) -> None:
        """Nothing is held."""


def zones(summary: FileSummary, log: RejectLog, blocks: Iterable[Rows]) -> Facts:
    """The time zones feed."""
    return Facts(summary, log, blocks, stores.zones_of, stores.replace_zones)


def names(summary: FileSummary, log: RejectLog, blocks: Iterable[Rows]) -> Facts:
    """The stores feed: names and groups."""
    return Facts(summary, log, blocks, stores.names_of, stores.replace_names)
