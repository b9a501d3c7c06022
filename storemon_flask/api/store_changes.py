"""One store changed: its hours and zone set, its hours, special hours or the whole store removed."""

import re
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from marshmallow import ValidationError, fields, validate

from storemon_flask.api import schemas
from storemon_flask.api.feeds import REJECTS_SHOWN, one_load
from storemon_flask.api.schemas import Closed, LoadedSchema, Whole, pushed_json
from storemon_flask.stores import edit
from storemon_flask.web.app import runner
from storemon_flask.web.contract import JSON, Answer, operation

blueprint = Blueprint("store_changes", __name__)

# No time and no zone is longer; what is would be repeated in the answer.
_SHORT: Final = validate.Length(max=100, error="is longer than 100 characters")


_SECONDS: Final = r"(:[0-5][0-9](\.[0-9]*)?)?"
_TIME: Final = rf"([01]?[0-9]|2[0-3]):[0-5][0-9]{_SECONDS}"
_END: Final = rf"{_TIME}|24:00(:00(\.[0-9]*)?)?"


def _time_of_day(about: str, pattern: str, example: str) -> fields.String:
    metadata = {"description": about, "pattern": rf"^\s*({pattern})\s*$", "example": example}
    return fields.String(required=True, validate=_SHORT, metadata=metadata)


_LEAP: Final = "19(7[26]|8[048]|9[26])|20([02468][048]|[13579][26])|21(0[48]|[2468][048]|[13579][26])"
# The dates there are from 1970 to 2199.
DATE: Final = (
    r"^((19[7-9][0-9]|2[01][0-9]{2})-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    rf"|({_LEAP})-02-29)$"
)


def _date(text: str) -> None:
    # What feeds forgive, blanks around it, is no date in a schema.
    if not re.fullmatch(DATE, text) or text.endswith("\n"):
        raise ValidationError("must be a date such as 2024-10-14, from 1970 to 2199")


def _valid_from(about: str) -> fields.String:
    return fields.String(
        validate=_date,
        metadata={
            "description": f"the local date from which on {about}; for ever if not given",
            "pattern": DATE,
            "example": "2024-10-14",
        },
    )


class HoursRowSchema(Closed):
    """One stretch of one weekday, local time."""

    day = Whole(
        required=True, strict=True, metadata={"description": "0 Monday to 6 Sunday", "minimum": 0, "maximum": 6}
    )
    start_time_local = _time_of_day("when it opens", _TIME, "09:00")
    end_time_local = _time_of_day(
        "when it closes; 24:00 is the end of the day, and at or before the start is on the next day",
        _END,
        "17:30",
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
        metadata={
            "description": "the name of an IANA zone",
            "format": "iana-zone",
            "example": "America/Chicago",
        },
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
    body={JSON: HoursSchema()}, answers=_CHANGED,
)  # fmt: skip
def put_hours(store_id: str) -> Response:
    """Set a store's weekly hours, replacing those it had; with `valid_from`, those it had from that date on."""
    asked = schemas.load(HoursSchema(), request)
    dated = {name: asked[name] for name in ("valid_from",) if name in asked}
    return _put("hours", store_id, [{**row, **dated} for row in asked["hours"]])


@operation(
    blueprint, "PUT", "/api/v1/stores/<store:store_id>/timezone", scope="write", tag="stores",
    body={JSON: TimezoneSchema()}, answers=_CHANGED,
)  # fmt: skip
def put_timezone(store_id: str) -> Response:
    """Set a store's time zone, for ever or from a date on."""
    return _put("timezones", store_id, [schemas.load(TimezoneSchema(), request)])


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>/hours", scope="write", tag="stores",
    answers={204: Answer("open 24x7 now"), 404: Answer("no such store")},
)  # fmt: skip
def delete_hours(store_id: str) -> tuple[str, int]:
    """Remove a store's hours: it counts as open 24x7 again."""
    with one_load():
        edit.remove_hours(runner().database, store_id)
    return "", 204


class SpecialDateQuery(Closed):
    """Which special hours are meant."""

    date = fields.String(
        load_default=None,
        validate=_date,
        metadata={"description": "of that local date; of all if not given", "pattern": DATE, "example": "2024-12-25"},
    )


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>/special-hours", scope="write", tag="stores",
    query=SpecialDateQuery(),
    answers={204: Answer("the weekly hours hold again"), 404: Answer("no such store"), 422: Answer("no date")},
)  # fmt: skip
def delete_special_hours(store_id: str, query: dict[str, Any]) -> tuple[str, int]:
    """Remove a store's special hours, of one date or of all."""
    with one_load():
        edit.remove_special_hours(runner().database, store_id, query["date"])
    return "", 204


@operation(
    blueprint, "DELETE", "/api/v1/stores/<store:store_id>", scope="admin", tag="stores",
    answers={204: Answer("gone"), 404: Answer("no such store")},
)  # fmt: skip
def delete_store(store_id: str) -> tuple[str, int]:
    """Remove a store with its polls, hours and zone. Finished reports keep their numbers."""
    with one_load():
        edit.remove(runner().database, store_id)
    return "", 204


def _put(feed: str, store_id: str, rows: list[dict[str, Any]]) -> Response:
    with one_load() as options:
        result = edit.put(runner().database, feed, store_id, rows, options)
    return jsonify(pushed_json(result.load, result.files[0], result.notes, REJECTS_SHOWN))
