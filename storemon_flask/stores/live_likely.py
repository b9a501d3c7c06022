"""The likely range of listed stores (SPEC 3.6): computed for the stores that are shown, once for each snapshot."""

import json
from collections.abc import Iterator, Sequence
from typing import Final, cast

import numpy as np

from storemon_flask.database import readings
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.readings import Batch, Schedule
from storemon_flask.formatting import percent_number
from storemon_flask.model import Rules
from storemon_flask.reports.likely import measure_reading, read_model
from storemon_flask.stores.live_list import LISTED_WINDOWS, Snapshot
from storemon_flask.uptime.likely import BOUNDS, Distributions
from storemon_flask.uptime.measures import Periods, measure

# The percentages of the range, in the order of a store's JSON.
LIKELY_PERCENTAGES: Final = tuple(f"uptime_percent_{name}_{window}" for window in LISTED_WINDOWS for name in BOUNDS)
# So many stores are read at once.
_STORES_AT_ONCE: Final = 250
# `LIKELY_PERCENTAGES` of a store; None where polls cannot say.
LikelyRange = dict[str, float | None]


def likely_ranges(
    database: Database, snapshot: Snapshot, indices: Sequence[int], rules: Rules, default_zone: str
) -> list[LikelyRange]:
    """Return the likely range of those stores of the snapshot in `LISTED_WINDOWS`; computed once for each store.

    A store that was removed after the snapshot was computed has none.
    """
    made = cast("dict[int, LikelyRange]", snapshot.derived.setdefault("likely", {}))
    missing = {snapshot.ids[index]: index for index in indices if index not in made}
    if missing:
        ranges: dict[int, LikelyRange] = {index: dict.fromkeys(LIKELY_PERCENTAGES) for index in missing.values()}
        as_of_us = snapshot.as_of.as_of_us
        with database.read() as connection:
            model = read_model(database, connection, default_zone, as_of_us, rules)
            # The schedule of all stores is cached; one of these alone would read the hours of all that lie between.
            plan = readings.read_schedule(database, connection, default_zone, None, as_of_us)
            present = [index for index, store_id in enumerate(plan.ids) if store_id in missing]
            for at in range(0, len(present), _STORES_AT_ONCE):
                some = present[at : at + _STORES_AT_ONCE]
                batch = plan.select(np.array(some, dtype=np.int64))
                measured = _measure_ranges(model, connection, plan, batch, as_of_us, rules)
                for index, likely in zip(some, measured, strict=True):
                    ranges[missing[plan.ids[index]]] = likely
        made |= ranges
    return [made[index] for index in indices]


def list_records(
    database: Database, snapshot: Snapshot, indices: Sequence[int], rules: Rules, default_zone: str
) -> Iterator[dict[str, object]]:
    """Return those stores as JSON has them in lists: `Snapshot.record`, and the likely range."""
    ranges = likely_ranges(database, snapshot, indices, rules, default_zone)
    return ({**snapshot.record(index), **likely} for index, likely in zip(indices, ranges, strict=True))


def records_json(
    database: Database, snapshot: Snapshot, indices: Sequence[int], rules: Rules, default_zone: str
) -> list[str]:
    """Return the same as texts, each made once for all requests."""
    made = cast("dict[int, str]", snapshot.derived.setdefault("json", {}))
    missing = [index for index in indices if index not in made]
    for index, record in zip(missing, list_records(database, snapshot, missing, rules, default_zone), strict=True):
        made[index] = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    return [made[index] for index in indices]


def _measure_ranges(
    model: Distributions, connection: Connection, plan: Schedule, batch: Batch, as_of_us: int, rules: Rules
) -> Iterator[LikelyRange]:
    """Yield the range of each store of the batch."""
    lengths = np.array(list(LISTED_WINDOWS.values()))
    first_us = as_of_us - int(lengths.max())
    for reading in readings.read_range(connection, plan, batch, (first_us, as_of_us), as_of_us, rules, whole=True):
        size = len(reading)
        store, start_us = np.repeat(np.arange(size), len(lengths)), np.tile(as_of_us - lengths, size)
        periods = Periods(store, start_us, np.full(len(store), as_of_us))
        measures = measure(reading.openings, reading.evidence, periods, as_of_us)
        bounds = measure_reading(model, reading, periods, as_of_us, measures)
        known = (measures["uptime"] + measures["downtime"]).tolist()
        sides = [bounds[name].tolist() for name in BOUNDS]
        for at in range(0, len(known), len(lengths)):
            cells = [percent_number(side[row], known[row]) for row in range(at, at + len(lengths)) for side in sides]
            yield dict(zip(LIKELY_PERCENTAGES, cells, strict=True))
