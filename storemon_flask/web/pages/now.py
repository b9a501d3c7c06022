"""`/`: every store as it is now, the worst first."""

from flask import Blueprint, render_template

blueprint = Blueprint("now", __name__)


@blueprint.get("/")
def now() -> str:
    """The page."""
    return render_template("first_run.html")
