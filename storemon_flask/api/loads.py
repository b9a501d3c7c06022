"""What was loaded, and what of it could not be used."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, json
from marshmallow import fields, validate

from storemon_flask.api.feeds import one_load as one_more_load
from storemon_flask.api.schemas import LoadedSchema, LoadsSchema, PastLoadSchema, RejectsSchema
from storemon_flask.database.connections import Database
from storemon_flask.feeds.load import LoadResult
from storemon_flask.stores import catalogue, undo
from storemon_flask.stores.catalogue import LoadRow, Reject
from storemon_flask.web import answers
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import JSON, Answer, Closed, Whole, operation

blueprint = Blueprint("loads", __name__)


class PageSchema(Closed):
    """A page of loads."""

    limit = Whole(load_default=50, validate=validate.Range(1, 1000), metadata={"description": "loads a page"})
    cursor = Whole(
        load_default=None,
        validate=validate.Range(1, (1 << 63) - 1),
        metadata={"description": "what `next` of the page before said"},
    )


class FormatSchema(Closed):
    """How rejects are to be answered."""

    format = fields.String(
        load_default="json", validate=validate.OneOf(("json", "csv")), metadata={"description": "what they are sent as"}
    )


@operation(
    blueprint, "GET", "/api/v1/loads", scope="read", tag="loads", query=PageSchema(),
    answers={200: Answer("the newest loads first", LoadsSchema())},
)  # fmt: skip
def loads(query: dict[str, Any]) -> dict[str, Any]:
    """List what was loaded, with the counts of all files of a load together; one load is shown with its files."""
    return page_of(storemon().database, query["cursor"], query["limit"])


def page_of(database: Database, before: int | None, limit: int) -> dict[str, Any]:
    """Return up to `limit` loads older than the load `before`, if that is given, as `LoadsSchema` writes them."""
    newest = catalogue.newest_loads(database, before, limit + 1)
    page = newest[:limit]
    more = len(newest) > len(page)
    return {"page": page, "next": str(page[-1].id) if more else None}


@operation(
    blueprint, "GET", "/api/v1/loads/<int:load>", scope="read", tag="loads",
    answers={200: Answer("the load", PastLoadSchema()), 404: Answer("no such load")},
)  # fmt: skip
def one_load(load: int) -> LoadRow:
    """Show one load with its files."""
    return catalogue.one_load(storemon().database, load)


@operation(
    blueprint, "GET", "/api/v1/loads/<int:load>/rejects", scope="read", tag="loads", query=FormatSchema(),
    answers={200: Answer("the rejected rows", {JSON: RejectsSchema(), "text/csv": None}), 404: Answer("no such load")},
)  # fmt: skip
def rejects(load: int, query: dict[str, Any]) -> Response:
    """List the rows of a load that could not be used, as JSON or CSV."""
    catalogue.one_load(storemon().database, load)
    if query["format"] == "json":
        return answers.send_text(_rejects_json(load), "application/json")
    answer = answers.send_text(catalogue.rejects_csv(storemon().database, load), "text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f"attachment; filename=rejects_{load}.csv"
    return answer


def reject_json(row: Reject) -> dict[str, Any]:
    """Return a rejected row, as `RejectsSchema` has it."""
    _, file, line, reason, text = row
    return {"file": file, "line": line, "reason": reason, "text": text}


@operation(
    blueprint, "POST", "/api/v1/loads/<int:load>/undo", scope="write", tag="loads",
    answers={
        200: Answer("what the undo, a load of its own, did", LoadedSchema()),
        404: Answer("no such load"),
        409: Answer("later loads have the same data (`conflicts` names them), or it was undone, or cannot be any more"),
    },
)  # fmt: skip
def undo_load(load: int) -> LoadResult:
    """Undo a load: what it added goes, and what it replaced returns. Undoing the undo brings it back."""
    with one_more_load() as options:
        return undo.undo(storemon().database, load, options)


def _rejects_json(load: int) -> Iterator[str]:
    rows = catalogue.rejects(storemon().database, load)
    yield f'{{"load_id": {load}, "rejects": ['
    separator = "\n"
    for row in rows:
        yield separator + json.dumps(reject_json(row))
        separator = ",\n"
    yield "\n]}\n"
