"""The commands that work on data: thin, the same for `storemon` and `flask --app storemon_flask`."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from storemon_flask import settings as settings_
from storemon_flask.errors import StoremonError
from storemon_flask.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.model import FileSummary


@dataclass(slots=True)
class Door:
    """What a command gets from the command line it was called through: settings, and how to get the app."""

    known: Settings | None
    make_app: "Callable[[Settings], Flask]"

    @property
    def settings(self) -> Settings:
        """The settings in force, read when first asked for, so that `--help` works whatever they are."""
        if self.known is None:
            self.known = settings_.load()
        return self.known


def door(ctx: click.Context) -> Door:
    """The door this command was called through; below `flask` it is the app that Flask has loaded."""
    if isinstance(ctx.obj, Door):
        return ctx.obj
    from flask import current_app

    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return Door(app.extensions["storemon"].settings, lambda settings: app)


def _instant(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from storemon_flask.services import instants

    if value is None:
        return None
    try:
        return instants.read(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("load-data")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit 1 when a row was rejected, not only when a file was.")
@click.pass_context
def load_data(ctx: click.Context, paths: tuple[Path, ...], strict: bool) -> None:
    """Load polls, business hours and time zones from CSV files, .csv.gz, .zip and folders (default: data/).

    Each file's feed is recognised by its header. Rows that cannot be used are kept; `storemon rejects` lists them.

    \b
    Examples:
      storemon load-data
      storemon load-data exports/ "Menu hours.csv" polls.zip
    """
    from storemon_flask.services import catalogue, load

    settings = door(ctx).settings
    found, size = load.find(list(paths) or [settings.data_dir])
    done: list[FileSummary] = []
    with click.progressbar(
        length=size, label="loading", file=sys.stderr, hidden=size < _WORTH_A_BAR or not sys.stderr.isatty()
    ) as bar:

        def progress(name: str, part: int) -> None:
            bar.label = f"loading {name[-40:]}"
            bar.update(part)

        try:
            result = load.run(
                catalogue.database(settings),
                found,
                now_us=time.time_ns() // 1000,
                max_skew_us=settings.max_clock_skew_us,
                road=settings.csv_road,
                progress=progress,
                on_file=done.append,
            )
        except KeyboardInterrupt:
            bar.finish()
            click.echo("", err=True)
            click.echo(_interrupted(done), err=True)
            ctx.exit(130)
        except StoremonError:
            bar.finish()
            _print_summary(done)
            names = {summary.file for summary in done}
            left = [source.name for source in found if source.name not in names]
            if done:
                click.echo(f"Not loaded: {', '.join(left)}", err=True)
            raise
    _print_summary(result.files)
    if result.failed and not paths and len(found) == 1:
        click.echo(
            f"Put your CSVs into {settings.data_dir}, or name files or folders: storemon load-data exports/\n"
            "In a checkout there are sample data: storemon load-data data/sample",
            err=True,
        )
    if result.rejected:
        click.echo(f"`storemon rejects --load {result.load}` lists the {result.rejected:,} rejected rows.")
    if result.failed or (strict and result.rejected):
        ctx.exit(1)


# Less than this is read before a bar could be drawn.
_WORTH_A_BAR = 1 << 20


def _interrupted(done: list["FileSummary"]) -> str:
    loaded = [summary.file for summary in done if not summary.error]
    if not loaded:
        return "interrupted; nothing changed"
    return f"interrupted; loaded before: {', '.join(loaded)}; nothing of the other files was"


_SHOWN_NOTES = 20


def _print_summary(files: list["FileSummary"]) -> None:
    """The table of a load, with what was rejected and noted below each file."""
    good = [summary for summary in files if not summary.error]
    if good:
        rows = [["file", "feed", "rows", "new", "changed", "unchanged", "repeated", "rejected"]]
        for summary in good:
            c = summary.counts
            numbers = (c.rows, c.new, c.changed, c.unchanged, c.repeated, c.rejected)
            rows.append([summary.file, summary.feed, *(f"{number:,}" for number in numbers)])
        lines = table(rows, text_columns=2)
        click.echo(lines[0])
        for summary, line in zip(good, lines[1:], strict=True):
            click.echo(line)
            for reason, count in summary.reasons.items():
                click.echo(f"    {count:,} rejected: {reason}")
            for note in summary.notes[:_SHOWN_NOTES]:
                click.echo(f"    {note}")
            if len(summary.notes) > _SHOWN_NOTES:
                click.echo(f"    and {len(summary.notes) - _SHOWN_NOTES:,} more notes like these")
    for summary in files:
        if summary.error:
            about = "" if summary.file in summary.error else f"{summary.file}: "
            click.echo(f"Not loaded: {about}{summary.error}", err=True)


def table(rows: list[list[str]], text_columns: int) -> list[str]:
    """Aligned lines: the first `text_columns` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < text_columns else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


@click.command("rejects")
@click.option("--load", "load_id", type=int, help="Only those of one load; the load's summary names its number.")
@click.pass_context
def rejects(ctx: click.Context, load_id: int | None) -> None:
    """Print the rejected rows as CSV: load, file, line, reason, text.

    \b
    Example:
      storemon rejects --load 3 > rejects.csv
    """
    import csv
    import io

    from storemon_flask.services import catalogue
    from storemon_flask.services.report_text import safe_cell

    with catalogue.rejects(catalogue.database(door(ctx).settings), load_id) as rows:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # The rows are UTF-8 whatever the terminal speaks.
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["load", "file", "line", "reason", "text"])
        for load, file, line, reason, text in rows:
            writer.writerow([load, safe_cell(file), line, reason, safe_cell(text)])


@click.command("report")
@click.option(
    "--as-of", "as_of_us", callback=_instant, metavar="T", help="The instant to report at.  [default: the newest poll]"
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


COMMANDS: tuple[click.Command, ...] = (load_data, rejects, report, info)
