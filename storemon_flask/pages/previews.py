"""The pages `/data/previews/TOKEN`: what a load would do, before it is applied or discarded."""

from typing import Final

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from storemon_flask.api import feeds
from storemon_flask.errors import StoremonError
from storemon_flask.pages import data
from storemon_flask.web import contract, problems
from storemon_flask.web.app import storemon
from storemon_flask.web.previews import KEPT_S

blueprint = Blueprint("preview_pages", __name__)

_COOKIE: Final = "storemon_preview"


@contract.page(blueprint, "POST", "/data/previews", scope="write")
def make() -> ResponseReturnValue:
    """Try out a load of the form's files and redirect to its preview; an error is shown on the page."""
    app = storemon()
    try:
        choices, uploads = data.read_form()
        with feeds.one_load(**choices, dry_run=1) as options:
            preview = app.previews.make(app.database, uploads, choices, options, app.settings.max_body_bytes)
    except StoremonError as error:
        if not problems.wants_page():
            raise
        return data.page_of_error(error)
    address = url_for("preview_pages.show", token=preview.token)
    answer = redirect(address, 303)
    answer.set_cookie(
        _COOKIE,
        preview.secret,
        max_age=2 * KEPT_S,
        path=address,
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )
    return answer


@contract.page(blueprint, "GET", "/data/previews/<string:token>", scope="write")
def show(token: str) -> ResponseReturnValue:
    """Return the page of a preview; of one that was applied the browser is sent to its load."""
    preview_or_load = storemon().previews.get(token, request.cookies.get(_COOKIE, ""))
    if isinstance(preview_or_load, int):
        return redirect(url_for("data_pages.load", load=preview_or_load), 303)
    page = render_template("preview.html", preview=preview_or_load, minutes=KEPT_S // 60)
    return page, {"Cache-Control": "no-store"}


@contract.page(blueprint, "POST", "/data/previews/<string:token>/apply", scope="write")
def apply(token: str) -> ResponseReturnValue:
    """Load what was previewed; the browser is sent to the load."""
    app, secret = storemon(), request.cookies.get(_COOKIE, "")
    preview_or_load = app.previews.get(token, secret)
    if not isinstance(preview_or_load, int):
        problems.lead_back(url_for("preview_pages.show", token=token), "The preview")
        # A second click makes the browser drop the first request, and must not end the load halfway.
        with feeds.one_load(**preview_or_load.choices, unattended=True) as options:
            preview_or_load = app.previews.apply(app.database, token, secret, options, app.settings.max_body_bytes)
    return redirect(url_for("data_pages.load", load=preview_or_load), 303)


@contract.page(blueprint, "POST", "/data/previews/<string:token>/discard", scope="write")
def discard(token: str) -> ResponseReturnValue:
    """Forget a preview and its files; the browser is sent to the Data page, or to the load if it was applied."""
    app, secret = storemon(), request.cookies.get(_COOKIE, "")
    preview_or_load = app.previews.get(token, secret)
    if isinstance(preview_or_load, int):
        return redirect(url_for("data_pages.load", load=preview_or_load), 303)
    app.previews.discard(token, secret)
    return redirect(url_for("data_pages.data"), 303)
