"""For those who run the service: whether it is ready, and its metrics."""

import logging
import threading
import time
from typing import Final

from flask import Blueprint, Flask, Response, current_app, jsonify
from marshmallow import fields, validate

from storemon_flask.api.schemas import Closed
from storemon_flask.database import readiness
from storemon_flask.reports.worker import Runner
from storemon_flask.web import vitals
from storemon_flask.web.app import runner
from storemon_flask.web.contract import Answer, operation
from storemon_flask.web.problems import problem

blueprint = Blueprint("ops", __name__)
log = logging.getLogger("storemon.web")

# Anybody may ask, and each check takes the write lock for a moment: a flood of questions gets one answer a second.
KEPT_S: Final = 1.0
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_STATE: Final = "storemon.ops"


class ReadySchema(Closed):
    """That the service can do its work."""

    status = fields.String(required=True, validate=validate.OneOf(("ready",)), metadata={"description": "always ready"})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"description": "always ok"}),
        required=True,
        metadata={"description": "what was looked at: database, disk, reports, jobs"},
    )


class _State:
    """What one app remembers between questions."""

    def __init__(self, found: Runner) -> None:
        self.lock = threading.Lock()
        self.checked: tuple[float, dict[str, str]] | None = None
        self.watcher = vitals.Watcher(found.database, found.settings)


def register(app: Flask, found: Runner) -> None:
    """The app's routes for those who run it. What is loaded from now on counts in its metrics."""
    app.register_blueprint(blueprint)
    app.extensions[_STATE] = _State(found)


def begin(app: Flask) -> None:
    """What is in the database now is none of what its metrics count."""
    state: _State = app.extensions[_STATE]
    state.watcher.begin()


def _state() -> _State:
    found: _State = current_app.extensions[_STATE]
    return found


@operation(
    blueprint, "GET", "/readyz", scope=None, tag="service",
    answers={200: Answer("it is ready", ReadySchema()), 503: Answer("it is not; `detail` and `checks` say why")},
    checked=False,
)  # fmt: skip
def readyz() -> Response:
    """Say whether the service can do its work: take data, compute reports and keep them.

    The answer is kept for a second. A busy database is ready.
    """
    found, state = runner(), _state()
    with state.lock:
        if state.checked is None or time.monotonic() - state.checked[0] > KEPT_S:
            checks = readiness.check(found.database, found.settings, found.takes_work())
            if state.checked is None or state.checked[1] != checks:
                _tell(checks)
            state.checked = time.monotonic(), checks
        checks = state.checked[1]
    wrong = _wrong(checks)
    if wrong:
        return problem(503, "not-ready", "Not ready", "; ".join(wrong), checks=checks)
    return jsonify(status="ready", checks=checks)


def _wrong(checks: dict[str, str]) -> list[str]:
    return [sentence for sentence in checks.values() if sentence != readiness.OK]


def _tell(checks: dict[str, str]) -> None:
    """Say in the log what changed since the last time."""
    wrong = _wrong(checks)
    if wrong:
        log.warning("not ready: %s", "; ".join(wrong))
    else:
        log.info("ready")


@operation(
    blueprint, "GET", "/metrics", scope="read", tag="service",
    answers={200: Answer("the text format of Prometheus, version 0.0.4", "text/plain")},
)  # fmt: skip
def metrics() -> Response:
    """Show the service's metrics, for Prometheus."""
    # A fifth of a second that the start of the server need not pay.
    from storemon_flask.web import exposition

    now_us = time.time_ns() // 1000
    body = exposition.text(runner().meters, _state().watcher.read(), now_us)
    answer = Response(body, content_type=_METRICS)
    answer.headers["Cache-Control"] = "no-store"
    return answer
