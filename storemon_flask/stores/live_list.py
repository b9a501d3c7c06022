"""Compute every store as it is now: the as-of of live views, a snapshot of all stores, its filtered pages."""

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import numpy as np

from storemon_flask import clock
from storemon_flask.characters import search_text, search_words
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import future_polls, newest_poll, silence_note
from storemon_flask.database.polls import Newest
from storemon_flask.database.readings import Batch, Reading, Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.formatting import csv_value, hundredths, knows_little, percent_hundredths
from storemon_flask.labels import StoreLabels
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, WEEK_US, Bools, Ints, Rules
from storemon_flask.reports.outages import find_starts
from storemon_flask.uptime import calendar, conditions, status
from storemon_flask.uptime.conditions import Conditions
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
# What those are computed from, in microseconds; sums over stores are made of these.
_SUMS: Final = (*_TIMES, "uptime_low", "uptime_high")
# The most urgent first: known to be off, then unknown although open, then just opened.
STATUS_ORDER: Final = ("down", "stale", "waiting", "up", "closed", "no_data")
_UNKNOWN_LAST: Final = 10_001
# What stores may have none of: without weekly hours a store is open all the time, without a zone it is in the default
# one.
LACKING: Final = ("hours", "zone")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Every store at one instant, in order of number.

    `columns` holds integers: `status` (an index into `STATUSES`), `since` and `last_poll` (microseconds),
    `since_or_earlier` (0 or 1), `HUNDREDTHS` (of hours, of percent), and per window `little_known` (0 or 1): whether
    its percentages know little. -1 where there is nothing to say. What alerts judge has the names of
    `uptime.conditions.Conditions`. Columns `NAME_WINDOW_us` are what `HUNDREDTHS` are computed from, in microseconds.
    """

    as_of: AsOf
    made_us: int
    data_version: int
    ids: list[str]
    names: list[str]
    groups: list[str]
    zones: list[str]
    columns: dict[str, Ints]
    labels: StoreLabels
    # Computed when first asked for: orders of the stores, stores as JSON, their last days.
    derived: dict[object, object] = field(default_factory=dict)
    # The same for what does not change from one snapshot to the next: texts in order, texts to search.
    derived_from_texts: dict[object, object] = field(default_factory=dict)
    # Of `LACKING`: which stores have none.
    lacking: dict[str, Bools] = field(default_factory=dict)

    def record(self, index: int) -> dict[str, object]:
        """Return one store as JSON has it: timestamps as text, None where there is no value."""
        columns, since_us = self.columns, int(self.columns["since"][index])
        return {
            "store_id": self.ids[index],
            "name": self.names[index] or None,
            "group": self.groups[index] or None,
            "labels": self.labels.of_store(index),
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
        lacking = find_lacking(connection, plan)
    return Snapshot(
        as_of,
        now_us,
        version,
        plan.ids,
        plan.names,
        plan.groups,
        plan.zone_of_store,
        _columns(table),
        plan.labels,
        {},
        plan.derived,
        lacking,
    )


def find_lacking(connection: Connection, plan: Schedule) -> dict[str, Bools]:
    """Return which stores of the schedule lack what `LACKING` names; read once for each schedule."""
    if "lacking" not in plan.derived:
        number = np.concatenate([batch.number for batch in plan.batches])
        with_hours = [np.bincount(batch.hours.store, minlength=len(batch.number)) > 0 for batch in plan.batches]
        with_zone = np.isin(number, stores.numbers_with_zone(connection))
        plan.derived["lacking"] = {"hours": ~np.concatenate(with_hours), "zone": ~with_zone}
    return cast("dict[str, Bools]", plan.derived["lacking"])


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
    table |= conditions.find(as_of_us, size, opened, evidence, reading.from_us).columns()
    return table | {"since_or_earlier": earlier.astype(np.int64)}


def _columns(table: dict[str, Ints]) -> dict[str, Ints]:
    columns = {
        "status": table["status_now"],
        "since": table["since_us"],
        "since_or_earlier": table["since_or_earlier"],
        "last_poll": table["last_poll_us"],
    }
    columns |= {name: table[name] for name in Conditions.__slots__}
    for window in LISTED_WINDOWS:
        sums = {name: table[f"{name}_{window}"] for name in _SUMS}
        columns |= _window_columns(window, sums)
        columns |= {f"{name}_{window}_us": sums[name] for name in _SUMS}
    columns["worst"] = _urgency(columns)
    return columns


def _window_columns(window: str, sums: dict[str, Ints]) -> dict[str, Ints]:
    """Return the `HUNDREDTHS` of a window, and whether little of it is known, from its measures in microseconds."""
    columns = {f"{name}_{window}": hundredths(sums[name], HOUR_US) for name in _TIMES}
    columns[f"uptime_percent_{window}"] = percent_hundredths(sums["uptime"], sums["uptime"] + sums["downtime"])
    columns[f"uptime_percent_low_{window}"] = percent_hundredths(sums["uptime_low"], sums["business"])
    columns[f"uptime_percent_high_{window}"] = percent_hundredths(sums["uptime_high"], sums["business"])
    little = knows_little(columns[f"unknown_{window}"], columns[f"business_{window}"])
    columns[f"little_known_{window}"] = little.astype(np.int64)
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


_TEXTS: Final = ("store_id", "name", "group", "timezone")
SORTS: Final = ("worst", *_TEXTS, "status", "since", "last_poll", *HUNDREDTHS)
MOST_PER_PAGE: Final = 1000
_WINDOW_OF_PERCENTAGE: Final = {f"{name}_{window}": window for window in LISTED_WINDOWS for name in PERCENTAGES}
# More than any percentage in hundredths.
_ABOVE_PERCENT: Final = 20_000
# What a page begins after: the sort value (None where the store has none) and the id of the last store before it.
_After = tuple[str | int | None, str]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Filters and order of a list. An empty filter lets everything through; every word of `text` must occur in id or
    name (`characters.search_words`). Of each of the `labels` a store has one of the values; an empty value is that of
    stores without it.

    `below` is a percentage: only stores whose known uptime of `below_window`, one of `LISTED_WINDOWS`, is less. Only
    stores that lack everything in `without`, of `LACKING`, are let through.

    `cursor` is the `next` of the page before, and brings that page's sort and order with it. Without one, `skip` stores
    are passed over; when there are not so many, it is the last page. In either order stores without a value come last,
    and percentages that know little come after those that know enough.
    """

    statuses: Sequence[str] = ()
    text: str | None = None
    timezone: str | None = None
    group: str | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sort: str = "worst"
    descending: bool = False
    limit: int | None = 100
    cursor: str | None = None
    skip: int = 0
    below: float | None = None
    below_window: str = "last_week"
    without: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ListPage:
    """Indices of stores in the snapshot, how many fit on all pages, and how many there are of each status, whatever
    statuses are asked for; `next` is the cursor of the next page, None on the last; `begin` how many stores precede.
    `matching` are the indices of all pages, in order."""

    indices: list[int]
    total: int
    counts: dict[str, int]
    next: str | None
    begin: int
    matching: Ints


def select_page(snapshot: Snapshot, query: ListQuery) -> ListPage:
    """Return a page of the list; `Unprocessable` for a cursor that is broken."""
    query, after = _apply_cursor(query)
    mask = _filter(snapshot, query)
    status = snapshot.columns["status"]
    numbers = np.bincount(status[mask], minlength=len(STATUSES)).tolist()
    counts = {word: numbers[STATUSES.index(word)] for word in STATUS_ORDER}
    if query.statuses:
        mask &= np.isin(status, [STATUSES.index(word) for word in query.statuses])
    order = _order(snapshot, query.sort, query.descending)
    order = order[mask[order]]
    total, limit = len(order), query.limit or len(order)
    if after is not None:
        begin = _position_after(snapshot, query, order, *after)
    else:
        begin = min(query.skip, max(total - 1, 0) // max(limit, 1) * limit)
    indices = order[begin : begin + limit].tolist()
    following = _cursor(snapshot, query, indices[-1]) if begin + limit < total else None
    return ListPage(indices, total, counts, following, begin, order)


def total_columns(snapshot: Snapshot, indices: Ints) -> dict[str, Ints]:
    """Return `HUNDREDTHS` and `LITTLE_KNOWN` of those stores together, one value each: sums of their microseconds, and
    percentages of these."""
    totals: dict[str, Ints] = {}
    for window in LISTED_WINDOWS:
        # 64 bits hold the sums of a week of 15 million stores.
        sums = {name: snapshot.columns[f"{name}_{window}_us"][indices].sum(keepdims=True) for name in _SUMS}
        totals |= _window_columns(window, sums)
    return totals


def totals_record(snapshot: Snapshot, indices: Ints) -> dict[str, object]:
    """Return the same as JSON has it: hours and percentages, None where there is no value."""
    totals = total_columns(snapshot, indices)
    return {
        **{name: _decimal(int(totals[name][0])) for name in HUNDREDTHS},
        **{name: bool(totals[name][0]) for name in LITTLE_KNOWN},
    }


def distinct_texts(snapshot: Snapshot, name: str) -> list[str]:
    """Return the texts that stores have as their `timezone` or `group`, in code point order, without the empty one."""
    return [text for text in _codes(snapshot, name)[1] if text]


def csv_lines(records: Iterable[Mapping[str, object]], columns: Sequence[str]) -> Iterator[str]:
    """Yield a header and stores as lines of CSV, with those members of their JSON as columns."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([csv_value(record[name]) for name in columns])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _filter(snapshot: Snapshot, query: ListQuery) -> Bools:
    mask = np.ones(len(snapshot.ids), dtype=bool)
    if query.text:
        if "search" not in snapshot.derived_from_texts:
            # No word has a line break.
            snapshot.derived_from_texts["search"] = [
                search_text(f"{store_id}\n{name}") for store_id, name in zip(snapshot.ids, snapshot.names, strict=True)
            ]
        texts = cast("list[str]", snapshot.derived_from_texts["search"])
        for word in search_words(query.text):
            mask &= np.fromiter((word in one for one in texts), dtype=bool, count=len(texts))
    for name, value in (("timezone", query.timezone), ("group", query.group)):
        if value is not None:
            codes, code_of = _codes(snapshot, name)
            mask &= codes == code_of.get(value, -1)
    if query.below is not None:
        percent = snapshot.columns[f"uptime_percent_{query.below_window}"]
        # As printed, in hundredths; -1 is unknown.
        mask &= (percent >= 0) & (percent < query.below * 100)
    for name in query.without:
        mask &= snapshot.lacking[name]
    for name, values in query.labels.items():
        mask &= snapshot.labels.codes(name).have_one_of(values)
    return mask


def _texts(snapshot: Snapshot, name: str) -> list[str]:
    return {"store_id": snapshot.ids, "name": snapshot.names, "group": snapshot.groups, "timezone": snapshot.zones}[
        name
    ]


def _codes(snapshot: Snapshot, name: str) -> tuple[Ints, dict[str, int]]:
    """Return each store's text as its rank among the distinct ones, in code point order; and the rank of each text."""
    key = ("codes", name)
    if key not in snapshot.derived_from_texts:
        texts = _texts(snapshot, name)
        code_of = {text: code for code, text in enumerate(sorted(set(texts)))}
        snapshot.derived_from_texts[key] = (np.array([code_of[text] for text in texts], dtype=np.int64), code_of)
    return cast("tuple[Ints, dict[str, int]]", snapshot.derived_from_texts[key])


def _sort_values(snapshot: Snapshot, sort: str, descending: bool) -> tuple[Ints, Bools]:
    """Return what to sort by in that direction, as integers from 0 on, and where there is no value."""
    if sort in _TEXTS:
        codes, code_of = _codes(snapshot, sort)
        return codes, codes == code_of.get("", -1)
    values = snapshot.columns[sort]
    if sort == "status":
        return np.array([STATUS_ORDER.index(word) for word in STATUSES])[values], np.zeros(len(values), dtype=bool)
    if sort in _WINDOW_OF_PERCENTAGE:
        # In either direction the percentages that know enough come first.
        last = snapshot.columns[f"little_known_{_WINDOW_OF_PERCENTAGE[sort]}"] != descending
        return np.where(values < 0, 0, values + last * _ABOVE_PERCENT), values < 0
    return values, values < 0


def _order(snapshot: Snapshot, sort: str, descending: bool) -> Ints:
    """Return the indices of all stores in that order, ties by id, those without a value at the end."""
    key = ("order", sort, descending)
    if key not in snapshot.derived:
        values, missing = _sort_values(snapshot, sort, descending)
        by_id, _ = _codes(snapshot, "store_id")
        values = np.where(missing, 0, -values if descending else values)
        snapshot.derived[key] = np.lexsort((by_id, values, missing))
    return cast("Ints", snapshot.derived[key])


def _sort_value(snapshot: Snapshot, query: ListQuery, index: int) -> str | int | None:
    if query.sort in _TEXTS:
        return _texts(snapshot, query.sort)[index] or None
    values, missing = _sort_values(snapshot, query.sort, query.descending)
    return None if missing[index] else int(values[index])


def _cursor(snapshot: Snapshot, query: ListQuery, index: int) -> str:
    after = [query.sort, query.descending, _sort_value(snapshot, query, index), snapshot.ids[index]]
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode().rstrip("=")


def _apply_cursor(query: ListQuery) -> tuple[ListQuery, _After | None]:
    """Return the query with the cursor's sort and order, and what the page begins after."""
    cursor = (query.cursor or "").strip()
    if not cursor:
        return query, None
    try:
        after = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        sort, descending, value, store_id = after
        kind = str if sort in _TEXTS else int
        if sort not in SORTS or type(descending) is not bool or type(store_id) is not str:
            raise ValueError
        if value is not None and type(value) is not kind:
            raise ValueError
    # A cursor that is not ASCII, no JSON, nested too deeply, or another value.
    except (ValueError, TypeError, RecursionError):
        raise Unprocessable(
            "cursor is broken; give the `next` of the page before as it came, or leave it out for the first page",
            errors={"cursor": ["broken"]},
        ) from None
    return replace(query, sort=sort, descending=descending), (value, store_id)


def _position_after(snapshot: Snapshot, query: ListQuery, order: Ints, value: str | int | None, store_id: str) -> int:
    """Return where the page after the cursor begins: by value and id, so that it survives a new snapshot."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        index = int(order[middle])
        here = _sort_value(snapshot, query, index)
        if here == value:
            after = snapshot.ids[index] > store_id
        elif here is None or value is None:
            after = here is None
        else:
            after = (here > value) != query.descending  # type: ignore[operator]
        low, high = (low, middle) if after else (middle + 1, high)
    return low
