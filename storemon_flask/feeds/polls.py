"""The polls feed: a file's blocks, or JSON rows, to columns of polls."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from storemon_flask.feeds import csv_fast, values
from storemon_flask.feeds.csv_exact import Block, BlockReader, Record, checked
from storemon_flask.feeds.csv_fast import DistinctTexts, Table
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.rejects import RejectLog
from storemon_flask.feeds.values import BadValue
from storemon_flask.model import Bools, Ints

# numpy lets go of the interpreter while it computes, so two blocks are read at once; more would wait for each other.
_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class PollBlock:
    """The good rows of a block in file order: `store` indexes `ids`. `rows` counts the bad ones too.

    `ids` may be one list for many blocks, growing; an entry that no row uses may be anything, and one id may stand
    twice.
    """

    ids: list[Any]
    store: Ints
    timestamp_us: Ints
    active: Bools
    rows: int


_Result = tuple[PollBlock, RejectLog]


def read(
    reader: BlockReader, header: Header, latest_us: int, log: RejectLog, check: Callable[[], None] = lambda: None
) -> Iterator[PollBlock]:
    """Return the polls of a file, a block at a time, in order; what cannot be used goes to `log`.

    `latest_us` is the newest timestamp a poll may have. `check` is called now and then, from several threads; what it
    raises ends the reading.
    """
    parser = _Parser(header, latest_us, log, check)
    pending: deque[Future[list[_Result]]] = deque()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
    try:
        for block in reader:
            if block.last and not pending:
                yield from _logged(parser.block(block), log)
                continue
            pending.append(pool.submit(parser.block, block))
            if len(pending) > _THREADS + 1:
                yield from _logged(pending.popleft().result(), log)
        while pending:
            yield from _logged(pending.popleft().result(), log)
    finally:
        # What waits to be read when reading ends early is not read at all.
        pool.shutdown(cancel_futures=True)


def read_records(
    batches: Iterable[list[Record]], latest_us: int, log: RejectLog, check: Callable[[], None] = lambda: None
) -> Iterator[PollBlock]:
    """Return the polls of rows that come as records with the feed's fields in order, a batch at a time."""
    parser = _Parser(Header("polls", 3, (0, 1, 2)), latest_us, log, check)
    for batch in batches:
        yield from _logged([parser.records(batch)], log)


def _logged(results: list[_Result], log: RejectLog) -> Iterator[PollBlock]:
    for polls, rejects in results:
        log.add_all(rejects)
        yield polls


class _Parser:
    """Reads blocks of one file, several at once in different threads."""

    def __init__(self, header: Header, latest_us: int, log: RejectLog, check: Callable[[], None]) -> None:
        self._header = header
        self._latest_us = latest_us
        self._log = log
        self._check = check
        self._ids = DistinctTexts(values.parse_store_id, check)
        self._statuses = DistinctTexts(values.parse_status, check)

    def block(self, block: Block) -> list[_Result]:
        """Return the polls of a block, by the fast reader as far as it can."""
        self._check()
        tables = csv_fast.tables(block, self._header)
        if tables is None:
            return [self.records(block.records(self._header))]
        return [self._table(table) for table in tables]

    def records(self, records: Iterable[Record]) -> _Result:
        """Return the polls of records, read one by one."""
        codes: dict[str, int] = {}
        store: list[int] = []
        timestamp: list[int] = []
        active: list[bool] = []
        log = self._log.for_block()
        for record in checked(records, self._check):
            try:
                store_id, timestamp_us, is_active = self._values(record)
            except BadValue as bad:
                log.add(record.line, str(bad), record.text)
                continue
            store.append(codes.setdefault(store_id, len(codes)))
            timestamp.append(timestamp_us)
            active.append(is_active)
        columns = np.array(store, np.int64), np.array(timestamp, np.int64), np.array(active, np.bool_)
        return PollBlock(list(codes), *columns, len(store) + log.count), log

    def _values(self, record: Record) -> tuple[str, int, bool]:
        """Store id, timestamp and status of a row; `BadValue` with the first reason why not."""
        if record.problem:
            raise BadValue(record.problem)
        id_text, timestamp_text, status_text = (record.fields[at] for at in self._header.columns)
        store_id = values.parse_store_id(id_text)
        timestamp_us = values.parse_timestamp(timestamp_text)
        if timestamp_us > self._latest_us:
            raise BadValue(values.TIMESTAMP_FUTURE)
        return store_id, timestamp_us, values.parse_status(status_text)

    def _table(self, table: Table) -> _Result:
        """The polls of a table a column at a time, and one by one only where that is not certain."""
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
        table.reject(certain & table.good & (timestamp_us > self._latest_us), values.TIMESTAMP_FUTURE)
        table.reject_bad(certain & table.good, statuses, status)
        # Of a row that is not certain it means nothing.
        active = statuses.true[status]
        for row in checked(np.flatnonzero(~certain).tolist(), self._check):
            try:
                store_id, timestamp_us[row], active[row] = self._values(table.record(row, self._header))
            except BadValue as bad:
                table.reject(row, str(bad))
            else:
                store[row] = ids.code_of(store_id)
        log = self._log.for_block()
        table.log_rejects(log)
        rows = len(store) + len(table.malformed.line)
        good = table.good
        if not good.all():
            store, timestamp_us, active = store[good], timestamp_us[good], active[good]
        return PollBlock(ids.values, store, timestamp_us, active, rows), log

    def _read_rare_timestamps(self, table: Table, rows: Ints, timestamp_us: Ints) -> Bools:
        """Read timestamps that the fast reader did not read, each text once; return where that was possible."""
        texts = DistinctTexts(values.parse_timestamp, self._check)
        code = texts.codes(table.fields.of_rows(rows), self._header.columns[1])
        known = code >= 0
        bad = known & texts.bad[code]
        table.reject_each(rows[bad], texts, code[bad])
        good = known & ~bad
        numbers = np.array([0 if isinstance(value, BadValue) else value for value in texts.values], dtype=np.int64)
        timestamp_us[rows[good]] = numbers[code[good]]
        return known
