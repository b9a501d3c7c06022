"""The evaluation against one that is slow and literal, for random small fleets and polls that come as they like."""

from datetime import UTC, datetime

import numpy as np
import pytest
from brute_incidents import Choices, Judge, pick
from brute_openings import openings as brute_openings
from fleets import fleet, openings_for
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.alerts.evaluation import AlertRules, evaluate
from storemon_flask.alerts.facts import Facts, nothing_blind
from storemon_flask.model import DAY_US, MINUTE_US, WEEK_US, IncidentKind, Outcome, Rules
from storemon_flask.uptime import conditions, evidence, status, timeline

RULES = Rules()
STEP = 10 * MINUTE_US
# Zones at their clock changes, and an ordinary day.
STARTS = [
    ("America/New_York", datetime(2024, 3, 9, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2024, 11, 2, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2024, 4, 5, 23, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 10, 26, 10, tzinfo=UTC)),
    ("Etc/UTC", datetime(2024, 10, 14, 6, tzinfo=UTC)),
]
# What a store is open each day: once, over night, over the clock change, twice, in three short pieces, or always.
HOURS = [
    [("10:00", "22:00")],
    [("18:00", "03:30")],
    [("00:00", "02:30"), ("09:00", "17:00")],
    [("06:00", "11:00"), ("12:00", "20:00")],
    [("08:00", "09:30"), ("10:00", "12:00"), ("19:00", "01:30")],
    [("00:00", "24:00")],
]


@st.composite
def histories(draw, sizes=(1, 2), groups=("North",), closing=(30, 0)):
    """A fleet, polls with how late each comes, and the instants at which it is judged."""
    zone, start = draw(st.sampled_from(STARTS))
    first = int(start.timestamp()) * 1_000_000
    names = [f"s{number}" for number in range(draw(st.sampled_from(sizes)))]
    hours = {name: draw(st.sampled_from(HOURS)) for name in names}
    group_of = {name: draw(st.sampled_from(groups)) for name in names}
    poll = st.tuples(
        st.sampled_from(names), st.integers(0, 2 * 144), st.booleans(), st.sampled_from([0, 0, 0, 0, 2, 9, 60])
    )
    arriving = draw(st.lists(poll, max_size=40 + 20 * len(names)))
    # The same instant again, perhaps with another status.
    again = st.lists(st.tuples(st.sampled_from(arriving), st.booleans()), max_size=5) if arriving else st.just([])
    arriving += [(name, at, up, late + 3) for (name, at, _, late), up in draw(again)]
    looks = sorted(draw(st.sets(st.integers(0, 2 * 144 + 30), min_size=5, max_size=30)))
    min_polls, min_minutes = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([0, 0, 45]))
    rules = AlertRules(min_polls, min_minutes * MINUTE_US, draw(st.sampled_from(closing)) * MINUTE_US)
    return first, zone, hours, group_of, arriving, looks, rules


class Both:
    """The fast evaluation and the slow one, of the same history."""

    def __init__(self, history):
        self.first, self.zone, self.hours, self.group_of, arriving, self.looks, self.rules = history
        self.waiting = sorted((at + late, count, name, at, up) for count, (name, at, up, late) in enumerate(arriving))
        self.polls, self.open, self.numbers = [], [], 0
        self.judge = Judge(Choices(self.rules.min_polls, self.rules.min_us, self.rules.closing_us))
        self.resolved = []
        span = (self.first - 9 * DAY_US, self.first + 4 * DAY_US)
        weekly = {name: [(day, *row, "") for day in range(7) for row in rows] for name, rows in self.hours.items()}
        self.opened = {name: brute_openings(rows, [], self.zone, "", *span) for name, rows in weekly.items()}
        self.rows = [(name, *row[:3]) for name, rows in weekly.items() for row in rows]

    def parts(self, as_of):
        ids, made = fleet(self.polls, self.rows, dict.fromkeys(self.hours, self.zone), as_of)
        opened = openings_for(made, as_of, RULES)
        return ids, made, opened, evidence.gather(made.polls, opened, RULES)

    def facts(self, as_of):
        ids, made, opened, gathered = self.parts(as_of)
        from_us = as_of - WEEK_US - RULES.farthest_us
        now = status.at(as_of, made.last_poll_us, opened, gathered, RULES)
        since_us, earlier = status.since(as_of, now, made.last_poll_us, opened, gathered, RULES, from_us)
        columns = {"status": now, "since": since_us, "since_or_earlier": earlier.astype(np.int64)}
        columns |= {"last_poll": made.last_poll_us}
        columns |= conditions.find(as_of, made.size, opened, gathered, from_us).columns()
        texts = [""] * len(ids), [self.group_of[name] for name in ids], [self.zone] * len(ids)
        return Facts(as_of, ids, *texts, columns, now_us=as_of)

    def run(self):
        """Judge it at each of its instants; yield what both say opened, ended and is open."""
        for look in self.looks:
            as_of = self.first + look * STEP
            while self.waiting and self.waiting[0][0] <= look:
                _, _, name, at, up = self.waiting.pop(0)
                self.polls.append((name, self.first + at * STEP, up))
            facts = self.facts(as_of)
            changes = evaluate(facts, self.open, self.rules, nothing_blind(facts))
            self.open = changes.apply_to(self.open, self.numbers + 1)
            self.numbers += len(changes.opened)
            self.resolved += [(as_of, one) for one in changes.resolved]
            by_store = {name: [(at, up) for store, at, up in self.polls if store == name] for name in self.hours}
            begun, over = self.judge.look(as_of, self.opened, by_store, self.group_of)
            yield (
                (plain(changes.opened), ended(changes.resolved), plain(self.open)),
                (pick(begun), brute_ended(over), pick(self.judge.open.values())),
            )


def plain(incidents):
    return sorted((one.kind.value, one.scope, one.subject, one.since_us) for one in incidents)


def ended(incidents):
    return sorted(
        (one.kind.value, one.scope, one.subject, one.since_us, one.ended_us, one.outcome.value,
         one.business_us if one.kind in (IncidentKind.DOWN, IncidentKind.NOT_OPENED, IncidentKind.STALE) else None)
        for one in incidents
    )  # fmt: skip


def brute_ended(incidents):
    return sorted((*one.key, one.since, one.ended, one.outcome, one.business) for one in incidents)


@pytest.mark.slow
@settings(max_examples=100)
@given(histories())
def test_incidents_of_stores_are_those_of_the_rules(history):
    for fast, slow in Both(history).run():
        assert fast == slow


@pytest.mark.slow
@settings(max_examples=60)
@given(histories(sizes=(6, 12), groups=("North", "South", ""), closing=(0,)))
def test_many_down_is_that_of_the_rules(history):
    for fast, slow in Both(history).run():
        assert fast == slow


@pytest.mark.slow
@settings(max_examples=100)
@given(histories())
def test_business_time_of_an_incident_is_that_of_the_report_of_outages(history):
    """Of one that is judged while the store's opening is the last one: of what of the outage lies in that opening."""
    both = Both(history)
    done = 0
    for _ in both.run():
        for as_of, one in both.resolved[done:]:
            if one.kind != IncidentKind.DOWN or one.outcome not in (Outcome.OVER, Outcome.CLOSED):
                continue
            ids, _, opened, gathered = both.parts(as_of)
            store = ids.index(one.subject)
            begun = np.flatnonzero((opened.store == store) & (opened.start_us <= as_of))[-1]
            start_us, end_us = int(opened.start_us[begun]), int(opened.end_us[begun])
            if one.since_us < start_us:
                # Another opening has begun before anybody looked: it ended with its own, as it was known then.
                assert (one.outcome, one.business_us) == (Outcome.CLOSED, one.ended_us - one.since_us)
                continue
            outages = timeline.find_outages(opened, gathered, as_of)
            rows = np.flatnonzero((outages.store == store) & (outages.start_us < end_us) & (outages.end_us > start_us))
            outage = outages.pick(rows[-1:])
            if start_us <= outage.start_us[0]:
                assert one.business_us == outage.down_us[0]
            cut_us = min(int(outage.end_us[0]), end_us) - max(int(outage.start_us[0]), start_us)
            assert one.business_us == cut_us
        done = len(both.resolved)
