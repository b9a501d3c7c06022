"""Keys for the HTTP interface: made, listed, revoked, and held against what a request brings."""

import hmac
import secrets
from typing import Final

from storemon_flask.database import keys
from storemon_flask.database.connections import Database
from storemon_flask.database.keys import KeyRow as KeyRow
from storemon_flask.errors import Forbidden, NotFound, Unauthorized, Unprocessable
from storemon_flask.settings import Secret

# Each allows what those before it allow.
SCOPES: Final = ("read", "write", "admin")
_START: Final = "sm_"
_PREFIX_CHARACTERS: Final = len(_START) + 8
_SECRET_HEX_BYTES: Final = 24
_LABEL_CHARACTERS: Final = 100


def add(database: Database, scope: str, label: str, now_us: int) -> str:
    """A new key, to be shown once: 192 random bits behind its prefix. Makes the database when there is none.

    `Unprocessable` for a scope that is none, or a label that is no short line of text.
    """
    if scope not in SCOPES:
        raise Unprocessable(f"{scope!r} is no scope; it must be {', '.join(SCOPES)}")
    if len(label) > _LABEL_CHARACTERS or not label.isprintable():
        raise Unprocessable(f"a label is one line of at most {_LABEL_CHARACTERS} printable characters")
    with database.write() as connection:
        secret = keys.secret(connection)
        while True:
            prefix = _START + secrets.token_hex((_PREFIX_CHARACTERS - len(_START)) // 2)
            key = prefix + secrets.token_hex(_SECRET_HEX_BYTES)
            if keys.add(connection, prefix, _digest(secret, key), scope, label, now_us):
                return key


def rows(database: Database) -> list[KeyRow]:
    """Every key without the key itself, revoked ones too, oldest first. `DatabaseError` when there is no database."""
    with database.read() as connection:
        return keys.rows(connection)


def revoke(database: Database, prefix: str, now_us: int) -> KeyRow:
    """The key of that prefix (or the key itself), which no request is let in with any more.

    `NotFound` names a prefix that is not there; `DatabaseError` when there is no database.
    """
    wanted = _prefix(prefix)
    with database.read() as connection:
        known = {row.prefix for row in keys.rows(connection)}
    if wanted in known:
        with database.write() as connection:
            row = keys.revoke(connection, wanted, now_us)
        if row is not None:
            return row
    raise NotFound(f"there is no key {wanted}; `storemon keys list` shows the prefixes of all")


def required(database: Database, master: Secret) -> bool:
    """Whether requests need a key: one is set, or one was ever added. That all were revoked opens nothing again."""
    if master:
        return True
    if not database.exists():
        return False
    with database.read() as connection:
        return keys.held(connection, "") is not None


def admit(database: Database, master: Secret, given: str | None, needed: str, always: bool = False) -> bool:
    """Let a request in that brings `given` (None: no key) and needs a scope; at most one read of the database.
    Returns whether a key was needed.

    `master` is STOREMON_API_KEY and allows everything. Without it and without a key in the database everybody is let
    in, but for `always`. `Unauthorized` without a key or with an unknown or revoked one, `Forbidden` names the scope
    that the key has not.
    """
    if master and given is not None and hmac.compare_digest(_digest(_PROCESS, given), _digest(_PROCESS, master.value)):
        return True
    held = None
    if database.exists():
        with database.read() as connection:
            held = keys.held(connection, _prefix(given or ""))
    if held is None and not master and not always:
        return False
    if given is None:
        raise Unauthorized(
            "this needs a key: send it as `Authorization: Bearer KEY`, or as the password of Basic authentication "
            "with any user name; `storemon keys add` makes one"
        )
    # For an unknown prefix the same is computed, against what no key gives.
    secret, digest, scope = (held.secret, held.digest, held.scope) if held else (_PROCESS, None, None)
    right = hmac.compare_digest(_digest(secret, given), digest or _NO_DIGEST)
    if not right or scope is None:
        raise Unauthorized("the key is not known here, or was revoked; `storemon keys list` shows which there are")
    if SCOPES.index(scope) < SCOPES.index(needed):
        raise Forbidden(
            f"this needs a key of scope {needed}; the one sent has scope {scope}. "
            f"`storemon keys add --scope {needed}` makes one"
        )
    return True


# Random for each process: both sides of a comparison are digests of one length, whatever was sent.
_PROCESS: Final = secrets.token_bytes(32)
_NO_DIGEST: Final = "0" * 64


def _prefix(text: str) -> str:
    """The part of a key that names it; also of a prefix without its `sm_`."""
    return (_START + text.removeprefix(_START))[:_PREFIX_CHARACTERS]


def _digest(secret: bytes, key: str) -> str:
    return hmac.new(secret, key.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
