"""Long texts of reports, each stored once: what was asked (shape and stores) and what came out (method and altered
texts).
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from typing import Final

from storemon_flask.database.report_row import LISTED_STORES

# Shorter ones stand in the row of the report: a row of their own would take as much.
_LONG: Final = 100


def is_long(small: str | None, large: str | None) -> bool:
    """Whether the two texts are stored here rather than in the report's row."""
    return len(small or "") + len(large or "") > _LONG


def intern(
    connection: sqlite3.Connection, small: str | None, large: str | None, stores: list[str] | None = None
) -> int:
    """The number of these two texts, stored now unless they are there; `stores` is the list that `large` is, if it is
    one.
    """
    digest = hashlib.sha256(f"{len(small or '')} {small} {large}".encode()).hexdigest()
    known = connection.execute("SELECT number FROM report_text WHERE digest = ?", [digest]).fetchone()
    if known is not None:
        return int(known[0])
    count, first = (None, None) if stores is None else (len(stores), json.dumps(stores[:LISTED_STORES]))
    size = len((small or "").encode()) + len((large or "").encode())
    added = connection.execute(
        "INSERT INTO report_text (digest, byte_count, store_count, first_stores, small, large) VALUES (?, ?, ?, ?, ?, ?)",
        (digest, size, count, first, small, large),
    )
    return int(added.lastrowid or 0)


def release(connection: sqlite3.Connection, numbers: Iterable[int | None]) -> None:
    """Remove those of these texts that no report has any more."""
    connection.executemany(
        "DELETE FROM report_text WHERE number = ? AND NOT EXISTS (SELECT 1 FROM report WHERE asked_text = number) "
        "AND NOT EXISTS (SELECT 1 FROM report WHERE outcome_text = number)",
        [(number,) for number in set(numbers) if number is not None],
    )


def asked_bytes(connection: sqlite3.Connection) -> int:
    """How many bytes the texts have that say what reports asked."""
    found = connection.execute(
        "SELECT coalesce(sum(byte_count), 0) FROM report_text WHERE number IN "
        "(SELECT asked_text FROM report WHERE asked_text IS NOT NULL)"
    )
    return int(found.fetchone()[0])


def waiting_bytes(connection: sqlite3.Connection) -> int:
    """How many bytes the texts have that reports ask that wait."""
    found = connection.execute(
        "SELECT coalesce(sum(byte_count), 0) FROM report_text WHERE number IN "
        "(SELECT asked_text FROM report WHERE state = 'pending' AND asked_text IS NOT NULL)"
    )
    return int(found.fetchone()[0])
