"""Compute every store as it is now: the as-of of live views, a snapshot with all columns, and the last seven days."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import numpy as np

from storemon_flask import clock
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database import readings, schedule, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import Newest, future_polls, newest_poll, silence_note
from storemon_flask.database.readings import Reading
from storemon_flask.database.schedule import Batch, Schedule
from storemon_flask.formatting import hundredths, knows_little, percent_hundredths
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, WEEK_US, Ints, Rules
from storemon_flask.reports.outages import find_starts
from storemon_flask.uptime import calendar, status
from storemon_flask.uptime.calendar import Spans
from storemon_flask.uptime.measures import MEASURES, Periods, measure
from storemon_flask.uptime.status import STATUSES

# Windows that end at the as-of, by name; their amounts are in hours.
LISTED_WINDOWS: Final = {"last_day": DAY_US, "last_week": WEEK_US}
# A feed that has been silent for this long is not a feed but a file.
OLD_US = DAY_US


@dataclass(frozen=True, slots=True)
class AsOf:
    """The as-of of a live view; `notice` is the sentence of a banner when that is not the machine's clock, else None,
    and `age` how old the newest poll then is. `note`: the sentence of `few_heard`, if there is one; `future`: that of
    `newest.future_polls`."""

    as_of_us: int
    notice: str | None
    age: str = ""
    note: str | None = None
    future: str | None = None

    @property
    def data_are_old(self) -> bool:
        """Whether the newest poll of all is the as-of, because it is a day old or more."""
        return self.notice is not None

    @property
    def notes(self) -> str | None:
        """Both notes, for programs and terminals; None when there are none."""
        return "; ".join(filter(None, (self.note, self.future))) or None


def find_as_of(
    database: Database, connection: Connection, now_us: int, rules: Rules, as_of_us: int | None = None
) -> AsOf:
    """The as-of that was asked for; else `now_us` while the newest poll that is not in the future is younger than a
    day, or there is none; else that poll, and a notice. `Unprocessable` for an as-of outside 1970 to 2200."""
    if as_of_us is not None:
        clock.check_as_of(as_of_us)
        return AsOf(as_of_us, None, note=silence_note(connection, as_of_us))
    found = as_of_for(newest_poll(database, connection, rules.latest_us(now_us)), now_us)
    return replace(found, note=silence_note(connection, found.as_of_us))


def as_of_for(newest: Newest, now_us: int) -> AsOf:
    """The same, without the note about few stores, for data that have that newest poll."""
    newest_us, future = newest.poll_us, future_polls(newest.ahead)
    if newest_us is None or now_us - newest_us < OLD_US:
        return AsOf(now_us, None, future=future)
    age = duration_text(now_us - newest_us)
    return AsOf(
        newest_us,
        f"the newest poll is {age} old; everything here is as of that poll, {timestamp_text(newest_us)}",
        age,
        future=future,
    )


# Per window, in the unit of the window; the percentages need their own rules.
_TIMES: Final = ("uptime", "downtime", "unknown", "business")
PERCENTAGES: Final = ("uptime_percent", "uptime_percent_low", "uptime_percent_high")
HUNDREDTHS: Final = tuple(
    f"{name}_{window}" for window in LISTED_WINDOWS for name in (*PERCENTAGES, *_TIMES)
)  # fmt: skip
LITTLE_KNOWN: Final = tuple(f"little_known_{window}" for window in LISTED_WINDOWS)
# What needs a person first: known to be off, then not known although open, then what may still come.
STATUS_ORDER: Final = ("down", "stale", "waiting", "up", "closed", "no_data")
_UNKNOWN_LAST: Final = 10_001


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Every store at one instant, in order of number.

    `columns` holds integers: `status` (an index into `STATUSES`), `since` and `last_poll` (microseconds),
    `since_or_earlier` (0 or 1), `HUNDREDTHS` (of hours, of percent), and per window `little_known` (0 or 1): whether
    its percentages know little. -1 where there is nothing to say.
    """

    as_of: AsOf
    made_us: int
    data_version: int
    ids: list[str]
    names: list[str]
    groups: list[str]
    zones: list[str]
    columns: dict[str, Ints]
    # Made when first asked for: orders of the stores, stores as JSON.
    kept: dict[object, object] = field(default_factory=dict)
    # The same of what does not change from one snapshot to the next: texts in order, texts to search.
    kept_of_texts: dict[object, object] = field(default_factory=dict)

    def record(self, place: int) -> dict[str, object]:
        """One store as it is told: names to values, instants as text, None where there is nothing to say."""
        columns, since_us = self.columns, int(self.columns["since"][place])
        return {
            "store_id": self.ids[place],
            "name": self.names[place] or None,
            "group": self.groups[place] or None,
            "timezone": self.zones[place],
            "status": STATUSES[int(columns["status"][place])],
            "status_text": self.status_text(place),
            "since": _instant(since_us),
            "since_or_earlier": bool(columns["since_or_earlier"][place]),
            "for_seconds": None if since_us < 0 else (self.as_of.as_of_us - since_us) // SECOND_US,
            "last_poll": _instant(int(columns["last_poll"][place])),
            **{name: _decimal(int(columns[name][place])) for name in HUNDREDTHS},
            **{name: bool(columns[name][place]) for name in LITTLE_KNOWN},
        }

    def status_text(self, place: int) -> str:
        """What a store is and for how long, in words: `down for 8 h 42 min`, `up for over 6 days`, `no poll for 39
        days`.
        """
        status, length = STATUSES[int(self.columns["status"][place])], self.duration_text(place)
        if status == "no_data":
            return "never polled"
        if status == "stale":
            return f"no poll for {length}"
        return f"{status} for {length}" if length else status

    def duration_text(self, place: int) -> str:
        """For how long a store has had its status; empty where that is not known."""
        since_us = int(self.columns["since"][place])
        if since_us < 0:
            return ""
        return duration_text(self.as_of.as_of_us - since_us, at_least=bool(self.columns["since_or_earlier"][place]))


def snapshot(
    database: Database,
    rules: Rules,
    default_zone: str,
    now_us: int,
) -> Snapshot:
    """Return all stores as of now, computed from the data of one transaction."""
    with database.read() as connection:
        version = stores.data_version(connection)
        as_of = find_as_of(database, connection, now_us, rules)
        plan = schedule.read(database, connection, default_zone, None, as_of.as_of_us)
        table = _table(connection, plan, as_of.as_of_us, rules)
    return Snapshot(
        as_of, now_us, version, plan.ids, plan.names, plan.groups, plan.zone_of_store, _columns(table), {}, plan.derived
    )


def store_columns(
    connection: Connection, plan: Schedule, reading: Reading, last_us: Ints, as_of_us: int, rules: Rules
) -> dict[str, Ints]:
    """Return the columns of a snapshot of the reading's stores, whose newest polls are at `last_us`."""
    return _columns(_rows(connection, plan, reading, last_us, as_of_us, rules))


def _table(connection: Connection, plan: Schedule, as_of_us: int, rules: Rules) -> dict[str, Ints]:
    tables = []
    first_us = as_of_us - max(LISTED_WINDOWS.values())
    for reading in readings.read_batches(connection, plan, first_us, as_of_us, as_of_us, rules):
        last_us = readings.last_polls(connection, reading, as_of_us)
        tables.append(_rows(connection, plan, reading, last_us, as_of_us, rules))
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _rows(
    connection: Connection, plan: Schedule, reading: Reading, last_us: Ints, as_of_us: int, rules: Rules
) -> dict[str, Ints]:
    """Return the measures of `LISTED_WINDOWS`, `last_poll_us`, `status_now`, and `since_us` and `since_or_earlier`
    (`uptime.status.since`, but of stores that are down always since when), with an entry for each store."""
    size, opened, evidence = len(reading), reading.openings, reading.evidence
    lengths = np.array(list(LISTED_WINDOWS.values()))
    start_us = np.tile(as_of_us - lengths, size)
    periods = Periods(np.repeat(np.arange(size), len(lengths)), start_us, np.full(len(start_us), as_of_us))
    measures = measure(opened, evidence, periods, as_of_us)
    now = status.at(as_of_us, last_us, opened, evidence, rules)
    since_us, earlier = status.since(as_of_us, now, last_us, opened, evidence, rules, reading.from_us)
    # A store can be down since before the polls that were read. Its newest poll is one that says so.
    down = np.flatnonzero(earlier & (now == STATUSES.index("down")))
    if len(down):
        some = reading.batch.select(down)
        since_us[down] = find_starts(connection, plan, some, last_us[down], reading.from_us, as_of_us, rules)
        earlier[down] = False
    table = {
        f"{name}_{window}": measures[name][index :: len(lengths)]
        for name in MEASURES
        for index, window in enumerate(LISTED_WINDOWS)
    }
    table |= {"last_poll_us": last_us, "status_now": now, "since_us": since_us}
    return table | {"since_or_earlier": earlier.astype(np.int64)}


def _columns(table: dict[str, Ints]) -> dict[str, Ints]:
    columns = {
        "status": table["status_now"],
        "since": table["since_us"],
        "since_or_earlier": table["since_or_earlier"],
        "last_poll": table["last_poll_us"],
    }
    for window in LISTED_WINDOWS:
        found = {name: table[f"{name}_{window}"] for name in (*_TIMES, "uptime_low", "uptime_high")}
        spoken = found["uptime"] + found["downtime"]
        columns[f"uptime_percent_{window}"] = percent_hundredths(found["uptime"], spoken)
        columns[f"uptime_percent_low_{window}"] = percent_hundredths(found["uptime_low"], found["business"])
        columns[f"uptime_percent_high_{window}"] = percent_hundredths(found["uptime_high"], found["business"])
        columns |= {f"{name}_{window}": hundredths(found[name], HOUR_US) for name in _TIMES}
        little = knows_little(columns[f"unknown_{window}"], columns[f"business_{window}"])
        columns[f"little_known_{window}"] = little.astype(np.int64)
    columns["worst"] = _worst(columns)
    return columns


def _worst(columns: dict[str, Ints]) -> Ints:
    """What a shift manager looks at first, as an ascending number.

    Stores that are down now, then those that are stale; then all others that were ever polled, and at last those that
    were not. Among each, the lowest uptime of the last day first, then that of the last week; unknown comes last.
    """
    rank = np.full(len(STATUSES), 2)
    rank[STATUSES.index("down")], rank[STATUSES.index("stale")], rank[STATUSES.index("no_data")] = 0, 1, 3
    day, week = (
        np.where(percent < 0, _UNKNOWN_LAST, percent)
        for percent in (columns[f"uptime_percent_{window}"] for window in LISTED_WINDOWS)
    )
    worst: Ints = (rank[columns["status"]] << 28) | (day << 14) | week
    return worst


def _instant(instant_us: int) -> str | None:
    return None if instant_us < 0 else timestamp_text(instant_us)


def _decimal(value: int) -> float | None:
    return None if value < 0 else value / 100


DAYS: Final = 7


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
        by_id = _days(database, [found.ids[place] for place in missing], found.as_of.as_of_us, rules, default_zone)
        made |= {place: by_id.get(found.ids[place], []) for place in missing}
    return [made[place] for place in places]


def _days(
    database: Database, ids: Sequence[str], as_of_us: int, rules: Rules, default_zone: str
) -> dict[str, list[Day]]:
    wanted = set(ids)
    found: dict[str, list[Day]] = {}
    with database.read() as connection:
        # The plan of all stores is kept; one of these alone would read the hours of all that lie between them.
        plan = schedule.read(database, connection, default_zone, None, as_of_us)
        places = [place for place, store_id in enumerate(plan.ids) if store_id in wanted]
        if not places:
            return found
        part = plan.select(np.array(places, dtype=np.int64))
        first_us = max(as_of_us - (DAYS + 1) * DAY_US, 0)
        spans = {
            zone: calendar.spans(plan.zone_names[zone], "day", first_us, as_of_us)
            for zone in set(part.zone_of.tolist())
        }
        for place, day in _of_part(connection, plan, part, spans, as_of_us, rules):
            found.setdefault(plan.ids[places[place]], []).append(day)
    return found


def _of_part(
    connection: Connection, plan: Schedule, part: Batch, spans: dict[int, Spans], as_of_us: int, rules: Rules
) -> Iterator[tuple[int, Day]]:
    """The place of a store in the part, and a day of it; by store, then day."""
    days = [spans[zone] for zone in part.zone_of.tolist()]
    store = np.repeat(np.arange(len(days)), [len(span.start_us[-DAYS:]) for span in days])
    start, end, local = (
        np.concatenate([getattr(span, name)[-DAYS:] for span in days]) for name in ("start_us", "end_us", "local_us")
    )
    from_us = max(int(start.min(initial=as_of_us)) - rules.farthest_us, 0)
    reading = readings.read(connection, plan, part, from_us, as_of_us, rules)
    measures = measure(reading.openings, reading.evidence, Periods(store, start, end), as_of_us)
    columns = (local, measures["uptime"], measures["downtime"], measures["unknown"])
    for place, *values in zip(store.tolist(), *(column.tolist() for column in columns), strict=True):
        yield place, Day(*values)
