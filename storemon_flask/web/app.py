"""What the views share: the application, and ids in paths (any text, percent-encoded as one segment)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_to_bytes

from flask import Flask, current_app
from werkzeug.routing import BaseConverter

from storemon_flask.alerts.evaluator import Evaluator
from storemon_flask.database.connections import Database
from storemon_flask.database.readiness import ReadyCheck
from storemon_flask.delivery.courier import Couriers
from storemon_flask.feeds.groups import PollGroups
from storemon_flask.formatting import DOTS, store_segment
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings
from storemon_flask.slots import Slots
from storemon_flask.stores.list_cache import ListCache
from storemon_flask.stores.overview_cache import OverviewCache
from storemon_flask.web.metrics import Metrics
from storemon_flask.web.previews import Previews

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@dataclass(slots=True)
class Storemon:
    """One application: what its views, its server and its metrics share. Flask has it as `extensions["storemon"]`."""

    settings: Settings
    database: Database
    worker: Worker
    slots: Slots
    poll_groups: PollGroups
    previews: Previews
    metrics: Metrics
    list_cache: ListCache
    ready_check: ReadyCheck
    couriers: Couriers
    evaluator: Evaluator
    overview_cache: OverviewCache


def storemon() -> Storemon:
    """Return the application whose request this is."""
    application: Storemon = current_app.extensions["storemon"]
    return application


class StoreId(BaseConverter):
    """One segment, decoded once more: `keep_segments` has kept its slashes and percent signs encoded."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Return the store id of a segment."""
        store_id = unquote(value)
        return store_id[1:] if store_id.startswith("~") and DOTS.fullmatch(store_id) else store_id

    def to_url(self, value: Any) -> str:
        """Return the segment of a store id."""
        return store_segment(str(value))


class ReportId(BaseConverter):
    """One segment; not that of the newest report, which has an address of its own."""

    regex = r"(?!latest\.csv$)[^/]+"


def change_environment(app: Flask, change: Callable[["WSGIEnvironment"], None]) -> None:
    """Have `change` change the environment of each request before the app, and what was added so far, sees it."""
    inner = app.wsgi_app

    def changed(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Change the environment, then call the app. A WSGI app."""
        change(environ)
        return inner(environ, start_response)

    app.wsgi_app = changed  # type: ignore[method-assign]


def keep_segments(environ: "WSGIEnvironment") -> None:
    """Set a path whose segments can be told apart: WSGI decodes the whole path, so that an encoded slash looks real.

    `%2F` and `%25` stay as they came.
    """
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    path = raw.partition("?")[0]
    prefix = quote(environ.get("SCRIPT_NAME", ""))
    if path.startswith(prefix + "/"):
        encoded = path[len(prefix) :].replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
        environ["PATH_INFO"] = unquote_to_bytes(encoded).decode("latin-1")
    else:
        # The server does not pass the raw path on: slashes are lost, percent signs must not be.
        environ["PATH_INFO"] = environ.get("PATH_INFO", "").replace("%", "%25")
