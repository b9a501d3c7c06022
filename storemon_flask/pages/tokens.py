"""The page `/data/push`: the push addresses of stores, with new ones made and old ones revoked."""

import time
from typing import Final

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from storemon_flask.database import tokens
from storemon_flask.errors import StoremonError
from storemon_flask.stores import push_tokens
from storemon_flask.stores.push_tokens import NewToken
from storemon_flask.web import contract
from storemon_flask.web.app import storemon

blueprint = Blueprint("token_pages", __name__)
# A fleet may have an address for each store, and a page of ten thousand takes seconds.
_MOST_SHOWN: Final = 500


@contract.page(blueprint, "GET", "/data/push", scope="read")
def push_addresses() -> ResponseReturnValue:
    """Return the page: a form for a new address, and those that there are."""
    return _page()


@contract.page(blueprint, "POST", "/data/push", scope="admin")
def add() -> ResponseReturnValue:
    """Make a push address and show it, this once; an error is shown on the page."""
    store, label = request.form.get("store", ""), request.form.get("label", "")
    with storemon().slots.for_change():
        try:
            new = push_tokens.add_token(storemon().database, store, label.strip(), time.time_ns() // 1000)
        except StoremonError as error:
            if error.status >= 500:
                raise
            return _page(error=error.message, status=error.status)
    return _page(new)


@contract.page(blueprint, "POST", "/data/push/<string:prefix>/revoke", scope="admin")
def revoke(prefix: str) -> ResponseReturnValue:
    """Revoke the token of that prefix and show the page again."""
    with storemon().slots.for_change():
        tokens.revoke(storemon().database, prefix, time.time_ns() // 1000)
    return redirect(url_for("token_pages.push_addresses"), 303)


def _page(new: NewToken | None = None, error: str = "", status: int = 200) -> ResponseReturnValue:
    database = storemon().database
    rows = tokens.rows(database)[::-1] if database.exists() else []
    # Those that can be revoked first.
    rows.sort(key=lambda row: row.revoked_us is not None)
    page = render_template(
        "push.html",
        tokens=rows[:_MOST_SHOWN],
        more=max(len(rows) - _MOST_SHOWN, 0),
        new=new,
        address="" if new is None else url_for("push.get_push", token=new.token, _external=True),
        error=error,
        store=request.form.get("store", "") if error else "",
        label=request.form.get("label", "") if error else "",
    )
    answer = make_response(page, status)
    answer.headers["Cache-Control"] = "no-store"
    return answer
