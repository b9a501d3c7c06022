"""Channels as rows: where messages go, and which incidents each receives."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from storemon_flask.characters import is_text
from storemon_flask.database import messages
from storemon_flask.database.connections import Connection, named_rows
from storemon_flask.settings import Secret

_COLUMNS: Final = (
    "id, name, kind, address, secret, filters, digest, quiet, created_us, disabled_us, disabled_reason, removed_us"
)
KINDS: Final = ("email", "webhook", "apprise", "folder")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a channel receives: kinds of incidents, groups, store ids; an empty tuple means all."""

    kinds: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. `digest` and `quiet` are as typed (`08:00 America/New_York`, `22:00-08:00 America/New_York`)."""

    id: int
    name: str
    kind: str
    address: Secret
    secret: Secret
    filters: Filters
    digest: str | None
    quiet: str | None
    created_us: int
    disabled_us: int | None = None
    disabled_reason: str | None = None
    removed_us: int | None = None


def live(connection: Connection) -> list[Channel]:
    """Return the channels that are not removed, by name."""
    return _channels(connection, "WHERE removed_us IS NULL ORDER BY name")


def names(connection: Connection) -> dict[int, str]:
    """Return the name of every channel, also of removed ones, by number."""
    return dict(connection.execute("SELECT id, name FROM channel"))


def find(connection: Connection, channel_id: int) -> Channel | None:
    """Return a channel, also a removed one; None for a number that there never was."""
    return next(iter(_channels(connection, "WHERE id = ?", [channel_id])), None)


def find_named(connection: Connection, name: str) -> Channel | None:
    """Return the channel of that name that is not removed."""
    if not is_text(name):
        return None
    return next(iter(_channels(connection, "WHERE name = ? AND removed_us IS NULL", [name])), None)


def add(connection: Connection, channel: Channel) -> int:
    """Add a channel and return its number; the `id` of the one given is not used. The name must be free."""
    row = connection.execute(
        "INSERT INTO channel (name, kind, address, secret, filters, digest, quiet, created_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            channel.name,
            channel.kind,
            channel.address.value,
            channel.secret.value or None,
            _filters_text(channel.filters),
            channel.digest,
            channel.quiet,
            channel.created_us,
        ),
    )
    return int(row.lastrowid or 0)


def remove(connection: Connection, channel_id: int, now_us: int) -> bool:
    """Remove a channel with its address and secret; its messages that wait fail. False when there is none."""
    gone = connection.execute(
        "UPDATE channel SET removed_us = ?, address = '', secret = NULL WHERE id = ? AND removed_us IS NULL",
        (now_us, channel_id),
    ).rowcount
    if gone:
        connection.execute("DELETE FROM schedule_channel WHERE channel = ?", [channel_id])
        messages.drop_channel(connection, channel_id, "the channel was removed", now_us)
    return bool(gone)


def disable(connection: Connection, channel_id: int, reason: str, now_us: int) -> None:
    """Switch a channel off: what waits for it fails, and it is sent nothing more until it is enabled."""
    switched = connection.execute(
        "UPDATE channel SET disabled_us = ?, disabled_reason = ? WHERE id = ? AND disabled_us IS NULL",
        (now_us, reason, channel_id),
    ).rowcount
    if switched:
        messages.drop_channel(connection, channel_id, f"the channel is switched off: {reason}", now_us)


def enable(connection: Connection, channel_id: int) -> None:
    """Switch a channel on again."""
    connection.execute("UPDATE channel SET disabled_us = NULL, disabled_reason = NULL WHERE id = ?", [channel_id])


def _filters_text(filters: Filters) -> str:
    values = {"kinds": filters.kinds, "groups": filters.groups, "stores": filters.stores}
    return json.dumps({name: list(value) for name, value in values.items() if value}, ensure_ascii=False)


def _filters(text: str) -> Filters:
    stored: Mapping[str, Any] = json.loads(text)
    return Filters(**{name: tuple(value) for name, value in stored.items()})


def _channels(connection: Connection, rest: str, parameters: Sequence[object] = ()) -> list[Channel]:
    rows = named_rows(connection, f"SELECT {_COLUMNS} FROM channel {rest}", parameters)
    return [
        Channel(
            **{
                **dict(row),
                "address": Secret(row["address"]),
                "secret": Secret(row["secret"] or ""),
                "filters": _filters(row["filters"]),
            }
        )
        for row in rows
    ]
