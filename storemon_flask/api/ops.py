"""For those who run the service: whether it answers and is ready, and its metrics."""

from typing import Any, Final

from flask import Blueprint, Response

from storemon_flask.api.schemas import HealthSchema, ReadySchema
from storemon_flask.database import readiness
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, operation
from storemon_flask.web.problems import problem

blueprint = Blueprint("ops", __name__)
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


@operation(
    blueprint, "GET", "/healthz", scope=None, tag="service", answers={200: Answer("it answers", HealthSchema())}
)  # fmt: skip
def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@operation(
    blueprint, "GET", "/readyz", scope=None, tag="service",
    answers={200: Answer("it is ready", ReadySchema()), 503: Answer("it is not; `detail` and `checks` say why")},
)  # fmt: skip
def readyz() -> Response | dict[str, Any]:
    """Say whether the service can do its work: take data, compute reports and keep them.

    The answer is kept for a second. A busy database is ready.
    """
    application = storemon()
    checks = application.ready_check.checks(application.worker.takes_work())
    wrong = readiness.faults(checks)
    if wrong:
        return problem(503, "not-ready", "Not ready", wrong, checks=checks)
    return {"status": "ready", "checks": checks}


@operation(
    blueprint, "GET", "/metrics", scope="read", tag="service",
    answers={200: Answer("the text format of Prometheus, version 0.0.4", "text/plain")},
)  # fmt: skip
def metrics() -> Response:
    """Show the service's metrics, for Prometheus."""
    answer = Response(storemon().metrics.text(), content_type=_METRICS)
    answer.headers["Cache-Control"] = "no-store"
    return answer
