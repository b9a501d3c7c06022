"""Run schedules: find what is due, submit its report like any other, and put the message into the outbox.

Each step is committed before the next begins, and is found again by its row: a kill at any moment loses no run.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from storemon_flask.database import channels, messages, reports, schedules
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.newest import newest_poll
from storemon_flask.database.reports import ReportRecord
from storemon_flask.database.schedules import Run, Schedule
from storemon_flask.errors import Busy, DatabaseError, Gone, StoremonError
from storemon_flask.model import HOUR_US, SECOND_US, ReportState
from storemon_flask.reports import request as requests
from storemon_flask.reports import stored, xlsx
from storemon_flask.reports.windows import range_in_zone
from storemon_flask.reports.worker import Worker
from storemon_flask.schedules import catalogue, due, mail
from storemon_flask.schedules.due import local_text
from storemon_flask.schedules.mail import Made
from storemon_flask.schedules.summary import summarize
from storemon_flask.settings import Settings
from storemon_flask.stores.catalogue import report_choices

log = logging.getLogger("storemon.schedules")

# A report waits this long for late data.
MOST_WAIT_US: Final = 3 * HOUR_US
_LOOK_EVERY_US: Final = 2 * SECOND_US
# While a report is made.
_LOOK_SOON_US: Final = SECOND_US // 2
_SKIPPED: Final = "it was not run in time, and only the newest is made up for"


class Runner:
    """Runs the schedules of one server, on its scheduler's thread. `wake` tells the couriers that there is a message;
    `clock` tells the time in microseconds."""

    def __init__(
        self,
        worker: Worker,
        wake: Callable[[], object] = lambda: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._worker = worker
        self._database: Database = worker.database
        self._settings: Settings = worker.settings
        self._wake = wake
        self._clock = clock

    def begin(self) -> None:
        """Start looking for due runs, now and regularly."""
        self._worker.scheduler.add("schedules", self._look)

    def _look(self) -> None:
        wait_us = _LOOK_EVERY_US
        try:
            if self.run_due():
                wait_us = _LOOK_SOON_US
        finally:
            self._worker.scheduler.add("schedules", self._look, wait_us)

    def run_due(self) -> bool:
        """Take every step that is possible now, and return whether a report is being made."""
        if not self._database.exists():
            return False
        now_us = self._clock()
        with self._database.read() as connection:
            all_schedules = schedules.live(connection)
        for schedule in all_schedules:
            self._guarded(schedule.name, partial(self._take_due, schedule, now_us))
        by_id = {schedule.id: schedule for schedule in all_schedules}
        with self._database.read() as connection:
            runs = schedules.under_way(connection)
        for run in runs:
            known = by_id.get(run.schedule)
            if known is not None and not self._worker.scheduler.stopped():
                self._guarded(known.name, partial(self._advance, known, run, now_us))
        with self._database.read() as connection:
            return any(run.state == "computing" for run in schedules.under_way(connection))

    def _guarded(self, name: str, step: Callable[[], None]) -> None:
        """Take a step; an error in one schedule delays no other, and the step is repeated later."""
        try:
            step()
        except (Busy, DatabaseError) as error:
            log.info("schedule %s is looked at again: %s", name, error.message)
        except Exception:
            log.exception("schedule %s cannot go on now", name)

    def _take_due(self, schedule: Schedule, now_us: int) -> None:
        """Add the run that is due, and record earlier missed ones as skipped."""
        when = due.parse(schedule.due, schedule.zone)
        if schedule.next_us > now_us:
            expected_us = when.next_us(now_us)
            if expected_us < schedule.next_us:
                # It was set while the clock was ahead.
                with self._database.write() as connection:
                    schedules.set_next(connection, schedule, expected_us)
            return
        *missed, latest_us = when.missed(schedule.next_us, now_us)
        with self._database.write() as connection:
            if not schedules.set_next(connection, schedule, when.next_us(now_us)):
                return
            if missed:
                schedules.skip_waiting(connection, schedule.id, _SKIPPED, now_us)
            for due_us in missed:
                schedules.add_run(connection, schedule.id, due_us, now_us, skipped=_SKIPPED)
            schedules.add_run(connection, schedule.id, latest_us, now_us)
        log.info("schedule %s is due: %s", schedule.name, local_text(latest_us, schedule.zone))

    def _advance(self, schedule: Schedule, run: Run, now_us: int) -> None:
        if run.state == "waiting":
            # With a clock that was set back, it waits no longer than from now on.
            if not run.by_hand and 0 <= now_us - run.started_us < MOST_WAIT_US and self._data_end(schedule, run)[1]:
                return
            self._start(schedule, run)
            return
        self._finish(schedule, run, now_us)

    def _start(self, schedule: Schedule, run: Run) -> None:
        """Ask for the run's reports. A kill in between leaves a report that nobody waits for; the next start asks for
        an equal one, which has the same file."""
        asked = catalogue.request_at(schedule, run.due_us)
        quoted = catalogue.summary_request(asked)
        try:
            report = self._worker.submit(asked)
            summary = report if requests.check(asked) == requests.check(quoted) else self._worker.submit(quoted)
        except (Busy, DatabaseError):
            raise
        except StoremonError as error:
            self._fail(schedule, run, error.message)
            return
        with self._database.write() as connection:
            schedules.start(connection, run.id, report, summary)

    def _finish(self, schedule: Schedule, run: Run, now_us: int) -> None:
        """Once the run's reports are complete, put the messages into the outbox."""
        with self._database.read() as connection:
            records = [reports.find(connection, one or "") for one in (run.report, run.summary_report)]
        for record in records:
            if record is None or record.state == ReportState.DELETED:
                self._fail(schedule, run, "its report was deleted before it was sent")
                return
            if record.state == ReportState.FAILED:
                self._fail(schedule, run, record.error or "its report failed")
                return
        record, quoted = records
        if record is None or quoted is None or not (record.ended and quoted.ended):
            return
        try:
            made = self._made(schedule, run, record, quoted)
        except Gone as error:
            self._fail(schedule, run, error.message)
            return
        note = "" if made.data_end_us is None else f"the data ended early: {_end_text(schedule, made)}"
        with self._database.write() as connection:
            if not schedules.finish(connection, run.id, "done", note, now_us):
                return
            for channel_id in schedule.channels:
                self._add_message(connection, schedule, run, made, channel_id, now_us)
        log.info("schedule %s has its report %s", schedule.name, record.id)
        self._wake()

    def _add_message(
        self, connection: Connection, schedule: Schedule, run: Run, made: Made, channel_id: int, now_us: int
    ) -> None:
        channel = channels.find(connection, channel_id)
        if channel is None or channel.removed_us is not None:
            return
        small = made.file_bytes <= mail.MOST_ATTACHED_BYTES
        attach = channel.kind == "folder" or (channel.kind == "email" and small)
        content = mail.completed(schedule, run, made, self._settings.public_url, attach)
        messages.add(connection, channel_id, "report", content, now_us, message_id=mail.message_id(run, channel_id))

    def _made(self, schedule: Schedule, run: Run, record: ReportRecord, quoted: ReportRecord) -> Made:
        folder = self._settings.reports_dir
        summary = summarize(quoted, stored.file_of(quoted, folder), schedule.below_hundredths)
        needed_us, data_end_us = self._data_end(schedule, run)
        size = record.byte_count or 0
        if schedule.format == "xlsx":
            with xlsx.write(
                stored.file_of(record, folder), record.row_count or 0, record.altered, record.method or {}
            ) as book:
                size = book.seek(0, 2)
        note = (record.method or {}).get("note") or ""
        return Made(record, summary, note, needed_us, data_end_us, size)

    def _data_end(self, schedule: Schedule, run: Run) -> tuple[int, int | None]:
        """Return until when a run needs data, and the newest poll if that is earlier (-1 without polls)."""
        latest_us = self._settings.rules.latest_us(self._clock())
        default = self._settings.default_timezone
        zones = schedule.query.get("zones") or report_choices(self._database, default, latest_us).zones or [default]
        query = requests.check(catalogue.request_at(schedule, run.due_us))
        needed_us = max(range_in_zone(window, zone, run.due_us)[1] for window in query.windows for zone in zones)
        with self._database.read() as connection:
            newest_us = newest_poll(self._database, connection, latest_us).poll_us
        newest_us = -1 if newest_us is None else newest_us
        return needed_us, newest_us if newest_us < needed_us else None

    def _fail(self, schedule: Schedule, run: Run, reason: str) -> None:
        """Give up a run, and tell its channels why."""
        now_us = self._clock()
        with self._database.write() as connection:
            if not schedules.finish(connection, run.id, "failed", reason, now_us):
                return
            for channel_id in schedule.channels:
                message_id = f"{mail.message_id(run, channel_id)}_failed"
                if messages.find(connection, message_id) is None:
                    content = mail.failed(schedule, run, reason, now_us)
                    messages.add(connection, channel_id, "report", content, now_us, message_id=message_id)
        log.warning("schedule %s failed: %s", schedule.name, reason)
        self._wake()


def _end_text(schedule: Schedule, made: Made) -> str:
    end_us = made.data_end_us or -1
    return local_text(end_us, schedule.zone) if end_us >= 0 else "there are no polls"
