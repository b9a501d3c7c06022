"""Small fleets for tests: rows as a person would write them, turned into the columns that the core takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storemon_flask.feeds import schema
from storemon_flask.model import (
    DAY_US,
    EVER_US,
    FOREVER,
    HOUR_US,
    UNDATED,
    WEEK_US,
    Fleet,
    Hours,
    Ints,
    Polls,
    Rules,
    SpecialHours,
)
from storemon_flask.uptime import evidence, openings, status
from storemon_flask.uptime.measures import MEASURES, Periods, measure
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.zones import history, name_at

DEFAULT_WINDOWS = {"last_hour": HOUR_US, "last_day": DAY_US, "last_week": WEEK_US}
Table = dict[str, Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledFleet(Fleet):
    """A fleet with its polls; `last_poll_us` is each store's newest (-1: never polled)."""

    polls: Polls
    last_poll_us: Ints


PollRow = tuple[str, int, bool]
# Store, weekday, start, end, and if it is dated the date from which on it holds.
HoursRow = tuple[str, int, str, str] | tuple[str, int, str, str, str]
SpecialRow = tuple[str, str, str, str]
# A name, or names each with the date from which on it holds (empty: ever).
Zone = str | Sequence[tuple[str, str]]


def fleet(
    polls: Sequence[PollRow],
    hours: Sequence[HoursRow],
    zones: Mapping[str, Zone],
    as_of_us: int,
    special: Sequence[SpecialRow] = (),
    complete_from_us: int = EVER_US,
) -> tuple[list[str], PolledFleet]:
    """Ids, and the fleet of all polls up to the as-of; a later row of the same store and instant wins. Polls before
    `complete_from_us` were pruned."""
    ids = sorted({row[0] for row in (*polls, *hours, *special)} | set(zones))
    number = {store_id: place for place, store_id in enumerate(ids)}
    latest = {(number[s], t): up for s, t, up in polls if complete_from_us <= t <= as_of_us}
    poll_rows = np.array(sorted((s, t, up) for (s, t), up in latest.items()), dtype=np.int64).reshape(-1, 3)
    zone_of = [history("America/Chicago", _versions(zones.get(store_id, ()))) for store_id in ids]
    names = tuple(sorted(set(zone_of)))
    last = np.full(len(ids), -1, dtype=np.int64)
    np.maximum.at(last, poll_rows[:, 0], poll_rows[:, 1])
    return ids, PolledFleet(
        size=len(ids),
        polls=Polls(poll_rows[:, 0], poll_rows[:, 1], poll_rows[:, 2].astype(bool), complete_from_us),
        hours=_weekly(hours, number),
        zone_of=np.array([names.index(name) for name in zone_of], dtype=np.int64),
        zone_names=names,
        last_poll_us=last,
        special=_special(special, number),
    )


def _versions(zone: Zone) -> list[tuple[int, str]]:
    return (
        [(UNDATED, zone)]
        if isinstance(zone, str)
        else sorted((schema.parse_valid_from(day), name) for day, name in zone)
    )


def _weekly(hours: Sequence[HoursRow], number: dict[str, int]) -> Hours:
    """The columns of rows in any order; a row's fifth field, if it has one, is the date from which on it holds."""
    dates: dict[str, set[int]] = {}
    read = []
    for store, day, start, end, *dated in hours:
        since = schema.parse_valid_from(dated[0] if dated else "")
        dates.setdefault(store, set()).add(since)
        read.append((store, day, schema.parse_time_of_day(start), schema.parse_time_of_day(end, end=True), since))
    rows = [
        (number[store], *rest, since, min((date for date in dates[store] if date > since), default=FOREVER))
        for store, *rest, since in read
    ]
    return Hours(*np.array(rows, dtype=np.int64).reshape(-1, 6).T)


def _special(special: Sequence[SpecialRow], number: dict[str, int]) -> SpecialHours:
    rows = [
        (number[s], schema.parse_date(day), schema.parse_special_time(start), schema.parse_special_time(end, end=True))
        for s, day, start, end in special
    ]
    return SpecialHours(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


def compute(
    polls: Sequence[PollRow],
    hours: Sequence[HoursRow],
    zones: Mapping[str, Zone],
    as_of_us: int,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    special: Sequence[SpecialRow] = (),
    complete_from_us: int = EVER_US,
) -> dict[str, dict[str, object]]:
    """The report as `brute_force.report` gives it: per store a value per column, in microseconds."""
    ids, made = fleet(polls, hours, zones, as_of_us, special, complete_from_us)
    table = report_table(made, as_of_us, rules)
    return {store_id: row(table, made, place, as_of_us) for place, store_id in enumerate(ids)}


def openings_for(made: Fleet, as_of_us: int, rules: Rules) -> Openings:
    """The openings that a report of the default windows needs."""
    first = (as_of_us - WEEK_US - rules.farthest_us) // DAY_US * DAY_US
    return openings.build(made, first, (as_of_us // DAY_US + 1) * DAY_US)


def report_table(made: PolledFleet, as_of_us: int, rules: Rules) -> Table:
    """The columns of a report, from no more polls than can matter to it."""
    opened = openings_for(made, as_of_us, rules)
    near = made.polls.pick(made.polls.instant_us >= as_of_us - WEEK_US - rules.farthest_us)
    gathered = evidence.gather(near, opened, rules)
    stores = np.arange(made.size)
    table: Table = {}
    for window, length_us in DEFAULT_WINDOWS.items():
        periods = Periods(stores, np.full(made.size, as_of_us - length_us), np.full(made.size, as_of_us))
        found = measure(opened, gathered, periods, as_of_us)
        table |= {f"{name}_{window}": values for name, values in found.items()}
    return table | {
        "polls_last_week": gathered.count_from(as_of_us - WEEK_US, made.size),
        "last_poll_us": made.last_poll_us,
        "status_now": status.at(as_of_us, made.last_poll_us, opened, gathered, rules),
    }


def row(table: Table, made: PolledFleet, place: int, as_of_us: int) -> dict[str, object]:
    """One store's columns."""
    found: dict[str, object] = {}
    for window in DEFAULT_WINDOWS:
        for name in MEASURES:
            found[f"{name}_{window}"] = int(table[f"{name}_{window}"][place])
    last = int(table["last_poll_us"][place])
    found["polls_last_week"] = int(table["polls_last_week"][place])
    found["last_poll_us"] = None if last < 0 else last
    found["status_now"] = STATUSES[int(table["status_now"][place])]
    found["timezone"] = name_at(made.zone_names[int(made.zone_of[place])], as_of_us)
    return found
