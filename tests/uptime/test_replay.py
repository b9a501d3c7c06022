"""Instants of the past from polls read once, against the same instants computed from the polls before them alone."""

import random

import fleets
import numpy as np
import pytest

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Polls, Rules
from storemon_flask.uptime import conditions, evidence, openings, status
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.replay import Replay
from storemon_flask.uptime.status import STATUSES

START_US = 20_000 * DAY_US
DAYS = 6
HOURS = (("09:00", "17:00"), ("00:00", "00:00"), ("22:00", "03:00"), ("09:00", "12:00"))


def random_fleet(chance: random.Random) -> fleets.PolledFleet:
    """Some stores with hours of all kinds and polls at odd times: bursts, silences, some in several openings a day."""
    ids = [f"s{number}" for number in range(8)]
    hours = [
        (store, day, start, end)
        for store in ids
        for start, end in chance.sample(HOURS, chance.randint(0, 2))
        for day in range(7)
        if chance.random() < 0.8
    ]
    polls = []
    for store in ids:
        at, gap_us = START_US, chance.choice((7, 45, 60, 200)) * MINUTE_US
        while (at := at + int(chance.expovariate(1) * gap_us) + 1) < START_US + DAYS * DAY_US:
            at += chance.randint(0, 20) * HOUR_US if chance.random() < 0.03 else 0
            polls.append((store, at, chance.random() < chance.choice((0.5, 0.95))))
    zones = {store: chance.choice(("America/New_York", "Asia/Kolkata")) for store in ids}
    return fleets.fleet(polls, hours, zones, START_US + 2 * DAYS * DAY_US)[1]


def computed(
    polls: Polls, opened: Openings, size: int, as_of_us: int, rules: Rules, read_from_us: int
) -> dict[str, object]:
    past = polls.pick(polls.instant_us <= as_of_us)
    last_us = np.full(size, -1, dtype=np.int64)
    last_us[past.store] = past.instant_us
    known = evidence.gather(past, opened, rules)
    now = status.at(as_of_us, last_us, opened, known, rules)
    since_us, earlier = status.since(as_of_us, now, last_us, opened, known, rules, read_from_us)
    return {
        "status": now,
        "since": since_us,
        "since_or_earlier": earlier.astype(np.int64),
        "last_poll": last_us,
        **conditions.find(as_of_us, size, opened, known, read_from_us).columns(),
    }


@pytest.mark.parametrize("method", ["nearest", "previous"])
@pytest.mark.parametrize("seed", range(12))
def test_an_instant_is_as_its_own_polls_make_it(seed: int, method: str) -> None:
    chance = random.Random(seed)
    rules = Rules(chance.choice((2, 24)) * HOUR_US, 150 * MINUTE_US, method)
    fleet = random_fleet(chance)
    opened = openings.build(fleet, START_US, START_US + DAYS * DAY_US)
    replay = Replay(fleet.size, opened, fleet.polls, rules, START_US)
    instants = [START_US + chance.randrange(DAYS * DAY_US) for _ in range(40)]
    # At the instants of polls and edges of openings, and in any order: backwards, too.
    instants += chance.sample(fleet.polls.instant_us.tolist(), 10)
    instants += chance.sample([*opened.start_us.tolist(), *opened.end_us.tolist()], 10)
    for as_of_us in sorted(instants)[::2] + instants:
        found = replay.at(as_of_us)
        expected = computed(fleet.polls, opened, fleet.size, as_of_us, rules, START_US)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].tolist() == values.tolist(), (name, as_of_us)


def test_stores_without_polls_or_hours() -> None:
    nothing = np.empty(0, dtype=np.int64)
    polls = Polls(nothing, nothing, nothing.astype(bool))
    replay = Replay(2, Openings(nothing, nothing, nothing), polls, Rules(), START_US)
    found = replay.at(START_US)
    assert found["status"].tolist() == [STATUSES.index("no_data")] * 2
    assert {name: found[name].tolist() for name in ("since", "polls", "down_from_us", "changes")} == {
        "since": [-1, -1],
        "polls": [0, 0],
        "down_from_us": [-1, -1],
        "changes": [0, 0],
    }
