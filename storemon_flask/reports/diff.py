"""What changed from one report to another: store by store, cell by cell, the largest change first.

Reports can have a million rows. They are read as streams, by store, in step; one in another order is sorted into
temporary files first. In memory are the changes that are asked for, and a run of what is sorted.
"""

import csv
import heapq
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Final, TextIO

from storemon_flask.database import files
from storemon_flask.errors import DataError, ReportFailed, Unprocessable
from storemon_flask.reports.csv import Altered, is_amount, text_rows

_KEY: Final = ("kind", "store_id", "group", "period", "start")
# Cells that are sorted at once, and rows that are written and read at once.
_SORTED_CELLS: Final = 400_000
_BATCH: Final = 1000

# What rows are matched by: the store first, then the rest of `_KEY`. And the texts of the cells that are compared.
_Row = tuple[tuple[str, ...], tuple[str, ...]]
# The same of two reports; None where one has no such row.
_Pair = tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One cell that differs; None where a report has no such row, or the cell is empty."""

    row: dict[str, str]
    column: str
    before: Decimal | None
    after: Decimal | None

    @property
    def change(self) -> Decimal:
        """By how much, in the column's unit; a missing cell counts as 0."""
        return (self.after or Decimal(0)) - (self.before or Decimal(0))


@dataclass(slots=True)
class Diff:
    """How many cells differ, of how many stores, and the largest changes."""

    total: int = 0
    stores: int = 0
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report's CSV that is open, and what it shows differently (`Altered`)."""

    stream: TextIO
    altered: Altered


def compare(before: ReportFile, after: ReportFile, limit: int) -> Diff:
    """Compare the cells that two reports have both columns for; the result has the `limit` largest changes.

    `Unprocessable` when they have no column of numbers in common, `DataError` when one is no report. Rows are matched
    by store, and by period, kind and start of an outage if there are any. Percentages are left out: they follow from
    the rest.
    """
    (old_columns, old_ordered), (new_columns, new_ordered) = _look_through(before), _look_through(after)
    columns = [name for name in old_columns if name in new_columns]
    if not columns:
        raise Unprocessable(
            "the two reports have no column of numbers in common; compare reports of the same windows",
            errors={"against": ["no column in common"]},
        )
    diff = Diff()
    with ExitStack() as stack:
        old, new = (
            rows if ordered else _sorted(rows, stack)
            for rows, ordered in ((_rows(before, columns), old_ordered), (_rows(after, columns), new_ordered))
        )
        diff.changes = heapq.nsmallest(
            limit,
            _changes(_pairs(old, new), columns, diff),
            key=lambda one: (-abs(_hours(one)), sorted(one.row.items()), columns.index(one.column)),
        )
    return diff


def _changes(pairs: Iterator[_Pair], columns: Sequence[str], diff: Diff) -> Iterator[Change]:
    """Yield the cells that differ, which are counted in `diff`."""
    last_store = ""
    for (store_id, kind, *rest), old, new in pairs:
        if old == new:
            continue
        for index, column in enumerate(columns):
            before, after = (None if cells is None else _number(cells[index]) for cells in (old, new))
            if before == after and old is not None and new is not None:
                continue
            row = {name: value for name, value in zip(_KEY, (kind, store_id, *rest), strict=True) if value}
            diff.total += 1
            diff.stores += bool(store_id) and store_id != last_store
            last_store = store_id
            yield Change(row, column, before, after)


def _pairs(old: Iterator[_Row], new: Iterator[_Row]) -> Iterator[_Pair]:
    """Yield key and cells in both of every row of either; the last row of each key counts."""
    both = heapq.merge(
        ((key, 0, cells) for key, cells in old), ((key, 1, cells) for key, cells in new), key=itemgetter(0)
    )
    for key, rows in groupby(both, key=itemgetter(0)):
        cells: list[tuple[str, ...] | None] = [None, None]
        for _, side, texts in rows:
            cells[side] = texts
        yield key, cells[0], cells[1]


def _look_through(report: ReportFile) -> tuple[list[str], bool]:
    """Return the columns of amounts of time, and whether rows are in the order of their keys; check all amounts."""
    columns = _columns(report)
    last: tuple[str, ...] = ()
    ordered = True
    for number, (key, cells) in enumerate(_rows(report, columns), start=2):
        try:
            if not all(_number(cell).is_finite() for cell in cells if cell):  # type: ignore[union-attr]
                raise InvalidOperation
        except InvalidOperation:
            raise DataError(f"line {number} has a cell that is no number; this is no report") from None
        ordered = ordered and last <= key
        last = key
    return columns, ordered


def _columns(report: ReportFile) -> list[str]:
    with _reading(report):
        report.stream.seek(0)
        header = next(csv.reader(report.stream), [])
    return [name for name in dict.fromkeys(header) if is_amount(name)]


def _rows(report: ReportFile, columns: Sequence[str]) -> Iterator[_Row]:
    """Yield the keys of all rows, and their cells in those columns, empty where a line is too short."""
    with _reading(report):
        report.stream.seek(0)
        for row in text_rows(report.stream, report.altered):
            kind, store_id, *rest = [row.get(name) or "" for name in _KEY]
            yield (store_id, kind, *rest), tuple([row[name] or "" for name in columns])


@contextmanager
def _reading(report: ReportFile) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise DataError(f"a line cannot be read as CSV ({error}); this is no report") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportFailed(f"{report.stream.name} cannot be read: {error}") from None


def _sorted(rows: Iterator[_Row], stack: ExitStack) -> Iterator[_Row]:
    """Return the rows in the order of their keys, equal ones as they come; `stack` closes the files they are in."""
    runs: list[Iterator[_Row]] = []
    first = next(rows, None)
    size = max(1, _SORTED_CELLS // (len(_KEY) + len(first[1]))) if first else 1
    run = [] if first is None else [first, *islice(rows, size - 1)]
    while run:
        run.sort(key=itemgetter(0))
        following = list(islice(rows, size))
        runs.append(_write_run(run, stack) if following or runs else iter(run))
        run = following
    return heapq.merge(*runs, key=itemgetter(0))


def _write_run(rows: list[_Row], stack: ExitStack) -> Iterator[_Row]:
    try:
        file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=files.temporary_folder()))  # noqa: SIM115
        for at in range(0, len(rows), _BATCH):
            pickle.dump(rows[at : at + _BATCH], file, pickle.HIGHEST_PROTOCOL)
        file.seek(0)
    except OSError as error:
        raise files.no_temporary_room(error, "the reports cannot be compared") from error
    return _read_run(file, len(rows))


def _read_run(file: IO[bytes], count: int) -> Iterator[_Row]:
    for _ in range(0, count, _BATCH):
        yield from pickle.load(file)


def _number(cell: str) -> Decimal | None:
    return Decimal(cell) if cell else None


def _hours(change: Change) -> Decimal:
    minutes = change.column.endswith(("_last_hour", "_minutes"))
    return change.change / 60 if minutes else change.change
