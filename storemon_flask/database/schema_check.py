"""Compares the schema of a file with the one that this program makes: what else is in there could change what is read
or written.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Final

from storemon_flask.database import schema
from storemon_flask.errors import DatabaseError

_STEPS_TABLE: Final = "_sqlite_migrations"
# As sqlite-utils makes it.
_STEPS_SQL: Final = (
    f"CREATE TABLE {_STEPS_TABLE} (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)",
    f"CREATE UNIQUE INDEX idx_{_STEPS_TABLE}_migration_set_name ON {_STEPS_TABLE} (migration_set, name)",
)
# Made by SQLite itself, for AUTOINCREMENT and ANALYZE.
_OF_SQLITE: Final = frozenset({"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"})
# Two states of this program made other tables of reports under these steps' names; the step after them makes them one.
_ONE_TABLE_OF_REPORTS: Final = "m004a_one_table_of_reports"
# Before this step the view `poll` was another one, which the step drops unread.
_OWN_VIEWS: Final = "m007_completeness_and_notes"

# Type, name, name of the table it belongs to, and SQL without what SQLite's versions write differently.
_Entry = tuple[str, str, str, str]


def refuse_foreign(connection: sqlite3.Connection) -> None:
    """`DatabaseError` when the schema has anything that this program does not make: for files that come from elsewhere."""
    for sentence in (*_dangers(connection), *additions(connection)):
        raise DatabaseError(f"{_path(connection)} {sentence}")


def refuse_dangerous(connection: sqlite3.Connection) -> None:
    """`DatabaseError` for a trigger, or a table, view or index of this program's that was changed: for the database in
    use.
    """
    for sentence in _dangers(connection):
        raise DatabaseError(f"{_path(connection)} {sentence}")


def additions(connection: sqlite3.Connection) -> list[str]:
    """What else is in the file: tables, views and indexes that somebody added and this program never reads; as
    sentences.
    """
    applied = _applied(connection)
    expected = _expected(applied)
    old_view = set() if _OWN_VIEWS in applied else {("view", "poll")}
    return [
        f'has the {kind} {name!r}, which is not storemon\'s; take it out (`DROP {kind.upper()} "{name}"`)'
        for kind, name, _, _ in _entries(connection)
        if kind != "trigger" and name not in expected and name not in _OF_SQLITE and (kind, name) not in old_view
    ]


def _dangers(connection: sqlite3.Connection) -> Iterator[str]:
    applied = _applied(connection)
    expected = _expected(applied)
    loose = {"report", "report_state"} if _ONE_TABLE_OF_REPORTS not in applied else set()
    present = set()
    for entry in _entries(connection):
        kind, name, _, _ = entry
        if kind == "trigger":
            yield (
                f"has the trigger {name!r}, which is not storemon's and could change what is stored; "
                f'look at what it did, then take it out (`DROP TRIGGER "{name}"`), or use another backup'
            )
        elif name in present:
            yield f"has {name!r} twice; use another backup"
        elif name in expected and entry != expected[name] and (name not in loose or kind != expected[name][0]):
            yield f"has the {kind} {name!r} in another form than storemon makes it; use another backup"
        elif name.startswith("sqlite_") and name not in expected and (name not in _OF_SQLITE or kind != "table"):
            yield f"has the {kind} {name!r}, which SQLite does not make here; use another backup"
        present.add(name)
    for name in sorted(set(expected) - present - loose):
        yield f"has no {expected[name][0]} {name!r}, which every database of storemon's has; use another backup"


def _entries(connection: sqlite3.Connection) -> list[_Entry]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return [(str(kind), str(name), str(table), _plain(sql)) for kind, name, table, sql in rows]


def _plain(sql: object) -> str:
    """The statement without quotes around names and with single spaces."""
    if not isinstance(sql, str):
        return ""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql.replace('"', ""))).strip()


def _applied(connection: sqlite3.Connection) -> frozenset[str]:
    """The steps of this program that made the file."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", [_STEPS_TABLE]).fetchone()
    if kind != ("table",):
        # An empty file; any other without that table is another program's, which `migrations.pending` refuses.
        return frozenset()
    known = {step.__name__ for step in schema.STEPS}
    rows = connection.execute(f"SELECT name FROM {_STEPS_TABLE} WHERE migration_set = 'storemon'")
    return frozenset(name for (name,) in rows if name in known)


@cache
def _expected(applied: frozenset[str]) -> dict[str, _Entry]:
    """What those steps make, by name."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for step in schema.STEPS:
            if step.__name__ in applied:
                # The steps only execute statements: sqlite_utils, which is slow to import, is not needed for that.
                step(connection)  # type: ignore[arg-type]
        for statement in _STEPS_SQL if applied else ():
            connection.execute(statement)
        return {entry[1]: entry for entry in _entries(connection)}


def _path(connection: sqlite3.Connection) -> str:
    return next((file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"), "")
