"""The rows of a file that cannot be used: counted exactly by reason, the first of them stored whole."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from storemon_flask.model import Ints, Reject

MAX_REJECTS_PER_LOAD = 10_000
TEXT_CHARACTERS = 1_000


class Room:
    """How many rejects of a load may still be stored, shared by its files."""

    def __init__(self, left: int = MAX_REJECTS_PER_LOAD) -> None:
        self.left = left


class RejectLog:
    """The rejects of one file, or of one of its blocks: stored in the order they come while there is room."""

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

    def for_block(self) -> "RejectLog":
        """Return a log for a block, which may be read in another thread; `add_all` adds it to this one."""
        return RejectLog(Room(self.room.left))

    def add_all(self, other: "RejectLog") -> None:
        """Add the rejects of a block."""
        for reason, count in other.reasons.items():
            self.reasons[reason] += count
        rejects = other.rejects[: self.room.left]
        self.room.left -= len(rejects)
        self.rejects += rejects

    def clear(self) -> None:
        """Forget all, as the file could not be read after all, and give the room back."""
        self.room.left += len(self.rejects)
        self.rejects.clear()
        self.reasons.clear()

    def add_rows(self, line: Ints, code: Ints, reasons: list[str], text: Callable[[int], str]) -> None:
        """Add many rows in order, each with its line and its reason as an index of `reasons`.

        `text(number)` makes the text of one of them; most are only counted.
        """
        codes, first, counts = np.unique(code, return_index=True, return_counts=True)
        in_order = np.argsort(first)
        for reason, count in zip(codes[in_order].tolist(), counts[in_order].tolist(), strict=True):
            self.reasons[reasons[reason]] += count
        stored = zip(line[: self.room.left].tolist(), code[: self.room.left].tolist(), strict=True)
        rejects = [
            Reject(at, reasons[reason], text(number)[:TEXT_CHARACTERS]) for number, (at, reason) in enumerate(stored)
        ]
        self.room.left -= len(rejects)
        self.rejects += rejects

    @property
    def count(self) -> int:
        """How many rows were rejected, stored or not."""
        return self.reasons.total()
