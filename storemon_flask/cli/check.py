"""Whether everything that is stored is whole: asked of one moment, read-only, also beside a running server."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.clock import timestamp_text
from storemon_flask.database import check, copies, files, polls, prune, reports, schema, stores
from storemon_flask.database.connections import Connection, SqliteError, explained_errors
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import load_notes
from storemon_flask.settings import Settings

# Told what is looked at, and the share of all that is done since it was told last.
Progress = Callable[[str, float], None]
# More of one kind are counted and not kept.
MOST_PROBLEMS: Final = 20


@dataclass(slots=True)
class Part:
    """One thing that was looked at: how much of it there is, how many problems it has, and the first of them."""

    name: str
    amount: str = ""
    count: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, sentence: str) -> None:
        """Count a problem, and keep it if it is one of the first."""
        self.count += 1
        if self.count <= MOST_PROBLEMS:
            self.problems.append(sentence)


@dataclass(slots=True)
class Checked:
    """What was looked at, and what is worth knowing without being wrong."""

    parts: list[Part]
    notes: list[str]

    @property
    def problems(self) -> int:
        """How many things are wrong."""
        return sum(part.count for part in self.parts)


def run(settings: Settings, progress: Progress = lambda name, share: None) -> Checked:
    """Look at everything.

    What is wrong is in the result; `DatabaseError` only when there is no database of storemon's at all.
    """
    checked = Checked([], [])
    path = settings.database
    files.refuse_second_name(path)
    with explained_errors(path), copies.looking(path, additions=True) as connection:
        checked.notes += [f"{path} {sentence}" for sentence in schema.additions(connection)]
        for name, share, look in _parts(connection):
            part = Part(name)
            checked.parts.append(part)
            progress(name, 0)
            try:
                with explained_errors(path):
                    part.amount = look(part, partial(progress, name))
            except (DatabaseError, SqliteError) as error:
                part.problem(getattr(error, "message", None) or f"{path}: {error}")
            progress(name, share)
    _reports(settings, checked)
    if not checked.problems:
        # Of data that are damaged there is nothing to be said beyond that.
        with explained_errors(path), copies.looking(path, additions=True) as connection:
            checked.notes += _pruned(connection)
            latest_us = settings.rules.latest_us(time.time_ns() // 1000)
            checked.notes += load_notes.data_notes(connection, settings.default_timezone, latest_us)
    checked.notes += _readable_by_others(path)
    left = files.leftovers(path)
    if left:
        checked.notes.append(
            f"{len(left)} temporary file(s) beside the database, such as {left[0].name}: of a command that was killed, "
            "or that is at work now"
        )
    return checked


def _readable_by_others(database: Path) -> list[str]:
    """Say when other users of the machine can read the database: copied by hand, for one."""
    mode = database.stat().st_mode
    if os.name != "posix" or not mode & stat.S_IROTH or not database.parent.stat().st_mode & stat.S_IXOTH:
        return []
    return [
        f"every user of this machine can read {database} (mode {stat.S_IMODE(mode):o}); `chmod 600` keeps it to you"
    ]


def _pruned(connection: Connection) -> list[str]:
    """Say from when on polls are complete, and how many older ones are left that count for nothing."""
    complete_from_us = stores.complete_from(connection)
    if complete_from_us is None:
        return []
    notes = [prune.completeness_note(complete_from_us)]
    left = prune.count_before(connection, complete_from_us).polls
    if left:
        notes.append(
            f"{left:,} older polls are stored and count for nothing; "
            f"`storemon prune --before {timestamp_text(complete_from_us)}` takes them out"
        )
    return notes


_Look = Callable[[Part, Callable[[float], None]], str]


def _parts(connection: Connection) -> Iterator[tuple[str, float, _Look]]:
    """Name, share of the work that is not told of while it is done, and how to look."""

    def pages(part: Part, told: Callable[[float], None]) -> str:
        for fault in copies.faults(connection, MOST_PROBLEMS):
            part.problem(fault)
        return f"{connection.execute('PRAGMA page_count').fetchone()[0]:,} pages"

    def keys(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.foreign_keys(connection, part.problem):,} tables"

    def weeks(part: Part, told: Callable[[float], None]) -> str:
        total = max(1, check.week_count(connection))
        found = polls.check(connection, part.problem, lambda done: told(0.5 * done / total))
        return f"{found[1]:,} polls in {found[0]:,} weeks"

    def values(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.values(connection, part.problem):,} rows"

    def loads(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.load_counts(connection, part.problem):,} files"

    def hours(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.hours(connection, part.problem):,} rows"

    def special_hours(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.special_hours(connection, part.problem):,} rows"

    def zones(part: Part, told: Callable[[float], None]) -> str:
        return f"{check.zones(connection, frozenset(zonedata.names()), part.problem):,} stores"

    yield "pages and indexes", 0.35, pages
    yield "references between tables", 0.05, keys
    yield "polls and stores' spans", 0.0, weeks
    yield "counts of loads", 0.05, loads
    yield "business hours", 0.02, hours
    yield "special hours", 0.01, special_hours
    yield "time zones", 0.02, zones
    yield "texts and their forms", 0.0, values


def _reports(settings: Settings, checked: Checked) -> None:
    part = Part("reports and their files")
    checked.parts.append(part)
    try:
        with explained_errors(settings.database):
            looking = partial(copies.looking, settings.database, additions=True)
            missing = reports.missing_files(looking, settings.reports_dir)
            unowned = reports.files_of_no_report(looking, settings.reports_dir)
    except (DatabaseError, SqliteError) as error:
        part.problem(getattr(error, "message", None) or str(error))
        return
    except OSError as error:
        part.problem(f"{settings.reports_dir} cannot be looked through: {error.strerror or error}")
        return
    for report_id in missing:
        part.problem(f"report {report_id} is complete, and its file is not in {settings.reports_dir}")
    for file in unowned:
        part.problem(f"{file} belongs to no report of this database; a server removes it within the hour")
    part.amount = f"{len(missing):,} files missing, {len(unowned):,} of no report"
