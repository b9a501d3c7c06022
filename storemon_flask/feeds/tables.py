"""The small feeds, hours, special hours, time zones and names: a few rows a store, whole in memory, as codes of
distinct texts.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from storemon_flask.errors import DataError
from storemon_flask.feeds import plain, records, values
from storemon_flask.feeds.blocks import Block, BlockReader
from storemon_flask.feeds.byte_road import DistinctTexts
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.plain import Table
from storemon_flask.feeds.records import Record
from storemon_flask.feeds.rejects import Reasons, RejectLog, Rejects
from storemon_flask.feeds.values import BadValue, DaysOfWeek
from storemon_flask.model import Ints

# The validator of each field, in the order of `feeds.FEEDS`; the first is the store's.
_READERS: Final[dict[str, tuple[Callable[[str], Any], ...]]] = {
    "hours": (
        values.store_id,
        # In its place comes the `read` of the file's own `DaysOfWeek`.
        values.DaysOfWeek().read,
        values.time_of_day,
        partial(values.time_of_day, end=True),
        values.valid_from,
    ),
    "timezones": (values.store_id, values.time_zone, values.valid_from),
    "special_hours": (values.store_id, values.local_date, values.special_time, partial(values.special_time, end=True)),
    "stores": (values.store_id, values.name, values.name),
}


# Where the readers of hours have that of the day.
_DAY: Final = 1
_WORTH_PACKING: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Good rows of a block in file order: `codes[k]` indexes `values[k]`, the distinct values of field k.

    `line` says where each stands, `texts(rows)` what stands there.
    """

    values: list[list[Any]]
    codes: list[Ints]
    line: Ints
    texts: Callable[[list[int]], list[str]]


def read(
    reader: BlockReader,
    header: Header,
    log: RejectLog,
    spoiled: set[str],
    days: DaysOfWeek,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Rows]:
    """The good rows of a file of a small feed, a block at a time; the others go to `log`.

    A store of which a row was rejected, where the row still names it, is added to `spoiled`. `DataError`, at the end,
    when `days` finds that the days of the week are numbered in another way. `check` is called now and then; what it
    raises ends the reading.
    """
    feed = _Feed(header, log, spoiled, days, check)
    for block in reader:
        yield from feed.block(block)
    _check(days)


def read_records(
    feed: str,
    batches: Iterable[list[Record]],
    log: RejectLog,
    spoiled: set[str],
    days: DaysOfWeek,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Rows]:
    """The same of rows that come as records with the feed's fields in order."""
    fields = len(_READERS[feed])
    found = _Feed(Header(feed, fields, tuple(range(fields))), log, spoiled, days, check)
    for batch in batches:
        yield found.exact(batch)
    _check(days)


def _check(days: DaysOfWeek) -> None:
    if days.from_one:
        raise DataError(values.DAYS_FROM_ONE)


class _Feed:
    """One file being read: the distinct texts of its fields."""

    def __init__(
        self, header: Header, log: RejectLog, spoiled: set[str], days: DaysOfWeek, check: Callable[[], None]
    ) -> None:
        self._header = header
        self._at = header.columns
        self._readers = list(_READERS[header.feed])
        self._days = days if header.feed == "hours" else None
        if self._days is not None:
            self._readers[_DAY] = self._days.read
        self._columns = [DistinctTexts(read, check) for read in self._readers]
        self._check = check
        self._log = log
        self._spoiled = spoiled

    def block(self, block: Block) -> Iterator[Rows]:
        """The good rows of a block, a part at a time."""
        if block.problem or block.one:
            yield self.exact(block.records(self._header))
            return
        table = plain.as_it_stands(block, self._header)
        for part in plain.cleaned(block, self._header) if table is None else (table,):
            yield self._read(part)

    def _read(self, table: Table) -> Rows:
        """The good rows of a table; those that are not certain are read one by one."""
        self._check()
        self._spoil(table)
        found = table.fields
        codes = [
            column.codes(found, at) if at >= 0 else np.full(len(found), column.code_of(read("")))
            for column, at, read in zip(self._columns, self._at, self._readers, strict=True)
        ]
        certain = np.all([code >= 0 for code in codes], axis=0)
        certain[table.exact] = False
        reasons = Reasons(len(found))
        for column, code in zip(self._columns, codes, strict=True):
            reasons.of_codes(certain & reasons.none & column.bad[code], code, column)
        ids, stores = self._columns[0], codes[0]
        for code in np.unique(stores[certain & ~reasons.none & ~ids.bad[stores]]).tolist():
            self._spoiled.add(ids.values[code])
        for row in records.checked(np.flatnonzero(~certain).tolist(), self._check):
            read = self._row(table.record(row, self._header))
            if isinstance(read, str):
                reasons.give(row, read)
                continue
            for code, value in zip(codes, read, strict=True):
                code[row] = value
        bad = np.flatnonzero(~reasons.none)
        rejects = Rejects(
            table.lines(bad),
            reasons.code[bad],
            reasons.texts,
            lambda number: records.text_of(table.raw(int(bad[number]))),
        )
        self._log.add_all(table.rejects.merged(rejects).counted(self._log.room))
        good = reasons.none
        start, stop = (found.start[:, 0], found.end[:, -1]) if table.rows is None else table.rows[:2]
        return Rows(
            [column.values for column in self._columns],
            [code[good] for code in codes],
            table.lines(np.flatnonzero(good)),
            _texts(found.data, start[good], stop[good]),
        )

    def _spoil(self, table: Table) -> None:
        """Add the stores of which a row has the wrong shape, as far as it names them."""
        if table.rejected is None:
            return
        data, at = table.block.data, self._at[0]
        seen: set[bytes] = set()
        spans = zip(table.rejected.start.tolist(), table.rejected.stop.tolist(), strict=True)
        for start, stop in records.checked(spans, self._check):
            row = data[start:stop]
            # The fields up to the store's say all; of a row with quotes, all of it.
            key = row if table.block.quoted else b",".join(row.split(b",", at + 1)[: at + 1])
            if key not in seen:
                seen.add(key)
                self._row(records.parse(row, 0, self._header.width, self._header.columns))

    def exact(self, found_records: Iterable[Record]) -> Rows:
        """The records one by one."""
        rows: list[list[int]] = []
        lines: list[int] = []
        texts: list[str] = []
        for record in records.checked(found_records, self._check):
            row = self._row(record)
            if isinstance(row, str):
                self._log.add(record.line, row, record.text)
                continue
            rows.append(row)
            lines.append(record.line)
            texts.append(record.text)
        table = np.array(rows, dtype=np.int64).reshape(len(rows), len(self._columns))
        return Rows(
            [column.values for column in self._columns],
            list(table.T),
            np.array(lines, dtype=np.int64),
            _packed(texts),
        )

    def _row(self, record: Record) -> list[int] | str:
        """The codes of a row's values; the reason, when the row has a problem or one of them is bad."""
        read: list[Any] = []
        fields, problem = record.fields, record.problem
        if self._days is not None and not problem:
            self._days.see(fields[self._at[_DAY]])
        if problem and not fields:
            # Not a row, but most often it still says whose row it was meant to be.
            fields = [field.strip(' "') for field in record.text.split(",")]
        try:
            for reader, at in zip(self._readers, self._at, strict=True):
                if problem and (read or at >= len(fields)):
                    break
                read.append(reader(fields[at] if at >= 0 else ""))
            if problem:
                raise BadValue(problem)
        except BadValue as bad:
            if read and "\ufffd" not in read[0]:
                self._spoiled.add(read[0])
            return problem or str(bad)
        return [column.code_of(value) for column, value in zip(self._columns, read, strict=True)]


def _packed(texts: list[str]) -> Callable[[list[int]], list[str]]:
    """Those texts, packed as a set of hours holds all its rows. No good row has a NUL in it."""
    packed = zlib.compress("\0".join(texts).encode(), 1)

    def unpacked(rows: list[int]) -> list[str]:
        found = zlib.decompress(packed).decode().split("\0")
        return [found[row] for row in rows]

    return unpacked


def _texts(data: bytes, first: Ints, last: Ints) -> Callable[[list[int]], list[str]]:
    """What stands from `first` to `last` of each row asked for.

    A set of hours holds all its blocks: large ones are packed.
    """
    packed = zlib.compress(data, 1) if len(data) > _WORTH_PACKING else b""

    def texts(rows: list[int]) -> list[str]:
        text = zlib.decompress(packed) if packed else data
        return [text[first[row] : last[row]].decode("utf-8") for row in rows]

    if packed:
        del data
    return texts
