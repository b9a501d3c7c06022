"""storemon: how long was each store really up during the hours it was meant to be open?"""

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from storemon_flask.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.settings import Settings


def create_app(settings: "Settings | None" = None, executor: Executor | None = None) -> "Flask":
    """Return the Flask app, wired: settings, database, worker, routes, commands.

    Starts no thread and touches no report: a command that imports it must not. `SettingsError` for a wrong setting.
    """
    from prometheus_client import CollectorRegistry

    from storemon_flask import settings as settings_
    from storemon_flask.alerts.evaluator import Evaluator
    from storemon_flask.database.connections import Database
    from storemon_flask.database.readiness import ReadyCheck
    from storemon_flask.delivery.courier import Couriers
    from storemon_flask.feeds.groups import PollGroups
    from storemon_flask.reports.scheduler import Scheduler
    from storemon_flask.reports.worker import Worker
    from storemon_flask.server import commands
    from storemon_flask.stores.list_cache import ListCache
    from storemon_flask.stores.overview_cache import OverviewCache
    from storemon_flask.web.app import Storemon
    from storemon_flask.web.metrics import Metrics
    from storemon_flask.web.previews import Previews

    _make_streams_tolerant_below_flask()
    settings = settings or settings_.load()
    app = _make_flask(settings)
    # What a test runs itself does nothing later by itself.
    scheduler = Scheduler(threaded=executor is None)
    database, registry = Database(settings.database), CollectorRegistry()
    executor = executor or ThreadPoolExecutor(settings.report_workers, thread_name_prefix="report")
    runner = Worker(database, settings, executor, scheduler, registry=registry)
    list_cache = ListCache(database, settings.rules, settings.default_timezone)
    metrics = Metrics(database, settings, registry, list_cache)
    ready_check = ReadyCheck(database, settings)
    # One upload of the largest size can be kept while another is sent.
    previews = Previews(2 * settings.max_body_bytes, scheduler.add)
    couriers = Couriers(database, settings, registry=registry)
    app.extensions["storemon"] = Storemon(
        settings,
        database,
        runner,
        runner.slots,
        PollGroups(database),
        previews,
        metrics,
        list_cache,
        ready_check,
        couriers,
        Evaluator(database, settings, list_cache, couriers.wake),
        OverviewCache(database, list_cache, settings.rules, settings.default_timezone),
    )
    _register(app, settings)
    for command in commands():
        app.cli.add_command(command)
    return app


def _make_flask(settings: "Settings") -> "Flask":
    """Return the Flask app with its folders and limits, without any route."""
    from flask import Flask

    # Flask's own guess of an instance folder is a temporary one inside a single-file build.
    app = Flask(
        __name__,
        static_folder="pages/static",
        template_folder="pages/templates",
        instance_path=str(settings.database.parent),
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def _make_streams_tolerant_below_flask() -> None:
    """What `storemon` does at its start, where `flask` loads the app to find a command of ours. For a server or a shell
    of Flask's own it does not.
    """
    import click
    from flask.cli import FlaskGroup

    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.command, FlaskGroup):
        from storemon_flask.cli.terminal import make_streams_tolerant

        make_streams_tolerant()


def _register(app: "Flask", settings: "Settings") -> None:
    """The routes, what guards and watches them, and how they refuse."""
    from storemon_flask import pages
    from storemon_flask.api import (
        channels,
        feeds,
        incidents,
        loads,
        openapi,
        ops,
        outages,
        overview,
        push,
        reports,
        schedules,
        stores,
    )
    from storemon_flask.pages import docs
    from storemon_flask.web import app as paths
    from storemon_flask.web import authentication, contract, metrics, problems

    app.url_map.converters["store"] = paths.StoreId
    app.url_map.converters["report"] = paths.ReportId
    paths.change_environment(app, paths.keep_segments)
    for blueprint in (
        channels.blueprint,
        feeds.blueprint,
        incidents.blueprint,
        loads.blueprint,
        ops.blueprint,
        overview.blueprint,
        outages.blueprint,
        push.blueprint,
        reports.blueprint,
        schedules.blueprint,
        stores.blueprint,
        openapi.blueprint,
        docs.blueprint,
    ):
        app.register_blueprint(blueprint)
    pages.register(app)
    problems.register(app)
    authentication.register(app, settings)
    metrics.register(app, app.extensions["storemon"].metrics)
    app.view_functions["static"] = contract.ScopedView(view=app.view_functions["static"], scope="read")
    contract.refuse_views_without_scope(app)
    # Outermost: what is watched is the client's request.
    authentication.trust_proxies(app, settings)
