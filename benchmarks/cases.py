"""What is measured: each case yields rows of paired runs, ours and another's in turn."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import processes, serving
from benchmarks.bench import Bench, Row
from benchmarks.processes import Run

STOREMON = [sys.executable, "-m", "storemon_flask"]


def seconds(runs: list[Run]) -> list[float]:
    """The seconds of the runs."""
    return [run.seconds for run in runs]


def loads(bench: Bench) -> Iterator[Row]:
    """Loading against DuckDB and the sqlite3 shell; dirty, quoted and repeated loads against the clean one."""
    clean, polls = bench.fleet(3678, 60)
    data = bench.named(3678, 60, polls)
    home, other = bench.work / "home-load", bench.work / "load.duckdb"
    ours, theirs = bench.pairs(
        lambda: processes.module("ours", "load", clean, home),
        lambda: processes.module("duckdb_peer", "load", clean, other),
    )
    peak = max(run.peak_mb for run in ours)
    yield Row("load", data, seconds(ours), seconds(theirs), "DuckDB", 0.9, peak_mb=peak)
    if shutil.which("sqlite3"):
        shell = _sqlite_import(bench, clean)
        ours, theirs = bench.pairs(lambda: processes.module("ours", "load", clean, home), shell)
        yield Row("load", data, seconds(ours), seconds(theirs), "sqlite3 .import + index", 0.15)
    for kind, reach in (("dirty", 1.5), ("quoted", 4.0)):
        soiled, _ = bench.fleet(3678, 60, **{kind: True})
        ours, base = bench.pairs(
            lambda folder=soiled: processes.module("ours", "load", folder, home),
            lambda: processes.module("ours", "load", clean, home),
        )
        yield Row(f"load, {kind}", data, seconds(ours), seconds(base), "the clean load", reach)
    changed = _with_one_row_changed(bench, clean)
    again = [
        (processes.module("ours", "load", clean, home), processes.module("ours", "again", changed, home))
        for _ in range(bench.runs)
    ]
    yield Row(
        "load again, one row changed",
        data,
        [b.seconds for _, b in again],
        [a.seconds for a, _ in again],
        "the first load",
        1.2,
    )


def reports(bench: Bench) -> Iterator[Row]:
    """A warm report through HTTP and its computation alone, against DuckDB's warm query; and both from a cold start."""
    for stores, days, reach in ((3678, 60, 0.35), (14_000, 8, 0.3)):
        folder, polls = bench.fleet(stores, days)
        data = bench.named(stores, days, polls)
        home, database, out = bench.work / "home", bench.work / "report.duckdb", bench.work / "duckdb.csv"
        processes.module("ours", "load", folder, home)
        processes.module("duckdb_peer", "load", folder, database)
        if stores == 3678:
            report = [*STOREMON, "report", "-o", str(bench.work / "cold.csv")]
            peer = [sys.executable, "-m", "benchmarks.duckdb_peer", "report", str(database), str(out)]
            ours, theirs = bench.pairs(
                lambda: processes.whole(report, STOREMON_HOME=str(home)), lambda: processes.whole(peer)
            )
            same(bench.work / "cold.csv", out)
            yield Row("report, cold process", data, seconds(ours), seconds(theirs), "DuckDB, cold process", 1.0)
        with processes.asked("duckdb_peer", database, out) as duck:
            with processes.asked("ours", home, bench.work / "ours.csv") as computer:
                ours, theirs = bench.pairs(lambda: processes.ask(computer), lambda: processes.ask(duck))
                same(bench.work / "ours.csv", out)
                yield Row(
                    "report, computed and written", data, seconds(ours), seconds(theirs), "DuckDB, warm",
                    0.2 if stores == 3678 else None, peak_mb=max(run.peak_mb for run in ours),
                )  # fmt: skip
            with processes.server(home) as (url, pid):
                pushes = _pushes(bench, home)
                ours, theirs = bench.pairs(lambda: _pushed_report(url, next(pushes)), lambda: processes.ask(duck))
                peak = processes.peak_mb(pid)
            yield Row("report over HTTP", data, seconds(ours), seconds(theirs), "DuckDB, warm", reach, peak_mb=peak)


def shapes(bench: Bench) -> Iterator[Row]:
    """A month by day, a row for each store and day, against a classic report with as many polls in its window."""
    folder, polls = bench.fleet(14_000, 30)
    other, _ = bench.fleet(56_000, 8)
    home, wide = bench.work / "home-shapes", bench.work / "home-wide"
    processes.module("ours", "load", folder, home)
    processes.module("ours", "load", other, wide)
    month = json.dumps({"by": "day", "windows": ["last_30_days"]})
    out = bench.work / "ours.csv"
    with processes.asked("ours", home, out) as computer, processes.asked("ours", wide, out) as peer:
        ours, classic = bench.pairs(lambda: processes.ask(computer, month), lambda: processes.ask(peer))
    data = bench.named(14_000, 30, polls)
    peak = max(run.peak_mb for run in ours)
    yield Row(
        "a month by day",
        data,
        seconds(ours),
        seconds(classic),
        "the classic report of as many (56,000 stores x 8 d)",
        4.0,
        peak_mb=peak,
    )


def history(bench: Bench) -> Iterator[Row]:
    """The same report on a month and on a year of history."""
    homes = {}
    for days in (30, 360):
        folder, polls = bench.fleet(1000, days)
        homes[days] = bench.work / f"home-{days}"
        processes.module("ours", "load", folder, homes[days])
        _points(bench, "days", days, folder, homes[days])
    out = bench.work / "ours.csv"
    with processes.asked("ours", homes[360], out) as long, processes.asked("ours", homes[30], out) as short:
        year, month = bench.pairs(lambda: processes.ask(long), lambda: processes.ask(short))
    yield Row(
        "report on 360 d", bench.named(1000, 360, polls), seconds(year), seconds(month), "the report on 30 d", 1.15
    )


def scale(bench: Bench) -> Iterator[Row]:
    """Time per poll as the fleet doubles twice and twice again."""
    per_poll: dict[str, list[tuple[int, list[float]]]] = {"load": [], "report": []}
    peaks: dict[tuple[str, int], float] = {}
    for stores in (3500, 14_000, 56_000):
        folder, polls = bench.fleet(stores, 8)
        home = bench.work / "home-scale"
        found = [processes.module("ours", "load", folder, home) for _ in range(bench.runs)]
        bench.point("stores: storemon, load", stores // bench.divide, found)
        _points(bench, "stores", stores // bench.divide, folder, home)
        per_poll["load"].append((stores, [run.seconds / polls * 1e6 for run in found]))
        with processes.asked("ours", home, bench.work / "ours.csv") as computer:
            processes.ask(computer)
            warm = [processes.ask(computer) for _ in range(bench.runs)]
        per_poll["report"].append((stores, [run.seconds / polls * 1e6 for run in warm]))
        peaks["load", stores] = max(run.peak_mb for run in found)
        peaks["report", stores] = max(run.peak_mb for run in warm)
    for what, sizes in per_poll.items():
        for (_, before), (stores, after) in zip(sizes, sizes[1:], strict=False):
            # Four times the stores is two doublings.
            yield Row(
                f"{what}, per poll", f"{stores:,} "
                    f"stores x 8 d", after, before, "a quarter of the stores", 1.15**2, "us",
                peaks[what, stores],
            )  # fmt: skip


def _points(bench: Bench, axis: str, size: int, folder: Path, home: Path) -> None:
    """Both reports of a loaded fleet as points of the plots, after they have been compared."""
    database, out, mine = bench.work / "points.duckdb", bench.work / "duckdb.csv", bench.work / "ours.csv"
    loaded = processes.module("duckdb_peer", "load", folder, database)
    if axis == "stores":
        bench.point("stores: DuckDB, load", size, [loaded])
    with processes.asked("duckdb_peer", database, out) as duck, processes.asked("ours", home, mine) as computer:
        ours, theirs = bench.pairs(lambda: processes.ask(computer), lambda: processes.ask(duck))
    same(mine, out)
    bench.point(f"{axis}: storemon, report", size, ours)
    bench.point(f"{axis}: DuckDB, report", size, theirs)


def same(ours: Path, other: Path) -> None:
    """`ValueError` when two reports differ by more than 0.01 in a cell."""
    left, right = (list(csv.DictReader(io.StringIO(path.read_text()))) for path in (ours, other))
    if [row["store_id"] for row in left] != [row["store_id"] for row in right]:
        raise ValueError(f"{ours} and {other} name different stores")
    for a, b in zip(left, right, strict=True):
        for column in a:
            if column != "store_id" and abs(float(a[column]) - float(b[column])) > 0.0101:
                raise ValueError(f"{a['store_id']} {column}: {a[column]} and {b[column]}")


def _pushed_report(url: str, push: Callable[[], object]) -> Run:
    push()
    taken, _ = processes.trigger_to_complete(url)
    return Run(taken, 0)


def _pushes(bench: Bench, home: Path) -> Iterator[Callable[[], object]]:
    """Each call loads one new poll, so that no report can be answered from the one before."""
    file = bench.work / "push.csv"
    for second in range(10_000):
        stamp = f"2024-10-14 23:{56 + second // 60 % 4}:{second % 60:02d}"
        file.write_text(f"store_id,timestamp_utc,status\npushed,{stamp} UTC,active\n")
        yield lambda: processes.whole([*STOREMON, "load-data", str(file)], STOREMON_HOME=str(home))


def _with_one_row_changed(bench: Bench, folder: Path) -> Path:
    changed = bench.work / "changed"
    if not changed.exists():
        changed.mkdir()
        lines = (folder / "store_status.csv").read_bytes().split(b"\n")
        middle = len(lines) // 2
        lines[middle] = (
            lines[middle]
            .replace(b",active,", b",?,")
            .replace(b",inactive,", b",active,")
            .replace(b",?,", b",inactive,")
        )
        (changed / "store_status.csv").write_bytes(b"\n".join(lines))
    return changed


def _sqlite_import(bench: Bench, folder: Path) -> Callable[[], Run]:
    database = bench.work / "import.db"

    def run() -> Run:
        database.unlink(missing_ok=True)
        script = (
            f".import --csv {folder}/store_status.csv poll\n.import --csv {folder}/"
            f"menu_hours.csv hours\nCREATE INDEX poll_key ON poll (store_id, timestamp_utc);\n"
        )
        (bench.work / "import.sql").write_text(script)
        return processes.whole(["sqlite3", str(database), f".read {bench.work / 'import.sql'}"])

    return run


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "loads": loads,
    "reports": reports,
    "shapes": shapes,
    "history": history,
    "scale": scale,
    "latency": serving.latency,
    "append": serving.append,
    "push": serving.push,
    "looks": serving.looks,
}
