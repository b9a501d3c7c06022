"""The commands `report`, `outages` and `diff`."""

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask.characters import count_text
from storemon_flask.cli.command import (
    NumberRange,
    command,
    get_settings,
    open_database,
    options_in_errors,
    parse_timestamp,
)
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import say, say_note, table, terminal_width
from storemon_flask.errors import StoremonError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storemon_flask.reports.csv import ReportText
    from storemon_flask.reports.diff import Diff
    from storemon_flask.reports.request import ReportQuery

STANDARD_OUTPUT: Final = Path("-")
STORES: Final = click.option(
    "--store", "stores", multiple=True, metavar="ID", help="Only this store; may be given several times."
)
GROUPS: Final = click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="Only stores of this group; several times."
)


def _labels(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of each label of the options `--label NAME=VALUE`. A click callback."""
    from storemon_flask.labels import read_filters

    try:
        return read_filters(texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


LABELS: Final = click.option(
    "--label",
    "labels",
    multiple=True,
    callback=_labels,
    metavar="NAME=VALUE",
    help="Only stores with this label, such as region=West or tag:city=Paris; several times. Nothing after the = : "
    "stores without it.",
)
ZONES: Final = click.option(
    "--zone", "zones", multiple=True, metavar="ZONE", help="Only stores in this time zone; several times."
)


@command("report")
@click.option(
    "--as-of",
    "as_of_us",
    callback=parse_timestamp,
    metavar="T",
    help="The instant to report at.  [default: the newest poll that is not in the future]",
)
@click.option(
    "--columns",
    type=click.Choice(["classic", "full"]),
    default="classic",
    show_default=True,
    help="full adds unknown, measured and business time, the least and the most uptime, and percents.",
)
@STORES
@GROUPS
@LABELS
@ZONES
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="W",
    help="last_hour, last_day, last_week, today, yesterday, this_week, last_week_calendar (Monday to Sunday), "
    "this_month, last_month, last_7_days, last_30_days, last_90_days, or [NAME=]FROM..TO; several times. Dates are "
    "each store's own.",
)
@click.option(
    "--by", metavar="UNIT", help="hour, daypart, day, week or month: a row for each, in the store's own zone."
)
@click.option("--totals", is_flag=True, help="Rows for each group, each other label and the fleet follow.")
@click.option(
    "--compare", metavar="previous", help="Beside each window the period before it, and the change in points."
)
@click.option("--method", metavar="M", help="nearest or previous: which poll decides a moment.  [default: nearest]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A file to write, replaced whole or not at all; - is standard output.",
)
@click.pass_context
def report(
    ctx: click.Context,
    /,
    as_of_us: int | None,
    columns: str,
    stores: tuple[str, ...],
    output: Path | None,
    **fields: object,
) -> None:
    """Compute the report now, in this process: the same bytes as over HTTP.

    \b
    Examples:
      storemon report -o report.csv
      storemon report --as-of 2024-10-14T12:00:00Z --columns full --store NYC/12
      storemon report --by day --window 2024-10-01..2024-10-15 --totals
      storemon report --window last_30_days --group North --method previous
      storemon report --window last_week_calendar --compare previous --columns full
    """
    check_output(output)
    query, text = _compute(ctx, as_of_us, columns, stores, fields)
    _write_report(query, text, "store" if query.is_default else "row", output or STANDARD_OUTPUT)


def _compute(
    ctx: click.Context, as_of_us: int | None, columns: str, stores: tuple[str, ...], options: dict[str, Any]
) -> "tuple[ReportQuery, ReportText]":
    """Return the report of those stores (none: all) and options: fields of a request, left out where they are empty."""
    from storemon_flask.reports import compute
    from storemon_flask.reports.request import ReportRequest, window_of_text

    settings, database = get_settings(ctx), open_database(ctx)
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value}
    if "windows" in fields:
        fields["windows"] = [window_of_text(text) for text in fields["windows"]]
    with options_in_errors():
        query = compute.make_query(
            database,
            ReportRequest(as_of_us, columns, stores or None, fields),
            settings.default_timezone,
            settings.max_report_rows,
            latest_us=settings.rules.latest_us(time.time_ns() // 1000),
            dayparts=settings.dayparts,
        )
    return query, compute.compute(database, query, settings.rules, settings.default_timezone)


def _write_report(query: "ReportQuery", text: "ReportText", one: str, output: Path) -> None:
    """Write the CSV into a file, or to standard output for `-`, and say what it has."""
    from storemon_flask.clock import timestamp_text
    from storemon_flask.reports.compute import write

    written = ""
    if output == STANDARD_OUTPUT:
        # The rows are UTF-8 whatever the terminal's encoding.
        sys.stdout.buffer.write(text.csv.encode())
        sys.stdout.flush()
    else:
        written = f", {write(text, output).byte_count:,} bytes in {output}"
    say(f"as of {timestamp_text(query.as_of_us)}: {count_text(text.rows, one)}{written}", err=True)
    say_note(text.method["note"])


def check_output(output: Path | None) -> None:
    """`StoremonError` when `-o` names what cannot be replaced by a file."""
    if output not in (None, STANDARD_OUTPUT) and output.exists() and not output.is_file():
        raise StoremonError(f"{output} is not a file; leave -o out, or give -o -, to write to standard output")


_SHOWN: Final = 40


@command("outages")
@click.option(
    "--as-of",
    "as_of_us",
    callback=parse_timestamp,
    metavar="T",
    help="The instant to look from.  [default: the newest poll that is not in the future]",
)
@click.option("--window", metavar="W", help="As of `report`.  [default: last_week]")
@click.option("--shortest", type=NumberRange(0), metavar="MINUTES", help="Leave out those with less time down.")
@STORES
@GROUPS
@LABELS
@ZONES
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A CSV to write instead, with every column; - is standard output.",
)
@listing
@click.pass_context
def outages(
    ctx: click.Context,
    /,
    as_of_us: int | None,
    window: str | None,
    shortest: float | None,
    stores: tuple[str, ...],
    output: Path | None,
    **limits: Any,
) -> None:
    """List outages: from when to when (UTC), how much business time was down, whether it goes on.

    \b
    Examples:
      storemon outages --shortest 60
      storemon outages --window 2024-10-01..2024-10-15 --group North -o outages.csv
      storemon outages --json
    """
    from storemon_flask.clock import duration_text, timestamp_text
    from storemon_flask.model import MINUTE_US
    from storemon_flask.reports.csv import json_rows, text_rows

    check_output(output)
    form = form_of(ctx)
    if form and output is not None:
        raise click.UsageError(f"-o writes CSV into a file; --{form} is what to print. Say one of them.", ctx)
    options = {"windows": (window,) if window else (), "shortest_minutes": shortest, **limits}
    query, text = _compute(ctx, as_of_us, "classic", stores, {"kind": "outages", **options})
    if output is not None:
        _write_report(query, text, "outage", output)
        return
    if form == "csv":
        _write_report(query, text, "outage", STANDARD_OUTPUT)
        return
    if form == "json":
        lines = io.StringIO(text.csv, newline="")
        head = {"as_of": timestamp_text(query.as_of_us), "method": text.method}
        write_listing(form, {**head, "rows": list(json_rows(lines, text.altered))}, "rows", [])
        return
    rows = [["store", "start (UTC)", "end (UTC)", "down", "polls", ""]]
    for outage in text_rows(io.StringIO(text.csv, newline=""), text.altered):
        rows.append(
            [
                outage["name"] or outage["store_id"],
                _short(outage["start"]),
                _short(outage["end"]),
                duration_text(round(float(outage["down_minutes"]) * MINUTE_US)),
                outage["polls"],
                "goes on" if outage["ongoing"] == "yes" else "",
            ]
        )
    for line in table(rows, text_columns=3, width=terminal_width(), least={0: 36}):
        click.echo(line)
    click.echo(f"as of {timestamp_text(query.as_of_us)}: {count_text(text.rows, 'outage')}", err=True)
    say_note(text.method["note"])


@command("diff")
@click.argument("before")
@click.argument("after")
@click.option("--limit", type=click.IntRange(1), default=_SHOWN, show_default=True, help="Lines to print at the most.")
@click.option("--window", metavar="W", help="Rank by uptime in this window.  [default: the last one that both have]")
@click.option("--cells", is_flag=True, help="Print each cell that differs instead, the largest change first.")
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, limit: int, window: str | None, cells: bool) -> None:
    """Say what changed from report BEFORE to report AFTER, the largest change of uptime first. Each is an id, or a CSV
    file.

    \b
    Example:
      storemon diff monday.csv today.csv
    """
    from storemon_flask.reports import stored

    settings = get_settings(ctx)
    difference = stored.diff(open_database(ctx), settings.reports_dir, before, after, limit, window=window, files=True)
    rows = _changed_cells(difference) if cells else _changed_rows(difference)
    if len(rows) > 1:
        for line in table(rows, text_columns=3, width=terminal_width(), least={0: 36}):
            click.echo(line)
    total = difference.total if cells else difference.row_total
    more = f" ({total - limit:,} more; --limit shows them)" if total > limit else ""
    cells_text, stores_text = count_text(difference.total, "cell"), count_text(difference.stores, "store")
    click.echo(f"{cells_text} of {stores_text} {'differs' if difference.total == 1 else 'differ'}{more}", err=True)
    if difference.total:
        click.echo(_verdicts_text(difference), err=True)
    sys.stdout.flush()


def _changed_cells(difference: "Diff") -> list[list[str]]:
    """Return a table of the cells that differ, its header first."""
    rows = [["store", "period", "column", "before", "after", "change"]]
    for change in difference.changes:
        cells = ["" if value is None else str(value) for value in (change.before, change.after)]
        rows.append([_whose(change.row), _period(change.row), change.column, *cells, f"{change.change:+}"])
    return rows


def _changed_rows(difference: "Diff") -> list[list[str]]:
    """Return a table of the rows that differ, its header first."""
    # Where no report has a likely range, there are no columns of empty cells.
    ranged = any(side and side.likely for one in difference.rows for side in (one.before, one.after))
    heads = ["before %", *(["likely"] if ranged else []), "after %", *(["likely"] if ranged else [])]
    rows = [["store", "period", "verdict", *heads, "points", "note"]]
    for one in difference.rows:
        percents = []
        for side in (one.before, one.after):
            percents.append("" if side is None or side.value is None else str(side.value))
            percents += ["-".join(map(str, side.likely)) if side and side.likely else ""] if ranged else []
        notes = [
            f"{name} {side.known}"
            for name, side in (("before", one.before), ("after", one.after))
            if side and side.known
        ]
        points = "" if one.points is None else f"{one.points:+}"
        note = one.reason or ", ".join(filter(None, [one.likely_note, *notes]))
        rows.append([_whose(one.row), _period(one.row), one.verdict, *percents, points, note])
    return rows


def _whose(row: "Mapping[str, str]") -> str:
    return row.get("store_id") or row.get("group") or row.get("kind", "")


def _period(row: "Mapping[str, str]") -> str:
    return " ".join(row[name] for name in ("period", "daypart", "start") if name in row)


def _verdicts_text(difference: "Diff") -> str:
    """Return how many rows became better and worse, and by which window."""
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in difference.verdicts.most_common())
    return f"by uptime {difference.window.replace('_', ' ')}: {counts}" if difference.window else counts


def _short(text: str) -> str:
    """An instant to the minute, as people read it."""
    return text[:16].replace("T", " ")
