"""Properties of every incident, whatever polls arrive in whatever order."""

from alert_helpers import MONDAY, World, at, daily
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.alerts.evaluation import AlertRules
from storemon_flask.model import DAY_US, MINUTE_US, IncidentKind, Outcome

CLOSING = AlertRules().closing_us
OF_OPENING = (IncidentKind.DOWN, IncidentKind.NOT_OPENED)
# Store, instant of the poll in ten minutes after Monday, whether active, and how much later it comes in.
polls = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 2 * 144), st.booleans(), st.sampled_from([0, 0, 0, 20, 90, 600])),
    max_size=60,
)


def run(arriving, every=45):
    """Evaluate two days of those polls as they arrive; return the world, and every change with its instant."""
    world, judged = World(hours=[*daily("a"), *daily("b", "18:00", "02:00")]), []
    waiting = sorted((10 * t + late, store, 10 * t, up) for store, t, up, late in arriving)
    for minute in range(0, 2 * 24 * 60 + 1, every):
        while waiting and waiting[0][0] <= minute:
            _, store, polled, up = waiting.pop(0)
            world.polls.append((store, MONDAY + polled * MINUTE_US, up))
        judged.append((minute, world.judge(f"{minute // 60}:{minute % 60:02}")))
    return world, judged


def opening_of(store, instant_us):
    """Return the opening of a store around an instant and the minute after it."""
    for day in range(-1, 3):
        start, end = (at("10:00", day), at("22:00", day)) if store == "a" else (at("18:00", day), at("02:00", day + 1))
        if start <= instant_us < end:
            return start, end
    return None


@settings(max_examples=20)
@given(polls)
def test_incidents_lie_in_openings_and_end_once(arriving):
    world, judged = run(arriving)
    begun, ended = {}, []
    number = 0
    for minute, changes in judged:
        as_of_us = MONDAY + minute * MINUTE_US
        assert {one.id for one in changes.resolved} <= set(begun) - {one.id for one in ended}
        ended += changes.resolved
        for incident in changes.opened:
            number += 1
            begun[number] = incident
            opening = opening_of(incident.subject, as_of_us)
            assert opening
            assert opening[1] - as_of_us > CLOSING
            if incident.kind in OF_OPENING:
                assert opening[0] <= incident.since_us <= as_of_us
                assert incident.details["closes_us"] == opening[1]
    assert len({(one.kind, one.subject) for one in world.open}) == len(world.open)
    for incident in ended:
        if incident.kind not in OF_OPENING:
            continue
        start, end = opening_of(incident.subject, begun[incident.id].since_us)
        assert start <= incident.since_us <= incident.ended_us <= end
        assert incident.business_us == incident.ended_us - incident.since_us
        assert incident.outcome != Outcome.CLOSED or incident.ended_us == end
        assert incident.outcome != Outcome.CORRECTED or incident.business_us == 0


@settings(max_examples=20)
@given(polls)
def test_open_incidents_match_a_fresh_evaluation(arriving):
    """However late polls arrived, open incidents begin when a fresh evaluation of the same polls says."""
    world, _ = run(arriving, every=90)
    fresh = World(hours=world.hours, polls=world.polls, rules=AlertRules(closing_us=-DAY_US))
    # Two days after Monday 00:00 is in an opening of one of them.
    fresh.judge("48:00")
    known = {(one.kind, one.subject): one.since_us for one in fresh.open}
    for incident in world.open:
        if incident.kind != IncidentKind.UNSTABLE:
            assert known[incident.kind, incident.subject] == incident.since_us


@settings(max_examples=20)
@given(polls)
def test_the_same_polls_again_change_nothing(arriving):
    world, _ = run(arriving, every=60)
    world.polls += world.polls
    assert not world.judge("48:00")


@settings(max_examples=20)
@given(st.lists(st.tuples(st.just("a"), st.integers(0, 144), st.booleans(), st.just(0)), max_size=40))
def test_an_outage_that_is_over_has_no_active_poll_and_an_inactive_one(arriving):
    world, judged = run(arriving, every=20)
    status = {t: up for _, t, up in world.polls}
    for _, changes in judged:
        for incident in changes.resolved:
            if incident.kind == IncidentKind.DOWN and incident.outcome == Outcome.OVER:
                inside = [up for t, up in status.items() if incident.since_us <= t < incident.ended_us]
                assert inside
                assert not any(inside)
