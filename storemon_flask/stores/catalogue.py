"""What the database holds: counts and freshness of feeds, loads and their rejects, names of stores."""

import csv
import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from storemon_flask.database import loads, polls, readings, stores
from storemon_flask.database import newest as newest_service
from storemon_flask.database.connections import Database
from storemon_flask.database.loads import LoadRow as LoadRow
from storemon_flask.database.loads import LoadSummary as LoadSummary
from storemon_flask.database.polls import Newest
from storemon_flask.formatting import safe_cell
from storemon_flask.labels import GROUP
from storemon_flask.model import FileSummary

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
            raise loads.no_load(load)
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
        raise loads.no_load(load)
    return row


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
    """Groups, other labels (as `region=West`) and zones that a report can be limited to; whether there is any poll."""

    groups: list[str]
    labels: list[str]
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
    """Return the groups, labels and zones that stores are in at the newest poll up to `latest_us`, by name."""
    if not database.exists():
        return ReportChoices([], [], [], False)
    with database.read() as connection:
        newest = newest_service.newest_poll(database, connection, latest_us)
        plan = readings.read_schedule(database, connection, default_zone, None, newest.poll_us or 0)
    groups = sorted({group for group in plan.groups if group})
    labels = [
        f"{name}={value}" for name in plan.labels.names if name != GROUP for value in plan.labels.codes(name).values
    ]
    return ReportChoices(groups, labels, sorted(set(plan.zone_of_store)), newest != Newest(None))


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
