"""New tokens of push addresses, for stores that are there or will be."""

from dataclasses import dataclass

from storemon_flask.database import stores, tokens
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.feeds.schema import BadValue, parse_store_id


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made: shown now and never again. `warning` is empty when its store is there."""

    token: str
    store_id: str
    warning: str


def add_token(database: Database, store: str, label: str, now_us: int) -> NewToken:
    """Return a new token for that store. `Unprocessable` for what is no store id, or no label."""
    try:
        store_id = parse_store_id(store)
    except BadValue as bad:
        raise Unprocessable(f"{store[:100]!r} is no store: {bad}", errors={"store": [str(bad)]}) from None
    token = tokens.add(database, store_id, label, now_us)
    with database.read() as connection:
        _, missing = stores.rows_of(connection, [store_id])
    warning = f"there is no store {store_id} yet; its first poll makes it. Is the id right?" if missing else ""
    return NewToken(token, store_id, warning)
