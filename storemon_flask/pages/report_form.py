"""The form that asks for a report: what was typed as the fields of the request that a program would send, and back."""

import re
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from storemon_flask.clock import timestamp_text
from storemon_flask.reports.queue import ReportRecord

# Windows from and to that an empty form has room for.
_ROOM: Final = 3
_PLACE: Final = re.compile("(?:from|to|name)([0-9]{1,2})")
_LINES: Final = ("stores", "groups", "zones")


def room(form: "MultiDict[str, str]") -> range:
    """The places of windows from and to that the form has: those of an empty one, or as many as were typed."""
    places = [int(found[1]) + 1 for found in map(_PLACE.fullmatch, form) if found]
    return range(max([_ROOM, *places]))


def rows(form: "MultiDict[str, str]") -> list[tuple[int, dict[str, str]]]:
    """The windows that something was typed of: their places in the form, and what was typed as from, to and name."""
    found = []
    for place in room(form):
        typed = {name: form.get(f"{name}{place}", "").strip() for name in ("from", "to", "name")}
        if any(typed.values()):
            found.append((place, typed))
    return found


def body(form: "MultiDict[str, str]") -> dict[str, Any]:
    """What `POST /trigger_report` would be sent for it; fields that say what is usual are left out."""
    found: dict[str, Any] = {}
    as_of = form.get("as_of", "").strip()
    if as_of:
        found["as_of"] = as_of
    for name, usual in (("columns", "classic"), ("kind", "times"), ("method", "nearest"), ("by", "")):
        value = form.get(name, usual)
        if value not in (usual, ""):
            found[name] = value
    for name in _LINES:
        values = [line.strip() for typed in form.getlist(name) for line in typed.splitlines()]
        if any(values):
            found[name] = [value for value in values if value]
    windows: list[Any] = form.getlist("window")
    windows += [{name: value for name, value in typed.items() if value} for _, typed in rows(form)]
    if windows:
        found["windows"] = windows
    if form.get("totals"):
        found["totals"] = True
    shortest = form.get("shortest_minutes", "").strip()
    if shortest:
        found["shortest_minutes"] = _number(shortest)
    return found


def typed(row: ReportRecord) -> "MultiDict[str, str]":
    """What somebody would type to ask for that report again: of the newest poll, unless it was asked with an as-of."""
    asked = row.shape or {}
    form: MultiDict[str, str] = MultiDict()
    if row.as_of_asked:
        form["as_of"] = timestamp_text(row.as_of_us).replace(".000000", "")
    form["columns"] = row.columns
    for name in ("kind", "method", "by", "shortest_minutes"):
        if asked.get(name) is not None:
            form[name] = str(asked[name])
    for name, values in (("stores", row.stores), ("groups", asked.get("groups")), ("zones", asked.get("zones"))):
        form.setlist(name, list(values or ()))
    windows = asked.get("windows") or []
    form.setlist("window", [one for one in windows if isinstance(one, str)])
    for place, one in enumerate([one for one in windows if isinstance(one, dict)]):
        for name, value in one.items():
            form[f"{name}{place}"] = str(value)
    if asked.get("totals"):
        form["totals"] = "1"
    return form


def _number(text: str) -> float | str:
    """The number that is typed; what is none goes on as text, for the reader of shapes to refuse."""
    try:
        return float(text)
    except ValueError:
        return text
