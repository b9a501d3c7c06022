"""Asking the process that reads workbooks and Parquet files, without the program around it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from storemon_flask.feeds import table_process

# Where the columns of a feed stand in a file that has all of them in order, their names and kinds.
COLUMNS: Final[dict[str, list[tuple[int, str, str]]]] = {
    feed: [(at, name, kind) for at, (name, kind) in enumerate(columns)]
    for feed, columns in {
        "polls": [("store_id", "store_id"), ("timestamp_utc", "timestamp"), ("status", "text")],
        "hours": [
            ("store_id", "store_id"),
            ("dayOfWeek", "text"),
            ("start_time_local", "time"),
            ("end_time_local", "time"),
            ("valid_from", "date"),
        ],
        "special_hours": [
            ("store_id", "store_id"),
            ("date", "date"),
            ("start_time_local", "time"),
            ("end_time_local", "time"),
        ],
    }.items()
}
MEMORY_BYTES: Final = 768 << 20


def ask(file: Path, prepare: Callable[[], None] | None = None, **options: Any) -> list[Any]:
    """What it answers after it said that it is there; its last frame is a text, unless it was ended. `prepare` runs in
    it first.
    """
    asked = {"memory_bytes": MEMORY_BYTES, "seconds": 60, "path": sys.path, **options}
    with file.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-I", "-S", table_process.__file__, json.dumps(asked)],
            stdin=stream,
            capture_output=True,
            preexec_fn=prepare,
            check=False,
            timeout=120,
        )
    frames, rest = [], done.stdout
    while rest:
        (length,) = table_process.LENGTH.unpack(rest[: table_process.LENGTH.size])
        data, rest = rest[table_process.LENGTH.size :][:length], rest[table_process.LENGTH.size + length :]
        frames.append(json.loads(data))
    assert frames[0] == table_process.READY, done.stderr
    # What it took is nothing that it read.
    return [frame for frame in frames[1:] if not isinstance(frame, float)]


def rows_of(file: Path, columns: list[tuple[int, str, str]], header_row: int, sheet: int = 0) -> list[Any]:
    """The rows of one sheet below its header: line, fields, text, problem."""
    *batches, end = ask(file, read="sheet", sheet=sheet, header_row=header_row, columns=columns)
    assert end == ""
    return [row for batch in batches for row in batch]
