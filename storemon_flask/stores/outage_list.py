"""Outages of all stores as a live view: what is going on now, what is over, what was going on at a time of the past."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np

from storemon_flask import clock
from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.database.readings import Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, Bools, Ints, Rules
from storemon_flask.reports import outages
from storemon_flask.reports import request as requests
from storemon_flask.reports.csv import ReportText, store_columns
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.windows import Window, range_in_zone
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import AsOf, Snapshot
from storemon_flask.uptime import timeline
from storemon_flask.uptime.timeline import Outages
from storemon_flask.uptime.zones import LocalClock

DEFAULT_WINDOW: Final = "today"
STATES: Final = ("any", "ongoing", "over")
SORTS: Final = ("down_minutes", "start", "end", "store_id", "name", "group")
_TEXTS: Final = ("store_id", "name", "group")
MOST_PER_PAGE: Final = 1000
# No instant that is asked for lies further back.
_FARTHEST_US: Final = 400 * DAY_US
_WITH_OFFSET: Final = re.compile(r"([zZ]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)\s*$")

# Entered while much is computed at once.
Slot = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant; or, where it is `local`, a time of each store's own wall clock, as if that were UTC."""

    us: int
    local: bool


@dataclass(frozen=True, slots=True)
class OutageQuery:
    """Which outages, in which order: those that touch the window; or those going on at a moment, whatever the window.

    `state` is one of `STATES`, empty filters let everything through, and `shortest_us` is business time down. Of each
    of the `labels` a store has one of the values.
    """

    window: Window
    moment: Moment | None = None
    state: str = "any"
    group: str | None = None
    zone: str | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shortest_us: int = 0
    sort: str = "down_minutes"
    descending: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class OutageList:
    """Every outage of every store that ends after `from_us`, each whole, as of an instant; `store` is the index in the
    schedule."""

    as_of: AsOf
    from_us: int
    schedule: Schedule
    outages: Outages

    @property
    def zone_of(self) -> Ints:
        """The index of each store's zone among the schedule's."""
        return np.concatenate([batch.zone_of for batch in self.schedule.batches])


def make_window(text: str, shortest_minutes: float | None = None) -> tuple[Window, int]:
    """Return a window of `today` or `FROM..TO`, and the shortest time down in microseconds, both as reports of outages
    have them; `Unprocessable` says what they may be."""
    window: Any = requests.window_of_text(text)
    fields = {"kind": "outages", "windows": [window], "shortest_minutes": shortest_minutes}
    try:
        query = requests.check(ReportRequest(fields=fields))
    except Unprocessable as error:
        message = error.message.replace("windows[0]", "window", 1).replace("an object with from and to", "FROM..TO")
        raise Unprocessable(message, errors={"window": [message]}) from None
    return query.windows[0], query.shortest_us


def window_between(from_us: int, to_us: int) -> Window:
    """Return the window from one instant to another."""
    return Window("", from_us=from_us, to_us=to_us)


def parse_moment(text: str) -> Moment:
    """Return the moment of `2024-10-14T15:00` (each store's own clock) or `2024-10-14T15:00Z` (an instant).

    `ValueError` says what is allowed.
    """
    try:
        us = clock.parse_timestamp(text)
    except ValueError:
        raise ValueError(
            "must be a time such as 2024-10-14T15:00, of each store's own clock, or with an offset, such as "
            "2024-10-14T15:00Z"
        ) from None
    if not clock.EARLIEST_US <= us <= clock.LATEST_US:
        raise ValueError("must be between 1970-01-01 and 2200-01-01")
    return Moment(us, not _WITH_OFFSET.search(text))


def read_outages(
    database: Database,
    snapshot: Snapshot,
    queries: Sequence[OutageQuery],
    rules: Rules,
    default_zone: str,
    slot: Slot = nullcontext,
) -> OutageList:
    """Return all outages that the queries need, as of the snapshot: read once for all that ask of it.

    `Unprocessable` for a moment too long ago or after the as-of. `slot()` is held while a request reads them, or waits
    for another one that does.
    """
    as_of_us = snapshot.as_of.as_of_us
    zones = tuple(sorted(set(snapshot.zones)))
    from_us = min(_first_us(query, zones, as_of_us) for query in queries)
    cached = _cached(snapshot, from_us)
    if cached is None:
        lock = snapshot.derived.setdefault("lock of outages", threading.Lock())
        with slot(), cast("threading.Lock", lock):
            cached = _cached(snapshot, from_us)
            if cached is None:
                cached = _read(database, snapshot.as_of, from_us, rules, default_zone)
                snapshot.derived[OutageList] = cached
    # Of old data the words that say how old they are change without them.
    return replace(cached, as_of=snapshot.as_of)


def _cached(snapshot: Snapshot, from_us: int) -> OutageList | None:
    """Return what was read for the snapshot, if it goes back that far."""
    cached = snapshot.derived.get(OutageList)
    return cached if isinstance(cached, OutageList) and cached.from_us <= from_us else None


def read_outages_as_of(
    database: Database, as_of_us: int, query: OutageQuery, rules: Rules, default_zone: str
) -> OutageList:
    """Return the outages that the query needs as of an instant; errors as `read_outages`."""
    with database.read() as connection:
        as_of = live_list.find_as_of(database, connection, 0, rules, as_of_us)
        schedule = readings.read_schedule(database, connection, default_zone, None, as_of_us)
    from_us = _first_us(query, schedule.zone_names, as_of_us)
    return _read(database, as_of, from_us, rules, default_zone)


def _first_us(query: OutageQuery, zones: Sequence[str], as_of_us: int) -> int:
    """Return the earliest instant that matters to the query in any of the zones."""
    # A zone's history can differ from its name of now by a day.
    first_us = min((begin for begin, _ in _ranges(query, zones, as_of_us)), default=as_of_us) - DAY_US
    if query.moment is not None and not as_of_us - _FARTHEST_US <= first_us + DAY_US <= as_of_us:
        what = "must not be after the as-of, nor more than 400 days before it"
        raise Unprocessable(f"at {what}, {clock.minute_text(as_of_us)}", errors={"at": [what]})
    return max(min(first_us, as_of_us), 0)


def _read(database: Database, as_of: AsOf, from_us: int, rules: Rules, default_zone: str) -> OutageList:
    as_of_us = as_of.as_of_us
    batches: list[Outages] = []
    with database.read() as connection:
        schedule = readings.read_schedule(database, connection, default_zone, None, as_of_us)
        for reading in readings.read_batches(connection, schedule, from_us, as_of_us, as_of_us, rules):
            begin_us = np.full(len(reading), from_us, dtype=np.int64)
            whole, _ = outages.find_whole(connection, schedule, reading, begin_us, as_of_us, rules)
            whole = whole.pick(whole.end_us > from_us)
            batches.append(whole.with_store(whole.store + reading.first))
    return OutageList(as_of, from_us, schedule, timeline.join(batches))


def _ranges(query: OutageQuery, zones: Sequence[str], as_of_us: int) -> list[tuple[int, int]]:
    """Return from when to when the query asks in each of the zones."""
    moment = query.moment
    if moment is None:
        return [range_in_zone(query.window, zone, as_of_us) for zone in zones]
    if not moment.local:
        return [(moment.us, moment.us + 1)] * len(zones)
    local_us = np.array([moment.us], dtype=np.int64)
    starts = [
        int(LocalClock((zone,), moment.us, moment.us).to_utc(local_us, np.zeros(1, dtype=np.int64))[0])
        for zone in zones
    ]
    return [(start, start + 1) for start in starts]


def select(listed: OutageList, query: OutageQuery) -> Ints:
    """Return the indices of the outages that the query asks for, in its order; ties are by store id, then by start."""
    every, schedule = listed.outages, listed.schedule
    store = every.store
    if not len(every):
        return np.empty(0, dtype=np.int64)
    ranges = np.array(_ranges(query, schedule.zone_names, listed.as_of.as_of_us), dtype=np.int64)
    begin_us, end_us = ranges[listed.zone_of[store]].T
    mask: Bools = (every.start_us < end_us) & (every.end_us > begin_us) & (every.down_us >= query.shortest_us)
    if query.state != "any":
        mask &= every.ongoing == (query.state == "ongoing")
    for texts, value in ((schedule.groups, query.group), (schedule.zone_of_store, query.zone)):
        if value is not None:
            mask &= np.array([text == value for text in texts], dtype=bool)[store]
    for name, values in query.labels.items():
        mask &= schedule.labels.codes(name).have_one_of(values)[store]
    index = np.flatnonzero(mask)
    keys = (every.start_us[index], store_columns(schedule).rank[store[index]], _sort_keys(listed, query, index))
    ordered: Ints = index[np.lexsort(keys)]
    return ordered


def _sort_keys(listed: OutageList, query: OutageQuery, index: Ints) -> Ints:
    every, schedule = listed.outages, listed.schedule
    if query.sort in _TEXTS:
        texts = {"store_id": schedule.ids, "name": schedule.names, "group": schedule.groups}[query.sort]
        code_of = {text: code for code, text in enumerate(sorted(set(texts)))}
        keys = np.array([code_of[text] for text in texts], dtype=np.int64)[every.store[index]]
        # Without a name or group it comes last, either way.
        missing = -len(code_of) if query.descending else len(code_of)
        keys = np.where(keys == code_of.get("", -1), missing * 2, keys)
    else:
        keys = {"down_minutes": every.down_us, "start": every.start_us, "end": every.end_us}[query.sort][index]
    return -keys if query.descending else keys


def render(listed: OutageList, index: Ints) -> ReportText:
    """Return those outages as a report of outages has them, in this order."""
    return outages.render(listed.schedule, listed.outages.pick(index))
