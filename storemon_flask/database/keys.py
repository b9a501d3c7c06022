"""Keys for the HTTP interface: added, listed, revoked, and compared with what a request brings."""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from storemon_flask.database.connections import Database
from storemon_flask.database.credentials import PROCESS_SECRET, Credentials, digest_of, value_of
from storemon_flask.errors import Forbidden, Unauthorized, Unprocessable
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
_KEYS: Final = Credentials("api_key", "key", "sm_", "scope", "api_key")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key without the key: the prefix that names it, its scope, when it was added and revoked."""

    prefix: str
    scope: str
    label: str
    created_us: int
    revoked_us: int | None


def add(database: Database, scope: str, label: str, now_us: int) -> str:
    """Return a new key, to be shown once. Creates the database when there is none.

    `Unprocessable` for an unknown scope, or a label that is no short line of text.
    """
    if scope not in SCOPES:
        raise Unprocessable(f"{scope!r} is no scope; it must be {', '.join(SCOPES)}")
    return _KEYS.add(database, scope, label, now_us)


def rows(database: Database) -> list[KeyRow]:
    """Return every key without the key itself, revoked ones too, oldest first. `DatabaseError` without a database."""
    return [KeyRow(**row) for row in _KEYS.rows(database)]


def revoke(database: Database, prefix: str, now_us: int) -> KeyRow:
    """Revoke the key of that prefix (or the key itself) unless it is revoked, and return it.

    `NotFound` names a prefix that is not there; `DatabaseError` without a database.
    """
    return KeyRow(**_KEYS.revoke(database, prefix, now_us))


def required(database: Database, master: Secret) -> bool:
    """Return whether requests need a key: one is set, or one was ever added, even if all were revoked."""
    if master:
        return True
    if not database.exists():
        return False
    with database.read() as connection:
        return _KEYS.stored(connection, "") is not None


def admit(database: Database, master: Secret, given: str | None, needed: str, always: bool = False) -> bool:
    """Let a request in that brings the key `given` (None: no key) and needs a scope; return whether a key was needed.

    `master` is STOREMON_API_KEY and allows everything. Without it and without a key in the database everybody is let
    in, unless `always`. `Unauthorized` without a key or with an unknown or revoked one, `Forbidden` names the scope
    that the key lacks. At most one read of the database.
    """
    if (
        master
        and given is not None
        and hmac.compare_digest(digest_of(PROCESS_SECRET, given), digest_of(PROCESS_SECRET, master.value))
    ):
        return True
    stored = None
    if database.exists():
        with database.read() as connection:
            stored = _KEYS.stored(connection, given or "")
    if stored is None and not master and not always:
        return False
    if given is None:
        raise Unauthorized(
            "this needs a key: send it as `Authorization: Bearer KEY`, or as the password of Basic authentication "
            "with any user name; `storemon keys add` makes one"
        )
    scope = value_of(stored, given)
    if scope is None:
        raise Unauthorized("the key is not known here, or was revoked; `storemon keys list` shows which there are")
    if not Scope(scope).includes(Scope(needed)):
        raise Forbidden(
            f"this needs a key of scope {needed}; the one sent has scope {scope}. "
            f"`storemon keys add --scope {needed}` makes one"
        )
    return True
