"""Undo a load, or say what that would do."""

from collections.abc import Callable

from storemon_flask.database import loads
from storemon_flask.database import undo as kept
from storemon_flask.database.connections import Database
from storemon_flask.errors import NotFound
from storemon_flask.feeds.load import LoadOptions, LoadResult
from storemon_flask.model import TOO_LARGE


def undo(
    database: Database, load: int, options: LoadOptions, progress: Callable[[int, int], None] = lambda done, total: None
) -> LoadResult:
    """Undo a load, as a load of its own. `NotFound` without it, `Conflict` with the reason when it cannot be."""
    _require(database, load)
    with database.write(check=options.check) as connection:
        number, summary = kept.undo(connection, load, options.now_us, options.undo, progress)
    return LoadResult(number, [summary])


def plan(database: Database, load: int) -> list[str]:
    """Return sentences on what undoing the load would do. Errors as of `undo`."""
    _require(database, load)
    with database.read() as connection:
        return kept.plan(connection, load).sentences() or ["nothing changes: what it brought was there before"]


def reason_against(database: Database, load: int) -> str:
    """Return why the load cannot be undone, as far as one look tells; empty when nothing is against it so far."""
    with database.read() as connection:
        return kept.reason_against(connection, load)


def _require(database: Database, load: int) -> None:
    if not database.exists():
        raise NotFound(f"there is no load {load}: nothing was ever loaded")
    # What is larger no row can have.
    if load >= TOO_LARGE:
        raise loads.no_load(load)
