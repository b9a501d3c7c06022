"""The reports folder held against the rows: what is left over, what is missing, what was kept long enough."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storemon_flask.database import reports, tombstones
from storemon_flask.database.connections import Connection, Database
from storemon_flask.reports import queue, xlsx

log = logging.getLogger("storemon.reports")
_REPORT: Final = re.compile(r"report_([0-9a-f]{32})\.csv")
_BEGUN: Final = re.compile(r"\.report_[0-9a-f]{32}\.csv\.[0-9a-f]{8}\.tmp")
_BEGUN_BOOK: Final = re.compile(re.escape(xlsx.FOLDERS) + "[a-z0-9_]{8}")
# Rows that are changed under one lock.
_CHUNK: Final = 500
# Opens a transaction that reads: `Database.read`, or what reads a database as it is.
Looking = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Differences:
    """Where the reports folder and the database differ.

    `orphans`: files of reports that were deleted or failed; they may be removed. `strangers`: files named like reports
    that this database never heard of, perhaps another database's. `missing`: ids of complete reports whose file is not
    there.
    """

    orphans: list[Path]
    strangers: list[Path]
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a start set right: files removed, reports without a file, reports whose file came back; strangers stay."""

    removed: int
    lost: int
    regained: int
    strangers: int


@dataclass(frozen=True, slots=True)
class Room:
    """What finished reports take: bytes of files, rows of all reports; and how many were deleted to make room."""

    bytes: int
    rows: int
    deleted: int


def consistency(looking: Looking, folder: Path) -> Differences:
    """Files without a report and reports without a file, by reading alone; each list is sorted. `OSError` when the
    folder cannot be listed; one that is not there is empty. The database may be of an older schema.

    Right beside a running server too: what differs is looked at twice, and files of reports on their way are nobody's
    orphans.
    """
    # The files first: one that is written meanwhile has its row already.
    files = list(_files(folder))
    with looking() as connection:
        states = reports.states(connection)
    wanted = {job for state, job in states.values() if state not in ("deleted", "failed")}
    missing = _missing(states, folder)
    if missing:
        # A report may have been deleted since.
        with looking() as connection:
            states |= reports.states(connection)
        missing = _missing({report_id: states[report_id] for report_id in missing}, folder)
    unwanted = [(job, file) for job, file in files if job not in wanted and file.is_file()]
    return Differences(
        [file for job, file in unwanted if job in states],
        [file for job, file in unwanted if job not in states],
        missing,
    )


def _missing(states: Mapping[str, tuple[str, str]], folder: Path) -> list[str]:
    return sorted(
        report_id
        for report_id, (state, job) in states.items()
        if state == "complete" and not queue.path(folder, job).is_file()
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(job, file) of every file that is named like a report's."""
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        found = _REPORT.fullmatch(file.name)
        if found is not None and file.is_file():
            yield found[1], file


def sweep(folder: Path) -> int:
    """Remove what a server that was killed had begun to write; how many files that was. Other files stay."""
    removed = 0
    for file in folder.glob(".report_*.tmp"):
        if _BEGUN.fullmatch(file.name):
            removed += remove(file)
    for begun in folder.glob(f"{xlsx.FOLDERS}*"):
        if _BEGUN_BOOK.fullmatch(begun.name) and begun.is_dir() and not begun.is_symlink():
            removed += sum(remove(file) for file in list(begun.iterdir()))
            with suppress(OSError):
                begun.rmdir()
    return removed


def tidy(database: Database, folder: Path, now_us: int) -> Tidied:
    """Set right what `consistency` finds, after a start; only for the one server of a database, before it runs a job.

    Reports whose files came back unchanged are complete again; complete ones without a file are deleted as lost; files
    of deleted and failed reports are removed. Files that this database never heard of stay. `OSError` as `consistency`.
    """
    if not database.exists():
        return Tidied(0, 0, 0, 0)
    regained = _regain(database, folder)
    found = consistency(database.read, folder)
    lost = 0
    for at in range(0, len(found.missing), _CHUNK):
        with database.write() as connection:
            for report_id in found.missing[at : at + _CHUNK]:
                lost += tombstones.lose(connection, report_id, now_us)
    with database.read() as connection:
        # Somebody put another file in a lost one's place; it is not ours.
        theirs = {queue.path(folder, job) for _, job, _ in tombstones.lost(connection)}
    removed = sum(remove(file) for file in found.orphans if file not in theirs)
    return Tidied(removed, lost, regained, len(found.strangers))


def _regain(database: Database, folder: Path) -> int:
    with database.read() as connection:
        lost = tombstones.lost(connection)
    back = [report_id for report_id, job, sha256 in lost if _sha256(queue.path(folder, job)) == sha256]
    if back:
        with database.write() as connection:
            return sum(tombstones.regain(connection, report_id) for report_id in back)
    return 0


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def delete(database: Database, folder: Path, report_id: str, now_us: int) -> str | None:
    """The report is deleted, on its way or finished. Its file goes unless another report shares it.

    Returns the job when it was on its way and nobody else waits for it, so that it need not go on. Errors as
    `report_store.get`; `Gone` for a deleted one.
    """
    queue.get(database, report_id)
    with database.write() as connection:
        # It may have ended, been deleted or been joined by others since.
        row = queue.present(reports.find(connection, report_id))
        tombstones.delete(connection, report_id, now_us)
        wanted = tombstones.wanted(connection, row.job)
    if wanted:
        return None
    # After the commit: a file may outlive its report for a moment, a report never its file.
    remove(queue.path(folder, row.job))
    return row.job if row.state in ("pending", "running") else None


def expire(database: Database, folder: Path, before_us: int, now_us: int) -> int:
    """Delete what was finished before that instant; how many reports that was."""
    gone = 0
    while database.exists():
        with database.write() as connection:
            count, jobs = tombstones.expire(connection, before_us, now_us, _CHUNK)
        for job in jobs:
            remove(queue.path(folder, job))
        gone += count
        if count < _CHUNK:
            break
    return gone


def make_room(
    database: Database, folder: Path, most_bytes: int | None, most_rows: int, newest: str | None, now_us: int
) -> Room:
    """Delete the oldest finished reports, but not those of the job `newest`, until their files have at most
    `most_bytes` (None: any number) and the table at most `most_rows`; the oldest tombstones go before a report does for
    its row.

    When there is too much, a twentieth more than need be goes: finding out what is there takes long.
    """
    with database.read() as connection:
        size, rows = tombstones.bytes_taken(connection), reports.count(connection)
        jobs = []
        if (most_bytes is not None and size > most_bytes) or rows > most_rows:
            jobs = tombstones.oldest_jobs(connection)
    left_bytes = size if most_bytes is None or size <= most_bytes else most_bytes * 19 // 20
    if rows > most_rows:
        rows -= _forget_oldest(database, folder, rows - most_rows * 19 // 20, now_us)
    left_rows = rows if rows <= most_rows else most_rows * 19 // 20
    leaving, surplus = [], rows - left_rows
    for job, job_bytes, count in jobs:
        if size <= left_bytes and surplus <= 0:
            break
        if job != newest:
            leaving.append(job)
            size -= job_bytes
            surplus -= count
    gone = 0
    for at in range(0, len(leaving), _CHUNK):
        chunk = leaving[at : at + _CHUNK]
        with database.write() as connection:
            gone += tombstones.make_room(connection, chunk, now_us)
        for job in chunk:
            remove(queue.path(folder, job))
    if rows > left_rows:
        rows -= _forget_oldest(database, folder, rows - left_rows, now_us)
    return Room(size, rows, gone)


def _forget_oldest(database: Database, folder: Path, count: int, now_us: int) -> int:
    with database.read() as connection:
        before_us = tombstones.forgettable_before(connection, count)
    return forget(database, folder, now_us + 1 if before_us is None else before_us)


def forget(database: Database, folder: Path, before_us: int) -> int:
    """Remove the tombstones of what was deleted before that instant; how many.

    Who asks for such a report is told 404 then.
    """
    gone = 0
    lost: set[str] = set()
    while database.exists():
        with database.write() as connection:
            found = tombstones.forget(connection, before_us, _CHUNK)
        lost |= {job for _, job, why in found if why == "lost"}
        # One that could not be removed when its report was deleted. Where one was lost there may be a file that is not
        # ours; the report that the file is named for goes last, after those that share it.
        for job in {job for report_id, job, _ in found if report_id == job} - lost:
            remove(queue.path(folder, job))
        gone += len(found)
        if not found:
            break
    return gone


def remove(file: Path) -> bool:
    """The file is gone, and it was there. One that cannot be removed is found again at the next start."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s cannot be removed, the next start tries again: %s", file, error.strerror or error)
        return False
    return True
