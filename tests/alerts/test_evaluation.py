"""How incidents open, continue and end: each kind, its guardrails, and the effect of late polls."""

import pytest
from alert_helpers import World, at, daily, told

from storemon_flask.alerts.evaluation import AlertRules, covers
from storemon_flask.alerts.facts import Finding
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind, Outcome


def one_store(**rules):
    return World(hours=daily("a"), rules=AlertRules(**rules))


def test_a_store_goes_down_and_comes_up_again():
    world = one_store().poll("a", True, "10:05", "11:05")
    assert not world.judge("11:10")
    changes = world.poll("a", False, "12:05").judge("12:06")
    assert told(changes.opened) == [("down", "a")]
    incident = world.open[0]
    # Half way between the two polls, as in every report.
    assert incident.since_us == at("11:35")
    assert (incident.details["last_up_us"], incident.details["seen_us"]) == (at("11:05"), at("12:05"))
    assert incident.lasted_us(at("12:06")) == 31 * MINUTE_US
    assert not world.judge("12:36")
    assert not world.poll("a", False, "13:05").judge("13:06")

    (over,) = world.poll("a", True, "14:05").judge("14:06").resolved
    assert (over.id, over.outcome) == (incident.id, Outcome.OVER)
    assert (over.since_us, over.ended_us, over.business_us) == (at("11:35"), at("13:35"), 2 * HOUR_US)
    assert not world.open
    assert not world.judge("14:36")


def test_rules_can_require_more_polls_and_more_time():
    world = one_store(min_polls=2, min_us=90 * MINUTE_US).poll("a", True, "11:05").poll("a", False, "12:05")
    assert not world.judge("12:06")
    # Two polls, but not so long: it began at 11:35.
    assert not world.poll("a", False, "12:35").judge("12:36")
    assert told(world.judge("13:05").opened) == [("down", "a")]


def test_no_incident_begins_shortly_before_closing():
    world = one_store().poll("a", True, "21:05").poll("a", False, "21:29")
    assert told(world.judge("21:29").opened) == [("down", "a")]
    world = one_store().poll("a", True, "21:05").poll("a", False, "21:31")
    assert not world.judge("21:31")
    assert told(one_store(closing_us=0).poll("a", False, "10:01", "21:31").poll("a", True, "20:05").judge(
        "21:59").opened) == [("down", "a")]  # fmt: skip


def test_a_store_that_is_down_at_closing_time_closed_for_the_day():
    world = one_store().poll("a", True, "19:05").poll("a", False, "20:05", "21:05")
    world.judge("21:06")
    assert not world.judge("21:59")
    (closed,) = world.judge("22:00").resolved
    assert (closed.outcome, closed.since_us, closed.ended_us) == (Outcome.CLOSED, at("19:35"), at("22:00"))
    assert closed.business_us == 145 * MINUTE_US
    # It answers all night that it is off, and nobody hears of it.
    world.poll("a", False, "23:05").poll("a", False, "03:05", day=1)
    assert not world.judge("03:06", 1)


def test_an_evaluation_that_comes_late_says_the_same():
    for late, day in (("22:30", 0), ("09:00", 1), ("10:05", 1), ("10:05", 3)):
        world = one_store().poll("a", True, "19:05").poll("a", False, "20:05", "21:05")
        world.judge("21:06")
        # The server was off at closing time.
        world.poll("a", True, "10:01", day=day)
        (closed,) = world.judge(late, day).resolved
        assert (closed.outcome, closed.ended_us) == (Outcome.CLOSED, at("22:00"))


def test_a_store_up_again_before_closing_ends_as_over():
    world = one_store().poll("a", True, "19:05").poll("a", False, "20:05")
    world.judge("20:06")
    (over,) = world.poll("a", True, "21:05").judge("22:30").resolved
    assert (over.outcome, over.ended_us) == (Outcome.OVER, at("20:35"))


def test_a_store_that_is_down_again_the_next_day_is_another_incident():
    world = one_store().poll("a", True, "19:05").poll("a", False, "20:05")
    world.judge("20:06")
    world.judge("22:00")
    world.poll("a", True, "10:05", day=1).poll("a", False, "11:05", day=1)
    assert told(world.judge("11:06", 1).opened) == [("down", "a")]
    assert world.open[0].since_us == at("10:35", 1)


def test_a_store_has_half_an_hour_to_open():
    world = one_store().poll("a", False, "09:05", "10:05")
    assert not world.judge("10:29")
    assert told(world.judge("10:30").opened) == [("not_opened", "a")]
    assert world.open[0].since_us == at("10:00")
    assert not world.poll("a", False, "11:05").judge("11:06")
    (over,) = world.poll("a", True, "12:05").judge("12:06").resolved
    assert (over.outcome, over.ended_us) == (Outcome.OVER, at("11:35"))
    assert over.business_us == 95 * MINUTE_US
    # It goes down later: that is the other kind.
    assert told(world.poll("a", False, "13:05").judge("13:06").opened) == [("down", "a")]


def test_a_store_that_never_opened_closed_for_the_day():
    world = one_store().poll("a", False, "10:05", "12:05", "14:05", "16:05", "18:05", "20:05", "21:50")
    world.judge("10:30")
    (closed,) = world.judge("22:00").resolved
    assert (closed.kind, closed.outcome, closed.business_us) == (IncidentKind.NOT_OPENED, Outcome.CLOSED, 12 * HOUR_US)


def test_an_unpolled_store_is_stale_and_not_closed():
    world = one_store().poll("a", True, "21:05", day=-1)
    assert not world.judge("10:30")
    # Neither up nor down: no poll for as long as a last poll holds.
    assert told(world.judge("12:30").opened) == [("stale", "a")]
    assert world.open[0].since_us == at("21:05", -1)
    assert world.open[0].lasted_us(at("12:30")) == 150 * MINUTE_US
    (over,) = world.poll("a", True, "12:40").judge("12:41").resolved
    assert (over.outcome, over.ended_us, over.business_us) == (Outcome.OVER, at("12:40"), 160 * MINUTE_US)


def test_stores_no_longer_polled_are_not_reported():
    assert not one_store().judge("15:00")
    world = one_store().poll("a", True, "12:05")
    assert told(world.judge("15:00", 6).opened) == [("stale", "a")]
    world = one_store().poll("a", True, "12:05")
    assert not world.judge("15:00", 7)


def test_nobody_can_tell_when_polls_stop():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    changes = world.judge("14:35")
    assert told(changes.opened) == [("stale", "a")]
    (unknown,) = changes.resolved
    assert (unknown.kind, unknown.outcome, unknown.ended_us) == (IncidentKind.DOWN, Outcome.UNKNOWN, at("12:05"))


def test_a_store_that_is_always_open_has_no_opening_to_miss():
    world = World(others=("a",)).poll("a", False, "10:05", "11:05")
    assert told(world.judge("11:06").opened) == [("down", "a")]
    since_us = world.open[0].since_us
    for day in range(1, 5):
        world.poll("a", False, "00:05", "02:05", "04:05", "06:05", "08:05", "10:05", day=day)
        assert not world.judge("10:06", day)
    (over,) = world.poll("a", True, "11:05", day=4).judge("11:06", 4).resolved
    assert (over.outcome, over.since_us, over.ended_us) == (Outcome.OVER, since_us, at("10:35", 4))


@pytest.mark.parametrize(
    ("late", "since"), [("11:45", "11:55"), ("11:15", "11:40")], ids=["a little later", "hardly later"]
)
def test_a_late_poll_moves_the_beginning(late, since):
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    number = world.open[0].id
    (moved,) = world.poll("a", True, late).judge("12:10").continued
    assert (moved.id, moved.since_us, moved.details["last_up_us"]) == (number, at(since), at(late))
    # And back: an even later one says that it was down before.
    (moved,) = world.poll("a", False, late).judge("12:12").continued
    assert moved.since_us < at(since)
    assert not world.judge("12:13")


def test_a_late_poll_tells_that_it_was_up_earlier():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05", "13:05")
    world.judge("13:06")
    (over,) = world.poll("a", True, "12:35", "13:45").judge("13:50").resolved
    # Down from 12:50 to 13:25 only, and the incident is the same one.
    assert (over.outcome, over.since_us, over.ended_us) == (Outcome.OVER, at("12:50"), at("13:25"))


def test_late_polls_show_that_it_never_was():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    # The same instant again: the later row wins.
    (corrected,) = world.poll("a", True, "12:05").judge("12:10").resolved
    assert (corrected.outcome, corrected.business_us) == (Outcome.CORRECTED, 0)

    world = one_store().poll("a", False, "10:25")
    world.judge("10:30")
    (corrected,) = world.poll("a", True, "10:03").judge("10:35").resolved
    assert (corrected.kind, corrected.outcome) == (IncidentKind.NOT_OPENED, Outcome.CORRECTED)


def test_polls_that_are_gone_take_their_incident_with_them():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    world.polls.clear()
    (corrected,) = world.judge("12:07").resolved
    assert corrected.outcome == Outcome.CORRECTED


def test_a_removed_store():
    world = World(hours=[*daily("a"), *daily("b")]).poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    world.hours, world.polls = daily("b"), []
    (removed,) = world.judge("12:10").resolved
    assert (removed.subject, removed.outcome, removed.ended_us) == ("a", Outcome.REMOVED, at("12:10"))


def test_a_clock_that_is_set_back_corrects_nothing():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    assert not world.judge("11:10")
    assert not world.judge("12:07")
    (over,) = world.poll("a", True, "13:05").judge("13:06").resolved
    assert (over.outcome, over.ended_us) == (Outcome.OVER, at("12:35"))


def test_hours_that_change_end_the_opening():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    world.hours = daily("a", "10:00", "12:30")
    (closed,) = world.judge("12:31").resolved
    assert (closed.outcome, closed.ended_us) == (Outcome.CLOSED, at("12:30"))


def flapping():
    world = one_store().poll("a", True, "10:05", "12:05", "14:05").poll("a", False, "11:05", "13:05")
    for time in ("10:06", "11:06", "12:06", "13:06", "14:06"):
        changes = world.judge(time)
    assert told(changes.opened) == [("unstable", "a")]
    assert world.open[0].since_us == at("10:35")
    assert world.open[0].details["changes"] == 4
    return world


def test_an_unstable_store_is_reported_once():
    world = flapping()
    changes = world.poll("a", False, "15:05").judge("15:06")
    # A row, but whoever heard that it is unstable is not told.
    assert [covers(incident) for incident in changes.opened] == [[(IncidentKind.UNSTABLE, "store", "a")]]
    changes = world.poll("a", True, "16:05").judge("16:06")
    assert told(changes.resolved) == [("down", "a")]
    assert not world.poll("a", True, "17:05").judge("17:34")
    (calm,) = world.judge("17:35").resolved
    assert (calm.kind, calm.outcome, calm.ended_us) == (IncidentKind.UNSTABLE, Outcome.OVER, at("15:35"))
    # There are still enough changes in the last six hours, but it has been calm.
    assert not world.judge("18:06")


def test_an_unstable_store_that_stays_down_is_reported_as_down():
    world = flapping()
    world.poll("a", False, "15:05").judge("15:06")
    assert not world.poll("a", False, "16:05").judge("16:34")
    # Calm for two hours since it went down at 14:35.
    changes = world.judge("16:35")
    assert told(changes.resolved) == [("unstable", "a")]
    assert told(changes.uncovered) == [("down", "a")]
    assert not covers(world.open[0])


def test_business_time_of_calm_runs_while_the_store_is_open():
    world = one_store().poll("a", True, "17:05", "19:05", "21:05").poll("a", False, "18:05", "20:05")
    assert told(world.judge("21:06").opened) == [("unstable", "a")]
    assert not world.judge("03:00", 1)
    world.poll("a", True, "10:05", day=1)
    # 20:35 to 22:00, and 35 minutes of the next day.
    assert not world.judge("10:34", 1)
    assert told(world.judge("10:35", 1).resolved) == [("unstable", "a")]


def many(size=25, group="North"):
    names = [f"s{number:02}" for number in range(size)]
    world = World(hours=[row for name in names for row in daily(name)], groups=dict.fromkeys(names[:15], group))
    for name in names:
        world.poll(name, True, "11:05")
    return world, names


def test_many_stores_down_are_one_incident_of_the_group():
    world, names = many()
    for name in names[:4]:
        world.poll(name, False, "12:05")
    assert len(world.judge("12:06").opened) == 4
    assert not any(covers(incident) for incident in world.open)
    # The fifth makes it many: of 15 in the group, and all of them are of it.
    changes = world.poll(names[4], False, "12:05").judge("12:07")
    assert told(changes.opened) == [("down", "s04"), ("many_down", "North")]
    whole = next(incident for incident in world.open if incident.kind == IncidentKind.MANY_DOWN)
    assert (whole.scope, whole.since_us) == ("group", at("11:35"))
    assert whole.details == {"count": 5, "of": 15, "stores": names[:5]}
    assert covers(next(one for one in changes.opened if one.scope == "store")) == [
        (IncidentKind.MANY_DOWN, "group", "North")
    ]
    # Some come up again: it is over below half of what it takes.
    for name in names[:2]:
        world.poll(name, True, "12:35")
    assert told(world.judge("12:36").resolved) == [("down", "s00"), ("down", "s01")]
    changes = world.poll(names[2], True, "12:45").judge("12:46")
    assert told(changes.resolved) == [("down", "s02"), ("many_down", "North")]
    # Those that are still down stand for themselves now, if they were not told before.
    assert told(changes.uncovered) == [("down", "s04")]


def test_many_stores_of_several_groups_are_the_fleet():
    world, names = many()
    for name in names[8:18]:
        world.poll(name, False, "12:05")
    changes = world.judge("12:06")
    assert ("many_down", "") in told(changes.opened)
    assert ("many_down", "North") in told(changes.opened)
    assert next(one for one in world.open if one.subject == "").details["count"] == 10
    of_the_group = next(one for one in world.open if one.subject == names[8])
    assert covers(of_the_group) == [
        (IncidentKind.MANY_DOWN, "group", "North"),
        (IncidentKind.MANY_DOWN, "fleet", ""),
    ]
    # More of them: the count is that of the worst moment.
    for name in names[18:20]:
        world.poll(name, False, "12:06")
    changes = world.judge("12:10")
    assert [one.details["count"] for one in changes.continued if one.subject == ""] == [12]
    closed = world.judge("22:00").resolved
    assert {one.outcome for one in closed} == {Outcome.CLOSED}
    assert not world.open


def test_a_few_of_a_large_fleet_are_not_many():
    world, names = many(60, group="")
    for name in names[:11]:
        world.poll(name, False, "12:05")
    assert not [one for one in world.judge("12:06").opened if one.kind == IncidentKind.MANY_DOWN]
    world.poll(names[11], False, "12:06")
    assert ("many_down", "") in told(world.judge("12:07").opened)


BLIND = Finding(IncidentKind.BLIND, "fleet", "", at("11:30"), {"count": 1, "of": 1})


def test_no_incident_begins_for_stores_that_cannot_be_seen():
    world = one_store().poll("a", True, "11:05")
    assert told(world.judge("13:40", blind=["a"], findings=(BLIND,)).opened) == [("blind", "")]
    assert not world.judge("14:10", blind=["a"], findings=(BLIND,))
    # Polls come again: it was down all the time, or is now.
    changes = world.poll("a", False, "14:15").judge("14:16", ends={("fleet", ""): (at("14:15"), Outcome.OVER)})
    assert [(one.kind, one.ended_us) for one in changes.resolved] == [(IncidentKind.BLIND, at("14:15"))]
    assert told(changes.opened) == [("down", "a")]


def test_an_outage_goes_on_while_it_cannot_be_seen():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    for time in ("14:40", "16:00", "21:59"):
        world.judge(time, blind=["a"], findings=(BLIND,))
        assert world.now_open() == [("blind", ""), ("down", "a")]
    changes = world.judge("22:00", blind=["a"], findings=(BLIND,))
    assert [(one.kind, one.outcome) for one in changes.resolved] == [(IncidentKind.DOWN, Outcome.CLOSED)]


def test_an_active_poll_ends_an_incident_even_in_blindness():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    changes = world.poll("a", True, "13:05").judge("13:06", blind=["a"], findings=(BLIND,))
    assert told(changes.resolved) == [("down", "a")]


def test_blind_stores_do_not_count_for_many_down():
    world, names = many()
    for name in names[:10]:
        world.poll(name, False, "12:05")
    changes = world.judge("12:06", blind=names[:10], findings=(BLIND,))
    assert told(changes.opened) == [("blind", "")]


def test_a_finding_that_moves_is_the_same_incident():
    world = one_store().poll("a", True, "11:05")
    world.judge("12:00", findings=(BLIND,))
    earlier = Finding(IncidentKind.BLIND, "fleet", "", at("11:00"), {"count": 2, "of": 2})
    (moved,) = world.judge("12:01", findings=(earlier,)).continued
    assert (moved.id, moved.since_us, moved.details) == (1, at("11:00"), {"count": 2, "of": 2})


OLD = Finding(IncidentKind.FEED, "fleet", "silent", at("12:05"), {"text": "the newest poll is old"})


def test_old_data_say_one_thing_only():
    world = one_store().poll("a", True, "11:05").poll("a", False, "12:05")
    world.judge("12:06")
    changes = world.judge("12:05", feeds=(OLD,), data_are_old=True)
    assert (told(changes.opened), changes.resolved, changes.continued) == ([("feed", "silent")], [], [])
    # Whatever an export that is loaded then says.
    world.poll("a", True, "12:30").poll("b", True, "11:00").poll("b", False, "12:30")
    assert not world.judge("12:30", feeds=(OLD,), data_are_old=True)
    assert world.now_open() == [("down", "a"), ("feed", "silent")]
    # The feed comes again.
    world.poll("a", True, "12:05", day=2)
    changes = world.judge("12:06", 2)
    assert told(changes.resolved) == [("down", "a"), ("feed", "silent")]


def test_since_when_a_feed_is_wrong_does_not_move():
    world = one_store()
    world.judge("12:06", feeds=(OLD,))
    later = Finding(IncidentKind.FEED, "fleet", "silent", at("15:00"), {"text": "the newest poll is old"})
    assert not world.judge("15:06", feeds=(later,))
    assert world.open[0].since_us == at("12:05")


def test_a_quiet_finding_is_marked():
    world = one_store()
    world.judge("12:06", feeds=(Finding(IncidentKind.FEED, "fleet", "silent", at("12:05"), quiet=True),))
    assert world.open[0].details == {"quiet": True}
