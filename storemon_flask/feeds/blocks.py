"""A file's bytes as blocks of whole records, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from storemon_flask.errors import DataError
from storemon_flask.feeds import records
from storemon_flask.feeds.headers import Header, recognise
from storemon_flask.feeds.records import MAX_RECORD_BYTES, EndFinder, Record
from storemon_flask.feeds.rejects import TEXT_CHARACTERS
from storemon_flask.model import Ints

BLOCK_BYTES: Final = 4 << 20
MAX_HEADER_BYTES: Final = 1 << 20
_BREAK_BYTES: Final = len("\r\n")
# The start of a record that is too long to hold.
_START_BYTES: Final = 4 * TEXT_CHARACTERS + 4
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of a file; `line` is the number of the first line. `last`: the file ends with it.

    `quoted` says whether there are quotes in it, `edges` where quoted fields begin and end; `one`, that it is one
    record longer than a block. With a `problem` it stands for one record that cannot be held, of which `data` is the
    start.
    """

    line: int
    data: bytes
    last: bool
    quoted: bool = False
    one: bool = False
    problem: str = ""
    edges: Ints = field(default_factory=records.no_ints, compare=False)

    def records(self, header: Header) -> Iterator[Record]:
        """The records one by one."""
        if self.problem:
            return iter((Record(self.line, [], records.text_of(self.data), self.problem),))
        return records.split(self.data, self.line, header.width, header.columns, self.edges, one=self.one)


class BlockReader:
    """Reads the header, then the blocks after it."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[bytes], None], block_bytes: int = BLOCK_BYTES) -> None:
        """`on_bytes` is told everything that is read, in order (for the hash and the progress bar)."""
        self._stream = stream
        self._on_bytes = on_bytes
        self._size = block_bytes
        # What was read and begins with a record.
        self._held = b""
        self._ended = False
        self._line = 1

    def header(self) -> Header:
        """The file's header; `DataError` when the file is empty, not text, or no feed."""
        while len(self._held) < len(_BOM) and not self._ended:
            self._held += self._read()
        if self._held.startswith(_UTF16):
            raise DataError("the file is UTF-16, not UTF-8; save it as CSV UTF-8")
        self._held = self._held.removeprefix(_BOM)
        while True:
            self._skip_blank_lines()
            raw = self._header_line()
            if b"\0" in raw:
                raise DataError("its first line contains NUL bytes; this is no CSV (UTF-16, or a binary file?)")
            if raw.strip():
                return recognise(_decoded(raw))
            if not self._held and self._ended:
                raise DataError("the file is empty")

    def _skip_blank_lines(self) -> None:
        """Go on to the first line that is not blank.

        One by one, with what follows copied for each, a megabyte took an hour.
        """
        while True:
            blank = len(self._held) - len(self._held.lstrip())
            whole = blank == len(self._held)
            # A return at the very end may be half of a line break.
            end = max(blank - 1, 0) if whole and not self._ended else blank
            stop = max(self._held.rfind(b"\n", 0, blank), self._held.rfind(b"\r", 0, end)) + 1
            self._line += records.count_lines(self._held[:stop])
            self._held = self._held[stop:]
            if not whole or self._ended or (self._held and not stop):
                return
            self._held += self._read()

    def _header_line(self) -> bytes:
        """The next record with its line break, of those among which the header is."""
        finder, raw, stop = EndFinder(), b"", -1
        piece = self._held or self._read()
        while piece and stop < 0:
            stop = finder.find(piece)
            raw += piece if stop < 0 else piece[:stop]
            self._held = b"" if stop < 0 else piece[stop:]
            if len(raw) >= MAX_HEADER_BYTES:
                raise DataError(
                    f"its first line has no end within {MAX_HEADER_BYTES:,} bytes; this is no CSV with a header"
                )
            piece = b"" if stop >= 0 else self._read()
        if finder.open:
            raise DataError("a quote in its first line is never closed; this is no CSV with a header")
        self._line += records.count_lines(raw)
        return raw

    def __iter__(self) -> Iterator[Block]:
        while True:
            piece = b""
            while not self._ended and len(self._held) + len(piece) < self._size:
                self._held += piece
                piece = self._read()
            if b'"' in piece or b'"' in self._held:
                yield self._quoted(self._held + piece)
            elif cut := _after_last_break(piece):
                # The usual case, in one copy.
                data, self._held = b"".join((self._held, memoryview(piece)[:cut])), piece[cut:]
                yield self._block(data)
            elif self._held or piece:
                yield self._unbroken(self._held + piece)
            if self._ended and not self._held:
                return

    def _unbroken(self, data: bytes) -> Block:
        """What is held and was read, without a quote in it, when the last piece has no line break."""
        cut = len(data) if self._ended else _after_last_break(data)
        if not cut:
            return self._long(data)
        self._held = data[cut:]
        return self._block(data[:cut])

    def _quoted(self, data: bytes) -> Block:
        """What is held and was read, with quotes in it."""
        edges = records.quote_edges(data)
        whole = self._ended and not len(edges) % 2
        cut = len(data) if whole else records.last_end(data, edges)
        if not cut:
            return self._long(data)
        self._held = data[cut:]
        return self._block(data[:cut], edges[: int(edges.searchsorted(cut))])

    def _block(self, data: bytes, edges: Ints | None = None) -> Block:
        line = self._line
        self._line += records.count_lines(data)
        last = self._ended and not self._held
        if edges is None:
            return Block(line, data, last)
        return Block(line, data, last, quoted=b'"' in data, edges=edges)

    def _long(self, piece: bytes) -> Block:
        """One record that begins with this piece and goes on behind it: whole, or its start when it is too long to
        hold.
        """
        finder, line, size, returned = EndFinder(), self._line, 0, False
        pieces: list[bytes] = []
        stop = -1
        while piece and stop < 0:
            stop = finder.find(piece)
            part = piece if stop < 0 else piece[:stop]
            self._held = b"" if stop < 0 else piece[stop:]
            self._line += records.count_lines(part) - (returned and part.startswith(b"\n"))
            returned = part.endswith(b"\r")
            size += len(part)
            pieces.append(part)
            if size - MAX_RECORD_BYTES > _BREAK_BYTES:
                pieces = [b"".join(pieces)[:_START_BYTES]]
            piece = b"" if stop >= 0 else self._read()
        data = b"".join(pieces)
        last = self._ended and not self._held
        if finder.open:
            return Block(line, data[:_START_BYTES], last, problem=records.UNCLOSED)
        if size - MAX_RECORD_BYTES > _BREAK_BYTES or len(data.rstrip(b"\r\n")) > MAX_RECORD_BYTES:
            start = data[:_START_BYTES] if size > _START_BYTES else data.rstrip(b"\r\n")
            return Block(line, start, last, problem=records.TOO_LONG)
        return Block(line, data, last, quoted=b'"' in data, one=True)

    def _read(self) -> bytes:
        """The next piece of the file; nothing once it has ended."""
        piece = self._stream.read(self._size)
        if piece:
            self._on_bytes(piece)
        else:
            self._ended = True
        return piece


def _after_last_break(data: bytes) -> int:
    """Where the last line of these that has an end, ends; 0 when none has.

    A return at the very end may be half of `\\r\\n`.
    """
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError("the header is not UTF-8 text; save the file as CSV UTF-8") from None
