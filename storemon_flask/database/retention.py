"""How long polls are kept: what `STOREMON_KEEP_POLLS_DAYS` says, applied."""

import logging
from collections.abc import Callable

from storemon_flask.database import prune
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import newest_poll
from storemon_flask.database.prune import Pruned
from storemon_flask.model import DAY_US
from storemon_flask.settings import Settings

log = logging.getLogger("storemon.retention")


def run(database: Database, settings: Settings, now_us: int, stopped: Callable[[], bool] = lambda: False) -> Pruned:
    """Take out what is older than the days that polls are kept, and say what that was; nothing when they are kept for
    ever.

    The days count back from the newest poll that is not in the future, or from now if that is earlier: neither a clock
    that is set ahead nor a feed that has stopped nor a poll of next year empties the history.
    """
    if not settings.keep_polls_days or not database.exists():
        return Pruned()
    with database.read() as connection:
        newest = newest_poll(database, connection, settings.rules.latest_us(now_us)).poll_us
    if newest is None:
        return Pruned()
    done = prune.run(database, min(newest, now_us) - settings.keep_polls_days * DAY_US, now_us, stopped=stopped)
    if done.polls or done.loads:
        log.info(
            "older than %d days: %d polls, %d rejected rows and %d loads taken out",
            settings.keep_polls_days,
            done.polls,
            done.rejects,
            done.loads,
        )
    return done
