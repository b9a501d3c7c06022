"""Write what a message says: a sentence, what it is about with the worst first, how many more, and a link.

A message is a dict with everything that is sent, so that it says the same at every try: `subject`, `summary`, `text`
(plain), `html` (for mail) and `event` (the body of a webhook).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from storemon_flask.characters import count_text, join_words
from storemon_flask.clock import timestamp_text
from storemon_flask.database.incidents import Incident
from storemon_flask.database.messages import Notice
from storemon_flask.delivery.batches import MOST_PER_HOUR, Decision
from storemon_flask.delivery.words import (
    KIND_WORDS,
    SEVERITY,
    certainty_text,
    cut_name,
    incident_text,
    record,
    subject_text,
)
from storemon_flask.formatting import store_segment
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind, Outcome

# So many incidents are named; the rest are counted.
MOST_NAMED: Final = 10
# Up to so many stores are named in the sentence, which is a mail's subject, too.
_MOST_IN_SENTENCE: Final = 3
# A webhook has as many incidents as fit into this.
MOST_EVENT_BYTES: Final = 20_000
_MOST_IN_EVENT: Final = 50
_SUBJECT_CUT_AT: Final = 180
_COVERED: Final = (IncidentKind.DOWN, IncidentKind.NOT_OPENED)
LIMITED_NOTE: Final = (
    f"This is the {MOST_PER_HOUR}th message within an hour. The rest follows as an hourly digest, "
    "until an hour passes without news."
)
TEST_NOTE: Final = "This is a test of the channel. The store does not exist, and nothing is wrong."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One incident of a message. `told`: its beginning is in this message."""

    incident: Incident
    told: bool

    @property
    def over(self) -> bool:
        return self.incident.outcome is not None


def compose(decision: Decision, incidents: Mapping[int, Incident], now_us: int, public_url: str = "") -> dict[str, Any]:
    """Return what the message of those notices says, whose incidents are given by number."""
    entries = _entries(decision.notices, incidents)
    listed = sorted(_without_covered(entries), key=_rank)
    notes = [LIMITED_NOTE] if decision.limited else []
    return _message(listed, "storemon digest" if decision.digest else "storemon", notes, now_us, public_url)


def example(now_us: int, public_url: str = "") -> dict[str, Any]:
    """Return a message for the test of a channel, which says that it is one."""
    store = Incident(
        id=0,
        kind=IncidentKind.DOWN,
        scope="store",
        subject="example-1",
        since_us=now_us - HOUR_US,
        opened_us=now_us,
        business_us=HOUR_US,
        details={"name": "Example Store", "zone": "Etc/UTC", "last_up_us": now_us - 90 * MINUTE_US, "seen_us": now_us},
    )
    return _message([_Entry(store, told=True)], "storemon test", [TEST_NOTE], now_us, public_url, test=True)


def webhook_body(content: Mapping[str, Any]) -> bytes:
    """Return the body of a webhook."""
    return json.dumps(content["event"], ensure_ascii=False, separators=(",", ":")).encode()


# What chats take for a mention, a command or a link when it stands in a text.
_MARKS: Final = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a"})


def plain(content: Mapping[str, Any]) -> tuple[str, str]:
    """Return the title and the text for chats, in which no name of a store calls everybody."""
    return content["subject"].translate(_MARKS), content["text"].translate(_MARKS)


def _entries(notices: Iterable[Notice], incidents: Mapping[int, Incident]) -> list[_Entry]:
    """Return an entry for each incident: one that began and ended within the batch is one."""
    told: dict[int, bool] = {}
    for notice in notices:
        told[notice.incident] = told.get(notice.incident, False) or notice.event == "opened"
    return [_Entry(incidents[number], began) for number, began in told.items()]


def _without_covered(entries: Sequence[_Entry]) -> list[_Entry]:
    """Leave out the stores of which "many are down" says the same: those that began, or ended, with it."""
    many = {
        (entry.incident.scope, entry.incident.subject, entry.over)
        for entry in entries
        if entry.incident.kind == IncidentKind.MANY_DOWN
    }
    if not many:
        return list(entries)
    return [entry for entry in entries if not _is_covered(entry, many)]


def _is_covered(entry: _Entry, many: set[tuple[str, str, bool]]) -> bool:
    incident, over = entry.incident, entry.over
    if incident.kind == IncidentKind.MANY_DOWN:
        return incident.scope != "fleet" and ("fleet", "", over) in many
    if incident.kind not in _COVERED or incident.outcome not in (None, Outcome.OVER):
        return False
    wider = {("fleet", ""), ("group", incident.details.get("group")), ("zone", incident.details.get("zone"))}
    return any((*scope, over) in many for scope in wider)


def _rank(entry: _Entry) -> tuple[bool, int, int, int]:
    """Return what sorts the worst first: what goes on, then the kind, then what began first, or lasted longest."""
    incident = entry.incident
    length = -incident.business_us if entry.over else incident.since_us
    return entry.over, SEVERITY.index(incident.kind), length, incident.id


def _message(
    entries: Sequence[_Entry], prefix: str, notes: list[str], now_us: int, public_url: str, test: bool = False
) -> dict[str, Any]:
    summary = _summary(entries, now_us)
    lines = [_line(entry, now_us, public_url) for entry in entries[:MOST_NAMED]]
    rest = _rest_text(entries[MOST_NAMED:])
    link = _link(entries, public_url) if public_url and not test else ""
    subject = f"{prefix}: {summary}"
    return {
        "subject": subject if len(subject) <= _SUBJECT_CUT_AT else subject[: _SUBJECT_CUT_AT - 3] + "...",
        "summary": summary,
        "text": _text(summary, lines, rest, notes, link),
        "html": _html(summary, lines, rest, notes, link),
        "event": _event(summary, entries, notes, link, now_us, test),
    }


def _summary(entries: Sequence[_Entry], now_us: int) -> str:
    """Return one sentence about all of them: `3 stores are down, 2 are up again`."""
    if len(entries) == 1:
        (entry,) = entries
        return f"{subject_text(entry.incident)}: {incident_text(entry.incident, now_us)}"
    parts = []
    for over in (False, True):
        for kind in SEVERITY:
            some = [entry for entry in entries if entry.over == over and entry.incident.kind == kind]
            parts += _over_parts(some) if over else _open_parts(kind, some, now_us)
    return ", ".join(parts) if parts else "nothing to report"


def _open_parts(kind: IncidentKind, entries: Sequence[_Entry], now_us: int) -> list[str]:
    if not entries:
        return []
    if entries[0].incident.scope != "store":
        named = [f"{subject_text(entry.incident)}: {incident_text(entry.incident, now_us)}" for entry in entries[:2]]
        return [*named, *([f"{len(entries) - 2:,} more like these"] if len(entries) > 2 else [])]
    words = KIND_WORDS[kind]
    return [f"{_stores_text(entries)} {words.one if len(entries) == 1 else words.several}"]


def _over_parts(entries: Sequence[_Entry]) -> list[str]:
    parts = []
    for (outcome, told), count in Counter((entry.incident.outcome, entry.told) for entry in entries).items():
        some = [entry for entry in entries if (entry.incident.outcome, entry.told) == (outcome, told)]
        parts.append(f"{_stores_text(some)} {_over_words(some[0], count)}")
    return parts


def _over_words(entry: _Entry, count: int) -> str:
    words, be, was = KIND_WORDS[entry.incident.kind], *(("is", "was") if count == 1 else ("are", "were"))
    if entry.incident.outcome == Outcome.CLOSED:
        return f"closed for the day while {words.state}"
    if entry.incident.outcome == Outcome.CORRECTED:
        return f"{was} not {words.state} after all"
    if entry.incident.outcome == Outcome.UNKNOWN:
        return f"{be} not polled any more"
    if entry.incident.outcome == Outcome.REMOVED:
        return f"{was} removed"
    return f"{was} {words.state} and {be} {words.over}" if entry.told else f"{be} {words.over}"


def _stores_text(entries: Sequence[_Entry]) -> str:
    """Return up to three by name; more as a number, with their group when they have one together."""
    if len(entries) <= _MOST_IN_SENTENCE:
        return join_words([subject_text(entry.incident) for entry in entries])
    groups = {entry.incident.details.get("group") for entry in entries}
    (group,) = groups if len(groups) == 1 else ("",)
    of_group = f" of {cut_name(group)}" if group else ""
    what = "store" if entries[0].incident.scope == "store" else "incident"
    return f"{count_text(len(entries), what)}{of_group}"


@dataclass(frozen=True, slots=True)
class _Line:
    """What a message says of one incident; `url` is the store's page."""

    who: str
    what: str
    certainty: str
    over: bool
    url: str


def _line(entry: _Entry, now_us: int, public_url: str) -> _Line:
    incident = entry.incident
    of_store = public_url and incident.scope == "store" and incident.id
    return _Line(
        subject_text(incident),
        incident_text(incident, now_us),
        "" if entry.over else certainty_text(incident, now_us),
        entry.over,
        f"{public_url}/stores/{store_segment(incident.subject)}" if of_store else "",
    )


def _rest_text(entries: Sequence[_Entry]) -> str:
    """Return how many are not named: `and 4,990 more: 3,000 down, 1,990 up again`."""
    if not entries:
        return ""
    counts = Counter(
        KIND_WORDS[entry.incident.kind].over if entry.over else KIND_WORDS[entry.incident.kind].state
        for entry in entries
    )
    return f"and {len(entries):,} more: " + ", ".join(f"{count:,} {words}" for words, count in counts.items())


def _link(entries: Sequence[_Entry], public_url: str) -> str:
    """Return the address of the page that shows them: the store, the list of what is down, or all alerts."""
    incidents = [entry.incident for entry in entries]
    if len(incidents) == 1 and incidents[0].scope == "store":
        return f"{public_url}/stores/{store_segment(incidents[0].subject)}"
    if any(entry.over for entry in entries) or {one.kind for one in incidents} - {*_COVERED, IncidentKind.MANY_DOWN}:
        return f"{public_url}/alerts"
    groups = {one.subject if one.scope == "group" else one.details.get("group") for one in incidents}
    query = [("status", "down"), *(("group", group) for group in groups if group and len(groups) == 1)]
    return f"{public_url}/?{urlencode(query)}"


def _text(summary: str, lines: Sequence[_Line], rest: str, notes: Sequence[str], link: str) -> str:
    paragraphs = [f"{summary[:1].upper()}{summary[1:]}."]
    listed = [f"{'+' if line.over else '!'} {line.who}: {line.what}" for line in lines]
    if len(lines) > 1 or rest:
        paragraphs.append("\n".join([*listed, *([rest] if rest else [])]))
    elif lines and lines[0].certainty:
        paragraphs.append(f"{lines[0].certainty[:1].upper()}{lines[0].certainty[1:]}.")
    return "\n\n".join([*paragraphs, *notes, *([link] if link else [])]) + "\n"


def _html(summary: str, lines: Sequence[_Line], rest: str, notes: Sequence[str], link: str) -> str:
    return Markup("<p>{}</p>").format(summary)


def _event(
    summary: str, entries: Sequence[_Entry], notes: Sequence[str], link: str, now_us: int, test: bool
) -> dict[str, Any]:
    """Return the body of a webhook, with as many incidents as fit."""
    data: dict[str, Any] = {
        "summary": summary,
        "test": test,
        "note": " ".join(notes) or None,
        "url": link or None,
        "incidents_total": len(entries),
        "incidents": [],
    }
    event = {"type": "incidents.changed", "timestamp": timestamp_text(now_us), "data": data}
    room = MOST_EVENT_BYTES - len(webhook_body({"event": event}))
    for entry in entries[:_MOST_IN_EVENT]:
        one = record(entry.incident, now_us)
        room -= len(json.dumps(one, ensure_ascii=False).encode()) + 1
        if room < 0:
            break
        data["incidents"].append(one)
    return event
