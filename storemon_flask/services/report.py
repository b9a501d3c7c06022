"""A report from the database to its file: read one moment's data, compute slice by slice, write, rename."""

import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storemon_flask.errors import NoPolls, ReportFailed, Unprocessable
from storemon_flask.model import Rules
from storemon_flask.services import computing, report_text, schedule
from storemon_flask.services.computing import Progress
from storemon_flask.services.report_text import Altered, ReportText
from storemon_flask.storage import stores
from storemon_flask.storage.db import Database

# A future as-of is allowed (it asks how it stands if nothing more comes), one that no calendar here covers is not.
EARLIEST_US: Final = 0
LATEST_US: Final = 7_258_118_400_000_000  # 2200-01-01


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is asked: as-of, columns (`classic` or `full`), and which stores (None: all)."""

    as_of_us: int
    columns: str = "classic"
    stores: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A report in its file: where, how many rows and bytes, its hash, and the ids its CSV had to write differently."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    altered: Altered


def ask(
    database: Database,
    as_of_us: int | None,
    columns: str,
    store_ids: Sequence[str] | None,
    at: sqlite3.Connection | None = None,
) -> Question:
    """The question with its as-of settled: the newest poll where none was given.

    `NoPolls` when there is none; `Unprocessable` names unknown stores and an as-of outside 1970 to 2200.
    """
    if at is None:
        with database.read() as connection:
            return ask(database, as_of_us, columns, store_ids, connection)
    if as_of_us is None:
        as_of_us = stores.newest_poll(at)
        if as_of_us is None:
            raise NoPolls
    if not EARLIEST_US <= as_of_us <= LATEST_US:
        raise Unprocessable("as_of must lie between 1970-01-01 and 2200-01-01", errors={"as_of": ["out of range"]})
    if store_ids is None:
        return Question(as_of_us, columns)
    wanted = list(dict.fromkeys(store_ids))
    _, missing = stores.rows_of(at, wanted)
    if missing:
        named = ", ".join(repr(store_id) for store_id in missing[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        raise Unprocessable(
            f"unknown stores: {named}{more}", errors={"stores": ["unknown: " + s for s in missing[:100]]}
        )
    return Question(as_of_us, columns, tuple(wanted))


def compute(
    database: Database, question: Question, rules: Rules, default_zone: str, progress: Progress = lambda part: None
) -> ReportText:
    """The report as text. Everything is read in one transaction, so it is the data of one moment."""
    with database.read() as connection:
        plan = schedule.of(database, connection, default_zone, question.stores)
        # The last twentieth is for writing.
        table = computing.table(
            connection, plan, question.as_of_us, rules, question.columns == "full", lambda part: progress(0.95 * part)
        )
    return report_text.render(plan.columns, table, question.columns)


def write(text: ReportText, path: Path) -> Finished:
    """The report's file, whole or not at all: a temporary name beside the final one, fsync, rename.

    `ReportFailed` with a sentence when the folder cannot be written or the disk is full.
    """
    data = text.csv.encode()
    # Behind a link, the file it leads to is the one to replace.
    final = path.resolve()
    temporary = final.with_name(f".{final.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if final.exists():
                shutil.copymode(final, temporary)
            temporary.replace(final)
            _sync_folder(final.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReportFailed(f"{path} cannot be written: {error.strerror or error}") from error
    return Finished(path, text.rows, len(data), hashlib.sha256(data).hexdigest(), text.altered)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
