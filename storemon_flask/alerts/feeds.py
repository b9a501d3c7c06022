"""Find trouble with the feeds: polls that stopped, rows that are rejected, ids that no longer match."""

from collections.abc import Iterator
from typing import Final

from storemon_flask.alerts.facts import Finding
from storemon_flask.clock import minute_text
from storemon_flask.database import loads, stores
from storemon_flask.database.connections import Connection
from storemon_flask.feeds.schema import FEEDS
from storemon_flask.model import DAY_US, WEEK_US, IncidentKind
from storemon_flask.stores.live_list import AsOf

# A load is in trouble if at least this many rows, and more than this percentage, were rejected.
_MOST_REJECTED: Final = 5
_MOST_PERCENT: Final = 5
# So many new stores without hours are ids that changed and not a few that opened.
_MOST_WITHOUT_HOURS: Final = 5


def find_troubles(connection: Connection, as_of: AsOf, now_us: int) -> tuple[Finding, ...]:
    """Return the trouble with the feeds; while the newest poll is old, only that."""
    if as_of.data_are_old:
        # After loading last month's export or a backup, no feed has stopped: nobody is told.
        quiet = now_us - as_of.as_of_us > WEEK_US
        text = f"the newest poll is of {minute_text(as_of.as_of_us)}; nothing is known of any store since then"
        return (_finding("silent", as_of.as_of_us, text, quiet),)
    return (*_silence(as_of), *_rejects(connection, now_us), *_unmatched(connection, as_of.as_of_us))


def _silence(as_of: AsOf) -> Iterator[Finding]:
    """Nearly all stores fell silent."""
    if as_of.note:
        yield _finding("silent", as_of.as_of_us - DAY_US, as_of.note)


def _rejects(connection: Connection, now_us: int) -> Iterator[Finding]:
    """Too many rows of the newest load of a feed were rejected. What is older than a day is no news."""
    for feed in FEEDS:
        counts = loads.newest_counts(connection, feed, now_us - DAY_US)
        if counts is None or counts.rejected < _MOST_REJECTED or counts.rejected * 100 <= counts.rows * _MOST_PERCENT:
            continue
        text = f"more than {_MOST_PERCENT} % of the {feed} rows of load {counts.load} were rejected"
        yield _finding(f"rejects {feed}", counts.loaded_us, text)


def _unmatched(connection: Connection, as_of_us: int) -> Iterator[Finding]:
    """Stores that were polled for the first time in the last day have no hours, although others have."""
    new, without_hours = stores.polled_first_since(connection, as_of_us - DAY_US)
    if without_hours >= _MOST_WITHOUT_HOURS and 2 * without_hours > new and stores.any_hours(connection):
        text = f"{without_hours:,} of the {new:,} stores first polled in the last day have no hours, as if ids changed"
        yield _finding("unmatched", as_of_us - DAY_US, text)


def _finding(subject: str, since_us: int, text: str, quiet: bool = False) -> Finding:
    return Finding(IncidentKind.FEED, "fleet", subject, since_us, {"text": text}, quiet)
