"""The words of an incident, for pages, programs, terminals and messages alike.

Besides its columns they read what `details` has, as far as it is there: of a store its `name`, `group` and `zone`,
`last_up_us` and `seen_us` (the newest poll that found it up before, the first that did not); of many down and blindness
`count` and `of` stores, `reason`; of an unstable one `changes` in `hours`; of a feed a clause `text`.
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
    """How a kind is named in lists, how it is counted, how it is said of one store and of several, that it is over,
    and that it never was."""

    label: str
    state: str
    one: str
    several: str
    over: str
    never: str


KIND_WORDS: Final = {
    IncidentKind.DOWN: KindWords("Down", "down", "is down", "are down", "up again", "was not down"),
    IncidentKind.NOT_OPENED: KindWords(
        "Not opened", "not opened", "has not opened", "have not opened", "open now", "was open"
    ),
    IncidentKind.STALE: KindWords(
        "No polls", "without polls", "has no polls", "have no polls", "polled again", "was polled"
    ),
    IncidentKind.UNSTABLE: KindWords(
        "Unstable", "unstable", "is unstable", "are unstable", "steady again", "was not unstable"
    ),
    IncidentKind.MANY_DOWN: KindWords(
        "Many down", "with many down", "", "", "mostly up again", "did not have many down"
    ),
    IncidentKind.BLIND: KindWords("Blind", "out of sight", "", "", "in sight again", "could be seen"),
    IncidentKind.FEED: KindWords("Feed", "wrong in the feed", "", "", "right again", "was right"),
}
# Of these the length is business time: they end with the opening in which they began.
_OF_OPENING: Final = (IncidentKind.DOWN, IncidentKind.NOT_OPENED, IncidentKind.STALE)


def cut_name(text: str) -> str:
    """Return a name for a sentence: on one line, with what cannot be seen as numbers, and not too long."""
    text = escaped(text)
    return text if len(text) <= _NAME_CUT_AT else text[: _NAME_CUT_AT - 3] + "..."


def subject_text(incident: Incident) -> str:
    """Return what an incident is about: `Main Street (1001)`, `group North`, `zone America/Chicago`, `the fleet`."""
    if incident.scope == "store":
        name, store_id = incident.details.get("name"), cut_name(incident.subject)
        return f"{cut_name(name)} ({store_id})" if name else store_id
    if incident.kind == IncidentKind.FEED:
        return "the feed"
    return f"{incident.scope} {cut_name(incident.subject)}" if incident.scope != "fleet" else "the fleet"


def incident_text(incident: Incident, now_us: int) -> str:
    """Return what an incident is or was, without its subject: `down for 2 h 10 min of business time, since 12:14 CDT`.

    Of one that is over it says how it ended, and "corrected" where polls that came late changed what was said first.
    """
    if incident.outcome is None:
        return _open_text(incident, now_us)
    return _ended_text(incident, now_us) + _correction_text(incident, now_us)


def sentence_text(incident: Incident, now_us: int) -> str:
    """Return an incident with its subject, as a sentence without its full stop: `Harbor (1002): no poll for 42 min of
    business time, since 12:14 CDT`."""
    text = incident_text(incident, now_us)
    return text if incident.scope == "fleet" else f"{subject_text(incident)}: {text}"


def certainty_text(incident: Incident, now_us: int) -> str:
    """Return how sure the beginning is: `last seen up 11:20, first seen down 12:14 CDT`; empty where that is not
    known."""
    zone, polls = _zone(incident), (incident.details.get("last_up_us"), incident.details.get("seen_us"))
    match incident.kind, polls:
        case IncidentKind.DOWN, (int(last_up_us), int(seen_us)):
            return "last seen up {}, first seen down {}".format(*_span(last_up_us, seen_us, zone, now_us))
        case IncidentKind.DOWN, (_, int(seen_us)):
            return f"first seen down {time_text(seen_us, zone, now_us)}"
        case _:
            return ""


def time_text(at_us: int, zone: str, now_us: int) -> str:
    """Return an instant as people there read it: `12:14 CDT`, and with its date when that is not today."""
    local = wall_clock(at_us, zone)
    near = local.date() == wall_clock(now_us, zone).date()
    return f"{local:%H:%M %Z}" if near else f"{local:%a %Y-%m-%d %H:%M %Z}"


def span_text(from_us: int, until_us: int, zone: str, now_us: int) -> str:
    """Return two instants as people there read them: `12:14 to 12:52 CDT`."""
    return " to ".join(_span(from_us, until_us, zone, now_us))


def _span(from_us: int, until_us: int, zone: str, now_us: int) -> tuple[str, str]:
    """Return both instants, each without what the other one says."""
    first, last = wall_clock(from_us, zone), wall_clock(until_us, zone)
    start, end = time_text(from_us, zone, now_us), time_text(until_us, zone, now_us)
    if first.tzname() == last.tzname():
        start = start.removesuffix(f" {first:%Z}")
    return start, f"{last:%H:%M %Z}" if first.date() == last.date() else end


def record(incident: Incident, now_us: int) -> dict[str, Any]:
    """Return an incident as programs read it; `business_minutes` is None of what is not of one opening of a store."""
    details, of_store = incident.details, incident.scope == "store"
    group = incident.subject if incident.scope == "group" else details.get("group")
    length_us = incident.lasted_us(now_us) if incident.kind in _OF_OPENING else None
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
        "business_minutes": None if length_us is None else length_us // MINUTE_US,
        "text": sentence_text(incident, now_us),
    }


def _zone(incident: Incident) -> str:
    if incident.scope == "zone":
        return incident.subject
    return incident.details.get("zone") or _UTC


def _open_text(incident: Incident, now_us: int) -> str:
    details, since = incident.details, time_text(incident.since_us, _zone(incident), now_us)
    length_us = incident.lasted_us(now_us)
    lasting = "" if length_us is None else f" for {_business_text(length_us)},"
    match incident.kind:
        case IncidentKind.DOWN:
            return f"down{lasting} since {since}"
        case IncidentKind.NOT_OPENED:
            return f"not opened{lasting} since {since}, when its hours began; every poll found it down"
        case IncidentKind.STALE:
            return f"no poll{lasting} since {since}"
        case IncidentKind.UNSTABLE:
            changes, hours = details.get("changes"), details.get("hours", 6)
            often = f", {count_text(changes, 'change')} in {hours} h of business time" if changes else ""
            return f"unstable since {since}{often}"
        case IncidentKind.FEED:
            return _feed_text(incident)
        case IncidentKind.MANY_DOWN:
            return f"{_count_text(incident)} are down, since {since}"
        case IncidentKind.BLIND if details.get("reason") == "suspicion":
            return f"{_count_text(incident)} turned down at once at {since}: probably the poller, not the stores"
        case IncidentKind.BLIND:
            return f"{_count_text(incident, none=True)} can be seen: hardly any poll has come since {since}"


def _ended_text(incident: Incident, now_us: int) -> str:
    was, over = _was_text(incident), KIND_WORDS[incident.kind].over
    ended_us = incident.since_us if incident.ended_us is None else incident.ended_us
    span = span_text(incident.since_us, ended_us, _zone(incident), now_us)
    match incident.outcome:
        case Outcome.CORRECTED:
            return f"{KIND_WORDS[incident.kind].never} after all, as polls that came late show (corrected)"
        case Outcome.CLOSED:
            return f"closed for the day; {was}, {span}"
        case Outcome.UNKNOWN:
            return f"no longer known, as its polls stopped; {was}, {span}"
        case Outcome.REMOVED:
            return f"removed from the data; {was}, {span}"
        case _ if incident.kind == IncidentKind.FEED:
            return f"{over}; {span}: {was}"
        case _:
            return f"{over}; {was}, {span}"


def _was_text(incident: Incident) -> str:
    match incident.kind:
        case IncidentKind.FEED:
            return _feed_text(incident)
        case IncidentKind.MANY_DOWN:
            return f"{_count_text(incident)} were down"
        case IncidentKind.BLIND:
            return f"{_count_text(incident, none=True)} could be seen"
        case kind:
            lasted = f" for {_business_text(incident.business_us)}" if kind in _OF_OPENING else ""
            return f"was {KIND_WORDS[kind].state}{lasted}"


def _correction_text(incident: Incident, now_us: int) -> str:
    """Return that the beginning is another one than a message said; empty where it is not."""
    said_us = incident.announced_us
    if incident.outcome == Outcome.CORRECTED or said_us is None or abs(said_us - incident.since_us) < MINUTE_US:
        return ""
    return f" (corrected: an earlier message said since {time_text(said_us, _zone(incident), now_us)})"


def _business_text(business_us: int) -> str:
    return f"{duration_text(business_us)} of business time"


def _feed_text(incident: Incident) -> str:
    return escaped(incident.details.get("text") or "something is wrong")


def _count_text(incident: Incident, none: bool = False) -> str:
    """Return of how many stores an incident is: `45 of 300 stores`, `all 50 stores`, `stores` where that is not known;
    with `none` of how many it is not: `only 255 of 300 stores`, `none of 50 stores`, `not all stores`."""
    count, whole = incident.details.get("count"), incident.details.get("of")
    if count is None or whole is None:
        return "not all stores" if none else "stores"
    if none:
        return f"only {whole - count:,} of {whole:,} stores" if count < whole else f"none of {whole:,} stores"
    return f"{count:,} of {count_text(whole, 'store')}" if count < whole else f"all {count_text(whole, 'store')}"
