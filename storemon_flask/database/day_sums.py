"""Sums of local days as they are kept: one row per block of days and store. All of it may be dropped at any time.

Nothing here is computed. `reports.day_sums` says which days are over; this module keeps their sums, and every change of
polls goes through it (`LatePolls`, `drop_week`), as they are written in `database.polls` alone. What else the sums
follow from is in each row's `basis` (`uptime.basis`), which is compared when it is read.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from storemon_flask.database.connections import Connection, Database
from storemon_flask.errors import DatabaseError
from storemon_flask.model import DAY_US, WEEK_US, Bools, Ints

# Days of a block, counted from 1970: the bits of `days`.
BLOCK_DAYS: Final = 32
# What a row has for each day. Business is the sum of the first three.
KEPT: Final = ("uptime", "downtime", "unknown", "measured", "uptime_low", "uptime_high")
# A value has five bytes: 2^40 microseconds are 12 days, and no local day is longer than two.
_LOWER_BITS: Final = 32
_LOWER: Final = (1 << _LOWER_BITS) - 1
_DAY_BYTES: Final = 5 * len(KEPT)
_LONGEST_DAY_US: Final = 3 * DAY_US
# Dates around an instant, in any zone.
_ZONE_DAYS: Final = 2
_FEW_STORES: Final = 64
# So many rows are written in some hundredths of a second.
_ROWS_AT_ONCE: Final = 4096
_UPSERT: Final = (
    "INSERT INTO day_sum (block, store, basis, days, sums) VALUES (?, ?, ?, ?, ?) ON CONFLICT (block, store) "
    "DO UPDATE SET basis = excluded.basis, days = excluded.days, sums = excluded.sums"
)


@dataclass(frozen=True, slots=True)
class State:
    """Up to when polls are expected to be there: a change of earlier ones drops sums and changes the `token`.

    `margin_us` is how far from its instant such a poll can matter.
    """

    settled_us: int
    margin_us: int
    token: int


@dataclass(frozen=True, slots=True)
class BlockRows:
    """Rows of one block that have the same days: the stores' indexes, ascending, the bits of the days, and the packed
    sums of each store."""

    store: Ints
    days: int
    packed: list[bytes]


def read_state(connection: Connection) -> State:
    """Return what is expected of loads."""
    return State(*connection.execute("SELECT settled_us, margin_us, token FROM day_sum_state").fetchone())


def settle(database: Database, before: State, version: int, settled_us: int, margin_us: int) -> State:
    """Return the state with polls up to `settled_us` expected to be there, from now on for every load.

    `before` and `version` (of the data) are of the caller's transaction: where loads came in between, or the database
    cannot be written now, `before` stays what the caller may rely on.
    """
    if before.settled_us >= settled_us and before.margin_us >= margin_us:
        return before
    after = before
    try:
        with database.write_if_free() as connection:
            if connection is not None:
                connection.execute(
                    "UPDATE day_sum_state SET settled_us = max(settled_us, ?), margin_us = max(margin_us, ?)",
                    (settled_us, margin_us),
                )
                (version_now,) = connection.execute("SELECT version FROM data_version").fetchone()
                if version_now == version:
                    after = read_state(connection)
    except DatabaseError:
        return before
    return after


def read_block(connection: Connection, block: int, number: Ints, basis: Ints) -> list[BlockRows]:
    """Return the rows of the stores `number` (ascending) in a block that have the `basis` of the store."""
    select = "SELECT store, basis, days, sums FROM day_sum WHERE block = ? AND store"
    if len(number) <= _FEW_STORES:
        rows = [row for one in number.tolist() for row in connection.execute(f"{select} = ?", (block, one))]
    else:
        span = (block, int(number[0]), int(number[-1]))
        rows = connection.execute(f"{select} BETWEEN ? AND ? ORDER BY store", span).fetchall()
    expected = {
        store: (index, own) for index, (store, own) in enumerate(zip(number.tolist(), basis.tolist(), strict=True))
    }
    of_days: dict[int, tuple[list[int], list[bytes]]] = {}
    for store, own_basis, days, packed in rows:
        index, valid_basis = expected.get(store, (0, None))
        if own_basis == valid_basis and len(packed) == days.bit_count() * _DAY_BYTES:
            indexes, blobs = of_days.setdefault(days, ([], []))
            indexes.append(index)
            blobs.append(packed)
    return [BlockRows(np.array(indexes), days, blobs) for days, (indexes, blobs) in of_days.items()]


def write_block(
    database: Database, state: State, block: int, number: Ints, basis: Ints, rows: Sequence[BlockRows]
) -> bool:
    """Keep the rows; return whether that was possible: not while another writes, nor once sums were dropped.

    `state` is that of the transaction in which the polls were read.
    """
    columns = sorted(
        (block, store, own_basis, some.days, packed)
        for some in rows
        for store, own_basis, packed in zip(
            number[some.store].tolist(), basis[some.store].tolist(), some.packed, strict=True
        )
    )
    return all(
        _write(database, state, columns[at : at + _ROWS_AT_ONCE]) for at in range(0, len(columns), _ROWS_AT_ONCE)
    )


def _write(database: Database, state: State, rows: list[tuple[int, int, int, int, bytes]]) -> bool:
    try:
        with database.write_if_free() as connection:
            if connection is None or read_state(connection).token != state.token:
                return False
            connection.executemany(_UPSERT, rows)
    except DatabaseError:
        # What would make the next report faster is no reason for this one to fail.
        return False
    return True


@dataclass(slots=True)
class LatePolls:
    """Polls of a load that are added or changed in time that was settled: the days around them are dropped."""

    state: State
    _touched: dict[int, list[Ints]] = field(default_factory=dict)

    @classmethod
    def of(cls, connection: Connection) -> "LatePolls":
        """Return none so far, of a load in this transaction."""
        return cls(read_state(connection))

    def is_late(self, first_us: int) -> bool:
        """Return whether polls from that time on can be among those that were expected to be there."""
        return first_us < self.state.settled_us

    def add(self, store: Ints, instant_us: Ints) -> None:
        """Add polls that are new, changed or taken out, by store number."""
        late = np.flatnonzero(instant_us < self.state.settled_us)
        if not len(late):
            return
        store, instant_us = store[late], instant_us[late]
        first, last = (_block_around(instant_us, self.state.margin_us, side) for side in (-1, 1))
        for block in range(int(first.min()), int(last.max()) + 1):
            touched = np.unique(store[(first <= block) & (block <= last)])
            if len(touched):
                self._touched.setdefault(block, []).append(touched)

    def drop(self, connection: Connection) -> None:
        """Drop the sums that these polls may change."""
        for block, touched in self._touched.items():
            if connection.execute("SELECT 1 FROM day_sum WHERE block = ? LIMIT 1", [block]).fetchone():
                numbers = np.unique(np.concatenate(touched)).tolist()
                connection.executemany(
                    "DELETE FROM day_sum WHERE block = ? AND store = ?", ((block, number) for number in numbers)
                )
        if self._touched:
            _renew_token(connection)


def drop_week(connection: Connection, week: int, number: Ints) -> None:
    """Drop the sums that any polls of a week of these stores may change."""
    late = LatePolls.of(connection)
    if late.is_late(week * WEEK_US):
        ends = np.array([week * WEEK_US, min((week + 1) * WEEK_US, late.state.settled_us) - 1])
        late.add(np.repeat(number, 2), np.tile(ends, len(number)))
        late.drop(connection)


def drop_stores(connection: Connection, numbers: Iterable[int]) -> None:
    """Drop all sums of stores."""
    connection.execute(
        "DELETE FROM day_sum WHERE store IN (SELECT value FROM json_each(?))", [json.dumps(list(numbers))]
    )
    _renew_token(connection)


def drop_all(connection: Connection) -> None:
    """Drop all sums, and expect nothing of loads until days are asked for again."""
    connection.execute("DELETE FROM day_sum")
    connection.execute("UPDATE day_sum_state SET settled_us = 0, margin_us = 0")
    _renew_token(connection)


def check(connection: Connection, report_problem: Callable[[str], None]) -> int:
    """Report rows that cannot be sums of days; return how many rows there are."""
    count = 0
    rows = connection.execute("SELECT block, store, days, sums FROM day_sum ORDER BY block, store")
    while some := rows.fetchmany(_ROWS_AT_ONCE):
        for block, store, days, packed in some:
            fault = _fault(days, packed)
            if fault:
                report_problem(f"block {block} of store number {store} {fault}; `DELETE FROM day_sum` loses nothing")
        count += len(some)
    return count


def _fault(days: int, packed: bytes) -> str | None:
    if len(packed) != days.bit_count() * _DAY_BYTES:
        return f"has {len(packed)} bytes for {days.bit_count()} days"
    uptime, downtime, unknown, measured, low, high = unpack([packed], KEPT).values()
    business = uptime + downtime + unknown
    wrong = (business > _LONGEST_DAY_US) | (measured > business) | (low > uptime) | (uptime > high) | (high > business)
    return "has sums that no day can have" if wrong.any() else None


def _renew_token(connection: Connection) -> None:
    connection.execute("UPDATE day_sum_state SET token = random()")


def _block_around(instant_us: Ints, margin_us: int, side: int) -> Ints:
    """Return the block of the first or last local date in any zone that a poll can matter to."""
    block: Ints = ((instant_us + side * margin_us) // DAY_US + side * _ZONE_DAYS) // BLOCK_DAYS
    return block


def pack_days(days: Bools) -> Ints:
    """Return the bits of each row of days."""
    mask: Ints = days.astype(np.int64) @ (1 << np.arange(BLOCK_DAYS, dtype=np.int64))
    return mask


def unpack_days(days: int) -> Ints:
    """Return the days of a block whose bits are set."""
    return np.flatnonzero(days >> np.arange(BLOCK_DAYS, dtype=np.int64) & 1)


def pack(values: Ints) -> list[bytes]:
    """Return stores' sums, by store, name in `KEPT` and day, packed: the lower four bytes of each, then the fifth."""
    flat = values.reshape(len(values), -1)
    lower = np.ascontiguousarray(flat & _LOWER, dtype="<u4").view(np.uint8)
    octets = np.concatenate([lower, (flat >> _LOWER_BITS).astype(np.uint8)], axis=1)
    return [row.tobytes() for row in octets]


def unpack(packed: Sequence[bytes], names: Sequence[str]) -> dict[str, Ints]:
    """Return some of `KEPT` by store and day, of packed sums of equally many days."""
    octets = np.frombuffer(b"".join(packed), dtype=np.uint8).reshape(len(packed), -1)
    days = octets.shape[1] // _DAY_BYTES
    lower, upper = octets[:, : 4 * len(KEPT) * days].view("<u4"), octets[:, 4 * len(KEPT) * days :]
    sums: dict[str, Ints] = {}
    for name in names:
        columns = slice(KEPT.index(name) * days, (KEPT.index(name) + 1) * days)
        sums[name] = lower[:, columns].astype(np.int64) | upper[:, columns].astype(np.int64) << _LOWER_BITS
    return sums
