"""Keys for the HTTP interface: what is stored of them, which is not enough to make one."""

import secrets
import sqlite3
from dataclasses import dataclass
from typing import Final

_NAME: Final = "api_key"
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key without the key: the prefix that names it, what it may do, when it was made and revoked."""

    prefix: str
    scope: str
    label: str
    created_us: int
    revoked_us: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """What there is to hold a given key against: this database's secret, and the live key of that prefix if there is
    one.
    """

    secret: bytes
    digest: str | None
    scope: str | None


def secret(connection: sqlite3.Connection) -> bytes:
    """The random bytes that this database's digests are made with; made when there are none yet. Within a write."""
    connection.execute(
        "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (_NAME, secrets.token_bytes(_SECRET_BYTES)),
    )
    (value,) = connection.execute("SELECT value FROM secret WHERE name = ?", [_NAME]).fetchone()
    return bytes(value)


def add(connection: sqlite3.Connection, prefix: str, digest: str, scope: str, label: str, created_us: int) -> bool:
    """A new key; False when there is one of that prefix already."""
    done = connection.execute(
        "INSERT INTO api_key (prefix, digest, scope, label, created_us) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (prefix, digest, scope, label, created_us),
    )
    return done.rowcount == 1


def held(connection: sqlite3.Connection, prefix: str) -> Held | None:
    """What a key of that prefix is held against; None when no key was ever added to this database."""
    row = connection.execute(
        "SELECT secret.value, api_key.digest, api_key.scope FROM secret "
        "LEFT JOIN api_key ON api_key.prefix = ? AND api_key.revoked_us IS NULL WHERE secret.name = ?",
        [prefix, _NAME],
    ).fetchone()
    return None if row is None else Held(*row)


def rows(connection: sqlite3.Connection) -> list[KeyRow]:
    """Every key, revoked ones too, oldest first."""
    found = connection.execute("SELECT prefix, scope, label, created_us, revoked_us FROM api_key ORDER BY id")
    return [KeyRow(*row) for row in found]


def revoke(connection: sqlite3.Connection, prefix: str, now_us: int) -> KeyRow | None:
    """The key of that prefix, revoked now if it was not before; None when there is none."""
    connection.execute(
        "UPDATE api_key SET revoked_us = ? WHERE prefix = ? AND revoked_us IS NULL",
        (now_us, prefix),
    )
    row = connection.execute(
        "SELECT prefix, scope, label, created_us, revoked_us FROM api_key WHERE prefix = ?", [prefix]
    ).fetchone()
    return None if row is None else KeyRow(*row)
