"""Change one store: set its hours or zone through the same validators as any feed; remove its hours or all of it."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from storemon_flask.characters import show_invisible
from storemon_flask.database import stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.errors import NotFound, Unprocessable
from storemon_flask.feeds import schema
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import Source


def put(database: Database, feed: str, store_id: str, rows: list[dict[str, Any]], options: LoadOptions) -> LoadResult:
    """Replace what `feed` says of the store: by all rows, or `Unprocessable` with the reason of each."""
    _require(database, store_id)
    cleaned = schema.strip_ends(store_id)
    if cleaned != store_id:
        # Loaded by a version that did not strip these characters: the rows would become those of another store.
        raise Unprocessable(
            f"the id {show_invisible(store_id)!r} would be read as "
            f"{cleaned!r}, another store; remove this one and load "
            "its data under an id without invisible characters"
        )
    text = json.dumps([{"store_id": store_id, **row} for row in rows]).encode()
    source = Source("body", len(text), partial(io.BytesIO, text), format="json", feed=feed)
    result = load_sources(database, [source], replace(options, atomic=True, iso_days=None))
    if result.error is not None:
        raise result.error
    if result.refused:
        rejects = result.files[0].rejects
        reasons = "; ".join(f"row {reject.line}: {reject.reason}: {reject.text[:300]}" for reject in rejects[:10])
        raise Unprocessable(
            f"{reasons}; nothing was changed",
            errors={f"row {reject.line}": [reject.reason] for reject in rejects[:100]},
        )
    return result


def remove_hours(database: Database, store_id: str) -> None:
    """Remove the store's weekly hours: it is open 24x7 again."""
    _change(database, store_id, lambda connection: stores.remove_hours(connection, store_id))


def remove_special_hours(database: Database, store_id: str, date: str | None) -> None:
    """Remove the store's special hours of a date (`YYYY-MM-DD`), or all; `Unprocessable` for a wrong date."""
    try:
        day = None if date is None else schema.parse_date(date)
    except schema.BadValue as bad:
        raise Unprocessable(f"date is {date!r}: {bad}", errors={"date": [str(bad)]}) from None
    _change(database, store_id, lambda connection: stores.remove_special_hours(connection, store_id, day))


def remove(database: Database, store_id: str) -> None:
    """Remove the store with its polls, hours and zone."""

    def remove_all(connection: Connection) -> int:
        # Another request may have removed it meanwhile.
        if stores.rows_of(connection, [store_id])[1]:
            return 0
        stores.remove(connection, store_id)
        return 1

    _change(database, store_id, remove_all)


def _change(database: Database, store_id: str, remove: Callable[[Connection], int]) -> None:
    """Remove rows of a store and count the data version up if there were any; `NotFound` without the store."""
    _require(database, store_id)
    with database.write() as connection:
        if remove(connection):
            stores.data_changed(connection)


def _require(database: Database, store_id: str) -> None:
    """`NotFound` when there is no such store."""
    missing = [store_id]
    if database.exists():
        with database.read() as connection:
            _, missing = stores.rows_of(connection, missing)
    if missing:
        raise NotFound(f"there is no store {show_invisible(store_id)!r}; GET /api/v1/stores lists those there are")
