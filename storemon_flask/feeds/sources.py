"""Finding what to load: files, folders, `.gz` and `.zip`, as named streams of bytes."""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, cast

from storemon_flask.errors import DataError, TooLarge
from storemon_flask.feeds import archives
from storemon_flask.feeds.archives import Allowance, Gunzip, ZipLists

# Each file of a load has a row in the database, and lists of a load show all of them.
MAX_FILES: Final = 1_000
_ENDINGS: Final = (".csv", ".csv.gz", ".zip")
_MEMBER_ENDINGS: Final = (".csv", ".csv.gz")
_MOST_FILES: Final = (
    f"one load takes at most {MAX_FILES:,}; load them in several parts, or join files of one feed: a file may have any number "
    "of rows"
)
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
_LINK_OUT: Final = "a link that leads out of the folder; copy the file there, or name it itself"
# What browsers and file managers add to the name of a second copy: " (1)", " - Copy", " copy 2", " (another copy)".
_COPY_MARK: Final = r" ?\(\d{1,4}\)| - copy| copy(?: \d{1,4})?| \((?:another |\d{1,4}(?:st|nd|rd|th) )?copy\)"
_LONGEST_NAME: Final = 255
_COPY: Final = re.compile(rf"(?P<before>.+?)(?P<marks>(?:{_COPY_MARK}){{1,4}})(?P<ending>(?:\.[^./]*)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One CSV to read: the name shown, the bytes it takes on disk (for progress), and how to open it.

    `path` is the longer name, for when two files of a load have the same. `form` is csv, json or ndjson, or empty: then
    the content shows it, whatever `label`, its media type, says. `feed` says which feed it must be, and for JSON, which
    it is. `allowance` is what may come out of it, shared with others where they have one limit (None: as much as there
    is).
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    path: str = ""
    form: str = "csv"
    feed: str = ""
    label: str = ""
    allowance: Allowance | None = None


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


class Finding:
    """Collects what is found for one load, within the limits on how much of it there may be."""

    def __init__(self, allowance: Callable[[], Allowance | None]) -> None:
        """`allowance` gives that of the next compressed file: its own, or the one that all share."""
        self.allowance = allowance
        self.found: list[Found] = []
        self.zip_lists = ZipLists()
        self._files = 0

    def add(self, found: Iterable[Found]) -> None:
        """More of it; `TooLarge` when that is too much."""
        for one in found:
            self.found.append(one)
            self._files += not isinstance(one, PassedOver)
            if self._files > MAX_FILES:
                raise TooLarge(f"there are more than {MAX_FILES:,} files, those in zips among them, and {_MOST_FILES}")


def find(paths: list[Path], most_bytes: int | None = None) -> list[Found]:
    """The sources of files and folders, in the order given; a folder's in name order, not recursively.

    `most_bytes` may come out of each compressed file (None: as many as there are); of a zip, out of all its members.
    """

    def allowance() -> Allowance | None:
        remedy = "of one compressed file; set it higher, or unpack the file first"
        return None if most_bytes is None else Allowance(most_bytes, remedy)

    finding = Finding(allowance)
    for path in paths:
        try:
            finding.add(_folder(path, finding) if path.is_dir() else _file(path, None, finding))
        except OSError as error:
            finding.add([Unreadable(str(path), f"{path} cannot be read: {error.strerror or error}")])
    names = Counter(source.name for source in finding.found)
    return [source if names[source.name] == 1 else replace(source, name=source.path) for source in finding.found]


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The source's bytes; what goes wrong while reading is a `DataError` with a sentence."""
    if source.allowance is not None:
        # Others may have used it up.
        source.allowance.check(source.name, 0)
    try:
        with source.open() as stream:
            yield stream
    except archives.DAMAGED as error:
        raise DataError(f"{source.name} is damaged or cut short ({error}); copy or export it again") from error
    except OSError as error:
        raise DataError(f"{source.name} cannot be read: {error.strerror or error}") from error


def copy_order(name: str) -> tuple[str, list[int], str]:
    """A key that sorts names as text, but `hours (1).csv`, `hours (10).csv` and `hours - Copy.csv` after `hours.csv`."""
    folder, slash, last = name.rpartition("/")
    # No file of a disk has a longer name, and one in a zip may have 65,535 letters, which take minutes to match.
    copy = _COPY.fullmatch(last) if len(last) <= _LONGEST_NAME else None
    if copy is None:
        return _unpacked(name), [], name
    numbers = []
    for mark in re.findall(_COPY_MARK, copy["marks"], re.IGNORECASE):
        digits = re.search(r"\d+", mark)
        numbers.append(int(digits[0]) if digits else 2 if "another" in mark.lower() else 1)
    return _unpacked(f"{folder}{slash}{copy['before']}{copy['ending']}"), numbers, name


def _unpacked(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _folder(folder: Path, finding: Finding) -> list[Found]:
    names, others = [], []
    inside = _Inside(folder)
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not inside.holds(entry.path):
            others.append((entry.name, _LINK_OUT))
        elif entry.name.lower().endswith(_ENDINGS) and Path(entry.path).is_file():
            names.append(entry.name)
        elif not _NEVER_DATA.fullmatch(entry.name):
            others.append((entry.name, _why_not(entry)))
    found: list[Found] = [
        source for name in sorted(names, key=copy_order) for source in _file(folder / name, inside, finding)
    ]
    if not names:
        found.append(Unreadable(str(folder), f"{folder} holds no file named *.csv, *.csv.gz or *.zip"))
    return found + [
        PassedOver(printable(_text(name)), reason, printable(_text(str(folder / name))))
        for name, reason in sorted(others, key=lambda other: copy_order(other[0]))
    ]


class _Inside:
    """A folder that was named, for links in it: who may put files there may not choose which others are read."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)

    def holds(self, path: str) -> bool:
        """Whether the path, with all links followed, is in the folder or below it."""
        return os.path.realpath(path).startswith(os.path.join(self._folder, ""))


def _why_not(entry: "os.DirEntry[str]") -> str:
    """Why something in a folder is not read."""
    if Path(entry.path).is_dir():
        return "a folder; folders inside a folder are not searched"
    if not Path(entry.path).is_file():
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


def _file(path: Path, inside: _Inside | None, finding: Finding) -> list[Found]:
    """What a file holds: one that was named itself, or lies in a folder (`inside`) that was."""
    name = _text(str(path) if inside is None else path.name)
    if not path.exists():
        return [Unreadable(name, f"{path} does not exist")]
    if not path.is_file():
        return [Unreadable(name, f"{path} is neither a file nor a folder")]
    if not os.access(path, os.R_OK):
        return [Unreadable(name, f"{path} cannot be read: permission denied")]
    size = path.stat().st_size
    opener = partial(_open, path, inside)
    if path.name.lower().endswith(".zip"):
        return members(name, str(path), opener, finding, closes=True)
    if path.name.lower().endswith(".gz"):
        return [Source(name, size, lambda: gunzipped(opener(), closes=True), str(path), allowance=finding.allowance())]
    return [Source(name, size, opener, str(path))]


def _open(path: Path, inside: _Inside | None) -> BinaryIO:
    """The file's bytes. What was a file when the folder was searched may be something else by now."""
    # Opening a pipe would wait for somebody to write into it.
    more_flags, name = getattr(os, "O_NONBLOCK", 0), str(path)
    if inside is not None:
        name = os.path.realpath(path)
        more_flags |= getattr(os, "O_NOFOLLOW", 0)
        if not inside.holds(name):
            raise DataError(f"{_text(path.name)} is {_LINK_OUT}")
    stream = open(name, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | more_flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise DataError(f"{_text(str(path))} is neither a file nor a folder")
    return stream


def members(name: str, path: str, open_file: Callable[[], BinaryIO], finding: Finding, *, closes: bool) -> list[Found]:
    """The CSVs of a zip, in name order, then what is passed over; what macOS adds and dot files are not mentioned.

    `open_file` gives the zip's bytes, for the list and for each member; `closes`: they are to be closed each time.
    `name` and `path` are how it is shown, shorter and longer.
    """
    file = open_file()
    try:
        entries = finding.zip_lists.read(file)
    except archives.DAMAGED as error:
        return [Unreadable(name, f"{path} is not a zip that can be read ({error})")]
    except TooLarge as error:
        return [Unreadable(name, f"{path}: {error.message}")]
    finally:
        if closes:
            file.close()
    inside = sorted(
        (entry for entry in entries if entry.filename and not entry.is_dir() and not _is_hidden(entry.filename)),
        key=lambda entry: copy_order(entry.filename),
    )
    feeds = [entry for entry in inside if entry.filename.lower().endswith(_MEMBER_ENDINGS)]
    if not feeds and any(entry.filename in _WORKBOOK_PARTS for entry in inside):
        return [Unreadable(name, f"{path} is a workbook; save each of its sheets as CSV")]
    if len(feeds) > MAX_FILES:
        return [Unreadable(name, f"{path} holds {len(feeds):,} files, and {_MOST_FILES}")]
    found: list[Found] = []
    allowance = finding.allowance()
    packed_allowance = allowance and allowance.another()
    for entry, shown in zip(feeds, numbered(printable(entry.filename) for entry in feeds), strict=True):
        opener = partial(_open_member, open_file, entry, f"{name}/{shown}", closes, allowance, packed_allowance)
        found.append(Source(f"{name}/{shown}", entry.compress_size, opener, f"{path}/{shown}", allowance=allowance))
    if not found:
        found.append(Unreadable(name, f"{path} holds no file named *.csv or *.csv.gz"))
    return found + [
        PassedOver(
            f"{name}/{printable(entry.filename)}",
            _why_not_named(entry.filename, _MEMBER_ENDINGS),
            f"{path}/{printable(entry.filename)}",
        )
        for entry in inside
        if not entry.filename.lower().endswith(_MEMBER_ENDINGS)
        and not _NEVER_DATA.fullmatch(entry.filename.split("/")[-1])
    ]


def _open_member(
    open_file: Callable[[], BinaryIO],
    entry: zipfile.ZipInfo,
    name: str,
    closes: bool,
    allowance: Allowance | None,
    packed_allowance: Allowance | None,
) -> BinaryIO:
    return archives.open_member(
        open_file(), entry, name, closes=closes, allowance=allowance, packed_allowance=packed_allowance
    )


def numbered(names: Iterable[str]) -> Iterator[str]:
    """The names, the second of one name as `name (2)`."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def printable(name: str) -> str:
    """A name that somebody else chose, as it can be shown and kept: its first 200 characters, none that steers a
    terminal.
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:200])


def gunzipped(
    stream: BinaryIO, *, closes: bool = False, allowance: Allowance | None = None, name: str = ""
) -> BinaryIO:
    """What comes out of a gzip stream; the arguments are those of `Gunzip`."""
    return cast(BinaryIO, Gunzip(stream, closes=closes, allowance=allowance, name=name))


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")
