"""What comes over HTTP as sources: a body, and uploaded files, plain, gzipped or zips, told apart by their first bytes."""

import gzip
import io
import zipfile
from collections import Counter
from collections.abc import Iterable
from functools import cache, partial
from typing import IO, Any, BinaryIO, Final

from storemon_flask.ingest import sources
from storemon_flask.ingest.sources import Found, Source

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")


class _Archive(zipfile.ZipFile):
    """A zip that stays open, for its stream is the request's: to read its list anew for each of many members takes long."""

    def close(self) -> None:
        """Nothing is given back before the stream is."""


class _Body(io.RawIOBase):
    """A request's stream with a place in it, which the server's own need not have; `ahead` was read of it before."""

    def __init__(self, stream: Any, ahead: bytes = b"") -> None:
        self._stream = stream
        self._ahead = ahead
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something; 0 at the end."""
        data = self._ahead[: len(buffer)] or self._stream.read(len(buffer))
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        """How much has been read."""
        return self._at


def body(stream: Any, size: int, form: str, feed: str, packed: bool) -> Source:
    """A request's body. `form` is csv, json, ndjson, or empty: then its first byte that is not blank tells JSON from CSV."""
    ahead = b""
    if not form and not packed:
        while not ahead.strip() and len(ahead) < 1 << 16:
            piece = stream.read(1024)
            ahead += piece
            if not piece:
                break
        packed = ahead.startswith(_GZIP)
        form = "json" if ahead.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else "csv"
    whole: BinaryIO = io.BufferedReader(_Body(stream, ahead), 1 << 18)
    if packed:
        return Source("body", size, partial(_unpacked, whole), form=form or "csv", feed=feed)
    return Source("body", size, partial(_same, whole), form=form, feed=feed)


def files(uploads: Iterable[tuple[str, IO[bytes]]]) -> list[Found]:
    """The CSVs of uploaded files; each is (the name it came with, a stream that can go back to its start).

    The second of one name is shown as `name (2)`.
    """
    found: list[Found] = []
    seen: Counter[str] = Counter()
    for number, (name, stream) in enumerate(uploads, start=1):
        shown = _shown(name) or f"file {number}"
        seen[shown] += 1
        if seen[shown] > 1:
            shown = f"{shown} ({seen[shown]})"
        start = stream.read(4)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if start in _ZIP:
            found += sources.members(shown, shown, cache(partial(_Archive, stream)))
        elif start.startswith(_GZIP):
            found.append(Source(shown, size, partial(_unpacked, stream)))
        else:
            found.append(Source(shown, size, partial(_same, stream)))
    return found


def _unpacked(stream: IO[bytes]) -> BinaryIO:
    return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]


def _same(stream: IO[bytes]) -> BinaryIO:
    return stream  # type: ignore[return-value]


def _shown(name: str) -> str:
    """The name without folders and without what no name needs, at most 200 characters."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return sources.printable(base)
