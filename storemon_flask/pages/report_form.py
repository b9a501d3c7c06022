"""The form that asks for a report: as the body of a request, filled in again from a report, and what is wrong at its
inputs."""

import re
from dataclasses import dataclass
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from storemon_flask.clock import timestamp_text
from storemon_flask.database.reports import ReportRecord
from storemon_flask.errors import StoremonError
from storemon_flask.labels import read_filters
from storemon_flask.reports.request import window_of_text

# As the template has them, in its order.
_LABELS: Final = {
    "as_of": "As of",
    "kind": "Of",
    "columns": "Columns",
    "windows": "Windows",
    "by": "A row for each",
    "method": "A moment has the status of",
    "shortest_minutes": "Shortest outage, in minutes",
    "compare": "Compare with the period before",
    "totals": "Totals of each group and other label, and of all stores",
    "groups": "Only these groups",
    "labels": "Only stores with these labels",
    "zones": "Only these time zones",
    "stores": "Only these stores",
}
# Periods that have a button, in the words on it.
PERIODS: Final = {
    "today": "Today",
    "yesterday": "Yesterday",
    "this_week": "This week",
    "last_week_calendar": "Last week",
    "this_month": "This month",
    "last_month": "Last month",
    "last_7_days": "Last 7 days",
    "last_30_days": "Last 30 days",
    "last_90_days": "Last 90 days",
}
_EDGES: Final = {"from": "From", "to": "to", "name": "called"}
# Rows for windows from and to that an empty form has.
_WINDOW_ROWS: Final = 3
_WINDOW_INPUT: Final = re.compile("(?:from|to|name)([0-9]{1,2})")
_WINDOW_FIELD: Final = re.compile(r"windows\[([0-9]+)\](?:\.(from|to|name))?")
_LINES: Final = ("stores", "groups", "labels", "zones")
# More are counted instead.
_MOST_MESSAGES: Final = 10


def window_rows(form: "MultiDict[str, str]") -> range:
    """Return the rows of windows from and to that the form has: those of an empty one, or as many as were filled in."""
    filled = [int(match[1]) + 1 for match in map(_WINDOW_INPUT.fullmatch, form) if match]
    return range(max([_WINDOW_ROWS, *filled]))


def _filled_rows(form: "MultiDict[str, str]") -> list[tuple[int, dict[str, str]]]:
    """The rows of windows with something in them, and their from, to and name."""
    rows = ((row, {name: form.get(f"{name}{row}", "").strip() for name in _EDGES}) for row in window_rows(form))
    return [(row, window) for row, window in rows if any(window.values())]


def body(form: "MultiDict[str, str]") -> dict[str, Any]:
    """Return what a program would send to `POST /trigger_report` for it; fields with their default are left out.

    The button of a period asks for all columns and totals of it. Outages have no totals, though the form offers them.
    """
    fields: dict[str, Any] = {}
    if form.get("compare"):
        fields["compare"] = "previous"
    if form.get("period"):
        return {**fields, "columns": "full", "windows": [form["period"]], "totals": True}
    as_of = form.get("as_of", "").strip()
    if as_of:
        fields["as_of"] = as_of
    usual = {"columns": "classic", "kind": "times", "method": "nearest", "by": ""}
    for name, default in usual.items():
        value = form.get(name, default)
        if value not in (default, ""):
            fields[name] = value
    for name in _LINES:
        values = [line.strip() for text in form.getlist(name) for line in text.splitlines()]
        if any(values):
            fields[name] = [value for value in values if value]
    if "labels" in fields:
        fields["labels"] = _labels(fields["labels"])
    windows: list[Any] = [window_of_text(text) for text in form.getlist("window")]
    windows += [{name: value for name, value in window.items() if value} for _, window in _filled_rows(form)]
    if windows:
        fields["windows"] = windows
    if form.get("totals") and form.get("kind") != "outages":
        fields["totals"] = True
    shortest = form.get("shortest_minutes", "").strip()
    if shortest:
        fields["shortest_minutes"] = _number(shortest)
    return fields


def _labels(texts: list[str]) -> dict[str, list[str]]:
    """The values of each label; of a text that is none, the text as a name, for the reader of requests to refuse."""
    try:
        return read_filters(texts)
    except ValueError:
        return {text: [""] for text in texts}


def filled_in(record: ReportRecord) -> "MultiDict[str, str]":
    """Return the form that asks for that report again: of the newest poll, unless it was asked with an as-of."""
    shape = record.shape or {}
    form: MultiDict[str, str] = MultiDict()
    if record.as_of_asked:
        form["as_of"] = timestamp_text(record.as_of_us).replace(".000000", "")
    form["columns"] = record.columns
    for name in ("kind", "method", "by", "shortest_minutes"):
        if shape.get(name) is not None:
            form[name] = str(shape[name])
    for name, values in (("stores", record.stores), ("groups", shape.get("groups")), ("zones", shape.get("zones"))):
        form.setlist(name, list(values or ()))
    labels = shape.get("labels") or {}
    form.setlist("labels", [f"{name}={value}" for name, values in labels.items() for value in values])
    windows = shape.get("windows") or []
    form.setlist("window", [one for one in windows if isinstance(one, str)])
    for row, window in enumerate([one for one in windows if isinstance(one, dict)]):
        for name, value in window.items():
            form[f"{name}{row}"] = str(value)
    for name in ("totals", "compare"):
        if shape.get(name):
            form[name] = "1"
    return form


def _number(text: str) -> float | str:
    """The number in the text; what is none stays text, for the reader of requests to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with an input: its id, its label, and the sentence beside it."""

    field: str
    label: str
    sentence: str


def field_errors(form: "MultiDict[str, str]", error: StoremonError) -> list[FieldError]:
    """Return what the error says of each input, in the order of the form; nothing when it is of none."""
    errors = error.members.get("errors")
    if not isinstance(errors, dict):
        return []
    wrong_fields = [_field_error(form, name, messages) for name, messages in errors.items()]
    order = list(_LABELS)
    return sorted(wrong_fields, key=lambda one: order.index(one.field if one.field in _LABELS else "windows"))


def _field_error(form: "MultiDict[str, str]", name: str, messages: Any) -> FieldError:
    name = name.partition(".")[0] if name.startswith("labels.") else name
    field, label = name, _LABELS.get(name, name)
    window = _WINDOW_FIELD.fullmatch(name)
    if name not in _LABELS:
        field, label = "windows", _LABELS["windows"]
    if window is not None:
        # The form has rows that are empty, which a request has not, and the windows that are ticked come first.
        number = int(window[1]) - len(form.getlist("window"))
        rows = _filled_rows(form)
        if 0 <= number < len(rows):
            edge = window[2] or "to"
            row = rows[number][0]
            field, label = f"{edge}{row}", f"{_EDGES[edge]} (window {row + 1})"
    listed = "; ".join(map(str, messages[:_MOST_MESSAGES])) if isinstance(messages, list) else str(messages)
    more = f"; and {len(messages) - _MOST_MESSAGES:,} more" if len(messages) > _MOST_MESSAGES else ""
    return FieldError(field, label, f"{label[0].upper()}{label[1:]}: {listed.rstrip('.')}{more}.")
