"""A report's life as a job: submitted, claimed, computed, written, completed or failed; tried again, and recovered
after a crash.

Equal reports that wait or run share a job (storage.reports); what is handed about here are ids of jobs.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry

from storemon_flask import logs
from storemon_flask.database import readiness
from storemon_flask.database.connections import Database
from storemon_flask.errors import Busy, DatabaseError, StoremonError, out_of_memory
from storemon_flask.model import SECOND_US
from storemon_flask.reports import keeping, queue, retention, shapes
from storemon_flask.reports import report as report_service
from storemon_flask.reports.agenda import Agenda
from storemon_flask.reports.alarm import Alarm
from storemon_flask.reports.metrics import ReportMetrics
from storemon_flask.reports.queue import ReportRow
from storemon_flask.reports.report import Asked, Question
from storemon_flask.settings import Settings
from storemon_flask.slots import Places
from storemon_flask.stores import list_cache

log = logging.getLogger("storemon.jobs")

# The first time and once more after the process died under it.
MOST_DEATHS: Final = 2
_PROGRESS_EVERY_S: Final = 0.2
# A job that cannot even be claimed (the database cannot be written) is reached for again after this long.
_UNCLAIMED_US: Final = 10 * SECOND_US
_KEEPING: Final = "keeping"
# Whoever waits for a report looks at its row so often: another process may have the job.
_LOOK_EVERY_S: Final = 1.0
DIED: Final = "the server died twice while it computed this report; see its log, then trigger the report again"

_Said = TypeVar("_Said")


class _Stopping(Exception):
    """The server is going down and asks a running report to stop at its next step."""


def _now_us() -> int:
    return time.time_ns() // 1000


def _steady_us() -> int:
    return time.monotonic_ns() // 1000


class Runner:
    """Takes questions, answers ids, and computes the reports on an executor.

    Without an `alarm` what is due later happens when `tick` is called. `clock` tells the time in microseconds; `steady`
    is the clock that nobody sets, for waits.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        executor: Executor,
        alarm: Alarm | None = None,
        clock: Callable[[], int] = _now_us,
        steady: Callable[[], int] = _steady_us,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.database = database
        self.settings = settings
        self._executor = executor
        self._alarm = alarm
        self._clock = clock
        self._steady = steady
        self._later = Agenda()
        self._wanted = Wanted()
        self._endings = Endings()
        self._adding_latest = threading.Lock()
        self._stopping = threading.Event()
        self._ended = False
        self.registry = registry or CollectorRegistry()
        self.metrics = ReportMetrics(self.registry)
        self.places = Places(settings.http_threads)
        self._room = keeping.RoomKeeper(database, settings, self.metrics)

    def submit(self, asked: Asked) -> str:
        """The id of a new report: 128 random bits. Its row is committed before it is handed to the executor.

        `Busy` when too many triggers wait for a load, `QueueFull` when too many reports wait.
        """
        with self.places.for_a_change():
            report_id, alone = self._add(asked)
        if alone:
            self._hand_over(report_id)
        return report_id

    def _add(self, asked: Asked) -> tuple[str, bool]:
        """The id of a report whose row is committed, and whether it is to be computed."""
        report_id, settings = secrets.token_hex(16), self.settings
        readiness.require_room(settings)
        self._room.expect_report(self._clock())
        return report_id, queue.add(
            self.database,
            report_id,
            asked,
            settings.default_timezone,
            settings.max_report_rows,
            self._clock(),
            settings.rules,
            settings.max_pending_reports,
        )

    def latest(self, asked: Asked, max_age_us: int) -> str:
        """The id of a report that answers this: a fresh one (`report_store.latest`), else one on its way, else a new
        one.

        Errors as `submit`.
        """
        row = self._known(asked, max_age_us)
        if row is not None:
            return row.id
        # One after the other: of two that find nothing, the second must find what the first adds, were it complete by
        # then.
        with self.places.for_a_change(), self._adding_latest:
            row = self._known(asked, max_age_us)
            if row is not None:
                return row.id
            report_id, alone = self._add(asked)
        if alone:
            self._hand_over(report_id)
        return report_id

    def _known(self, asked: Asked, max_age_us: int) -> ReportRow | None:
        settings = self.settings
        return queue.latest(
            self.database,
            settings.reports_dir,
            asked,
            settings.default_timezone,
            settings.max_report_rows,
            settings.rules,
            self._clock(),
            max_age_us,
        )

    def wait_for(self, report_id: str | None, wait_s: float, unwanted: Callable[[], bool] = lambda: False) -> ReportRow:
        """The report once it has ended, or as it is after `wait_s`; at once when as many wait as may, or the server
        stops, and soon when nobody wants the answer any more.

        Errors as `report_store.get`.
        """
        row = queue.get(self.database, report_id)
        if wait_s <= 0 or row.ended:
            return row
        end = time.monotonic() + wait_s
        try:
            with self.places.for_a_wait(), self._endings.expected(row.id, row.job) as ended:
                while True:
                    # It may have ended before anybody knew that it is waited for.
                    row = queue.get(self.database, report_id)
                    left_s = end - time.monotonic()
                    if row.ended or left_s <= 0 or self._endings.stopped or unwanted():
                        return row
                    ended.wait(min(left_s, _LOOK_EVERY_S))
                    ended.clear()
        except Busy:
            return row

    def stop_waiting(self) -> None:
        """Requests that wait, for a report or for the database, and loads give up now: the server is going down.

        For signal handlers.
        """
        self.database.stop_waiting()
        self._endings.stop()

    def delete(self, report_id: str) -> None:
        """The report is gone: one that waits is not computed, a running one stops at its next step, a finished one's
        file goes.

        As long as others share it, the job and the file stay. Errors as `report_store.get`.
        """
        with self.places.for_a_change():
            job = retention.delete(self.database, self.settings.reports_dir, report_id, self._clock())
        if job is not None:
            self._wanted.drop(job)
        self._endings.tell(report_id)
        log.info("report %s deleted", report_id)

    def takes_work(self) -> bool:
        """Whether reports that are triggered now will be computed by this process."""
        return not self._ended

    def recover(self, died: bool = True) -> int:
        """Run again what was pending or running when the last server went; how many reports that is.

        `died`: it did not end in good order. One that did, and could not put its reports back, counts against none of
        them. The reports folder is set right, and what was kept long enough is deleted, now and every hour. Only for
        the server that holds the lock: anybody else would take reports away from it.
        """
        now_us = self._clock()
        jobs, failed = queue.recover(self.database, now_us, MOST_DEATHS, DIED, died)
        for job in failed:
            log.error("report %s failed: %s", job, DIED)
            self.metrics.count_job("failed", None)
        keeping.tidy(self.database, self.settings, now_us)
        steady_us = self._steady()
        self._later.add(_KEEPING, steady_us)
        for job, next_try_us, _ in jobs:
            if next_try_us is None or next_try_us <= now_us:
                self._hand_over(job)
            else:
                # Not later than the longest wait, whatever the clock was when that was written.
                self._later.add(job, steady_us + min(next_try_us - now_us, queue.wait_us(queue.MOST_TRIES)))
        self.tick()
        return sum(count for _, _, count in jobs)

    def tick(self) -> None:
        """Do what is due: next tries, and deleting what was kept long enough; then set the alarm for what comes next."""
        steady_us = self._steady()
        due = self._later.due(steady_us)
        for job in due:
            if job != _KEEPING:
                self._hand_over(job)
        try:
            if _KEEPING in due:
                self._later.add(_KEEPING, steady_us + keeping.EVERY_US)
                keeping.expire(self.database, self.settings, self._clock())
        finally:
            # Next tries come whatever becomes of the keeping.
            self._set_alarm()

    def _set_alarm(self) -> None:
        wait_us = self._later.wait_us(self._steady())
        if self._alarm is not None and wait_us is not None:
            self._alarm.set(self.tick, wait_us / SECOND_US)

    def _again(self, job: str, wait_us: int) -> None:
        if not self._stopping.is_set():
            self._later.add(job, self._steady() + wait_us)
            self._set_alarm()

    def stop(self, grace_s: float) -> None:
        """Take no more work; give what is running `grace_s` to finish, then put it back to pending."""
        self._ended = True
        self._endings.stop()
        timer = threading.Timer(grace_s, self._stopping.set)
        timer.daemon = True
        timer.start()
        try:
            if self._alarm is not None:
                self._alarm.stop()
            # What is queued stays pending in the database, for the next server.
            self._executor.shutdown(wait=True, cancel_futures=True)
        finally:
            timer.cancel()
            list_cache.stop(self.database)

    def _hand_over(self, job: str) -> None:
        try:
            self._executor.submit(self.run, job)
        except (RuntimeError, MemoryError) as error:
            no_memory = out_of_memory(error)
            if no_memory is None:
                # The pool is shutting down; the row is pending, and the next server runs it.
                log.info("report %s waits for the next start", job)
            else:
                log.warning("report %s cannot begin yet: %s", job, no_memory.message)
                self._again(job, _UNCLAIMED_US)

    def run(self, job: str) -> None:
        """Compute one pending job to its end; every outcome is in the rows of its reports."""
        started = time.monotonic()
        outcome: str | None = "unrecorded"
        with logs.marked(report_id=job):
            try:
                with self._wanted.running(job):
                    outcome = self._run(job)
            except Exception:
                # The row could not even be marked failed (say, the disk is full): recovery finds it running.
                log.exception("report %s could not be recorded", job)
            self._endings.tell(job)
            if outcome is not None:
                seconds = time.monotonic() - started
                self.metrics.count_job(outcome, seconds)
                told = {"event": "job", "outcome": outcome, "ms": round(seconds * 1000, 1)}
                log.debug("job of report %s: %s", job, outcome, extra=told)

    def _run(self, job: str) -> str | None:
        """What became of it (`metrics.OUTCOMES`); None when it was not begun."""
        try:
            row = queue.claim(self.database, job, self._clock())
        except Exception as error:
            # It is pending still, and nobody else would come back for it.
            log.warning("report %s cannot begin yet: %s", job, error)
            self._again(job, _UNCLAIMED_US)
            return None
        if row is None:
            return None
        started = time.monotonic()
        try:
            done = self._compute(row)
        except _Stopping:
            self._record(lambda: queue.put_back(self.database, job))
            log.info("report %s put back: the server is stopping", job)
            return "put_back"
        except Unwanted:
            log.info("report %s stopped: it was deleted", job)
            return "deleted"
        except Exception as error:
            return self._failed(row, error)
        if self._record(lambda: queue.complete(self.database, job, self._clock(), done)):
            log.info("report %s complete: %d stores in %.3f s", job, done.rows, time.monotonic() - started)
            self._make_room(job, done.bytes + len(json.dumps(row.stores)))
            return "complete"
        retention.remove(self.path(job))
        log.info("report %s was deleted before it was complete", job)
        return "deleted"

    def _make_room(self, job: str, byte_count: int) -> None:
        try:
            self._room.note_complete(job, byte_count, self._clock())
        except DatabaseError as error:
            # The report is complete all the same, and the next one tries again.
            log.warning("older reports cannot be deleted now: %s", error.message)

    def _failed(self, row: ReportRow, error: Exception) -> str:
        """Put the job off until its next try, or say that it failed; what became of it."""
        job = row.job
        sentence = queue.sentence(error)
        known = isinstance(error, StoremonError) or out_of_memory(error) is not None
        if queue.passes(error) and row.tries < queue.MOST_TRIES:
            wait_us = queue.wait_us(row.tries)
            if not self._record(lambda: queue.put_off(self.database, job, sentence, self._clock() + wait_us)):
                return "deleted"
            after_s = wait_us // SECOND_US
            log.warning("report %s is tried again in %d s: %s", job, after_s, sentence, exc_info=not known)
            self._again(job, wait_us)
            return "put_off"
        if queue.passes(error):
            sentence = f"{sentence} (tried {row.tries} times)"
        if not self._record(lambda: queue.fail(self.database, job, self._clock(), sentence)):
            return "deleted"
        log.log(logging.WARNING if known else logging.ERROR, "report %s failed: %s", job, sentence, exc_info=not known)
        return "failed"

    def _record(self, say: Callable[[], _Said]) -> _Said:
        """Put an outcome into the rows; while that cannot be written (a full disk), try again until it can."""
        delay = 0.1
        while True:
            try:
                return say()
            except Exception as error:
                passes = isinstance(error, DatabaseError) or queue.passes(error)
                if not passes or self._stopping.wait(delay):
                    raise
                log.warning("an outcome cannot be recorded yet: %s", error)
                delay = min(2 * delay, 30.0)

    def _compute(self, row: ReportRow) -> report_service.Finished:
        told = time.monotonic()

        def progress(part: float) -> None:
            nonlocal told
            if self._stopping.is_set():
                raise _Stopping
            self._wanted.check(row.job)
            if time.monotonic() - told >= _PROGRESS_EVERY_S:
                self._advance(row.job, part)
                told = time.monotonic()

        wanted = None if row.stores is None else tuple(row.stores)
        question = Question(row.as_of_us, row.columns, wanted, shapes.read(row.shape or {}))
        settings = self.settings
        text = report_service.compute(self.database, question, settings.rules, settings.default_timezone, progress)
        readiness.require_room(settings)
        queue.make_folder(settings.reports_dir)
        return report_service.write(text, self.path(row.job))

    def _advance(self, job: str, part: float) -> None:
        try:
            wanted = queue.advance(self.database, job, part)
        except DatabaseError as error:
            # A report is worth more than the word of how far it is.
            log.debug("progress of report %s not told: %s", job, error.message)
            return
        if not wanted:
            raise Unwanted

    def path(self, job: str) -> Path:
        """Where the file of that job is, or will be. Ids come from the database, never from a request."""
        return queue.path(self.settings.reports_dir, job)


class Endings:
    """Events by the names (of reports and of jobs) whose end sets them. Safe to share between threads; keeps nothing of
    names that nobody waits for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._events: dict[str, set[threading.Event]] = {}
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether the server stops, so that nothing is to be waited for any more."""
        return self._stopped.is_set()

    @contextmanager
    def expected(self, *names: str) -> Iterator[threading.Event]:
        """An event that is set when one of these ends, or the server stops, while the context lasts."""
        event = threading.Event()
        # A report that shares no job bears its name.
        different = set(names)
        with self._guard:
            for name in different:
                self._events.setdefault(name, set()).add(event)
        if self.stopped:
            event.set()
        try:
            yield event
        finally:
            with self._guard:
                for name in different:
                    self._events[name].discard(event)
                    if not self._events[name]:
                        del self._events[name]

    def tell(self, name: str) -> None:
        """Wake whoever waits for this to end; its end must be in the database by now."""
        with self._guard:
            for event in self._events.get(name, ()):
                event.set()

    def stop(self) -> None:
        """Wake everybody, also who comes later.

        A signal handler may call this: it takes no lock that its thread may hold.
        """
        self._stopped.set()
        # Copies: other threads may come and go meanwhile.
        for events in list(self._events.values()):
            for event in list(events):
                event.set()


def thread(workers: int) -> Executor:
    """A pool of `workers` threads; none is started before the first job."""
    return ThreadPoolExecutor(max_workers=workers, thread_name_prefix="report")


class InlineExecutor(Executor):
    """Runs each job to its end before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Unwanted(Exception):
    """Every report of the job was deleted."""


class Wanted:
    """Safe to share between threads; keeps nothing of jobs that do not run."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[str, bool] = {}

    @contextmanager
    def running(self, job: str) -> Iterator[None]:
        """The job runs meanwhile."""
        with self._guard:
            self._running[job] = True
        try:
            yield
        finally:
            with self._guard:
                del self._running[job]

    def drop(self, job: str) -> None:
        """Nobody wants the job any more; nothing when it does not run."""
        with self._guard:
            if job in self._running:
                self._running[job] = False

    def check(self, job: str) -> None:
        """`Unwanted` when nobody wants the running job any more."""
        if not self._running[job]:
            raise Unwanted
