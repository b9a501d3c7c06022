"""The content of gzip and zstd files and of members of zips, by decoders that give no more than is asked for.

`zipfile` reads the lists of zips and not their members: it lets bzip2 and LZMA decode all they are given at once, and a
few kilobytes become gigabytes before anybody can count them.
"""

import bz2
import importlib
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import IO, Any, BinaryIO, Final, cast

from storemon_flask.errors import DataError, TooLarge

# What the content begins with; a name may say anything.
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
# Workbooks of old versions of Excel and those with a password; Parquet files. Other workbooks are zips.
TABLES: Final = (b"\xd0\xcf\x11\xe0", b"PAR1")
START_BYTES: Final = 4
# What this module raises at bytes that are not what they should be.
DAMAGED: Final = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
# What else zipfile does, and the decoders.
_ALSO_DAMAGED: Final = (NotImplementedError, IndexError, OverflowError, ValueError, struct.error)
# Of all zips of a load, and of every kind, also what is passed over.
MAX_ZIP_ENTRIES: Final = 10_000
MAX_ZIP_LIST_BYTES: Final = 4 << 20
# Honest files give something for each megabyte (bzip2 has the longest blocks). Others would be read to their end before
# anybody can count what came out, or stop the load.
MAX_IDLE_BYTES: Final = 4 << 20
# What the largest presets of 7-Zip and xz take. The decoder holds so much of what it has decoded.
MAX_DICTIONARY_BYTES: Final = 64 << 20
# Of a gzip member the rest of a chunk is copied when it ends, and members may be tiny.
_CHUNK_BYTES: Final = 1 << 14
_GZIP_ONLY: Final = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW_BITS: Final = MAX_DICTIONARY_BYTES.bit_length() - 1
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_ENCRYPTED: Final = 0x1
_DEFLATE64: Final = 9


class Allowance:
    """Counts the bytes that may still come out of the sources that share it, unpacked."""

    def __init__(self, most_bytes: int, remedy: str) -> None:
        """`remedy` ends the sentence: for what the limit is, and what to do."""
        self._most = most_bytes
        self._left = most_bytes
        self._remedy = remedy

    def take(self, name: str, size: int) -> None:
        """Count more bytes; `TooLarge` when these are too many: then nothing more may come, either."""
        self._left = max(self._left - size, -1)
        self.check(name, 0)

    def check(self, name: str, size: int) -> None:
        """Raise `TooLarge` when so many more bytes would be too many."""
        if size > self._left:
            raise TooLarge(
                f"{name} is larger, unpacked, than the {self._most // 1_000_000:,} MB that STOREMON_MAX_BODY_MB allows "
                f"{self._remedy}"
            )

    @cached_property
    def intermediate(self) -> "Allowance":
        """As many bytes again, for what is decoded only to be decoded once more."""
        return Allowance(self._most, self._remedy)


class _Inflate:
    """zlib with the interface of bz2 and lzma: it holds what it has not decoded yet."""

    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        """Return whether the stream has ended."""
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        """Return whether no input is held back."""
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """Return the bytes behind the end of the stream."""
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes, decoded from what was held back and then from `data`."""
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


_Decoder = _Inflate | bz2.BZ2Decompressor | lzma.LZMADecompressor


def _make_zstd_decoder(name: str) -> _Decoder:
    """Return a decoder of one zstd frame; `DataError` where this Python has none."""
    try:
        zstd = cast(Any, importlib.import_module("compression.zstd"))
    except ImportError:
        raise DataError(
            f"{name} is compressed by zstd, which is read with Python 3.14 or newer only; unpack it first (`zstd -d`)"
        ) from None
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_BITS}
    return cast(_Decoder, _Zstd(zstd.ZstdDecompressor(options=options), zstd.ZstdError))


class _Zstd:
    """A zstd decoder that raises what the others do."""

    def __init__(self, decoder: Any, error: type[Exception]) -> None:
        self._decoder = decoder
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes of the frame; `BadZipFile` when it is damaged."""
        try:
            return cast(bytes, self._decoder.decompress(data, max_length))
        except self._error as error:
            raise zipfile.BadZipFile(str(error)) from error


class Unpacked(io.RawIOBase):
    """A stream of what comes out of another. `consumed` is how much of the compressed bytes has been read."""

    def __init__(self) -> None:
        self.consumed = 0
        # What was looked at and is still to be read.
        self._ahead = b""
        # How much has been read since something came out.
        self._idle = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes; fewer at the end, or when very many had to be read for them."""
        if size < 0:
            return self.readall()
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        chunks, size = [ahead] if ahead else [], size - len(ahead)
        stop = self.consumed + size + MAX_IDLE_BYTES
        while size > 0 and self.consumed < stop and (chunk := self.read_some(size)):
            self._idle = 0
            chunks.append(chunk)
            size -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes, or as many as there are; they are read again."""
        while len(self._ahead) < size and (chunk := self.read_some(size - len(self._ahead))):
            self._ahead += chunk
        return self._ahead

    def _count(self, chunk: bytes) -> bytes:
        """Count what was read of the compressed bytes, and return it."""
        self.consumed += len(chunk)
        self._idle += len(chunk)
        if self._idle > MAX_IDLE_BYTES:
            raise zipfile.BadZipFile(f"nothing comes out of {MAX_IDLE_BYTES / 1e6:.0f} MB of it")
        return chunk

    def read_some(self, most: int) -> bytes:
        """Return at least one byte and at most so many; none at the end."""
        raise NotImplementedError


def _decode(decoder: _Decoder, more: Callable[[], bytes], most: int) -> bytes:
    """Return up to `most` bytes of what comes out of the decoder, fed by `more`; none at its end."""
    while not decoder.eof:
        chunk = more() if decoder.needs_input else b""
        try:
            data = decoder.decompress(chunk, most)
        except (OSError, ValueError) as error:
            # What bz2 raises for damaged data.
            raise zipfile.BadZipFile(str(error)) from error
        if data:
            return data
        if not chunk and decoder.needs_input and not decoder.eof:
            raise EOFError("it ends too early")
    return b""


class Gunzip(Unpacked):
    """The content of a gzip stream: of all its members, one after the other."""

    def __init__(self, stream: IO[bytes], allowance: Allowance | None = None, name: str = "") -> None:
        """`allowance` counts what is read of `stream` where that comes out of a decoder itself."""
        super().__init__()
        self._stream = stream
        self._allowance = allowance
        self._name = name
        self._decoder: _Decoder | None = None
        # What was read of the stream and belongs to no member yet.
        self._between = b""
        self._begun = False

    def read_some(self, most: int) -> bytes:
        """Return at least one byte and at most so many; none at the end."""
        while True:
            if self._decoder is None:
                # Members may be followed by zeros, as tapes need it.
                while not self._between:
                    chunk = self._more()
                    if not chunk:
                        return b""
                    self._between = chunk.lstrip(b"\0") if self._begun else chunk
                self._decoder, self._begun = self._make_decoder(), True
            data = _decode(self._decoder, self._more, most)
            if data:
                return data
            self._between = self._decoder.unused_data.lstrip(b"\0")
            self._decoder = None

    def _make_decoder(self) -> _Decoder:
        """Return the decoder of one member."""
        return _Inflate(_GZIP_ONLY)

    def _more(self) -> bytes:
        chunk, self._between = self._between, b""
        if chunk:
            return chunk
        chunk = self._stream.read(_CHUNK_BYTES)
        if self._allowance is not None:
            self._allowance.take(self._name, len(chunk))
        return self._count(chunk)

    def close(self) -> None:
        """Close the stream, too."""
        super().close()
        self._stream.close()


class Unzstd(Gunzip):
    """The content of a zstd stream: of all its frames, one after the other."""

    def _make_decoder(self) -> _Decoder:
        return _make_zstd_decoder(self._name or "it")


def is_packed(start: bytes) -> bool:
    """Return whether something that begins so is compressed, a zip, a workbook or a Parquet file."""
    return unpacker_of(start) is not None or holds_others(start)


def holds_others(start: bytes) -> bool:
    """Return whether something that begins so is a zip, a workbook or a Parquet file."""
    return start[:START_BYTES] in (*ZIP, *TABLES)


def unpacker_of(start: bytes) -> type[Gunzip] | None:
    """Return what unpacks a stream that begins so; None when it is not compressed."""
    return Gunzip if start.startswith(GZIP) else Unzstd if start.startswith(ZSTD) else None


class _Member(Unpacked):
    """The content of one member of a zip, by its entry in the list."""

    def __init__(self, file: BinaryIO, entry: zipfile.ZipInfo) -> None:
        super().__init__()
        self._file = file
        self._entry = entry
        try:
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER.size)
        except _ALSO_DAMAGED as error:
            raise zipfile.BadZipFile("a member begins outside the file") from error
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile("no member begins where the list says so")
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        self._at = entry.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        self._packed_left = entry.compress_size
        self._left = entry.file_size
        self._sum = 0
        self._decoder = self._make_decoder()

    def _make_decoder(self) -> _Decoder | None:
        """Return the decoder of the content; None when it is stored as it is."""
        how = self._entry.compress_type
        if how == zipfile.ZIP_STORED:
            return None
        if how == zipfile.ZIP_DEFLATED:
            return _Inflate(-zlib.MAX_WBITS)
        if how == zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor()
        return self._make_lzma_decoder()

    def _make_lzma_decoder(self) -> lzma.LZMADecompressor:
        start = self._more(9)
        if len(start) < 9 or start[2:4] != b"\5\0" or start[4] >= 9 * 5 * 5:
            raise zipfile.BadZipFile("it does not begin as LZMA does")
        # More than the whole content is never needed, whatever the compressor was set to.
        dictionary = min(int.from_bytes(start[5:9], "little"), max(self._entry.file_size, 1 << 12))
        if dictionary > MAX_DICTIONARY_BYTES:
            raise DataError(
                f"{self._entry.filename[:200]!r} takes {dictionary / 1e6:,.0f} MB of memory to unpack, and at most "
                f"{MAX_DICTIONARY_BYTES / 1e6:,.0f} MB are allowed; unpack it first, or compress it in the usual way "
                "(Deflate)"
            )
        rest, literal_bits = divmod(start[4], 9)
        lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": literal_bits, "lp": rest % 5, "pb": rest // 5}
        try:
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1])
        except _ALSO_DAMAGED as error:
            raise zipfile.BadZipFile(str(error)) from error

    def read_some(self, most: int) -> bytes:
        """Return at least one byte and at most so many; none at the end, where length and checksum are those of the
        list.
        """
        most = min(most, self._left)
        data = self._more(most) if self._decoder is None or not most else _decode(self._decoder, self._more, most)
        self._left -= len(data)
        self._sum = zlib.crc32(data, self._sum)
        if not data and self._left and self._decoder is None:
            raise EOFError("it ends too early")
        if not data and self._left:
            raise zipfile.BadZipFile("it is shorter than the list says")
        if not self._left and self._sum != self._entry.CRC:
            raise zipfile.BadZipFile("its checksum is not that of the list")
        return data

    def _more(self, most: int = 4 * _CHUNK_BYTES) -> bytes:
        # Others may read the same file between two calls.
        self._file.seek(self._at)
        chunk = self._file.read(min(most, self._packed_left))
        self._at += len(chunk)
        self._packed_left -= len(chunk)
        return self._count(chunk)

    def close(self) -> None:
        """Close the zip's file, too."""
        super().close()
        self._file.close()


def open_member(
    open_file: Callable[[], BinaryIO],
    entry: zipfile.ZipInfo,
    name: str,
    allowance: Allowance | None,
    unpack: bool = True,
) -> BinaryIO:
    """Return the content of a member, unpacked once more (unless not `unpack`) if it is compressed itself; `DataError`
    says why it cannot be read.

    `open_file` gives the zip's bytes, which are closed with the member. `allowance` is how much may come out of it.
    """
    file = open_file()
    try:
        if entry.flag_bits & _ENCRYPTED:
            raise DataError(f"{name} is encrypted; unpack it first")
        if entry.compress_type == _DEFLATE64:
            raise DataError(f"{name} is compressed by Deflate64, as Windows does with large files; unpack it first")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            raise DataError(
                f"{name} is compressed by method {entry.compress_type}, which is not read; unpack it first, or "
                "compress it in the usual way (Deflate)"
            )
        member = _Member(file, entry)
        start = member.peek(START_BYTES) if unpack else b""
        if start in ZIP:
            raise DataError(f"{name} is a zip inside a zip; unpack it first")
        unpacker = unpacker_of(start)
        if unpacker is not None:
            return cast(BinaryIO, unpacker(cast(IO[bytes], member), allowance and allowance.intermediate, name))
        if allowance is not None:
            # What it says of itself is the most that is ever taken of it.
            allowance.check(name, entry.file_size)
    except BaseException:
        file.close()
        raise
    return cast(BinaryIO, member)


class _ListView:
    """A zip's file for `zipfile`, which reads the whole list of members at once, however long a zip says that it is."""

    def __init__(self, file: IO[bytes], most_bytes: int) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self.bytes_left = most_bytes

    def read(self, size: int = -1) -> bytes:
        """Read from the file; `TooLarge` when the list of members is longer than allowed."""
        if size < 0:
            # The end of the file, where it says where its list is.
            return self._read(MAX_ZIP_LIST_BYTES)
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise TooLarge(_TOO_MANY)
        return self._read(size)


_TOO_MANY: Final = (
    f"the zips of one load may list at most {MAX_ZIP_ENTRIES:,} members of any kind, in "
    f"{MAX_ZIP_LIST_BYTES / 1e6:.0f} MB; load them in several parts, or without what is no CSV"
)


class ZipLists:
    """Reads the lists of the zips of one load, which together may not be too long."""

    def __init__(self) -> None:
        self._entries_left = MAX_ZIP_ENTRIES
        self._bytes_left = MAX_ZIP_LIST_BYTES

    def read(self, file: IO[bytes]) -> list[zipfile.ZipInfo]:
        """Return the entries of a zip, in its own order; `TooLarge` when there are too many, one of `DAMAGED` when it
        is none.
        """
        view = _ListView(file, self._bytes_left)
        try:
            with zipfile.ZipFile(cast(IO[bytes], view)) as archive:
                entries = archive.infolist()
        except UnicodeDecodeError:
            raise zipfile.BadZipFile("a name in its list is not UTF-8 text") from None
        except _ALSO_DAMAGED as error:
            raise zipfile.BadZipFile(str(error)) from error
        finally:
            self._bytes_left = view.bytes_left
        self._entries_left -= len(entries)
        if self._entries_left < 0:
            raise TooLarge(_TOO_MANY)
        in_order = sorted(entries, key=lambda entry: entry.header_offset)
        for entry, following in pairwise(in_order):
            if entry.header_offset + _LOCAL_HEADER.size + entry.compress_size > following.header_offset:
                # So a zip becomes a million times as long: each member contains the next.
                raise zipfile.BadZipFile("its members overlap")
        return entries
