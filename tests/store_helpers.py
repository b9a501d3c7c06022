"""Stores, for the tests of lists and of one store."""

from collections.abc import Iterator
from contextlib import contextmanager

from conftest import NEWEST

from storemon_flask import clock
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, Rules
from storemon_flask.stores.detail import Store, StoreTimeline, build_timeline, measure_spans, open_store

NOW = clock.parse_timestamp(NEWEST)


YEAR_LATER = NOW + 365 * DAY_US


ZONE = "America/Chicago"


@contextmanager
def opened(database: Database, store_id: str, now_us: int = NOW, zone: str = ZONE) -> Iterator[Store]:
    """Yield a store within a transaction."""
    with database.read() as connection:
        yield open_store(database, connection, store_id, Rules(), zone, now_us)


def timeline_of(
    database: Database,
    store_id: str,
    from_us: int | None = None,
    to_us: int | None = None,
    now_us: int = NOW,
    zone: str = ZONE,
) -> StoreTimeline:
    """Return the timeline of a store."""
    with opened(database, store_id, now_us, zone) as store:
        return build_timeline(store, from_us, to_us)


def sums_of(timeline: StoreTimeline) -> dict[str, int]:
    """Return the measures of the range of a timeline."""
    return measure_spans(timeline.reading, [(timeline.from_us, timeline.to_us)])[0]
