"""What crosses the layers: columns, not rows.

Instants are int64 microseconds since 1970-01-01 UTC. Stores are small integers ("store numbers") inside and text ids
only at the edges. Arrays of one object have one length unless said otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storemon_flask.rules import DAY_US as DAY_US
from storemon_flask.rules import HOUR_US as HOUR_US
from storemon_flask.rules import MINUTE_US as MINUTE_US
from storemon_flask.rules import SECOND_US as SECOND_US
from storemon_flask.rules import WEEK_US as WEEK_US
from storemon_flask.rules import Rules as Rules

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# Told the name of what is read and how many more of its bytes have been.
Progress = Callable[[str, int], None]

# Local dates are days since 1970-01-01. These two lie before and after every date that a feed can name.
UNDATED: Final = -1_000_000
FOREVER: Final = 1_000_000
# No sum and no key may reach this: numpy says nothing when an integer leaves 64 bits.
TOO_LARGE: Final = 1 << 63
# Before every instant.
EVER_US: Final = -(1 << 62)
# In place of both times: closed all day.
CLOSED: Final = -1


@dataclass(frozen=True, slots=True)
class Polls:
    """Polls sorted by store, then instant; no store has two polls at one instant.

    Older polls than `complete_from_us` were pruned: there is none among these, and nothing is known of the time before
    it. Where some were left out (`uptime.evidence.thin_out`), `weight` is how many each stands for: itself and those
    before it.
    """

    store: Ints
    instant_us: Ints
    active: Bools
    complete_from_us: int = EVER_US
    weight: Ints | None = None

    def __len__(self) -> int:
        return len(self.instant_us)

    def pick(self, rows: slice | Bools) -> "Polls":
        """Return those polls."""
        weight = None if self.weight is None else self.weight[rows]
        return Polls(self.store[rows], self.instant_us[rows], self.active[rows], self.complete_from_us, weight)


@dataclass(frozen=True, slots=True)
class Hours:
    """Weekly business hours as written: `day` 0 = Monday, seconds after local midnight, `end_s` up to 86,400.

    A row holds on local dates from `from_day` (`UNDATED`: ever) up to, without, `until_day`, at which the store's next
    version begins. The reading of equal times, `23:59` and ends before starts is the calculation's (uptime.openings),
    not the data's."""

    store: Ints
    day: Ints
    start_s: Ints
    end_s: Ints
    from_day: Ints
    until_day: Ints

    def __len__(self) -> int:
        return len(self.store)

    def of(self, first: int, stop: int) -> "Hours":
        """Those of the stores `first` to `stop - 1`, counted from `first`; the rows must be sorted by store."""
        return Hours(*_of_stores(self, first, stop))


@dataclass(frozen=True, slots=True)
class SpecialHours:
    """What replaces the weekly hours on one local date: `date` in days since 1970-01-01; both times `CLOSED`: closed
    all day.
    """

    store: Ints
    date: Ints
    start_s: Ints
    end_s: Ints

    def __len__(self) -> int:
        return len(self.store)

    def of(self, first: int, stop: int) -> "SpecialHours":
        """Those of the stores `first` to `stop - 1`, counted from `first`; the rows must be sorted by store."""
        return SpecialHours(*_of_stores(self, first, stop))


def no_special_hours() -> SpecialHours:
    """Special hours of nobody."""
    return SpecialHours(*(np.empty(0, dtype=np.int64) for _ in range(4)))


def _of_stores(rows: Hours | SpecialHours, first: int, stop: int) -> list[Ints]:
    begin, end = np.searchsorted(rows.store, [first, stop]).tolist()
    store, *columns = (getattr(rows, name)[begin:end] for name in rows.__slots__)
    return [store - first, *columns]


@dataclass(frozen=True, slots=True)
class Fleet:
    """When `size` stores, numbered 0 to size - 1, are open: their hours and zones.

    `zone_of[i]` indexes `zone_names`, IANA names or histories of them (`uptime.zones`).
    """

    size: int
    hours: Hours
    zone_of: Ints
    zone_names: tuple[str, ...]
    special: SpecialHours = field(default_factory=no_special_hours)


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that could not be used: where it stands, why, and the first 1,000 characters of its text."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class Counts:
    """What became of a file's rows: rows = new + changed + unchanged + repeated + rejected, always."""

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    repeated: int = 0
    rejected: int = 0


@dataclass(slots=True)
class FileSummary:
    """One file of a load, as it is shown and kept. `error` says why when it could not be used.

    `rejects` are the first rows that could not be used, as far as they are kept.
    """

    file: str
    feed: str = ""
    sha256: str = ""
    counts: Counts = field(default_factory=Counts)
    reasons: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    def examples(self, reason: str, most: int) -> list[Reject]:
        """Return the first rejects of one reason, as far as they are kept."""
        return list(islice((reject for reject in self.rejects if reject.reason == reason), most))


class IncidentKind(StrEnum):
    """What can be wrong; a channel may receive some kinds only."""

    DOWN = "down"
    NOT_OPENED = "not_opened"
    STALE = "stale"
    BLIND = "blind"
    MANY_DOWN = "many_down"
    UNSTABLE = "unstable"
    FEED = "feed"


# What a new channel receives that names no kinds. With hourly polls two that are missing in a row make a store stale:
# in a large fleet that happens all day, and of a poller that fails `blind` and `feed` tell.
DEFAULT_KINDS: Final = tuple(kind for kind in IncidentKind if kind != IncidentKind.STALE)


class Outcome(StrEnum):
    """How an incident ended: it was over, the store closed for the day, late polls showed that it never was, nobody can
    tell (polls stopped coming), or the store was removed."""

    OVER = "over"
    CLOSED = "closed"
    CORRECTED = "corrected"
    UNKNOWN = "unknown"
    REMOVED = "removed"


class ReportState(StrEnum):
    """Where a report stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """What came of a report: its file's rows, bytes and SHA-256, the texts that the CSV shows differently, and how it
    was made.

    `altered` maps columns to row numbers (from 0) to those texts.
    """

    row_count: int
    byte_count: int
    sha256: str
    altered: dict[str, dict[int, str]]
    method: dict[str, Any]
