"""What changed from one report to another: store by store, cell by cell, the largest change first."""

import io
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from storemon_flask.errors import DataError, Unprocessable
from storemon_flask.services import report_text
from storemon_flask.services.report_text import Altered

_KEY: Final = ("kind", "store_id", "group", "period", "start")


@dataclass(frozen=True, slots=True)
class Change:
    """One cell that differs; None where a report has no such row, or the cell is empty. `hours` is how much, for the order."""

    row: dict[str, str]
    column: str
    before: Decimal | None
    after: Decimal | None

    @property
    def change(self) -> Decimal:
        """By how much, in the column's unit; a missing cell counts as 0."""
        return (self.after or Decimal(0)) - (self.before or Decimal(0))


def changes(before: tuple[str, Altered], after: tuple[str, Altered]) -> list[Change]:
    """Every cell that two reports (CSV, and what it shows differently) have both columns for and that differs.

    `Unprocessable` when they have no column of numbers in common, `DataError` when one is no report. Rows are matched by store, and by period, kind and start of an outage if there
    are any. Percentages are left out: they follow from the rest.
    """
    (old_columns, old), (new_columns, new) = (_table(*report) for report in (before, after))
    columns = [name for name in old_columns if name in new_columns]
    if not columns:
        raise Unprocessable(
            "the two reports have no column of numbers in common; trigger both with the same windows",
            people="the two reports have no column of figures in common, so there is nothing to compare",
            errors={"against": ["no column in common"]},
        )
    found = []
    for key in old.keys() | new.keys():
        one, other = old.get(key), new.get(key)
        for column in columns:
            left = one[column] if one else None
            right = other[column] if other else None
            if left != right or (one is None) != (other is None):
                row = {name: value for name, value in zip(_KEY, key, strict=True) if value}
                found.append(Change(row, column, left, right))
    return sorted(found, key=lambda one: (-abs(_hours(one)), sorted(one.row.items()), columns.index(one.column)))


def _hours(change: Change) -> Decimal:
    minutes = change.column.endswith(("_last_hour", "_minutes"))
    return change.change / 60 if minutes else change.change


def _table(text: str, altered: Altered) -> tuple[list[str], dict[tuple[str, ...], dict[str, Any]]]:
    """The columns of amounts of time, and the rows by key."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    columns: list[str] = []
    for row in report_text.text_rows(io.StringIO(text, newline=""), altered):
        columns = columns or [name for name in row if name and report_text.is_amount(name)]
        try:
            cells = {name: Decimal(row[name]) if row[name] else None for name in columns}
        except InvalidOperation:
            raise DataError(f"line {len(rows) + 2} has a cell that is no number; this is no report") from None
        rows[tuple(row.get(name) or "" for name in _KEY)] = cells
    if not columns:
        columns = [name for name in text.partition("\n")[0].split(",") if report_text.is_amount(name)]
    return columns, rows
