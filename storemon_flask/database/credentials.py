"""What keys and push tokens have in common: a prefix that names one, and a digest that cannot be turned back into it.

What is stored of one is not enough to make it: its prefix, and a digest with a secret of this database alone.
"""

import hmac
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.database.connections import Database, named_rows
from storemon_flask.errors import NotFound, Unprocessable

_SECRET_BYTES: Final = 32
_PREFIX_HEX_BYTES: Final = 4
_SECRET_HEX_BYTES: Final = 24
_LABEL_CHARACTERS: Final = 100
# Random for each process: both sides of a comparison are digests of one length, whatever was sent.
PROCESS_SECRET: Final = secrets.token_bytes(32)
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Stored:
    """What a database has for a credential that was sent: its secret, and digest and value of the live one of that
    prefix, if there is one.
    """

    secret: bytes
    digest: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """One kind of credential: the table it is in, its name in sentences, how it begins, and what it stands for.

    `value` is the column that says what one allows, `secret` the name of the database's secret for this kind.
    """

    table: str
    noun: str
    start: str
    value: str
    secret: str

    @property
    def prefix_characters(self) -> int:
        """How many characters name one."""
        return len(self.start) + 2 * _PREFIX_HEX_BYTES

    def add(self, database: Database, value: str, label: str, now_us: int) -> str:
        """Return a new one, to be shown once: 192 random bits behind its prefix. Creates the database when there is
        none. `Unprocessable` for a label that is no short line of text.
        """
        if len(label) > _LABEL_CHARACTERS or not label.isprintable():
            raise Unprocessable(f"a label is one line of at most {_LABEL_CHARACTERS} printable characters")
        with database.write() as connection:
            secret = self._secret(connection)
            while True:
                prefix = self.start + secrets.token_hex(_PREFIX_HEX_BYTES)
                made = prefix + secrets.token_hex(_SECRET_HEX_BYTES)
                added = connection.execute(
                    f"INSERT INTO {self.table} (prefix, digest, {self.value}, label, created_us) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (prefix, digest_of(secret, made), value, label, now_us),
                )
                if added.rowcount:
                    return made

    def rows(self, database: Database) -> list[dict[str, Any]]:
        """Return every one without itself, revoked ones too, oldest first. `DatabaseError` without a database."""
        with database.read() as connection:
            return [dict(row) for row in named_rows(connection, f"{self._select} ORDER BY id")]

    def revoke(self, database: Database, given: str, now_us: int) -> dict[str, Any]:
        """Revoke the one of that prefix (or the whole of it) unless it is revoked, and return it.

        `NotFound` names a prefix that is not there; `DatabaseError` without a database.
        """
        prefix = self.prefix(given)
        if prefix not in {row["prefix"] for row in self.rows(database)}:
            raise NotFound(f"there is no {self.noun} {prefix}; `storemon {self.noun}s list` shows the prefixes of all")
        with database.write() as connection:
            connection.execute(
                f"UPDATE {self.table} SET revoked_us = ? WHERE prefix = ? AND revoked_us IS NULL", (now_us, prefix)
            )
            return dict(named_rows(connection, f"{self._select} WHERE prefix = ?", [prefix]).fetchone())

    def stored(self, connection: sqlite3.Connection, given: str) -> Stored | None:
        """Return what there is for one that was sent; None when none was ever added to this database."""
        row = connection.execute(
            f"SELECT secret.value, it.digest, it.{self.value} FROM secret "
            f"LEFT JOIN {self.table} AS it ON it.prefix = ? AND it.revoked_us IS NULL WHERE secret.name = ?",
            [self.prefix(given), self.secret],
        ).fetchone()
        return None if row is None else Stored(*row)

    def prefix(self, text: str) -> str:
        """Return the start of one that names it; also of a prefix without its own start."""
        # Half a surrogate pair cannot be asked for.
        text = text.encode("utf-8", "replace").decode()
        return (self.start + text.removeprefix(self.start))[: self.prefix_characters]

    @property
    def _select(self) -> str:
        return f"SELECT prefix, {self.value}, label, created_us, revoked_us FROM {self.table}"

    def _secret(self, connection: sqlite3.Connection) -> bytes:
        """Return the random bytes that this database's digests are made with, stored when there are none yet."""
        connection.execute(
            "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (self.secret, secrets.token_bytes(_SECRET_BYTES)),
        )
        (value,) = connection.execute("SELECT value FROM secret WHERE name = ?", [self.secret]).fetchone()
        return bytes(value)


def value_of(stored: Stored | None, given: str) -> str | None:
    """Return what the credential that was sent stands for; None when it is wrong.

    For an unknown prefix the same is computed, against what none gives.
    """
    secret, digest, value = (stored.secret, stored.digest, stored.value) if stored else (PROCESS_SECRET, None, None)
    is_right = hmac.compare_digest(digest_of(secret, given), digest or _NO_DIGEST)
    return value if is_right else None


def digest_of(secret: bytes, given: str) -> str:
    """Return the digest that is stored of a credential."""
    return hmac.new(secret, given.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
