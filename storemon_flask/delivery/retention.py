"""The periodic cleanup of sent messages and of incidents that are long over."""

from collections.abc import Callable
from typing import Final

from storemon_flask.database import incidents, messages
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US

KEEP_MESSAGES_DAYS: Final = 90
# More than a year, so that a month can be compared with the same month of the year before.
KEEP_INCIDENTS_DAYS: Final = 400
# At most this many rows in one transaction, so that others can write in between.
_BATCH: Final = 5_000


def drop_old(database: Database, now_us: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Delete messages, with their attempts and notices, and then incidents, that are older than the retention."""
    if not database.exists():
        return
    for drop, days in ((messages.drop_old, KEEP_MESSAGES_DAYS), (incidents.drop_old, KEEP_INCIDENTS_DAYS)):
        dropped = _BATCH
        while dropped == _BATCH and not stopped():
            with database.write() as connection:
                dropped = drop(connection, now_us - days * DAY_US, _BATCH)
