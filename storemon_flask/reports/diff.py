"""What changed from one report to another: row by row, ranked by the change of uptime in percentage points, and cell by
cell, the largest change first.

Reports can have a million rows. They are read as streams, by store, in step; one in another order is sorted into
temporary files first. In memory are the changes that are asked for, and a run of what is sorted.
"""

import csv
import heapq
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Any, Final, TextIO

from storemon_flask.database import files
from storemon_flask.errors import DataError, ReportFailed, Unprocessable
from storemon_flask.formatting import known_text, percent_of
from storemon_flask.reports.csv import LIKELY_COLUMNS, Altered, is_amount, text_rows

_KEY: Final = ("kind", "store_id", "group", "period", "daypart", "start")
# Said of a change of uptime that need not be one.
WITHIN_LIKELY: Final = "within what polls can tell"
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


@dataclass(frozen=True, slots=True)
class Percentage:
    """The uptime of a row in per cent: None where none of its time is known, with the note on one that knows little,
    and its likely range where the report has one."""

    value: Decimal | None
    known: str = ""
    likely: tuple[Decimal, Decimal] | None = None


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row in which cells differ: its uptime in both reports, None in one that has no such row.

    `verdict` is `better`, `worse`, `same` or `unknown`, and `reason` says why it is `unknown`. `largest_hours` is the
    largest change of a cell; `cells` are all that differ, where they are asked for.
    """

    row: dict[str, str]
    before: Percentage | None
    after: Percentage | None
    verdict: str
    reason: str
    largest_hours: Decimal
    cells: tuple[Change, ...] = ()

    @property
    def points(self) -> Decimal | None:
        """By how many percentage points uptime changed; None where it is unknown in one of the reports."""
        return _points(self.before, self.after)

    @property
    def within_likely(self) -> bool | None:
        """Whether the change is within what polls can tell: the likely ranges overlap; None where one has no range."""
        if self.before is None or self.after is None or self.before.likely is None or self.after.likely is None:
            return None
        (before_low, before_high), (after_low, after_high) = self.before.likely, self.after.likely
        return before_low <= after_high and after_low <= before_high

    @property
    def likely_note(self) -> str:
        """`WITHIN_LIKELY` where uptime changed and the change is within that; else nothing."""
        return WITHIN_LIKELY if self.points and self.within_likely else ""

    @property
    def rank(self) -> tuple[int, Decimal, Decimal, list[tuple[str, str]]]:
        """What rows are ranked by: the largest change of uptime first, then those that know little, then those without
        a percentage; equal ones by their largest change in hours."""
        little = any(one is not None and one.known for one in (self.before, self.after))
        points = self.points
        group = 2 if points is None else int(little)
        return group, -abs(points or Decimal(0)), -self.largest_hours, sorted(self.row.items())


@dataclass(slots=True)
class Diff:
    """How many cells differ, of how many stores, and the largest changes; and the rows in which they are, ranked.

    `window` is that of the percentages, of `windows` that both reports have; None where they have none. `verdicts`
    counts rows.
    """

    total: int = 0
    stores: int = 0
    changes: list[Change] = field(default_factory=list)
    rows: list[RowChange] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    window: str | None = None
    windows: tuple[str, ...] = ()

    @property
    def row_total(self) -> int:
        """How many rows differ."""
        return self.verdicts.total()


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report's CSV that is open, and what it shows differently (`Altered`)."""

    stream: TextIO
    altered: Altered


def compare(
    before: ReportFile, after: ReportFile, limit: int, window: str | None = None, detailed: bool = False
) -> Diff:
    """Compare the cells that two reports have both columns for; the result has the `limit` largest changes, and as many
    rows, those whose uptime in `window` changed most first (None: the last window that both have).

    With `detailed`, each row has its cells. Rows are matched by store, and by period, kind and start of an outage if
    there are any. Percentages are no cells that are compared: they follow from the rest.

    `Unprocessable` when the reports have no column of numbers in common or not that window, `DataError` when one is no
    report.
    """
    (old_header, old_ordered), (new_header, new_ordered) = _look_through(before), _look_through(after)
    columns = [name for name in old_header if name in new_header and is_amount(name)]
    if not columns:
        raise Unprocessable(
            "the two reports have no column of numbers in common; compare reports of the same windows",
            errors={"against": ["no column in common"]},
        )
    windows = tuple(
        name.removeprefix("uptime_")
        for name in columns
        if name.startswith("uptime_") and f"downtime_{name.removeprefix('uptime_')}" in columns
    )
    diff = Diff(windows=windows, window=_chosen(window, windows))
    percent = None if diff.window is None else _PercentColumns.of(diff.window, old_header, new_header)
    names = [*columns, *(percent.names if percent else ())]
    changes, rows = _Smallest(limit, _change_rank(columns)), _Smallest(limit, lambda one: one.rank)
    with ExitStack() as stack:
        old, new = (
            rows_of if ordered else _sorted(rows_of, stack)
            for rows_of, ordered in ((_rows(before, names), old_ordered), (_rows(after, names), new_ordered))
        )
        last_store = ""
        for key, one, other in _pairs(old, new):
            cells = [] if one == other else _changes(key, one, other, columns)
            if not cells:
                continue
            for change in cells:
                changes.add(change)
            row = _row_change(cells, one, other, percent)
            rows.add(replace(row, cells=tuple(cells)) if detailed else row)
            diff.verdicts[row.verdict] += 1
            diff.total += len(cells)
            store_id = key[0]
            diff.stores += bool(store_id) and store_id != last_store
            last_store = store_id
    diff.changes, diff.rows = changes.items(), rows.items()
    return diff


def _chosen(window: str | None, windows: Sequence[str]) -> str | None:
    if window is None or window in windows:
        return window or (windows[-1] if windows else None)
    allowed = ", ".join(windows) if windows else "left out: the reports have no window with up and down time"
    sentence = f"is {window[:100]!r}; it must be {allowed}"
    raise Unprocessable(f"window {sentence}", errors={"window": [sentence]})


@dataclass(frozen=True, slots=True)
class _PercentColumns:
    """Where the percentage of a window stands behind the cells that are compared: its `names`, and their indexes, which
    count from the end of a row; None where not both reports have the column."""

    names: tuple[str, ...]
    unit: str
    uptime: int
    downtime: int
    unknown: int | None
    business: int | None
    percent: int | None
    likely: tuple[int, int] | None

    @classmethod
    def of(cls, window: str, *headers: Sequence[str]) -> "_PercentColumns":
        """Return the columns of that window that both reports have."""
        amounts = {measure: f"{measure}_{window}" for measure in ("uptime", "downtime", "unknown", "business")}
        percent, low, high = (
            name if window in ("hours", "minutes") else f"{name}_{window}"
            for name in ("uptime_percent", *LIKELY_COLUMNS)
        )
        all_names = (*amounts.values(), percent, low, high)
        names = tuple(name for name in all_names if all(name in header for header in headers))
        at = {name: index - len(names) for index, name in enumerate(names)}
        unit = "min" if window in ("last_hour", "minutes") else "h"
        unknown, business = (at.get(amounts[measure]) for measure in ("unknown", "business"))
        likely = (at[low], at[high]) if low in at and high in at else None
        return cls(
            names, unit, at[amounts["uptime"]], at[amounts["downtime"]], unknown, business, at.get(percent), likely
        )

    def percentage(self, row: Sequence[str] | None) -> Percentage | None:
        """Return the percentage in the cells of a row, which are its last; None when there is no row."""
        if row is None:
            return None
        if self.percent is not None:
            value = _number(row[self.percent])
        else:
            # Of a report without percentages: from its cells, which are rounded to hundredths.
            up, down = _hundredths(row[self.uptime]), _hundredths(row[self.downtime])
            value = Decimal(percent_of(up, up + down)).scaleb(-2) if up + down else None
        likely = self._likely(row)
        if value is None or self.unknown is None or self.business is None:
            return Percentage(value, likely=likely)
        known = known_text(_hundredths(row[self.unknown]), _hundredths(row[self.business]), self.unit)
        return Percentage(value, known, likely)

    def _likely(self, row: Sequence[str]) -> tuple[Decimal, Decimal] | None:
        if self.likely is None:
            return None
        low, high = (_number(row[index]) for index in self.likely)
        return None if low is None or high is None else (low, high)


def _hundredths(cell: str) -> int:
    # As reports print it, it is read without a detour.
    if cell[-3:-2] == "." and cell[-2:].isdigit():
        return int(cell[:-3] + cell[-2:])
    return int((_number(cell) or Decimal(0)) * 100)


def _row_change(
    cells: list[Change], old: Sequence[str] | None, new: Sequence[str] | None, percent: _PercentColumns | None
) -> RowChange:
    largest = max(abs(_hours(change)) for change in cells)
    if percent is not None:
        before, after = percent.percentage(old), percent.percentage(new)
        verdict, reason = _verdict(_points(before, after)), _reason(before, after)
    else:
        before, after = (None if row is None else Percentage(None) for row in (old, new))
        minutes = next((change.change for change in cells if change.column == "down_minutes"), None)
        # Outages: less time down is better.
        verdict = _verdict(None if minutes is None else -minutes)
        reason = "" if verdict != "unknown" else _reason(before, after)
    return RowChange(cells[0].row, before, after, verdict, reason, largest)


def _points(before: Percentage | None, after: Percentage | None) -> Decimal | None:
    if before is None or after is None or before.value is None or after.value is None:
        return None
    return after.value - before.value


def _verdict(points: Decimal | None) -> str:
    if points is None:
        return "unknown"
    return "better" if points > 0 else "worse" if points < 0 else "same"


def _reason(before: Percentage | None, after: Percentage | None) -> str:
    """Return why there is no change of the percentage, in words; nothing when there is one."""
    if before is None or after is None:
        return f"not in the {'earlier' if before is None else 'later'} report"
    if before.value is None and after.value is None:
        return "no known time in either report"
    if before.value is None or after.value is None:
        return f"no known time in the {'earlier' if before.value is None else 'later'} report"
    return ""


class _Smallest:
    """The `limit` smallest of the items that are added, by a key; a few more are in memory."""

    def __init__(self, limit: int, key: Callable[[Any], Any]) -> None:
        self._limit = limit
        self._key = key
        self._items: list[Any] = []

    def add(self, item: Any) -> None:
        """Take an item."""
        self._items.append(item)
        if len(self._items) >= 2 * self._limit + _BATCH:
            self._items = self.items()

    def items(self) -> list[Any]:
        """Return the smallest items, in order."""
        return heapq.nsmallest(self._limit, self._items, key=self._key)


def _change_rank(columns: Sequence[str]) -> Callable[[Change], Any]:
    order = {name: index for index, name in enumerate(columns)}
    return lambda one: (-abs(_hours(one)), sorted(one.row.items()), order[one.column])


def _changes(
    key: tuple[str, ...], old: Sequence[str] | None, new: Sequence[str] | None, columns: Sequence[str]
) -> list[Change]:
    """Return the cells of a row that differ."""
    store_id, kind, *rest = key
    row = {name: value for name, value in zip(_KEY, (kind, store_id, *rest), strict=True) if value}
    if old is None or new is None:
        texts = old or new or ()
        numbers = [_number(text) for text, _ in zip(texts, columns, strict=False)]
        absent = [None] * len(columns)
        pairs = zip(columns, *((absent, numbers) if old is None else (numbers, absent)), strict=True)
        return [Change(row, column, before, after) for column, before, after in pairs]
    changes = []
    # The columns of the percentage stand behind those that are compared.
    for column, before_text, after_text in zip(columns, old, new, strict=False):
        if before_text != after_text:
            before, after = _number(before_text), _number(after_text)
            if before != after:
                changes.append(Change(row, column, before, after))
    return changes


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
    """Return the columns of numbers that may be compared, and whether rows are in the order of their keys; check all
    such numbers."""
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
    return [name for name in dict.fromkeys(header) if is_amount(name) or name.startswith("uptime_percent")]


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
