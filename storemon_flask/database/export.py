"""The feeds as CSV files that `load-data` reads: loaded into an empty database they give the same reports, byte for
byte.

What a spreadsheet would run is written as it is (`=1+1` is an id): these files are for storemon, not for a spreadsheet.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from storemon_flask import clock
from storemon_flask.database import exporting, files
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds.headers import COLUMNS
from storemon_flask.model import CLOSED, UNDATED

# Told the name of the file that is written and how many more of its rows are.
Progress = Callable[[str, int], None]
# Lines of so many rows, and how many rows that is.
_Rows = Callable[[sqlite3.Connection, dict[int, str]], Iterator[tuple[str, int]]]
_LINES_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Exported:
    """One file: where, how many rows and bytes."""

    file: Path
    rows: int
    bytes: int


def look(database: Database) -> int:
    """How many rows there are to write."""
    with database.read() as connection:
        return sum(exporting.row_counts(connection).values())


def run(
    database: Database, folder: Path, overwrite: bool = False, progress: Progress = lambda name, rows: None
) -> list[Exported]:
    """Write every feed of one moment into `folder`, each file whole or not at all.

    `DatabaseError` when there is no database, the folder holds something and may not be overwritten, or cannot be
    written.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise DatabaseError(
                f"{folder} is not empty; name another folder, or overwrite the feeds in it with --force"
            )
        with database.read() as connection:
            files.make_folder(folder)
            ids = {number: _cell(store_id) for number, store_id in exporting.ids(connection).items()}
            return [
                _write(folder / name, COLUMNS[feed], rows(connection, ids), progress)
                for feed, (name, rows) in FILES.items()
            ]
    except OSError as error:
        raise DatabaseError(f"{folder} cannot be written: {error.strerror or error}") from error


def _write(file: Path, header: tuple[str, ...], rows: Iterator[tuple[str, int]], progress: Progress) -> Exported:
    count = 0
    with files.replacing(file) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            stream.write(",".join(header) + "\n")
            count = _lines(stream, file.name, rows, progress)
        size = temporary.stat().st_size
    return Exported(file, count, size)


def _lines(stream: TextIO, name: str, rows: Iterator[tuple[str, int]], progress: Progress) -> int:
    count = 0
    for lines, more in rows:
        stream.write(lines)
        count += more
        progress(name, more)
    return count


def _polls(connection: sqlite3.Connection, ids: dict[int, str]) -> Iterator[tuple[str, int]]:
    for store, instant_us, active in exporting.polls(connection):
        day = np.datetime_as_string(instant_us.view("datetime64[us]"), unit="us").tolist()
        lines = [
            f"{ids[number]},{at[:10]} {at[11:]}Z,{'active' if up else 'inactive'}\n"
            for number, at, up in zip(store.tolist(), day, active.tolist(), strict=True)
        ]
        yield "".join(lines), len(lines)


def _hours(connection: sqlite3.Connection, ids: dict[int, str]) -> Iterator[tuple[str, int]]:
    return _batched(
        f"{ids[store]},{day},{_time(start)},{_time(end)},{_date(since)}\n"
        for store, day, start, end, since in exporting.hours(connection)
    )


def _special_hours(connection: sqlite3.Connection, ids: dict[int, str]) -> Iterator[tuple[str, int]]:
    return _batched(
        f"{ids[store]},{_date(date)},{_time(start)},{_time(end)}\n"
        for store, date, start, end in exporting.special_hours(connection)
    )


def _zones(connection: sqlite3.Connection, ids: dict[int, str]) -> Iterator[tuple[str, int]]:
    return _batched(
        f"{ids[store]},{_cell(name)},{_date(since)}\n" for store, name, since in exporting.zones(connection)
    )


def _names(connection: sqlite3.Connection, ids: dict[int, str]) -> Iterator[tuple[str, int]]:
    # Every store has a row: one that is known by nothing else must not be lost.
    return _batched(
        f"{ids[store]},{_cell(name)},{_cell(group)}\n" for store, name, group in exporting.names(connection)
    )


# Per feed its file and how its rows are written. A feed more is a line more.
FILES: Final[dict[str, tuple[str, _Rows]]] = {
    "polls": ("polls.csv", _polls),
    "hours": ("menu_hours.csv", _hours),
    "special_hours": ("special_hours.csv", _special_hours),
    "timezones": ("timezones.csv", _zones),
    "stores": ("stores.csv", _names),
}


def _batched(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _LINES_AT_ONCE:
            yield "".join(batch), len(batch)
            batch = []
    if batch:
        yield "".join(batch), len(batch)


def _date(day: int) -> str:
    return "" if day == UNDATED else clock.date_text(day)


def _time(second: int) -> str:
    return "" if second == CLOSED else f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def _cell(text: str) -> str:
    """A text as a CSV cell: quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text
