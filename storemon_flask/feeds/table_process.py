"""The process that reads one workbook or Parquet file: its standard input is the file, its standard output the answer.

Workbooks are read by native code that holds whole sheets, and may be made to take all memory or to crash: in a process
of its own, with limits, that is a sentence and not the end of the server. It is started by its path, or as the single
file with `ARGUMENT`, and imports nothing of storemon, so that it starts at once. Each answer is a frame: its length,
and a JSON value. The first says that it is there, the one before the last how many seconds of a processor it took, the
last is a text: empty, or why reading ended.
"""

import csv
import datetime as dt
import decimal
import errno
import io
import json
import lzma
import math
import os
import re
import struct
import sys
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any, Final

ARGUMENT: Final = "--read-table"
LENGTH: Final = struct.Struct("<I")
MAX_SHEETS: Final = 100
# Of all files in a workbook.
MOST_UNPACKED_BYTES: Final = 1_000_000_000
# A header may stand below blank rows. So many rows are looked at, to say where it is when something else is above it.
ROWS_AHEAD: Final = 50
# Excel keeps so many digits of a number.
MAX_DIGITS: Final = 15
_BATCH_ROWS: Final = 5_000
# A batch of rows with more text is not made longer.
_BATCH_CHARACTERS: Final = 1 << 20
# More than any column of a feed takes.
_CELL_CHARACTERS: Final = 2_000
_TEXT_CHARACTERS: Final = 1_000
_MAX_COLUMNS: Final = 1_001
_BUFFER_BYTES: Final = 1 << 20
# What pyarrow raises at what it cannot read.
_NO_PARQUET: Final = (OSError, ValueError, LookupError, ArithmeticError, NotImplementedError)

NO_WORKBOOK: Final = "no-workbook"
PASSWORD: Final = "password"
PARQUET: Final = b"PAR1"
OLE: Final = b"\xd0\xcf\x11\xe0"
NO_PYARROW: Final = "no-pyarrow"
NO_PARQUET: Final = "no-parquet"
NO_CALAMINE: Final = "no-calamine"
TOO_LARGE: Final = "too-large"
NO_MEMORY: Final = "no-memory"
NO_ROOM: Final = "no-room"
READY: Final = "ready"

ID_DIGITS: Final = (
    f"store_id is a number of more than {MAX_DIGITS} digits, of which a spreadsheet loses those at the end; "
    "make the column text, and enter the ids again"
)
ID_FRACTION: Final = "store_id is a number with a fraction; make the column text, and enter the ids again"
ID_DATE: Final = (
    "store_id is a date or a time, which a spreadsheet makes of ids such as 1-2; make the column text, and enter the "
    "ids again"
)
ID_BOOLEAN: Final = "store_id is true or false"
ERROR_VALUE: Final = "is an error value of a spreadsheet"
NOT_TEXT: Final = "is neither text, a number, a date nor a time"

_ERRORS: Final = frozenset(
    {
        "#N/A",
        "#REF!",
        "#VALUE!",
        "#DIV/0!",
        "#NAME?",
        "#NULL!",
        "#NUM!",
        "#GETTING_DATA",
        "#SPILL!",
        "#CALC!",
        "#FIELD!",
    }
)
# Durations of a day and more as OpenDocument has them.
_ISO_DURATION: Final = re.compile(r"(-?)PT([0-9]{1,6})H([0-9]{1,2})M([0-9]{1,2}(?:\.[0-9]+)?)S")
_SHEET_FILE: Final = re.compile(r"content\.xml|xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_XLSX_ERROR: Final = (re.compile(rb"(<(?:\w+:)?c [^>]*?\bt=)[\"']e[\"']"), rb'\1"str"')
_ODS_ERROR: Final = (
    re.compile(rb'office:string-value="" calcext:value-type="error"'),
    rb'calcext:value-type="error"',
)
_ODS_MANIFEST: Final = "META-INF/manifest.xml"
# Of .xlsx the name of the stream that is encrypted; of .xls the record that stands first, or after that of a workbook
# that may only be read.
_OLE_PASSWORD: Final = re.compile(
    re.escape("EncryptedPackage".encode("utf-16-le")) + rb"|\x09\x08\x10\0.{16}(?:\x86\0\0\0)?\x2f\0", re.DOTALL
)
# Of the folder for temporary files.
_NO_ROOM_ERRORS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOENT, errno.EACCES}
_NO_ZIP: Final = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError)
_MICROSECOND: Final = dt.timedelta(microseconds=1)

# (line, fields, text, problem)
Row = tuple[int, list[str], str, str]


class _Bad(ValueError):
    """A cell that cannot be used."""


# Cells as texts


def cell_text(value: Any, kind: str = "text") -> str:
    """Return a cell as the text that a CSV would have in a column of that kind: text, store_id, timestamp, date or
    time.
    """
    if isinstance(value, str):
        return _duration_text(value) if kind == "time" and value.startswith(("PT", "-PT")) else value
    if kind == "store_id" and not isinstance(value, (int, float)):
        raise _Bad(ID_DATE)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return _number_text(value)
    if isinstance(value, dt.timedelta):
        return _hours_text(value)
    if isinstance(value, dt.date):
        return _date_text(value, kind)
    return value.isoformat() if isinstance(value, dt.time) else str(value)


def _id_text(value: Any) -> str:
    if isinstance(value, bool):
        raise _Bad(ID_BOOLEAN)
    if isinstance(value, float) and not value.is_integer():
        raise _Bad(ID_FRACTION)
    if isinstance(value, float) and abs(value) >= 10**MAX_DIGITS:
        raise _Bad(ID_DIGITS)
    return cell_text(value, "store_id")


def _number_text(value: float) -> str:
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _date_text(value: dt.date, kind: str) -> str:
    moment = value if isinstance(value, dt.datetime) else dt.datetime.combine(value, dt.time())
    if kind == "time" and moment.year in (1900, 1904) and moment.month <= 2:
        # Where time has a format of a time of day, 24:00 is midnight of the first day of the workbook's years.
        return _hours_text(moment - (dt.datetime(1899, 12, 31) if moment.year == 1900 else dt.datetime(1904, 1, 1)))
    if kind != "timestamp" and moment.time() == dt.time():
        return moment.date().isoformat()
    return moment.isoformat(" ")


def _hours_text(value: dt.timedelta) -> str:
    """A duration as hours, minutes and seconds; hours go on after 24."""
    seconds, micros = divmod(abs(value) // _MICROSECOND, 1_000_000)
    fraction = f".{micros:06}" if micros else ""
    sign = "-" if value < dt.timedelta() else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"


def _duration_text(text: str) -> str:
    match = _ISO_DURATION.fullmatch(text)
    if match is None:
        return text
    seconds, _, fraction = match[4].partition(".")
    return f"{match[1]}{match[2]:0>2}:{match[3]:0>2}:{seconds:0>2}{'.' if fraction else ''}{fraction}"


def _shown(cells: Iterable[Any]) -> list[str]:
    """Cells as they are shown in a reject."""
    texts = [cell_text(cell)[:_TEXT_CHARACTERS] for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _line(texts: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(texts)
    return text.getvalue()


def _is_plain(text: str, fields: int) -> bool:
    """Whether fields that were joined by commas need no quotes."""
    return text.count(",") == fields - 1 and not any(mark in text for mark in '"\r\n')


class _Rows:
    """Turns rows of cells into rows of the feed's texts."""

    def __init__(self, columns: list[tuple[int, str, str]], may_be_empty: bool = False) -> None:
        """`columns` are the feed's: where each stands (-1: nowhere), its name, its kind. With `may_be_empty`, a row
        without any value is a row.
        """
        self._columns = columns
        self._in_order = [at for at, _, _ in columns] == list(range(len(columns)))
        self._may_be_empty = may_be_empty

    def row(self, line: int, cells: list[Any]) -> Row | None:
        """Return the row; None when it has no value."""
        if not self._may_be_empty and not any(cell != "" and cell is not None and str(cell).strip() for cell in cells):
            return None
        fields, problem = [], ""
        for at, name, kind in self._columns:
            value = cells[at] if 0 <= at < len(cells) else ""
            try:
                if isinstance(value, _NoText):
                    raise _Bad(f"{name} {NOT_TEXT}")
                text = "" if value is None else _id_text(value) if kind == "store_id" else cell_text(value, kind)
                if text in _ERRORS and kind != "store_id":
                    raise _Bad(f"{name} {ERROR_VALUE}")
            except _Bad as bad:
                text, problem = "", problem or str(bad)
            fields.append(text[:_CELL_CHARACTERS])
        text = ",".join(fields)
        if problem or not self._in_order or len(cells) > len(fields) or not _is_plain(text, len(fields)):
            # Three times as long, so not for each row.
            text = _line(_shown(cells))
        return line, fields, text[:_TEXT_CHARACTERS], problem


# Workbooks


def _open_workbook(file: IO[bytes]) -> Any:
    try:
        import python_calamine
    except ImportError:
        raise _Ended(NO_CALAMINE) from None
    if _has_password(file):
        raise _Ended(PASSWORD)
    try:
        return python_calamine.CalamineWorkbook.from_filelike(_with_error_texts(file))
    except python_calamine.PasswordError:
        raise _Ended(PASSWORD) from None
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        # Its messages quote what is in the file.
        raise _Ended(NO_WORKBOOK) from error


def _has_password(file: IO[bytes]) -> bool:
    """Whether a workbook is encrypted: calamine says that of one whose name it knows only."""
    file.seek(0)
    if file.read(len(OLE)) == OLE:
        before = b""
        while chunk := file.read(_BUFFER_BYTES):
            if _OLE_PASSWORD.search(before[-100:] + chunk):
                return True
            before = chunk
        return False
    try:
        with zipfile.ZipFile(file) as book, book.open(_ODS_MANIFEST) as manifest:
            return b"encryption-data" in manifest.read(_BUFFER_BYTES)
    except (KeyError, *_NO_ZIP, zlib.error, lzma.LZMAError):
        return False


def _with_error_texts(file: IO[bytes]) -> IO[bytes]:
    """A workbook whose error cells are texts: calamine gives empty ones for them, as if nothing were there.

    Its files are read to their ends, where their checksums are, which calamine does not always do.
    """
    file.seek(0)
    if file.read(len(OLE)) == OLE:
        file.seek(0)
        return file
    try:
        with zipfile.ZipFile(file) as book:
            entries = book.infolist()
            if sum(entry.file_size for entry in entries) > MOST_UNPACKED_BYTES:
                raise _Ended(TOO_LARGE)
            changed = {entry.filename for entry in entries if _has_errors(book, entry)}
            copy = _copy_with_texts(book, changed) if changed else file
    except OSError as error:
        # Damaged zips point to before their beginning.
        raise _Ended(NO_ROOM if error.errno in _NO_ROOM_ERRORS else NO_WORKBOOK) from error
    except (*_NO_ZIP, zlib.error, lzma.LZMAError) as error:
        raise _Ended(NO_WORKBOOK) from error
    copy.seek(0)
    return copy


def _copy_with_texts(book: zipfile.ZipFile, changed: set[str]) -> IO[bytes]:
    copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as other:
        for entry in book.infolist():
            pattern, text = _error_cells(entry.filename)
            with book.open(entry) as source, other.open(entry.filename, "w", force_zip64=True) as target:
                for chunk in _chunks(source):
                    target.write(pattern.sub(text, chunk) if entry.filename in changed else chunk)
    return copy


def _has_errors(book: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    if not entry.filename.endswith((".xml", ".bin", ".rels")):
        return False
    pattern, _ = _error_cells(entry.filename)
    is_sheet = _SHEET_FILE.fullmatch(entry.filename) is not None
    with book.open(entry) as source:
        matches = [is_sheet and pattern.search(chunk) is not None for chunk in _chunks(source)]
    return any(matches)


def _error_cells(name: str) -> tuple[re.Pattern[bytes], bytes]:
    """What is an error cell in a file of the workbook, and what is a text instead."""
    return _ODS_ERROR if name == "content.xml" else _XLSX_ERROR


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file, cut before a `<` as far as that is possible."""
    rest = b""
    while chunk := source.read(_BUFFER_BYTES):
        chunk = rest + chunk
        end = max(chunk.rfind(b"<"), 0) or len(chunk)
        yield chunk[:end]
        rest = chunk[end:]
    yield rest


def _sheet_rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """Each row of a sheet with its number there."""
    return enumerate(sheet.iter_rows(), 1)


def _list_sheets(file: IO[bytes]) -> Iterator[Any]:
    """One list: of each sheet its name, why it is not read (or nothing), and the first rows that are not blank:
    their numbers and texts.
    """
    book = _open_workbook(file)
    sheets: list[Any] = []
    for index, about in enumerate(book.sheets_metadata):
        rows: list[tuple[int, list[str]]] = []
        reason = ""
        if index == MAX_SHEETS:
            others = len(book.sheets_metadata) - MAX_SHEETS
            sheets.append((f"{others:,} more", f"only the first {MAX_SHEETS} sheets of a workbook are looked at", []))
            break
        if str(about.typ) != "SheetTypeEnum.WorkSheet":
            reason = "it is no sheet of cells"
        elif str(about.visible) != "SheetVisibleEnum.Visible":
            reason = "it is hidden; show it to have it loaded"
        else:
            for line, cells in _sheet_rows(book.get_sheet_by_index(index)):
                shown = _shown(cells[:_MAX_COLUMNS])
                if any(text.strip() for text in shown):
                    rows.append((line, shown))
                if len(rows) == ROWS_AHEAD:
                    break
        sheets.append((about.name, reason, rows))
    yield sheets


def _read_sheet(file: IO[bytes], options: dict[str, Any]) -> Iterator[Any]:
    """Batches of the rows below the header of one sheet."""
    sheet = _open_workbook(file).get_sheet_by_index(options["sheet"])
    rows = _Rows([(at, name, kind) for at, name, kind in options["columns"]])
    batch: list[Row] = []
    characters = 0
    for line, cells in _sheet_rows(sheet):
        row = rows.row(line, cells[:_MAX_COLUMNS]) if line > options["header_row"] else None
        if row is not None:
            batch.append(row)
            characters += sum(map(len, row[1])) + len(row[2])
        if len(batch) == _BATCH_ROWS or characters > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


# Parquet


class _NoText:
    """A value that no column of a feed can have; as text, it is what is shown of it."""

    def __init__(self, value: object) -> None:
        self._text = repr(value)[:_TEXT_CHARACTERS]

    def __str__(self) -> str:
        return self._text


def _open_parquet(file: IO[bytes]) -> Any:
    # The allocators that it brings reserve more addresses than this process may have.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise _Ended(NO_PYARROW) from None
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    try:
        return parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
    except _NO_PARQUET as error:
        # Its messages quote what is in the file.
        raise _Ended(NO_PARQUET) from error


def _list_columns(file: IO[bytes]) -> Iterator[Any]:
    """The list of one sheet without a name, whose only row is the names of the columns, above the first."""
    names = _open_parquet(file).schema_arrow.names
    yield [("", "", [(0, [name[:_CELL_CHARACTERS] for name in names[:_MAX_COLUMNS]])])]


def _read_columns(file: IO[bytes], options: dict[str, Any]) -> Iterator[Any]:
    """Batches of the rows, counted from 1, of the feed's columns only: others are not even unpacked."""
    book = _open_parquet(file)
    names = book.schema_arrow.names
    present = [(at, kind) for at, _, kind in options["columns"] if at >= 0]
    index_of = {at: index for index, (at, _) in enumerate(present)}
    # A row without a value in these may have one in others, and is a row then.
    rows = _Rows(
        [(index_of.get(at, -1), name, kind) for at, name, kind in options["columns"]], len(names) > len(present)
    )
    line = 0
    try:
        for batch in book.iter_batches(_BATCH_ROWS, columns=[names[at] for at, _ in present], use_threads=False):
            columns = [_column_cells(batch.column(names[at]), kind) for at, kind in present]
            made = [rows.row(line + number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1)]
            line += batch.num_rows
            yield [row for row in made if row is not None]
    except _NO_PARQUET as error:
        raise _Ended(NO_PARQUET) from error


def _column_cells(column: Any, kind: str) -> list[Any]:
    """The values of a column as cells of a workbook; a column of timestamps as texts, in UTC."""
    from pyarrow import types

    column_type = column.type
    if types.is_dictionary(column_type):
        return _column_cells(column.dictionary_decode(), kind)
    if types.is_timestamp(column_type) and kind == "timestamp":
        # What is stored is UTC where there is a zone. As text, it has as many digits as it comes with.
        column = column.cast(f"timestamp[{column_type.unit}]").cast("string")
    elif types.is_timestamp(column_type):
        column = column.cast(_with_unit(column_type, "us"), safe=False)
    elif types.is_time64(column_type):
        column = column.cast("time64[us]", safe=False)
    elif types.is_duration(column_type):
        column = column.cast("duration[us]", safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast("binary").to_pylist()
    if types.is_integer(column_type):
        return values
    return [_cell(value, kind) for value in values]


def _with_unit(column_type: Any, unit: str) -> Any:
    import pyarrow

    return pyarrow.timestamp(unit, column_type.tz)


def _cell(value: Any, kind: str) -> Any:
    """A value as a cell of a workbook would be."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return _NoText(value)
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return (
            int(value) if value == value.to_integral_value() else float(value) if kind == "store_id" else f"{value:f}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else _NoText(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    known = value is None or isinstance(value, (str, bool, int, float, dt.date, dt.time, dt.timedelta))
    return value if known else _NoText(value)


# The process


class _Ended(Exception):
    """Reading ends: the message is the last frame."""


def _is_parquet(file: IO[bytes]) -> bool:
    file.seek(0)
    start = file.read(len(PARQUET))
    file.seek(0)
    return start == PARQUET


def _answer(file: IO[bytes], options: dict[str, Any]) -> Iterator[Any]:
    """The list of the sheets, or the rows of the one that is asked for."""
    if options["read"] == "sheets":
        return _list_columns(file) if _is_parquet(file) else _list_sheets(file)
    return _read_columns(file, options) if _is_parquet(file) else _read_sheet(file, options)


def _limit(memory_bytes: int, seconds: int) -> None:
    """Let the system end this process when it takes more."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # The system's own end for want of memory is another signal than that of the first limit.
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def main(arguments: list[str]) -> None:
    """Answer what the one argument, a JSON object, asks of standard input."""
    options = json.loads(arguments[0])
    # Where the program finds its packages.
    sys.path[:] = options.get("path", sys.path)
    # What others print is no frame.
    with os.fdopen(os.dup(1), "wb") as answers, open(0, "rb", closefd=False) as file:
        os.dup2(2, 1)

        def send(frame: Any) -> None:
            """Write a value to standard output as one frame of JSON."""
            data = json.dumps(frame).encode()
            answers.write(LENGTH.pack(len(data)) + data)
            answers.flush()

        send(READY)
        _limit(options["memory_bytes"], options["seconds"])
        end = ""
        try:
            for frame in _answer(file, options):
                send(frame)
        except _Ended as ended:
            end = str(ended)
        except MemoryError:
            end = NO_MEMORY
        except BrokenPipeError:
            # Nobody reads on.
            os._exit(0)
        except BaseException:
            # Native code in a panic.
            end = NO_WORKBOOK
        # How long a processor worked at it.
        send(time.process_time())
        send(end)


if __name__ == "__main__":
    main(sys.argv[1:])
