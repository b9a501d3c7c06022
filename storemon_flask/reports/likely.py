"""The likely range over the database: the fleet's model, fitted when it is first needed, and ranges of sets of stores.

The range of one report row comes with its measures (`reports.compute`). For a set of stores over a window:

    sums = read_sums(database, connection, schedule, first_us, last_us, as_of_us, rules, default_zone)
    likely_of_sums({name: values[chosen].sum() for name, values in sums.items()})
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.readings import Reading, Schedule
from storemon_flask.model import HOUR_US, Ints, Rules
from storemon_flask.uptime.likely import (
    BOUNDS,
    FITTED_US,
    SUMS,
    Distributions,
    LikelyModel,
    Neighbours,
    count_neighbours,
    fit,
    measure_likely,
)
from storemon_flask.uptime.measures import MEASURES, Periods, measure

# The model is fitted on so many stores, evenly spread over the fleet; on all where they do not suffice.
_SAMPLE: Final = 500
# Polls every minute of so many stores are read at once.
_STORES_AT_ONCE: Final = 50
_CACHED: Final = 8


def read_model(
    database: Database, connection: Connection, default_zone: str, as_of_us: int, rules: Rules
) -> Distributions:
    """Return the fleet's model at an as-of, in the connection's transaction; the last ones are cached.

    It is that of all stores, whichever a report is about: so a store has one likely range, whoever asks. It is learned
    from polls up to the full hour: live pages, each of which has an as-of of its own, share it (a fit takes 0.07 s).
    """
    hour_us = as_of_us // HOUR_US * HOUR_US
    key = (
        database.identity(),
        stores.data_version(connection),
        stores.schedule_version(connection),
        default_zone,
        hour_us,
        tuple(asdict(rules).items()),
    )
    with database.cache_lock:
        _, known = database.cache.get("likely", (None, {}))
        if key in known:
            cached: Distributions = known[key]
            return cached
    schedule = readings.read_schedule(database, connection, default_zone, None, hour_us)
    model = Distributions(_fit(connection, schedule, hour_us, rules), rules)
    with database.cache_lock:
        _, known = database.cache.get("likely", (None, {}))
        database.cache["likely"] = (None, dict([*known.items(), (key, model)][-_CACHED:]))
    return model


def measure_reading(
    model: Distributions,
    reading: Reading,
    periods: Periods,
    as_of_us: int,
    measures: dict[str, Ints],
    names: Sequence[str] = BOUNDS,
) -> dict[str, Ints]:
    """Return `uptime.likely.BOUNDS` of each period, `SUMS`, or both; -1 and 0 where there is no model, for a reason."""
    if model.model.reason:
        nothing = np.zeros(len(periods), dtype=np.int64)
        return {name: nothing - 1 if name in BOUNDS else nothing for name in names}
    return measure_likely(model, reading.evidence, periods, as_of_us, measures, names)


def read_sums(
    database: Database,
    connection: Connection,
    schedule: Schedule,
    first_us: int,
    last_us: int,
    as_of_us: int,
    rules: Rules,
    default_zone: str,
) -> dict[str, Ints]:
    """Return `MEASURES` and `SUMS` of each store of the schedule in `[first_us, last_us)`, cut at the as-of.

    Their sums over any set of stores are what `uptime.likely.likely_of_sums` takes.
    """
    model = read_model(database, connection, default_zone, as_of_us, rules)
    begin_us = np.full(len(schedule.zone_names), first_us, dtype=np.int64)
    (sums,) = read_sums_in_zones(model, connection, schedule, [begin_us], last_us, as_of_us, rules)
    return sums


def read_sums_in_zones(
    model: Distributions,
    connection: Connection,
    schedule: Schedule,
    begins_us: Sequence[Ints],
    last_us: int,
    as_of_us: int,
    rules: Rules,
) -> list[dict[str, Ints]]:
    """Return the same for several windows up to `last_us`, each with its start in each zone of the schedule."""
    columns: list[list[dict[str, Ints]]] = [[] for _ in begins_us]
    first_us = min((int(begin_us.min(initial=last_us)) for begin_us in begins_us), default=last_us)
    for reading in readings.read_batches(connection, schedule, first_us, last_us, as_of_us, rules, whole=True):
        store, zone_of = np.arange(len(reading)), reading.batch.zone_of
        for begin_us, made in zip(begins_us, columns, strict=True):
            periods = Periods(store, begin_us[zone_of], np.full(len(store), last_us))
            measures = measure(reading.openings, reading.evidence, periods, as_of_us)
            made.append(measures | measure_reading(model, reading, periods, as_of_us, measures, SUMS))
    return [{name: np.concatenate([some[name] for some in made]) for name in (*MEASURES, *SUMS)} for made in columns]


def model_notes(model: LikelyModel) -> dict[str, Any]:
    """Return what the model was learned from and what it says, for the method of a report."""
    fitted = not model.reason
    return {
        "likely_up_hours": round(model.up_minutes * 60_000_000 / HOUR_US, 2) if fitted else None,
        "likely_down_minutes": round(model.down_minutes, 2) if fitted else None,
        "likely_neighbours": model.neighbours,
        "likely_both_down": model.both_down,
        "likely_both_down_by_chance": model.by_chance,
        "likely_note": model.reason,
    }


def sample_of(count: int) -> Ints:
    """Return the indexes of the stores of a fleet of so many that it is learned from."""
    size = min(count, _SAMPLE)
    return np.arange(size, dtype=np.int64) * count // max(size, 1)


def _fit(connection: Connection, schedule: Schedule, as_of_us: int, rules: Rules) -> LikelyModel:
    """Return the model of a sample of the stores, or of all where the sample cannot say how long outages last."""
    count = len(schedule.ids)
    if not count:
        return fit(Neighbours())
    model = fit(_neighbours(connection, schedule, sample_of(count), as_of_us, rules))
    if model.reason and count > _SAMPLE:
        model = fit(_neighbours(connection, schedule, np.arange(count), as_of_us, rules))
    return model


def _neighbours(connection: Connection, schedule: Schedule, indexes: Ints, as_of_us: int, rules: Rules) -> Neighbours:
    """Return neighbouring polls of those stores in the 28 days before the as-of."""
    total = Neighbours()
    for at in range(0, len(indexes), _STORES_AT_ONCE):
        batch = schedule.select(indexes[at : at + _STORES_AT_ONCE])
        reading = readings.read_batch(connection, schedule, batch, as_of_us - FITTED_US, as_of_us, rules)
        total += count_neighbours(reading.evidence, as_of_us - FITTED_US)
    return total
