"""Copies of a database that are of one moment, made beside whoever writes, and verified before they count.

By SQLite's backup interface inside one read transaction, not by `VACUUM INTO`: 3.4 million polls (32 MB) take 0.04 s
against 0.065 s, progress is known, and the source can be counted in the very transaction that is copied, so that the
counts of a whole copy must be equal. `VACUUM INTO` leaves unused pages out; they cost little here, as later loads use
them again.
"""

import errno
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storemon_flask.database import files, schema
from storemon_flask.errors import DatabaseError

# Told how many of how many pages are copied.
PageProgress = Callable[[int, int], None]
_PAGES_AT_ONCE: Final = 2_000
_INSTANT_BYTES: Final = 8
_BUSY_S: Final = 300.0
# How long one look at a file may take: what a slow disk needs, and an end for a file that is made never to end.
READ_S: float = 60.0
_READ_BYTES_PER_S: Final = 10_000_000
_STEPS_PER_CHECK: Final = 100_000


@dataclass(frozen=True, slots=True)
class Sums:
    """How much a database holds: rows of stores, polls, hours, loads and reports."""

    stores: int
    polls: int
    hours: int
    loads: int
    reports: int


def quiet(done: int, pages: int) -> None:
    """Progress that nobody looks at."""


@contextmanager
def looking(path: Path, additions: bool = False) -> Iterator[sqlite3.Connection]:
    """A read-only connection in one transaction; nothing is migrated.

    `DatabaseError` when there is no file, it is no database of storemon's, of a newer one, has triggers or a changed
    schema, or takes much longer to read than its size explains. `additions`: tables, views and indexes that somebody
    added are allowed.
    """
    if path.exists() and not path.is_file():
        raise DatabaseError(f"{path} is no regular file; name a database file")
    if not path.is_file():
        raise DatabaseError(f"there is no database at {path}")
    with closing(_connected(path, "ro")) as connection, _limited(connection, path):
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        try:
            connection.execute("BEGIN")
            schema.pending(connection)
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                raise DatabaseError(f"{path} is empty; it is no database of storemon's")
            if additions:
                schema.refuse_dangerous(connection)
            else:
                schema.refuse_foreign(connection)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
                raise
            # A column that is not there, or a definition that is no SQL.
            raise DatabaseError(f"{path} is no database of storemon's, or damaged: {error}") from error
        yield connection


@contextmanager
def _limited(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Interrupt statements of the connection when the time is over that a file of this size may take."""
    seconds = READ_S + path.stat().st_size / _READ_BYTES_PER_S
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_PER_CHECK)
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        raise DatabaseError(
            f"{path} is not read after {seconds:.0f} s, which is much longer than a file of its size takes; "
            "copy it to a faster disk, or use another backup"
        ) from error
    finally:
        connection.set_progress_handler(None, 0)


def sums(connection: sqlite3.Connection) -> Sums:
    """What the database holds, in the transaction of the connection."""
    (packed,) = connection.execute("SELECT coalesce(sum(length(polls)), 0) FROM poll_week").fetchone()
    stores, hours, loads, reports = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("store", "hours", "load", "report")
    )
    return Sums(stores, packed // _INSTANT_BYTES, hours, loads, reports)


def faults(connection: sqlite3.Connection, most: int = 100) -> list[str]:
    """What SQLite finds wrong with the file's pages and indexes; empty when all is well.

    On a read-only connection it leaves CHECK constraints out: what they say of the feeds, `storage.checks` looks at
    itself.
    """
    found = [str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({most})")]
    return [] if found == ["ok"] else found


def copy(source: sqlite3.Connection, target: Path, progress: PageProgress = quiet) -> None:
    """Every page of `source`, as its transaction sees it, into the new file `target`, which is one file: no log beside
    it.
    """
    try:
        files.create(target)
        with closing(sqlite3.connect(target, isolation_level=None)) as made:
            made.execute("PRAGMA synchronous = OFF")  # synced once, at the end, by whoever renames it
            source.backup(made, pages=_PAGES_AT_ONCE, progress=lambda _, left, pages: progress(pages - left, pages))
            made.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")):
            # What is written is the copy; SQLite does not say which of the two files it means.
            raise OSError(errno.EIO, str(error)) from error
        raise


def verified(path: Path, expected: Sums) -> None:
    """Open the copy and hold it against what was copied; `DatabaseError` says what is wrong with it."""
    with looking(path, additions=True) as connection:
        found = faults(connection, 1)
        if found:
            raise DatabaseError(f"the database is damaged ({found[0]}); `storemon check` says more")
        if sums(connection) != expected:
            raise DatabaseError(f"the copy has {sums(connection)} where the database has {expected}; try again")


def backup(path: Path, target: Path, progress: PageProgress = quiet) -> Sums:
    """What the verified copy of the database `path` at `target` holds. The copy replaces a file there whole or not at
    all.

    Errors of SQLite and of the system are the caller's to put into sentences.
    """
    with files.replacing(target) as temporary:
        files.refuse_second_name(path)
        with looking(path, additions=True) as source:
            _room_for(source, target.parent)
            expected = sums(source)
            copy(source, temporary, progress)
        verified(temporary, expected)
    return expected


def _room_for(source: sqlite3.Connection, folder: Path) -> None:
    """`OSError` when the copy cannot fit: found out now, a copy does not fill the disk under those who write."""
    size = _number(source, "page_count") * _number(source, "page_size")
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, f"the disk is full: {size / 1e6:,.1f} MB are needed")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
