"""Compose messages: a summary sentence, the incidents with the worst first, how many more there are, and a link.

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
    sentence_text,
    subject_text,
)
from storemon_flask.formatting import store_segment
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind, Outcome

# A message names this many incidents and counts the rest.
MOST_NAMED: Final = 10
# The summary, which is also a mail's subject, names up to this many stores.
_MOST_IN_SENTENCE: Final = 3
# A webhook's body has as many incidents as fit into this many bytes.
MOST_EVENT_BYTES: Final = 20_000
_SUBJECT_CUT_AT: Final = 180
_COVERED: Final = (IncidentKind.DOWN, IncidentKind.NOT_OPENED)
LIMITED_NOTE: Final = (
    f"This is the {MOST_PER_HOUR}th message within an hour. The rest follows as an hourly digest, "
    "until an hour passes without news."
)
BLIND_NOTE: Final = "Nothing is known about these stores, and nothing is reported about them, until polls come again."
TEST_NOTE: Final = "This is a test of the channel. The store does not exist, and nothing is wrong."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One incident of a message. `begins_here`: its beginning is in this message."""

    incident: Incident
    begins_here: bool

    @property
    def over(self) -> bool:
        """Return whether the incident has ended."""
        return self.incident.outcome is not None


def compose(decision: Decision, incidents: Mapping[int, Incident], now_us: int, public_url: str = "") -> dict[str, Any]:
    """Return the content of the message of those notices; `incidents` maps numbers to incidents."""
    entries = _entries(decision.notices, incidents)
    blind = any(entry.incident.kind == IncidentKind.BLIND and not entry.over for entry in entries)
    notes = [note for note, holds in ((BLIND_NOTE, blind), (LIMITED_NOTE, decision.limited)) if holds]
    return _message(entries, "storemon digest" if decision.digest else "storemon", notes, now_us, public_url)


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
    return _message([_Entry(store, begins_here=True)], "storemon test", [TEST_NOTE], now_us, public_url, test=True)


def webhook_body(content: Mapping[str, Any]) -> bytes:
    """Return the body of a webhook."""
    return json.dumps(content["event"], ensure_ascii=False, separators=(",", ":")).encode()


# What chats take for a mention or a link when it stands in a text.
_MARKS: Final = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a"})


def plain(content: Mapping[str, Any]) -> tuple[str, str]:
    """Return the title and the text for chats, in which no name of a store calls everybody or hides a link.

    A text that begins with the sentence that the title has goes on after it.
    """
    title, text = content["subject"], content["text"]
    sentence = _sentence(content["summary"])
    if title.endswith(content["summary"]) and text.startswith(sentence):
        text = text[len(sentence) :].strip() or text
    return _harmless(title), _harmless(text)


def _harmless(text: str) -> str:
    return text.translate(_MARKS).replace("](", "] (")


def _entries(notices: Iterable[Notice], incidents: Mapping[int, Incident]) -> list[_Entry]:
    """Return an entry for each incident: one that began and ended within the batch is one."""
    begins: dict[int, bool] = {}
    for notice in notices:
        begins[notice.incident] = begins.get(notice.incident, False) or notice.event == "opened"
    return [_Entry(incidents[number], began) for number, began in begins.items()]


def _split_covered(entries: Sequence[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    """Return what is said, and what began of which "many are down" says the same.

    What is over is said in any case: "mostly up again" does not say which.
    """
    many = {
        (entry.incident.scope, entry.incident.subject)
        for entry in entries
        if entry.incident.kind == IncidentKind.MANY_DOWN and not entry.over
    }
    parts: tuple[list[_Entry], list[_Entry]] = ([], [])
    for entry in sorted(entries, key=_rank):
        parts[not entry.over and _is_covered(entry.incident, many)].append(entry)
    return parts


def _is_covered(incident: Incident, many: set[tuple[str, str]]) -> bool:
    if incident.kind == IncidentKind.MANY_DOWN:
        return incident.scope != "fleet" and ("fleet", "") in many
    group = ("group", incident.details.get("group"))
    return incident.kind in _COVERED and (("fleet", "") in many or group in many)


def _rank(entry: _Entry) -> tuple[bool, int, int, int]:
    """Return the sort key that puts the worst first: open ones, by kind, then the earliest start or the longest."""
    incident = entry.incident
    length = -incident.business_us if entry.over else incident.since_us
    return entry.over, SEVERITY.index(incident.kind), length, incident.id


def _message(
    entries: Sequence[_Entry], prefix: str, notes: list[str], now_us: int, public_url: str, test: bool = False
) -> dict[str, Any]:
    named, covered = _split_covered(entries)
    summary = _summary(named, now_us)
    lines = [_line(entry, now_us, public_url) for entry in named[:MOST_NAMED]]
    rest = _rest_text(named[MOST_NAMED:])
    link = _link(named, public_url) if public_url and not test else ""
    subject = f"{prefix}: {summary}"
    return {
        "subject": subject if len(subject) <= _SUBJECT_CUT_AT else subject[: _SUBJECT_CUT_AT - 3] + "...",
        "summary": summary,
        "text": _text(summary, lines, rest, notes, link),
        "html": _html(summary, lines, rest, notes, link),
        "event": _event(summary, [*named, *covered], notes, link, now_us, test),
    }


def _summary(entries: Sequence[_Entry], now_us: int) -> str:
    """Return one sentence about all of them, without its full stop: `3 stores are down, 2 stores are up again`."""
    if len(entries) == 1:
        return sentence_text(entries[0].incident, now_us)
    wide = [entry for entry in entries if entry.incident.scope != "store"]
    parts = [sentence_text(entry.incident, now_us) for entry in wide[:2]]
    parts += [f"{len(wide) - 2:,} more like these"] if len(wide) > 2 else []
    said_alike: dict[tuple[str, ...], list[_Entry]] = {}
    for entry in entries:
        if entry.incident.scope == "store":
            said_alike.setdefault(_words_of_store(entry), []).append(entry)
    parts += [f"{_stores_text(some)} {words[len(some) > 1]}" for words, some in said_alike.items()]
    return ("; " if wide else ", ").join(parts)


def _words_of_store(entry: _Entry) -> tuple[str, str]:
    """Return what is said of one store, and of several that are the same."""
    words = KIND_WORDS[entry.incident.kind]
    match entry.incident.outcome:
        case None:
            return words.one, words.several
        case Outcome.CLOSED:
            closed = f"closed for the day while {words.state}"
            return closed, closed
        case Outcome.CORRECTED:
            return f"{words.never} after all", f"{words.never.replace('was ', 'were ', 1)} after all"
        case Outcome.UNKNOWN:
            return "is not polled any more", "are not polled any more"
        case Outcome.REMOVED:
            return "was removed", "were removed"
        case _ if entry.begins_here:
            return f"was {words.state} and is {words.over}", f"were {words.state} and are {words.over}"
        case _:
            return f"is {words.over}", f"are {words.over}"


def _stores_text(entries: Sequence[_Entry]) -> str:
    """Return up to three by name; more as a number, with their group when they have one together."""
    if len(entries) <= _MOST_IN_SENTENCE:
        return join_words([subject_text(entry.incident) for entry in entries])
    group = _common_group(entry.incident for entry in entries)
    return f"{count_text(len(entries), 'store')}{f' of {cut_name(group)}' if group else ''}"


def _common_group(incidents: Iterable[Incident]) -> str:
    """Return the group that all of them are of; empty when there is none."""
    groups = {one.subject if one.scope == "group" else one.details.get("group") for one in incidents}
    return (groups.pop() or "") if len(groups) == 1 else ""


@dataclass(frozen=True, slots=True)
class _Line:
    """What a message says of one incident; `url` is the store's page."""

    who: str
    what: str
    certainty: str
    outcome: Outcome | None
    url: str


def _line(entry: _Entry, now_us: int, public_url: str) -> _Line:
    incident = entry.incident
    of_store = public_url and incident.scope == "store" and incident.id
    return _Line(
        subject_text(incident),
        incident_text(incident, now_us),
        "" if entry.over else certainty_text(incident, now_us),
        incident.outcome,
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
    query = {"status": "down", "group": _common_group(incidents)}
    if len(incidents) == 1 and incidents[0].scope == "zone":
        query["zone"] = incidents[0].subject
    return f"{public_url}/?{urlencode({name: value for name, value in query.items() if value})}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _text(summary: str, lines: Sequence[_Line], rest: str, notes: Sequence[str], link: str) -> str:
    """Return the message as plain text. Of one incident alone the sentence says all but how sure it is."""
    paragraphs = [_sentence(summary)]
    if len(lines) > 1:
        listed = [f"- {line.who}: {line.what}{f' ({line.certainty})' if line.certainty else ''}" for line in lines]
        paragraphs.append("\n".join([*listed, *([rest] if rest else [])]))
    elif lines and lines[0].certainty:
        paragraphs.append(_sentence(lines[0].certainty))
    return "\n\n".join([*paragraphs, *notes, *([link] if link else [])]) + "\n"


# Mail programs that know dark mode take the second colours, others turn the first ones themselves.
_PAGE: Final = Markup(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 16px; }}
@media (prefers-color-scheme: dark) {{
  .open {{ color: #ff9a91 !important; }}
  .over {{ color: #6fcf8b !important; }}
  .dim {{ color: #a0a8b3 !important; }}
  a {{ color: #7fb2ff !important; }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""
)
_SIGN: Final = Markup('<span class="{}" style="color:{}" aria-hidden="true">{}</span>')
_GOOD: Final = _SIGN.format("over", "#1a6e35", "\u25b2")
# Over, and nobody says that it is up.
_NEITHER: Final = _SIGN.format("dim", "#57606a", "\u25a0")
_SIGNS: Final = {
    None: _SIGN.format("open", "#b3261e", "\u25bc"),
    Outcome.OVER: _GOOD,
    Outcome.CORRECTED: _GOOD,
    Outcome.CLOSED: _NEITHER,
    Outcome.UNKNOWN: _NEITHER,
    Outcome.REMOVED: _NEITHER,
}


def _html(summary: str, lines: Sequence[_Line], rest: str, notes: Sequence[str], link: str) -> str:
    """Return the message as a page for mail programs, light and dark; it loads nothing."""
    parts = [Markup('<p style="font-size:18px"><strong>{}</strong></p>').format(_sentence(summary))]
    if len(lines) > 1 or (lines and lines[0].certainty):
        parts.append(Markup('<ul style="list-style:none;padding:0">'))
        parts += [_html_line(line) for line in lines]
        parts.append(Markup("</ul>"))
    parts += [Markup('<p class="dim" style="color:#57606a">{}</p>').format(text) for text in (rest, *notes) if text]
    if link:
        parts.append(Markup('<p><a href="{}" style="color:#0b57c2">Show in storemon</a></p>').format(link))
    return str(_PAGE.format(title=summary, body=Markup("\n").join(parts)))


def _html_line(line: _Line) -> Markup:
    who = Markup("<bdi>{}</bdi>").format(line.who)
    if line.url:
        who = Markup('<a href="{}" style="color:#0b57c2">{}</a>').format(line.url, who)
    certainty = Markup('<br><span class="dim" style="color:#57606a">{}</span>').format(line.certainty)
    return Markup('<li style="margin:8px 0">{} <strong>{}</strong>: {}{}</li>').format(
        _SIGNS[line.outcome], who, line.what, certainty if line.certainty else ""
    )


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
    for entry in entries:
        one = record(entry.incident, now_us)
        room -= len(json.dumps(one, ensure_ascii=False).encode()) + 1
        if room < 0:
            break
        data["incidents"].append(one)
    return event
