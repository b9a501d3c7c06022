"""Find what storemon cannot see now: the poller is silent, or suddenly reports nearly all stores as down.

Silence is judged of the fleet, and of each group and zone: fewer than half of the stores from which a poll is due were
heard in two usual intervals. From a store that is polled around the clock a poll is always due, from the others while
they are open. Suspicion is of the fleet: of the stores polled last nearly all turned down at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from storemon_flask.alerts.facts import Blindness, Facts, Finding
from storemon_flask.database.incidents import Incident
from storemon_flask.model import DAY_US, MINUTE_US, WEEK_US, Bools, IncidentKind, Ints, Outcome, Polls
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.status import STATUSES

_UP, _DOWN = (STATUSES.index(name) for name in ("up", "down"))
# A share means something for at least this many stores; for a fleet without any poll at all, two are enough.
LEAST_STORES: Final = 5
_LEAST_FLEET: Final = 2
# Silence is so many usual intervals without a poll. From a quarter over one on, nothing is said of a store while most
# of the others are as quiet: it may be silence that begins.
_SILENT_AFTER: Final = 2
_QUIET_AFTER: Final = 1.25
# A poller that polls more often than this is not missed at once.
_LEAST_INTERVAL_US: Final = 5 * MINUTE_US
# A group or zone is silent by itself only if this share of all others is heard.
_OTHERS_HEARD: Final = 0.75
# Silence ends when this share is heard again, or else one interval after half of them were.
_MOST: Final = 0.75
# Suspicion: of the stores polled last, more than this share of those that were up, and of all, turned down.
_TURNED: Final = 0.6
_TURNED_OF_ALL: Final = 0.1
# The usual interval of a store is learned from this much time, and from at least this many intervals.
LEARNED_FROM_US: Final = WEEK_US
_LEAST_GAPS: Final = 5
# Around the clock: over four days or more hardly any time lies between polls that are three intervals apart.
_LONG_GAP: Final = 3
_MOST_LONG_GAPS: Final = 3
_ALWAYS_SHARE: Final = 0.85
_ALWAYS_KNOWN_US: Final = 4 * DAY_US

Scope = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """How stores are usually polled, with an entry for each: the interval between polls (-1: not known), and whether
    that is so around the clock. `loads_us` is the usual interval between loads of polls (0: not known)."""

    interval_us: Ints
    always: Bools
    loads_us: int = 0


class Seen(NamedTuple):
    """The polls and openings of some stores (indexes into those of the facts) in a span of time."""

    stores: Ints
    openings: Openings
    polls: Polls


# Yields polls and openings between two instants, some stores at a time.
See = Callable[[int, int], Iterable[Seen]]


def learn(polls: Polls, size: int) -> tuple[Ints, Bools]:
    """Return the usual interval between the polls of each of `size` stores, and whether that is so around the clock."""
    same = np.flatnonzero(polls.store[1:] == polls.store[:-1])
    store, gap = polls.store[same], polls.instant_us[same + 1] - polls.instant_us[same]
    count = np.bincount(store, minlength=size)
    first = np.cumsum(count) - count
    interval = np.full(size, -1, dtype=np.int64)
    # Stores with equally many gaps are the rows of one table: their medians take a fifth of the time of a sort.
    for gaps in np.unique(count[count >= _LEAST_GAPS]).tolist():
        alike = np.flatnonzero(count == gaps)
        table = gap[first[alike][:, np.newaxis] + np.arange(gaps)]
        interval[alike] = np.partition(table, gaps // 2, axis=1)[:, gaps // 2]
    long = gap > _LONG_GAP * interval[store]
    whole, short = np.bincount(store, gap, size), np.bincount(store, gap * ~long, size)
    always = (interval > 0) & (whole >= _ALWAYS_KNOWN_US) & (short >= _ALWAYS_SHARE * whole)
    always &= np.bincount(store, long, size) <= _MOST_LONG_GAPS
    return interval, always


def find(
    facts: Facts, open_incidents: Sequence[Incident], usual: Usual, see: See, ended: Sequence[Incident] = ()
) -> Blindness:
    """Return what cannot be seen, given the open incidents and the blind ones that `ended` lately. When one ends, it
    calls `see`, because late polls may say when that was."""
    fleet = _Fleet(facts, usual)
    findings: list[Finding] = []
    ends: dict[Scope, tuple[int, Outcome]] = {}
    for incident in open_incidents:
        if incident.kind == IncidentKind.BLIND:
            judged = fleet.judge(incident, see)
            if isinstance(judged, Finding):
                findings.append(judged)
            else:
                ends[incident.scope, incident.subject] = judged
    known = {(finding.scope, finding.subject) for finding in findings}
    if ("fleet", "") not in known:
        suspicion = fleet.suspect() if ("fleet", "") not in ends else None
        begun = [suspicion] if suspicion else fleet.find_silence(known)
        findings += [one for one in begun if (one.scope, one.subject) not in ends]
    # A suspicion is of the fleet and of what every poll says.
    suspected = any(finding.details.get("reason") == "suspicion" for finding in findings) or any(
        incident.details.get("reason") == "suspicion" and (incident.scope, incident.subject) in known
        for incident in open_incidents
        if incident.kind == IncidentKind.BLIND
    )
    lately = [*ended, *over(facts, open_incidents, ends)]
    covered = np.ones(len(facts), dtype=bool) if suspected else fleet.covered(findings, lately)
    return Blindness(covered, tuple(findings), ends)


def over(facts: Facts, open_incidents: Sequence[Incident], ends: Mapping[Scope, tuple[int, Outcome]]) -> list[Incident]:
    """Return the blind incidents that are over at the instant of the facts, without corrected ones."""
    done = []
    for incident in open_incidents:
        ended_us, outcome = ends.get((incident.scope, incident.subject), (0, None))
        if incident.kind == IncidentKind.BLIND and outcome == Outcome.OVER:
            done.append(replace(incident, resolved_us=facts.as_of_us, ended_us=ended_us, outcome=outcome))
    return done


class _Fleet:
    """The stores of the facts: from which a poll is due, and since when each is quiet."""

    def __init__(self, facts: Facts, usual: Usual) -> None:
        self._facts, self._usual, columns = facts, usual, facts.columns
        self._as_of_us = as_of_us = facts.as_of_us
        last_poll, opened, self._status = columns["last_poll"], columns["opened_us"], columns["status"]
        self._polled = last_poll > as_of_us - WEEK_US
        self._open = (opened >= 0) & (columns["closes_us"] > as_of_us)
        known = self._polled & (usual.interval_us > 0)
        self._interval = np.maximum(usual.interval_us, _LEAST_INTERVAL_US)
        pace = np.maximum(self._interval, usual.loads_us)
        middle = int(np.median(pace[known])) if known.any() else DAY_US
        self._pace = np.where(known, pace, middle)
        # A store that is polled only while it is open is quiet since it opened.
        self._heard_from = np.where(usual.always, last_poll, np.maximum(last_poll, opened))
        quiet = as_of_us - self._heard_from
        due = known & (usual.always | self._open)
        # A store that has just opened is neither heard nor missed yet.
        in_opening = usual.always | (last_poll >= opened)
        self._late = due & (quiet > _SILENT_AFTER * self._pace)
        self._due = due & (in_opening | self._late)
        self._is_quiet = quiet > _QUIET_AFTER * self._pace
        self._due_soon = due & (in_opening | self._is_quiet)

    def judge(self, incident: Incident, see: See) -> Finding | tuple[int, Outcome]:
        """Return how an open incident continues, or when and how it ended."""
        members = self._members(incident.scope, incident.subject)
        if not (members & self._polled).any():
            return self._as_of_us, Outcome.UNKNOWN if members.any() else Outcome.REMOVED
        if incident.details.get("reason") == "suspicion":
            return self._judge_suspicion(incident)
        pace = self._pace_of(members)
        if not self._is_seen_again(incident, members, pace):
            since_us = incident.since_us
            if (members & self._late).any():
                # Some polls came late, and it goes on after them.
                moved_us = self._silent_since(members)
                since_us = moved_us if moved_us > since_us + pace else since_us
            return _finding(incident, since_us, {"back_us": None} if incident.details.get("back_us") else {})
        due, late = members & self._due, members & self._late
        back_us = incident.details.get("back_us") or self._as_of_us
        if late.sum() <= (1 - _MOST) * due.sum() or self._as_of_us - back_us >= pace:
            return self._end_of_silence(incident, members, pace, see)
        return _finding(incident, incident.since_us, {"back_us": back_us})

    def suspect(self) -> Finding | None:
        """Return the suspicion that a poller lies, if it begins."""
        columns = self._facts.columns
        up = self._open & (self._status == _UP)
        turned = self._open & (self._status == _DOWN) & (columns["last_up_us"] >= 0) & (columns["seen_us"] >= 0)
        if turned.sum() < LEAST_STORES:
            return None
        seen = columns["seen_us"]
        times, polled_up = np.sort(seen[turned]), np.sort(columns["last_poll"][up])
        pace = self._pace_of(turned)
        many = np.searchsorted(times, times + pace, side="right") - np.arange(len(times))
        still_up = len(polled_up) - np.searchsorted(polled_up, times)
        least = max(LEAST_STORES, _TURNED_OF_ALL * (len(times) + len(polled_up)))
        suspicious = np.flatnonzero((many > _TURNED * (many + still_up)) & (many >= least))
        if not len(suspicious):
            return None
        first = int(suspicious[0])
        turned &= (seen >= times[first]) & (seen <= times[first] + pace)
        if not any(len(np.unique(code[turned])) > 1 for _, code in map(self._facts.codes, ("groups", "zones"))):
            return None
        details = {"reason": "suspicion", "count": int(many[first]), "of": int(many[first] + still_up[first])}
        # Held back until the next polls agree.
        return Finding(IncidentKind.BLIND, "fleet", "", int(times[first]), details, quiet=True)

    def find_silence(self, known: set[Scope]) -> list[Finding]:
        """Return the silences that begin: of groups and zones if the others are heard, else of the fleet."""
        taken = np.zeros(len(self._facts), dtype=bool)
        for scope, subject in known:
            taken |= self._members(scope, subject)
        scopes: list[Scope] = []
        for scope, subject in self._thin_scopes():
            late = self._members(scope, subject) & self._late
            if (scope, subject) not in known and 2 * (late & ~taken).sum() >= late.sum():
                scopes.append((scope, subject))
                taken |= self._members(scope, subject)
        others = self._due & ~taken
        if (others & ~self._late).sum() >= max(LEAST_STORES, _OTHERS_HEARD * others.sum()):
            return [self._silence(*scope) for scope in scopes]
        due, missing = int(self._due.sum()), int(self._late.sum())
        silent = due >= LEAST_STORES and 2 * (due - missing) < due
        return [self._silence("fleet", "")] if silent or (due == missing and due >= _LEAST_FLEET) else []

    def covered(self, findings: Sequence[Finding], ended: Sequence[Incident]) -> Bools:
        """Return the stores that no incident may begin for: quiet stores in scopes that are silent, may be about to be,
        or were until a moment ago, and stores whose newest poll is under suspicion."""
        beginning = self._due_soon & self._is_quiet
        due = int(self._due_soon.sum())
        inside = np.full(len(self._facts), due >= _LEAST_FLEET and 2 * (due - int(beginning.sum())) < due)
        for texts in ("groups", "zones"):
            inside |= self._thin(texts, self._due_soon, beginning)[self._facts.codes(texts)[1]]
        for finding in findings:
            inside |= self._members(finding.scope, finding.subject)
        covered: Bools = inside & self._is_quiet
        for incident in ended:
            if incident.ended_us is not None and incident.resolved_us is not None:
                before = self._members(incident.scope, incident.subject)
                before &= self._facts.columns["last_poll"] < incident.ended_us
                before &= self._as_of_us - incident.resolved_us < _SILENT_AFTER * self._pace
                covered |= before & (self._is_quiet | (incident.details.get("reason") == "suspicion"))
        return covered

    def _members(self, scope: str, subject: str) -> Bools:
        if scope == "fleet":
            return np.ones(len(self._facts), dtype=bool)
        names, code = self._facts.codes(f"{scope}s")
        members: Bools = code == names.index(subject) if subject in names else np.zeros(len(code), dtype=bool)
        return members

    def _pace_of(self, members: Bools) -> int:
        some = members & self._due
        return int(np.median(self._pace[some if some.any() else members]))

    def _thin(self, texts: str, due: Bools, late: Bools) -> Bools:
        """Return the groups or zones in which fewer than half of the stores that are due are heard."""
        names, code = self._facts.codes(texts)
        of, missing = (np.bincount(code[some], minlength=len(names)) for some in (due, late))
        named = np.array([bool(name) for name in names], dtype=bool)
        thin: Bools = named & (of >= LEAST_STORES) & (2 * (of - missing) < of)
        return thin

    def _thin_scopes(self) -> list[Scope]:
        """Return the groups and zones in which hardly any store is heard, those with the most such stores first."""
        scopes = []
        for scope, texts in (("group", "groups"), ("zone", "zones")):
            names, code = self._facts.codes(texts)
            missing = np.bincount(code[self._late], minlength=len(names))
            for index in np.flatnonzero(self._thin(texts, self._due, self._late)).tolist():
                scopes.append((-int(missing[index]), scope, names[index]))
        return [(scope, name) for _, scope, name in sorted(scopes)]

    def _silence(self, scope: str, subject: str) -> Finding:
        members = self._members(scope, subject)
        count, of = int((members & self._late).sum()), int((members & self._due).sum())
        details = {"reason": "silence", "count": count, "of": of}
        return Finding(IncidentKind.BLIND, scope, subject, self._silent_since(members), details)

    def _silent_since(self, members: Bools) -> int:
        """Return the instant after which fewer than half of the stores that are due were heard."""
        heard_from = np.sort(self._heard_from[members & self._due])
        return int(heard_from[len(heard_from) // 2])

    def _is_seen_again(self, incident: Incident, members: Bools, pace: int) -> bool:
        """Return whether half of the stores that are due are heard; where few are due, half of all since it began."""
        due, late = int((members & self._due).sum()), int((members & self._late).sum())
        if due >= LEAST_STORES or 2 * due >= incident.details.get("of", 0):
            return 2 * (due - late) >= due
        polled = members & self._polled
        since = polled & (self._facts.columns["last_poll"] > incident.since_us + pace)
        return bool(2 * since.sum() >= polled.sum())

    def _end_of_silence(self, incident: Incident, members: Bools, pace: int, see: See) -> tuple[int, Outcome]:
        """Return when the stores were heard again, by the polls stored now."""
        chosen = members & self._polled & (self._usual.interval_us > 0)
        from_us = max(incident.since_us - _SILENT_AFTER * pace, 0)
        tally = _Tally()
        for seen in see(from_us, self._as_of_us):
            tally.add(seen, chosen, self._usual.always, _SILENT_AFTER * self._interval, from_us, self._as_of_us)
        span = tally.blind_span(incident.since_us, self._as_of_us)
        if span is None:
            return incident.since_us, Outcome.CORRECTED
        return span[1], Outcome.OVER

    def _judge_suspicion(self, incident: Incident) -> Finding | tuple[int, Outcome]:
        columns, since_us = self._facts.columns, incident.since_us
        polled = self._open & (columns["last_poll"] >= since_us)
        down, up = polled & (self._status == _DOWN), polled & (self._status == _UP)
        if int(down.sum() + up.sum()) < LEAST_STORES or 2 * down.sum() > down.sum() + up.sum():
            confirmed = 2 * (down & (columns["down_polls"] > 1)).sum() > down.sum()
            waited = self._as_of_us - since_us >= _SILENT_AFTER * self._pace_of(polled | self._polled)
            quiet = bool(incident.details.get("quiet")) and not (confirmed or waited)
            return _finding(incident, since_us, {}, quiet)
        back = columns["changed_us"][up & (columns["changed_us"] > since_us)]
        if not len(back) or 2 * len(back) < down.sum():
            # Others were polled that are up, or what was wrong was loaded again.
            return since_us, Outcome.CORRECTED
        back_us = incident.details.get("back_us") or self._as_of_us
        pace = self._pace_of(polled)
        if down.sum() <= (1 - _MOST) * (down.sum() + up.sum()) or self._as_of_us - back_us >= pace:
            return int(np.median(back)), Outcome.OVER
        # What was last said of the others may be wrong still.
        quiet = bool(incident.details.get("quiet"))
        return _finding(incident, since_us, {"back_us": back_us}, quiet)


def _finding(incident: Incident, since_us: int, details: Mapping[str, Any], quiet: bool = False) -> Finding:
    return Finding(IncidentKind.BLIND, incident.scope, incident.subject, since_us, details, quiet)


class _Tally:
    """How many stores are due, and how many of those are unheard, over time."""

    def __init__(self) -> None:
        self._times: list[Ints] = []
        self._due: list[Ints] = []
        self._unheard: list[Ints] = []

    def add(self, seen: Seen, chosen: Bools, always: Bools, longest_us: Ints, from_us: int, to_us: int) -> None:
        """Add the chosen stores; a store is unheard between polls more than `longest_us` apart."""
        block = to_us - from_us + 1
        around = np.flatnonzero(always[seen.stores] & chosen[seen.stores])
        opened = seen.openings.cut(from_us, to_us)
        some = chosen[seen.stores[opened.store]] & ~always[seen.stores[opened.store]]
        start = np.concatenate([around * block, opened.store[some] * block + opened.start_us[some] - from_us])
        end = np.concatenate([around * block + block - 1, opened.store[some] * block + opened.end_us[some] - from_us])
        order = np.argsort(start)
        start, end = start[order], end[order]
        if not len(start):
            return
        polls = seen.polls.pick((seen.polls.instant_us >= from_us) & (seen.polls.instant_us <= to_us))
        poll = polls.store * block + polls.instant_us - from_us
        span = np.searchsorted(start, poll, side="right") - 1
        poll = poll[(span >= 0) & (poll <= end[np.maximum(span, 0)])]
        mark = np.sort(np.concatenate([start, poll]))
        of = np.searchsorted(start, mark, side="right") - 1
        following = np.append(mark[1:], end[-1])
        following = np.minimum(following, end[of])
        unheard = following - mark > longest_us[seen.stores[mark // block]]
        zeros, ones = np.zeros(len(start), dtype=np.int64), np.ones(len(start), dtype=np.int64)
        self._count(start % block + from_us, ones, zeros)
        self._count(end % block + from_us, -ones, zeros)
        gone = np.ones(int(unheard.sum()), dtype=np.int64)
        self._count(mark[unheard] % block + from_us, 0 * gone, gone)
        self._count(following[unheard] % block + from_us, 0 * gone, -gone)

    def blind_span(self, since_us: int, until_us: int) -> tuple[int, int] | None:
        """Return from the first to the last time, in that span, in which more than half of the stores that were due
        were unheard; the span if none was due, None when there is no such time."""
        if not self._times:
            return since_us, until_us
        times, index = np.unique(np.concatenate(self._times), return_inverse=True)
        due, unheard = (
            np.cumsum(np.bincount(index, np.concatenate(counts))) for counts in (self._due, self._unheard)
        )  # fmt: skip
        starts, ends = np.maximum(times[:-1], since_us), np.minimum(times[1:], until_us)
        inside = (ends > starts) & (due[:-1] > 0)
        if not inside.any():
            return since_us, until_us
        blind = np.flatnonzero(inside & (2 * unheard[:-1] > due[:-1]))
        return (int(starts[blind[0]]), int(ends[blind[-1]])) if len(blind) else None

    def _count(self, times: Ints, due: Ints, unheard: Ints) -> None:
        self._times.append(times)
        self._due.append(due)
        self._unheard.append(unheard)
