"""A finished report as an Excel workbook: ids stay text, numbers are numbers, and a second sheet says how it was made."""

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

from storemon_flask.errors import Unprocessable
from storemon_flask.services import report_text, temporary
from storemon_flask.services.report_text import Altered

MIME: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# Folders in the reports folder, each while a workbook is made; one that a kill left behind goes at the next start.
FOLDERS: Final = ".workbook_"
_MOST_ROWS: Final = 1 << 20
# Larger ones are on the disk while they are sent: each connection may hold one.
_IN_MEMORY: Final = 256 << 10


def write(lines: Iterator[str], rows: int, altered: Altered, method: dict[str, Any], reports_folder: Path) -> IO[bytes]:
    """The workbook of a CSV with that many rows, in a temporary file, at its start; row by row, so that it does not grow in memory.

    `Unprocessable` when the report has more rows than a sheet can, `NoTemporaryRoom` when there is none for it.
    """
    if rows >= _MOST_ROWS:
        raise Unprocessable(f"a sheet has at most {_MOST_ROWS:,} rows, and this report has more; fetch it as CSV")
    from xlsxwriter.exceptions import FileCreateError  # type: ignore[import-untyped]

    place = reports_folder
    try:
        with _folder(reports_folder) as folder:
            place = folder.parent
            # Open for as long as the answer is sent, and without a name: no kill leaves it behind.
            file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(place))  # noqa: SIM115
            try:
                _write(file, lines, altered, method, folder)
                file.seek(0)
            except BaseException:
                _let_go(file)
                raise
    except (OSError, FileCreateError) as error:
        why = error if isinstance(error, OSError) else error.args[0]
        if not temporary.is_full(why):
            raise
        raise temporary.no_room(why, "no workbook can be made", place) from error
    return file


def _let_go(file: Any) -> None:
    """Close what could not be written to its end. The zip that was begun writes its end into it when it is let go of."""
    with suppress(OSError):
        file.close()
    nowhere = _Nowhere()
    for name in ("seek", "tell", "write", "flush"):
        setattr(file, name, getattr(nowhere, name))


@contextmanager
def _folder(reports_folder: Path) -> Iterator[Path]:
    """A folder for the files of one workbook, which have names; it goes with all that is in it."""
    try:
        made = tempfile.TemporaryDirectory(prefix=FOLDERS, dir=reports_folder, ignore_cleanup_errors=True)
    except OSError:
        # Nothing can be written there: what is there is handed out nevertheless.
        made = tempfile.TemporaryDirectory(prefix=FOLDERS, ignore_cleanup_errors=True)
    with made as name:
        yield Path(name)


def _write(file: IO[bytes], lines: Iterator[str], altered: Altered, method: dict[str, Any], folder: Path) -> None:
    import xlsxwriter  # type: ignore[import-untyped]

    book = xlsxwriter.Workbook(
        file,
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "tmpdir": str(folder)},
    )
    try:
        bold, figure = book.add_format({"bold": True}), book.add_format({"num_format": "0.00"})
        sheet = book.add_worksheet("report")
        first = next(lines)
        header = next(csv.reader([first]))
        sheet.freeze_panes(1, 1)
        for column, name in enumerate(header):
            sheet.set_column(column, column, 38 if name == "store_id" else max(12, len(name) + 2))
            sheet.write_string(0, column, name, bold)
        numeric = [report_text.is_number(name) for name in header]
        for row, found in enumerate(report_text.text_rows(chain([first], lines), altered), start=1):
            for column, value in enumerate(found.values()):
                if numeric[column] and value:
                    sheet.write_number(row, column, float(value), figure)
                elif value:
                    sheet.write_string(row, column, value)
        about = book.add_worksheet("method")
        about.set_column(0, 1, 30)
        for row, (name, value) in enumerate(method.items()):
            about.write_string(row, 0, name, bold)
            about.write_string(row, 1, "" if value is None else _shown(value))
    finally:
        book.close()


class _Nowhere:
    """A file that keeps nothing but its place."""

    def __init__(self) -> None:
        self._at = 0

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self._at += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
