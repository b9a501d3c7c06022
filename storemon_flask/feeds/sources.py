"""What a load reads: files, folders, `.gz`, `.zip`, workbooks, request bodies and uploads, each CSV as a named stream
of bytes, each sheet as its rows.

What something is, its content says and not its name, which only says whether a file in a folder or zip is meant.
"""

import io
import mmap
import os
import re
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from storemon_flask.errors import DataError, NoTemporaryRoom, TooLarge
from storemon_flask.feeds import archives, json_rows, workbooks
from storemon_flask.feeds.archives import (
    START_BYTES,
    TABLES,
    ZIP,
    Allowance,
    Gunzip,
    ZipLists,
    holds_others,
    unpacker_of,
)
from storemon_flask.feeds.csv_exact import BlockReader, Record

# Each file of a load has a row in the database, and lists of a load show all of them.
MAX_FILES: Final = 1_000
_MEMBER_ENDINGS: Final = (".csv", ".csv.gz", ".csv.zst")
_FILE_ENDINGS: Final = (*_MEMBER_ENDINGS, ".zip")
# Of a file with such a name in a folder or a zip, the start is looked at: it may be a letter.
_TEXT_ENDINGS: Final = (".tsv", ".tsv.gz", ".txt", ".txt.gz")
_TEXT_BYTES: Final = 1 << 16
_NO_HEADER: Final = "it does not begin with the header of a feed"
_MOST_FILES: Final = (
    f"one load takes at most {MAX_FILES:,}; load them in several parts, or join files of one feed: a file may have "
    "any number "
    "of rows"
)
# There while Excel has a file open.
_LOCK: Final = "~$"
# Nobody expects these to be read, so they are skipped without a note.
_NEVER_DATA: Final = re.compile(
    r"(readme|licen[cs]e|copying|changelog)(\.[a-z]+)?|thumbs\.db|desktop\.ini", re.IGNORECASE
)
_REASONS: Final = (
    ((".numbers",), "a workbook of Numbers; save it as CSV"),
    ((".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), "an archive of another kind; unpack it first"),
    ((".zip",), "a zip inside a zip; unpack it first"),
    ((".json", ".jsonl", ".ndjson"), "JSON is taken over HTTP and from standard input only"),
)
_LINK_OUT: Final = "a link that leads out of the folder; copy the file there, or name it itself"
# What browsers and file managers add to the name of a second copy: " (1)", " - Copy", " copy 2", " (another copy)".
_COPY_MARK: Final = r" ?\(\d{1,4}\)| - copy| copy(?: \d{1,4})?| \((?:another |\d{1,4}(?:st|nd|rd|th) )?copy\)"
_LONGEST_NAME: Final = 255
_COPY: Final = re.compile(rf"(?P<before>.+?)(?P<marks>(?:{_COPY_MARK}){{1,4}})(?P<ending>(?:\.[^./]*)*)", re.IGNORECASE)

# A file that is gzipped may be sent gzipped once more.
_MOST_LAYERS: Final = 2
# How much of a body is looked at before it is known what it is.
_AHEAD_BYTES: Final = 1 << 20
_BUFFER_BYTES: Final = 1 << 18
# Blanks, and the bytes of a byte order mark.
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_JSON_LIST: Final = re.compile(rb"[\xef\xbb\xbf \t\r\n]*\[\s*[\[{\]]")
_MEDIA_TYPES: Final = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/jsonlines": "ndjson",
    "application/x-jsonlines": "ndjson",
}
_FORMAT_NAMES: Final = {"csv": "CSV", "json": "JSON", "ndjson": "NDJSON"}


@dataclass(frozen=True, slots=True)
class Source:
    """One CSV or JSON to read: the name shown, the bytes it takes on disk (for progress), and how to open it.

    `path` is the longer name, for when two files of a load have the same. `format` is csv, json, ndjson, sheet (of
    which `open` gives `SheetRows`), or empty: then the content shows it, whatever its `media_type`. `feed` says which
    feed it must be, and for JSON, which it is. `allowance` is how much may come out of it, shared with others where
    they have one limit (None: as much as there is). `records` are its rows, in batches, where something else reads
    them: fields in the feed's order; that reader adds its notes to `notes` meanwhile.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    path: str = ""
    format: str = "csv"
    feed: str = ""
    media_type: str = ""
    allowance: Allowance | None = None
    records: Iterable[list[Record]] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was named, or is there, and cannot be read; `reason` is a sentence."""

    name: str
    reason: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a folder or a zip that is not read, and why."""

    name: str
    reason: str
    path: str = ""


LoadItem = Source | Unreadable | Skipped


class _Items:
    """The items of one load, within the limits on how many files and how long zip lists there may be."""

    def __init__(self, allowance: Callable[[], Allowance | None], check: Callable[[], None] = lambda: None) -> None:
        """`allowance` gives that of the next compressed file: its own, or the one that all share. `check` is called
        while workbooks are looked at.
        """
        self.allowance = allowance
        self.check = check
        self.all: list[LoadItem] = []
        self.zip_lists = ZipLists()
        self._files = 0

    def add(self, items: Iterable[LoadItem]) -> None:
        """Add more; `TooLarge` when these are too many."""
        for item in items:
            self.all.append(item)
            self._files += not isinstance(item, Skipped)
            if self._files > MAX_FILES:
                raise TooLarge(f"there are more than {MAX_FILES:,} files, those in zips among them, and {_MOST_FILES}")


def find_sources(paths: list[Path], most_bytes: int | None = None) -> list[LoadItem]:
    """Return what files and folders hold, in the order given; a folder's files in name order, not recursively.

    `most_bytes` may come out of each compressed file (None: as many as there are); of a zip, out of all its members.
    """

    def allowance() -> Allowance | None:
        """Return how many bytes one file may unpack to; None when that is not limited."""
        return None if most_bytes is None else _file_allowance(most_bytes)

    items = _Items(allowance)
    for path in paths:
        try:
            items.add(_folder(path, items) if path.is_dir() else _file(path, None, items))
        except OSError as error:
            items.add([Unreadable(str(path), f"{path} cannot be read: {error.strerror or error}")])
    names = Counter(item.name for item in items.all)
    return [item if names[item.name] == 1 else replace(item, name=item.path) for item in items.all]


def body_source(stream: Any, size: int, media_type: str, feed: str, gzipped: bool, most_bytes: int) -> Source:
    """Return a request's body as a source; its format is detected when it is read. At most `most_bytes` may come out
    of it.
    """
    body: BinaryIO = io.BufferedReader(_Body(stream), _BUFFER_BYTES)
    return Source(
        "body",
        size,
        lambda: gunzip(body) if gzipped else body,
        format="",
        feed=feed,
        media_type=media_type,
        allowance=_request_allowance(most_bytes),
    )


def stream_items(name: str, stream: BinaryIO, size: int, feed: str, most_bytes: int) -> list[LoadItem]:
    """Return what a stream that cannot go back holds; waits for its first bytes, and for all of a zip.

    Formats are detected when it is read. `most_bytes` may come out of it if it is compressed.
    """
    start = stream.read(START_BYTES)
    body: BinaryIO = io.BufferedReader(_Body(stream, start), _BUFFER_BYTES)
    if holds_others(start):
        items = _upload(name, cast(BinaryIO, _spool_mapped(body)), _Items(lambda: _file_allowance(most_bytes)))
        return [replace(item, feed=feed) if isinstance(item, Source) else item for item in items]
    allowance = _file_allowance(most_bytes) if unpacker_of(start) else None
    return [Source(name, size, lambda: body, format="", feed=feed, allowance=allowance)]


def _file_allowance(most_bytes: int) -> Allowance:
    return Allowance(most_bytes, "of one compressed file; set it higher, or unpack the file first")


def small_body_source(body: bytes, media_type: str, feed: str) -> Source:
    """Return a request's body that was read whole, and is not packed, as a source that can be opened again."""
    return Source("body", len(body), lambda: io.BytesIO(body), format="", feed=feed, media_type=media_type)


def upload_sources(
    uploads: Iterable[tuple[str, IO[bytes]]], most_bytes: int, check: Callable[[], None] = lambda: None
) -> list[LoadItem]:
    """Return what uploaded files hold; each is (the name it came with, a stream that can go back to its start).

    The second of one name is shown as `name (2)`. At most `most_bytes` may come out of all of them. `check` is called
    now and then, and raises when this is to end.
    """
    allowance = _request_allowance(most_bytes)
    items = _Items(lambda: allowance, check)
    sent = list(uploads)
    names = (printable(re.split(r"[/\\]", name)[-1]) for name, _ in sent)
    shown = _number_names(name or f"file {number}" for number, name in enumerate(names, start=1))
    for name, (_, stream) in zip(shown, sent, strict=True):
        items.add(_upload(name, cast(BinaryIO, stream), items))
    return items.all


def _upload(name: str, stream: BinaryIO, items: _Items) -> list[LoadItem]:
    start = stream.read(START_BYTES)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if start in ZIP:
        return _members(name, name, lambda: cast(BinaryIO, _LeftOpen(stream)), size, items)
    if start in TABLES:
        return _sheets(name, name, lambda: cast(BinaryIO, _LeftOpen(stream)), size, items)
    return [Source(name, size, lambda: _unpack(stream, start, name), allowance=items.allowance())]


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Give the source's bytes; what goes wrong while they are read is a `DataError` with a sentence."""
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


# Files and folders


def copy_order(name: str) -> tuple[str, list[int], str]:
    """A key that sorts names as text, but `hours (1).csv`, `hours (10).csv`, `hours - Copy.csv` after `hours.csv`."""
    folder, slash, last = name.rpartition("/")
    # No file of a disk has a longer name, and one in a zip may have 65,535 letters, which take minutes to match.
    copy = _COPY.fullmatch(last) if len(last) <= _LONGEST_NAME else None
    if copy is None:
        return _without_gz(name), [], name
    numbers = []
    for mark in re.findall(_COPY_MARK, copy["marks"], re.IGNORECASE):
        digits = re.search(r"\d+", mark)
        numbers.append(int(digits[0]) if digits else 2 if "another" in mark.lower() else 1)
    return _without_gz(f"{folder}{slash}{copy['before']}{copy['ending']}"), numbers, name


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _folder(folder: Path, items: _Items) -> list[LoadItem]:
    names, others = [], []
    root = os.path.realpath(folder)
    for entry in os.scandir(folder):
        if entry.name.startswith((".", _LOCK)):
            continue
        if entry.is_symlink() and not _is_inside(root, entry.path):
            others.append((entry.name, _LINK_OUT))
        elif _is_meant(entry, root):
            names.append(entry.name)
        elif not _NEVER_DATA.fullmatch(entry.name):
            others.append((entry.name, _reason(entry)))
    sources = [source for name in sorted(names, key=copy_order) for source in _file(folder / name, root, items)]
    if not names:
        sources.append(Unreadable(str(folder), f"{folder} holds no workbook and no file {_named(_FILE_ENDINGS)}"))
    sources += _without_feed(str(folder), str(folder), _FILE_ENDINGS, sources)
    return sources + [
        Skipped(printable(_text(name)), reason, printable(_text(str(folder / name))))
        for name, reason in sorted(others, key=lambda other: copy_order(other[0]))
    ]


def _is_meant(entry: "os.DirEntry[str]", root: str) -> bool:
    """Whether a file in a folder is one to read: by its name, or by the header that a text begins with."""
    name, path = entry.name.lower(), Path(entry.path)
    endings = _FILE_ENDINGS + workbooks.ENDINGS
    if not name.endswith(endings + _TEXT_ENDINGS) or not path.is_file():
        return False
    return name.endswith(endings) or (
        not _NEVER_DATA.fullmatch(entry.name) and _begins_with_header(lambda: _open_unpacked(path, root))
    )


def _begins_with_header(open_file: Callable[[], BinaryIO]) -> bool:
    """Whether the bytes that `open_file` gives begin with the header of a feed."""
    try:
        with closing(open_file()) as stream:
            BlockReader(io.BytesIO(stream.read(_TEXT_BYTES)), lambda data: None)
    except (DataError, OSError, *archives.DAMAGED):
        return False
    return True


def _is_inside(root: str, path: str) -> bool:
    """Whether the path, with all links followed, is below the root: who may put files there may not choose which
    others are read.
    """
    return os.path.realpath(path).startswith(os.path.join(root, ""))


def _reason(entry: "os.DirEntry[str]") -> str:
    """Why something in a folder is not read."""
    if Path(entry.path).is_dir():
        return "a folder; folders inside a folder are not searched"
    if not Path(entry.path).is_file():
        return "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
    return _reason_by_name(entry.name, _FILE_ENDINGS)


def _reason_by_name(name: str, endings: tuple[str, ...]) -> str:
    """Why a file of that name is not read where the names of files must have one of the endings."""
    if name.lower().endswith(_TEXT_ENDINGS):
        return _NO_HEADER
    for others, reason in _REASONS:
        if name.lower().endswith(others):
            return reason
    return f"no workbook, and not {_named(endings)}"


def _named(endings: tuple[str, ...]) -> str:
    *first, last = (f"*{ending}" for ending in endings)
    return f"named {', '.join(first)} or {last}"


def _text(name: str) -> str:
    """A file name need not be text; what is shown and stored must be."""
    return os.fsencode(name).decode("utf-8", "replace")


def _file(path: Path, root: str | None, items: _Items) -> list[LoadItem]:
    """What a file holds: one that was named itself, or lies in a folder that was, whose real path is `root`."""
    name = _text(str(path) if root is None else path.name)
    if not path.exists():
        return [Unreadable(name, f"{path} does not exist")]
    if not path.is_file():
        return [Unreadable(name, f"{path} is neither a file nor a folder")]
    if not os.access(path, os.R_OK):
        return [Unreadable(name, f"{path} cannot be read: permission denied")]
    size = path.stat().st_size
    opener = partial(_open, path, root)
    start = _read_start(opener)
    if unpacker_of(start) is not None:
        return [Source(name, size, lambda: _unpack(opener(), start, str(path)), str(path), allowance=items.allowance())]
    if start in ZIP or (path.name.lower().endswith(".zip") and not _begins_with_header(opener)):
        return _members(name, str(path), opener, size, items, alone=root is None)
    if start in TABLES:
        return _sheets(name, str(path), opener, size, items, alone=root is None)
    return [Source(name, size, opener, str(path))]


def _read_start(open_file: Callable[[], BinaryIO]) -> bytes:
    """The first bytes of a file; none when it cannot be read, which its reader will say."""
    try:
        with closing(open_file()) as stream:
            return stream.read(START_BYTES)
    except (DataError, OSError):
        return b""


def _open_unpacked(path: Path, root: str) -> BinaryIO:
    """Open a file for its content."""
    return _unpack(_open(path, root), _read_start(partial(_open, path, root)), path.name)


def _unpack(stream: BinaryIO, start: bytes, name: str) -> BinaryIO:
    """What comes out of a stream that begins so; the stream itself when it is not compressed."""
    unpacker = unpacker_of(start)
    return stream if unpacker is None else cast(BinaryIO, unpacker(stream, name=name))


def _open(path: Path, root: str | None) -> BinaryIO:
    """Open the file. What was a file when the folder was searched may be something else by now."""
    # Opening a pipe would wait for somebody to write into it.
    more_flags, name = getattr(os, "O_NONBLOCK", 0), str(path)
    if root is not None:
        name = os.path.realpath(path)
        more_flags |= getattr(os, "O_NOFOLLOW", 0)
        if not _is_inside(root, name):
            raise DataError(f"{_text(path.name)} is {_LINK_OUT}")
    stream = open(name, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | more_flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise DataError(f"{_text(str(path))} is neither a file nor a folder")
    return stream


def _members(
    name: str, path: str, open_file: Callable[[], BinaryIO], size: int, items: _Items, alone: bool = True
) -> list[LoadItem]:
    """The CSVs and workbooks of a zip, in name order, then what is skipped; what macOS adds and dot files are not
    mentioned. Of a zip that is a workbook itself, its sheets (`alone`: as `_sheets`).

    `open_file` gives the zip's bytes, for the list and for each member. `name` and `path` are how it is shown,
    shorter and longer.
    """
    try:
        with closing(open_file()) as file:
            entries = items.zip_lists.read(file)
    except archives.DAMAGED as error:
        return [Unreadable(name, f"{path} is not a zip that can be read ({error})")]
    except TooLarge as error:
        return [Unreadable(name, f"{path}: {error.message}")]
    if workbooks.is_workbook(entries):
        return _zipped_sheets(name, path, open_file, entries, size, items, alone)
    entries = sorted(
        (entry for entry in entries if entry.filename and not entry.is_dir() and not _is_hidden(entry.filename)),
        key=lambda entry: copy_order(entry.filename),
    )
    feeds = [entry for entry in entries if _is_meant_member(open_file, entry)]
    meant = set(feeds)
    if not feeds:
        sources: list[LoadItem] = [Unreadable(name, f"{path} holds no workbook and no file {_named(_MEMBER_ENDINGS)}")]
    elif len(feeds) > MAX_FILES:
        return [Unreadable(name, f"{path} holds {len(feeds):,} files, and {_MOST_FILES}")]
    else:
        sources = []
        allowance = items.allowance()
        for entry, shown in zip(feeds, _number_names(printable(entry.filename) for entry in feeds), strict=True):
            opener = partial(archives.open_member, open_file, entry, f"{name}/{shown}", allowance)
            size = entry.compress_size
            if entry.filename.lower().endswith(workbooks.ENDINGS):
                sources += _workbook_in_zip(f"{name}/{shown}", f"{path}/{shown}", opener, entry, items)
            else:
                sources.append(Source(f"{name}/{shown}", size, opener, f"{path}/{shown}", allowance=allowance))
        sources += _without_feed(name, path, _MEMBER_ENDINGS, sources)
    return sources + [
        Skipped(
            f"{name}/{printable(entry.filename)}",
            _reason_by_name(entry.filename, _MEMBER_ENDINGS),
            f"{path}/{printable(entry.filename)}",
        )
        for entry in entries
        if entry not in meant and not _NEVER_DATA.fullmatch(entry.filename.split("/")[-1])
    ]


def _workbook_in_zip(
    name: str, path: str, opener: Callable[..., BinaryIO], entry: zipfile.ZipInfo, items: _Items
) -> list[LoadItem]:
    """The sheets of a workbook that is a member of a zip; it is copied to be read, and again for each sheet."""
    if not entry.file_size:
        return [Unreadable(name, f"{path} is empty")]
    allowance = items.allowance()

    def open_copy() -> BinaryIO:
        """Unpack the workbook into a temporary file and return that, at its start."""
        with closing(opener(unpack=False)) as member:
            copy = _spool(member)
        copy.seek(0)
        return cast(BinaryIO, copy)

    try:
        if allowance is not None:
            allowance.take(name, entry.file_size)
        with closing(open_copy()) as copy:
            start = copy.read(START_BYTES)
            entries = items.zip_lists.read(copy) if start in ZIP else []
    except (DataError, OSError, *archives.DAMAGED) as error:
        return [Unreadable(name, f"{path} cannot be read: {getattr(error, 'message', error)}")]
    if workbooks.is_workbook(entries):
        return _zipped_sheets(name, path, open_copy, entries, entry.compress_size, items, alone=False)
    if start in TABLES:
        return _sheets(name, path, open_copy, entry.compress_size, items, alone=False)
    # Many a program gives a text the name of a workbook. Of a zip, its reader says that it is one inside another.
    return [Source(name, entry.compress_size, opener, path, allowance=allowance)]


def _zipped_sheets(
    name: str,
    path: str,
    open_file: Callable[[], BinaryIO],
    entries: list[zipfile.ZipInfo],
    size: int,
    items: _Items,
    alone: bool,
) -> list[LoadItem]:
    """The sheets of a workbook that is a zip of these members; arguments as of `_sheets`."""
    allowance = items.allowance()
    try:
        if allowance is not None:
            allowance.take(name, sum(entry.file_size for entry in entries))
    except TooLarge as error:
        return [Unreadable(name, error.message)]
    return _sheets(name, path, open_file, size, items, alone)


def _without_feed(name: str, path: str, endings: tuple[str, ...], items: list[LoadItem]) -> list[LoadItem]:
    """What is wrong with a folder or zip in which there is nothing but workbooks that are passed over; else nothing."""
    skipped = [item for item in items if isinstance(item, Skipped)]
    if len(skipped) < len(items):
        return []
    first = "".join(f"; {item.name}: {item.reason}" for item in skipped[:1])
    return [Unreadable(name, f"{path} holds no workbook with a feed and no file {_named(endings)}{first}")]


def _sheets(
    name: str, path: str, open_file: Callable[[], BinaryIO], size: int, items: _Items, alone: bool = True
) -> list[LoadItem]:
    """The sheets of a workbook, those that are no feeds with the reason. A workbook without a feed is passed over
    unless it stands `alone`: it may lie in a folder or zip for other reasons.
    """
    try:
        with closing(_numbered(open_file())) as file:
            sheets = workbooks.list_sheets(file, items.check)
    except (DataError, OSError) as error:
        return [Unreadable(name, f"{path}: {getattr(error, 'message', error)}")]
    feeds = [sheet for sheet in sheets if sheet.feed or sheet.meant]
    if not feeds:
        reason = workbooks.reason_without_feed(sheets)
        return [Unreadable(name, f"{path}: {reason}") if alone else Skipped(name, reason, path)]
    load_items: list[LoadItem] = []
    for sheet, shown in zip(sheets, _number_names(printable(sheet.name) for sheet in sheets), strict=True):
        item_name, item_path = (f"{name}/{shown}", f"{path}/{shown}") if sheet.name else (name, path)
        if sheet.feed:
            opener = partial(_open_sheet, open_file, sheet)
            load_items.append(Source(item_name, size // len(feeds), opener, item_path, format="sheet"))
        elif sheet.meant:
            load_items.append(Unreadable(item_name, f"{item_path}: {sheet.reason}", item_path))
        else:
            # What a header must have is nothing to know of a sheet of notes.
            load_items.append(Skipped(item_name, sheet.reason.partition("; expected")[0], item_path))
    return load_items


def _open_sheet(open_file: Callable[[], BinaryIO], sheet: workbooks.Sheet) -> BinaryIO:
    return cast(BinaryIO, workbooks.SheetRows(_numbered(open_file()), sheet))


def _numbered(stream: BinaryIO) -> IO[bytes]:
    """The stream, if it is a file of the system, which another process can read; otherwise a copy of it."""
    if isinstance(stream, io.FileIO):
        return stream
    with closing(stream):
        stream.seek(0)
        return _spool(stream)


def _is_meant_member(open_file: Callable[[], BinaryIO], entry: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is one to read: by its name, or by the header that a text begins with."""
    name = entry.filename.lower()
    if not name.endswith(_TEXT_ENDINGS):
        return name.endswith(_MEMBER_ENDINGS + workbooks.ENDINGS)
    return not _NEVER_DATA.fullmatch(name.split("/")[-1]) and _begins_with_header(
        lambda: archives.open_member(open_file, entry, name, None)
    )


def _is_hidden(name: str) -> bool:
    folders = name.split("/")
    return "__MACOSX" in folders or folders[-1].startswith((".", _LOCK))


def _number_names(names: Iterable[str]) -> Iterator[str]:
    """The names, the second of one name as `name (2)`."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def printable(name: str) -> str:
    """A name that somebody else chose, as it can be shown and stored: its first 200 characters, none that steers a
    terminal.
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:200])


def gunzip(stream: BinaryIO, allowance: Allowance | None = None, name: str = "") -> BinaryIO:
    """What comes out of a gzip stream; the arguments are those of `Gunzip`."""
    return cast(BinaryIO, Gunzip(stream, allowance, name))


# Bodies and uploads


class _LeftOpen:
    """A zip that was uploaded, for its list and each member in turn: closing it does nothing."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell

    def close(self) -> None:
        """Do nothing: the upload is read again for the next member."""


class _Body(io.RawIOBase):
    """A request's stream; `ahead` was read of it before."""

    def __init__(self, stream: Any, ahead: bytes = b"") -> None:
        self._stream = stream
        self._ahead = ahead

    def readable(self) -> bool:
        """Return True: a body can always be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, first what was read ahead, and return the bytes read."""
        data = self._ahead[: len(buffer)] or self._stream.read(len(buffer))
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _request_allowance(most_bytes: int) -> Allowance:
    return Allowance(most_bytes, "for all of a request; send it in parts, or have that setting raised")


def detect_format(
    stream: BinaryIO,
    media_type: str,
    allowance: Allowance | None = None,
    layers: int = _MOST_LAYERS,
    check: Callable[[], None] = lambda: None,
) -> tuple[BinaryIO, str, str]:
    """Return the bytes of a body, unpacked; its format: csv, json, ndjson or sheet; and a sentence where its media type
    says otherwise.

    A sheet is one of a workbook, as `SheetRows`. The content decides: `[` begins a JSON list and `{` an object, or
    NDJSON when one of the first two lines is an object by itself. Anything else is CSV, unless it is labelled as JSON
    and its first line is no header. What is gzipped is unpacked, at most `layers` times; `allowance` is how much may
    come out of it. `check` is called while a workbook is looked at, and raises when this is to end.
    """
    ahead = b""
    while (
        len(ahead) < _AHEAD_BYTES
        and (not ahead.strip(_BLANK) or len(ahead) < START_BYTES)
        and (chunk := stream.read(1024))
    ):
        ahead += chunk
    unpacker = unpacker_of(ahead)
    if unpacker is not None or holds_others(ahead):
        if not layers:
            # There are files that hold themselves.
            raise DataError("it is compressed again and again; unpack it first")
        body = io.BufferedReader(_Body(stream, ahead), _BUFFER_BYTES)
        unpacked = (
            _open_only_feed(body, allowance, check)
            if unpacker is None
            else cast(BinaryIO, unpacker(body, allowance and allowance.intermediate, "body"))
        )
        if isinstance(unpacked, workbooks.SheetRows):
            return unpacked, "sheet", ""
        return detect_format(unpacked, media_type, allowance, layers - 1, check)
    label = _MEDIA_TYPES.get(media_type, "json" if media_type.endswith("+json") else "")
    start = ahead.lstrip(_BLANK)[:1]
    format = label or "csv"
    if start == b"[" and (label != "csv" or _JSON_LIST.match(ahead)):
        format = "json"
    elif start == b"{" and label != "ndjson":
        ahead, lines = _first_lines(stream, ahead, 2)
        format = "ndjson" if any(json_rows.is_object(line) for line in lines) else "json"
    elif start and start != b"{" and label in ("json", "ndjson"):
        ahead, lines = _first_lines(stream, ahead, 1)
        format = "csv" if _is_header(lines[0]) else label
    note = ""
    if label and (label == "csv") != (format == "csv"):
        note = f"its Content-Type is {media_type}, but it is {_FORMAT_NAMES[format]}, and was read so"
    return io.BufferedReader(_Body(stream, ahead), _BUFFER_BYTES), format, note


def _open_only_feed(stream: BinaryIO, allowance: Allowance | None, check: Callable[[], None]) -> BinaryIO:
    """Return the content of a zip's one CSV, or the rows of a workbook's one sheet; `DataError` when there is none, or
    several: a body is one feed.
    """
    items = _upload("body", cast(BinaryIO, _spool_mapped(stream)), _Items(lambda: allowance, check))
    (first, *others) = (item for item in items if not isinstance(item, Skipped))
    if isinstance(first, Source) and not others:
        return first.open()
    if isinstance(first, Unreadable) and not others:
        raise DataError(first.reason)
    raise DataError(
        f"it holds {len(others) + 1:,} CSVs or sheets, and this address takes one feed; send it to /api/v1/feeds "
        "(`curl -F file=@FILE`)"
    )


class _Mapped:
    """A file that is mapped, and gone with the last who reads it: closing it does nothing."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self.read, self.tell = mapped.read, mapped.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; behind the end, where a damaged zip may point, there is nothing."""
        cast(Any, self._mapped).seek(min(offset, len(self._mapped)), whence)
        return self._mapped.tell()

    def close(self) -> None:
        """Do nothing: the file goes when nobody reads it any more."""


def _spool_mapped(stream: BinaryIO) -> _Mapped:
    """Return a stream that has bytes as one that can go back."""
    with _spool(stream) as file:
        return _Mapped(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _spool(stream: BinaryIO) -> IO[bytes]:
    """Copy a stream into a temporary file, which is gone once it is closed."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    except OSError as error:
        raise _no_temporary_room(error) from error
    try:
        while chunk := stream.read(_BUFFER_BYTES):
            _write(file, chunk)
    except BaseException:
        file.close()
        raise
    return file


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise _no_temporary_room(error) from error


def _no_temporary_room(error: OSError) -> NoTemporaryRoom:
    return NoTemporaryRoom(
        f"the folder for temporary files cannot be written ({error.strerror or error}), so nothing of this was stored; "
        "make room there, or start the server with TMPDIR set to a folder that has more"
    )


def _first_lines(stream: BinaryIO, ahead: bytes, count: int) -> tuple[bytes, list[bytes]]:
    """What was read of the stream, now with its first lines that are not blank; and those lines, as far as they are
    not too long.
    """
    at = len(ahead) - len(ahead.lstrip(_BLANK))
    while len(ahead) < _AHEAD_BYTES:
        lines = [line for line in ahead[at:].split(b"\n", 2 * count)[:-1] if line.strip()]
        if len(lines) >= count or not (chunk := stream.read(_BUFFER_BYTES)):
            break
        ahead += chunk
    lines = [line for line in ahead[at:].split(b"\n", 2 * count) if line.strip()]
    return ahead, lines[:count]


def _is_header(line: bytes) -> bool:
    try:
        BlockReader(io.BytesIO(line), lambda data: None)
    except DataError:
        return False
    return True
