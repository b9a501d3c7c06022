"""The words of an incident, for pages, programs, terminals and messages alike.

Besides its columns they read what `details` has, as far as it is there: of a store its `name`, `group` and `zone`,
`last_up_us` and `seen_us` (the newest poll that found it up before, the first that did not); of many down and blindness
`count` and `of` stores, `reason`; of an unstable one `changes`; of a feed a clause `text`.
"""

from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.characters import count_text, escaped
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database.incidents import Incident
from storemon_flask.model import MINUTE_US, IncidentKind, Outcome
from storemon_flask.uptime.zones import wall_clock

_UTC: Final = "Etc/UTC"
_NAME_CUT_AT: Final = 60
# Worst first: what cannot be seen says something about all the others.
SEVERITY: Final = (
    IncidentKind.BLIND,
    IncidentKind.MANY_DOWN,
    IncidentKind.FEED,
    IncidentKind.DOWN,
    IncidentKind.NOT_OPENED,
    IncidentKind.STALE,
    IncidentKind.UNSTABLE,
)


@dataclass(frozen=True, slots=True)
class KindWords:
    """How a kind is named in lists, how it is said of one store and of several, and that it is over."""

    label: str
    state: str
    one: str
    several: str
    over: str


KIND_WORDS: Final = {
    IncidentKind.DOWN: KindWords("Down", "down", "is down", "are down", "up again"),
    IncidentKind.NOT_OPENED: KindWords("Not opened", "not opened", "has not opened", "have not opened", "open now"),
    IncidentKind.STALE: KindWords("No polls", "without polls", "has no polls", "have no polls", "polled again"),
    IncidentKind.UNSTABLE: KindWords("Unstable", "unstable", "is unstable", "are unstable", "calm again"),
    IncidentKind.MANY_DOWN: KindWords("Many down", "many down", "is down in many stores", "", "mostly up again"),
    IncidentKind.BLIND: KindWords("Blind", "not seen", "cannot be seen", "cannot be seen", "seen again"),
    IncidentKind.FEED: KindWords("Feed", "wrong", "is wrong", "are wrong", "right again"),
}
OUTCOME_WORDS: Final = {
    Outcome.OVER: "over",
    Outcome.CLOSED: "closed for the day",
    Outcome.CORRECTED: "never was, as late polls show",
    Outcome.UNKNOWN: "not known: its polls stopped",
    Outcome.REMOVED: "removed from the data",
}


def cut_name(text: str) -> str:
    """Return a name for a sentence: on one line, with what cannot be seen as numbers, and not too long."""
    text = escaped(text)
    return text if len(text) <= _NAME_CUT_AT else text[: _NAME_CUT_AT - 3] + "..."


def subject_text(incident: Incident) -> str:
    """Return what an incident is about: `Main Street (1001)`, `group North`, `zone America/Chicago`, `all stores`."""
    if incident.kind == IncidentKind.FEED:
        return "the feed"
    if incident.scope == "store":
        name = incident.details.get("name")
        store_id = cut_name(incident.subject)
        return f"{cut_name(name)} ({store_id})" if name else store_id
    return f"{incident.scope} {cut_name(incident.subject)}" if incident.subject else "all stores"


def incident_text(incident: Incident, now_us: int, business_us: int | None = None) -> str:
    """Return what an incident is or was, without its subject: `down for 2 h 10 min of business time, since 12:14 CDT`.

    `business_us` is how long it has lasted until now, for one that is open; without it the length is left out. Of one
    that is over it says how it ended, and "corrected" where polls that came late changed what was said first.
    """
    if incident.outcome is None:
        return _open_text(incident, now_us, business_us)
    return _ended_text(incident, now_us) + _correction_text(incident, now_us)


def certainty_text(incident: Incident, now_us: int) -> str:
    """Return how sure the beginning is: `last seen up 11:20 CDT, first seen down 12:14 CDT`; empty where unknown."""
    if incident.kind != IncidentKind.DOWN:
        return ""
    zone = _zone(incident)
    texts = [
        f"{what} {time_text(incident.details[key], zone, now_us)}"
        for key, what in (("last_up_us", "last seen up"), ("seen_us", "first seen down"))
        if incident.details.get(key) is not None
    ]
    return ", ".join(texts)


def time_text(at_us: int, zone: str, now_us: int) -> str:
    """Return an instant as people there read it: `12:14 CDT`, and the date too when it is not of today."""
    local, today = wall_clock(at_us, zone), wall_clock(now_us, zone)
    near = local.date() == today.date()
    return f"{local:%H:%M %Z}" if near else f"{local:%a %Y-%m-%d %H:%M %Z}"


def record(incident: Incident, now_us: int, business_us: int | None = None) -> dict[str, Any]:
    """Return an incident as programs read it. `business_us` as in `incident_text`."""
    details, of_store = incident.details, incident.scope == "store"
    group = incident.subject if incident.scope == "group" else details.get("group")
    length_us = incident.business_us if business_us is None or incident.outcome is not None else business_us
    return {
        "incident_id": incident.id,
        "kind": incident.kind.value,
        "state": "open" if incident.outcome is None else "resolved",
        "outcome": None if incident.outcome is None else incident.outcome.value,
        "scope": incident.scope,
        "store_id": incident.subject if of_store else None,
        "name": (details.get("name") or None) if of_store else None,
        "group": group or None,
        "timezone": (incident.subject if incident.scope == "zone" else details.get("zone")) or None,
        "since": timestamp_text(incident.since_us),
        "ended": None if incident.ended_us is None else timestamp_text(incident.ended_us),
        "business_minutes": length_us // MINUTE_US,
        "text": f"{subject_text(incident)}: {incident_text(incident, now_us, business_us)}",
    }


def _zone(incident: Incident) -> str:
    if incident.scope == "zone":
        return incident.subject
    return incident.details.get("zone") or _UTC


def _open_text(incident: Incident, now_us: int, business_us: int | None) -> str:
    details, since = incident.details, time_text(incident.since_us, _zone(incident), now_us)
    lasting = "" if business_us is None else f" for {_business_text(business_us)}"
    count = _share_text(incident)
    match incident.kind:
        case IncidentKind.NOT_OPENED:
            return f"not opened{lasting}: its hours began at {since}, and every poll since found it down"
        case IncidentKind.STALE:
            return f"no poll{lasting}, since {since}" if lasting else f"no poll since {since}"
        case IncidentKind.UNSTABLE:
            changes = details.get("changes")
            often = f": {count_text(changes, 'change')} in 6 hours of business time" if changes else ""
            return f"goes up and down{often}, since {since}"
        case IncidentKind.MANY_DOWN:
            return f"{count} down, since {since}"
        case IncidentKind.BLIND if details.get("reason") == "suspicion":
            return f"{count} turned down at once, at {since}: probably the poller, not the stores"
        case IncidentKind.BLIND:
            return f"{count} cannot be seen: hardly a poll has come since {since}"
        case IncidentKind.FEED:
            return f"{escaped(details.get('text') or 'something is wrong')}, since {since}"
        case _:
            return f"down{lasting}, since {since}" if lasting else f"down since {since}"


def _ended_text(incident: Incident, now_us: int) -> str:
    zone, words = _zone(incident), KIND_WORDS[incident.kind]
    since, end = (time_text(at_us or 0, zone, now_us) for at_us in (incident.since_us, incident.ended_us))
    lasted = f" for {_business_text(incident.business_us)}" if incident.scope == "store" else ""
    state = {IncidentKind.FEED: escaped(incident.details.get("text") or "wrong")}.get(incident.kind, words.state)
    was = f"{state}{lasted}, {since} to {end}"
    match incident.outcome:
        case Outcome.CORRECTED:
            return f"corrected: was not {state}, as polls that came late show"
        case Outcome.CLOSED:
            return f"closed for the day; was {was}"
        case Outcome.UNKNOWN:
            return f"not known any more, for its polls stopped; was {was}"
        case Outcome.REMOVED:
            return f"removed from the data; was {was}"
        case _:
            return f"{words.over}; was {was}"


def _correction_text(incident: Incident, now_us: int) -> str:
    """Return that the beginning is another one than a message said; empty where it is not."""
    said_us = incident.announced_us
    if incident.outcome == Outcome.CORRECTED or said_us is None or abs(said_us - incident.since_us) < MINUTE_US:
        return ""
    return f" (corrected: first said since {time_text(said_us, _zone(incident), now_us)})"


def _business_text(business_us: int) -> str:
    return f"{duration_text(business_us)} of business time"


def _share_text(incident: Incident) -> str:
    """Return of how many stores an incident is: `45 of 300 stores of North`, `all 50 stores`, `the stores of North`."""
    count, whole = incident.details.get("count"), incident.details.get("of")
    of_what = f" of {cut_name(incident.subject)}" if incident.subject else ""
    if count is None:
        return f"stores{of_what}"
    if whole is None:
        return f"{count_text(count, 'store')}{of_what}"
    if count >= whole:
        return f"all {count_text(whole, 'store')}{of_what}"
    return f"{count:,} of {count_text(whole, 'store')}{of_what}"
