"""A report's table as CSV text and as JSON rows (SPEC 4). Cells are made from integers, rounded half up, once."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from storemon_flask.core.report import CLASSIC_WINDOWS, Table
from storemon_flask.core.status import STATUSES
from storemon_flask.model import Ints

_WINDOWS: Final = tuple(window.name for window in CLASSIC_WINDOWS)


def _per_window(*measures: str) -> tuple[str, ...]:
    return tuple(f"{measure}_{window}" for measure in measures for window in _WINDOWS)


CLASSIC_COLUMNS: Final = ("store_id", *_per_window("uptime", "downtime"))
_TEXT_COLUMNS: Final = ("last_poll_utc", "status_now", "timezone")
FULL_COLUMNS: Final = (
    *CLASSIC_COLUMNS,
    *_per_window("unknown", "business", "uptime_percent", "measured", "uptime_low", "uptime_high"),
    "polls_last_week",
    *_TEXT_COLUMNS,
)
COLUMNS: Final = {"classic": CLASSIC_COLUMNS, "full": FULL_COLUMNS}

# A spreadsheet runs a cell that begins so; a plain number does no harm.
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report as CSV, with the ids (by row number from 0) that the CSV shows with a `'` in front."""

    csv: str
    rows: int
    altered_ids: dict[int, str]


@dataclass(frozen=True, slots=True)
class IdColumn:
    """The first column: the order of its rows, its cells, and the ids that those show differently."""

    order: Ints
    cells: list[str]
    altered: dict[int, str]


def id_column(ids: Sequence[str]) -> IdColumn:
    """The ids in code point order, as cells."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    in_order = [ids[place] for place in order]
    safe = [safe_cell(store_id) for store_id in in_order]
    altered = {row: raw for row, (raw, shown) in enumerate(zip(in_order, safe, strict=True)) if raw != shown}
    return IdColumn(np.array(order, dtype=np.int64), _csv_cells(safe), altered)


def render(first: IdColumn, table: Table, zone_names: Sequence[str], columns: str) -> ReportText:
    """The table as CSV, rows in code point order of the ids; `table` and `zone_names` are in the order of the stores."""
    cells = [first.cells, *(_column(name, table, zone_names, first.order) for name in COLUMNS[columns][1:])]
    lines = [",".join(COLUMNS[columns]), *map(",".join, zip(*cells, strict=True)), ""]
    return ReportText("\n".join(lines), len(first.cells), first.altered)


def json_rows(text: str, altered_ids: dict[int, str]) -> Iterator[dict[str, object]]:
    """A finished CSV as JSON rows: numbers as numbers, empty cells null, ids as they are."""
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader)
    kinds = [_json_kind(name) for name in header]
    for row, fields in enumerate(reader):
        found: dict[str, object] = {
            name: kind(field) if field else None for name, kind, field in zip(header, kinds, fields, strict=True)
        }
        if row in altered_ids:
            found["store_id"] = altered_ids[row]
        yield found


def hundredths(values: Ints, unit_us: int) -> Ints:
    """Microseconds as hundredths of the unit, half up."""
    step = unit_us // 100
    rounded: Ints = (values + step // 2) // step
    return rounded


def percent_hundredths(part: Ints, whole: Ints) -> Ints:
    """100 x part / whole in hundredths, half up; -1 where the whole is 0."""
    safe = np.maximum(whole, 1)
    percent: Ints = np.where(whole > 0, (2 * part * 10_000 + safe) // (2 * safe), -1)
    return percent


def instant_text(instant_us: int) -> str:
    """RFC 3339 with six digits and `Z`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def _column(name: str, table: Table, zone_names: Sequence[str], take: Ints) -> list[str]:
    if name == "polls_last_week":
        return [str(count) for count in table["polls_last_week"][take].tolist()]
    if name == "last_poll_utc":
        return [instant_text(at) if at >= 0 else "" for at in table["last_poll_us"][take].tolist()]
    if name == "status_now":
        return [STATUSES[code] for code in table["status_now"][take].tolist()]
    if name == "timezone":
        return [zone_names[place] for place in take.tolist()]
    window = next(window for window in CLASSIC_WINDOWS if name.endswith(window.name))
    if name.startswith("uptime_percent"):
        uptime, downtime = table[f"uptime_{window.name}"], table[f"downtime_{window.name}"]
        return _decimals(percent_hundredths(uptime, uptime + downtime)[take])
    return _decimals(hundredths(table[name][take], window.unit_us))


def _decimals(values: Ints) -> list[str]:
    """Hundredths as text with two decimals; negative means an empty cell."""
    # A column has few distinct values (a week has 16,801 hundredths of an hour): each is written once.
    distinct, place = np.unique(values, return_inverse=True)
    texts = [f"{value // 100}.{value % 100:02d}" if value >= 0 else "" for value in distinct.tolist()]
    return [texts[i] for i in place.tolist()]


def safe_cell(text: str) -> str:
    """The text as a spreadsheet may see it: one that it would run as a formula gets a leading `'`."""
    if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return "'" + text
    return text


def _csv_cells(texts: list[str]) -> list[str]:
    """Each text as one CSV cell, quoted where it must be."""
    return [f'"{text.replace(chr(34), chr(34) * 2)}"' if _must_quote(text) else text for text in texts]


_SPECIAL: Final = re.compile(r'[",\r\n]')


def _must_quote(text: str) -> bool:
    return _SPECIAL.search(text) is not None


def _json_kind(name: str) -> Callable[[str], object]:
    if name == "store_id" or name in _TEXT_COLUMNS:
        return str
    return int if name == "polls_last_week" else float
