"""A report from the database to its file: read one moment's data, compute slice by slice, write, rename."""

import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from storemon_flask.core import report as calculation
from storemon_flask.core.report import Table
from storemon_flask.errors import NoPolls, ReportFailed, Unprocessable
from storemon_flask.model import Fleet, Ints, Polls, Rules
from storemon_flask.services import report_text, schedule
from storemon_flask.services.report_text import ReportText
from storemon_flask.storage import polls, stores
from storemon_flask.storage.db import Database

# A future as-of is allowed (it asks how it stands if nothing more comes), one that no calendar here covers is not.
EARLIEST_US: Final = 0
LATEST_US: Final = 7_258_118_400_000_000  # 2200-01-01

Progress = Callable[[float], None]
_NO_POLLS: Final = np.empty(0, dtype=np.int64)


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
    altered_ids: dict[int, str]


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
    full = question.columns == "full"
    tables: list[Table] = []
    with database.read() as connection:
        plan = schedule.of(database, connection, default_zone, question.stores)
        from_us = max(calculation.evidence_from(question.as_of_us, rules), 0)
        for done, part in enumerate(plan.parts, start=1):
            heard = polls.read(connection, part.number, from_us, question.as_of_us)
            last = _last_polls(connection, part.number, heard, question.as_of_us, from_us) if full else _NO_POLLS
            fleet = Fleet(len(part.number), heard, part.hours, part.zone_of, plan.zone_names, last)
            opened = plan.openings(part, fleet, question.as_of_us, rules)
            tables.append(calculation.compute(fleet, question.as_of_us, rules, opened, full))
            # The last twentieth is for writing.
            progress(0.95 * done / len(plan.parts))
    table = {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}
    return report_text.render(plan.first_column, table, plan.zone_of_store, question.columns)


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
    return Finished(path, text.rows, len(data), hashlib.sha256(data).hexdigest(), text.altered_ids)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _last_polls(connection: sqlite3.Connection, number: Ints, heard: Polls, as_of_us: int, from_us: int) -> Ints:
    """Each store's newest poll up to the as-of; -1 for never. Stores polled later too are looked up, here or further back."""
    first_poll, last_poll = stores.poll_span(connection, number)
    last = np.where((first_poll < 0) | (first_poll > as_of_us), -1, last_poll)
    later = last > as_of_us
    if later.any():
        last[later] = -2
        ends = np.searchsorted(heard.store, np.arange(len(last)), side="right")
        here = np.flatnonzero(later & (ends > np.searchsorted(heard.store, np.arange(len(last)))))
        last[here] = heard.instant_us[ends[here] - 1]
        older = np.flatnonzero(last == -2)
        found = polls.newest_before(connection, number[older].tolist(), from_us)
        for place in older.tolist():
            last[place] = found[int(number[place])]
    return last
