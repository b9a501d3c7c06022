"""The page `/reports/schedules`: scheduled reports, when each is due, and a form."""

import time
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from storemon_flask.database.schedules import FORMATS
from storemon_flask.delivery import catalogue as channels
from storemon_flask.errors import StoremonError, Unprocessable
from storemon_flask.schedules import catalogue, due
from storemon_flask.schedules.catalogue import USUAL_BELOW, NewSchedule
from storemon_flask.web import contract, problems
from storemon_flask.web.app import storemon

blueprint = Blueprint("schedule_pages", __name__)

_WINDOWS = {
    "last_day": "the day before",
    "last_week": "the week before, Monday to Sunday",
    "last_month": "the month before",
    "last_7_days": "the 7 days before",
    "last_30_days": "the 30 days before",
    "last_90_days": "the 90 days before",
    "last_hour": "the hour before",
}


@contract.page(blueprint, "GET", "/reports/schedules", scope="read")
def schedules() -> ResponseReturnValue:
    """Return the page: every schedule with its next three runs, and a form for another."""
    return _page(MultiDict())


@contract.page(blueprint, "POST", "/reports/schedules", scope="admin")
def add() -> ResponseReturnValue:
    """Add the schedule of the form; an error is shown at the form."""
    app, form = storemon(), request.form
    try:
        with app.slots.for_change():
            catalogue.add(app.database, app.settings, _new_schedule(form), _now_us())
    except StoremonError as error:
        if error.status >= 500:
            raise
        return _page(form, error)
    return redirect(url_for("schedule_pages.schedules"), 303)


@contract.page(blueprint, "POST", "/reports/schedules/<int:schedule>/run", scope="admin")
def run(schedule: int) -> ResponseReturnValue:
    """Have a schedule run now; the browser is sent back to the list."""
    database = storemon().database
    problems.lead_back(url_for("schedule_pages.schedules"), "Scheduled reports")
    with storemon().slots.for_change():
        catalogue.run_by_hand(database, catalogue.find(database, schedule), None, _now_us())
    return redirect(url_for("schedule_pages.schedules"), 303)


@contract.page(blueprint, "GET", "/reports/schedules/<int:schedule>/remove", scope="read")
def ask_remove(schedule: int) -> ResponseReturnValue:
    """Return the page that says what goes with a schedule, and asks."""
    back = url_for("schedule_pages.schedules")
    problems.lead_back(back, "Scheduled reports")
    name = catalogue.find(storemon().database, schedule).name
    return render_template(
        "remove.html", what="schedule", name=name, back=back, word="Scheduled reports", reasons=catalogue.LOSSES
    )


@contract.page(blueprint, "POST", "/reports/schedules/<int:schedule>/remove", scope="admin")
def remove(schedule: int) -> ResponseReturnValue:
    """Remove a schedule; its reports stay. The browser is sent back to the list."""
    database = storemon().database
    problems.lead_back(url_for("schedule_pages.schedules"), "Scheduled reports")
    with storemon().slots.for_change():
        catalogue.remove(database, catalogue.find(database, schedule), _now_us())
    return redirect(url_for("schedule_pages.schedules"), 303)


def _page(form: "MultiDict[str, str]", error: StoremonError | None = None) -> ResponseReturnValue:
    app = storemon()
    errors: Any = error.members.get("errors") if error else None
    page = render_template(
        "schedules.html",
        schedules=catalogue.all_views(app.database, _now_us()),
        local=due.local_text,
        windows=_WINDOWS,
        formats=FORMATS,
        channels=[view.channel.name for view in channels.views(app.database)],
        zone=app.settings.default_timezone,
        below=f"{USUAL_BELOW:g}",
        form=form,
        error=error,
        wrong={name.partition(".")[2] or name: "; ".join(map(str, sentences)) for name, sentences in errors.items()}
        if isinstance(errors, dict)
        else {},
    )
    return page, error.status if error else 200


def _new_schedule(form: "MultiDict[str, str]") -> NewSchedule:
    report: dict[str, Any] = {"windows": form.getlist("windows")} if form.getlist("windows") else {}
    groups = [line.strip() for line in form.get("groups", "").splitlines() if line.strip()]
    if groups:
        report["groups"] = groups
    try:
        below = float(form.get("below", "").strip() or USUAL_BELOW)
    except ValueError:
        sentence = "is no number; it must be a percentage from 0 to 100"
        raise Unprocessable(f"below {sentence}", errors={"below": [sentence]}) from None
    zone = form.get("zone", "").strip() or storemon().settings.default_timezone
    return NewSchedule(
        form.get("name", ""), form.get("due", ""), zone, report, form.get("format", "csv"), form.getlist("channels"),
        below,
    )  # fmt: skip


def _now_us() -> int:
    return time.time_ns() // 1000
