"""When stores are open, kept ready: stores, hours, zones and openings change rarely, polls come every hour."""

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from storemon_flask.database import hours as opening_hours
from storemon_flask.database import stores
from storemon_flask.database.connections import Database
from storemon_flask.database.stores import StoreRows
from storemon_flask.model import DAY_US, Fleet, Hours, Ints, Polls, Rules, SpecialHours
from storemon_flask.uptime import measures as calculation
from storemon_flask.uptime import zones as zone_histories
from storemon_flask.uptime.openings import Openings

# Parts of this many stores keep the memory of a report flat and its arrays in the processor's cache.
STORES_PER_PART: Final = 4096
_EVER_US: Final = 1 << 62
_NOTHING: Final = np.empty(0, dtype=np.int64)
# Openings do not depend on polls.
NO_POLLS: Final = Polls(_NOTHING, _NOTHING, _NOTHING.astype(bool))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the stores: their numbers ascending, and hours and zones by place among them."""

    number: Ints
    hours: Hours
    special: SpecialHours
    zone_of: Ints

    def some(self, first: int, stop: int) -> "Part":
        """Those from place `first` up to `stop`."""
        return Part(
            self.number[first:stop], self.hours.of(first, stop), self.special.of(first, stop), self.zone_of[first:stop]
        )

    def picked(self, places: Ints) -> "Part":
        """Those at the ascending places."""
        return Part(
            self.number[places],
            Hours(*_by_place(places, self.hours)),
            SpecialHours(*_by_place(places, self.special)),
            self.zone_of[places],
        )


@dataclass(slots=True)
class Schedule:
    """The stores of a report, in parts, with the openings worked out last.

    `zone_names` are names or histories (`core.zones`); `zone_of_store` has the names at the as-of, the
    same at every as-of in `[since_us, until_us)`.
    """

    parts: list[Part]
    zone_names: tuple[str, ...]
    since_us: int
    until_us: int
    zone_of_store: list[str]
    ids: list[str]
    names: list[str]
    groups: list[str]
    # What is made of the texts above when it is first asked for, such as orders of the stores.
    kept: dict[object, object] = field(default_factory=dict)
    _opened: dict[int, tuple[tuple[object, ...], Openings]] = field(default_factory=dict)

    def fleet(self, part: Part, polls: Polls, last_poll_us: Ints) -> Fleet:
        """The part's stores as the calculation takes them."""
        return Fleet(len(part.number), polls, part.hours, part.zone_of, self.zone_names, last_poll_us, part.special)

    def openings(self, part: Part, as_of_us: int, rules: Rules) -> Openings:
        """The part's openings for a report at `as_of_us`: the last ones, if that was on the same day."""
        key = (as_of_us // DAY_US, calculation.evidence_from(as_of_us, rules) // DAY_US)
        known = self._opened.get(id(part))
        if known is None or known[0] != key:
            known = (key, calculation.openings_for(self.fleet(part, NO_POLLS, _NOTHING), as_of_us, rules))
            self._opened[id(part)] = known
        return known[1]

    def picked(self, places: Ints) -> Part:
        """The stores at those ascending places, over all parts, as one part."""
        mine = [places[(places >= at) & (places < at + STORES_PER_PART)] - at for at in self._begins()]
        some = [(part, here) for part, here in zip(self.parts, mine, strict=True) if len(here)]
        offset = np.cumsum([0, *(len(here) for _, here in some)]).tolist()

        def joined(name: str) -> list[Ints]:
            columns = [_by_place(here, getattr(part, name)) for part, here in some]
            for begun, (store, *_) in zip(offset, columns, strict=False):
                store += begun
            return [np.concatenate(pieces) for pieces in zip(*columns, strict=True)]

        return Part(
            np.concatenate([part.number[here] for part, here in some]),
            Hours(*joined("hours")),
            SpecialHours(*joined("special")),
            np.concatenate([part.zone_of[here] for part, here in some]),
        )

    def _begins(self) -> list[int]:
        return [at * STORES_PER_PART for at in range(len(self.parts))]


_kept: "WeakKeyDictionary[Database, tuple[tuple[object, ...], Schedule]]" = WeakKeyDictionary()
_lock = threading.Lock()


def of(
    database: Database,
    connection: sqlite3.Connection,
    default_zone: str,
    store_ids: Sequence[str] | None,
    as_of_us: int,
) -> Schedule:
    """The schedule as the connection's transaction sees it; that of all stores is kept until it changes."""
    if store_ids is not None:
        found, _ = stores.rows_of(connection, store_ids)
        return _read(connection, found, default_zone, as_of_us)
    key = (database.identity(), stores.schedule_version(connection), default_zone)
    with _lock:
        kept = _kept.get(database)
        if kept is None or kept[0] != key or not kept[1].since_us <= as_of_us < kept[1].until_us:
            kept = (key, _read(connection, stores.all_rows(connection), default_zone, as_of_us))
            _kept[database] = kept
        return kept[1]


def _read(connection: sqlite3.Connection, rows: StoreRows, default_zone: str, as_of_us: int) -> Schedule:
    number = rows.number
    # Without a store there is still one part, an empty one, and so a report of no rows.
    first, last = (int(number[0]), int(number[-1])) if len(number) else (0, -1)
    said = opening_hours.zones(connection, first, last)
    histories = [zone_histories.history(default_zone, said.get(store, ())) for store in number.tolist()]
    names = tuple(sorted(set(histories)))
    index = {name: place for place, name in enumerate(names)}
    now = [zone_histories.name_at(name, as_of_us) for name in names]
    zone_of = np.array([index[name] for name in histories], dtype=np.int64)
    parts = []
    for at in range(0, max(len(number), 1), STORES_PER_PART):
        mine = number[at : at + STORES_PER_PART]
        span = (int(mine[0]), int(mine[-1])) if len(mine) else (first, last)
        weekly = Hours(*_by_place(mine, opening_hours.hours(connection, *span)))
        special = SpecialHours(*_by_place(mine, opening_hours.special_hours(connection, *span)))
        parts.append(Part(mine, weekly, special, zone_of[at : at + STORES_PER_PART]))
    zone_of_store = [now[place] for place in zone_of.tolist()]
    turns = [turn for name in names for turn in zone_histories.turns(name)]
    return Schedule(
        parts,
        names,
        max((turn for turn in turns if turn <= as_of_us), default=-_EVER_US),
        min((turn for turn in turns if turn > as_of_us), default=_EVER_US),
        zone_of_store,
        rows.ids,
        rows.names,
        rows.groups,
    )


def _by_place(number: Ints, rows: Hours | SpecialHours) -> list[Ints]:
    """The columns of the rows of these stores, each with the store's place in `number` instead of its number."""
    wanted = np.isin(rows.store, number)
    store, *columns = (getattr(rows, name)[wanted] for name in rows.__slots__)
    return [np.searchsorted(number, store), *columns]
