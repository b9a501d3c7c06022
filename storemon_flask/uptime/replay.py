"""The status and conditions of stores at any instant of a span of the past, from polls that are read once.

What a poll decides reaches back to the poll before it, never to a later one; so the evidence of all polls, cut at an
instant, is the evidence of that instant, but for the end of the time that its newest poll decides. Each instant costs
some steps for each store, however many polls there are: thousands of instants can be looked at one after the other.
"""

from typing import Final

import numpy as np

from storemon_flask.model import Bools, Ints, Polls, Rules
from storemon_flask.uptime.conditions import CHANGES_US
from storemon_flask.uptime.evidence import Evidence, gather
from storemon_flask.uptime.openings import Openings
from storemon_flask.uptime.status import STATUSES, up_known_from
from storemon_flask.uptime.timeline import find_runs, may_start_earlier

_NO_DATA, _CLOSED, _UP, _DOWN, _WAITING, _STALE = range(len(STATUSES))
_NEVER: Final = -1


class _Newest:
    """The newest of each store's rows up to an instant that moves on; -1 for none."""

    def __init__(self, size: int, store: Ints, instant_us: Ints) -> None:
        self._order = np.argsort(instant_us, kind="stable")
        self._store, self._instant_us = store[self._order], instant_us[self._order]
        self.row = np.full(size, -1, dtype=np.int64)
        self._done = 0

    def move_to(self, as_of_us: int) -> None:
        """Look at rows up to that instant; earlier ones than at the last look begin anew."""
        stop = int(np.searchsorted(self._instant_us, as_of_us, side="right"))
        if stop < self._done:
            self.row[:] = -1
            self._done = 0
        # Of equal stores the last one stays, which is the newest.
        self.row[self._store[self._done : stop]] = self._order[self._done : stop]
        self._done = stop


class Replay:
    """Stores whose polls from `read_from_us` on were read; `at` says what a snapshot of then would have said."""

    def __init__(self, size: int, openings: Openings, polls: Polls, rules: Rules, read_from_us: int) -> None:
        self._rules, self._read_from_us = rules, read_from_us
        evidence = gather(polls, openings, rules)
        self._poll_us = _padded(polls.instant_us)
        self._last_poll = _Newest(size, polls.store, polls.instant_us)
        self._newest = _Newest(size, evidence.store, evidence.instant_us)
        self._opening = _Newest(size, openings.store, openings.start_us)
        # A row of no store at the end of each column: index -1 finds it.
        self._start_us, self._end_us = _padded(openings.start_us), _padded(openings.end_us)
        self._business_us = np.concatenate([[0], np.cumsum(openings.end_us - openings.start_us)])
        self._store, self._of_opening = _padded(evidence.store), _padded(evidence.opening, -2)
        self._instant_us, self._active = _padded(evidence.instant_us), np.append(evidence.active, False)
        self._left_us, self._right_us = _padded(evidence.left_us), _padded(evidence.right_us)
        self._note_runs(openings, evidence)
        self._note_changes(size, evidence)

    def _note_runs(self, openings: Openings, evidence: Evidence) -> None:
        """Find for each poll its runs and what its opening's polls up to it are."""
        count = len(evidence)
        rows = np.arange(count)
        opening, active = evidence.opening, evidence.active
        new_opening = np.ones(count, dtype=bool)
        new_opening[1:] = opening[1:] != opening[:-1]
        self._first = _padded(_last_where(new_opening))
        breaks = new_opening.copy()
        breaks[1:] |= (active[1:] != active[:-1]) | (evidence.right_us[:-1] != evidence.left_us[1:])
        self._run = _padded(_last_where(breaks))
        last_down = np.maximum.accumulate(np.where(active, -1, rows)) if count else rows
        self._last_down = _padded(np.where(last_down >= self._first[:-1], last_down, -1))
        next_up = np.minimum.accumulate(np.where(active, rows, count)[::-1])[::-1] if count else rows
        self._first_up = _padded(next_up[self._first[:-1]] if count else rows)
        weight = np.ones(count, dtype=np.int64) if evidence.weight is None else evidence.weight
        self._polls_before = np.concatenate([[0], np.cumsum(weight)])
        self._active_before = np.concatenate([[0], np.cumsum(weight * active)])
        whole = find_runs(openings, evidence).start_of(rows) if count else rows
        self._whole_run = _padded(whole)
        may = may_start_earlier(openings, evidence, whole, self._read_from_us, self._rules) if count else whole > 0
        self._may_be_earlier = np.append(may, False)

    def _note_changes(self, size: int, evidence: Evidence) -> None:
        """Find where the status of a store changes, and at how much business time of all stores one after the other."""
        store, active = evidence.store, evidence.active
        row = np.flatnonzero((active[1:] != active[:-1]) & (store[1:] == store[:-1])) + 1
        self._changed_us = _padded(evidence.left_us[row])
        opening = evidence.opening[row]
        self._change_at = self._business_us[opening] + evidence.left_us[row] - self._start_us[opening]
        self._first_change = np.searchsorted(store[row], np.arange(size))
        counted = np.zeros(len(evidence), dtype=np.int64)
        counted[row] = 1
        self._changes_up_to = np.append(np.cumsum(counted), 0)

    def at(self, as_of_us: int) -> dict[str, Ints]:
        """Return `status`, `since`, `since_or_earlier`, `last_poll` and `uptime.conditions.Conditions` by name."""
        for newest in (self._last_poll, self._newest, self._opening):
            newest.move_to(as_of_us)
        opening, row = self._opening.row, self._newest.row
        last_poll_us = np.where(self._last_poll.row < 0, _NEVER, self._poll_us[self._last_poll.row])
        start_us, end_us = self._start_us[opening], self._end_us[opening]
        inside = (opening >= 0) & (self._of_opening[row] == opening)
        status = self._status(as_of_us, last_poll_us, inside)
        columns = {"status": status, "last_poll": last_poll_us}
        columns["since"], earlier = self._since(as_of_us, status, last_poll_us)
        columns["since_or_earlier"] = earlier.astype(np.int64)
        known_start_us = np.where(start_us <= self._read_from_us, 0, start_us)
        columns["opened_us"] = np.where(opening < 0, _NEVER, known_start_us)
        columns["closes_us"] = np.where(opening < 0, _NEVER, end_us)
        first, first_up = self._first[row], self._first_up[row]
        columns["polls"] = np.where(inside, self._polls_before[row + 1] - self._polls_before[first], 0)
        columns["active_polls"] = np.where(inside, self._active_before[row + 1] - self._active_before[first], 0)
        up = inside & (first_up <= row)
        columns["first_up_us"] = np.where(up, self._left_us[np.where(up, first_up, -1)], _NEVER)
        return columns | self._outages(as_of_us, inside, end_us) | self._changes(as_of_us)

    def _status(self, as_of_us: int, last_poll_us: Ints, inside: Bools) -> Ints:
        """Return what `uptime.status.at` does."""
        opening, row = self._opening.row, self._newest.row
        is_open = (opening >= 0) & (as_of_us < self._end_us[opening])
        young = as_of_us - self._start_us[opening] < self._rules.max_gap_us
        fresh = inside & (as_of_us - self._instant_us[row] < self._rules.max_gap_us)
        state = np.where(fresh, np.where(self._active[row], _UP, _DOWN), np.where(young, _WAITING, _STALE))
        return np.where(last_poll_us < 0, _NO_DATA, np.where(is_open, state, _CLOSED)).astype(np.int64)

    def _since(self, as_of_us: int, status: Ints, last_poll_us: Ints) -> tuple[Ints, Bools]:
        """Return what `uptime.status.since` does."""
        opening, row = self._opening.row, self._newest.row
        # An opening that goes on does not say when the one before it ended.
        known = (status == _UP) | (status == _DOWN)
        begun = np.full(len(status), _NEVER, dtype=np.int64)
        closed = (status == _CLOSED) & (opening >= 0)
        for holds, values in (
            (closed, self._end_us[opening]),
            (status == _WAITING, self._start_us[opening]),
            (status == _STALE, last_poll_us),
            (known, self._left_us[self._whole_run[row]]),
        ):
            np.copyto(begun, values, where=holds)
        earlier = known & self._may_be_earlier[row]
        long_up = (status == _UP) & (begun < up_known_from(as_of_us))
        begun[long_up] = up_known_from(as_of_us)
        return begun, earlier | long_up

    def _outages(self, as_of_us: int, inside: Bools, end_us: Ints) -> dict[str, Ints]:
        """Return the columns on the last run of inactive polls of each store's opening."""
        row = self._newest.row
        last = np.where(inside, self._last_down[row], -1)
        shown = last >= 0
        run = np.where(shown, self._run[last], -1)
        ahead_us = self._rules.reach_us if self._rules.method == "nearest" else 2 * self._rules.reach_us
        newest_right_us = np.minimum(end_us, self._instant_us[last] + ahead_us)
        until_us = np.minimum(np.where(last == row, newest_right_us, self._right_us[last]), as_of_us)
        before = np.where(shown, run - 1, -1)
        came = shown & (self._store[before] == self._store[run]) & self._active[before]
        columns = {
            "down_from_us": self._left_us[run],
            "down_until_us": until_us,
            "down_polls": self._polls_before[last + 1] - self._polls_before[run],
            "seen_us": self._instant_us[run],
        }
        columns = {
            name: np.where(shown, values, 0 if name == "down_polls" else _NEVER) for name, values in columns.items()
        }
        return columns | {"last_up_us": np.where(came, self._instant_us[before], _NEVER)}

    def _changes(self, as_of_us: int) -> dict[str, Ints]:
        """Return the columns on changes of status."""
        opening, row = self._opening.row, self._newest.row
        lasted_us = np.minimum(as_of_us, self._end_us[opening]) - self._start_us[opening]
        now_at = self._business_us[opening] + lasted_us
        stop = np.where(row >= 0, self._changes_up_to[row], 0)
        some = np.flatnonzero((opening >= 0) & (stop > self._first_change))
        columns = {name: np.full(len(row), _NEVER) for name in ("changes_from_us", "changed_us", "calm_us")}
        columns["changes"] = np.zeros(len(row), dtype=np.int64)
        last = stop[some] - 1
        calm_us = now_at[some] - self._change_at[last]
        columns["changed_us"][some], columns["calm_us"][some] = self._changed_us[last], calm_us
        recent = calm_us <= CHANGES_US
        some, last = some[recent], last[recent]
        first = np.maximum(np.searchsorted(self._change_at, now_at[some] - CHANGES_US), self._first_change[some])
        columns["changes"][some], columns["changes_from_us"][some] = last + 1 - first, self._changed_us[first]
        return columns


def _padded(values: Ints, last: int = -1) -> Ints:
    return np.append(values, last)


def _last_where(holds: Bools) -> Ints:
    """Return for each row the last row up to it where the condition holds; it always holds for the first row."""
    last: Ints = np.maximum.accumulate(np.where(holds, np.arange(len(holds)), 0))
    return last
