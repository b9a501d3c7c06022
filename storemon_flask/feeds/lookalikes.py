"""Ids that look alike and are perhaps one store each: pure functions over ids, whole lists of them at a time."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from storemon_flask.feeds.values import remove_invisible, show_invisible

_BLANKS: Final = re.compile(r"[^\S\n]+")
_ZEROS: Final = re.compile(r"^0+(?=[0-9])", re.MULTILINE)
_POINT_ZERO: Final = re.compile(r"^([0-9]+)\.0+$", re.MULTILINE)
# So many significant digits does a spreadsheet keep of a number; what comes from JavaScript has up to two more.
_DIGITS: Final = 15
# So many stores are named where more have the same told of them.
_NAMED: Final = 5
_ROUNDED: Final = re.compile(rf"[1-9][0-9]{{{_DIGITS - 1}}}[0-9]{{0,2}}0+")


def _unicode_form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


# What is taken away before ids are compared, and how that is called. Each step works on one id a line.
_STEPS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("the Unicode form of characters", _unicode_form),
    ("invisible characters", remove_invisible),
    ("case", str.casefold),
    ("blanks", lambda text: _BLANKS.sub("", text)),
    ("leading zeros", lambda text: _ZEROS.sub("", text)),
    ("a trailing .0", lambda text: _POINT_ZERO.sub(r"\1", text)),
)


@dataclass(frozen=True, slots=True)
class Alike:
    """Ids that differ in nothing but what the words of `differences` name."""

    ids: tuple[str, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rounded:
    """An id that looks like a rounded number, and the ids that it may stand for."""

    store_id: str
    originals: tuple[str, ...]


def keys_of(ids: Sequence[str], leave_out: str = "") -> list[str]:
    """What is left of each id when everything is taken away in which ids that look alike may differ (but `leave_out`)."""
    text = "\n".join(ids)
    for name, step in _STEPS:
        if name != leave_out:
            text = step(text)
    return text.split("\n")


def alike(ids: Sequence[str], keys: Sequence[str]) -> list[Alike]:
    """The groups of distinct ids (of those `keys_of`) that look alike, in the order of their first ids."""
    if len(set(keys)) == len(keys):
        return []
    groups: dict[str, list[str]] = defaultdict(list)
    for key, store_id in zip(keys, ids, strict=True):
        groups[key].append(store_id)
    return [Alike(tuple(group), _differences(group)) for group in groups.values() if len(group) > 1]


def rounded(ids: Sequence[str], keys: Sequence[str]) -> list[Rounded]:
    """The ids (of those `keys_of`) of 16 digits or more that are zeros from the 16th (or the 18th) on, with the ids
    that begin as they do and become them when they are read as numbers."""
    candidates = {key for key in keys if key[-1:] == "0" and len(key) > _DIGITS and _ROUNDED.fullmatch(key)}
    if not candidates:
        return []
    # Rounding changes the digits before it by one at most.
    beginnings = {str(int(key[:_DIGITS]) - step) for key in candidates for step in (0, 1)}
    originals: dict[str, list[str]] = defaultdict(list)
    named: dict[str, str] = {}
    for place in [place for place, key in enumerate(keys) if key[:_DIGITS] in beginnings]:
        key, store_id = keys[place], ids[place]
        if key in candidates:
            named[key] = store_id
        if len(key) > _DIGITS and key.isdecimal():
            for image in (_images(key) - {key}) & candidates:
                originals[image].append(store_id)
    return [Rounded(store_id, tuple(originals[key])) for key, store_id in named.items() if key in originals]


def shown(store_id: str) -> str:
    """The id as it can be read in a sentence: what cannot be seen is named, and a long one is cut."""
    text = store_id if len(store_id) <= 60 else store_id[:59] + "…"
    text = re.sub(r"\s{2,}|[^\S ]", lambda blanks: "".join(f"<U+{ord(blank):04X}>" for blank in blanks[0]), text)
    text = "".join(letter if letter.isprintable() else f"<U+{ord(letter):04X}>" for letter in text)
    text = show_invisible(text)
    return f'"{text}"' if " " in text or "," in text else text


def some(ids: Iterable[str], total: int) -> str:
    """Those ids as examples of `total`: `a`, `a and b`, `a, b and 198 more`."""
    names = [shown(store_id) for store_id in ids]
    if total > len(names):
        return f"{', '.join(names)} and {total - len(names):,} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def named_stores(ids: Sequence[str]) -> str:
    """Those stores, five of them by their ids: `store a`, `stores a and b`, `stores a, b, c, d, e and 12 more`."""
    return f"{'store' if len(ids) == 1 else 'stores'} {some(ids[:_NAMED], len(ids))}"


def _differences(group: list[str]) -> tuple[str, ...]:
    """What tells the ids apart: every step without which they differ; of steps that each would do, the last."""
    needed = tuple(name for name, _ in _STEPS if len(set(keys_of(group, leave_out=name))) > 1)
    enough = [name for name, step in _STEPS if len({step(store_id) for store_id in group}) == 1]
    return needed or tuple(enough[-1:]) or ("how they are written",)


def _images(digits: str) -> set[str]:
    """What software that reads a number makes of those digits: cut to 15 significant ones, rounded to 15, or a double."""
    zeros = len(digits) - _DIGITS
    cut = int(digits[:_DIGITS])
    up = cut + (digits[_DIGITS] >= "5")
    return {f"{cut}{'0' * zeros}", f"{up}{'0' * zeros}", f"{Decimal(repr(float(digits))):f}"}
