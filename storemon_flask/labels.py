"""Labels of stores (`group`, `brand`, `region`, `platform`, any `tag:NAME`) as the text that is stored, and as codes.

A label that a store does not have is the same as one whose value is empty.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from storemon_flask.model import Bools, Ints

GROUP: Final = "group"
# The labels that have a column of their own name in the stores feed, beside the group.
NAMED_LABELS: Final = ("brand", "region", "platform")
TAG_PREFIX: Final = "tag:"
# Of one store.
MOST_TAGS: Final = 50
# Of all stores together: the columns of an exported feed.
MOST_TAG_NAMES: Final = 500
MAX_TAG_CHARACTERS: Final = 40


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of labels as they are listed: group, brand, region, platform, then tags in code point order."""
    rank = {name: at for at, name in enumerate((GROUP, *NAMED_LABELS))}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def pack(labels: Mapping[str, str]) -> str:
    """Return labels without the empty ones as a text that is the same for equal labels; empty for none."""
    given = {name: labels[name] for name in in_order(labels) if labels[name]}
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")) if given else ""


def unpack(packed: str) -> dict[str, str]:
    """Return the labels of a text that `pack` made."""
    labels: dict[str, str] = json.loads(packed) if packed else {}
    return labels


def is_packed(text: str) -> bool:
    """Return whether `pack` may have made this text."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        return False
    return pack(value) == text and all(is_label(name) and name != GROUP for name in value)


class LabelCodes(NamedTuple):
    """A label of stores: its different values in code point order, and for each store which it has.

    Where a store has none, the first value is the empty one.
    """

    values: list[str]
    code: Ints

    def have_one_of(self, values: Iterable[str]) -> Bools:
        """Return for each store whether it has one of those values."""
        index = {value: at for at, value in enumerate(self.values)}
        return np.isin(self.code, [index[value] for value in values if value in index])


class StoreLabels:
    """The labels of stores, by index. Codes of a label are made when they are first asked for, and stay."""

    def __init__(self, groups: Sequence[str], packed: Sequence[str]) -> None:
        self._groups = groups
        self._packed = packed
        self._codes: dict[str, LabelCodes] = {}
        self._names: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that at least one of the stores has, as they are listed; the group among them."""
        if self._names is None:
            present = {name for packed in set(self._packed) for name in unpack(packed)}
            self._names = tuple(in_order(present | ({GROUP} if any(self._groups) else set())))
        return self._names

    def codes(self, name: str) -> LabelCodes:
        """Return a label as codes; only the empty value where no store has it."""
        known = self._codes.get(name)
        if known is None:
            known = self._codes[name] = self._make_codes(name)
        return known

    def of_store(self, index: int) -> dict[str, str]:
        """Return one store's labels but for its group, as they are listed."""
        return unpack(self._packed[index])

    def _make_codes(self, name: str) -> LabelCodes:
        if name == GROUP:
            return codes_of(self._groups)
        value_of = {packed: unpack(packed).get(name, "") for packed in set(self._packed)}
        return codes_of([value_of[packed] for packed in self._packed])


def codes_of(texts: Sequence[str]) -> LabelCodes:
    """Return texts, one for each store, as codes."""
    values = sorted(set(texts))
    code_of = {value: code for code, value in enumerate(values)}
    return LabelCodes(values, np.array([code_of[text] for text in texts], dtype=np.int64))


def split_filter(text: str) -> tuple[str, str]:
    """Return name and value of `region=West`; `ValueError` for a text that is not so. No name has a `=`."""
    name, equals, value = text.partition("=")
    if not equals or not is_label(name):
        raise ValueError(f"is {text[:200]!r}; it must be NAME=VALUE, where NAME is {NAMES_TEXT}")
    return name, value


def read_filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return the values that texts such as `region=West` ask for, by label; `ValueError` as `split_filter`."""
    asked: dict[str, list[str]] = {}
    for name, value in map(split_filter, texts):
        asked.setdefault(name, []).append(value)
    return asked


def label_texts(given: Mapping[str, str]) -> list[str]:
    """Return the labels of a store for people."""
    return [label_text(name, value) for name, value in given.items()]


NAMES_TEXT: Final = f"{GROUP}, {', '.join(NAMED_LABELS)} or {TAG_PREFIX}NAME"


def is_label(name: str) -> bool:
    """Return whether a label may be called so."""
    return name in (GROUP, *NAMED_LABELS) or (name.startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX))


@lru_cache(1 << 10)
def label_text(name: str, value: str) -> str:
    """Return a label for people: `region West`, `city Paris` of a tag; `no region` for the empty value."""
    words = name.removeprefix(TAG_PREFIX)
    return f"{words} {value}" if value else f"no {words}"
