"""`alerts preview`: what rules would have sent, from the polls that are stored."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from storemon_flask.characters import count_text
from storemon_flask.cli.command import command, get_settings, open_database
from storemon_flask.cli.listing import form_of, listing, write_listing
from storemon_flask.cli.terminal import printable, progress_bar, say_note, table, terminal_width, wrapped

if TYPE_CHECKING:
    from storemon_flask.alerts.preview import Preview, Sent

_LARGEST: Final = 3
_STEPS: Final = 1000


@command("preview")
@click.option(
    "--days", type=click.IntRange(1, 92), default=14, show_default=True, metavar="N", help="Days to look back."
)
@click.option("--min-polls", type=click.IntRange(1, 100), metavar="N", help="Polls that must show a store down.")
@click.option(
    "--min-minutes", type=click.IntRange(0, 1440), metavar="N", help="Business time that a store must be down for."
)
@click.option(
    "--closing-minutes",
    type=click.IntRange(0, 720),
    metavar="N",
    help="No incident begins this shortly before closing.",
)
@click.option("--channel", "names", multiple=True, metavar="NAME", help="Only this channel; may be repeated.")
@click.option(
    "--every",
    type=click.IntRange(5, 120),
    default=15,
    show_default=True,
    metavar="MINUTES",
    help="How often polls are loaded.",
)
@listing
@click.pass_context
def preview(
    ctx: click.Context,
    days: int,
    min_polls: int | None,
    min_minutes: int | None,
    closing_minutes: int | None,
    names: tuple[str, ...],
    every: int,
) -> None:
    """Show what alerts would have sent in the last days: how many messages, and of what.

    storemon evaluates the stored polls again, as if each had arrived at its own time, by the rules of the settings and
    the channels unless you give others. Without any channel it assumes one that receives everything at once. It sends
    and stores nothing.

    \b
    Examples:
      storemon alerts preview
      storemon alerts preview --days 30 --min-polls 2
      storemon alerts preview --channel ops --min-minutes 30 --json
    """
    from storemon_flask.alerts import preview as past
    from storemon_flask.alerts.evaluation import AlertRules
    from storemon_flask.model import MINUTE_US

    settings, database = get_settings(ctx), open_database(ctx)
    rules = AlertRules.of(settings)
    minutes = {"min_us": min_minutes, "closing_us": closing_minutes}
    chosen = {name: value * MINUTE_US for name, value in minutes.items() if value is not None}
    rules = replace(rules, **chosen, **({} if min_polls is None else {"min_polls": min_polls}))
    channels = past.find_channels(database, names)
    with progress_bar(_STEPS, "Judging the past", hidden=bool(form_of(ctx))) as bar:
        made = past.make(
            database,
            settings,
            days,
            time.time_ns() // 1000,
            rules,
            channels,
            every * MINUTE_US,
            lambda share: bar.update(int(share * _STEPS) - bar.pos),
        )
    if form_of(ctx):
        document = made.record()
        columns = ("channel", "at", "summary", "digest", "began", "over")
        write_listing(form_of(ctx), document, "messages", columns)
        return
    for line in lines(made):
        click.echo(line)
    say_note(made.note)


def lines(made: "Preview") -> list[str]:
    """Return a preview in words and tables, in at most 80 columns."""
    rules, polls = made.rules, count_text(made.rules.min_polls, "poll")
    head = [
        f"{count_text(made.days, 'day')} up to {_minute(made.last_us)}: {count_text(made.stores, 'store')}, "
        f"looked at every {_minutes(made.every_us)} min",
        f"Rules: down after {polls} and {_minutes(rules.min_us)} min, not in the last {_minutes(rules.closing_us)} min "
        "before closing",
    ]
    return head + [line for channel in made.channels for line in _channel_lines(made, channel)]


def _channel_lines(made: "Preview", channel: str) -> list[str]:
    messages = made.of_channel(channel)
    per_month = f"{made.per_store_month(channel):,.3f} for each store and month"
    head = f"{printable(channel)}: {count_text(len(messages), 'message')}"
    if not messages:
        return ["", head]
    largest = sorted(messages, key=lambda message: -message.incidents)[:_LARGEST]
    texts = [f"{_minute(message.at_us)}: {message.summary}" for message in sorted(largest, key=_at)]
    return ["", f"{head}, {per_month}", *_days_table(made, channel), "Largest:", *wrapped(texts)]


def _days_table(made: "Preview", channel: str) -> list[str]:
    """Return how many messages were sent on each day, how many incidents of each kind they tell of, and ends."""
    from storemon_flask.delivery.words import KIND_WORDS, SEVERITY

    days = made.by_day(channel)
    kinds = [kind for kind in SEVERITY if any(message.began[kind] for message in made.of_channel(channel))]

    def cells(name: str, messages: "list[Sent]") -> list[str]:
        """Return a row of the table: messages, beginnings by kind, ends."""
        began = (sum(message.began[kind] for message in messages) for kind in kinds)
        over = sum(message.over.total() for message in messages)
        return [name, *(f"{number:,}" for number in (len(messages), *began, over))]

    rows = [["day", "sent", *(KIND_WORDS[kind].label.lower() for kind in kinds), "over"]]
    rows += [cells(day[5:], messages) for day, messages in days.items()]
    rows.append(cells("all", made.of_channel(channel)))
    return table(rows, 1, terminal_width())


def _at(message: "Sent") -> int:
    return message.at_us


def _minute(at_us: int) -> str:
    from storemon_flask.clock import minute_text

    return minute_text(at_us)


def _minutes(length_us: int) -> int:
    return length_us // 60_000_000
