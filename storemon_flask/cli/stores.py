"""The commands `stores` and `store`: the live list, and one store in detail."""

import os
import sys
import time
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask.characters import escaped
from storemon_flask.cli.command import (
    Group,
    NumberRange,
    command,
    get_settings,
    must_ask,
    open_database,
    parse_timestamp,
)
from storemon_flask.cli.listing import form_of, listing, utf8_output, write_listing
from storemon_flask.cli.report import LABELS
from storemon_flask.cli.terminal import (
    below,
    columns,
    cut,
    cut_middle,
    echo_coloured,
    pad,
    printable,
    say,
    say_note,
    table,
    terminal_width,
)

if TYPE_CHECKING:
    from storemon_flask.cli.drawing import Clock
    from storemon_flask.database.connections import Database
    from storemon_flask.stores.detail import StoreTimeline, Sums
    from storemon_flask.stores.live_list import AsOf, ListPage, Snapshot
    from storemon_flask.uptime.timeline import Outages

_ENOUGH_FOR_A_NAME: Final = 20


@click.group("stores", cls=Group, invoke_without_command=True)
@click.option(
    "--status", "statuses", multiple=True, metavar="WORD", help="Only this status; may be given several times."
)
@click.option("--text", metavar="TEXT", help="Only stores with all these words in id or name.")
@click.option("--group", metavar="NAME", help="Only stores of this group.")
@LABELS
@click.option("--zone", metavar="ZONE", help="Only stores of this time zone.")
@click.option(
    "--below", metavar="PERCENT", type=NumberRange(0, 100, min_open=True), help="Only stores with less uptime."
)
@click.option("--below-window", metavar="W", default="last_week", show_default=True, help="last_day or last_week.")
@click.option("--without", multiple=True, metavar="WHAT", help="Only stores without hours, or zone, of their own.")
@click.option("--sort", metavar="FIELD", default="worst", show_default=True, help="A field of the HTTP list.")
@click.option("--descending", is_flag=True, help="Reverse the order.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Stores to show."
)
@listing
@click.pass_context
def stores(
    ctx: click.Context,
    /,
    statuses: tuple[str, ...],
    text: str | None,
    group: str | None,
    zone: str | None,
    limit: int,
    **options: Any,
) -> None:
    """List stores as they are now: down ones first, then stale ones, then by uptime of the last day.

    \b
    Examples:
      storemon stores
      storemon stores --status down --status stale --group North
      storemon stores --label region=West --label tag:city=Paris
      storemon stores --text corner --sort uptime_percent_last_week
      storemon stores --below 95 --without hours
      storemon stores --limit 100000 --csv > stores.csv
      storemon stores remove "NYC/12"
    """
    if ctx.invoked_subcommand is not None:
        return
    from storemon_flask.cli import drawing
    from storemon_flask.stores import live_likely, live_list
    from storemon_flask.uptime.status import STATUSES

    _one_of("--sort", options["sort"], live_list.SORTS)
    _one_of("--below-window", options["below_window"], tuple(live_list.LISTED_WINDOWS))
    for word in options["without"]:
        _one_of("--without", word, live_list.LACKING)
    for status in statuses:
        _one_of("--status", status, STATUSES)
    settings = get_settings(ctx)
    snapshot = live_list.compute_snapshot(
        open_database(ctx), settings.rules, settings.default_timezone, time.time_ns() // 1000
    )
    page = live_list.select_page(snapshot, live_list.ListQuery(statuses, text, zone, group, limit=limit, **options))
    form = form_of(ctx)
    if form:
        rules, default_zone = settings.rules, settings.default_timezone
        records = live_likely.list_records(open_database(ctx), snapshot, page.indices, rules, default_zone)
        _write_stores(form, snapshot, page, records)
    colour = _coloured()
    for line in [] if form else lines(snapshot, page.indices, terminal_width()):
        echo_coloured(drawing.dimmed(line, colour), colour)
    counts = ", ".join(f"{count:,} {status}" for status, count in page.counts.items() if count)
    shown = f"{len(page.indices):,} of {page.total:,} stores" if page.next else f"{page.total:,} stores"
    _say_as_of(snapshot.as_of)
    click.echo(f"{shown}{f' ({counts})' if counts else ''}", err=True)


def _named(snapshot: "Snapshot", index: int) -> str:
    """Return name, group and other labels of a store: `Broadway (North, region West, city Paris)`."""
    from storemon_flask.labels import label_texts

    listed = ", ".join(filter(None, [snapshot.groups[index], *label_texts(snapshot.labels.of_store(index))]))
    return " ".join(filter(None, [snapshot.names[index], f"({listed})" if listed else ""]))


def _write_stores(form: str, snapshot: "Snapshot", page: "ListPage", records: Iterator[dict[str, object]]) -> None:
    from storemon_flask.api.stores import STORE_COLUMNS, list_head
    from storemon_flask.stores import live_list

    if form == "csv":
        utf8_output().writelines(live_list.csv_lines(records, STORE_COLUMNS))
        return
    write_listing(form, {**list_head(snapshot, page), "stores": list(records)}, "stores", [])


def lines(snapshot: "Snapshot", indices: list[int], width: int | None) -> list[str]:
    """Return the aligned table of those stores, in no more than `width` columns if that is given (from 74 on).

    A percentage that knows little has a `?`, and how much is known follows beside the name, or below.
    """
    rows = [["store", "status", "for", "last poll (UTC)", "day %", "week %"]]
    names: list[str] = []
    notes: list[str] = []
    for index in indices:
        one = snapshot.record(index)
        rows.append(
            [
                cut_middle(printable(str(one["store_id"])), 36) if width else str(one["store_id"]),
                str(one["status"]),
                snapshot.duration_text(index),
                _minute(one["last_poll"]),
                _uptime(one, "last_day"),
                _uptime(one, "last_week"),
            ]
        )
        known = ((window, _known(one, f"last_{window}")) for window in ("day", "week"))
        notes.append(", ".join(f"{window} {note}" for window, note in known if note))
        names.append(printable(_named(snapshot, index)))
    made = table(rows, text_columns=2)
    longest = max(map(columns, made))
    head = "name" if any(names) else ""
    # Notes on percentages stay complete; a name is cut to what they leave.
    room = [
        columns(name) if width is None else width - longest - 2 - (len(note) + 2 if note else 0)
        for name, note in zip(names, notes, strict=True)
    ]
    if all(left >= min(_ENOUGH_FOR_A_NAME, columns(name)) for left, name in zip(room, names, strict=True)):
        named = (name if width is None else cut(name, left) for name, left in zip(names, room, strict=True))
        return _beside(
            made, [head, *(f"{name}  {note}".strip() for name, note in zip(named, notes, strict=True))], longest
        )
    # An id as long as a UUID leaves no room: it must stay complete, because the next command takes it.
    polled = ["" for _ in rows]
    if width is not None and longest > width:
        polled = [f"last poll {row[3]} UTC" if row[3] else "" for row in rows]
        made = table([[*row[:3], *row[4:]] for row in rows], text_columns=2)
    shown = []
    for line, name, last, note in zip(made[1:], names, polled[1:], notes, strict=True):
        name = cut(name, max((width or 0) - len(last) - 4, _ENOUGH_FOR_A_NAME))
        text = ", ".join(filter(None, [name, last]))
        shown += [line, *(f"  {one}" for one in (text, note) if one)]
    return [made[0], *shown]


def _minute(timestamp_text: Any) -> str:
    """Return a timestamp of the API to the minute, as people read it."""
    return str(timestamp_text)[:16].replace("T", " ") if timestamp_text else ""


def _beside(made: list[str], texts: list[str], longest: int) -> list[str]:
    return [f"{pad(line, longest)}  {text}".rstrip() for line, text in zip(made, texts, strict=True)]


@stores.command("remove")
@click.argument("store_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask, as where there is no terminal.")
@click.pass_context
def remove(ctx: click.Context, store_id: str, yes: bool) -> None:
    """Remove a store with its polls, hours, special hours, zones and name. Finished reports keep their numbers.

    That is a load: it is listed, and `storemon loads undo` brings the store back.

    \b
    Example:
      storemon stores remove "NYC/12"
    """
    from storemon_flask.cli.load import print_changes
    from storemon_flask.feeds.load import load_options
    from storemon_flask.stores import edit

    database = open_database(ctx)
    edit.require_store(database, store_id)
    if must_ask(yes):
        question = f"Remove store {store_id} with its polls, hours, special hours, zones and name?"
        click.confirm(escaped(question), abort=True)
    result = edit.remove(database, store_id, load_options(get_settings(ctx), lambda: None))
    print_changes(f"store {printable(store_id)} was removed, by load {result.load}", result)


@command("store")
@click.argument("text", metavar="STORE")
@click.option(
    "--from", "from_us", callback=parse_timestamp, metavar="T", help="Where to begin.  [default: 7 days before --to]"
)
@click.option(
    "--to", "to_us", callback=parse_timestamp, metavar="T", help="Where to end.  [default: now, or the newest poll]"
)
@click.option("--utc", is_flag=True, help="Show days and times in UTC, not in the store's zone.")
@listing
@click.pass_context
def store(ctx: click.Context, text: str, from_us: int | None, to_us: int | None, utc: bool) -> None:
    """Show one store: a row for each day, its outages, and its numbers of the last day and week.

    STORE is its id, its name, the beginning of its id, or words of its id and name; case and accents do not matter.
    Where that means several stores, they are listed, and the exit code is 2.

    --from and --to are UTC if they do not name an offset; they may lie 31 days apart. --json is the store and its
    timeline; --csv the stretches of the timeline: from when to when it was up, down or unknown in its business hours.

    \b
    Examples:
      storemon store NYC/12
      storemon store "corner shop"
      storemon store NYC/12 --from 2024-10-01 --to 2024-10-08T00:00-04:00
    """
    from storemon_flask.cli import drawing
    from storemon_flask.stores import detail

    settings = get_settings(ctx)
    database = open_database(ctx)
    now_us = time.time_ns() // 1000
    store_id = _store_meant(database, text)
    with database.read() as connection:
        opened = detail.open_store(database, connection, store_id, settings.rules, settings.default_timezone, now_us)
        shown = detail.build_timeline(opened, from_us, to_us)
        snapshot, likely = opened.snapshot(), opened.likely_sums()
        advice = opened.advise()
        if form_of(ctx):
            _write_store(form_of(ctx), shown)
            return
    clock = drawing.clock(opened.zone_now, utc)
    colour = _coloured()
    for sentence in _head(snapshot, clock):
        for line in below(sentence, indent=""):
            click.echo(line)
    click.echo(f"{clock.text(shown.from_us)} to {clock.text(shown.to_us)}\n")
    for line in drawing.rows(shown, clock, colour, terminal_width()):
        echo_coloured(line, colour)
    click.echo(f"{drawing.LEGEND}\n")
    for line in _outages(shown.outages, clock):
        click.echo(line)
    for span in shown.blind_spans:
        for line in below(span.text_at(clock.text), indent=""):
            click.echo(line)
    click.echo()
    for line in _numbers(snapshot, likely):
        echo_coloured(drawing.dimmed(line, colour), colour)
    for sentence in advice.sentences:
        for line in below(sentence, indent=""):
            click.echo(line)
    _say_as_of(snapshot.as_of)


# So many stores are listed where a text means more.
_MOST_MATCHES: Final = 20


def _store_meant(database: "Database", text: str) -> str:
    """Return the id of the store that a text means; lists several on standard error, and exits with 2."""
    from storemon_flask.stores import lookup

    matches = lookup.find_stores(database, text)
    if len(matches) == 1:
        return matches[0].store_id
    click.echo(f"Error: {printable(text)!r} means {len(matches):,} stores; give the id of one:\n", err=True)
    rows = [["store", "name", "group"], *([one.store_id, one.name, one.group] for one in matches[:_MOST_MATCHES])]
    for line in table(rows, text_columns=3, width=terminal_width()):
        click.echo(line.rstrip(), err=True)
    if len(matches) > _MOST_MATCHES:
        click.echo(f"... and {len(matches) - _MOST_MATCHES:,} more; `storemon stores --text` lists them", err=True)
    raise click.exceptions.Exit(2)


def _write_store(form: str, shown: "StoreTimeline") -> None:
    from storemon_flask.api.schemas import StretchSchema
    from storemon_flask.api.stores import detail_json, timeline_json

    timeline = {
        name: list(chain.from_iterable(value)) if isinstance(value, Iterator) else value
        for name, value in timeline_json(shown).items()
    }
    document = {**detail_json(shown.store), "timeline": timeline}
    write_listing(form, document, "timeline", list(StretchSchema().fields), timeline["stretches"])


def _head(snapshot: "Snapshot", clock: "Clock") -> list[str]:
    one = snapshot.record(0)
    named = _named(snapshot, 0)
    since_us, last_us = (int(snapshot.columns[name][0]) for name in ("since", "last_poll"))
    before = " or earlier" if one["since_or_earlier"] else ""
    since = f", since {clock.text(since_us)}{before}" if since_us >= 0 and one["status"] != "stale" else ""
    last = f"; last poll {clock.text(last_us)}" if last_us >= 0 else ""
    status, words = str(one["status"]), str(one["status_text"])
    titles = [f"{one['store_id']}  {one['timezone']}", *([named] if named else [])]
    return [*titles, f"{words if words.startswith(status) else f'{status}: {words}'}{since}{last}"]


_MOST_OUTAGES = 1000


def _outages(outages: "Outages", clock: "Clock") -> list[str]:
    """Return the aligned table; `within` says how long the time is in which an outage began or ended."""
    from storemon_flask.clock import duration_text

    if not len(outages):
        return ["no outages"]
    rows = [["outage from", "within", "to", "within", "down", "polls"]]
    first = max(len(outages) - _MOST_OUTAGES, 0)
    for index in range(first, len(outages)):
        began = int(outages.start_latest_us[index] - outages.start_earliest_us[index])
        ended = int(outages.end_latest_us[index] - outages.end_earliest_us[index])
        ongoing = bool(outages.ongoing[index])
        rows.append(
            [
                clock.text(int(outages.start_us[index])),
                duration_text(began),
                "ongoing" if ongoing else clock.text(int(outages.end_us[index])),
                "" if ongoing else duration_text(ended),
                duration_text(int(outages.down_us[index])),
                f"{int(outages.polls[index]):,}",
            ]
        )
    lines = table(rows, text_columns=4, width=terminal_width())
    more = (
        f"the newest {_MOST_OUTAGES:,} of {len(outages):,} outages are shown; `storemon outages --store ID` writes all"
    )
    return [*lines, more] if first else lines


def _likely_text(sums: "Sums") -> str:
    """Return a likely range as `83.10-86.70`; nothing where there is none."""
    from storemon_flask.formatting import percent_number

    low, high = (
        percent_number(sums[name], sums["uptime"] + sums["downtime"]) for name in ("likely_low", "likely_high")
    )
    return "" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _numbers(snapshot: "Snapshot", likely: dict[str, "Sums"]) -> list[str]:
    one = snapshot.record(0)
    ranges = {window: _likely_text(sums) for window, sums in likely.items()}
    # Where no window has a range, there is no column of empty cells.
    shown = any(ranges.values())
    rows = [
        ["", "uptime %", *(["likely"] if shown else []), "low", "high", "up h", "down h", "unknown h", "business h"]
    ]
    names = ("uptime_percent", "uptime_percent_low", "uptime_percent_high", "uptime", "downtime", "unknown", "business")
    notes = []
    for window in ("last_day", "last_week"):
        label, known = window.replace("_", " "), _known(one, window)
        amounts = (_decimal(one[f"{name}_{window}"]) for name in names[1:])
        rows.append([label, _uptime(one, window), *([ranges[window]] if shown else []), *amounts])
        notes += [f"  {label}: {_uptime(one, window)} is {known}"] if known else []
    return [*table(rows, text_columns=1, width=terminal_width()), *notes]


def _known(one: dict[str, Any], window: str) -> str:
    """Return how much the percentage of a window knows, where that is little and there is one."""
    from storemon_flask.formatting import known_text

    if one[f"uptime_percent_{window}"] is None:
        return ""
    unknown, business = (round(100 * one[f"{name}_{window}"]) for name in ("unknown", "business"))
    return known_text(unknown, business)


def _uptime(one: dict[str, Any], window: str) -> str:
    """Return the percentage of a window, with a sign where it knows little."""
    return _decimal(one[f"uptime_percent_{window}"]) + ("?" if _known(one, window) else "")


def _decimal(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one_of(option: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise click.BadParameter(f"{word!r} is none of {', '.join(words)}", param_hint=option)


def _say_as_of(as_of: "AsOf") -> None:
    from storemon_flask.clock import timestamp_text

    say(f"as of {timestamp_text(as_of.as_of_us)}" if as_of.notice is None else f"Note: {as_of.notice}", err=True)
    say_note(as_of.notes)


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
