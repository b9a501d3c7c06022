"""Show errors as a page to a browser: a sentence, and where to go from here. Programs get a problem."""

from typing import Final

from flask import Response, g, has_request_context, make_response, redirect, render_template, request
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue

_PAGE: Final = "text/html"
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


def wants_page() -> bool:
    """Return whether the client is a browser: it names HTML, and prefers nothing else."""
    # What is not HTTP at all is refused before there is a request.
    if not has_request_context():
        return False
    # A request by a name that this server does not answer to has no addresses to link to.
    if request_ctx.url_adapter is None:
        return False
    accepted = request.accept_mimetypes
    named = any(value.lower() == _PAGE for value, _ in accepted)
    return named and accepted[_PAGE] >= max(accepted["application/json"], accepted["application/problem+json"])


def unslashed() -> ResponseReturnValue | None:
    """Redirect a request for a page with a slash at the end of its address to the page without it."""
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
    """Return addresses with the texts of their links."""
    if not has_request_context():
        return []
    links = [g.back] if "back" in g else []
    next_page = next((address, words) for begin, address, words in _NEXT_PAGES if request.path.startswith(begin))
    has_query = status in (400, 422) and request.method == "GET" and request.query_string and request.url_rule
    if has_query and not links and request.path != next_page[0]:
        links.append((request.path, "The same page as it usually is"))
    return [*links, next_page]
