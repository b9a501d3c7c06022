"""What the database holds: sizes, counts and freshness of feeds, loads and their rejects, names of stores."""

import csv
import io
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.characters import count_text
from storemon_flask.clock import timestamp_text
from storemon_flask.database import loads, polls, prune, readings, reports, stores
from storemon_flask.database import newest as newest_service
from storemon_flask.database.connections import SQLITE_VERSION
from storemon_flask.database.connections import Database as Database
from storemon_flask.database.loads import LoadRow as LoadRow
from storemon_flask.database.loads import LoadSummary as LoadSummary
from storemon_flask.database.newest import future_polls, newest_poll
from storemon_flask.database.polls import Newest
from storemon_flask.database.readiness import start_warnings
from storemon_flask.errors import DatabaseError, NotFound
from storemon_flask.formatting import safe_cell
from storemon_flask.model import FileSummary
from storemon_flask.settings import SETTINGS, Settings
from storemon_flask.version import VERSION, build, single_file


def database(settings: Settings) -> Database:
    """Return the database of these settings; nothing is opened or created yet."""
    return Database(settings.database)


Reject = tuple[int, str, int, str, str]


def rejects(database: Database, load: int | None, limit: int | None = None) -> Iterator[Reject]:
    """Return (load, file, line, reason, text) of the stored rejects of one load (at most `limit`), or of all loads.

    Each load is read in a transaction of its own: a slow reader holds none. `NotFound`, at once, for a missing load.
    """
    if load is None:
        with database.read():
            # A database that cannot be read is an error before the first row.
            pass
        return _rejects_of_all(database)
    with database.read() as connection:
        if not loads.exists(connection, load):
            raise no_load(load)
        return iter(loads.rejects(connection, load, limit))


def _rejects_of_all(database: Database) -> Iterator[Reject]:
    load: int | None = 0
    while load is not None:
        with database.read() as connection:
            load = loads.next_number(connection, load)
            rows = [] if load is None else loads.rejects(connection, load)
        yield from rows


def rejects_csv(database: Database, load: int | None) -> Generator[str, None, None]:
    """Yield the same as lines of CSV, a header first. Errors as `rejects`, before the first line."""
    rows = rejects(database, load)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([("load", "file", "line", "reason", "text")], rows):
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def info(settings: Settings, database: Database) -> list[tuple[str, str]]:
    """Return names and values of the installation and its data, also without a database."""
    rows = [
        ("storemon", VERSION),
        ("program", _program()),
        ("python", f"{platform.python_version()}, SQLite {SQLITE_VERSION}"),
        (
            "packages",
            ", ".join(_package(name) for name in ("flask", "waitress", "pandas", "numpy", "sqlite-utils")),
        ),
        ("time zone data", f"tzdata {zonedata.version()}"),
        ("home", str(settings.home)),
        ("database", f"{settings.database}{_size(settings.database)}"),
        ("reports", f"{settings.reports_dir}{_files(settings.reports_dir)}"),
    ]
    rows += _counts(database, settings.rules.latest_us(time.time_ns() // 1000))
    rows += [(setting.name, _value(settings, setting.field)) for setting in SETTINGS if setting.unit != "path"]
    return rows + [("warning", sentence) for sentence in start_warnings(settings, database)]


def _program() -> str:
    file = single_file()
    if file is None:
        return f"the Python package in {Path(__file__).resolve().parent.parent}"
    # The folder it unpacks itself into holds no data and goes when the program ends.
    return f"the single file {file} (build {build()}), unpacked in {Path(__file__).resolve().parent.parent.parent}"


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _counts(database: Database, latest_us: int) -> list[tuple[str, str]]:
    try:
        with database.read() as connection:
            rows = stores.all_rows(connection)
            newest = newest_poll(database, connection, latest_us)
            future = future_polls(newest.ahead)
            complete_from = stores.complete_from(connection)
            number, rejected = loads.totals(connection)
            states = reports.count_by_state(connection)
            return [
                ("stores", f"{len(rows.ids):,}"),
                ("polls", f"{polls.count(connection):,}"),
                ("newest poll", "none" if newest.poll_us is None else timestamp_text(newest.poll_us)),
                *([("future polls", future)] if future else []),
                *([("polls pruned", prune.completeness_note(complete_from))] if complete_from is not None else []),
                ("data version", str(stores.data_version(connection))),
                ("loads", f"{number:,}, {count_text(rejected, 'row')} rejected"),
                ("reports", ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())) or "none"),
            ]
    except DatabaseError as error:
        return [("data", error.message)]


def _value(settings: Settings, field: str) -> str:
    value = getattr(settings, field)
    if field.endswith("_us"):
        minutes = value / 60_000_000
        return f"{minutes / 60:g} h" if minutes % 60 == 0 else f"{minutes:g} min"
    return str(value)


def _size(file: Path) -> str:
    return f" ({file.stat().st_size / 1e6:,.1f} MB)" if file.is_file() else " (not there yet)"


def _files(folder: Path) -> str:
    sizes = []
    for file in folder.glob("report_*.csv"):
        # A server beside this may delete it meanwhile.
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return f" ({count_text(len(sizes), 'file')}, {sum(sizes) / 1e6:,.1f} MB)" if folder.is_dir() else " (not there yet)"


def newest_loads(database: Database, before: int | None, limit: int) -> list[LoadSummary]:
    """Return up to `limit` loads, the newest first, older than the load `before` if that is given."""
    if not database.exists():
        return []
    with database.read() as connection:
        return loads.newest(connection, before, limit)


def files_of_loads(database: Database, numbers: list[int], most: int) -> dict[int, list[FileSummary]]:
    """Return the first files of each of these loads, at most `most` of each."""
    with database.read() as connection:
        return {number: loads.files(connection, number, most) for number in numbers}


def one_load(database: Database, load: int) -> LoadRow:
    """Return the load of that number; `NotFound` when there is none."""
    row = None
    if database.exists() and load < 1 << 63:
        with database.read() as connection:
            row = loads.find(connection, load)
    if row is None:
        raise no_load(load)
    return row


def no_load(load: int) -> NotFound:
    """Return the error for a load that is not there."""
    return NotFound(f"there is no load {load}; the list of loads has those there are")


_FEEDS: Final = ("polls", "hours", "timezones", "stores", "special_hours")


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed: how many rows it has, of how many stores; when a file of it was last loaded (None: never)."""

    name: str
    count: int
    stores: int
    loaded_us: int | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """The feeds, how many stores there are, the newest poll that is not in the future (None: no poll), and a note on
    those in the future."""

    feeds: list[Feed]
    stores: int
    newest_poll_us: int | None
    future: str | None = None


@dataclass(frozen=True, slots=True)
class ReportChoices:
    """Groups and zones that a report can be limited to, and whether there is any poll."""

    groups: list[str]
    zones: list[str]
    polled: bool


def freshness(database: Database, latest_us: int) -> Freshness:
    """Return how much of each feed there is and when it was loaded; polls after `latest_us` are in the future."""
    if not database.exists():
        return Freshness([Feed(name, 0, 0, None) for name in _FEEDS], 0, None)
    with database.read() as connection:
        count = stores.counts(connection)
        loaded = stores.last_loaded(connection)
        newest = newest_service.newest_poll(database, connection, latest_us)
    of_feed = {
        "polls": (polls.count(connection), count["polled"]),
        "hours": (count["hours"], count["with_hours"]),
        "timezones": (count["timezones"], count["timezones"]),
        "stores": (count["names"], count["names"]),
        "special_hours": (count["special"], count["with_special"]),
    }
    feeds = [Feed(name, *of_feed[name], loaded.get(name)) for name in _FEEDS]
    return Freshness(feeds, count["stores"], newest.poll_us, newest_service.future_polls(newest.ahead))


def newest_poll_us(database: Database, latest_us: int) -> int | None:
    """Return the newest poll up to `latest_us`; None without one."""
    if not database.exists():
        return None
    return newest_service.look(database, latest_us).poll_us


def report_choices(database: Database, default_zone: str, latest_us: int) -> ReportChoices:
    """Return the groups and zones that stores are in at the newest poll up to `latest_us`, by name."""
    if not database.exists():
        return ReportChoices([], [], False)
    with database.read() as connection:
        newest = newest_service.newest_poll(database, connection, latest_us)
        plan = readings.read_schedule(database, connection, default_zone, None, newest.poll_us or 0)
    groups = sorted({group for group in plan.groups if group})
    return ReportChoices(groups, sorted(set(plan.zone_of_store)), newest != Newest(None))


def first_rejects(database: Database, load: int, most: int) -> list[tuple[str, int, str, str]]:
    """Return up to `most` (file, line, reason, text) of the rejected rows of a load."""
    return [row[1:] for row in rejects(database, load, most)]


def names_and_groups(database: Database, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return name and group (empty where there is none) of those of the stores that have one of the two."""
    if not database.exists():
        return {}
    with database.read() as connection:
        rows, _ = stores.rows_of(connection, ids)
    named = zip(rows.ids, rows.names, rows.groups, strict=True)
    return {store_id: (name, group) for store_id, name, group in named if name or group}


def ids_matching(database: Database, text: str) -> frozenset[str]:
    """Return the ids of the stores with this text in name or group, whatever the case."""
    if not database.exists():
        return frozenset()
    with database.read() as connection:
        rows = stores.all_rows(connection)
    text = text.casefold()
    named = zip(rows.ids, rows.names, rows.groups, strict=True)
    return frozenset(store_id for store_id, name, group in named if text in f"{name}\n{group}".casefold())
