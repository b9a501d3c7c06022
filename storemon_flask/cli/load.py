"""`load-data`, `rejects` and `loads`: what goes in."""

import io
import os
import stat
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from storemon_flask.characters import count_text, escaped
from storemon_flask.cli.command import Group, command, get_settings, must_ask, open_database, signals_interrupt
from storemon_flask.cli.listing import form_of, listing, utf8_output, write_listing
from storemon_flask.cli.terminal import (
    below,
    cut,
    printable,
    progress_bar,
    relabel,
    say,
    table,
    terminal_width,
    wrapped,
)
from storemon_flask.errors import StoremonError
from storemon_flask.feeds.encodings import ENCODINGS, UTF8

if TYPE_CHECKING:
    from storemon_flask.database.connections import Database
    from storemon_flask.feeds.load import LoadResult
    from storemon_flask.feeds.sources import LoadItem
    from storemon_flask.model import FileSummary


# Of each load `loads` names so many files; the page of a load names all.
_FILES_LISTED: Final = 20
# Less than this is read before a bar could be drawn.
_WORTH_A_BAR: Final = 1 << 20
_STANDARD_INPUT: Final = Path("-")
_INPUT_BYTES: Final = 1 << 18
_INPUT_NAME: Final = "standard input"
_FEEDS: Final = ("polls", "hours", "special_hours", "timezones", "stores")
_EXAMPLES: Final = 3
_LONGEST_EXAMPLE: Final = 60
# No load has a number of more.
_MOST_DIGITS: Final = 18
_COUNTS: Final = ["rows", "new", "changed", "unchanged", "repeated", "rejected"]


@command("load-data")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--days",
    type=click.Choice(("0-6", "iso")),
    default="0-6",
    show_default=True,
    help="How hours files number days: from 0 (Monday) to 6, or iso: from 1 (Monday) to 7 (Sunday).",
)
@click.option(
    "--encoding",
    type=click.Choice(ENCODINGS),
    default=UTF8,
    show_default=True,
    help="Of CSV files without a byte order mark; cp1252 is the text of Windows.",
)
@click.option("--feed", type=click.Choice(_FEEDS), help="What standard input is, if it is JSON, or must be.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, with the first rejected rows, and change nothing.")
@click.option("--strict", is_flag=True, help="Exit 1 when a row was rejected, not only when a file was.")
@click.pass_context
def load_data(
    ctx: click.Context,
    paths: tuple[Path, ...],
    days: str,
    encoding: str,
    feed: str | None,
    dry_run: bool,
    strict: bool,
) -> None:
    """Load polls, business hours, special hours, time zones and names of stores from CSV files, .csv.gz, workbooks
    (.xlsx, .xls, .ods), .zip and folders (default: data/), or from standard input (-): also JSON or NDJSON.

    The feed of each file, and of each sheet of a workbook, is recognised by its header, and so is what separates the
    columns of a CSV: commas, semicolons, tabs or vertical bars. Ctrl-C or SIGTERM ends it; of a file that is not in
    yet, nothing is stored then. Rows that cannot be used are stored apart; `storemon rejects` lists them.

    \b
    Examples:
      storemon load-data
      storemon load-data exports/ "Menu hours.xlsx" polls.zip
      storemon load-data --dry-run new.csv
      psql -c "COPY poll TO STDOUT CSV HEADER" shop | storemon load-data -
      curl -s https://shop.example/polls.json | storemon load-data --feed polls -
      storemon load-data --encoding cp1252 stores.csv
    """
    settings = get_settings(ctx)
    piped = _input_stream(ctx, paths, feed)
    items = _find_items(list(paths) or [settings.data_dir], piped, feed, settings.max_body_bytes)
    result = _load_with_progress(ctx, items, piped, days=days, encoding=encoding, dry_run=dry_run)
    print_result(result, dry_run)
    if result.failed and not paths and len(result.files) == 1:
        click.echo(
            f"Put your CSVs into {escaped(str(settings.data_dir))}, or name files or folders: storemon load-data "
            "exports/\n"
            "To see it work on sample data first: storemon demo",
            err=True,
        )
    if result.failed or (strict and result.rejected):
        ctx.exit(1)


def _load_with_progress(
    ctx: click.Context,
    items: "list[LoadItem]",
    piped: "_InputStream | None",
    *,
    days: str,
    encoding: str,
    dry_run: bool,
) -> "LoadResult":
    """Load those items behind a bar; where that is interrupted or fails, say what was loaded before."""
    from storemon_flask.feeds.load import load_options, load_sources
    from storemon_flask.feeds.sources import Source

    sources = [item for item in items if isinstance(item, Source)]
    size = sum(source.size for source in sources)
    done: list[FileSummary] = []
    interrupted = threading.Event()

    def check() -> None:
        """End the other threads of the load, too."""
        if interrupted.is_set():
            raise KeyboardInterrupt

    with (
        signals_interrupt(interrupted.set),
        progress_bar(
            None if piped and not piped.size else size, "loading", hidden=size < _WORTH_A_BAR and not piped
        ) as bar,
    ):
        if piped:
            piped.bar = bar

        def progress(name: str, more: int) -> None:
            """Show which file is being read, and move the bar by so many bytes."""
            relabel(bar, f"loading {name}")
            bar.update(more)

        try:
            options = load_options(get_settings(ctx), check, days=days, encoding=encoding, dry_run=dry_run)
            on_file = _keep_nothing if dry_run else done.append
            return load_sources(open_database(ctx), items, options, progress=progress, on_file=on_file)
        except KeyboardInterrupt:
            bar.finish()
            click.echo("", err=True)
            say(_interrupted(done), err=True)
            ctx.exit(130)
        except StoremonError:
            bar.finish()
            _print_summary(done)
            if done:
                names = {summary.file for summary in done}
                left = [source.name for source in sources if source.name not in names]
                say(f"Not loaded: {', '.join(left)}", err=True)
            raise


class _InputStream(io.RawIOBase):
    """Standard input, which shows beside the bar how much was read when its size is unknown."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.bar: Any = None
        self._taken = 0
        self._ended = False
        self.size = 0
        # Streams of tests have no number.
        with suppress(OSError):
            status = os.fstat(stream.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else 0

    def readable(self) -> bool:
        """Return True: standard input was checked before."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, move the bar, and return the bytes read; 0 at the end."""
        # A terminal that has said once that this is the end is not asked again.
        data = b"" if self._ended else self._stream.read1(len(buffer))
        self._ended = not data
        buffer[: len(data)] = data
        self._taken += len(data)
        if self.bar is not None and not self.size:
            relabel(self.bar, f"{_INPUT_NAME}: {self._taken / 1e6:,.1f} MB")
            self.bar.update(len(data))
        return len(data)


def _input_stream(ctx: click.Context, paths: tuple[Path, ...], feed: str | None) -> _InputStream | None:
    """Return standard input if it is named; a terminal is told what it may be given."""
    if _STANDARD_INPUT not in paths:
        if feed:
            raise click.UsageError("--feed is about standard input; a file says by its header what it is.", ctx)
        return None
    if paths.count(_STANDARD_INPUT) > 1:
        raise click.UsageError("- is standard input, which can be read once.", ctx)
    if sys.stdin is None or sys.stdin.closed:
        raise click.UsageError("- is standard input, which is closed.", ctx)
    if sys.stdin.isatty():
        click.echo(
            "Reading CSV, JSON or NDJSON from this terminal: type or paste it, header first; Ctrl-D ends it,\n"
            "Ctrl-C stores nothing. To load what a program writes: PROGRAM | storemon load-data -",
            err=True,
        )
    return _InputStream(cast(io.BufferedReader, sys.stdin.buffer))


def _find_items(paths: list[Path], piped: _InputStream | None, feed: str | None, most_bytes: int) -> "list[LoadItem]":
    """Return what files and folders hold, and then standard input."""
    from storemon_flask.feeds.sources import find_sources, stream_items

    files = [path for path in paths if path != _STANDARD_INPUT]
    items = find_sources(files, most_bytes) if files else []
    if piped is not None:
        stream = cast(BinaryIO, io.BufferedReader(piped, _INPUT_BYTES))
        items += stream_items(_INPUT_NAME, stream, piped.size, feed or "", most_bytes)
    return items


def _keep_nothing(summary: "FileSummary") -> None:
    """Of a dry run no file is in."""


def print_changes(sentence: str, result: "LoadResult") -> None:
    """Print what a load did that has no file of rows: an undo, or a removal."""
    click.echo(sentence)
    for summary in result.files:
        for line in wrapped(summary.notes):
            click.echo(line)


def print_result(result: "LoadResult", dry_run: bool = False) -> None:
    """Print what became of each file, the notes of the load, and where its rejects are listed."""
    _print_summary(result.files, examples=_EXAMPLES if dry_run else 0)
    if result.notes:
        click.echo("Notes")
        for line in wrapped(result.notes):
            click.echo(line)
    if dry_run:
        click.echo("Nothing was changed: this was a dry run.")
    elif result.rejected:
        click.echo(f"`storemon rejects --load {result.load}` lists the {count_text(result.rejected, 'rejected row')}.")


def _interrupted(done: list["FileSummary"]) -> str:
    loaded = [summary.file for summary in done if not summary.error]
    if not loaded:
        return "interrupted; nothing changed"
    return f"interrupted; loaded before: {', '.join(loaded)}; nothing of the other files was"


def _print_summary(files: list["FileSummary"], examples: int = 0) -> None:
    """Print the table of a load, with what was rejected (the first `examples` of each reason) and noted below each
    file.
    """
    good = [summary for summary in files if not summary.error]
    rows = [[summary.file, summary.feed, *_counts(summary)] for summary in good]
    if good:
        lines_below = [_lines_below(summary, examples) for summary in good]
        _print_table([["file", "feed", *_COUNTS], *rows], lines_below, text_columns=2)
    for summary in files:
        if summary.error:
            file = "" if summary.file in summary.error else f"{summary.file}: "
            say(f"Not loaded: {file}{summary.error}", err=True)


def _lines_below(summary: "FileSummary", examples: int) -> list[str]:
    lines = []
    for reason, count in summary.reasons.items():
        lines += below(f"{count:,} rejected: {reason}")
        for reject in summary.examples(reason, examples):
            lines += below(f"line {reject.line:,}: {cut(printable(reject.text), _LONGEST_EXAMPLE)}", indent="      ")
    return lines + [line for note in summary.notes for line in below(note)]


def _print_table(rows: list[list[str]], lines_below: list[list[str]], text_columns: int) -> None:
    """Print a table whose first row is its head; below each other row stand lines of its own."""
    file_column = rows[0].index("file")
    head, *lines = table(rows, text_columns=text_columns, width=terminal_width(), least={file_column: 20})
    click.echo(head)
    for line, own in zip(lines, lines_below, strict=True):
        for printed in (line, *own):
            click.echo(printed)


def _counts(summary: "FileSummary") -> list[str]:
    c = summary.counts
    return [f"{number:,}" for number in (c.rows, c.new, c.changed, c.unchanged, c.repeated, c.rejected)]


def _parse_load_number(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return the number of a load, there or not; None when it was not given. A click callback."""
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or len(value) > _MOST_DIGITS:
        raise click.BadParameter(
            f"{cut(printable(value), _LONGEST_EXAMPLE)!r} is not the number of a load; run `storemon loads` and give a "
            "number of its first column"
        )
    return int(value)


@command("rejects")
@click.option(
    "--load",
    "load_id",
    callback=_parse_load_number,
    metavar="N",
    help="Only those of one load; the load's summary names its number.",
)
@listing
@click.pass_context
def rejects(ctx: click.Context, load_id: int | None) -> None:
    """Print the rejected rows as CSV: load, file, line, reason, text.

    \b
    Examples:
      storemon rejects --load 3 > rejects.csv
      storemon rejects --json
    """
    from storemon_flask.stores import catalogue

    database = open_database(ctx)
    if form_of(ctx) == "json":
        from storemon_flask.api.loads import reject_json

        rows = catalogue.rejects(database, load_id)
        head = {} if load_id is None else {"load_id": load_id}
        # Those of all loads each name theirs.
        rejects = [({"load_id": row[0]} if load_id is None else {}) | reject_json(row) for row in rows]
        write_listing("json", {**head, "rejects": rejects}, "rejects", [])
        return
    with closing(catalogue.rejects_csv(database, load_id)) as lines:
        first = next(lines)
        stream = utf8_output()
        stream.write(first)
        stream.writelines(lines)


def _write_loads(ctx: click.Context, database: "Database", limit: int) -> None:
    from storemon_flask.api.loads import page_of
    from storemon_flask.api.schemas import ListedLoadSchema, LoadsSchema

    with database.read():
        # A database that is not there is an error.
        pass
    document = LoadsSchema().dump(page_of(database, None, limit))
    write_listing(form_of(ctx), document, "loads", list(ListedLoadSchema().fields))


@click.group("loads", cls=Group, invoke_without_command=True)
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The newest so many.")
@listing
@click.pass_context
def loads(ctx: click.Context, limit: int) -> None:
    """List what was loaded, the newest last: when, which files, what became of their rows.

    --json and --csv have a row for each load, the newest first.

    \b
    Examples:
      storemon loads
      storemon loads --limit 500 | grep polls
      storemon loads --json
      storemon loads undo 12
    """
    if ctx.invoked_subcommand is not None:
        return
    from storemon_flask.clock import timestamp_text
    from storemon_flask.stores import catalogue

    database = open_database(ctx)
    listed = catalogue.newest_loads(database, None, limit)[::-1]
    if form_of(ctx):
        _write_loads(ctx, database, limit)
        return
    files = catalogue.files_of_loads(database, [load.id for load in listed], _FILES_LISTED)
    rows = [["load", "started (UTC)", "file", "feed", *_COUNTS]]
    lines_below: list[list[str]] = []
    for load in listed:
        started = timestamp_text(load.started_us)[:19].replace("T", " ")
        for summary in files[load.id]:
            rows.append([str(load.id), started, summary.file, summary.feed or "none", *_counts(summary)])
            lines_below.append(below(f"not loaded: {summary.error}") if summary.error else [])
        more = load.file_count - len(files[load.id])
        if more > 0:
            lines_below[-1] += below(
                f"and {more:,} more; of all {load.file_count:,} files: {count_text(load.counts.rows, 'row')}, "
                f"{load.counts.rejected:,} rejected, {count_text(load.failed_count, 'file')} not loaded"
            )
        if files[load.id]:
            undone = [] if load.undone_by is None else [f"undone by load {load.undone_by}"]
            lines_below[-1] += wrapped([*undone, *load.notes], indent="    ")
    _print_table(rows, lines_below, text_columns=4)


@loads.command("undo")
@click.argument("number", callback=_parse_load_number, metavar="N")
@click.option("--yes", is_flag=True, help="Do not ask, as where there is no terminal.")
@click.pass_context
def undo(ctx: click.Context, number: int, yes: bool) -> None:
    """Undo load N: what it added goes, and what it replaced returns.

    If a later load brought or changed some of the same data, nothing is undone; undo the loads that the error names
    first. An undo is a load: it is listed, and can be undone.

    \b
    Example:
      storemon loads undo 12
    """
    from storemon_flask.feeds.load import load_options
    from storemon_flask.stores import undo as service

    database = open_database(ctx)
    if must_ask(yes):
        for sentence in service.plan(database, number):
            for line in below(sentence, indent="  "):
                click.echo(line, err=True)
        click.confirm(f"Undo load {number}?", abort=True)
    with progress_bar(1000, "undoing") as bar:
        result = service.undo(
            database,
            number,
            load_options(get_settings(ctx), lambda: None),
            lambda done, total: bar.update(max(0, 1000 * done // max(1, total) - bar.pos)),
        )
    print_changes(f"load {number} was undone, by load {result.load}", result)
