"""The outbox: notices that wait to be put into a message, messages that wait to be sent, and every delivery attempt.

Notices are written in the transaction that changes their incidents (`add_notices`). A message takes notices in one
transaction (`add`), and keeps its id and content whatever happens. A courier claims it by an UPDATE of a row in the
state before (`claim`), so that of two couriers one succeeds; one that a killed server was sending is claimed again
after the next start (`requeue_sending`).
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.database.connections import Connection, named_rows

_COLUMNS: Final = "id, channel, purpose, state, created_us, content, attempts, next_try_us, finished_us, error"
_WAITING: Final = "state IN ('pending', 'sending')"
# In how long the next try is: at once when the clock was set back since the last one, or since the message was written.
_WAIT: Final = """
    CASE WHEN coalesce(
        (SELECT started_us FROM delivery WHERE delivery.message = first.id ORDER BY delivery.id DESC LIMIT 1),
        first.created_us
    ) > :now THEN 0 ELSE max(0, first.next_try_us - :now) END
"""
# The oldest waiting message of each channel that is on and not busy, unless it is being sent.
_NEXT: Final = f"""
    FROM message AS first JOIN channel ON channel.id = first.channel
    WHERE first.{_WAITING} AND first.state = 'pending'
        AND channel.disabled_us IS NULL AND channel.removed_us IS NULL
        AND first.channel NOT IN (SELECT value FROM json_each(:busy))
        AND NOT EXISTS (
            SELECT 1 FROM message AS older
            WHERE older.{_WAITING} AND older.channel = first.channel AND older.number < first.number
        )
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """That a channel is to be told of an incident: that it `opened` or was `resolved`."""

    id: int
    channel: int
    incident: int
    event: str
    made_us: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a channel. `content` is ready to send, in the form of every transport."""

    id: str
    channel: int
    purpose: str
    state: str
    created_us: int
    content: Mapping[str, Any]
    attempts: int
    next_try_us: int
    finished_us: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Notified:
    """That a channel is told of an incident: `waiting`, `sent` (at `at_us`) or `failed`."""

    channel: str
    state: str
    at_us: int | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a channel receives nothing now: the failed attempts of its message, whether it was given up, and why."""

    attempts: int
    given_up: bool
    error: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver a message; `code` is that of the answer, if there was one."""

    message: str
    channel: int
    purpose: str
    started_us: int
    duration_us: int
    delivered: bool
    code: int | None
    answer: str


def add_notices(connection: Connection, notices: Iterable[tuple[int, int, str]], made_us: int) -> None:
    """Add notices (channel, incident, event); existing ones stay as they are."""
    connection.executemany(
        "INSERT OR IGNORE INTO notice (channel, incident, event, made_us) VALUES (?, ?, ?, ?)",
        ((channel, incident, event, made_us) for channel, incident, event in notices),
    )


def channels_told(connection: Connection, incidents: Sequence[int]) -> list[tuple[int, int]]:
    """Return (channel, incident) for channels that were told, or are to be told, that the incident opened."""
    return list(
        connection.execute(
            "SELECT channel, incident FROM notice "
            "WHERE event = 'opened' AND incident IN (SELECT value FROM json_each(?)) ORDER BY incident, channel",
            [json.dumps(list(incidents))],
        )
    )


def notified_channels(connection: Connection, incidents: Sequence[int]) -> dict[tuple[int, str], list[Notified]]:
    """Return for each incident and event (`opened`, `resolved`) which channels are told, by name."""
    rows = connection.execute(
        "SELECT notice.incident, notice.event, channel.name, "
        "CASE message.state WHEN 'sent' THEN 'sent' WHEN 'failed' THEN 'failed' ELSE 'waiting' END, "
        "message.finished_us FROM notice JOIN channel ON channel.id = notice.channel "
        "LEFT JOIN message ON message.id = notice.message "
        "WHERE notice.incident IN (SELECT value FROM json_each(?)) ORDER BY channel.name",
        [json.dumps(list(incidents))],
    )
    notified: dict[tuple[int, str], list[Notified]] = {}
    for incident, event, name, state, finished_us in rows:
        notified.setdefault((incident, event), []).append(
            Notified(name, state, finished_us if state == "sent" else None)
        )
    return notified


def waiting_notices(connection: Connection, channel: int) -> list[Notice]:
    """Return the notices of a channel that are in no message yet, oldest first."""
    rows = named_rows(
        connection,
        "SELECT id, channel, incident, event, made_us FROM notice WHERE channel = ? AND message IS NULL "
        "ORDER BY made_us, id",
        [channel],
    )
    return [Notice(**dict(row)) for row in rows]


def new_id() -> str:
    """Return an id for a message."""
    return f"msg_{secrets.token_hex(12)}"


def add(
    connection: Connection,
    channel: int,
    purpose: str,
    content: Mapping[str, Any],
    now_us: int,
    notices: Sequence[int] = (),
    message_id: str | None = None,
) -> str:
    """Add a message that is to be sent now, with its notices, and return its id."""
    message_id = message_id or new_id()
    connection.execute(
        "INSERT INTO message (id, channel, purpose, state, created_us, content, next_try_us) "
        "VALUES (?, ?, ?, 'pending', ?, ?, ?)",
        (message_id, channel, purpose, now_us, json.dumps(dict(content), ensure_ascii=False), now_us),
    )
    connection.executemany("UPDATE notice SET message = ? WHERE id = ?", [(message_id, one) for one in notices])
    return message_id


def claim(connection: Connection, now_us: int, busy: Sequence[int]) -> Message | None:
    """Return the message to send next, now in the state `sending`; None when nothing is due.

    Of each channel only the oldest that waits, and of none that is in `busy`, disabled or removed.
    """
    row = connection.execute(
        f"SELECT first.id {_NEXT} AND {_WAIT} = 0 ORDER BY first.next_try_us, first.number LIMIT 1",
        {"now": now_us, "busy": json.dumps(list(busy))},
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "UPDATE message SET state = 'sending', attempts = attempts + 1 WHERE id = ? AND state = 'pending'", row
    )
    return find(connection, row[0])


def next_wait_us(connection: Connection, now_us: int, busy: Sequence[int]) -> int | None:
    """Return how long until a message can be claimed, 0 for at once; None when no such message waits."""
    rows = connection.execute(f"SELECT {_WAIT} {_NEXT}", {"now": now_us, "busy": json.dumps(list(busy))})
    return min((wait_us for (wait_us,) in rows), default=None)


def requeue_sending(connection: Connection) -> int:
    """Make messages that a killed server was sending pending again, without counting the attempt; return how many."""
    return connection.execute(
        "UPDATE message SET state = 'pending', attempts = attempts - 1 WHERE state = 'sending'"
    ).rowcount


def retry_later(connection: Connection, message_id: str, next_us: int, error: str, attempts: int) -> None:
    """Schedule the next attempt of a message that was not delivered; `attempts` are those that count until then."""
    connection.execute(
        "UPDATE message SET state = 'pending', next_try_us = ?, error = ?, attempts = ? "
        "WHERE id = ? AND state = 'sending'",
        (next_us, error, attempts, message_id),
    )


def tries_of(connection: Connection, message_id: str) -> tuple[int, int]:
    """Return how often a message was tried, and when first."""
    count, first_us = connection.execute(
        "SELECT count(*), coalesce(min(started_us), 0) FROM delivery WHERE message = ?", [message_id]
    ).fetchone()
    return int(count), int(first_us)


def finish(connection: Connection, message_id: str, error: str | None, now_us: int) -> None:
    """Record that a message was sent, or with an error that it never will be."""
    connection.execute(
        f"UPDATE message SET state = ?, error = ?, finished_us = ? WHERE id = ? AND {_WAITING}",
        ("sent" if error is None else "failed", error, now_us, message_id),
    )


def add_tried(connection: Connection, message: Message) -> None:
    """Add a message that was already sent or failed, such as a test."""
    connection.execute(
        f"INSERT INTO message ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.id,
            message.channel,
            message.purpose,
            message.state,
            message.created_us,
            json.dumps(dict(message.content), ensure_ascii=False),
            message.attempts,
            message.next_try_us,
            message.finished_us,
            message.error,
        ),
    )


def channels_with_notices(connection: Connection) -> list[int]:
    """Return the channels that are on, have notices that are in no message yet, and no message that waits.

    So what happens while a receiver is away is one message when it is back, not one for every five minutes.
    """
    rows = connection.execute(
        "SELECT id FROM channel WHERE disabled_us IS NULL AND removed_us IS NULL "
        "AND EXISTS (SELECT 1 FROM notice WHERE notice.channel = channel.id AND notice.message IS NULL) "
        f"AND NOT EXISTS (SELECT 1 FROM message WHERE message.channel = channel.id AND message.{_WAITING}) ORDER BY id"
    )
    return [channel for (channel,) in rows]


def drop_channel(connection: Connection, channel: int, reason: str, now_us: int) -> None:
    """Delete the waiting notices of a channel, and fail its waiting messages for that reason."""
    connection.execute("DELETE FROM notice WHERE channel = ? AND message IS NULL", [channel])
    connection.execute(
        f"UPDATE message SET state = 'failed', error = ?, finished_us = ? WHERE channel = ? AND {_WAITING}",
        (reason, now_us, channel),
    )


def drop_waiting(connection: Connection, reason: str, now_us: int) -> None:
    """Drop everything that waits: notices and messages of a restored backup are out of date."""
    for (channel,) in connection.execute("SELECT id FROM channel").fetchall():
        drop_channel(connection, channel, reason, now_us)


def drop_old(connection: Connection, before_us: int, most: int) -> int:
    """Delete up to a limit of messages that ended before then, with attempts and notices; return how many.

    Messages about incidents that are open, or ended later, stay: the end goes to the channels that got the beginning.
    """
    ids = [
        message_id
        for (message_id,) in connection.execute(
            "SELECT id FROM message WHERE finished_us < :before AND NOT EXISTS ("
            "SELECT 1 FROM notice JOIN incident ON incident.id = notice.incident "
            "WHERE notice.message = message.id AND coalesce(incident.resolved_us, :before) >= :before"
            ") ORDER BY finished_us LIMIT :most",
            {"before": before_us, "most": most},
        )
    ]
    listed = [json.dumps(ids)]
    for table, column in (("notice", "message"), ("delivery", "message"), ("message", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", listed)
    return len(ids)


def add_delivery(connection: Connection, delivery: Delivery) -> None:
    """Add an attempt to the log."""
    connection.execute(
        "INSERT INTO delivery (message, started_us, duration_us, delivered, code, answer) VALUES (?, ?, ?, ?, ?, ?)",
        (
            delivery.message,
            delivery.started_us,
            delivery.duration_us,
            delivery.delivered,
            delivery.code,
            delivery.answer[:200],
        ),
    )


def find(connection: Connection, message_id: str) -> Message | None:
    """Return a message; None when there is none of that id."""
    return next(iter(_messages(connection, "WHERE message.id = ?", [message_id])), None)


def created_since(connection: Connection, channel: int, since_us: int) -> list[int]:
    """Return when the messages of incidents and digests of a channel since then were written, oldest first."""
    rows = connection.execute(
        "SELECT created_us FROM message WHERE channel = ? AND created_us >= ? AND purpose IN ('incidents', 'digest') "
        "ORDER BY created_us",
        (channel, since_us),
    )
    return [created_us for (created_us,) in rows]


def newest_deliveries(
    connection: Connection, limit: int, channel: int | None = None, before: int | None = None
) -> list[tuple[int, Delivery]]:
    """Return (number, attempt), the newest first: of one channel, if given, and numbers below `before`."""
    rows = named_rows(
        connection,
        "SELECT delivery.id, delivery.message, message.channel, message.purpose, delivery.started_us, "
        "delivery.duration_us, delivery.delivered, delivery.code, delivery.answer "
        "FROM delivery JOIN message ON message.id = delivery.message "
        "WHERE (:channel IS NULL OR message.channel = :channel) AND (:before IS NULL OR delivery.id < :before) "
        "ORDER BY delivery.id DESC LIMIT :limit",
        {"channel": channel, "before": before, "limit": limit},
    )
    return [
        (row["id"], Delivery(**{**{name: row[name] for name in row.keys()[1:]}, "delivered": bool(row["delivered"])}))
        for row in rows
    ]


def last_deliveries(connection: Connection) -> dict[int, Delivery]:
    """Return the newest attempt for each channel that had one."""
    rows = named_rows(
        connection,
        "SELECT delivery.message, message.channel, message.purpose, delivery.started_us, delivery.duration_us, "
        "delivery.delivered, delivery.code, delivery.answer FROM delivery "
        "JOIN message ON message.id = delivery.message WHERE delivery.id IN "
        "(SELECT max(delivery.id) FROM delivery JOIN message ON message.id = delivery.message GROUP BY channel)",
    )
    tries = [Delivery(**{**dict(row), "delivered": bool(row["delivered"])}) for row in rows]
    return {one.channel: one for one in tries}


def troubles(connection: Connection, least: int) -> dict[int, Trouble]:
    """Return the channels that do not get their messages: the next one failed at least that often, or none arrived
    since one was given up. Removed channels are left out."""
    ids = [row[0] for row in connection.execute("SELECT id FROM channel WHERE removed_us IS NULL")]
    by_channel: dict[int, Trouble] = {}
    for channel in ids:
        waiting = connection.execute(
            f"SELECT attempts, error, id FROM message WHERE channel = ? AND {_WAITING} AND error IS NOT NULL "
            "ORDER BY number LIMIT 1",
            [channel],
        ).fetchone()
        ended = connection.execute(
            "SELECT attempts, error, state FROM message WHERE channel = ? "
            "AND (state = 'sent' OR state = 'failed' AND purpose <> 'test') "
            "ORDER BY created_us DESC, number DESC LIMIT 1",
            [channel],
        ).fetchone()
        if waiting is not None and waiting[0] >= least:
            by_channel[channel] = Trouble(tries_of(connection, waiting[2])[0], False, waiting[1])
        elif ended is not None and ended[2] == "failed":
            by_channel[channel] = Trouble(ended[0], True, ended[1])
    return by_channel


def newest_numbers(connection: Connection) -> tuple[int, int]:
    """Return the numbers of the newest message and attempt; if they are unchanged, nothing was written or sent
    meanwhile."""
    row = connection.execute(
        "SELECT (SELECT coalesce(max(number), 0) FROM message), (SELECT coalesce(max(id), 0) FROM delivery)"
    ).fetchone()
    return int(row[0]), int(row[1])


def oldest_waiting_us(connection: Connection) -> int | None:
    """Return when the oldest message that is not delivered yet was written; None when none waits."""
    (created_us,) = connection.execute(f"SELECT min(created_us) FROM message WHERE {_WAITING}").fetchone()
    return None if created_us is None else int(created_us)


def _messages(
    connection: Connection, rest: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> list[Message]:
    columns = ", ".join(f"message.{name}" for name in _COLUMNS.split(", "))
    rows = named_rows(connection, f"SELECT {columns} FROM message {rest}", parameters)
    return [Message(**{**dict(row), "content": json.loads(row["content"])}) for row in rows]
