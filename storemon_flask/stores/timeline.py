"""One store's timeline: its openings, what is known of them, its polls and its outages (SPEC 3)."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from storemon_flask.clock import timestamp_text
from storemon_flask.database import poll_reading, polls, schedule
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US, WEEK_US, Bools, Polls, Rules
from storemon_flask.reports import long_runs
from storemon_flask.stores import live, store_list
from storemon_flask.stores.live import Moment
from storemon_flask.uptime import evidence, openings, timeline
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.timeline import Outages, Stretches, Timeline

_NOTHING: Final = np.empty(0, dtype=np.int64)
# Entered while much is computed at once.
Slot = Callable[[], AbstractContextManager[None]]
DEFAULT_US: Final = WEEK_US
MOST_US: Final = 31 * DAY_US
# The polls of one answer as rows: one a minute for two months.
MOST_POLLS: Final = 100_000
# More are computed in a slot.
_MANY_POLLS: Final = 100_000


@dataclass(frozen=True, slots=True)
class StoreTimeline:
    """What is known of one store in `[from_us, to_us)`.

    `polls` are all polls made in the range (`complete_from_us` says from when on they are complete); `in_hours` says
    which of them count. `sums` are `core.timeline.sums` of the range, in microseconds.
    """

    store_id: str
    zone: str
    moment: Moment
    from_us: int
    to_us: int
    openings: Openings
    stretches: Stretches
    outages: Outages
    polls: Polls
    in_hours: Bools
    sums: dict[str, int]


def of_store(
    database: Database,
    store_id: str,
    from_us: int | None,
    to_us: int | None,
    rules: Rules,
    default_zone: str,
    now_us: int,
    as_of_us: int | None = None,
    most_polls: int | None = None,
    slot: Slot = nullcontext,
) -> StoreTimeline:
    """The store's timeline, by default of the seven days up to the as-of; an end after the as-of becomes the as-of. The
    as-of is that of live views unless another is given. `slot()` is entered when there are many polls.

    `NotFound` when there is no such store; `Unprocessable` for a range that is empty, longer than 31 days, begins
    before 1970, or has more than `most_polls` polls.
    """
    with database.read() as connection, ExitStack() as stack:
        store_list.find(connection, store_id)
        moment = live.moment(database, connection, now_us, rules, as_of_us)
        from_us, to_us = _range(from_us, to_us, moment.as_of_us)
        plan = schedule.of(database, connection, default_zone, [store_id], moment.as_of_us)
        part = plan.parts[0]
        heard_from_us = max(timeline.heard_from(from_us, rules), 0)
        count = polls.count_of_store(connection, int(part.number[0]), heard_from_us, moment.as_of_us)
        if most_polls is not None and count > most_polls:
            _refuse_many(connection, int(part.number[0]), from_us, to_us, most_polls)
        if count > _MANY_POLLS:
            stack.enter_context(slot())
        days = (heard_from_us // DAY_US * DAY_US, (moment.as_of_us // DAY_US + 1) * DAY_US)
        opened = openings.build(plan.fleet(part, schedule.NO_POLLS, _NOTHING), *days)
        heard, _ = poll_reading.read(connection, part.number, heard_from_us, moment.as_of_us, rules, opened)
        fleet = plan.fleet(part, heard, heard.instant_us[-1:] if len(heard) else np.full(1, -1))
        found = timeline.of(fleet, from_us, to_us, moment.as_of_us, rules)
        # The outage that the range begins in is told whole, however long it is.
        outages, _ = long_runs.whole_outages(
            connection,
            plan,
            part,
            found.whole_openings,
            found.evidence,
            heard_from_us,
            np.array([from_us], dtype=np.int64),
            moment.as_of_us,
            rules,
        )
        found = replace(found, outages=outages.picked((outages.start_us < to_us) & (outages.end_us > from_us)))
        # What was thinned is read again, for the range alone.
        made = polls.read(connection, part.number, from_us, to_us - 1) if heard.weight is not None else heard
        return _told(store_id, plan.zone_of_store[0], moment, from_us, to_us, found, made)


def _range(from_us: int | None, to_us: int | None, as_of_us: int) -> tuple[int, int]:
    if from_us is not None and from_us < 0:
        raise _wrong("from", "from must not lie before 1970-01-01")
    to_us = as_of_us if to_us is None else min(to_us, as_of_us)
    if from_us is None:
        from_us = max(to_us - DEFAULT_US, 0)
    if from_us >= to_us:
        raise _wrong(
            "from", f"from must lie before to, and before the newest that is known, {timestamp_text(as_of_us)}"
        )
    if to_us - from_us > MOST_US:
        raise _wrong("from", "from must lie at most 31 days before to; ask for a longer time in pieces")
    return from_us, to_us


def _refuse_many(connection: sqlite3.Connection, number: int, from_us: int, to_us: int, most: int) -> None:
    """`Unprocessable` when the range has more polls than that."""
    count = polls.count_of_store(connection, number, from_us, to_us - 1)
    if count > most:
        raise _wrong(
            "from",
            f"the store has {count:,} polls from {timestamp_text(from_us)} to {timestamp_text(to_us)}, and one answer has at most {most:,}; "
            "ask for fewer days, or for a report of its outages",
        )


def _wrong(field: str, sentence: str) -> Unprocessable:
    return Unprocessable(sentence, errors={field: [sentence]})


def _told(
    store_id: str, zone: str, moment: Moment, from_us: int, to_us: int, found: Timeline, heard: Polls
) -> StoreTimeline:
    inside = (heard.instant_us >= from_us) & (heard.instant_us < to_us)
    made = Polls(heard.store[inside], heard.instant_us[inside], heard.active[inside], heard.complete_from_us)
    sums = timeline.sums(found.stretches, from_us, to_us, 1)
    return StoreTimeline(
        store_id,
        zone,
        moment,
        from_us,
        to_us,
        found.openings,
        found.stretches,
        found.outages,
        made,
        evidence.counting(made, found.whole_openings),
        {name: int(values[0]) for name, values in sums.items()},
    )
