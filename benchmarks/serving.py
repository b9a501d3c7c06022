"""Cases beside loading and reporting: answers while reports compute, and polls appended to a long history."""

import sqlite3
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import Bench, Row
from benchmarks.processes import Run

_PER_SECOND = 50


def latency(bench: Bench) -> Iterator[Row]:
    """The slowest hundredth of answers at 50 requests a second, idle and while reports compute back to back."""
    folder, polls = bench.fleet(14_000, 8)
    home = bench.work / "home-latency"
    processes.module("ours", "load", folder, home)
    seconds = 30 // bench.divide
    with processes.server(home) as (url, _):
        processes.trigger_to_complete(url)
        for path in ("/healthz", "/get_report?report_id=" + _one(url)):
            idle = _slowest(url + path, seconds)
            stop = threading.Event()
            busy = threading.Thread(target=_reports_until, args=(url, stop))
            busy.start()
            loaded = _slowest(url + path, seconds)
            stop.set()
            busy.join()
            what = path.split("?")[0]
            yield Row(
                f"p99 of {what} while reports compute", bench.named(14_000, 8, polls), [loaded], [idle], "idle", 8.0
            )


def append(bench: Bench) -> Iterator[Row]:
    """One poll for each of 14,000 stores appended to 20 M polls, against a bare upsert into a keyed table."""
    folder, polls = bench.fleet(14_000, 92)
    home, other = bench.work / "home-append", bench.work / "append.db"
    processes.module("ours", "load", folder, home)
    ids = _ids(folder)
    _keyed(folder, other)
    turn = iter(range(1, 100_000))

    def ours() -> Run:
        file = bench.work / "append" / "store_status.csv"
        file.parent.mkdir(exist_ok=True)
        stamp = _stamp(next(turn))
        file.write_text("store_id,timestamp_utc,status\n" + "".join(f"{one},{stamp} UTC,active\n" for one in ids))
        return processes.module("ours", "again", file.parent, home)

    def theirs() -> Run:
        stamp = _stamp(next(turn))
        started = time.perf_counter()
        with closing(sqlite3.connect(other, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO poll VALUES (?, ?, ?)", [(one, stamp, 1) for one in ids])
            connection.execute("COMMIT")
        return Run(time.perf_counter() - started, 0)

    a, b = bench.pairs(ours, theirs)
    named = bench.named(14_000, 92, polls)
    yield Row("append one poll per store", named, [r.seconds for r in a], [r.seconds for r in b], "sqlite3 upsert", 2.0)


def push(bench: Bench) -> Iterator[Row]:
    """One hour's polls of 14,000 stores pushed in one request, as CSV and as JSON, against loading the same from a
    file.
    """
    folder, polls = bench.fleet(14_000, 8)
    home = bench.work / "home-push"
    processes.module("ours", "load", folder, home)
    ids = _ids(folder)
    turn = iter(range(1, 100_000))

    def from_file() -> Run:
        file = bench.work / "push" / "store_status.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(_hour_csv(ids, _stamp(next(turn))))
        return processes.module("ours", "again", file.parent, home)

    with processes.server(home) as (url, _):
        for form, body in (("text/csv", _hour_csv), ("application/json", _hour_json)):
            ours, base = bench.pairs(
                lambda form=form, body=body: _pushed(url, form, body(ids, _stamp(next(turn))), len(ids)), from_file
            )
            yield Row(
                f"push one poll per store, {form}", bench.named(14_000, 8, polls), [run.seconds for run in ours],
                [run.seconds for run in base], "loading the file", 3.0,
            )  # fmt: skip


def looks(bench: Bench) -> Iterator[Row]:
    """The first page for people against a classic report of the same numbers: p95 of 50 right after a new poll has
    changed them, and p95 of 20 of which each follows a poll of its own and so waits for the numbers."""
    folder, polls = bench.fleet(14_000, 8)
    home = bench.work / "home-looks"
    processes.module("ours", "load", folder, home)
    ids, turn = _ids(folder), iter(range(1, 100_000))
    with processes.server(home) as (url, _):

        def page() -> Run:
            _pushed(url, "text/csv", _hour_csv(ids[:1], _stamp(next(turn))), 1)
            return Run(_percentile(url + "/", 50, 95), 0)

        def after_loads() -> Run:
            taken = []
            for _ in range(20):
                _pushed(url, "text/csv", _hour_csv(ids[:1], _stamp(next(turn))), 1)
                taken.append(_seconds(url + "/"))
            return Run(statistics.quantiles(taken, n=100)[94], 0)

        def report() -> Run:
            _pushed(url, "text/csv", _hour_csv(ids[:1], _stamp(next(turn))), 1)
            return Run(processes.trigger_to_complete(url)[0], 0)

        measured = [
            ("p95 of the first page", 0.5, *bench.pairs(page, report)),
            ("p95 of the first page after a load", 1.0, *bench.pairs(after_loads, report)),
        ]
    for name, limit, ours, base in measured:
        yield Row(
            name, bench.named(14_000, 8, polls), [run.seconds for run in ours],
            [run.seconds for run in base], "the classic report over HTTP", limit,
        )  # fmt: skip


def _percentile(url: str, count: int, percentile: int) -> float:
    """The percentile of so many answers, one after the other."""
    taken = [_seconds(url) for _ in range(count)]
    return statistics.quantiles(taken, n=100)[percentile - 1]


def _seconds(url: str) -> float:
    """How long the answer takes."""
    started = time.perf_counter()
    with urllib.request.urlopen(url) as answer:
        answer.read()
    return time.perf_counter() - started


def _hour_csv(ids: list[str], stamp: str) -> bytes:
    return ("store_id,timestamp_utc,status\n" + "".join(f"{one},{stamp} UTC,active\n" for one in ids)).encode()


def _hour_json(ids: list[str], stamp: str) -> bytes:
    rows = [{"store_id": one, "timestamp_utc": f"{stamp} UTC", "status": "active"} for one in ids]
    return processes.json.dumps(rows).encode()


def _pushed(url: str, form: str, body: bytes, rows: int) -> Run:
    request = urllib.request.Request(f"{url}/api/v1/feeds/polls", body, {"Content-Type": form})
    started = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        said = processes.json.load(answer)
    taken = time.perf_counter() - started
    if said["new"] != rows:
        raise ValueError(f"{rows} polls were pushed, and the answer is {said}")
    return Run(taken, 0)


def _one(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/trigger_report", data=b"")) as answer:
        report_id: str = processes.json.load(answer)["report_id"]
    time.sleep(2)
    return report_id


def _slowest(url: str, seconds: int) -> float:
    """The 99th percentile of `seconds` times 50 answers, asked for evenly; an error ends the measuring."""
    taken = []
    begun = time.perf_counter()
    for number in range(seconds * _PER_SECOND):
        time.sleep(max(0.0, begun + number / _PER_SECOND - time.perf_counter()))
        started = time.perf_counter()
        with urllib.request.urlopen(url) as answer:
            answer.read()
        taken.append(time.perf_counter() - started)
    return statistics.quantiles(taken, n=100)[98]


def _reports_until(url: str, stop: threading.Event) -> None:
    while not stop.is_set():
        processes.trigger_to_complete(url)


def _ids(folder: Path) -> list[str]:
    lines = (folder / "timezones.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines]


def _stamp(second: int) -> str:
    return f"2024-10-15 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def _keyed(folder: Path, database: Path) -> None:
    """The polls in a table keyed by store and instant, as the plainest program would keep them."""
    import csv

    database.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as connection, (folder / "store_status.csv").open() as stream:
        connection.execute(
            "CREATE TABLE poll (store_id TEXT, timestamp_utc TEXT, "
            "active INTEGER, PRIMARY KEY (store_id, timestamp_utc)) "
            "WITHOUT ROWID"
        )
        rows = csv.reader(stream)
        next(rows)
        found = sorted((store, instant[:-4], status == "active") for store, status, instant in rows)
        connection.executemany("INSERT OR REPLACE INTO poll VALUES (?, ?, ?)", found)
        connection.commit()
