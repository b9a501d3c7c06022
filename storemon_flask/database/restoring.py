"""A backup put in the place of the present database, in one transaction of SQLite's own.

The pages of the backup are written into the present file through its log: a kill at any point leaves the old content or
the new one, and no log of the old file can be taken for one of the new, as could happen when a file is renamed over
another.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.database import check, copies, files, polls, schema
from storemon_flask.database.copies import PageProgress, Sums
from storemon_flask.errors import DatabaseError

# How long other commands have to finish before a restore gives up.
PATIENCE_S: float = 20.0
_UNUSABLE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def staged(backup: Path, temporary: Path, progress: PageProgress) -> Sums:
    """What the backup holds: copied, found whole and brought up to this program's schema, in a file of its own.

    `DatabaseError` when it is damaged, no database of storemon's, or of a newer one.
    """
    with copies.looking(backup) as source:
        for fault in copies.faults(source, 1):
            _refuse(backup, fault)
        check.values(source, partial(_refuse, backup))
        expected = copies.sums(source)
        copies.copy(source, temporary, progress)
    with closing(sqlite3.connect(temporary, isolation_level=None)) as made:
        made.execute("PRAGMA foreign_keys = ON")
        # Here, and not on the read-only connection above, SQLite looks at what the tables allow in their columns.
        for fault in copies.faults(made, 1):
            _refuse(backup, fault)
        schema.bring_up_to_date(made, _begin)
        polls.check(made, partial(_refuse, backup), lambda weeks: None)
        check.hours(made, partial(_refuse, backup))
        check.special_hours(made, partial(_refuse, backup))
        check.zones(made, frozenset(zonedata.names()), partial(_refuse, backup))
    copies.verified(temporary, expected)
    return expected


def _refuse(backup: Path, fault: str) -> None:
    raise DatabaseError(f"{backup} is damaged ({fault}); nothing was restored")


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def swap(path: Path, temporary: Path, kept: Path, progress: PageProgress) -> bool:
    """Keep what is at `path` as `kept`, and put the staged backup there; whether there was anything to keep.

    `DatabaseError` when another program has the database open for longer than `PATIENCE_S`.
    """
    for leftover in files.leftovers(path):
        if leftover != temporary:
            files.remove(leftover)
    files.refuse_second_name(path)
    if path.is_file() and path.stat().st_size:
        try:
            with _alone(path) as present:
                _refuse_another_programs(present, path)
                with files.replacing(kept) as keeping:
                    copies.copy(present, keeping)
                _number_after(present, temporary)
                with closing(sqlite3.connect(temporary, isolation_level=None)) as source:
                    source.backup(present, pages=-1)
                    progress(1, 1)
            return True
        except sqlite3.DatabaseError as error:
            if not (getattr(error, "sqlite_errorname", None) or "").startswith(_UNUSABLE):
                raise
    return _replace_file(path, temporary, kept)


@contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that nobody else can have one beside: what it keeps and what it then overwrites are the same."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE_S)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            raise DatabaseError(
                f"another program still has {path} open; nothing was restored. Let it finish, then restore again"
            ) from None
        yield connection


def _refuse_another_programs(present: sqlite3.Connection, path: Path) -> None:
    if schema.is_of_another_program(present):
        raise DatabaseError(f"{path} is another program's database; set STOREMON_DATABASE to another path")


def _number_after(present: sqlite3.Connection, temporary: Path) -> None:
    """Data versions go on from the higher of the two: equal numbers must go on to mean equal data."""
    with closing(sqlite3.connect(temporary, isolation_level=None)) as made:
        try:
            version, schedule = present.execute("SELECT version, schedule FROM data_version").fetchone()
        except (sqlite3.DatabaseError, TypeError):
            # A damaged one, or one from before the first release: far enough from any number it can have had.
            version = schedule = 1 << 40
        made.execute(
            "UPDATE data_version SET version = max(version, ?) + 1, schedule = max(schedule, ?) + 1",
            (version, schedule),
        )
        page_bytes = present.execute("PRAGMA page_size").fetchone()[0]
        if made.execute("PRAGMA page_size").fetchone()[0] != page_bytes:
            # Pages can only be put in the place of pages of their size.
            made.execute(f"PRAGMA page_size = {page_bytes:d}")
            made.execute("VACUUM")


def _replace_file(path: Path, temporary: Path, kept: Path) -> bool:
    """Where there is no database that SQLite can open. A log without its database must not be left for the new file."""
    there = path.is_file()
    if there:
        for suffix in ("", "-wal"):
            if files.beside(path, suffix).is_file():
                with files.replacing(files.beside(kept, suffix)) as keeping:
                    shutil.copyfile(files.beside(path, suffix), keeping)
    for suffix in files.COMPANIONS:
        files.beside(path, suffix).unlink(missing_ok=True)
    files.put(temporary, path)
    return there
