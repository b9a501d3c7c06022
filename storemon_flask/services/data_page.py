"""What the page about the data says: how much of each feed there is, how fresh it is, and the rows that did not fit."""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from storemon_flask.services import catalogue, schedule
from storemon_flask.storage import feed_counts, stores
from storemon_flask.storage.db import Database

_FEEDS: Final = ("polls", "hours", "timezones", "stores", "special_hours")


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed: `count` rows of it are known, of `stores` stores; when a file of it was last loaded (None: never)."""

    name: str
    count: int
    stores: int
    loaded_us: int | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """The feeds in the order they are usually loaded, how many stores there are, and the newest poll (None: no poll)."""

    feeds: list[Feed]
    stores: int
    newest_poll_us: int | None


@dataclass(frozen=True, slots=True)
class Places:
    """Names that a report can be narrowed down to, and whether there is any poll."""

    groups: list[str]
    zones: list[str]
    polled: bool


def freshness(database: Database) -> Freshness:
    """How much there is and since when; without a database there is nothing."""
    if not database.exists():
        return Freshness([Feed(name, 0, 0, None) for name in _FEEDS], 0, None)
    with database.read() as connection:
        count = feed_counts.counts(connection)
        loaded = feed_counts.last_loaded(connection)
        newest = stores.newest_poll(connection)
    of_feed = {
        "polls": (count["polls"], count["polled"]),
        "hours": (count["hours"], count["with_hours"]),
        "timezones": (count["timezones"], count["timezones"]),
        "stores": (count["names"], count["names"]),
        "special_hours": (count["special"], count["with_special"]),
    }
    feeds = [Feed(name, *of_feed[name], loaded.get(name)) for name in _FEEDS]
    return Freshness(feeds, count["stores"], newest)


def newest_poll(database: Database) -> int | None:
    """The instant of the newest poll; None without one."""
    if not database.exists():
        return None
    with database.read() as connection:
        return stores.newest_poll(connection)


def places(database: Database, default_zone: str) -> Places:
    """The groups and zones that stores are in, by name, and whether there is a poll."""
    if not database.exists():
        return Places([], [], False)
    with database.read() as connection:
        newest = stores.newest_poll(connection)
        plan = schedule.of(database, connection, default_zone, None, newest or 0)
    groups = sorted({group for group in plan.groups if group})
    return Places(groups, sorted(set(plan.zone_of_store)), newest is not None)


def first_rejects(database: Database, load: int, most: int) -> list[tuple[str, int, str, str]]:
    """Up to `most` (file, line, reason, text) of the rows of a load that could not be used; `NotFound` without the load."""
    with catalogue.rejects(database, load) as rows:
        return [row[1:] for row in islice(rows, most)]
