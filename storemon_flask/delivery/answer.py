"""The result of one attempt to deliver a message, and texts without the secrets of addresses."""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from storemon_flask.characters import escaped

# As much of an answer as the log of deliveries keeps.
SHOWN_CHARACTERS: Final = 200
_HIDDEN: Final = "***"
# Parts of an address that are shorter are words such as `api` and `v1`, and no tokens.
_TOKEN_CHARACTERS: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a try: the code of the receiver's answer, where it gave one, and its words or what went wrong.

    `retry_after_s`: the receiver asks not to be called before; `gone`: it asks never to be called again.
    """

    delivered: bool
    text: str
    code: int | None = None
    retry_after_s: float | None = None
    gone: bool = False

    def without(self, secrets: Iterable[str]) -> "Answer":
        """Return the answer on one line, cut to what is kept, without those secrets."""
        return replace(self, text=escaped(hide(" ".join(self.text.split()), secrets))[:SHOWN_CHARACTERS])


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return the text with stars for the secrets, however they are encoded in it."""
    known = {form for secret in secrets for form in (secret, unquote(secret)) if form}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def secrets_of(address: str) -> list[str]:
    """Return the parts of an address that are or may be secret: passwords, and tokens in its path and query."""
    parts = urlsplit(address)
    pieces = re.split(r"[/?&=:@,;]", f"{parts.netloc}/{parts.path}?{parts.query}#{parts.fragment}")
    values = [value for _, value in parse_qsl(parts.query)]
    host = parts.hostname or ""
    tokens = [piece for piece in [*pieces, *values] if len(piece) >= _TOKEN_CHARACTERS and piece.lower() != host]
    path = parts.path if len(parts.path) >= _TOKEN_CHARACTERS else ""
    return [address, parts.password or "", basic_credentials(parts), path, *tokens]


def basic_credentials(parts: SplitResult) -> str:
    """Return user and password of an address as they are sent (RFC 7617); empty without a user."""
    if parts.username is None:
        return ""
    return b64encode(f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()).decode()
