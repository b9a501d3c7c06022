"""A verified copy of the database, and the way back.

Copies are made by SQLite's backup interface inside one read transaction, not by `VACUUM INTO`: 3.4 million polls
(32 MB) take 0.04 s against 0.065 s, progress is known, and the source can be counted in the very transaction that is
copied, so that the counts of a whole copy must be equal. `VACUUM INTO` leaves unused pages out; they cost little here,
as later loads use them again.

A restore writes the pages of the backup into the present file through its log: a kill at any point leaves the old
content or the new one, and no log of the old file can be taken for one of the new, as could happen when a file is
renamed over another.
"""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Final

from storemon_flask.clock import utc_datetime
from storemon_flask.database import check, day_sums, files, messages, polls, schedules, schema
from storemon_flask.database.connections import Connection, connect, explained_errors
from storemon_flask.errors import DatabaseError

# Called with how many of how many pages are copied.
PageProgress = Callable[[int, int], None]
# How long other commands have to finish before a restore gives up.
PATIENCE_S: float = 20.0
_PAGES_AT_ONCE: Final = 2_000
_UNUSABLE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@dataclass(frozen=True, slots=True)
class Sums:
    """How much a database holds: rows of stores, polls, hours, loads and reports."""

    stores: int
    polls: int
    hours: int
    loads: int
    reports: int


def backup(
    database: Path, target: Path, progress: PageProgress = lambda done, pages: None, *, force: bool = False
) -> Sums:
    """Make a verified copy of the database at `target`, of one moment, while others read and write; return its sums.

    `DatabaseError` when there is no database, it is damaged, the copy cannot be written, or (without `force`) it would
    replace a file that is no storemon database; what was at `target` stays then.
    """
    if target.is_dir():
        raise DatabaseError(f"{target} is a folder; name a file in it, such as {target / 'storemon-backup.db'}")
    if target.resolve() in {files.beside(database, suffix).resolve() for suffix in ("", *files.COMPANIONS)}:
        raise DatabaseError(f"{target} belongs to the database itself; name another file")
    if target.exists() and not target.is_file():
        raise DatabaseError(f"{target} is no regular file; name a file")
    if not force:
        _check_replaceable(target)
    files.refuse_second_name(database)
    with (
        _explained(database, "read"),
        explained_errors(database),
        check.open_unchanged(database, additions=True) as source,
    ):
        sums = _sums(source)
        with _explained(target, "written"), files.replacing(target.resolve()) as temporary:
            _require_room(source, target.resolve().parent)
            with explained_errors(database):
                _copy(source, temporary, progress)
            _verify(temporary, sums)
    return sums


def read_sums(backup_file: Path) -> Sums:
    """Return what a backup holds; `DatabaseError` when it is none, or one of a newer storemon."""
    with explained_errors(backup_file, backup=True), check.open_unchanged(backup_file) as connection:
        return _sums(connection)


def restore(
    database: Path, backup_file: Path, now_us: int, progress: PageProgress = lambda done, pages: None
) -> tuple[Sums, Path | None]:
    """Put a backup in the database's place, having checked it; what was there is kept in a file beside it.

    Returns what is in the database now, and where the one before is kept (None: there was none).

    Only for whoever holds the server's lock. `DatabaseError` when the backup cannot be used or the database is in use.
    """
    if backup_file.resolve() == database.resolve():
        raise DatabaseError(f"{backup_file} is the database itself; name a backup")
    kept_file = _free_name(database, now_us)
    with _explained(database, "written"):
        files.make_folder(database.parent)
        temporary = files.beside(database.with_name(f".{database.name}"), ".restoring.tmp")
        files.remove(temporary)
        try:
            with explained_errors(backup_file, backup=True):
                sums = _stage(backup_file, temporary, now_us, progress)
            with explained_errors(database):
                was_there = _swap(database, temporary, kept_file, progress)
        finally:
            files.remove(temporary)
    return sums, kept_file if was_there else None


def _check_replaceable(target: Path) -> None:
    """Raise `DatabaseError` when `target` is a file that is neither empty nor a storemon database that can be read."""
    if not target.exists() or target.stat().st_size == 0:
        return
    try:
        read_sums(target)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        raise DatabaseError(
            f"{target} exists and is no backup that this storemon can read; nothing was written. "
            "Name another file, or replace this one with --force"
        ) from error


@contextmanager
def _explained(file: Path, done: str) -> Iterator[None]:
    """Raise what the system says of a file that cannot be `done` ("read", "written") as a `DatabaseError`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise DatabaseError(f"{file} cannot be {done}: {getattr(error, 'strerror', None) or error}") from error


def _require_room(source: Connection, folder: Path) -> None:
    """Raise `OSError` when the copy cannot fit: noticed now, it does not fill the disk under those who write."""
    size = _pragma(source, "page_count") * _pragma(source, "page_size")
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, f"the disk is full: {size / 1e6:,.1f} MB are needed")


def _pragma(source: Connection, name: str) -> int:
    return int(source.execute(f"PRAGMA {name}").fetchone()[0])


def _sums(connection: Connection) -> Sums:
    stores, hours, loads, reports = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("store_record", "hours", "load", "report")
    )
    return Sums(stores, polls.count(connection), hours, loads, reports)


def _copy(source: Connection, target: Path, progress: PageProgress = lambda done, pages: None) -> None:
    """Copy every page of `source`, in its transaction, into the new file `target`, which gets no log beside it."""
    try:
        files.create(target)
        with closing(connect(target, "rw")) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # synced once, at the end, by whoever renames it
            source.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda _, left, pages: progress(pages - left, pages))
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        # SQLite does not say which of the two files it means: what cannot be read is the source.
        if error.sqlite_errorname in ("SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"):
            raise
        raise OSError(errno.EIO, str(error)) from error


def _verify(path: Path, expected: Sums) -> None:
    """Raise `DatabaseError` when the copy is damaged or holds something else than was copied."""
    with check.open_unchanged(path, additions=True) as connection:
        faults = check.page_faults(connection, 1)
        if faults:
            raise DatabaseError(f"the database is damaged ({faults[0]}); `storemon check` says more")
        if _sums(connection) != expected:
            raise DatabaseError(f"the copy has {_sums(connection)} where the database has {expected}; try again")


def _stage(backup_file: Path, temporary: Path, now_us: int, progress: PageProgress) -> Sums:
    """Copy the backup into a file of its own, checked and with this program's schema, and return what it holds.

    No message waits in it, and no scheduled report is under way.

    `DatabaseError` when it is damaged, no database of storemon's, or of a newer one.
    """
    refuse = partial(_refuse, backup_file)
    with check.open_unchanged(backup_file) as source:
        for fault in check.page_faults(source, 1):
            refuse(fault)
        check.check_values(source, refuse)
        sums = _sums(source)
        _copy(source, temporary, progress)
    with closing(connect(temporary, "rw")) as staged:
        staged.execute("PRAGMA foreign_keys = ON")
        # Here, and not on the read-only connection above, SQLite looks at what the tables allow in their columns.
        for fault in check.page_faults(staged, 1):
            refuse(fault)
        schema.bring_up_to_date(staged, lambda connection: connection.execute("BEGIN IMMEDIATE"))
        messages.drop_waiting(staged, "it waited in a backup that was restored", now_us)
        schedules.skip_under_way(staged, "it was under way in a backup that was restored", now_us)
        # They are computed again from what was restored.
        day_sums.drop_all(staged)
        polls.check(staged, refuse, lambda weeks: None)
        for check_rows in (check.check_hours, check.check_special_hours, check.check_zones):
            check_rows(staged, refuse)
    _verify(temporary, sums)
    return sums


def _refuse(backup_file: Path, fault: str) -> None:
    raise DatabaseError(f"{backup_file} is damaged ({fault}); nothing was restored")


def _free_name(database: Path, now_us: int) -> Path:
    first = files.beside(database, f".before-restore-{utc_datetime(now_us):%Y%m%dT%H%M%SZ}")
    names = chain([first], (files.beside(first, f"-{number}") for number in count(2)))
    return next(name for name in names if not name.exists())


def _swap(database: Path, temporary: Path, kept_file: Path, progress: PageProgress) -> bool:
    """Keep what is at `database` as `kept`, and put the staged backup there; return whether anything was there.

    `DatabaseError` when another program has the database open for longer than `PATIENCE_S`.
    """
    for leftover in files.leftovers(database):
        if leftover != temporary:
            files.remove(leftover)
    files.refuse_second_name(database)
    if database.is_file() and database.stat().st_size:
        try:
            with _exclusive(database) as present:
                if schema.is_of_another_program(present):
                    raise DatabaseError(
                        f"{database} is another program's database; set STOREMON_DATABASE to another path"
                    )
                with files.replacing(kept_file) as keeping:
                    _copy(present, keeping)
                _continue_versions(present, temporary)
                with closing(connect(temporary, "rw")) as source:
                    source.backup(present, pages=-1)
                    progress(1, 1)
            return True
        except sqlite3.DatabaseError as error:
            if not (getattr(error, "sqlite_errorname", None) or "").startswith(_UNUSABLE):
                raise
    return _replace_file(database, temporary, kept_file)


@contextmanager
def _exclusive(database: Path) -> Iterator[Connection]:
    """Yield a connection that nobody can have one beside: what is kept and what is then overwritten are the same."""
    with closing(connect(database, "rw", PATIENCE_S)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            raise DatabaseError(
                f"another program still has {database} open; nothing was restored. Let it finish, then restore again"
            ) from None
        yield connection


def _continue_versions(present: Connection, temporary: Path) -> None:
    """Let data versions go on from the higher of the two: equal numbers must go on to mean equal data."""
    with closing(connect(temporary, "rw")) as staged:
        try:
            version, schedule = present.execute("SELECT version, schedule FROM data_version").fetchone()
        except (sqlite3.DatabaseError, TypeError):
            # A damaged one, or one from before the first release: far enough from any number it can have had.
            version = schedule = 1 << 40
        staged.execute(
            "UPDATE data_version SET version = max(version, ?) + 1, schedule = max(schedule, ?) + 1",
            (version, schedule),
        )
        page_bytes = _pragma(present, "page_size")
        if _pragma(staged, "page_size") != page_bytes:
            # Pages can only be put in the place of pages of their size.
            staged.execute(f"PRAGMA page_size = {page_bytes:d}")
            staged.execute("VACUUM")


def _replace_file(database: Path, temporary: Path, kept_file: Path) -> bool:
    """Put the file there where no database is that SQLite can open; the old log must not be left for the new file."""
    was_there = database.is_file()
    if was_there:
        for suffix in ("", "-wal"):
            if files.beside(database, suffix).is_file():
                with files.replacing(files.beside(kept_file, suffix)) as keeping:
                    shutil.copyfile(files.beside(database, suffix), keeping)
    for suffix in files.COMPANIONS:
        files.beside(database, suffix).unlink(missing_ok=True)
    files.put(temporary, database)
    return was_there
