"""Change one store: set its hours or zone through the same validators as any feed; remove its hours or all of it."""

import io
import json
from dataclasses import replace
from functools import partial
from typing import Any

from storemon_flask.characters import show_invisible
from storemon_flask.database import stores, undo
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.feeds import schema
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import Source


def put(database: Database, feed: str, store_id: str, rows: list[dict[str, Any]], options: LoadOptions) -> LoadResult:
    """Replace what `feed` says of the store: by all rows, or `Unprocessable` with the reason of each."""
    require_store(database, store_id)
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


def remove_hours(database: Database, store_id: str, options: LoadOptions) -> None:
    """Remove the store's weekly hours: it is open 24x7 again."""
    _remove_facts(database, store_id, "hours", None, options)


def remove_special_hours(database: Database, store_id: str, date: str | None, options: LoadOptions) -> None:
    """Remove the store's special hours of a date (`YYYY-MM-DD`), or all; `Unprocessable` for a wrong date."""
    try:
        day = None if date is None else schema.parse_date(date)
    except schema.BadValue as bad:
        raise Unprocessable(f"date is {date!r}: {bad}", errors={"date": [str(bad)]}) from None
    _remove_facts(database, store_id, "special_hours", day, options)


def remove(database: Database, store_id: str, options: LoadOptions) -> LoadResult:
    """Remove the store with its polls, hours, zone and name, as a load, which can be undone. `NotFound` without it."""
    require_store(database, store_id)
    with database.write(check=options.check) as connection:
        # Another request may have removed it meanwhile.
        if stores.rows_of(connection, [store_id])[1]:
            raise stores.no_store(store_id)
        load, summary = undo.remove_store(connection, store_id, options.now_us, options.undo)
    return LoadResult(load, [summary])


def _remove_facts(database: Database, store_id: str, feed: str, day: int | None, options: LoadOptions) -> None:
    """Remove rows of a store, as a load, if there are any; `NotFound` without the store."""
    require_store(database, store_id)
    with database.write(check=options.check) as connection:
        if not stores.rows_of(connection, [store_id])[1]:
            undo.remove_facts(connection, store_id, feed, day, options.now_us, options.undo)


def require_store(database: Database, store_id: str) -> None:
    """`NotFound` when there is no such store."""
    missing = [store_id]
    if database.exists():
        with database.read() as connection:
            _, missing = stores.rows_of(connection, missing)
    if missing:
        raise stores.no_store(store_id)
