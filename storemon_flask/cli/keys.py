"""`keys`: who may call the service over HTTP."""

import time
from typing import TYPE_CHECKING

import click

from storemon_flask.cli.command import Group, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.database.keys import KeyRow


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
@listing
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Show every key: prefix, scope, when it was made and revoked, label. The keys themselves are not kept.

    \b
    Examples:
      storemon keys list
      storemon keys list --json
    """
    from storemon_flask.database import keys as service

    settings = get_settings(ctx)
    listed = service.rows(open_database(ctx))
    if form_of(ctx):
        _write_keys(form_of(ctx), listed)
        return
    rows = [[row.prefix, row.scope, _instant(row.created_us), _instant(row.revoked_us), row.label] for row in listed]
    head = ["prefix", "scope", "created", "revoked", "label"]
    for line in table([head, *rows], text_columns=5, width=terminal_width()):
        click.echo(line)
    if settings.api_key:
        click.echo("STOREMON_API_KEY is set too; it has scope admin.", err=True)


def _write_keys(form: str, listed: "list[KeyRow]") -> None:
    from storemon_flask.clock import timestamp_text

    keys = [
        {
            "prefix": row.prefix,
            "scope": row.scope,
            "created": timestamp_text(row.created_us),
            "revoked": None if row.revoked_us is None else timestamp_text(row.revoked_us),
            "label": row.label,
        }
        for row in listed
    ]
    write_listing(form, {"keys": keys}, "keys", ["prefix", "scope", "created", "revoked", "label"])


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
