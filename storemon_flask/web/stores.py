"""Stores: how they are now, and why their numbers are what they are."""

import time
from typing import Any

from flask import Blueprint, Response, json, jsonify

from storemon_flask.core.timeline import KNOWN, STATES
from storemon_flask.model import CLOSED, UNDATED, Ints
from storemon_flask.services import snapshots, store_list, store_pages, timeline
from storemon_flask.services.live import Moment
from storemon_flask.services.local_times import date_text, time_text
from storemon_flask.services.report_text import instant_text
from storemon_flask.services.store_list import StoreDetail
from storemon_flask.services.store_pages import Wanted
from storemon_flask.services.timeline import StoreTimeline
from storemon_flask.web.app import runner
from storemon_flask.web.contract import JSON, Answer, operation
from storemon_flask.web.store_schemas import (
    StoreDetailSchema,
    StoreQuery,
    StoresQuery,
    StoresSchema,
    TimelineQuery,
    TimelineSchema,
)

blueprint = Blueprint("stores", __name__)


@operation(
    blueprint, "GET", "/api/v1/stores", scope="read", tag="stores", query=StoresQuery(),
    answers={200: Answer("a page of stores, the worst first", StoresSchema())},
)  # fmt: skip
def stores(query: dict[str, Any]) -> Response:
    """List stores with their status and uptime, worst first.

    Numbers are as of the machine's clock, or of the newest poll that is not in the future when that is a day old or more; `as_of` says which.
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
    return jsonify(
        _timeline(
            timeline.of_store(
                app.database,
                store_id,
                query["from"],
                query["to"],
                settings.rules,
                settings.default_timezone,
                now_us,
                query["as_of"],
            )
        )
    )


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "as_of": instant_text(moment.as_of_us),
        "data_are_old": moment.data_are_old,
        "notice": moment.notice,
        "note": moment.notes,
    }


def _detail(found: StoreDetail) -> dict[str, Any]:
    hours, special = found.hours, found.special
    return {
        **found.snapshot.record(0),
        **_moment(found.snapshot.moment),
        "first_poll": None if found.first_poll_us < 0 else instant_text(found.first_poll_us),
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
    openings, stretches, polls, outages = found.openings, found.stretches, found.polls, found.outages
    return {
        "store_id": found.store_id,
        "timezone": found.zone,
        **_moment(found.moment),
        "from": instant_text(found.from_us),
        "to": instant_text(found.to_us),
        "openings": _rows(start=_instants(openings.start_us), end=_instants(openings.end_us)),
        "stretches": _rows(
            start=_instants(stretches.start_us),
            end=_instants(stretches.end_us),
            state=[STATES[code] for code in stretches.state.tolist()],
            known=[KNOWN[code] for code in stretches.known.tolist()],
        ),
        "polls": _rows(
            at=_instants(polls.instant_us),
            status=["active" if up else "inactive" for up in polls.active.tolist()],
            counts=found.in_hours.tolist(),
        ),
        "outages": _rows(
            start=_instants(outages.start_us),
            end=_instants(outages.end_us),
            start_earliest=_instants(outages.start_earliest_us),
            start_latest=_instants(outages.start_latest_us),
            end_earliest=_instants(outages.end_earliest_us),
            end_latest=_instants(outages.end_latest_us),
            down_us=outages.down_us.tolist(),
            polls=outages.polls.tolist(),
            ongoing=outages.ongoing.tolist(),
        ),
        "sums": {f"{name}_us": value for name, value in found.sums.items()},
    }


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _instants(column: Any) -> list[str]:
    return [instant_text(instant) for instant in column.tolist()]
