"""Timestamps by the column, for the spellings that exports use; `values.instant` says what a timestamp is.

`read_words` reads the one spelling nearly every export has, straight from a block's bytes. `read_column` reads those with a
zone of ` UTC`, `Z`, `+00:00` or nothing from fixed-width texts. Of everything else both say "not read": the caller asks
`values.instant`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storemon_flask.model import DAY_US, Bools, Ints

Words = NDArray[np.uint64]


def word_of(text: bytes) -> np.uint64:
    """Up to eight bytes as a little-endian word."""
    return np.uint64(int.from_bytes(text.ljust(8, b"\0"), "little"))


# MASKS[n] keeps the first n bytes of a word.
MASKS: Final = np.array([(1 << (8 * kept)) - 1 for kept in range(9)], dtype=np.uint64)
# A template's zeros stand where digits do; XOR leaves a digit's value, and 0 where a separator is as it must be.
_DATE, _CLOCK, _SECONDS = word_of(b"0000-00-"), word_of(b"00 00:00"), word_of(b":00")
_FRACTION, _UTC = word_of(b"000000"), word_of(b" UTC")
_SIX: Final = np.uint64(0x0606060606060606)
# Bits that must be clear in d | (d + 6): the high half of a digit's byte, all of a separator's.
_DATE_BAD: Final = np.uint64(0xFFF0F0FFF0F0F0F0)
_CLOCK_BAD: Final = np.uint64(0xF0F0FFF0F0FFF0F0)
_SECONDS_BAD: Final = np.uint64(0x0000000000F0F0FF)
_FRACTION_BAD: Final = np.uint64(0x0000F0F0F0F0F0F0)
_SHORTEST_UTC, _LONGEST_UTC = len("2023-01-22 12:09:39 UTC"), len("2023-01-22 12:09:39.388884 UTC")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199

# One more than any spelling read here: a field that fills the width may have been cut, and is not read here.
WIDTH = 40
_SUFFIXES = (b" UTC", b"Z", b"+00:00", b"")
_SHORTEST = len("2023-01-22 12:09:39")
_LONGEST_FRACTION = 12
_PATTERN = b"dddd-dd-dd_dd:dd:dd"
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
    return instants, read


def _lengths(text: NDArray[np.uint8]) -> Ints:
    width = text.shape[1]
    filled = text[:, ::-1] != 0
    lengths: Ints = np.where(filled.any(axis=1), width - filled.argmax(axis=1), 0)
    return lengths


def _fixed(text: NDArray[np.uint8], digits: int) -> tuple[Ints, Bools]:
    """`YYYY-MM-DD HH:MM:SS` (a `T` may stand for the blank) and a fraction of `digits` digits, at the start of each row."""
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

    `words(at, n)` gathers n little-endian words from each byte of `at` on; 32 bytes from each `start` must lie in the block.
    Reads `YYYY-MM-DD HH:MM:SS[.f to .ffffff] UTC`, five words a row. XOR with a template of zeros turns digits into their
    values and separators into 0; one mask finds every byte that is neither.
    """
    length = end - start
    fitting = (length >= _SHORTEST_UTC) & (length <= _LONGEST_UTC) & (length != _SHORTEST_UTC + 1)
    if not fitting.all():
        # The last word of a field this short may begin before the block; the row is not read anyway.
        end = np.where(fitting, end, start + _SHORTEST_UTC)
    date, clock, seconds, rest = words(start, 4)
    date, clock = date ^ _DATE, clock ^ _CLOCK
    digits = np.clip(length - (_SHORTEST_UTC + 1), 0, 6)
    half = np.uint64(32)
    fraction = (((seconds >> half) | (rest << half)) ^ _FRACTION) & MASKS[digits]
    fitting &= (words(end - 8, 1)[0] >> half) == _UTC
    fitting &= (digits == 0) | ((seconds >> np.uint64(24)) & np.uint64(255) == ord("."))
    seconds = (seconds ^ _SECONDS) & np.uint64(0xFFFFFF)
    bad = _strays(date, _DATE_BAD) | _strays(clock, _CLOCK_BAD)
    bad |= _strays(seconds, _SECONDS_BAD) | _strays(fraction, _FRACTION_BAD)
    fitting &= bad == 0

    date, clock, seconds, fraction = (_pairs(word) for word in (date, clock, seconds, fraction))
    year = _byte(date, 0) * 100 + _byte(date, 2)
    fitting &= (year >= _FIRST_YEAR) & (year <= _LAST_YEAR)
    day = _day_table()[np.where(fitting, (year - _FIRST_YEAR) * 512 + _byte(date, 5) * 32 + _byte(clock, 0), 0)]
    hour, minute, second = _byte(clock, 3), _byte(clock, 6), _byte(seconds, 1)
    fitting &= (day >= 0) & (hour < 24) & (minute < 60) & (second < 60)
    micros = _byte(fraction, 0) * 10_000 + _byte(fraction, 2) * 100 + _byte(fraction, 4)
    instant: Ints = day * DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    return instant, fitting


def _strays(digits: Words, bad: np.uint64) -> Words:
    """Not 0 where a byte is no digit, or a separator is another; `bad` has the bits that d | (d + 6) must not have."""
    marked: Words = (digits | (digits + _six_where_digits(bad))) & bad
    return marked


def _six_where_digits(bad: np.uint64) -> np.uint64:
    """6 in each byte that must be a digit: then a value above 9 shows in the byte's high half."""
    digits = ~bad & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (digits & (bad >> np.uint64(4))) & _SIX


def _pairs(digits: Words) -> Words:
    """At each byte, ten times its digit plus the next byte's: no byte exceeds 99, so none spills into another."""
    return digits * np.uint64(10) + (digits >> np.uint64(8))


def _byte(word: Words, place: int) -> Ints:
    return ((word >> np.uint64(8 * place)) & np.uint64(255)).view(np.int64)


@lru_cache(maxsize=1)
def _day_table() -> Ints:
    """Day number by (year - 1970) * 512 + month * 32 + day; -1 for a date that does not exist."""
    table = np.full((_LAST_YEAR - _FIRST_YEAR + 1) * 512, -1, dtype=np.int64)
    dates = np.arange(np.datetime64(f"{_FIRST_YEAR}-01-01"), np.datetime64(f"{_LAST_YEAR + 1}-01-01"))
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]")
    month = (months - years.astype("datetime64[M]")).astype(np.int64) + 1
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    table[years.astype(np.int64) * 512 + month * 32 + day] = np.arange(len(dates))
    return table
