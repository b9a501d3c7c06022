"""Rows of hours as integers, so that whole sets of them are compared at once: version << 37 | day << 34 | start << 17 |
end.

A version is a store with a local date; here it is a place in a list of them. Times are seconds after midnight.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.database import opening_hours
from storemon_flask.database.opening_hours import Version
from storemon_flask.feeds.tables import Rows
from storemon_flask.model import CLOSED, FOREVER, Bools, Hours, Ints, SpecialHours

# That leaves 26 bits for versions: 67 million stores and dates in one load, whose texts alone would take 10 GB.
VERSION: Final = 37
START: Final = 17
_DAY: Final = 34
SECONDS: Final = (1 << START) - 1
# No time of day is as late: what `CLOSED` becomes.
_CLOSED: Final = SECONDS

PlaceOf = Callable[[Version], int]
# Store number, local date, weekday, start and end.
_Columns = tuple[Ints, Ints, Ints, Ints, Ints]


@dataclass(frozen=True, slots=True)
class Feed:
    """What tells weekly from special hours: where a row's date, weekday (-1: none) and times stand, and their storage."""

    date_at: int
    day_at: int
    start_at: int
    stored: Callable[[sqlite3.Connection, int, int], _Columns]
    replace: Callable[[sqlite3.Connection, Sequence[Version], Ints, Ints], None]


def keys_of(feed: Feed, rows: Rows, place_of: PlaceOf) -> Ints:
    """The rows of a block as integers, in file order."""
    ids, dates = rows.values[0], rows.values[feed.date_at]
    codes = rows.codes[0] * len(dates) + rows.codes[feed.date_at]
    distinct, row_of = np.unique(codes, return_inverse=True)
    versions = [place_of((ids[code // len(dates)], dates[code % len(dates)])) for code in distinct.tolist()]
    day = _integers(rows, feed.day_at) if feed.day_at >= 0 else 0
    start, end = _integers(rows, feed.start_at), _integers(rows, feed.start_at + 1)
    return _packed(np.array(versions, dtype=np.int64)[row_of], day, start, end)


def stored_keys(feed: Feed, connection: sqlite3.Connection, ids: dict[int, str], place_of: PlaceOf) -> Ints:
    """All that is stored of the stores of those numbers, as integers, ascending."""
    if not ids:
        return np.empty(0, dtype=np.int64)
    store, date, day, start, end = feed.stored(connection, min(ids), max(ids))
    numbers = np.sort(np.fromiter(ids, dtype=np.int64, count=len(ids)))
    mine = numbers[np.minimum(np.searchsorted(numbers, store), len(numbers) - 1)] == store
    store, date, day, start, end = (column[mine] for column in (store, date, day, start, end))
    distinct, row_of = np.unique(store * (4 * FOREVER) + date, return_inverse=True)
    where = np.searchsorted(store * (4 * FOREVER) + date, distinct)
    versions = [
        place_of((ids[number], valid))
        for number, valid in zip(store[where].tolist(), date[where].tolist(), strict=True)
    ]
    return np.sort(_packed(np.array(versions, dtype=np.int64)[row_of], day, start, end))


def half_closed(keys: Ints) -> Bools:
    """Which rows have one time only."""
    half: Bools = (((keys >> START) & SECONDS) == _CLOSED) != closed(keys)
    return half


def closed(keys: Ints) -> Bools:
    """Which rows say that a store is closed all day."""
    found: Bools = (keys & SECONDS) == _CLOSED
    return found


def closed_and_open(keys: Ints) -> Ints:
    """The versions that are both closed all day and not."""
    shut = closed(keys)
    both: Ints = np.intersect1d(keys[shut] >> VERSION, keys[~shut] >> VERSION)
    return both


def _integers(rows: Rows, at: int) -> Ints:
    # Values that could not be read are something else; no good row has one.
    found = np.array([value if isinstance(value, int) else 0 for value in rows.values[at]], dtype=np.int64)
    chosen: Ints = found[rows.codes[at]]
    return chosen


def _packed(version: Ints, day: Ints | int, start: Ints, end: Ints) -> Ints:
    start, end = (np.where(column == CLOSED, _CLOSED, column) for column in (start, end))
    keys: Ints = (version << VERSION) | (np.int64(day) << _DAY) | (start << START) | end
    return keys


def _replace_weekly(connection: sqlite3.Connection, versions: Sequence[Version], places: Ints, keys: Ints) -> None:
    """The rows, whose versions' places are among the ascending `places`, become the hours of those versions."""
    store, dates = _by_place(versions, places, keys)
    times = ((keys >> _DAY) & 7, (keys >> START) & SECONDS, keys & SECONDS)
    opening_hours.replace_hours(connection, versions, Hours(store, *times, dates, np.full(len(keys), FOREVER)))


def _replace_special(connection: sqlite3.Connection, versions: Sequence[Version], places: Ints, keys: Ints) -> None:
    store, dates = _by_place(versions, places, keys)
    times = (np.where(column == _CLOSED, CLOSED, column) for column in ((keys >> START) & SECONDS, keys & SECONDS))
    opening_hours.replace_special_hours(connection, versions, SpecialHours(store, dates, *times))


def _by_place(versions: Sequence[Version], places: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """For each row the place of its version in `versions`, and its date."""
    store = np.searchsorted(places, keys >> VERSION)
    return store, np.array([date for _, date in versions], dtype=np.int64)[store]


def _stored_weekly(connection: sqlite3.Connection, first: int, last: int) -> _Columns:
    found = opening_hours.hours(connection, first, last)
    return found.store, found.from_day, found.day, found.start_s, found.end_s


def _stored_special(connection: sqlite3.Connection, first: int, last: int) -> _Columns:
    found = opening_hours.special_hours(connection, first, last)
    return found.store, found.date, np.zeros_like(found.store), found.start_s, found.end_s


WEEKLY: Final = Feed(date_at=4, day_at=1, start_at=2, stored=_stored_weekly, replace=_replace_weekly)
SPECIAL: Final = Feed(date_at=1, day_at=-1, start_at=2, stored=_stored_special, replace=_replace_special)
