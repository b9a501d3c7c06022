"""What the sums of a store's days follow from besides its polls, as one number: where it is the same, so are they."""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storemon_flask.model import DAY_US, FOREVER, Hours, Ints, Rules, SpecialHours

_Words = NDArray[np.uint64]
# The finalizer of splitmix64.
_FACTORS: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
# An opening reaches a day or two beyond its date, and a zone a day to each side of UTC.
_MARGIN_DAYS: Final = 6


def text_numbers(texts: list[str]) -> Ints:
    """Return a number of 64 bits for each text; different texts have different ones."""
    digests = b"".join(
        [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    )
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def bases(
    origin: Ints,
    hours: Hours,
    special: SpecialHours,
    rules: Rules,
    complete_from_us: int,
    first_days: Sequence[int],
    length: int,
) -> list[Ints]:
    """Return for each store the number of all that its sums follow from but its polls, for each span of `length` days
    that begins with one of the ascending `first_days`.

    That is `origin` (a number for each store: who it is, its zone, and which program and zone data count), the rules,
    the time before which polls were pruned, and the hours and special hours of dates that matter to these days.
    """
    reach_days = _MARGIN_DAYS - -rules.farthest_us // DAY_US
    low, high = first_days[0] - reach_days, first_days[-1] + length + reach_days
    changes = np.concatenate([hours.from_day, hours.until_day, special.date, [complete_from_us // DAY_US]])
    if not ((changes >= low) & (changes <= high)).any():
        # Nothing changes meanwhile, and dates count from the beginning of each span.
        return [_bases(origin, hours, special, rules, complete_from_us, low, low + length + 2 * reach_days)] * len(
            first_days
        )
    return [
        _bases(origin, hours, special, rules, complete_from_us, first - reach_days, first + length + reach_days)
        for first in first_days
    ]


def _bases(
    origin: Ints, hours: Hours, special: SpecialHours, rules: Rules, complete_from_us: int, low: int, high: int
) -> Ints:
    """Return the numbers of the days from `low` up to `high`."""
    begins = np.full(len(origin), FOREVER, dtype=np.int64)
    np.minimum.at(begins, hours.store, hours.from_day)
    (rule,) = text_numbers([f"{rules.method} {rules.reach_us} {rules.max_gap_us}"])
    pruned_us = min(max(complete_from_us, low * DAY_US), high * DAY_US) - low * DAY_US
    same = np.ones(len(origin), dtype=np.int64)
    basis = _mix(0, origin, same * rule, same * pruned_us, np.clip(begins, low, high) - low)
    holds = (hours.from_day < high) & (hours.until_day > low)
    weekly = _mix(
        1,
        hours.day[holds],
        hours.start_s[holds],
        hours.end_s[holds],
        np.clip(hours.from_day[holds], low, high) - low,
        np.clip(hours.until_day[holds], low, high) - low,
    )
    inside = (special.date >= low) & (special.date < high)
    dated = _mix(2, special.date[inside] - low, special.start_s[inside], special.end_s[inside])
    # Sums modulo 2^64 do not depend on the order of the rows.
    np.add.at(basis, hours.store[holds], weekly)
    np.add.at(basis, special.store[inside], dated)
    return basis.view(np.int64)


def _mix(seed: int, *columns: Ints) -> _Words:
    """Return a number for each row of the columns, in which every bit follows from all of theirs."""
    words = np.full(len(columns[0]), seed, dtype=np.uint64)
    for column in columns:
        words = (words ^ np.ascontiguousarray(column).view(np.uint64)) + _STEP
        words = (words ^ (words >> _SHIFTS[0])) * _FACTORS[0]
        words = (words ^ (words >> _SHIFTS[1])) * _FACTORS[1]
        words = words ^ (words >> _SHIFTS[2])
    return words
