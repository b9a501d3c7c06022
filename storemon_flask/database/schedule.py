"""The stores of a report with hours, zones and openings: these change rarely, polls come every hour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from storemon_flask.database import hours, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.stores import StoreRows
from storemon_flask.model import DAY_US, Fleet, Hours, Ints, SpecialHours
from storemon_flask.uptime import openings, zones
from storemon_flask.uptime.openings import Openings

# Batches of this many stores keep the memory of a report flat and its arrays in the processor's cache.
STORES_PER_BATCH: Final = 4096
_EVER_US: Final = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some of the stores: their numbers ascending, and hours and zones by index among them."""

    number: Ints
    hours: Hours
    special: SpecialHours
    zone_of: Ints

    def slice(self, first: int, stop: int) -> "Batch":
        """Return the stores from index `first` up to `stop`."""
        return Batch(
            self.number[first:stop], self.hours.of(first, stop), self.special.of(first, stop), self.zone_of[first:stop]
        )

    def select(self, indexes: Ints) -> "Batch":
        """Return the stores at the ascending indexes."""
        return Batch(
            self.number[indexes],
            Hours(*_columns_of(indexes, self.hours)),
            SpecialHours(*_columns_of(indexes, self.special)),
            self.zone_of[indexes],
        )


@dataclass(slots=True)
class Schedule:
    """The stores of a report, in batches, with the openings computed last.

    `zone_names` are names or histories (`uptime.zones`); `zone_of_store` has the names at the as-of, the same at every
    as-of in `[since_us, until_us)`.
    """

    batches: list[Batch]
    zone_names: tuple[str, ...]
    since_us: int
    until_us: int
    zone_of_store: list[str]
    ids: list[str]
    names: list[str]
    groups: list[str]
    # What is made of the texts above when it is first needed, such as orders of the stores.
    derived: dict[object, object] = field(default_factory=dict)
    _openings: dict[int, tuple[tuple[int, int], Openings]] = field(default_factory=dict)

    def openings(self, batch: Batch, from_us: int, to_us: int) -> Openings:
        """Return the batch's openings on the days of the range; of a batch of the schedule the last ones are cached."""
        days = (from_us // DAY_US * DAY_US, (to_us // DAY_US + 1) * DAY_US)
        cached = self._openings.get(id(batch))
        if cached is not None and cached[0] == days:
            return cached[1]
        fleet = Fleet(len(batch.number), batch.hours, batch.zone_of, self.zone_names, batch.special)
        built = openings.build(fleet, *days)
        if any(batch is one for one in self.batches):
            self._openings[id(batch)] = (days, built)
        return built

    def select(self, indexes: Ints) -> Batch:
        """Return the stores at those ascending indexes, over all batches, as one batch."""
        selected, store = [], 0
        for batch in self.batches:
            inside = indexes[(indexes >= store) & (indexes < store + len(batch.number))] - store
            if len(inside):
                selected.append(batch.select(inside))
            store += len(batch.number)
        offsets = np.cumsum([0, *(len(batch.number) for batch in selected)]).tolist()

        def joined(name: str) -> list[Ints]:
            rows = [getattr(batch, name) for batch in selected]
            return [
                np.concatenate([some.store + offset for some, offset in zip(rows, offsets, strict=False)]),
                *(np.concatenate([getattr(some, column) for some in rows]) for column in rows[0].__slots__[1:]),
            ]

        return Batch(
            np.concatenate([batch.number for batch in selected]),
            Hours(*joined("hours")),
            SpecialHours(*joined("special")),
            np.concatenate([batch.zone_of for batch in selected]),
        )


def read(
    database: Database,
    connection: Connection,
    default_zone: str,
    store_ids: Sequence[str] | None,
    as_of_us: int,
) -> Schedule:
    """Return the schedule in the connection's transaction; that of all stores is cached until it changes."""
    if store_ids is not None:
        rows, _ = stores.rows_of(connection, store_ids)
        return read_stores(connection, rows, default_zone, as_of_us)
    key = (database.identity(), stores.schedule_version(connection), default_zone)
    with database.cache_lock:
        cached: tuple[object, Schedule] | None = database.cache.get("schedule")
        if cached is None or cached[0] != key or not cached[1].since_us <= as_of_us < cached[1].until_us:
            cached = (key, read_stores(connection, stores.all_rows(connection), default_zone, as_of_us))
            database.cache["schedule"] = cached
        return cached[1]


def read_stores(connection: Connection, rows: StoreRows, default_zone: str, as_of_us: int) -> Schedule:
    """Return the schedule of those stores."""
    number = rows.number
    # Without a store there is still one batch, an empty one, and so a report of no rows.
    first, last = (int(number[0]), int(number[-1])) if len(number) else (0, -1)
    versions = hours.zones(connection, first, last)
    histories = [zones.history(default_zone, versions.get(store, ())) for store in number.tolist()]
    names = tuple(sorted(set(histories)))
    index = {name: at for at, name in enumerate(names)}
    names_now = [zones.name_at(name, as_of_us) for name in names]
    zone_of = np.array([index[name] for name in histories], dtype=np.int64)
    batches = []
    for at in range(0, max(len(number), 1), STORES_PER_BATCH):
        some = number[at : at + STORES_PER_BATCH]
        span = (int(some[0]), int(some[-1])) if len(some) else (first, last)
        weekly = Hours(*_columns_of(some, hours.hours(connection, *span)))
        special = SpecialHours(*_columns_of(some, hours.special_hours(connection, *span)))
        batches.append(Batch(some, weekly, special, zone_of[at : at + STORES_PER_BATCH]))
    turns = [turn for name in names for turn in zones.turns(name)]
    return Schedule(
        batches,
        names,
        max((turn for turn in turns if turn <= as_of_us), default=-_EVER_US),
        min((turn for turn in turns if turn > as_of_us), default=_EVER_US),
        [names_now[at] for at in zone_of.tolist()],
        rows.ids,
        rows.names,
        rows.groups,
    )


def _columns_of(number: Ints, rows: Hours | SpecialHours) -> list[Ints]:
    """Return the columns of the rows of these stores, each with the store's index in `number` instead of its number."""
    is_one = np.isin(rows.store, number)
    store, *columns = (getattr(rows, name)[is_one] for name in rows.__slots__)
    return [np.searchsorted(number, store), *columns]
