"""A report's life as a job: submitted, claimed, computed, written, completed or failed; recovered after a crash."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storemon_flask import logs
from storemon_flask.errors import Busy, DatabaseError, StoremonError
from storemon_flask.jobs import watch
from storemon_flask.services import report as report_service
from storemon_flask.services import report_store, shapes, snapshots
from storemon_flask.services.meters import Meters
from storemon_flask.services.report import Asked, Question
from storemon_flask.services.report_store import ReportRow
from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database

log = logging.getLogger("storemon.jobs")

# The first try and one more after the process died under it.
MOST_ATTEMPTS: Final = 2
_PROGRESS_EVERY_S: Final = 0.2
DIED: Final = "the server died twice while it computed this report; see its log, then trigger the report again"


class _Stopping(Exception):
    """The server is going down and asks a running report to stop at its next step."""


class Runner:
    """Takes questions, answers ids, and computes the reports on an executor."""

    def __init__(self, database: Database, settings: Settings, executor: Executor) -> None:
        self.database = database
        self.settings = settings
        self._executor = executor
        self._stopping = threading.Event()
        self._ended = False
        self.meters = Meters()
        # An answer that is made as it is sent holds a thread as long as its reader likes.
        self._rendering = threading.BoundedSemaphore(max(1, settings.http_threads // 4))
        # Triggers wait while a load is applied; two threads are always left to answer everything else.
        self._waiting = threading.BoundedSemaphore(max(1, settings.http_threads - 2))
        self._loading = threading.BoundedSemaphore(max(1, settings.http_threads - 6))

    def submit(self, asked: Asked) -> str:
        """The id of a new report: 128 random bits. Its row is committed before it is handed to the executor."""
        report_id = secrets.token_hex(16)
        if not self._waiting.acquire(blocking=False):
            raise Busy("too many reports are being triggered while a load is applied; try again in some seconds")
        try:
            settings = self.settings
            report_store.add(
                self.database, report_id, asked, settings.default_timezone, settings.max_report_rows, _now_us()
            )
        finally:
            self._waiting.release()
        self._hand_over(report_id)
        return report_id

    @contextmanager
    def room_for_a_load(self) -> Iterator[None]:
        """A place among the loads that wait for the database's lock; `Busy` when too many do already."""
        if not self._loading.acquire(blocking=False):
            raise Busy("too much is being pushed at once; try again in some seconds")
        try:
            yield
        finally:
            self._loading.release()

    def rendering(self) -> Callable[[], None]:
        """Take a place among the answers that are made while they are sent; what gives it back. `Busy` when all are taken."""
        if not self._rendering.acquire(blocking=False):
            raise Busy("too many answers of this kind are being sent; try again in some seconds, or fetch the CSV")
        given_back = threading.Lock()

        def give_back() -> None:
            if given_back.acquire(blocking=False):
                self._rendering.release()

        return give_back

    def takes_work(self) -> bool:
        """Whether reports that are triggered now will be computed by this process."""
        return not self._ended

    def recover(self) -> int:
        """Run again what was pending or running when the last server went; how many reports that is.

        Only for the server that holds the lock: anybody else would take reports away from it.
        """
        report_store.sweep(self.settings.reports_dir)
        ids = report_store.recover(self.database, _now_us(), MOST_ATTEMPTS, DIED)
        for report_id in ids:
            self._hand_over(report_id)
        return len(ids)

    def stop(self, grace_s: float) -> None:
        """Take no more work; give what is running `grace_s` to finish, then put it back to pending."""
        self._ended = True
        timer = threading.Timer(grace_s, self._stopping.set)
        timer.daemon = True
        timer.start()
        try:
            # What is queued stays pending in the database, for the next server.
            self._executor.shutdown(wait=True, cancel_futures=True)
        finally:
            timer.cancel()
            snapshots.stop(self.database)

    def _hand_over(self, report_id: str) -> None:
        try:
            self._executor.submit(self.run, report_id)
        except RuntimeError:
            self._ended = True
            # The pool is shutting down; the row is pending, and the next server runs it.
            log.info("report %s waits for the next start", report_id)

    def run(self, report_id: str) -> None:
        """Compute one pending report to its end; every outcome is in its row."""
        with logs.marked(report_id=report_id), watch.job(self.meters, self.database, report_id):
            try:
                self._run(report_id)
            except Exception:
                # The row could not even be marked failed (say, the disk is full): recovery finds it running.
                log.exception("report %s could not be recorded", report_id)

    def _run(self, report_id: str) -> None:
        row = report_store.claim(self.database, report_id, _now_us())
        if row is None:
            return
        started = time.monotonic()
        try:
            done = self._compute(row)
        except _Stopping:
            self._record(lambda: report_store.put_back(self.database, report_id))
            log.info("report %s put back: the server is stopping", report_id)
        except StoremonError as error:
            sentence = error.message
            self._record(lambda: report_store.fail(self.database, report_id, _now_us(), sentence))
            log.warning("report %s failed: %s", report_id, error.message)
        except Exception as error:
            sentence = f"unexpected error ({type(error).__name__}); see the log"
            self._record(lambda: report_store.fail(self.database, report_id, _now_us(), sentence))
            log.exception("report %s failed", report_id)
        else:
            self._record(lambda: report_store.complete(self.database, report_id, _now_us(), done))
            log.info("report %s complete: %d stores in %.3f s", report_id, done.rows, time.monotonic() - started)

    def _record(self, say: Callable[[], None]) -> None:
        """Put an outcome into the report's row; while that cannot be written (a full disk), try again until it can."""
        delay = 0.1
        while True:
            try:
                return say()
            except DatabaseError as error:
                if self._stopping.wait(delay):
                    raise
                log.warning("an outcome cannot be recorded yet: %s", error.message)
                delay = min(2 * delay, 30.0)

    def _compute(self, row: ReportRow) -> report_service.Finished:
        told = time.monotonic()

        def progress(part: float) -> None:
            nonlocal told
            if self._stopping.is_set():
                raise _Stopping
            if time.monotonic() - told >= _PROGRESS_EVERY_S:
                report_store.advance(self.database, row.id, part)
                told = time.monotonic()

        wanted = None if row.stores is None else tuple(row.stores)
        question = Question(row.as_of_us, row.columns, wanted, shapes.read(row.shape or {}))
        settings = self.settings
        text = report_service.compute(self.database, question, settings.rules, settings.default_timezone, progress)
        report_store.make_folder(settings.reports_dir)
        return report_service.write(text, self.path(row.id))

    def path(self, report_id: str) -> Path:
        """Where the file of that report is, or will be. Ids come from the database, never from a request."""
        return report_store.path(self.settings.reports_dir, report_id)


def _now_us() -> int:
    return time.time_ns() // 1000
