"""The sentence about an as-of that only few stores have come to (SPEC 7): one for reports, lists, pages and loads."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from storemon_flask.database import polls, stores
from storemon_flask.model import DAY_US, WEEK_US, Ints

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Fewer than one in so many of the stores polled before have been heard since.
_ONE_IN: Final = 20


@dataclass(frozen=True, slots=True)
class Silence:
    """Nearly all stores fell silent at `since_us`: of the `polled` stores of the week up to it `known` have a later
    poll, and so have `others` that were first polled after it."""

    since_us: int
    polled: int
    known: int
    others: int


def sentence(connection: sqlite3.Connection, as_of_us: int) -> str | None:
    """What to say at that as-of; None when the stores polled before are heard on."""
    found = _silence(connection, as_of_us)
    return None if found is None else _words(found)


def silence(first_us: Ints, last_us: Ints, as_of_us: int) -> Silence | None:
    """The latest such silence that began a day or more before the as-of.

    `first_us` and `last_us` are the first poll, and the newest up to the as-of, of each store that was polled by then.
    The stores that are heard must be few: fewer than 5 % of those polled in the week before, and, with all others, at
    most half as many as those that fell silent. So a fleet whose ids were all replaced is not taken for a stray poll.
    """
    last, first = np.sort(last_us), np.sort(first_us)
    at = np.unique(last[last < as_of_us - DAY_US])
    before = np.searchsorted(last, at, side="right")
    heard = len(last) - before
    known = heard - (len(first) - np.searchsorted(first, at, side="right"))
    silent = before - np.searchsorted(last, at - WEEK_US, side="right")
    few = np.flatnonzero((_ONE_IN * known < known + silent) & (2 * heard <= silent))
    if not len(few):
        return None
    place = int(few[-1])
    return Silence(
        int(at[place]), int(known[place] + silent[place]), int(known[place]), int(heard[place] - known[place])
    )


def minute_text(instant_us: int) -> str:
    """`2024-10-14 23:55 UTC`."""
    return f"{_EPOCH + timedelta(microseconds=instant_us):%Y-%m-%d %H:%M} UTC"


def _silence(connection: sqlite3.Connection, as_of_us: int) -> Silence | None:
    polled, heard, later = stores.heard_counts(connection, as_of_us - DAY_US, as_of_us)
    # Too many are heard for the second condition of `silence`: with all others they are the stores that were polled by
    # then.
    enough = polled // 3 + 1
    # The newest poll of some lies after the as-of: which they had by then is read from their polls, a third of the
    # fleet first.
    if heard < enough and later:
        heard += polls.count_heard(
            connection, stores.numbers_polled_after(connection, as_of_us, enough), as_of_us - DAY_US, as_of_us
        )
    if heard >= enough:
        return None
    number, first, last = stores.poll_spans(connection, as_of_us)
    ahead = np.flatnonzero(last > as_of_us)
    last[ahead] = polls.newest_up_to(connection, number[ahead], as_of_us)
    return silence(first, last, as_of_us)


def _words(found: Silence) -> str:
    when = minute_text(found.since_us)
    if found.polled == 1:
        said = f"the only store polled in the week up to {when} has no poll since then"
    else:
        have = "has" if found.known == 1 else "have"
        said = (
            f"{found.known:,} of the {found.polled:,} stores polled in the week up to {when} {have} a poll since then"
        )
    if found.others:
        said += f", and {found.others:,} other {'store has' if found.others == 1 else 'stores have'}"
    rest = "it" if found.polled == 1 else "the others"
    return f"{said}; nothing is known of {rest} since then"
