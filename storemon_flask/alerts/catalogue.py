"""Incidents as pages, the API and the command line show them: open and past ones, how long, and who was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.alerts.evaluation import covers
from storemon_flask.characters import join_words
from storemon_flask.clock import timestamp_text
from storemon_flask.database import incidents, messages
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.incidents import Incident
from storemon_flask.database.messages import Notified
from storemon_flask.delivery.words import SEVERITY, record
from storemon_flask.model import MINUTE_US, IncidentKind

# An incident whose beginning or end was detected this recently is news.
RECENT_US: Final = 10 * MINUTE_US


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident to show; `notified` is who is told that it opened, or once it is over, that it ended."""

    incident: Incident
    notified: tuple[Notified, ...]

    def is_recent(self, now_us: int) -> bool:
        """Return whether storemon detected its beginning or its end in the last ten minutes."""
        changed_us = self.incident.resolved_us or self.incident.opened_us
        return 0 <= now_us - changed_us < RECENT_US

    def told_text(self) -> str:
        """Return who is told: `told ops`, `not told yet: ops`, `told nobody`."""
        names = {
            state: [one.channel for one in self.notified if one.state == state]
            for state in ("sent", "waiting", "failed")
        }
        words = {"sent": "told", "waiting": "not told yet:", "failed": "could not be told:"}
        texts = [f"{words[state]} {join_words(of_state)}" for state, of_state in names.items() if of_state]
        if texts:
            return "; ".join(texts)
        return "told as part of a larger incident" if covers(self.incident) else "told nobody"


def open_views(database: Database) -> list[IncidentView]:
    """Return the open incidents, the worst first; none without a database."""
    if not database.exists():
        return []
    with database.read() as connection:
        rows = incidents.open_incidents(connection)
        rows.sort(key=lambda one: (SEVERITY.index(one.kind), one.since_us, one.id))
        return _views(connection, rows)


def newest_views(
    database: Database,
    limit: int,
    state: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    before: int | None = None,
) -> list[IncidentView]:
    """Return incidents, the newest first, as `incidents.newest` chooses them; nothing without a database."""
    if not database.exists():
        return []
    with database.read() as connection:
        return _views(connection, incidents.newest(connection, limit, state, kind, subject, before))


def of_stores(connection: Connection, ids: Sequence[str], now_us: int) -> dict[str, list[IncidentView]]:
    """Return for each of those stores its incidents that are open or ended some minutes ago, the newest last."""
    views = _views(connection, incidents.of_stores(connection, ids, now_us - RECENT_US))
    by_store: dict[str, list[IncidentView]] = {}
    for view in views:
        by_store.setdefault(view.incident.subject, []).append(view)
    return by_store


def larger_views(connection: Connection) -> list[IncidentView]:
    """Return the open incidents that say something about many stores at once, the blind ones first."""
    rows = incidents.of_kinds(connection, (IncidentKind.BLIND, IncidentKind.MANY_DOWN))
    rows.sort(key=lambda one: (SEVERITY.index(one.kind), one.since_us, one.id))
    return _views(connection, rows)


def state_numbers(connection: Connection) -> tuple[int, ...]:
    """Return numbers that change whenever an incident opens or ends, or a message about one is written or attempted."""
    return (*incidents.state_numbers(connection), *messages.newest_numbers(connection))


def record_of(view: IncidentView, now_us: int) -> dict[str, Any]:
    """Return an incident as API and command line write it: as webhooks do, with when it was found out and who is
    told."""
    incident = view.incident
    return {
        **record(incident, now_us),
        "detected": timestamp_text(incident.opened_us),
        "resolved": None if incident.resolved_us is None else timestamp_text(incident.resolved_us),
        "notified": [
            {
                "channel": one.channel,
                "state": one.state,
                "at": None if one.at_us is None else timestamp_text(one.at_us),
            }
            for one in view.notified
        ],
    }


def _views(connection: Connection, rows: Sequence[Incident]) -> list[IncidentView]:
    notified = messages.notified_channels(connection, [one.id for one in rows]) if rows else {}
    return [
        IncidentView(
            one,
            tuple(notified.get((one.id, "opened" if one.resolved_us is None else "resolved"), ())),
        )
        for one in rows
    ]
