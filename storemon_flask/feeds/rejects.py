"""The rows of a file that cannot be used: counted exactly by reason, the first of them stored whole."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from storemon_flask.model import Bools, Ints, Reject

MAX_REJECTS_PER_LOAD = 10_000
TEXT_CHARACTERS = 1_000


class Room:
    """How many rejects of a load may still be stored, shared by its files."""

    def __init__(self, left: int = MAX_REJECTS_PER_LOAD) -> None:
        self.left = left


class RejectLog:
    """The rejects of one file, or of a part of it: stored in the order they come while there is room."""

    def __init__(self, room: Room | None = None) -> None:
        self.room = room or Room()
        self.rejects: list[Reject] = []
        self.reasons: Counter[str] = Counter()

    def add(self, line: int, reason: str, text: str) -> None:
        """Add one row; `text` is what stands there, cut to its first 1,000 characters."""
        self.reasons[reason] += 1
        if self.room.left > 0:
            self.room.left -= 1
            self.rejects.append(Reject(line, reason, text[:TEXT_CHARACTERS]))

    def part(self) -> "RejectLog":
        """Return a log for a part of the file, which may be read in another thread; `add_all` adds it to this one."""
        return RejectLog(Room(self.room.left))

    def add_all(self, part: "RejectLog") -> None:
        """Add the rejects of a part of the file."""
        for reason, count in part.reasons.items():
            self.reasons[reason] += count
        rejects = part.rejects[: self.room.left]
        self.room.left -= len(rejects)
        self.rejects += rejects

    def clear(self) -> None:
        """Forget all, as the file could not be read after all, and give the room back."""
        self.room.left += len(self.rejects)
        self.rejects.clear()
        self.reasons.clear()

    @property
    def count(self) -> int:
        """How many rows were rejected, stored or not."""
        return self.reasons.total()


class Texts(Protocol):
    """The distinct texts of a column (`csv_fast.DistinctTexts`): their values, and which are a `BadValue`."""

    values: list[Any]
    bad: Bools


class Reasons:
    """Why rows of a table are rejected: for each an index of `texts`, -1 where it is not."""

    def __init__(self, rows: int) -> None:
        self.texts: list[str] = []
        self.code = np.full(rows, -1, dtype=np.int64)
        self._codes: dict[str, int] = {}

    @property
    def none(self) -> Bools:
        """Which rows are not rejected."""
        none: Bools = self.code < 0
        return none

    def give(self, rows: int | Bools, reason: str) -> None:
        """Reject these rows for that reason."""
        self.code[rows] = self._code(reason)

    def give_bad(self, rows: Bools, texts: Texts, code: Ints) -> None:
        """Reject those of these rows whose text in a column is bad."""
        bad = np.flatnonzero(rows & texts.bad[code])
        self.give_each(bad, texts.values, code[bad])

    def give_each(self, rows: Ints, values: list[Any], code: Ints) -> None:
        """Reject these rows, each for the `BadValue` that `values` has for its code."""
        if not len(rows):
            return
        distinct, number = np.unique(code, return_inverse=True)
        codes = [self._code(str(values[value])) for value in distinct.tolist()]
        self.code[rows] = np.array(codes)[number]

    def _code(self, reason: str) -> int:
        if reason not in self._codes:
            self._codes[reason] = len(self.texts)
            self.texts.append(reason)
        return self._codes[reason]


@dataclass(frozen=True, slots=True)
class Rejects:
    """Rejected rows of a block: the line of each, and its reason as an index of `reasons`.

    `text(number)` makes the text of one of them; most are only counted.
    """

    line: Ints
    reason: Ints
    reasons: list[str]
    text: Callable[[int], str]

    def merged(self, other: "Rejects") -> "Rejects":
        """Return these and others of the same block in the order of their lines."""
        if not len(self.line) or not len(other.line):
            return self if len(self.line) else other
        line = np.concatenate([self.line, other.line])
        order = np.argsort(line, kind="stable")
        reason = np.concatenate([self.reason, other.reason + len(self.reasons)])[order]

        def text(number: int) -> str:
            at = int(order[number])
            return self.text(at) if at < len(self.line) else other.text(at - len(self.line))

        return Rejects(line[order], reason, [*self.reasons, *other.reasons], text)

    def add_to(self, log: RejectLog) -> None:
        """Add them to a log."""
        reasons, first, counts = np.unique(self.reason, return_index=True, return_counts=True)
        in_order = np.argsort(first)
        for code, count in zip(reasons[in_order].tolist(), counts[in_order].tolist(), strict=True):
            log.reasons[self.reasons[code]] += count
        stored = zip(self.line[: log.room.left].tolist(), self.reason[: log.room.left].tolist(), strict=True)
        rejects = [
            Reject(line, self.reasons[code], self.text(number)[:TEXT_CHARACTERS])
            for number, (line, code) in enumerate(stored)
        ]
        log.room.left -= len(rejects)
        log.rejects += rejects
