"""Numbers as decimals and percentages, texts as CSV cells that no spreadsheet runs (SPEC 4), store ids in addresses."""

import json
import re
from functools import lru_cache
from typing import Any, Final, overload
from urllib.parse import quote

import numpy as np

from storemon_flask.model import TOO_LARGE, Bools, Ints

# Hundredths up to this have their texts ready: a week has 16,801 of an hour, a percentage 10,001.
_MOST_READY: Final = 16_800
# Above this (128,102 hours) 20,000 x part + whole leaves 64 bits.
_WIDEST: Final = (TOO_LARGE - 1) // 20_001
# A percentage of which more than this share (a tenth) of the business time is unknown says so wherever it is shown.
_MOST_UNKNOWN: Final = 10
# A spreadsheet runs a cell that begins so, some also one that begins with the full-width form of such a sign; a plain
# number does no harm.
_FORMULA: Final = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_PLAIN_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_MUST_QUOTE: Final = re.compile(r'[",\r\n]')


def hundredths(values: Ints, unit_us: int) -> Ints:
    """Return microseconds as hundredths of the unit, rounded half up.

    64 bits hold the sums of 266,000 stores always open for 400 days; larger ones are Python integers (`reports.csv`).
    """
    step = unit_us // 100
    rounded: Ints = (values + step // 2) // step
    return rounded


def percent_hundredths(part: Ints, whole: Ints) -> Ints:
    """Return 100 x part / whole in hundredths, half up; -1 where the whole is 0. No part is more than its whole."""
    safe = np.maximum(whole, 1)
    percent: Ints = np.where(whole > 0, (20_000 * part + safe) // (2 * safe), -1)
    # The product above has wrapped round in the rows of large fleets, which are few: totals of at least 14 stores.
    for row in np.flatnonzero(whole > _WIDEST).tolist():
        percent[row] = percent_of(int(part[row]), int(whole[row]))
    return percent


def percent_of(part: int, whole: int) -> int:
    """Return the same of one part and its whole, which is more than 0."""
    return (20_000 * part + whole) // (2 * whole)


def percent_number(part: int, whole: int) -> float | None:
    """Return 100 x part / whole to two decimals; None where the whole is 0 or the part is -1, which is not known."""
    if whole <= 0 or part < 0:
        return None
    return (20_000 * part + whole) // (2 * whole) / 100


def decimals(values: Ints) -> list[str]:
    """Return hundredths as texts with two decimals; an empty one for -1."""
    ready = _ready()
    return [ready[value] if value <= _MOST_READY else _decimal(value) for value in values.tolist()]


def signed_decimals(values: Ints, known: Bools) -> list[str]:
    """Return hundredths of either sign as texts with two decimals; an empty one where they are not known."""
    return [
        f"{'-' if value < 0 else ''}{_decimal(abs(value))}" if is_known else ""
        for value, is_known in zip(values.tolist(), known.tolist(), strict=True)
    ]


@lru_cache(maxsize=1)
def _ready() -> list[str]:
    # At the end is what index -1 finds.
    return [*map(_decimal, range(_MOST_READY + 1)), ""]


def _decimal(value: int) -> str:
    return f"{value // 100}.{value % 100:02d}"


@overload
def knows_little(unknown: int, business: int) -> bool: ...
@overload
def knows_little(unknown: Ints, business: Ints) -> Bools: ...
def knows_little(unknown: Any, business: Any) -> Any:
    """Return whether more than a tenth of the business time is unknown, so that a percentage of the rest says little.

    Both are hundredths of one unit, as they are printed: so every view decides alike, and a reader can see why.
    """
    return _MOST_UNKNOWN * unknown > business


def group_thousands(cell: str) -> str:
    """Return a number as it is printed with a comma between thousands, as people read it; any other text as it is."""
    whole, dot, decimals_text = cell.partition(".")
    if len(whole) <= 3 or not _PLAIN_NUMBER.fullmatch(cell):
        return cell
    sign = whole[0] if whole[0] in "+-" else ""
    return f"{sign}{int(whole.lstrip('+-')):,}{dot}{decimals_text}"


def known_text(unknown: int, business: int, unit: str = "h") -> str:
    """Return the note on a percentage that knows little, such as `of 21 h known`; nothing where it knows enough."""
    if not knows_little(unknown, business):
        return ""
    known = business - unknown
    amount = f"{known // 100:,}.{known % 100:02d}".rstrip("0").rstrip(".") if known > 0 else "under 0.01"
    return f"of {amount} {unit} known"


def safe_cell(text: str) -> str:
    """Return the text as a spreadsheet may see it: one that it would run as a formula gets a leading `'`."""
    if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return "'" + text
    return text


def csv_value(value: Any) -> str:
    """Return a value of JSON as a cell: nothing for null, lists and objects as JSON, texts that no spreadsheet runs."""
    if value is None:
        return ""
    if isinstance(value, str):
        return safe_cell(value)
    # Some times as fast as `json.dumps`, which writes them so, too.
    if type(value) in (int, float):
        return safe_cell(repr(value))
    return safe_cell(json.dumps(value, ensure_ascii=False))


def csv_cells(texts: list[str]) -> list[str]:
    """Return each text as one CSV cell, quoted where it must be."""
    return [f'"{text.replace(chr(34), chr(34) * 2)}"' if _MUST_QUOTE.search(text) else text for text in texts]


# `.` and `..` mean folders, percent-encoded or not, and clients resolve them: they are written with a tilde before
# them, and so is an id that looks like that already, so that each id has one address.
DOTS: Final = re.compile(r"~*\.\.?")


def store_segment(store_id: str) -> str:
    """Return a store id as one segment of an address."""
    return quote(f"~{store_id}" if DOTS.fullmatch(store_id) else store_id, safe="")
