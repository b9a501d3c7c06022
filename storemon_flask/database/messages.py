"""The outbox: notices that wait to be put into a message, messages that wait to be sent, and every try to send one.

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


@dataclass(frozen=True, slots=True)
class Notice:
    """What a channel is to hear of an incident: that it was `opened` or `resolved`."""

    id: int
    channel: int
    incident: int
    event: str
    made_us: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a channel. `content` is what it says, for every way of writing it."""

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
class Delivery:
    """One try to deliver a message; `code` is that of the answer, where there was one."""

    message: str
    channel: int
    purpose: str
    started_us: int
    duration_us: int
    delivered: bool
    code: int | None
    answer: str


def add_notices(connection: Connection, notices: Iterable[tuple[int, int, str]], made_us: int) -> None:
    """Add (channel, incident, event); one that is there already stays as it is."""
    connection.executemany(
        "INSERT OR IGNORE INTO notice (channel, incident, event, made_us) VALUES (?, ?, ?, ?)",
        ((channel, incident, event, made_us) for channel, incident, event in notices),
    )


def channels_told(connection: Connection, incidents: Sequence[int]) -> list[tuple[int, int]]:
    """Return (channel, incident) of those that were, or are to be, told that the incident opened."""
    return list(
        connection.execute(
            "SELECT channel, incident FROM notice "
            "WHERE event = 'opened' AND incident IN (SELECT value FROM json_each(?)) ORDER BY incident, channel",
            [json.dumps(list(incidents))],
        )
    )


def waiting_notices(connection: Connection, channel: int) -> list[Notice]:
    """Return the notices of a channel that are in no message yet, oldest first."""
    rows = named_rows(
        connection,
        "SELECT id, channel, incident, event, made_us FROM notice WHERE channel = ? AND message IS NULL "
        "ORDER BY made_us, id",
        [channel],
    )
    return [Notice(**dict(row)) for row in rows]


def add(
    connection: Connection,
    channel: int,
    purpose: str,
    content: Mapping[str, Any],
    now_us: int,
    notices: Sequence[int] = (),
    message_id: str | None = None,
) -> str:
    """Add a message that is to be sent now, with the notices it speaks of, and return its id."""
    message_id = message_id or f"msg_{secrets.token_hex(12)}"
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
    rows = _messages(
        connection,
        f"""
        WHERE message.id = (
            SELECT first.id FROM message AS first JOIN channel ON channel.id = first.channel
            WHERE first.state = 'pending' AND first.next_try_us <= :now
                AND channel.disabled_us IS NULL AND channel.removed_us IS NULL
                AND first.channel NOT IN (SELECT value FROM json_each(:busy))
                AND NOT EXISTS (
                    SELECT 1 FROM message AS older WHERE older.channel = first.channel AND older.{_WAITING}
                        AND (older.created_us, older.id) < (first.created_us, first.id)
                )
            ORDER BY first.next_try_us, first.created_us, first.id LIMIT 1
        )
        """,
        {"now": now_us, "busy": json.dumps(list(busy))},
    )
    if not rows:
        return None
    connection.execute(
        "UPDATE message SET state = 'sending', attempts = attempts + 1 WHERE id = ? AND state = 'pending'", [rows[0].id]
    )
    return next(iter(_messages(connection, "WHERE message.id = ?", [rows[0].id])))


def next_try_us(connection: Connection) -> int | None:
    """Return when the next message that waits is due; None when none waits."""
    (due_us,) = connection.execute("SELECT min(next_try_us) FROM message WHERE state = 'pending'").fetchone()
    return None if due_us is None else int(due_us)


def requeue_sending(connection: Connection) -> int:
    """Have what a killed server was sending sent again; how many messages that is."""
    return connection.execute("UPDATE message SET state = 'pending' WHERE state = 'sending'").rowcount


def retry_later(connection: Connection, message_id: str, next_us: int, error: str) -> None:
    """Have a message that was not delivered tried again at that time."""
    connection.execute(
        "UPDATE message SET state = 'pending', next_try_us = ?, error = ? WHERE id = ? AND state = 'sending'",
        (next_us, error, message_id),
    )


def finish(connection: Connection, message_id: str, error: str | None, now_us: int) -> None:
    """Note that a message was sent, or with an error that it never will be."""
    connection.execute(
        f"UPDATE message SET state = ?, error = ?, finished_us = ? WHERE id = ? AND {_WAITING}",
        ("sent" if error is None else "failed", error, now_us, message_id),
    )


def add_delivery(connection: Connection, delivery: Delivery) -> None:
    """Add a try to the log."""
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
    """Return (number, try) of the newest tries, the newest first: of one channel; of numbers below `before`."""
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


def oldest_waiting_us(connection: Connection) -> int | None:
    """Return when the oldest message that is not delivered yet was written; None when none waits."""
    (created_us,) = connection.execute(f"SELECT min(created_us) FROM message WHERE {_WAITING}").fetchone()
    return None if created_us is None else int(created_us)


def _messages(
    connection: Connection, rest: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> list[Message]:
    rows = named_rows(connection, f"SELECT {_COLUMNS} FROM message {rest}", parameters)
    return [Message(**{**dict(row), "content": json.loads(row["content"])}) for row in rows]
