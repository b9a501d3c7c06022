"""Calls of addresses over HTTP: no redirects, a total deadline, a bounded answer, through the proxies of the system."""

import email.utils
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from storemon_flask.delivery.answer import Answer, basic_credentials, secrets_of
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.tls import untrusted_text, verifying_context
from storemon_flask.errors import Unprocessable
from storemon_flask.version import VERSION

_MOST_BYTES: Final = 64 << 10
# The code says what became of the call; its words are read for so long.
_WORDS_S: Final = 5.0
_GONE: Final = 410
# Longer waits that a receiver asks for are cut to this: messages are given up after as long.
MAX_RETRY_AFTER_S: Final = 6 * 3600.0


def check_url(address: str) -> str:
    """Return the address; `Unprocessable` when it is none that can be called."""
    if not address.isascii() or any(not "!" <= letter <= "~" for letter in address):
        raise Unprocessable(
            "the address has blanks or letters beyond ASCII; write it as browsers send it: xn--... in a host, %20 or "
            "%C3%BC in a path"
        )
    try:
        parts = urlsplit(address)
        # A port that is none raises ValueError.
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Unprocessable("the address must begin with http:// or https:// and a host, as https://example.com/hook")
    return address


def shown_url(address: str) -> str:
    """Return the address as people may see it: without a password, and without its path, which may hold a token."""
    parts = urlsplit(address)
    rest = "/..." if parts.path.strip("/") or parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", "")) + rest


def call(url: str, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer to one call: GET, or POST with a body. It is a delivery when its code is 2xx."""
    with Deadline(deadline_s) as deadline:
        return call_until(url, deadline, body, headers)


def call_until(url: str, deadline: Deadline, body: bytes | None, headers: Mapping[str, str] | None = None) -> Answer:
    """Do the same as `call`, with a deadline that another thread may cut."""
    return _call(url, deadline, body, headers or {}).without(secrets_of(url))


def _call(url: str, deadline: Deadline, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
    request = urllib.request.Request(bare, body, {"User-Agent": f"storemon/{VERSION}", **headers})
    if credentials := basic_credentials(parts):
        request.add_header("Authorization", f"Basic {credentials}")
    try:
        with _opener(deadline).open(request) as answer:
            if deadline.is_over:
                # What was cut off within its head looks whole.
                raise TimeoutError
            return Answer(True, _words(answer.status, answer, deadline), answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(error, deadline)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if deadline.is_over or isinstance(getattr(error, "reason", error), TimeoutError):
            return Answer(False, f"no answer within {deadline.seconds:g} s")
        return Answer(False, _reason(error))


def _refusal(error: urllib.error.HTTPError, deadline: Deadline) -> Answer:
    words = _words(error.code, error.fp, deadline)
    if 300 <= error.code < 400:
        words = f"{error.code} {error.reason}: redirects are not followed; give the address that this one leads to"
    after_s = _retry_after_s(error.headers.get("Retry-After"))
    return Answer(False, words, error.code, after_s, gone=error.code == _GONE)


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is no HTTP ({type(error).__name__})"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return untrusted_text(cause)
    return str(getattr(cause, "strerror", None) or cause or type(error).__name__)


def _words(code: int, answer: Any, deadline: Deadline) -> str:
    """Return what an answer says, or what its code means; that it is not all there is no fault of the delivery."""
    body = b""
    end = time.monotonic() + _WORDS_S
    try:
        while len(body) < _MOST_BYTES and time.monotonic() < end and not deadline.is_over:
            more = answer.read1(_MOST_BYTES - len(body))
            if not more:
                break
            body += more
    except (OSError, ValueError, http.client.HTTPException):
        pass
    text = " ".join(body.decode("utf-8", "replace").split())
    meaning = f"{code} {http.client.responses.get(code, '')}".rstrip()
    return meaning if not text or text.startswith("<") else f"{meaning}: {text}"


def _retry_after_s(text: str | None) -> float | None:
    """Return how long `Retry-After` asks to wait, in seconds or until a date; None when it says nothing of use."""
    if not text:
        return None
    if text.strip().isdecimal() and text.isascii():
        seconds = float(text[:10])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


class _Handler(urllib.request.HTTPSHandler):
    """Opens the connections of one call, to its host or to a proxy, so that the deadline can cut them."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> Any:
        """Open the connection of a plain call."""
        return self.do_open(self._watched(http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        """Open the connection of a call over verified TLS."""
        return self.do_open(self._watched(http.client.HTTPSConnection, context=verifying_context()), request)

    http_request = urllib.request.AbstractHTTPHandler.do_request_

    def _watched(self, connection: Callable[..., http.client.HTTPConnection], **options: Any) -> Any:
        def connect(host: str, **others: Any) -> http.client.HTTPConnection:
            """Return the connection, which the deadline can cut."""
            opened = connection(host, **{**others, **options, "timeout": self._deadline.left_s})
            vars(opened)["_create_connection"] = self._deadline.connect
            return opened

        return connect


def _opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """Return an opener that knows http and https, proxies, and errors; redirects are errors to it."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
