"""One store explained: local days with what is known of each, outages, and the numbers of a day, a week and thirty days."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from storemon_flask.core import calendar, timeline
from storemon_flask.core.zones import changes_of_year
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, WEEK_US, Rules
from storemon_flask.services import live, store_list
from storemon_flask.services import timeline as timelines
from storemon_flask.services.store_list import StoreDetail
from storemon_flask.services.timeline import StoreTimeline
from storemon_flask.storage import stores
from storemon_flask.storage.db import Database

WINDOWS: Final = {"last day": DAY_US, "last week": WEEK_US, "last 30 days": 30 * DAY_US}
MOST_DAYS: Final = 30
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# In microseconds: `core.timeline.sums` of one store.
Sums = dict[str, int]


@dataclass(frozen=True, slots=True)
class LocalDay:
    """A whole local day `[start_us, end_us)` of 23, 24 or 25 hours (or what a zone makes of it).

    `local_us` is the wall clock at its start, `change_us` when its clocks are changed (-1: they are not); `sums` go up to the
    as-of.
    """

    start_us: int
    end_us: int
    local_us: int
    change_us: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to say of a store: itself, its timeline on those days (oldest first), the numbers of each window."""

    detail: StoreDetail
    timeline: StoreTimeline
    days: list[LocalDay]
    windows: dict[str, Sums]
    # The last local day that could be shown.
    newest: date


def told_by(database: Database, now_us: int) -> tuple[object, ...]:
    """What the story of any store depends on besides what was asked: while this is equal, so is the story."""
    with database.read() as connection:
        return stores.data_version(connection), live.moment(connection, now_us)


def of(
    database: Database, store_id: str, count: int, until: date | None, rules: Rules, default_zone: str, now_us: int
) -> Story:
    """The story of so many local days up to `until` (by default, and at most, the day of the as-of).

    `NotFound` when there is no such store; `Unprocessable` for days before 1970.
    """
    with database.read():
        detail = store_list.detail(database, store_id, rules, default_zone, now_us)
        as_of_us, zone = detail.snapshot.moment.as_of_us, detail.zone
        spans = _days(zone, count, until, as_of_us)
        shown = timelines.of_store(
            database, store_id, spans[0][0], spans[-1][1], rules, default_zone, now_us
        )  # fmt: skip
        longest = timelines.of_store(
            database, store_id, max(as_of_us - max(WINDOWS.values()), 0), None, rules, default_zone, now_us
        )
    days = [
        LocalDay(start, end, local, _change(zone, start, end), _sums(shown, start, end)) for start, end, local in spans
    ]
    windows = {name: _sums(longest, as_of_us - length, as_of_us) for name, length in WINDOWS.items()}
    return Story(detail, shown, days, windows, _date(_newest(zone, as_of_us)))


def _sums(found: StoreTimeline, first_us: int, last_us: int) -> Sums:
    return {name: int(value[0]) for name, value in timeline.sums(found.stretches, first_us, last_us, 1).items()}


def _days(zone: str, count: int, until: date | None, as_of_us: int) -> list[tuple[int, int, int]]:
    """Start, end and wall clock at the start of the last `count` local days up to `until`, uncut."""
    last_us = _newest(zone, as_of_us)
    if until is not None:
        last_us = min(last_us, (until - _EPOCH.date()).days * DAY_US)
    if last_us < (count + 2) * DAY_US:
        raise Unprocessable("the days must not lie before 1970-02-01", errors={"until": ["too early"]})
    spans = calendar.spans(zone, "day", last_us - (count + 2) * DAY_US, last_us + 3 * DAY_US)
    # A zone that skipped the day asked for has the one before.
    rows = zip(spans.start_us.tolist(), spans.end_us.tolist(), spans.local_us.tolist(), strict=True)
    found = [row for row in rows if row[2] // DAY_US <= last_us // DAY_US][-count:]
    # Days of a store that moved far to the west are longer; a timeline is not.
    return [row for row in found if found[-1][1] - row[0] <= timelines.MOST_US]


def _newest(zone: str, as_of_us: int) -> int:
    """The wall clock at which the local day of the as-of begins: the day that has the moment before it."""
    return int(calendar.spans(zone, "day", as_of_us - HOUR_US, as_of_us).local_us[-1])


def _change(zone: str, start_us: int, end_us: int) -> int:
    for year in {_year(start_us), _year(end_us)}:
        for second, _, _ in changes_of_year(zone, year):
            if start_us < second * SECOND_US < end_us:
                return second * SECOND_US
    return -1


def _year(instant_us: int) -> int:
    return (_EPOCH + timedelta(microseconds=instant_us)).year


def _date(local_us: int) -> date:
    return (_EPOCH + timedelta(microseconds=local_us)).date()
