"""The polls feed: a file's blocks, or JSON rows, to columns of polls."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from storemon_flask.feeds import plain, records, timestamps, values
from storemon_flask.feeds.blocks import Block, BlockReader
from storemon_flask.feeds.byte_road import DistinctTexts
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.plain import Table
from storemon_flask.feeds.records import Record
from storemon_flask.feeds.rejects import Reasons, Rejected, RejectLog, Rejects, Texts
from storemon_flask.feeds.values import BadValue
from storemon_flask.model import Bools, Ints

# numpy lets go of the interpreter while it computes, so two blocks are read at once; more would wait for each other.
_READERS: Final = 2
# Texts of up to so many bytes are compared as one number.
_WORD: Final = 8


@dataclass(frozen=True, slots=True)
class PollBlock:
    """The good rows of a block in file order: `store` indexes `ids`. `rows` counts the bad ones too.

    `ids` may be one list for many blocks, growing; an entry that no row uses may be anything, and one id may stand
    twice.
    """

    ids: list[Any]
    store: Ints
    instant_us: Ints
    active: Bools
    rows: int


@dataclass(frozen=True, slots=True)
class _Read:
    """What became of one block, or a part of one: the good rows, and the bad ones in the order they stand."""

    polls: PollBlock
    rejected: Rejected


def read(
    reader: BlockReader,
    header: Header,
    latest_us: int,
    log: RejectLog,
    check: Callable[[], None] = lambda: None,
) -> Iterator[PollBlock]:
    """The polls of a file, a block at a time, in order; what cannot be used goes to `log`.

    `latest_us` is the newest instant a poll may have. `check` is called now and then, from several threads; what it
    raises ends the reading.
    """
    parser = _Parser(header, latest_us, log, check)
    pending: deque[Future[list[_Read]]] = deque()
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
    try:
        for block in reader:
            if block.last and not pending:
                yield from _logged(parser.block(block), log)
                continue
            pending.append(pool.submit(parser.block, block))
            if len(pending) > _READERS + 1:
                yield from _logged(pending.popleft().result(), log)
        while pending:
            yield from _logged(pending.popleft().result(), log)
    finally:
        # What waits to be read when reading ends early is not read at all.
        pool.shutdown(cancel_futures=True)


def read_records(
    batches: Iterable[list[Record]], latest_us: int, log: RejectLog, check: Callable[[], None] = lambda: None
) -> Iterator[PollBlock]:
    """The same of rows that come as records with the feed's fields in order."""
    parser = _Parser(Header("polls", 3, (0, 1, 2)), latest_us, log, check)
    for batch in batches:
        yield from _logged([parser.rows(batch)], log)


def _logged(found: list[_Read], log: RejectLog) -> Iterator[PollBlock]:
    for read in found:
        log.add_all(read.rejected)
        yield read.polls


class _Parser:
    """Reads blocks of one file; its plain reading may run in several threads at once."""

    def __init__(self, header: Header, latest_us: int, log: RejectLog, check: Callable[[], None]) -> None:
        """Of `log` it asks only how many rejects may still be kept: the text of others is not made."""
        self._header = header
        self._log = log
        self._latest_us = latest_us
        self._check = check
        self._ids = DistinctTexts(values.store_id, check)
        self._words = DistinctTexts(values.status, check)

    def block(self, block: Block) -> list[_Read]:
        """A block, by the fast reader as far as it can."""
        self._check()
        if block.problem or block.one:
            return [self.rows(block.records(self._header))]
        table = plain.as_it_stands(block, self._header)
        if table is None:
            return [self._finished(self._columns(part)) for part in plain.cleaned(block, self._header)]
        return [self._finished(self._columns(table))]

    def rows(self, found: Iterable[Record]) -> _Read:
        """Records one by one."""
        codes: dict[str, int] = {}
        store: list[int] = []
        instant: list[int] = []
        active: list[bool] = []
        reasons: dict[str, int] = {}
        lines: list[int] = []
        why: list[int] = []
        texts: list[str] = []
        for record in records.checked(found, self._check):
            problem = record.problem
            if not problem:
                try:
                    store_id, instant_us, is_active = self._fields(record.fields)
                except BadValue as bad:
                    problem = str(bad)
            if problem:
                lines.append(record.line)
                why.append(reasons.setdefault(problem, len(reasons)))
                texts.append(record.text)
                continue
            store.append(codes.setdefault(store_id, len(codes)))
            instant.append(instant_us)
            active.append(is_active)
        rejects = Rejects(np.array(lines, np.int64), np.array(why, np.int64), list(reasons), texts.__getitem__)
        return _Read(_columns(codes, store, instant, active, len(store) + len(lines)), rejects.counted(self._log.room))

    def _values(self, record: Record) -> tuple[str, int, bool]:
        """The same of a record, which may have a problem."""
        if record.problem:
            raise BadValue(record.problem)
        return self._fields(record.fields)

    def _fields(self, fields: list[str]) -> tuple[str, int, bool]:
        """Store id, instant and status of a row; `BadValue` with the first reason why not."""
        id_at, instant_at, status_at = self._header.columns
        store_id = values.store_id(fields[id_at])
        instant = values.instant(fields[instant_at])
        if instant > self._latest_us:
            raise BadValue(values.INSTANT_FUTURE)
        return store_id, instant, values.status(fields[status_at])

    def _columns(self, table: Table) -> "_Columns":
        """The rows of a table as far as they are read a column at a time."""
        self._check()
        found = table.fields
        id_at, instant_at, status_at = self._header.columns
        store, status = self._ids.codes(found, id_at), self._words.codes(found, status_at)
        instant, read = found.instants(instant_at)
        # Where the id is bad, nobody asks for the rest.
        unread = np.flatnonzero(~read & (store >= 0) & ~self._ids.bad[store])
        if len(unread) > len(read) // 8:
            # Another spelling than the usual one: a column at a time still, and only the rest row by row.
            instant[unread], read[unread] = timestamps.read_column(found.texts(unread, instant_at, timestamps.WIDTH))
        return _Columns(table, store, status, instant, read, self._ids, self._words)

    def _finished(self, columns: "_Columns") -> _Read:
        """What became of the rows of a table, of which a fast reader read the columns."""
        self._check()
        table, store, instant, ids = columns.table, columns.store, columns.instant, columns.ids
        # Of a row that is not certain it means nothing.
        active = columns.words.true[columns.status]
        certain = (store >= 0) & (columns.status >= 0)
        certain[table.exact] = False
        reasons = Reasons(len(store))
        reasons.of_codes(certain & ids.bad[store], store, ids)
        self._read_instants(columns, np.flatnonzero(certain & ~columns.read & reasons.none), reasons)
        reasons.give(certain & reasons.none & (instant > self._latest_us), values.INSTANT_FUTURE)
        reasons.of_codes(certain & reasons.none & columns.words.bad[columns.status], columns.status, columns.words)
        for row in records.checked(np.flatnonzero(~certain).tolist(), self._check):
            try:
                store_id, instant[row], active[row] = self._values(table.record(row, self._header))
            except BadValue as bad:
                reasons.give(row, str(bad))
            else:
                store[row] = ids.code_of(store_id)
        bad_rows = np.flatnonzero(~reasons.none)
        rejects = Rejects(
            table.lines(bad_rows),
            reasons.code[bad_rows],
            reasons.texts,
            lambda number: records.text_of(table.raw(int(bad_rows[number]))),
        )
        if len(bad_rows):
            store, instant, active = store[reasons.none], instant[reasons.none], active[reasons.none]
        polls = PollBlock(ids.values, store, instant, active, len(reasons.none) + len(table.rejects))
        return _Read(polls, table.rejects.merged(rejects).counted(self._log.room))

    def _read_instants(self, columns: "_Columns", rows: Ints, reasons: Reasons) -> None:
        """Read the timestamps of these rows one by one, each text once."""
        if not len(rows):
            return
        fields, at = columns.table.fields, self._header.columns[1]
        start, length = fields.start[rows, at], fields.end[rows, at] - fields.start[rows, at]
        short = (length <= _WORD) & (rows < fields.safe)
        if short.any():
            letters = (
                (fields.words(start[short], 1)[0] & timestamps.MASKS[length[short]]).view(np.uint8).reshape(-1, _WORD)
            )
            digits = np.flatnonzero(short)[
                ((letters - ord("0") < 10) | (letters == 0)).all(axis=1) & (length[short] > 0)
            ]
            if len(digits):
                # A number since 1970 has more digits.
                reasons.give(rows[digits], values.INSTANT_NUMBER)
                self._read_instants(columns, np.delete(rows, digits), reasons)
                return
        # Which of the distinct texts each row has.
        number = np.empty(len(rows), dtype=np.int64)
        texts: list[bytes] = []
        if short.any():
            words, few = fields.words(start[short], 1)[0] & timestamps.MASKS[length[short]], rows[short]
            _, first, number[short] = np.unique(words, return_index=True, return_inverse=True)
            texts = [fields.field(row, at) for row in few[first].tolist()]
        others: dict[bytes, int] = {}
        long = [fields.field(row, at) for row in rows[~short].tolist()]
        number[~short] = [others.setdefault(text, len(texts) + len(others)) for text in long]
        instant, reason = np.zeros(len(texts) + len(others), dtype=np.int64), []
        for place, text in records.checked(enumerate([*texts, *others]), self._check):
            try:
                instant[place] = values.instant(text.decode())
                reason.append("")
            except BadValue as bad:
                reason.append(str(bad))
        columns.instant[rows] = instant[number]
        reasons.give_each(rows, number, reason)


class _Columns(NamedTuple):
    """The rows of a block as a fast reader read them: codes of id and status, -1 where it is not certain; which
    instants it read.
    """

    table: Table
    store: Ints
    status: Ints
    instant: Ints
    read: Bools
    ids: Texts
    words: Texts


def _columns(codes: dict[str, int], store: list[int], instant: list[int], active: list[bool], rows: int) -> PollBlock:
    return PollBlock(
        list(codes), np.array(store, np.int64), np.array(instant, np.int64), np.array(active, np.bool_), rows
    )
