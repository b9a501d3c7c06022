"""Errors: RFC 9457 `application/problem+json` with a `detail` that says what to do, or a page for a browser."""

import logging
import threading
import time
from functools import partial
from typing import Final

from flask import Flask, Response, g, json, make_response, redirect, render_template, request
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute

from storemon_flask import logs
from storemon_flask.errors import Busy, StoremonError, out_of_memory

_TRY: Final = "the pages are /, /reports, /data and /docs, which lists every call"
# Refusals do not fill the disk with lines, however many they are.
_REFUSALS_EVERY_S: Final = 60.0
_PAGE: Final = "text/html"
_MOST_CHARACTERS: Final = 2000
# Pages whose address is often written with a slash at its end.
_SLASHED: Final = ("/stores", "/reports", "/data", "/docs")
# By the beginning of an address: the page to go on at, and the text of its link.
_NEXT_PAGES: Final = (
    ("/stores", "/", "All stores"),
    ("/reports", "/reports", "Reports"),
    ("/get_report", "/reports", "Reports"),
    ("/data", "/data", "Data"),
    ("/api/", "/docs", "Every call of the service"),
    ("/trigger_report", "/docs", "Every call of the service"),
    ("/", "/", "All stores"),
)
# Titles for people, where that of the problem is technical.
_TITLES: Final = {405: "Nothing to see here", 422: "This does not fit"}
log = logging.getLogger("storemon.web")


def register(app: Flask) -> None:
    """Answer every error of every route as a problem."""
    refusals = _Refusals()
    app.register_error_handler(StoremonError, partial(_storemon, refusals))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, partial(_unexpected, refusals))


def problem(status: int, kind: str, title: str, detail: str, **members: object) -> Response:
    """Return the error as an answer: a page where a browser asks."""
    detail = str(_cut(detail))
    if wants_page():
        title = _TITLES.get(status, title)
        page = render_template("error.html", status=status, title=title, sentence=detail, links=_links(status))
        answer = make_response(page, status)
    else:
        body = {"type": f"urn:storemon:problem:{kind}", "title": title, "status": status, "detail": detail, **members}
        body = {name: _cut(value) for name, value in body.items()}
        answer = Response(json.dumps(body) + "\n", status, content_type="application/problem+json")
    answer.vary.add("Accept")
    return answer


def _cut(value: object) -> object:
    """Return a member of a problem with texts that are cut: what was wrong is quoted, however long it is."""
    match value:
        case str():
            return value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}\u2026"
        case dict():
            return {_cut(name): _cut(one) for name, one in value.items()}
        case list():
            return [_cut(one) for one in value]
        case _:
            return value


def wants_page() -> bool:
    """Return whether the client is a browser: it names HTML, and prefers nothing else."""
    # A request by a name that this server does not answer to has no addresses to link to.
    if request_ctx.url_adapter is None:
        return False
    accepted = request.accept_mimetypes
    named = any(value.lower() == _PAGE for value, _ in accepted)
    return named and accepted[_PAGE] >= max(accepted["application/json"], accepted["application/problem+json"])


def lead_back(address: str, words: str) -> None:
    """Set where the page of an error of this request links to first."""
    g.back = (address, words)


def _links(status: int) -> list[tuple[str, str]]:
    """Return where the page of an error links to: addresses and texts."""
    links = [g.back] if "back" in g else []
    next_page = next((address, words) for begin, address, words in _NEXT_PAGES if request.path.startswith(begin))
    has_query = status in (400, 422) and request.method == "GET" and request.query_string and request.url_rule
    if has_query and not links and request.path != next_page[0] and not request.path.startswith("/push/"):
        links.append((request.path, "The same page as it usually is"))
    return [*links, next_page]


def _storemon(refusals: "_Refusals", error: StoremonError) -> Response:
    answer = problem(error.status, error.kind, error.title, error.message, **error.members)
    if isinstance(error, Busy):
        answer.headers["Retry-After"] = str(error.retry_after_s)
        refusals.add(error)
    elif error.status >= 500:
        log.error("%s %s: %s", request.method, logs.without_tokens(request.path), error.message)
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
            logs.without_tokens(request.path),
            error.message,
        )


def _http(error: HTTPException) -> ResponseReturnValue:
    path = request.path.removesuffix("/")
    if isinstance(error, NoRoute) and path in _SLASHED and request.method in ("GET", "HEAD"):
        query = request.query_string.decode("ascii", "replace")
        return redirect(f"{path}?{query}" if query else path)
    status = error.code or 500
    # Whoever asked may show or log the answer.
    shown = logs.without_tokens(request.path)
    detail = error.description or error.name
    if isinstance(error, NoRoute):
        detail = f"there is nothing at {shown}; {_TRY}"
    elif status == 416:
        detail = "the report has fewer bytes than the Range asks for; leave the Range header out to get it whole"
    elif status == 413:
        detail = (
            f"the body is larger than the {request.max_content_length:,} bytes that this call takes; send it in parts"
        )
    elif isinstance(error, MethodNotAllowed):
        allowed = " or ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
        detail = f"{shown} does not answer {request.method}; use {allowed}"
    answer = problem(status, error.name.lower().replace(" ", "-"), error.name.capitalize(), detail)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def _unexpected(refusals: "_Refusals", error: Exception) -> Response:
    no_memory = out_of_memory(error)
    if no_memory is not None:
        return _storemon(refusals, no_memory)
    log.error("%s %s failed", request.method, logs.without_tokens(request.path), exc_info=error)
    detail = "something went wrong that should not have; the server's log says what"
    return problem(500, "internal", "Internal error", detail)
