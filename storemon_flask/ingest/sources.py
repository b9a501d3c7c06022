"""Finding what to load: files, folders, `.gz` and `.zip`, as named streams of bytes."""

import gzip
import lzma
import os
import re
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
_MEMBER_ENDINGS: Final = (".csv", ".csv.gz")
# Nobody expects these to be read, so nobody need be told that they were not.
_NEVER_DATA: Final = re.compile(
    r"(readme|licen[cs]e|copying|changelog)(\.[a-z]+)?|thumbs\.db|desktop\.ini", re.IGNORECASE
)
_WHY_NOT: Final = (
    ((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"), "a workbook; save it as CSV"),
    ((".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), "an archive of another kind; unpack it first"),
    ((".zip",), "a zip inside a zip; unpack it first"),
    ((".json", ".jsonl", ".ndjson"), "JSON is taken over HTTP only"),
)
# A file that every workbook of Excel, and one that every workbook of LibreOffice has: they are zips, too.
_WORKBOOK_PARTS: Final = ("[Content_Types].xml", "content.xml")
# What browsers and file managers add to the name of a second copy: " (1)", " - Copy", " copy 2", " (another copy)".
_COPY_MARK: Final = r" ?\(\d{1,4}\)| - copy| copy(?: \d{1,4})?| \((?:another |\d{1,4}(?:st|nd|rd|th) )?copy\)"
_COPY: Final = re.compile(rf"(?P<before>.+?)(?P<marks>(?:{_COPY_MARK})+)(?P<ending>(?:\.[^./]*)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One CSV to read: the name shown, the bytes it takes on disk (for progress), and how to open it.

    `path` is the longer name, for when two files of a load have the same. `form` is csv, json or ndjson, or empty: then the
    content shows it, whatever `label`, its media type, says. `feed` says which feed it must be, and for JSON, which it is.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    path: str = ""
    form: str = "csv"
    feed: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was named or found and cannot be read, with the sentence that says why."""

    name: str
    sentence: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Something in a folder or a zip that is not read, and why."""

    name: str
    reason: str
    path: str = ""


Found = Source | Unreadable | PassedOver


def find(paths: list[Path]) -> list[Found]:
    """The sources of files and folders, in the order given; a folder's in name order, not recursively."""
    found: list[Found] = []
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


def copy_order(name: str) -> tuple[str, list[int], str]:
    """A key that sorts names as text, but `hours (1).csv`, `hours (10).csv` and `hours - Copy.csv` after `hours.csv`."""
    folder, slash, last = name.rpartition("/")
    copy = _COPY.fullmatch(last)
    if copy is None:
        return _unpacked(name), [], name
    numbers = []
    for mark in re.findall(_COPY_MARK, copy["marks"], re.IGNORECASE):
        digits = re.search(r"\d+", mark)
        numbers.append(int(digits[0]) if digits else 2 if "another" in mark.lower() else 1)
    return _unpacked(f"{folder}{slash}{copy['before']}{copy['ending']}"), numbers, name


def _unpacked(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _folder(folder: Path) -> list[Found]:
    names, others = [], []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(_ENDINGS) and entry.is_file():
            names.append(entry.name)
        elif not _NEVER_DATA.fullmatch(entry.name):
            others.append((entry.name, _why_not(entry)))
    found: list[Found] = [
        source for name in sorted(names, key=copy_order) for source in _file(folder / name, named=False)
    ]
    if not names:
        found.append(Unreadable(str(folder), f"{folder} holds no file named *.csv, *.csv.gz or *.zip"))
    return found + [
        PassedOver(printable(_text(name)), reason, printable(_text(str(folder / name))))
        for name, reason in sorted(others, key=lambda other: copy_order(other[0]))
    ]


def _why_not(entry: "os.DirEntry[str]") -> str:
    """Why something in a folder is not read."""
    if entry.is_dir():
        return "a folder; folders inside a folder are not searched"
    if not entry.is_file():
        return "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
    return _why_not_named(entry.name, _ENDINGS)


def _why_not_named(name: str, endings: tuple[str, ...]) -> str:
    """Why a file of that name is not read where the names of files must have one of the endings."""
    for others, reason in _WHY_NOT:
        if name.lower().endswith(others):
            return reason
    *first, last = (f"*{ending}" for ending in endings)
    return f"not named {', '.join(first)} or {last}"


def _text(name: str) -> str:
    """A file name need not be text; what is shown and kept must be."""
    return os.fsencode(name).decode("utf-8", "replace")


def _file(path: Path, named: bool) -> list[Found]:
    name = _text(str(path) if named else path.name)
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


def members(name: str, path: str, archive: Callable[[], zipfile.ZipFile]) -> list[Found]:
    """The CSVs of a zip, in name order, then what is passed over; what macOS adds and dot files are not mentioned.

    `archive` opens it anew each time; `name` and `path` are how it is shown, shorter and longer.
    """
    try:
        with archive() as opened_zip:
            inside = sorted(
                (info for info in opened_zip.infolist() if not info.is_dir() and not _is_hidden(info.filename)),
                key=lambda info: copy_order(info.filename),
            )
    except _DAMAGED as error:
        return [Unreadable(name, f"{path} is not a zip that can be read ({error})")]
    found: list[Found] = [
        Source(
            f"{name}/{printable(info.filename)}",
            info.compress_size,
            _member_opener(path, info.filename, archive),
            f"{path}/{printable(info.filename)}",
        )
        for info in inside
        if info.filename.lower().endswith(_MEMBER_ENDINGS)
    ]
    if not found and any(info.filename in _WORKBOOK_PARTS for info in inside):
        return [Unreadable(name, f"{path} is a workbook; save each of its sheets as CSV")]
    if not found:
        found.append(Unreadable(name, f"{path} holds no file named *.csv or *.csv.gz"))
    return found + [
        PassedOver(
            f"{name}/{printable(info.filename)}",
            _why_not_named(info.filename, _MEMBER_ENDINGS),
            f"{path}/{printable(info.filename)}",
        )
        for info in inside
        if not info.filename.lower().endswith(_MEMBER_ENDINGS)
        and not _NEVER_DATA.fullmatch(info.filename.split("/")[-1])
    ]


def printable(name: str) -> str:
    """A name that somebody else chose, as it can be shown and kept: its first 200 characters, none that steers a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:200])


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")


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
