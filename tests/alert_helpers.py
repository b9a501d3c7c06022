"""A world of stores for tests: polls arrive, evaluations judge them at chosen instants, and incidents result."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fleets import HoursRow, PollRow, fleet, openings_for

from storemon_flask import clock
from storemon_flask.alerts.evaluation import AlertRules, Changes, evaluate
from storemon_flask.alerts.facts import Blindness, Facts, Finding
from storemon_flask.database.incidents import Incident
from storemon_flask.model import DAY_US, MINUTE_US, WEEK_US, Outcome, Rules
from storemon_flask.uptime import conditions, evidence, status

RULES = Rules()
# A Monday.
MONDAY = clock.parse_timestamp("2024-10-14")


def at(time: str, day: int = 0) -> int:
    """Return an instant of that week: `10:30`, on day 0 for Monday."""
    hours, minutes = time.split(":")
    return MONDAY + day * DAY_US + (int(hours) * 60 + int(minutes)) * MINUTE_US


def daily(store: str, start: str = "10:00", end: str = "22:00") -> list[HoursRow]:
    """Return hours of every day, in UTC."""
    return [(store, day, start, end) for day in range(7)]


@dataclass
class World:
    """Stores with hours in UTC, the polls that have arrived so far, and the open incidents."""

    hours: list[HoursRow] = field(default_factory=list)
    polls: list[PollRow] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    # Stores that have neither hours nor polls yet.
    others: tuple[str, ...] = ()
    rules: AlertRules = field(default_factory=AlertRules)
    open: list[Incident] = field(default_factory=list)
    numbers: int = 0

    def poll(self, store: str, up: bool, *times: str, day: int = 0) -> "World":
        """Let polls of that status come in."""
        self.polls += [(store, at(time, day), up) for time in times]
        return self

    def facts(self, time: str, day: int = 0, feeds: tuple[Finding, ...] = (), data_are_old: bool = False) -> Facts:
        """Return the facts of an instant, from the polls that came in."""
        as_of_us = at(time, day)
        zones = dict.fromkeys({row[0] for row in self.hours} | set(self.others), "UTC")
        ids, made = fleet(self.polls, self.hours, zones, as_of_us)
        opened = openings_for(made, as_of_us, RULES)
        gathered = evidence.gather(made.polls, opened, RULES)
        from_us = as_of_us - WEEK_US - RULES.farthest_us
        now = status.at(as_of_us, made.last_poll_us, opened, gathered, RULES)
        since_us, earlier = status.since(as_of_us, now, made.last_poll_us, opened, gathered, RULES, from_us)
        columns = {"status": now, "since": since_us, "since_or_earlier": earlier.astype(np.int64)}
        columns |= {"last_poll": made.last_poll_us}
        columns |= conditions.find(as_of_us, made.size, opened, gathered, from_us).columns()
        groups = [self.groups.get(store, "") for store in ids]
        return Facts(as_of_us, ids, [""] * len(ids), groups, ["UTC"] * len(ids), columns, feeds, data_are_old, as_of_us)

    def judge(
        self,
        time: str,
        day: int = 0,
        blind: Sequence[str] = (),
        findings: tuple[Finding, ...] = (),
        ends: dict[tuple[str, str], tuple[int, Outcome]] | None = None,
        feeds: tuple[Finding, ...] = (),
        data_are_old: bool = False,
    ) -> Changes:
        """Evaluate at that instant, while those stores cannot be seen, and keep what is open then."""
        facts = self.facts(time, day, feeds, data_are_old)
        covered = np.isin(np.array(facts.ids, dtype=object), blind)
        blindness = Blindness(covered, findings, ends or {})
        changes = evaluate(facts, self.open, self.rules, blindness)
        self.open = changes.apply_to(self.open, self.numbers + 1)
        self.numbers += len(changes.opened)
        return changes

    def now_open(self) -> list[tuple[str, str]]:
        """Return kind and subject of what is open."""
        return sorted((incident.kind.value, incident.subject) for incident in self.open)


def told(incidents: Sequence[Incident]) -> list[tuple[str, str]]:
    """Return kind and subject of incidents."""
    return sorted((incident.kind.value, incident.subject) for incident in incidents)
