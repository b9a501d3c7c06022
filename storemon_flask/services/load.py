"""Loading files: find them, recognise each by its header, stage it, apply it in one transaction with its summary."""

import hashlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from storemon_flask.errors import DataError
from storemon_flask.ingest import polls as poll_feed
from storemon_flask.ingest import small, sources
from storemon_flask.ingest.blocks import BlockReader
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.rejects import RejectLog, Room
from storemon_flask.ingest.sources import Source, Unreadable
from storemon_flask.model import Counts, FileSummary, Reject
from storemon_flask.services.hours_set import HoursSet
from storemon_flask.storage import loads, polls, stores
from storemon_flask.storage.db import Database
from storemon_flask.storage.staging import StagedPolls

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class LoadResult:
    """What a load did: its number (0: nothing was stored), a summary per file."""

    load: int = 0
    files: list[FileSummary] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a file was no feed or could not be read."""
        return any(summary.error for summary in self.files)

    @property
    def rejected(self) -> int:
        """Rows rejected, over all files."""
        return sum(summary.counts.rejected for summary in self.files)


def find(paths: list[Path]) -> tuple[list[Source | Unreadable], int]:
    """What there is to load and how many bytes of it there are on disk."""
    found = sources.find(paths)
    return found, sum(source.size for source in found if isinstance(source, Source))


def run(
    database: Database,
    found: list[Source | Unreadable],
    *,
    now_us: int,
    max_skew_us: int,
    progress: Progress = lambda name, part: None,
    on_file: Callable[[FileSummary], None] = lambda summary: None,
    road: str = "bytes",
) -> LoadResult:
    """Load everything found. One bad file does not keep the others from loading.

    `progress(name, bytes)` is told of bytes read from disk; `on_file` of each file when it is in (hours files at the end,
    together). Rows that cannot be used are kept with their reasons. `DatabaseError` when nothing can be stored.
    """
    if database.exists():
        # Find out now whether it can be used, not after the files have been read.
        database.prepare()
    # Polls are moved from the log into the file while the next files are read.
    with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as aside:
        return _Loading(database, now_us, now_us + max_skew_us, progress, on_file, road, aside).all(found)


class _Loading:
    """One load under way: the state its files share."""

    def __init__(
        self,
        database: Database,
        now_us: int,
        latest_us: int,
        progress: Progress,
        on_file: Callable[[FileSummary], None],
        road: str,
        aside: Executor,
    ) -> None:
        self.database = database
        self.now_us = now_us
        self.latest_us = latest_us
        self.progress = progress
        self.on_file = on_file
        self.road = road
        self.aside = aside
        self.result = LoadResult()
        self.hours = HoursSet()
        self.unusable: list[FileSummary] = []
        self.room = Room()

    def all(self, found: list[Source | Unreadable]) -> LoadResult:
        """Every file in turn, then the hours files together, then what could not be used."""
        for source in found:
            summary = FileSummary(source.name)
            self.result.files.append(summary)
            if isinstance(source, Unreadable):
                self._failed(summary, source.sentence)
                continue
            log = RejectLog(self.room)
            try:
                self._file(source, summary, log)
            except DataError as error:
                log.forget()
                self._failed(summary, error.message)
        self._apply_hours()
        self._record_unusable()
        return self.result

    def _file(self, source: Source, summary: FileSummary, log: RejectLog) -> None:
        digest = _Digest()
        counted = _ByteShare(source, self.progress)

        def on_bytes(data: bytes) -> None:
            digest.update(data)
            counted.read(len(data))

        with sources.opened(source) as stream:
            counted.stream = stream
            reader = BlockReader(stream, on_bytes)
            header = reader.header()
            summary.feed = header.feed
            if header.feed == "polls":
                self._polls(reader, header, summary, log, digest)
            elif header.feed == "hours":
                spoiled: set[str] = set()
                self.hours.add(summary, log, small.read(reader, header, log, spoiled), spoiled)
                summary.sha256 = digest.hexdigest()
            else:
                self._zones(reader, header, summary, log, digest)
        counted.done()

    def _polls(
        self, reader: BlockReader, header: Header, summary: FileSummary, log: RejectLog, digest: "_Digest"
    ) -> None:
        self.database.prepare()
        with closing(StagedPolls(self.database.path.parent)) as staged:
            rows = 0
            for block in poll_feed.read(reader, header, self.latest_us, log, self.road):
                staged.add(block.ids, block.store, block.instant_us, block.active)
                rows += block.rows
            summary.sha256 = digest.hexdigest()
            with self.database.write(aside=self.aside) as connection:
                summary.counts = polls.apply(connection, staged)
                summary.counts.rows = rows
                summary.counts.repeated = staged.repeated
                summary.counts.rejected = log.count
                if summary.counts.new or summary.counts.changed:
                    stores.data_changed(connection)
                self._record(connection, summary, log)
        self.on_file(summary)

    def _zones(
        self, reader: BlockReader, header: Header, summary: FileSummary, log: RejectLog, digest: "_Digest"
    ) -> None:
        zone_of: dict[str, str] = {}
        rows = 0
        for block in small.read(reader, header, log, set()):
            ids, names = block.values
            for store, name in zip(block.codes[0].tolist(), block.codes[1].tolist(), strict=True):
                zone_of[ids[store]] = names[name]
            rows += len(block.line)
        summary.sha256 = digest.hexdigest()
        with self.database.write(aside=self.aside) as connection:
            old = stores.zones_of(connection, zone_of)
            changed = {store_id: name for store_id, name in zone_of.items() if old.get(store_id) != name}
            stores.replace_zones(connection, changed)
            new = sum(store_id not in old for store_id in changed)
            summary.counts = Counts(
                rows=rows + log.count,
                new=new,
                changed=len(changed) - new,
                unchanged=len(zone_of) - len(changed),
                repeated=rows - len(zone_of),
                rejected=log.count,
            )
            if changed:
                stores.data_changed(connection)
            self._record(connection, summary, log)
        self.on_file(summary)

    def _apply_hours(self) -> None:
        if not self.hours.files:
            return
        with self.database.write(aside=self.aside) as connection:
            if self.hours.apply(connection, [summary.file for summary in self.unusable]):
                stores.data_changed(connection)
            for summary, log in self.hours.files:
                self._record(connection, summary, log)
        for summary, _ in self.hours.files:
            self.on_file(summary)

    def _failed(self, summary: FileSummary, sentence: str) -> None:
        summary.error = sentence
        summary.counts = Counts()
        self.unusable.append(summary)
        self.on_file(summary)

    def _record_unusable(self) -> None:
        """Files that were no feed are remembered with the load; alone, they make no database where there was none."""
        if self.unusable and self.database.exists():
            with self.database.write() as connection:
                for summary in self.unusable:
                    self._record(connection, summary, None)

    def _record(self, connection: sqlite3.Connection, summary: FileSummary, log: RejectLog | None) -> None:
        """The file's row, in the transaction that applies the file; the load's number is known once this is committed."""
        load = self.result.load or loads.begin(connection, self.now_us)
        kept: list[Reject] = []
        if log is not None:
            summary.reasons = dict(log.reasons.most_common())
            kept = log.kept
        loads.add_file(connection, load, time.time_ns() // 1000, summary, kept)
        self.result.load = load


class _Digest:
    """SHA-256 of what is read, computed beside the reading: OpenSSL lets go of the interpreter."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._last: Future[None] | None = None

    def update(self, data: bytes) -> None:
        """The next bytes; waits for the ones before, so that no more than two pieces are held."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._sum.update, data)

    def hexdigest(self) -> str:
        """The sum of everything, once it is read."""
        self._pool.shutdown()
        return self._sum.hexdigest()


class _ByteShare:
    """Tells progress in bytes on disk, also for a compressed file whose decoded bytes are more."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._told = 0
        self.stream: object = None

    def read(self, decoded: int) -> None:
        """So many more bytes have come out of the stream."""
        raw = getattr(self.stream, "fileobj", None)
        at = raw.tell() if raw is not None else self._told + decoded
        self._tell(min(at, self._source.size))

    def done(self) -> None:
        """The file is read to its end: tell what is missing of its size."""
        self._tell(self._source.size)

    def _tell(self, at: int) -> None:
        if at > self._told:
            self._progress(self._source.name, at - self._told)
            self._told = at
