"""When stores are open, kept ready: stores, hours, zones and openings change rarely, polls come every hour."""

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from storemon_flask.core import report as calculation
from storemon_flask.core.openings import Openings
from storemon_flask.model import DAY_US, Fleet, Hours, Ints, Rules
from storemon_flask.services import report_text
from storemon_flask.services.report_text import StoreColumns
from storemon_flask.storage import stores
from storemon_flask.storage.db import Database
from storemon_flask.storage.stores import StoreRows

# Parts of this many stores keep the memory of a report flat and its arrays in the processor's cache.
STORES_PER_PART: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the stores: their numbers ascending, and hours and zones by place among them."""

    number: Ints
    hours: Hours
    zone_of: Ints


@dataclass(slots=True)
class Schedule:
    """The stores of a report, in parts, with the openings worked out last."""

    parts: list[Part]
    zone_names: tuple[str, ...]
    zone_of_store: list[str]
    ids: list[str]
    groups: list[str]
    columns: StoreColumns
    _opened: dict[int, tuple[tuple[object, ...], Openings]] = field(default_factory=dict)

    def openings(self, part: Part, fleet: Fleet, as_of_us: int, rules: Rules) -> Openings:
        """The part's openings for a report at `as_of_us`: the last ones, if that was on the same day."""
        key = (as_of_us // DAY_US, calculation.evidence_from(as_of_us, rules) // DAY_US)
        known = self._opened.get(id(part))
        if known is None or known[0] != key:
            known = (key, calculation.openings_for(fleet, as_of_us, rules))
            self._opened[id(part)] = known
        return known[1]


_kept: "WeakKeyDictionary[Database, tuple[tuple[object, ...], Schedule]]" = WeakKeyDictionary()
_lock = threading.Lock()


def of(
    database: Database, connection: sqlite3.Connection, default_zone: str, store_ids: Sequence[str] | None
) -> Schedule:
    """The schedule as the connection's transaction sees it; that of all stores is kept until it changes."""
    if store_ids is not None:
        found, _ = stores.rows_of(connection, store_ids)
        return _read(connection, found, default_zone)
    key = (database.identity(), stores.schedule_version(connection), default_zone)
    with _lock:
        kept = _kept.get(database)
        if kept is None or kept[0] != key:
            kept = (key, _read(connection, stores.all_rows(connection), default_zone))
            _kept[database] = kept
        return kept[1]


def _read(connection: sqlite3.Connection, rows: StoreRows, default_zone: str) -> Schedule:
    number = rows.number
    # Without a store there is still one part, an empty one, and so a report of no rows.
    first, last = (int(number[0]), int(number[-1])) if len(number) else (0, -1)
    zones = stores.zones(connection, first, last)
    zone_of_store = [zones.get(store, default_zone) for store in number.tolist()]
    names = tuple(sorted(set(zone_of_store)))
    index = {name: place for place, name in enumerate(names)}
    zone_of = np.array([index[name] for name in zone_of_store], dtype=np.int64)
    parts = []
    for at in range(0, max(len(number), 1), STORES_PER_PART):
        mine = number[at : at + STORES_PER_PART]
        hours = stores.hours(connection, *((int(mine[0]), int(mine[-1])) if len(mine) else (first, last)))
        place = np.searchsorted(mine, hours.store)
        wanted = np.isin(hours.store, mine)
        own = Hours(place[wanted], hours.day[wanted], hours.start_s[wanted], hours.end_s[wanted])
        parts.append(Part(mine, own, zone_of[at : at + STORES_PER_PART]))
    columns = report_text.store_columns(rows.ids, zone_of_store, rows.names, rows.groups)
    return Schedule(parts, names, zone_of_store, rows.ids, rows.groups, columns)
