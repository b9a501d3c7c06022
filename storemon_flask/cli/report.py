"""`report` and `info`: what comes out."""

import sys
from pathlib import Path
from typing import Any

import click

from storemon_flask.cli.door import door, instant
from storemon_flask.errors import StoremonError


@click.command("report")
@click.option(
    "--as-of", "as_of_us", callback=instant, metavar="T", help="The instant to report at.  [default: the newest poll]"
)
@click.option("--columns", type=click.Choice(["classic", "full"]), default="classic", show_default=True)
@click.option("--store", "stores", multiple=True, metavar="ID", help="Only this store; may be given several times.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file to write; replaced whole or not at all.")
@click.pass_context
def report(
    ctx: click.Context, as_of_us: int | None, columns: str, stores: tuple[str, ...], output: Path | None
) -> None:
    """Compute the report now, in this process: the same bytes as over HTTP.

    \b
    Examples:
      storemon report -o report.csv
      storemon report --as-of 2024-10-14T12:00:00Z --columns full --store NYC/12
    """
    from storemon_flask.services import catalogue, report_text
    from storemon_flask.services import report as report_service

    settings = door(ctx).settings
    database = catalogue.database(settings)
    if output is not None and output.exists() and not output.is_file():
        raise StoremonError(f"{output} is not a file; leave -o out to write to standard output")
    question = report_service.ask(database, as_of_us, columns, stores or None)
    text = report_service.compute(database, question, settings.rules, settings.default_timezone)
    as_of = report_text.instant_text(question.as_of_us)
    if output is None:
        sys.stdout.buffer.write(text.csv.encode())
        click.echo(f"as of {as_of}: {text.rows:,} stores", err=True)
    else:
        done = report_service.write(text, output)
        click.echo(f"as of {as_of}: {done.rows:,} stores, {done.bytes:,} bytes in {output}", err=True)


@click.command("info")
@click.pass_context
def info(ctx: click.Context) -> None:
    """Show paths, sizes, counts, the newest poll, versions and settings."""
    from storemon_flask.services import catalogue

    settings = door(ctx).settings
    rows: list[tuple[str, Any]] = catalogue.info(settings)
    database_there = catalogue.database(settings).exists()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {value}")
    if not database_there:
        ctx.exit(1)
