"""Operations on outages of all stores: what is going on, what is over."""

import io
from typing import Any, Final

from flask import Blueprint, Response, json
from marshmallow import ValidationError, fields, validate

from storemon_flask.api.schemas import LABEL_FILTER, OutagesSchema, read_label_filters
from storemon_flask.api.stores import as_of_json
from storemon_flask.model import Ints
from storemon_flask.reports.csv import json_rows
from storemon_flask.stores import outage_list
from storemon_flask.stores.outage_list import DEFAULT_WINDOW, MOST_PER_PAGE, SORTS, STATES, OutageList, OutageQuery
from storemon_flask.web import answers
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import JSON, Answer, Closed, Instant, Whole, operation

blueprint = Blueprint("outages", __name__)

# An outage in a CSV.
_ROW_BYTES: Final = 280


def _check_moment(text: str) -> None:
    try:
        outage_list.parse_moment(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class OutagesCsvQuery(Closed):
    """Which outages, in which order."""

    window = fields.String(
        load_default=DEFAULT_WINDOW,
        validate=validate.Length(1, 200),
        metadata={
            "description": "outages that touch this window: its name as in a report, or FROM..TO with two local dates "
            "or two instants with an offset",
            "format": "report-window",
            "example": "this_month",
        },
    )
    at = fields.String(
        load_default=None,
        validate=[validate.Length(max=100, error="is longer than 100 characters"), _check_moment],
        metadata={
            "description": "instead of a window: outages that had begun and were not over at that time, of each "
            "store's own clock; with an offset, at that instant",
            "format": "moment",
            "example": "2024-10-14T15:00",
        },
    )
    state = fields.String(
        load_default="any",
        validate=validate.OneOf(STATES),
        metadata={"description": "only those that go on at the as-of, or only those that are over"},
    )
    group = fields.String(load_default=None, metadata={"description": "only of stores of this group; empty: of none"})
    label = fields.List(fields.String(), load_default=(), metadata={"description": LABEL_FILTER})
    zone = fields.String(load_default=None, metadata={"description": "only of stores of this time zone"})
    shortest_minutes = fields.Float(
        load_default=0.0,
        allow_nan=False,
        validate=validate.Range(0, 576_000),
        metadata={"description": "only those with at least so much business time down"},
    )
    as_of = Instant(
        load_default=None,
        metadata={"description": "the instant that everything is judged at; that of the live list if not given"},
    )
    sort = fields.String(
        load_default="down_minutes",
        validate=validate.OneOf(SORTS),
        metadata={"description": "ties are by store id, then by start"},
    )
    order = fields.String(
        load_default="desc",
        validate=validate.OneOf(("asc", "desc")),
        metadata={"description": "stores without a name or group come last, either way"},
    )


class OutagesQuery(OutagesCsvQuery):
    """Which outages, in which order, and which page of them."""

    limit = Whole(
        load_default=100, validate=validate.Range(1, MOST_PER_PAGE), metadata={"description": "outages a page"}
    )
    cursor = Whole(
        load_default=0,
        validate=validate.Range(0, (1 << 63) - 1),
        metadata={"description": "what `next` of the page before said"},
    )


@operation(
    blueprint, "GET", "/api/v1/outages", scope="read", tag="stores", query=OutagesQuery(),
    answers={200: Answer("a page of outages, the longest first", OutagesSchema())},
)  # fmt: skip
def outages(query: dict[str, Any]) -> Response:
    """List outages of all stores, longest first.

    The rows are those of a report of kind `outages` of the same window and as-of.
    """
    listed, index = _select(query)
    first, stop = query["cursor"], query["cursor"] + query["limit"]
    text = outage_list.render(listed, index[first:stop])
    document = {
        **as_of_json(listed.as_of),
        "total": len(index),
        "ongoing": int(listed.outages.ongoing[index].sum()),
        "next": str(stop) if stop < len(index) else None,
        "outages": list(json_rows(io.StringIO(text.csv, newline=""), text.altered)),
    }
    return Response(json.dumps(document) + "\n", content_type=JSON)


@operation(
    blueprint, "GET", "/api/v1/outages.csv", scope="read", tag="stores", query=OutagesCsvQuery(),
    answers={200: Answer("the outages as CSV", "text/csv")},
)  # fmt: skip
def outages_csv(query: dict[str, Any]) -> Response:
    """Send all outages of a list as CSV, in its order.

    The columns are those of a report of kind `outages`.
    """
    listed, index = _select(query)
    text = outage_list.render(listed, index).csv
    answer = answers.send_text(iter([text]), "text/csv; charset=utf-8", _ROW_BYTES * len(index))
    answer.headers["Content-Disposition"] = "attachment; filename=outages.csv"
    return answer


def list_query(query: dict[str, Any]) -> OutageQuery:
    """Return what `OutagesCsvQuery` asks for; `Unprocessable` says what is wrong with the window."""
    window, shortest_us = outage_list.make_window(query["window"], query["shortest_minutes"])
    return OutageQuery(
        window=window,
        moment=None if query["at"] is None else outage_list.parse_moment(query["at"]),
        state=query["state"],
        group=query["group"],
        labels=read_label_filters("label", query["label"]),
        zone=query["zone"],
        shortest_us=shortest_us,
        sort=query["sort"],
        descending=query["order"] == "desc",
    )


def _select(query: dict[str, Any]) -> tuple[OutageList, Ints]:
    """Return all outages and the indices of those that are asked for."""
    app, asked = storemon(), list_query(query)
    rules, zone = app.settings.rules, app.settings.default_timezone
    if query["as_of"] is not None:
        with app.slots.for_answer():
            listed = outage_list.read_outages_as_of(app.database, query["as_of"], asked, rules, zone)
    else:
        snapshot = app.list_cache.current(app.slots.for_list)
        listed = outage_list.read_outages(app.database, snapshot, [asked], rules, zone, app.slots.for_list)
    return listed, outage_list.select(listed, asked)
