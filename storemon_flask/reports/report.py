"""A report from the database to its file: read one moment's data, compute slice by slice, write, rename."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storemon_flask import clock, zonedata
from storemon_flask.characters import show_invisible
from storemon_flask.clock import minute_text, timestamp_text
from storemon_flask.database import files, schedule, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import newest_poll, silence_note
from storemon_flask.database.schedule import Schedule
from storemon_flask.errors import NoPolls, OnlyFuturePolls, ReportFailed, Unprocessable
from storemon_flask.model import HOUR_US, MINUTE_US, ReportOutcome, Rules
from storemon_flask.reports import computing, outages, report_text, shaped, shaped_text, shapes
from storemon_flask.reports.computing import Progress
from storemon_flask.reports.report_text import ReportText
from storemon_flask.reports.shapes import Shape
from storemon_flask.uptime.measures import CLASSIC_WINDOWS
from storemon_flask.version import VERSION


@dataclass(frozen=True, slots=True)
class Asked:
    """A report as it is asked for: as-of (None: the newest poll that is not in the future), columns, which stores
    (None: all), and other fields of its shape by their names (`shapes.FIELDS`)."""

    as_of_us: int | None = None
    columns: str = "classic"
    stores: Sequence[str] | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """The same, settled: as-of, columns (`classic` or `full`), which stores (None: all), and the shape (None: the
    classic one).
    """

    as_of_us: int
    columns: str = "classic"
    stores: tuple[str, ...] | None = None
    shape: Shape | None = None


def ask(
    database: Database,
    asked: Asked,
    default_zone: str,
    most_rows: int,
    at: Connection | None = None,
    latest_us: int = clock.LATEST_US,
) -> Question:
    """The question with its as-of settled: where none was given, the newest poll up to `latest_us` (`Rules.latest_us`
    of now).

    `NoPolls` when there is none, `OnlyFuturePolls` when all are later; `Unprocessable` names unknown stores, an as-of
    outside 1970 to 2200, and what is wrong about the shape, or that it would have more than `most_rows` rows.
    """
    if at is None:
        with database.read() as connection:
            return ask(database, asked, default_zone, most_rows, connection, latest_us)
    shape = shapes.read(asked.shape)
    as_of_us = _default_as_of(database, at, latest_us) if asked.as_of_us is None else asked.as_of_us
    clock.check_as_of(as_of_us)
    wanted = None if asked.stores is None else tuple(dict.fromkeys(asked.stores))
    if wanted is not None:
        _check_stores(at, wanted)
    question = Question(as_of_us, asked.columns, wanted, shape)
    if shape is not None and shape.kind == "times":
        shapes.check_as_of(shape, as_of_us)
        rows = shaped.count(_plan(database, at, question, default_zone), shape, as_of_us)
        if rows > most_rows:
            raise shaped.too_many(rows, most_rows)
    return question


def _default_as_of(database: Database, connection: Connection, latest_us: int) -> int:
    newest = newest_poll(database, connection, latest_us)
    if newest.poll_us is not None:
        return newest.poll_us
    if not newest.ahead:
        raise NoPolls
    latest = minute_text(latest_us)
    raise OnlyFuturePolls(
        f"every poll is later than {latest}, the latest that this machine's clock allows; set the clock, or give an as_of",
        people=f"every poll is later than {latest}, the latest that the server's clock allows; its clock seems to be wrong",
    )


def _check_stores(connection: Connection, wanted: Sequence[str]) -> None:
    _, missing = stores.rows_of(connection, wanted)
    if missing:
        missing = [show_invisible(store_id) for store_id in missing]
        named = ", ".join(repr(store_id) for store_id in missing[:10])
        more = f" and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        raise Unprocessable(
            f"unknown stores: {named}{more}", errors={"stores": ["unknown: " + s for s in missing[:100]]}
        )


def _plan(database: Database, connection: Connection, question: Question, default_zone: str) -> Schedule:
    """The stores of the report; `Unprocessable` names a group or zone that no store has."""
    plan = schedule.read(database, connection, default_zone, question.stores, question.as_of_us)
    shape = question.shape
    if shape is None or (shape.groups is None and shape.zones is None):
        return plan
    for field_name, wanted, there in (
        ("groups", shape.groups, plan.groups),
        ("zones", shape.zones, plan.zone_of_store),
    ):
        unknown = sorted(set(wanted or ()) - set(there))
        if unknown:
            raise Unprocessable(
                f"{field_name}: no store is in {', '.join(map(repr, unknown[:10]))}",
                errors={field_name: ["unknown: " + name for name in unknown[:100]]},
            )
    chosen = [
        store_id
        for store_id, group, zone in zip(plan.ids, plan.groups, plan.zone_of_store, strict=True)
        if (shape.groups is None or group in shape.groups) and (shape.zones is None or zone in shape.zones)
    ]
    return schedule.read(database, connection, default_zone, chosen, question.as_of_us)


def compute(
    database: Database, question: Question, rules: Rules, default_zone: str, progress: Progress = lambda part: None
) -> ReportText:
    """The report as text. Everything is read in one transaction, so it is the data of one moment."""

    def told(part: float) -> None:
        # The last twentieth is for writing.
        progress(0.95 * part)

    with database.read() as connection:
        plan = _plan(database, connection, question, default_zone)
        shape = question.shape
        version = stores.data_version(connection)
        if shape is None:
            table = computing.table(connection, plan, question.as_of_us, rules, question.columns, told)
            polls = int(table["polls_heard"].sum())
            text = report_text.render(report_text.columns_of(plan), table, question.columns)
        elif shape.kind == "outages":
            text, polls = outages.compute(connection, plan, shape, question.as_of_us, rules, told)
        else:
            rules = replace(rules, method=shape.method)
            rows, polls = shaped.compute(connection, plan, shape, question.as_of_us, rules, told)
            text = shaped_text.render(shape, report_text.columns_of(plan), plan.groups, rows, question.columns)
        note = silence_note(connection, question.as_of_us)
    return replace(text, method={**_method(question, rules, default_zone, version, len(plan.ids), polls), "note": note})


def _method(
    question: Question, rules: Rules, default_zone: str, data_version: int, store_count: int, poll_count: int
) -> dict[str, Any]:
    """How a report was made, for whoever doubts it: what was asked, by which rules, of which data."""
    shape = question.shape
    return {
        "as_of": timestamp_text(question.as_of_us),
        "kind": shape.kind if shape else "times",
        "columns": question.columns,
        "method": rules.method,
        "windows": [window.name for window in shape.windows] if shape else [w.name for w in CLASSIC_WINDOWS],
        "by": shape.by if shape else None,
        "totals": shape.totals if shape else False,
        "stores_asked": None if question.stores is None else len(question.stores),
        "groups": list(shape.groups) if shape and shape.groups else None,
        "zones": list(shape.zones) if shape and shape.zones else None,
        "reach_hours": rules.reach_us / HOUR_US,
        "max_gap_minutes": rules.max_gap_us / MINUTE_US,
        "default_timezone": default_zone,
        "stores": store_count,
        "polls": poll_count,
        "data_version": data_version,
        "tzdata": zonedata.version(),
        "storemon": VERSION,
    }


def write(text: ReportText, path: Path) -> ReportOutcome:
    """The report's file, whole or not at all: a temporary name beside the final one, fsync, rename.

    `ReportFailed` with a sentence when the folder cannot be written or the disk is full.
    """
    data = text.csv.encode()
    # Behind a link, the file it leads to is the one to replace.
    final = path.resolve()
    try:
        with files.replacing(final) as temporary:
            temporary.write_bytes(data)
            if final.exists():
                shutil.copymode(final, temporary)
    except OSError as error:
        raise ReportFailed(f"{path} cannot be written: {error.strerror or error}") from error
    return ReportOutcome(text.rows, len(data), hashlib.sha256(data).hexdigest(), text.altered, text.method)
