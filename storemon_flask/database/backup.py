"""A backup of the database, and the way back."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storemon_flask.database import copies, files, restoring
from storemon_flask.database.connections import explained_errors
from storemon_flask.database.copies import PageProgress, quiet
from storemon_flask.database.copies import Sums as Sums
from storemon_flask.errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds, and how many bytes long it is."""

    sums: Sums
    bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in the database now, and where the one before is kept (None: there was none)."""

    sums: Sums
    kept: Path | None


def backup(database: Path, target: Path, progress: PageProgress = quiet, *, force: bool = False) -> Copied:
    """Make a verified copy of the database at `target`, of one moment, while others read and write.

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
    with explained_errors(database), _written(target):
        held = copies.backup(database, target.resolve(), progress)
    return Copied(held, target.stat().st_size)


def _check_replaceable(target: Path) -> None:
    """Raise `DatabaseError` when `target` is a file that is neither empty nor a storemon database of this version or an
    older one.
    """
    if not target.exists() or target.stat().st_size == 0:
        return
    try:
        look(target)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        raise DatabaseError(
            f"{target} exists and is no backup that this storemon can read; nothing was written. "
            "Name another file, or replace this one with --force"
        ) from error


def look(backup_file: Path) -> Sums:
    """What a backup holds, at a glance; `DatabaseError` when it is none, or one of a newer storemon."""
    with explained_errors(backup_file, backup=True), copies.looking(backup_file) as connection:
        return copies.sums(connection)


def restore(database: Path, backup_file: Path, now_us: int, progress: PageProgress = quiet) -> Restored:
    """Put a backup in the database's place, having checked it; what was there is kept in a file beside it.

    Only for whoever holds the server's lock. `DatabaseError` when the backup cannot be used or the database is in use.
    """
    if backup_file.resolve() == database.resolve():
        raise DatabaseError(f"{backup_file} is the database itself; name a backup")
    kept = _free_name(database, now_us)
    with _written(database):
        files.make_folder(database.parent)
        temporary = files.beside(database.with_name(f".{database.name}"), ".restoring.tmp")
        files.remove(temporary)
        try:
            with explained_errors(backup_file, backup=True):
                sums = restoring.staged(backup_file, temporary, progress)
            with explained_errors(database):
                there = restoring.swap(database, temporary, kept, progress)
        finally:
            files.remove(temporary)
    return Restored(sums, kept if there else None)


def _free_name(database: Path, now_us: int) -> Path:
    at = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    name = files.beside(database, f".before-restore-{at:%Y%m%dT%H%M%SZ}")
    number = 2
    while name.exists():
        name = files.beside(database, f".before-restore-{at:%Y%m%dT%H%M%SZ}-{number}")
        number += 1
    return name


@contextmanager
def _written(target: Path) -> Iterator[None]:
    """What the system says of a file that cannot be written, as a sentence."""
    try:
        yield
    except OSError as error:
        raise DatabaseError(f"{target} cannot be written: {error.strerror or error}") from error
    except sqlite3.OperationalError as error:
        raise DatabaseError(f"{target} cannot be written: {error}") from error
