"""The report of outages: a row for each, with how sure its ends are."""

from dataclasses import fields
from typing import Final

import numpy as np

from storemon_flask.clock import timestamp_text
from storemon_flask.database import polls
from storemon_flask.database.connections import Connection
from storemon_flask.database.schedule import NO_POLLS, Schedule
from storemon_flask.formatting import decimals, hundredths
from storemon_flask.model import DAY_US, MINUTE_US, Ints, Rules
from storemon_flask.reports import long_runs, report_text
from storemon_flask.reports.computing import Progress
from storemon_flask.reports.report_text import Altered, ReportText, StoreColumns
from storemon_flask.reports.shaped import range_in_zone, small_parts
from storemon_flask.reports.shapes import Shape
from storemon_flask.uptime import evidence, openings, timeline
from storemon_flask.uptime.timeline import Outages

COLUMNS: Final = (
    "store_id", "name", "group", "timezone", "start", "end", "down_minutes",
    "start_earliest", "start_latest", "end_earliest", "end_latest", "polls", "ongoing",
)  # fmt: skip
_STORE_DAYS: Final = 60_000
_ROWS_AT_ONCE: Final = 20_000


def compute(
    connection: Connection, plan: Schedule, shape: Shape, as_of_us: int, rules: Rules, progress: Progress
) -> tuple[ReportText, int]:
    """Every outage that touches the window and is down for at least the shape's shortest time, by store, then by start;
    and how many polls were read. Each is whole, however long before the window it began.
    """
    (window,) = shape.windows
    ranges = [range_in_zone(window, zone, as_of_us) for zone in plan.zone_names]
    edges = [edge for edge in ranges if edge[1] > edge[0]]
    first_us, last_us = (
        (min(edge[0] for edge in edges), max(edge[1] for edge in edges)) if edges else (as_of_us, as_of_us)
    )
    from_us = max(timeline.heard_from(first_us, rules), 0)
    days = (as_of_us - from_us) // DAY_US + 1
    found: list[Outages] = []
    read = 0
    for place, part in small_parts(plan, max(1, _STORE_DAYS // days)):
        fleet = plan.fleet(part, NO_POLLS, np.empty(0, dtype=np.int64))
        opened = openings.build(fleet, from_us // DAY_US * DAY_US, (as_of_us // DAY_US + 1) * DAY_US)
        heard, count = polls.read_thinned(connection, part.number, from_us, as_of_us, rules, opened)
        read += count
        if last_us > first_us and len(part.number):
            begin, end = (np.array(column, dtype=np.int64)[part.zone_of] for column in zip(*ranges, strict=True))
            spoken = evidence.gather(heard, opened, rules)
            mine, more = long_runs.whole_outages(
                connection, plan, part, opened, spoken, from_us, begin, as_of_us, rules
            )
            read += more
            inside = (mine.start_us < end[mine.store]) & (mine.end_us > begin[mine.store])
            mine = mine.picked(inside & (mine.down_us >= shape.shortest_us))
            found.append(mine.with_store(mine.store + place))
        progress((place + len(part.number)) / max(len(report_text.columns_of(plan).order), 1))
    return _render(plan, found), read


def _render(plan: Schedule, parts: list[Outages]) -> ReportText:
    stores = report_text.columns_of(plan)
    rank = np.empty(len(stores.order), dtype=np.int64)
    rank[stores.order] = np.arange(len(stores.order))
    rows = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts]) if parts else np.empty(0, np.int64)
        for field in fields(Outages)
    }
    order = np.lexsort((rows["start_us"], rank[rows["store"]])) if len(rows["store"]) else np.empty(0, np.int64)
    rows = {name: values[order] for name, values in rows.items()}
    count = len(order)
    line = rank[rows["store"]] if count else np.empty(0, np.int64)
    # A store that is polled every second can have a million outages: cells are made of some rows at a time.
    text = [",".join(COLUMNS) + "\n"]
    for at in range(0, count, _ROWS_AT_ONCE):
        some = slice(at, at + _ROWS_AT_ONCE)
        cells = _cells(stores, line[some].tolist(), {name: values[some] for name, values in rows.items()})
        text.append("\n".join([*map(",".join, zip(*cells, strict=True)), ""]))
    altered: Altered = {}
    for name in COLUMNS[:4]:
        if stores.altered[name]:
            changed = {
                at: stores.altered[name][row] for at, row in enumerate(line.tolist()) if row in stores.altered[name]
            }
            if changed:
                altered[name] = changed
    return ReportText("".join(text), count, altered)


def _cells(stores: StoreColumns, line: list[int], rows: dict[str, Ints]) -> list[list[str]]:
    texts = [[stores.cells[name][row] for row in line] for name in COLUMNS[:4]]
    instants = {
        name: [timestamp_text(instant) for instant in rows[f"{name}_us"].tolist()]
        for name in ("start", "end", "start_earliest", "start_latest", "end_earliest", "end_latest")
    }
    return [
        *texts, instants["start"], instants["end"],
        decimals(hundredths(rows["down_us"], MINUTE_US)),
        *(instants[name] for name in COLUMNS[7:11]),
        [str(count) for count in rows["polls"].tolist()],
        ["yes" if ongoing else "no" for ongoing in rows["ongoing"].tolist()],
    ]  # fmt: skip
