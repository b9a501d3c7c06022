"""Small fleets for tests: rows as a person would write them, turned into the columns that the core takes."""

from collections.abc import Sequence

import numpy as np

from storemon_flask.core import report
from storemon_flask.core.report import Table
from storemon_flask.core.status import STATUSES
from storemon_flask.ingest import values
from storemon_flask.model import Fleet, Hours, Polls, Rules

PollRow = tuple[str, int, bool]
HoursRow = tuple[str, int, str, str]


def fleet(
    polls: Sequence[PollRow], hours: Sequence[HoursRow], zones: dict[str, str], as_of_us: int
) -> tuple[list[str], Fleet]:
    """Ids, and the fleet of all polls up to the as-of; a later row of the same store and instant wins."""
    ids = sorted({row[0] for row in polls} | {row[0] for row in hours} | set(zones))
    number = {store_id: place for place, store_id in enumerate(ids)}
    latest = {(number[s], t): up for s, t, up in polls if t <= as_of_us}
    poll_rows = np.array(sorted((s, t, up) for (s, t), up in latest.items()), dtype=np.int64).reshape(-1, 3)
    hours_rows = np.array(
        [
            (number[s], day, values.time_of_day(start), values.time_of_day(end, end=True))
            for s, day, start, end in hours
        ],
        dtype=np.int64,
    ).reshape(-1, 4)
    zone_of = [zones.get(store_id, "America/Chicago") for store_id in ids]
    names = tuple(sorted(set(zone_of)))
    last = np.full(len(ids), -1, dtype=np.int64)
    np.maximum.at(last, poll_rows[:, 0], poll_rows[:, 1])
    return ids, Fleet(
        size=len(ids),
        polls=Polls(poll_rows[:, 0], poll_rows[:, 1], poll_rows[:, 2].astype(bool)),
        hours=Hours(*hours_rows.T),
        zone_of=np.array([names.index(name) for name in zone_of], dtype=np.int64),
        zone_names=names,
        last_poll_us=last,
    )


def compute(
    polls: Sequence[PollRow],
    hours: Sequence[HoursRow],
    zones: dict[str, str],
    as_of_us: int,
    rules: Rules = Rules(),  # noqa: B008 - frozen
) -> dict[str, dict[str, object]]:
    """The report as `brute_force.report` gives it: per store a value per column, in microseconds."""
    ids, made = fleet(polls, hours, zones, as_of_us)
    heard = made.polls.instant_us >= report.evidence_from(as_of_us, rules)
    window = Polls(made.polls.store[heard], made.polls.instant_us[heard], made.polls.active[heard])
    table = report.compute(
        Fleet(made.size, window, made.hours, made.zone_of, made.zone_names, made.last_poll_us), as_of_us, rules
    )
    return {store_id: row(table, made, place) for place, store_id in enumerate(ids)}


def row(table: Table, made: Fleet, place: int) -> dict[str, object]:
    """One store's columns."""
    found: dict[str, object] = {}
    for window in report.CLASSIC_WINDOWS:
        for measure in report.MEASURES:
            found[f"{measure}_{window.name}"] = int(table[f"{measure}_{window.name}"][place])
    last = int(table["last_poll_us"][place])
    found["polls_last_week"] = int(table["polls_last_week"][place])
    found["last_poll_us"] = None if last < 0 else last
    found["status_now"] = STATUSES[int(table["status_now"][place])]
    found["timezone"] = made.zone_names[int(made.zone_of[place])]
    return found
