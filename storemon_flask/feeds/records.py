"""CSV records in bytes, divided and read as Python's csv module does.

A quote opens a quoted field only as a field's first byte; anywhere else in a field it is an ordinary character. Within
a quoted field two quotes are one, and commas and line breaks are text. Where csv's strict mode raises, at text between
a closing quote and the next comma, the record is rejected; it ends where csv's lenient mode would end it. `\\r\\n`,
`\\n` and a lone `\\r` each end a line. Everything here takes time in proportion to its input.
"""

import codecs
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import numpy as np

from storemon_flask.feeds.rejects import TEXT_CHARACTERS
from storemon_flask.model import Ints

# A longer record is rejected, and never held whole.
MAX_RECORD_BYTES: Final = 16 << 20
# The columns that no feed reads are not decoded in a record of this size.
_LARGE: Final = 64 << 10
_STRETCH: Final = 1 << 20

TOO_LONG: Final = f"row is longer than {MAX_RECORD_BYTES >> 20} MiB"
UNCLOSED: Final = "a quote opens a field and is never closed; the rest of the file is this one row"
NUL: Final = "row contains a NUL byte"
NOT_UTF8: Final = "row is not UTF-8 text"
QUOTING: Final = "quotes do not match"
FIELDS_FEW: Final = "row has fewer fields than the header"
FIELDS_MANY: Final = "row has more fields than the header"

# A quoted field from its opening quote on; the group is empty when its closing quote is missing.
_QUOTED: Final = re.compile(rb'"(?<![^,\r\n]")[^"]*+(?:""[^"]*+)*+("?)')
# One field: what is quoted, what wrongly follows its closing quote, or what is not quoted.
_FIELD: Final = re.compile(rb'(?:^|,)(?:"([^"]*+(?:""[^"]*+)*+)"([^,]*+)|([^,]*+))', re.DOTALL)
# What puts the reader of a record into each state of an `EndFinder`.
_AHEAD: Final = {",": b"", "x": b"x", "q": b'"', '"': b'"x"'}
_LF, _CR, _QUOTE, _COMMA = b'\n\r",'

# This many rows take some milliseconds one by one, at the worst a tenth of a second.
_ROWS_PER_CHECK: Final = 1000
_Item = TypeVar("_Item")


class Record(NamedTuple):
    """One row: the line it begins on, its fields, and the first 1,000 characters of its text; `problem` says why it
    cannot be used.

    A row with a problem has no fields, or, when only their number is wrong, those it has up to one too many.
    """

    line: int
    fields: list[str]
    text: str
    problem: str = ""


def split(
    data: bytes, line: int, width: int, columns: Container[int], edges: Ints | None = None, *, one: bool = False
) -> Iterator[Record]:
    """The records of bytes that begin with a record and end with one, the first on `line`. Blank lines are no rows.

    `columns` are those a feed reads; `edges` are the `quote_edges`, if they are known. `one`: it is one record, however
    long.
    """
    start = 0
    ordinary = b"\0" not in data and data.isascii() and len(data) <= MAX_RECORD_BYTES
    for stop in [len(data)] if one else _stops(data, quote_edges(data) if edges is None else edges):
        raw = data[start:stop].rstrip(b"\r\n")
        start = stop
        if raw.strip():
            yield parse(raw, line, width, columns, ordinary=ordinary)
        line += 1 if b'"' not in raw else 1 + count_breaks(raw)


def checked(items: Iterable[_Item], check: Callable[[], None]) -> Iterator[_Item]:
    """The items, most often rows; `check` is called before every thousandth and raises when no more are wanted."""
    for number, item in enumerate(items):
        if not number % _ROWS_PER_CHECK:
            check()
        yield item


def parse(raw: bytes, line: int, width: int, columns: Container[int], *, ordinary: bool = False) -> Record:
    """One record without its line break. `ordinary`: it is known to be text, and not too long."""
    problem = "" if ordinary else _problem(raw)
    if problem:
        return Record(line, [], text_of(raw), problem)
    if b'"' not in raw and len(raw) <= _LARGE:
        text = raw.decode("utf-8")
        return _fitted(line, text.split(",", width), text[:TEXT_CHARACTERS], width)
    fields = read_fields(raw, width, columns)
    if fields is None:
        return Record(line, [], text_of(raw), QUOTING)
    return _fitted(line, fields, text_of(raw), width)


def read_fields(raw: bytes, width: int, columns: Container[int]) -> list[str] | None:
    """The fields of a record, at most one more than `width`; None when text follows a closing quote.

    In a large record those that are not of `columns` are left empty.
    """
    fields: list[str] = []
    large = len(raw) > _LARGE
    for match in _FIELD.finditer(raw):
        if match.end(2) > match.start(2):
            return None
        if large and len(fields) not in columns:
            fields.append("")
        else:
            quoted = match[1]
            fields.append((match[3] if quoted is None else quoted.replace(b'""', b'"')).decode("utf-8"))
        if len(fields) > width:
            break
    return fields


def quote_edges(data: bytes) -> Ints:
    """The places of opening and closing quotes in turn, of bytes that begin with a record. Of an odd number the last is
    open.

    Between the two quotes of a doubled one the field may count as closed: no other byte stands there.
    """
    if b'"' not in data:
        return no_ints()
    array = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    before = array[np.maximum(quotes[::2] - 1, 0)]
    # When each that would open a field may do so, or is the second of a doubled one, then every quote opens or closes.
    if (is_separator(before) | (before == _QUOTE)).all():
        return quotes
    return np.fromiter(_edges_one_by_one(data), dtype=np.int64)


def _edges_one_by_one(data: bytes) -> Iterator[int]:
    for match in _QUOTED.finditer(data):
        yield match.start()
        if match.end(1) > match.start(1):
            yield match.start(1)


def last_end(data: bytes, edges: Ints) -> int:
    """Behind the last line break that is not in quotes; 0 when there is none.

    A return at the very end may be half of `\\r\\n`.
    """
    high, size = len(data), _LARGE
    while high:
        low = max(high - size, 0)
        ends = _ends_between(data, edges, low, high)
        if len(ends) and ends[-1] == len(data) and data.endswith(b"\r"):
            ends = ends[:-1]
        if len(ends):
            return int(ends[-1])
        high, size = low, _STRETCH
    return 0


def record_ends(data: bytes, edges: Ints) -> Iterator[Ints]:
    """Behind each line break that is not in quotes, a stretch of the data at a time."""
    for at in range(0, len(data), _STRETCH):
        yield _ends_between(data, edges, at, at + _STRETCH)


def _ends_between(data: bytes, edges: Ints, low: int, high: int) -> Ints:
    array = np.frombuffer(data, dtype=np.uint8)
    stretch = array[low:high]
    breaks = stretch == _LF
    if data.find(b"\r", low, high) >= 0:
        # A return before a newline is half of a break.
        returns = np.flatnonzero(stretch == _CR)
        breaks[returns[(array[np.minimum(returns + low + 1, len(data) - 1)] != _LF)]] = True
    places = np.flatnonzero(breaks) + low
    if len(edges):
        places = places[np.searchsorted(edges, places) % 2 == 0]
    return places + 1


def _stops(data: bytes, edges: Ints) -> Iterator[int]:
    stop = 0
    for ends in record_ends(data, edges):
        for stop in ends.tolist():
            yield stop
    if stop < len(data):
        yield len(data)


class EndFinder:
    """Finds the end of one record in pieces of bytes handed over in order."""

    def __init__(self) -> None:
        # What stands before the next piece: `"` is a quote within a quoted field, which closes it or is half of a
        # doubled one; `q` anything else within one; `,` the start of a field, `\r` a return that may be half of a
        # break, `x` anything else.
        self._before = ","

    @property
    def open(self) -> bool:
        """Whether the record would go on: its last field is in quotes."""
        return self._before == "q"

    def find(self, piece: bytes) -> int:
        """Behind the record's line break; -1 when the piece does not have it. 0: it ended with the piece before."""
        if not piece:
            return -1
        if self._before == "\r":
            self._before = ","
            return int(piece[0] == _LF)
        ahead = _AHEAD[self._before]
        data = ahead + piece
        edges = quote_edges(data)
        for ends in record_ends(data, edges):
            if len(ends):
                if ends[0] == len(data) and data.endswith(b"\r"):
                    break
                self._before = ","
                return int(ends[0]) - len(ahead)
        if len(edges) % 2:
            self._before = "q"
        elif len(edges) and edges[-1] == len(data) - 1:
            self._before = '"'
        else:
            self._before = {",": ",", "\r": "\r"}.get(chr(data[-1]), "x")
        return -1


def no_ints() -> Ints:
    """An array of nothing."""
    return np.empty(0, dtype=np.int64)


def count(data: bytes, byte: bytes) -> int:
    """How often the byte stands in the data; five times faster than `bytes.count` where it stands often."""
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord(byte)))


def count_lines(block: bytes) -> int:
    """How many lines end in the block; `\\r\\n`, `\\n` and a lone `\\r` each end one."""
    lines = count(block, b"\n")
    return lines if b"\r" not in block else lines + count(block, b"\r") - block.count(b"\r\n")


def count_breaks(raw: bytes) -> int:
    """The same of one record, most often a short one."""
    if len(raw) > _LARGE:
        return count_lines(raw)
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def is_separator(array: np.ndarray) -> np.ndarray:
    """Which of the bytes are a comma, a newline or a return."""
    separators: np.ndarray = (array == _COMMA) | (array == _LF) | (array == _CR)
    return separators


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8 text."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # What is decoded at once may take four times as much memory.
        for at in range(0, len(data), _STRETCH):
            decoder.decode(data[at : at + _STRETCH], final=at + _STRETCH >= len(data))
    except UnicodeDecodeError:
        return False
    return True


def text_of(raw: bytes) -> str:
    """The first 1,000 characters of a row as they can be shown."""
    # A character has at most four bytes; the last one may be cut here, and is not among the thousand.
    return raw[: 4 * TEXT_CHARACTERS + 4].decode("utf-8", "replace")[:TEXT_CHARACTERS]


def _fitted(line: int, fields: list[str], text: str, width: int) -> Record:
    if len(fields) == width:
        return Record(line, fields, text)
    return Record(line, fields, text, FIELDS_FEW if len(fields) < width else FIELDS_MANY)


def _problem(raw: bytes) -> str:
    if len(raw) > MAX_RECORD_BYTES:
        return TOO_LONG
    if b"\0" in raw:
        return NUL
    return "" if is_utf8(raw) else NOT_UTF8
