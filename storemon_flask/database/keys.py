"""Keys for the HTTP interface: added, listed, revoked, and compared with what a request brings.

What is stored of a key is not enough to make one: its prefix, and a digest with a secret of this database alone.
"""

import hmac
import secrets
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storemon_flask.database.connections import Database, named_rows
from storemon_flask.errors import Forbidden, NotFound, Unauthorized, Unprocessable
from storemon_flask.settings import Secret


class Scope(StrEnum):
    """What a key allows; each allows what those before it allow."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Return whether a key of this scope may do what needs the other."""
        return SCOPES.index(self) >= SCOPES.index(other)


SCOPES: Final = tuple(Scope)
_SECRET_NAME: Final = "api_key"
_SECRET_BYTES: Final = 32
_START: Final = "sm_"
_PREFIX_CHARACTERS: Final = len(_START) + 8
_SECRET_HEX_BYTES: Final = 24
_LABEL_CHARACTERS: Final = 100
# Random for each process: both sides of a comparison are digests of one length, whatever was sent.
_PROCESS: Final = secrets.token_bytes(32)
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key without the key: the prefix that names it, its scope, when it was added and revoked."""

    prefix: str
    scope: str
    label: str
    created_us: int
    revoked_us: int | None


_KEY_COLUMNS: Final = ", ".join(KeyRow.__slots__)


def add(database: Database, scope: str, label: str, now_us: int) -> str:
    """Return a new key, to be shown once: 192 random bits behind its prefix. Creates the database when there is none.

    `Unprocessable` for an unknown scope, or a label that is no short line of text.
    """
    if scope not in SCOPES:
        raise Unprocessable(f"{scope!r} is no scope; it must be {', '.join(SCOPES)}")
    if len(label) > _LABEL_CHARACTERS or not label.isprintable():
        raise Unprocessable(f"a label is one line of at most {_LABEL_CHARACTERS} printable characters")
    with database.write() as connection:
        secret = _secret(connection)
        while True:
            prefix = _START + secrets.token_hex((_PREFIX_CHARACTERS - len(_START)) // 2)
            key = prefix + secrets.token_hex(_SECRET_HEX_BYTES)
            added = connection.execute(
                "INSERT INTO api_key (prefix, digest, scope, label, created_us) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (prefix, _digest(secret, key), scope, label, now_us),
            )
            if added.rowcount:
                return key


def rows(database: Database) -> list[KeyRow]:
    """Return every key without the key itself, revoked ones too, oldest first. `DatabaseError` without a database."""
    with database.read() as connection:
        return [KeyRow(**row) for row in named_rows(connection, f"SELECT {_KEY_COLUMNS} FROM api_key ORDER BY id")]


def revoke(database: Database, prefix: str, now_us: int) -> KeyRow:
    """Revoke the key of that prefix (or the key itself) unless it is revoked, and return it.

    `NotFound` names a prefix that is not there; `DatabaseError` without a database.
    """
    prefix = _prefix(prefix)
    if prefix not in {row.prefix for row in rows(database)}:
        raise NotFound(f"there is no key {prefix}; `storemon keys list` shows the prefixes of all")
    with database.write() as connection:
        connection.execute(
            "UPDATE api_key SET revoked_us = ? WHERE prefix = ? AND revoked_us IS NULL", (now_us, prefix)
        )
        return KeyRow(
            **named_rows(connection, f"SELECT {_KEY_COLUMNS} FROM api_key WHERE prefix = ?", [prefix]).fetchone()
        )


def required(database: Database, master: Secret) -> bool:
    """Return whether requests need a key: one is set, or one was ever added, even if all were revoked."""
    if master:
        return True
    if not database.exists():
        return False
    with database.read() as connection:
        return _stored(connection, "") is not None


def admit(database: Database, master: Secret, given: str | None, needed: str, always: bool = False) -> bool:
    """Let a request in that brings the key `given` (None: no key) and needs a scope; return whether a key was needed.

    `master` is STOREMON_API_KEY and allows everything. Without it and without a key in the database everybody is let
    in, unless `always`. `Unauthorized` without a key or with an unknown or revoked one, `Forbidden` names the scope
    that the key lacks. At most one read of the database.
    """
    if master and given is not None and hmac.compare_digest(_digest(_PROCESS, given), _digest(_PROCESS, master.value)):
        return True
    stored = None
    if database.exists():
        with database.read() as connection:
            stored = _stored(connection, _prefix(given or ""))
    if stored is None and not master and not always:
        return False
    if given is None:
        raise Unauthorized(
            "this needs a key: send it as `Authorization: Bearer KEY`, or as the password of Basic authentication "
            "with any user name; `storemon keys add` makes one"
        )
    # For an unknown prefix the same is computed, against what no key gives.
    secret, digest, scope = stored or (_PROCESS, None, None)
    is_right = hmac.compare_digest(_digest(secret, given), digest or _NO_DIGEST)
    if not is_right or scope is None:
        raise Unauthorized("the key is not known here, or was revoked; `storemon keys list` shows which there are")
    if not Scope(scope).includes(Scope(needed)):
        raise Forbidden(
            f"this needs a key of scope {needed}; the one sent has scope {scope}. "
            f"`storemon keys add --scope {needed}` makes one"
        )
    return True


def _stored(connection: sqlite3.Connection, prefix: str) -> tuple[bytes, str | None, str | None] | None:
    """Return this database's secret, and digest and scope of the live key of that prefix if there is one.

    None when no key was ever added to this database.
    """
    row = connection.execute(
        "SELECT secret.value, api_key.digest, api_key.scope FROM secret "
        "LEFT JOIN api_key ON api_key.prefix = ? AND api_key.revoked_us IS NULL WHERE secret.name = ?",
        [prefix, _SECRET_NAME],
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _secret(connection: sqlite3.Connection) -> bytes:
    """Return the random bytes that this database's digests are made with, stored when there are none yet."""
    connection.execute(
        "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (_SECRET_NAME, secrets.token_bytes(_SECRET_BYTES)),
    )
    (value,) = connection.execute("SELECT value FROM secret WHERE name = ?", [_SECRET_NAME]).fetchone()
    return bytes(value)


def _prefix(text: str) -> str:
    """Return the start of a key that names it; also of a prefix without its `sm_`."""
    return (_START + text.removeprefix(_START))[:_PREFIX_CHARACTERS]


def _digest(secret: bytes, key: str) -> str:
    return hmac.new(secret, key.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
