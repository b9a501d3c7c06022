"""The last seven local days of some stores at a glance: business time up, down and unknown."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from storemon_flask.database import polls, schedule
from storemon_flask.database.connections import Database
from storemon_flask.database.schedule import Part, Schedule
from storemon_flask.model import DAY_US, Rules
from storemon_flask.stores.store_list import Snapshot
from storemon_flask.uptime import calendar, evidence, openings, periods
from storemon_flask.uptime.calendar import Spans
from storemon_flask.uptime.periods import Periods

DAYS: Final = 7
_NO_POLLS: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Day:
    """A local day up to the as-of, in microseconds of business time; `local_us` is the wall clock at which it begins."""

    local_us: int
    up_us: int
    down_us: int
    unknown_us: int


def of(database: Database, found: Snapshot, places: Sequence[int], rules: Rules, default_zone: str) -> list[list[Day]]:
    """The days of the stores at those places, oldest first; made once for each store of a snapshot.

    A store that was removed after the snapshot was made has none.
    """
    made = cast("dict[int, list[Day]]", found.kept.setdefault("week", {}))
    missing = [place for place in places if place not in made]
    if missing:
        by_id = _days(database, [found.ids[place] for place in missing], found.moment.as_of_us, rules, default_zone)
        made |= {place: by_id.get(found.ids[place], []) for place in missing}
    return [made[place] for place in places]


def _days(
    database: Database, ids: Sequence[str], as_of_us: int, rules: Rules, default_zone: str
) -> dict[str, list[Day]]:
    wanted = set(ids)
    found: dict[str, list[Day]] = {}
    with database.read() as connection:
        # The plan of all stores is kept; one of these alone would read the hours of all that lie between them.
        plan = schedule.of(database, connection, default_zone, None, as_of_us)
        places = [place for place, store_id in enumerate(plan.ids) if store_id in wanted]
        if not places:
            return found
        part = plan.picked(np.array(places, dtype=np.int64))
        first_us = max(as_of_us - (DAYS + 1) * DAY_US, 0)
        spans = {
            zone: calendar.spans(plan.zone_names[zone], "day", first_us, as_of_us)
            for zone in set(part.zone_of.tolist())
        }
        for place, day in _of_part(connection, plan, part, spans, as_of_us, rules):
            found.setdefault(plan.ids[places[place]], []).append(day)
    return found


def _of_part(
    connection: sqlite3.Connection, plan: Schedule, part: Part, spans: dict[int, Spans], as_of_us: int, rules: Rules
) -> Iterator[tuple[int, Day]]:
    """The place of a store in the part, and a day of it; by store, then day."""
    days = [spans[zone] for zone in part.zone_of.tolist()]
    store = np.repeat(np.arange(len(days)), [len(span.start_us[-DAYS:]) for span in days])
    start, end, local = (
        np.concatenate([getattr(span, name)[-DAYS:] for span in days]) for name in ("start_us", "end_us", "local_us")
    )
    from_us = max(int(start.min(initial=as_of_us)) - rules.farthest_us, 0)
    heard = polls.read(connection, part.number, from_us, as_of_us)
    opened = openings.build(
        plan.fleet(part, heard, _NO_POLLS), from_us // DAY_US * DAY_US, (as_of_us // DAY_US + 1) * DAY_US
    )
    spoken = evidence.gather(heard, opened, rules)
    told = periods.measure(opened, spoken, Periods(store, start, end), as_of_us)
    columns = (local, told["uptime"], told["downtime"], told["unknown"])
    for place, *values in zip(store.tolist(), *(column.tolist() for column in columns), strict=True):
        yield place, Day(*values)
