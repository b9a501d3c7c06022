"""What every view gets from the app it belongs to."""

from flask import current_app

from storemon_flask.reports.worker import Runner


def runner() -> Runner:
    """The app's runner, which has its settings and its database."""
    found: Runner = current_app.extensions["storemon"]
    return found
