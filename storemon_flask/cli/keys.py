"""`keys` and `tokens`: who may call the service over HTTP, and who may push polls of one store."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from storemon_flask.cli.command import Group, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import printable, table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.database.keys import KeyRow
    from storemon_flask.database.tokens import TokenRow


@click.group("keys", cls=Group)
def keys() -> None:
    """Add, list and revoke the keys that calls over HTTP need.

    Without a key everybody on this machine may call. With the first one every call but /healthz, /readyz and
    push addresses (`storemon tokens`) needs one.

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
    _write(ctx, "keys", "scope", service.rows(open_database(ctx)))
    if settings.api_key and not form_of(ctx):
        click.echo("STOREMON_API_KEY is set too; it has scope admin.", err=True)


def _write(ctx: click.Context, member: str, value: str, listed: "Sequence[KeyRow | TokenRow]") -> None:
    """Write keys or tokens, for people or for programs; `value` is what each stands for."""
    rows = [asdict(row) | {"created": _instant(row.created_us), "revoked": _instant(row.revoked_us)} for row in listed]
    columns = ["prefix", value, "created", "revoked", "label"]
    if form_of(ctx):
        shown = [{name: row[name] for name in columns} for row in rows]
        write_listing(form_of(ctx), {member: shown}, member, columns)
        return
    cells = [["no" if row[name] is None else row[name] for name in columns] for row in rows]
    for line in table([columns, *cells], text_columns=len(columns), width=terminal_width()):
        click.echo(line)


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
            "No key is left: every call but /healthz, /readyz and push addresses is refused until `storemon keys add` "
            "makes one.",
            err=True,
        )


@click.group("tokens", cls=Group)
def tokens() -> None:
    """Add, list and revoke the tokens of push addresses.

    With a token a tablet, a cash register or a cron job can say of one store that it is active or inactive now, and do
    nothing else: `GET` or `POST /push/TOKEN?status=active`. No key is needed for that.

    \b
    Example:
      storemon tokens add --store "NYC/12" --label "tablet at the counter"
    """


@tokens.command("add")
@click.option("--store", required=True, metavar="ID", help="The store whose polls it may push.")
@click.option("--label", default="", metavar="TEXT", help="What has it, for `storemon tokens list`.")
@click.pass_context
def add_token(ctx: click.Context, store: str, label: str) -> None:
    """Make a token for a store and print it, this once.

    \b
    Example:
      TOKEN=$(storemon tokens add --store "NYC/12" --label "tablet upstairs")
      curl "http://127.0.0.1:8000/push/$TOKEN?status=active"
    """
    from storemon_flask.stores import push_tokens

    new = push_tokens.add_token(open_database(ctx), store, label, _now_us())
    click.echo(new.token)
    if new.warning:
        click.echo(f"note: {printable(new.warning)}", err=True)
    click.echo(
        "Keep it now: it is not shown again. The push address is /push/TOKEN?status=active (or inactive).", err=True
    )


@tokens.command("list")
@listing
@click.pass_context
def list_tokens(ctx: click.Context) -> None:
    """Show every token: prefix, store, when it was made and revoked, label. The tokens themselves are not kept.

    \b
    Examples:
      storemon tokens list
      storemon tokens list --json
    """
    from storemon_flask.database import tokens as service

    _write(ctx, "tokens", "store_id", service.rows(open_database(ctx)))


@tokens.command("revoke")
@click.argument("prefix")
@click.pass_context
def revoke_token(ctx: click.Context, prefix: str) -> None:
    """Revoke the token of that PREFIX. A running server refuses it from now on; the polls it pushed stay.

    \b
    Example:
      storemon tokens revoke st_1b5e6f0a
    """
    from storemon_flask.database import tokens as service

    row = service.revoke(open_database(ctx), prefix, _now_us())
    click.echo(f"{row.prefix} is revoked since {_instant(row.revoked_us)}")


def _instant(us: int | None) -> str | None:
    from storemon_flask.clock import timestamp_text

    return None if us is None else timestamp_text(us)


def _now_us() -> int:
    return time.time_ns() // 1000
