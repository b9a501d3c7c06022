"""What rules would have sent: walks instants of the past with the functions that judge, batch and write live.

Every poll is taken to have come at its own time. What feeds did wrong then is not known any more, so nothing of them is
in a preview.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from storemon_flask.alerts.evaluation import AlertRules, Changes, evaluate
from storemon_flask.alerts.facts import Blindness, Facts, PastFacts
from storemon_flask.alerts.notices import opened_notices, resolved_notices
from storemon_flask.alerts.sight import Sight
from storemon_flask.clock import timestamp_text, utc_datetime
from storemon_flask.database import channels as channels_
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.incidents import Incident
from storemon_flask.database.messages import Notice
from storemon_flask.database.newest import newest_poll
from storemon_flask.delivery import batches, catalogue, content
from storemon_flask.errors import NoPolls
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, IncidentKind
from storemon_flask.settings import Secret, Settings
from storemon_flask.stores.live_list import find_as_of

# How often the past is evaluated; loads are seldom more frequent.
EVERY_US: Final = 15 * MINUTE_US
# Incidents that began before the span are detected in the day before it, and are not counted.
_BEFORE_US: Final = DAY_US
_MONTH_DAYS: Final = 30

Look = Callable[[Facts, Sequence[Incident]], Blindness]


@dataclass(frozen=True, slots=True)
class Step:
    """What an evaluation changed at an instant: what opened has its number, and `open_incidents` are those after it."""

    at_us: int
    facts: Facts
    opened: list[Incident]
    changes: Changes
    open_incidents: list[Incident]


def walk(facts_at: Callable[[int], Facts], instants: Sequence[int], rules: AlertRules, look: Look) -> Iterator[Step]:
    """Yield what evaluations at those instants change, one after the other."""
    open_incidents: list[Incident] = []
    next_id = 1
    for at_us in instants:
        facts = facts_at(at_us)
        changes = evaluate(facts, open_incidents, rules, look(facts, open_incidents))
        open_incidents = changes.apply_to(open_incidents, next_id)
        opened = open_incidents[len(open_incidents) - len(changes.opened) :]
        next_id += len(opened)
        yield Step(at_us, facts, opened, changes, open_incidents)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that would have been sent: `began` and `over` count its incidents by kind; those that were over
    before it was sent are in both."""

    channel: str
    at_us: int
    summary: str
    digest: bool
    limited: bool
    began: Counter[IncidentKind]
    over: Counter[IncidentKind]

    @property
    def incidents(self) -> int:
        """How many beginnings and ends it tells of."""
        return self.began.total() + self.over.total()

    def record(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "channel": self.channel,
            "at": timestamp_text(self.at_us),
            "summary": self.summary,
            "digest": self.digest,
            "began": dict(self.began),
            "over": dict(self.over),
        }


class Outbox:
    """The notices and messages of channels, without a database and without sending."""

    def __init__(self, channels: Sequence[Channel], settings: Settings) -> None:
        self._channels = channels
        self._public_url = settings.public_url
        self._paces = {channel.id: batches.pace_of(channel, settings) for channel in channels}
        self._waiting: dict[int, list[Notice]] = {channel.id: [] for channel in channels}
        self._written_us: dict[int, list[int]] = {channel.id: [] for channel in channels}
        # The incidents that somebody was told of and is not yet told the end of, or that wait.
        self._told: dict[int, set[int]] = {}
        self._known: dict[int, Incident] = {}
        self._announced_us: dict[int, int] = {}
        self._notices = 0

    def take(self, step: Step) -> None:
        """Add the notices of the changes of a step."""
        changes, listening = step.changes, self._channels
        self._known |= {one.id: one for one in (*step.opened, *changes.uncovered)}
        for incident in (*changes.continued, *changes.resolved):
            if incident.id in self._told:
                self._known[incident.id] = incident
        for channel, number, _ in opened_notices([*step.opened, *changes.uncovered], listening):
            if channel not in self._told.setdefault(number, set()):
                self._told[number].add(channel)
                self._add(channel, number, "opened", step.at_us)
        told_channels = [(channel, one.id) for one in changes.resolved for channel in self._told.pop(one.id, ())]
        for channel, number, _ in resolved_notices(told_channels, listening):
            self._add(channel, number, "resolved", step.at_us)

    def _add(self, channel: int, incident: int, event: str, at_us: int) -> None:
        self._notices += 1
        self._waiting[channel].append(Notice(self._notices, channel, incident, event, at_us))

    def send_until(self, from_us: int, until_us: int) -> Iterator[Sent]:
        """Yield the messages that are due from one instant (included) to another (excluded)."""
        for channel in self._channels:
            now_us: int | None = from_us
            while now_us is not None and now_us < until_us:
                waiting, written_us = self._waiting[channel.id], self._written_us[channel.id]
                decision = batches.decide(waiting, written_us, now_us, self._paces[channel.id])
                if decision.notices:
                    self._waiting[channel.id] = []
                    self._written_us[channel.id] = [*(at for at in written_us if at > now_us - DAY_US), now_us]
                    yield self._message(channel, decision, now_us)
                now_us = decision.look_again_us

    def _message(self, channel: Channel, decision: batches.Decision, now_us: int) -> Sent:
        numbers = {notice.incident for notice in decision.notices}
        some = {number: replace(self._known[number], announced_us=self._announced_us.get(number)) for number in numbers}
        summary = content.compose(decision, some, now_us, self._public_url)["summary"]
        for number, incident in some.items():
            self._announced_us.setdefault(number, incident.since_us)
        began, over = (
            Counter(some[notice.incident].kind for notice in decision.notices if notice.event == event)
            for event in ("opened", "resolved")
        )
        return Sent(channel.name, now_us, summary, decision.digest, decision.limited, began, over)

    def forget_what_is_over(self) -> None:
        """Drop incidents that no later message can name."""
        needed = {*self._told, *(notice.incident for waiting in self._waiting.values() for notice in waiting)}
        self._known = {number: self._known[number] for number in needed}
        self._announced_us = {number: at for number, at in self._announced_us.items() if number in needed}


@dataclass(slots=True)
class Preview:
    """What the rules would have sent from `first_us` to `last_us`. `opened` counts the incidents that began by kind,
    whether somebody was told of them or not; `note` says that the data are old."""

    first_us: int
    last_us: int
    every_us: int
    stores: int
    rules: AlertRules
    channels: list[str]
    note: str | None = None
    messages: list[Sent] = field(default_factory=list)
    opened: Counter[IncidentKind] = field(default_factory=Counter)

    @property
    def days(self) -> int:
        """Its length."""
        return (self.last_us - self.first_us) // DAY_US

    def of_channel(self, channel: str) -> list[Sent]:
        """Return a channel's messages."""
        return [message for message in self.messages if message.channel == channel]

    def per_store_month(self, channel: str) -> float:
        """Return how many messages that is for a store and 30 days."""
        return len(self.of_channel(channel)) * _MONTH_DAYS / max(self.days * self.stores, 1)

    def by_day(self, channel: str) -> dict[str, list[Sent]]:
        """Return a channel's messages by their day, UTC, also days without any."""
        days: dict[str, list[Sent]] = {
            _day(at_us): [] for at_us in (*range(self.first_us, self.last_us, DAY_US), self.last_us)
        }
        for message in self.of_channel(channel):
            days[_day(message.at_us)].append(message)
        return days

    def record(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "from": timestamp_text(self.first_us),
            "until": timestamp_text(self.last_us),
            "note": self.note,
            "days": self.days,
            "every_minutes": self.every_us // MINUTE_US,
            "stores": self.stores,
            "rules": {
                "min_polls": self.rules.min_polls,
                "min_minutes": self.rules.min_us // MINUTE_US,
                "closing_minutes": self.rules.closing_us // MINUTE_US,
            },
            "incidents": {kind.value: self.opened[kind] for kind in IncidentKind},
            "channels": [self._channel_record(channel) for channel in self.channels],
            "messages": [message.record() for message in self.messages],
        }

    def _channel_record(self, channel: str) -> dict[str, Any]:
        return {
            "channel": channel,
            "messages": len(self.of_channel(channel)),
            "messages_per_store_month": round(self.per_store_month(channel), 4),
            "per_day": {day: len(messages) for day, messages in self.by_day(channel).items()},
        }


def everything_at_once() -> Channel:
    """Return a channel that receives everything at once, used when there is none yet."""
    return Channel(0, "a channel for everything", "folder", Secret(""), Secret(""), Filters(), None, None, 0)


def find_channels(database: Database, names: Sequence[str]) -> list[Channel]:
    """Return the channels of those names; without any, those that are on. `NotFound` names one that there is not."""
    if names or not database.exists():
        return [catalogue.find(database, name) for name in dict.fromkeys(names)]
    with database.read() as connection:
        return [channel for channel in channels_.live(connection) if channel.disabled_us is None]


def make(
    database: Database,
    settings: Settings,
    days: int,
    now_us: int,
    rules: AlertRules,
    channels: Sequence[Channel] = (),
    every_us: int = EVERY_US,
    progress: Callable[[float], None] = lambda share: None,
) -> Preview:
    """Return what those rules would have sent to those channels in the days up to now, or up to the newest poll where
    that is old; `NoPolls` when there is none. Channels that are switched off are taken to be on."""
    listening = [replace(channel, disabled_us=None) for channel in channels] or [everything_at_once()]
    with database.read() as connection:
        as_of = find_as_of(database, connection, now_us, settings.rules)
        if newest_poll(database, connection, settings.rules.latest_us(now_us)).poll_us is None:
            raise NoPolls
        last_us = as_of.as_of_us
        first_us = max(last_us - days * DAY_US, 0)
        past = _past(database, connection, settings, first_us, last_us)
    preview = Preview(
        first_us, last_us, every_us, 0, rules, [channel.name for channel in listening], as_of.notice
    )  # fmt: skip
    outbox = Outbox(listening, settings)
    before = [
        *range(max(first_us - _BEFORE_US, 0), first_us - HOUR_US, HOUR_US),
        *range(max(first_us - HOUR_US, 0), first_us, every_us),
    ]
    instants = [*before, *range(first_us, last_us, every_us), last_us]
    look = _look(database, settings)
    for count, step in enumerate(walk(past.at, instants, rules, look), 1):
        outbox.take(step)
        following_us = instants[count] if count < len(instants) else last_us + 1
        sent = list(outbox.send_until(step.at_us, following_us))
        outbox.forget_what_is_over()
        if step.at_us >= first_us:
            preview.messages += sent
            preview.opened += Counter(incident.kind for incident in step.opened)
        preview.stores = len(step.facts)
        progress(count / len(instants))
    return preview


def _past(database: Database, connection: Connection, settings: Settings, first_us: int, last_us: int) -> PastFacts:
    from_us = max(first_us - _BEFORE_US, 0)
    return PastFacts(database, connection, settings.default_timezone, from_us, last_us, settings.rules)


def _look(database: Database, settings: Settings) -> Look:
    # It remembers what it saw: each walk has its own. How stores are polled seldom changes.
    return Sight(database, settings.default_timezone, relearn_us=7 * DAY_US).look


def _day(at_us: int) -> str:
    return utc_datetime(at_us).date().isoformat()
