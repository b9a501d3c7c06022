"""What stores are called now, for pages whose data know them by their ids alone."""

from collections.abc import Sequence

from storemon_flask.database import stores
from storemon_flask.database.connections import Database


def of(database: Database, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name and group (empty where there is none) of those of the stores that have one of the two."""
    if not database.exists():
        return {}
    with database.read() as connection:
        rows, _ = stores.rows_of(connection, ids)
    found = zip(rows.ids, rows.names, rows.groups, strict=True)
    return {store_id: (name, group) for store_id, name, group in found if name or group}


def matching(database: Database, text: str) -> frozenset[str]:
    """The ids of the stores with this text in name or group, whatever the case."""
    if not database.exists():
        return frozenset()
    with database.read() as connection:
        rows = stores.all_rows(connection)
    wanted = text.casefold()
    found = zip(rows.ids, rows.names, rows.groups, strict=True)
    return frozenset(
        store_id for store_id, name, group in found if wanted in name.casefold() or wanted in group.casefold()
    )
