"""Finding what to load: files, folders, `.gz` and `.zip`, as named streams of bytes."""

import gzip
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, Final

from storemon_flask.errors import DataError

# What zipfile, gzip and their codecs raise at bytes that are not what they should be.
_DAMAGED: Final = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    NotImplementedError,
    UnicodeDecodeError,
    IndexError,
    struct.error,
)
_ENDINGS: Final = (".csv", ".csv.gz", ".zip")


@dataclass(frozen=True, slots=True)
class Source:
    """One CSV to read: the name shown, the bytes it takes on disk (for progress), and how to open it.

    `path` is the longer name, for when two files of a load have the same. `form` is csv, json or ndjson; `feed` says which
    feed it must be, and for JSON, which it is.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    path: str = ""
    form: str = "csv"
    feed: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was named or found and cannot be read, with the sentence that says why."""

    name: str
    sentence: str
    path: str = ""


def find(paths: list[Path]) -> list[Source | Unreadable]:
    """The sources of files and folders, in the order given; a folder's in name order, not recursively."""
    found: list[Source | Unreadable] = []
    for path in paths:
        try:
            found.extend(_folder(path) if path.is_dir() else _file(path, named=True))
        except OSError as error:
            found.append(Unreadable(str(path), f"{path} cannot be read: {error.strerror or error}"))
    names = Counter(source.name for source in found)
    return [source if names[source.name] == 1 else replace(source, name=source.path) for source in found]


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The source's bytes; what goes wrong while reading is a `DataError` with a sentence."""
    try:
        with source.open() as stream:
            yield stream
    except _DAMAGED as error:
        raise DataError(f"{source.name} is damaged or cut short ({error}); copy or export it again") from error
    except OSError as error:
        raise DataError(f"{source.name} cannot be read: {error.strerror or error}") from error


def _folder(folder: Path) -> list[Source | Unreadable]:
    names = sorted(entry.name for entry in os.scandir(folder) if _wanted(entry.name) and entry.is_file())
    if not names:
        sentence = f"{folder} holds no file named *.csv, *.csv.gz or *.zip"
        return [Unreadable(str(folder), sentence)]
    return [source for name in names for source in _file(folder / name, named=False)]


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(_ENDINGS)


def _file(path: Path, named: bool) -> list[Source | Unreadable]:
    # A file name need not be text; what is shown and kept must be.
    name = os.fsencode(path if named else path.name).decode("utf-8", "replace")
    if not path.exists():
        return [Unreadable(name, f"{path} does not exist")]
    if not path.is_file():
        return [Unreadable(name, f"{path} is neither a file nor a folder")]
    if not os.access(path, os.R_OK):
        return [Unreadable(name, f"{path} cannot be read: permission denied")]
    size = path.stat().st_size
    if path.name.lower().endswith(".zip"):
        return members(name, str(path), lambda: zipfile.ZipFile(path))
    if path.name.lower().endswith(".gz"):
        return [Source(name, size, lambda: gzip.GzipFile(path), str(path))]  # type: ignore[arg-type,return-value]
    return [Source(name, size, lambda: path.open("rb", buffering=0), str(path))]


def members(name: str, path: str, archive: Callable[[], zipfile.ZipFile]) -> list[Source | Unreadable]:
    """The CSVs of a zip, in name order; what macOS adds, dot files and everything else are passed over.

    `archive` opens it anew each time; `name` and `path` are how it is shown, shorter and longer.
    """
    try:
        with archive() as opened_zip:
            found = sorted(
                (info for info in opened_zip.infolist() if not info.is_dir() and _is_csv_member(info.filename)),
                key=lambda info: info.filename,
            )
    except _DAMAGED as error:
        return [Unreadable(name, f"{path} is not a zip that can be read ({error})")]
    if not found:
        return [Unreadable(name, f"{path} holds no file named *.csv or *.csv.gz")]
    return [
        Source(
            f"{name}/{printable(info.filename)}",
            info.compress_size,
            _member_opener(path, info.filename, archive),
            f"{path}/{printable(info.filename)}",
        )
        for info in found
    ]


def printable(name: str) -> str:
    """A name that somebody else chose, as it can be shown and kept: its first 200 characters, none that steers a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:200])


def _is_csv_member(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" not in parts and not parts[-1].startswith(".") and name.lower().endswith((".csv", ".csv.gz"))


class _GzipMember(gzip.GzipFile):
    """A .gz inside a zip: closing it closes the member too, which `GzipFile` leaves to whoever opened it."""

    def __init__(self, member: IO[bytes]) -> None:
        super().__init__(fileobj=member)
        self._member = member

    def close(self) -> None:
        """Close both."""
        super().close()
        self._member.close()


def _member_opener(path: str, member: str, archive: Callable[[], zipfile.ZipFile]) -> Callable[[], BinaryIO]:
    def open_member() -> BinaryIO:
        opened_zip = archive()
        try:
            stream = opened_zip.open(member)
        except RuntimeError as error:
            # So zipfile says that a password is needed.
            raise DataError(f"{member} in {path} cannot be opened: {error}; unpack it first") from error
        finally:
            # An open member keeps the archive's file open for as long as it needs it.
            opened_zip.close()
        if member.lower().endswith(".gz"):
            return _GzipMember(stream)  # type: ignore[return-value]
        return stream  # type: ignore[return-value]

    return open_member
