"""Whose request it is behind a trusted proxy, and whether its host, its site and its key allow it; security headers."""

import base64
import binascii
import ipaddress
import logging
import re
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import SecurityError

from storemon_flask import logs
from storemon_flask.database import keys
from storemon_flask.database.readiness import start_warnings
from storemon_flask.errors import BadRequest, Forbidden, Unauthorized
from storemon_flask.settings import Network, Settings
from storemon_flask.web.app import Storemon, change_environment, storemon
from storemon_flask.web.contract import Scope, ScopedView

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("storemon.server")
# Called by the address of the machine, whatever names people call it by.
_PROBES: Final = ("/healthz", "/readyz", "/metrics")
_READS: Final = ("GET", "HEAD", "OPTIONS")
_KEY_ALWAYS: Final = "STOREMON_KEY_ALWAYS"
_WARNED: Final = "STOREMON_WARNED"
# No key is that long; a longer header is not even decoded.
_MAX_HEADER: Final = 8192
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_ALL_ADDRESSES: Final = ("0.0.0.0", "::", "*")
# A host and its port, if there is one.
_ADDRESS: Final = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")

# In the environment of a request: what is wrong with the headers of a trusted proxy.
_MALFORMED: Final = "storemon.malformed_forwarding"
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](?::[0-9]+)?")
# A browser takes the first scheme it knows, of either header.
_CHALLENGES: Final = ('Bearer realm="storemon"', 'Basic realm="storemon", charset="UTF-8"')
_SECURE: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class _Address(str):
    """An IPv6 address in brackets, as a trusted host. Werkzeug cuts such names at their first colon, for the port."""

    __slots__ = ()

    def partition(self, sep: str) -> tuple[str, str, str]:
        """Return the whole address: it has no port."""
        return str(self), "", ""


def register(app: Flask, settings: Settings) -> None:
    """Guard every route of the app. The settings decide which names it answers to, until `set_address` is called."""
    set_address(app, settings, keyed=bool(settings.api_key))
    app.before_request(_warn_at_first_request)
    app.before_request(_check_request)
    app.after_request(add_security_headers)
    change_environment(app, partial(_set_host, app))


def set_address(app: Flask, settings: Settings, keyed: bool) -> None:
    """Set where the app is reached. `keyed`: it starts with a key, and needs one whatever becomes of the database."""
    app.config["TRUSTED_HOSTS"] = trusted_hosts(settings, keyed)
    app.config[_KEY_ALWAYS] = keyed


def log_start_warnings(app: Flask, host_is_judged: bool = False) -> None:
    """Log the `start_warnings` for whoever starts a server."""
    app.config[_WARNED] = True
    application: Storemon = app.extensions["storemon"]
    logs.to_stderr_where_nobody_listens(application.settings.log_format)
    for sentence in start_warnings(application.settings, application.database, host_is_judged):
        log.warning(sentence)


def _warn_at_first_request() -> None:
    # Of another WSGI server the app sees no start but the first request.
    if not current_app.config.get(_WARNED):
        log_start_warnings(current_app)


def needs_key() -> bool:
    """Return whether a request needs a key now."""
    return current_app.config[_KEY_ALWAYS] or keys.required(storemon().database, storemon().settings.api_key)


def trusted_hosts(settings: Settings, keyed: bool) -> list[str] | None:
    """Return the names that a request may call this server by; None is any (docs/adr/0008)."""
    if settings.trusted_hosts != "auto":
        names = settings.trusted_hosts.split(",")
    elif settings.host in _ALL_ADDRESSES:
        names = ["*"] if keyed else [*_LOCAL_NAMES, socket.gethostname()]
    else:
        names = [*_LOCAL_NAMES, f"[{settings.host}]" if ":" in settings.host else settings.host]
    if names == ["*"]:
        return None
    return [_Address(name) if name.startswith("[") else name.lower() for name in names]


def add_security_headers(response: Response) -> Response:
    """Return the answer with the headers that every answer has."""
    response.headers.update(_SECURE)
    if (response.mimetype or "").endswith("json"):
        response.headers.setdefault("Cache-Control", "no-store")
    if request.path.startswith("/push/"):
        # The address is a secret, and says something anew each time.
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
    if response.status_code == 401:
        for challenge in _CHALLENGES:
            response.headers.add("WWW-Authenticate", challenge)
    return response


def _check_request() -> None:
    """Refuse a wrong host, then another site, then a missing key: no other site may make a browser ask for one."""
    # RFC 9112 wants a 400 without a host; HTTP/1.0, which load balancers still use, had no such header.
    names_no_host = "Host" not in request.headers and request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
    if isinstance(request.routing_exception, SecurityError) or not request.host or names_no_host:
        raise BadRequest(_wrong_host(request.headers.get("Host")))
    if _MALFORMED in request.environ:
        raise BadRequest(f"{request.environ[_MALFORMED]}; the proxy in front of this server sent something else")
    if request.method not in _READS and _from_another_site():
        raise Forbidden(
            f"a page of another site ({_quoted(request.headers.get('Origin') or 'it does not say which')}) may not "
            "change anything here; behind a proxy, let the proxy pass the Host header on unchanged"
        )
    scope = _needed_scope()
    if scope is not None:
        _check_key(scope)


def _check_key(needed: Scope) -> None:
    """Check the key as `keys.admit`. Once a key was needed it always is, even when the database is gone."""
    always = current_app.config[_KEY_ALWAYS]
    try:
        was_needed = keys.admit(storemon().database, storemon().settings.api_key, _given_key(), needed, always)
    except (Unauthorized, Forbidden):
        current_app.config[_KEY_ALWAYS] = True
        raise
    if was_needed:
        current_app.config[_KEY_ALWAYS] = True


def _needed_scope() -> Scope | None:
    """Return the scope that the request needs; None when anybody may ask."""
    if request.url_rule is None:
        return "read"
    view = current_app.view_functions[request.url_rule.endpoint]
    if not isinstance(view, ScopedView):
        raise RuntimeError(f"the view {request.url_rule.endpoint} declares no scope")
    return "read" if view.scope and request.method == "OPTIONS" else view.scope


def _given_key() -> str | None:
    """Return the key in the Authorization header, of Bearer or as the password of Basic; None when there is none."""
    header = request.headers.get("Authorization", "")
    scheme, _, rest = header.partition(" ")
    if len(header) > _MAX_HEADER:
        return None
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return pair.partition(":")[2] or None


def _from_another_site() -> bool:
    """Return whether a browser says that a page of another origin made this request; other programs say nothing."""
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site"
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{request.host}")
        default = {"http": 80, "https": 443}[theirs.scheme]
        # A proxy may speak https for the server: the host and port are compared that the browser sees.
        return _host_and_port(theirs, default) != _host_and_port(ours, default)
    except (ValueError, KeyError):
        return True


def _host_and_port(parts: SplitResult, default_port: int) -> tuple[str | None, int]:
    return parts.hostname, parts.port or default_port


def refuse_embedding() -> None:
    """Raise `Forbidden` when a page of another site embeds this address; a link to it may be followed.

    A GET may compute a report: a picture on any page would fill the queue of a server on the same machine.
    """
    if _from_another_site() and request.headers.get("Sec-Fetch-Dest", "").lower() != "document":
        raise Forbidden("a page of another site may not have a report computed here; open the address itself")


def _wrong_host(host: str | None) -> str:
    if host is None:
        return "the request does not say which host it is for; send a Host header"
    return (
        f"this server does not answer to the name {_quoted(host)}; if it should, name it in the setting "
        "STOREMON_TRUSTED_HOSTS (* takes any name)"
    )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


def _set_host(app: Flask, environ: "WSGIEnvironment") -> None:
    """Write the host in lower case: Werkzeug compares names letter by letter. A probe by address gets a trusted name.

    That is safe: a page whose name was pointed at this machine sends that name, and no address can be pointed
    elsewhere.
    """
    if "HTTP_HOST" in environ:
        environ["HTTP_HOST"] = environ["HTTP_HOST"].lower()
    trusted = app.config["TRUSTED_HOSTS"]
    if trusted and environ.get("PATH_INFO") in _PROBES and _by_address(environ):
        environ["HTTP_HOST"] = str(trusted[0]).removeprefix(".")


def _by_address(environ: "WSGIEnvironment") -> bool:
    """Return whether the host is an address, or localhost, or missing as in HTTP/1.0."""
    host = environ.get("HTTP_HOST")
    if host is None:
        return environ.get("SERVER_PROTOCOL") == "HTTP/1.0"
    match = _ADDRESS.fullmatch(host)
    try:
        return match is not None and (match[1] == "localhost" or bool(ipaddress.ip_address(match[1].strip("[]"))))
    except ValueError:
        return False


def trust_proxies(app: Flask, settings: Settings) -> None:
    """Let the app see its clients, and not the proxies that the settings trust."""
    if settings.trusted_networks:
        change_environment(app, partial(_set_client, settings.trusted_networks))


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


def _set_client(trusted: Sequence[Network], environ: "WSGIEnvironment") -> None:
    """Replace the address and scheme of a trusted proxy by those of its client.

    What is wrong with its headers is noted, and `_check_request` refuses the request.
    """
    peer = environ.get("REMOTE_ADDR") or ""
    if not _is_trusted(peer, trusted):
        return
    try:
        environ["REMOTE_ADDR"] = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""), trusted)
    except ValueError:
        environ[_MALFORMED] = "X-Forwarded-For must be addresses, separated by commas"
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").strip().lower()
    if scheme in ("http", "https"):
        environ["wsgi.url_scheme"] = scheme
    elif scheme:
        environ[_MALFORMED] = "X-Forwarded-Proto must be http or https"
