"""Times in which the poller was blind, for the method notes of reports and for the days of a store (SPEC 9)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from storemon_flask.characters import escaped
from storemon_flask.clock import minute_text, timestamp_text
from storemon_flask.database import incidents
from storemon_flask.database.connections import Connection
from storemon_flask.database.incidents import Incident


@dataclass(frozen=True, slots=True)
class BlindSpan:
    """From when to when polls were missing for all stores, those of a group or those in a zone; or, by suspicion, said
    of nearly all that they were down. `end_us` is None where no end was known at the as-of."""

    scope: str
    subject: str
    start_us: int
    end_us: int | None
    reason: str

    @property
    def label(self) -> str:
        """What it is called in a picture: `polls missing for all stores`."""
        if self.reason == "suspicion":
            return "nearly all stores down at once: probably the poller"
        subject = escaped(self.subject)
        stores = {"group": f"the stores of group {subject}", "zone": f"the stores in {subject}"}
        return f"polls missing for {stores.get(self.scope, 'all stores')}"

    @property
    def text(self) -> str:
        """Label and times, in UTC."""
        return self.text_at(minute_text)

    def text_at(self, time_text: Callable[[int], str]) -> str:
        """Return label and times, these as `time_text` makes them of microseconds."""
        end = ", no end known at the as-of" if self.end_us is None else f" to {time_text(self.end_us)}"
        return f"{self.label}, from {time_text(self.start_us)}{end}"

    def record(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "scope": self.scope,
            "subject": self.subject,
            "start": timestamp_text(self.start_us),
            "end": None if self.end_us is None else timestamp_text(self.end_us),
            "reason": self.reason,
            "text": self.text,
        }


def find_blind_spans(
    connection: Connection,
    from_us: int,
    until_us: int,
    as_of_us: int,
    groups: Collection[str],
    zones: Collection[str],
) -> list[BlindSpan]:
    """Return those that overlap a span and are of the fleet, of one of those groups or of one of those zones, as they
    were known at the as-of; oldest first."""
    of = {"group": groups, "zone": zones}
    spans = incidents.blind_spans(connection, from_us, until_us, as_of_us)
    return [_span(one, as_of_us) for one in spans if one.scope == "fleet" or one.subject in of[one.scope]]


def _span(incident: Incident, as_of_us: int) -> BlindSpan:
    # Its end may have been found out before the as-of of a clock that was set back.
    end_us = None if incident.ended_us is None else min(incident.ended_us, as_of_us)
    reason = "suspicion" if incident.details.get("reason") == "suspicion" else "silence"
    return BlindSpan(incident.scope, incident.subject, incident.since_us, end_us, reason)
