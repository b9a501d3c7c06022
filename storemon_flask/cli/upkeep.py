"""`backup`, `restore`, `check`, `prune` and `export`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from storemon_flask.characters import count_text
from storemon_flask.cli.command import command, confirm, get_settings, open_database, parse_timestamp
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import below, progress_bar, relabel, say, table, terminal_width, wrapped

if TYPE_CHECKING:
    from storemon_flask.database.backup import Sums
    from storemon_flask.database.check import Checked
    from storemon_flask.database.connections import Database
    from storemon_flask.database.prune import Pruned


@contextmanager
def _copy_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, and give what moves it to (done, of how many)."""
    with progress_bar(1000, label) as bar:
        yield lambda done, total: bar.update(max(0, 1000 * done // max(1, total) - bar.pos))


def _sums_text(sums: "Sums") -> str:
    return f"{count_text(sums.stores, 'store')}, {count_text(sums.polls, 'poll')}"


@command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE even if it is no storemon database.")
@click.pass_context
def backup(ctx: click.Context, file: Path, force: bool) -> None:
    """Copy the database into FILE, verified, while a server runs and loads go on.

    An older backup of that name is replaced; any other file only with --force.

    \b
    Example:
      storemon backup /mnt/backups/storemon-$(date +%F).db
    """
    from storemon_flask.database import backup as backup_service

    with _copy_bar("copying") as progress:
        sums = backup_service.backup(get_settings(ctx).database, file, progress, force=force)
    say(f"{file}: {file.stat().st_size / 1e6:,.1f} MB, {_sums_text(sums)}; opened and verified")


@command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def restore(ctx: click.Context, file: Path, yes: bool) -> None:
    """Put the backup FILE in the database's place; the database of before is kept beside it. Not while a server runs.

    \b
    Example:
      storemon restore /mnt/backups/storemon-2024-10-14.db
    """
    from storemon_flask.database import backup as backup_service
    from storemon_flask.database.files import server_lock

    database = get_settings(ctx).database
    sums = backup_service.read_sums(file)
    with server_lock(database):
        confirm(ctx, yes, f"{file} has {_sums_text(sums)}. Put it in the place of {database}?")
        with _copy_bar("restoring") as progress:
            sums, replaced_file = backup_service.restore(database, file, time.time_ns() // 1000, progress)
    say(f"{database}: {_sums_text(sums)}")
    if replaced_file is not None:
        say(f"What was there before is kept in {replaced_file}")


@command("check")
@listing
@click.pass_context
def check(ctx: click.Context) -> None:
    """Look whether everything stored is whole; reads only, also beside a server. Exit 1 when something is wrong.

    \b
    Examples:
      storemon check
      storemon check --json
      STOREMON_DATABASE=/mnt/backups/storemon.db storemon check
    """
    from storemon_flask.database.check import check_database
    from storemon_flask.feeds.load_notes import data_notes

    settings = get_settings(ctx)
    with progress_bar(1000, "checking") as bar:

        def progress(name: str, share: float) -> None:
            """Show which section is being checked and which share of all work is done (0 to 1)."""
            relabel(bar, f"checking {name}")
            bar.update(round(1000 * share))

        checked = check_database(settings, progress)
    notes = checked.notes
    if not checked.problems:
        with open_database(ctx).read() as connection:
            notes += data_notes(connection, settings.default_timezone, settings.rules.latest_us(time.time_ns() // 1000))
    if form_of(ctx):
        _write_check(form_of(ctx), checked)
    else:
        _print_check(checked)
    if checked.problems:
        click.echo(f"{checked.problems:,} problem(s)", err=True)
        ctx.exit(1)


def _write_check(form: str, checked: "Checked") -> None:
    sections = [
        {"checked": one.name, "amount": one.amount, "problems": one.count, "first_problems": one.problems}
        for one in checked.sections
    ]
    document = {"problems": checked.problems, "sections": sections, "notes": checked.notes}
    write_listing(form, document, "sections", ["checked", "amount", "problems", "first_problems"])


def _print_check(checked: "Checked") -> None:
    rows = [["checked", "amount", "problems"]]
    rows += [[section.name, section.amount or "-", f"{section.count:,}"] for section in checked.sections]
    head, *lines = table(rows, text_columns=2, width=terminal_width(), least={0: 20, 1: 12})
    click.echo(head)
    for section, line in zip(checked.sections, lines, strict=True):
        click.echo(line)
        for problem in section.problems:
            for problem_line in below(problem):
                click.echo(problem_line)
        if section.count > len(section.problems):
            click.echo(f"    and {section.count - len(section.problems):,} more like these")
    if checked.notes:
        click.echo("Notes")
    for line in wrapped(checked.notes):
        click.echo(line)
    if not checked.problems:
        click.echo("all is well")


@command("prune")
@click.option("--before", callback=parse_timestamp, metavar="DATE", help="Older ones: a date or an instant, UTC.")
@click.option("--future", is_flag=True, help="Polls later than this machine's clock instead.")
@click.option("--dry-run", is_flag=True, help="Say what would be taken out, and change nothing.")
@click.option("--vacuum", is_flag=True, help="Make the file smaller afterwards. Not while a server runs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def prune(ctx: click.Context, before: int | None, future: bool, dry_run: bool, vacuum: bool, yes: bool) -> None:
    """Take out polls, and loads with their rejected rows, that are older than DATE. A server may run meanwhile.

    Time before DATE counts as unknown then: no poll that is left speaks for it. With --future it takes out the polls
    that were stored while a clock was wrong, and nothing else.

    \b
    Examples:
      storemon prune --before 2024-01-01 --dry-run
      storemon prune --before 2024-01-01 --yes --vacuum
      storemon prune --future --dry-run
    """
    if (before is not None) == future:
        raise click.UsageError("Say either --before DATE or --future.", ctx)
    from storemon_flask.clock import minute_text
    from storemon_flask.database import prune as service
    from storemon_flask.database.files import server_lock

    database = open_database(ctx)
    with server_lock(database.path) if vacuum and database.exists() else nullcontext():
        old, text, delete = _to_prune(ctx, database, before)
        complete_from = None if before is None else max(before, service.complete_from(database) or before)
        if not dry_run:
            if old.polls or old.loads:
                clock = f"This machine's clock says {minute_text(time.time_ns() // 1000)}. " if future else ""
                confirm(ctx, yes, f"{clock}Take out {text(old)}, for good?")
            with progress_bar(_rows(old), "pruning") as bar:
                deleted = delete(lambda deleted: bar.update(_rows(deleted)))
        click.echo(f"would take out {text(old)}; nothing was changed" if dry_run else f"took out {text(deleted)}")
        if complete_from is not None:
            click.echo(f"{'afterwards ' if dry_run else ''}{service.completeness_note(complete_from)}")
        if dry_run:
            return
        if vacuum:
            service.vacuum(database)
    size, free = service.space(database)
    free_text = f"{free / 1e6:,.1f} MB of it free for what is loaded next" if free else "none of it free"
    say(f"{database.path} has {size / 1e6:,.1f} MB, {free_text}")


def _to_prune(
    ctx: click.Context, database: "Database", before: int | None
) -> tuple["Pruned", Callable[["Pruned"], str], Callable[[Callable[["Pruned"], None]], "Pruned"]]:
    """Return what is older than that, or in the future, how to write such a sum, and what deletes it."""
    from storemon_flask.clock import minute_text
    from storemon_flask.database import prune as service

    if before is not None:
        with database.read() as connection:
            old = service.count_before(connection, before)
        return old, _pruned_text, partial(service.delete_before, database, before, time.time_ns() // 1000)
    rules = get_settings(ctx).rules
    latest_us = rules.latest_us(time.time_ns() // 1000)
    later, stores = service.count_future(database, latest_us)

    def text(pruned: "Pruned") -> str:
        """Return how many polls in the future, of how many stores, were or would be deleted."""
        polls = f"{count_text(pruned.polls, 'poll')} ({pruned.bytes / 1e6:,.1f} MB)"
        return f"{polls} of {count_text(stores, 'store')} later than {minute_text(latest_us)}"

    return later, text, partial(service.delete_future, database, lambda: rules.latest_us(time.time_ns() // 1000))


def _rows(pruned: "Pruned") -> int:
    return pruned.polls + pruned.rejects + pruned.loads


def _pruned_text(pruned: "Pruned") -> str:
    polls = f"{count_text(pruned.polls, 'poll')} ({pruned.bytes / 1e6:,.1f} MB)"
    return f"{polls}, {count_text(pruned.loads, 'load')} and {count_text(pruned.rejects, 'rejected row')}"


@command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Write into a folder that is not empty, over the feeds in it.")
@click.pass_context
def export(ctx: click.Context, folder: Path, force: bool) -> None:
    """Write the feeds into FOLDER as CSV files. Loaded into an empty database they give the same reports.

    \b
    Example:
      storemon export feeds/ && STOREMON_HOME=elsewhere storemon load-data feeds/
    """
    from storemon_flask.clock import timestamp_text
    from storemon_flask.database import export as export_service
    from storemon_flask.database import newest
    from storemon_flask.database import prune as prune_service

    database = open_database(ctx)
    with progress_bar(export_service.count_rows(database), "exporting") as bar:
        done = export_service.export(database, folder, force, lambda name, rows: bar.update(rows))
    for file in done:
        say(f"{file.file}: {count_text(file.rows, 'row')}, {file.bytes / 1e6:,.1f} MB")
    complete_from = prune_service.complete_from(database)
    if complete_from is not None:
        click.echo(
            f"{prune_service.completeness_note(complete_from)}; where these files are loaded, "
            f"run `storemon prune --before {timestamp_text(complete_from)}` for the same reports"
        )
    future = newest.future_polls(newest.look(database, get_settings(ctx).rules.latest_us(time.time_ns() // 1000)).ahead)
    if future is not None:
        say(f"{future}; where these files are loaded before their time, they are rejected")
