"""Errors as a page, for a browser; programs get the same sentence as a problem."""

from flask import Response, has_request_context, make_response, render_template, request

_PAGE = "text/html"


def wants_page() -> bool:
    """Whether the one who asks is a browser that shows pages: it names HTML, and likes nothing else better."""
    # What is no HTTP at all is refused before there is a request.
    if not has_request_context():
        return False
    accepted = request.accept_mimetypes
    named = any(value.lower() == _PAGE for value, _ in accepted)
    return named and accepted[_PAGE] >= max(accepted["application/json"], accepted["application/problem+json"])


def error_page(status: int, title: str, detail: str) -> Response:
    """The error as a page."""
    return make_response(render_template("error.html", status=status, title=title, detail=detail), status)
