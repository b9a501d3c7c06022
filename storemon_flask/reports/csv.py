"""A report as CSV, and a finished CSV as rows for JSON and workbooks (SPEC 4). Cells are integers, rounded once."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from storemon_flask import clock
from storemon_flask.database.readings import Schedule
from storemon_flask.formatting import csv_cells, decimals, hundredths, percent_hundredths, safe_cell, signed_decimals
from storemon_flask.labels import GROUP, StoreLabels
from storemon_flask.model import DAY_US, MINUTE_US, SECOND_US, TOO_LARGE, Ints
from storemon_flask.reports.request import DEFAULT_WINDOWS, ReportQuery
from storemon_flask.uptime.likely import SUMS, likely_of_sums
from storemon_flask.uptime.measures import CLASSIC_MEASURES, MEASURES
from storemon_flask.uptime.status import STATUSES

_MEASURE_COLUMNS: Final = {
    "classic": CLASSIC_MEASURES,
    "full": ("uptime", "downtime", "unknown", "business", "uptime_percent", "measured", "uptime_low", "uptime_high"),
}
# The likely range of `uptime_percent`, at the end of the full columns.
LIKELY_COLUMNS: Final = {"uptime_percent_likely_low": "likely_low", "uptime_percent_likely_high": "likely_high"}
_STORE_COLUMNS: Final = ("timezone", "name", "group")
_STATUS_COLUMNS: Final = ("polls_last_week", "last_poll_utc", "status_now")
# The kind of the row of all stores.
_FLEET: Final = "fleet"
# What the default report has.
CLASSIC_COLUMNS, FULL_COLUMNS = (
    ("store_id", *(f"{name}_{window}" for name in _MEASURE_COLUMNS[columns] for window in DEFAULT_WINDOWS), *more)
    for columns, more in (
        ("classic", ()),
        (
            "full",
            (
                *_STATUS_COLUMNS,
                *_STORE_COLUMNS,
                *(f"{name}_{window}" for name in LIKELY_COLUMNS for window in DEFAULT_WINDOWS),
            ),
        ),
    )
)
TEXT_COLUMNS: Final = (
    "store_id", *_STORE_COLUMNS, "last_poll_utc", "status_now", "kind",
    "period", "daypart", "period_start", "period_end",
    "start", "end", "start_earliest", "start_latest", "end_earliest", "end_latest", "ongoing",
)  # fmt: skip
_AMOUNTS: Final = ("uptime_", "downtime_", "unknown_", "business_", "measured_", "down_minutes")

# Per column, by row number from 0, the texts that the CSV shows with a `'` in front.
Altered = dict[str, dict[int, str]]
# Measured periods, a column each: `store` is the index in the schedule, `window` that in the query's
# `measured_windows`; `start_us` and `end_us`; `local_us` the wall clock at which the whole calendar period begins,
# `offset_s` the zone's there; and measures. Of a report with the status of stores also `last_poll_us` (-1: never),
# `polls_last_week` and `status_now` (an index into `STATUSES`).
Rows = dict[str, Ints]
# A name and its cells.
Column = tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report as CSV, the texts that it shows differently from what they are, and how it was made."""

    csv: str
    rows: int
    altered: Altered
    method: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreColumns:
    """The cells of stores in the order of a report's rows: `rank` is the row of each store of the schedule."""

    rank: Ints
    cells: dict[str, list[str]]
    altered: Altered

    @classmethod
    def of(cls, texts: Mapping[str, Sequence[str]]) -> "StoreColumns":
        """Return those columns of texts as cells, rows in code point order of the column `store_id`."""
        ids = texts["store_id"]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        cells: dict[str, list[str]] = {}
        altered: Altered = {}
        for name, column in texts.items():
            raw = [column[index] for index in order]
            safe = [safe_cell(text) for text in raw]
            altered[name] = {row: text for row, text in enumerate(raw) if text != safe[row]}
            cells[name] = csv_cells(safe)
        return cls(rank, cells, altered)

    def pick(self, names: Sequence[str], rows: list[int]) -> list[Column]:
        """Return those columns with a cell for each of the rows."""
        return [(name, [self.cells[name][row] for row in rows]) for name in names]

    def pick_altered(self, names: Sequence[str], rows: list[int]) -> Altered:
        """Return the texts that those columns then show differently."""
        altered = {
            name: {line: self.altered[name][row] for line, row in enumerate(rows) if row in self.altered[name]}
            for name in names
            if self.altered[name]
        }
        return {name: texts for name, texts in altered.items() if texts}


def store_columns(schedule: Schedule) -> StoreColumns:
    """Return the cells of the schedule's stores, made once for each schedule."""
    known = schedule.derived.get(StoreColumns)
    if not isinstance(known, StoreColumns):
        known = StoreColumns.of(
            {
                "store_id": schedule.ids,
                "timezone": schedule.zone_of_store,
                "name": schedule.names,
                "group": schedule.groups,
            }
        )
        schedule.derived[StoreColumns] = known
    return known


def render(query: ReportQuery, stores: StoreColumns, labels: StoreLabels, rows: Rows) -> ReportText:
    """Return rows as CSV: a line per store, or per store and period; with totals, lines for groups, labels and the
    fleet below.

    `labels` are the stores' labels in the schedule's order. Times are in hours; those of `last_hour`, and of periods of
    an hour, in minutes.
    """
    # One line has as many windows as stand beside each other.
    across = 1 if query.by else len(query.measured_windows)
    body = {name: values.reshape(-1, across) for name, values in rows.items()}
    lines = stores.rank[body["store"][:, 0]].tolist()
    names = ("store_id", *(_STORE_COLUMNS if query.full else ()))
    columns, altered = stores.pick(names, lines), stores.pick_altered(names, lines)
    periods = _period_columns(query, body) if query.by else []
    blocks = [body]
    if query.totals:
        totals = _totals(query, body, periods, labels)
        blocks.append(totals.sums)
        group_cells = csv_cells([safe_cell(value) for value in totals.values])
        blank = [""] * len(group_cells)
        columns = [("kind", ["store"] * len(lines) + csv_cells(totals.kinds))] + [
            (name, texts + (group_cells if name == "group" else blank)) for name, texts in columns
        ]
        columns += [] if query.full else [("group", [""] * len(lines) + group_cells)]
        periods = [(name, texts + totals.periods.get(name, blank)) for name, texts in periods]
        changed = {len(lines) + row: name for row, name in enumerate(totals.values) if safe_cell(name) != name}
        altered |= {"group": {**altered.get("group", {}), **changed}} if changed else {}
    measures, likely = (
        [_measure_column(query, measure, index, blocks) for measure in some for index in range(len(query.windows))]
        for some in (_MEASURE_COLUMNS[query.columns], LIKELY_COLUMNS if "likely_low" in rows else ())
    )
    if query.compare:
        for index in range(len(query.windows)):
            measures += _comparison_columns(query, index, blocks)
    if query.has_status:
        columns = [columns[0], *measures, *_status_columns(body), *columns[1:], *likely]
    else:
        columns = [*columns, *periods, *measures, *likely]
    return csv_text([columns], altered)


def csv_text(batches: Iterable[Sequence[Column]], altered: Altered) -> ReportText:
    """Return batches of rows, at least one, as CSV below the names of their columns."""
    text: list[str] = []
    rows = 0
    for columns in batches:
        if not text:
            text.append(",".join(csv_cells([safe_cell(name) for name, _ in columns])) + "\n")
        lines = [*map(",".join, zip(*(cells for _, cells in columns), strict=True)), ""]
        rows += len(lines) - 1
        text.append("\n".join(lines))
    return ReportText("".join(text), rows, altered)


def json_rows(lines: Iterable[str], altered: Altered) -> Iterator[dict[str, object]]:
    """Yield the rows of a finished CSV for JSON: numbers as numbers, empty cells null, ids and names as they are."""
    reader = csv.reader(lines)
    header = next(reader)
    kinds = [_json_kind(name) for name in header]
    for row, cells in enumerate(reader):
        values: dict[str, object] = {
            name: kind(cell) if cell else None for name, kind, cell in zip(header, kinds, cells, strict=True)
        }
        yield values | {column: texts[row] for column, texts in altered.items() if row in texts}


def text_rows(lines: Iterable[str], altered: Altered) -> Iterator[dict[str, str]]:
    """Yield the rows of a finished CSV as texts, ids and names as they are."""
    for row, cells in enumerate(csv.DictReader(lines)):
        yield cells | {column: texts[row] for column, texts in altered.items() if row in texts}


def is_amount(column: str) -> bool:
    """Return whether a column holds amounts of time."""
    return column.startswith(_AMOUNTS) and not column.startswith("uptime_percent")


def is_number(column: str) -> bool:
    """Return whether a column holds numbers."""
    return is_amount(column) or column.startswith(("uptime_percent", "change_points_", "polls"))


def period_name(query: ReportQuery, local_us: int, offset_s: int) -> str:
    """Return all that names a period of a report `by` something: `period_label`, and which daypart it is."""
    label = period_label(query.by or "", local_us, offset_s)
    return f"{label} {_daypart_name(query, local_us)}" if query.dayparts else label


def _daypart_name(query: ReportQuery, local_us: int) -> str:
    """Return which daypart begins at that wall clock."""
    return next(part.name for part in query.dayparts if part.start_s * SECOND_US == local_us % DAY_US)


def period_label(by: str, local_us: int, offset_s: int) -> str:
    """Return a period's name: an hour with its offset from UTC; a daypart, a day or a week by its first date; a
    month."""
    wall = clock.utc_datetime(local_us)
    if by == "hour":
        sign, minutes = "-" if offset_s < 0 else "+", abs(offset_s) // 60
        return f"{wall:%Y-%m-%dT%H:%M}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{wall:%Y-%m}" if by == "month" else f"{wall:%Y-%m-%d}"


def _json_kind(column: str) -> Callable[[str], object]:
    return str if column in TEXT_COLUMNS else int if column.startswith("polls") else float


def _measure_column(query: ReportQuery, measure: str, index: int, blocks: Sequence[Rows]) -> Column:
    """Return a measure of the window at that index, of rows of stores and of totals."""
    window = query.windows[index]
    unit_us = query.unit_us(window)
    if not query.by:
        name = f"{measure}_{window.name}"
    else:
        unit = "minutes" if unit_us == MINUTE_US else "hours"
        name = measure if measure.startswith("uptime_percent") else f"{measure}_{unit}"
    if measure == "uptime_percent":
        return name, decimals(_percents(blocks, index))
    if measure in LIKELY_COLUMNS:
        return name, decimals(_percents(blocks, index, LIKELY_COLUMNS[measure]))
    return name, _amounts(blocks, measure, index, unit_us)


def _comparison_columns(query: ReportQuery, index: int, blocks: Sequence[Rows]) -> list[Column]:
    """Return the percentage of the period before the window at that index, and by how many points it changed; in a full
    report also what the percentage rests on, in one without percentages first that of the window.

    The change is that of the printed percentages, so that they add up.
    """
    window, before = query.windows[index], index + len(query.windows)
    percent, previous = _percents(blocks, index), _percents(blocks, before)
    changes = signed_decimals(percent - previous, (percent >= 0) & (previous >= 0))
    columns = [
        *([] if query.full else [(f"uptime_percent_{window.name}", decimals(percent))]),
        (f"uptime_percent_previous_{window.name}", decimals(previous)),
        (f"change_points_{window.name}", changes),
    ]
    for measure in ("downtime", "unknown", "business") if query.full else ():
        cells = _amounts(blocks, measure, before, query.unit_us(window))
        columns.append((f"{measure}_previous_{window.name}", cells))
    return columns


def _percents(blocks: Sequence[Rows], index: int, measure: str = "uptime") -> Ints:
    """Return a measure of a window in hundredths of a per cent of what is known; -1 where nothing is, or it is not."""
    percents = []
    for rows in blocks:
        part, known = rows[measure][:, index], rows["uptime"][:, index] + rows["downtime"][:, index]
        percents.append(np.where(part < 0, -1, percent_hundredths(np.maximum(part, 0), known)))
    return np.concatenate(percents)


def _amounts(blocks: Sequence[Rows], measure: str, index: int, unit_us: int) -> list[str]:
    """Return the cells of a measure of a window."""
    return [cell for rows in blocks for cell in decimals(hundredths(rows[measure][:, index], unit_us))]


def _status_columns(body: Rows) -> list[Column]:
    polls, last_poll_us, status = (body[name][:, 0] for name in ("polls_last_week", "last_poll_us", "status_now"))
    texts = clock.timestamp_texts(last_poll_us)
    cells = (
        [str(count) for count in polls.tolist()],
        ["" if at_us < 0 else text for at_us, text in zip(last_poll_us.tolist(), texts, strict=True)],
        [STATUSES[code] for code in status.tolist()],
    )
    return list(zip(_STATUS_COLUMNS, cells, strict=True))


def _period_columns(query: ReportQuery, body: Rows) -> list[Column]:
    local, offset = body["local_us"][:, 0], body["offset_s"][:, 0]
    # Seconds until 2200 are less than 2^33. Two hours of one night can show the same wall clock, and differ in their
    # offset, which is less than a day.
    key = (local // SECOND_US << 18) + offset + DAY_US // SECOND_US
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    labels = [period_label(query.by or "", int(local[row]), int(offset[row])) for row in first.tolist()]
    names = [_daypart_name(query, int(local[row])) for row in first.tolist()] if query.dayparts else []
    return [
        ("period", [labels[number] for number in index.tolist()]),
        *([("daypart", [names[number] for number in index.tolist()])] if query.dayparts else []),
        ("period_start", clock.timestamp_texts(body["start_us"][:, 0])),
        ("period_end", clock.timestamp_texts(body["end_us"][:, 0])),
    ]


@dataclass(frozen=True, slots=True)
class _Totals:
    """Lines of totals: `fleet`, or the label (`group`, `region`, ...) and its value, which stands in the column
    `group`; by column what names the period, and the sums of the measures."""

    kinds: list[str]
    values: list[str]
    periods: dict[str, list[str]]
    sums: Rows


def _totals(query: ReportQuery, body: Rows, periods: Sequence[Column], labels: StoreLabels) -> _Totals:
    """Return sums over the stores of each group and of each value of the other labels, and over the fleet, for each
    period. Stores of no group count for the fleet only; those without another label are a value of their own.
    """
    store, period = body["store"][:, 0], _period_numbers(query.by, body)
    blocks = []
    for name in labels.names:
        values, code = labels.codes(name)
        without = name == GROUP and values[0] == ""
        blocks.append(_sum_by(name, values, code[store], period, body, first=1 if without else 0))
    blocks.append(_sum_by(_FLEET, [""], np.zeros(len(store), dtype=np.int64), period, body))
    lines = [line for block in blocks for line in block.lines]
    sums = {name: np.concatenate([block.sums[name] for block in blocks]) for name in blocks[0].sums}
    sums |= likely_of_sums(sums) if "likely_down" in sums else {}
    return _Totals(
        [block.kind for block in blocks for _ in block.lines],
        [value for block in blocks for value in block.values],
        _total_periods(query.by, body, periods, lines),
        sums,
    )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of the lines of one kind by value and period; `lines` has a line of stores of each."""

    kind: str
    values: list[str]
    lines: list[int]
    sums: Rows


def _sum_by(kind: str, values: Sequence[str], code: Ints, period: Ints, body: Rows, first: int = 0) -> _Sums:
    """Return the sums of lines by value, from the value at `first` on, and by period; `code` is each line's value."""
    lines = np.flatnonzero(code >= first)
    # A number for value and period: a million values by the 20,000 hours of 400 days, cut twice, are 2e10.
    count = int(period.max(initial=0)) + 1
    number = code[lines] * count + period[lines]
    distinct, begin, index = np.unique(number, return_index=True, return_inverse=True)
    names = [name for name in (*MEASURES, *SUMS) if name in body]
    sums: Rows = {name: _exact_sums(body[name][lines], index, len(distinct)) for name in names}
    return _Sums(kind, [values[at] for at in (distinct // count).tolist()], lines[begin].tolist(), sums)


def _period_numbers(by: str | None, body: Rows) -> Ints:
    """Return a number for each line's period, equal where the period is."""
    local, offset = body["local_us"][:, 0], body["offset_s"][:, 0]
    if not by:
        return np.zeros(len(local), dtype=np.int64)
    # A date is one period in all zones, also where its midnight is skipped and it begins at 01:00; so is a daypart of
    # a date; an hour is an instant.
    what = {"hour": local - offset * SECOND_US, "daypart": local}.get(by, local // DAY_US)
    numbers: Ints = np.unique(what, return_inverse=True)[1]
    return numbers


def _total_periods(by: str | None, body: Rows, periods: Sequence[Column], rows: list[int]) -> dict[str, list[str]]:
    """Return names of periods of several zones by column, each by a row of it: a date is the same in each, an hour is
    in UTC."""
    if by == "hour":
        return {"period": clock.timestamp_texts(body["start_us"][rows, 0])}
    return {name: [texts[row] for row in rows] for name, texts in periods if name in ("period", "daypart")}


def _exact_sums(values: Ints, row: Ints, size: int) -> Ints:
    """Return the sum of the values of each row; as Python integers where 64 bits might not hold one."""

    def add(column: Ints) -> Ints:
        """Return the sums of one column by row, in 64 bits."""
        sums = np.zeros((size, *values.shape[1:]), dtype=np.int64)
        np.add.at(sums, row, column)
        return sums

    # No sum is larger than that of all values, which is estimated in floats; a half leaves room for their rounding.
    if values.sum(dtype=np.float64) < TOO_LARGE // 2:
        return add(values)
    # A value is less than 2^45 (407 days): its upper 13 and lower 32 bits have sums that fit for 2,000 million rows.
    whole: Ints = add(values >> 32).astype(object) * (1 << 32) + add(values & ((1 << 32) - 1))
    return whole
