"""Who may ask: the host a request names, the site it comes from, the key it brings; and the headers every answer has."""

import base64
import binascii
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import SecurityError

from storemon_flask import logs
from storemon_flask.database import keys
from storemon_flask.database.start_warnings import start_warnings
from storemon_flask.errors import BadRequest, Forbidden, Unauthorized
from storemon_flask.settings import Settings
from storemon_flask.web import proxy
from storemon_flask.web.app import Storemon, storemon
from storemon_flask.web.contract import Scope, ScopedView

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("storemon.server")
# What a load balancer asks; nothing of it tells a stranger more than whether the service works.
_OPEN_RULES: Final = ("/healthz", "/readyz")
# What is asked by the address of the machine, whatever the names are that people call it by.
_PROBES: Final = (*_OPEN_RULES, "/metrics")
_READS: Final = ("GET", "HEAD", "OPTIONS")
_KEY_ALWAYS: Final = "STOREMON_KEY_ALWAYS"
_WARNED: Final = "STOREMON_WARNED"
# Longer than any key; what is longer is not even decoded.
_LONGEST_HEADER: Final = 8192
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_ALL_ADDRESSES: Final = ("0.0.0.0", "::", "*")
# A host and its port, if there is one.
_ADDRESS: Final = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")

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
        """The whole of it: it has no port."""
        return str(self), "", ""


def register(app: Flask, settings: Settings) -> None:
    """Guard every route of the app. Which names it answers to follows the settings, until `listens` says more."""
    listens(app, settings, keyed=bool(settings.api_key))
    app.before_request(_warn_if_nobody_has)
    app.before_request(_check)
    app.after_request(secure)
    app.wsgi_app = _Hosts(app, app.wsgi_app)  # type: ignore[method-assign]


def listens(app: Flask, settings: Settings, keyed: bool) -> None:
    """Say where the app is reached, and whether it starts with a key: then it never opens, whatever becomes of the
    database.
    """
    app.config["TRUSTED_HOSTS"] = trusted_hosts(settings, keyed)
    app.config[_KEY_ALWAYS] = keyed


def warn(app: Flask, host_is_judged: bool = False) -> None:
    """Log what whoever starts a server should know, as `start_warnings`."""
    app.config[_WARNED] = True
    found: Storemon = app.extensions["storemon"]
    logs.to_stderr_where_nobody_listens(found.settings.log_format)
    for sentence in start_warnings(found.settings, found.database, host_is_judged):
        log.warning(sentence)


def _warn_if_nobody_has() -> None:
    # Another WSGI server has no start that this app sees but its first request.
    if not current_app.config.get(_WARNED):
        warn(current_app)


def keyed() -> bool:
    """Whether a request needs a key now."""
    return current_app.config[_KEY_ALWAYS] or keys.required(storemon().database, storemon().settings.api_key)


def trusted_hosts(settings: Settings, keyed: bool) -> list[str] | None:
    """The names a request may call this server by; None is any (docs/adr/0008)."""
    if settings.trusted_hosts != "auto":
        names = settings.trusted_hosts.split(",")
    elif settings.host in _ALL_ADDRESSES:
        names = ["*"] if keyed else [*_LOCAL_NAMES, socket.gethostname()]
    else:
        names = [*_LOCAL_NAMES, f"[{settings.host}]" if ":" in settings.host else settings.host]
    if names == ["*"]:
        return None
    return [_Address(name) if name.startswith("[") else name.lower() for name in names]


def secure(response: Response) -> Response:
    """The answer with the headers that every answer has."""
    response.headers.update(_SECURE)
    if (response.mimetype or "").endswith("json"):
        response.headers.setdefault("Cache-Control", "no-store")
    if response.status_code == 401:
        for challenge in _CHALLENGES:
            response.headers.add("WWW-Authenticate", challenge)
    return response


def _check() -> None:
    """Refuse a foreign host first, then a foreign site, then a missing key: no other site may make a browser ask for
    one.
    """
    if isinstance(request.routing_exception, SecurityError) or not request.host or _names_no_host():
        raise BadRequest(_wrong_host(request.headers.get("Host")))
    if proxy.MALFORMED in request.environ:
        raise BadRequest(f"{request.environ[proxy.MALFORMED]}; the proxy in front of this server sent something else")
    if request.method not in _READS and _from_another_site():
        raise Forbidden(
            f"a page of another site ({_shown(request.headers.get('Origin') or 'it does not say which')}) may not "
            "change anything here; behind a proxy, let the proxy pass the Host header on unchanged"
        )
    needed = _needed()
    if needed is not None:
        _admit(needed)


def _admit(needed: Scope) -> None:
    """As `keys.admit`. Once a key was asked for the app never opens, not even when its database is gone."""
    always = current_app.config[_KEY_ALWAYS]
    try:
        asked = keys.admit(storemon().database, storemon().settings.api_key, _given_key(), needed, always)
    except (Unauthorized, Forbidden):
        current_app.config[_KEY_ALWAYS] = True
        raise
    if asked and not always:
        current_app.config[_KEY_ALWAYS] = True


def _needed() -> Scope | None:
    """Return the scope that the request needs; None when anybody may ask."""
    if request.url_rule is None:
        return "read"
    view = current_app.view_functions[request.url_rule.endpoint]
    if not isinstance(view, ScopedView):
        raise RuntimeError(f"the view {request.url_rule.endpoint} declares no scope")
    return "read" if view.scope and request.method == "OPTIONS" else view.scope


def _given_key() -> str | None:
    """The key in the Authorization header, Bearer's or Basic's password; None when there is none or it cannot be read."""
    header = request.headers.get("Authorization", "")
    scheme, _, rest = header.partition(" ")
    if len(header) > _LONGEST_HEADER:
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
    """Whether a browser says that a page of another origin made this request.

    Programs that are no browsers say nothing.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site"
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{request.host}")
        default = {"http": 80, "https": 443}[theirs.scheme]
        # A proxy may speak https for us: what is compared is the host and port that the browser sees.
        return _place(theirs, default) != _place(ours, default)
    except (ValueError, KeyError):
        return True


def _place(parts: SplitResult, default_port: int) -> tuple[str | None, int]:
    return parts.hostname, parts.port or default_port


def refuse_embedding() -> None:
    """`Forbidden` when a page of another site loads this as a part of itself. A link that somebody follows is allowed.

    For what a GET computes: a picture on any page would fill the queue of a server on the same machine.
    """
    if _from_another_site() and request.headers.get("Sec-Fetch-Dest", "").lower() != "document":
        raise Forbidden("a page of another site may not have a report computed here; open the address itself")


def _names_no_host() -> bool:
    # RFC 9112 wants a 400 for this; HTTP/1.0, which load balancers still ask with, had no such header.
    return "Host" not in request.headers and request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0"


def _wrong_host(host: str | None) -> str:
    if host is None:
        return "the request does not say which host it is for; send a Host header"
    return (
        f"this server does not answer to the name {_shown(host)}; if it should, name it in the setting "
        "STOREMON_TRUSTED_HOSTS (* takes any name)"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


class _Hosts:
    """Names of hosts have no case, and Werkzeug compares them letter by letter.

    A probe may name any address instead.
    """

    def __init__(self, app: Flask, wsgi_app: "WSGIApplication") -> None:
        self._flask = app
        self._app = wsgi_app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Hand the request on with its host in small letters; a probe by address as one by the first name there is.

        A page whose name was made to lead here sends that name: no address can be made to lead elsewhere.
        """
        if "HTTP_HOST" in environ:
            environ["HTTP_HOST"] = environ["HTTP_HOST"].lower()
        trusted = self._flask.config["TRUSTED_HOSTS"]
        if trusted and environ.get("PATH_INFO") in _PROBES and _by_address(environ):
            environ["HTTP_HOST"] = str(trusted[0]).removeprefix(".")
        return self._app(environ, start_response)


def _by_address(environ: "WSGIEnvironment") -> bool:
    """Whether the host is an address, or this machine's name for itself; or none, as HTTP/1.0 had it."""
    host = environ.get("HTTP_HOST")
    if host is None:
        return environ.get("SERVER_PROTOCOL") == "HTTP/1.0"
    found = _ADDRESS.fullmatch(host)
    if found is None:
        return False
    try:
        return found[1] == "localhost" or bool(ipaddress.ip_address(found[1].strip("[]")))
    except ValueError:
        return False
