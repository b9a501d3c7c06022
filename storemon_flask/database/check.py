"""Whether everything that is stored is whole: read-only, of one moment, also beside a running server.

Rows are read as a stream: memory does not grow with the polls.
"""

import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.characters import count_text
from storemon_flask.clock import timestamp_text
from storemon_flask.database import day_sums, files, polls, prune, reports, schema, stores, undo
from storemon_flask.database.connections import Connection, SqliteError, connect, explained_errors
from storemon_flask.errors import DatabaseError
from storemon_flask.labels import is_packed
from storemon_flask.model import UNDATED
from storemon_flask.settings import Settings

# Called with what is looked at, and the share of all that is done since the last call.
Progress = Callable[[str, float], None]
ReportProblem = Callable[[str], None]
# More of one kind are counted and not kept.
MOST_PROBLEMS: Final = 20
# How long one look at a file may take: what a slow disk needs, and an end for a file that is made never to end.
READ_S: float = 60.0
_READ_BYTES_PER_S: Final = 10_000_000
_STEPS_PER_CHECK: Final = 100_000
# Columns of JSON and the form of each: a list of texts, numbers by name, texts by column and row, or any object.
_JSON: Final = {
    ("load", "notes"): "texts",
    ("load_file", "reasons"): "counts",
    ("load_file", "notes"): "texts",
    ("report_text", "first_stores"): "texts",
    ("report_text", "small"): "object",
    ("report_text", "large"): "texts or cells",
    ("store_record", "labels"): "labels",
}
# The last time that Python can write (microseconds, columns whose names end so), and the last date of hours, in 2199
# (days).
_LAST_US: Final = 253_402_300_799_999_999
_LAST_DAY: Final = 84_005
_DAYS: Final = ("date", "valid_from")
_HEXADECIMAL: Final = {
    ("report", "id"): ("[0-9a-f]{32}", "an id that storemon does not make"),
    ("report", "sha256"): ("[0-9a-f]{64}", "no SHA-256"),
}
_POLLS: Final = "polls and stores' spans"


@dataclass(slots=True)
class Section:
    """One thing that was checked: how much of it there is, how many problems it has, and the first of them."""

    name: str
    amount: str = ""
    count: int = 0
    problems: list[str] = field(default_factory=list)

    def add_problem(self, problem: str) -> None:
        """Count a problem, and keep it if it is one of the first."""
        self.count += 1
        if self.count <= MOST_PROBLEMS:
            self.problems.append(problem)


@dataclass(slots=True)
class Checked:
    """What was checked, and notes: what is worth knowing without being wrong."""

    sections: list[Section]
    notes: list[str]

    @property
    def problems(self) -> int:
        """Return how many things are wrong."""
        return sum(section.count for section in self.sections)


def check_database(settings: Settings, progress: Progress = lambda name, share: None) -> Checked:
    """Check everything; `DatabaseError` only when there is no database of storemon's at all."""
    checked = Checked([], [])
    path = settings.database
    files.refuse_second_name(path)
    with explained_errors(path), open_unchanged(path, additions=True) as connection:
        checked.notes += [f"{path} {addition}" for addition in schema.additions(connection)]
        for name, share, check_section in _sections(settings, connection, progress):
            section = Section(name)
            checked.sections.append(section)
            progress(name, 0)
            try:
                with explained_errors(path):
                    section.amount = check_section(section.add_problem)
            except (DatabaseError, SqliteError) as error:
                section.add_problem(getattr(error, "message", None) or f"{path}: {error}")
            progress(name, share)
        # Of data that are damaged there is nothing to be said beyond that.
        if not checked.problems:
            checked.notes += _pruned_notes(connection)
    mode = path.stat().st_mode
    if os.name == "posix" and mode & stat.S_IROTH and path.parent.stat().st_mode & stat.S_IXOTH:
        checked.notes.append(
            f"every user of this machine can read {path} (mode {stat.S_IMODE(mode):o}); `chmod 600` keeps it to you"
        )
    left = files.leftovers(path)
    if left:
        checked.notes.append(
            f"{len(left)} temporary file(s) beside the database, such as {left[0].name}: of a command that was killed, "
            "or that is at work now"
        )
    return checked


@contextmanager
def open_unchanged(path: Path, additions: bool = False) -> Iterator[Connection]:
    """Yield a read-only connection in one transaction; nothing is created or migrated.

    `DatabaseError` when there is no file, it is no database of storemon's, of a newer one, has triggers or a changed
    schema, or takes much longer to read than its size explains. `additions`: tables, views and indexes that somebody
    added are allowed.
    """
    if path.exists() and not path.is_file():
        raise DatabaseError(f"{path} is no regular file; name a database file")
    if not path.is_file():
        raise DatabaseError(f"there is no database at {path}")
    with closing(connect(path, "ro")) as connection, _limited(connection, path):
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        try:
            connection.execute("BEGIN")
            schema.pending(connection)
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                raise DatabaseError(f"{path} is empty; it is no database of storemon's")
            if additions:
                schema.refuse_dangerous(connection)
            else:
                schema.refuse_foreign(connection)
        except SqliteError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
                raise
            # A column that is not there, or a definition that is no SQL.
            raise DatabaseError(f"{path} is no database of storemon's, or damaged: {error}") from error
        yield connection


@contextmanager
def _limited(connection: Connection, path: Path) -> Iterator[None]:
    """Interrupt statements of the connection when the time is over that a file of this size may take."""
    seconds = READ_S + path.stat().st_size / _READ_BYTES_PER_S
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_PER_CHECK)
    try:
        yield
    except SqliteError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        raise DatabaseError(
            f"{path} is not read after {seconds:.0f} s, which is much longer than a file of its size takes; "
            "copy it to a faster disk, or use another backup"
        ) from error
    finally:
        connection.set_progress_handler(None, 0)


def _pruned_notes(connection: Connection) -> list[str]:
    """Say from when on polls are complete, and how many older ones are left that count for nothing."""
    complete_from_us = stores.complete_from(connection)
    if complete_from_us is None:
        return []
    notes = [prune.completeness_note(complete_from_us)]
    left = polls.count_before(connection, complete_from_us)
    if left:
        notes.append(
            f"{left:,} older polls are stored and count for nothing; "
            f"`storemon prune --before {timestamp_text(complete_from_us)}` takes them out"
        )
    return notes


def _sections(
    settings: Settings, connection: Connection, progress: Progress
) -> Iterator[tuple[str, float, Callable[[ReportProblem], str]]]:
    """Yield name, share of the work that is not reported while it is done, and the check, which returns an amount."""

    def rows(check: Callable[[Connection, ReportProblem], int], unit: str) -> Callable[[ReportProblem], str]:
        """Return a check that counts rows, and says how many of which unit it looked at."""
        return lambda report_problem: count_text(check(connection, report_problem), unit)

    def weeks(report_problem: ReportProblem) -> str:
        """Check the weeks of polls, reporting progress, and return how many polls and weeks there are."""
        total = max(1, _count(connection, "poll_week"))
        checked = polls.check(connection, report_problem, lambda done: progress(_POLLS, 0.5 * done / total))
        return f"{count_text(checked[1], 'poll')} in {count_text(checked[0], 'week')}"

    yield "pages and indexes", 0.35, rows(_check_pages, "page")
    yield "references between tables", 0.05, rows(_check_references, "table")
    yield _POLLS, 0.0, weeks
    yield "counts of loads", 0.05, rows(_check_load_counts, "file")
    yield "business hours", 0.02, rows(check_hours, "row")
    yield "special hours", 0.01, rows(check_special_hours, "row")
    yield "time zones", 0.02, rows(check_zones, "store")
    yield "texts and their forms", 0.0, rows(check_values, "row")
    yield "reports and their files", 0.0, partial(_check_report_files, settings)
    yield "what loads replaced", 0.0, rows(undo.check, "row")
    yield "sums of days", 0.0, rows(day_sums.check, "row")


def _count(connection: Connection, table: str, what: str = "*") -> int:
    return int(connection.execute(f"SELECT count({what}) FROM {table}").fetchone()[0])


def _check_report_files(settings: Settings, report_problem: ReportProblem) -> str:
    open_database = partial(open_unchanged, settings.database, additions=True)
    folder = settings.reports_dir
    try:
        missing = reports.missing_files(open_database, folder)
        unowned = reports.files_of_no_report(open_database, folder)
    except OSError as error:
        report_problem(f"{folder} cannot be looked through: {error.strerror or error}")
        return ""
    for report_id in missing:
        report_problem(f"report {report_id} is complete, and its file is not in {folder}")
    for file in unowned:
        report_problem(f"{file} belongs to no report of this database; a server removes it within the hour")
    return f"{count_text(len(missing), 'file')} missing, {len(unowned):,} of no report"


def _check_pages(connection: Connection, report_problem: ReportProblem) -> int:
    for fault in page_faults(connection, MOST_PROBLEMS):
        report_problem(fault)
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def page_faults(connection: Connection, most: int) -> list[str]:
    """Return what SQLite finds wrong with the file's pages and indexes.

    On a read-only connection it leaves CHECK constraints out: what they say of the feeds is checked here by itself.
    """
    faults = [str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({most})")]
    return [] if faults == ["ok"] else faults


def _check_references(connection: Connection, report_problem: ReportProblem) -> int:
    """Check that rows name rows that are there; return how many tables there are."""
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        report_problem(f"{table}: row {row} names a {parent.removesuffix('_record')} that is not there")
    return _count(connection, "sqlite_master WHERE type = 'table'")


def check_values(connection: Connection, report_problem: ReportProblem) -> int:
    """Check that text is UTF-8, JSON has the form that is read, and ids and times are such; return how many rows."""
    _check_times(connection, report_problem)
    _check_reports(connection, report_problem)
    rows = 0
    text_columns = {
        table: [name for _, name, kind in columns if kind == "TEXT"]
        for table, columns in groupby(_columns(connection), itemgetter(0))
    }
    connection.text_factory = bytes
    try:
        for table, names in text_columns.items():
            listed = ", ".join(f'"{name}"' for name in names)
            for number, row in enumerate(connection.execute(f'SELECT {listed} FROM "{table}"') if names else (), 1):
                rows += 1
                for name, value in zip(names, row, strict=True):
                    fault = _text_fault(table, name, value)
                    if fault:
                        report_problem(f"{table}: row {number} has in {name} {fault}")
    finally:
        connection.text_factory = str
    return rows


def _columns(connection: Connection) -> list[tuple[str, str, str]]:
    """Return (table, column, type) of every column."""
    return connection.execute(
        "SELECT tables.name, columns.name, columns.type FROM sqlite_master AS tables, "
        "pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    ).fetchall()


def _check_reports(connection: Connection, report_problem: ReportProblem) -> None:
    """Check that complete reports say what came of them, and that texts of queries and outcomes have their forms."""
    for (report_id,) in connection.execute(
        "SELECT id FROM report WHERE state = 'complete' "
        "AND (started_us + finished_us + row_count + byte_count IS NULL OR sha256 IS NULL)"
    ):
        report_problem(f"report: {report_id} is complete, without its times, counts or hash")
    for reference, other in (("query_text", "object"), ("outcome_text", "array")):
        wrong = connection.execute(
            f"SELECT report.rowid FROM report JOIN report_text ON number = {reference} "
            "WHERE CASE WHEN json_valid(large) THEN json_type(large) END = ?",
            [other],
        )
        for (row,) in wrong:
            report_problem(f"report: row {row} has as {reference} the text of another kind")


def _check_times(connection: Connection, report_problem: ReportProblem) -> None:
    for table, column, _ in _columns(connection):
        if not column.endswith("_us") and column not in _DAYS:
            continue
        last, none = (_LAST_US, 0) if column.endswith("_us") else (_LAST_DAY, UNDATED)
        for (value,) in connection.execute(
            f'SELECT "{column}" FROM "{table}" WHERE "{column}" NOT BETWEEN 0 AND ? AND "{column}" <> ?', (last, none)
        ):
            report_problem(f"{table}: {column} is {value!r}, which is no time that storemon writes")


def _text_fault(table: str, column: str, value: object) -> str | None:
    """Return what is wrong with a value of a text column; None when nothing is."""
    if value is None:
        return None
    try:
        text = value.decode() if isinstance(value, bytes) else ""
    except UnicodeDecodeError:
        return "text that is not UTF-8"
    form = _JSON.get((table, column))
    if form is not None and not (_has_form(text, form) or (text == "null" and table != "load")):
        return f"JSON of another form than storemon writes ({text[:60]!r})"
    pattern, fault = _HEXADECIMAL.get((table, column), ("", ""))
    return f"{fault} ({text[:60]!r})" if pattern and re.fullmatch(pattern, text) is None else None


def _has_form(text: str, form: str) -> bool:
    if form == "labels":
        return is_packed(text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if form == "texts":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if form == "counts":
        return isinstance(value, dict) and all(type(one) is int for one in value.values())
    if form == "texts or cells":
        return _has_form(text, "texts") or (isinstance(value, dict) and all(map(_are_cells, value.values())))
    return isinstance(value, dict)


def _are_cells(value: object) -> bool:
    return isinstance(value, dict) and all(row.isdecimal() and isinstance(cell, str) for row, cell in value.items())


def _check_load_counts(connection: Connection, report_problem: ReportProblem) -> int:
    """Check that the counts of every file of every load add up; return how many files there are."""
    rows = connection.execute(
        "SELECT load, file, row_count, rejected_count, reasons, "
        "new_count + changed_count + unchanged_count + repeated_count + rejected_count, "
        "(SELECT count(*) FROM reject WHERE load_file = load_file.id) FROM load_file ORDER BY load_file.id"
    )
    for load, file, row_count, rejected, reasons, together, stored in rows:
        if row_count != together:
            report_problem(
                f"load {load}, {file}: {count_text(row_count, 'row')}, and {together:,} when its counts are added up"
            )
        if not _has_form(reasons, "counts"):
            # `check_values` says so.
            continue
        by_reason = sum(json.loads(reasons).values())
        if by_reason != rejected:
            which = count_text(rejected, "row")
            report_problem(f"load {load}, {file}: {which} rejected, and {by_reason:,} when its reasons are added up")
        if stored > rejected:
            which = count_text(stored, "rejected row is", "rejected rows are")
            report_problem(f"load {load}, {file}: {which} kept of {rejected:,}")
    for (load,) in connection.execute("SELECT id FROM load WHERE id NOT IN (SELECT load FROM load_file)"):
        report_problem(f"load {load} has no file")
    return _count(connection, "load_file")


def check_hours(connection: Connection, report_problem: ReportProblem) -> int:
    """Check days and times of the hours; return how many rows there are."""
    wrong = connection.execute(
        "SELECT store, day, start_s, end_s FROM hours "
        "WHERE day NOT BETWEEN 0 AND 6 OR start_s NOT BETWEEN 0 AND 86399 OR end_s NOT BETWEEN 0 AND 86400"
    )
    for store, day, start, end in wrong:
        report_problem(f"hours of store number {store}: day {day} from second {start} to second {end}")
    return _count(connection, "hours")


def check_special_hours(connection: Connection, report_problem: ReportProblem) -> int:
    """Check that no date of a store is both closed all day and not; return how many rows there are."""
    for store, date in connection.execute(
        "SELECT store, date FROM special_hours GROUP BY store, date HAVING min(start_s) = -1 AND max(start_s) > -1"
    ):
        report_problem(f"special hours of store number {store}: day {date} after 1970-01-01 is both closed and not")
    return _count(connection, "special_hours")


def check_zones(connection: Connection, report_problem: ReportProblem) -> int:
    """Check that every zone is known; return how many stores have one."""
    known = frozenset(zonedata.names())
    for store_id, name in connection.execute(
        "SELECT store_id, timezone.name FROM timezone JOIN store_record ON number = store"
    ):
        if name not in known:
            report_problem(f"store {store_id!r} has the time zone {name!r}, which is not known here")
    return _count(connection, "timezone", "DISTINCT store")
