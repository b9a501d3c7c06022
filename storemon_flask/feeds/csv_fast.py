"""The fast CSV reader: the fields of a block by arithmetic on its bytes, for all rows at once.

No row becomes a Python object. A block is one array of bytes; its fields are gathered as 64-bit words (bytes i to i +
7, little-endian) from wherever a field begins.

1. Rows and fields. Delimiters and line breaks are found by comparison. Where every `width`-th of them is a newline and
   no other is, row r's field k lies between two known positions. Any other block is read a megabyte at a time: quotes,
   blank lines and rows that are malformed (number of fields, quotes, bytes) are found by counting, so that a file of
   bad rows takes little longer than a good one.
2. Distinct texts. A column such as the store id has few different texts. Each field's words are hashed, the hash is
   looked up in a table of the texts read so far, and the words are compared with those of the text found, so that two
   texts with one hash are never mixed up. A new text is read once, by the function of `values` for it.
3. Timestamps. Four words hold the spelling that nearly every export has; they become numbers four digits at a time.
   Other spellings are made to look like it.

What cannot be read so for certain (a long field, a doubled quote, the last rows of a block, whose words would reach
beyond its end) is left to the exact reader (`csv_exact`), a row at a time.
"""

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storemon_flask.feeds import csv_exact
from storemon_flask.feeds.csv_exact import Block, Record, RejectLog, checked, no_ints
from storemon_flask.feeds.schema import EPOCH_UNITS_US, BadValue, Header
from storemon_flask.model import DAY_US, Bools, Ints

Bytes = NDArray[np.uint8]
Halves = NDArray[np.uint32]
Words = NDArray[np.uint64]

# A field of up to this many words is looked up as a distinct text; a longer one is left to the exact reader.
_MOST_WORDS: Final = 5
_LONGEST: Final = 8 * _MOST_WORDS
# Bytes beyond a row's end that its words may touch.
_OVERHANG: Final = _LONGEST + 8
# A good row of any feed has more bytes.
_SHORTEST_ROW: Final = 8
# What can be wrong with a row before its fields are read; a later one takes precedence.
_PROBLEMS: Final = [
    "", csv_exact.FIELDS_FEW, csv_exact.FIELDS_MANY, csv_exact.WRAPPED, csv_exact.QUOTING, csv_exact.NOT_UTF8,
    csv_exact.NUL,
]  # fmt: skip
_FEW, _MANY, _WRAPPED, _QUOTING, _NOT_UTF8, _NUL = range(1, len(_PROBLEMS))
_LF, _CR, _QUOTE, _BLANK = b'\n\r" '
# What is decoded at once takes some twenty times as much memory.
_DECODED_BYTES: Final = 1 << 18
_ZERO: Final = ord("0")
# _MASKS[n] keeps the first n bytes of a word.
_MASKS: Final = np.array([(1 << (8 * size)) - 1 for size in range(9)], dtype=np.uint64)


class Fields:
    """Where the fields of rows stand: `start[r, k]` to `end[r, k]` are the bytes of a field."""

    def __init__(self, data: bytes, start: Ints, end: Ints) -> None:
        self.data = data
        self.start = start
        self.end = end
        # The rows whose words all lie within the block.
        self.safe = int(np.searchsorted(end[:, -1], len(data) - _OVERHANG)) if len(end) else 0

    def __len__(self) -> int:
        return len(self.start)

    def select_rows(self, rows: Ints) -> "Fields":
        """Return the fields of some of the rows."""
        return Fields(self.data, self.start[rows], self.end[rows])

    def field(self, row: int, column: int) -> str:
        """Return one field's text."""
        return self.data[self.start[row, column] : self.end[row, column]].decode("utf-8")

    def timestamps(self, column: int) -> tuple[Ints, Bools]:
        """Return each row's timestamp in microseconds UTC, and whether it was read."""
        timestamp_us = np.zeros(len(self), dtype=np.int64)
        read = np.zeros(len(self), dtype=bool)
        if self.safe:
            start, end = self.start[: self.safe, column], self.end[: self.safe, column]
            timestamp_us[: self.safe], read[: self.safe] = _read_timestamps(self.words, start, end)
        return timestamp_us, read

    def words(self, start: Ints, count: int) -> Words:
        """Return `count` little-endian words from each byte of `start` on, as an array of `count` x rows.

        Gathered as opaque items of 8 x `count` bytes that overlap: one copy a row, eight times faster than word by
        word.
        """
        size = 8 * count
        items = np.ndarray((len(self.data) - size + 1,), np.dtype(f"V{size}"), self.data, strides=(1,))
        return np.ascontiguousarray(items[start].view("<u8").reshape(-1, count).T)


class RowSpans(NamedTuple):
    """Where rows stand in a block, without their line breaks, and on which lines."""

    start: Ints
    stop: Ints
    line: Ints

    def where(self, chosen: Bools) -> "RowSpans":
        """Return some of them."""
        return RowSpans(self.start[chosen], self.stop[chosen], self.line[chosen])


@dataclass
class Table:
    """Rows of a block with their fields found, the malformed rows between them, and why rows are rejected.

    `exact_rows` are those whose fields only the exact reader can read: a quote stands for a character in them.
    `problem` says what is wrong with each malformed row, as an index of `_PROBLEMS`.
    """

    block: Block
    fields: Fields
    rows: RowSpans
    exact_rows: Ints
    malformed: RowSpans
    problem: Ints

    def __post_init__(self) -> None:
        self._reasons = {reason: code for code, reason in enumerate(_PROBLEMS)}
        self._code = np.zeros(len(self.fields), dtype=np.int64)

    @property
    def good(self) -> Bools:
        """Which rows are not rejected, so far."""
        good: Bools = self._code == 0
        return good

    def record(self, row: int, header: Header) -> Record:
        """Return a row as the exact reader reads it."""
        raw = self.block.data[self.rows.start[row] : self.rows.stop[row]]
        return csv_exact.parse(raw, int(self.rows.line[row]), header)

    def reject(self, rows: int | Bools, reason: str) -> None:
        """Reject these rows for that reason."""
        self._code[rows] = self._code_of(reason)

    def reject_bad(self, rows: Bools, texts: "DistinctTexts", code: Ints) -> None:
        """Reject those of these rows whose text in a column is bad, each for its reason; `code` has each row's text."""
        bad = np.flatnonzero(rows & texts.bad[code])
        distinct, number = np.unique(code[bad], return_inverse=True)
        reasons = [self._code_of(str(texts.values[one])) for one in distinct.tolist()]
        self._code[bad] = np.array(reasons, dtype=np.int64)[number]

    def _code_of(self, reason: str) -> int:
        return self._reasons.setdefault(reason, len(self._reasons))

    def log_rejects(self, log: RejectLog) -> None:
        """Add the malformed and the rejected rows to a log, in the order in which they stand."""
        bad = ~self.good
        if not bad.any() and not len(self.problem):
            return
        start, stop, line = map(np.concatenate, zip(self.malformed, self.rows.where(bad), strict=True))
        order = np.argsort(line, kind="stable")
        code, reasons = np.concatenate([self.problem, self._code[bad]]), list(self._reasons)
        left = log.room.left
        for row in order[:left].tolist():
            text = csv_exact.text_of(self.block.data[start[row] : stop[row]])
            log.add(int(line[row]), reasons[code[row]], text)
        # Most are only counted.
        codes, first, counts = np.unique(code[order[left:]], return_index=True, return_counts=True)
        for index in np.argsort(first).tolist():
            log.reasons[reasons[codes[index]]] += int(counts[index])


def tables(block: Block, header: Header) -> Iterable[Table]:
    """Return a block's rows with their fields found."""
    table = _regular(block, header)
    return _irregular(block, header) if table is None else (table,)


def _regular(block: Block, header: Header) -> Table | None:
    """A block of UTF-8 text without quoted fields, each of whose lines has all fields, not all empty, and ends with a
    newline; None for any other.
    """
    data, width, delimiter = block.data, header.width, ord(header.delimiter)
    if len(block.edges) or b"\0" in data or not data.endswith(b"\n"):
        return None
    has_returns = b"\r" in data
    if has_returns and csv_exact.count(data, b"\r") != data.count(b"\r\n"):
        return None
    array = np.frombuffer(data, dtype=np.uint8)
    is_newline = array == _LF
    rows = int(np.count_nonzero(is_newline))
    # More rows are read a megabyte at a time, for their memory; they are not good ones.
    if rows * _SHORTEST_ROW > len(data) or not csv_exact.is_utf8(data):
        return None
    separators = np.flatnonzero(is_newline | (array == delimiter))
    # As many newlines as rows, and one at the end of each: so everything between is a delimiter.
    if len(separators) != rows * width or not (array[separators[width - 1 :: width]] == _LF).all():
        return None
    end = separators.reshape(rows, width)
    start = np.empty_like(end)
    start[0, 0] = 0
    start[1:, 0] = end[:-1, -1] + 1
    start[:, 1:] = end[:, :-1] + 1
    if has_returns:
        end[:, -1] -= array[end[:, -1] - 1] == _CR
    if _blank_rows(block, start[:, 0], end[:, -1], delimiter).any():
        return None
    spans = RowSpans(start[:, 0], end[:, -1], np.arange(block.line, block.line + rows))
    malformed = spans.where(np.zeros(rows, dtype=bool))
    return Table(block, Fields(data, start, end), spans, no_ints(), malformed, no_ints())


def _irregular(block: Block, header: Header) -> Iterator[Table]:
    """Any block, about a megabyte at a time: its well-formed rows, and what is wrong with the others."""
    delimiter = ord(header.delimiter)
    for small in _small_blocks(block):
        array = np.frombuffer(small.data, dtype=np.uint8)
        rows = _rows(small, array, delimiter)
        divides = _outside_quotes(array == delimiter, small.edges)
        problem = _problems(small, array, rows, _count_before(divides), header)
        malformed, rows = rows.where(problem > 0), rows.where(problem == 0)
        fields, exact_rows = _fields(small, array, rows, np.flatnonzero(divides), header.width)
        yield Table(small, fields, rows, exact_rows, malformed, problem[problem > 0])


def _small_blocks(block: Block) -> Iterator[Block]:
    data, edges = block.data, block.edges
    at, line = 0, block.line
    cuts = [int(ends[-1]) for ends in csv_exact.record_ends(data, edges) if len(ends)]
    for cut in (*cuts, len(data)):
        if cut > at:
            first, last = np.searchsorted(edges, (at, cut))
            chunk = data[at:cut]
            yield Block(line, chunk, False, edges[first:last] - at)
            line += csv_exact.count_lines(chunk)
            at = cut


def _rows(block: Block, array: Bytes, delimiter: int) -> RowSpans:
    """The rows that have a value."""
    data = block.data
    ends = np.concatenate([*csv_exact.record_ends(data, block.edges), no_ints()])
    if not len(ends) or ends[-1] < len(data):
        ends = np.append(ends, len(data))
    start = np.concatenate([[0], ends[:-1]])
    stop = ends - ((array[ends - 1] == _LF) | (array[ends - 1] == _CR))
    stop -= (stop > start) & (stop < ends) & (array[ends - 1] == _LF) & (array[np.maximum(stop - 1, 0)] == _CR)
    blank = stop == start
    blank[~blank] = _blank_rows(block, start[~blank], stop[~blank], delimiter)
    breaks = ends if not len(block.edges) else np.concatenate([*csv_exact.record_ends(data, no_ints())])
    line = block.line + np.searchsorted(breaks, start, side="right")
    return RowSpans(start, stop, line).where(~blank)


def _blank_rows(block: Block, start: Ints, stop: Ints, delimiter: int) -> Bools:
    """Which rows, of at least a byte, have no value: none does that begins with one."""
    array = np.frombuffer(block.data, dtype=np.uint8)
    first = array[start]
    blank: Bools = (first <= _BLANK) | (first == delimiter)
    if len(block.edges):
        second = array[np.minimum(start + 1, len(array) - 1)]
        blank |= (first == _QUOTE) & ((second <= _BLANK) | (second == _QUOTE))
    if blank.any():
        is_space = (array == _BLANK) | ((array >= 9) & (array <= 13))
        values = _count_before(~(is_space | (array == delimiter) | (array == _QUOTE)))
        blank &= values[stop] == values[start]
        if blank.any() and b'"' in block.data:
            quoted = _count_before(_marks_in_values(block, array, delimiter))
            blank &= quoted[stop] == quoted[start]
    return blank


def _marks_in_values(block: Block, array: Bytes, delimiter: int) -> Bools:
    """Which bytes are quotes that do not begin or end a field, or delimiters within one that are no blanks (a tab)."""
    closes = block.edges[1::2]
    following = array[np.minimum(closes + 1, len(array) - 1)]
    is_end = csv_exact.is_separator(following, bytes([delimiter])) | (closes == len(array) - 1)
    marks: Bools = array == _QUOTE
    marks[block.edges[::2]] = False
    marks[closes[is_end]] = False
    delimiters = np.flatnonzero(array == delimiter) if delimiter > _BLANK else no_ints()
    marks[delimiters[np.searchsorted(block.edges, delimiters) % 2 == 1]] = True
    return marks


def _problems(block: Block, array: Bytes, rows: RowSpans, before: NDArray[np.int32], header: Header) -> Ints:
    """What is wrong with each row: an index of `_PROBLEMS`, 0 for nothing. `before` counts what divides fields."""
    fields = before[rows.stop] - before[rows.start] + 1
    problem = np.where(fields < header.fewest, _FEW, np.where(fields > header.width, _MANY, 0))
    if len(block.edges):
        delimiters = _count_before(array == ord(header.delimiter))
        within = delimiters[rows.stop] - delimiters[rows.start]
        problem[(fields == 1) & (within >= header.fewest - 1) & (array[rows.start] == _QUOTE)] = _WRAPPED
    problem[_misquoted_rows(block, array, rows, before, header)] = _QUOTING
    if not csv_exact.is_utf8(block.data):
        problem[_row_of(_bytes_not_utf8(block.data), rows)] = _NOT_UTF8
    if b"\0" in block.data:
        problem[_row_of(np.flatnonzero(array == 0), rows)] = _NUL
    return problem


def _bytes_not_utf8(data: bytes) -> Ints:
    """Return the positions of the bytes that are no UTF-8 text.

    To ask each row takes 1 us a row, which is 30 times as long as a good file where rows have two bytes.
    """
    positions, at = [no_ints()], 0
    while at < len(data):
        stop = min(at + _DECODED_BYTES, len(data))
        # No character is cut: it has three bytes more at most.
        while stop < min(at + _DECODED_BYTES + 3, len(data)) and data[stop] & 0xC0 == 0x80:
            stop += 1
        text = data[at:stop].decode("utf-8", "surrogateescape")
        code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        bad = (code >= 0xDC80) & (code <= 0xDCFF)
        size = np.where(bad, 1, 1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF))
        positions.append(at + np.cumsum(size)[bad] - 1)
        at = stop
    return np.concatenate(positions)


def _misquoted_rows(block: Block, array: Bytes, rows: RowSpans, before: NDArray[np.int32], header: Header) -> Ints:
    """The rows in which text follows a closing quote, in the fields that are looked at."""
    closes = block.edges[1::2]
    following = array[np.minimum(closes + 1, len(array) - 1)]
    ends = csv_exact.is_separator(following, header.delimiter.encode())
    closes = closes[(closes < len(array) - 1) & ~ends & (following != _QUOTE)]
    row = _row_of(closes, rows)
    misquoted: Ints = row[before[closes] - before[rows.start[row]] <= header.width]
    return misquoted


def _row_of(positions: Ints, rows: RowSpans) -> Ints:
    """The row in which each position lies; -1 for none."""
    if not len(rows.start):
        return np.full(len(positions), -1)
    row = np.searchsorted(rows.start, positions, side="right") - 1
    row[positions >= rows.stop[np.maximum(row, 0)]] = -1
    return row


def _fields(block: Block, array: Bytes, rows: RowSpans, delimiters: Ints, width: int) -> tuple[Fields, Ints]:
    """The fields of those rows, without quotes around them, and the rows in which a quote stands for a character.

    The fields that a row lacks at its end are empty, and stand at its end.
    """
    row = _row_of(delimiters, rows)
    delimiters, row = delimiters[row >= 0], row[row >= 0]
    stop = rows.stop[:, None]
    if len(delimiters) == len(stop) * (width - 1):
        divided = delimiters.reshape(len(stop), width - 1)
    else:
        divided = np.repeat(stop, width - 1, axis=1)
        first = np.searchsorted(row, np.arange(len(stop)))
        divided[row, np.arange(len(row)) - first[row]] = delimiters
    start = np.column_stack([rows.start, np.minimum(divided + 1, stop)])
    end = np.column_stack([divided, rows.stop])
    exact = np.zeros(len(start), dtype=bool)
    if len(block.edges):
        opens = np.zeros(len(array) + 1, dtype=bool)
        opens[block.edges[::2]] = True
        quoted = opens[start]
        quotes = _count_before(array == _QUOTE)
        # More quotes than those around it: two stand for one.
        exact = (quoted & (quotes[end] - quotes[start] != 2)).any(axis=1)
        start += quoted
        end -= quoted
    return Fields(block.data, start, end), np.flatnonzero(exact)


def _outside_quotes(marks: Bools, edges: Ints) -> Bools:
    """Those of the bytes that do not stand within quotes."""
    if len(edges):
        positions = np.flatnonzero(marks)
        marks[positions[np.searchsorted(edges, positions) % 2 == 1]] = False
    return marks


def _count_before(marks: Bools) -> NDArray[np.int32]:
    """How many marks there are before each position, and in all."""
    counts = np.zeros(len(marks) + 1, dtype=np.int32)
    np.cumsum(marks, out=counts[1:])
    return counts


# Odd, and of this process alone: who knew them could send texts that all share a slot, and looking them up would take
# quadratic time.
_MULTIPLIERS: Final = np.array([secrets.randbits(64) | 1 for _ in range(_MOST_WORDS)], dtype=np.uint64)
_NO_CODE: Final = -1
_FEWEST_BITS: Final = 10


class _Slots(NamedTuple):
    """A hash table with 2^bits slots of codes, and each code's words and hash."""

    bits: int
    codes: Ints
    words: Words
    hashes: Words


class DistinctTexts:
    """The distinct texts of one column of a file, each read once. Safe to share between threads.

    `values[code]` is what the validator made of the text, or the `BadValue` it raised; `bad[code]` says which, and
    `integers[code]` is the value where that is an integer. They only ever grow, so a code keeps its meaning.
    """

    def __init__(self, read: Callable[[str], Any], check: Callable[[], None] = lambda: None) -> None:
        """`check` is called now and then while new texts are read, and may raise."""
        self._read = read
        self._check = check
        self._lock = threading.Lock()
        self._codes: dict[Any, int] = {}
        self._bad_values: dict[str, BadValue] = {}
        self.values: list[Any] = []
        self.bad = np.zeros(256, dtype=bool)
        self.integers = np.zeros(256, dtype=np.int64)
        self._slots = _Slots(
            _FEWEST_BITS,
            np.full(1 << _FEWEST_BITS, _NO_CODE, dtype=np.int64),
            np.zeros((_MOST_WORDS, 256), dtype=np.uint64),
            np.zeros(256, dtype=np.uint64),
        )

    def codes(self, fields: Fields, column: int) -> Ints:
        """Return a code for each row, an index of `values`; -1 where the field is left to the exact reader."""
        start, end = fields.start[: fields.safe, column], fields.end[: fields.safe, column]
        codes = np.full(len(fields), _NO_CODE, dtype=np.int64)
        if not len(start):
            return codes
        words = _masked_words(fields, start, end - start)
        hashes = _hash(words)
        known = self._look_up(hashes, words)
        new = np.flatnonzero(known == _NO_CODE)
        if len(new):
            with self._lock:
                self._learn(fields, column, new, hashes, words)
                known[new] = self._look_up(hashes[new], [word[new] for word in words])
        known[end - start > _LONGEST] = _NO_CODE
        codes[: fields.safe] = known
        return codes

    def code_of(self, value: Any) -> int:
        """Return the code of a value that the exact reader read."""
        with self._lock:
            if value not in self._codes:
                self._codes[value] = int(self._append([value])[0])
            return self._codes[value]

    def _look_up(self, hashes: Words, words: list[Words]) -> Ints:
        # Taken once, together: another thread may add to these slots, or replace them by larger ones.
        slots = self._slots
        codes = _codes_with(hashes, slots)
        differs = np.zeros(len(codes), dtype=np.uint64)
        for number, known in enumerate(slots.words):
            if number < len(words):
                differs |= known[codes] ^ words[number]
            elif known.any():
                differs |= known[codes]
        codes[differs != 0] = _NO_CODE
        return codes

    def _learn(self, fields: Fields, column: int, rows: Ints, hashes: Words, words: list[Words]) -> None:
        """Put the texts of these rows into the table; of two with one hash only the first is ever found."""
        distinct, first = np.unique(hashes[rows], return_index=True)
        new = np.sort(first[_codes_with(distinct, self._slots) == _NO_CODE])
        rows = rows[new]
        rows = rows[fields.end[rows, column] - fields.start[rows, column] <= _LONGEST]
        if not len(rows):
            return
        values: list[Any] = []
        for row in checked(rows.tolist(), self._check):
            try:
                values.append(self._read(fields.field(row, column)))
            except BadValue as bad:
                # One for each reason, without its frames: they would cost ten times as much as the reading.
                values.append(self._bad_values.setdefault(str(bad), bad.with_traceback(None)))

        codes = self._append(values)
        bits, slots, known, known_hashes = self._slots
        known[: len(words), codes] = [word[rows] for word in words]
        known_hashes[codes] = hashes[rows]
        if 4 * len(self.values) > len(slots):
            while 4 * len(self.values) > 1 << bits:
                bits += 1
            codes = np.concatenate([slots[slots != _NO_CODE], codes])
            slots = np.full(1 << bits, _NO_CODE, dtype=np.int64)
        # The slots come last, so that whoever finds a code finds all of it.
        _fill(slots, bits, known_hashes[codes], codes)
        self._slots = _Slots(bits, slots, known, known_hashes)

    def _append(self, values: list[Any]) -> Ints:
        """The codes of new values, with room for them in the table."""
        first, stop = len(self.values), len(self.values) + len(values)
        bits, slots, known, known_hashes = self._slots
        room = len(known_hashes)
        if stop > room:
            more = max(room, stop - room)
            # The slots are copied too: those that go with the smaller arrays must never name a code beyond them.
            self.bad = np.concatenate([self.bad, np.zeros(more, dtype=bool)])
            self.integers = np.concatenate([self.integers, np.zeros(more, dtype=np.int64)])
            self._slots = _Slots(
                bits,
                slots.copy(),
                np.concatenate([known, np.zeros((len(known), more), dtype=np.uint64)], axis=1),
                np.concatenate([known_hashes, np.zeros(more, dtype=np.uint64)]),
            )
        self.bad[first:stop] = [isinstance(value, BadValue) for value in values]
        self.integers[first:stop] = [value if isinstance(value, int) else 0 for value in values]
        self.values += values
        return np.arange(first, stop)


def _codes_with(hashes: Words, slots: _Slots) -> Ints:
    """The code of the text with each hash; `_NO_CODE` where there is none."""
    slot = (hashes >> np.uint64(64 - slots.bits)).astype(np.int64)
    codes = slots.codes[slot]
    wrong = np.flatnonzero((codes != _NO_CODE) & (slots.hashes[codes] != hashes))
    while len(wrong):
        slot[wrong] = (slot[wrong] + 1) & (len(slots.codes) - 1)
        codes[wrong] = slots.codes[slot[wrong]]
        wrong = wrong[(codes[wrong] != _NO_CODE) & (slots.hashes[codes[wrong]] != hashes[wrong])]
    return codes


def _fill(slots: Ints, bits: int, hashes: Words, codes: Ints) -> None:
    """Put each code into the first free slot from that of its hash on."""
    slot = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    while len(codes):
        free = slots[slot] == _NO_CODE
        slots[slot[free]] = codes[free]
        # Those whose slot was taken, or went to another of the same hash, try the next one.
        left = slots[slot] != codes
        slot, codes = (slot[left] + 1) & (len(slots) - 1), codes[left]


def _masked_words(fields: Fields, start: Ints, length: Ints) -> list[Words]:
    """The fields' words, zero beyond a field's end; as many as the longest field (of those read) needs."""
    shortest, longest = int(length.min()), min(int(length.max()), _LONGEST)
    words = list(fields.words(start, max(1, (longest + 7) // 8)))
    for number, word in enumerate(words):
        if shortest < 8 * number + 8:
            if shortest == longest:
                word &= _MASKS[longest - 8 * number]
            else:
                word &= _MASKS[np.clip(length - 8 * number, 0, 8)]
    return words


def _hash(words: list[Words]) -> Words:
    """A hash of the words, on which words of zeros at the end have no effect: it depends on the field alone."""
    hashes: Words = words[0] * _MULTIPLIERS[0]
    for word, multiplier in zip(words[1:], _MULTIPLIERS[1:], strict=False):
        hashes ^= (word ^ (word >> np.uint64(31))) * multiplier
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MULTIPLIERS[0]
    return hashes


def _half(text: bytes) -> np.uint32:
    """Four bytes as a little-endian half word."""
    return np.uint32(int.from_bytes(text, "little"))


# `YYYY-MM-DD HH:MM:SS.ffffff UTC` as eight half words. XOR with a template leaves a digit's value where the template
# has a zero, and 0 where a separator is as it must be; the bits of the second mask must be clear in d, and in d + the
# third: 6 where a digit is, so that a value above 9 shows in the byte's high half.
_TEMPLATES: Final = [
    (_half(template), np.uint32(bad), _half(bytes(6 * (letter == _ZERO) for letter in template)))
    for template, bad in (
        (b"0000", 0xF0F0F0F0), (b"-00-", 0xFFF0F0FF), (b"00 0", 0xF0FFF0F0), (b"0:00", 0xF0F0FFF0),
        (b":00.", 0xFFF0F0FF), (b"0000", 0xF0F0F0F0), (b"00 U", 0xFFFFF0F0), (b"TC\0\0", 0x0000FFFF),
    )
]  # fmt: skip
_USUAL: Final = len("2023-01-22 12:09:39.388884 UTC")
_SECONDS: Final = len("2023-01-22 12:09:39")
_MOST_DIGITS: Final = 12
_LONGEST_ZONE: Final = len("+00:00")
_EIGHT_ZEROS, _EIGHT_SIXES, _HIGH_HALVES = (
    np.uint64(int.from_bytes(byte * 8, "little")) for byte in (b"0", b"\6", b"\xf0")
)
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
# By how many digits a number since 1970 has before its point, how many behind it make microseconds; -1 for no unit.
_DECIMALS: Final = np.full(_LONGEST, -1)
_DECIMALS[list(EPOCH_UNITS_US)] = [len(str(unit_us)) - 1 for unit_us in EPOCH_UNITS_US.values()]


def _read_timestamps(words: Callable[[Ints, int], Words], start: Ints, end: Ints) -> tuple[Ints, Bools]:
    """Timestamps of the texts from `start` to `end`, and which of them were read; the others' mean nothing.

    Reads `YYYY-MM-DD HH:MM:SS[.ffffff] UTC` with other fractions, `T` between, and the zone `Z`, `+00:00` or none; and
    numbers since 1970. Whole columns of the first take arithmetic on half words only, of which a processor takes twice
    as many at once; no digit is looked at alone.
    """
    length = end - start
    halves = words(start, 4).view("<u4")
    digits = [halves[number // 2, number % 2 :: 2] ^ template for number, (template, _, _) in enumerate(_TEMPLATES)]
    read: Bools = (length == _USUAL) & _are_timestamps(digits)
    others = np.flatnonzero(~read)
    numbers = no_ints()
    if len(others):
        # A number still has a digit where a date has its first `-`.
        is_number = ((digits[1][others] & 255) ^ (ord("-") ^ _ZERO)) < 10
        numbers, others = others[is_number], others[~is_number]
        others = others[(length[others] >= _SECONDS) & (length[others] <= _SECONDS + 1 + _MOST_DIGITS + _LONGEST_ZONE)]
        other_digits = [half[others] for half in digits]
        read[others] = _make_usual(words, other_digits, start[others], end[others]) & _are_timestamps(other_digits)
        for half, other in zip(digits, other_digits, strict=True):
            half[others] = other

    year, month, day = _four(digits[0]), _pair(digits[1], 1), _pair(digits[2], 0)
    # A month of 17, or a day of 40, would look up a date of another year or month.
    read &= (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month <= 12) & (day <= 31)
    date = ((year - np.uint32(_FIRST_YEAR)) * np.uint32(512) + month * np.uint32(32) + day).astype(np.int64)
    date[~read] = 0
    day_us = _day_table()[date]
    hour = (digits[2] >> np.uint32(24)) * np.uint32(10) + (digits[3] & np.uint32(255))
    minute, second = _pair(digits[3], 2), _pair(digits[4], 1)
    read &= (day_us >= 0) & (hour < 24) & (minute < 60) & (second < 60)
    timestamp_us = ((hour * np.uint32(60) + minute) * np.uint32(60) + second).astype(np.int64)
    timestamp_us *= 1_000_000
    timestamp_us += day_us
    timestamp_us += _four(digits[5]) * np.uint32(100) + _pair(digits[6], 0)
    if len(numbers):
        timestamp_us[numbers], read[numbers] = _read_numbers(words(start[numbers], _MOST_WORDS), length[numbers])
    return timestamp_us, read


def _are_timestamps(digits: list[Halves]) -> Bools:
    """Where there are digits and separators as in the templates."""
    bad = np.zeros(len(digits[0]), dtype=np.uint32)
    for half, (_, mask, six) in zip(digits, _TEMPLATES, strict=True):
        bad |= (half | (half + six)) & mask
    fits: Bools = bad == 0
    return fits


def _make_usual(words: Callable[[Ints, int], Words], digits: list[Halves], start: Ints, end: Ints) -> Bools:
    """Make timestamps of other spellings look like the usual one; return where that can be done."""
    last = words(end - 8, 1)[0]
    zone = np.zeros(len(end), dtype=np.int64)
    for suffix in (b"Z", b" UTC", b"+00:00"):
        shift = np.uint64(8 * (8 - len(suffix)))
        zone[(last >> shift) == np.uint64(int.from_bytes(suffix, "little"))] = len(suffix)
    size = end - start - zone
    given = np.maximum(size - (_SECONDS + 1), 0)
    # What stands beyond the sixth digit of a fraction is cut.
    more = _MASKS[np.clip(given - 6, 0, _MOST_DIGITS - 6)]
    beyond = (words(start + _SECONDS + 7, 1)[0] ^ _EIGHT_ZEROS) & more
    fits: Bools = (beyond | (beyond + (_EIGHT_SIXES & more))) & _HIGH_HALVES == 0
    fits &= (size == _SECONDS) | ((given > 0) & (given <= _MOST_DIGITS))
    digits[2][digits[2] & 0x00FF0000 == (ord("T") ^ _BLANK) << 16] &= 0xFF00FFFF
    # Without a fraction, what stands where its point would is the zone, or nothing of the field.
    digits[4][given == 0] &= 0x00FFFFFF
    digits[5] &= _MASKS[np.minimum(given, 4)].astype(np.uint32)
    digits[6] &= _MASKS[np.clip(given - 4, 0, 2)].astype(np.uint32)
    digits[7][:] = 0
    return fits


def _read_numbers(words: Words, length: Ints) -> tuple[Ints, Bools]:
    """Numbers since 1970 in microseconds, and which of them were read: `values.EPOCH_UNITS_US` has their units."""
    digits = np.ascontiguousarray(words.T).view(np.uint8) - np.uint8(_ZERO)
    is_digit = (digits < 10) & (np.arange(_LONGEST) < length[:, None])
    whole = is_digit.argmin(axis=1)
    decimals = _DECIMALS[whole]
    rows = np.arange(len(length))
    has_point = (digits[rows, whole] == ord(".") - _ZERO + 256) & (length > whole + 1)
    read: Bools = (decimals >= 0) & (digits[:, 0] > 0) & (length < _LONGEST)
    read &= is_digit.sum(axis=1) + has_point == length
    number = np.zeros(len(length), dtype=np.int64)
    for position in range(max(EPOCH_UNITS_US)):
        number = np.where(position < whole, number * 10 + digits[:, position], number)
    for decimal in range(6):
        at = np.minimum(whole + 1 + decimal, _LONGEST - 1)
        digit = np.where(is_digit[rows, at], digits[rows, at], 0)
        number = np.where(decimal < decimals, number * 10 + digit, number)
    return number, read


def _pair(digits: Halves, position: int) -> Halves:
    """The number that the digits in bytes `position` and `position + 1` make."""
    pairs = digits * np.uint32(10) + (digits >> np.uint32(8))
    number: Halves = (pairs >> np.uint32(8 * position)) & np.uint32(255)
    return number


def _four(digits: Halves) -> Halves:
    """The number that four digits make: two pairs at once, then a hundred times the first plus the second."""
    pairs = (digits * np.uint32(10) + (digits >> np.uint32(8))) & np.uint32(0x00FF00FF)
    number: Halves = (pairs * np.uint32(100 << 16 | 1)) >> np.uint32(16)
    return number


@lru_cache(maxsize=1)
def _day_table() -> Ints:
    """A day's first microsecond by (year - 1970) * 512 + month * 32 + day; -1 for a date that does not exist."""
    table = np.full((_LAST_YEAR - _FIRST_YEAR + 1) * 512, -1, dtype=np.int64)
    dates = np.arange(np.datetime64(f"{_FIRST_YEAR}-01-01"), np.datetime64(f"{_LAST_YEAR + 1}-01-01"))
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]")
    month = (months - years.astype("datetime64[M]")).astype(np.int64) + 1
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    table[years.astype(np.int64) * 512 + month * 32 + day] = np.arange(len(dates)) * DAY_US
    return table
