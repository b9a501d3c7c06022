"""The rows of a file that could not be used: counted exactly by reason, the first of them kept whole."""

from collections import Counter

from storemon_flask.model import Reject

KEPT_PER_LOAD = 10_000
TEXT_CHARACTERS = 1_000


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

    def forget(self) -> None:
        """The file could not be read after all: its rejects give their room back."""
        self._room.left += len(self.kept)
        self.kept.clear()
        self.reasons.clear()

    @property
    def count(self) -> int:
        """How many rows were rejected, kept or not."""
        return self.reasons.total()
