"""The rows of a file that could not be used: counted exactly by reason, the first of them kept whole."""

from collections import Counter

from storemon_flask.model import Reject

KEPT_PER_LOAD = 10_000
TEXT_CHARACTERS = 1_000


class RejectLog:
    """Collects one file's rejects; keeps at most `room` of them, in the order they come."""

    def __init__(self, room: int = KEPT_PER_LOAD) -> None:
        self.room = room
        self.kept: list[Reject] = []
        self.reasons: Counter[str] = Counter()

    def add(self, line: int, reason: str, text: str) -> None:
        """One row that cannot be used; `text` is what stands there, cut to its first 1,000 characters."""
        self.reasons[reason] += 1
        if len(self.kept) < self.room:
            self.kept.append(Reject(line, reason, text[:TEXT_CHARACTERS]))

    @property
    def count(self) -> int:
        """How many rows were rejected, kept or not."""
        return self.reasons.total()
