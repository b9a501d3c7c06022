"""What reports and views read: stores with hours, zones and openings, which change rarely, and polls in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np

from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.stores import StoreRows
from storemon_flask.labels import StoreLabels
from storemon_flask.model import DAY_US, WEEK_US, Fleet, Hours, Ints, Polls, Rules, SpecialHours
from storemon_flask.uptime import evidence, openings, zones
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.openings import Openings

# Batches of this many stores keep the memory of a report flat and its arrays in the processor's cache.
STORES_PER_BATCH: Final = 4096
_EVER_US: Final = 1 << 62
# About as many as an hourly fleet has in a batch of a report: up to here nothing is left out.
_POLLS_AT_ONCE: Final = 2_000_000
# A batch has the polls of about this many store-days.
_STORE_DAYS: Final = 60_000


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
    labels: StoreLabels
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
            """Return the columns of one part of the batches, joined; store indexes move by each batch's offset."""
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


def read_schedule(
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
    versions = stores.read_zones(connection, first, last)
    histories = [zones.history(default_zone, versions.get(store, ())) for store in number.tolist()]
    names = tuple(sorted(set(histories)))
    index = {name: at for at, name in enumerate(names)}
    names_now = [zones.name_at(name, as_of_us) for name in names]
    zone_of = np.array([index[name] for name in histories], dtype=np.int64)
    batches = []
    for at in range(0, max(len(number), 1), STORES_PER_BATCH):
        some = number[at : at + STORES_PER_BATCH]
        span = (int(some[0]), int(some[-1])) if len(some) else (first, last)
        weekly = Hours(*_columns_of(some, stores.read_hours(connection, *span)))
        special = SpecialHours(*_columns_of(some, stores.read_special_hours(connection, *span)))
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
        StoreLabels(rows.groups, rows.labels),
    )


def _columns_of(number: Ints, rows: Hours | SpecialHours) -> list[Ints]:
    """Return the columns of the rows of these stores, each with the store's index in `number` instead of its number."""
    is_one = np.isin(rows.store, number)
    store, *columns = (getattr(rows, name)[is_one] for name in rows.__slots__)
    return [np.searchsorted(number, store), *columns]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of some stores, from `from_us` up to `to_us`: openings, polls and the evidence that they give.

    `first` is the index of the first store in the schedule. `polls` are all polls, or those that `evidence.thin_out`
    leaves of more than fit into memory; `count` is how many were read, `newest_us` each store's newest (-1: none).
    """

    first: int
    batch: Batch
    from_us: int
    to_us: int
    openings: Openings
    polls: Polls
    evidence: Evidence
    count: int
    newest_us: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.batch.number)


def read_batches(
    connection: Connection,
    schedule: Schedule,
    first_us: int,
    last_us: int,
    as_of_us: int,
    rules: Rules,
    whole: bool = False,
) -> Iterator[Reading]:
    """Yield all that matters to `[first_us, last_us)`, some stores at a time, in the schedule's order.

    Polls after the range draw the line that ends the last segment in it; they need their openings too. With `whole`
    there are so few stores at a time that no polls are left out, but for a store that alone has too many.
    """
    first = 0
    for batch in schedule.batches:
        yield from read_range(connection, schedule, batch, (first_us, last_us), as_of_us, rules, first, whole)
        first += len(batch.number)


def polls_range(first_us: int, last_us: int, as_of_us: int, rules: Rules) -> tuple[int, int]:
    """Return from and up to when polls matter to `[first_us, last_us)` in a report at `as_of_us`."""
    return first_us - rules.farthest_us, min(last_us + 2 * rules.farthest_us, as_of_us)


def read_range(
    connection: Connection,
    schedule: Schedule,
    batch: Batch,
    range_us: tuple[int, int],
    as_of_us: int,
    rules: Rules,
    first: int = 0,
    whole: bool = False,
) -> Iterator[Reading]:
    """Yield the same of one batch; `first` is the index of its first store."""
    from_us, to_us = polls_range(*range_us, as_of_us, rules)
    size = max(1, _STORE_DAYS * DAY_US // (range_us[1] - range_us[0] + DAY_US))
    for at in range(0, max(len(batch.number), 1), size):
        some = batch if size >= len(batch.number) else batch.slice(at, at + size)
        reading = read_batch(connection, schedule, some, from_us, to_us, rules, first + at)
        yield from _halves(connection, schedule, reading, rules) if whole else [reading]


def _halves(connection: Connection, schedule: Schedule, reading: Reading, rules: Rules) -> Iterator[Reading]:
    """Yield the reading, or those of fewer stores where polls of it were left out."""
    if reading.polls.weight is None or len(reading) < 2:
        yield reading
        return
    middle, first = len(reading) // 2, reading.first
    for begin, stop in ((0, middle), (middle, len(reading))):
        half = reading.batch.slice(begin, stop)
        read = read_batch(connection, schedule, half, reading.from_us, reading.to_us, rules, first + begin)
        yield from _halves(connection, schedule, read, rules)


def read_batch(
    connection: Connection,
    schedule: Schedule,
    batch: Batch,
    from_us: int,
    to_us: int,
    rules: Rules,
    first: int = 0,
) -> Reading:
    """Return what is known of some of the schedule's stores from `from_us` up to `to_us`."""
    batch_polls, count, newest_us = read_polls(connection, schedule, batch, from_us, to_us, rules)
    opened = schedule.openings(batch, from_us, to_us)
    return Reading(
        first, batch, from_us, to_us, opened, batch_polls, evidence.gather(batch_polls, opened, rules), count, newest_us
    )


def read_polls(
    connection: Connection, schedule: Schedule, batch: Batch, from_us: int, to_us: int, rules: Rules
) -> tuple[Polls, int, Ints]:
    """Return the polls, or of many those that `evidence.thin_out` leaves; how many there are; each store's newest."""
    batches = polls.read_in_batches(connection, batch.number, max(from_us, 0), to_us, _POLLS_AT_ONCE)
    batch_polls, following = next(batches), next(batches, None)
    count, newest_us = len(batch_polls), _newest(batch_polls, len(batch.number))
    if following is None:
        return batch_polls, count, newest_us
    opened = schedule.openings(batch, from_us, to_us)
    thinned = [evidence.thin_out(batch_polls, opened, rules, to_us - WEEK_US)]
    for some in chain([following], batches):
        count += len(some)
        newest_us = np.maximum(newest_us, _newest(some, len(batch.number)))
        thinned.append(evidence.thin_out(some, opened, rules, to_us - WEEK_US))
    return _join(thinned), count, newest_us


def last_polls(connection: Connection, reading: Reading, as_of_us: int) -> Ints:
    """Return each store's newest poll up to the as-of, which may lie before those that were read; -1 for never."""
    last = reading.newest_us.copy()
    number = reading.batch.number
    missing = np.flatnonzero(last < 0)
    if len(missing):
        first_poll, last_poll = stores.poll_span(connection, number[missing])
        last[missing] = np.where(last_poll <= as_of_us, last_poll, -1)
        # Polls of before a prune are not read either.
        before_us = min(max(reading.from_us, reading.polls.complete_from_us), as_of_us + 1)
        older = missing[(first_poll >= 0) & (first_poll < before_us) & (last_poll > as_of_us)]
        last[older] = polls.newest_up_to(connection, number[older], before_us - 1)
    return last


def _newest(batch_polls: Polls, size: int) -> Ints:
    newest_us = np.full(size, -1, dtype=np.int64)
    edges = np.searchsorted(batch_polls.store, np.arange(size + 1))
    here = np.flatnonzero(edges[1:] > edges[:-1])
    newest_us[here] = batch_polls.instant_us[edges[here + 1] - 1]
    return newest_us


def _join(batches: list[Polls]) -> Polls:
    """Return the polls of batches with weights as one, by store, then time."""
    store, instant_us, active = (
        np.concatenate([getattr(batch, name) for batch in batches]) for name in ("store", "instant_us", "active")
    )
    weight = np.concatenate([batch.weight for batch in batches if batch.weight is not None])
    order = np.lexsort((instant_us, store))
    return Polls(store[order], instant_us[order], active[order], batches[0].complete_from_us, weight[order])
