"""A report's table as CSV text and as JSON rows (SPEC 4). Cells are made from integers, rounded half up, once."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, overload

import numpy as np

from storemon_flask.model import TOO_LARGE, Bools, Ints
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

# A spreadsheet runs a cell that begins so, some also one that begins with the full-width form of such a sign; a plain
# number does no harm.
_FORMULA: Final = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


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


def hundredths(values: Ints, unit_us: int) -> Ints:
    """Microseconds as hundredths of the unit, half up; 64 bits hold the sums of 266,000 stores always open for 400
    days, and larger ones come as Python integers (`shaped_text`)."""
    step = unit_us // 100
    rounded: Ints = (values + step // 2) // step
    return rounded


# Above this (128,102 hours) 20,000 x part + whole leaves 64 bits.
_WIDEST: Final = (TOO_LARGE - 1) // 20_001


def percent_hundredths(part: Ints, whole: Ints) -> Ints:
    """100 x part / whole in hundredths, half up; -1 where the whole is 0. No part is more than its whole."""
    safe = np.maximum(whole, 1)
    percent: Ints = np.where(whole > 0, (20_000 * part + safe) // (2 * safe), -1)
    # The product above has wrapped round in the rows of large fleets, which are few: totals of at least 14 stores.
    for row in np.flatnonzero(whole > _WIDEST).tolist():
        percent[row] = (20_000 * int(part[row]) + int(whole[row])) // (2 * int(whole[row]))
    return percent


# A percentage of which more than this part of the business time is unknown says so wherever it is shown.
_MOST_UNKNOWN: Final = 10


@overload
def knows_little(unknown: int, business: int) -> bool: ...
@overload
def knows_little(unknown: Ints, business: Ints) -> Bools: ...
def knows_little(unknown: Any, business: Any) -> Any:
    """Whether so much of the business time is unknown, more than a tenth, that a percentage of the rest says little.

    Both are hundredths of one unit, as they are printed: so every view decides alike, and a reader can see why.
    """
    return _MOST_UNKNOWN * unknown > business


def known_text(unknown: int, business: int, unit: str = "h") -> str:
    """What stands beside a percentage that knows little, such as `of 21 h known`; nothing where it knows enough."""
    if not knows_little(unknown, business):
        return ""
    known = business - unknown
    amount = f"{known // 100}.{known % 100:02d}".rstrip("0").rstrip(".") if known > 0 else "under 0.01"
    return f"of {amount} {unit} known"


def instant_text(instant_us: int) -> str:
    """RFC 3339 with six digits and `Z`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def _column(name: str, table: Table, take: Ints) -> list[str]:
    if name == "polls_last_week":
        return [str(count) for count in table["polls_last_week"][take].tolist()]
    if name == "last_poll_utc":
        return [instant_text(at) if at >= 0 else "" for at in table["last_poll_us"][take].tolist()]
    if name == "status_now":
        return [STATUSES[code] for code in table["status_now"][take].tolist()]
    window = next(window for window in CLASSIC_WINDOWS if name.endswith(window.name))
    if name.startswith("uptime_percent"):
        uptime, downtime = table[f"uptime_{window.name}"], table[f"downtime_{window.name}"]
        return decimals(percent_hundredths(uptime, uptime + downtime)[take])
    return decimals(hundredths(table[name][take], window.unit_us))


def decimals(values: Ints) -> list[str]:
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


def csv_cells(texts: list[str]) -> list[str]:
    """Each text as one CSV cell, quoted where it must be."""
    return [f'"{text.replace(chr(34), chr(34) * 2)}"' if _must_quote(text) else text for text in texts]


_SPECIAL: Final = re.compile(r'[",\r\n]')


def _must_quote(text: str) -> bool:
    return _SPECIAL.search(text) is not None


def _json_kind(name: str) -> Callable[[str], object]:
    if name == "store_id" or name in TEXT_COLUMNS or name in _SHAPED_TEXTS:
        return str
    return int if name.startswith("polls") else float
