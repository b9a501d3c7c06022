"""A file's bytes as blocks of whole lines, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from storemon_flask.errors import DataError
from storemon_flask.ingest import records
from storemon_flask.ingest.feeds import Header, recognise
from storemon_flask.ingest.records import MAX_LINE_BYTES, MAX_RECORD_BYTES
from storemon_flask.ingest.rejects import TEXT_CHARACTERS

BLOCK_BYTES: Final = 4 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file; `line` is the number of the first. `overlong` is the start of a line too long to hold.

    `last` says that no record of it can go on after it: the file ends, or a line follows that is too long for that.
    """

    line: int
    data: bytes
    last: bool
    overlong: bytes = b""


class BlockReader:
    """Reads the header, then the blocks after it. `give_back` puts an unfinished record before the next block."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[bytes], None], block_bytes: int = BLOCK_BYTES) -> None:
        """`on_bytes` is told everything that is read, in order (for the hash and the progress bar)."""
        self._stream = stream
        self._on_bytes = on_bytes
        self._size = block_bytes
        self._held = b""
        self._ended = False
        self._line = 1
        self._wanted = block_bytes

    def header(self) -> Header:
        """The file's header; `DataError` when the file is empty, not text, or no feed."""
        while len(self._held) < len(_BOM) and not self._ended:
            self._fill()
        if self._held.startswith(_UTF16):
            raise DataError("the file is UTF-16, not UTF-8; save it as CSV UTF-8")
        self._held = self._held.removeprefix(_BOM)
        while True:
            while not (stop := self._break_after(0)) and not self._ended and len(self._held) < MAX_LINE_BYTES:
                self._fill()
            raw, self._held = self._held[: stop or None], self._held[stop:] if stop else b""
            self._line += 1
            if len(raw) >= MAX_LINE_BYTES:
                raise DataError(
                    f"its first line has no end within {MAX_LINE_BYTES:,} bytes; this is no CSV with a header"
                )
            if b"\0" in raw:
                raise DataError("its first line contains NUL bytes; this is no CSV (UTF-16, or a binary file?)")
            if raw.strip():
                return recognise(_decoded(raw))
            if not stop:
                raise DataError("the file is empty")

    def give_back(self, unfinished: bytes) -> None:
        """Put the end of the block just handed out before the next one."""
        self._held = unfinished + self._held
        self._line -= records.count_lines(unfinished)
        # Without more than was there before, the same record would end unfinished again.
        self._wanted = len(self._held) + self._size

    def __iter__(self) -> Iterator[Block]:
        while True:
            piece = b""
            while not self._ended and len(self._held) + len(piece) < self._wanted:
                self._held += piece
                piece = self._read()
            self._wanted = self._size
            if cut := _after_last_break(piece):
                # The usual case, in one copy.
                data, self._held = b"".join((self._held, memoryview(piece)[:cut])), piece[cut:]
                yield self._handed(data, last=len(self._held) > MAX_RECORD_BYTES)
                continue
            self._held += piece
            if self._ended:
                if self._held:
                    data, self._held = self._held, b""
                    yield self._handed(data, last=True)
                return
            if cut := _after_last_break(self._held):
                data, self._held = self._held[:cut], self._held[cut:]
                yield self._handed(data, last=len(self._held) > MAX_RECORD_BYTES)
            elif len(self._held) - self._held.endswith(b"\r") > MAX_LINE_BYTES:
                yield Block(self._line, b"", False, self._skip_line())
            else:
                self._fill()

    def _handed(self, data: bytes, last: bool) -> Block:
        block = Block(self._line, data, last)
        self._line += records.count_lines(data)
        return block

    def _break_after(self, start: int) -> int:
        """Where the line that begins at `start` ends, its break included; 0 when it has no end yet."""
        newline = self._held.find(b"\n", start)
        lone = self._held.find(b"\r", start, newline if newline >= 0 else len(self._held))
        if lone >= 0 and lone + 1 != newline and (lone + 1 < len(self._held) or self._ended):
            return lone + 1
        return newline + 1

    def _skip_line(self) -> bytes:
        """Read over a line without an end, holding only its start."""
        start = self._held[: 8 * TEXT_CHARACTERS]
        self._line += 1
        while not (stop := self._break_after(0)) and not self._ended:
            # A return at the end may be the first half of \r\n, or the break itself.
            self._held = b"\r" if self._held.endswith(b"\r") else b""
            self._fill()
        self._held = self._held[stop:] if stop else b""
        return start

    def _fill(self) -> None:
        self._held += self._read()

    def _read(self) -> bytes:
        """The next piece of the file; nothing once it has ended."""
        piece = self._stream.read(self._size)
        if piece:
            self._on_bytes(piece)
        else:
            self._ended = True
        return piece


def _after_last_break(data: bytes) -> int:
    """Where the last line of these that has an end, ends; 0 when none has. A return at the very end may be half of `\\r\\n`."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError("the header is not UTF-8 text; save the file as CSV UTF-8") from None
