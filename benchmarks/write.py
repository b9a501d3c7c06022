"""The table and the plots of docs/benchmarks.md."""

import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench import Bench, Row

DOCS = Path(__file__).resolve().parent.parent / "docs"


def line(row: Row) -> str:
    """One row for people: medians, ratio, what was to be reached."""
    reach = "" if row.reach is None else f"{row.reach:.2f}"
    return (
        f"| {row.what} | {row.data} | {_figure(row.ours, row.unit)} | {row.against} | {_figure(row.other, row.unit)} "
        f"| **{row.ratio:.2f}** | {reach} | {'' if row.peak_mb is None else f'{row.peak_mb:.0f}'} |"
    )


def document(bench: Bench) -> None:
    """Write docs/benchmarks.md."""
    head = f"""# How fast it is

Measured on {datetime.now(UTC):%Y-%m-%d} with `make bench`: Python {platform.python_version()}, {os.cpu_count()} cores,
{platform.system()} {platform.machine()}. The machine is shared, so read the ratios: ours and the other took turns, {bench.runs}
times each after a run that does not count. A figure is the median with the smallest and largest run in brackets, a ratio the
median of the ratios run by run. Two reports of one fleet agreed to 0.01 in every cell before their times counted.

| what | data | storemon | against | other | ratio | to reach | peak MB |
|---|---|---|---|---|---|---|---|
"""
    DOCS.joinpath("benchmarks.md").write_text(head + "\n".join(map(line, bench.rows)) + "\n")


def _figure(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.3f} {unit} ({min(values):.3f} to {max(values):.3f})"
