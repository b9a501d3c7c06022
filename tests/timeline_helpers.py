"""Timelines of drawn fleets, for tests."""

from dataclasses import dataclass

import numpy as np
from fleets import PolledFleet, openings_for

from storemon_flask.model import DAY_US, Bools, Ints, Rules
from storemon_flask.uptime import evidence, openings, status, timeline
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import Outages, Segments

MONDAY = 1_728_864_000_000_000  # 2024-10-14T00:00:00Z


UTC9 = [("a", day, "09:00", "17:00") for day in range(5)]


ZONES = {"a": "UTC"}


def at(hour: float, day: int = 0) -> int:
    return MONDAY + day * DAY_US + round(hour * 3600) * 1_000_000


def poll(hour: float, up: bool, day: int = 0) -> tuple[str, int, bool]:
    return ("a", at(hour, day), up)


@dataclass(frozen=True)
class Timeline:
    """Openings and segments cut to a range, and every outage that touches it."""

    openings: Openings
    segments: Segments
    outages: Outages


def timeline_of(made: PolledFleet, from_us: int, to_us: int, as_of_us: int, rules: Rules) -> Timeline:
    first_us = from_us - rules.farthest_us
    if len(made.polls):
        first_us = min(first_us, int(made.polls.instant_us.min()))
    opened = openings.build(made, first_us // DAY_US * DAY_US, (as_of_us // DAY_US + 1) * DAY_US)
    gathered = evidence.gather(made.polls, opened, rules)
    outages = timeline.find_outages(opened, gathered, as_of_us)
    return Timeline(
        opened.cut(from_us, to_us),
        timeline.find_segments(opened, gathered, from_us, to_us),
        outages.pick((outages.start_us < to_us) & (outages.end_us > from_us)),
    )


def sums(segments: Segments, first_us: int, last_us: int, size: int) -> dict[str, Ints]:
    """The measures of a range, added up from segments."""
    length = np.maximum(np.minimum(segments.end_us, last_us) - np.maximum(segments.start_us, first_us), 0)

    def total(chosen: Bools) -> Ints:
        values = np.zeros(size, dtype=np.int64)
        np.add.at(values, segments.store[chosen], length[chosen])
        return values

    up, down = segments.state == timeline.UP, segments.state == timeline.DOWN
    measured = segments.known == timeline.MEASURED
    business = total(np.ones(len(segments), dtype=bool))
    return {
        "uptime": total(up),
        "downtime": total(down),
        "unknown": total(segments.state == timeline.UNKNOWN),
        "business": business,
        "measured": total(measured | (segments.known == timeline.BETWEEN)),
        "uptime_low": total(up & measured),
        "uptime_high": business - total(down & measured),
    }


def statuses(made: PolledFleet, as_of_us: int, rules: Rules) -> tuple[Ints, Ints, Bools]:
    """What each store is at the as-of, since when, and whether perhaps since earlier."""
    opened = openings_for(made, as_of_us, rules)
    gathered = evidence.gather(made.polls, opened, rules)
    now = status.at(as_of_us, made.last_poll_us, opened, gathered, rules)
    read_from_us = as_of_us - 7 * DAY_US - rules.farthest_us
    return now, *status.since(as_of_us, now, made.last_poll_us, opened, gathered, rules, read_from_us)
