"""Bringing a database's schema up to date, one step after the other, in one transaction."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from storemon_flask.database import schema
from storemon_flask.errors import DatabaseError

_SET: Final = "storemon"
_NAMES: Final = tuple(step.__name__ for step in schema.STEPS)


def pending(connection: sqlite3.Connection) -> list[str]:
    """The names of the steps still to be made, oldest first; `DatabaseError` for a file of somebody else or of the
    future.

    Asked with plain sqlite3: sqlite_utils is imported only when there is something to do.
    """
    applied = _applied(connection)
    if applied is None:
        return list(_NAMES)
    if not applied:
        raise DatabaseError(f"{_path(connection)} is another program's database; set STOREMON_DATABASE to another path")
    unknown = sorted(applied - set(_NAMES))
    if unknown:
        raise DatabaseError(
            f"{_path(connection)} was made by a newer storemon (it has {unknown[-1]}); "
            "install that version, or set STOREMON_DATABASE to another path"
        )
    return [name for name in _NAMES if name not in applied]


def is_of_another_program(connection: sqlite3.Connection) -> bool:
    """Whether the file has tables, and none of storemon's steps made them."""
    return _applied(connection) == set()


def bring_up_to_date(
    connection: sqlite3.Connection,
    begin: Callable[[sqlite3.Connection], None],
    keep_copy: Callable[[str], None] = lambda step: None,
) -> None:
    """Make every step that is due, or none: a step that fails leaves the schema as it was. `begin` takes the write
    lock.

    `keep_copy` is called with the first step's name before an existing database is changed; what it raises ends the
    migration.
    """
    if not pending(connection):
        return
    with _no_pandas():
        from sqlite_utils import Database
        from sqlite_utils.migrations import Migrations

    steps = Migrations(_SET)
    for step in schema.STEPS:
        steps()(step)
    # The lock first: two processes may both have found the same steps due. The second then finds none.
    begin(connection)
    try:
        due = pending(connection)
        if due:
            if len(due) < len(_NAMES):
                # Under the lock: what is copied is what is migrated, and only the one who migrates makes a copy.
                keep_copy(due[0])
            steps.apply(Database(connection, execute_plugins=False))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _applied(connection: sqlite3.Connection) -> set[str] | None:
    """The steps that made the file, none for another program's; None for a file without a table."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "_sqlite_migrations" not in tables:
        return set()
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [_SET])
    return {name for (name,) in rows}


@contextmanager
def _no_pandas() -> Iterator[None]:
    """sqlite_utils imports pandas if it can, for frames that nobody gives it here; a first start would wait half a
    second.
    """
    absent = "pandas" not in sys.modules
    if absent:
        sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules["pandas"]


def _path(connection: sqlite3.Connection) -> str:
    return next((file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"), "")
