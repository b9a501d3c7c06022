"""Answers of other monitors over HTTP, as JSON; each error is one sentence."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from storemon_flask.errors import DataError

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 256 << 20
_DETAIL_CHARACTERS: Final = 300


class Service:
    """A monitor that is asked over HTTP; `shown` is its address without a password."""

    def __init__(self, address: str) -> None:
        if not address.isascii():
            raise DataError(
                "the address has letters beyond ASCII; write them as browsers send them: xn--... in a host, %C3%BC in "
                "a path"
            )
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as error:
            raise DataError(f"the address cannot be read: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DataError("the address must begin with http:// or https://, as http://localhost:9090")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.host = host if port is None else f"{host}:{port}"
        self.shown = urlunsplit((parts.scheme, self.host, parts.path.rstrip("/"), "", ""))
        self._authorization = ""
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = f"Basic {base64.b64encode(user.encode()).decode()}"

    def get(self, path: str, **query: str) -> Any:
        """Return the answer of an address below the service's, its numbers with the digits they came with."""
        return self._ask(f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, **fields: str) -> Any:
        """Return the answer to a form."""
        return self._ask(path, urlencode(fields).encode())

    def _ask(self, path: str, form: bytes | None) -> Any:
        request = urllib.request.Request(self.shown + path, form, {"Accept": "application/json"})
        if self._authorization:
            # Nobody that is redirected to gets it.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                body = answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                detail = _error_detail(error.read(64 << 10))
            hint = "; write the address with user and password" if error.code in (401, 403) else ""
            raise DataError(f"{self.shown} answered {error.code} {error.reason}{detail}{hint}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            hint = "is it running, and is that its address?"
            raise DataError(f"{self.shown} cannot be asked: {reason}; {hint}") from None
        if len(body) > _MOST_BYTES:
            raise DataError(f"{self.shown} answered with more than {_MOST_BYTES >> 20} MiB; ask for less")
        try:
            return json.loads(body, parse_float=str)
        except (ValueError, RecursionError):
            raise DataError(f"{self.shown} answered with something else than JSON; is the address right?") from None


def text_of(value: Any) -> str:
    """Return a value of an answer as text that can be stored: JSON may have halves of characters."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _error_detail(body: bytes) -> str:
    """Return what an answer says about its error, if it is JSON with an `error`, or plain text."""
    try:
        value = json.loads(body)
        text = text_of(value["error"]) if isinstance(value, dict) and "error" in value else ""
    except (ValueError, RecursionError):
        text = "" if b"<" in body[:200] else body.decode("utf-8", "replace")
    text = " ".join(text.split())[:_DETAIL_CHARACTERS]
    return f": {text}" if text else ""
