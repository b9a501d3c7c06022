"""The numbers of a fleet at one instant, whoever asks: reports, lists and terminals get them here."""

from collections.abc import Callable
from typing import Final

import numpy as np

from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.schedule import Schedule
from storemon_flask.model import Ints, Polls, Rules
from storemon_flask.uptime import measures as calculation
from storemon_flask.uptime.measures import Table

# Told how far a computation is, 0 to 1.
Progress = Callable[[float], None]
# The calculation takes about a hundred bytes a poll: stores that are polled every minute are taken in smaller pieces.
_POLLS_AT_ONCE: Final = 1_000_000
_NO_POLLS: Final = np.empty(0, dtype=np.int64)


def table(
    connection: Connection,
    plan: Schedule,
    as_of_us: int,
    rules: Rules,
    columns: str,
    progress: Progress = lambda part: None,
) -> Table:
    """The columns of `core.report.compute` for the plan's stores, in its order, part by part; and `polls_heard`, how
    many polls of each store were read. With the columns `list` those of `compute_list` alone.

    The plan and the polls must be of one transaction of the connection.
    """
    tables: list[Table] = []
    from_us = max(calculation.evidence_from(as_of_us, rules), 0)
    for done, part in enumerate(plan.batches, start=1):
        opened = plan.openings(part, as_of_us, rules)
        for first, stop, heard in polls.read_by_stores(connection, part.number, from_us, as_of_us, _POLLS_AT_ONCE):
            piece, open_then = (
                (part, opened)
                if stop - first == len(part.number)
                else (part.slice(first, stop), opened.of(first, stop))
            )
            wanted = columns != "classic" and len(piece.number)
            last = _last_polls(connection, piece.number, heard, as_of_us, from_us) if wanted else _NO_POLLS
            fleet = plan.fleet(piece, heard, last)
            if columns == "list":
                tables.append(calculation.compute_list(fleet, as_of_us, rules, open_then))
                continue
            found = calculation.compute(fleet, as_of_us, rules, open_then, columns == "full")
            tables.append({**found, "polls_heard": np.bincount(heard.store, minlength=fleet.size)})
        progress(done / len(plan.batches))
    return {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}


def _last_polls(connection: Connection, number: Ints, heard: Polls, as_of_us: int, from_us: int) -> Ints:
    """Each store's newest poll up to the as-of; -1 for never.

    It is that of what was read, or looked up further back.
    """
    last = np.full(len(number), -1, dtype=np.int64)
    edges = np.searchsorted(heard.store, np.arange(len(number) + 1))
    here = np.flatnonzero(edges[1:] > edges[:-1])
    last[here] = heard.instant_us[edges[here + 1] - 1]
    missing = np.flatnonzero(last < 0)
    if len(missing):
        first_poll, last_poll = stores.poll_span(connection, number[missing])
        last[missing] = np.where(last_poll <= as_of_us, last_poll, -1)
        # Polls of before a prune are not read either.
        before_us = min(max(from_us, heard.complete_from_us), as_of_us + 1)
        older = missing[(first_poll >= 0) & (first_poll < before_us) & (last_poll > as_of_us)]
        last[older] = polls.newest_up_to(connection, number[older], before_us - 1)
    return last
