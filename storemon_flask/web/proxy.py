"""The client behind a trusted proxy, by the headers of that proxy and of nobody else."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from flask import Flask

from storemon_flask.settings import Network, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# In the environment of a request: what is wrong with the headers of a trusted proxy.
MALFORMED: Final = "storemon.malformed_forwarding"
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](?::[0-9]+)?")


def register(app: Flask, settings: Settings) -> None:
    """Let the app see its clients, and not the proxies that the settings trust."""
    if settings.trusted_networks:
        app.wsgi_app = _Unproxied(app.wsgi_app, settings.trusted_networks)  # type: ignore[method-assign]


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the address of the client behind `peer`, which is the peer itself unless it is a trusted proxy.

    Each proxy puts the address of its own client to the end of X-Forwarded-For, so the last that is no trusted proxy's
    is the client's: the client may have made up those before. `ValueError` when an entry that must be read is no
    address.
    """
    address = peer
    entries = forwarded_for.split(",") if forwarded_for.strip() else []
    while entries and _is_trusted(address, trusted):
        address = _address(entries.pop())
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return any(ip in network for network in trusted)


def _address(entry: str) -> str:
    """Return the address of `192.0.2.1`, `192.0.2.1:8080`, `2001:db8::1` or `[2001:db8::1]:8080`."""
    text = entry.strip()
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return str(ipaddress.ip_address(text))


class _Unproxied:
    """Replaces the address and scheme of the proxy by those of its client."""

    def __init__(self, app: "WSGIApplication", trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass the request on. Wrong headers of a trusted proxy are noted, and `authentication` refuses the request."""
        peer = environ.get("REMOTE_ADDR") or ""
        if _is_trusted(peer, self._trusted):
            try:
                environ["REMOTE_ADDR"] = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""), self._trusted)
            except ValueError:
                environ[MALFORMED] = "X-Forwarded-For must be addresses, separated by commas"
            scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").strip().lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
            elif scheme:
                environ[MALFORMED] = "X-Forwarded-Proto must be http or https"
        return self._app(environ, start_response)
