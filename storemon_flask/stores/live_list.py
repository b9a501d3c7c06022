"""Compute every store as it is now: the as-of of live views, a snapshot with all columns, and the last seven days."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import numpy as np

from storemon_flask import clock
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import future_polls, newest_poll, silence_note
from storemon_flask.database.polls import Newest
from storemon_flask.database.readings import Batch, Reading, Schedule
from storemon_flask.formatting import hundredths, knows_little, percent_hundredths
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, WEEK_US, Ints, Rules
from storemon_flask.reports.outages import find_starts
from storemon_flask.uptime import calendar, status
from storemon_flask.uptime.measures import MEASURES, Periods, measure
from storemon_flask.uptime.status import STATUSES

# Windows that end at the as-of, by name; their amounts are in hours.
LISTED_WINDOWS: Final = {"last_day": DAY_US, "last_week": WEEK_US}
# Without a poll for this long the data are a file that was loaded once, not a feed.
OLD_US = DAY_US


@dataclass(frozen=True, slots=True)
class AsOf:
    """The as-of of a live view; `notice` is the sentence of a banner when that is not the machine's clock, else None,
    and `age` how old the newest poll then is. `note` says that most stores are silent, `future` that some have polls in
    the future (`database.newest`); None when that is not so."""

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
    """Return the as-of that was asked for; else now while the newest poll that is not in the future is younger than a
    day, or there is none; else that poll, with a notice. `Unprocessable` for an as-of outside 1970 to 2200."""
    if as_of_us is not None:
        clock.check_as_of(as_of_us)
        return AsOf(as_of_us, None, note=silence_note(connection, as_of_us))
    as_of = as_of_for(newest_poll(database, connection, rules.latest_us(now_us)), now_us)
    return replace(as_of, note=silence_note(connection, as_of.as_of_us))


def as_of_for(newest: Newest, now_us: int) -> AsOf:
    """Return the default as-of of data with that newest poll, without the note about silent stores."""
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


_TIMES: Final = ("uptime", "downtime", "unknown", "business")
PERCENTAGES: Final = ("uptime_percent", "uptime_percent_low", "uptime_percent_high")
HUNDREDTHS: Final = tuple(
    f"{name}_{window}" for window in LISTED_WINDOWS for name in (*PERCENTAGES, *_TIMES)
)  # fmt: skip
LITTLE_KNOWN: Final = tuple(f"little_known_{window}" for window in LISTED_WINDOWS)
# The most urgent first: known to be off, then unknown although open, then just opened.
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
    # Computed when first asked for: orders of the stores, stores as JSON, their last days.
    derived: dict[object, object] = field(default_factory=dict)
    # The same for what does not change from one snapshot to the next: texts in order, texts to search.
    derived_from_texts: dict[object, object] = field(default_factory=dict)

    def record(self, index: int) -> dict[str, object]:
        """Return one store as JSON has it: timestamps as text, None where there is no value."""
        columns, since_us = self.columns, int(self.columns["since"][index])
        return {
            "store_id": self.ids[index],
            "name": self.names[index] or None,
            "group": self.groups[index] or None,
            "timezone": self.zones[index],
            "status": STATUSES[int(columns["status"][index])],
            "status_text": self.status_text(index),
            "since": _timestamp(since_us),
            "since_or_earlier": bool(columns["since_or_earlier"][index]),
            "for_seconds": None if since_us < 0 else (self.as_of.as_of_us - since_us) // SECOND_US,
            "last_poll": _timestamp(int(columns["last_poll"][index])),
            **{name: _decimal(int(columns[name][index])) for name in HUNDREDTHS},
            **{name: bool(columns[name][index]) for name in LITTLE_KNOWN},
        }

    def status_text(self, index: int) -> str:
        """Return a status in words: `down for 8 h 42 min`, `up for over 6 days`, `no poll for 39 days`."""
        status, length = STATUSES[int(self.columns["status"][index])], self.duration_text(index)
        if status == "no_data":
            return "never polled"
        if status == "stale":
            return f"no poll for {length}"
        return f"{status} for {length}" if length else status

    def duration_text(self, index: int) -> str:
        """Return for how long a store has had its status; empty where that is not known."""
        since_us = int(self.columns["since"][index])
        if since_us < 0:
            return ""
        return duration_text(self.as_of.as_of_us - since_us, at_least=bool(self.columns["since_or_earlier"][index]))


def compute_snapshot(database: Database, rules: Rules, default_zone: str, now_us: int) -> Snapshot:
    """Return all stores as of now, computed from the data of one transaction."""
    with database.read() as connection:
        version = stores.data_version(connection)
        as_of = find_as_of(database, connection, now_us, rules)
        plan = readings.read_schedule(database, connection, default_zone, None, as_of.as_of_us)
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
        sums = {name: table[f"{name}_{window}"] for name in (*_TIMES, "uptime_low", "uptime_high")}
        columns[f"uptime_percent_{window}"] = percent_hundredths(sums["uptime"], sums["uptime"] + sums["downtime"])
        columns[f"uptime_percent_low_{window}"] = percent_hundredths(sums["uptime_low"], sums["business"])
        columns[f"uptime_percent_high_{window}"] = percent_hundredths(sums["uptime_high"], sums["business"])
        columns |= {f"{name}_{window}": hundredths(sums[name], HOUR_US) for name in _TIMES}
        little = knows_little(columns[f"unknown_{window}"], columns[f"business_{window}"])
        columns[f"little_known_{window}"] = little.astype(np.int64)
    columns["worst"] = _urgency(columns)
    return columns


def _urgency(columns: dict[str, Ints]) -> Ints:
    """Return a number for each store that is lowest for those that need attention first.

    Stores that are down now, then those that are stale; then all others that were ever polled, and at last those that
    were not. Among each, the lowest uptime of the last day first, then that of the last week; unknown comes last.
    """
    rank = np.full(len(STATUSES), 2)
    rank[STATUSES.index("down")], rank[STATUSES.index("stale")], rank[STATUSES.index("no_data")] = 0, 1, 3
    day, week = (
        np.where(percent < 0, _UNKNOWN_LAST, percent)
        for percent in (columns[f"uptime_percent_{window}"] for window in LISTED_WINDOWS)
    )
    urgency: Ints = (rank[columns["status"]] << 28) | (day << 14) | week
    return urgency


def _timestamp(timestamp_us: int) -> str | None:
    return None if timestamp_us < 0 else timestamp_text(timestamp_us)


def _decimal(value: int) -> float | None:
    return None if value < 0 else value / 100


DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Day:
    """A local day up to the as-of, in microseconds of business time; `local_us` is the wall clock at its start."""

    local_us: int
    up_us: int
    down_us: int
    unknown_us: int


def last_days(
    database: Database, snapshot: Snapshot, indices: Sequence[int], rules: Rules, default_zone: str
) -> list[list[Day]]:
    """Return the last seven days of those stores of the snapshot, oldest first; computed once for each store.

    A store that was removed after the snapshot was computed has none.
    """
    made = cast("dict[int, list[Day]]", snapshot.derived.setdefault("days", {}))
    missing = {snapshot.ids[index]: index for index in indices if index not in made}
    if missing:
        days: dict[int, list[Day]] = {index: [] for index in missing.values()}
        as_of_us = snapshot.as_of.as_of_us
        with database.read() as connection:
            # The schedule of all stores is cached; one of these alone would read the hours of all that lie between.
            plan = readings.read_schedule(database, connection, default_zone, None, as_of_us)
            present = [index for index, store_id in enumerate(plan.ids) if store_id in missing]
            if present:
                batch = plan.select(np.array(present, dtype=np.int64))
                for store, day in _measure_days(connection, plan, batch, as_of_us, rules):
                    days[missing[plan.ids[present[store]]]].append(day)
        made |= days
    return [made[index] for index in indices]


def _measure_days(
    connection: Connection, plan: Schedule, batch: Batch, as_of_us: int, rules: Rules
) -> Iterator[tuple[int, Day]]:
    """Yield the index of a store in the batch and a day of it, by store, then day."""
    first_us = max(as_of_us - (DAYS + 1) * DAY_US, 0)
    zones = batch.zone_of.tolist()
    spans = {zone: calendar.spans(plan.zone_names[zone], "day", first_us, as_of_us) for zone in set(zones)}
    days = [spans[zone] for zone in zones]
    store = np.repeat(np.arange(len(days)), [len(span.start_us[-DAYS:]) for span in days])
    start, end, local = (
        np.concatenate([getattr(span, name)[-DAYS:] for span in days]) for name in ("start_us", "end_us", "local_us")
    )
    from_us = max(int(start.min(initial=as_of_us)) - rules.farthest_us, 0)
    reading = readings.read_batch(connection, plan, batch, from_us, as_of_us, rules)
    measures = measure(reading.openings, reading.evidence, Periods(store, start, end), as_of_us)
    columns = (local, measures["uptime"], measures["downtime"], measures["unknown"])
    for index, *values in zip(store.tolist(), *(column.tolist() for column in columns), strict=True):
        yield index, Day(*values)
