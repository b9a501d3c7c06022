"""What a measurement is: rows of paired runs, and the folder that the suite works in."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import fleet
from benchmarks.processes import Run


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds of ours and of the other, run by run, and the ratio to reach."""

    what: str
    data: str
    ours: list[float]
    other: list[float]
    against: str
    reach: float | None = None
    unit: str = "s"
    peak_mb: float | None = None

    @property
    def ratio(self) -> float:
        """The median of the ratios, run by run."""
        return statistics.median(a / b for a, b in zip(self.ours, self.other, strict=True))


@dataclass
class Bench:
    """Where the suite works and what it has found."""

    work: Path
    runs: int
    divide: int
    rows: list[Row] = field(default_factory=list)
    # For the plots: per curve (storemon's load, DuckDB's report, ...) the points (size, seconds).
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def point(self, curve: str, size: int, runs: list[Run]) -> None:
        """One more point of a curve: the median of the runs."""
        self.curves.setdefault(curve, []).append((size, statistics.median(run.seconds for run in runs)))

    def fleet(self, stores: int, days: int, **kind: bool) -> tuple[Path, int]:
        """A fleet of that size, made when it is not there yet, and its number of polls."""
        stores //= self.divide
        name = "-".join([f"{stores}x{days}", *sorted(kind)])
        folder = self.work / name
        count = folder / "rows"
        if not count.exists():
            count.parent.mkdir(parents=True, exist_ok=True)
            count.write_text(str(fleet.make(folder, stores, days, **kind)))
        return folder, int(count.read_text())

    def named(self, stores: int, days: int, polls: int) -> str:
        """How the table names a fleet."""
        return f"{stores // self.divide:,} stores x {days} d, {polls / 1e6:.2f} M polls"

    def pairs(self, ours: Callable[[], Run], other: Callable[[], Run]) -> tuple[list[Run], list[Run]]:
        """Both in turn, `runs` times, after one of each that does not count."""
        ours(), other()
        found = [(ours(), other()) for _ in range(self.runs)]
        return [a for a, _ in found], [b for _, b in found]
