"""What a scheduled report says in short: read from the cells of the report that people can fetch, to the digit."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from storemon_flask.characters import count_text
from storemon_flask.database.reports import ReportRecord
from storemon_flask.reports.csv import text_rows
from storemon_flask.reports.request import stored_query, window_words
from storemon_flask.reports.table import describe_column, known_note

MOST_WORST: Final = 10


@dataclass(frozen=True, slots=True)
class StoreLine:
    """A store in the list of the worst: cells of the report."""

    store_id: str
    name: str
    group: str
    percent: str
    downtime: str
    unknown: str
    business: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a report, and its worst stores: those with down time and the lowest percentages.

    `known` says of how much the percentage is where that is little. Of the `stores`, `below` are below the percentage
    of the schedule, not counting those `little_known`, whose own percentages say little, or that have none although
    they had business time.
    """

    window: str
    unit: str
    percent: str
    known: str
    uptime: str
    downtime: str
    unknown: str
    business: str
    lowest: str
    highest: str
    stores: int
    below: int
    little_known: int
    worst: list[StoreLine]


def summarize(record: ReportRecord, file: Path, below_hundredths: int) -> Summary:
    """Return the summary of a complete report of all columns with totals, of one window. `OSError` without the file."""
    (window,) = stored_query(record).windows
    with file.open(encoding="utf-8", newline="") as lines:
        return _summarize(text_rows(lines, record.altered), window.name, below_hundredths)


def sentence(name: str, summary: Summary, below_hundredths: int) -> str:
    """Return the answer in one sentence, as it stands in the subject."""
    window = window_words(summary.window)
    if not summary.percent:
        return f"{name}: nothing is known of {window}"
    known = f" ({summary.known})" if summary.known else ""
    how_many = count_text(summary.below, "store") if summary.below else "no store"
    return f"{name}: {summary.percent} % up {window}{known}, {how_many} below {percent_text(below_hundredths)} %"


def percent_text(hundredths: int) -> str:
    """Return a percentage as people type it: `97`, `99.5`."""
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")


def _summarize(rows: Iterator[dict[str, str]], window: str, below_hundredths: int) -> Summary:
    percentage = describe_column(f"uptime_percent_{window}", [window])
    down = f"downtime_{window}"
    fleet: dict[str, str] = {}
    stores = below = little = 0
    threshold = Decimal(below_hundredths) / 100

    def down_ones() -> Iterator[tuple[Decimal, int, dict[str, str]]]:
        """Yield the stores that were down, and count the others on the way."""
        nonlocal fleet, stores, below, little
        for cells in rows:
            if cells["kind"] == "fleet":
                fleet = cells
            elif cells["kind"] == "store":
                stores += 1
                percent = cells[percentage.name]
                if known_note(percentage, cells) or (not percent and cells[f"business_{window}"] != "0.00"):
                    little += 1
                elif percent:
                    below += Decimal(percent) < threshold
                    if cells[down] != "0.00":
                        # As the page of the report sorts: equal ones in the order of the report.
                        yield Decimal(percent), stores, cells

    worst = heapq.nsmallest(MOST_WORST, down_ones())
    amount = {name: fleet.get(f"{name}_{window}", "0.00") for name in _AMOUNTS}
    return Summary(
        window=window,
        unit=describe_column(down, [window]).unit,
        percent=fleet.get(percentage.name, ""),
        known=known_note(percentage, fleet) if fleet else "",
        uptime=amount["uptime"],
        downtime=amount["downtime"],
        unknown=amount["unknown"],
        business=amount["business"],
        lowest=amount["uptime_low"],
        highest=amount["uptime_high"],
        stores=stores,
        below=below,
        little_known=little,
        worst=[_line(cells, window) for _, _, cells in worst],
    )


_AMOUNTS: Final = ("uptime", "downtime", "unknown", "business", "uptime_low", "uptime_high")


def _line(cells: dict[str, str], window: str) -> StoreLine:
    amounts = (cells[f"{name}_{window}"] for name in ("uptime_percent", "downtime", "unknown", "business"))
    return StoreLine(cells["store_id"], cells["name"], cells["group"], *amounts)
