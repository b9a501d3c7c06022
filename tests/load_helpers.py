"""What the tests of reading and loading share: streams cut anywhere, files, and the data a database holds."""

import gzip
import io
import os
import random
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storemon_flask.database.connections import Database
from storemon_flask.feeds import csv_exact, readers, sources
from storemon_flask.feeds import load as load_service
from storemon_flask.feeds.csv_exact import BLOCK_BYTES, Block, BlockReader, Record, RejectLog
from storemon_flask.feeds.load import LoadResult
from storemon_flask.feeds.schema import Header
from storemon_flask.model import FileSummary

# By the fast reader, and by the exact one.
READERS = (False, True)
POLLS = "store_id,timestamp_utc,status"
HOURS = "store_id,dayOfWeek,start_time_local,end_time_local"
ZONES = "store_id,timezone_str"
NOW = "2024-10-14T12:00:00"
SKEW_US = 300_000_000

PollRow = tuple[str, int, bool]
RejectRow = tuple[int, str, str]


def us(text: str) -> int:
    """Microseconds since 1970 of an ISO instant in UTC, by `datetime` and not by the code under test."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


class Cut(io.RawIOBase):
    """A stream that hands out its bytes in chunks no larger than `sizes` says, over and over."""

    def __init__(self, data: bytes, sizes: Iterable[int]) -> None:
        self._data = data
        self._at = 0
        self._sizes = tuple(sizes) or (len(data) or 1,)
        self._turn = 0

    def read(self, size: int = -1) -> bytes:
        allowed = self._sizes[self._turn % len(self._sizes)]
        self._turn += 1
        stop = self._at + (allowed if size < 0 else min(size, allowed))
        chunk = self._data[self._at : stop]
        self._at += len(chunk)
        return chunk


def read_polls(
    data: bytes,
    block_bytes: int = BLOCK_BYTES,
    *,
    exact: bool = False,
    sizes: Iterable[int] = (),
    latest: str = NOW,
) -> tuple[list[PollRow], list[RejectRow], int]:
    """The accepted rows of a polls file in file order, its rejects, and how many rows it says it had."""
    reader = BlockReader(Cut(data, sizes), lambda chunk: None, block_bytes)
    header = reader.header
    assert header.feed == "polls"
    log = RejectLog()
    rows: list[PollRow] = []
    count = 0
    batches = (list(records_of(block, header)) for block in reader) if exact else reader
    for block in readers.read_polls(batches, header, us(latest), log):
        indexes, instants, actives = block.store.tolist(), block.timestamp_us.tolist(), block.active.tolist()
        rows += [(block.ids[index], at, active) for index, at, active in zip(indexes, instants, actives, strict=True)]
        count += block.rows
    assert sum(log.reasons.values()) == len(log.rejects)
    return rows, [(reject.line, reject.reason, reject.text) for reject in log.rejects], count


def records_of(block: Block | list[Record], header: Header) -> Iterator[Record]:
    """The records of a block, each by the exact reader."""
    if isinstance(block, list):
        yield from block
        return
    start, line = 0, block.line
    ends = [int(end) for stretch in csv_exact.record_ends(block.data, block.edges) for end in stretch]
    for stop in dict.fromkeys([*ends, len(block.data)]):
        raw = block.data[start:stop].rstrip(b"\r\n")
        if not csv_exact.is_blank_row(raw, header.delimiter):
            yield csv_exact.parse(raw, line, header)
        start, line = stop, line + csv_exact.count_lines(raw) + 1


def csv(header: str, *rows: str, end: str = "\n") -> bytes:
    return (end.join((header, *rows)) + end).encode()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def load(database: Database, *paths: Path, now: str = NOW, atomic: bool = False, **options: Any) -> LoadResult:
    """Load as the command does, at a clock of our own; every summary's counts must add up."""
    found = sources.find_sources(list(paths))
    result = load_service.load_sources(database, found, load_service.LoadOptions(us(now), SKEW_US, atomic), **options)
    for summary in result.files:
        c = summary.counts
        assert c.rows == c.new + c.changed + c.unchanged + c.repeated + c.rejected
        assert sum(summary.reasons.values()) == c.rejected
    return result


def counts(summary: FileSummary) -> tuple[int, int, int, int, int, int]:
    """rows, new, changed, unchanged, repeated, rejected."""
    c = summary.counts
    return c.rows, c.new, c.changed, c.unchanged, c.repeated, c.rejected


def query(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows by plain sqlite3, read-only, past all of our own code."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()


def feeds(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything the feeds left in a database, without the numbers that stores have inside."""
    return {
        "poll": query(path, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY store_id, timestamp_utc"),
        "hours": query(
            path,
            "SELECT store_id, day, start_s, end_s FROM hours JOIN store_record "
            "ON store_record.number = hours.store ORDER BY 1, 2, 3, 4",
        ),
        "timezone": query(
            path,
            "SELECT store_id, timezone.name FROM timezone JOIN "
            "store_record ON store_record.number = timezone.store ORDER BY 1",
        ),
        "store": query(path, "SELECT store_id, first_poll_us, last_poll_us FROM store_record ORDER BY 1"),
    }


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment for a command, with every STOREMON_ variable but ours taken out."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("STOREMON_", "FLASK_"))}
    return {**others, "STOREMON_HOME": str(home), **more}


def storemon(home: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "storemon_flask", *arguments],
        env=environment(home, **more),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV under the test's own folder."""

    def write(name: str, header: str, *rows: str) -> Path:
        return put(tmp_path / "data" / name, csv(header, *rows))

    return write


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in blocks of 4 KB, so that even a short one has many."""
    monkeypatch.setattr(BlockReader.__init__, "__defaults__", (4096,))


def stored_polls(database: Database) -> list[tuple[str, str, str]]:
    return query(database.path, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY store_id, timestamp_utc")


def version_of(database: Database) -> int:
    return query(database.path, "SELECT version FROM data_version")[0][0]


def many(chance: random.Random, rows: int) -> list[str]:
    """Rows of many stores over several weeks, with many repeats."""
    return [
        f"s{chance.randrange(80)},2023-{chance.randint(1, 2):02d}-{chance.choice((1, 8, 15, 21, 28)):02d} "
        f"{chance.choice((0, 12)):02d}:00:00.{chance.randrange(2):06d} UTC,{chance.choice(('active', 'inactive'))}"
        for _ in range(rows)
    ]
