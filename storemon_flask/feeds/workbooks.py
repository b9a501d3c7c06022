"""Workbooks and Parquet files: which of their sheets are feeds, and the rows of one, read by a process of its own.

That process (`table_process`) has limits of memory and time. However it ends, there is a sentence.
"""

import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final, cast

from storemon_flask.errors import DataError
from storemon_flask.feeds import table_process
from storemon_flask.feeds.csv_exact import Record
from storemon_flask.feeds.schema import Header, columns_of, recognise_names, record_header
from storemon_flask.version import single_file

ENDINGS: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".parquet")
# What the process may take: addresses, and seconds of a processor. Excel's longest sheet, full of polls, takes 400 MB
# and 20 s. pyarrow maps 330 MB before it reads anything.
_MEMORY_BYTES: Final = 512 << 20
_PARQUET_MEMORY_BYTES: Final = 768 << 20
_CPU_S: Final = 60
# All of one workbook together.
WORKBOOK_CPU_S: Final = 180.0
_CHECK_EVERY_S: Final = 0.2
# A process that is ended is gone at once.
_PATIENCE_S: Final = 10.0
# More than any batch takes: up to 5,000 rows, or a million characters and one row more.
_MOST_FRAME_BYTES: Final = 64 << 20
# Of how a sheet's text grows when it is unpacked, for a bar of progress.
_TEXT_PER_BYTE: Final = 4
_SHEETS_NAMED: Final = 5

_KINDS: Final = {
    "store_id": "store_id",
    "timestamp_utc": "timestamp",
    "date": "date",
    "valid_from": "date",
    "start_time_local": "time",
    "end_time_local": "time",
}
_REASONS: Final = {
    table_process.NO_WORKBOOK: (
        "it is damaged, or no workbook that can be read; open it and save it again, or save its sheets as CSV"
    ),
    table_process.PASSWORD: "it is protected by a password; save it without one",
    table_process.TOO_LARGE: (
        f"it is larger, unpacked, than {table_process.MOST_UNPACKED_BYTES // 1_000_000:,} MB; save its sheets as CSV, "
        "which may have any size"
    ),
    table_process.NO_ROOM: (
        "the folder for temporary files has no room for a copy of it, which its error values need; make room there, or "
        "set TMPDIR to a folder that has more"
    ),
    table_process.NO_CALAMINE: "python-calamine, which reads workbooks, is not installed; save its sheets as CSV",
    table_process.NO_PARQUET: (
        "it is a Parquet file that is damaged, encrypted or of a kind that is not read; write it again, or as CSV"
    ),
}
_PARQUET_EXTRA: Final = "it is a Parquet file; to have it read, install storemon with pip install 'storemon[parquet]'"
_PARQUET_SINGLE_FILE: Final = "it is a Parquet file, which the single file does not read; convert it to CSV"
_TOO_MUCH: Final = "it takes more than {} MB of memory to read, or is damaged; save it as CSV, which may have any size"
_TOO_SLOW: Final = "it takes more than {:g} s to read; save it as CSV, which may have any size"
_NOT_STARTED: Final = "the process that reads workbooks cannot be started here; save it as CSV"

Check = Callable[[], None]


class ReadingTime:
    """How long the processes for one workbook may still work: there is one for each sheet, which looks at all of it."""

    def __init__(self) -> None:
        self._left_s = WORKBOOK_CPU_S

    def next_s(self) -> int:
        """Return how long the next may work; `DataError` when there is nothing left."""
        if self._left_s <= 0:
            raise DataError(_TOO_SLOW.format(WORKBOOK_CPU_S))
        return min(_CPU_S, math.ceil(self._left_s))

    def take(self, seconds: float) -> None:
        """Count how long one worked."""
        self._left_s -= seconds


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet: its name (empty in a Parquet file), its number from 0, and the feed that it is.

    Without a feed, `reason` says why; `meant` that there is the header of one, but not where it must be. `header_row`
    is the row of the header, `columns` are the feed's: where each stands (-1: nowhere), its name, its kind. `time` is
    that of all sheets.
    """

    name: str
    number: int
    feed: str = ""
    reason: str = ""
    meant: bool = False
    header_row: int = 0
    columns: tuple[tuple[int, str, str], ...] = ()
    tags: tuple[str, ...] = ()
    time: ReadingTime = field(default_factory=ReadingTime, compare=False)


def is_workbook(entries: Iterable[zipfile.ZipInfo]) -> bool:
    """Return whether a zip of these members is a workbook of Excel or OpenDocument."""
    names = {entry.filename for entry in entries}
    of_excel = "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names)
    return of_excel or {"mimetype", "content.xml"} <= names


def list_sheets(file: IO[bytes], check: Check) -> list[Sheet]:
    """Return the sheets of a file of the system, without those that are empty; `DataError` when it cannot be read."""
    time = ReadingTime()
    with closing(_ask(file, {"read": "sheets"}, check, time)) as frames:
        (listed,) = frames
    sheets = [
        _sheet(number, name, reason, rows) for number, (name, reason, rows) in enumerate(listed) if reason or rows
    ]
    return [replace(sheet, time=time) for sheet in sheets]


def reason_without_feed(sheets: list[Sheet]) -> str:
    """Return why a workbook in which no sheet is a feed is none."""
    meant = next((sheet for sheet in sheets if sheet.meant), None)
    if meant is not None or len(sheets) == 1:
        sheet = meant or sheets[0]
        return f"{_shown(sheet.name)}: {sheet.reason}" if sheet.name else sheet.reason
    names = ", ".join(_shown(sheet.name) for sheet in sheets[:_SHEETS_NAMED])
    more = f" and {len(sheets) - _SHEETS_NAMED} more" if len(sheets) > _SHEETS_NAMED else ""
    return f"none of its sheets ({names}{more}) begins with the header of a feed" if sheets else "it is empty"


class SheetRows(io.RawIOBase):
    """The rows of one sheet. As a stream it has no bytes; `consumed` is about how many have been read of the file."""

    def __init__(self, file: IO[bytes], sheet: Sheet) -> None:
        super().__init__()
        self.header: Header = record_header(sheet.feed, sheet.tags)
        self.consumed = 0
        self._file = file
        self._sheet = sheet
        self._frames: Generator[Any, None, None] | None = None

    def batches(self, check: Check) -> Iterator[list[Record]]:
        """Return the rows below the header, with their numbers in the sheet; rows without any value are none."""
        sheet = self._sheet
        options = {"read": "sheet", "sheet": sheet.number, "header_row": sheet.header_row, "columns": sheet.columns}
        self._frames = _ask(self._file, options, check, sheet.time)
        for frame in self._frames:
            self.consumed += sum(len(text) for _, _, text, _ in frame) // _TEXT_PER_BYTE
            yield [Record(*row) for row in frame]

    def close(self) -> None:
        """End the process, and close the file."""
        if self._frames is not None:
            self._frames.close()
        self._file.close()
        super().close()


def _sheet(number: int, name: str, reason: str, rows: list[tuple[int, list[str]]]) -> Sheet:
    if reason:
        return Sheet(name, number, reason=reason)
    first, names = rows[0]
    try:
        header = recognise_names(names)
    except DataError as error:
        return Sheet(name, number, **_why_not(error.message, rows))
    named = zip(header.columns, columns_of(header), strict=True)
    columns = tuple((at, column.name, _KINDS.get(column.name, "text")) for at, column in named)
    return Sheet(name, number, header.feed, header_row=first, columns=columns, tags=header.tags)


def _why_not(reason: str, rows: list[tuple[int, list[str]]]) -> dict[str, Any]:
    first, _ = rows[0]
    for line, names in rows[1:]:
        with suppress(DataError):
            feed = recognise_names(names).feed
            above = f"row {first}" if line == first + 1 else f"rows {first} to {line - 1}"
            reason = f"the header (of {feed}) is in row {line}; remove what stands above it, {above}"
            return {"reason": reason, "meant": True}
    return {"reason": reason}


def _shown(name: str) -> str:
    return repr(name[:100])


# The process


def _ask(file: IO[bytes], options: dict[str, Any], check: Check, time: ReadingTime) -> Generator[Any, None, None]:
    """Start the process, and return what it answers; `DataError` when it ends in another way than it should.

    It is ended when the iterator is closed, and when `check` raises, which is called now and then from a thread.
    """
    check()
    file.seek(0)
    is_parquet = file.read(len(table_process.PARQUET)) == table_process.PARQUET
    memory_bytes = _PARQUET_MEMORY_BYTES if is_parquet else _MEMORY_BYTES
    seconds = time.next_s()
    process = _start({**options, "memory_bytes": memory_bytes, "seconds": seconds}, file)
    answers = cast(IO[bytes], process.stdout)
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process, ended, check), name="workbook", daemon=True)
    try:
        watch.start()
        if _read_frame(answers) != table_process.READY:
            check()
            raise DataError(_NOT_STARTED)
        while not isinstance(frame := _read_frame(answers), str):
            if frame is None:
                check()
                time.take(seconds)
                raise DataError(_why_ended(process.wait(_PATIENCE_S), seconds, memory_bytes))
            if isinstance(frame, float):
                time.take(frame)
            else:
                yield frame
        if frame:
            raise DataError(_sentence(frame, memory_bytes))
    finally:
        ended.set()
        if watch.ident is not None:
            watch.join(_PATIENCE_S)
        _end(process)
        answers.close()


def _start(options: dict[str, Any], file: IO[bytes]) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
    if single_file() is not None:
        # It is not to unpack itself once more, but to work in this process's folder, with the libraries there.
        environment.pop("PYINSTALLER_RESET_ENVIRONMENT", None)
        environment["LD_LIBRARY_PATH"] = vars(sys)["_MEIPASS"]
        command = [sys.executable, table_process.ARGUMENT]
    else:
        options = {**options, "path": sys.path}
        # Its folder has modules with names of modules of Python.
        command = [sys.executable, "-I", "-S", table_process.__file__]
    try:
        return subprocess.Popen(
            [*command, json.dumps(options)],
            stdin=file.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # Ctrl-C is for this process, which ends that one.
            process_group=0,
        )
    except OSError as error:
        raise DataError(f"{_NOT_STARTED} ({error.strerror or error})") from error


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        if hasattr(os, "killpg"):
            # The single file may be two processes.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait(_PATIENCE_S)


def _watch(process: "subprocess.Popen[bytes]", ended: threading.Event, check: Check) -> None:
    """End the process when the load is given up."""
    while not ended.wait(_CHECK_EVERY_S):
        try:
            check()
        except BaseException:
            # `KeyboardInterrupt` among them: whoever reads the answer asks once more, and gets it.
            _end(process)
            return


def _read_frame(answers: IO[bytes]) -> Any:
    """The next frame; None when there is no whole one."""
    start = answers.read(table_process.LENGTH.size)
    if len(start) < table_process.LENGTH.size:
        return None
    (length,) = table_process.LENGTH.unpack(start)
    data = answers.read(length) if length <= _MOST_FRAME_BYTES else b""
    try:
        return json.loads(data) if len(data) == length else None
    except ValueError:
        return None


def _why_ended(code: int, seconds: int, memory_bytes: int) -> str:
    if code == -getattr(signal, "SIGXCPU", 0):
        return _TOO_SLOW.format(_CPU_S if seconds == _CPU_S else WORKBOOK_CPU_S)
    # Native code that gets no memory ends the process at once, and so does a system that has none left.
    return _TOO_MUCH.format(memory_bytes >> 20)


def _sentence(end: str, memory_bytes: int) -> str:
    if end == table_process.NO_PYARROW:
        return _PARQUET_EXTRA if single_file() is None else _PARQUET_SINGLE_FILE
    return _REASONS.get(end) or _TOO_MUCH.format(memory_bytes >> 20)
