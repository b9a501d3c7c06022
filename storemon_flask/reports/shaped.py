"""Reports of any shape, computed: periods of stores, measured part by part, put in order, with totals."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from storemon_flask.database import polls
from storemon_flask.database.connections import Connection
from storemon_flask.database.schedule import NO_POLLS, Batch, Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, Ints, Rules
from storemon_flask.reports import report_text
from storemon_flask.reports.computing import Progress
from storemon_flask.reports.shapes import Shape, Window
from storemon_flask.uptime import calendar, evidence, openings
from storemon_flask.uptime import periods as calculation
from storemon_flask.uptime.periods import Periods
from storemon_flask.uptime.zones import LocalClock

# As many polls as about this many store-days have are read at once.
_STORE_DAYS: Final = 60_000
_NOTHING: Final = np.empty(0, dtype=np.int64)


# Measured periods, a column each: `place` is the store's in the plan, `window` that in the shape; `start_us` and
# `end_us`; `local_us` the wall clock at which the whole calendar period begins, `offset_s` the zone's there; and the
# measures.
Rows = dict[str, Ints]
_EDGES: Final = ("start_us", "end_us", "window", "local_us", "offset_s")


def count(plan: Schedule, shape: Shape, as_of_us: int) -> int:
    """How many rows of periods the report has, one for each store and period."""
    spans = _spans_of_zones(plan, shape, as_of_us)
    return sum(
        int(np.bincount(part.zone_of, minlength=len(plan.zone_names)).dot([len(found[0]) for found in spans]))
        for part in plan.batches
    )


def compute(
    connection: Connection, plan: Schedule, shape: Shape, as_of_us: int, rules: Rules, progress: Progress
) -> tuple[Rows, int]:
    """Every period of every store of the plan, by store in the plan's row order, then by start; and how many polls were
    read.

    The plan and the polls must be of one transaction of the connection.
    """
    spans = _spans_of_zones(plan, shape, as_of_us)
    edges = [found for found in spans if len(found[0])]
    if not edges or not report_text.columns_of(plan).order.size:
        return dict.fromkeys(("place", *_EDGES, *calculation.MEASURES), _NOTHING), 0
    first_us = min(int(found[0].min()) for found in edges)
    last_us = min(max(int(found[1].max()) for found in edges), as_of_us)
    parts = []
    done = read = 0
    total = len(report_text.columns_of(plan).order)
    for place, part in small_parts(plan, max(1, _STORE_DAYS * DAY_US // (last_us - first_us + DAY_US))):
        rows, heard = _part(connection, plan, part, place, spans, first_us, last_us, as_of_us, rules)
        parts.append(rows)
        read += heard
        done += len(part.number)
        progress(done / total)
    found = {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}
    rank = np.empty(total, dtype=np.int64)
    rank[report_text.columns_of(plan).order] = np.arange(total)
    order = np.lexsort((found["start_us"], found["window"], rank[found["place"]]))
    return {name: values[order] for name, values in found.items()}, read


_Spans = tuple[Ints, Ints, Ints, Ints, Ints]


def _spans_of_zones(plan: Schedule, shape: Shape, as_of_us: int) -> list[_Spans]:
    """Per zone of the plan its periods: (start, end, window, wall clock at the start, offset there)."""
    found = []
    for zone in plan.zone_names:
        columns: list[_Spans] = []
        for place, window in enumerate(shape.windows):
            first, last = range_in_zone(window, zone, as_of_us)
            if shape.by:
                spans = calendar.spans(zone, shape.by, first, last) if last > first else None
                if spans is not None:
                    which = np.full(len(spans), place)
                    columns.append((spans.start_us, spans.end_us, which, spans.local_us, spans.offset_s))
            else:
                one = (np.array([value], dtype=np.int64) for value in (first, max(first, last), place, 0, 0))
                columns.append(tuple(one))  # type: ignore[arg-type]
        found.append(
            tuple(np.concatenate(parts) for parts in zip(*columns, strict=True)) if columns else (_NOTHING,) * 5
        )
    return found  # type: ignore[return-value]


def range_in_zone(window: Window, zone: str, as_of_us: int) -> tuple[int, int]:
    """From when to when in UTC; what lies after the as-of is cut off."""
    first, last = window.at(as_of_us)
    if window.local:
        clock = LocalClock((zone,), first, last)
        first, last = clock.to_utc(np.array([first, last], dtype=np.int64), np.zeros(2, dtype=np.int64)).tolist()
    return first, min(last, as_of_us)


def small_parts(plan: Schedule, stores: int) -> Iterator[tuple[int, Batch]]:
    """The plan's stores in parts of at most so many, each with the place of its first."""
    begun = 0
    for part in plan.batches:
        for at in range(0, len(part.number), stores):
            yield begun + at, part.slice(at, at + stores)
        begun += len(part.number)


def _part(
    connection: Connection,
    plan: Schedule,
    part: Batch,
    place: int,
    spans: list[_Spans],
    first_us: int,
    last_us: int,
    as_of_us: int,
    rules: Rules,
) -> tuple[Rows, int]:
    from_us = max(first_us - rules.farthest_us, 0)
    # Polls after the range draw the line that ends the last stretch in it; they need their openings too.
    to_us = min(last_us + 2 * rules.farthest_us, as_of_us)
    fleet = plan.fleet(part, NO_POLLS, _NOTHING)
    opened = openings.build(fleet, from_us // DAY_US * DAY_US, (to_us // DAY_US + 1) * DAY_US)
    heard, count = polls.read_thinned(connection, part.number, from_us, to_us, rules, opened)
    spoken = evidence.gather(heard, opened, rules)
    of_zone = [np.flatnonzero(part.zone_of == zone) for zone in range(len(plan.zone_names))]
    store = np.concatenate([np.repeat(mine, len(found[0])) for mine, found in zip(of_zone, spans, strict=True)])
    rows = {
        name: np.concatenate([np.tile(found[n], len(mine)) for mine, found in zip(of_zone, spans, strict=True)])
        for n, name in enumerate(_EDGES)
    }
    asked = Periods(store, rows["start_us"], rows["end_us"])
    measures = calculation.measure(opened, spoken, asked, as_of_us)
    return {"place": store + place, **rows, **measures}, count


def too_many(rows: int, most: int) -> Unprocessable:
    """What is said of a report that would be too long."""
    return Unprocessable(
        f"the report would have {rows:,} rows, more than the {most:,} of STOREMON_MAX_REPORT_ROWS; "
        "ask for fewer stores, a shorter window or longer periods",
        rows=rows,
        errors={"by": [f"{rows:,} rows, at most {most:,}"]},
    )
