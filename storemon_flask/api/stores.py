"""Operations on stores: the list, one store and its timeline, and changes of its hours, zone and existence."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from itertools import chain
from typing import Any, Final

from flask import Blueprint, Response, json, jsonify
from marshmallow import ValidationError, fields, validate

from storemon_flask.api.feeds import one_load
from storemon_flask.api.schemas import (
    LoadedSchema,
    StoreDetailSchema,
    StoreQuery,
    StoreSchema,
    StoresCsvQuery,
    StoresQuery,
    StoresSchema,
    TimelineQuery,
    TimelineSchema,
    read_label_filters,
)
from storemon_flask.clock import date_text, time_text, timestamp_text
from storemon_flask.database.connections import Connection
from storemon_flask.feeds.load import LoadResult
from storemon_flask.formatting import percent_number
from storemon_flask.model import CLOSED, UNDATED
from storemon_flask.stores import detail, edit, live_likely, live_list
from storemon_flask.stores.detail import Store, StoreTimeline
from storemon_flask.stores.live_list import AsOf, ListPage, ListQuery, Snapshot
from storemon_flask.uptime.likely import BOUNDS
from storemon_flask.uptime.timeline import KNOWN, STATES
from storemon_flask.web import answers
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import JSON, Answer, Closed, Whole, operation

blueprint = Blueprint("stores", __name__)

# So many rows are written at once.
_BATCH: Final = 1000
# A poll in an answer, with its share of a segment.
_POLL_BYTES: Final = 200
# A store in a CSV.
_STORE_BYTES: Final = 250
# The columns of a list of stores as CSV.
STORE_COLUMNS: Final = tuple(StoreSchema().fields)


@operation(
    blueprint, "GET", "/api/v1/stores", scope="read", tag="stores", query=StoresQuery(),
    answers={200: Answer("a page of stores, the worst first", StoresSchema())},
)  # fmt: skip
def stores(query: dict[str, Any]) -> Response:
    """List stores with their status and uptime, worst first.

    Numbers are as of the machine's clock, or of the newest poll that is not in the future when that is a day old or
    more; `as_of` says which.
    """
    app = storemon()
    snapshot = app.list_cache.current(app.slots.for_list)
    page = live_list.select_page(snapshot, replace(_list_query(query), limit=query["limit"], cursor=query["cursor"]))
    head = list_head(snapshot, page)
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    listed = ",\n".join(live_likely.records_json(app.database, snapshot, page.indices, rules, default_zone))
    return Response(f'{json.dumps(head)[:-1]}, "stores": [\n{listed}\n]}}\n', content_type=JSON)


@operation(
    blueprint, "GET", "/api/v1/stores.csv", scope="read", tag="stores", query=StoresCsvQuery(),
    answers={200: Answer("the stores as CSV", "text/csv")},
)  # fmt: skip
def stores_csv(query: dict[str, Any]) -> Response:
    """Send all stores of a list as CSV, in its order.

    The columns are the members of a store in the list.
    """
    app = storemon()
    snapshot = app.list_cache.current(app.slots.for_list)
    indices = live_list.select_page(snapshot, _list_query(query)).indices
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    with app.slots.for_answer() if len(indices) > live_list.MOST_PER_PAGE else nullcontext():
        records = live_likely.list_records(app.database, snapshot, indices, rules, default_zone)
    lines = live_list.csv_lines(records, STORE_COLUMNS)
    answer = answers.send_text(lines, "text/csv; charset=utf-8", _STORE_BYTES * len(indices))
    answer.headers["Content-Disposition"] = "attachment; filename=stores.csv"
    return answer


def _list_query(query: dict[str, Any]) -> ListQuery:
    """Return the filters and the order of `StoresCsvQuery`, of all stores."""
    return ListQuery(
        statuses=query["status"],
        text=query["q"],
        timezone=query["zone"],
        group=query["group"],
        labels=read_label_filters("label", query["label"]),
        below=query["below"],
        below_window=query["below_window"],
        without=query["without"],
        sort=query["sort"],
        descending=query["order"] == "desc",
        limit=None,
    )


@operation(
    blueprint, "GET", "/api/v1/stores/<store:store_id>", scope="read", tag="stores", query=StoreQuery(),
    answers={200: Answer("the store", StoreDetailSchema()), 404: Answer("no such store")},
)  # fmt: skip
def one_store(store_id: str, query: dict[str, Any]) -> Response:
    """Show one store with its weekly hours, as it is now or was at another instant."""
    with storemon().database.read() as connection:
        return jsonify(detail_json(_open_store(connection, store_id, query["as_of"])))


@operation(
    blueprint, "GET", "/api/v1/stores/<store:store_id>/timeline", scope="read", tag="stores", query=TimelineQuery(),
    answers={200: Answer("the timeline", TimelineSchema()), 404: Answer("no such store")},
)  # fmt: skip
def store_timeline(store_id: str, query: dict[str, Any]) -> Response:
    """Show a store's openings, their segments, its polls and its outages.

    The stretches of up, down and unknown time sum to the numbers of a report, exactly.
    """
    app = storemon()
    with app.database.read() as connection:
        store = _open_store(connection, store_id, query["as_of"])
        timeline = detail.build_timeline(store, query["from"], query["to"], detail.MOST_POLLS, app.slots.for_answer)
    return answers.send_text(_json_text(timeline_json(timeline)), JSON, _POLL_BYTES * len(timeline.polls))


def _open_store(connection: Connection, store_id: str, as_of_us: int | None) -> Store:
    app, now_us = storemon(), time.time_ns() // 1000
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    return detail.open_store(app.database, connection, store_id, rules, default_zone, now_us, as_of_us)


def list_head(snapshot: Snapshot, page: ListPage) -> dict[str, Any]:
    """Return what a list of stores says besides its stores, as `StoresSchema`."""
    totals = live_list.totals_record(snapshot, page.matching)
    head = {"total": page.total, "counts": page.counts, "totals": totals, "next": page.next}
    return {**as_of_json(snapshot.as_of), **head}


def as_of_json(as_of: AsOf) -> dict[str, Any]:
    """Return what numbers are as of, as JSON has it."""
    return {
        "as_of": timestamp_text(as_of.as_of_us),
        "data_are_old": as_of.data_are_old,
        "notice": as_of.notice,
        "note": as_of.notes,
    }


def detail_json(store: Store) -> dict[str, Any]:
    """Return one store with its weekly hours, as `StoreDetailSchema`."""
    hours, special = store.part.hours, store.part.special
    return {
        **store.snapshot().record(0),
        **_likely_json(store),
        **as_of_json(store.as_of),
        "first_poll": None if store.first_poll_us < 0 else timestamp_text(store.first_poll_us),
        "polls": store.poll_count(),
        "always_open": not len(hours),
        "hours": _rows(
            day=(hours.day, int),
            start_time_local=(hours.start_s, _clock),
            end_time_local=(hours.end_s, _clock),
            valid_from=(hours.from_day, _date),
        ),
        "special_hours": _rows(
            date=(special.date, _date),
            start_time_local=(special.start_s, _clock),
            end_time_local=(special.end_s, _clock),
        ),
    }


def _likely_json(store: Store) -> dict[str, float | None]:
    """Return the likely range of each window of a store."""
    return {
        f"uptime_percent_{name}_{window}": percent_number(sums[name], sums["uptime"] + sums["downtime"])
        for window, sums in store.likely_sums().items()
        for name in BOUNDS
    }


def _clock(second: int) -> str | None:
    return None if second == CLOSED else time_text(second)


def _date(day: int) -> str | None:
    return None if day == UNDATED else date_text(day)


def timeline_json(timeline: StoreTimeline) -> dict[str, Any]:
    """Return the timeline as `TimelineSchema`, with its lists as batches of rows."""
    openings, segments, polls, outages = timeline.openings, timeline.segments, timeline.polls, timeline.outages
    names = ("start", "end", "start_earliest", "start_latest", "end_earliest", "end_latest")
    (sums,) = detail.measure_spans(timeline.reading, [(timeline.from_us, timeline.to_us)])
    return {
        "store_id": timeline.store.store_id,
        "timezone": timeline.store.zone_now,
        **as_of_json(timeline.store.as_of),
        "from": timestamp_text(timeline.from_us),
        "to": timestamp_text(timeline.to_us),
        "openings": _row_batches(start=(openings.start_us, timestamp_text), end=(openings.end_us, timestamp_text)),
        "stretches": _row_batches(
            start=(segments.start_us, timestamp_text),
            end=(segments.end_us, timestamp_text),
            state=(segments.state, STATES.__getitem__),
            known=(segments.known, KNOWN.__getitem__),
        ),
        "polls": _row_batches(
            at=(polls.instant_us, timestamp_text),
            status=(polls.active, ("inactive", "active").__getitem__),
            counts=(timeline.in_hours, bool),
        ),
        "outages": _row_batches(
            **{name: (getattr(outages, f"{name}_us"), timestamp_text) for name in names},
            down_us=(outages.down_us, int),
            polls=(outages.polls, int),
            ongoing=(outages.ongoing, bool),
        ),
        "blind_spans": [span.record() for span in timeline.blind_spans],
        "sums": {f"{name}_us": value for name, value in sums.items()},
    }


def _row_batches(**columns: tuple[Any, Callable[[Any], Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of columns, a thousand at a time; each column has the function that writes its cells."""
    (first, _), *_ = columns.values()
    for at in range(0, len(first), _BATCH):
        cells = [[write(value) for value in column[at : at + _BATCH].tolist()] for column, write in columns.values()]
        yield [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def _rows(**columns: tuple[Any, Callable[[Any], Any]]) -> list[dict[str, Any]]:
    return list(chain.from_iterable(_row_batches(**columns)))


def _json_text(members: dict[str, Any]) -> Iterator[str]:
    """Yield the object as `jsonify` writes it, lists of rows in batches."""

    def text(value: Any) -> str:
        """Return a value as compact JSON."""
        # Like Flask: no space after separators.
        return json.dumps(value, separators=(",", ":"))

    before = "{"
    for name, value in members.items():
        yield f"{before}{text(name)}:"
        before = ","
        if not isinstance(value, Iterator):
            yield text(value)
            continue
        separator = "["
        for batch in value:
            yield separator + text(batch)[1:-1]
            separator = ","
        yield "[]" if separator == "[" else "]"
    yield "}\n"


# No time and no zone is longer, and the answer repeats what is wrong.
_SHORT: Final = validate.Length(max=100, error="is longer than 100 characters")


_SECONDS: Final = r"(:[0-5][0-9](\.[0-9]*)?)?"
_TIME: Final = rf"([01]?[0-9]|2[0-3]):[0-5][0-9]{_SECONDS}"
_END: Final = rf"{_TIME}|24:00(:00(\.[0-9]*)?)?"


def _time_of_day(about: str, pattern: str, example: str) -> fields.String:
    metadata = {"description": about, "pattern": rf"^\s*({pattern})\s*$", "example": example}
    return fields.String(required=True, validate=_SHORT, metadata=metadata)


def _check_date(text: str) -> None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # Feeds forgive blanks around a date, and Python other spellings of it; a schema does not.
    if day is None or str(day) != text or not 1970 <= day.year < 2200:
        raise ValidationError("must be a date such as 2024-10-14, from 1970 to 2199")


def _valid_from(about: str) -> fields.String:
    return fields.String(
        validate=_check_date,
        metadata={
            "description": f"the local date from which on {about}; for ever if not given",
            "format": "date",
            "example": "2024-10-14",
        },
    )


class HoursRowSchema(Closed):
    """Opening hours of one weekday, local time."""

    day = Whole(
        required=True, strict=True, metadata={"description": "0 Monday to 6 Sunday", "minimum": 0, "maximum": 6}
    )
    start_time_local = _time_of_day("when it opens", _TIME, "09:00")
    end_time_local = _time_of_day(
        "when it closes; 24:00 is the end of the day, and at or before the start is on the next day", _END, "17:30"
    )


class HoursSchema(Closed):
    """A store's whole week."""

    hours = fields.List(
        fields.Nested(HoursRowSchema),
        required=True,
        validate=validate.Length(1, 1000, error="must be 1 to 1,000 rows; DELETE makes the store open 24x7"),
        metadata={"description": "every row of it; what is not here is closed"},
    )
    valid_from = _valid_from("these hold")


class TimezoneSchema(Closed):
    """A store's zone."""

    timezone = fields.String(
        required=True,
        validate=_SHORT,
        metadata={"description": "the name of an IANA zone", "format": "iana-zone", "example": "America/Chicago"},
    )
    valid_from = _valid_from("it holds")


_CHANGED: Final = {
    200: Answer("what changed", LoadedSchema()),
    404: Answer("no such store"),
    413: Answer("larger than 16 MB"),
    422: Answer("a row that cannot be; nothing was changed"),
}


@operation(
    blueprint, "PUT", "/api/v1/stores/<store:store_id>/hours", scope="write", tag="stores",
    body=HoursSchema(), answers=_CHANGED,
)  # fmt: skip
def put_hours(store_id: str, body: dict[str, Any]) -> LoadResult:
    """Set a store's weekly hours, replacing those it had; with `valid_from`, those it had from that date on."""
    dated = {"valid_from": body["valid_from"]} if "valid_from" in body else {}
    return _put("hours", store_id, [{**row, **dated} for row in body["hours"]])


@operation(
    blueprint, "PUT", "/api/v1/stores/<store:store_id>/timezone", scope="write", tag="stores",
    body=TimezoneSchema(), answers=_CHANGED,
)  # fmt: skip
def put_timezone(store_id: str, body: dict[str, Any]) -> LoadResult:
    """Set a store's time zone, for ever or from a date on."""
    return _put("timezones", store_id, [body])


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>/hours", scope="write", tag="stores",
    answers={204: Answer("open 24x7 now"), 404: Answer("no such store")},
)  # fmt: skip
def delete_hours(store_id: str) -> None:
    """Remove a store's hours: it counts as open 24x7 again."""
    with one_load() as options:
        edit.remove_hours(storemon().database, store_id, options)


class SpecialDateQuery(Closed):
    """Which special hours are meant."""

    date = fields.String(
        load_default=None,
        validate=_check_date,
        metadata={"description": "of that local date; of all if not given", "format": "date", "example": "2024-12-25"},
    )


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>/special-hours", scope="write", tag="stores",
    query=SpecialDateQuery(),
    answers={204: Answer("the weekly hours hold again"), 404: Answer("no such store"), 422: Answer("no date")},
)  # fmt: skip
def delete_special_hours(store_id: str, query: dict[str, Any]) -> None:
    """Remove a store's special hours, of one date or of all."""
    with one_load() as options:
        edit.remove_special_hours(storemon().database, store_id, query["date"], options)


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>", scope="admin", tag="stores",
    answers={204: Answer("gone"), 404: Answer("no such store")},
)  # fmt: skip
def delete_store(store_id: str) -> None:
    """Remove a store with its polls, hours, zone and name, as a load that can be undone. Finished reports keep their
    numbers.
    """
    with one_load() as options:
        edit.remove(storemon().database, store_id, options)


def _put(feed: str, store_id: str, rows: list[dict[str, Any]]) -> LoadResult:
    with one_load() as options:
        return edit.put(storemon().database, feed, store_id, rows, options)
