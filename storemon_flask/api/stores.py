"""Stores: how they are now, and why their numbers are what they are."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, json, jsonify

from storemon_flask.api.schemas import (
    StoreDetailSchema,
    StoreQuery,
    StoresQuery,
    StoresSchema,
    TimelineQuery,
    TimelineSchema,
)
from storemon_flask.clock import date_text, time_text, timestamp_text
from storemon_flask.model import CLOSED, UNDATED, Ints
from storemon_flask.stores import snapshots, store_list, store_pages, timeline
from storemon_flask.stores.live import Moment
from storemon_flask.stores.store_list import StoreDetail
from storemon_flask.stores.store_pages import Wanted
from storemon_flask.stores.timeline import StoreTimeline
from storemon_flask.uptime.timeline import KNOWN, STATES
from storemon_flask.web import answers
from storemon_flask.web.app import runner
from storemon_flask.web.contract import JSON, Answer, operation

blueprint = Blueprint("stores", __name__)

# Rows that are written at once.
_BATCH: Final = 1000
# A poll in an answer, with the stretch that it is in.
_POLL_BYTES: Final = 200


@operation(
    blueprint, "GET", "/api/v1/stores", scope="read", tag="stores", query=StoresQuery(),
    answers={200: Answer("a page of stores, the worst first", StoresSchema())},
)  # fmt: skip
def stores(query: dict[str, Any]) -> Response:
    """List stores with their status and uptime, worst first.

    Numbers are as of the machine's clock, or of the newest poll that is not in the future when that is a day old or
    more; `as_of` says which.
    """
    app = runner()
    found = snapshots.current(app.database, app.settings.rules, app.settings.default_timezone, app.places.for_a_list)
    wanted = Wanted(
        statuses=query["status"],
        text=query["q"],
        timezone=query["zone"],
        group=query["group"],
        sort=query["sort"],
        descending=query["order"] == "desc",
        limit=query["limit"],
        cursor=query["cursor"],
    )
    page = store_pages.page(found, wanted)
    head = {
        **_moment(found.moment),
        "total": page.total,
        "counts": page.counts,
        "next": page.next,
    }
    listed = ",\n".join(store_pages.json_of(found, page.places))
    return Response(f'{json.dumps(head)[:-1]}, "stores": [\n{listed}\n]}}\n', content_type=JSON)


@operation(
    blueprint, "GET", "/api/v1/stores/<store:store_id>", scope="read", tag="stores", query=StoreQuery(),
    answers={200: Answer("the store", StoreDetailSchema()), 404: Answer("no such store")},
)  # fmt: skip
def one_store(store_id: str, query: dict[str, Any]) -> Response:
    """Show one store with its weekly hours, as it is now or was at another instant."""
    app = runner()
    rules, default_zone = app.settings.rules, app.settings.default_timezone
    now_us = time.time_ns() // 1000
    return jsonify(_detail(store_list.detail(app.database, store_id, rules, default_zone, now_us, query["as_of"])))


@operation(
    blueprint, "GET", "/api/v1/stores/<store:store_id>/timeline", scope="read", tag="stores", query=TimelineQuery(),
    answers={200: Answer("the timeline", TimelineSchema()), 404: Answer("no such store")},
)  # fmt: skip
def store_timeline(store_id: str, query: dict[str, Any]) -> Response:
    """Show a store's openings, what is known of them, its polls and its outages.

    The stretches of up, down and unknown time sum to the numbers of a report, exactly.
    """
    app = runner()
    settings = app.settings
    now_us = time.time_ns() // 1000
    found = timeline.of_store(
        app.database,
        store_id,
        query["from"],
        query["to"],
        settings.rules,
        settings.default_timezone,
        now_us,
        query["as_of"],
        timeline.MOST_POLLS,
        app.places.for_an_answer,
    )
    return answers.send_text(_json_text(_timeline(found)), JSON, _POLL_BYTES * len(found.polls))


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "as_of": timestamp_text(moment.as_of_us),
        "data_are_old": moment.data_are_old,
        "notice": moment.notice,
        "note": moment.notes,
    }


def _detail(found: StoreDetail) -> dict[str, Any]:
    hours, special = found.hours, found.special
    return {
        **found.snapshot.record(0),
        **_moment(found.snapshot.moment),
        "first_poll": None if found.first_poll_us < 0 else timestamp_text(found.first_poll_us),
        "polls": found.polls,
        "always_open": not len(hours),
        "hours": _rows(
            day=hours.day.tolist(),
            start_time_local=_clocks(hours.start_s),
            end_time_local=_clocks(hours.end_s),
            valid_from=_dates(hours.from_day),
        ),
        "special_hours": _rows(
            date=_dates(special.date),
            start_time_local=_clocks(special.start_s),
            end_time_local=_clocks(special.end_s),
        ),
    }


def _clocks(seconds: Ints) -> list[str | None]:
    return [None if second == CLOSED else time_text(second) for second in seconds.tolist()]


def _dates(days: Ints) -> list[str | None]:
    return [None if day == UNDATED else date_text(day) for day in days.tolist()]


def _timeline(found: StoreTimeline) -> dict[str, Any]:
    """As `TimelineSchema`; lists of rows as `_Rows`."""
    openings, stretches, polls, outages = found.openings, found.stretches, found.polls, found.outages
    names = ("start", "end", "start_earliest", "start_latest", "end_earliest", "end_latest")
    return {
        "store_id": found.store_id,
        "timezone": found.zone,
        **_moment(found.moment),
        "from": timestamp_text(found.from_us),
        "to": timestamp_text(found.to_us),
        "openings": _Rows(
            {"start": (openings.start_us, timestamp_text), "end": (openings.end_us, timestamp_text)},
        ),
        "stretches": _Rows(
            {
                "start": (stretches.start_us, timestamp_text),
                "end": (stretches.end_us, timestamp_text),
                "state": (stretches.state, STATES.__getitem__),
                "known": (stretches.known, KNOWN.__getitem__),
            }
        ),
        "polls": _Rows(
            {
                "at": (polls.instant_us, timestamp_text),
                "status": (polls.active, ("inactive", "active").__getitem__),
                "counts": (found.in_hours, bool),
            }
        ),
        "outages": _Rows(
            {
                **{name: (getattr(outages, f"{name}_us"), timestamp_text) for name in names},
                "down_us": (outages.down_us, int),
                "polls": (outages.polls, int),
                "ongoing": (outages.ongoing, bool),
            }
        ),
        "sums": {f"{name}_us": value for name, value in found.sums.items()},
    }


@dataclass(frozen=True, slots=True)
class _Rows:
    """Columns with how their cells are written, as a list of rows."""

    columns: dict[str, tuple[Any, Callable[[Any], Any]]]

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The rows, a thousand at a time."""
        (first, _), *_ = self.columns.values()
        for at in range(0, len(first), _BATCH):
            cells = [
                [write(value) for value in column[at : at + _BATCH].tolist()] for column, write in self.columns.values()
            ]
            yield [dict(zip(self.columns, row, strict=True)) for row in zip(*cells, strict=True)]


def _json_text(members: dict[str, Any]) -> Iterator[str]:
    """The object as `jsonify` writes it, with lists of rows in pieces."""

    def text(value: Any) -> str:
        # As Flask does it: no space after separators.
        return json.dumps(value, separators=(",", ":"))

    before = "{"
    for name in members:
        yield f"{before}{text(name)}:"
        before = ","
        if not isinstance(members[name], _Rows):
            yield text(members[name])
            continue
        separator = "["
        for batch in members[name].batches():
            yield separator + text(batch)[1:-1]
            separator = ","
        yield "[]" if separator == "[" else "]"
    yield "}\n"


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
