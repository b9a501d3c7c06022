"""Processor time by the byte: no file of bad rows takes many times as long as a good file of its size.

Each file is loaded in a process of its own. The limits leave room for a busy machine: what was measured on an idle one
stands beside them.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BYTES = 8_000_000
POLLS = b"store_id,timestamp_utc,status\n"
HOURS = b"store_id,day,start_time_local,end_time_local\n"


def at(number: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_700_000_000 + number % 8_000_000))


def same(row: bytes, header: bytes = POLLS) -> bytes:
    return header + row * (BYTES // len(row))


def each(row: Callable[[int], str], header: bytes = POLLS) -> bytes:
    rows = []
    size = number = 0
    while size < BYTES:
        rows.append(row(number).encode())
        size += len(rows[-1])
        number += 1
    return header + b"".join(rows)


GOOD = {
    "polls": lambda: each(lambda n: f"store-{n % 3000},{at(n)}.123456 UTC,active\n"),
    "polls of new stores": lambda: each(lambda n: f"store-{n},{at(n)}.123456 UTC,active\n"),
    "hours": lambda: each(lambda n: f"store-{n // 7},{n % 7},09:00:00,21:00:00\n", HOURS),
}
# The wrong shape: 2 to 7 times a good file, 9 for bytes that are no text (27 where each row is decoded by itself).
SHAPES = {
    "too few fields": same(b"a\n"),
    "three empty fields": same(b",,\n"),
    "three short fields": same(b"a,b,c\n"),
    "too many fields": same(b",,,,\n"),
    "blank lines": same(b"\n"),
    "lines of a blank": same(b" \n"),
    "lone returns": same(b"a\r"),
    "two returns and a newline": same(b"a\r\r\n"),
    "NUL": same(b"\0\n"),
    "no UTF-8": same(b"\xff\n"),
    "a quote that stays open on each line": same(b'"a\n'),
    "empty quoted lines": same(b'""\n'),
    "empty quoted fields": same(b'"","",""\n'),
    "whole rows in quotes": same(b'"a,b,c"\n'),
    "text behind a quote": same(b'"a"b,c,d\n'),
    "a quote within a field": same(b'a"b,c,d\n'),
    "nothing but quotes": POLLS + b'"' * BYTES,
    "a quoted comma": same(b'"a",",","x"\n'),
    "quoted line breaks": same(b'"\n","\n","\n"\n'),
    "one line without end": POLLS + b"a" * BYTES,
    "one quoted line without end": POLLS + b'"' + b"a" * BYTES,
    "every other row": same(b"store-1,2024-10-14 11:00:00 UTC,active\nx\n"),
}
# A value that nobody has seen yet in each row: as long as a file of new stores.
VALUES = {
    "numbers for timestamps": each(lambda n: f"s,{n},active\n"),
    "words for timestamps": each(lambda n: f"s,x{n},active\n"),
    "days that do not exist": each(lambda n: f"s,2024-13-{n % 90:02d} 11:00:{n % 60:02d} UTC,active\n"),
    "scientific ids": each(lambda n: f"{n}.5E+{n % 300},{at(n)} UTC,active\n"),
    "invisible characters": each(lambda n: f"\u00e9\u200b{n},{at(n)} UTC,active\n"),
    "words for statuses": each(lambda n: f"s{n % 3000},{at(n)} UTC,{n}\n"),
}


LOAD = """
import sys, time
from pathlib import Path
from storemon_flask import settings
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources

chosen = settings.load({"STOREMON_HOME": sys.argv[1]})
database = Database(chosen.database)
for file in sys.argv[2:]:
    before = time.process_time()
    load.load_sources(database, sources.find_sources([Path(file)]), load.load_options(chosen, lambda: None))
print(time.process_time() - before)
"""


@pytest.fixture
def measured(tmp_path: Path) -> Callable[[bytes], float]:
    """Processor seconds of a load of a file into a database that has one poll; imports and schema do not count."""
    first = tmp_path / "first.csv"
    first.write_bytes(POLLS + b"s,2024-10-14 11:00:00 UTC,active\n")

    def seconds(data: bytes) -> float:
        file, home = tmp_path / "feed.csv", tmp_path / f"home{time.monotonic_ns()}"
        home.mkdir()
        file.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(home), str(first), str(file)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return float(done.stdout)

    return seconds


def too_slow(
    measured: Callable[[bytes], float], files: dict[str, bytes], good: float, limit: Callable[[str], float]
) -> dict[str, float]:
    """The files that take more than `limit` times as long as `good`, also the third time: a busy machine may hold up
    one."""
    slow = {}
    for name, data in files.items():
        ratios = (measured(data) / good for _ in range(3))
        tried = list(takewhile(lambda ratio, name=name: ratio > limit(name), ratios))
        if len(tried) == 3:
            slow[name] = round(min(tried), 1)
    return slow


def test_rows_of_the_wrong_shape_take_no_many_times_longer(measured: Callable[[bytes], float]) -> None:
    good = min(measured(GOOD["polls"]()) for _ in range(3))
    assert too_slow(measured, SHAPES, good, lambda name: 20 if name == "no UTF-8" else 12) == {}


def test_new_values_take_no_longer_than_new_stores(measured: Callable[[bytes], float]) -> None:
    good = measured(GOOD["polls of new stores"]())
    assert too_slow(measured, VALUES, good, lambda name: 3) == {}


def test_bad_hours_take_no_many_times_longer(measured: Callable[[bytes], float]) -> None:
    good = measured(GOOD["hours"]())
    attacks = {
        "too few fields": same(b"a\n", HOURS),
        "days that do not exist": each(lambda n: f"store-{n // 7},x{n},09:00:00,21:00:00\n", HOURS),
        "times that do not exist": each(lambda n: f"store-{n // 7},1,09:{n}:00,21:00:00\n", HOURS),
        "everything quoted": each(lambda n: f'"store-{n // 7}","{n % 7}","09:00:00","21:00:00"\n', HOURS),
    }
    assert too_slow(measured, attacks, good, lambda name: 5) == {}


def test_time_grows_with_the_file_and_no_faster(measured: Callable[[bytes], float]) -> None:
    for data in (SHAPES["a quote within a field"], SHAPES["too few fields"], VALUES["words for statuses"]):
        body = data.removeprefix(POLLS)
        assert too_slow(measured, {"three times as much": POLLS + body * 3}, measured(data), lambda name: 3 * 2) == {}
