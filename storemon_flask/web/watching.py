"""Every request has an id, a line in the log and a place in the counts."""

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, request

from storemon_flask import logs
from storemon_flask.meters import Meters

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("storemon.requests")

HEADER: Final = "X-Request-Id"
UNMATCHED: Final = "unmatched"
_ROUTE: Final = "storemon.route"
# In the environment of a request: how many seconds it waited because it was asked to, which is not slow.
WAITED: Final = "storemon.waited_s"
# What a caller may name a request: as a UUID, a trace id or a counter, and nothing that a log could be confused by.
_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_READS: Final = ("GET", "HEAD", "OPTIONS")
# A reading request that people should see although it went well.
_SLOW_S: Final = 5.0
_LONGEST_PATH: Final = 300


def register(app: Flask, meters: Meters) -> None:
    """Watch every request of the app."""
    app.after_request(_note_route)
    app.wsgi_app = _Watched(app.wsgi_app, meters)  # type: ignore[method-assign]


def request_id(given: str | None) -> str:
    """The id a caller gave its request, if it is a sane one, else a new one."""
    return given if given and _SANE.fullmatch(given) else secrets.token_hex(8)


def told(meters: Meters, environ: "WSGIEnvironment", status: int, seconds: float, length: int | None) -> None:
    """Count a request and log it: all of them for programs, for people those that changed something, failed or were
    slow.

    Of a 503 the log has the reason already (`problems`, `ops`), however many there are. The query is left out: people
    put keys there.
    """
    given = environ.get("REQUEST_METHOD", "")
    method = given if given in _METHODS else "other"
    route = environ.get(_ROUTE, UNMATCHED)
    meters.request(method, route, status, seconds)
    path = (environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "").partition("?")[0][:_LONGEST_PATH]
    slow = seconds - environ.get(WAITED, 0.0) > _SLOW_S
    seen = status != 503 and (method not in _READS or status >= 400 or slow)
    ms = round(seconds * 1000, 1)
    log.log(
        logging.INFO if seen else logging.DEBUG,
        "%s %s %d in %.0f ms", method, path, status, ms,
        extra={
            "event": "request", "method": method, "route": route, "path": path, "status": status, "ms": ms,
            "bytes": length, "remote": environ.get("REMOTE_ADDR"),
        },
    )  # fmt: skip


def _note_route(response: Response) -> Response:
    if request.url_rule is not None:
        request.environ[_ROUTE] = request.url_rule.rule
    return response


class _Watched:
    """The outermost layer of the app.

    It hands the body on as it is: Waitress sends a file by itself only if it sees it.
    """

    def __init__(self, app: "WSGIApplication", meters: Meters) -> None:
        self._app = app
        self._meters = meters

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Hand the request on; its time is that until the answer begins."""
        started = time.perf_counter()
        mine = request_id(environ.get("HTTP_X_REQUEST_ID"))
        status, length = 500, None

        def begin(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal status, length
            status = int(line[:3])
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
            return start_response(line, [*headers, (HEADER, mine)], *error)

        with logs.marked(request_id=mine):
            try:
                return self._app(environ, begin)
            finally:
                told(self._meters, environ, status, time.perf_counter() - started, length)
