"""Errors as a page, for a browser: a sentence for people, and where to go from here. Programs get a problem."""

from typing import Final

from flask import Response, g, has_request_context, make_response, redirect, render_template, request
from flask.typing import ResponseReturnValue

_PAGE: Final = "text/html"
# Pages whose address is often written with a slash behind it.
_SLASHED: Final = ("/stores", "/reports", "/data", "/docs")
# What the beginning of an address concerns: the page to go on at, and what its link says.
_PLACES: Final = (
    ("/stores", "/", "All stores"),
    ("/reports", "/reports", "Reports"),
    ("/get_report", "/reports", "Reports"),
    ("/data", "/data", "Data"),
    ("/api/", "/docs", "Every call of the service"),
    ("/trigger_report", "/docs", "Every call of the service"),
    ("/", "/", "All stores"),
)
# Where the title of a problem is none for people.
_TITLES: Final = {405: "Nothing to see here", 422: "This does not fit"}


def wants_page() -> bool:
    """Whether the one who asks is a browser that shows pages: it names HTML, and likes nothing else better."""
    # What is no HTTP at all is refused before there is a request.
    if not has_request_context():
        return False
    accepted = request.accept_mimetypes
    named = any(value.lower() == _PAGE for value, _ in accepted)
    return named and accepted[_PAGE] >= max(accepted["application/json"], accepted["application/problem+json"])


def unslashed() -> ResponseReturnValue | None:
    """Where the request is for a page with a slash behind its address: to the page without it, asked the same."""
    path = request.path.removesuffix("/")
    if path not in _SLASHED or request.method not in ("GET", "HEAD"):
        return None
    query = request.query_string.decode("ascii", "replace")
    return redirect(f"{path}?{query}" if query else path)


def lead_back(address: str, words: str) -> None:
    """Set where the page of an error of this request links to first."""
    g.back = (address, words)


def error_page(status: int, title: str, sentence: str) -> Response:
    """Return the error as a page."""
    page = render_template(
        "error.html", status=status, title=_TITLES.get(status, title), sentence=sentence, links=_links(status)
    )
    return make_response(page, status)


def _links(status: int) -> list[tuple[str, str]]:
    """Addresses with what their links say."""
    if not has_request_context():
        return []
    found = [g.back] if "back" in g else []
    place = next((address, words) for begin, address, words in _PLACES if request.path.startswith(begin))
    asked = status in (400, 422) and request.method == "GET" and request.query_string and request.url_rule
    if asked and not found and request.path != place[0]:
        found.append((request.path, "The same page as it usually is"))
    return [*found, place]
