"""The facts that alerts judge: every store at one instant, the present one or one of the past, and the state of the
feeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np

from storemon_flask.database import readings
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.readings import Schedule
from storemon_flask.model import DAY_US, Bools, IncidentKind, Ints, Outcome, Rules
from storemon_flask.stores.live_list import Snapshot
from storemon_flask.uptime.replay import Replay

# What is read before an instant of the past: an opening is seldom longer, and six business hours lie in it.
_READ_US: Final = 3 * DAY_US


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a group, a zone, the fleet (`subject` empty) or a feed, and since when.

    `quiet`: it is shown, but no channel is told.
    """

    kind: IncidentKind
    scope: str
    subject: str
    since_us: int
    details: Mapping[str, Any] = field(default_factory=dict)
    quiet: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Every store at one instant.

    `columns` are those of a live snapshot: `status` (index into `STATUSES`), `since`, `since_or_earlier`, `last_poll`,
    and the names of `uptime.conditions.Conditions`; -1 where there is nothing to say. `data_are_old`: live views speak
    as of the newest poll, at `newest_us`, and the clock says `now_us`. `feeds`: what is wrong with the feeds.
    """

    as_of_us: int
    ids: Sequence[str]
    names: Sequence[str]
    groups: Sequence[str]
    zones: Sequence[str]
    columns: Mapping[str, Ints]
    feeds: tuple[Finding, ...] = ()
    data_are_old: bool = False
    now_us: int = 0
    # What is computed from the texts above when it is first asked for.
    derived: dict[object, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self) -> dict[str, int]:
        """Return the index of each store id."""
        return cast("dict[str, int]", self._derived("alerts: index", lambda: _indexes(self.ids)))

    def codes(self, texts: str) -> tuple[list[str], Ints]:
        """Return the different `groups` or `zones`, and for each store which it is of (an index)."""
        return cast("tuple[list[str], Ints]", self._derived(f"alerts: {texts}", lambda: _codes(getattr(self, texts))))

    def _derived(self, name: str, make: Any) -> object:
        if name not in self.derived:
            self.derived[name] = make()
        return self.derived[name]


@dataclass(frozen=True, slots=True, eq=False)
class Blindness:
    """What cannot be seen at the instant of the facts.

    `covered`: for each store of the facts, whether nothing may be said of it. `findings` are the incidents of kind
    `blind` that hold; `ends`: when and how those that are over ended, by scope and subject (else at the as-of).
    """

    covered: Bools
    findings: tuple[Finding, ...] = ()
    ends: Mapping[tuple[str, str], tuple[int, Outcome]] = field(default_factory=dict)


def nothing_blind(facts: Facts) -> Blindness:
    """Return the blindness of facts in which every store can be seen: none."""
    return Blindness(np.zeros(len(facts), dtype=bool))


def of_snapshot(snapshot: Snapshot, feeds: tuple[Finding, ...], now_us: int) -> Facts:
    """Return the facts of a live snapshot."""
    return Facts(
        snapshot.as_of.as_of_us,
        snapshot.ids,
        snapshot.names,
        snapshot.groups,
        snapshot.zones,
        snapshot.columns,
        feeds,
        snapshot.as_of.data_are_old,
        now_us,
        snapshot.derived_from_texts,
    )


class PastFacts:
    """The facts of any instant of a span of the past, as the polls that are stored now show it. They are read once."""

    def __init__(
        self, database: Database, connection: Connection, default_zone: str, first_us: int, last_us: int, rules: Rules
    ) -> None:
        self._plan: Schedule = readings.read_schedule(database, connection, default_zone, None, last_us)
        self._first_us, self._last_us = first_us, last_us
        from_us = max(first_us - _READ_US, 0)
        self._replays: list[Replay] = []
        for batch in self._plan.batches:
            polls = readings.read_polls(connection, self._plan, batch, from_us, last_us, rules)[0]
            opened = self._plan.openings(batch, from_us, last_us)
            self._replays.append(Replay(len(batch.number), opened, polls, rules, from_us))
        self._derived: dict[object, object] = {}

    def at(self, as_of_us: int) -> Facts:
        """Return the facts of that instant; `ValueError` outside the span."""
        if not self._first_us <= as_of_us <= self._last_us:
            raise ValueError("the instant lies outside the span that was read")
        tables = [replay.at(as_of_us) for replay in self._replays]
        columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        plan = self._plan
        return Facts(
            as_of_us, plan.ids, plan.names, plan.groups, plan.zone_of_store, columns, now_us=as_of_us,
            derived=self._derived,
        )  # fmt: skip


def _indexes(ids: Sequence[str]) -> dict[str, int]:
    return {store_id: index for index, store_id in enumerate(ids)}


def _codes(texts: Sequence[str]) -> tuple[list[str], Ints]:
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)
    return list(known), codes
