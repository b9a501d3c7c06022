"""Schedules as rows: which report is due when, for whom; and what became of every time that one was due.

A time is taken by an UPDATE of `next_us`, and each step of a run is an UPDATE of a row in the state before, so that of
two processes that look at the same moment one succeeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from storemon_flask.characters import is_text
from storemon_flask.database.connections import Connection, named_rows

_COLUMNS: Final = "id, name, due, zone, query, format, below_hundredths, created_us, next_us, removed_us"
_RUN_COLUMNS: Final = "id, schedule, due_us, state, report, summary_report, by_hand, started_us, finished_us, note"
_UNDER_WAY: Final = "state IN ('waiting', 'computing')"
FORMATS: Final = ("csv", "xlsx")


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. `due` is as typed, `query` the body of a trigger without as-of; `channels` are numbers."""

    id: int
    name: str
    due: str
    zone: str
    query: Mapping[str, Any]
    format: str
    below_hundredths: int
    created_us: int
    next_us: int
    removed_us: int | None = None
    channels: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Run:
    """One time that a schedule was due. `started_us` is when that was noticed."""

    id: int
    schedule: int
    due_us: int
    state: str
    report: str | None
    summary_report: str | None
    by_hand: bool
    started_us: int
    finished_us: int | None
    note: str


def live(connection: Connection) -> list[Schedule]:
    """Return the schedules that are not removed, by name."""
    return _schedules(connection, "WHERE removed_us IS NULL ORDER BY name")


def find(connection: Connection, schedule_id: int) -> Schedule | None:
    """Return a schedule that is not removed."""
    return next(iter(_schedules(connection, "WHERE id = ? AND removed_us IS NULL", [schedule_id])), None)


def find_named(connection: Connection, name: str) -> Schedule | None:
    """Return the schedule of that name that is not removed."""
    if not is_text(name):
        return None
    return next(iter(_schedules(connection, "WHERE name = ? AND removed_us IS NULL", [name])), None)


def names_sent_to(connection: Connection, channel: int) -> list[str]:
    """Return the names of the schedules whose reports go to a channel."""
    rows = connection.execute(
        "SELECT name FROM schedule JOIN schedule_channel ON schedule_channel.schedule = schedule.id "
        "WHERE channel = ? AND removed_us IS NULL ORDER BY name",
        [channel],
    )
    return [name for (name,) in rows]


def add(connection: Connection, schedule: Schedule) -> int:
    """Add a schedule and return its number; the `id` of the one given is not used. The name must be free."""
    row = connection.execute(
        "INSERT INTO schedule (name, due, zone, query, format, below_hundredths, created_us, next_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            schedule.name,
            schedule.due,
            schedule.zone,
            json.dumps(dict(schedule.query), ensure_ascii=False),
            schedule.format,
            schedule.below_hundredths,
            schedule.created_us,
            schedule.next_us,
        ),
    )
    number = int(row.lastrowid or 0)
    connection.executemany(
        "INSERT INTO schedule_channel (schedule, channel) VALUES (?, ?)",
        [(number, channel) for channel in schedule.channels],
    )
    return number


def remove(connection: Connection, schedule_id: int, now_us: int) -> bool:
    """Remove a schedule; its runs that are under way fail. False when there is none."""
    gone = connection.execute(
        "UPDATE schedule SET removed_us = ? WHERE id = ? AND removed_us IS NULL", (now_us, schedule_id)
    ).rowcount
    connection.execute(
        f"UPDATE schedule_run SET state = 'failed', finished_us = ?, note = 'the schedule was removed' "
        f"WHERE schedule = ? AND {_UNDER_WAY}",
        (now_us, schedule_id),
    )
    return bool(gone)


def set_next(connection: Connection, schedule: Schedule, next_us: int) -> bool:
    """Set when a schedule is due next; False when another process has changed that, or it was removed."""
    return bool(
        connection.execute(
            "UPDATE schedule SET next_us = ? WHERE id = ? AND next_us = ? AND removed_us IS NULL",
            (next_us, schedule.id, schedule.next_us),
        ).rowcount
    )


def add_run(
    connection: Connection, schedule_id: int, due_us: int, now_us: int, skipped: str = "", by_hand: bool = False
) -> bool:
    """Note that a schedule was due then, and is to run; or with a reason that it was skipped.

    What was skipped, or failed, before is to run after all. False when that time ran, or is under way, already.
    """
    state, finished_us = ("skipped", now_us) if skipped else ("waiting", None)
    return bool(
        connection.execute(
            "INSERT INTO schedule_run (schedule, due_us, state, by_hand, started_us, finished_us, note) "
            "VALUES (:schedule, :due_us, :state, :by_hand, :now_us, :finished_us, :note) "
            "ON CONFLICT (schedule, due_us) DO UPDATE SET state = 'waiting', by_hand = :by_hand, report = NULL, "
            "summary_report = NULL, started_us = :now_us, finished_us = NULL, note = '' "
            "WHERE state IN ('skipped', 'failed') AND :state = 'waiting'",
            {
                "schedule": schedule_id,
                "due_us": due_us,
                "state": state,
                "by_hand": by_hand,
                "now_us": now_us,
                "finished_us": finished_us,
                "note": skipped,
            },
        ).rowcount
    )


def skip_waiting(connection: Connection, schedule_id: int, note: str, now_us: int) -> None:
    """Skip the runs of a schedule that wait for data still, but not those that somebody asked for."""
    connection.execute(
        "UPDATE schedule_run SET state = 'skipped', note = ?, finished_us = ? "
        "WHERE schedule = ? AND state = 'waiting' AND NOT by_hand",
        (note, now_us, schedule_id),
    )


def skip_under_way(connection: Connection, note: str, now_us: int) -> None:
    """Skip all runs under way: those of a backup are not made after it is restored."""
    connection.execute(
        f"UPDATE schedule_run SET state = 'skipped', note = ?, finished_us = ? WHERE {_UNDER_WAY}", (note, now_us)
    )


def under_way(connection: Connection) -> list[Run]:
    """Return the runs that wait or are computed, of schedules that are there, the oldest first."""
    return _runs(connection, f"WHERE {_UNDER_WAY} ORDER BY due_us, id")


def newest_runs(connection: Connection, schedule_id: int, limit: int) -> list[Run]:
    """Return the newest runs of a schedule, the newest first."""
    return _runs(connection, "WHERE schedule = ? ORDER BY due_us DESC LIMIT ?", [schedule_id, limit])


def find_run(connection: Connection, schedule_id: int, due_us: int) -> Run | None:
    """Return the run of a schedule that was due then."""
    return next(iter(_runs(connection, "WHERE schedule = ? AND due_us = ?", [schedule_id, due_us])), None)


def start(connection: Connection, run_id: int, report: str, summary_report: str) -> bool:
    """Waiting becomes computing, by those reports. False when another process was first, or the schedule is gone."""
    return bool(
        connection.execute(
            "UPDATE schedule_run SET state = 'computing', report = ?, summary_report = ? "
            "WHERE id = ? AND state = 'waiting'",
            (report, summary_report, run_id),
        ).rowcount
    )


def finish(connection: Connection, run_id: int, state: str, note: str, now_us: int) -> bool:
    """What is under way becomes `done` or `failed`. False when another process was first, or the schedule is gone."""
    return bool(
        connection.execute(
            f"UPDATE schedule_run SET state = ?, note = ?, finished_us = ? WHERE id = ? AND {_UNDER_WAY}",
            (state, note, now_us, run_id),
        ).rowcount
    )


def _schedules(connection: Connection, rest: str, parameters: Sequence[object] = ()) -> list[Schedule]:
    rows = named_rows(connection, f"SELECT {_COLUMNS} FROM schedule {rest}", parameters)
    return [
        Schedule(
            **{**dict(row), "query": json.loads(row["query"])},
            channels=tuple(
                channel
                for (channel,) in connection.execute(
                    "SELECT channel FROM schedule_channel WHERE schedule = ? ORDER BY channel", [row["id"]]
                )
            ),
        )
        for row in rows
    ]


def _runs(connection: Connection, rest: str, parameters: Sequence[object] = ()) -> list[Run]:
    rows = named_rows(connection, f"SELECT {_RUN_COLUMNS} FROM schedule_run {rest}", parameters)
    return [Run(**{**dict(row), "by_hand": bool(row["by_hand"])}) for row in rows]
