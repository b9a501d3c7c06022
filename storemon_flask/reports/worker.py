"""The worker: takes reports in, computes them on an executor, tries again, recovers after a crash, and wakes whoever
waits for one."""

import base64
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from storemon_flask import logs, zonedata
from storemon_flask.database import files, readiness, reports, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.reports import NewReport, ReportRecord
from storemon_flask.errors import Busy, DatabaseError, QueueFull, ReportFailed, StoremonError, out_of_memory
from storemon_flask.model import HOUR_US, SECOND_US, ReportOutcome
from storemon_flask.reports import compute, stored
from storemon_flask.reports import request as requests
from storemon_flask.reports.metrics import ReportMetrics
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.retention import Retention
from storemon_flask.reports.scheduler import Scheduler
from storemon_flask.settings import Settings
from storemon_flask.slots import Slots
from storemon_flask.version import VERSION

log = logging.getLogger("storemon.reports")

# What the different reports that wait ask for, together.
MOST_WAITING_BYTES: Final = 100_000_000
# With the waits of `retry_wait_us`, the last try is half an hour after the first.
MOST_TRIES: Final = 8
_FIRST_WAIT_S: Final = 1
_LONGEST_WAIT_S: Final = 900
# Locked, the disk full, an I/O error, too many files open; and a folder or temporary file that somebody removed.
_TEMPORARY_ERRNOS: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE,
        errno.ENOMEM, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_TEMPORARY_CODES: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
# The first time and once more after the process died under it.
MOST_DEATHS: Final = 2
_PROGRESS_EVERY_S: Final = 0.2
# A report that cannot even be started (the database cannot be written) is tried again after this long.
_NOT_STARTED_US: Final = 10 * SECOND_US
# Whoever waits for a report looks at its row so often: another process may have it.
_LOOK_EVERY_S: Final = 1.0
DIED: Final = "the server died twice while it computed this report; its log may say why"


class _Stopping(Exception):
    """The server is going down and asks a running report to stop at its next step."""


class _Cancelled(Exception):
    """The report was deleted while it was computed."""


class InlineExecutor(Executor):
    """Runs each report to its end before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Waiters:
    """Requests that wait for reports. Safe to share between threads; keeps nothing of reports that nobody waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, set[threading.Event]] = {}
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether the server stops, so that nothing is to be waited for any more."""
        return self._stopped.is_set()

    @contextmanager
    def waiting(self, report_id: str) -> Iterator[threading.Event]:
        """Yield an event that is set when something becomes of the report, or the server stops, while the context
        lasts."""
        event = threading.Event()
        with self._lock:
            self._events.setdefault(report_id, set()).add(event)
        if self.stopped:
            event.set()
        try:
            yield event
        finally:
            with self._lock:
                self._events[report_id].discard(event)
                if not self._events[report_id]:
                    del self._events[report_id]

    def wake(self, report_id: str) -> None:
        """Wake whoever waits for this report; what became of it must be in the database by now."""
        with self._lock:
            for event in self._events.get(report_id, ()):
                event.set()

    def stop(self) -> None:
        """Wake everybody, also who comes later. A signal handler may call this: it takes no lock that its thread may
        hold."""
        self._stopped.set()
        # Copies: other threads may come and go meanwhile.
        for events in list(self._events.values()):
            for event in list(events):
                event.set()


def _now_us() -> int:
    return time.time_ns() // 1000


class Worker:
    """Takes reports in, answers their ids, and computes them on an executor; one scheduler does what comes later.

    `clock` tells the time in microseconds.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        executor: Executor,
        scheduler: Scheduler | None = None,
        clock: Callable[[], int] = _now_us,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.database = database
        self.settings = settings
        self.scheduler = scheduler or Scheduler(threaded=False)
        self.registry = registry or CollectorRegistry()
        self.metrics = ReportMetrics(self.registry)
        self.slots = Slots(settings.http_threads)
        self._executor = executor
        self._clock = clock
        self._retention = Retention(database, settings, self.metrics)
        self._waiters = _Waiters()
        self._adding_latest = threading.Lock()
        # Of each report that runs, whether it was deleted.
        self._cancelled: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self._ended = False

    def submit(self, request: ReportRequest) -> str:
        """Store a new report and return its id; its as-of is settled now. It is committed before it is handed to the
        executor.

        `Busy` when too many triggers wait for a load, `QueueFull` when too many reports wait; other errors as
        `compute.make_query`.
        """
        with self.slots.for_change():
            report_id = self._add(request)
        self._hand_over(report_id)
        return report_id

    def latest(self, request: ReportRequest, max_age_us: int) -> str:
        """Return the id of a report that answers this: the newest complete one of the data as they are now, or finished
        at most `max_age_us` ago; else such a one that is on its way; else a new one.

        Errors as `submit`.
        """
        known = self._latest(request, max_age_us)
        if known is not None:
            return known
        # One after the other: of two that find nothing, the second must find what the first adds, were it complete by
        # then.
        with self.slots.for_change(), self._adding_latest:
            known = self._latest(request, max_age_us)
            if known is not None:
                return known
            report_id = self._add(request)
        self._hand_over(report_id)
        return report_id

    def _add(self, request: ReportRequest) -> str:
        now_us = self._clock()
        readiness.require_room(self.settings)
        self._retention.reserve_row(now_us)
        with self.database.write() as connection:
            new = self._new_report(connection, request, now_us)
            count, size = reports.waiting(connection, new.query_digest, new.as_of_us)
            if count >= self.settings.max_pending_reports:
                raise QueueFull(f"{count:,} report(s) are waiting, as many as may; try again later")
            if size >= MOST_WAITING_BYTES:
                raise QueueFull(
                    f"the reports that wait ask for {size / 1e6:,.0f} MB of names of stores, groups and windows, "
                    f"and there may be {MOST_WAITING_BYTES / 1e6:,.0f}; try again later"
                )
            reports.add(connection, new, now_us)
        return new.id

    def _latest(self, request: ReportRequest, max_age_us: int) -> str | None:
        if not self.database.exists():
            return None
        now_us = self._clock()
        with self.database.read() as connection:
            new = self._new_report(connection, request, now_us)
            for record in reports.fresh(connection, new, now_us - max_age_us, now_us):
                if self.path(record.id).is_file():
                    return record.id
            on_its_way = reports.on_its_way(connection, new, now_us - max_age_us, now_us)
        return None if on_its_way is None else on_its_way.id

    def _new_report(self, connection: Connection, request: ReportRequest, now_us: int) -> NewReport:
        """Return the checked request as a report with an id of 128 random bits."""
        settings = self.settings
        query = compute.make_query(
            self.database,
            request,
            settings.default_timezone,
            settings.max_report_rows,
            connection,
            settings.rules.latest_us(now_us),
            settings.dayparts,
        )
        store_ids = None if query.stores is None else sorted(query.stores)
        alike = replace(query, as_of_us=0, stores=None if store_ids is None else tuple(store_ids))
        rules = asdict(settings.rules)
        settled = json.dumps([VERSION, zonedata.version(), asdict(alike), settings.default_timezone, rules])
        # 128 bits in 22 letters: it stands in every row and in two indexes.
        digest = base64.urlsafe_b64encode(hashlib.sha256(settled.encode()).digest()[:16]).decode()[:22]
        return NewReport(
            secrets.token_hex(16),
            query.as_of_us,
            request.as_of_us is not None,
            request.columns,
            store_ids,
            dict(request.fields),
            digest,
            stores.data_version(connection),
        )

    def wait_for(
        self, report_id: str | None, wait_s: float, unwanted: Callable[[], bool] = lambda: False
    ) -> ReportRecord:
        """Return the report once it has ended, or as it is after `wait_s`; at once when as many wait as may, or the
        server stops, and soon when nobody wants the answer any more.

        Errors as `stored.get`.
        """
        record = stored.get(self.database, report_id)
        if wait_s <= 0 or record.ended:
            return record
        end = time.monotonic() + wait_s
        try:
            with self.slots.for_wait(), self._waiters.waiting(record.id) as woken:
                while True:
                    # It may have ended before anybody knew that it is waited for.
                    record = stored.get(self.database, report_id)
                    left_s = end - time.monotonic()
                    if record.ended or left_s <= 0 or self._waiters.stopped or unwanted():
                        return record
                    woken.wait(min(left_s, _LOOK_EVERY_S))
                    woken.clear()
        except Busy:
            return record

    def stop_waiting(self) -> None:
        """Requests that wait, for a report or for the database, and loads give up now: the server is going down. For
        signal handlers."""
        self.database.stop_waiting()
        self._waiters.stop()

    def delete(self, report_id: str) -> None:
        """Delete a report: one that waits is not computed, a running one stops at its next step, a finished one's file
        goes.

        Errors as `stored.get`.
        """
        with self.slots.for_change():
            stored.delete(self.database, self.settings.reports_dir, report_id, self._clock())
        cancelled = self._cancelled.get(report_id)
        if cancelled is not None:
            cancelled.set()
        self._waiters.wake(report_id)
        log.info("report %s deleted", report_id)

    def takes_work(self) -> bool:
        """Return whether reports that are triggered now will be computed by this process."""
        return not self._ended

    def recover(self, died: bool = True) -> int:
        """Run again what was pending or running when the last server went, and return how many reports that is; begin
        retention.

        `died`: it did not end in good order. One that did, and could not requeue its reports, counts against none of
        them. Only for the server that holds the lock: anybody else would take reports away from it.
        """
        now_us = self._clock()
        with self.database.write() as connection:
            pending, failed = reports.recover(connection, now_us, MOST_DEATHS, DIED, died)
        for report_id in failed:
            log.error("report %s failed: %s", report_id, DIED)
            self.metrics.count_attempt("failed", None)
        self.scheduler.add("retention", lambda: self._retention.run(self._clock()), every_us=HOUR_US)
        self.scheduler.run_due()
        for report_id, next_try_us in pending:
            if next_try_us is None or next_try_us <= now_us:
                self._hand_over(report_id)
            else:
                # Not later than the longest wait, whatever the clock was when that was written.
                self._run_later(report_id, min(next_try_us - now_us, retry_wait_us(MOST_TRIES)))
        return len(pending)

    def stop(self, grace_s: float) -> None:
        """Take no more work; give what is running `grace_s` to finish, then requeue it."""
        self._ended = True
        self._waiters.stop()
        timer = threading.Timer(grace_s, self._stopping.set)
        timer.daemon = True
        timer.start()
        try:
            self.scheduler.stop()
            # What is queued stays pending in the database, for the next server.
            self._executor.shutdown(wait=True, cancel_futures=True)
        finally:
            timer.cancel()

    def _hand_over(self, report_id: str) -> None:
        try:
            self._executor.submit(self.run, report_id)
        except (RuntimeError, MemoryError) as error:
            no_memory = out_of_memory(error)
            if no_memory is None:
                # The pool is shutting down; the row is pending, and the next server runs it.
                log.info("report %s waits for the next start", report_id)
            else:
                log.warning("report %s cannot begin yet: %s", report_id, no_memory.message)
                self._run_later(report_id, _NOT_STARTED_US)

    def _run_later(self, report_id: str, wait_us: int) -> None:
        if not self._stopping.is_set():
            self.scheduler.add(f"report {report_id}", partial(self._hand_over, report_id), wait_us)

    def run(self, report_id: str) -> None:
        """Compute one pending report to its end; every outcome is in its row."""
        started = time.monotonic()
        outcome: str | None = "unrecorded"
        self._cancelled[report_id] = threading.Event()
        with logs.marked(report_id=report_id):
            try:
                outcome = self._run(report_id)
            except Exception:
                # The row could not even be set failed (say, the disk is full): recovery finds it running.
                log.exception("report %s could not be recorded", report_id)
            finally:
                del self._cancelled[report_id]
            self._waiters.wake(report_id)
            if outcome is not None:
                seconds = time.monotonic() - started
                self.metrics.count_attempt(outcome, seconds)
                fields = {"event": "report", "outcome": outcome, "ms": round(seconds * 1000, 1)}
                log.debug("report %s ended: %s", report_id, outcome, extra=fields)

    def _run(self, report_id: str) -> str | None:
        """Return what became of it (`metrics.OUTCOMES`); None when it was not started."""
        try:
            with self.database.write() as connection:
                record = reports.start(connection, report_id, self._clock())
        except Exception as error:
            # It is pending still, and nobody else would come back for it.
            log.warning("report %s cannot begin yet: %s", report_id, error)
            self._run_later(report_id, _NOT_STARTED_US)
            return None
        if record is None:
            return None
        started = time.monotonic()
        try:
            outcome, byte_count = self._outcome(record)
        except _Stopping:
            self._record(lambda connection: reports.requeue(connection, report_id))
            log.info("report %s requeued: the server is stopping", report_id)
            return "requeued"
        except _Cancelled:
            log.info("report %s stopped: it was deleted", report_id)
            return "deleted"
        except Exception as error:
            return self._failed(record, error)
        if self._record(lambda connection: reports.complete(connection, report_id, self._clock(), outcome)):
            log.info(
                "report %s complete: %d stores in %.3f s", report_id, outcome.row_count, time.monotonic() - started
            )
            self._make_room(report_id, byte_count)
            return "complete"
        stored.remove_file(self.path(report_id))
        log.info("report %s was deleted before it was complete", report_id)
        return "deleted"

    def _make_room(self, report_id: str, byte_count: int) -> None:
        try:
            self._retention.add_bytes(report_id, byte_count, self._clock())
        except StoremonError as error:
            # The report is complete all the same, and the next one tries again.
            log.warning("older reports cannot be deleted now: %s", error.message)

    def _failed(self, record: ReportRecord, error: Exception) -> str:
        """Put the report off until its next try, or set it failed; what became of it."""
        report_id = record.id
        sentence = error_message(error)
        known = isinstance(error, StoremonError) or out_of_memory(error) is not None
        temporary = is_temporary(error)
        if temporary and record.tries < MOST_TRIES:
            wait_us = retry_wait_us(record.tries)
            if not self._record(
                lambda connection: reports.retry_later(connection, report_id, sentence, self._clock() + wait_us)
            ):
                return "deleted"
            wait_s = wait_us // SECOND_US
            log.warning("report %s is tried again in %d s: %s", report_id, wait_s, sentence, exc_info=not known)
            self._run_later(report_id, wait_us)
            return "retry_later"
        if temporary:
            sentence = f"{sentence} (tried {record.tries} times)"
        if not self._record(lambda connection: reports.fail(connection, report_id, self._clock(), sentence)):
            return "deleted"
        level = logging.WARNING if known else logging.ERROR
        log.log(level, "report %s failed: %s", report_id, sentence, exc_info=not known)
        return "failed"

    def _record(self, write: Callable[[Connection], bool]) -> bool:
        """Write an outcome into the row; while that is impossible (a full disk), try again until it is not."""
        delay = 0.1
        while True:
            try:
                with self.database.write(even_stopping=True) as connection:
                    return write(connection)
            except Exception as error:
                temporary = isinstance(error, DatabaseError) or is_temporary(error)
                if not temporary or self._stopping.wait(delay):
                    raise
                log.warning("an outcome cannot be recorded yet: %s", error)
                delay = min(2 * delay, 30.0)

    def _outcome(self, record: ReportRecord) -> tuple[ReportOutcome, int]:
        """Make the file of a running report, and return what came of it and how many bytes it takes: few if it is
        another's, too."""
        folder = self.settings.reports_dir
        try:
            files.make_folder(folder)
        except OSError as error:
            raise ReportFailed(f"the reports folder {folder} cannot be made: {error.strerror or error}") from error
        with self.database.read() as connection:
            equal = reports.equal(connection, record.id)
        for other in equal:
            try:
                copied = _link_or_copy(self.path(other.id), self.path(record.id))
            except OSError:
                # That one is gone, or the disk is full: computing says what is wrong with it.
                continue
            outcome = ReportOutcome(
                other.row_count or 0, other.byte_count or 0, other.sha256 or "", other.altered, other.method or {}
            )
            return outcome, outcome.byte_count if copied else 0
        outcome = self._compute(record)
        return outcome, outcome.byte_count + sum(map(len, record.stores or ()))

    def _compute(self, record: ReportRecord) -> ReportOutcome:
        last = time.monotonic()
        cancelled = self._cancelled[record.id]

        def progress(share: float) -> None:
            """Store the share that is done, now and then; `_Stopping` or `_Cancelled` end the report."""
            nonlocal last
            if self._stopping.is_set():
                raise _Stopping
            if cancelled.is_set():
                raise _Cancelled
            if time.monotonic() - last >= _PROGRESS_EVERY_S:
                self._advance(record.id, share)
                last = time.monotonic()

        settings = self.settings
        query = requests.stored_query(record, settings.dayparts)
        text = compute.compute(self.database, query, settings.rules, settings.default_timezone, progress)
        readiness.require_room(settings)
        return compute.write(text, self.path(record.id))

    def _advance(self, report_id: str, share: float) -> None:
        try:
            with self.database.write() as connection:
                running = reports.advance(connection, report_id, share)
        except DatabaseError as error:
            # A report is worth more than how far it is.
            log.debug("progress of report %s not recorded: %s", report_id, error.message)
            return
        if not running:
            raise _Cancelled

    def path(self, report_id: str) -> Path:
        """Where the file of that report is, or will be."""
        return reports.path_of(self.settings.reports_dir, report_id)


def _link_or_copy(file: Path, final: Path) -> bool:
    """Give the file a second name; or copy it, where the file system has no links or no more for this file, and return
    True."""
    final.unlink(missing_ok=True)
    try:
        # Not forced to the disk, which takes as long as computing: where a power cut takes the name, the answer is 410.
        os.link(file, final)
    except FileNotFoundError:
        raise
    except OSError:
        with files.replacing(final) as temporary:
            shutil.copyfile(file, temporary)
        return True
    return False


def is_temporary(error: BaseException) -> bool:
    """Return whether the failure may pass by itself: what the system or SQLite said of it, or of what caused it."""
    if out_of_memory(error) is not None:
        return True
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "members", {}).get("sqlite")
        if code:
            return str(code).startswith(_TEMPORARY_CODES)
        if isinstance(cause, OSError):
            return cause.errno in _TEMPORARY_ERRNOS
        cause = cause.__cause__
    return False


def error_message(error: Exception) -> str:
    """Return what a report says of its failure."""
    if isinstance(error, StoremonError):
        return error.message
    no_memory = out_of_memory(
        error, "this report", "ask for fewer stores, days or columns, or give the server more memory"
    )
    if no_memory is not None:
        return no_memory.message
    return f"unexpected error ({type(error).__name__}); see the log"


def retry_wait_us(tries: int) -> int:
    """Return how long to wait after so many tries (1 or more): 1 s, and four times as long each time, up to 15 min."""
    return min(_FIRST_WAIT_S << 2 * min(tries - 1, 20), _LONGEST_WAIT_S) * SECOND_US
