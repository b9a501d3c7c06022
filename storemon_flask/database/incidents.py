"""Incidents as rows, open and past."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from storemon_flask.database.connections import Connection, named_rows
from storemon_flask.model import IncidentKind, Outcome

_COLUMNS: Final = (
    "id, kind, scope, subject, since_us, opened_us, resolved_us, ended_us, outcome, business_us, announced_us, details"
)


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. `scope` is store, group, zone or fleet; `subject` the id or name, empty for the fleet.

    It lasted from `since_us` to `ended_us`; storemon detected these at `opened_us` and `resolved_us`.
    `business_us` is its business time; `announced_us` is since when it was so as a message first said.
    `details` has what else the words need (`delivery.words`), as of its detection.
    """

    id: int
    kind: IncidentKind
    scope: str
    subject: str
    since_us: int
    opened_us: int
    resolved_us: int | None = None
    ended_us: int | None = None
    outcome: Outcome | None = None
    business_us: int = 0
    announced_us: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def lasted_us(self, now_us: int) -> int | None:
        """Return how long it has lasted until now, or in all when it is over, in business time; None for what is not of
        one opening of a store."""
        if self.resolved_us is not None:
            return self.business_us
        if self.scope != "store" or self.kind == IncidentKind.UNSTABLE:
            return None
        # The last poll of a store without polls can be older than its opening. When it closes, the next evaluation ends
        # the incident.
        begun_us = max(self.since_us, int(self.details.get("opened_us", self.since_us)))
        return max(0, min(now_us, int(self.details.get("closes_us", now_us))) - begun_us)


def open_incidents(connection: Connection) -> list[Incident]:
    """Return the open incidents, oldest first."""
    return _incidents(connection, "WHERE resolved_us IS NULL ORDER BY opened_us, id")


def by_ids(connection: Connection, ids: Sequence[int]) -> dict[int, Incident]:
    """Return those incidents by number."""
    rows = _incidents(connection, "WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(list(ids))])
    return {incident.id: incident for incident in rows}


def newest(
    connection: Connection,
    limit: int,
    state: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    before: int | None = None,
) -> list[Incident]:
    """Return incidents, the newest first: open or resolved ones, of one kind, of one store or group or zone; of numbers
    below `before`."""
    conditions = {
        "resolved_us IS NULL": state == "open",
        "resolved_us IS NOT NULL": state == "resolved",
        "kind = :kind": kind is not None,
        "subject = :subject": subject is not None,
        "id < :before": before is not None,
    }
    where = " AND ".join(condition for condition, holds in conditions.items() if holds) or "TRUE"
    return _incidents(
        connection,
        f"WHERE {where} ORDER BY id DESC LIMIT :limit",
        {"kind": kind, "subject": subject, "before": before, "limit": limit},
    )


def of_stores(connection: Connection, ids: Sequence[str], since_us: int) -> list[Incident]:
    """Return the incidents of those stores that are open or were resolved since then, oldest first."""
    return _incidents(
        connection,
        "WHERE scope = 'store' AND subject IN (SELECT value FROM json_each(?)) "
        "AND (resolved_us IS NULL OR resolved_us >= ?) ORDER BY opened_us, id",
        (json.dumps(list(ids), ensure_ascii=False), since_us),
    )


def of_kinds(connection: Connection, kinds: Sequence[IncidentKind]) -> list[Incident]:
    """Return the open incidents of those kinds, the oldest first."""
    return _incidents(
        connection,
        "WHERE resolved_us IS NULL AND kind IN (SELECT value FROM json_each(?)) ORDER BY opened_us, id",
        [json.dumps(list(kinds))],
    )


def state_numbers(connection: Connection) -> tuple[int, int]:
    """Return the newest number and how many are open: equal ones mean that none opened and none ended meanwhile."""
    row = connection.execute(
        "SELECT (SELECT coalesce(max(id), 0) FROM incident), (SELECT count(*) FROM incident WHERE resolved_us IS NULL)"
    ).fetchone()
    return int(row[0]), int(row[1])


def blind_spans(connection: Connection, from_us: int, until_us: int, as_of_us: int) -> list[Incident]:
    """Return the blind spans that overlap a span, as they were known at an as-of; oldest first.

    Those detected after the as-of are left out, and one whose end was detected after it has no end. Late polls count,
    as they do for every number: spans that they corrected are left out.
    """
    spans = _incidents(
        connection,
        "WHERE kind = 'blind' AND outcome IS NOT 'corrected' AND opened_us <= :as_of AND since_us < :until "
        "AND (resolved_us IS NULL OR resolved_us > :as_of OR ended_us > :from) ORDER BY since_us, id",
        {"as_of": as_of_us, "until": until_us, "from": from_us},
    )
    return [
        replace(one, resolved_us=None, ended_us=None, outcome=None) if (one.resolved_us or 0) > as_of_us else one
        for one in spans
    ]


def counts_by_kind(connection: Connection) -> dict[str, int]:
    """Return how many incidents of each kind are open; kinds without one are 0."""
    rows = connection.execute("SELECT kind, count(*) FROM incident WHERE resolved_us IS NULL GROUP BY kind")
    return {kind.value: 0 for kind in IncidentKind} | dict(rows)


def add(connection: Connection, incidents: Iterable[Incident]) -> list[int]:
    """Add open incidents and return their numbers; the `id` of those given is not used."""
    return [
        int(
            connection.execute(
                "INSERT INTO incident (kind, scope, subject, since_us, opened_us, business_us, details) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (one.kind, one.scope, one.subject, one.since_us, one.opened_us, one.business_us, _json(one.details)),
            ).lastrowid
            or 0
        )
        for one in incidents
    ]


def update(connection: Connection, incidents: Iterable[Incident]) -> None:
    """Store the values of incidents that may change: start, business time, details, end and outcome."""
    connection.executemany(
        "UPDATE incident SET since_us = ?, business_us = ?, details = ?, resolved_us = ?, ended_us = ?, outcome = ? "
        "WHERE id = ?",
        [
            (one.since_us, one.business_us, _json(one.details), one.resolved_us, one.ended_us, one.outcome, one.id)
            for one in incidents
        ],
    )


def note_announced(connection: Connection, ids: Sequence[int]) -> None:
    """Record the start of those incidents as the one that their first message names."""
    connection.execute(
        "UPDATE incident SET announced_us = since_us "
        "WHERE announced_us IS NULL AND id IN (SELECT value FROM json_each(?))",
        [json.dumps(list(ids))],
    )


def drop_old(connection: Connection, before_us: int, most: int) -> int:
    """Drop up to so many incidents that were over before and that no notice is about; return how many.

    Times without sight stay: reports of then name them.
    """
    return connection.execute(
        "DELETE FROM incident WHERE id IN (SELECT id FROM incident WHERE resolved_us < ? AND kind <> 'blind' "
        "AND NOT EXISTS (SELECT 1 FROM notice WHERE notice.incident = incident.id) LIMIT ?)",
        (before_us, most),
    ).rowcount


def _json(details: Mapping[str, Any]) -> str:
    return json.dumps(dict(details), ensure_ascii=False)


def _incidents(
    connection: Connection, rest: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> list[Incident]:
    rows = named_rows(connection, f"SELECT {_COLUMNS} FROM incident {rest}", parameters)
    return [
        Incident(
            **{
                **dict(row),
                "kind": IncidentKind(row["kind"]),
                "outcome": None if row["outcome"] is None else Outcome(row["outcome"]),
                "details": json.loads(row["details"]),
            }
        )
        for row in rows
    ]
