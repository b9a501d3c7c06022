"""Add, list, find, test and remove channels; and read the log of deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from storemon_flask.characters import count_text, is_text, join_words, list_ids, show_invisible
from storemon_flask.clock import timestamp_text
from storemon_flask.database import channels, messages, schedules, stores
from storemon_flask.database.channels import KINDS, Channel, Filters
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.messages import Delivery, Trouble
from storemon_flask.delivery import batches, courier, transports, webhook
from storemon_flask.delivery.answer import Answer
from storemon_flask.errors import Conflict, NotFound, Unprocessable
from storemon_flask.feeds.schema import MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS
from storemon_flask.model import DEFAULT_KINDS, IncidentKind
from storemon_flask.settings import Secret, Settings

# The field that holds the address of each kind of channel, in bodies and forms.
ADDRESS_FIELDS: Final = {"email": "to", "webhook": "url", "apprise": "url", "folder": "folder"}
# After so many failed attempts a channel is in trouble: the third is more than a minute after the first.
TROUBLE_AFTER: Final = 3
_MOST_NAME: Final = 100
_MOST_FILTERS: Final = 1000
# Ids of stores and names of groups are no longer.
_MOST_FILTER: Final = max(MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS)
_MOST_ADDRESS: Final = 4000


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A channel as it is asked for, unchecked: where to, of which kinds of incidents, groups and stores (none means
    all), and when."""

    name: str
    kind: str
    address: str
    kinds: Sequence[str] = ()
    groups: Sequence[str] = ()
    stores: Sequence[str] = ()
    digest: str | None = None
    quiet: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel to show: where it goes without secrets, its newest attempt, and why it receives nothing, if so."""

    channel: Channel
    shown: str
    last: Delivery | None
    trouble: str


@dataclass(frozen=True, slots=True)
class LoggedTry:
    """One attempt of the log, with its number and the name of its channel."""

    number: int
    channel: str
    delivery: Delivery


def add(database: Database, settings: Settings, new: NewChannel, now_us: int) -> tuple[ChannelView, list[str]]:
    """Add a channel and return it, with notes on what of its filters is not there. Creates the database when there is
    none.

    `Unprocessable` names the field that is wrong, `Conflict` a name that is taken. Only here is its secret known.
    """
    channel = Channel(
        id=0,
        name=check_name(new.name),
        kind=new.kind,
        address=Secret(_checked_address(new, settings)),
        secret=webhook.new_secret() if new.kind == "webhook" else Secret(""),
        filters=_checked_filters(new),
        digest=_checked_time("digest", new.digest, batches.parse_daily_time),
        quiet=_checked_time("quiet", new.quiet, batches.parse_quiet_hours),
        created_us=now_us,
    )
    with database.write() as connection:
        if channels.find_named(connection, channel.name) is not None:
            raise Conflict(f"there is a channel {channel.name!r} already; remove it first, or choose another name")
        channel = replace(channel, id=channels.add(connection, channel))
        notes = _notes(connection, channel.filters)
    return ChannelView(channel, transports.shown_address(channel), None, ""), notes


def views(database: Database) -> list[ChannelView]:
    """Return every channel, by name; none without a database."""
    if not database.exists():
        return []
    with database.read() as connection:
        last, troubles = messages.last_deliveries(connection), messages.troubles(connection, TROUBLE_AFTER)
        return [
            ChannelView(
                channel,
                transports.shown_address(channel),
                last.get(channel.id),
                _trouble_text(channel, troubles.get(channel.id)),
            )
            for channel in channels.live(connection)
        ]


def failing(database: Database) -> list[ChannelView]:
    """Return the channels that receive no messages although they should, by name."""
    return [view for view in views(database) if view.trouble]


def find(database: Database, key: int | str) -> Channel:
    """Return the channel of that number, or of that name; `NotFound` when there is none."""
    channel = None
    if database.exists():
        with database.read() as connection:
            if isinstance(key, str):
                channel = channels.find_named(connection, key)
            elif key < 1 << 63:
                channel = channels.find(connection, key)
    if channel is None or channel.removed_us is not None:
        raise _missing(key)
    return channel


def losses(database: Database, channel: Channel) -> list[str]:
    """Return what goes with a channel that is removed, in sentences for who is asked."""
    with database.read() as connection:
        named = schedules.names_sent_to(connection, channel.id)
    rules = "its secret" if channel.secret else "its list of what to receive"
    reports = [f"It no longer receives the reports of the schedule {name}." for name in named]
    return [
        f"Its address and {rules} go with it.",
        *reports,
        "What waits for it is not sent.",
        "The log of what was sent stays.",
    ]


def remove(database: Database, channel: Channel, now_us: int) -> None:
    """Remove a channel with its address and secret; what waits for it is not sent. `NotFound` when it is gone."""
    with database.write() as connection:
        if not channels.remove(connection, channel.id, now_us):
            raise _missing(channel.name)


def test(database: Database, settings: Settings, channel: Channel) -> Answer:
    """Send a marked example to a channel now and return what came of it. A channel that was switched off and takes it
    is switched on again."""
    answer = courier.send_test(database, settings, channel)
    if answer.delivered and channel.disabled_us is not None:
        with database.write() as connection:
            channels.enable(connection, channel.id)
    return answer


def newest_tries(
    database: Database, limit: int, channel: int | None = None, before: int | None = None
) -> list[LoggedTry]:
    """Return attempts, newest first: of one channel, if given, and numbers below `before`; none without database."""
    if not database.exists():
        return []
    with database.read() as connection:
        names = channels.names(connection)
        rows = messages.newest_deliveries(connection, limit, channel, before)
    return [LoggedTry(number, names[delivery.channel], delivery) for number, delivery in rows]


def name_of(database: Database, channel: int) -> str:
    """Return the name of a channel, also of one that was removed; empty when there never was one of that number."""
    if not database.exists():
        return ""
    with database.read() as connection:
        return channels.names(connection).get(channel, "")


def received_text(filters: Filters) -> str:
    """Return what a channel receives: `everything`, `all but stale`, `down, stale; group North; stores a and b`."""
    parts = [
        "all but stale"
        if set(filters.kinds) == set(DEFAULT_KINDS)
        else ", ".join(kind.replace("_", " ") for kind in filters.kinds),
        f"{'group' if len(filters.groups) == 1 else 'groups'} {join_words(filters.groups)}" if filters.groups else "",
        f"{'store' if len(filters.stores) == 1 else 'stores'} {join_words(filters.stores)}" if filters.stores else "",
    ]
    return "; ".join(filter(None, parts)) or "everything"


def when_text(channel: Channel) -> str:
    """Return when a channel is sent messages: `at once`, `daily at 08:00 America/New_York; quiet 22:00-08:00 UTC`."""
    when = f"daily at {channel.digest}" if channel.digest else "at once"
    return f"{when}; quiet {channel.quiet}" if channel.quiet else when


def check_name(name: str) -> str:
    """Return a name of a channel or schedule; `Unprocessable` for one that cannot be seen, or not typed on one line."""
    name = name.strip()
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable() or show_invisible(name) != name:
        sentence = f"is {name[:120]!r}; it must be 1 to {_MOST_NAME} characters that can be seen, on one line"
        raise Unprocessable(f"name {sentence}", errors={"name": [sentence]})
    return name


def _checked_address(new: NewChannel, settings: Settings) -> str:
    if new.kind not in KINDS:
        raise _wrong("kind", f"is {new.kind[:100]!r}; it must be one of {', '.join(KINDS)}")
    field = ADDRESS_FIELDS[new.kind]
    if not new.address.strip():
        raise _wrong(field, f"is missing; a channel of kind {new.kind} needs it")
    if len(new.address) > _MOST_ADDRESS or not is_text(new.address):
        raise _wrong(field, f"is no text of at most {_MOST_ADDRESS:,} characters")
    try:
        return transports.check_channel(new.kind, new.address.strip(), settings)
    except Unprocessable as error:
        raise Unprocessable(error.message, errors={field: [error.message]}) from None


def _checked_filters(new: NewChannel) -> Filters:
    kinds = tuple(dict.fromkeys(new.kinds)) or DEFAULT_KINDS
    wrong = next((kind for kind in kinds if kind not in list(IncidentKind)), None)
    if wrong is not None:
        raise _wrong("kinds", f"has {wrong[:100]!r}; a kind of incident is one of {', '.join(IncidentKind)}")
    groups, ids = (tuple(dict.fromkeys(filter(None, map(str.strip, texts)))) for texts in (new.groups, new.stores))
    for field, values in (("groups", groups), ("stores", ids)):
        if len(values) > _MOST_FILTERS:
            raise _wrong(field, f"has {len(values):,}; it must be at most {_MOST_FILTERS:,}")
        wrong = next((value for value in values if len(value) > _MOST_FILTER or not is_text(value)), None)
        if wrong is not None:
            raise _wrong(field, f"has {wrong[:60]!r}; each must be a text of at most {_MOST_FILTER} characters")
    return Filters(() if len(kinds) == len(IncidentKind) else kinds, groups, ids)


def _checked_time(field: str, text: str | None, parse: Any) -> str | None:
    """Return a time of day or quiet hours in the spelling that is stored; None for none."""
    if text is None or not text.strip():
        return None
    if len(text) > _MOST_NAME:
        raise _wrong(field, f"is longer than {_MOST_NAME} characters")
    try:
        return str(parse(text))
    except ValueError as error:
        raise _wrong(field, str(error)) from None


def _notes(connection: Connection, filters: Filters) -> list[str]:
    """Return the groups and stores in a filter that do not exist, which may be typing errors."""
    _, missing = stores.rows_of(connection, list(filters.stores))
    unknown = stores.groups_missing(connection, filters.groups)
    return [
        *([f"no store is of {list_ids(unknown[:5], len(unknown))} yet; is the name right?"] if unknown else []),
        *([f"there is no store {list_ids(missing[:5], len(missing))} yet; is the id right?"] if missing else []),
    ]


def _trouble_text(channel: Channel, trouble: Trouble | None) -> str:
    if channel.disabled_us is not None:
        since = timestamp_text(channel.disabled_us)[:16].replace("T", " ")
        return (
            f"switched off since {since} UTC: {channel.disabled_reason}; a test that is delivered switches it on again"
        )
    if trouble is None:
        return ""
    if trouble.given_up:
        return f"its last message was not delivered: {trouble.error}"
    return f"{count_text(trouble.attempts, 'attempt')} to send its next message failed: {trouble.error}"


def _missing(key: int | str) -> NotFound:
    return NotFound(f"there is no channel {key!r}; the list of channels has those there are")


def _wrong(field: str, sentence: str) -> Unprocessable:
    return Unprocessable(f"{field}: {sentence}", errors={field: [sentence]})
