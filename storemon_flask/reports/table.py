"""A finished report to look at: its columns in words with their units, and a page of its rows, filtered and sorted."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Final

from storemon_flask import clock
from storemon_flask.errors import Gone, Unprocessable
from storemon_flask.formatting import known_text, knows_little
from storemon_flask.model import HOUR_US, MINUTE_US
from storemon_flask.reports.csv import Altered, is_number
from storemon_flask.reports.request import window_words

# Longer reports are shown in their own order: to sort one takes memory for each of its rows.
MOST_SORTED: Final = 200_000
# Wider ones are cut: nobody reads a row of four hundred cells, and a page of them is too large to send.
MOST_COLUMNS: Final = 48
# What a page holds, so that it stays small however wide the report is: cells, and bytes as rows of each kind have them.
_MOST_CELLS: Final = 3_600
_MOST_BYTES: Final = 112_000
_ID_BYTES, _TEXT_BYTES, _NUMBER_BYTES = 300, 80, 18
MOST_ROWS: Final = 500
_NOTHING: Final = ("", "0.00")
# Totals, which the CSV has at its end, come first: of all stores, then of groups.
_RANKS: Final = {"fleet": 0, "store": 2}
_RANK_OF_GROUPS: Final = 1
# So many totals move the rows of stores without a second pass over the CSV.
_TOTALS_AT_ONCE: Final = 500
_UNITS: Final = {
    "uptime_percent": "%", "change_points": "points",
    "uptime_percent_likely_low": "%", "uptime_percent_likely_high": "%",
}  # fmt: skip
_MEASURE_WORDS: Final = {
    "uptime_percent": "uptime", "change_points": "change",
    "uptime_percent_likely_low": "uptime likely low", "uptime_percent_likely_high": "uptime likely high",
}  # fmt: skip
# In the names of columns of the period before a window, in front of its name.
_PREVIOUS: Final = "previous_"
_FIRST: Final = ("store_id", "kind", "name", "group", "status_now")
# In the order in which they are looked for: some begin like others.
_MEASURES: Final = (
    "uptime_percent_likely_low", "uptime_percent_likely_high",
    "change_points", "uptime_percent", "uptime_low", "uptime_high", "uptime", "downtime",
    "unknown", "business", "measured",
)  # fmt: skip
_EXTRA: Final = (
    "business", "measured", "uptime_low", "uptime_high", "uptime_percent_likely", "polls", "last_poll", "timezone",
    "start_earliest", "start_latest", "end_earliest", "end_latest",
)  # fmt: skip
_WORDS: Final = {
    "store_id": "store", "status_now": "status", "timezone": "time zone", "last_poll_utc": "newest poll",
    "polls_last_week": "polls last week", "down_minutes": "down",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name in the CSV: in words, its unit (empty if it has none), the measure it is of, and what
    its name says after that."""

    name: str
    words: str
    unit: str
    numeric: bool
    measure: str = ""
    suffix: str = ""

    @property
    def extra(self) -> bool:
        """Whether it says how sure another column is, or where that comes from: paper has no room for it."""
        return self.measure in _EXTRA or self.name.startswith(_EXTRA)


@dataclass(frozen=True, slots=True)
class View:
    """Which page of a report: its `number` from 1, sorted by the column `sort` (None: as the report), of rows that have
    `text` in one of their texts."""

    sort: str | None = None
    descending: bool = False
    text: str = ""
    number: int = 1
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A page of rows, cells as in the CSV but ids and names as they are. `matching` rows match the filter, of `total`;
    `totals` of those that match are totals, which come first.

    Beside each cell are its tone and, of a percentage that knows little, of how much it is. `hidden` columns are in the
    CSV alone. `limit` is the rows of a page, fewer than asked for where the report is wide, and at most `most`; `first`
    is the first row of this page, from 0.
    """

    columns: list[Column]
    rows: list[list[str]]
    tones: list[list[str]]
    known: list[list[str]]
    total: int
    matching: int
    totals: int
    hidden: int
    limit: int
    first: int
    most: int

    @property
    def ids(self) -> list[str]:
        """The stores of the rows, each once."""
        index = next((index for index, column in enumerate(self.columns) if column.name == "store_id"), None)
        return [] if index is None else list(dict.fromkeys(cells[index] for cells in self.rows if cells[index]))

    @property
    def measures(self) -> set[str]:
        """What the columns shown are measures of."""
        return {column.measure for column in self.columns if column.measure}


def read_table(
    file: Path,
    altered: Altered,
    windows: Mapping[str, int],
    view: View,
    also: Collection[str] = frozenset(),
    link_bytes: int = 0,
) -> ReportTable:
    """Return a page of rows of the report's CSV, the totals before the stores and percentages before amounts of time.

    `windows` are the lengths of its windows in microseconds (0 where that differs from store to store). Rows of the
    stores `also` match the filter in any case. `link_bytes` is how much longer than usual the address of a store is.

    `Unprocessable` for a column that it does not have and for sorting one that is too long, `Gone` without the file.
    """
    rows = _rows(file, altered)
    header = next(rows)
    columns = [describe_column(name, tuple(windows)) for name in header]
    most = _most_rows(columns, link_bytes)
    limit = max(1, min(view.limit, most))
    first = (view.number - 1) * limit
    scan = _Scan(columns, view.text.casefold(), also)
    if view.sort is None:
        picked = _rows_of_page(scan, rows, first, limit)
        if picked is None:
            again = _Scan(columns, view.text.casefold(), also)
            picked = _rows_of_page(again, islice(_rows(file, altered), 1, None), first, limit, scan.matching_ranks)
    else:
        numbers = _sort_rows(scan, rows, columns, view)[first : first + limit]
        picked = _pick(islice(_rows(file, altered), 1, None), numbers)
    order = _shown(columns, scan.empty, tuple(windows))
    shown = [columns[index] for index in order]
    by_name = [dict(zip(header, cells, strict=False)) for cells in picked or []]
    return ReportTable(
        shown,
        [[cells[index] for index in order] for cells in picked or []],
        [[tone(column, cells, windows) for column in shown] for cells in by_name],
        [[known_note(column, cells) for column in shown] for cells in by_name],
        scan.total,
        scan.matching,
        sum(scan.matching_ranks[:-1]),
        len(columns) - len(scan.empty) - len(shown),
        limit,
        first,
        most,
    )


class _Scan:
    """One pass over all rows of a report: how many there are and match, and the columns of names that are `empty`.

    `matching_ranks` counts the rows that match by their rank: all stores, groups, single stores.
    """

    def __init__(self, columns: Sequence[Column], text: str, also: Collection[str]) -> None:
        names = [column.name for column in columns]
        self.total = 0
        self.matching_ranks = [0, 0, 0]
        self._names = [index for index, name in enumerate(names) if name in ("name", "group")]
        self.has_totals = "kind" in names
        self._kind = names.index("kind") if self.has_totals else 0
        self._store = names.index("store_id") if "store_id" in names else 0
        self._texts = [index for index, column in enumerate(columns) if not column.numeric]
        self._text = text
        self._also = also

    @property
    def empty(self) -> Set[int]:
        """The indexes of columns of names that no row so far has one in."""
        return set(self._names)

    @property
    def matching(self) -> int:
        """How many rows match."""
        return sum(self.matching_ranks)

    def matching_rows(self, rows: Iterable[list[str]]) -> Iterator[tuple[int, int, list[str]]]:
        """Yield the number, the rank and the cells of each row that matches."""
        counts, rank = self.matching_ranks, 2
        for row, cells in enumerate(rows):
            self.total += 1
            for index in self._names:
                # Totals are of no store: their group is what they are of, even when that is none.
                if cells[index] or not cells[self._store]:
                    self._names = [index for index in self._names if not cells[index] and cells[self._store]]
                    break
            if self._matches(cells):
                if self.has_totals:
                    rank = _RANKS.get(cells[self._kind], _RANK_OF_GROUPS)
                counts[rank] += 1
                yield row, rank, cells

    def _matches(self, cells: Sequence[str]) -> bool:
        if not self._text or cells[self._store] in self._also:
            return True
        return any(self._text in cells[index].casefold() for index in self._texts)


def _rows_of_page(
    scan: _Scan, rows: Iterable[list[str]], first: int, limit: int, ranks: Sequence[int] | None = None
) -> list[list[str]] | None:
    """Return the cells of the rows from `first` on, in the order of their ranks.

    Where each rank begins is known after the last row, or from `ranks`, the counts of an earlier pass. Rows that may be
    on the page are remembered; None when one that is was not.
    """
    ahead = _TOTALS_AT_ONCE if scan.has_totals else 0
    edges = [(first - ahead, first + limit)] * 3 if ranks is None else _edges(ranks, first, limit)
    remembered: list[list[list[str]]] = [[], [], []]
    counts = scan.matching_ranks
    for _, rank, cells in scan.matching_rows(rows):
        low, high = edges[rank]
        if low < counts[rank] <= high:
            remembered[rank].append(cells)
    picked: list[list[str]] = []
    for (low, high), (known, _), cells_of_rank in zip(_edges(counts, first, limit), edges, remembered, strict=True):
        if low < high and low < known:
            return None
        picked += cells_of_rank[low - max(known, 0) : high - max(known, 0)] if low < high else []
    return picked


def _edges(counts: Sequence[int], first: int, limit: int) -> list[tuple[int, int]]:
    """Return from which to which of its rows each rank has on a page."""
    edges, start = [], 0
    for count in counts:
        edges.append((min(max(first - start, 0), count), min(max(first + limit - start, 0), count)))
        start += count
    return edges


def _most_rows(columns: Sequence[Column], link_bytes: int) -> int:
    shown = columns[:MOST_COLUMNS]
    row = _ID_BYTES + link_bytes + sum(_NUMBER_BYTES if column.numeric else _TEXT_BYTES for column in shown[1:])
    return max(1, min(MOST_ROWS, _MOST_CELLS // max(len(shown), 1), _MOST_BYTES // row))


def tone(column: Column, cells: Mapping[str, str], windows: Mapping[str, int]) -> str:
    """Return the tone of a cell of a row (by column name): `down`, `unknown`, `up`, `little`, `better`, `worse`, or
    nothing.

    `little` is a percentage that knows little (`known_note`), whatever it is. `up` needs a proof that nothing is
    unknown: a column that says so, or uptime as long as the window or period is (`windows` as of `page`). That a report
    has no column of unknown time proves nothing.
    """
    value = cells[column.name]
    some = value not in _NOTHING
    if column.measure == "change_points":
        return "" if not some else "worse" if value.startswith("-") else "better"
    if column.measure == "downtime" or column.name == "down_minutes":
        return "down" if some else ""
    if column.measure == "unknown":
        return "unknown" if some else ""
    if column.measure not in ("uptime", "uptime_percent"):
        return ""
    suffixes = _suffixes(column)

    def amount(measure: str) -> bool:
        """Return whether a measure has an amount above zero in any window."""
        return any(cells.get(measure + suffix, "") not in _NOTHING for suffix in suffixes)

    if column.measure == "uptime":
        return "up" if some and not amount("downtime") and _known(column, cells, suffixes, windows) else ""
    if not value:
        return "unknown" if amount("unknown") else ""
    if known_note(column, cells):
        return "little"
    # Of a large fleet, 100.00 is a rounded figure.
    if value != "100.00" or amount("downtime"):
        return "down"
    return "up" if _known(column, cells, suffixes, windows) else ""


def _suffixes(column: Column) -> tuple[str, ...]:
    """Return how the names of the amounts end that belong to a column: a percentage of a period stands beside hours or
    minutes, that of a window beside amounts of the same window."""
    return (column.suffix,) if column.suffix else ("_hours", "_minutes")


def known_note(column: Column, cells: Mapping[str, str]) -> str:
    """Return of how much a percentage is, where that is little; nothing for other cells and where that is unknown."""
    if column.measure != "uptime_percent" or not cells[column.name]:
        return ""
    for suffix in _suffixes(column):
        unknown, business = (_hundredths(cells.get(f"{measure}{suffix}", "")) for measure in ("unknown", "business"))
        if unknown is not None and business is not None:
            minutes = suffix in ("_minutes", "_last_hour", f"_{_PREVIOUS}last_hour")
            return known_text(unknown, business, "min" if minutes else "h")
    return ""


def _little(columns: Sequence[Column], by: int) -> Callable[[Sequence[str]], bool] | None:
    """Return which rows have a percentage in that column that knows little; None for a column of no percentages."""
    names = {column.name: index for index, column in enumerate(columns)}
    pairs = [(names.get(f"unknown{suffix}"), names.get(f"business{suffix}")) for suffix in _suffixes(columns[by])]
    both = next((pair for pair in pairs if None not in pair), None)
    if columns[by].measure != "uptime_percent" or both is None:
        return None

    def little(cells: Sequence[str]) -> bool:
        """Return whether a row's percentage rests on too little that is known."""
        unknown, business = (_hundredths(cells[index]) for index in both if index is not None)
        return unknown is not None and business is not None and knows_little(unknown, business)

    return little


def _hundredths(cell: str) -> int | None:
    """Return a cell of two decimals as an integer; None when it is none."""
    value = _key(cell, True)
    return int(value * 100) if isinstance(value, Decimal) and value.is_finite() else None


def _known(column: Column, cells: Mapping[str, str], suffixes: Sequence[str], windows: Mapping[str, int]) -> bool:
    """Return whether the report shows that none of the row's time is unknown."""
    unknown = [cells[f"unknown{suffix}"] for suffix in suffixes if f"unknown{suffix}" in cells]
    if unknown:
        return unknown == ["0.00"]
    # A sum over several stores may be as long as the window though most of it is unknown.
    if column.measure != "uptime" or cells.get("kind", "store") != "store":
        return False
    unit_us = MINUTE_US if column.unit == "min" else HOUR_US
    length_us = _period_us(cells) or windows.get(column.suffix[1:], 0)
    uptime = _key(cells[column.name], True)
    return length_us > 0 and isinstance(uptime, Decimal) and uptime * unit_us == length_us


def _period_us(cells: Mapping[str, str]) -> int:
    """Return how long the row's period is; 0 when it has none."""
    try:
        return clock.parse_timestamp(cells["period_end"]) - clock.parse_timestamp(cells["period_start"])
    except (KeyError, ValueError):
        return 0


def describe_column(name: str, windows: Sequence[str]) -> Column:
    """Return what a column is, by its name in the CSV and the names of the report's windows."""
    # A header that a spreadsheet would run begins with a `'`, but none of a measure's does.
    for measure in _MEASURES:
        suffix = name[len(measure) :]
        window = suffix[1:]
        if suffix and window.startswith(_PREVIOUS) and window not in windows:
            window = window.removeprefix(_PREVIOUS)
        if not name.startswith(measure) or not (suffix in ("", "_hours", "_minutes") or window in windows):
            continue
        minutes = suffix == "_minutes" or window == "last_hour"
        unit = _UNITS.get(measure, "min" if minutes else "h")
        words = _MEASURE_WORDS.get(measure, measure.replace("_", " "))
        about = "" if suffix in ("", "_hours", "_minutes") else window_words(window)
        before = "" if window == suffix[1:] else ", before"
        return Column(name, f"{words} {about}".strip() + before, unit, True, measure, suffix)
    words = _WORDS.get(name, name.replace("_", " "))
    return Column(name, words, "min" if name == "down_minutes" else "", is_number(name))


def window_text(window: str) -> str:
    """Return what a percentage is of in words, by what follows it in the name of its columns: a window, or a period."""
    return "" if window in ("hours", "minutes") else window_words(window)


def _shown(columns: Sequence[Column], empty: Set[int], windows: Sequence[str]) -> list[int]:
    """Return indexes of the columns to show: what a person knows a store by comes first, then percentages, window by
    window, wherever the CSV has them.

    Names and groups that no store has (their indexes are `empty`) are left out.
    """
    names = [column.name for column in columns]
    first = [names.index(name) for name in _FIRST if name in names]
    texts = {index for index, column in enumerate(columns) if not column.numeric and not column.extra}
    percents = [index for index, name in enumerate(names) if name.startswith(tuple(_UNITS))]
    percents.sort(key=lambda index: _window_number(names[index], windows))
    lead = min(percents, default=0)
    before = [index for index in range(lead) if index in texts and index not in first]
    order = [*first, *before, *percents]
    order += [index for index in range(len(columns)) if index not in set(order)]
    return [index for index in order if index not in empty][:MOST_COLUMNS]


def _window_number(name: str, windows: Sequence[str]) -> int:
    """Return the index of the window that a column is of; the longest name counts, as one may end like another."""
    ends = [(len(window), -index) for index, window in enumerate(windows) if name.endswith(f"_{window}")]
    return -max(ends)[1] if ends else len(windows)


def _index(columns: Sequence[Column], name: str) -> int:
    for index, column in enumerate(columns):
        if column.name == name:
            return index
    raise Unprocessable(
        f"the report has no column {name[:100]!r}; sort by one that it has", errors={"sort": ["no such column"]}
    )


def _key(cell: str, numeric: bool) -> str | Decimal | None:
    if not numeric:
        return cell.casefold() or None
    try:
        return Decimal(cell)
    except InvalidOperation:
        return None


# What a row is sorted by, whether that is a percentage which knows little, the row's rank, and its number.
_SortKey = tuple[str | Decimal | None, bool, int, int]


def _sort_rows(scan: _Scan, rows: Iterable[list[str]], columns: Sequence[Column], view: View) -> list[int]:
    """Return the numbers of the rows in the order of the view."""
    by = _index(columns, view.sort or "")
    little = _little(columns, by)
    keys: list[_SortKey] = []
    for row, rank, cells in scan.matching_rows(rows):
        if len(keys) == MOST_SORTED:
            raise Unprocessable(
                f"more than {MOST_SORTED:,} rows are not sorted here; filter them first, or sort the CSV",
                errors={"sort": ["too many rows"]},
            )
        keys.append((_key(cells[by], columns[by].numeric), little is not None and little(cells), rank, row))
    return _in_order(keys, view.descending)


def _in_order(keys: list[_SortKey], descending: bool) -> list[int]:
    """Return row numbers in the order of their keys, equal ones as in the report.

    Whichever way, totals come first, percentages that know little after those that know enough, and rows without a key
    last.
    """
    present = [key for key in keys if key[0] is not None]
    present.sort(key=lambda key: key[0], reverse=descending)  # type: ignore[arg-type,return-value]
    present.sort(key=lambda key: key[1])
    ordered = present + [key for key in keys if key[0] is None]
    ordered.sort(key=lambda key: key[2])
    return [key[3] for key in ordered]


def _pick(rows: Iterator[list[str]], numbers: Sequence[int]) -> list[list[str]]:
    chosen = set(numbers)
    picked = {
        number: cells for number, cells in enumerate(islice(rows, max(chosen, default=-1) + 1)) if number in chosen
    }
    return [picked[number] for number in numbers if number in picked]


def _rows(file: Path, altered: Altered) -> Iterator[list[str]]:
    """Yield the header, then the rows as lists as long as it, ids and names as they are; `Gone` without the file."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            header = next(rows, [])
            yield header
            raw = {header.index(name): texts for name, texts in altered.items() if name in header}
            for number, cells in enumerate(rows):
                cells += [""] * (len(header) - len(cells))
                for index, texts in raw.items():
                    cells[index] = texts.get(number, cells[index])
                yield cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Gone(f"the report's file {file.name} cannot be read ({error}); ask for a new report") from None
