"""One store's hours and zone set, its hours or the whole store removed: through the same validators as any feed."""

import io
import json
from dataclasses import replace
from functools import partial
from typing import Any

from storemon_flask.characters import show_invisible
from storemon_flask.database import hours, stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import NotFound, Unprocessable
from storemon_flask.feeds import values
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import Source


def check(database: Database, store_id: str) -> None:
    """`NotFound` when there is no such store."""
    missing = [store_id]
    if database.exists():
        with database.read() as connection:
            _, missing = stores.rows_of(connection, missing)
    if missing:
        raise unknown(store_id)


def unknown(store_id: str) -> NotFound:
    """What is said of a store that is not there."""
    return NotFound(f"there is no store {show_invisible(store_id)!r}; GET /api/v1/stores lists those there are")


def put(database: Database, feed: str, store_id: str, rows: list[dict[str, Any]], options: LoadOptions) -> LoadResult:
    """These rows become what `feed` says of the store; all of them, or `Unprocessable` with the reason of each row."""
    check(database, store_id)
    cleaned = values.strip_ends(store_id)
    if cleaned != store_id:
        # Loaded by a version that did not cut these characters off: the rows would become those of another store.
        raise Unprocessable(
            f"the id {show_invisible(store_id)!r} would be read as {cleaned!r}, another store; remove this one and load "
            "its data under an id without invisible characters"
        )
    text = json.dumps([{"store_id": store_id, **row} for row in rows]).encode()
    source = Source("body", len(text), partial(io.BytesIO, text), format="json", feed=feed)
    result = load_sources(database, [source], replace(options, atomic=True, iso_days=None))
    if result.error is not None:
        raise result.error
    if result.refused:
        rejects = result.files[0].rejects
        named = "; ".join(f"row {reject.line}: {reject.reason}: {reject.text[:300]}" for reject in rejects[:10])
        raise Unprocessable(
            f"{named}; nothing was changed", errors={f"row {reject.line}": [reject.reason] for reject in rejects[:100]}
        )
    return result


def remove_hours(database: Database, store_id: str) -> int:
    """The store is open 24x7 again; how many rows of weekly hours it had. `NotFound` when there is no such store."""
    check(database, store_id)
    with database.write() as connection:
        removed = hours.remove_hours(connection, store_id)
        if removed:
            stores.data_changed(connection)
    return removed


def remove_special_hours(database: Database, store_id: str, date: str | None) -> int:
    """The store keeps its weekly hours on that date (`YYYY-MM-DD`), or on all; how many rows of special hours that was.

    `NotFound` when there is no such store; `Unprocessable` for what is no date.
    """
    try:
        day = None if date is None else values.parse_date(date)
    except values.BadValue as bad:
        raise Unprocessable(f"date is {date!r}: {bad}", errors={"date": [str(bad)]}) from None
    check(database, store_id)
    with database.write() as connection:
        removed = hours.remove_special_hours(connection, store_id, day)
        if removed:
            stores.data_changed(connection)
    return removed


def remove(database: Database, store_id: str) -> None:
    """Forget the store and all that is known of it. `NotFound` when there is no such store."""
    check(database, store_id)
    with database.write() as connection:
        if not stores.rows_of(connection, [store_id])[1]:
            stores.remove(connection, store_id)
            stores.data_changed(connection)
