"""Tokens of push addresses: each may add polls of one store, and do nothing else."""

from dataclasses import dataclass
from typing import Final

from storemon_flask.database.connections import Database
from storemon_flask.database.credentials import Credentials, value_of
from storemon_flask.errors import NotFound

START: Final = "st_"
_TOKENS: Final = Credentials("push_token", "token", START, "store_id", "push_token")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token without the token: the prefix that names it, its store, when it was added and revoked."""

    prefix: str
    store_id: str
    label: str
    created_us: int
    revoked_us: int | None


def add(database: Database, store_id: str, label: str, now_us: int) -> str:
    """Return a new token for polls of that store, to be shown once. Creates the database when there is none.

    `Unprocessable` for a label that is no short line of text.
    """
    return _TOKENS.add(database, store_id, label, now_us)


def rows(database: Database) -> list[TokenRow]:
    """Return every token without the token itself, revoked ones too, oldest first. `DatabaseError` without a
    database.
    """
    return [TokenRow(**row) for row in _TOKENS.rows(database)]


def revoke(database: Database, prefix: str, now_us: int) -> TokenRow:
    """Revoke the token of that prefix (or the token itself) unless it is revoked, and return it.

    `NotFound` names a prefix that is not there; `DatabaseError` without a database.
    """
    return TokenRow(**_TOKENS.revoke(database, prefix, now_us))


def store_of(database: Database, token: str) -> str:
    """Return the store whose polls the token may add; `NotFound`, which does not repeat it, when it is wrong."""
    stored = None
    if database.exists():
        with database.read() as connection:
            stored = _TOKENS.stored(connection, token)
    store_id = value_of(stored, token)
    if store_id is None:
        raise NotFound(
            "there is no such push address, or its token was revoked; `storemon tokens add --store ID` makes one"
        )
    return store_id
