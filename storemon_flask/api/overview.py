"""The operation that tells what stands out in the whole fleet."""

from typing import Any, Final

import numpy as np
from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from storemon_flask.api.schemas import OverviewQuery, OverviewSchema
from storemon_flask.api.stores import as_of_json
from storemon_flask.clock import date_text
from storemon_flask.errors import Busy
from storemon_flask.stores.overview import (
    WINDOWS,
    DayRow,
    GroupRow,
    Overview,
    StoreRow,
    Sums,
    check_grouping,
    group_rows,
    hour_sums,
    most_changed_stores,
    trend,
    worst_stores,
)
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, operation

blueprint = Blueprint("overview_api", __name__)

# How long a request waits for an overview that is being computed.
_WAIT_S: Final = 20.0


@operation(
    blueprint, "GET", "/api/v1/overview", scope="read", tag="stores", query=OverviewQuery(),
    answers={
        200: Answer("the overview", OverviewSchema()),
        503: Answer("it is being computed and not ready after 20 s", headers={"Retry-After": "seconds"}),
    },
)  # fmt: skip
def overview(query: dict[str, Any]) -> ResponseReturnValue:
    """Show the fleet's week, its days, groups and hours, and the stores that stand out.

    Every number is that of a report of the same window at the same as-of.
    """
    app = storemon()
    made = app.overview_cache.current(_WAIT_S, app.slots.for_list)
    if made is None:
        share = f"{app.overview_cache.progress:.0%}"
        raise Busy(f"the overview is being computed ({share} is done); try again in some seconds")
    check_grouping(made, query["by"])
    return jsonify(overview_json(made, query["by"], query["days"], query["sort"], query["order"] == "desc"))


def overview_json(
    overview: Overview, by: str, days: int, sort: str = "this_week", descending: bool = False
) -> dict[str, Any]:
    """Return the overview as `OverviewSchema`."""
    first, end = overview.heat_days
    return {
        **as_of_json(overview.as_of),
        "by": by,
        "counts": overview.counts,
        "fleet": {
            "stores": len(overview.ids),
            "without_hours": int(np.count_nonzero(overview.without_hours)),
            "without_timezone": int(np.count_nonzero(overview.without_timezone)),
            "change": _points(overview.change),
            **_windows_json({window: overview.fleet(window) for window in WINDOWS}),
        },
        "days": [_day_json(row) for row in trend(overview, days)],
        "groups": [_group_json(row) for row in group_rows(overview, by, sort, descending)],
        "hours_from": date_text(first),
        "hours_to": date_text(end),
        "hours": [
            {"weekday": weekday, "hour": hour, **_amounts_json(sums)}
            for weekday, row in enumerate(hour_sums(overview))
            for hour, sums in enumerate(row)
        ],
        "worst_stores": [_store_json(row) for row in worst_stores(overview)],
        "most_changed_stores": [_store_json(row) for row in most_changed_stores(overview)],
    }


def _group_json(row: GroupRow) -> dict[str, Any]:
    return {
        "group": row.name or None,
        "stores": row.stores,
        "down": row.down,
        "without_hours": row.without_hours,
        "without_timezone": row.without_timezone,
        "change": _points(row.change),
        "worst_store": row.worst.store_id if row.worst else None,
        "worst_store_uptime_percent": _decimal(row.worst.week.percent) if row.worst else None,
        **_windows_json(row.windows),
    }


def _store_json(row: StoreRow) -> dict[str, Any]:
    return {
        "store_id": row.store_id,
        "name": row.name or None,
        "group": row.group or None,
        "timezone": row.timezone,
        "status": row.status,
        "change": _points(row.change),
        **_windows_json({"this_week": row.week, "previous_this_week": row.previous_week}),
    }


def _day_json(row: DayRow) -> dict[str, Any]:
    return {"date": date_text(row.day), **_amounts_json(row.sums)}


def _windows_json(windows: dict[str, Sums]) -> dict[str, Any]:
    """Return the sums of windows by name, as lists of stores have them."""
    return {
        f"{name}_{window}": value
        for window, sums in windows.items()
        for name, value in {
            **_amounts_json(sums),
            "uptime_percent_low": _decimal(sums.percent_low),
            "uptime_percent_high": _decimal(sums.percent_high),
            "uptime_percent_likely_low": _decimal(sums.percent_likely[0]),
            "uptime_percent_likely_high": _decimal(sums.percent_likely[1]),
        }.items()
    }


def _amounts_json(sums: Sums) -> dict[str, Any]:
    return {
        "uptime_percent": _decimal(sums.percent),
        **{name: sums.hundredths(name) / 100 for name in ("uptime", "downtime", "unknown", "business")},
        "little_known": sums.little_known,
    }


def _decimal(hundredths: int) -> float | None:
    return None if hundredths < 0 else hundredths / 100


def _points(hundredths: int | None) -> float | None:
    return None if hundredths is None else hundredths / 100
