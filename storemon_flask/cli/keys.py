"""`keys`: who may call the service over HTTP."""

import time

import click

from storemon_flask.cli.command import Group, get_settings, open_database
from storemon_flask.cli.terminal import table, terminal_width


@click.group("keys", cls=Group)
def keys() -> None:
    """Add, list and revoke the keys that calls over HTTP need.

    Without a key everybody on this machine may call. With the first one every call but /healthz and /readyz needs one.

    \b
    Example:
      storemon keys add --scope read --label dashboard
    """


@keys.command("add")
@click.option("--scope", type=click.Choice(["read", "write", "admin"]), required=True, help="What the key allows.")
@click.option("--label", default="", metavar="TEXT", help="Whose it is, for `storemon keys list`.")
@click.pass_context
def add(ctx: click.Context, scope: str, label: str) -> None:
    """Make a key and print it, this once.

    \b
    Example:
      storemon keys add --scope write --label "poller in Lyon"
    """
    from storemon_flask.database import keys as service

    key = service.add(open_database(ctx), scope, label, _now_us())
    click.echo(key)
    click.echo("Keep it now: it is not shown again. Send it as `Authorization: Bearer KEY`.", err=True)


@keys.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Show every key: prefix, scope, when it was made and revoked, label. The keys themselves are not kept.

    \b
    Example:
      storemon keys list
    """
    from storemon_flask.database import keys as service

    settings = get_settings(ctx)
    rows = [
        [row.prefix, row.scope, _instant(row.created_us), _instant(row.revoked_us), row.label]
        for row in service.rows(open_database(ctx))
    ]
    head = ["prefix", "scope", "created", "revoked", "label"]
    for line in table([head, *rows], text_columns=5, width=terminal_width()):
        click.echo(line)
    if settings.api_key:
        click.echo("STOREMON_API_KEY is set too; it has scope admin.", err=True)


@keys.command("revoke")
@click.argument("prefix")
@click.pass_context
def revoke(ctx: click.Context, prefix: str) -> None:
    """Revoke the key of that PREFIX. A running server refuses it from now on.

    \b
    Example:
      storemon keys revoke sm_1b5e6f0a
    """
    from storemon_flask.database import keys as service

    settings = get_settings(ctx)
    database = open_database(ctx)
    row = service.revoke(database, prefix, _now_us())
    click.echo(f"{row.prefix} is revoked since {_instant(row.revoked_us)}")
    if all(other.revoked_us is not None for other in service.rows(database)) and not settings.api_key:
        click.echo(
            "No key is left: every call but /healthz and /readyz is refused until `storemon keys add` makes one.",
            err=True,
        )


def _instant(us: int | None) -> str:
    from storemon_flask.clock import timestamp_text

    return "no" if us is None else timestamp_text(us)


def _now_us() -> int:
    return time.time_ns() // 1000
