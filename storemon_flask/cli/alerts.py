"""`alerts`: what is wrong now, and what was."""

import time
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask.cli.alerts_preview import preview
from storemon_flask.cli.command import Group, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import say, wrapped

if TYPE_CHECKING:
    from storemon_flask.alerts.catalogue import IncidentView

_KINDS: Final = ("down", "not_opened", "stale", "blind", "many_down", "unstable", "feed")


@click.group("alerts", cls=Group, invoke_without_command=True)
@click.option("--history", is_flag=True, help="Also what is over, the newest first.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only this kind.")
@click.option("--subject", metavar="TEXT", help="Only of the store of this id, or the group or zone of this name.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Incidents to show."
)
@listing
@click.pass_context
def alerts(ctx: click.Context, history: bool, kind: str | None, subject: str | None, limit: int) -> None:
    """Show what is wrong now, the worst first: since when, for how much business time, and who was told.

    The running server detects incidents; this command shows them.

    \b
    Examples:
      storemon alerts
      storemon alerts --history --kind down --limit 20
      storemon alerts --history --subject "NYC/12"
      storemon alerts --json
      storemon alerts preview --days 14
    """
    if ctx.invoked_subcommand is not None:
        return
    from storemon_flask.alerts import catalogue

    database, now_us = open_database(ctx), time.time_ns() // 1000
    if history:
        views = catalogue.newest_views(database, limit + 1, None, kind, subject)
    else:
        views = [view for view in catalogue.open_views(database) if _is_meant(view, kind, subject)]
    shown = views[:limit]
    if form_of(ctx):
        _write(form_of(ctx), [catalogue.record_of(view, now_us) for view in shown])
    else:
        for view in shown:
            for line in _lines(view, now_us):
                click.echo(line)
        if not shown:
            say("No incident matches." if history or kind or subject else "No incident is open.", err=True)
    if len(views) > limit:
        more = "There are more" if history else f"{len(views) - limit:,} more are open"
        say(f"{more}: say --limit.", err=True)


alerts.add_command(preview)


def _is_meant(view: "IncidentView", kind: str | None, subject: str | None) -> bool:
    return kind in (None, view.incident.kind) and subject in (None, view.incident.subject)


def _lines(view: "IncidentView", now_us: int) -> list[str]:
    """Return an incident in a sentence, how sure its beginning is, and who is told, in lines that fit."""
    from storemon_flask.delivery import words

    incident = view.incident
    certainty = "" if incident.outcome is not None else words.certainty_text(incident, now_us)
    text = words.sentence_text(incident, now_us)
    return wrapped([f"{text} ({'; '.join(filter(None, (certainty, view.told_text())))})"])


def _write(form: str, rows: list[dict[str, Any]]) -> None:
    from storemon_flask.api.incidents import IncidentSchema

    write_listing(form, {"incidents": rows}, "incidents", list(IncidentSchema().fields))
