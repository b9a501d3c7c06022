"""`import`: history from other monitors."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask.characters import count_text
from storemon_flask.cli.command import Group, get_settings, open_database, parse_timestamp, signals_interrupt
from storemon_flask.cli.load import print_result
from storemon_flask.cli.terminal import below, progress_bar, say, table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.feeds.load import LoadOptions
    from storemon_flask.imports.checks import ImportedPolls, Reader

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_STEPS: Final = 1_000
_Progress = Callable[[int, int], None]


@click.group("import", cls=Group)
def import_() -> None:
    """Load the history that another monitor keeps: Uptime Kuma, Gatus, Prometheus, or a list of incidents.

    One check in 10 minutes is kept, and those on both sides of each change and gap. Loading a source again changes
    nothing. Begin with --dry-run --map FILE, which stores nothing and writes which store each name would be.

    \b
    Example:
      storemon import uptime-kuma kuma.db --dry-run --map names.csv
    """


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every source has."""
    command = click.option(
        "--map",
        "map_file",
        type=_FILE,
        help="CSV of name and store_id; an empty store_id leaves a name out. Without it, names are ids. With "
        "--dry-run, a file that is not there is written.",
    )(command)
    return click.option("--dry-run", is_flag=True, help="Store nothing; show what would be loaded.")(command)


@import_.command("uptime-kuma")
@click.argument("file", type=_FILE)
@_common
@click.pass_context
def uptime_kuma(ctx: click.Context, file: Path, map_file: Path | None, dry_run: bool) -> None:
    """Load the beats of an Uptime Kuma 1 or 2 from its kuma.db, also while it runs.

    \b
    Examples:
      storemon import uptime-kuma data/kuma.db --dry-run --map names.csv
      storemon import uptime-kuma data/kuma.db --map names.csv
    """
    from storemon_flask.imports.kuma import KumaReader

    _run(ctx, lambda ids, progress: KumaReader(file, progress), map_file, dry_run)


@import_.command("gatus")
@click.argument("source", metavar="FILE_OR_URL")
@_common
@click.pass_context
def gatus(ctx: click.Context, source: str, map_file: Path | None, dry_run: bool) -> None:
    """Load the results of a Gatus from its SQLite file or its address.

    \b
    Examples:
      storemon import gatus data/data.db --map names.csv
      storemon import gatus https://status.example.com --dry-run
    """
    from storemon_flask.imports.gatus import GatusReader

    _run(ctx, lambda ids, progress: GatusReader(source, progress), map_file, dry_run)


@import_.command("prometheus")
@click.argument("url")
@click.option("--query", required=True, metavar="METRIC", help="A metric that is 1 or 0, with or without labels.")
@click.option("--store-label", required=True, metavar="LABEL", help="The label whose value names the store.")
@click.option("--from", "from_us", callback=parse_timestamp, metavar="TIME", help="Default: 15 days before --to.")
@click.option("--to", "to_us", callback=parse_timestamp, metavar="TIME", help="Default: now.")
@_common
@click.pass_context
def prometheus(
    ctx: click.Context,
    url: str,
    query: str,
    store_label: str,
    from_us: int | None,
    to_us: int | None,
    map_file: Path | None,
    dry_run: bool,
) -> None:
    """Load the samples of a metric such as probe_success or up from a Prometheus.

    \b
    Example:
      storemon import prometheus http://localhost:9090 \\
        --query 'probe_success{job="stores"}' --store-label instance
    """
    from storemon_flask.imports.prometheus import PrometheusReader

    def reader(ids: dict[str, str] | None, progress: _Progress) -> "Reader":
        """Return the reader of the samples; it needs no ids."""
        return PrometheusReader(url, query, store_label, from_us, to_us, progress)

    _run(ctx, reader, map_file, dry_run)


@import_.command("incidents")
@click.argument("file", type=_FILE)
@click.option("--from", "from_us", callback=parse_timestamp, metavar="TIME", help="Since when all was watched.")
@click.option("--to", "to_us", callback=parse_timestamp, metavar="TIME", help="Until when all was watched.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of timestamps without one.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="COLUMN=HEADING",
    help="What the column name, start, end, duration or event is called in the file; may be given several times.",
)
@click.option("--name", "only_name", default="", help="The name of all rows, where there is no such column.")
@_common
@click.pass_context
def incidents(
    ctx: click.Context, /, file: Path, columns: tuple[str, ...], map_file: Path | None, dry_run: bool, **options: Any
) -> None:
    """Load a CSV of incidents (name, start, end), as UptimeRobot, Better Stack and Pingdom export them.

    Only --from and --to together say that stores were up between incidents.

    \b
    Example:
      storemon import incidents outages.csv --zone Europe/Berlin \\
        --from 2026-01-01T00:00Z --to 2026-02-01T00:00Z
    """
    from storemon_flask.imports.incidents import COLUMNS, IncidentReader

    headings = dict(one.partition("=")[::2] for one in columns)
    if unknown := sorted(set(headings) - set(COLUMNS)):
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(COLUMNS)}", param_hint="--column")

    def reader(ids: dict[str, str] | None, progress: _Progress) -> "Reader":
        """Return the reader of the list, which has to know the names that the map gives stores."""
        known = [name for name, store_id in (ids or {}).items() if store_id]
        return IncidentReader(file, headings=headings, known_names=known, **options)

    _run(ctx, reader, map_file, dry_run)


def _run(
    ctx: click.Context,
    make_reader: Callable[[dict[str, str] | None, _Progress], "Reader"],
    map_file: Path | None,
    dry_run: bool,
) -> None:
    """Load what the reader reads, or show what would be loaded."""
    from storemon_flask.feeds.load import load_options, load_sources
    from storemon_flask.feeds.sources import Source
    from storemon_flask.imports.checks import ImportedPolls
    from storemon_flask.imports.store_map import read_map, write_proposal

    proposes = dry_run and map_file is not None and not map_file.exists()
    ids = read_map(map_file) if map_file is not None and not proposes else None
    database = open_database(ctx)
    interrupted = threading.Event()

    def check() -> None:
        """Raise `KeyboardInterrupt` in a thread of the load after Ctrl-C."""
        if interrupted.is_set():
            raise KeyboardInterrupt

    with signals_interrupt(interrupted.set), progress_bar(_STEPS, "reading") as bar:
        polls = ImportedPolls(make_reader(ids, _progress_of(bar)), ids)
        options = load_options(get_settings(ctx), check)
        if dry_run:
            rejects = _count_rejects(polls, options)
        else:
            source = Source(
                polls.reader.name, 0, io.BytesIO, format="records", feed="polls", records=polls.batches(),
                notes=polls.notes,
            )  # fmt: skip
            result = load_sources(database, [source], options)
    if not dry_run:
        print_result(result)
        if result.error is not None:
            ctx.exit(1)
        return
    _print_dry_run(polls, rejects)
    if proposes and map_file is not None:
        write_proposal(map_file, polls, database)
        say(f"Wrote {map_file}: look at its store_id, and give it with --map.")


def _progress_of(bar: Any) -> _Progress:
    def progress(done: int, total: int) -> None:
        """Move the bar to `done` of `total`; it never goes back."""
        bar.update(max(0, done * _STEPS // max(total, 1) - bar.pos))

    return progress


def _count_rejects(polls: "ImportedPolls", options: "LoadOptions") -> dict[str, int]:
    """Read everything as the load would, and return how many rows it would reject for which reason."""
    from storemon_flask.feeds.csv_exact import RejectLog
    from storemon_flask.feeds.readers import read_polls
    from storemon_flask.feeds.schema import record_header

    log = RejectLog()
    for _ in read_polls(polls.batches(), record_header("polls"), options.latest_us, log, options.check):
        pass
    return dict(log.reasons.most_common())


def _print_dry_run(polls: "ImportedPolls", rejects: dict[str, int]) -> None:
    from storemon_flask.clock import utc_datetime

    def day(at_us: int | None) -> str:
        """Return the UTC date of an instant; a dash for none."""
        return "-" if at_us is None else f"{utc_datetime(at_us):%Y-%m-%d}"

    rows = [
        [name, polls.store_id(name) or "-", *(f"{n:,}" for n in (count.checks, count.polls, count.inactive)),
         day(count.first_us), day(count.last_us)]
        for name, count in polls.names.items()
    ]  # fmt: skip
    head = ["name", "store", "checks", "polls", "inactive", "first", "last"]
    for line in table([head, *rows], text_columns=2, width=terminal_width(), least={0: 12, 1: 8}):
        click.echo(line)
    for text in [*(f"{count:,} would be rejected: {reason}" for reason, count in rejects.items()), *polls.notes]:
        for line in below(text):
            click.echo(line)
    click.echo(f"Dry run: nothing was stored of {count_text(sum(c.polls for c in polls.names.values()), 'poll')}.")
