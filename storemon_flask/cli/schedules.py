"""The commands `schedules add`, `list`, `run` and `remove`."""

import time
from typing import TYPE_CHECKING, Any

import click

from storemon_flask.cli.command import (
    Group,
    NumberRange,
    confirm,
    get_settings,
    open_database,
    options_in_errors,
    parse_timestamp,
)
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.report import GROUPS, LABELS, STORES, ZONES
from storemon_flask.cli.terminal import printable, say, table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.database.schedules import Run
    from storemon_flask.schedules.catalogue import ScheduleView


@click.group("schedules", cls=Group)
def schedules() -> None:
    """Add, list, run and remove scheduled reports.

    The server makes them while it runs (`storemon serve`), and sends them to channels (`storemon channels`).

    \b
    Example:
      storemon schedules add North --due "weekly mon 07:00" --group North --channel ops
    """


@schedules.command("add")
@click.argument("name")
@click.option(
    "--due",
    required=True,
    metavar="WHEN",
    help="daily 07:00, weekly mon 07:00, monthly 1 07:00 (1 to 28, or last), or five fields of cron.",
)
@click.option("--timezone", "zone", metavar="ZONE", help="The time zone of --due.  [STOREMON_DEFAULT_TIMEZONE]")
@click.option("--channel", "channels", multiple=True, metavar="NAME", help="Where it is sent; several times.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="W",
    help="last_hour, last_day, last_week (Monday to Sunday), last_month, last_7_days, last_30_days, last_90_days, "
    "today, yesterday, this_week or this_month, counted from the due date; several times. "
    "[default: as long as the time from one report to the next]",
)
@STORES
@GROUPS
@LABELS
@ZONES
@click.option("--columns", type=click.Choice(["classic", "full"]), help="Of the file.  [default: full]")
@click.option("--by", metavar="UNIT", help="hour, daypart, day, week or month: the file has a row for each.")
@click.option(
    "--compare", metavar="previous", help="Beside each window the period before it, and the change in points."
)
@click.option("--method", metavar="M", help="nearest or previous: which poll decides a moment.  [default: nearest]")
@click.option(
    "--format", "form", type=click.Choice(["csv", "xlsx"]), default="csv", show_default=True, help="Of the file."
)
@click.option(
    "--below",
    type=NumberRange(0, 100),
    default=97.0,
    show_default=True,
    metavar="PERCENT",
    help="Stores below this are counted in the subject.",
)
@click.pass_context
def add(
    ctx: click.Context,
    /,
    name: str,
    due: str,
    zone: str | None,
    channels: tuple[str, ...],
    form: str,
    below: float,
    **fields: Any,
) -> None:
    """Add a report that is made whenever it is due, and sent to channels.

    "last_week" is the week from Monday to Sunday before the due date, in each store's own time zone, and the as-of is
    the due time: a report that is made late is the same. It waits up to three hours for data that are late.

    \b
    Examples:
      storemon schedules add North --due "weekly mon 07:00" --group North \\
          --channel ops --timezone America/New_York
      storemon schedules add Month --due "monthly 1 06:30" --format xlsx
      storemon schedules add Workdays --due "0 8 * * 1-5" --channel ops
    """
    from storemon_flask.schedules import catalogue

    settings = get_settings(ctx)
    report = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if value}
    new = catalogue.NewSchedule(name, due, zone or settings.default_timezone, report, form, channels, below)
    with options_in_errors():
        view = catalogue.add(open_database(ctx), settings, new, _now_us())
    say(f"{printable(view.schedule.name)} is due next {_next_text(view)}")
    if not channels:
        say("It is sent nowhere: its reports are in the list of reports. --channel NAME sends them.", err=True)


@schedules.command("list")
@listing
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Show every scheduled report: when it is due, where it goes, what became of the last one.

    \b
    Examples:
      storemon schedules list
      storemon schedules list --json
    """
    from storemon_flask.schedules import catalogue

    views = catalogue.all_views(open_database(ctx), _now_us())
    if form_of(ctx):
        columns = ["schedule_id", "name", "due", "zone", "report", "format", "channels", "below", "next", "runs"]
        write_listing(form_of(ctx), {"schedules": [_json(view) for view in views]}, "schedules", columns)
        return
    if not views:
        say("There is no scheduled report; `storemon schedules add --help` shows how to add one.", err=True)
        return
    rows = [["name", "due", "next", "to", "last run"]]
    for view in views:
        last = _run_text(view.runs[0]) if view.runs else "never"
        rows.append([view.schedule.name, view.schedule.due, _next_text(view), ", ".join(view.channels) or "-", last])
    for line in table(rows, text_columns=5, width=terminal_width(), least={0: 12, 3: 8}):
        click.echo(line)


@schedules.command("run")
@click.argument("name")
@click.option(
    "--due",
    "due_us",
    callback=parse_timestamp,
    metavar="T",
    help="As if it were due then, such as a time that was skipped.  [default: now]",
)
@click.pass_context
def run(ctx: click.Context, name: str, due_us: int | None) -> None:
    """Have a scheduled report made and sent now, without waiting for late data.

    \b
    Examples:
      storemon schedules run North
      storemon schedules run North --due 2026-11-23T12:00:00Z
    """
    from storemon_flask.clock import timestamp_text
    from storemon_flask.database.files import server_runs
    from storemon_flask.schedules import catalogue

    database = open_database(ctx)
    with options_in_errors():
        begun = catalogue.run_by_hand(database, catalogue.find(database, name), due_us, _now_us())
    who = "the server makes and sends it" if server_runs(database.path) else "it is made once `storemon serve` runs"
    say(f"{printable(name)} as of {timestamp_text(begun.due_us)}: {who}")


@schedules.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(ctx: click.Context, name: str, yes: bool) -> None:
    """Remove a scheduled report. One that is due is not sent any more; the reports that it made stay.

    \b
    Example:
      storemon schedules remove North --yes
    """
    from storemon_flask.schedules import catalogue

    database = open_database(ctx)
    schedule = catalogue.find(database, name)
    confirm(ctx, yes, f"{' '.join(catalogue.LOSSES)} Remove the scheduled report {schedule.name}?")
    catalogue.remove(database, schedule, _now_us())
    say(f"{printable(name)} is removed")


def _json(view: "ScheduleView") -> dict[str, Any]:
    """Return a schedule as over HTTP."""
    from storemon_flask.api.schedules import ScheduleSchema, schedule_json

    document: dict[str, Any] = ScheduleSchema().dump(schedule_json(view))
    return document


def _next_text(view: "ScheduleView") -> str:
    from storemon_flask.schedules.due import local_text

    return local_text(view.next_us[0], view.schedule.zone)


def _run_text(run: "Run") -> str:
    from storemon_flask.clock import minute_text

    note = f": {run.note}" if run.note else ""
    return f"{run.state} {minute_text(run.due_us)}{note}"


def _now_us() -> int:
    return time.time_ns() // 1000
