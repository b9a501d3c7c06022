"""The same report by DuckDB: its own file format, one SQL statement, as somebody who knows it would write it.

    python -m benchmarks.duckdb_peer load FLEET DATABASE     loads the three CSVs
    python -m benchmarks.duckdb_peer report DATABASE OUT     the classic report
    python -m benchmarks.duckdb_peer answer DATABASE OUT     one report per line of standard input, warm

Each prints one JSON line with `seconds` (of the work, without starting Python) and `peak_mb`.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

from benchmarks import processes

_LOAD = """
CREATE TABLE poll AS
SELECT store_id, instant, last(active) AS active FROM (
    SELECT store_id,
        epoch_us(strptime(replace(timestamp_utc, ' UTC', ''), ['%Y-%m-%d %H:%M:%S.%f', '%Y-%m-%d %H:%M:%S'])) AS instant,
        lower(trim(status)) = 'active' AS active
    FROM read_csv('{fleet}/store_status.csv', types = {{'store_id': 'VARCHAR', 'timestamp_utc': 'VARCHAR'}})
) GROUP BY store_id, instant;
CREATE TABLE hours AS
SELECT store_id, dayOfWeek AS day, start_time_local AS opens, end_time_local AS closes
FROM read_csv('{fleet}/menu_hours.csv',
    types = {{'store_id': 'VARCHAR', 'start_time_local': 'TIME', 'end_time_local': 'TIME'}});
CREATE TABLE timezone AS
SELECT store_id, timezone_str AS name FROM read_csv('{fleet}/timezones.csv', types = {{'store_id': 'VARCHAR'}});
"""

_HOUR, _DAY, _WEEK = 3_600_000_000, 86_400_000_000, 604_800_000_000


def _sum(measure: str, length: int) -> str:
    which = "active" if measure == "uptime" else "NOT active"
    return f"coalesce(sum(greatest(until - greatest(since, now - {length}), 0)) FILTER ({which}), 0)"


_CELLS = ",\n    ".join(
    f"printf('%.2f', {_sum(measure, length)} / {unit}) AS {measure}_{window}"
    for measure in ("uptime", "downtime")
    for window, length, unit in (("last_hour", _HOUR, 6e7), ("last_day", _DAY, 3.6e9), ("last_week", _WEEK, 3.6e9))
)
_REPORT = f"""
WITH clock AS (SELECT max(instant) AS now FROM poll),
store AS (
    SELECT store_id, coalesce(name, 'America/Chicago') AS zone
    FROM (SELECT store_id FROM poll UNION SELECT store_id FROM hours UNION SELECT store_id FROM timezone)
    LEFT JOIN timezone USING (store_id)),
weekly AS (
    SELECT store_id, day, opens, CASE WHEN closes >= TIME '23:59' THEN TIME '00:00' ELSE closes END AS closes FROM hours
    UNION ALL
    SELECT store_id, day, TIME '00:00', TIME '00:00' FROM store ANTI JOIN hours USING (store_id), range(7) AS days(day)),
calendar AS (
    SELECT unnest(generate_series((make_timestamp(now) - INTERVAL 11 DAY)::DATE,
        (make_timestamp(now) + INTERVAL 2 DAY)::DATE, INTERVAL 1 DAY))::DATE AS date FROM clock),
dated AS (
    SELECT store_id, epoch_us(timezone(zone, date + opens)) AS since,
        epoch_us(timezone(zone, (date + CASE WHEN closes <= opens THEN 1 ELSE 0 END)::DATE + closes)) AS until
    FROM weekly JOIN calendar ON isodow(date) - 1 = day JOIN store USING (store_id)),
joined AS (
    SELECT *, CASE WHEN since > max(until) OVER (PARTITION BY store_id ORDER BY since
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 1 ELSE 0 END AS begins FROM dated),
grouped AS (SELECT *, sum(begins) OVER (PARTITION BY store_id ORDER BY since) AS run FROM joined),
opening AS (SELECT store_id, min(since) AS opened, max(until) AS closed FROM grouped GROUP BY store_id, run),
evidence AS (
    SELECT recent.store_id, instant, active, opened, closed
    FROM (SELECT poll.* FROM poll, clock WHERE instant >= now - {_WEEK + 2 * _DAY}) AS recent
    ASOF JOIN opening ON recent.store_id = opening.store_id AND recent.instant >= opening.opened
    WHERE instant < closed),
spoken AS (
    SELECT store_id, active,
        greatest(coalesce((instant + lag(instant) OVER opened_polls) / 2, opened), instant - {_DAY}) AS since,
        least(coalesce((instant + lead(instant) OVER opened_polls) / 2, closed), instant + {_DAY}) AS until
    FROM evidence WINDOW opened_polls AS (PARTITION BY store_id, opened ORDER BY instant)),
cut AS (SELECT store_id, active, since, least(until, now) AS until, now FROM spoken, clock)
SELECT store_id,
    {_CELLS}
FROM store LEFT JOIN cut USING (store_id) GROUP BY store_id ORDER BY store_id
"""


def load(fleet: Path, database: Path) -> float:
    """Seconds to load a fleet into a new database file."""
    database.unlink(missing_ok=True)
    started = time.perf_counter()
    with duckdb.connect(str(database)) as connection:
        connection.execute(_LOAD.format(fleet=fleet))
    return time.perf_counter() - started


def report(connection: duckdb.DuckDBPyConnection, out: Path) -> float:
    """Seconds to write the report."""
    started = time.perf_counter()
    connection.execute(f"COPY ({_REPORT}) TO '{out}' (HEADER)")
    return time.perf_counter() - started


def _say(seconds: float) -> None:
    print(json.dumps({"seconds": seconds, "peak_mb": round(processes.peak_mb("self"))}), flush=True)


def main(command: str, first: str, second: str) -> None:
    """The command line of the module's text."""
    if command == "load":
        _say(load(Path(first), Path(second)))
        return
    with duckdb.connect(first) as connection:
        if command == "report":
            _say(report(connection, Path(second)))
            return
        for line in sys.stdin:
            if line.startswith("INSERT"):
                connection.execute(line)
            _say(report(connection, Path(second)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
