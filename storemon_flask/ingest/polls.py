"""The polls feed: blocks of text to columns, by whichever road the block allows.

`bytes` (ingest.byte_road) and `pandas` read plain blocks, `rows` (ingest.records) reads every block. A block is plain when all
roads must agree on it (ingest.plain) and its rows have one width. What a fast road does not read for certain it hands to the row-exact one, row by row. Tests hold every road against that one.
"""

import codecs
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from storemon_flask.ingest import byte_road, instants, plain, records, values
from storemon_flask.ingest.blocks import Block, BlockReader
from storemon_flask.ingest.byte_road import DistinctTexts
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.plain import PlainBlock
from storemon_flask.ingest.records import Record
from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.values import BadValue
from storemon_flask.model import Bools, Ints, Reject

# numpy lets go of the interpreter while it computes, so two blocks are read at once; more would wait for each other.
_READERS: Final = 2


@dataclass(frozen=True, slots=True)
class PollBlock:
    """The good rows of a block in file order: `store` indexes `ids`. `rows` counts the bad ones too.

    `ids` may be one list for many blocks, growing; an entry that no row uses may be anything, and one id may stand twice.
    """

    ids: list[Any]
    store: Ints
    instant_us: Ints
    active: Bools
    rows: int


@dataclass(frozen=True, slots=True)
class _Read:
    """What became of one block: the good rows, and the bad ones in the order they stand."""

    polls: PollBlock
    rejects: list[Reject]


def read(
    reader: BlockReader, header: Header, latest_us: int, log: RejectLog, road: str = "bytes"
) -> Iterator[PollBlock]:
    """The polls of a file, a block at a time, in order; what cannot be used goes to `log`.

    `latest_us` is the newest instant a poll may have. `road` is `bytes`, `pandas` or `rows`, the last for every block.
    """
    parser = _Parser(header, latest_us, road)
    pending: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        for block in reader:
            found = plain.plain_block(block, header) if road != "rows" else None
            if found is not None:
                if block.last and not pending:
                    yield _logged(parser.plain(found), log)
                    continue
                pending.append(pool.submit(parser.plain, found))
                if len(pending) > _READERS + 1:
                    yield _logged(pending.popleft().result(), log)
                continue
            while pending:
                yield _logged(pending.popleft().result(), log)
            yield _logged(parser.exact(block), log)
        while pending:
            yield _logged(pending.popleft().result(), log)


def read_records(batches: Iterable[list[Record]], latest_us: int, log: RejectLog) -> Iterator[PollBlock]:
    """The same of rows that come as records with the feed's fields in order."""
    parser = _Parser(Header("polls", 3, (0, 1, 2)), latest_us, "rows")
    for batch in batches:
        yield _logged(parser.rows(batch), log)


def _logged(found: _Read, log: RejectLog) -> PollBlock:
    for reject in found.rejects:
        log.add(reject.line, reject.reason, reject.text)
    return found.polls


class _Parser:
    """Reads blocks of one file; its plain reading may run in several threads at once."""

    def __init__(self, header: Header, latest_us: int, road: str) -> None:
        self._header = header
        self._latest_us = latest_us
        self._plain = self._by_bytes if road == "bytes" else self._by_pandas
        self._ids = DistinctTexts(values.store_id)
        self._words = DistinctTexts(values.status)

    def plain(self, block: PlainBlock) -> _Read:
        """A block by the fast reader or, where that declines, row by row."""
        return self._plain(block) or self.exact(block.block)

    def exact(self, block: Block) -> _Read:
        """The block row by row."""
        return self.rows(block.records(self._header))

    def rows(self, found: Iterable[Record]) -> _Read:
        """Records one by one."""
        codes: dict[str, int] = {}
        store: list[int] = []
        instant: list[int] = []
        active: list[bool] = []
        rejects: list[Reject] = []
        for record in found:
            try:
                store_id, instant_us, is_active = self._values(record)
            except BadValue as bad:
                rejects.append(Reject(record.line, str(bad), record.text))
                continue
            store.append(codes.setdefault(store_id, len(codes)))
            instant.append(instant_us)
            active.append(is_active)
        return _Read(_columns(codes, store, instant, active, len(store) + len(rejects)), rejects)

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

    def _by_bytes(self, block: PlainBlock) -> _Read | None:
        found = byte_road.rectangle(block.data, self._header.width)
        if found is None:
            return None
        id_at, instant_at, status_at = self._header.columns
        store, status = self._ids.codes(found, id_at), self._words.codes(found, status_at)
        instant, good = found.instants(instant_at)
        unread = np.flatnonzero(~good)
        if len(unread) > len(good) // 8:
            # Another spelling than the usual one: a column at a time still, and only the rest row by row.
            column = np.array([found.field(row, instant_at) for row in unread.tolist()], dtype=f"S{instants.WIDTH}")
            instant[unread], good[unread] = instants.read_column(column)
        active = np.array([word is True for word in self._words.values] + [False])[status]
        good &= (store >= 0) & (status >= 0) & (instant <= self._latest_us)
        for seen, codes in ((self._ids, store), (self._words, status)):
            if seen.bad.any():
                good &= ~seen.bad[codes]
        doubtful = np.flatnonzero(~good).tolist()
        texts = [found.row(place).decode("utf-8") for place in doubtful]
        rows = dict(zip(doubtful, texts, strict=True))
        return self._finished(block, rows, self._ids.values, self._ids.code_of, store, instant, active, good)

    def _by_pandas(self, block: PlainBlock) -> _Read | None:
        """None when rows have different lengths, or a line is blank."""
        import pandas as pd

        width, data = self._header.width, block.data
        first = data.find(b"\n") + 1 or len(data)
        lines = records.count(data, b"\n") + (not data.endswith(b"\n"))
        if data.startswith(codecs.BOM_UTF8):
            # pandas would take it for the start of a file.
            return None
        # Too long rows after the first raise below; so, with as many commas as there should be, no row is too short.
        if records.count(data, b",") != lines * (width - 1) or data.count(b",", 0, first) != width - 1:
            return None
        id_at, instant_at, status_at = self._header.columns
        # Columns that nobody asked for are read as one byte each and dropped.
        kinds: dict[int, Any] = dict.fromkeys(range(width), "S1")
        kinds |= {id_at: object, status_at: object, instant_at: f"S{instants.WIDTH}"}
        try:
            frame = pd.read_csv(
                io.BytesIO(data),
                header=None,
                names=list(range(width)),
                dtype=kinds,
                index_col=False,
                na_filter=False,
                quoting=3,
                skip_blank_lines=False,
                engine="c",
                low_memory=False,
            )
        except pd.errors.ParserError:
            return None
        ids, store = _distinct(pd.factorize(frame[id_at].to_numpy()), values.store_id)
        bad_ids = _bad(ids)
        words, status = _distinct(pd.factorize(frame[status_at].to_numpy()), values.status)
        instant, good = instants.read_column(frame[instant_at].to_numpy())
        active = np.array([word is True for word in words])[status]
        good &= (instant <= self._latest_us) & ~bad_ids[store] & ~_bad(words)[status]

        def another(store_id: str) -> int:
            ids.append(store_id)
            return len(ids) - 1

        doubtful = np.flatnonzero(~good).tolist()
        rows = dict(zip(doubtful, _lines(data, doubtful), strict=True))
        return self._finished(block, rows, ids, another, store, instant, active, good)

    def _finished(
        self,
        block: PlainBlock,
        doubtful: dict[int, str],
        ids: list[Any],
        code_of: Callable[[str], int],
        store: Ints,
        instant: Ints,
        active: Bools,
        good: Bools,
    ) -> _Read:
        """The columns of a plain block, after its doubtful rows have been read one by one; `doubtful` has their texts by row."""
        bad_rows, reasons = [], []
        for row, text in doubtful.items():
            record = block.records.get(row)
            try:
                store_id, instant[row], active[row] = (
                    self._values(record) if record is not None else self._fields(text.split(","))
                )
            except BadValue as bad:
                bad_rows.append(row)
                reasons.append(str(bad))
                continue
            good[row] = True
            store[row] = code_of(store_id)
        texts = block.texts(bad_rows) if block.block.quoted else [doubtful[row] for row in bad_rows]
        lines = block.lines(np.array(bad_rows, dtype=np.int64)).tolist()
        rejects = [Reject(*row) for row in zip(lines, reasons, texts, strict=True)]
        if rejects:
            store, instant, active = store[good], instant[good], active[good]
        return _Read(PollBlock(ids, store, instant, active, len(good)), rejects)


def _lines(data: bytes, places: list[int]) -> list[str]:
    """Those lines of a plain block, without their breaks."""
    if not places:
        return []
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    starts, ends = np.concatenate([[0], ends + 1]), np.append(ends, len(data))
    return [data[starts[place] : ends[place]].removesuffix(b"\r").decode("utf-8") for place in places]


def _distinct(factorized: tuple[Any, Any], read: Callable[[str], Any]) -> tuple[list[Any], Ints]:
    """A column's distinct texts, each read once (a bad one is its `BadValue`), and a code per row."""
    codes, texts = factorized
    found: list[Any] = []
    for text in texts:
        try:
            found.append(read(text))
        except BadValue as bad:
            found.append(bad)
    return found, codes.astype(np.int64)


def _bad(found: list[Any]) -> Bools:
    """For each code, whether its text is a bad value."""
    return np.array([isinstance(value, BadValue) for value in found], dtype=bool)


def _columns(codes: dict[str, int], store: list[int], instant: list[int], active: list[bool], rows: int) -> PollBlock:
    return PollBlock(
        list(codes), np.array(store, np.int64), np.array(instant, np.int64), np.array(active, np.bool_), rows
    )
