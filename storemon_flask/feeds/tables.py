"""The small feeds, hours, special hours, time zones and names: whole in memory, as codes of distinct texts."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact, csv_fast, values
from storemon_flask.feeds.csv_exact import Block, BlockReader, Record, checked
from storemon_flask.feeds.csv_fast import DistinctTexts, Table
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.rejects import RejectLog
from storemon_flask.feeds.values import BadValue, DaysOfWeek
from storemon_flask.model import Ints

# The validator of each field, in the order of `headers.FEEDS`; the first is the store's.
_READERS: Final[dict[str, tuple[Callable[[str], Any], ...]]] = {
    "hours": (
        values.parse_store_id,
        # Replaced by the `read` of the file's own `DaysOfWeek`.
        values.DaysOfWeek().read,
        values.parse_time_of_day,
        partial(values.parse_time_of_day, end=True),
        values.parse_valid_from,
    ),
    "timezones": (values.parse_store_id, values.parse_time_zone, values.parse_valid_from),
    "special_hours": (
        values.parse_store_id,
        values.parse_date,
        values.parse_special_time,
        partial(values.parse_special_time, end=True),
    ),
    "stores": (values.parse_store_id, values.parse_name, values.parse_name),
}
# Where the readers of hours have that of the day.
_DAY: Final = 1
_WORTH_COMPRESSING: Final = 2 << 20


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
    """Return the good rows of a file of a small feed, a block at a time; the others go to `log`.

    A store of which a row was rejected, where the row still names it, is added to `spoiled`. `DataError`, at the end,
    when `days` finds that the days of the week are numbered in another way. `check` is called now and then; what it
    raises ends the reading.
    """
    feed = _Feed(header, log, spoiled, days, check)
    for block in reader:
        yield from feed.block(block)
    _check_days(days)


def read_records(
    feed: str,
    batches: Iterable[list[Record]],
    log: RejectLog,
    spoiled: set[str],
    days: DaysOfWeek,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Rows]:
    """Return the good rows of records with the feed's fields in order, a batch at a time."""
    width = len(_READERS[feed])
    parser = _Feed(Header(feed, width, tuple(range(width))), log, spoiled, days, check)
    for batch in batches:
        yield parser.records(batch)
    _check_days(days)


def _check_days(days: DaysOfWeek) -> None:
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
        """Return the good rows of a block, by the fast reader as far as it can."""
        tables = csv_fast.tables(block, self._header)
        if tables is None:
            yield self.records(block.records(self._header))
            return
        for table in tables:
            yield self._table(table)

    def records(self, records: Iterable[Record]) -> Rows:
        """Return the good rows among records, read one by one."""
        rows: list[list[int]] = []
        lines: list[int] = []
        texts: list[str] = []
        for record in checked(records, self._check):
            try:
                rows.append(self._row(record))
            except BadValue as bad:
                self._log.add(record.line, str(bad), record.text)
                continue
            lines.append(record.line)
            texts.append(record.text)
        codes = np.array(rows, dtype=np.int64).reshape(len(rows), len(self._columns))
        data = [text.encode() for text in texts]
        stop = np.cumsum([len(row) for row in data], dtype=np.int64)
        start = stop - np.array([len(row) for row in data], dtype=np.int64)
        values_of_columns = [column.values for column in self._columns]
        return Rows(values_of_columns, list(codes.T), np.array(lines, np.int64), _texts(b"".join(data), start, stop))

    def _table(self, table: Table) -> Rows:
        """The good rows of a table a column at a time, and one by one only where that is not certain."""
        self._check()
        self._spoil_malformed(table)
        fields = table.fields
        codes = [
            column.codes(fields, at) if at >= 0 else np.full(len(fields), column.code_of(read("")))
            for column, at, read in zip(self._columns, self._at, self._readers, strict=True)
        ]
        certain = np.all([code >= 0 for code in codes], axis=0)
        certain[table.exact_rows] = False
        for column, code in zip(self._columns, codes, strict=True):
            table.reject_bad(certain & table.good, column, code)
        ids, stores = self._columns[0], codes[0]
        for code in np.unique(stores[certain & ~table.good & ~ids.bad[stores]]).tolist():
            self._spoiled.add(ids.values[code])
        for row in checked(np.flatnonzero(~certain).tolist(), self._check):
            try:
                values_of_row = self._row(table.record(row, self._header))
            except BadValue as bad:
                table.reject(row, str(bad))
                continue
            for column_codes, value in zip(codes, values_of_row, strict=True):
                column_codes[row] = value
        table.log_rejects(self._log)
        good = table.good
        rows = table.rows.where(good)
        return Rows(
            [column.values for column in self._columns],
            [code[good] for code in codes],
            rows.line,
            _texts(table.block.data, rows.start, rows.stop),
        )

    def _spoil_malformed(self, table: Table) -> None:
        """Add the stores of malformed rows, as far as these name them."""
        data, at = table.block.data, self._at[0]
        seen: set[bytes] = set()
        spans = zip(table.malformed.start.tolist(), table.malformed.stop.tolist(), strict=True)
        for start, stop in checked(spans, self._check):
            row = data[start:stop]
            # The fields up to the store's say all; of a row with quotes, all of it.
            key = row if len(table.block.edges) else b",".join(row.split(b",", at + 1)[: at + 1])
            if key not in seen:
                seen.add(key)
                with suppress(BadValue):
                    self._row(csv_exact.parse(row, 0, self._header))

    def _row(self, record: Record) -> list[int]:
        """The codes of a row's values; `BadValue`, and the store is spoiled, when one of them is bad."""
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
            raise BadValue(problem or str(bad)) from None
        return [column.code_of(value) for column, value in zip(self._columns, read, strict=True)]


def _texts(data: bytes, first: Ints, last: Ints) -> Callable[[list[int]], list[str]]:
    """The texts of rows, from `first` to `last` of each. A set of hours holds all its blocks: compress large ones."""
    compressed = zlib.compress(data, 1) if len(data) > _WORTH_COMPRESSING else b""

    def texts(rows: list[int]) -> list[str]:
        text = zlib.decompress(compressed) if compressed else data
        return [text[first[row] : last[row]].decode("utf-8") for row in rows]

    if compressed:
        del data
    return texts
