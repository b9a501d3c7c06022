"""A report's table as CSV text and as JSON rows (SPEC 4). Cells are made from integers, rounded half up, once."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from storemon_flask.clock import timestamp_texts
from storemon_flask.database.schedule import Schedule
from storemon_flask.formatting import csv_cells, decimals, hundredths, percent_hundredths, safe_cell
from storemon_flask.model import Ints
from storemon_flask.uptime.measures import CLASSIC_WINDOWS, Table
from storemon_flask.uptime.status import STATUSES

_WINDOWS: Final = tuple(window.name for window in CLASSIC_WINDOWS)


def _per_window(*measures: str) -> tuple[str, ...]:
    return tuple(f"{measure}_{window}" for measure in measures for window in _WINDOWS)


CLASSIC_COLUMNS: Final = ("store_id", *_per_window("uptime", "downtime"))
TEXT_COLUMNS: Final = ("last_poll_utc", "status_now", "timezone", "name", "group")
# Those that reports of another shape have besides.
_SHAPED_TEXTS: Final = (
    "kind", "period", "period_start", "period_end",
    "start", "end", "start_earliest", "start_latest", "end_earliest", "end_latest", "ongoing",
)  # fmt: skip
FULL_COLUMNS: Final = (
    *CLASSIC_COLUMNS,
    *_per_window("unknown", "business", "uptime_percent", "measured", "uptime_low", "uptime_high"),
    "polls_last_week",
    *TEXT_COLUMNS,
)
COLUMNS: Final = {"classic": CLASSIC_COLUMNS, "full": FULL_COLUMNS}

_AMOUNTS: Final = ("uptime_", "downtime_", "unknown_", "business_", "measured_", "down_minutes")

# Per column, by row number from 0, the texts that the CSV shows with a `'` in front.
Altered = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report as CSV, with the texts that it shows differently from what they are."""

    csv: str
    rows: int
    altered: Altered
    # How it was made, for whoever doubts it.
    method: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreColumns:
    """What is known of stores before anything is computed: the order of a report's rows, and cells in that order."""

    order: Ints
    cells: dict[str, list[str]]
    altered: Altered


def store_columns(
    ids: Sequence[str], zone_names: Sequence[str], names: Sequence[str], groups: Sequence[str]
) -> StoreColumns:
    """Ids, zones, names and groups as cells, rows in code point order of the ids."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    cells: dict[str, list[str]] = {}
    altered: Altered = {}
    for column, texts in (("store_id", ids), ("timezone", zone_names), ("name", names), ("group", groups)):
        in_order = [texts[place] for place in order]
        safe = [safe_cell(text) for text in in_order]
        altered[column] = {
            row: raw for row, (raw, shown) in enumerate(zip(in_order, safe, strict=True)) if raw != shown
        }
        cells[column] = csv_cells(safe)
    return StoreColumns(np.array(order, dtype=np.int64), cells, altered)


def columns_of(plan: Schedule) -> StoreColumns:
    """Return the cells of the schedule's stores, made once for each schedule."""
    known = plan.derived.get(StoreColumns)
    if not isinstance(known, StoreColumns):
        known = store_columns(plan.ids, plan.zone_of_store, plan.names, plan.groups)
        plan.derived[StoreColumns] = known
    return known


def render(stores: StoreColumns, table: Table, columns: str) -> ReportText:
    """The table as CSV; `table` is in the order of the stores."""
    names = COLUMNS[columns]
    cells = [stores.cells[name] if name in stores.cells else _column(name, table, stores.order) for name in names]
    lines = [",".join(names), *map(",".join, zip(*cells, strict=True)), ""]
    altered = {column: rows for column, rows in stores.altered.items() if rows and column in names}
    return ReportText("\n".join(lines), len(stores.order), altered)


def json_rows(lines: Iterable[str], altered: Altered) -> Iterator[dict[str, object]]:
    """A finished CSV, line by line, as JSON rows: numbers as numbers, empty cells null, ids and names as they are."""
    reader = csv.reader(lines)
    header = next(reader)
    kinds = [_json_kind(name) for name in header]
    for row, fields in enumerate(reader):
        found: dict[str, object] = {
            name: kind(field) if field else None for name, kind, field in zip(header, kinds, fields, strict=True)
        }
        found |= {column: texts[row] for column, texts in altered.items() if row in texts}
        yield found


def text_rows(lines: Iterable[str], altered: Altered) -> Iterator[dict[str, str]]:
    """A finished CSV, line by line, as rows of texts, ids and names as they are."""
    for row, found in enumerate(csv.DictReader(lines)):
        yield found | {column: texts[row] for column, texts in altered.items() if row in texts}


def is_amount(column: str) -> bool:
    """Whether a column holds amounts of time."""
    return column.startswith(_AMOUNTS) and not column.startswith("uptime_percent")


def is_number(column: str) -> bool:
    """Whether a column holds numbers."""
    return is_amount(column) or column.startswith(("uptime_percent", "polls"))


def _column(name: str, table: Table, take: Ints) -> list[str]:
    if name == "polls_last_week":
        return [str(count) for count in table["polls_last_week"][take].tolist()]
    if name == "last_poll_utc":
        last = table["last_poll_us"][take]
        return [text if at >= 0 else "" for at, text in zip(last.tolist(), timestamp_texts(last), strict=True)]
    if name == "status_now":
        return [STATUSES[code] for code in table["status_now"][take].tolist()]
    window = next(window for window in CLASSIC_WINDOWS if name.endswith(window.name))
    if name.startswith("uptime_percent"):
        uptime, downtime = table[f"uptime_{window.name}"], table[f"downtime_{window.name}"]
        return decimals(percent_hundredths(uptime, uptime + downtime)[take])
    return decimals(hundredths(table[name][take], window.unit_us))


def _json_kind(name: str) -> Callable[[str], object]:
    if name == "store_id" or name in TEXT_COLUMNS or name in _SHAPED_TEXTS:
        return str
    return int if name.startswith("polls") else float
