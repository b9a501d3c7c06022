"""Checks of another monitor as polls: thinned, named as stores here, and counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from storemon_flask.characters import count_text, list_ids
from storemon_flask.clock import duration_text
from storemon_flask.feeds import schema
from storemon_flask.feeds.csv_exact import TEXT_CHARACTERS, Record
from storemon_flask.feeds.schema import BadValue
from storemon_flask.model import DAY_US, MINUTE_US

ACTIVE: Final = "active"
INACTIVE: Final = "inactive"
# A check that says neither, as one that is tried again.
NEITHER: Final = ""
# The monitor was not to watch: what was known before holds no longer.
UNWATCHED: Final = "unwatched"
SLOT_US: Final = 10 * MINUTE_US
_BATCH_ROWS: Final = 5_000
# So many gaps between checks tell how often a monitor checks.
_GAPS_COUNTED: Final = 2_000
_NAMES_SHOWN: Final = 5


class Check(NamedTuple):
    """What another monitor knows of one instant; `status` and `timestamp` are what the feed polls reads.

    `row` is its number in the source. `timestamp_us` is None where the timestamp is none. `problem` says why it cannot
    be used, `text` what stands there.
    """

    row: int
    timestamp_us: int | None
    timestamp: str
    status: str
    problem: str = ""
    text: str = ""


class Reader(Protocol):
    """Reads one source: `label` says what it is, `name` which; both may be known only when it was read.

    `has_checks`: it keeps checks, and not only from when to when something held. `aside` are names that are left out
    unless a map has them, with the reason; `notes` are about what was read.
    """

    label: str
    name: str
    has_checks: bool
    aside: dict[str, str]

    def checks(self, is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        """Return name and check of everything whose name is wanted; of one name in the order of time."""
        ...

    def notes(self) -> list[str]:
        """Return notes about what was read."""
        ...


def timestamp_us(text: str) -> int | None:
    """Return the timestamp as the feed polls reads it; None when that cannot be read."""
    try:
        return int(schema.parse_timestamp(text))
    except BadValue:
        return None


class Thinner:
    """Keeps one check in 10 minutes of one name, and those on both sides of each change and of each longer gap.

    Slots of 10 minutes begin at full ones, so that the same checks are kept however much of the past is still there.
    """

    def __init__(self) -> None:
        self._last: Check | None = None
        self._last_us = 0
        self._keep_last = True

    def add(self, check: Check, at_us: int) -> Check | None:
        """Return the check before this one, if it is kept."""
        last, last_us = self._last, self._last_us
        if last is None:
            self._last, self._last_us = check, at_us
            return None
        if at_us == last_us and check.status == last.status:
            return None
        apart = check.status != last.status or at_us - last_us > SLOT_US
        to_keep = last if apart or self._keep_last else None
        self._last, self._last_us = check, at_us
        self._keep_last = apart or at_us // SLOT_US != last_us // SLOT_US
        return to_keep

    def finish(self) -> Check | None:
        """Return the last check, which is always kept."""
        return self._last


@dataclass(slots=True)
class NameCount:
    """What was read of one name: checks, the polls kept of them, and their span."""

    checks: int = 0
    polls: int = 0
    inactive: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, check: Check) -> None:
        """Count a poll that is kept."""
        self.polls += 1
        self.inactive += check.status == INACTIVE
        at_us = check.timestamp_us
        if at_us is not None:
            self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
            self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)


@dataclass
class ImportedPolls:
    """The polls of one import; `ids` is the store of each name, None: each name is an id itself."""

    reader: Reader
    ids: Mapping[str, str] | None = None
    names: dict[str, NameCount] = field(default_factory=dict)
    unmapped: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _gaps: Counter[int] = field(default_factory=Counter)
    _neither: int = 0

    def store_id(self, name: str) -> str | None:
        """Return the store of a name; None when it is left out."""
        if self.ids is not None:
            return self.ids.get(name) or None
        return None if name in self.reader.aside else name

    def batches(self) -> Iterator[list[Record]]:
        """Return the polls as records of the feed, and add notes about them at the end."""
        batch: list[Record] = []
        for name, check in self._thinned():
            store_id = self.store_id(name) or ""
            self.names[name].add(check)
            text = check.text or f"{name},{check.timestamp},{check.status}"
            fields = [store_id, check.timestamp, check.status]
            batch.append(Record(check.row, fields, text[:TEXT_CHARACTERS], check.problem))
            if len(batch) == _BATCH_ROWS:
                yield batch
                batch = []
        self.notes += self._notes()
        yield batch

    def _thinned(self) -> Iterator[tuple[str, Check]]:
        thinners: dict[str, Thinner] = {}
        last_us: dict[str, int] = {}
        for name, check in self.reader.checks(self._is_included):
            count = self.names.setdefault(name, NameCount())
            count.checks += 1
            if check.status in (NEITHER, UNWATCHED):
                self._neither += 1
                continue
            at_us = check.timestamp_us
            if at_us is None or check.problem or check.status not in (ACTIVE, INACTIVE):
                # The load says what is wrong with it.
                yield name, check
                continue
            if count.checks < _GAPS_COUNTED:
                self._gaps[round((at_us - last_us.get(name, at_us)) / 1_000_000)] += 1
                last_us[name] = at_us
            thinner = thinners.get(name)
            if thinner is None:
                thinner = thinners[name] = Thinner()
            poll = thinner.add(check, at_us)
            if poll is not None:
                yield name, poll
        for name, thinner in thinners.items():
            poll = thinner.finish()
            if poll is not None:
                yield name, poll

    def _is_included(self, name: str) -> bool:
        self.names.setdefault(name, NameCount())
        if self.ids is not None and name not in self.ids:
            self.unmapped[name] = None
        return self.store_id(name) is not None

    def _notes(self) -> Iterator[str]:
        checks = sum(count.checks for count in self.names.values())
        polls = sum(count.polls for count in self.names.values())
        included = [name for name in self.names if self.store_id(name) is not None]
        source = f"from {self.reader.label}, {count_text(len(included), 'name')}"
        if self.reader.has_checks:
            proportion = f"{polls:,} of {count_text(checks, 'check')} are kept"
            rule = "one in 10 minutes, and both sides of each change and gap"
            yield f"{source}{self._interval_text()}; {proportion}: {rule}"
        else:
            yield f"{source}; {count_text(polls, 'poll')} made of it: one in 10 minutes, and both sides of each change"
        if self._neither:
            yield f"{count_text(self._neither, 'check says', 'checks say')} neither (pending, maintenance): left out"
        yield from self.reader.notes()
        if self.unmapped:
            yield f"not in the map, left out: {_listed(list(self.unmapped))}"
        strangers = [name for name in self.ids or () if name not in self.names]
        if strangers:
            yield f"in the map, but not in {self.reader.label}: {_listed(strangers)}"
        aside = [name for name in self.names if name in self.reader.aside and self.ids is None]
        if aside:
            yield f"left out, as no map has them: {_listed(aside)} ({self.reader.aside[aside[0]]})"
        shared = Counter(store_id for name in included if (store_id := self.store_id(name)))
        several = [store_id for store_id, times in shared.items() if times > 1]
        if several:
            yield f"several names are one store: {_listed(several)}; their polls are put together"

    def _interval_text(self) -> str:
        del self._gaps[0]
        for seconds, _ in self._gaps.most_common(1):
            if 0 < seconds * 1_000_000 <= DAY_US:
                text = f"{seconds} s" if seconds < 120 else duration_text(seconds * 1_000_000)
                return f", checked most often every {text}"
        return ""


def _listed(names: list[str]) -> str:
    return list_ids(names[:_NAMES_SHOWN], len(names))
