"""A report from the database to its file: read the data of one moment, compute batch by batch, write, rename."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from storemon_flask import clock, zonedata
from storemon_flask.characters import show_invisible
from storemon_flask.database import files, polls, readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import newest_poll, silence_note
from storemon_flask.database.readings import Batch, Reading, Schedule
from storemon_flask.errors import NoPolls, OnlyFuturePolls, ReportFailed, Unprocessable
from storemon_flask.labels import GROUP, codes_of
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Ints, ReportOutcome, Rules
from storemon_flask.reports import day_sums, likely, outages
from storemon_flask.reports import request as requests
from storemon_flask.reports.blind_spans import BlindSpan, find_blind_spans
from storemon_flask.reports.csv import ReportText, Rows, render, store_columns
from storemon_flask.reports.day_sums import DayBatch
from storemon_flask.reports.day_sums import Progress as Progress
from storemon_flask.reports.request import ReportQuery, ReportRequest
from storemon_flask.reports.windows import range_in_zone
from storemon_flask.rules import DEFAULT_DAYPARTS, Daypart
from storemon_flask.uptime import calendar, status
from storemon_flask.uptime.likely import BOUNDS, SUMS, Distributions
from storemon_flask.uptime.measures import CLASSIC_MEASURES, MEASURES, Periods, measure
from storemon_flask.version import VERSION

# Sums of days are for reports of at least so many.
_MANY_DAYS: Final = 8
# An instant is of one of the local dates around its date in UTC.
_DATES_AROUND: Final = 2
_EDGES: Final = ("start_us", "end_us", "window", "local_us", "offset_s")
_STATUS: Final = ("polls_last_week", "last_poll_us", "status_now")
# Periods, a column for each of `_EDGES`.
_Periods = tuple[Ints, ...]


def make_query(
    database: Database,
    request: ReportRequest,
    default_zone: str,
    most_rows: int,
    connection: Connection | None = None,
    latest_us: int = clock.LATEST_US,
    dayparts: tuple[Daypart, ...] = DEFAULT_DAYPARTS,
) -> ReportQuery:
    """Return the checked query; its as-of, if none was given, is the newest poll up to `latest_us` (`Rules.latest_us`).

    `NoPolls` when there is none, `OnlyFuturePolls` when all are later; `Unprocessable` names unknown stores, an as-of
    outside 1970 to 2200, a field that is wrong, or that the report would have more than `most_rows` rows.
    """
    if connection is None:
        with database.read() as connection:
            return make_query(database, request, default_zone, most_rows, connection, latest_us, dayparts)
    query = requests.check(request, dayparts)
    if request.as_of_us is None:
        query = replace(query, as_of_us=_default_as_of(database, connection, latest_us))
    clock.check_as_of(query.as_of_us)
    if query.stores is not None:
        _check_stores(connection, query.stores)
    if query.kind == "times" and not query.is_default:
        requests.check_window_ends(query)
        schedule = _read_schedule(database, connection, query, default_zone)
        rows = count_rows(schedule, query) + _count_label_rows(schedule, query)
        if rows > most_rows:
            raise Unprocessable(
                f"the report would have {rows:,} rows, more than the {most_rows:,} of STOREMON_MAX_REPORT_ROWS; "
                "ask for fewer stores, a shorter window or longer periods",
                rows=rows,
                errors={"by": [f"{rows:,} rows, at most {most_rows:,}"]},
            )
    return query


def compute(
    database: Database, query: ReportQuery, rules: Rules, default_zone: str, progress: Progress = lambda share: None
) -> ReportText:
    """Return the report as text. Everything is read in one transaction, so it is the data of one moment."""

    def advance(share: float) -> None:
        """Report a share of the computation as a share of the whole."""
        # The last twentieth is for writing.
        progress(0.95 * share)

    rules = replace(rules, method=query.method)
    with database.read() as connection:
        schedule = _read_schedule(database, connection, query, default_zone)
        version = stores.data_version(connection)
        model = None
        if query.kind == "outages":
            ranges = [range_in_zone(query.windows[0], zone, query.as_of_us) for zone in schedule.zone_names]
            text, poll_count = outages.compute(connection, schedule, query, ranges, rules, advance)
        else:
            model = likely.read_model(database, connection, default_zone, query.as_of_us, rules) if query.full else None
            rows, poll_count = measure_rows(connection, schedule, query, rules, advance, model, database)
            text = render(query, store_columns(schedule), schedule.labels, rows)
        note, spans = silence_note(connection, query.as_of_us), _blind_spans(connection, schedule, query)
    method = _method(query, rules, default_zone, version, len(schedule.ids), poll_count)
    method |= likely.model_notes(model.model) if model else {}
    return replace(text, method={**method, "note": note, "blind_spans": [span.record() for span in spans]})


def write(text: ReportText, path: Path) -> ReportOutcome:
    """Write the report's file, whole or not at all: a temporary name beside the final one, fsync, rename.

    `ReportFailed` when the folder cannot be written or the disk is full.
    """
    data = text.csv.encode()
    # Behind a link, the file it leads to is the one to replace.
    final = path.resolve()
    try:
        with files.replacing(final) as temporary:
            temporary.write_bytes(data)
            if final.exists():
                shutil.copymode(final, temporary)
    except OSError as error:
        raise ReportFailed(f"{path} cannot be written: {error.strerror or error}") from error
    return ReportOutcome(text.rows, len(data), hashlib.sha256(data).hexdigest(), text.altered, text.method)


def count_rows(schedule: Schedule, query: ReportQuery) -> int:
    """Return how many rows of periods the report has, one for each store and period."""
    per_zone = [len(periods[0]) for periods in _periods_of_zones(schedule, query)]
    return sum(int(np.bincount(batch.zone_of, minlength=len(per_zone)).dot(per_zone)) for batch in schedule.batches)


def _count_label_rows(schedule: Schedule, query: ReportQuery) -> int:
    """Return how many rows of totals by labels other than the group the report has at the most."""
    if not query.totals:
        return 0
    periods = max((len(periods[0]) for periods in _periods_of_zones(schedule, query)), default=0)
    values = sum(len(schedule.labels.codes(name).values) for name in schedule.labels.names if name != GROUP)
    return values * periods


def measure_rows(
    connection: Connection,
    schedule: Schedule,
    query: ReportQuery,
    rules: Rules,
    progress: Progress,
    model: Distributions | None = None,
    database: Database | None = None,
) -> tuple[Rows, int]:
    """Return every period of every store by id, then by window and start; and how many polls that follows from.

    With a model the rows have `uptime.likely.BOUNDS` and, with totals, `SUMS`. With the database and no model, many
    whole days are added up from the sums that are stored there; the rows are the same. The schedule and polls must be
    of one transaction of the connection.
    """
    of_zones = _periods_of_zones(schedule, query)
    some = [periods for periods in of_zones if len(periods[0])]
    if not some or not schedule.ids:
        nothing = np.empty(0, dtype=np.int64)
        likely_names = () if model is None else (*BOUNDS, *SUMS)
        return dict.fromkeys(("store", *_EDGES, *_names(query), *likely_names, *_STATUS), nothing), 0
    first_us = min(int(periods[0].min()) for periods in some)
    last_us = min(max(int(periods[1].max()) for periods in some), query.as_of_us)
    days = None if database is None or model is not None else _whole_days(schedule, query, of_zones)
    if database is not None and days is not None:
        names = _names(query)
        sums = day_sums.read_day_batches(database, connection, schedule, days, query.as_of_us, rules, progress, names)
        batches = _add_days(sums, of_zones, names)
        count = _count_polls(connection, schedule, (first_us, last_us), query.as_of_us, rules)
    else:
        batches, count = _measure(connection, schedule, query, of_zones, (first_us, last_us), rules, model, progress)
    # Rows are by store of the schedule, window and start already.
    order = np.argsort(store_columns(schedule).rank[np.concatenate([rows["store"] for rows in batches])], kind="stable")
    return {name: np.concatenate([rows[name] for rows in batches])[order] for name in batches[0]}, count


def _names(query: ReportQuery) -> tuple[str, ...]:
    return MEASURES if query.full else CLASSIC_MEASURES


def _measure(
    connection: Connection,
    schedule: Schedule,
    query: ReportQuery,
    of_zones: Sequence[_Periods],
    range_us: tuple[int, int],
    rules: Rules,
    model: Distributions | None,
    progress: Progress,
) -> tuple[list[Rows], int]:
    """Return the rows of all periods, measured from the polls, in batches; and how many polls were read."""
    batches, count, names = [], 0, _names(query)
    for reading in readings.read_batches(
        connection, schedule, *range_us, query.as_of_us, rules, whole=model is not None
    ):
        rows = _rows(reading.batch, of_zones)
        periods = Periods(rows["store"], rows["start_us"], rows["end_us"])
        measures = measure(reading.openings, reading.evidence, periods, query.as_of_us, names)
        rows |= measures
        if model is not None:
            asked = (*BOUNDS, *SUMS) if query.totals else BOUNDS
            rows |= likely.measure_reading(model, reading, periods, query.as_of_us, measures, asked)
        if query.has_status:
            statuses = _status(connection, reading, query.as_of_us, rules)
            rows |= {name: values[rows["store"]] for name, values in statuses.items()}
        rows["store"] = rows["store"] + reading.first
        batches.append(rows)
        count += reading.count
        progress((reading.first + len(reading)) / len(schedule.ids))
    return batches, count


def _whole_days(schedule: Schedule, query: ReportQuery, of_zones: Sequence[_Periods]) -> tuple[int, int] | None:
    """Return the first and the last local date of the periods; None where they are not whole days, or only a few."""
    if query.has_status or query.by == "hour":
        return None
    low = min(int(periods[0].min()) for periods in of_zones if len(periods[0])) // DAY_US - _DATES_AROUND
    high = max(int(periods[1].max()) for periods in of_zones if len(periods[0])) // DAY_US + _DATES_AROUND
    if high - low < _MANY_DAYS:
        return None
    first, last = high, low
    for periods, begin_us in zip(of_zones, calendar.day_starts(schedule.zone_names, low, high), strict=True):
        start_us, end_us = periods[:2]
        if not (np.isin(start_us, begin_us) & (np.isin(end_us, begin_us) | (end_us == query.as_of_us))).all():
            return None
        if len(start_us):
            first = min(first, low + int(np.searchsorted(begin_us, start_us.min())))
            last = max(last, low + int(np.searchsorted(begin_us, end_us.max())) - 1)
    return (first, last) if last - first + 1 >= _MANY_DAYS else None


def _add_days(days: Iterator[DayBatch], of_zones: Sequence[_Periods], names: Sequence[str]) -> list[Rows]:
    """Return the rows of all periods in batches, each the sum of its days."""
    batches = []
    for some in days:
        rows = _rows(some.batch, of_zones)
        zone_of = some.batch.zone_of[rows["store"]]
        first, last = np.empty_like(zone_of), np.empty_like(zone_of)
        # Stores of a zone have the same days.
        for zone, store in zip(*np.unique(some.batch.zone_of, return_index=True), strict=True):
            in_zone = np.flatnonzero(zone_of == zone)
            first[in_zone] = np.searchsorted(some.begin_us[store], rows["start_us"][in_zone])
            last[in_zone] = np.searchsorted(some.begin_us[store], rows["end_us"][in_zone])
        for name in names:
            # The days of a year, even two days long each, are 6e13 microseconds.
            running = np.zeros((len(some), some.sums[name].shape[1] + 1), dtype=np.int64)
            np.cumsum(some.sums[name], axis=1, out=running[:, 1:])
            rows[name] = running[rows["store"], last] - running[rows["store"], first]
        rows["store"] = rows["store"] + some.first
        batches.append(rows)
    return batches


def _count_polls(
    connection: Connection, schedule: Schedule, range_us: tuple[int, int], as_of_us: int, rules: Rules
) -> int:
    """Return how many polls are read to measure periods in that range."""
    from_us, to_us = readings.polls_range(*range_us, as_of_us, rules)
    return sum(polls.count_between(connection, batch.number, max(from_us, 0), to_us) for batch in schedule.batches)


def _status(connection: Connection, reading: Reading, as_of_us: int, rules: Rules) -> dict[str, Ints]:
    last_us = readings.last_polls(connection, reading, as_of_us)
    polls = reading.evidence.count_from(as_of_us - WEEK_US, len(reading))
    now = status.at(as_of_us, last_us, reading.openings, reading.evidence, rules)
    return dict(zip(_STATUS, (polls, last_us, now), strict=True))


def _periods_of_zones(schedule: Schedule, query: ReportQuery) -> list[_Periods]:
    """Return the periods of each zone of the schedule, by window, then start."""
    if not query.by and not any(window.differs_by_zone for window in query.windows):
        return (
            [periods_in_zone(schedule.zone_names[0], query)] * len(schedule.zone_names) if schedule.zone_names else []
        )
    return [periods_in_zone(zone, query) for zone in schedule.zone_names]


def periods_in_zone(zone: str, query: ReportQuery) -> _Periods:
    """Return the periods of one zone, by window, then start: a column for start, end, window, wall clock and offset."""
    columns: list[tuple[Ints, ...]] = []
    for index, window in enumerate(query.measured_windows):
        first, last = range_in_zone(window, zone, query.as_of_us)
        if query.by:
            spans = calendar.spans(zone, query.by, first, last, query.dayparts)
            columns.append((spans.start_us, spans.end_us, np.full(len(spans), index), spans.local_us, spans.offset_s))
        else:
            columns.append(tuple(np.array([[first], [max(first, last)], [index], [0], [0]], dtype=np.int64)))
    return tuple(np.concatenate(some) for some in zip(*columns, strict=True))


def _rows(batch: Batch, of_zones: Sequence[_Periods]) -> Rows:
    """Return the periods of the batch's stores, by store, window and start."""
    zone_of = batch.zone_of
    per_store = np.array([len(periods[0]) for periods in of_zones])[zone_of]
    store = np.repeat(np.arange(len(zone_of)), per_store)
    # The periods of all zones are one after the other; each store takes those of its own zone.
    begin = np.cumsum([0, *(len(periods[0]) for periods in of_zones[:-1])])[zone_of]
    index = np.arange(len(store)) + np.repeat(begin - (np.cumsum(per_store) - per_store), per_store)
    columns = [np.concatenate(some)[index] for some in zip(*of_zones, strict=True)]
    return {"store": store, **dict(zip(_EDGES, columns, strict=True))}


def _default_as_of(database: Database, connection: Connection, latest_us: int) -> int:
    newest = newest_poll(database, connection, latest_us)
    if newest.poll_us is not None:
        return newest.poll_us
    if not newest.ahead:
        raise NoPolls
    latest = clock.minute_text(latest_us)
    raise OnlyFuturePolls(
        f"every poll is later than {latest}, the latest that this machine's clock allows; set the clock, or give an "
        "as_of",
    )


def _check_stores(connection: Connection, ids: Sequence[str]) -> None:
    _, missing = stores.rows_of(connection, ids)
    if missing:
        missing = [show_invisible(store_id) for store_id in missing]
        named = ", ".join(repr(store_id) for store_id in missing[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        raise Unprocessable(
            f"unknown stores: {named}{more}", errors={"stores": ["unknown: " + s for s in missing[:100]]}
        )


def _read_schedule(database: Database, connection: Connection, query: ReportQuery, default_zone: str) -> Schedule:
    """Return the stores of the report; `Unprocessable` names a group, label or zone that no store has."""
    schedule = readings.read_schedule(database, connection, default_zone, query.stores, query.as_of_us)
    if query.groups is None and query.zones is None and query.labels is None:
        return schedule
    labels = schedule.labels
    filters = [(f"labels.{name}", values, labels.codes(name)) for name, values in query.labels or ()]
    filters += [] if query.groups is None else [("groups", query.groups, labels.codes(GROUP))]
    filters += [] if query.zones is None else [("zones", query.zones, codes_of(schedule.zone_of_store))]
    chosen = np.ones(len(schedule.ids), dtype=bool)
    for name, values, codes in filters:
        chosen &= codes.have_one_of(values)
        unknown = sorted(set(values) - set(codes.values))
        if unknown:
            raise Unprocessable(
                f"{name}: no store is in {', '.join(map(repr, unknown[:10]))}",
                errors={name: ["unknown: " + one for one in unknown[:100]]},
            )
    ids = [schedule.ids[index] for index in np.flatnonzero(chosen).tolist()]
    return readings.read_schedule(database, connection, default_zone, ids, query.as_of_us)


def _blind_spans(connection: Connection, schedule: Schedule, query: ReportQuery) -> list[BlindSpan]:
    """Return when the poller was blind for stores of the report, in any of its windows."""
    spans: set[BlindSpan] = set()
    groups, zones = set(schedule.groups), set(schedule.zone_of_store)
    for first_us, last_us in {
        range_in_zone(window, zone, query.as_of_us) for window in query.measured_windows for zone in schedule.zone_names
    }:
        spans |= set(find_blind_spans(connection, first_us, last_us, query.as_of_us, groups, zones))
    return sorted(spans, key=lambda span: (span.start_us, span.scope, span.subject))


def _method(
    query: ReportQuery, rules: Rules, default_zone: str, data_version: int, store_count: int, poll_count: int
) -> dict[str, Any]:
    """Return how a report was made, for whoever doubts it: what was asked, by which rules, of which data."""
    return {
        "as_of": clock.timestamp_text(query.as_of_us),
        "kind": query.kind,
        "columns": query.columns,
        "method": rules.method,
        "windows": [window.name for window in query.windows],
        "by": query.by,
        **({"dayparts": list(map(str, query.dayparts))} if query.dayparts else {}),
        **({"compare": query.compare} if query.compare else {}),
        "totals": query.totals,
        "stores_asked": None if query.stores is None else len(query.stores),
        "groups": list(query.groups) if query.groups else None,
        "labels": {name: list(values) for name, values in query.labels} if query.labels else None,
        "zones": list(query.zones) if query.zones else None,
        "reach_hours": rules.reach_us / HOUR_US,
        "max_gap_minutes": rules.max_gap_us / MINUTE_US,
        "default_timezone": default_zone,
        "stores": store_count,
        "polls": poll_count,
        "data_version": data_version,
        "tzdata": zonedata.version(),
        "storemon": VERSION,
    }
