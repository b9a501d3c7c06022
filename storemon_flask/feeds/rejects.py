"""The rows of a file that could not be used: counted exactly by reason, the first of them kept whole."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from storemon_flask.model import Bools, Ints, Reject

KEPT_PER_LOAD = 10_000
TEXT_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Rejects:
    """Rows of a block that cannot be used: the line of each, and its reason as an index of `reasons`.

    `text(number)` makes the text of one of them: of most rejects nobody ever asks for it.
    """

    line: Ints
    reason: Ints
    reasons: list[str]
    text: Callable[[int], str]

    @staticmethod
    def none() -> "Rejects":
        """No rejects."""
        nothing = np.empty(0, dtype=np.int64)
        return Rejects(nothing, nothing, [], str)

    def __len__(self) -> int:
        return len(self.line)

    def counted(self, most: int) -> "Rejected":
        """How many there are for each reason, and the first `most` with their texts."""
        reasons, first, counts = np.unique(self.reason, return_index=True, return_counts=True)
        met = np.argsort(first)
        lines, codes = self.line[:most].tolist(), self.reason[:most].tolist()
        kept = [
            Reject(line, self.reasons[code], self.text(number)[:TEXT_CHARACTERS])
            for number, (line, code) in enumerate(zip(lines, codes, strict=True))
        ]
        return Rejected(
            {
                self.reasons[code]: count
                for code, count in zip(reasons[met].tolist(), counts[met].tolist(), strict=True)
            },
            kept,
        )

    def merged(self, other: "Rejects") -> "Rejects":
        """These and others of the same block, in the order in which they stand."""
        if not len(other):
            return self
        if not len(self):
            return other
        line = np.concatenate([self.line, other.line])
        order = np.argsort(line, kind="stable")
        reason = np.concatenate([self.reason, other.reason + len(self.reasons)])[order]

        def text(number: int) -> str:
            found = int(order[number])
            return self.text(found) if found < len(self) else other.text(found - len(self))

        return Rejects(line[order], reason, [*self.reasons, *other.reasons], text)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows of a block that cannot be used: how many for each reason, in the order in which these are met, and the first
    of them.
    """

    counts: dict[str, int]
    kept: list[Reject]


class Texts(Protocol):
    """The distinct texts of a column: what each was read as, whether that is a `BadValue`, and the code of another
    value.
    """

    values: list[Any]
    bad: Bools
    true: Bools

    def code_of(self, value: Any) -> int:
        """Return the code of a value that a doubtful row turned out to have."""


class Reasons:
    """Why the rows of a block are rejected: an index of `texts` for each, -1 for none."""

    def __init__(self, rows: int) -> None:
        self.texts: list[str] = []
        self.code = np.full(rows, -1, dtype=np.int64)
        self.none = np.ones(rows, dtype=bool)
        self._codes: dict[str, int] = {}

    def give(self, rows: int | list[int] | Bools | Ints, reason: str) -> None:
        """These rows are rejected for that reason."""
        self.code[rows] = self._code(reason)
        self.none[rows] = False

    def of_codes(self, rows: Bools, codes: Ints, texts: Texts) -> None:
        """These rows are rejected because of the text that they have in a column."""
        if not rows.any():
            return
        distinct, number = np.unique(codes[rows], return_inverse=True)
        self.give_each(np.flatnonzero(rows), number, [str(texts.values[code]) for code in distinct.tolist()])

    def give_each(self, rows: Ints, number: Ints, reasons: list[str]) -> None:
        """Each row is rejected for the reason of its number, an empty one for none."""
        codes = np.array([self._code(reason) if reason else -1 for reason in reasons])[number]
        bad = codes >= 0
        self.code[rows[bad]] = codes[bad]
        self.none[rows[bad]] = False

    def _code(self, reason: str) -> int:
        if reason not in self._codes:
            self._codes[reason] = len(self.texts)
            self.texts.append(reason)
        return self._codes[reason]


class Room:
    """How many rejects of a load may still be kept, shared by its files."""

    def __init__(self, left: int = KEPT_PER_LOAD) -> None:
        self.left = left


class RejectLog:
    """Collects one file's rejects; keeps them, in the order they come, while there is room."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room()
        self.kept: list[Reject] = []
        self.reasons: Counter[str] = Counter()

    def add(self, line: int, reason: str, text: str) -> None:
        """One row that cannot be used; `text` is what stands there, cut to its first 1,000 characters."""
        self.reasons[reason] += 1
        if self._room.left > 0:
            self._room.left -= 1
            self.kept.append(Reject(line, reason, text[:TEXT_CHARACTERS]))

    @property
    def room(self) -> int:
        """How many more may be kept; never becomes more while a file is read."""
        return self._room.left

    def add_all(self, rejected: Rejected) -> None:
        """Rows of a block that cannot be used, in the order they stand."""
        for reason, count in rejected.counts.items():
            self.reasons[reason] += count
        kept = rejected.kept[: self._room.left]
        self._room.left -= len(kept)
        self.kept += kept

    def forget(self) -> None:
        """The file could not be read after all: its rejects give their room back."""
        self._room.left += len(self.kept)
        self.kept.clear()
        self.reasons.clear()

    @property
    def count(self) -> int:
        """How many rows were rejected, kept or not."""
        return self.reasons.total()
