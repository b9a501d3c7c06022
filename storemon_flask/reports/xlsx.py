"""A finished report as an Excel workbook: ids stay text, numbers are numbers, and a second sheet has its method."""

import csv
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

from storemon_flask.database import files
from storemon_flask.errors import Unprocessable
from storemon_flask.reports.csv import Altered, is_number, text_rows

MIME: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# Folders beside the report, each while a workbook is made; one that a kill left behind goes at the next start.
FOLDERS: Final = ".workbook_"
_MOST_ROWS: Final = 1 << 20
# Larger ones are on the disk while they are sent: each connection may hold one.
_IN_MEMORY: Final = 256 << 10


def write(report: Path, rows: int, altered: Altered, method: dict[str, Any]) -> IO[bytes]:
    """Return the workbook of a report's CSV, of that many rows, in a temporary file, at its start; row by row, so
    that it does not grow in memory. It says that it was created when the report's file was written, so that one report
    has one workbook, byte for byte.

    `Unprocessable` when the report has more rows than a sheet can; `FileNotFoundError` when its file is not there;
    `NoTemporaryRoom` when there is none for it, neither beside the report nor in the folder for temporary files.
    """
    if rows >= _MOST_ROWS:
        raise Unprocessable(f"a sheet has at most {_MOST_ROWS:,} rows, and this report has more; fetch it as CSV")
    from xlsxwriter.exceptions import XlsxFileError  # type: ignore[import-untyped]

    with report.open(encoding="utf-8", newline="") as lines:
        created = datetime.fromtimestamp(os.fstat(lines.fileno()).st_mtime, UTC)
        try:
            return _make(lines, altered, method, created, report.parent)
        except (OSError, XlsxFileError):
            # That disk is full, or cannot be written; what is on it is handed out nevertheless.
            lines.seek(0)
        try:
            return _make(lines, altered, method, created, files.temporary_folder())
        except (OSError, XlsxFileError) as error:
            # xlsxwriter wraps what it meets while it puts the archive together.
            why = error if isinstance(error, OSError) else error.args[0]
            if not files.is_disk_full(why):
                raise
            raise files.no_temporary_room(why, "no workbook can be made") from error


def _make(lines: Iterator[str], altered: Altered, method: dict[str, Any], created: datetime, parent: Path) -> IO[bytes]:
    with tempfile.TemporaryDirectory(prefix=FOLDERS, dir=parent, ignore_cleanup_errors=True) as folder:
        # Open for as long as the answer is sent, and without a name: no kill leaves it behind.
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(parent))  # noqa: SIM115
        try:
            _write(file, lines, altered, method, created, folder)
        except BaseException as error:
            # The archive that xlsxwriter had begun writes its end when nobody holds it any more: before the file is
            # closed.
            for one in (error, error.__context__):
                traceback.clear_frames(one.__traceback__ if one else None)
            file.close()
            raise
    file.seek(0)
    return file


def _write(
    file: IO[bytes], lines: Iterator[str], altered: Altered, method: dict[str, Any], created: datetime, folder: str
) -> None:
    """Write the workbook into `file`; its sheets have files with names in `folder` until it is whole."""
    import xlsxwriter  # type: ignore[import-untyped]

    book = xlsxwriter.Workbook(
        file,
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "tmpdir": folder},
    )
    book.set_properties({"created": created})
    try:
        bold, figure = book.add_format({"bold": True}), book.add_format({"num_format": "0.00"})
        sheet = book.add_worksheet("report")
        first = next(lines)
        header = next(csv.reader([first]))
        sheet.freeze_panes(1, 1)
        for column, name in enumerate(header):
            sheet.set_column(column, column, 38 if name == "store_id" else max(12, len(name) + 2))
            sheet.write_string(0, column, name, bold)
        numeric = [is_number(name) for name in header]
        for row, texts in enumerate(text_rows(chain([first], lines), altered), start=1):
            for column, value in enumerate(texts.values()):
                if numeric[column] and value:
                    sheet.write_number(row, column, float(value), figure)
                elif value:
                    sheet.write_string(row, column, value)
        about = book.add_worksheet("method")
        about.set_column(0, 1, 30)
        for row, (name, value) in enumerate(method.items()):
            about.write_string(row, 0, name, bold)
            about.write_string(row, 1, "" if value is None else _method_text(value))
        book.close()
    except BaseException:
        for sheet in book.worksheets():
            with suppress(OSError):
                sheet.row_data_fh.close()
        raise


def _method_text(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    # Blind spans have a sentence for people.
    return ", ".join(str(one["text"] if isinstance(one, dict) else one) for one in value)
