"""The feeds as CSV files that `load-data` reads: loaded into an empty database they give the same reports.

What a spreadsheet would run is written as it is (`=1+1` is an id): these files are for storemon, not for a spreadsheet.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from storemon_flask import labels
from storemon_flask.clock import date_text
from storemon_flask.database import files, polls, stores
from storemon_flask.database.connections import Connection, Database, named_rows
from storemon_flask.errors import DatabaseError
from storemon_flask.model import CLOSED, UNDATED

# Called with the name of the file that is written and how many more of its rows are.
Progress = Callable[[str, int], None]
# Lines of so many rows, and how many rows that is.
_Batches = Iterator[tuple[str, int]]
_LINES_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Exported:
    """One file: where, how many rows and bytes."""

    file: Path
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Feed:
    """A feed's file, its header (or what makes that of the labels that there are), and what yields its lines."""

    file: str
    header: str | Callable[[Connection], str]
    batches: Callable[[Connection, dict[int, str]], _Batches]


def count_rows(database: Database) -> int:
    """Return how many rows there are to write."""
    tables = ("hours", "special_hours", "timezone", "store_record")
    with database.read() as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        return polls.count(connection) + int(sum(counts))


def export(
    database: Database, folder: Path, overwrite: bool = False, progress: Progress = lambda name, rows: None
) -> list[Exported]:
    """Write every feed as of one moment into `folder`, all of them or none, if it is not killed as it renames them.

    `DatabaseError` when there is no database, the folder is not empty and may not be overwritten, or cannot be written.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise DatabaseError(
                f"{folder} is not empty; name another folder, or overwrite the feeds in it with --force"
            )
        with database.read() as connection, _made(folder), ExitStack() as renamed_at_end:
            rows = named_rows(connection, "SELECT number, store_id FROM store_record")
            ids = {row["number"]: _cell(row["store_id"]) for row in rows}
            exported = []
            for feed in FEEDS:
                temporary = renamed_at_end.enter_context(files.replacing(folder / feed.file))
                header = feed.header if isinstance(feed.header, str) else feed.header(connection)
                count = _write(temporary, feed.file, header, feed.batches(connection, ids), progress)
                exported.append(Exported(folder / feed.file, count, temporary.stat().st_size))
        return exported
    except OSError as error:
        raise DatabaseError(f"{folder} cannot be written: {error.strerror or error}") from error


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder; the folders made for it go again when nothing could be written into them."""
    new = [path for path in (folder, *folder.parents) if not path.is_dir()]
    try:
        files.make_folder(folder)
        yield
    finally:
        for path in new:
            # Refused where something is in it.
            with suppress(OSError):
                path.rmdir()


def _write(file: Path, name: str, header: str, batches: _Batches, progress: Progress) -> int:
    """Write one feed's file and return how many rows it has."""
    count = 0
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"{header}\n")
        for lines, rows in batches:
            stream.write(lines)
            count += rows
            progress(name, rows)
    return count


def _polls(connection: Connection, ids: dict[int, str]) -> _Batches:
    for store, timestamp_us, active in polls.read_all(connection):
        times = np.datetime_as_string(timestamp_us.view("datetime64[us]"), unit="us").tolist()
        lines = [
            f"{ids[number]},{time[:10]} {time[11:]}Z,{'active' if is_active else 'inactive'}\n"
            for number, time, is_active in zip(store.tolist(), times, active.tolist(), strict=True)
        ]
        yield "".join(lines), len(lines)


def _hours(connection: Connection, ids: dict[int, str]) -> _Batches:
    rows = connection.execute("SELECT store, day, start_s, end_s, valid_from FROM hours ORDER BY 1, 5, 2, 3, 4")
    return _batched(
        f"{ids[store]},{day},{_time(start)},{_time(end)},{_date(valid_from)}\n"
        for store, day, start, end, valid_from in rows
    )


def _special_hours(connection: Connection, ids: dict[int, str]) -> _Batches:
    rows = connection.execute("SELECT store, date, start_s, end_s FROM special_hours ORDER BY 1, 2, 3, 4")
    return _batched(f"{ids[store]},{_date(date)},{_time(start)},{_time(end)}\n" for store, date, start, end in rows)


def _zones(connection: Connection, ids: dict[int, str]) -> _Batches:
    rows = connection.execute("SELECT store, name, valid_from FROM timezone ORDER BY store, valid_from")
    return _batched(f"{ids[store]},{_cell(name)},{_date(valid_from)}\n" for store, name, valid_from in rows)


def _names_header(connection: Connection) -> str:
    """Return the header of the stores feed: a column for each label that a store has."""
    return ",".join(["store_id,name,group", *map(_cell, stores.label_names(connection))])


def _names(connection: Connection, ids: dict[int, str]) -> _Batches:
    # Every store has a row: one that is known by nothing else must not be lost.
    rows = connection.execute("SELECT number, name, group_name, labels FROM store_record ORDER BY number")
    names = stores.label_names(connection)
    of_store = ((store, [name, group, *_label_cells(packed, names)]) for store, name, group, packed in rows)
    return _batched(f"{ids[store]},{','.join(map(_cell, texts))}\n" for store, texts in of_store)


def _label_cells(packed: str, names: list[str]) -> list[str]:
    given = labels.unpack(packed)
    return [given.get(name, "") for name in names]


FEEDS: Final = (
    _Feed("polls.csv", "store_id,timestamp_utc,status", _polls),
    _Feed("menu_hours.csv", "store_id,dayOfWeek,start_time_local,end_time_local,valid_from", _hours),
    _Feed("special_hours.csv", "store_id,date,start_time_local,end_time_local", _special_hours),
    _Feed("timezones.csv", "store_id,timezone_str,valid_from", _zones),
    _Feed("stores.csv", _names_header, _names),
)


def _batched(lines: Iterator[str]) -> _Batches:
    while batch := list(islice(lines, _LINES_AT_ONCE)):
        yield "".join(batch), len(batch)


def _date(day: int) -> str:
    return "" if day == UNDATED else date_text(day)


def _time(second: int) -> str:
    return "" if second == CLOSED else f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def _cell(text: str) -> str:
    """Return a text as a CSV cell, quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text
