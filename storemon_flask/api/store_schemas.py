"""What the calls about stores take and answer."""

from typing import Any

from marshmallow import fields, validate

from storemon_flask.api.schemas import NOTE, Closed, Instant, Whole
from storemon_flask.stores.store_pages import CURSOR, MOST_PER_PAGE, SORTS
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.timeline import KNOWN, STATES


def _text(about: str, **options: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": about}, **options)


def _instant(about: str, allow_none: bool = False) -> fields.String:
    return fields.String(
        required=True, allow_none=allow_none, metadata={"description": about, "format": "date-time"}
    )  # fmt: skip


def _count(about: str) -> fields.Integer:
    return fields.Integer(required=True, metadata={"description": about, "minimum": 0})


def _flag(about: str) -> fields.Boolean:
    return fields.Boolean(required=True, metadata={"description": about})


def _percent(about: str) -> fields.Float:
    return fields.Float(
        required=True, allow_none=True, metadata={"description": about, "minimum": 0, "maximum": 100}
    )  # fmt: skip


def _hours(about: str) -> fields.Float:
    return fields.Float(required=True, metadata={"description": f"hours {about}", "minimum": 0})


_UP_PERCENT = "100 x uptime / (uptime + downtime); null when nothing is known"
_LOW_PERCENT = "the least that the percentage of business time can have been, as far as polls can tell"
_HIGH_PERCENT = "the most that it can have been"
_LITTLE = "whether more than a tenth of that business time is unknown, so that the percentages say little"
_STATUS_TEXT = (
    "the status and for how long, in words: `down for 8 h 42 min`, `up for over 6 days`, `no poll for 39 days`"
)
_SINCE = (
    "since when: up and down, the start of the run of polls, as outages have it; stale, the last poll; waiting, the opening's "
    "start; closed, the last opening's end; null when that is not known"
)
_EARLIER = (
    "whether it was so earlier already: of a store that is up, no more than the last six whole days (UTC) is looked at"
)
_FOR_SECONDS = "whole seconds from `since` to the as-of; null without `since`"
_NOTICE = "a sentence for a banner when the data are old, else null"
_AS_OF = "the instant that everything here is judged at"
_OLD = "whether that is the newest poll that is not in the future, because it is a day old or more, and not the machine's clock"


class StoresQuery(Closed):
    """Which stores, in which order."""

    status = fields.List(
        fields.String(validate=validate.OneOf(STATUSES)),
        load_default=(),
        metadata={"description": "only stores with one of these statuses; may be given several times"},
    )
    q = fields.String(
        load_default=None, metadata={"description": "only stores with this text in id or name, in any case"}
    )
    zone = fields.String(load_default=None, metadata={"description": "only stores of this time zone"})
    group = fields.String(load_default=None, metadata={"description": "only stores of this group; empty: of none"})
    sort = fields.String(
        load_default="worst",
        validate=validate.OneOf(SORTS),
        metadata={
            "description": "worst: stores that are down, then stale ones, then the others, each with the lowest uptime of "
            "the last day, then week, first; never polled ones last"
        },
    )
    order = fields.String(
        load_default="asc",
        validate=validate.OneOf(("asc", "desc")),
        metadata={
            "description": "either way ties are by id, percentages that know little come after the others, stores without a value last"
        },
    )
    limit = Whole(
        load_default=100, validate=validate.Range(1, MOST_PER_PAGE), metadata={"description": "stores a page"}
    )
    cursor = fields.String(
        load_default=None,
        metadata={
            "description": "what `next` of the page before said; it brings that page's sort and order with it",
            "pattern": CURSOR,
        },
    )


class StoreSchema(Closed):
    """One store as it is now; hours and percentages are those of the full report."""

    store_id = _text("its id")
    name = _text("what people call it; null without a name", allow_none=True)
    group = _text("its group; null without one", allow_none=True)
    timezone = _text("the IANA zone that is used")
    status = _text("what it is doing now", validate=validate.OneOf(STATUSES))
    status_text = _text(_STATUS_TEXT)
    since = _instant(_SINCE, allow_none=True)
    since_or_earlier = _flag(_EARLIER)
    for_seconds = fields.Integer(
        required=True, allow_none=True, metadata={"description": _FOR_SECONDS, "minimum": 0}
    )  # fmt: skip
    last_poll = _instant("its newest poll of any kind; null if it was never polled", allow_none=True)
    uptime_percent_last_day = _percent(_UP_PERCENT)
    uptime_percent_low_last_day = _percent(_LOW_PERCENT)
    uptime_percent_high_last_day = _percent(_HIGH_PERCENT)
    uptime_last_day = _hours("up")
    downtime_last_day = _hours("down")
    unknown_last_day = _hours("of which nothing is known")
    business_last_day = _hours("of business time")
    little_known_last_day = _flag(_LITTLE)
    uptime_percent_last_week = _percent(_UP_PERCENT)
    uptime_percent_low_last_week = _percent(_LOW_PERCENT)
    uptime_percent_high_last_week = _percent(_HIGH_PERCENT)
    uptime_last_week = _hours("up")
    downtime_last_week = _hours("down")
    unknown_last_week = _hours("of which nothing is known")
    business_last_week = _hours("of business time")
    little_known_last_week = _flag(_LITTLE)


class StatusCountsSchema(Closed):
    """How many stores have each status."""

    down = _count("known to be off")
    stale = _count("open, and the last poll is too old")
    waiting = _count("just opened, not polled yet")
    up = _count("known to be on")
    closed = _count("outside business hours")
    no_data = _count("never polled")


class StoresSchema(Closed):
    """A page of stores."""

    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    total = _count("stores on all pages")
    counts = fields.Nested(
        StatusCountsSchema, required=True, metadata={"description": "stores by status, whatever statuses are asked for"}
    )
    next = _text("the cursor of the next page; null on the last", allow_none=True)
    stores = fields.List(fields.Nested(StoreSchema), required=True, metadata={"description": "those of this page"})


class WeeklyHoursSchema(Closed):
    """One row of a store's weekly hours, as it was loaded."""

    day = fields.Integer(
        required=True, metadata={"description": "0 Monday to 6 Sunday", "minimum": 0, "maximum": 6}
    )  # fmt: skip
    start_time_local = _text("when it opens, local time")
    end_time_local = _text("when it closes, local time; at or before the start: on the next day")
    valid_from = _text(
        "the local date from which on it holds; null: of every date before the next version", allow_none=True
    )


class SpecialHoursSchema(Closed):
    """What replaces a store's weekly hours on one local date."""

    date = _text("the local date")
    start_time_local = _text("when it opens, local time; null: closed all day", allow_none=True)
    end_time_local = _text("when it closes, local time; null: closed all day", allow_none=True)


class StoreDetailSchema(StoreSchema):
    """One store with all that is known of it."""

    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    first_poll = _instant("its oldest poll; null if it was never polled", allow_none=True)
    polls = _count("all polls of it up to the as-of")
    always_open = _flag("whether it has no hours, and so is open 24x7")
    hours = fields.List(
        fields.Nested(WeeklyHoursSchema), required=True, metadata={"description": "its weekly hours, as loaded"}
    )
    special_hours = fields.List(
        fields.Nested(SpecialHoursSchema), required=True, metadata={"description": "its special hours, as loaded"}
    )


_ASKED_AS_OF = Instant(
    load_default=None,
    metadata={
        "description": "the instant to judge at, after which no poll exists; that of the list if not given",
        "format": "date-time",
    },
)


class StoreQuery(Closed):
    """When one store is looked at."""

    as_of = _ASKED_AS_OF


TimelineQuery = Closed.from_dict(
    {
        "as_of": _ASKED_AS_OF,
        "from": Instant(
            load_default=None,
            metadata={"description": "7 days before `to` if not given; at most 31 days", "format": "date-time"},
        ),
        "to": Instant(
            load_default=None,
            metadata={"description": "the as-of if not given, or if later than that", "format": "date-time"},
        ),
    },
    name="TimelineQuery",
)


class OpeningSchema(Closed):
    """Business time `[start, end)`, cut to the range."""

    start = _instant("when it begins")
    end = _instant("when it ends")


class StretchSchema(OpeningSchema):
    """Business time of one state, known in one way."""

    state = _text("up, down or unknown", validate=validate.OneOf(STATES))
    known = _text(
        "measured: between two polls that agree, no further apart than the max gap; between: two such that disagree, up "
        "to their midpoint; extrapolated: by the nearest poll alone; nothing: unknown",
        validate=validate.OneOf(KNOWN),
    )


class TimelinePollSchema(Closed):
    """One poll."""

    at = _instant("when it was made")
    status = _text("what it said", validate=validate.OneOf(("active", "inactive")))
    counts = _flag("whether it was made in business hours")


class OutageSchema(Closed):
    """A run of inactive polls; closed time does not end it. It is whole, also where it reaches beyond the range."""

    start = _instant("where its downtime begins")
    end = _instant("where its downtime ends; the as-of while it is going on")
    start_earliest = _instant("it began after this: the active poll before, or the edge of what is known")
    start_latest = _instant("its first inactive poll")
    end_earliest = _instant("its last inactive poll")
    end_latest = _instant("it ended before this: the active poll after, or the edge of what is known")
    down_us = _count("its business time in microseconds")
    polls = _count("how many polls say so")
    ongoing = _flag("whether it was still going on at the as-of")


class SumsSchema(Closed):
    """The range in microseconds, as a report would have it: uptime + downtime + unknown = business."""

    uptime_us = _count("microseconds up")
    downtime_us = _count("microseconds down")
    unknown_us = _count("microseconds of which nothing is known")
    business_us = _count("microseconds of business time")
    measured_us = _count("microseconds between two polls no further apart than the max gap")
    uptime_low_us = _count("microseconds measured between two active polls")
    uptime_high_us = _count("microseconds of business time less what is measured between two inactive polls")


class TimelineSchema(Closed):
    """Why a store's numbers are what they are."""

    store_id = _text("its id")
    timezone = _text("the IANA zone that is used")
    as_of = _instant(_AS_OF)
    data_are_old = _flag(_OLD)
    notice = _text(_NOTICE, allow_none=True)
    note = _text(NOTE, allow_none=True)
    openings = fields.List(
        fields.Nested(OpeningSchema), required=True, metadata={"description": "business time in the range"}
    )
    stretches = fields.List(
        fields.Nested(StretchSchema),
        required=True,
        metadata={"description": "the openings, cut where the state changes"},
    )
    polls = fields.List(
        fields.Nested(TimelinePollSchema), required=True, metadata={"description": "every poll in the range"}
    )
    outages = fields.List(
        fields.Nested(OutageSchema), required=True, metadata={"description": "outages that touch the range"}
    )
    sums = fields.Nested(SumsSchema, required=True, metadata={"description": "the range in sum"})

    class Meta(Closed.Meta):
        """The range's edges have names that Python keeps for itself."""

        include = {  # noqa: RUF012
            "from": _instant("where the range begins"),
            "to": _instant("where the range ends, outside it"),
        }
