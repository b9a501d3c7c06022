"""Databases of other monitors, which are only read: Uptime Kuma's and Gatus's, each by the schema that it has."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from storemon_flask.errors import DataError

_BUSY_TIMEOUT_S: Final = 10.0
# No timestamp is longer; whatever else stands there is not carried about.
_TIME_CHARACTERS: Final = 80
_NAME_CHARACTERS: Final = 500
# The year 9999; an hour of later is of another unit.
_END_OF_TIME_S: Final = 253_000_000_000
_REASONS: Final = {
    "SQLITE_NOTADB": "is not an SQLite database",
    "SQLITE_CORRUPT": "is damaged; make a copy of it with `sqlite3 FILE \"VACUUM INTO 'copy.db'\"` where it comes from",
    "SQLITE_CANTOPEN": (
        "cannot be opened; check its permissions and those of its folder, and that the file that ends in -wal came "
        "with it, or take a copy that was made with `sqlite3 FILE \"VACUUM INTO 'copy.db'\"`"
    ),
    "SQLITE_BUSY": f"was locked by another program for more than {_BUSY_TIMEOUT_S:.0f} s; try again",
    "SQLITE_LOCKED": f"was locked by another program for more than {_BUSY_TIMEOUT_S:.0f} s; try again",
}


class ForeignDatabase:
    """An open database of another program."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none when there is no such table."""
        return {name for (name,) in self.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


@contextmanager
def open_foreign(path: Path) -> Iterator[ForeignDatabase]:
    """Give the database, read-only, with what its log holds; `DataError` for what goes wrong while it is used."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():
        raise DataError(f"{path} is no regular file")
    try:
        # Never immutable=1, which would pass over the log that its program writes beside it.
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
        ) as connection:
            connection.execute("PRAGMA trusted_schema = 0")
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            # One moment of it, whatever its program does meanwhile.
            connection.execute("BEGIN")
            yield ForeignDatabase(connection)
    except sqlite3.Error as error:
        code = "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])
        raise DataError(f"{path} {_REASONS.get(code, f'cannot be read: {error}')}") from error


# Uptime Kuma


class KumaMonitor(NamedTuple):
    """A monitor of Uptime Kuma; a deleted one has beats and no name."""

    id: int
    name: str
    is_group: bool
    interval_s: int
    retries: int
    deleted: bool = False


class KumaBeat(NamedTuple):
    """One beat: seconds since 1970 (None: its time is none), and the rest as it is stored."""

    id: int
    second: int | None
    time: str
    status: int
    duration_s: int
    important: int
    retries: int


class HourCount(NamedTuple):
    """How many checks of an hour found what; `second` is when it begins."""

    id: int
    second: int
    up: int
    down: int


def kuma_monitors(database: ForeignDatabase) -> list[KumaMonitor]:
    """Return the monitors of an Uptime Kuma, and those that are gone and left beats."""
    has = database.columns("monitor")
    type_, retries = ("type" if "type" in has else "''"), ("maxretries" if "maxretries" in has else "0")
    monitors = [
        KumaMonitor(number, name or f"monitor {number}", kind == "group", interval or 0, most or 0)
        for number, name, kind, interval, most in database.connection.execute(
            f"SELECT id, substr(name, 1, {_NAME_CHARACTERS}), {type_}, CAST(interval AS INTEGER), "
            f"CAST({retries} AS INTEGER) FROM monitor ORDER BY id"
        )
    ]
    known = {monitor.id for monitor in monitors}
    beaten = database.connection.execute("SELECT DISTINCT monitor_id FROM heartbeat ORDER BY monitor_id").fetchall()
    return monitors + [
        KumaMonitor(number, f"monitor {number} (deleted)", False, 0, 0, deleted=True)
        for (number,) in beaten
        if number not in known
    ]


def kuma_beats(database: ForeignDatabase, monitor: int) -> Iterator[KumaBeat]:
    """Return the beats of a monitor in the order of time."""
    retries = "retries" if "retries" in database.columns("heartbeat") else "0"
    return map(
        KumaBeat._make,
        database.connection.execute(
            f"SELECT id, CAST(strftime('%s', time) AS INTEGER), substr(time, 1, {_TIME_CHARACTERS}), status, "
            "CAST(coalesce(duration, 0) AS INTEGER), CAST(coalesce(important, 0) AS INTEGER), "
            f"CAST({retries} AS INTEGER) "
            "FROM heartbeat WHERE monitor_id = ? ORDER BY time, id",
            (monitor,),
        ),
    )


def kuma_hours(database: ForeignDatabase, monitor: int) -> list[HourCount]:
    """Return the hourly counts that Uptime Kuma 2 keeps of a monitor."""
    return _hours(database, "id, timestamp, up, down FROM stat_hourly WHERE monitor_id = ? ORDER BY timestamp", monitor)


# Gatus


class GatusEndpoint(NamedTuple):
    """An endpoint of Gatus."""

    id: int
    group: str
    name: str


class GatusCheck(NamedTuple):
    """A result, or an event that says what the result was from which on it differed."""

    id: int
    time: str
    success: bool


def gatus_endpoints(database: ForeignDatabase) -> list[GatusEndpoint]:
    """Return the endpoints of a Gatus."""
    return [
        GatusEndpoint(number, group or "", name or "")
        for number, group, name in database.connection.execute(
            f"SELECT endpoint_id, substr(endpoint_group, 1, {_NAME_CHARACTERS}), "
            f"substr(endpoint_name, 1, {_NAME_CHARACTERS}) FROM endpoints ORDER BY endpoint_group, endpoint_name"
        )
    ]


def gatus_checks(database: ForeignDatabase, endpoint: int) -> list[GatusCheck]:
    """Return the results that are left of an endpoint, and the events of its becoming healthy or not."""
    rows = database.connection.execute(
        f"SELECT endpoint_result_id, substr(timestamp, 1, {_TIME_CHARACTERS}), success FROM endpoint_results "
        "WHERE endpoint_id = :endpoint UNION ALL "
        f"SELECT endpoint_event_id, substr(event_timestamp, 1, {_TIME_CHARACTERS}), event_type = 'HEALTHY' "
        "FROM endpoint_events WHERE endpoint_id = :endpoint AND event_type IN ('HEALTHY', 'UNHEALTHY')",
        {"endpoint": endpoint},
    )
    return [GatusCheck(number, str(time), bool(success)) for number, time, success in rows]


def gatus_hours(database: ForeignDatabase, endpoint: int) -> list[HourCount]:
    """Return the counts that Gatus keeps of an endpoint: of hours, and after two days of days."""
    return _hours(
        database,
        "endpoint_uptime_id, hour_unix_timestamp, successful_executions, total_executions - successful_executions "
        "FROM endpoint_uptimes WHERE endpoint_id = ? ORDER BY hour_unix_timestamp",
        endpoint,
    )


def _hours(database: ForeignDatabase, selected: str, number: int) -> list[HourCount]:
    rows = database.connection.execute(f"SELECT {selected}", (number,))
    return [
        HourCount(*row) for row in rows if all(isinstance(value, int) for value in row) and 0 <= row[1] < _END_OF_TIME_S
    ]
