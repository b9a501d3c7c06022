"""Which blocks a fast reader may try, and as what: those on which every reader must agree."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from storemon_flask.ingest import records
from storemon_flask.ingest.blocks import Block
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.records import MAX_RECORD_BYTES, Record, no_ints
from storemon_flask.model import Ints

# Of so many rows no more than one may need its quotes: reading those one by one is what takes time.
_ROWS_A_RECORD: Final = 2


@dataclass(frozen=True, slots=True)
class PlainBlock:
    """A block's rows without a quote in them, in `data`.

    `records` has those that need their quotes, by the row's number; in `data` they are rows of empty fields, which no feed
    accepts. `breaks` has the rows with line breaks in their quotes, once for each line break.
    """

    block: Block
    data: bytes
    records: dict[int, Record] = field(default_factory=dict)
    breaks: Ints = field(default_factory=no_ints)

    def lines(self, rows: Ints) -> Ints:
        """The lines on which rows begin."""
        lines: Ints = self.block.line + rows + self.breaks.searchsorted(rows)
        return lines

    def texts(self, rows: list[int]) -> list[str]:
        """Those rows as they stand in the file, without their line breaks."""
        if not rows:
            return []
        data = self.block.data
        ends = np.concatenate([*records.record_ends(data, self.block.edges), [len(data)]])
        starts = np.concatenate([[0], ends])
        return [records.text_of(data[starts[row] : ends[row]].rstrip(b"\r\n")) for row in rows]


def plain_block(block: Block, header: Header) -> PlainBlock | None:
    """The block for a fast reader: UTF-8, no NUL, a return only before a newline, no row too long; None when it has to be read
    row by row. That its rows have one width is for the reader to check.
    """
    if block.problem or block.one:
        return None
    found = _without_quotes(block, header) if block.quoted else PlainBlock(block, block.data)
    return found if found is not None and _is_plain(found.data) else None


def _without_quotes(block: Block, header: Header) -> PlainBlock | None:
    """None when too many rows need their quotes: a quoted field of theirs holds a comma, a line break or a quote, or a quote
    stands anywhere else.
    """
    data, array = block.data, np.frombuffer(block.data, dtype=np.uint8)
    opens, closes = block.edges[::2], block.edges[1::2]
    separators = np.flatnonzero(records.is_separator(array))
    needed = np.searchsorted(separators, opens) != np.searchsorted(separators, closes)
    needed |= (opens > 0) & ~records.is_separator(array[np.maximum(opens - 1, 0)])
    needed |= (closes < len(data) - 1) & ~records.is_separator(array[np.minimum(closes + 1, len(data) - 1)])
    places = opens[needed]
    if len(block.edges) != records.count(data, b'"'):
        # The others stand within fields.
        places = np.union1d(places, np.setdiff1d(np.flatnonzero(array == ord('"')), block.edges))
    if not len(places):
        return PlainBlock(block, data.replace(b'"', b""))
    return _with_records(block, header, places)


def _with_records(block: Block, header: Header, places: Ints) -> PlainBlock | None:
    """The block when the records in which those places are need their quotes; None when they are too many."""
    data = block.data
    ends = np.concatenate([*records.record_ends(data, block.edges)])
    if not len(ends) or ends[-1] < len(data):
        ends = np.append(ends, len(data))
    rows = np.unique(np.searchsorted(ends, places, side="right"))
    if len(rows) * _ROWS_A_RECORD > len(ends):
        return None
    starts = np.concatenate([[0], ends])[rows].tolist()
    exact: dict[int, Record] = {}
    breaks: list[int] = []
    pieces: list[bytes] = []
    at = 0
    for row, start, stop in zip(rows.tolist(), starts, ends[rows].tolist(), strict=True):
        raw = data[start:stop].rstrip(b"\r\n")
        exact[row] = records.parse(raw, block.line + row + len(breaks), header.width, header.columns)
        breaks += [row] * records.count_breaks(raw)
        pieces += (data[at:start], b"," * (header.width - 1), data[start + len(raw) : stop])
        at = stop
    pieces.append(data[at:])
    return PlainBlock(block, b"".join(pieces).replace(b'"', b""), exact, np.array(breaks, dtype=np.int64))


def _is_plain(data: bytes) -> bool:
    if b"\0" in data:
        return False
    if b"\r" in data and records.count(data, b"\r") != data.count(b"\r\n"):
        return False
    # A row that is too long covers one of these whole.
    half = MAX_RECORD_BYTES // 2
    if any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half, half)):
        return False
    return records.is_utf8(data)
