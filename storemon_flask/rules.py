"""Spans of time in microseconds, the rules of the calculation, and the parts of a day: what settings need before there
are columns (and numpy).
"""

from dataclasses import dataclass
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 3600 * SECOND_US
DAY_US: Final = 24 * HOUR_US
WEEK_US: Final = 7 * DAY_US


@dataclass(frozen=True, slots=True)
class Daypart:
    """A part of each day by the wall clock of a store: from `start_s` seconds after midnight up to `end_s`, on the next
    date where that is no later than its start."""

    name: str
    start_s: int
    end_s: int

    def __str__(self) -> str:
        return f"{self.name} {_time_text(self.start_s)}-{_time_text(self.end_s)}"


def _time_text(second: int) -> str:
    return f"{second // 3600:02d}:{second // 60 % 60:02d}"


# By their starts, as all are.
DEFAULT_DAYPARTS: Final = (
    Daypart("breakfast", 5 * 3600, 11 * 3600),
    Daypart("lunch", 11 * 3600, 15 * 3600),
    Daypart("dinner", 15 * 3600, 22 * 3600),
    Daypart("late", 22 * 3600, 5 * 3600),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """How far a poll speaks (`reach_us`), the longest gap that still counts as measured (`max_gap_us`), the `method`,
    and how far ahead of the machine's clock a poll may lie (`max_skew_us`): a later one is not the newest poll before
    its time.

    `nearest`: a moment has the status of the nearest poll. `previous`: a poll speaks from its instant until the next
    one or the opening's end, at most twice the reach; what comes before an opening's first poll is unknown.
    """

    reach_us: int = 24 * HOUR_US
    max_gap_us: int = 150 * MINUTE_US
    method: str = "nearest"
    max_skew_us: int = 5 * MINUTE_US

    @property
    def farthest_us(self) -> int:
        """How far away a poll can be that matters to a moment."""
        return max(self.reach_us if self.method == "nearest" else 2 * self.reach_us, self.max_gap_us)

    def latest_us(self, now_us: int) -> int:
        """The latest instant that the newest poll may have while the machine's clock says `now_us`; later ones are in
        the future.
        """
        return now_us + self.max_skew_us
