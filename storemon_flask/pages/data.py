"""The page `/data`: upload files, see what became of their rows, how much data there is and how fresh it is."""

import logging
import time
from typing import IO, Any, Final

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from storemon_flask.api import feeds
from storemon_flask.clock import duration_text
from storemon_flask.errors import Busy, StoremonError, Unprocessable
from storemon_flask.feeds.encodings import ENCODINGS, UTF8
from storemon_flask.stores import catalogue, undo
from storemon_flask.web import contract, problems
from storemon_flask.web.app import storemon

blueprint = Blueprint("data_pages", __name__)

log = logging.getLogger("storemon.web")

# What the form has beside its files.
_FIELDS: Final = ("days", "encoding")
_PER_PAGE: Final = 25
_REJECTS: Final = 50


@contract.page(blueprint, "GET", "/data", scope="read")
def data() -> ResponseReturnValue:
    """Return the page: a form for files, what there is of each feed, and past loads."""
    return _data()


@contract.page(blueprint, "POST", "/data", scope="write")
def upload() -> ResponseReturnValue:
    """Load the files of the form and redirect to the load; an error is shown on the page."""
    try:
        choices, _ = read_form()
        result = feeds.load_uploaded(**choices, other_fields=_FIELDS)
    except StoremonError as error:
        return page_of_error(error)
    if not result.load:
        # None was a feed, and there is no database to remember that in.
        return _data("; ".join(f"{summary.file}: {summary.error}" for summary in result.files[:10]), 422)
    return redirect(url_for("data_pages.load", load=result.load), 303)


def read_form() -> tuple[dict[str, Any], list[tuple[str, IO[bytes]]]]:
    """Return how the files of the form are to be loaded, and their names and streams; `Unprocessable` without a file
    or for a choice that there is not, and what `feeds.uploaded` raises.
    """
    uploads = feeds.uploaded(_FIELDS)
    if not any(name for name, _ in uploads):
        raise Unprocessable("no file was chosen; choose CSV files, gzipped ones or zips of them, then load them")
    days = request.form.get("days", "0-6")
    encoding = request.form.get("encoding", UTF8)
    for name, value, allowed in (("days", days, feeds.DAYS), ("encoding", encoding, ENCODINGS)):
        if value not in allowed:
            raise Unprocessable(f"{name} is {value[:100]!r}; it must be {' or '.join(allowed)}")
    return {"atomic": int(request.args.get("atomic") == "1"), "days": days, "encoding": encoding}, uploads


def page_of_error(error: StoremonError) -> ResponseReturnValue:
    """Return the page with what was wrong with the files of its form."""
    if error.status >= 500 and not isinstance(error, Busy):
        log.error("%s %s: %s", request.method, request.path, error.message)
    answer = make_response(_data(error.message, error.status))
    if isinstance(error, Busy):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


def _data(error: str = "", status: int = 200) -> ResponseReturnValue:
    app = storemon()
    before = request.args.get("before", type=int) if request.method == "GET" else None
    loads = catalogue.newest_loads(app.database, before if before and 0 < before < 1 << 63 else None, _PER_PAGE + 1)
    now_us = time.time_ns() // 1000
    fresh = catalogue.freshness(app.database, app.settings.rules.latest_us(now_us))
    page = render_template(
        "data.html",
        error=error,
        fresh=fresh,
        age=None if fresh.newest_poll_us is None else duration_text(now_us - fresh.newest_poll_us),
        loads=loads[:_PER_PAGE],
        before=before,
        older=loads[_PER_PAGE - 1].id if len(loads) > _PER_PAGE else None,
        most_mb=app.settings.max_body_mb,
    )
    return page, status


@contract.page(blueprint, "GET", "/data/loads/<int:load>", scope="read")
def load(load: int) -> ResponseReturnValue:
    """Return the page of one load: its files, what became of their rows, and the first rejects."""
    database = storemon().database
    row = catalogue.one_load(database, load)
    return render_template(
        "load.html",
        load=row,
        rejects=catalogue.first_rejects(database, load, _REJECTS),
        most_rejects=_REJECTS,
        cannot_undo=undo.reason_against(database, load),
    )


@contract.page(blueprint, "GET", "/data/loads/<int:load>/undo", scope="read")
def ask_undo(load: int) -> ResponseReturnValue:
    """Return the page that says what undoing a load will do, and asks."""
    problems.lead_back(url_for("data_pages.load", load=load), f"Load {load}")
    return render_template("undo.html", load=load, sentences=undo.plan(storemon().database, load))


@contract.page(blueprint, "POST", "/data/loads/<int:load>/undo", scope="write")
def undo_load(load: int) -> ResponseReturnValue:
    """Undo a load; the browser is sent to the load that did it."""
    problems.lead_back(url_for("data_pages.load", load=load), f"Load {load}")
    with feeds.one_load() as options:
        result = undo.undo(storemon().database, load, options)
    return redirect(url_for("data_pages.load", load=result.load), 303)
