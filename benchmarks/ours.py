"""storemon, for the stopwatch: the same lines as `duckdb_peer` prints.

python -m benchmarks.ours load FLEET HOME       loads the three CSVs into a new home
python -m benchmarks.ours again FLEET HOME      loads them once more into that home
python -m benchmarks.ours answer HOME OUT       one computation per line of standard input, warm; a line may hold the
fields of
                                                the report's shape as JSON
"""

import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks import processes
from storemon_flask import settings as settings_
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load as load_service
from storemon_flask.feeds import sources
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest

FEEDS = ("store_status.csv", "menu_hours.csv", "timezones.csv")


def load(fleet: Path, home: Path, again: bool = False) -> float:
    """Seconds to load a fleet into a new home; the schema's making is part of it, importing Python is not."""
    if not again:
        shutil.rmtree(home, ignore_errors=True)
    started = time.perf_counter()
    result = loaded(fleet, home)
    seconds = time.perf_counter() - started
    assert not result.failed, result
    return seconds


def loaded(fleet: Path, home: Path) -> load_service.LoadResult:
    """What loading a fleet's three files says."""
    settings = settings_.load({"STOREMON_HOME": str(home)})
    found = sources.find_sources([fleet / name for name in FEEDS if (fleet / name).exists()])
    return load_service.load_sources(
        Database(settings.database), found, load_service.LoadOptions(time.time_ns() // 1000, settings.max_clock_skew_us)
    )


def answer(home: Path, out: Path) -> None:
    """Compute a report for every line of standard input."""
    settings = settings_.load({"STOREMON_HOME": str(home)})
    database = Database(settings.database)
    for line in sys.stdin:
        shape = json.loads(line) if line.strip() else {}
        started = time.perf_counter()
        question = compute.make_query(database, ReportRequest(fields=shape), settings.default_timezone, 10**9)
        text = compute.compute(database, question, settings.rules, settings.default_timezone)
        # As DuckDB's COPY does, without the two fsyncs of a finished report: those are in the report over HTTP.
        out.write_text(text.csv)
        _say(time.perf_counter() - started)


def _say(seconds: float) -> None:
    print(json.dumps({"seconds": seconds, "peak_mb": round(processes.peak_mb("self"))}), flush=True)


if __name__ == "__main__":
    command, first, second = sys.argv[1:4]
    if command in ("load", "again"):
        _say(load(Path(first), Path(second), command == "again"))
    else:
        answer(Path(first), Path(second))
