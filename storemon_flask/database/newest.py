"""The newest poll that is not in the future, the default as-of (SPEC 4), and notes on an as-of (SPEC 7)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.characters import count_text, list_ids
from storemon_flask.clock import minute_text
from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.polls import Newest
from storemon_flask.database.stores import Ahead
from storemon_flask.model import DAY_US, WEEK_US, Ints

# Few is fewer than one in so many of the stores polled before.
_ONE_IN: Final = 20


@dataclass(frozen=True, slots=True)
class Silence:
    """Nearly all stores fell silent at `since_us`.

    Of the `polled` stores of the week up to it, `known` have a later poll, and so have `others` that were first polled
    after it.
    """

    since_us: int
    polled: int
    known: int
    others: int


def newest_poll(database: Database, connection: Connection, latest_us: int) -> Newest:
    """Return the newest poll up to `latest_us` (`Rules.latest_us`) in the connection's transaction.

    It is cached until the data change or the clock reaches a later poll. The transaction must not have changed feeds.
    """
    key = (database.identity(), stores.data_version(connection))
    cached: tuple[object, Newest] | None = database.cache.get("newest poll")
    if cached is not None and cached[0] == key and cached[1].holds_at(latest_us):
        return cached[1]
    newest = polls.newest(connection, latest_us)
    database.cache["newest poll"] = (key, newest)
    return newest


def look(database: Database, latest_us: int) -> Newest:
    """Return the same, read in a transaction of its own."""
    with database.read() as connection:
        return newest_poll(database, connection, latest_us)


def future_polls(ahead: Ahead) -> str | None:
    """Return the note on stores that have polls in the future; None when there are none."""
    if not ahead:
        return None
    who = count_text(ahead.count, "store has", "stores have")
    return _in_the_future(who, f" ({list_ids(ahead.ids, ahead.count)})", ahead.last_us)


def future_polls_of_store(last_us: int) -> str:
    """Return the same note on one store whose newest poll, that of `last_us`, is in the future."""
    return _in_the_future("this store has", "", last_us)


def silence_note(connection: Connection, as_of_us: int) -> str | None:
    """Return the note that nearly all stores fell silent before that as-of; None when enough are still polled."""
    polled, recent, later = stores.recently_polled_counts(connection, as_of_us - DAY_US, as_of_us)
    # So many are too many for the second condition of `latest_silence`.
    enough = polled // 3 + 1
    # The newest poll of some lies after the as-of: whether they have a recent one too is read from their polls, of a
    # third of the fleet at most.
    if recent < enough and later:
        number = stores.numbers_polled_after(connection, as_of_us, enough)
        recent += polls.count_stores_polled(connection, number, as_of_us - DAY_US, as_of_us)
    if recent >= enough:
        return None
    number, first, last = stores.poll_spans(connection, as_of_us)
    ahead = np.flatnonzero(last > as_of_us)
    last[ahead] = polls.newest_up_to(connection, number[ahead], as_of_us)
    silence = latest_silence(first, last, as_of_us)
    return None if silence is None else _silence_text(silence)


def latest_silence(first_us: Ints, last_us: Ints, as_of_us: int) -> Silence | None:
    """Return the latest such silence that began a day or more before the as-of.

    `first_us` and `last_us` are the first poll, and the newest up to the as-of, of each store that was polled by then.
    The stores that are still polled must be few: fewer than 5 % of those polled in the week before, and, with all
    others, at most half as many as those that fell silent. So a fleet whose ids were all replaced is not taken for a
    stray poll.
    """
    last, first = np.sort(last_us), np.sort(first_us)
    starts = np.unique(last[last < as_of_us - DAY_US])
    before = np.searchsorted(last, starts, side="right")
    later = len(last) - before
    known = later - (len(first) - np.searchsorted(first, starts, side="right"))
    silent = before - np.searchsorted(last, starts - WEEK_US, side="right")
    few = np.flatnonzero((_ONE_IN * known < known + silent) & (2 * later <= silent))
    if not len(few):
        return None
    index = int(few[-1])
    polled = int(known[index] + silent[index])
    return Silence(int(starts[index]), polled, int(known[index]), int(later[index] - known[index]))


def _in_the_future(who: str, which: str, last_us: int) -> str:
    return (
        f"{who} polls in the future{which}, the last of them of {minute_text(last_us)}; they count for nothing before "
        "their time. If this machine's clock is right, `storemon prune --future` takes them out"
    )


def _silence_text(silence: Silence) -> str:
    when = minute_text(silence.since_us)
    if silence.polled == 1:
        text = f"the only store polled in the week up to {when} has no poll since then"
    else:
        have = "has" if silence.known == 1 else "have"
        which = f"{silence.known:,} of the {silence.polled:,} stores polled in the week up to {when}"
        text = f"{which} {have} a poll since then"
    if silence.others:
        text += f", and {count_text(silence.others, 'other store has', 'other stores have')}"
    rest = "it" if silence.polled == 1 else "the others"
    return f"{text}; nothing is known of {rest} since then"
