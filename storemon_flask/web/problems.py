"""Errors: RFC 9457 `application/problem+json` with a `detail` that says what to do, or a page for a browser."""

import logging
import threading
import time
from functools import partial
from typing import Final

from flask import Flask, Response, json, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute

from storemon_flask.errors import Busy, StoremonError, out_of_memory
from storemon_flask.web.error_pages import error_page, unslashed, wants_page

_TRY: Final = "the pages are /, /reports, /data and /docs, which lists every call"
# Refusals do not fill the disk with lines, however many they are.
_REFUSALS_EVERY_S: Final = 60.0
log = logging.getLogger("storemon.web")


def register(app: Flask) -> None:
    """Answer every error of every route as a problem."""
    refusals = _Refusals()
    app.register_error_handler(StoremonError, partial(_storemon, refusals))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, partial(_unexpected, refusals))


def problem(status: int, kind: str, title: str, detail: str, **members: object) -> Response:
    """Return the error as an answer: a page where a browser asks."""
    if wants_page():
        answer = error_page(status, title, detail)
        answer.vary.add("Accept")
        return answer
    body = {"type": f"urn:storemon:problem:{kind}", "title": title, "status": status, "detail": detail, **members}
    answer = Response(json.dumps(body) + "\n", status, content_type="application/problem+json")
    answer.vary.add("Accept")
    return answer


def _storemon(refusals: "_Refusals", error: StoremonError) -> Response:
    answer = problem(error.status, error.kind, error.title, error.message, **error.members)
    if isinstance(error, Busy):
        answer.headers["Retry-After"] = str(error.retry_after_s)
        refusals.add(error)
    elif error.status >= 500:
        log.error("%s %s: %s", request.method, request.path, error.message)
    return answer


class _Refusals:
    """Logs requests that are refused because too many wait: the first at once, then their number once a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._logged_s: float | None = None

    def add(self, error: Busy) -> None:
        """Count a refusal."""
        with self._lock:
            self._count += 1
            now_s = time.monotonic()
            if self._logged_s is not None and now_s - self._logged_s < _REFUSALS_EVERY_S:
                return
            count, self._count, self._logged_s = self._count, 0, now_s
        log.warning(
            "%d request(s) refused since the last line about it, the newest %s %s: %s",
            count,
            request.method,
            request.path,
            error.message,
        )


def _http(error: HTTPException) -> ResponseReturnValue:
    page = unslashed() if isinstance(error, NoRoute) else None
    if page is not None:
        return page
    status = error.code or 500
    detail = error.description or error.name
    if isinstance(error, NoRoute):
        detail = f"there is nothing at {request.path}; {_TRY}"
    elif status == 416:
        detail = "the report has fewer bytes than the Range asks for; leave the Range header out to get it whole"
    elif status == 413:
        detail = (
            f"the body is larger than the {request.max_content_length:,} bytes that this call takes; send it in parts"
        )
    elif isinstance(error, MethodNotAllowed):
        allowed = " or ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
        detail = f"{request.path} does not answer {request.method}; use {allowed}"
    answer = problem(status, error.name.lower().replace(" ", "-"), error.name, detail)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def _unexpected(refusals: "_Refusals", error: Exception) -> Response:
    no_memory = out_of_memory(error)
    if no_memory is not None:
        return _storemon(refusals, no_memory)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    detail = "something went wrong that should not have; the server's log says what"
    return problem(500, "internal", "Internal error", detail)
