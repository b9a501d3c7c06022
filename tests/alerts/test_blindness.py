"""Blindness: silence of the fleet, of groups and of zones, and suspicion of the poller."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from alert_helpers import RULES, World, at, daily
from fleets import fleet, openings_for

from storemon_flask.alerts import blindness
from storemon_flask.alerts.blindness import Seen, Usual
from storemon_flask.alerts.evaluation import Changes, evaluate
from storemon_flask.database.incidents import Incident
from storemon_flask.delivery import words
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, IncidentKind, Outcome

# A Monday of which the week before is known.
TODAY = 7


@dataclass
class Watched(World):
    """A world that finds blindness from the polls themselves."""

    zones: dict[str, str] = field(default_factory=dict)
    loads_us: int = 0
    ended: list[Incident] = field(default_factory=list)

    def facts(self, time, day=0, feeds=(), data_are_old=False):
        made = super().facts(time, day, feeds, data_are_old)
        return replace(made, zones=[self.zones.get(store, "UTC") for store in made.ids])

    def usual(self, as_of_us) -> Usual:
        known = [row for row in self.polls if as_of_us - WEEK_US <= row[1] <= as_of_us]
        everybody = dict.fromkeys({row[0] for row in (*self.polls, *self.hours)}, "UTC")
        _, made = fleet(known, self.hours, everybody, as_of_us)
        return Usual(*blindness.learn(made.polls, made.size), self.loads_us)

    def watch(self, time: str, day: int = TODAY) -> Changes:
        facts = self.facts(time, day)

        def see(from_us, to_us):
            everybody = dict.fromkeys({row[0] for row in self.polls}, "UTC")
            _, made = fleet(self.polls, self.hours, everybody, to_us)
            yield Seen(np.arange(made.size), openings_for(made, to_us, RULES), made.polls)

        found = blindness.find(facts, self.open, self.usual(facts.as_of_us), see, self.ended)
        changes = evaluate(facts, self.open, self.rules, found)
        self.open = changes.apply_to(self.open, self.numbers + 1)
        self.numbers += len(changes.opened)
        self.ended += [one for one in changes.resolved if one.kind == IncidentKind.BLIND]
        return changes


def names(count, prefix="s"):
    return [f"{prefix}{number:02}" for number in range(count)]


def always_open(count, **more) -> Watched:
    """Return stores without hours, each polled hourly at a minute of its own for a week before `TODAY`."""
    world = Watched(**more)
    for number, store in enumerate(names(count)):
        world.polls += [(store, at("00:00", hour // 24) + hour % 24 * HOUR_US + minute(number), True)
                        for hour in range(TODAY * 24)]  # fmt: skip
    return world


def minute(number):
    return number * 7 % 60 * MINUTE_US


def poll_hours(world, stores, first, last, up=True, day=TODAY):
    """Add hourly polls of these stores, from an hour of the day (included) to another (excluded)."""
    everybody = sorted({row[0] for row in world.polls})
    for store in stores:
        number = everybody.index(store)
        world.polls += [(store, at("00:00", day) + hour * HOUR_US + minute(number), up) for hour in range(first, last)]


def blind(world):
    return [(one.scope, one.subject) for one in world.open if one.kind == IncidentKind.BLIND]


def stores_told(changes):
    return [(one.kind, one.subject) for one in changes.opened if one.scope == "store"]


def judge_at(world, time, day=TODAY):
    """Evaluate the polls that had arrived by then."""
    come, world.polls = world.polls, [row for row in world.polls if row[1] <= at(time, day)]
    changes = world.watch(time, day)
    world.polls = come
    return changes


def walk(world, first, last, day=TODAY, minutes=30):
    """Evaluate at regular intervals, and return the incidents that opened and that ended."""
    opened, resolved = [], []
    for at_minute in range(first * 60, last * 60, minutes):
        changes = judge_at(world, f"{at_minute // 60}:{at_minute % 60:02}", day)
        opened += changes.opened
        resolved += changes.resolved
    return opened, resolved


def test_hours_and_nights_are_learned_from_polls():
    world = always_open(2)
    hours = [hour for day in range(7) for hour in range(day * 24 + 9, day * 24 + 21)]
    world.polls += [("h", at("00:00") + hour * HOUR_US, True) for hour in hours]
    world.polls += [("new", at("00:00", 6) + hour * HOUR_US, True) for hour in range(12)]
    world.polls += [("fast", at("00:00", 6) + five * 5 * MINUTE_US, True) for five in range(200)]
    world.polls += [("rare", at("00:00", day), True) for day in range(4)]
    usual = world.usual(at("00:00", 7))
    ids = sorted({row[0] for row in world.polls})
    assert dict(zip(ids, usual.interval_us.tolist(), strict=True)) == {
        "s00": HOUR_US, "s01": HOUR_US, "h": HOUR_US, "new": HOUR_US, "fast": 5 * MINUTE_US, "rare": -1,
    }  # fmt: skip
    # Whether a new store is polled at night too is not known yet.
    assert [store for store, always in zip(ids, usual.always.tolist(), strict=True) if always] == ["s00", "s01"]


def test_a_dead_poller_is_one_incident_and_no_store_is_reported():
    world = always_open(20)
    poll_hours(world, names(20), 0, 12)
    opened, resolved = walk(world, 8, 24)
    assert [(one.kind, one.scope, one.subject) for one in opened] == [(IncidentKind.BLIND, "fleet", "")]
    assert not resolved
    # Half of the stores were heard after 11:27 for the last time; two hours later that is found.
    assert at("11:20", TODAY) <= opened[0].since_us <= at("11:40", TODAY)
    assert opened[0].opened_us - opened[0].since_us <= 130 * MINUTE_US
    assert opened[0].details == {"reason": "silence", "count": 11, "of": 20}


def test_blindness_ends_when_polls_return_and_late_stores_are_not_reported():
    world = always_open(20)
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 18, 24)
    # This one stays away, and is told by itself once the others were heard.
    world.polls = [row for row in world.polls if not (row[0] == "s07" and row[1] >= at("11:00", TODAY))]
    opened, resolved = walk(world, 8, 24)
    told = [(one.kind, one.scope, one.subject) for one in opened]
    assert told == [(IncidentKind.BLIND, "fleet", ""), (IncidentKind.STALE, "store", "s07")]
    (over,) = resolved
    assert over.outcome == Outcome.OVER
    assert at("18:20", TODAY) <= over.ended_us <= at("18:40", TODAY)
    assert over.resolved_us <= at("19:40", TODAY)


def test_polls_that_come_late_end_it_and_correct_it():
    world = always_open(20)
    poll_hours(world, names(20), 0, 12)
    walk(world, 12, 16)
    assert blind(world) == [("fleet", "")]
    poll_hours(world, names(20), 12, 16)
    (over,) = world.watch("16:00").resolved
    assert (over.outcome, over.ended_us) == (Outcome.CORRECTED, over.since_us)

    # Only some of them are there: up to one o'clock.
    world = always_open(20)
    poll_hours(world, names(20), 0, 10)
    walk(world, 10, 16)
    first_us = world.open[0].since_us
    poll_hours(world, names(20), 10, 13)
    assert not world.watch("16:00").resolved
    assert world.open[0].since_us - first_us == 3 * HOUR_US
    poll_hours(world, names(20), 16, 17)
    (over,) = world.watch("17:00").resolved
    assert over.outcome == Outcome.OVER
    assert at("16:20", TODAY) <= over.ended_us <= at("16:40", TODAY)


def test_a_zone_or_a_group_that_is_silent_is_named():
    for scope, name in (("zone", "America/Los_Angeles"), ("group", "West")):
        world = always_open(24)
        west = names(24)[::3]
        mapped = dict.fromkeys(west, name)
        world.zones, world.groups = (mapped, {}) if scope == "zone" else ({}, mapped)
        poll_hours(world, names(24), 0, 9)
        poll_hours(world, [store for store in names(24) if store not in west], 9, 20)
        poll_hours(world, west, 15, 20)
        opened, resolved = walk(world, 6, 20)
        assert [(one.kind, one.scope, one.subject) for one in opened] == [(IncidentKind.BLIND, scope, name)]
        assert [one.outcome for one in resolved] == [Outcome.OVER]
        assert at("08:10", TODAY) <= resolved[0].since_us < at("09:00", TODAY)
        assert at("15:00", TODAY) <= resolved[0].ended_us <= at("15:50", TODAY)


def test_a_zone_that_is_a_group_is_named_once():
    world = always_open(24)
    west = names(24)[::3]
    world.zones, world.groups = dict.fromkeys(west, "America/Los_Angeles"), dict.fromkeys(west, "West")
    poll_hours(world, names(24), 0, 9)
    poll_hours(world, [store for store in names(24) if store not in west], 9, 14)
    walk(world, 6, 14)
    assert blind(world) == [("group", "West")]


def test_few_stores_are_no_zone_and_one_is_no_fleet():
    world = always_open(24)
    world.zones = dict.fromkeys(names(4), "America/Los_Angeles")
    poll_hours(world, names(24)[4:], 0, 14)
    opened, _ = walk(world, 8, 14)
    assert {(one.kind, one.subject) for one in opened} == {(IncidentKind.STALE, store) for store in names(4)}

    world = always_open(1)
    assert [one.kind for one in walk(world, 0, 6)[0]] == [IncidentKind.STALE]
    # One of many, of two, of three.
    for count in (2, 3, 20):
        world = always_open(count)
        poll_hours(world, names(count)[1:], 0, 8)
        assert [(one.kind, one.subject) for one in walk(world, 0, 8)[0]] == [(IncidentKind.STALE, "s00")]


def test_a_new_fleet_of_three_stores():
    # In its first hours nobody knows how it is polled.
    world = Watched()
    for store in names(3):
        world.polls += [(store, at("00:00", TODAY) + hour * HOUR_US, True) for hour in range(4)]
    opened, _ = walk(world, 0, 10)
    assert sorted((one.kind, one.subject) for one in opened) == [(IncidentKind.STALE, store) for store in names(3)]
    # Then none of them is heard: no store by itself.
    world = always_open(3)
    opened, _ = walk(world, 0, 10)
    assert [(one.kind, one.details["count"], one.details["of"]) for one in opened] == [(IncidentKind.BLIND, 3, 3)]


def in_hours(count, **more) -> Watched:
    """Return stores that are polled only in their hours, 10:00 to 22:00."""
    world = Watched(**more)
    for number, store in enumerate(names(count)):
        world.hours += daily(store)
        world.polls += [(store, at("00:00", day) + hour * HOUR_US + minute(number), True)
                        for day in range(TODAY) for hour in range(10, 22)]  # fmt: skip
    return world


def test_stores_that_are_polled_in_their_hours_are_not_missed_at_night():
    world = in_hours(8)
    poll_hours(world, names(8), 10, 22)
    opened, resolved = walk(world, 0, 34)
    # The next morning no poll comes any more.
    assert not opened
    assert not resolved
    opened, _ = walk(world, 34, 46)
    assert [(one.kind, one.scope) for one in opened] == [(IncidentKind.BLIND, "fleet")]
    # Nothing was to come before they opened.
    assert opened[0].since_us == at("10:00", TODAY + 1)
    # The night says nothing; it goes on the next day, and ends with the polls of the day after.
    opened, resolved = walk(world, 46, 70, minutes=30)
    assert (opened, resolved) == ([], [])
    poll_hours(world, names(8), 10, 22, day=TODAY + 3)
    opened, resolved = walk(world, 70, 96)
    assert (opened, len(resolved)) == ([], 1)
    assert resolved[0].outcome == Outcome.OVER
    # In the night before no poll was due.
    assert resolved[0].ended_us == at("22:00", TODAY + 2)


def test_a_holiday_on_which_all_are_closed_is_no_blindness():
    world = in_hours(8)
    world.hours = [row for row in world.hours if row[1] != 0]
    opened, _ = walk(world, 0, 24)
    assert not opened


def test_a_poller_that_dies_at_night_is_missed_at_night_where_it_polls_at_night():
    world = in_hours(8)
    polled_at_night = always_open(8)
    world.polls = polled_at_night.polls
    poll_hours(world, names(8), 0, 2)
    opened, _ = walk(world, 0, 24)
    assert [(one.kind, one.scope) for one in opened] == [(IncidentKind.BLIND, "fleet")]
    assert at("01:00", TODAY) < opened[0].since_us < at("02:00", TODAY)
    assert opened[0].opened_us < at("04:00", TODAY)


def groups_of(count):
    return {store: f"g{number % 4}" for number, store in enumerate(names(count))}


def test_a_suspicion_is_held_back_and_then_reported():
    world = always_open(20, groups=groups_of(20))
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 12, 18, up=False)
    poll_hours(world, names(20), 18, 24)
    world.polls = [row for row in world.polls if row[1] <= at("12:59", TODAY)]
    opened = world.watch("12:59").opened
    assert [(one.kind, one.scope) for one in opened] == [(IncidentKind.BLIND, "fleet")]
    assert opened[0].details == {"reason": "suspicion", "count": 20, "of": 20, "quiet": True}
    assert opened[0].since_us == at("12:00", TODAY)
    # The next polls say the same: now it is told.
    poll_hours(world, names(20), 13, 14, up=False)
    changes = world.watch("13:59")
    assert not changes.opened
    assert [one.id for one in changes.uncovered] == [one.id for one in changes.continued] == [1]
    assert not changes.uncovered[0].details["quiet"]
    assert not world.watch("14:05")
    poll_hours(world, names(20), 14, 18, up=False)
    assert not walk(world, 15, 18)[0]
    poll_hours(world, names(20), 18, 20)
    opened, resolved = walk(world, 18, 20)
    assert (stores_told(Changes(opened)), len(resolved)) == ([], 1)
    assert resolved[0].outcome == Outcome.OVER
    assert at("17:30", TODAY) <= resolved[0].ended_us <= at("18:30", TODAY)


def test_while_polls_come_one_by_one_the_first_few_show_it():
    world = always_open(60, groups=groups_of(60))
    poll_hours(world, names(60), 0, 12)
    poll_hours(world, names(60), 12, 15, up=False)
    poll_hours(world, names(60), 15, 18)
    told = []
    for one in range(8):
        told.append([incident.kind for incident in judge_at(world, f"12:0{one}").opened])
    # One after the other is told until a tenth of all turned down, in several groups.
    assert told == [[IncidentKind.DOWN]] * 5 + [[IncidentKind.BLIND], [], []]
    assert world.open[-1].since_us == at("12:00", TODAY)
    opened, resolved = walk(world, 13, 18, minutes=30)
    assert not opened
    assert [one.outcome for one in resolved] == [Outcome.OVER] * 6


def test_a_single_slip_of_a_poller_is_stored_but_not_sent():
    world = always_open(20, groups=groups_of(20))
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 12, 13, up=False)
    world.watch("12:59")
    poll_hours(world, names(20), 13, 14)
    changes = world.watch("13:59")
    assert not changes.opened
    assert not changes.uncovered
    (over,) = changes.resolved
    assert (over.outcome, over.details["quiet"]) == (Outcome.OVER, True)
    assert over.ended_us > over.since_us == at("12:00", TODAY)


def test_polls_loaded_again_correct_a_suspicion():
    world = always_open(20, groups=groups_of(20))
    poll_hours(world, names(20), 0, 12)
    before = list(world.polls)
    poll_hours(world, names(20), 12, 14, up=False)
    world.watch("13:59")
    world.polls = before
    poll_hours(world, names(20), 12, 15)
    (over,) = world.watch("14:59").resolved
    assert (over.outcome, over.ended_us) == (Outcome.CORRECTED, over.since_us)


@pytest.mark.parametrize("groups", [{}, dict.fromkeys(names(20), "one")], ids=["no group", "one group"])
def test_stores_of_one_group_and_zone_may_really_be_down(groups):
    world = always_open(20, groups=groups)
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 12, 13, up=False)
    opened = world.watch("12:59").opened
    assert not blind(world)
    assert len(stores_told(Changes(opened))) == 20


def test_half_of_the_stores_are_no_suspicion():
    world = always_open(20, groups=groups_of(20))
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20)[:10], 12, 13, up=False)
    poll_hours(world, names(20)[10:], 12, 13)
    opened = world.watch("12:59").opened
    assert not blind(world)
    assert len(stores_told(Changes(opened))) == 10


def test_loads_that_come_less_often_than_polls_are_no_silence():
    world = always_open(20, loads_us=3 * HOUR_US)
    poll_hours(world, names(20), 0, 12)
    assert not world.watch("16:30").opened
    assert blind(world) == []
    world.watch("17:59")
    assert blind(world) == [("fleet", "")]


def test_stores_that_were_removed_or_left_are_not_seen_again():
    world = always_open(24)
    west = names(24)[::3]
    world.groups = dict.fromkeys(west, "West")
    poll_hours(world, [store for store in names(24) if store not in west], 0, 14)
    walk(world, 0, 6)
    assert blind(world) == [("group", "West")]
    world.groups = {}
    assert [one.outcome for one in world.watch("06:00").resolved if one.scope == "group"] == [Outcome.REMOVED]


def test_a_week_without_a_poll_is_no_silence_any_more():
    world = always_open(24)
    west = names(24)[::3]
    world.groups = dict.fromkeys(west, "West")
    rest = [store for store in names(24) if store not in west]
    for day in range(TODAY, TODAY + 8):
        poll_hours(world, rest, 0, 24, day=day)
    world.watch("06:00")
    assert blind(world) == [("group", "West")]
    world.watch("22:00", TODAY + 6)
    assert blind(world) == [("group", "West")]
    (gone,) = world.watch("01:00", TODAY + 7).resolved
    assert gone.outcome == Outcome.UNKNOWN
    assert gone.resolved_us - gone.since_us > WEEK_US - DAY_US


def test_a_fleet_of_one_group_in_two_zones_may_be_a_lie():
    world = always_open(20, groups=dict.fromkeys(names(20), "one"))
    world.zones = {store: ("Europe/Paris", "Europe/Berlin")[number % 2] for number, store in enumerate(names(20))}
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 12, 13, up=False)
    changes = world.watch("12:59")
    assert blind(world) == [("fleet", "")]
    assert stores_told(changes) == []


def test_fewer_than_five_stores_are_told_one_by_one():
    world = always_open(4, groups=groups_of(4))
    poll_hours(world, names(4), 0, 12)
    poll_hours(world, names(4), 12, 13, up=False)
    changes = world.watch("12:59")
    assert blind(world) == []
    assert stores_told(changes) == [(IncidentKind.DOWN, store) for store in names(4)]


def test_stores_of_one_zone_that_open_after_a_night_of_inactive_polls_are_no_lie():
    # Half of the stores open at 10:00 and half at 13:00; while closed, each poll says inactive.
    world = Watched(groups=groups_of(20))
    world.zones = {store: ("Europe/Paris", "Europe/Berlin")[number % 2] for number, store in enumerate(names(20))}
    for number, store in enumerate(names(20)):
        opens = 10 if number % 2 else 13
        world.hours += daily(store, f"{opens}:00")
        world.polls += [
            (store, at("00:00", day) + hour * HOUR_US + minute(number), opens <= hour < 22)
            for day in range(TODAY + 1)
            for hour in range(24)
        ]
    opened, _ = walk(world, 8, 24, minutes=15)
    assert opened == []


def test_an_outage_of_all_that_is_real_is_told_once_after_an_interval():
    world = always_open(20, groups=groups_of(20))
    poll_hours(world, names(20), 0, 12)
    poll_hours(world, names(20), 12, 20, up=False)
    shown, told = [], []
    for at_minute in range(12 * 60, 20 * 60, 10):
        changes = judge_at(world, f"{at_minute // 60}:{at_minute % 60:02}")
        shown += [(one.kind, at_minute) for one in changes.opened if one.kind == IncidentKind.BLIND]
        told += [(one.kind, at_minute) for one in (*changes.opened, *changes.uncovered) if not one.details.get("quiet")]
    (began,) = shown
    assert began[1] <= 12 * 60 + 30
    # Those that were down before it was a tenth of all, and then the outage itself, once.
    assert [kind for kind, _ in told if kind != IncidentKind.DOWN] == [IncidentKind.BLIND]
    assert len([kind for kind, _ in told if kind == IncidentKind.DOWN]) < 5
    (at_minute,) = (at_minute for kind, at_minute in told if kind == IncidentKind.BLIND)
    assert 13 * 60 <= at_minute <= 14 * 60
    (fleet_is_blind,) = (one for one in world.open if one.kind == IncidentKind.BLIND)
    assert words.sentence_text(fleet_is_blind, at("20:00", TODAY)).endswith("probably the poller, not the stores")
