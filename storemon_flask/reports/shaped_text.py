"""A report of another shape as text: windows beside each other, or a row for each period; totals below."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from storemon_flask.clock import timestamp_text
from storemon_flask.formatting import csv_cells, decimals, hundredths, percent_hundredths, safe_cell
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, SECOND_US, TOO_LARGE, Ints
from storemon_flask.reports.report_text import Altered, ReportText, StoreColumns
from storemon_flask.reports.shaped import Rows
from storemon_flask.reports.shapes import Shape, Window
from storemon_flask.uptime import periods

_CLASSIC: Final = ("uptime", "downtime")
_FULL: Final = ("uptime", "downtime", "unknown", "business", "uptime_percent", "measured", "uptime_low", "uptime_high")
_STORE_TEXTS: Final = ("timezone", "name", "group")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def render(shape: Shape, stores: StoreColumns, groups: Sequence[str], rows: Rows, columns: str) -> ReportText:
    """The rows as CSV: a line per store, or per store and period; with totals, lines for groups and the fleet below.

    `groups` are the stores' groups in the plan's order. Times are in hours; those of `last_hour`, and of periods of an
    hour, in minutes.
    """
    across = 1 if shape.by else len(shape.windows)
    # One line has as many windows as stand beside each other.
    body = {name: values.reshape(-1, across) for name, values in rows.items()}
    rank = np.empty(len(stores.order), dtype=np.int64)
    rank[stores.order] = np.arange(len(stores.order))
    line = rank[body["place"][:, 0]].tolist()
    full = columns == "full"
    header, cells, altered = _leading(stores, line, full)
    period, period_cells = _periods(shape, body)
    parts = [body]
    if shape.totals:
        kinds, names, which, sums = _totals(body, period, groups)
        labels = [_total_label(shape, period_cells, row, int(body["start_us"][row, 0])) for row in which]
        parts.append(sums)
        header.insert(0, "kind")
        cells = [column + [""] * len(kinds) for column in cells]
        cells.insert(0, ["store"] * len(line) + kinds)
        if full:
            shown = [safe_cell(name) for name in names]
            cells[-1][len(line) :] = csv_cells(shown)
        else:
            header.append("group")
            cells.append([""] * len(line) + csv_cells([safe_cell(name) for name in names]))
        altered = _with_group_names(altered, names, len(line))
        for name, column in period_cells.items():
            column += labels if name == "period" else [""] * len(kinds)
    header += period_cells
    cells += period_cells.values()
    for measure in _FULL if full else _CLASSIC:
        for place in range(across):
            name, unit_us = _column(shape, measure, place)
            header.append(safe_cell(name))
            cells.append([cell for part in parts for cell in _figures(measure, part, place, unit_us)])
    head = ",".join(csv_cells(header))
    lines = [head, *map(",".join, zip(*cells, strict=True)), ""]
    return ReportText("\n".join(lines), len(lines) - 2, altered)


def _leading(stores: StoreColumns, line: list[int], full: bool) -> tuple[list[str], list[list[str]], Altered]:
    """The columns that say whose a line is, and the texts that they show differently."""
    header = ["store_id", *(_STORE_TEXTS if full else ())]
    cells = [[stores.cells[name][row] for row in line] for name in header]
    altered = {
        name: {place: stores.altered[name][row] for place, row in enumerate(line) if row in stores.altered[name]}
        for name in header
        if stores.altered[name]
    }
    return header, cells, altered


def _periods(shape: Shape, body: Rows) -> tuple[Ints, dict[str, list[str]]]:
    """A number for each line's period, equal where the period is, and the columns that name it; none without periods."""
    local, offset = body["local_us"][:, 0], body["offset_s"][:, 0]
    if not shape.by:
        return np.zeros(len(local), dtype=np.int64), {}
    # A date is one period in every zone, also where its midnight is skipped and it begins at 01:00; an hour is one
    # instant.
    key = local - offset * SECOND_US if shape.by == "hour" else local // DAY_US
    _, period = np.unique(key, return_inverse=True)
    # Seconds until 2200 are less than 2^33. Two hours of one night can show the same wall clock, and differ in their
    # offset, which is less than a day.
    named = (local // SECOND_US << 18) + offset + DAY_US // SECOND_US
    _, first, label = np.unique(named, return_index=True, return_inverse=True)
    labels = [period_label(shape.by, int(local[row]), int(offset[row])) for row in first.tolist()]
    return period, {
        "period": [labels[number] for number in label.tolist()],
        "period_start": _instants(body["start_us"][:, 0]),
        "period_end": _instants(body["end_us"][:, 0]),
    }


def period_label(by: str, local_us: int, offset_s: int) -> str:
    """How people name a period: an hour with its offset from UTC, a day or a week by its first date, a month."""
    wall = _EPOCH + timedelta(microseconds=local_us)
    if by == "hour":
        sign, minutes = "-" if offset_s < 0 else "+", abs(offset_s) // 60
        return f"{wall:%Y-%m-%dT%H:%M}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{wall:%Y-%m}" if by == "month" else f"{wall:%Y-%m-%d}"


def _instants(values: Ints) -> list[str]:
    distinct, place = np.unique(values, return_inverse=True)
    texts = [timestamp_text(instant) for instant in distinct.tolist()]
    return [texts[row] for row in place.tolist()]


def _totals(body: Rows, period: Ints, groups: Sequence[str]) -> tuple[list[str], list[str], list[int], Rows]:
    """Sums over each group, by name, and over the fleet, for each period: kinds, groups, a line of the period,
    measures.
    """
    names = sorted({group for group in groups if group})
    number = {name: place for place, name in enumerate(names)}
    # Stores of no group count for the fleet only; that is one more number than there are groups.
    of_store = np.array([number.get(group, -1) for group in groups], dtype=np.int64)
    of_line = of_store[body["place"][:, 0]]
    fleet = np.full(len(of_line), len(names), dtype=np.int64)
    # A number for group and period: a million groups by the 20,000 hours of 400 days, cut twice, are 2e10.
    key = np.concatenate([of_line, fleet]) * (int(period.max(initial=0)) + 1) + np.concatenate([period, period])
    source = np.concatenate([np.arange(len(of_line))] * 2)
    kept = np.concatenate([of_line, fleet]) >= 0
    distinct, first, place = np.unique(key[kept], return_index=True, return_inverse=True)
    source = source[kept]
    sums = {name: _sums(body[name][source], place, len(distinct)) for name in periods.MEASURES}
    which = (distinct // (int(period.max(initial=0)) + 1)).tolist()
    kinds = ["fleet" if group == len(names) else "group" for group in which]
    return kinds, ["" if group == len(names) else names[group] for group in which], source[first].tolist(), sums


def _sums(values: Ints, row: Ints, size: int) -> Ints:
    """The sum of the values of each row, exact; as Python integers where 64 bits might not hold one."""

    def added(part: Ints) -> Ints:
        sums = np.zeros((size, *values.shape[1:]), dtype=np.int64)
        np.add.at(sums, row, part)
        return sums

    # No sum is larger than that of all values, which is estimated in floats; a half leaves room for their rounding.
    if values.sum(dtype=np.float64) < TOO_LARGE // 2:
        return added(values)
    # A value is less than 2^45 (407 days): its upper 13 and lower 32 bits have sums that fit for two thousand million
    # rows.
    whole: Ints = added(values >> 32).astype(object) * (1 << 32) + added(values & ((1 << 32) - 1))
    return whole


def _total_label(shape: Shape, period_cells: dict[str, list[str]], row: int, start_us: int) -> str:
    """A period of several zones, named: a date is the same in each, an hour is told in UTC."""
    if shape.by == "hour":
        return timestamp_text(start_us)
    return period_cells["period"][row] if period_cells else ""


def _with_group_names(altered: Altered, names: list[str], begin: int) -> Altered:
    changed = {begin + row: name for row, name in enumerate(names) if safe_cell(name) != name}
    return {**altered, "group": {**altered.get("group", {}), **changed}} if changed else altered


def unit_us(shape: Shape, window: Window) -> int:
    """The unit in which the amounts of a window, or of the periods of it, are printed."""
    minutes = shape.by == "hour" if shape.by else window.name == "last_hour"
    return MINUTE_US if minutes else HOUR_US


def _column(shape: Shape, measure: str, place: int) -> tuple[str, int]:
    """The name of a measure's column, and the unit of its cells."""
    window = shape.windows[place]
    unit = unit_us(shape, window)
    if not shape.by:
        return f"{measure}_{window.name}", unit
    return measure if measure == "uptime_percent" else f"{measure}_{'minutes' if unit == MINUTE_US else 'hours'}", unit


def _figures(measure: str, body: Rows, place: int, unit_us: int) -> list[str]:
    if measure == "uptime_percent":
        uptime, downtime = body["uptime"][:, place], body["downtime"][:, place]
        return decimals(percent_hundredths(uptime, uptime + downtime))
    return decimals(hundredths(body[measure][:, place], unit_us))
