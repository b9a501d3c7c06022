"""What is wrong with the form that asks for a report: at its very input, in the words of its labels.

Programs are told the same in the names of the fields that they send; the rules are those of `services.shapes` and the
schema.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from storemon_flask import clock
from storemon_flask.errors import StoremonError
from storemon_flask.pages import report_form

# As the template has them, in its order.
LABELS: Final = {
    "as_of": "As of",
    "kind": "Of",
    "columns": "Columns",
    "windows": "Windows",
    "by": "A row for each",
    "method": "A moment has the status of",
    "shortest_minutes": "Shortest outage, in minutes",
    "totals": "Totals of each group and of all stores",
    "groups": "Only these groups",
    "zones": "Only these time zones",
    "stores": "Only these stores",
}
_EDGES: Final = {"from": "From", "to": "to", "name": "called"}
_ONE_WINDOW: Final = re.compile(r"windows\[([0-9]+)\](?:\.(from|to|name))?")
# More names than these are counted instead.
_NAMED: Final = 10
_OUTAGES: Final = "“outages, one a row”"
_TIMES: Final = "choose “uptime and downtime” at “Of”"
_OF_TIMES: Final = {
    "by": f"Outages come one a row: choose “store” here, or {_TIMES}.",
    "totals": f"Outages have no totals: take the tick away, or {_TIMES}.",
    "method": f"Outages are those of the nearest poll: choose that here, or {_TIMES}.",
}
_AN_INSTANT: Final = "a date such as 2024-10-01, or an instant with an offset such as 2024-10-01T09:00-05:00"
_OF_WINDOWS: Final = {
    "mixed": "One end is a date and the other an instant: write two dates, or two instants with an offset.",
    "order": "The end must come after the beginning.",
    "range": "A window lies between 1970-01-01 and 2200-01-01.",
    "long": "A window is at most 400 days long.",
    "name": "A name has 1 to 100 characters that can be printed.",
    "after": "It ends after the as-of, and nothing is known of later. Without an as-of the report is of the newest poll.",
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong: the id of the input, its label, and the sentence beside it."""

    field: str
    label: str
    sentence: str


def told(form: "MultiDict[str, str]", error: StoremonError) -> list[Wrong]:
    """What the error says of each input, in the order of the form; nothing when it is of none."""
    errors = error.members.get("errors")
    if not isinstance(errors, dict):
        return []
    found = [_told(form, error, name, messages) for name, messages in errors.items()]
    order = list(LABELS)
    return sorted(found, key=lambda one: order.index(one.field) if one.field in order else order.index("windows"))


def _told(form: "MultiDict[str, str]", error: StoremonError, name: str, messages: Any) -> Wrong:
    if name.startswith("windows"):
        return _of_windows(form, error, name)
    return Wrong(name, LABELS.get(name, name), _sentence(form, error, name, messages))


def _sentence(form: "MultiDict[str, str]", error: StoremonError, name: str, messages: Any) -> str:
    typed = form.get(name, "").strip()[:100]
    if name == "as_of":
        try:
            clock.parse_timestamp(typed)
        except ValueError:
            return f"“{typed}” is no date or instant: write one such as 2024-10-14 or 2024-10-14 23:55."
        return f"“{typed}” does not lie between 1970-01-01 and 2200-01-01."
    if name == "stores":
        return f"There is no store {_listed(messages)}."
    if name in ("groups", "zones"):
        return f"No store is in {_listed(messages)}."
    if name == "shortest_minutes" and error.why == "kind":
        return f"Only outages have a shortest length: choose {_OUTAGES} at “Of”, or leave this empty."
    if name == "shortest_minutes":
        return f"“{typed}” is no number of minutes from 0 to 576,000, which are 400 days."
    if "rows" in error.members:
        count = error.members["rows"]
        return f"The report would have {count:,} rows, more than are made here: take longer periods, a shorter window or fewer stores."
    if error.why == "kind" and name in _OF_TIMES:
        return _OF_TIMES[name]
    return f"“{typed}” is not among what there is to choose: choose one of the list."


def _of_windows(form: "MultiDict[str, str]", error: StoremonError, name: str) -> Wrong:
    """Of a row of the form, which has empty ones that a program is not sent, or of all the windows."""
    chosen, rows = form.getlist("window"), report_form.rows(form)
    found = _ONE_WINDOW.fullmatch(name)
    place = int(found[1]) - len(chosen) if found else -1
    if error.why == "twice":
        names = [typed["name"] or f"{typed['from']}_{typed['to']}" for _, typed in rows]
        again = [at for at, one in enumerate(names) if one in [*chosen, *names[:at]]]
        if again:
            return _at(
                rows[again[0]][0], "name", f"Two windows are called “{names[again[0]]}”: give this one another name."
            )
    if found and 0 <= place < len(rows):
        edge = found[2] or "to"
        typed = rows[place][1][edge][:100]
        sentence = _OF_WINDOWS.get(error.why, f"“{typed}” is neither of the two: write {_AN_INSTANT}.")
        if error.why == "missing":
            sentence = f"{'Since' if edge == 'from' else 'Until'} when? Write {_AN_INSTANT}."
        return _at(rows[place][0], edge, sentence)
    count = len(chosen) + len(rows)
    sentence = f"These are {count} windows; a report has at most 50."
    if error.why == "one" and form.get("kind") == "outages":
        sentence = f"These are {count} windows: choose one, in which outages are looked for."
    elif error.why == "one":
        sentence = f"These are {count} windows: choose one, which is cut into {form.get('by')}s."
    elif error.why == "after":
        sentence = _OF_WINDOWS["after"]
    elif error.why == "choice":
        sentence = "One of them is not among what there is to choose."
    return Wrong("windows", LABELS["windows"], sentence)


def _at(place: int, edge: str, sentence: str) -> Wrong:
    return Wrong(f"{edge}{place}", f"{_EDGES[edge]} (window {place + 1})", sentence)


def _listed(messages: Any) -> str:
    """The names in messages such as `unknown: nobody`."""
    names = [str(message).partition(": ")[2] for message in messages]
    shown = [f"“{name[:100]}”" for name in names[:_NAMED]]
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
