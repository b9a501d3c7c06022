"""The newest poll that is not in the future: the default as-of of everything that speaks of now (SPEC 4)."""

import sqlite3
import threading
from weakref import WeakKeyDictionary

from storemon_flask.characters import list_ids
from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Database
from storemon_flask.database.few_heard import minute_text
from storemon_flask.database.polls import Newest as Newest
from storemon_flask.database.stores import Ahead

_known: "WeakKeyDictionary[Database, tuple[tuple[object, ...], Newest]]" = WeakKeyDictionary()
_lock = threading.Lock()


def newest_poll(database: Database, connection: sqlite3.Connection, latest_us: int) -> Newest:
    """The newest poll up to `latest_us` (`Rules.latest_us`), as the connection's transaction sees it, which must not
    have changed the feeds. It is kept until the data change or the clock reaches a later poll."""
    key = (database.identity(), stores.data_version(connection))
    with _lock:
        known = _known.get(database)
    if known is not None and known[0] == key and known[1].holds_at(latest_us):
        return known[1]
    found = polls.newest(connection, latest_us)
    with _lock:
        _known[database] = (key, found)
    return found


def look(database: Database, latest_us: int) -> Newest:
    """The same in a transaction of its own."""
    with database.read() as connection:
        return newest_poll(database, connection, latest_us)


def future_polls(ahead: Ahead) -> str | None:
    """What to say of stores that have polls in the future; None when there are none."""
    if not ahead:
        return None
    who = "1 store has" if ahead.count == 1 else f"{ahead.count:,} stores have"
    return _in_the_future(who, f" ({list_ids(ahead.ids, ahead.count)})", ahead.last_us)


def future_polls_of_store(last_us: int) -> str:
    """The same of one store whose newest poll, that of `last_us`, is in the future."""
    return _in_the_future("this store has", "", last_us)


def _in_the_future(who: str, which: str, last_us: int) -> str:
    return (
        f"{who} polls in the future{which}, the last of them of {minute_text(last_us)}; they count for nothing before their time. "
        "If this machine's clock is right, `storemon prune --future` takes them out"
    )
