"""The reader of each feed: the blocks of a CSV file, or records from elsewhere, become columns of its good rows; the
other rows become rejects.

Where the fast reader can, rows are read a column at a time (`csv_fast`); the others one by one. A new format needs a
`Header` and an iterable of lists of records, no more.
"""

import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np

from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact, csv_fast, schema
from storemon_flask.feeds.csv_exact import Block, Record, RejectLog, checked
from storemon_flask.feeds.csv_fast import DistinctTexts, Table
from storemon_flask.feeds.schema import BadValue, DaysOfWeek, Header, columns_of
from storemon_flask.labels import MOST_TAGS
from storemon_flask.model import Bools, Ints

# numpy lets go of the interpreter while it computes, so two blocks are read at once; more would wait for each other.
_THREADS: Final = 2
# Where the columns of hours have the day.
_DAY: Final = 1
_WORTH_COMPRESSING: Final = 2 << 20

Batch = Block | list[Record]
_Columns = TypeVar("_Columns")
_Values = TypeVar("_Values")


@dataclass(frozen=True, slots=True)
class PollColumns:
    """Good polls in file order: `store` indexes `ids`. `rows` counts the bad ones too.

    `ids` may be one list for many blocks, growing; an entry that no row uses may be anything, and one id may stand
    twice.
    """

    ids: list[Any]
    store: Ints
    timestamp_us: Ints
    active: Bools
    rows: int


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Good rows of a small feed in file order: `codes[k]` indexes `values[k]`, the distinct values of field k.

    `line` says where each stands, `texts(rows)` what stands there.
    """

    values: list[list[Any]]
    codes: list[Ints]
    line: Ints
    texts: Callable[[list[int]], list[str]]


def read_polls(
    batches: Iterable[Batch], header: Header, latest_us: int, log: RejectLog, check: Callable[[], None] = lambda: None
) -> Iterator[PollColumns]:
    """Return the polls of a file, a batch at a time, in order; what cannot be used goes to `log`.

    `latest_us` is the newest timestamp a poll may have. `check` is called now and then, from several threads; what it
    raises ends the reading.
    """
    reader = _PollReader(header, latest_us, log, check)
    pending: deque[Future[list[_LoggedPolls]]] = deque()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
    try:
        for batch in batches:
            if not pending and (isinstance(batch, list) or batch.last):
                yield from _logged(reader.read(batch), log)
                continue
            pending.append(pool.submit(reader.read, batch))
            if len(pending) > _THREADS + 1:
                yield from _logged(pending.popleft().result(), log)
        while pending:
            yield from _logged(pending.popleft().result(), log)
    finally:
        # What waits to be read when reading ends early is not read at all.
        pool.shutdown(cancel_futures=True)


def read_small_feed(
    batches: Iterable[Batch],
    header: Header,
    log: RejectLog,
    rejected_stores: set[str],
    days: DaysOfWeek,
    check: Callable[[], None] = lambda: None,
) -> Iterator[CodedRows]:
    """Return the good rows of hours, special hours, time zones or names, a batch at a time; the others go to `log`.

    A store of which a row was rejected, where the row still names it, is added to `rejected_stores`. `DataError`, at
    the end, when `days` finds that the days of the week are numbered in another way.
    """
    reader = _SmallFeedReader(header, log, rejected_stores, days, check)
    for batch in batches:
        yield from reader.read(batch)
    if days.from_one:
        raise DataError(schema.DAYS_FROM_ONE)


class _FeedReader(ABC, Generic[_Values, _Columns]):
    """Reads batches of one file."""

    def __init__(self, header: Header, check: Callable[[], None]) -> None:
        self._header = header
        self._check = check

    def read(self, batch: Batch) -> list[_Columns]:
        """Return the good rows of a batch, by the fast reader as far as it can."""
        self._check()
        if isinstance(batch, list):
            return [self._read_records(batch)]
        return [self._read_table(table) for table in csv_fast.tables(batch, self._header)]

    @abstractmethod
    def _read_records(self, records: list[Record]) -> _Columns:
        """Read records one by one."""

    @abstractmethod
    def _read_table(self, table: Table) -> _Columns:
        """Read a table a column at a time, and one by one only where that is not certain."""

    @abstractmethod
    def _parse(self, record: Record) -> _Values:
        """Return the values of one row; `BadValue` with the first reason why not."""

    def _parse_records(self, records: list[Record], log: RejectLog) -> Iterator[tuple[Record, _Values]]:
        """Each good record and its values; the others go to `log`."""
        for record in checked(records, self._check):
            try:
                values = self._parse(record)
            except BadValue as bad:
                log.add(record.line, str(bad), record.text)
                continue
            yield record, values

    def _parse_rows(self, table: Table, rows: Ints) -> Iterator[tuple[int, _Values]]:
        """Those rows of a table that are good, and their values, by the exact reader; the others are rejected."""
        for row in checked(rows.tolist(), self._check):
            try:
                values = self._parse(table.record(row, self._header))
            except BadValue as bad:
                table.reject(row, str(bad))
                continue
            yield row, values


_LoggedPolls = tuple[PollColumns, RejectLog]


def _logged(results: list[_LoggedPolls], log: RejectLog) -> Iterator[PollColumns]:
    for polls, rejects in results:
        log.add_all(rejects)
        yield polls


class _PollReader(_FeedReader[tuple[str, int, bool], _LoggedPolls]):
    """Reads polls, several batches at once in different threads."""

    def __init__(self, header: Header, latest_us: int, log: RejectLog, check: Callable[[], None]) -> None:
        super().__init__(header, check)
        self._latest_us = latest_us
        self._log = log
        self._ids = DistinctTexts(schema.parse_store_id, check)
        self._statuses = DistinctTexts(schema.parse_status, check)

    def _read_records(self, records: list[Record]) -> _LoggedPolls:
        log = self._log.for_block()
        codes: dict[str, int] = {}
        rows = [
            (codes.setdefault(store_id, len(codes)), timestamp_us, active)
            for _, (store_id, timestamp_us, active) in self._parse_records(records, log)
        ]
        store, timestamp_us, active = np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()
        return PollColumns(list(codes), store, timestamp_us, active.astype(bool), len(rows) + log.count), log

    def _read_table(self, table: Table) -> _LoggedPolls:
        self._check()
        fields, ids, statuses = table.fields, self._ids, self._statuses
        id_at, timestamp_at, status_at = self._header.columns
        store, status = ids.codes(fields, id_at), statuses.codes(fields, status_at)
        timestamp_us, read = fields.timestamps(timestamp_at)
        certain = (store >= 0) & (status >= 0)
        certain[table.exact_rows] = False
        table.reject_bad(certain, ids, store)
        # Where the id is bad, the rest of the row does not matter.
        unread = np.flatnonzero(~read & certain & table.good)
        if len(unread):
            certain[unread] = self._read_rare_timestamps(table, unread, timestamp_us)
        table.reject(certain & table.good & (timestamp_us > self._latest_us), schema.TIMESTAMP_FUTURE)
        table.reject_bad(certain & table.good, statuses, status)
        # Of a row that is not certain it means nothing.
        active = statuses.integers[status] == 1
        for row, (store_id, row_us, is_active) in self._parse_rows(table, np.flatnonzero(~certain)):
            store[row], timestamp_us[row], active[row] = ids.code_of(store_id), row_us, is_active
        log = self._log.for_block()
        table.log_rejects(log)
        rows = len(store) + len(table.malformed.line)
        good = table.good
        if not good.all():
            store, timestamp_us, active = store[good], timestamp_us[good], active[good]
        return PollColumns(ids.values, store, timestamp_us, active, rows), log

    def _read_rare_timestamps(self, table: Table, rows: Ints, timestamp_us: Ints) -> Bools:
        """Read timestamps that the fast reader did not read, each text once; return where that was possible."""
        texts = DistinctTexts(schema.parse_timestamp, self._check)
        code = np.full(len(timestamp_us), -1)
        code[rows] = texts.codes(table.fields.select_rows(rows), self._header.columns[1])
        known = code >= 0
        table.reject_bad(known, texts, code)
        timestamp_us[known] = texts.integers[code[known]]
        return known[rows]

    def _parse(self, record: Record) -> tuple[str, int, bool]:
        if record.problem:
            raise BadValue(record.problem)
        id_text, timestamp_text, status_text = (record.fields[at] for at in self._header.columns)
        store_id = schema.parse_store_id(id_text)
        timestamp_us = schema.parse_timestamp(timestamp_text)
        if timestamp_us > self._latest_us:
            raise BadValue(schema.TIMESTAMP_FUTURE)
        return store_id, timestamp_us, schema.parse_status(status_text)


class _SmallFeedReader(_FeedReader[list[int], CodedRows]):
    """Reads a small feed, whose rows all stay in memory, as codes of the distinct texts of its fields."""

    def __init__(
        self, header: Header, log: RejectLog, rejected_stores: set[str], days: DaysOfWeek, check: Callable[[], None]
    ) -> None:
        super().__init__(header, check)
        self._at = header.columns
        self._parsers = [column.parse for column in columns_of(header)]
        self._days = days if header.feed == "hours" else None
        if self._days is not None:
            self._parsers[_DAY] = self._days.read
        self._columns = [DistinctTexts(parse, check) for parse in self._parsers]
        self._log = log
        self._rejected_stores = rejected_stores

    def _read_records(self, records: list[Record]) -> CodedRows:
        lines: list[int] = []
        texts: list[bytes] = []
        rows: list[list[int]] = []
        for record, codes in self._parse_records(records, self._log):
            rows.append(codes)
            lines.append(record.line)
            texts.append(record.text.encode())
        columns = np.array(rows, dtype=np.int64).reshape(len(rows), len(self._columns)).T
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        stop = np.cumsum(sizes)
        values = [column.values for column in self._columns]
        return CodedRows(values, list(columns), np.array(lines, np.int64), _texts(b"".join(texts), stop - sizes, stop))

    def _read_table(self, table: Table) -> CodedRows:
        self._check()
        self._add_stores_of_malformed(table)
        fields = table.fields
        codes = [
            column.codes(fields, at) if at >= 0 else np.full(len(fields), column.code_of(parse("")))
            for column, at, parse in zip(self._columns, self._at, self._parsers, strict=True)
        ]
        certain = np.all([code >= 0 for code in codes], axis=0)
        certain[table.exact_rows] = False
        if len(self._header.tags) > MOST_TAGS:
            # Only one by one are they counted.
            certain[:] = False
        for column, code in zip(self._columns, codes, strict=True):
            table.reject_bad(certain & table.good, column, code)
        ids, stores = self._columns[0], codes[0]
        for code in np.unique(stores[certain & ~table.good & ~ids.bad[stores]]).tolist():
            self._rejected_stores.add(ids.values[code])
        for row, codes_of_row in self._parse_rows(table, np.flatnonzero(~certain)):
            for column_codes, value in zip(codes, codes_of_row, strict=True):
                column_codes[row] = value
        table.log_rejects(self._log)
        good = table.good
        rows = table.rows.where(good)
        return CodedRows(
            [column.values for column in self._columns],
            [code[good] for code in codes],
            rows.line,
            _texts(table.block.data, rows.start, rows.stop),
        )

    def _add_stores_of_malformed(self, table: Table) -> None:
        """Add the stores of malformed rows to those with a rejected row, as far as these rows name them."""
        data, at, delimiter = table.block.data, self._at[0], self._header.delimiter.encode()
        seen: set[bytes] = set()
        spans = zip(table.malformed.start.tolist(), table.malformed.stop.tolist(), strict=True)
        for start, stop in checked(spans, self._check):
            row = data[start:stop]
            # The fields up to the store's say all; of a row with quotes, all of it.
            key = row if len(table.block.edges) else delimiter.join(row.split(delimiter, at + 1)[: at + 1])
            if key not in seen:
                seen.add(key)
                with suppress(BadValue):
                    self._parse(csv_exact.parse(row, 0, self._header))

    def _parse(self, record: Record) -> list[int]:
        """Return the codes of a row's values; `BadValue` when one is bad, and the store has a rejected row then."""
        values: list[Any] = []
        fields, problem = record.fields, record.problem
        if self._days is not None and not problem:
            self._days.see(fields[self._at[_DAY]])
        if problem and not fields:
            # Not a row, but most often it still says whose row it was meant to be.
            fields = [field.strip(' "') for field in record.text.split(self._header.delimiter)]
        try:
            for parse, at in zip(self._parsers, self._at, strict=True):
                if problem and (values or at >= len(fields)):
                    break
                values.append(parse(fields[at] if at >= 0 else ""))
            if problem:
                raise BadValue(problem)
            if len(self._header.tags) > MOST_TAGS and sum(map(bool, values[-len(self._header.tags) :])) > MOST_TAGS:
                raise BadValue(schema.TAGS_MANY)
        except BadValue as bad:
            if values and "\ufffd" not in values[0]:
                self._rejected_stores.add(values[0])
            raise BadValue(problem or str(bad)) from None
        return [column.code_of(value) for column, value in zip(self._columns, values, strict=True)]


def _texts(data: bytes, start: Ints, stop: Ints) -> Callable[[list[int]], list[str]]:
    """The texts of rows. A set of hours holds all its blocks: large ones are compressed."""
    is_compressed = len(data) > _WORTH_COMPRESSING
    held = zlib.compress(data, 1) if is_compressed else data

    def texts(rows: list[int]) -> list[str]:
        """Return the texts of those rows."""
        text = zlib.decompress(held) if is_compressed else held
        return [text[start[row] : stop[row]].decode("utf-8") for row in rows]

    return texts
