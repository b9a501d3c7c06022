"""How much of each feed there is, and when something of it came last."""

import sqlite3
from typing import Final

_FEEDS: Final = ("polls", "hours", "timezones", "stores", "special_hours")


def last_loaded(connection: sqlite3.Connection) -> dict[str, int]:
    """When the newest file of each feed was put in (microseconds), for the feeds that were ever loaded."""
    # One look into the index for each feed, however many files there were.
    newest = {
        feed: connection.execute(
            "SELECT max(loaded_us) FROM load_file WHERE feed = ? AND error = ''", [feed]
        ).fetchone()[0]
        for feed in _FEEDS
    }
    return {feed: loaded_us for feed, loaded_us in newest.items() if loaded_us is not None}


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many there are: `polls`, `polled` stores, `hours` rows, stores `with_hours`, `timezones`, `names`, `stores`,
    `special` rows, stores `with_special`."""
    found = {
        "polls": "SELECT coalesce(sum(length(polls)), 0) / 8 FROM poll_week",
        "polled": "SELECT count(last_poll_us) FROM store_record",
        "hours": "SELECT count(*) FROM hours",
        "with_hours": "SELECT count(DISTINCT store) FROM hours",
        "timezones": "SELECT count(*) FROM timezone",
        "names": "SELECT count(*) FROM store_record WHERE name <> '' OR group_name <> ''",
        "stores": "SELECT count(*) FROM store_record",
        "special": "SELECT count(*) FROM special_hours",
        "with_special": "SELECT count(DISTINCT store) FROM special_hours",
    }
    return {name: int(connection.execute(query).fetchone()[0]) for name, query in found.items()}
