"""Databases as Uptime Kuma and Gatus write them, by their own schemas, and what the readers make of them."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storemon_flask import clock
from storemon_flask.imports.checks import ImportedPolls, Reader

SCHEMAS = Path(__file__).with_name("schemas")
DOWN, UP, PENDING, MAINTENANCE = range(4)
START_US = clock.parse_timestamp("2026-10-05T00:00:00Z")
MINUTE_US = 60_000_000


@contextmanager
def make(path: Path, *schemas: str) -> Iterator[sqlite3.Connection]:
    """A new database with those schemas, in WAL mode as both programs have it; until the end, its program is running."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for schema in schemas:
            connection.executescript((SCHEMAS / schema).read_text("utf-8"))
        yield connection


def kuma_time(minute: float) -> str:
    text = clock.timestamp_text(START_US + round(minute * MINUTE_US))
    return text[:23].replace("T", " ")


def go_time(minute: float) -> str:
    """As Go's `time.Time.String` has it."""
    return kuma_time(minute) + "456789 +0000 UTC m=+60.500000001"


def add_monitor(kuma: sqlite3.Connection, number: int, name: str, kind: str = "http", retries: int = 0) -> None:
    kuma.execute(
        "INSERT INTO monitor (id, name, type, interval, maxretries) VALUES (?, ?, ?, 60, ?)",
        (number, name, kind, retries),
    )


def add_beats(kuma: sqlite3.Connection, monitor: int, beats: Iterable[tuple[float, int]]) -> None:
    """Beats by minute and status; one is important where the status changes."""
    before, before_minute = -1, 0.0
    for minute, status in beats:
        kuma.execute(
            "INSERT INTO heartbeat (monitor_id, time, status, duration, important) VALUES (?, ?, ?, ?, ?)",
            (monitor, kuma_time(minute), status, int((minute - before_minute) * 60), status != before),
        )
        before, before_minute = status, minute


def read(reader: Reader, ids: dict[str, str] | None = None) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The polls, with hour and minute for a timestamp of the first day, and what was said of them."""
    polls = ImportedPolls(reader, ids)
    records = [record for batch in polls.batches() for record in batch]
    return [
        (record.fields[0], short(record.fields[1]), record.problem or record.fields[2]) for record in records
    ], polls.notes


def short(timestamp: str) -> str:
    return timestamp[11:19] if timestamp[:10] == "2026-10-05" else timestamp
