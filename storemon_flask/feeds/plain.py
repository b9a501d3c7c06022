"""The rows and fields of a block, for a fast reader: found for all rows at once, by comparing and counting bytes.

So is what is wrong with the shape of a row (its number of fields, its quotes, its bytes): a file of nothing but bad
rows takes little longer than a good one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storemon_flask.feeds import byte_road, records
from storemon_flask.feeds.blocks import Block
from storemon_flask.feeds.byte_road import Rectangle
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.records import MAX_RECORD_BYTES, Record
from storemon_flask.feeds.rejects import Rejects
from storemon_flask.model import Bools, Ints

Bytes = NDArray[np.uint8]

# A good row of any feed has more bytes.
_SHORTEST_ROW: Final = 8
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
class Table:
    """Rows of a block with their fields found, for a fast reader.

    `rows` says where they stand; None when they are all of the block, a row a line. The rows of `exact` have to be read
    one by one: a quote stands for a character in them. `rejects` are the rows of the block that are not in the table,
    as their shape is wrong, and `rejected` is where they stand.
    """

    block: Block
    fields: Rectangle
    rows: Rows | None = None
    exact: Ints = field(default_factory=records.no_ints)
    rejects: Rejects = field(default_factory=Rejects.none)
    rejected: Rows | None = None

    def lines(self, rows: Ints) -> Ints:
        """The lines on which rows begin."""
        return self.block.line + rows if self.rows is None else self.rows.line[rows]

    def raw(self, row: int) -> bytes:
        """A row as it stands in the file, without its line break."""
        if self.rows is None:
            return self.fields.row(row)
        return self.block.data[self.rows.start[row] : self.rows.stop[row]]

    def record(self, row: int, header: Header) -> Record:
        """A row as it is read one by one."""
        return records.parse(self.raw(row), 0, header.width, header.columns)


def as_it_stands(block: Block, header: Header) -> Table | None:
    """The block when it has no quote and no NUL, is UTF-8, and every line has as many fields as the header; None
    otherwise.
    """
    data = block.data
    if block.problem or block.one or block.quoted or b"\0" in data:
        return None
    if b"\r" in data and records.count(data, b"\r") != data.count(b"\r\n"):
        return None
    if records.count(data, b"\n") * _SHORTEST_ROW > len(data):
        # So many rows are read in parts, for their memory; they are not good ones.
        return None
    # A row that is too long covers one of these whole.
    half = MAX_RECORD_BYTES // 2
    if any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half, half)):
        return None
    fields = byte_road.rectangle(data, header.width) if records.is_utf8(data) else None
    return None if fields is None else Table(block, fields)


def cleaned(block: Block, header: Header) -> Iterator[Table]:
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


def _cleaned(block: Block, header: Header) -> Table:
    data, array = block.data, np.frombuffer(block.data, dtype=np.uint8)
    rows = _rows(block, array)
    is_comma = _outside_quotes(array == _COMMA, block.edges)
    problem = _problems(block, array, rows, _count(is_comma), header.width)
    rejected, rows = rows.chosen(problem != 0), rows.chosen(problem == 0)

    def text(number: int) -> str:
        return records.text_of(data[rejected.start[number] : rejected.stop[number]])

    rejects = Rejects(rejected.line, problem[problem != 0], _PROBLEMS, text)
    fields, exact = _fields(block, array, rows, np.flatnonzero(is_comma), header.width)
    return Table(block, fields, rows, exact, rejects, rejected)


def _fields(block: Block, array: Bytes, rows: Rows, commas: Ints, width: int) -> tuple[Rectangle, Ints]:
    """The fields of those rows, without the quotes around them, and the rows in which a quote stands for a character."""
    marks = np.zeros(len(array) + 1, dtype=np.int8)
    marks[rows.start] = 1
    marks[rows.stop] = -1
    within = np.cumsum(marks, dtype=np.int8).view(bool)
    commas = commas[within[commas]]
    commas = commas.reshape(len(rows.start), width - 1)
    start = np.column_stack([rows.start, commas + 1])
    end = np.column_stack([commas, rows.stop])
    exact = np.zeros(len(start), dtype=bool)
    if len(block.edges):
        opens = np.zeros(len(array) + 1, dtype=bool)
        opens[block.edges[::2]] = True
        quoted = opens[start]
        quotes = _count(array == _QUOTE)
        # More quotes than those around it: two stand for one.
        exact = (quoted & (quotes[end] - quotes[start] != 2)).any(axis=1)
        start += quoted
        end -= quoted
    return Rectangle(block.data, start, end), np.flatnonzero(exact)


def _rows(block: Block, array: Bytes) -> Rows:
    """The rows that are no blank lines."""
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
    return Rows(start, stop, line).chosen(kept)


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
    """The closing quotes behind which text follows, in the fields of a row that are looked at: one more than there
    should be.
    """
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
    bad = (characters & 0xFFFFFF80) == 0xDC80
    size = np.ones(len(characters), dtype=np.int32)
    for first in (0x80, 0x800, 0x10000):
        size += characters >= first
    size[bad] = 1
    places: Ints = np.cumsum(size, dtype=np.int32)[bad].astype(np.int64) - 1
    return places


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
    if not len(rows.start):
        return records.no_ints()
    row = np.searchsorted(rows.start, places, side="right") - 1
    found: Ints = row[(row >= 0) & (places < rows.stop[np.maximum(row, 0)])]
    return found
