"""The command `advise`: what polls can prove, and how often to poll."""

import time

import click

from storemon_flask.cli.command import NumberRange, command, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import below, say_note, table, terminal_width


@command("advise")
@click.option(
    "--target",
    type=NumberRange(0, 100, max_open=True),
    default=99.0,
    show_default=True,
    metavar="PERCENT",
    help="The uptime to be judged.",
)
@click.option(
    "--period",
    type=click.Choice(["day", "week", "month"]),
    default="week",
    show_default=True,
    help="The period that it is judged for; a month has 30 days.",
)
@listing
@click.pass_context
def advise(ctx: click.Context, target: float, period: str) -> None:
    """Say what the fleet's polls can prove, and how often to poll to judge a target of uptime.

    A target can be judged where the time that it allows to be down is one and a half times as long as the likely range
    of uptime is wide.

    \b
    Examples:
      storemon advise
      storemon advise --target 99.5 --period month
    """
    from storemon_flask.reports.advice import advise_fleet
    from storemon_flask.stores.live_list import find_as_of

    settings, database = get_settings(ctx), open_database(ctx)
    with database.read() as connection:
        as_of = find_as_of(database, connection, time.time_ns() // 1000, settings.rules, None)
        advice = advise_fleet(
            database, connection, settings.default_timezone, as_of.as_of_us, settings.rules, target, period
        )
    record = advice.record()
    form = form_of(ctx)
    if form:
        write_listing(form, record, "intervals", ["every_minutes", "width_minutes", "highest_target", "can_judge"])
        return
    if advice.present is None:
        say_note(f"there is no likely range: {advice.reason or 'there are no neighbouring polls'}")
        return
    for sentence in advice.sentences:
        for line in below(sentence, indent=""):
            click.echo(line)
    click.echo()
    rows = [["polls every", "likely range", "judges up to", f"{target:g} % a {period}"]]
    for one in record["intervals"]:
        judged = "can be judged" if one["can_judge"] else "cannot"
        now = " (now)" if one["every_minutes"] == advice.present.every_minutes else ""
        rows.append(
            [
                f"{one['every_minutes']} min{now}",
                f"{one['width_minutes']:.0f} min",
                f"{one['highest_target']:.1f} %",
                judged,
            ]
        )
    for line in table(rows, text_columns=1, width=terminal_width()):
        click.echo(line)
