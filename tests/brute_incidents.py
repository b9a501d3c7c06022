"""The incidents of SPEC.md 9 found slowly and literally, to check the fast evaluation against.

`Judge` is the entrance: it is shown a small fleet evaluation by evaluation and keeps the incidents of kinds `down`,
`not_opened`, `stale`, `unstable` and `many_down`. Every time is an integer: microseconds since 1970-01-01T00:00Z. A poll
is `(instant, active)`, an opening `(start, end)` with the end outside. Nothing is blind, and no data are old.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from brute_force import DAY, HOUR, MINUTE, Poll, evidence, line, status_now
from brute_openings import Opening

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Brute:
    """An incident; `opening` is that of its store."""

    kind: str
    scope: str
    subject: str
    since: int
    ended: int | None = None
    outcome: str | None = None
    business: int | None = None
    opening: Opening | None = None
    count: int = 0

    @property
    def key(self) -> Key:
        return self.kind, self.scope, self.subject


@dataclass
class Choices:
    """The settings: all in microseconds but the number of polls."""

    min_polls: int = 1
    min_us: int = 0
    closing: int = 30 * MINUTE
    reach: int = 24 * HOUR
    max_gap: int = 150 * MINUTE


@dataclass(frozen=True)
class Segment:
    """Time of one opening that one poll decides, cut at the as-of (SPEC 3.3)."""

    opening: Opening
    poll: Poll
    start: int
    end: int


def segments(opened: list[Opening], polls: list[Poll], as_of: int, reach: int) -> list[Segment]:
    """What each poll in business hours decides, up to the as-of; the newest one's time ends there."""
    found = []
    for opening in opened:
        made = evidence(opening, polls)
        for index, poll in enumerate(made):
            start = max(opening[0], poll[0] - reach)
            end = min(opening[1], poll[0] + reach)
            if index:
                start = max(start, line(made[index - 1], poll))
            if index + 1 < len(made):
                end = min(end, line(poll, made[index + 1]))
            found.append(Segment(opening, poll, start, min(end, as_of)))
    return found


def newest_outage(opening: Opening, polls: list[Poll], as_of: int, reach: int) -> list[Segment]:
    """The last run of inactive polls of an opening, without unknown time between; empty when none is inactive."""
    run: list[Segment] = []
    for one in reversed(segments([opening], polls, as_of, reach)):
        if one.poll[1]:
            if run:
                break
            continue
        if run and one.end != run[0].start:
            break
        run.insert(0, one)
    return run


def business_between(opened: list[Opening], start: int, end: int) -> int:
    """Business time between two instants."""
    return sum(max(0, min(close, end) - max(begin, start)) for begin, close in opened)


def changes_of(opened: list[Opening], polls: list[Poll], as_of: int, reach: int) -> list[int]:
    """When the status changed, from one poll in business hours to the next, in whichever openings they are."""
    found = segments(opened, polls, as_of, reach)
    return [later.start for earlier, later in pairwise(found) if earlier.poll[1] != later.poll[1]]


@dataclass
class Store:
    """One store at the as-of, with its polls up to it."""

    opened: list[Opening]
    polls: list[Poll]
    as_of: int
    choices: Choices
    status: str = ""
    # The opening at the as-of, or the last one before it.
    opening: Opening | None = None
    made: list[Poll] = field(default_factory=list)
    outage: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.opened = [opening for opening in self.opened if opening[0] <= self.as_of]
        self.status = status_now(self.polls, self.opened, self.as_of, self.choices.max_gap)
        if self.opened:
            self.opening = self.opened[-1]
            self.made = evidence(self.opening, self.polls)
            self.outage = newest_outage(self.opening, self.polls, self.as_of, self.choices.reach)

    def last_poll(self) -> int:
        return self.polls[-1][0]

    def up_polls(self) -> list[Poll]:
        return [poll for poll in self.made if poll[1]]

    def calm(self, changes: list[int]) -> int:
        return business_between(self.opened, changes[-1], self.as_of)

    def changes(self) -> list[int]:
        return changes_of(self.opened, self.polls, self.as_of, self.choices.reach)

    def first_up(self) -> int | None:
        """When the time of the first active poll of the opening begins."""
        assert self.opening is not None
        for one in segments([self.opening], self.polls, self.as_of, self.choices.reach):
            if one.poll[1]:
                return one.start
        return None

    def begins(self) -> dict[str, int]:
        """The kinds that may begin now, and since when each is so."""
        if self.opening is None or not self.opening[0] <= self.as_of < self.opening[1]:
            return {}
        if self.opening[1] - self.as_of <= self.choices.closing:
            return {}
        found: dict[str, int] = {}
        if self.status == "down":
            open_for = self.as_of - self.opening[0]
            start = self.outage[0].start
            if len(self.outage) >= self.choices.min_polls:
                if self.up_polls() or open_for > 8 * DAY:
                    if self.as_of - start >= self.choices.min_us:
                        found["down"] = start
                elif open_for >= max(30 * MINUTE, self.choices.min_us):
                    found["not_opened"] = self.opening[0]
        if self.status == "stale" and self.as_of - self.last_poll() < 7 * DAY:
            found["stale"] = self.last_poll()
        changes = self.changes()
        recent = [at for at in changes if business_between(self.opened, at, self.as_of) <= 6 * HOUR]
        if self.status in ("up", "down") and len(recent) >= 4 and self.calm(changes) < 2 * HOUR:
            found["unstable"] = recent[0]
        return found


def resolve(one: Brute, outcome: str, ended: int, since: int | None = None) -> Brute:
    since = one.since if since is None else since
    ended = max(ended, since)
    business = None
    if one.kind in ("down", "not_opened", "stale"):
        assert one.opening is not None
        business = 0 if outcome == "corrected" else business_between([one.opening], since, ended)
    return replace(one, since=since, outcome=outcome, ended=ended, business=business)


def follow(one: Brute, store: Store) -> Brute:
    """An open incident of a store as it is now: the same, with another beginning, or with its end."""
    now = store.as_of
    if one.kind == "unstable":
        changes = store.changes()
        if changes and store.calm(changes) < 2 * HOUR:
            return one
        return resolve(one, "over", changes[-1] if changes else one.since)
    assert one.opening is not None
    assert store.opening is not None
    if store.opening != one.opening:
        # A later opening has begun: the incident ended with its own.
        return resolve(one, "closed", one.opening[1])
    is_open = now < one.opening[1]
    if one.kind == "stale":
        if store.status in ("up", "down"):
            return resolve(one, "over", store.last_poll())
        return replace(one, since=store.last_poll()) if is_open else resolve(one, "closed", one.opening[1])
    if one.kind == "not_opened":
        first = store.first_up()
        if first is not None:
            return resolve(one, "corrected" if first <= one.since else "over", max(first, one.since))
    elif not store.outage:
        return resolve(one, "corrected", one.since)
    elif store.outage[-1].end < min(now, one.opening[1]):
        return resolve(one, "over", store.outage[-1].end, store.outage[0].start)
    if not is_open:
        return resolve(one, "closed", one.opening[1])
    if store.status == "stale":
        return resolve(one, "unknown", store.last_poll())
    return replace(one, since=store.outage[0].start) if one.kind == "down" else one


@dataclass
class Judge:
    """What is open, from one evaluation to the next."""

    choices: Choices = field(default_factory=Choices)
    open: dict[Key, Brute] = field(default_factory=dict)

    def look(
        self,
        as_of: int,
        opened: Mapping[str, list[Opening]],
        polls: Mapping[str, list[Poll]],
        groups: Mapping[str, str],
    ) -> tuple[list[Brute], list[Brute]]:
        """Evaluate; what opened, and what ended. `polls` are those that came in so far."""
        stores = {
            name: Store(
                opened[name],
                sorted(poll for poll in dict(polls[name]).items() if poll[0] <= as_of),
                as_of,
                self.choices,
            )
            for name in sorted(opened)
        }
        begun, over = [], []
        for key, one in list(self.open.items()):
            if one.scope != "store":
                continue
            now = follow(one, stores[one.subject])
            if now.outcome:
                over.append(now)
                del self.open[key]
            else:
                self.open[key] = now
        for name, store in stores.items():
            for kind, since in store.begins().items():
                key = (kind, "store", name)
                off = kind in ("down", "not_opened") and any(
                    (other, "store", name) in self.open for other in ("down", "not_opened")
                )
                if key not in self.open and not off:
                    self.open[key] = Brute(kind, "store", name, since, opening=store.opening)
                    begun.append(self.open[key])
        many_begun, many_over = self._many(as_of, stores, groups)
        return begun + many_begun, over + many_over

    def _many(
        self, as_of: int, stores: Mapping[str, Store], groups: Mapping[str, str]
    ) -> tuple[list[Brute], list[Brute]]:
        begun, over = [], []
        names = sorted(set(groups.values()))
        down_groups = {groups[name] for name in stores if self._down_since(name, stores) is not None}
        for scope, subject in [("fleet", ""), *(("group", name) for name in names if name)]:
            if scope == "group" and len(names) == 1:
                # The only group is the fleet.
                continue
            members = [name for name in stores if scope == "fleet" or groups[name] == subject]
            known = [name for name in members if stores[name].status in ("up", "down")]
            since = sorted(at for name in members if (at := self._down_since(name, stores)) is not None)
            needed = max(5, math.ceil(len(known) / 5))
            key = ("many_down", scope, subject)
            if key in self.open:
                if 2 * len(since) < needed:
                    over.append(resolve(self.open.pop(key), "over" if len(known) >= 5 else "closed", as_of))
                continue
            one_group = scope == "fleet" and len(names) > 1 and len(down_groups) == 1
            if len(since) >= needed and not one_group:
                self.open[key] = Brute("many_down", scope, subject, since[needed - 1])
                begun.append(self.open[key])
        return begun, over

    def _down_since(self, name: str, stores: Mapping[str, Store]) -> int | None:
        """Since when a store that is down is in an incident; None when it is not."""
        if stores[name].status != "down":
            return None
        found = [self.open[key].since for kind in ("down", "not_opened") if (key := (kind, "store", name)) in self.open]
        return found[0] if found else None


def pick(incidents: Sequence[Brute]) -> list[tuple[str, str, str, int]]:
    return sorted((*one.key, one.since) for one in incidents)
