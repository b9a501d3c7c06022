"""The evaluator: a thread of the server that detects incidents after each load and every half minute, and commits
them together with the notices for channels."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from storemon_flask.alerts import facts, feeds
from storemon_flask.alerts.evaluation import AlertRules, Changes, evaluate
from storemon_flask.alerts.notices import opened_notices, resolved_notices
from storemon_flask.alerts.sight import Sight
from storemon_flask.database import channels, incidents, messages, stores
from storemon_flask.database.connections import Database
from storemon_flask.delivery import http
from storemon_flask.errors import StoremonError, out_of_memory
from storemon_flask.model import DAY_US
from storemon_flask.settings import Settings
from storemon_flask.stores.list_cache import ListCache

log = logging.getLogger("storemon.alerts")
_LOOK_EVERY_S: Final = 0.5
_EVALUATE_EVERY_S: Final = 30.0
# After a load it rests so many times as long as its evaluation took, for loads may come all the time.
_REST: Final = 2.0
_HEARTBEAT_EVERY_S: Final = 60.0
_HEARTBEAT_DEADLINE_S: Final = 15.0
# An evaluation that is older is no sign of life.
_ALIVE_S: Final = 120.0


class Evaluator:
    """Evaluates the live snapshot. Its threads begin with `start`; `evaluate` does it once."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        list_cache: ListCache,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called after something was committed that channels are to be told."""
        self._database, self._settings, self._list_cache = database, settings, list_cache
        self._wake = wake
        self._rules = AlertRules.of(settings)
        self._sight = Sight(database, settings.default_timezone)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._version: object = None
        # By the steady clock: when the last evaluation succeeded, and until when none is begun.
        self._evaluated_s: float | None = None
        self._rest_until_s = 0.0
        self._failed = False

    def start(self) -> None:
        """Start the thread, and that of the heartbeat if there is an address for it."""
        self._thread.start()
        if self._settings.heartbeat_url.value:
            threading.Thread(target=self._run_heartbeat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Begin no more evaluation; return when one that is under way has ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def evaluate(self) -> Changes:
        """Evaluate the incidents now, and commit the changes in one transaction; write nothing if there are none."""
        snapshot = self._list_cache.current()
        now_us = time.time_ns() // 1000
        with self._database.read() as connection:
            before = incidents.open_incidents(connection)
            if self._evaluated_s is None:
                recent = incidents.blind_spans(connection, now_us - DAY_US, now_us, now_us)
                self._sight.remember(recent, now_us)
            troubles = feeds.find_troubles(connection, snapshot.as_of, now_us)
        now = facts.of_snapshot(snapshot, troubles, now_us)
        changes = evaluate(now, before, self._rules, self._sight.look(now, before))
        if changes:
            self._commit(changes, now_us)
        return changes

    def _commit(self, changes: Changes, now_us: int) -> None:
        # The snapshot may be up to a minute older.
        opened = [replace(incident, opened_us=now_us) for incident in changes.opened]
        resolved = [replace(incident, resolved_us=now_us) for incident in changes.resolved]
        with self._database.write() as connection:
            numbers = incidents.add(connection, opened)
            incidents.update(connection, changes.continued + resolved)
            listening = channels.live(connection)
            news = [replace(incident, id=number) for incident, number in zip(opened, numbers, strict=True)]
            told_channels = messages.channels_told(connection, [incident.id for incident in resolved])
            notices = [
                *opened_notices(news + changes.uncovered, listening),
                *resolved_notices(told_channels, listening),
            ]
            messages.add_notices(connection, notices, now_us)
        log.info(
            "%d incident(s) opened, %d resolved; %d notice(s) for channels",
            len(opened), len(resolved), len(notices),
        )  # fmt: skip
        if notices:
            self._wake()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                self._look()
            except Exception as error:
                if not self._stopping.is_set():
                    self._report(error)

    def _look(self) -> None:
        """Evaluate if the data changed or half a minute has passed."""
        begun_s = time.monotonic()
        if begun_s < self._rest_until_s or not self._database.exists():
            return
        with self._database.read() as connection:
            version = self._database.identity(), stores.data_version(connection)
        changed, self._version = version != self._version, version
        if not changed and self._evaluated_s is not None and begun_s - self._evaluated_s < _EVALUATE_EVERY_S:
            return
        # Until then when it fails.
        self._rest_until_s = begun_s + _EVALUATE_EVERY_S
        self.evaluate()
        self._evaluated_s = time.monotonic()
        self._rest_until_s = self._evaluated_s + (_REST * (self._evaluated_s - begun_s) if changed else 0.0)
        if self._failed:
            log.info("alerts are evaluated again")
        self._failed = False

    def _report(self, error: Exception) -> None:
        """Log that evaluation failed, once until it works again."""
        known = error if isinstance(error, StoremonError) else out_of_memory(error, "evaluating alerts")
        if known is None:
            log.error("alerts could not be evaluated", exc_info=error)
        elif not self._failed:
            log.warning("alerts could not be evaluated: %s", known.message)
        self._failed = True

    def _run_heartbeat(self) -> None:
        """Call the heartbeat's address each minute while evaluation works."""
        wait_s, missed = _LOOK_EVERY_S, False
        while not self._stopping.wait(wait_s):
            wait_s = _LOOK_EVERY_S
            if self._evaluated_s is not None and time.monotonic() - self._evaluated_s < _ALIVE_S:
                wait_s = _HEARTBEAT_EVERY_S
                answer = http.call(self._settings.heartbeat_url.value, _HEARTBEAT_DEADLINE_S)
                if not answer.delivered and not missed:
                    log.warning("the heartbeat's address did not take the call: %s", answer.text)
                missed = not answer.delivered
