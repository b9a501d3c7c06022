"""Decide from the facts of an instant and the open incidents which incidents open, change or end.

An incident is a row: while one of a kind is open for a subject, a later evaluation continues it, even if late polls
move its start. Pure: the same for a live snapshot and for an instant of the past.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np

from storemon_flask.alerts.facts import Blindness, Facts, Finding
from storemon_flask.database.incidents import Incident
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Bools, IncidentKind, Outcome
from storemon_flask.settings import Settings
from storemon_flask.uptime.conditions import CHANGES_US
from storemon_flask.uptime.status import STATUSES

_UP, _DOWN, _STALE = (STATUSES.index(name) for name in ("up", "down", "stale"))
# A store counts as not opened once its opening is this old.
GRACE_US: Final = 30 * MINUTE_US
# A store without a poll for longer is no longer polled at all, which is no news.
FORGOTTEN_US: Final = 7 * DAY_US
# Many are down: at least this many stores and this share of those that are open and polled; over below half of that.
MANY_STORES: Final = 5
MANY_SHARE: Final = 0.2
# A store is unstable after this many changes in `CHANGES_US`, until it was calm for this much business time.
UNSTABLE_CHANGES: Final = 4
CALM_US: Final = 2 * HOUR_US
# Outages that began longer ago were not read whole.
_READ_WHOLE_US: Final = 6 * DAY_US
_OF_OPENING: Final = (IncidentKind.DOWN, IncidentKind.NOT_OPENED, IncidentKind.STALE)
_STORES_NAMED: Final = 5

Key = tuple[IncidentKind, str, str]


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The rules that people may choose: polls and business time that must show a store down, and how long before
    closing no incident begins any more."""

    min_polls: int = 1
    min_us: int = 0
    closing_us: int = 30 * MINUTE_US

    @classmethod
    def of(cls, settings: Settings) -> "AlertRules":
        """Return the rules that the settings give."""
        return cls(settings.alert_min_polls, settings.alert_min_us, settings.alert_closing_us)


@dataclass(slots=True)
class Changes:
    """The changes of an evaluation: incidents that open (their `id` is 0), that go on with other values, and that end.
    `uncovered`: those of `continued` that channels are told of only now, because a larger incident that covered them
    (`covers`) is over, or because they were quiet."""

    opened: list[Incident] = field(default_factory=list)
    continued: list[Incident] = field(default_factory=list)
    resolved: list[Incident] = field(default_factory=list)
    uncovered: list[Incident] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.opened or self.continued or self.resolved)

    def apply_to(self, open_incidents: Sequence[Incident], first_id: int) -> list[Incident]:
        """Return the incidents open after these changes, new ones numbered from `first_id`; for previews."""
        changed = {incident.id: incident for incident in self.continued}
        over = {incident.id for incident in self.resolved}
        still = [changed.get(incident.id, incident) for incident in open_incidents if incident.id not in over]
        return still + [replace(incident, id=number) for incident, number in zip(self.opened, count(first_id))]


def key_of(incident: Incident | Finding) -> Key:
    """Return the key of an incident: kind, scope and subject. At most one open incident has it."""
    return incident.kind, incident.scope, incident.subject


def covers(incident: Incident) -> list[Key]:
    """Return the larger incidents that cover this one: a channel that is told of one of them is not told of this."""
    return [(IncidentKind(kind), scope, subject) for kind, scope, subject in incident.details.get("part_of", ())]


def evaluate(facts: Facts, open_incidents: Sequence[Incident], rules: AlertRules, blindness: Blindness) -> Changes:
    """Return how the incidents change. While the data are old, only `feed` incidents change."""
    changes = Changes()
    by_kind: dict[IncidentKind, list[Incident]] = {kind: [] for kind in IncidentKind}
    for incident in open_incidents:
        by_kind[incident.kind].append(incident)
    _follow(changes, by_kind[IncidentKind.FEED], facts.feeds, facts.now_us)
    if facts.data_are_old:
        return changes
    _follow(changes, by_kind[IncidentKind.BLIND], blindness.findings, facts.as_of_us, blindness.ends)

    stores = _Stores(facts, rules, blindness.covered)
    judged = list(stores.judge([incident for incident in open_incidents if incident.scope == "store"]))
    changes.resolved += [now for _, now in judged if now.outcome is not None]
    judged = [(before, now) for before, now in judged if now.outcome is None]
    begun = stores.begin([now for _, now in judged])

    groups = _Groups(stores, [*(now for _, now in judged), *begun], by_kind[IncidentKind.MANY_DOWN])
    many = groups.find()
    _follow(changes, by_kind[IncidentKind.MANY_DOWN], many, facts.as_of_us, groups.ends())
    larger = {*map(key_of, many), *map(key_of, begun), *(key_of(now) for _, now in judged)}
    changes.opened += [_cover(incident, larger) for incident in begun]
    for before, now in judged:
        uncovered = _uncover(now, larger)
        if uncovered != before:
            changes.continued.append(uncovered)
        if uncovered is not now:
            changes.uncovered.append(uncovered)
    return changes


def _follow(
    changes: Changes,
    open_incidents: Sequence[Incident],
    findings: Sequence[Finding],
    as_of_us: int,
    ends: Mapping[tuple[str, str], tuple[int, Outcome]] | None = None,
) -> None:
    """Add what opens, changes or ends among the incidents of one kind that are not about single stores."""
    finding_of = {key_of(finding): finding for finding in findings}
    for incident in open_incidents:
        finding = finding_of.pop(key_of(incident), None)
        if finding is None and _is_ahead(incident, as_of_us):
            continue
        if finding is None:
            ended_us, outcome = (ends or {}).get((incident.scope, incident.subject), (as_of_us, Outcome.OVER))
            changes.resolved.append(_resolve(incident, outcome, ended_us, as_of_us))
            continue
        # The start of trouble with a feed is fixed when it is detected.
        since_us = incident.since_us if incident.kind == IncidentKind.FEED else finding.since_us
        now = replace(incident, since_us=since_us, details={**incident.details, **finding.details})
        if incident.details.get("quiet") and not finding.quiet:
            # A quiet incident was announced to nobody when it began.
            now = replace(now, details={**now.details, "quiet": False})
            changes.uncovered.append(now)
        if now != incident:
            changes.continued.append(now)
    for finding in finding_of.values():
        details = {**finding.details, **({"quiet": True} if finding.quiet else {})}
        changes.opened.append(
            Incident(0, finding.kind, finding.scope, finding.subject, finding.since_us, as_of_us, details=details)
        )


def _is_ahead(incident: Incident, as_of_us: int) -> bool:
    """Return whether the clock was set back since the incident was detected: earlier facts cannot change it."""
    return as_of_us < incident.opened_us <= as_of_us + DAY_US


def _resolve(
    incident: Incident, outcome: Outcome, ended_us: int, as_of_us: int, since_us: int | None = None
) -> Incident:
    """Return the incident resolved, with its end and outcome."""
    since_us = incident.since_us if since_us is None else since_us
    ended_us = max(since_us, ended_us)
    # A poll can be older than the opening that is without one.
    begin_us = max(since_us, incident.details.get("opened_us", since_us))
    return replace(
        incident,
        since_us=since_us,
        resolved_us=as_of_us,
        ended_us=ended_us,
        outcome=outcome,
        business_us=max(0, ended_us - begin_us),
    )


def _corrected(incident: Incident, as_of_us: int) -> Incident:
    return _resolve(incident, Outcome.CORRECTED, incident.since_us, as_of_us)


class _Store(NamedTuple):
    """One store of the facts."""

    status: int
    since: int
    since_or_earlier: int
    last_poll: int
    opened_us: int
    closes_us: int
    polls: int
    active_polls: int
    first_up_us: int
    down_from_us: int
    down_until_us: int
    seen_us: int
    last_up_us: int
    changed_us: int
    calm_us: int

    def down_since(self) -> int:
        """Return the start of the current outage, or of the part that lies in this opening."""
        # For an opening that began before the polls that were read, the status has the whole outage.
        return self.since if self.opened_us == 0 and not self.since_or_earlier else self.down_from_us


class _Stores:
    """The stores of the facts, judged one by one where an incident is open, and all at once where none is."""

    def __init__(self, facts: Facts, rules: AlertRules, covered: Bools) -> None:
        self.facts, self.covered = facts, covered
        self._rules = rules
        self.status = facts.columns["status"]

    def rows(self, indexes: Sequence[int] | Any) -> Iterator[_Store]:
        """Yield those stores."""
        columns = (self.facts.columns[name][indexes].tolist() for name in _Store._fields)
        return map(_Store._make, zip(*columns, strict=True))

    def judge(self, open_incidents: Sequence[Incident]) -> Iterator[tuple[Incident, Incident]]:
        """Yield each open incident of a store as it was and as it is now, perhaps resolved."""
        as_of_us, index_of = self.facts.as_of_us, self.facts.index_of()
        there = [incident for incident in open_incidents if incident.subject in index_of]
        indexes = [index_of[incident.subject] for incident in there]
        for incident, index, store in zip(there, indexes, self.rows(indexes), strict=True):
            ahead = _is_ahead(incident, as_of_us)
            yield incident, incident if ahead else _judge(incident, store, as_of_us, bool(self.covered[index]))
        for incident in open_incidents:
            if incident.subject not in index_of:
                yield incident, _resolve(incident, Outcome.REMOVED, as_of_us, as_of_us)

    def begin(self, open_incidents: Sequence[Incident]) -> list[Incident]:
        """Return the incidents that begin, given those that go on."""
        index_of = self.facts.index_of()
        has: dict[IncidentKind, list[int]] = {kind: [] for kind in IncidentKind}
        for incident in open_incidents:
            has[incident.kind].append(index_of[incident.subject])
        # A store has at most one of these two.
        off = has[IncidentKind.DOWN] + has[IncidentKind.NOT_OPENED]
        has[IncidentKind.DOWN] = has[IncidentKind.NOT_OPENED] = off
        begun = []
        for kind, holds in self._holds().items():
            holds[has[kind]] = False
            indexes = np.flatnonzero(holds)
            rows = zip(indexes.tolist(), self.rows(indexes), strict=True)
            begun += [self._incident(kind, index, store) for index, store in rows]
        return begun

    def _holds(self) -> dict[IncidentKind, Bools]:
        """Return for each kind which stores meet the conditions for an incident to begin."""
        columns, as_of_us, rules, status = self.facts.columns, self.facts.as_of_us, self._rules, self.status
        may_begin = (columns["closes_us"] - as_of_us > rules.closing_us) & ~self.covered
        never_up = (columns["active_polls"] == 0) & (columns["opened_us"] > 0)
        down = may_begin & (status == _DOWN) & (columns["down_polls"] >= rules.min_polls)
        long_down = as_of_us - columns["down_from_us"] >= rules.min_us
        late = as_of_us - columns["opened_us"] >= max(GRACE_US, rules.min_us)
        heard = np.isin(status, (_UP, _DOWN))
        changing = (columns["changes"] >= UNSTABLE_CHANGES) & (columns["calm_us"] < CALM_US)
        return {
            IncidentKind.DOWN: down & ~never_up & long_down,
            IncidentKind.NOT_OPENED: down & never_up & late,
            IncidentKind.STALE: may_begin & (status == _STALE) & (columns["last_poll"] > as_of_us - FORGOTTEN_US),
            IncidentKind.UNSTABLE: may_begin & heard & changing,
        }

    def _incident(self, kind: IncidentKind, index: int, store: _Store) -> Incident:
        facts = self.facts
        since_us = {
            IncidentKind.DOWN: store.down_since(),
            IncidentKind.NOT_OPENED: store.opened_us,
            IncidentKind.STALE: store.last_poll,
            IncidentKind.UNSTABLE: int(facts.columns["changes_from_us"][index]),
        }[kind]
        details: dict[str, Any] = {
            "name": facts.names[index],
            "group": facts.groups[index],
            "zone": facts.zones[index],
        }
        # Openings are computed for two days ahead: a later end is no closing time, as for stores that are always open.
        if store.closes_us - facts.as_of_us < 2 * DAY_US:
            details["closes_us"] = store.closes_us
        if kind == IncidentKind.DOWN:
            details |= _shown_by(store)
        elif kind == IncidentKind.STALE:
            details["opened_us"] = store.opened_us
        elif kind == IncidentKind.UNSTABLE:
            details |= {"changes": int(facts.columns["changes"][index]), "hours": CHANGES_US // HOUR_US}
        return Incident(0, kind, "store", facts.ids[index], since_us, facts.as_of_us, details=details)


def _shown_by(store: _Store) -> dict[str, int]:
    """Return the polls between which the store went down, as far as they are known."""
    polls = {"seen_us": store.seen_us, "last_up_us": store.last_up_us}
    return {name: poll_us for name, poll_us in polls.items() if poll_us >= 0}


def _judge(incident: Incident, store: _Store, as_of_us: int, covered: bool) -> Incident:
    """Return an open incident as it is now."""
    if incident.kind == IncidentKind.UNSTABLE:
        if 0 <= store.calm_us < CALM_US:
            return incident
        return _resolve(incident, Outcome.OVER, store.changed_us, as_of_us)
    if store.opened_us < 0 or _is_another(incident, store):
        # The store has another opening now, or none: time passed without an evaluation, or its hours were changed.
        closes_us = int(incident.details.get("closes_us", as_of_us))
        return _resolve(incident, Outcome.CLOSED, min(closes_us, as_of_us), as_of_us)
    ended = _end(incident, store, min(store.closes_us, as_of_us), as_of_us)
    if ended is not None:
        return ended
    if store.closes_us <= as_of_us:
        return _resolve(incident, Outcome.CLOSED, store.closes_us, as_of_us)
    if incident.kind == IncidentKind.STALE:
        return replace(incident, since_us=store.last_poll) if store.last_poll != incident.since_us else incident
    if store.status == _STALE:
        return incident if covered else _resolve(incident, Outcome.UNKNOWN, store.last_poll, as_of_us)
    if incident.kind == IncidentKind.NOT_OPENED or store.down_since() == incident.since_us:
        return incident
    return replace(incident, since_us=store.down_since(), details={**incident.details, **_shown_by(store)})


def _is_another(incident: Incident, store: _Store) -> bool:
    """Return whether the store's current opening differs from the incident's."""
    closes_us = incident.details.get("closes_us")
    if closes_us is not None:
        return bool(store.opened_us >= closes_us)
    return bool(store.opened_us > max(incident.since_us, incident.details.get("opened_us", 0)))


def _end(incident: Incident, store: _Store, until_us: int, as_of_us: int) -> Incident | None:
    """Return the incident resolved if the polls of its opening up to `until_us` show its end or that there was none."""
    if incident.kind == IncidentKind.STALE:
        return None if store.status not in (_UP, _DOWN) else _resolve(
            incident, Outcome.OVER, store.last_poll, as_of_us
        )  # fmt: skip
    if incident.kind == IncidentKind.NOT_OPENED:
        if store.first_up_us < 0:
            return None if store.polls else _corrected(incident, as_of_us)
        if store.first_up_us <= incident.since_us:
            return _corrected(incident, as_of_us)
        return _resolve(incident, Outcome.OVER, store.first_up_us, as_of_us)
    if store.down_from_us < 0:
        return _corrected(incident, as_of_us)
    if store.down_until_us >= until_us:
        return None
    read_whole = store.opened_us > 0 or incident.since_us > as_of_us - _READ_WHOLE_US
    since_us = store.down_from_us if read_whole else incident.since_us
    return _resolve(incident, Outcome.OVER, store.down_until_us, as_of_us, since_us)


class _Groups:
    """How many stores of the fleet, and of each group, are down."""

    def __init__(self, stores: _Stores, incidents: Sequence[Incident], many: Sequence[Incident]) -> None:
        """`incidents` are those of stores that are open now, `many` those of many stores that were before."""
        self._facts = facts = stores.facts
        index_of = facts.index_of()
        off = [incident for incident in incidents if incident.kind in (IncidentKind.DOWN, IncidentKind.NOT_OPENED)]
        self._since = np.zeros(len(facts), dtype=np.int64)
        self._since[[index_of[incident.subject] for incident in off]] = [incident.since_us for incident in off]
        heard = np.isin(stores.status, (_UP, _DOWN)) & ~stores.covered
        self._down = heard & (stores.status == _DOWN) & (self._since > 0)
        self._names, self._code = facts.codes("groups")
        self._known_in = np.bincount(self._code[heard], minlength=len(self._names))
        self._down_in = np.bincount(self._code[self._down], minlength=len(self._names))
        self._open = {key_of(incident): incident for incident in many}

    def find(self) -> list[Finding]:
        """Return where many are down now."""
        findings = [self._finding("fleet", "", self._down, int(self._known_in.sum()))]
        # Report the fleet only if the stores that are down are not all in one group.
        if len(self._names) > 1 and int(self._down_in.max()) == int(self._down_in.sum()):
            findings = findings if (IncidentKind.MANY_DOWN, "fleet", "") in self._open else []
        for code, name in enumerate(self._names):
            if name and len(self._names) > 1 and self._down_in[code] > 1:
                findings.append(
                    self._finding("group", name, self._down & (self._code == code), int(self._known_in[code]))
                )
        return [finding for finding in findings if finding is not None]

    def ends(self) -> dict[tuple[str, str], tuple[int, Outcome]]:
        """Return how open incidents end, if they do: as closed where few stores are still open."""
        known = {("group", name): int(self._known_in[code]) for code, name in enumerate(self._names)}
        known["fleet", ""] = int(self._known_in.sum())
        return {
            scope: (self._facts.as_of_us, Outcome.OVER if number >= MANY_STORES else Outcome.CLOSED)
            for scope, number in known.items()
        }

    def _finding(self, scope: str, subject: str, down: Bools, known: int) -> Finding | None:
        indexes = np.flatnonzero(down)
        needed = max(MANY_STORES, math.ceil(MANY_SHARE * known))
        before = self._open.get((IncidentKind.MANY_DOWN, scope, subject))
        if len(indexes) < needed and (before is None or 2 * len(indexes) < needed):
            return None
        if before is not None and len(indexes) <= before.details.get("count", 0):
            return Finding(IncidentKind.MANY_DOWN, scope, subject, before.since_us)
        # The time at which that many were down.
        since_us = before.since_us if before else int(np.sort(self._since[indexes])[needed - 1])
        named = [self._facts.ids[index] for index in indexes[:_STORES_NAMED].tolist()]
        details = {"count": len(indexes), "of": known, "stores": named}
        return Finding(IncidentKind.MANY_DOWN, scope, subject, since_us, details)


def _cover(incident: Incident, larger: set[Key]) -> Incident:
    """Return a new incident of a store, with the larger ones that cover it."""
    possible = [
        (IncidentKind.UNSTABLE, "store", incident.subject),
        (IncidentKind.MANY_DOWN, "group", str(incident.details["group"])),
        (IncidentKind.MANY_DOWN, "fleet", ""),
    ]
    if incident.kind == IncidentKind.UNSTABLE:
        return incident
    if incident.kind == IncidentKind.STALE:
        possible = possible[:1]
    part_of = [list(key) for key in possible if key in larger]
    return replace(incident, details={**incident.details, "part_of": part_of}) if part_of else incident


def _uncover(incident: Incident, larger: set[Key]) -> Incident:
    """Return the incident without the larger ones that are over; itself when none is."""
    before = covers(incident)
    part_of = [list(key) for key in before if key in larger]
    return (
        incident if len(part_of) == len(before) else replace(incident, details={**incident.details, "part_of": part_of})
    )
