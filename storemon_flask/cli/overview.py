"""The command `overview`: what stands out in the whole fleet."""

import time
from typing import TYPE_CHECKING, Final

import click

from storemon_flask.cli.command import command, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import cut, cut_middle, progress_bar, say, say_note, table, terminal_width

if TYPE_CHECKING:
    from storemon_flask.stores.overview import DayRow, GroupRow, Overview, StoreRow, Sums

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW_WORDS: Final = {
    "today": "today",
    "this_week": "this week",
    "previous_this_week": "week before",
    "this_month": "this month",
}
_PAGE: Final = 80


@command("overview")
@click.option("--by", default="group", show_default=True, metavar="WORD", help="What groups are made by.")
@click.option("--days", type=click.Choice(["30", "90"]), default="30", show_default=True, help="Days of the trend.")
@click.option("--sort", default="this_week", show_default=True, metavar="FIELD", help="The order of groups.")
@click.option("--descending", is_flag=True, help="Reverse the order.")
@listing
@click.pass_context
def overview(ctx: click.Context, by: str, days: str, sort: str, descending: bool) -> None:
    """Show the fleet's week, its groups, days and worst hours, and the stores that stand out.

    "Week before" is the same part of the week before, up to the same time of day; "points" is the change since then, in
    percentage points. --csv is the table of groups.

    \b
    Examples:
      storemon overview
      storemon overview --by timezone --sort change
      storemon overview --json > overview.json
    """
    from storemon_flask.stores import live_list
    from storemon_flask.stores.overview import GROUP_SORTS, check_grouping, compute_overview

    if sort not in GROUP_SORTS:
        raise click.BadParameter(f"{sort!r} is none of {', '.join(GROUP_SORTS)}", param_hint="--sort")
    settings = get_settings(ctx)
    database = open_database(ctx)
    snapshot = live_list.compute_snapshot(database, settings.rules, settings.default_timezone, time.time_ns() // 1000)
    with progress_bar(1000, "overview", hidden=bool(form_of(ctx))) as bar:

        def advance(share: float) -> None:
            """Show how far the computation is."""
            bar.update(max(int(1000 * share) - bar.pos, 0))

        made = compute_overview(database, snapshot, settings.rules, settings.default_timezone, advance)
    check_grouping(made, by)
    if form_of(ctx):
        _write(form_of(ctx), made, by, int(days), sort, descending)
        return
    for line in lines(made, by, int(days), sort, descending, terminal_width() or _PAGE):
        click.echo(line)
    as_of = made.as_of
    say(f"as of {_instant(as_of.as_of_us)}" if as_of.notice is None else f"Note: {as_of.notice}", err=True)
    say_note(as_of.notes)


def _write(form: str, overview: "Overview", by: str, days: int, sort: str, descending: bool) -> None:
    from storemon_flask.api.overview import overview_json
    from storemon_flask.api.schemas import OverviewGroupSchema

    document = overview_json(overview, by, days, sort, descending)
    write_listing(form, document, "groups", ["group", *(one for one in OverviewGroupSchema().fields if one != "group")])


def lines(overview: "Overview", by: str, days: int, sort: str, descending: bool, width: int) -> list[str]:
    """Return the overview as aligned tables of at most `width` columns (from 80 on). A `?` says that a percentage knows
    little."""
    from storemon_flask.stores.overview import group_rows, most_changed_stores, trend, worst_stores

    counts = ", ".join(f"{count:,} {status}" for status, count in overview.counts.items() if count)
    groups = group_rows(overview, by, sort, descending)
    blocks = [
        [f"{len(overview.ids):,} stores: {counts}" if counts else "no stores"],
        _fleet_lines(overview),
        _group_lines(groups, by, width),
        _store_lines("worst this week", worst_stores(overview), width),
        _store_lines("most changed this week", most_changed_stores(overview), width),
        _hour_lines(overview),
        _day_lines(f"last {days} days", trend(overview, days), width),
    ]
    return [line for block in blocks if block for line in ("", *block)][1:]


def _fleet_lines(overview: "Overview") -> list[str]:
    rows = [["all stores", "uptime %", "low %", "high %", "up h", "down h", "unknown h"]]
    for window, words in _WINDOW_WORDS.items():
        sums = overview.fleet(window)
        rows.append([words, _percent(sums), _decimal(sums.percent_low), _decimal(sums.percent_high), *_hours(sums)])
    likely = overview.fleet("this_week").percent_likely
    range_text = f"; likely {_decimal(likely[0])} to {_decimal(likely[1])} % this week" if likely[0] >= 0 else ""
    return [
        *table(rows, text_columns=1),
        f"change of the week: {_points(overview.change)} percentage points{range_text}",
    ]


def _hours(sums: "Sums") -> list[str]:
    return [f"{sums.hundredths(name) / 100:,.2f}" for name in ("uptime", "downtime", "unknown")]


def _group_lines(groups: "list[GroupRow]", by: str, width: int) -> list[str]:
    rows = [[by, "stores", "down", "today %", "week %", "month %", "points", "worst store %"]]
    for row in groups:
        rows.append(
            [
                row.name or "(none)",
                f"{row.stores:,}",
                f"{row.down:,}",
                *(_percent(row.windows[window]) for window in ("today", "this_week", "this_month")),
                _points(row.change),
                f"{cut_middle(row.worst.store_id, 14)} {_decimal(row.worst.week.percent)}" if row.worst else "-",
            ]
        )
    return table(rows, text_columns=1, width=width, least={0: 8}) if groups else []


def _store_lines(title: str, rows: "list[StoreRow]", width: int) -> list[str]:
    if not rows:
        return []
    cells = [[title, "name", "week %", "points", "down h"]]
    for row in rows:
        cells.append(
            [
                row.store_id,
                cut(row.name, 24),
                _percent(row.week),
                _points(row.change),
                f"{row.week.hundredths('downtime') / 100:,.2f}",
            ]
        )
    return table(cells, text_columns=2, width=width, least={0: 12, 1: 12})


def _hour_lines(overview: "Overview") -> list[str]:
    """Return the share of known time that was down, in whole percent rounded up, by weekday and hour."""
    from storemon_flask.clock import date_text
    from storemon_flask.stores.overview import hour_sums

    first, end = overview.heat_days
    rows = [f"down %  {' '.join(f'{hour:2d}' for hour in range(24))}"]
    for weekday, hours in zip(_WEEKDAYS, hour_sums(overview), strict=True):
        rows.append(f"{weekday:<6}  {' '.join(_share_down(sums) for sums in hours)}".rstrip())
    return [*rows, f"by local hour, {date_text(first)} to {date_text(end - 1)}; .. closed, ?? unknown, XX all down"]


def _share_down(sums: "Sums") -> str:
    known = sums.uptime + sums.downtime
    if not known:
        return "??" if sums.unknown else ".."
    percent = -(-100 * sums.downtime // known)
    return "XX" if not sums.uptime else f"{min(percent, 99):2d}"


def _day_lines(title: str, days: "list[DayRow]", width: int) -> list[str]:
    from storemon_flask.clock import date_text

    rows = [[title, "uptime %", "up h", "down h", "unknown h"]]
    for row in days:
        rows.append([date_text(row.day), _percent(row.sums), *_hours(row.sums)])
    return table(rows, text_columns=1, width=width)


def _percent(sums: "Sums") -> str:
    return _decimal(sums.percent) + ("?" if sums.percent >= 0 and sums.little_known else "")


def _decimal(hundredths: int) -> str:
    return "-" if hundredths < 0 else f"{hundredths / 100:.2f}"


def _points(hundredths: int | None) -> str:
    return "-" if hundredths is None else f"{hundredths / 100:+.2f}"


def _instant(as_of_us: int) -> str:
    from storemon_flask.clock import timestamp_text

    return timestamp_text(as_of_us)
