"""`channels`: where messages go when something is wrong; add, list, test and remove them."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from storemon_flask.cli.command import Group, confirm, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import say, table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.delivery.catalogue import ChannelView


@click.group("channels", cls=Group)
def channels() -> None:
    """Add, list, test and remove the channels that alerts are sent to.

    Each receives every alert, at once, unless you choose otherwise. The running server sends them.

    \b
    Examples:
      storemon channels add ops --email ops@example.com
      storemon channels test ops
    """


@channels.command("add")
@click.argument("name")
@click.option("--email", metavar="ADDRESS", help="Mail to this address; several have commas between them.")
@click.option("--webhook", metavar="URL", help="POST signed JSON to this address; - reads it as below.")
@click.option(
    "--apprise",
    metavar="URL",
    help="Slack, Teams, Telegram, ntfy, PagerDuty, SMS ..., by the address that apprise has for it; - reads the "
    "address from standard input, where nobody sees it.",
)
@click.option("--folder", metavar="PATH", help="Write into this folder of the server's machine.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only this kind of incident; may be repeated. Left out: all but stale.",
)
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only stores of this group; may be repeated.")
@click.option("--store", "stores", multiple=True, metavar="ID", help="Only this store; may be repeated.")
@click.option("--digest", metavar="TIME", help='Once a day, as "08:00 America/New_York", instead of at once.')
@click.option("--quiet", metavar="HOURS", help='Nothing is sent then, as "22:00-08:00 America/New_York".')
@click.option("--json", "as_json", is_flag=True, help="Print JSON, named as over HTTP.")
@click.pass_context
def add(ctx: click.Context, /, name: str, as_json: bool, **options: Any) -> None:
    """Add a channel called NAME. Of a webhook the secret is printed, this once.

    Kinds of incidents: down, not_opened, stale, blind, many_down, unstable, feed. Without --kind all but stale (two
    polls of a store are missing, which happens all day in a large fleet); for every kind name all seven.

    \b
    Examples:
      storemon channels add ops --email ops@example.com,boss@example.com
      storemon channels add north --group North --webhook https://example.com/in
      storemon channels add phone --apprise - --kind down < secret-address.txt
      storemon channels add boss --email b@example.com \\
        --digest "08:00 America/New_York"
    """
    from storemon_flask.database.channels import KINDS
    from storemon_flask.delivery import catalogue

    given = [(kind, options[kind]) for kind in KINDS if options[kind] is not None]
    if len(given) != 1:
        raise click.UsageError("Say one of --email, --webhook, --apprise and --folder.", ctx)
    ((kind, address),) = given
    if address == "-":
        address = sys.stdin.readline().strip()
    rest = {field: options[field] for field in ("kinds", "groups", "stores", "digest", "quiet")}
    new = catalogue.NewChannel(name, kind, address, **rest)
    view, notes = catalogue.add(open_database(ctx), get_settings(ctx), new, time.time_ns() // 1000)
    for note in notes:
        say(f"note: {note}", err=True)
    if as_json:
        _print_added(view, notes)
        return
    if view.channel.secret:
        click.echo(view.channel.secret.value)
        say("Keep it now: it is not shown again. The receiver uses it to check who sent a message.", err=True)
    say(f"{view.channel.name} is added; nothing is sent yet. Try it with `storemon channels test`.", err=True)


def _print_added(view: "ChannelView", notes: list[str]) -> None:
    from storemon_flask.api.channels import added_json

    write_listing("json", added_json(view, notes), "", ())


@channels.command("list")
@listing
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Show every channel: where it goes, what it receives and when, and the result of its newest attempt.

    \b
    Examples:
      storemon channels list
      storemon channels list --json
    """
    from storemon_flask.api.channels import ChannelSchema, channel_json
    from storemon_flask.delivery import catalogue

    views = catalogue.views(open_database(ctx))
    if form_of(ctx):
        rows = [channel_json(view) for view in views]
        write_listing(form_of(ctx), {"channels": rows}, "channels", list(ChannelSchema().fields))
        return
    if not views:
        say("There is no channel: nobody is told anything. Add one: storemon channels add --help", err=True)
        return
    rows_ = [["channel", "kind", "address", "receives", "when", "newest attempt"]]
    for view in views:
        channel = view.channel
        heard, when = catalogue.received_text(channel.filters), catalogue.when_text(channel)
        rows_.append([channel.name, channel.kind, view.shown, heard, when, _last_text(view)])
    for line in table(rows_, text_columns=len(rows_[0]), width=terminal_width()):
        click.echo(line)
    for view in views:
        if view.trouble:
            say(f"{view.channel.name}: {view.trouble}", err=True)


def _last_text(view: "ChannelView") -> str:
    from storemon_flask.clock import minute_text

    if view.last is None:
        return "none yet"
    return f"{'delivered' if view.last.delivered else 'failed'} {minute_text(view.last.started_us)}"


@channels.command("test")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, named as over HTTP.")
@click.pass_context
def test(ctx: click.Context, name: str, as_json: bool) -> None:
    """Send a marked example to the channel NAME now, and show what came of it; exit code 1 if it did not arrive.

    A channel that its receiver switched off is switched on again when it arrives.

    \b
    Example:
      storemon channels test ops
    """
    from storemon_flask.api.channels import tested_json
    from storemon_flask.delivery import catalogue

    database = open_database(ctx)
    answer = catalogue.test(database, get_settings(ctx), catalogue.find(database, name))
    if as_json:
        write_listing("json", tested_json(answer), "", ())
    else:
        code = f"{answer.code}: " if answer.code is not None and not answer.text.startswith(str(answer.code)) else ""
        say(f"{'delivered' if answer.delivered else 'not delivered'}: {code}{answer.text or 'no words'}")
    if not answer.delivered:
        ctx.exit(1)


@channels.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(ctx: click.Context, name: str, yes: bool) -> None:
    """Remove the channel NAME with its address and secret. What waits for it is not sent; the log stays.

    \b
    Example:
      storemon channels remove ops --yes
    """
    from storemon_flask.delivery import catalogue

    database = open_database(ctx)
    channel = catalogue.find(database, name)
    confirm(ctx, yes, f"{' '.join(catalogue.losses(database, channel))} Remove the channel {channel.name}?")
    catalogue.remove(database, channel, time.time_ns() // 1000)
    say(f"{channel.name} is removed")
