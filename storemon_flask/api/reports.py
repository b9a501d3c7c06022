"""Reports: trigger, fetch, list, delete, compare; and `/healthz`."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, json, request, send_file, url_for
from marshmallow import fields, validate

from storemon_flask.api import schemas
from storemon_flask.clock import timestamp_text
from storemon_flask.database.reports import ReportRecord
from storemon_flask.errors import NotComplete
from storemon_flask.model import SECOND_US
from storemon_flask.reports import stored, xlsx
from storemon_flask.reports.csv import json_rows
from storemon_flask.reports.diff import Diff, Percentage, RowChange
from storemon_flask.web import answers, authentication, metrics
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import JSON, Answer, Closed, operation

blueprint = Blueprint("reports", __name__)


class PageQuery(Closed):
    """A page of reports."""

    limit = fields.Integer(
        load_default=50, validate=validate.Range(1, 1000), metadata={"description": "reports a page"}
    )
    cursor = fields.String(
        load_default=None,
        validate=validate.Regexp(r"^[0-9]{1,18}\.[0-9a-f]{32}\Z", error="is no cursor; take `next` of the page before"),
        metadata={"description": "what `next` of the page before said", "pattern": r"^[0-9]{1,18}\.[0-9a-f]{32}$"},
    )


class DiffQuery(Closed):
    """What a report is held against."""

    against = fields.String(
        required=True,
        validate=validate.Length(min=1, error="names no report"),
        metadata={"description": "the id of the earlier report"},
    )
    limit = fields.Integer(
        load_default=1000,
        validate=validate.Range(1, 100_000),
        metadata={"description": "changes, and rows, to answer at the most"},
    )
    window = fields.String(
        validate=validate.Length(min=1, error="names no window"),
        metadata={
            "description": "rank rows by their uptime in this window, such as last_day; the last one that both have"
        },
    )


@operation(
    blueprint, "GET", "/api/v1/reports", scope="read", tag="reports", query=PageQuery(),
    answers={200: Answer("the newest first", schemas.ReportsSchema())},
)  # fmt: skip
def reports(query: dict[str, Any]) -> dict[str, Any]:
    """List the reports that were asked for, the newest first; of the stores one was asked for, the first few."""
    before = None
    if query["cursor"]:
        at, report_id = query["cursor"].split(".")
        before = int(at), report_id
    records = stored.newest(storemon().database, before, query["limit"] + 1)
    page = records[: query["limit"]]
    more = f"{page[-1].requested_us}.{page[-1].id}" if len(records) > len(page) else None
    return {"reports": page, "next": more}


@operation(
    blueprint, "GET", "/api/v1/reports/latest.csv", scope="read", tag="reports", query=schemas.LatestQuery(),
    answers=schemas.LATEST,
)  # fmt: skip
def latest_report(query: dict[str, Any]) -> Response:
    """Answer the newest report of this kind as CSV, computed first when none is fresh enough: an address for
    spreadsheets.

    The other parameters are the fields of a trigger. A report of the data as they are now always will do. When one has
    to be computed, the call waits for it, up to 60 seconds, and answers 503 then; the same address asked again goes on
    waiting.
    """
    authentication.refuse_embedding()
    report_id = storemon().worker.latest(schemas.request_of_query(query), query["max_age"] * SECOND_US)
    row = wait_for(report_id, schemas.MAX_WAIT_S)
    if row.state == "failed":
        raise stored.failure(row)
    if row.state != "complete":
        raise NotComplete("the report is being computed; ask again in some seconds, for the same address")
    return send_report(row, "csv")


@operation(
    blueprint, "GET", "/api/v1/reports/<report:report_id>", scope="read", tag="reports",
    answers={
        200: Answer("the report, without its rows", schemas.ReportSchema()),
        404: Answer("no report of that id"),
        410: Answer("it was deleted"),
    },
)  # fmt: skip
def one_report(report_id: str) -> ReportRecord:
    """Show how a report stands, what was asked, and by which method it was made."""
    return stored.get(storemon().database, report_id)


@operation(
    blueprint, "DELETE", "/api/v1/reports/<report:report_id>", scope="write", tag="reports",
    answers={
        204: Answer("it is gone"),
        404: Answer("no report of that id"),
        410: Answer("it was deleted before"),
    },
)  # fmt: skip
def delete_report(report_id: str) -> None:
    """Delete a report, or cancel one that is on its way. Others that were asked the same keep theirs."""
    storemon().worker.delete(report_id)


@operation(
    blueprint, "GET", "/api/v1/reports/<report:report_id>/diff", scope="read", tag="reports", query=DiffQuery(),
    answers={
        200: Answer("the largest change first", schemas.DiffSchema()),
        404: Answer("no report of that id"),
        409: Answer("one of the two is not complete"),
        410: Answer("one was deleted, or its file removed"),
    },
)  # fmt: skip
def diff(report_id: str, query: dict[str, Any]) -> dict[str, Any]:
    """Say what changed since another report: rows by the change of their uptime in percentage points, and each cell
    that differs, the largest change first.

    Rows are matched by store, kind, group and period; `total` and `row_total` count all, also beyond `limit`. Rows that
    know little come after the others, and those whose percentage is not known in one of the reports last.
    """
    changed = compare(query["against"], report_id, query["limit"], query.get("window"))
    return {
        "report_id": report_id,
        "against": query["against"],
        "window": changed.window,
        "windows": list(changed.windows),
        "row_total": changed.row_total,
        **{verdict: changed.verdicts[verdict] for verdict in ("better", "worse", "same")},
        "not_known": changed.verdicts["unknown"],
        "rows": [_row_change(one) for one in changed.rows],
        "total": changed.total,
        "changes": [
            {
                **_row_names(change.row),
                "column": change.column,
                "before": change.before,
                "after": change.after,
                "change": change.change,
            }
            for change in changed.changes
        ],
    }


def _row_names(row: Mapping[str, str]) -> dict[str, str | None]:
    return {
        **{name: row.get(name) for name in ("store_id", "kind", "group")},
        "period": row.get("period") or row.get("start"),
        "daypart": row.get("daypart"),
    }


def _row_change(one: RowChange) -> dict[str, Any]:
    before, after = one.before or Percentage(None), one.after or Percentage(None)
    return {
        **_row_names(one.row),
        "verdict": one.verdict,
        "uptime_percent_before": before.value,
        "uptime_percent_after": after.value,
        "change_points": one.points,
        "note": one.reason or None,
        "known_before": before.known or None,
        "known_after": after.known or None,
        **{
            f"uptime_percent_likely_{bound}_{when}": side.likely and side.likely[index]
            for when, side in (("before", before), ("after", after))
            for index, bound in enumerate(("low", "high"))
        },
        "within_likely": one.within_likely,
    }


def compare(before_id: str, after_id: str, limit: int, window: str | None = None, detailed: bool = False) -> Diff:
    """Compare two reports (`stored.diff`); two large ones hold a slot for large answers."""
    app = storemon()
    large = stored.bytes_of(app.database, before_id, after_id) > answers.SMALL_BYTES
    with app.slots.for_answer() if large else nullcontext():
        return stored.diff(
            app.database, app.settings.reports_dir, before_id, after_id, limit, window=window, detailed=detailed
        )


@operation(
    blueprint, "POST", "/trigger_report", scope="read", tag="reports", body=schemas.TriggerSchema(),
    answers=schemas.TRIGGERED,
)  # fmt: skip
def trigger_report(body: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Trigger a report and get its id; without a body it is of every store, as of the newest poll that is not in the
    future.

    The body is read as JSON whatever its Content-Type says. Every trigger answers an id of its own; equal reports on
    unchanged data are computed once. `GET /get_report` with that id fetches the report.
    """
    report_id = storemon().worker.submit(schemas.request_of_body(body))
    location = url_for("reports.get_report", report_id=report_id)
    return {"report_id": report_id, "status": "Running"}, {"Location": location}


@operation(
    blueprint, "GET", "/get_report", scope="read", tag="reports", query=schemas.ReportQuery(),
    answers=schemas.FETCHED,
)  # fmt: skip
def get_report(query: dict[str, Any]) -> Response:
    """Fetch a report: its CSV, its rows as JSON or a workbook once it is complete; until then its state, with 202.

    Only 200, 206 and 304 are the report. 202 is worth asking again, or waiting for with `wait`; 409 says that it failed
    and will not come.
    """
    form = query["format"]
    row = wait_for(query["report_id"], query["wait"])
    if row.state == "failed":
        raise stored.failure(row)
    if row.state != "complete":
        return _running(row)
    return send_report(row, form)


def wait_for(report_id: str, wait_s: float) -> ReportRecord:
    """Return the report once it has ended, or as it is after `wait_s`; soon when the client hangs up."""
    began = time.monotonic()
    row = storemon().worker.wait_for(
        report_id, wait_s, request.environ.get("waitress.client_disconnected", lambda: False)
    )
    request.environ[metrics.WAITED] = time.monotonic() - began
    return row


def _running(row: ReportRecord) -> Response:
    """Answer the state of a report on its way, laid out so that no reader of CSV takes it for an empty table.

    `pandas.read_csv` reads any 2xx. JSON on one line would be a header without rows; a header of one cell, a row of one
    and a row of several are an error.
    """
    rest = json.dumps({"status": "Running", "progress": row.progress, **_tried(row)}, sort_keys=False)[1:]
    text = f'{{\n"report_id": "{row.id}"\n, {rest}\n'
    return Response(text, 202, {"Retry-After": "1"}, content_type=JSON)


def _tried(row: ReportRecord) -> dict[str, object]:
    """Return what a report on its way says of tries that failed."""
    if row.last_error is None:
        return {}
    next_try = None if row.next_try_us is None else timestamp_text(row.next_try_us)
    return {"attempts": row.attempts, "last_error": row.last_error, "next_try": next_try}


def send_report(row: ReportRecord, form: str) -> Response:
    """Answer a complete report as `csv`, `json` or `xlsx`; `Gone` when its file is not there."""
    file = stored.file_of(row, storemon().settings.reports_dir)
    try:
        return _sent(row, file, form)
    except FileNotFoundError:
        # Deleted this moment.
        raise stored.file_missing(file) from None


def _sent(row: ReportRecord, file: Path, form: str) -> Response:
    if form == "json":
        with file.open(encoding="utf-8", newline="") as lines:
            # JSON names every cell: it is about four times as long.
            return answers.send_text(_complete_json(row, lines), "application/json", 4 * file.stat().st_size)
    if form == "xlsx":
        answer = answers.send_unsent(_book(row, file), xlsx.MIME)
        answer.headers["Content-Disposition"] = f"attachment; filename=report_{row.id}.xlsx"
        return _headed(answer, row)
    answer = send_file(
        file,
        mimetype="text/csv",
        as_attachment=True,
        conditional=True,
        etag=row.sha256 or True,
    )
    return _headed(_a_file(answer, file), row)


def _a_file(answer: Response, file: Path) -> Response:
    """A part of a file as what it is: Waitress sends files by itself, and anything else by the thread that made it.

    A reader who takes a part slowly would hold a thread as long as that.
    """
    wrapper = request.environ.get("wsgi.file_wrapper")
    if answer.status_code == 206 and wrapper is not None:
        part = file.open("rb")
        part.seek(answer.content_range.start or 0)
        # It sends as much as Content-Length says.
        answer.response.close()  # type: ignore[union-attr]
        answer.response = wrapper(part)
    return answer


def _book(row: ReportRecord, file: Path) -> answers.UnsentFile:
    slots = storemon().slots
    with slots.for_answer():
        return answers.UnsentFile(slots.unsent, xlsx.write(file, row.row_count or 0, row.altered, row.method or {}))


def _headed(answer: Response, row: ReportRecord) -> Response:
    answer.headers["X-Report-Status"] = "Complete"
    answer.headers["X-Report-As-Of"] = timestamp_text(row.as_of_us)
    note = (row.method or {}).get("note")
    if note:
        answer.headers["X-Report-Note"] = note
    return answer


def _complete_json(row: ReportRecord, lines: Iterable[str]) -> Iterator[str]:
    head = {
        "report_id": row.id,
        "status": "Complete",
        "as_of": timestamp_text(row.as_of_us),
        "method": row.method,
    }
    yield json.dumps(head)[:-1] + ', "rows": ['
    separator = "\n"
    for cells in json_rows(lines, row.altered):
        yield separator + json.dumps(cells, sort_keys=False)
        separator = ",\n"
    yield "\n]}\n"
