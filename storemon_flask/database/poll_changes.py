"""What loads did to polls, as arrays: the format in which that is kept, and taking it back.

Keys are those of `database.polls`: store << 41 | (time within its week) << 1 | active, where the store is an index in
some list of store numbers. A moment is a key without its last bit.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.errors import DatabaseError
from storemon_flask.model import Bools, Ints

# A week is less than 2^40 microseconds. That leaves 22 bits for the stores of one file.
STORE_SHIFT: Final = 41
MOST_STORES: Final = 1 << 22
IN_WEEK: Final = (1 << STORE_SHIFT) - 1
# What a poll can be; the others are 1 + active.
ABSENT: Final = 0
_MOST_STATE: Final = 2
# What a load brought of a store's week: all that the week had after it, where it had nothing before; all it had after
# it; or some of that. Of the first nothing else is kept, of the second only what it changed, of the third every poll.
FIRST, ALL, SOME = 0, 1, 2
_UNTOUCHED: Final = -1
_TIME_SHIFT: Final = 4
_MOMENT_TIME: Final = (1 << (STORE_SHIFT - 1)) - 1
_NONE: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class PollChanges:
    """What became of the polls of the stores `number` in one week, and which scope the load had for each.

    Then one value for each poll that is kept: its store (ascending indexes in `number`), its time within the week,
    and what it was before and after.
    """

    number: Ints
    scope: Ints
    store: Ints
    time: Ints
    before: Ints
    after: Ints


@dataclass(frozen=True, slots=True)
class Altered:
    """Polls that a load altered: ascending moments, and what each was before and after."""

    moment: Ints
    before: Ints
    after: Ints


@dataclass(frozen=True, slots=True)
class _Local:
    """Changes of those stores among `numbers` that are in them: scopes by index in `numbers`, and polls."""

    scope: Ints
    polls: Altered

    @property
    def needs_history(self) -> bool:
        """Whether it takes the polls of then to know what the load brought."""
        return bool(((self.scope == FIRST) | (self.scope == ALL)).any())


def changes_of_merge(keys: Ints, begins: Ints, before: Ints, stored: Ints, number: Ints) -> PollChanges:
    """Return what a load does that brings `keys`, ascending, where `stored` is stored and `before` for each of them.

    `begins` is where the keys of each store begin.
    """
    present = keys[begins] >> STORE_SHIFT
    if not len(stored):
        return PollChanges(number[present], np.zeros(len(present), dtype=np.int64), _NONE, _NONE, _NONE, _NONE)
    known_count = np.add.reduceat((before != ABSENT).astype(np.int64), begins)
    stored_index = stored >> STORE_SHIFT
    stored_count = np.searchsorted(stored_index, present, "right") - np.searchsorted(stored_index, present)
    scope = np.where(stored_count == 0, FIRST, np.where(known_count == stored_count, ALL, SOME))
    position = np.repeat(np.arange(len(present)), np.diff(begins, append=len(keys)))
    after = 1 + (keys & 1)
    is_recorded = (scope[position] == SOME) | ((scope[position] == ALL) & (before != after))
    return PollChanges(
        number[present],
        scope,
        position[is_recorded],
        (keys[is_recorded] & IN_WEEK) >> 1,
        before[is_recorded],
        after[is_recorded],
    )


def difference(old: Ints, new: Ints, number: Ints) -> PollChanges:
    """Return the changes from keys to other keys, both ascending."""
    moments = union(old >> 1, new >> 1)
    before, after = _states(old, moments), _states(new, moments)
    moments, before, after = (values[before != after] for values in (moments, before, after))
    store = moments >> (STORE_SHIFT - 1)
    begins = np.flatnonzero(np.diff(store, prepend=-1))
    present, position = store[begins], np.repeat(np.arange(len(begins)), np.diff(begins, append=len(store)))
    scope = np.full(len(present), SOME)
    return PollChanges(number[present], scope, position, moments & _MOMENT_TIME, before, after)


def pack(changes: PollChanges) -> bytes:
    """Return the changes as bytes."""
    counts = np.bincount(changes.store, minlength=len(changes.number))
    polls = (changes.time << _TIME_SHIFT) | (changes.before << 2) | changes.after
    head = np.array([len(changes.number)])
    whole = np.concatenate([head, np.diff(changes.number, prepend=0), changes.scope, counts, polls])
    return zlib.compress(whole.astype("<i8").tobytes(), 1)


def unpack(packed: bytes) -> PollChanges:
    """Return what was packed; `DatabaseError` when it is not what `pack` makes."""
    try:
        whole = np.frombuffer(zlib.decompress(packed), dtype="<i8").astype(np.int64)
        size = int(whole[0])
        number, scope, counts = whole[1 : 1 + 3 * size].reshape(3, size)
        polls = whole[1 + 3 * size :]
        store = np.repeat(np.arange(size), counts)
        changes = PollChanges(np.cumsum(number), scope.copy(), store, polls >> _TIME_SHIFT, (polls >> 2) & 3, polls & 3)
        whole_at = len(store) == len(polls) and len(np.unique(changes.number)) == size
    except (zlib.error, ValueError, IndexError) as error:
        raise DatabaseError(f"what is kept for undoing a load is not what was written: {error}") from error
    states = (changes.before <= _MOST_STATE).all() and (changes.after <= _MOST_STATE).all()
    if not (whole_at and states and ((scope >= FIRST) & (scope <= SOME)).all() and (changes.number > 0).all()):
        raise DatabaseError("what is kept for undoing a load is not what was written")
    return changes


class History:
    """The polls of some stores in one week, walked back from now, load by load, the newest first."""

    def __init__(self, keys: Ints, numbers: Ints) -> None:
        """`keys` are those of now; their stores are indexes in `numbers`, which ascend."""
        self._keys = keys
        self._numbers = numbers
        self._waiting: list[Altered] = []

    def take_back(self, changes: PollChanges) -> tuple[Ints, Altered]:
        """Go back to before those changes; return the moments that they touched, and what they altered."""
        local = self._local(changes)
        if not local.needs_history:
            altered = _only_altered(local.polls)
            self._wait(altered)
            return local.polls.moment, altered
        self._settle()
        scope = local.scope[self._keys >> STORE_SHIFT]
        of_all = self._keys[(scope == FIRST) | (scope == ALL)] >> 1
        first = self._keys[scope == FIRST]
        added = Altered(first >> 1, np.full(len(first), ABSENT), 1 + (first & 1))
        altered = _joined([added, _only_altered(local.polls)])
        self._wait(altered)
        return union(of_all, local.polls.moment), altered

    def _wait(self, altered: Altered) -> None:
        if len(altered.moment):
            self._waiting.append(altered)

    def _settle(self) -> None:
        if self._waiting:
            self._keys = revert(self._keys, _composed(self._waiting))
            self._waiting = []

    def _local(self, changes: PollChanges) -> _Local:
        at = np.minimum(np.searchsorted(self._numbers, changes.number), len(self._numbers) - 1)
        index = np.where(self._numbers[at] == changes.number, at, -1)
        scope = np.full(len(self._numbers), _UNTOUCHED)
        scope[index[index >= 0]] = changes.scope[index >= 0]
        store = index[changes.store]
        is_local = store >= 0
        moment = (store[is_local] << (STORE_SHIFT - 1)) | changes.time[is_local]
        order = np.argsort(moment, kind="stable")
        polls = Altered(moment[order], changes.before[is_local][order], changes.after[is_local][order])
        return _Local(scope, polls)


def revert(keys: Ints, altered: Altered, first_time: int = 0) -> Ints:
    """Return the keys as they were before. A poll that is not there any more, because it was pruned, does not return;
    nor does one that the load took out and that is earlier in the week than `first_time`.
    """
    if not len(altered.moment):
        return keys
    moments = keys >> 1
    at = np.minimum(np.searchsorted(altered.moment, moments), len(altered.moment) - 1)
    untouched = keys[altered.moment[at] != moments]
    removed = (altered.after == ABSENT) & ((altered.moment & _MOMENT_TIME) >= first_time)
    back = (altered.before != ABSENT) & (removed | is_in(altered.moment, moments))
    return np.sort(np.concatenate([untouched, (altered.moment[back] << 1) | (altered.before[back] - 1)]))


def union(one: Ints, other: Ints) -> Ints:
    """Return the distinct values of both, ascending. `numpy.union1d` hashes, and is slow where low bits are alike."""
    ascending = np.sort(np.concatenate([one, other]))
    distinct: Ints = ascending[np.diff(ascending, prepend=-1) != 0]
    return distinct


def is_in(values: Ints, ascending: Ints) -> Bools:
    """Return which of the values are among those."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    is_member: Bools = ascending[at] == values
    return is_member


def _states(keys: Ints, moments: Ints) -> Ints:
    """Return what each of the moments is in those keys."""
    states = np.full(len(moments), ABSENT)
    states[np.searchsorted(moments, keys >> 1)] = 1 + (keys & 1)
    return states


def _only_altered(polls: Altered) -> Altered:
    rows = polls.before != polls.after
    return Altered(polls.moment[rows], polls.before[rows], polls.after[rows])


def _joined(parts: Iterable[Altered]) -> Altered:
    """Return the parts, which have no moment in common, as one."""
    moment, before, after = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("moment", "before", "after")
    )
    order = np.argsort(moment, kind="stable")
    return Altered(moment[order], before[order], after[order])


def _composed(parts: list[Altered]) -> Altered:
    """Return what the parts, the newest first, altered together: from before the oldest to after the newest."""
    if len(parts) == 1:
        return parts[0]
    moment, before, after = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("moment", "before", "after")
    )
    order = np.argsort(moment, kind="stable")
    moment, before, after = moment[order], before[order], after[order]
    newest = np.flatnonzero(np.diff(moment, prepend=-1))
    oldest = np.append(newest[1:], len(moment)) - 1
    return Altered(moment[newest], before[oldest], after[newest])
