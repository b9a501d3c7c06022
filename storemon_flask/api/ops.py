"""For those who run the service: whether it is ready, and its metrics."""

import logging
import threading
import time
from typing import Any, Final

from flask import Blueprint, Response, current_app
from marshmallow import fields, validate

from storemon_flask.database import readiness
from storemon_flask.web.app import Storemon, storemon
from storemon_flask.web.contract import Answer, Closed, operation
from storemon_flask.web.problems import problem

blueprint = Blueprint("ops", __name__)
log = logging.getLogger("storemon.web")

# Anybody may ask, and each check takes the write lock for a moment: a flood of questions gets one answer a second.
KEPT_S: Final = 1.0
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_CHECK: Final = "storemon.ready_check"


class ReadySchema(Closed):
    """That the service can do its work."""

    status = fields.String(required=True, validate=validate.OneOf(("ready",)), metadata={"description": "always ready"})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"description": "always ok"}),
        required=True,
        metadata={"description": "what was looked at: database, disk, reports, jobs"},
    )


class ReadyCheck:
    """The checks of one application, kept for a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[str, str] | None = None
        self._checked_s = 0.0

    def read(self, storemon: Storemon) -> dict[str, str]:
        """Return `ok` or what is wrong, by check; the log says what changed since the last time."""
        with self._lock:
            if self._checks is None or time.monotonic() - self._checked_s > KEPT_S:
                checks = readiness.check(storemon.database, storemon.settings, storemon.worker.takes_work())
                if self._checks != checks:
                    wrong = _wrong(checks)
                    if wrong:
                        log.warning("not ready: %s", wrong)
                    else:
                        log.info("ready")
                self._checks, self._checked_s = checks, time.monotonic()
            return self._checks


blueprint.record(lambda state: state.app.extensions.update({_CHECK: ReadyCheck()}))


@operation(
    blueprint, "GET", "/readyz", scope=None, tag="service",
    answers={200: Answer("it is ready", ReadySchema()), 503: Answer("it is not; `detail` and `checks` say why")},
)  # fmt: skip
def readyz() -> Response | dict[str, Any]:
    """Say whether the service can do its work: take data, compute reports and keep them.

    The answer is kept for a second. A busy database is ready.
    """
    checks = current_app.extensions[_CHECK].read(storemon())
    wrong = _wrong(checks)
    if wrong:
        return problem(503, "not-ready", "Not ready", wrong, checks=checks)
    return {"status": "ready", "checks": checks}


def _wrong(checks: dict[str, str]) -> str:
    return "; ".join(sentence for sentence in checks.values() if sentence != readiness.OK)


@operation(
    blueprint, "GET", "/metrics", scope="read", tag="service",
    answers={200: Answer("the text format of Prometheus, version 0.0.4", "text/plain")},
)  # fmt: skip
def metrics() -> Response:
    """Show the service's metrics, for Prometheus."""
    answer = Response(storemon().metrics.text(), content_type=_METRICS)
    answer.headers["Cache-Control"] = "no-store"
    return answer
