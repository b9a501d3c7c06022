"""What the page about the data says: how much of each feed there is, how fresh it is, and the rows that did not fit."""

from dataclasses import dataclass
from typing import Final

from storemon_flask.database import feed_counts, schedule
from storemon_flask.database import newest as newest_service
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import Newest
from storemon_flask.stores import catalogue

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
    """The feeds in the order they are usually loaded, how many stores there are, the newest poll that is not in the
    future (None: no poll), and what there is to say of those in the future."""

    feeds: list[Feed]
    stores: int
    newest_poll_us: int | None
    future: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Names that a report can be narrowed down to, and whether there is any poll."""

    groups: list[str]
    zones: list[str]
    polled: bool


def freshness(database: Database, latest_us: int) -> Freshness:
    """How much there is and since when; polls after `latest_us` are in the future.

    Without a database there is nothing.
    """
    if not database.exists():
        return Freshness([Feed(name, 0, 0, None) for name in _FEEDS], 0, None)
    with database.read() as connection:
        count = feed_counts.counts(connection)
        loaded = feed_counts.last_loaded(connection)
        newest = newest_service.newest_poll(database, connection, latest_us)
    of_feed = {
        "polls": (count["polls"], count["polled"]),
        "hours": (count["hours"], count["with_hours"]),
        "timezones": (count["timezones"], count["timezones"]),
        "stores": (count["names"], count["names"]),
        "special_hours": (count["special"], count["with_special"]),
    }
    feeds = [Feed(name, *of_feed[name], loaded.get(name)) for name in _FEEDS]
    return Freshness(feeds, count["stores"], newest.poll_us, newest_service.future_polls(newest.ahead))


def newest_poll(database: Database, latest_us: int) -> int | None:
    """The newest poll up to that instant; None without one."""
    if not database.exists():
        return None
    return newest_service.look(database, latest_us).poll_us


def places(database: Database, default_zone: str, latest_us: int) -> Places:
    """The groups and zones that stores are in at the newest poll up to `latest_us`, by name, and whether there is a
    poll.
    """
    if not database.exists():
        return Places([], [], False)
    with database.read() as connection:
        newest = newest_service.newest_poll(database, connection, latest_us)
        plan = schedule.of(database, connection, default_zone, None, newest.poll_us or 0)
    groups = sorted({group for group in plan.groups if group})
    return Places(groups, sorted(set(plan.zone_of_store)), newest != Newest(None))


def first_rejects(database: Database, load: int, most: int) -> list[tuple[str, int, str, str]]:
    """Up to `most` (file, line, reason, text) of the rows of a load that could not be used; `NotFound` without the
    load.
    """
    return [row[1:] for row in catalogue.rejects(database, load, most)]
