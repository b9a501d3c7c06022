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
    plots = """
![Time against the number of stores](images/bench-stores.svg)

![Time of a report against the days of history](images/bench-history.svg)
"""
    DOCS.joinpath("benchmarks.md").write_text(head + "\n".join(map(line, bench.rows)) + "\n" + plots)
    images = DOCS / "images"
    _plot(
        bench,
        "stores",
        "stores, 8 days of polls each",
        images / "bench-stores.svg",
        "Time against the number of stores",
    )
    history = "Time of a report against the days of history"
    _plot(bench, "days", "days of history, 1,000 stores", images / "bench-history.svg", history)


def _plot(bench: Bench, axis: str, label: str, file: Path, title: str) -> None:
    """The curves of one axis, seconds against size, both logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "storemon"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    for name, points in bench.curves.items():
        if name.startswith(axis):
            ours = "storemon" in name
            axes.plot(
                *zip(*points, strict=True),
                marker="o" if ours else "s",
                color="#1a7f37" if ours else "#8250df",
                linestyle="-" if "report" in name else "--",
                label=name.split(": ")[1],
            )
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds (median)")
    sizes = sorted({size for name, points in bench.curves.items() if name.startswith(axis) for size, _ in points})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Title": title})


def _figure(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.3f} {unit} ({min(values):.3f} to {max(values):.3f})"
