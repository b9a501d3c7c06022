"""Reports that were asked for: the list, how one was made, and what changed from one to another."""

from contextlib import nullcontext
from typing import Any

from flask import Blueprint, Response
from marshmallow import fields, validate

from storemon_flask.api import classic, schemas
from storemon_flask.errors import NotComplete
from storemon_flask.model import SECOND_US
from storemon_flask.reports import queue
from storemon_flask.reports.diff import Diff
from storemon_flask.reports.queue import ReportRecord
from storemon_flask.web import answers, authentication
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, Closed, operation

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
        metadata={"description": "changes to answer at the most"},
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
    found = queue.newest(storemon().database, before, query["limit"] + 1)
    page = found[: query["limit"]]
    more = f"{page[-1].requested_us}.{page[-1].id}" if len(found) > len(page) else None
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
    report_id = storemon().worker.latest(schemas.asked_by_address(query), query["max_age"] * SECOND_US)
    row = classic.wait_for(report_id, schemas.MAX_WAIT_S)
    if row.state == "failed":
        raise queue.failure(row)
    if row.state != "complete":
        raise NotComplete("the report is being computed; ask again in some seconds, for the same address")
    return classic.send_report(row, "csv")


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
    return queue.get(storemon().database, report_id)


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
    """Say what changed since another report: each cell that differs, the largest change first.

    Rows are matched by store, kind, group and period; `total` says how many cells differ, also beyond `limit`.
    """
    changed = compare(query["against"], report_id, query["limit"])
    changes = [
        {
            **{name: change.row.get(name) for name in ("store_id", "kind", "group")},
            "period": change.row.get("period") or change.row.get("start"),
            "column": change.column,
            "before": change.before,
            "after": change.after,
            "change": change.change,
        }
        for change in changed.changes
    ]
    return {"report_id": report_id, "against": query["against"], "total": changed.total, "changes": changes}


def compare(before_id: str, after_id: str, limit: int) -> Diff:
    """Compare two reports (`report_store.diff`); two large ones take one of the places for large answers."""
    found = storemon()
    large = queue.bytes_of(found.database, before_id, after_id) > answers.SMALL_BYTES
    with found.slots.for_an_answer() if large else nullcontext():
        return queue.diff(found.database, found.settings.reports_dir, before_id, after_id, limit)
