"""Uptime Kuma's database, of version 1 and 2.

Version 1 keeps every beat (180 days by default). Version 2 deletes those older than a day that changed nothing (but
for the newest 100 of a monitor), and keeps how many beats of each of the last 30 days' hours were up and down.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from storemon_flask.database import foreign
from storemon_flask.database.foreign import ForeignDatabase, KumaBeat, KumaMonitor
from storemon_flask.errors import DataError
from storemon_flask.imports.checks import ACTIVE, INACTIVE, NEITHER, UNWATCHED, Check
from storemon_flask.imports.hours import HourlyNotes, Seen, with_hours

_STATUS: Final = {0: INACTIVE, 1: ACTIVE, 2: NEITHER, 3: UNWATCHED}
_US: Final = 1_000_000
_GROUP: Final = "a group of monitors"
_DELETED: Final = "deleted in Uptime Kuma"


class KumaReader:
    """Reads a `kuma.db`, also of an Uptime Kuma that is running."""

    def __init__(self, path: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        self.label = "Uptime Kuma"
        self.has_checks = True
        self.name = path.name
        self.aside: dict[str, str] = {}
        self._path = path
        self._on_progress = on_progress
        self._hourly = HourlyNotes()

    def checks(self, is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        """Return name and check of every beat, and of hours whose beats are gone."""
        with foreign.open_foreign(self._path) as database:
            self._recognise(database)
            monitors = foreign.kuma_monitors(database)
            names = _names(monitors)
            for monitor in monitors:
                if monitor.is_group or monitor.deleted:
                    self.aside[names[monitor.id]] = _GROUP if monitor.is_group else _DELETED
            for done, monitor in enumerate(monitors):
                self._on_progress(done, len(monitors))
                name = names[monitor.id]
                if is_included(name):
                    for check in self._checks(database, monitor):
                        yield name, check
            self._on_progress(len(monitors), len(monitors))

    def notes(self) -> list[str]:
        """Return notes about polls derived from hourly counts."""
        return self._hourly.sentences()

    def _recognise(self, database: ForeignDatabase) -> None:
        columns = database.columns("heartbeat")
        if not {"monitor_id", "status", "time"} <= columns or not database.columns("monitor"):
            raise DataError(
                f"{self._path} is not the database of an Uptime Kuma: it has no tables heartbeat and monitor. The file "
                "is data/kuma.db; an Uptime Kuma 2 that uses MariaDB has none"
            )
        self._has_hours = bool(database.columns("stat_hourly"))
        self.label = f"Uptime Kuma {2 if self._has_hours else 1}"

    def _checks(self, database: ForeignDatabase, monitor: KumaMonitor) -> Iterator[Check]:
        hours = foreign.kuma_hours(database, monitor.id) if self._has_hours else []
        return with_hours(_seen(foreign.kuma_beats(database, monitor.id), monitor), hours, self._hourly)


def _names(monitors: list[KumaMonitor]) -> dict[int, str]:
    """The name of each monitor; those that share one have their numbers with it."""
    count = Counter(monitor.name for monitor in monitors)
    return {m.id: m.name if count[m.name] == 1 else f"{m.name} (monitor {m.id})" for m in monitors}


def _seen(beats: Iterator[KumaBeat], monitor: KumaMonitor) -> Iterator[Seen]:
    """The beats as checks. One that is a change says how long before it the last beat was, which may be gone."""
    last_second = None
    for beat in beats:
        status = _STATUS.get(beat.status, f"status {beat.status}")
        check = Check(beat.id, None if beat.second is None else beat.second * _US, beat.time, status)
        before_us = None
        if beat.second is not None:
            # Where the beat before is there, it says itself what it saw.
            is_gone = last_second is None or beat.second - last_second > beat.duration_s + 1
            if beat.important and beat.duration_s > 0 and is_gone:
                before_us = (beat.second - _seconds_since_other(beat, monitor)) * _US
            last_second = beat.second
        yield Seen(check, before_us)


def _seconds_since_other(beat: KumaBeat, monitor: KumaMonitor) -> int:
    """Return how many seconds before a change the last beat with the other status was.

    A beat is down after it was tried again, as often as the monitor has it: those beats said neither. The first of
    them came after the usual interval, the others after as long as this one.
    """
    if beat.status != 0:
        return beat.duration_s
    tried_again = beat.retries - 1 if beat.retries > 0 else monitor.retries
    return beat.duration_s * tried_again + monitor.interval_s if tried_again > 0 else beat.duration_s
