"""Timestamps by the column, for the spellings that exports use; `values.instant` says what a timestamp is.

`read_words` reads the one spelling nearly every export has, straight from a block's bytes. `read_column` reads those
with a zone of ` UTC`, `Z`, `+00:00` or nothing from fixed-width texts. Of everything else both say "not read": the
caller asks `values.instant`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storemon_flask.feeds.values import EPOCH_UNITS_US
from storemon_flask.model import DAY_US, Bools, Ints

Words = NDArray[np.uint64]


def word_of(text: bytes) -> np.uint64:
    """Up to eight bytes as a little-endian word."""
    return np.uint64(int.from_bytes(text.ljust(8, b"\0"), "little"))


# MASKS[n] keeps the first n bytes of a word.
MASKS: Final = np.array([(1 << (8 * kept)) - 1 for kept in range(9)], dtype=np.uint64)


def half_of(text: bytes) -> np.uint32:
    """Four bytes as a little-endian half word."""
    return np.uint32(int.from_bytes(text, "little"))


# `YYYY-MM-DD HH:MM:SS.ffffff UTC` as eight half words. XOR with a template leaves a digit's value where the template
# has a zero, and 0 where a separator is as it must be; the bits of the second mask must be clear in d, and in d + the
# third: 6 where a digit is, so that a value above 9 shows in the byte's high half.
_HALVES: Final = [
    (half_of(template), np.uint32(bad), half_of(bytes(6 * (letter == ord("0")) for letter in template)))
    for template, bad in (
        (b"0000", 0xF0F0F0F0),
        (b"-00-", 0xFFF0F0FF),
        (b"00 0", 0xF0FFF0F0),
        (b"0:00", 0xF0F0FFF0),
        (b":00.", 0xFFF0F0FF),
        (b"0000", 0xF0F0F0F0),
        (b"00 U", 0xFFFFF0F0),
        (b"TC\0\0", 0x0000FFFF),
    )
]
_UTC: Final = word_of(b" UTC")
_SHORTEST_UTC, _LONGEST_UTC = len("2023-01-22 12:09:39 UTC"), len("2023-01-22 12:09:39.388884 UTC")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199

# One more than any spelling read here: a field that fills the width may have been cut, and is not read here.
WIDTH = 40
_SUFFIXES = (b" UTC", b"Z", b"+00:00", b"")
_SHORTEST = len("2023-01-22 12:09:39")
_LONGEST_FRACTION = 12
_PATTERN = b"dddd-dd-dd_dd:dd:dd"
# Where a date has its first `-`, and a number still a digit.
_YEAR_ENDS = 4
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


def read_column(column: NDArray[np.bytes_]) -> tuple[Ints, Bools]:
    """Instants of a column of `S40` texts, and which of them were read; the others' instants mean nothing."""
    count = len(column)
    instants = np.zeros(count, dtype=np.int64)
    read = np.zeros(count, dtype=bool)
    if not count:
        return instants, read
    text = np.ascontiguousarray(column).view(np.uint8).reshape(count, -1)
    lengths = _lengths(text)
    for length in np.flatnonzero(np.bincount(lengths, minlength=1)):
        rows = np.flatnonzero(lengths == length)
        group = text if len(rows) == count else text[rows]
        for suffix in _SUFFIXES:
            stop = int(length) - len(suffix)
            digits = stop - _SHORTEST - 1
            if stop != _SHORTEST and not 1 <= digits <= _LONGEST_FRACTION:
                continue
            ends = np.all(group[:, stop:length] == np.frombuffer(suffix, np.uint8), axis=1)
            if ends.any():
                value, good = _fixed(group, max(digits, 0))
                good &= ends
                instants[rows[good]] = value[good]
                read[rows[good]] = True
        numbers = np.flatnonzero((group[:, _YEAR_ENDS] - np.uint8(48)) < 10)
        if len(numbers):
            value, good = _epoch_numbers(group[numbers], int(length))
            instants[rows[numbers[good]]] = value[good]
            read[rows[numbers[good]]] = True
    return instants, read


def _epoch_numbers(text: NDArray[np.uint8], length: int) -> tuple[Ints, Bools]:
    """Numbers of `length` characters since 1970, as `values.EPOCH_UNITS_US` has their units."""
    instants = np.zeros(len(text), dtype=np.int64)
    read = np.zeros(len(text), dtype=bool)
    digits = (text[:, :length] - np.uint8(48)).astype(np.int64)
    is_digit = (digits >= 0) & (digits < 10)
    for point, unit_us in EPOCH_UNITS_US.items():
        if length != point and not point + 2 <= length < WIDTH:
            continue
        good = is_digit[:, :point].all(axis=1) & is_digit[:, point + 1 :].all(axis=1) & (digits[:, 0] > 0)
        if length > point:
            good &= text[:, point] == ord(".")
        value = np.zeros(len(text), dtype=np.int64)
        for place in range(point):
            value = value * 10 + digits[:, place]
        value *= unit_us
        worth = unit_us
        for place in range(point + 1, length):
            worth //= 10
            value += digits[:, place] * worth
        instants[good] = value[good]
        read |= good
    return instants, read


def _lengths(text: NDArray[np.uint8]) -> Ints:
    width = text.shape[1]
    filled = text[:, ::-1] != 0
    lengths: Ints = np.where(filled.any(axis=1), width - filled.argmax(axis=1), 0)
    return lengths


def _fixed(text: NDArray[np.uint8], digits: int) -> tuple[Ints, Bools]:
    """`YYYY-MM-DD HH:MM:SS` (a `T` may stand for the blank) and a fraction of `digits` digits, at the start of each
    row.
    """
    good = np.ones(len(text), dtype=bool)
    for place, kind in enumerate(_PATTERN):
        letter = text[:, place]
        if kind == ord("d"):
            good &= (letter - np.uint8(48)) < 10
        elif kind == ord("_"):
            good &= (letter == 32) | (letter == ord("T"))
        else:
            good &= letter == kind
    fraction = np.zeros(len(text), dtype=np.int64)
    if digits:
        good &= text[:, _SHORTEST] == ord(".")
        for place in range(digits):
            letter = text[:, _SHORTEST + 1 + place] - np.uint8(48)
            good &= letter < 10
            if place < 6:
                fraction = fraction * 10 + letter
        fraction *= 10 ** max(0, 6 - digits)

    def number(first: int, stop: int) -> Ints:
        value = np.zeros(len(text), dtype=np.int64)
        for place in range(first, stop):
            value = value * 10 + (text[:, place] - np.uint8(48))
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    good &= (year >= 1970) & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last_day = _MONTH_DAYS[np.where(good, month, 1)] + (leap & (month == 2))
    good &= (day >= 1) & (day <= last_day)
    seconds = (hour * 60 + minute) * 60 + second
    return _days(year, month, day) * DAY_US + seconds * 1_000_000 + fraction, good


def _days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    shifted = year - (month <= 2)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: Ints = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
    return days


def read_words(words: Callable[[Ints, int], Words], start: Ints, end: Ints) -> tuple[Ints, Bools]:
    """Instants of the texts from `start` to `end`, and which of them were read; the others' instants mean nothing.

    `words(at, n)` gathers n little-endian words from each byte of `at` on; 32 bytes from each `start` must lie in the
    block. Reads `YYYY-MM-DD HH:MM:SS[.f to .ffffff] UTC`, four words a row, by arithmetic on half words, of which a
    processor takes twice as many at once; no digit is looked at alone.
    """
    length = end - start
    halves = words(start, 4).view("<u4")
    digits = [halves[place // 2, place % 2 :: 2] ^ template for place, (template, _, _) in enumerate(_HALVES)]
    fitting: Bools = _without_microseconds(words, digits, end, length)
    bad = np.zeros(len(start), dtype=np.uint32)
    for half, (_, mask, six) in zip(digits, _HALVES, strict=True):
        bad |= (half | (half + six)) & mask
    fitting &= bad == 0

    year, month, day = _four(digits[0]), _pair(digits[1], 1), _pair(digits[2], 0)
    # A month of 17, or a day of 40, would look up a date of another year or month.
    fitting &= (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month <= 12) & (day <= 31)
    date = ((year - np.uint32(_FIRST_YEAR)) * np.uint32(512) + month * np.uint32(32) + day).astype(np.int64)
    date[~fitting] = 0
    day_us = _day_table()[date]
    hour = (digits[2] >> np.uint32(24)) * np.uint32(10) + (digits[3] & np.uint32(255))
    minute, second = _pair(digits[3], 2), _pair(digits[4], 1)
    fitting &= (day_us >= 0) & (hour < 24) & (minute < 60) & (second < 60)
    instant = ((hour * np.uint32(60) + minute) * np.uint32(60) + second).astype(np.int64)
    instant *= 1_000_000
    instant += day_us
    instant += _four(digits[5]) * np.uint32(100) + _pair(digits[6], 0)
    return instant, fitting


def _without_microseconds(
    words: Callable[[Ints, int], Words], digits: list[NDArray[np.uint32]], end: Ints, length: Ints
) -> Bools:
    """Make the rows with fewer than six digits of a fraction look as if they had all; which rows have a length that is
    read.
    """
    fitting: Bools = length == _LONGEST_UTC
    few = np.flatnonzero(~fitting)
    if not len(few):
        return fitting
    fitting[few] = (length[few] >= _SHORTEST_UTC) & (length[few] < _LONGEST_UTC) & (length[few] != _SHORTEST_UTC + 1)
    few = few[fitting[few]]
    given = np.maximum(length[few] - (_SHORTEST_UTC + 1), 0)
    fitting[few] = (words(end[few] - 8, 1)[0] >> np.uint64(32)) == _UTC
    # Without a fraction, what stands where its point would is the blank before UTC.
    digits[4][few[given == 0]] &= np.uint32(0x00FFFFFF)
    digits[5][few] &= MASKS[np.minimum(given, 4)].astype(np.uint32)
    digits[6][few] &= MASKS[np.maximum(given - 4, 0)].astype(np.uint32)
    digits[7][few] = 0
    return fitting


def _pair(digits: NDArray[np.uint32], place: int) -> NDArray[np.uint32]:
    """The number that the digits in bytes `place` and `place + 1` make."""
    pairs = digits * np.uint32(10) + (digits >> np.uint32(8))
    found: NDArray[np.uint32] = (pairs >> np.uint32(8 * place)) & np.uint32(255)
    return found


def _four(digits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The number that four digits make: two pairs at once, then a hundred times the first plus the second."""
    pairs = (digits * np.uint32(10) + (digits >> np.uint32(8))) & np.uint32(0x00FF00FF)
    found: NDArray[np.uint32] = (pairs * np.uint32(100 << 16 | 1)) >> np.uint32(16)
    return found


@lru_cache(maxsize=1)
def _day_table() -> Ints:
    """A day's first microsecond by (year - 1970) * 512 + month * 32 + day; -1 for a date that does not exist."""
    table = np.full((_LAST_YEAR - _FIRST_YEAR + 1) * 512, -1, dtype=np.int64)
    dates = np.arange(np.datetime64(f"{_FIRST_YEAR}-01-01"), np.datetime64(f"{_LAST_YEAR + 1}-01-01"))
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]")
    month = (months - years.astype("datetime64[M]")).astype(np.int64) + 1
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    table[years.astype(np.int64) * 512 + month * 32 + day] = np.arange(len(dates)) * DAY_US
    return table
