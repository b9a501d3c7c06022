"""A load: each file is recognised, read and staged outside the write lock, and stored in one transaction with its
summary.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from storemon_flask import labels
from storemon_flask.characters import count_text
from storemon_flask.clock import minute_text
from storemon_flask.database import files, loads, polls, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.polls import StagedPolls
from storemon_flask.database.undo import DEFAULT_LIMITS, Recorder, UndoLimits, drop_what_is_too_much
from storemon_flask.errors import DataError, Stopped, lack_of_memory
from storemon_flask.feeds import json_rows, readers, sources
from storemon_flask.feeds.csv_exact import BlockReader, Record, RejectLog, Room
from storemon_flask.feeds.encodings import UTF8
from storemon_flask.feeds.hours import HoursSet
from storemon_flask.feeds.load_notes import LoadNotes, list_files
from storemon_flask.feeds.readers import CodedRows, PollColumns
from storemon_flask.feeds.schema import ANY_TAGS, DaysOfWeek, Header, record_header
from storemon_flask.feeds.sources import LoadItem, Skipped, Source
from storemon_flask.feeds.workbooks import SheetRows
from storemon_flask.model import UNDATED, Counts, FileSummary, Hours, Progress
from storemon_flask.settings import Settings

# More polls than this make a commit whose log is worth moving aside.
_LARGE_ROWS: Final = 200_000
_OUT_OF_MEMORY: Final = (
    "what was not stored yet is not stored; load it again later, in smaller files, or give storemon more memory"
)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a load is done. `atomic`: everything or nothing; `default_zone`: the one of stores that have none;
    `iso_days`: hours files number days from 1 (Monday) to 7 (None: from 0, beyond doubt); `encoding`: that of CSVs
    without a byte order mark; `dry_run`: all is done in one transaction, which is rolled back; `undo`: how much is kept
    of what is replaced. `check` is called now and then, from several threads, and raises when the load is to be given
    up.
    """

    now_us: int
    max_skew_us: int
    atomic: bool = False
    default_zone: str = "America/Chicago"
    iso_days: bool | None = False
    encoding: str = UTF8
    dry_run: bool = False
    undo: UndoLimits = DEFAULT_LIMITS
    check: Callable[[], None] = lambda: None

    @property
    def latest_us(self) -> int:
        """The latest timestamp that a poll may have; later ones are in the future."""
        return self.now_us + self.max_skew_us


def load_options(
    settings: Settings,
    check: Callable[[], None],
    *,
    atomic: bool = False,
    days: str = "0-6",
    encoding: str = UTF8,
    dry_run: bool = False,
) -> LoadOptions:
    """Return the options of a load that begins now; `days` (0-6 or iso) is how hours files number the days of the
    week, `encoding` that of CSVs.
    """
    return LoadOptions(
        time.time_ns() // 1000,
        settings.max_clock_skew_us,
        atomic=atomic,
        default_zone=settings.default_timezone,
        iso_days=days == "iso",
        encoding=encoding,
        dry_run=dry_run,
        undo=UndoLimits(settings.undo_days, settings.undo_percent),
        check=check,
    )


@dataclass(slots=True)
class LoadResult:
    """What a load did: its number (0: nothing was stored), a summary per file, the first file's error, whether it was
    refused, and notes about the load as a whole. Of a dry run, `newest_us` is the newest poll before and after.
    """

    load: int = 0
    files: list[FileSummary] = field(default_factory=list)
    error: DataError | None = None
    refused: bool = False
    notes: list[str] = field(default_factory=list)
    newest_us: tuple[int | None, int | None] = (None, None)

    @property
    def failed(self) -> bool:
        """Whether a file was no feed or could not be read."""
        return self.error is not None

    @property
    def rejected(self) -> int:
        """How many rows of all files were rejected."""
        return sum(summary.counts.rejected for summary in self.files)


def load_sources(
    database: Database,
    items: list[LoadItem],
    options: LoadOptions,
    *,
    progress: Progress = lambda name, more: None,
    on_file: Callable[[FileSummary], None] = lambda summary: None,
) -> LoadResult:
    """Load everything. One bad file does not keep the others from loading, unless the load is to be atomic.

    `progress(name, bytes)` gets the bytes read from disk; `on_file` each file when it is in (hours files at the end,
    together). Rows that cannot be used are stored with their reasons. `DatabaseError` when nothing can be stored,
    `OutOfMemory`, and what `options.check` raises; the sentence of a `Stopped` ends with what was stored before.
    """
    with _database_to_try(database) if options.dry_run and not database.exists() else nullcontext(database) as used:
        return _load_into(used, items, options, progress, on_file)


@contextmanager
def _database_to_try(database: Database) -> Iterator[Database]:
    """Give a database that is gone afterwards: what is only tried out makes none where there was none."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="storemon-", dir=files.temporary_folder())
    except OSError as error:
        raise files.no_temporary_room(error, "this cannot be tried out") from error
    with folder as name, closing(Database(Path(name) / database.path.name)) as passing:
        yield passing


def _load_into(
    database: Database,
    items: list[LoadItem],
    options: LoadOptions,
    progress: Progress,
    on_file: Callable[[FileSummary], None],
) -> LoadResult:
    if database.exists():
        # Find out now whether it can be used, not after the files have been read.
        database.prepare()
    with (
        lack_of_memory("this load", _OUT_OF_MEMORY),
        # Polls are moved from the log into the file while the next files are read.
        ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as checkpoints,
        # OpenSSL lets go of the interpreter, so that sums are computed beside the reading.
        ThreadPoolExecutor(1, thread_name_prefix="sha256") as checksums,
    ):
        return _Loading(database, items, options, progress, on_file, checkpoints, checksums).run()


@dataclass(frozen=True, slots=True)
class SmallPolls:
    """A small file of polls that was read: its good rows, and what became of the others."""

    summary: FileSummary
    log: RejectLog
    rows: list[tuple[str, int, bool]]


def read_small_polls(source: Source, options: LoadOptions) -> SmallPolls:
    """Return the polls of a source that is small, as a load reads them; `DataError` when it is no such file."""
    summary, log = FileSummary(source.name), RejectLog()
    rows: list[tuple[str, int, bool]] = []
    with (
        sources.open_source(source) as stream,
        _open_rows(source, stream, lambda data: None, summary, options) as (header, batches),
    ):
        if header.feed != "polls":
            raise DataError("the header is not that of polls")
        summary.feed = header.feed
        for block in readers.read_polls(batches, header, options.latest_us, log, options.check):
            columns = (block.store.tolist(), block.timestamp_us.tolist(), block.active.tolist())
            rows += [(block.ids[store], us, active) for store, us, active in zip(*columns, strict=True)]
    return SmallPolls(summary, log, rows)


def store_together(
    connection: Connection,
    database: Database,
    name: str,
    pushes: list[SmallPolls],
    options: LoadOptions,
    load: int,
    room: Room,
) -> int:
    """Store small files as one file of that name, in the caller's transaction; return the load that it is added to, or
    begins (0).

    What became of their rows must stand in their summaries already. `room` is that for rejects.
    """
    loading = _Loading(database, [], options, lambda name, more: None, lambda summary: None, Executor(), Executor())
    loading.result.load = load
    log = RejectLog(room)
    for push in pushes:
        log.add_all(push.log)
    with closing(_PollsTogether(FileSummary(name, "polls"), log, pushes, database.path.parent)) as staged:
        loading.apply(connection, staged)
    return loading.result.load


class _Tried(Exception):
    """Ends the transaction of a dry run."""


@dataclass
class _Loading:
    """One load under way: the state its files share."""

    database: Database
    items: list[LoadItem]
    options: LoadOptions
    progress: Progress
    on_file: Callable[[FileSummary], None]
    checkpoints: Executor
    checksums: Executor
    result: LoadResult = field(default_factory=LoadResult)
    room: Room = field(default_factory=Room)
    stored: list[str] = field(default_factory=list)
    unreadable: list[FileSummary] = field(default_factory=list)
    # Of an atomic load, what is read and waits for the others.
    waiting: list["_Staged"] = field(default_factory=list)

    def __post_init__(self) -> None:
        skipped = [item for item in self.items if isinstance(item, Skipped)]
        self.items = [item for item in self.items if not isinstance(item, Skipped)]
        # Weekly and special hours always wait: they are one replacement set.
        self.hours = {feed: HoursSet(feed) for feed in ("hours", "special_hours")}
        self.notes = LoadNotes(
            self.options.default_zone, skipped, len(self.items), self.options.now_us, self.options.latest_us
        )

    def run(self) -> LoadResult:
        """Load every file in turn, then the hours files together; then record what could not be read."""
        try:
            for item in self.items:
                self._load_item(item)
            self._store_waiting()
            if not self.options.dry_run:
                self._record_unreadable()
            if not self.result.load:
                # Nothing was stored, and there is no database to remember that in.
                self.result.notes = self.notes.of_files()
            if self.options.dry_run:
                self.result.load = 0
        except Stopped as error:
            raise Stopped(f"{error.message}; {self._what_is_stored()}") from error
        finally:
            for staged in self.waiting:
                staged.close()
        return self.result

    def _load_item(self, item: LoadItem) -> None:
        summary = FileSummary(item.name)
        self.result.files.append(summary)
        log = RejectLog(self.room)
        try:
            if not isinstance(item, Source):
                raise DataError(item.reason)
            with lack_of_memory(f"loading {item.name}", _OUT_OF_MEMORY):
                staged = self._read(item, summary, log)
                if staged is not None and (self.options.atomic or self.options.dry_run):
                    self.waiting.append(staged)
                elif staged is not None:
                    self._store(staged, last=item is self.items[-1])
        except DataError as error:
            log.clear()
            self.result.error = self.result.error or error
            summary.error = error.message
            summary.counts = Counts()
            self.unreadable.append(summary)
            self.on_file(summary)

    def _read(self, source: Source, summary: FileSummary, log: RejectLog) -> "_Staged | None":
        """The file, read to its end; None when it is one of hours, which wait for each other."""
        checksum = hashlib.sha256()
        pending: Future[None] | None = None
        decoded = reported = 0

        def report(position: int) -> None:
            """Report how many bytes have been read on disk: of a compressed file fewer than have come out of it."""
            nonlocal reported
            more = min(position, source.size) - reported
            if more > 0:
                reported += more
                self.progress(source.name, more)

        def on_bytes(data: bytes) -> None:
            """Count, check and report the decoded bytes that were just read."""
            nonlocal pending, decoded
            self.options.check()
            if pending is not None:
                # No more than two blocks are held.
                pending.result()
            pending = self.checksums.submit(checksum.update, data)
            if source.allowance is not None:
                source.allowance.take(source.name, len(data))
            decoded += len(data)
            report(getattr(stream, "consumed", decoded))

        with ExitStack() as unused:
            with sources.open_source(source) as stream:
                staged = self._parse(source, stream, on_bytes, summary, log)
                if staged is not None:
                    unused.callback(staged.close)
            # The file is read to its end, and could be closed.
            unused.pop_all()
        self.notes.of_sources += source.notes
        if pending is not None:
            pending.result()
        summary.sha256 = checksum.hexdigest()
        report(source.size)
        return staged

    def _parse(
        self,
        source: Source,
        stream: BinaryIO,
        on_bytes: Callable[[bytes], None],
        summary: FileSummary,
        log: RejectLog,
    ) -> "_Staged | None":
        with _open_rows(source, stream, on_bytes, summary, self.options) as (header, batches):
            return self._parse_rows(source, header, batches, summary, log)

    def _parse_rows(
        self,
        source: Source,
        header: Header,
        batches: Iterable[readers.Batch],
        summary: FileSummary,
        log: RejectLog,
    ) -> "_Staged | None":
        latest_us, check = self.options.latest_us, self.options.check
        rejected_stores: set[str] = set()
        days = DaysOfWeek(self.options.iso_days)
        summary.feed = header.feed
        if source.feed not in ("", header.feed):
            raise DataError(f"the header is that of {header.feed}, not of {source.feed}")
        if header.feed == "polls":
            return self._stage_polls(summary, log, readers.read_polls(batches, header, latest_us, log, check))
        rows = readers.read_small_feed(batches, header, log, rejected_stores, days, check)
        if summary.feed in ("timezones", "stores"):
            return _StoreValues(summary, log, rows, rejected_stores, header.tags)
        self.hours[summary.feed].add(summary, log, rows, rejected_stores)
        if days.without_first:
            self.notes.without_monday.append(summary.file)
        return None

    def _stage_polls(self, summary: FileSummary, log: RejectLog, blocks: Iterator[PollColumns]) -> "_Staged":
        # The folder of the temporary file must be there.
        self.database.prepare()
        staged = _Polls(summary, log, blocks, self.database.path.parent)
        self.notes.add_poll_rows(staged.good_rows + log.count, log.reasons)
        return staged

    def _store(self, staged: "_Staged", last: bool) -> None:
        """Store a file in a transaction of its own, with the notes of the load if it is the last one."""
        with closing(staged), self._write(staged.large) as connection:
            self.apply(connection, staged)
            if last and not self._hours_files and not self.unreadable:
                self._note(connection)
        self._finish(staged.summary)

    def apply(self, connection: Connection, staged: "_Staged") -> None:
        """Apply what was read and add its file to the load."""
        load = self._number(connection)
        with self.notes.watching(connection, staged.summary.feed), self._recording(connection, load) as recorder:
            staged.apply(connection, self.notes, recorder)
        self._record(connection, load, staged.summary, staged.log)

    @contextmanager
    def _recording(self, connection: Connection, load: int) -> Iterator[Recorder]:
        """Keep what the block replaces, as far as there is room."""
        recorder = Recorder(connection, load)
        yield recorder
        recorder.finish()
        drop_what_is_too_much(connection, self.options.undo, self.options.now_us)

    @property
    def _hours_files(self) -> list[tuple[FileSummary, RejectLog]]:
        return [file for hours in self.hours.values() for file in hours.files]

    def _apply_hours(self, connection: Connection) -> None:
        unreadable = [summary.file for summary in self.unreadable]
        load = self._number(connection)
        for feed, hours in self.hours.items():
            if hours.files:
                with self.notes.watching(connection, feed), self._recording(connection, load) as recorder:
                    _replace_hours(connection, hours, unreadable, recorder)
                self.notes.add_hours(feed, hours)
        for summary, log in self._hours_files:
            self._record(connection, load, summary, log)

    def _store_waiting(self) -> None:
        """Store what waits in one transaction; of an atomic load in which something is wrong, record that for each
        file.
        """
        files = [(staged.summary, staged.log) for staged in self.waiting] + self._hours_files
        rejected = sum(log.count for _, log in files)
        if self.options.atomic and (rejected or self.unreadable):
            self._refuse(files, rejected)
        elif files:
            with self._write(large=True) as connection:
                before_us = self._newest_us(connection)
                for staged in self.waiting:
                    self.apply(connection, staged)
                if self._hours_files:
                    self._apply_hours(connection)
                if self.options.dry_run or not self.unreadable:
                    self._note(connection)
                self.result.newest_us = before_us, self._newest_us(connection)
            for summary, _ in files:
                self._finish(summary)

    def _newest_us(self, connection: Connection) -> int | None:
        return polls.newest(connection, self.options.latest_us).poll_us if self.options.dry_run else None

    def _refuse(self, files: list[tuple[FileSummary, RejectLog]], rejected: int) -> None:
        self.result.refused = True
        reason = f"{count_text(rejected, 'row was', 'rows were')} rejected" if rejected else "a file could not be used"
        good_rows = [staged.good_rows for staged in self.waiting]
        good_rows += [rows for hours in self.hours.values() for rows in hours.good_rows]
        with self._write() as connection:
            load = self._number(connection) if files else 0
            for (summary, log), good in zip(files, good_rows, strict=True):
                summary.error = f"nothing of it was stored: {reason}, and the load was to be all or nothing"
                summary.counts = Counts(rows=log.count, rejected=log.count)
                if good:
                    which = count_text(good, "row that fits was", "rows that fit were")
                    summary.notes.append(f"{which} not stored either")
                self._record(connection, load, summary, log)
            if not self.unreadable:
                self._note(connection)
        for summary, _ in files:
            self.on_file(summary)

    def _record_unreadable(self) -> None:
        """Record files that were no feed with the load; alone, they make no database where there was none."""
        if self.unreadable and self.database.exists():
            with self._write() as connection:
                load = self._number(connection)
                for summary in self.unreadable:
                    self._record(connection, load, summary, None)
                self._note(connection)

    def _number(self, connection: Connection) -> int:
        """The load's number, in a transaction that records a file; only its commit makes a new one known."""
        if self.result.load and loads.exists(connection, self.result.load):
            return self.result.load
        return loads.begin(connection, self.options.now_us)

    def _record(self, connection: Connection, load: int, summary: FileSummary, log: RejectLog | None) -> None:
        """Add the file's row, in the transaction that applies the file."""
        if log is not None:
            summary.reasons = dict(log.reasons.most_common())
            summary.rejects = log.rejects
        loads.add_file(connection, load, time.time_ns() // 1000, summary)
        self.result.load = load

    def _note(self, connection: Connection) -> None:
        """Store the notes of the load as a whole, in the last transaction of it."""
        self.result.notes = self.notes.of_files() if self.result.refused else self.notes.build(connection)
        if self.result.notes:
            loads.set_notes(connection, self.result.load, self.result.notes)

    @contextmanager
    def _write(self, large: bool = False) -> Iterator[Connection]:
        checkpoints = self.checkpoints if large else None
        with (
            suppress(_Tried),
            self.database.write(checkpoint_in=checkpoints, check=self.options.check) as connection,
        ):
            yield connection
            if self.options.dry_run:
                # It is rolled back.
                raise _Tried

    def _finish(self, summary: FileSummary) -> None:
        """A file is in."""
        if not self.options.dry_run:
            self.stored.append(summary.file)
        self.on_file(summary)

    def _what_is_stored(self) -> str:
        if not self.stored:
            return "nothing of this was stored"
        return f"stored before: {list_files(self.stored)}; nothing of the other files was"


@contextmanager
def _open_rows(
    source: Source,
    stream: BinaryIO,
    on_bytes: Callable[[bytes], None],
    summary: FileSummary,
    options: LoadOptions,
) -> Iterator[tuple[Header, Iterable[readers.Batch]]]:
    """Give the header of a file and its rows. A new format needs a header and what yields lists of records."""
    if source.records is not None:
        yield record_header(source.feed), _passed_on(source.records, on_bytes)
        return
    format = source.format
    if not format:
        stream, format, note = sources.detect_format(stream, source.media_type, source.allowance, check=options.check)
        summary.notes += [note] if note else []
    if isinstance(stream, SheetRows):
        with closing(stream):
            yield stream.header, _passed_on(stream.batches(options.check), on_bytes)
    elif format == "csv":
        blocks = BlockReader(stream, on_bytes, encoding=options.encoding)
        yield blocks.header, blocks
    elif source.feed:
        yield json_rows.header_of(source.feed), json_rows.read(stream, format, source.feed, on_bytes)
    else:
        raise DataError("it is JSON, which does not say which feed it is; name that with --feed polls, for example")


def _passed_on(batches: Iterable[list[Record]], on_bytes: Callable[[bytes], None]) -> Iterator[list[Record]]:
    """The batches; `on_bytes` gets the text of their rows."""
    for batch in batches:
        on_bytes("\n".join(record.text for record in batch).encode("utf-8", "replace"))
        yield batch


class _Polls:
    """A file of polls that waits to be stored."""

    def __init__(self, summary: FileSummary, log: RejectLog, blocks: Iterable[PollColumns], folder: Path) -> None:
        """Read everything; `folder` is where what outgrows memory goes."""
        self.summary = summary
        self.log = log
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
    def good_rows(self) -> int:
        """Return how many rows were not rejected."""
        return self._rows - self.log.count

    def apply(self, connection: Connection, notes: LoadNotes, recorder: Recorder) -> None:
        """Store the polls, count them in the summary, and note those older than what was pruned."""
        applied = polls.apply(connection, self._staged, recorder.polls)
        counts = self.summary.counts = applied.counts
        counts.rows = self._rows
        counts.repeated = self._staged.repeated
        counts.rejected = self.log.count
        if applied.complete_from_us is not None and applied.too_old:
            until = minute_text(applied.complete_from_us)
            which = count_text(applied.too_old, "poll is", "polls are")
            count = "it counts" if applied.too_old == 1 else "they count"
            self.summary.notes.append(
                f"{which} older than {until}, up to which polls were pruned; {count} for nothing, and the time before "
                "stays unknown"
            )
        if counts.new or counts.changed:
            stores.data_changed(connection)
        notes.add_polls(applied)

    def close(self) -> None:
        """Delete the temporary files of staged polls."""
        self._staged.close()


class _PollsTogether(_Polls):
    """Small files of polls, stored as one. Each was counted as if it were stored alone, and the sums are the file's."""

    def __init__(self, summary: FileSummary, log: RejectLog, pushes: list[SmallPolls], folder: Path) -> None:
        codes: dict[str, int] = {}
        rows = [
            (codes.setdefault(store_id, len(codes)), us, active)
            for push in pushes
            for store_id, us, active in push.rows
        ]
        store, timestamp_us, active = np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()
        columns = PollColumns(list(codes), store, timestamp_us, active.astype(bool), len(rows) + log.count)
        super().__init__(summary, log, [columns], folder)
        self._counts = Counts(
            *(sum(getattr(push.summary.counts, one.name) for push in pushes) for one in fields(Counts))
        )

    def apply(self, connection: Connection, notes: LoadNotes, recorder: Recorder) -> None:
        """Store the polls of all files, and set the counts that the files have together."""
        super().apply(connection, notes, recorder)
        self.summary.counts = self._counts


class _StoreValues:
    """A file of time zones or names (with groups and labels), which give values to a store, or to a store from a date
    on: the last row of a key wins.
    """

    large = False

    def __init__(
        self,
        summary: FileSummary,
        log: RejectLog,
        blocks: Iterable[CodedRows],
        rejected_stores: set[str],
        tags: tuple[str, ...],
    ) -> None:
        """Read everything; reading adds to `rejected_stores` the stores with a rejected row. `tags` are the last
        columns of names."""
        self.summary = summary
        self.log = log
        self.good_rows = 0
        self._rejected_stores = rejected_stores
        self._values: dict[Any, tuple[str, ...]] = {}
        packed_by_values: dict[tuple[str, ...], str] = {}
        for store_id, first, second, *more in _rows(blocks):
            if summary.feed == "timezones":
                self._values[store_id, second] = (first,)
            else:
                values = tuple(more)
                if values not in packed_by_values:
                    packed_by_values[values] = _pack_labels(tags, values)
                self._values[store_id,] = (first, second, packed_by_values[values])
            self.good_rows += 1

    def apply(self, connection: Connection, notes: LoadNotes, recorder: Recorder) -> None:
        """Store the zones or names that changed, count them in the summary, and note replaced zones."""
        zones = self.summary.feed == "timezones"
        stored = stores.zones_of if zones else stores.names_of
        old: Mapping[Any, tuple[str, ...]] = stored(connection, {key[0]: None for key in self._values})
        changed = {key: values for key, values in self._values.items() if old.get(key) != values}
        # A zone without a date replaces all that the store had with one.
        undated = {key[0] for key in self._values if key[-1] == UNDATED}
        removed = [key for key in old if key[0] in undated and key not in self._values]
        with recorder.facts(self.summary.feed, map(_version, self._values), [*map(_version, (*changed, *removed))]):
            if zones:
                stores.replace_zones(connection, changed, removed)
            else:
                stores.replace_names(connection, changed)
                _require_few_tags(connection, changed.values())
        new = sum(not any(old.get(key, ())) for key in changed)
        self.summary.counts = Counts(
            rows=self.good_rows + self.log.count,
            new=new,
            changed=len(changed) - new,
            unchanged=len(self._values) - len(changed),
            repeated=self.good_rows - len(self._values),
            rejected=self.log.count,
        )
        if removed:
            dated = count_text(len(removed), "zone that held from a date on was", "zones that held from a date on were")
            self.summary.notes.append(f"{dated} replaced")
        if changed or removed:
            stores.data_changed(connection)
        if zones:
            notes.add_zones(self._values, self._rejected_stores)
        notes.add_stores(self.summary.feed, self.summary.file, {key[0] for key in self._values})

    def close(self) -> None:
        """Do nothing: all values are in memory."""


def _pack_labels(tags: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return the labels of a row of names as they are stored: brand, region, platform, and `tags`."""
    given = dict(zip((*labels.NAMED_LABELS, *tags), values, strict=True))
    given |= labels.unpack(given.pop(ANY_TAGS, ""))
    return labels.pack(given)


def _require_few_tags(connection: Connection, changed: Iterable[tuple[str, ...]]) -> None:
    """`DataError` when the stores have more different tags than a feed may have columns for."""
    if any(f'"{labels.TAG_PREFIX}' in packed for _, _, packed in changed):
        names = [name for name in stores.label_names(connection) if name.startswith(labels.TAG_PREFIX)]
        if len(names) > labels.MOST_TAG_NAMES:
            raise DataError(
                f"with it the stores would have {len(names):,} different tags, and there may be "
                f"{labels.MOST_TAG_NAMES:,}; use the values of one tag instead of many tags"
            )


def _version(key: tuple[Any, ...]) -> tuple[str, int]:
    """The store and date of a key of values; a name has no date."""
    store_id, day = (*key, 0)[:2]
    return store_id, day


def _rows(blocks: Iterable[CodedRows]) -> Iterator[tuple[Any, ...]]:
    for block in blocks:
        for codes in zip(*(column.tolist() for column in block.codes), strict=True):
            yield tuple(values[code] for values, code in zip(block.values, codes, strict=True))


def _replace_hours(connection: Connection, hours: HoursSet, unreadable: list[str], recorder: Recorder) -> None:
    """Compare the hours of a load with those stored, and replace those that change."""
    known, _ = stores.rows_of(connection, hours.store_ids)
    ids = dict(zip(known.number.tolist(), known.ids, strict=True))
    read = stores.read_hours if hours.feed == "hours" else stores.read_special_hours
    change = hours.compare(ids, read(connection, min(ids), max(ids)) if ids else None, unreadable)
    versions, rows = ([], None) if change is None else change
    with recorder.facts(hours.feed, hours.versions, versions):
        if isinstance(rows, Hours):
            stores.replace_hours(connection, versions, rows)
        elif rows is not None:
            stores.replace_special_hours(connection, versions, rows)
    if rows is not None:
        stores.data_changed(connection)


_Staged = _Polls | _StoreValues
