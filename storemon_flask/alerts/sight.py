"""Read what finding blindness needs: how stores are usually polled, and the polls around a blind span that ends."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from storemon_flask.alerts import blindness
from storemon_flask.alerts.blindness import Seen, Usual
from storemon_flask.alerts.facts import Blindness, Facts, nothing_blind
from storemon_flask.database import loads, polls, readings
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.model import DAY_US, HOUR_US, Ints, Outcome

# So many polls are read at once, as far as can be told from the stores before.
_POLLS_AT_ONCE: Final = 300_000
_FIRST_STORES: Final = 64


class Sight:
    """Finds blindness in one database. How stores are usually polled is learned from the stored polls of the week
    before, and again every `relearn_us`; so there is nothing to be kept, and nothing is forgotten at a restart."""

    def __init__(self, database: Database, default_zone: str, relearn_us: int = HOUR_US) -> None:
        self._database, self._default_zone, self._relearn_us = database, default_zone, relearn_us
        self._learned: tuple[object, int, Sequence[str], Usual] | None = None
        self._learning: Iterator[tuple[list[str], Usual] | None] | None = None
        self._ended: list[Incident] = []

    def look(self, facts: Facts, open_incidents: Sequence[Incident]) -> Blindness:
        """Return what cannot be seen at the instant of the facts; nothing while the data are old."""
        if facts.data_are_old:
            return nothing_blind(facts)

        def see(from_us: int, to_us: int) -> Iterator[Seen]:
            """Yield the polls of the stores of these facts between two instants."""
            return self._see(facts, from_us, to_us)

        self.remember(self._ended, facts.as_of_us)
        blind = blindness.find(facts, open_incidents, self._usual(facts), see, self._ended)
        self._ended += blindness.over(facts, open_incidents, blind.ends)
        return blind

    def remember(self, incidents: Sequence[Incident], as_of_us: int) -> None:
        """Keep the blind incidents that ended lately: the status of a store not polled since then is not known yet."""
        self._ended = [
            incident
            for incident in incidents
            if incident.outcome == Outcome.OVER and (incident.resolved_us or 0) > as_of_us - DAY_US
        ]

    def _usual(self, facts: Facts) -> Usual:
        file, as_of_us, learned = self._database.identity(), facts.as_of_us, self._learned
        if learned is None or learned[0] != file or not 0 <= as_of_us - learned[1] < 2 * self._relearn_us:
            self._learning = None
            *_, result = self._learn(as_of_us)
        else:
            result = self._learn_some(as_of_us) if as_of_us - learned[1] >= self._relearn_us else None
        if result is not None:
            learned = self._learned = file, as_of_us, *result
        assert learned is not None
        _, at_us, ids, usual = learned
        if ids is facts.ids:
            return usual
        if ids != facts.ids:
            usual = _reorder(usual, ids, facts)
        self._learned = file, at_us, facts.ids, usual
        return usual

    def _learn_some(self, as_of_us: int) -> tuple[list[str], Usual] | None:
        """Learn again from some more stores, so that no evaluation takes long; return the result after the last."""
        # After a failure it begins anew.
        learning, self._learning = self._learning or self._learn(as_of_us), None
        result = next(learning)
        if result is None:
            self._learning = learning
        return result

    def _learn(self, as_of_us: int) -> Iterator[tuple[list[str], Usual] | None]:
        """Yield None after each slice of the stores, and after the last one how all are usually polled."""
        from_us = max(as_of_us - blindness.LEARNED_FROM_US, 0)
        with self._database.read() as connection:
            plan = readings.read_schedule(self._database, connection, self._default_zone, None, as_of_us)
            loads_us = loads.usual_interval(connection, "polls", from_us, as_of_us)
        number = np.concatenate([batch.number for batch in plan.batches])
        interval, always = np.full(len(number), -1, dtype=np.int64), np.zeros(len(number), dtype=bool)
        first, size = 0, _FIRST_STORES
        while first < len(number):
            if first > _FIRST_STORES:
                yield None
            some = slice(first, min(first + size, len(number)))
            with self._database.read() as connection:
                read = polls.read(connection, number[some], from_us, as_of_us)
            interval[some], always[some] = blindness.learn(read, some.stop - first)
            per_store = len(read) // (some.stop - first) + 1
            first, size = some.stop, max(min(_POLLS_AT_ONCE // per_store, readings.STORES_PER_BATCH), 1)
        yield plan.ids, Usual(interval, always, loads_us)

    def _see(self, facts: Facts, from_us: int, to_us: int) -> Iterator[Seen]:
        index_of = facts.index_of()
        with self._database.read() as connection:
            plan = readings.read_schedule(self._database, connection, self._default_zone, None, to_us)
            first = 0
            for batch in plan.batches:
                ids = plan.ids[first : first + len(batch.number)]
                first += len(batch.number)
                there = np.array([index for index, store_id in enumerate(ids) if store_id in index_of], dtype=np.int64)
                if len(there):
                    known = batch if len(there) == len(ids) else batch.select(there)
                    stores: Ints = np.array([index_of[ids[index]] for index in there.tolist()], dtype=np.int64)
                    read = polls.read(connection, known.number, from_us, to_us)
                    yield Seen(stores, plan.openings(known, from_us, to_us), read)


def _reorder(usual: Usual, ids: Sequence[str], facts: Facts) -> Usual:
    """Return the same in the order of the facts' stores; new stores have no usual interval yet."""
    index_of = {store_id: index for index, store_id in enumerate(ids)}
    index = np.array([index_of.get(store_id, -1) for store_id in facts.ids], dtype=np.int64)
    if not len(ids):
        return Usual(np.full(len(index), -1), np.zeros(len(index), dtype=bool), usual.loads_us)
    return Usual(np.where(index >= 0, usual.interval_us[index], -1), (index >= 0) & usual.always[index], usual.loads_us)
