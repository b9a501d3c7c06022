"""Loading: find what there is, recognise each feed by its header, stage it, apply it in one transaction with its
summary.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from storemon_flask.database import loads, stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError, Stopped, lack_of_memory
from storemon_flask.feeds import json_rows, load_feeds, memory, sources, tables, uploads, version_rows
from storemon_flask.feeds import polls as poll_feed
from storemon_flask.feeds.csv_exact import BlockReader
from storemon_flask.feeds.hours_set import HoursSet
from storemon_flask.feeds.load_feeds import Staged
from storemon_flask.feeds.load_notes import LoadNotes
from storemon_flask.feeds.polls import PollBlock
from storemon_flask.feeds.reading import ByteShare, Digest
from storemon_flask.feeds.rejects import RejectLog, Room
from storemon_flask.feeds.sources import Found, PassedOver, Source
from storemon_flask.feeds.values import DaysOfWeek
from storemon_flask.model import Counts, FileSummary, Progress

# So many files are named of which a sentence says the same.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """How a load is to be done. `atomic`: everything or nothing; `default_zone`: the one of stores that have none;
    `iso_days`: hours files number days from 1 (Monday) to 7 (None: from 0, beyond doubt). `check` is called now and
    then, from several threads, and raises when the load is to be given up."""

    now_us: int
    max_skew_us: int
    atomic: bool = False
    default_zone: str = "America/Chicago"
    iso_days: bool | None = False
    check: Callable[[], None] = lambda: None

    @property
    def latest_us(self) -> int:
        """The latest instant that a poll may have; later ones are in the future."""
        return self.now_us + self.max_skew_us


@dataclass(slots=True)
class LoadResult:
    """What a load did: its number (0: nothing was stored), a summary per file, the first file's error, whether it was
    refused, and what there is to say of the load as a whole."""

    load: int = 0
    files: list[FileSummary] = field(default_factory=list)
    error: DataError | None = None
    refused: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a file was no feed or could not be read."""
        return self.error is not None

    @property
    def rejected(self) -> int:
        """Rows rejected, over all files."""
        return sum(summary.counts.rejected for summary in self.files)


def find(paths: list[Path], most_bytes: int | None = None) -> tuple[list[Found], int]:
    """What there is to load and how many bytes of it there are on disk.

    `most_bytes` may come out of each compressed file.
    """
    found = sources.find(paths, most_bytes)
    return found, sum(source.size for source in readable(found))


def readable(found: list[Found]) -> list[Source]:
    """What of it can be read, as far as is known."""
    return [source for source in found if isinstance(source, Source)]


def run(
    database: Database,
    found: list[Found],
    terms: Terms,
    *,
    progress: Progress = lambda name, part: None,
    on_file: Callable[[FileSummary], None] = lambda summary: None,
) -> LoadResult:
    """Load everything found. One bad file does not keep the others from loading, unless the load is to be atomic.

    `progress(name, bytes)` is told of bytes read from disk; `on_file` of each file when it is in (hours files at the
    end, together). Rows that cannot be used are kept with their reasons. `DatabaseError` when nothing can be stored,
    `OutOfMemory`, and what `terms.check` raises; of a `Stopped` the sentence ends with what was stored before.
    """
    if database.exists():
        # Find out now whether it can be used, not after the files have been read.
        database.prepare()
    # Polls are moved from the log into the file while the next files are read.
    with lack_of_memory("this load", _LESS), ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as aside:
        return _Loading(database, terms, progress, on_file, aside, found).all()


_LESS: Final = (
    "what was not stored yet is not stored; load it again later, in smaller files, or give storemon more memory"
)


class _Loading:
    """One load under way: the state its files share."""

    def __init__(
        self,
        database: Database,
        terms: Terms,
        progress: Progress,
        on_file: Callable[[FileSummary], None],
        aside: Executor,
        found: list[Found],
    ) -> None:
        self.database = database
        self.terms = terms
        self.progress = progress
        self.on_file = on_file
        self.stored: list[str] = []
        self.aside = aside
        self.result = LoadResult()
        self.hours = HoursSet(version_rows.WEEKLY)
        self.special_hours = HoursSet(version_rows.SPECIAL)
        self.unusable: list[FileSummary] = []
        self.room = Room()
        self.waiting: list[Staged] = []
        self.found = [source for source in found if not isinstance(source, PassedOver)]
        self.notes = LoadNotes(
            terms.default_zone,
            [one for one in found if isinstance(one, PassedOver)],
            len(self.found),
            terms.now_us,
            terms.latest_us,
        )
        self.noted = False

    def all(self) -> LoadResult:
        """Every file in turn, then the hours files together, then what could not be used."""
        try:
            for source in self.found:
                summary = FileSummary(source.name)
                self.result.files.append(summary)
                if not isinstance(source, Source):
                    self._failed(summary, DataError(source.sentence))
                    continue
                log = RejectLog(self.room)
                try:
                    with lack_of_memory(f"loading {source.name}", _LESS):
                        self._file(source, summary, log)
                except DataError as error:
                    log.clear()
                    self._failed(summary, error)
            if self.terms.atomic:
                self._all_or_nothing()
            else:
                self._apply_hours()
            self._record_unusable()
            if not self.noted:
                # Nothing was stored, and there is no database to remember that in.
                self.result.notes = self.notes.of_files()
        except Stopped as error:
            raise Stopped(f"{error.message}; {self._what_is_stored()}") from error
        finally:
            for staged in self.waiting:
                staged.close()
        return self.result

    def _what_is_stored(self) -> str:
        if not self.stored:
            return "nothing of this was stored"
        more = f" and {len(self.stored) - _NAMED:,} more" if len(self.stored) > _NAMED else ""
        return f"stored before: {', '.join(self.stored[:_NAMED])}{more}; nothing of the other files was"

    def _done(self, summary: FileSummary) -> None:
        """A file is in."""
        self.stored.append(summary.file)
        self.on_file(summary)

    def _write(self, large: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        return self.database.write(checkpoint_in=self.aside if large else None, check=self.terms.check)

    def _file(self, source: Source, summary: FileSummary, log: RejectLog) -> None:
        digest = Digest()
        counted = ByteShare(source, self.progress)

        def on_bytes(data: bytes) -> None:
            self.terms.check()
            digest.update(data)
            counted.read(len(data))

        with closing(digest), sources.opened(source) as stream:
            counted.stream = stream
            staged = self._staged(source, stream, on_bytes, summary, log)
            summary.sha256 = digest.hexdigest()
        counted.done()
        if staged is None:
            return
        if self.terms.atomic:
            self.waiting.append(staged)
            return
        with closing(staged), self._write(staged.large) as connection:
            if staged.large:
                memory.give_back()
            self._apply(connection, staged)
            self._record(connection, summary, log)
            if source is self.found[-1] and not self._hours_files and not self.unusable:
                self._note(connection)
        if staged.large:
            memory.give_back()
        self._done(summary)

    def _apply(self, connection: sqlite3.Connection, staged: Staged) -> None:
        with self.notes.watching(connection, staged.summary.feed):
            staged.apply(connection)
        self.notes.add(staged)

    def _note(self, connection: sqlite3.Connection) -> None:
        """What there is to say of the load as a whole, in the last transaction of it."""
        self.noted = True
        self.result.notes = self.notes.of_files() if self.result.refused else self.notes.build(connection)
        if self.result.notes:
            loads.set_notes(connection, self.result.load, self.result.notes)

    def _staged(
        self,
        source: Source,
        stream: BinaryIO,
        on_bytes: Callable[[bytes], None],
        summary: FileSummary,
        log: RejectLog,
    ) -> Staged | None:
        """The file, read to its end; None when it is one of the hours, which wait for each other."""
        latest_us, check = self.terms.latest_us, self.terms.check
        spoiled: set[str] = set()
        days = DaysOfWeek(self.terms.iso_days)
        form = source.form
        if not form:
            stream, form, note = uploads.recognise_form(stream, source.label, source.allowance)
            summary.notes += [note] if note else []
        if form == "csv":
            reader = BlockReader(stream, on_bytes)
            header = reader.header()
            summary.feed = header.feed
            if source.feed not in ("", header.feed):
                raise DataError(f"the header is that of {header.feed}, not of {source.feed}")
            if header.feed == "polls":
                return self._polls(summary, log, poll_feed.read(reader, header, latest_us, log, check))
            rows = tables.read(reader, header, log, spoiled, days, check)
        else:
            summary.feed = source.feed
            batches = json_rows.read(stream, form, source.feed, on_bytes)
            if source.feed == "polls":
                return self._polls(summary, log, poll_feed.read_records(batches, latest_us, log, check))
            rows = tables.read_records(source.feed, batches, log, spoiled, days, check)
        if summary.feed == "timezones":
            return load_feeds.zones(summary, log, rows, spoiled)
        if summary.feed == "stores":
            return load_feeds.names(summary, log, rows, spoiled)
        (self.hours if summary.feed == "hours" else self.special_hours).add(summary, log, rows, spoiled)
        if summary.feed == "hours" and days.without_first:
            self.notes.without_monday.append(summary.file)
        return None

    def _polls(self, summary: FileSummary, log: RejectLog, blocks: Iterator[PollBlock]) -> Staged:
        # The folder of the temporary file must be there.
        self.database.prepare()
        staged = load_feeds.Polls(summary, log, blocks, self.database.path.parent)
        self.notes.add_poll_rows(staged.fitting + log.count, log.reasons)
        return staged

    @property
    def _hours_files(self) -> list[tuple[FileSummary, RejectLog]]:
        """The files that wait for each other."""
        return self.hours.files + self.special_hours.files

    def _apply_hours(self) -> None:
        if not self._hours_files:
            return
        memory.give_back()
        with self._write(large=True) as connection:
            self._put_hours(connection)
            if not self.unusable:
                self._note(connection)
        for summary, _ in self._hours_files:
            self._done(summary)

    def _put_hours(self, connection: sqlite3.Connection) -> None:
        unusable = [summary.file for summary in self.unusable]
        for feed, hours in (("hours", self.hours), ("special_hours", self.special_hours)):
            if not hours.files:
                continue
            with self.notes.watching(connection, feed):
                if hours.apply(connection, unusable):
                    stores.data_changed(connection)
            self.notes.add_hours(feed, hours)
        for summary, log in self._hours_files:
            self._record(connection, summary, log)

    def _all_or_nothing(self) -> None:
        """Apply what waits in one transaction, or say of each file why none of it was."""
        logs = [(staged.summary, staged.log) for staged in self.waiting] + self._hours_files
        rejected = sum(log.count for _, log in logs)
        if not rejected and not self.unusable:
            with self._write(large=True) as connection:
                for staged in self.waiting:
                    self._apply(connection, staged)
                    self._record(connection, staged.summary, staged.log)
                if self._hours_files:
                    self._put_hours(connection)
                self._note(connection)
        else:
            self.result.refused = True
            rows = "1 row was" if rejected == 1 else f"{rejected:,} rows were"
            why = f"{rows} rejected" if rejected else "a file could not be used"
            fitting = [staged.fitting for staged in self.waiting] + self.hours.fitting + self.special_hours.fitting
            with self._write() as connection:
                for (summary, log), good in zip(logs, fitting, strict=True):
                    summary.error = f"nothing of it was stored: {why}, and the load was to be all or nothing"
                    summary.counts = Counts(rows=log.count, rejected=log.count)
                    if good:
                        which = "1 row that fits was" if good == 1 else f"{good:,} rows that fit were"
                        summary.notes.append(f"{which} not stored either")
                    self._record(connection, summary, log)
                if not self.unusable:
                    self._note(connection)
        for summary, _ in logs:
            self.on_file(summary)

    def _failed(self, summary: FileSummary, error: DataError) -> None:
        self.result.error = self.result.error or error
        summary.error = error.message
        summary.counts = Counts()
        self.unusable.append(summary)
        self.on_file(summary)

    def _record_unusable(self) -> None:
        """Files that were no feed are remembered with the load; alone, they make no database where there was none."""
        if self.unusable and self.database.exists():
            with self._write() as connection:
                for summary in self.unusable:
                    self._record(connection, summary, None)
                self._note(connection)

    def _record(self, connection: sqlite3.Connection, summary: FileSummary, log: RejectLog | None) -> None:
        """The file's row, in the transaction that applies the file; the load's number is known once this is committed."""
        load = self.result.load or loads.begin(connection, self.terms.now_us)
        if log is not None:
            summary.reasons = dict(log.reasons.most_common())
            summary.rejects = log.rejects
        loads.add_file(connection, load, time.time_ns() // 1000, summary)
        self.result.load = load
