"""A report from the database to its file: read one moment's data, compute slice by slice, write, rename."""

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from storemon_flask.core import report as calculation
from storemon_flask.core.report import Table, Tally
from storemon_flask.errors import NoPolls, ReportFailed, Unprocessable
from storemon_flask.model import Fleet, Ints, Polls, Rules
from storemon_flask.services import report_text
from storemon_flask.services.report_text import ReportText
from storemon_flask.storage import polls, stores
from storemon_flask.storage.db import Database
from storemon_flask.storage.stores import StoreRows

# Slices of this many stores keep the memory of a report flat and its arrays in the processor's cache.
STORES_PER_SLICE: Final = 4096
# A future as-of is allowed (it asks how it stands if nothing more comes), one that no calendar here covers is not.
EARLIEST_US: Final = 0
LATEST_US: Final = 7_258_118_400_000_000  # 2200-01-01

Progress = Callable[[float], None]
Part = TypeVar("Part", Ints, np.ndarray)


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
    with database.read() as connection:
        rows = (
            stores.all_rows(connection) if question.stores is None else stores.rows_of(connection, question.stores)[0]
        )
        tables: list[Table] = []
        zone_names: list[str] = []
        slices = range(0, len(rows.ids), STORES_PER_SLICE)
        for at in slices:
            part = _slice(rows, at, at + STORES_PER_SLICE)
            fleet = read_fleet(connection, part, question.as_of_us, rules, default_zone)
            tables.append(calculation.compute(fleet, question.as_of_us, rules))
            zone_names += [fleet.zone_names[zone] for zone in fleet.zone_of.tolist()]
            # The last twentieth is for writing.
            progress(0.95 * min(1.0, (at + STORES_PER_SLICE) / len(rows.ids)))
    return report_text.render(rows.ids, _joined(tables), zone_names, question.columns)


def write(text: ReportText, path: Path) -> Finished:
    """The report's file, whole or not at all: a temporary name beside the final one, fsync, rename.

    `ReportFailed` with a sentence when the folder cannot be written or the disk is full.
    """
    data = text.csv.encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReportFailed(f"{path} cannot be written: {error.strerror or error}") from error
    return Finished(path, text.rows, len(data), hashlib.sha256(data).hexdigest(), text.altered_ids)


def read_fleet(
    connection: sqlite3.Connection, part: StoreRows, as_of_us: int, rules: Rules, default_zone: str
) -> Fleet:
    """What the calculation needs of the stores `part`, and not a week of history more."""
    first, last = int(part.number[0]), int(part.number[-1])
    from_us = calculation.evidence_from(as_of_us, rules)
    heard = polls.read(connection, part.number, max(from_us, 0), as_of_us)
    hours = stores.hours(connection, first, last)
    mine = np.isin(hours.store, part.number)
    zone_of = stores.zones(connection, first, last)
    per_store = [zone_of.get(number, default_zone) for number in part.number.tolist()]
    names = sorted(set(per_store))
    index = {name: place for place, name in enumerate(names)}
    return Fleet(
        size=len(part.ids),
        polls=heard,
        hours=type(hours)(
            np.searchsorted(part.number, hours.store[mine]), hours.day[mine], hours.start_s[mine], hours.end_s[mine]
        ),
        zone_of=np.array([index[name] for name in per_store], dtype=np.int64),
        zone_names=tuple(names),
        last_poll_us=_last_polls(connection, part, heard, as_of_us, max(from_us, 0)),
    )


def _last_polls(connection: sqlite3.Connection, part: StoreRows, heard: Polls, as_of_us: int, from_us: int) -> Ints:
    """Each store's newest poll up to the as-of; -1 for never. Stores polled later too are looked up, here or further back."""
    last = np.where((part.first_poll_us < 0) | (part.first_poll_us > as_of_us), -1, part.last_poll_us)
    later = last > as_of_us
    if later.any():
        last[later] = -2
        ends = np.searchsorted(heard.store, np.arange(len(last)), side="right")
        here = np.flatnonzero(later & (ends > np.searchsorted(heard.store, np.arange(len(last)))))
        last[here] = heard.instant_us[ends[here] - 1]
        older = np.flatnonzero(last == -2)
        found = polls.newest_before(connection, part.number[older].tolist(), from_us)
        for place in older.tolist():
            last[place] = found[int(part.number[place])]
    return last


def _slice(rows: StoreRows, first: int, stop: int) -> StoreRows:
    return StoreRows(
        rows.number[first:stop], rows.ids[first:stop], rows.first_poll_us[first:stop], rows.last_poll_us[first:stop]
    )


def _joined(tables: list[Table]) -> Table:
    """The slices' tables as one."""

    def column(of: Callable[[Table], Ints]) -> Ints:
        return np.concatenate([np.empty(0, dtype=np.int64), *(of(table) for table in tables)])

    tallies = {
        window.name: Tally(
            **{
                field.name: column(lambda table, w=window.name, f=field.name: getattr(table.tallies[w], f))  # type: ignore[misc]
                for field in fields(Tally)
            }
        )
        for window in calculation.CLASSIC_WINDOWS
    }
    return Table(
        tallies,
        column(lambda table: table.polls_last_week),
        column(lambda table: table.last_poll_us),
        column(lambda table: table.status_now),
    )
