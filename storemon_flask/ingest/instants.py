"""Timestamps by the column: fixed-width text to microseconds, for the spellings nearly every export uses.

`values.instant` says what a timestamp is. This module reads the same spellings with a zone of ` UTC`, `Z`, `+00:00` or
nothing, for a whole column at once, and says of everything else "not read here": the caller asks `values.instant`.
"""

import numpy as np
from numpy.typing import NDArray

from storemon_flask.model import DAY_US, Bools, Ints

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
