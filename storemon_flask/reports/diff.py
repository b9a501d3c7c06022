"""What changed from one report to another: store by store, cell by cell, the largest change first.

Reports can have a million rows. They are read as streams, by store, in step; one in another order is sorted into
temporary files first. In memory are the changes that are asked for, and a piece of what is sorted.
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


@dataclass(frozen=True, slots=True)
class Change:
    """One cell that differs; None where a report has no such row, or the cell is empty.

    `hours` is how much, for the order.
    """

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
    (old_columns, old_ordered), (new_columns, new_ordered) = _looked_through(before), _looked_through(after)
    columns = [name for name in old_columns if name in new_columns]
    if not columns:
        raise Unprocessable(
            "the two reports have no column of numbers in common; trigger both with the same windows",
            people="the two reports have no column of figures in common, so there is nothing to compare",
            errors={"against": ["no column in common"]},
        )
    found = Diff()
    with ExitStack() as stack:
        old, new = (
            _latest(rows if ordered else _sorted(rows, stack))
            for rows, ordered in ((_rows(before, columns), old_ordered), (_rows(after, columns), new_ordered))
        )
        found.changes = heapq.nsmallest(
            limit,
            _changes(_pairs(old, new), columns, found),
            key=lambda one: (-abs(_hours(one)), sorted(one.row.items()), columns.index(one.column)),
        )
    return found


def _changes(
    pairs: Iterator[tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]],
    columns: Sequence[str],
    found: Diff,
) -> Iterator[Change]:
    """The cells that differ, which are counted in `found`."""
    last_store = ""
    for key, one, other in pairs:
        if one == other:
            continue
        for place, column in enumerate(columns):
            left, right = (None if cells is None else _number(cells[place]) for cells in (one, other))
            if left == right and one is not None and other is not None:
                continue
            store_id, kind, *rest = key
            row = {name: value for name, value in zip(_KEY, (kind, store_id, *rest), strict=True) if value}
            found.total += 1
            found.stores += bool(store_id) and store_id != last_store
            last_store = store_id
            yield Change(row, column, left, right)


def _pairs(
    old: Iterator[_Row], new: Iterator[_Row]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]]:
    """Key and cells in both of every row of either."""
    one, other = next(old, None), next(new, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], None
            one = next(old, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(new, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(old, None), next(new, None)


def _latest(rows: Iterator[_Row]) -> Iterator[_Row]:
    """The last row of each key."""
    for _, alike in groupby(rows, key=itemgetter(0)):
        *_, last = alike
        yield last


def _looked_through(report: ReportFile) -> tuple[list[str], bool]:
    """The columns of amounts of time, and whether the rows are in the order of their keys.

    Every amount is a number then.
    """
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
    """The keys of all rows, and their cells in those columns, empty where a line is too short."""
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
    """The rows in the order of their keys, equal ones as they come; pieces wait in files that `stack` closes."""
    pieces: list[Iterator[_Row]] = []
    first = next(rows, None)
    size = max(1, _SORTED_CELLS // (len(_KEY) + len(first[1]))) if first else 1
    piece = [] if first is None else [first, *islice(rows, size - 1)]
    while piece:
        piece.sort(key=itemgetter(0))
        following = list(islice(rows, size))
        pieces.append(_put_aside(piece, stack) if following or pieces else iter(piece))
        piece = following
    return heapq.merge(*pieces, key=itemgetter(0))


def _put_aside(rows: list[_Row], stack: ExitStack) -> Iterator[_Row]:
    try:
        file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=files.temporary_folder()))  # noqa: SIM115
        for at in range(0, len(rows), _BATCH):
            pickle.dump(rows[at : at + _BATCH], file, pickle.HIGHEST_PROTOCOL)
        file.seek(0)
    except OSError as error:
        raise files.no_temporary_room(error, "the reports cannot be compared") from error
    return _read_back(file, len(rows))


def _read_back(file: IO[bytes], count: int) -> Iterator[_Row]:
    for _ in range(0, count, _BATCH):
        yield from pickle.load(file)


def _number(cell: str) -> Decimal | None:
    return Decimal(cell) if cell else None


def _hours(change: Change) -> Decimal:
    minutes = change.column.endswith(("_last_hour", "_minutes"))
    return change.change / 60 if minutes else change.change
