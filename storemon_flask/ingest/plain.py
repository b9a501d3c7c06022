"""Which blocks a fast reader may try, and as what: rows of one width, without a quote that means anything.

A block that is not plain as it stands is cleaned: what is wrong with the shape of a row (its number of fields, its quotes, its
bytes) is found for all rows at once, by counting bytes, so that a file of nothing but bad rows takes little longer than a good one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storemon_flask.ingest import records
from storemon_flask.ingest.blocks import Block
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.records import MAX_RECORD_BYTES, Record
from storemon_flask.ingest.rejects import Rejects
from storemon_flask.model import Bools, Ints

Bytes = NDArray[np.uint8]

# What can be wrong with the shape of a row; the first that applies is the reason.
_PROBLEMS: Final = [
    "", records.TOO_LONG, records.NUL, records.NOT_UTF8, records.QUOTING, records.FIELDS_FEW, records.FIELDS_MANY,
]  # fmt: skip
_TOO_LONG, _NUL, _NOT_UTF8, _QUOTING, _FEW, _MANY = range(1, len(_PROBLEMS))
_LF, _CR, _COMMA, _QUOTE, _BLANK = b'\n\r," '


class Rows(NamedTuple):
    """Where rows stand in a block, without their line breaks, and on which lines."""

    start: Ints
    stop: Ints
    line: Ints

    def chosen(self, which: Bools) -> "Rows":
        """Some of them."""
        return Rows(self.start[which], self.stop[which], self.line[which])


@dataclass(frozen=True, slots=True)
class PlainBlock:
    """Rows for a fast reader in `data`: no quote in them means anything, and they are UTF-8 without NUL.

    `rows` says where they stand in the block; None when `data` is all of it, a row a line. `records` has those that need their
    quotes, by the row's number; in `data` they are rows of empty fields, which no feed accepts. `rejects` are rows of the block
    that are not in `data`, as their shape is wrong; `rejected` is where they stand.
    """

    block: Block
    data: bytes
    rows: Rows | None = None
    records: dict[int, Record] = field(default_factory=dict)
    rejects: Rejects = field(default_factory=Rejects.none)
    rejected: Rows | None = None

    def lines(self, rows: Ints) -> Ints:
        """The lines on which rows begin."""
        return self.block.line + rows if self.rows is None else self.rows.line[rows]

    def text(self, row: int, as_read: bytes) -> str:
        """What stands there in the file; `as_read` is what a reader found in `data`."""
        if self.rows is None:
            return records.text_of(as_read)
        return records.text_of(self.block.data[self.rows.start[row] : self.rows.stop[row]])


def as_it_stands(block: Block) -> PlainBlock | None:
    """The block for a fast reader: UTF-8, no quote, no NUL, a return only before a newline, no row too long; None when it is not so.

    That its rows have one width is for the reader to check.
    """
    data = block.data
    if block.problem or block.one or block.quoted or b"\0" in data:
        return None
    if b"\r" in data and records.count(data, b"\r") != data.count(b"\r\n"):
        return None
    # A row that is too long covers one of these whole.
    half = MAX_RECORD_BYTES // 2
    if any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half, half)):
        return None
    return PlainBlock(block, data) if records.is_utf8(data) else None


def cleaned(block: Block, header: Header) -> Iterator[PlainBlock]:
    """The block in parts of about a megabyte, each with the rows for a fast reader and what is wrong with the others."""
    for part in _parts(block):
        yield _cleaned(part, header)


def _parts(block: Block) -> Iterator[Block]:
    data, edges = block.data, block.edges
    at, line = 0, block.line
    cuts = [int(ends[-1]) for ends in records.record_ends(data, edges) if len(ends)]
    for cut in (*cuts, len(data)):
        if cut > at:
            first, last = np.searchsorted(edges, (at, cut))
            part = data[at:cut]
            yield Block(line, part, False, quoted=block.quoted, edges=edges[first:last] - at)
            line += records.count_lines(part)
            at = cut


def _cleaned(block: Block, header: Header) -> PlainBlock:
    data, array = block.data, np.frombuffer(block.data, dtype=np.uint8)
    rows, ends = _rows(block, array)
    commas = _count(_outside_quotes(array == _COMMA, block.edges))
    problem = _problems(block, array, rows, commas, header.width)
    rejected, rows, ends = rows.chosen(problem != 0), rows.chosen(problem == 0), ends[problem == 0]

    def text(number: int) -> str:
        return records.text_of(data[rejected.start[number] : rejected.stop[number]])

    rejects = Rejects(rejected.line, problem[problem != 0], _PROBLEMS, text)
    needed = _rows_with_meaning(block, array, rows)
    exact = {
        row: records.parse(data[rows.start[row] : rows.stop[row]], int(rows.line[row]), header.width, header.columns)
        for row in np.flatnonzero(needed).tolist()
    }
    return PlainBlock(block, _joined(block, array, rows, ends, needed, header.width), rows, exact, rejects, rejected)


def _rows(block: Block, array: Bytes) -> tuple[Rows, Ints]:
    """The rows that are no blank lines, and where each ends with its line break."""
    data = block.data
    ends = np.concatenate([*records.record_ends(data, block.edges), np.empty(0, dtype=np.int64)])
    if not len(ends) or ends[-1] < len(data):
        ends = np.append(ends, len(data))
    start = np.concatenate([[0], ends[:-1]])
    stop = ends - ((array[ends - 1] == _LF) | (array[ends - 1] == _CR))
    stop -= (stop > start) & (stop < ends) & (array[ends - 1] == _LF) & (array[np.maximum(stop - 1, 0)] == _CR)
    blank = stop == start
    # Where a row begins with a blank, it may be all of it.
    if ((array[start] == _BLANK) | (array[start] < _BLANK))[~blank].any():
        ink = _count((array > _BLANK) | (array < 9) | ((array > 13) & (array < _BLANK)))
        blank = ink[stop] == ink[start]
    breaks = ends if not len(block.edges) else np.concatenate([*records.record_ends(data, records.no_ints())])
    line = block.line + np.searchsorted(breaks, start, side="right")
    kept = ~blank
    return Rows(start, stop, line).chosen(kept), ends[kept]


def _problems(block: Block, array: Bytes, rows: Rows, commas: NDArray[np.int32], width: int) -> Ints:
    """What is wrong with each row: a place in `_PROBLEMS`, 0 for nothing."""
    fields = commas[rows.stop] - commas[rows.start] + 1
    problem = np.where(fields < width, _FEW, np.where(fields > width, _MANY, 0))
    problem[_rows_of(_misplaced_quotes(block, array, rows, commas, width), rows)] = _QUOTING
    if not records.is_utf8(block.data):
        problem[_rows_of(_bytes_of_no_text(block.data), rows)] = _NOT_UTF8
    if b"\0" in block.data:
        problem[_rows_of(np.flatnonzero(array == 0), rows)] = _NUL
    problem[rows.stop - rows.start > MAX_RECORD_BYTES] = _TOO_LONG
    return problem


def _misplaced_quotes(block: Block, array: Bytes, rows: Rows, commas: NDArray[np.int32], width: int) -> Ints:
    """The closing quotes behind which text follows, in the fields of a row that are looked at: one more than there should be."""
    closes = block.edges[1::2]
    following = array[np.minimum(closes + 1, len(array) - 1)]
    closes = closes[(closes < len(array) - 1) & ~records.is_separator(following) & (following != _QUOTE)]
    if not len(closes) or not len(rows.start):
        return records.no_ints()
    row = np.searchsorted(rows.start, closes, side="right") - 1
    misplaced: Ints = closes[commas[closes] - commas[rows.start[np.maximum(row, 0)]] <= width]
    return misplaced


def _bytes_of_no_text(data: bytes) -> Ints:
    """Where bytes stand that are not UTF-8."""
    # Each of them becomes a surrogate of its own; 1, 2, 3 or 4 bytes make any other character.
    characters = np.frombuffer(
        data.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass"), dtype="<u4"
    )
    bad = (characters >= 0xDC80) & (characters <= 0xDCFF)
    size = 1 + (characters >= 0x80).astype(np.int64) + (characters >= 0x800) + (characters >= 0x10000)
    size[bad] = 1
    places: Ints = np.cumsum(size)[bad] - 1
    return places


def _rows_with_meaning(block: Block, array: Bytes, rows: Rows) -> Bools:
    """The rows that need their quotes: a quoted field of theirs holds a comma, a line break or a quote.

    A quote within a field that is not quoted is a character like any other, unless another field of the row is quoted: that one's
    quotes are taken out, with all others of the row.
    """
    needed = np.zeros(len(rows.start), dtype=bool)
    if not len(block.edges):
        return needed
    opens, closes = block.edges[::2], block.edges[1::2]
    separators = np.flatnonzero(records.is_separator(array))
    meant = np.searchsorted(separators, opens) != np.searchsorted(separators, closes)
    meant |= (opens > 0) & ~records.is_separator(array[np.maximum(opens - 1, 0)])
    meant |= (closes < len(array) - 1) & ~records.is_separator(array[np.minimum(closes + 1, len(array) - 1)])
    needed[_rows_of(opens[meant], rows)] = True
    quotes = np.flatnonzero(array == _QUOTE)
    if len(quotes) != len(block.edges):
        quoted = np.zeros(len(rows.start), dtype=bool)
        quoted[_rows_of(opens, rows)] = True
        stray = _rows_of(np.setdiff1d(quotes, block.edges, assume_unique=True), rows)
        needed[stray[quoted[stray]]] = True
    return needed


def _joined(block: Block, array: Bytes, rows: Rows, ends: Ints, exact: Bools, width: int) -> bytes:
    """Those rows, each with a newline; without their quotes, where a field is quoted; as empty fields, where they are read exactly."""
    written = array.copy()
    # The last row of a file may have no line break.
    closed = ends > rows.stop
    breaks = ends[closed] - 1
    written[breaks] = _LF
    marks = np.zeros(len(array) + 1, dtype=np.int8)
    marks[rows.start[~exact]] = 1
    marks[rows.stop[~exact]] = -1
    kept = np.cumsum(marks[:-1], dtype=np.int8).view(bool)
    kept[block.edges] = False
    kept[breaks] = True
    for place in range(width - 1):
        # A row of so many fields has at least so many bytes.
        written[rows.start[exact] + place] = _COMMA
        kept[rows.start[exact] + place] = True
    return bytes(written[kept])


def _outside_quotes(marks: Bools, edges: Ints) -> Bools:
    """Those of the bytes that do not stand within quotes."""
    if len(edges):
        places = np.flatnonzero(marks)
        marks[places[np.searchsorted(edges, places) % 2 == 1]] = False
    return marks


def _count(marks: Bools) -> NDArray[np.int32]:
    """How many marks there are before each place, and in all."""
    counted = np.zeros(len(marks) + 1, dtype=np.int32)
    np.cumsum(marks, out=counted[1:])
    return counted


def _rows_of(places: Ints, rows: Rows) -> Ints:
    """The rows in which those places are; places in no row are left out."""
    row = np.searchsorted(rows.start, places, side="right") - 1
    within = row >= 0
    row, places = row[within], places[within]
    found: Ints = row[places < rows.stop[row]]
    return found
