"""`/reports`: ask for a report, watch it come, look at its table, hand it over."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import escape
from werkzeug.datastructures import MultiDict

from storemon_flask import clock, zonedata
from storemon_flask.api import schemas
from storemon_flask.api.reports import compare
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database.reports import ReportRecord
from storemon_flask.errors import BadRequest, Busy, StoremonError
from storemon_flask.pages import report_form, words
from storemon_flask.reports import request as requests
from storemon_flask.reports import stored
from storemon_flask.reports import table as report_rows
from storemon_flask.reports.table import View
from storemon_flask.reports.windows import WINDOW_NAMES
from storemon_flask.stores import catalogue, detail
from storemon_flask.web import contract, problems
from storemon_flask.web.app import storemon

blueprint = Blueprint("report_pages", __name__)

_PER_PAGE: Final = 30
_LIMITS: Final = [25, 50, 100, 250, 500]
# Columns of texts that people look for something in, where a report has them.
_SEARCHED: Final = ("store_id", "name", "group", "status_now", "period", "daypart", "timezone")
# Rows that changed most.
_CHANGES: Final = 100
# So many of the newest reports are offered to hold one against.
_OTHERS: Final = 40
# Farther on than any report is long.
_MOST_PAGES: Final = 10**9


@contract.page(blueprint, "GET", "/reports", scope="read")
def reports() -> ResponseReturnValue:
    """Show the form that asks for a report, and the reports there are."""
    again = request.args.get("again")
    form = report_form.filled_in(stored.get(storemon().database, again)) if again else MultiDict()
    return _reports(form)


@contract.page(blueprint, "POST", "/reports", scope="read")
def ask() -> ResponseReturnValue:
    """Ask for a report, and send the browser to its page; or show what is wrong at the form, as it was filled in."""
    form = request.form
    try:
        report_id = storemon().worker.submit(
            schemas.request_of_body(contract.check_fields(schemas.TriggerSchema(), report_form.body(form)))
        )
    except StoremonError as error:
        return _reports(form, error)
    return redirect(url_for("report_pages.report", report_id=report_id), 303)


def _reports(form: "MultiDict[str, str]", error: StoremonError | None = None) -> ResponseReturnValue:
    application = storemon()
    before = None if error else _before(request.args.get("before"))
    rows = stored.newest(application.database, before, _PER_PAGE + 1)
    older = f"{rows[_PER_PAGE - 1].requested_us}.{rows[_PER_PAGE - 1].id}" if len(rows) > _PER_PAGE else None
    wrong = report_form.field_errors(form, error) if error else []
    page = render_template(
        "reports.html",
        form=form,
        error=error,
        wrong={one.field: one for one in wrong},
        choices={"windows": WINDOW_NAMES, "by": requests.UNITS, "methods": requests.METHODS},
        periods=report_form.PERIODS,
        window_rows=report_form.window_rows(form),
        window_words=requests.window_words,
        places=catalogue.report_choices(application.database, application.settings.default_timezone, _latest_us()),
        rows=rows[:_PER_PAGE],
        asked=requests.describe,
        before=before,
        older=older,
    )
    later = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Busy) else {}
    return page, error.status if error else 200, later


def _before(text: str | None) -> tuple[int, str] | None:
    if not text:
        return None
    at, _, report_id = text.partition(".")
    if not (at.isascii() and at.isdigit() and len(at) < 19):
        raise BadRequest("the address names no page of reports; go back to /reports")
    return int(at), report_id


@contract.page(blueprint, "GET", "/reports/<string:report_id>", scope="read")
def report(report_id: str) -> ResponseReturnValue:
    """One report: how far it is, why it failed, or its table."""
    application = storemon()
    row = stored.get(application.database, report_id)
    view, table = _view(), None
    named: dict[str, tuple[str, str]] = {}
    if row.state == "complete":
        file = stored.file_of(row, application.settings.reports_dir)
        # Where the report knows stores by their ids alone, the page says what they are called now.
        nameless = row.columns != "full" and (row.shape or {}).get("kind") != "outages"
        also = catalogue.ids_matching(application.database, view.text) if nameless and view.text else frozenset()
        table = report_rows.read_table(file, row.altered, requests.window_lengths(row), view, also, _link_bytes(row))
        if nameless:
            named = catalogue.names_and_groups(application.database, table.ids)
    names = [column.name for column in table.columns] if table else []
    return render_template(
        "report.html",
        row=row,
        asked=requests.describe,
        table=table,
        view=view,
        limits=sorted({table.limit, *(one for one in _LIMITS if one <= table.most)}) if table else [],
        pages=max(1, -(-table.matching // table.limit)) if table else 1,
        sortable=table is not None and table.matching <= report_rows.MOST_SORTED,
        names=names,
        named=named,
        searched=_searched(table, named) if table else [],
        late=_late(row, catalogue.newest_poll_us(application.database, max(row.as_of_us, _latest_us()))),
        # Whether it has uptimes, and nothing that says how much is unknown.
        silent=table is not None and {"uptime"} <= table.measures and "unknown" not in table.measures,
        store_link=lambda cells: _store_link(row)(dict(zip(names, cells, strict=True))),
        moment=_moment,
        others=[other for other in stored.newest(application.database, None, _OTHERS) if _comparable(other, row)],
    )


@contract.page(blueprint, "POST", "/reports/<string:report_id>/delete", scope="write")
def delete(report_id: str) -> ResponseReturnValue:
    """Delete a report, or cancel one that is on its way; the browser is sent back to the list."""
    storemon().worker.delete(report_id)
    return redirect(url_for("report_pages.reports"), 303)


@contract.page(blueprint, "GET", "/reports/<string:report_id>/changes", scope="read")
def changes(report_id: str) -> ResponseReturnValue:
    """Show what changed since another report: rows by the change of their uptime, the largest first."""
    application = storemon()
    against = request.args.get("against", "")
    row, address = stored.get(application.database, report_id), url_for("report_pages.report", report_id=report_id)
    if not against:
        # The other one is chosen on the report's page.
        return redirect(address)
    problems.lead_back(address, "The report")
    other = stored.get(application.database, against)
    compared = compare(other.id, row.id, _CHANGES, request.args.get("window") or None, detailed=True)
    windows = tuple(requests.window_lengths(row))
    ids = [store_id for one in compared.rows if (store_id := one.row.get("store_id"))]
    return render_template(
        "changes.html",
        row=row,
        other=other,
        compared=compared,
        named=catalogue.names_and_groups(application.database, list(dict.fromkeys(ids))),
        store_link=_store_link(row),
        column=partial(report_rows.describe_column, windows=windows),
        window_text=report_rows.window_text,
    )


def _searched(table: report_rows.ReportTable, named: dict[str, tuple[str, str]]) -> list[str]:
    """Return the names of the columns that the filter looks into."""
    words = [column.words for column in table.columns if column.name in _SEARCHED]
    also = [word for index, word in enumerate(("name", "group")) if any(one[index] for one in named.values())]
    return words[:1] + [word for word in also if word not in words] + words[1:]


def _latest_us() -> int:
    """Return the latest time of a poll that is not in the future."""
    return storemon().settings.rules.latest_us(time.time_ns() // 1000)


def _late(row: ReportRecord, newest_us: int | None) -> tuple[str, int] | None:
    """Return how much the as-of lies after the newest poll, and the instant of that; None when it does not."""
    if newest_us is None or row.as_of_us <= newest_us:
        return None
    return duration_text(row.as_of_us - newest_us), newest_us


def _moment(cell: str, zone: str) -> str | None:
    """Return the wall clock of a zone at the instant in a cell; None when it is no instant or the zone is not known."""
    if not cell.endswith("Z") or zone not in zonedata.names():
        return None
    try:
        return words.local_text(clock.parse_timestamp(cell), zone)
    except ValueError:
        return None


def _store_link(row: ReportRecord) -> Callable[[Mapping[str, str]], str]:
    """Return what makes the address of a store's page with the same numbers, from a row of cells by column name."""
    asked = row.shape or {}
    query: dict[str, Any] = {"as_of": timestamp_text(row.as_of_us).replace(".000000Z", "Z")}
    if asked.get("method") not in (None, "nearest"):
        query["method"] = asked["method"]
    windows = asked.get("windows") or []
    if asked.get("kind") != "outages" and any(window not in detail.WINDOWS for window in windows):
        query["window"] = [requests.text_of_window(window) for window in windows]

    def link(cells: Mapping[str, str]) -> str:
        """Return the address of the store's page for one row of the table."""
        also: dict[str, Any] = {}
        if asked.get("by") and cells.get("period_start"):
            also = {"by": asked["by"], "window": f"{cells['period_start']}..{cells['period_end']}"}
        elif asked.get("kind") == "outages" and cells.get("start"):
            also = {"until": _day_of_outage(cells)}
        return url_for("store.store", store_id=cells["store_id"], **{**query, **also})

    return link


def _link_bytes(row: ReportRecord) -> int:
    """Return about how many bytes the windows take in a link to a store."""
    end = timestamp_text(row.as_of_us)
    link = str(escape(_store_link(row)({"store_id": "", "period_start": end, "period_end": end})))
    return sum(len(part) for part in link.split("&amp;")[1:])


def _day_of_outage(cells: Mapping[str, str]) -> str:
    """Return the local day on which an outage ended, or was going on: a store's page up to it lists the outage."""
    zone = cells["timezone"] if cells["timezone"] in zonedata.names() else "Etc/UTC"
    return f"{words.wall_clock(clock.parse_timestamp(cells['end']) - 1, zone):%Y-%m-%d}"


def _comparable(other: ReportRecord, row: ReportRecord) -> bool:
    return other.state == "complete" and other.id != row.id and (other.shape or {}) == (row.shape or {})


def _view() -> View:
    """Return what the address asks of the table; what cannot be read there is ignored."""
    given = request.args
    number, limit = (given.get(name, usual, type=int) for name, usual in (("page", 1), ("limit", 100)))
    return View(
        given.get("sort") or None,
        given.get("order") == "desc",
        given.get("q", "").strip()[:200],
        min(max(number, 1), _MOST_PAGES),
        min(max(limit, 1), report_rows.MOST_ROWS),
    )
