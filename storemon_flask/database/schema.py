"""The schema, its migrations (the first release is migration 1), and the comparison of a file's schema with it."""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from typing import Final, Protocol

from storemon_flask.errors import DatabaseError

_TABLES: Final = """
-- The view `store` shows these rows in readable units.
CREATE TABLE store_record (
    number INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL UNIQUE,
    first_poll_us INTEGER,
    last_poll_us INTEGER,
    name TEXT NOT NULL DEFAULT '',
    group_name TEXT NOT NULL DEFAULT '',
    -- Brand, region, platform and tags by name as JSON (labels.py knows the order); empty for none.
    labels TEXT NOT NULL DEFAULT '' CHECK (labels = '' OR json_valid(labels)),
    -- The load that made the store; NULL until that load is recorded, 0 when it was pruned.
    created_load INTEGER
) STRICT;

CREATE INDEX store_not_recorded ON store_record (number) WHERE created_load IS NULL;

-- Polls in packed weeks: one row per week and store, `polls` an array of big-endian 64-bit integers, ascending,
-- each timestamp_us * 2 + (1 when active). Weeks count from 1970-01-01 UTC. The view `poll` unpacks them.
CREATE TABLE poll_week (
    week INTEGER NOT NULL,
    store INTEGER NOT NULL REFERENCES store_record (number),
    polls BLOB NOT NULL,
    PRIMARY KEY (week, store)
) STRICT, WITHOUT ROWID;

-- Weekly hours, seconds after local midnight; day 0 is Monday. They hold from a local date, in days since 1970-01-01,
-- until the store's next version; -1000000: no date.
CREATE TABLE hours (
    store INTEGER NOT NULL REFERENCES store_record (number),
    valid_from INTEGER NOT NULL,
    day INTEGER NOT NULL CHECK (day BETWEEN 0 AND 6),
    start_s INTEGER NOT NULL CHECK (start_s BETWEEN 0 AND 86399),
    end_s INTEGER NOT NULL CHECK (end_s BETWEEN 0 AND 86400),
    PRIMARY KEY (store, valid_from, day, start_s, end_s)
) STRICT, WITHOUT ROWID;

-- What replaces the weekly hours on one local date; -1 and -1: closed all day.
CREATE TABLE special_hours (
    store INTEGER NOT NULL REFERENCES store_record (number),
    date INTEGER NOT NULL,
    start_s INTEGER NOT NULL CHECK (start_s BETWEEN -1 AND 86399),
    end_s INTEGER NOT NULL CHECK (end_s BETWEEN -1 AND 86400),
    PRIMARY KEY (store, date, start_s, end_s),
    CHECK ((start_s = -1) = (end_s = -1))
) STRICT, WITHOUT ROWID;

CREATE TABLE timezone (
    store INTEGER NOT NULL REFERENCES store_record (number),
    valid_from INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (store, valid_from)
) STRICT, WITHOUT ROWID;

-- One row per load-data or push, one per file of it. `notes` are of the load as a whole; those of a file are its own.
-- An undo is a load, too: `undoes` is the one it undid, and that one's `undone_by` is the undo, as long as the undo is
-- not undone. `undo_bytes` is how much is kept for undoing it; once that was dropped, `undo_dropped_us` says when, and
-- `undo_dropped` why.
CREATE TABLE load (
    id INTEGER PRIMARY KEY,
    started_us INTEGER NOT NULL,
    notes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notes)),
    undoes INTEGER CHECK (undoes BETWEEN 1 AND id - 1),
    undone_by INTEGER CHECK (undone_by > id),
    undo_bytes INTEGER NOT NULL DEFAULT 0 CHECK (undo_bytes BETWEEN 0 AND 1099511627776),
    undo_dropped_us INTEGER,
    undo_dropped TEXT CHECK (undo_dropped IN ('old', 'room', 'pruned')),
    CHECK ((undo_dropped_us IS NULL) = (undo_dropped IS NULL))
) STRICT;

CREATE INDEX load_undone ON load (undone_by) WHERE undone_by IS NOT NULL;

-- What a load did to the polls of some stores in one week (database/poll_changes.py knows the format), in the order in
-- which it did that.
CREATE TABLE poll_change (
    load INTEGER NOT NULL REFERENCES load (id),
    week INTEGER NOT NULL,
    part INTEGER NOT NULL,
    changes BLOB NOT NULL,
    PRIMARY KEY (load, week, part)
) STRICT, WITHOUT ROWID;

CREATE INDEX poll_change_week ON poll_change (week, load);

-- What a load brought of hours, special hours, zones and names, by store and date; `before`: the rows of before where
-- it changed them, NULL for none. `day` is the date as in the table of the feed; 0 for names, and for `removal`: that
-- the load removed the store.
CREATE TABLE fact_change (
    load INTEGER NOT NULL REFERENCES load (id),
    feed TEXT NOT NULL CHECK (feed IN ('hours', 'special_hours', 'timezones', 'stores', 'removal')),
    store INTEGER NOT NULL,
    day INTEGER NOT NULL,
    changed INTEGER NOT NULL CHECK (changed IN (0, 1)),
    before TEXT CHECK (before IS NULL OR json_valid(before)),
    PRIMARY KEY (load, feed, store, day)
) STRICT, WITHOUT ROWID;

-- Stores that a load removed, while that can be undone: a number means one store for as long as it is kept.
CREATE TABLE removed_store (
    number INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL UNIQUE,
    removed_by INTEGER NOT NULL REFERENCES load (id),
    created_load INTEGER NOT NULL
) STRICT;

CREATE INDEX removed_store_load ON removed_store (removed_by);

CREATE TABLE load_file (
    id INTEGER PRIMARY KEY,
    load INTEGER NOT NULL REFERENCES load (id),
    file TEXT NOT NULL,
    feed TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    loaded_us INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    new_count INTEGER NOT NULL,
    changed_count INTEGER NOT NULL,
    unchanged_count INTEGER NOT NULL,
    repeated_count INTEGER NOT NULL,
    rejected_count INTEGER NOT NULL,
    reasons TEXT NOT NULL CHECK (json_valid(reasons)),
    notes TEXT NOT NULL CHECK (json_valid(notes)),
    error TEXT NOT NULL,
    CHECK (row_count = new_count + changed_count + unchanged_count + repeated_count + rejected_count)
) STRICT;

CREATE INDEX load_file_load ON load_file (load);

-- When something of each feed was last loaded.
CREATE INDEX load_file_newest ON load_file (feed, loaded_us) WHERE error = '';

CREATE TABLE reject (
    load_file INTEGER NOT NULL REFERENCES load_file (id),
    line INTEGER NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX reject_load_file ON reject (load_file);

-- What reports ask (shape, stores) and what came of them (method, altered texts): each text once, however many reports
-- have it. What every list reads stands before what may be long.
CREATE TABLE report_text (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    byte_count INTEGER NOT NULL CHECK (byte_count BETWEEN 0 AND 1099511627776),
    store_count INTEGER,
    first_stores TEXT,
    small TEXT,
    large TEXT
) STRICT;

CREATE TABLE report (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'complete', 'failed', 'deleted')),
    as_of_us INTEGER NOT NULL,
    -- Whether the as-of was asked for; otherwise it is that of the newest poll of then.
    as_of_asked INTEGER NOT NULL DEFAULT 0 CHECK (as_of_asked IN (0, 1)),
    columns TEXT NOT NULL,
    query_text INTEGER REFERENCES report_text (number),
    outcome_text INTEGER REFERENCES report_text (number),
    -- A hash of all that is asked but the as-of, and the version of the data: where these and the as-of are equal, the
    -- reports are.
    query_digest TEXT,
    data_version INTEGER,
    requested_us INTEGER NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    next_try_us INTEGER,
    deleted_us INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- How often the server died while it computed this.
    died INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    error TEXT,
    -- What went wrong at the last try that was not the last.
    last_error TEXT,
    row_count INTEGER,
    byte_count INTEGER,
    sha256 TEXT,
    -- Why a deleted one was deleted.
    gone TEXT CHECK (gone IN ('asked', 'old', 'room'))
) STRICT;

CREATE INDEX report_state ON report (state);

CREATE INDEX report_newest ON report (requested_us, id) WHERE state <> 'deleted';

CREATE INDEX report_waiting ON report (query_digest, as_of_us, query_text) WHERE state = 'pending';

CREATE INDEX report_equal ON report (query_digest, as_of_us, finished_us) WHERE query_digest IS NOT NULL;

CREATE INDEX report_latest ON report (query_digest, as_of_asked, finished_us) WHERE query_digest IS NOT NULL;

CREATE INDEX report_query ON report (query_text) WHERE query_text IS NOT NULL;

CREATE INDEX report_outcome ON report (outcome_text) WHERE outcome_text IS NOT NULL;

-- `version` counts up with every change of the feeds, `schedule` with those of stores, hours and zones: equal numbers
-- mean equal data. Polls before `complete_from_us` were pruned: nothing is known of that time. NULL: none were pruned.
CREATE TABLE data_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    schedule INTEGER NOT NULL DEFAULT 0,
    complete_from_us INTEGER,
    -- Loads up to that number cannot be undone any more; the sum of `undo_bytes` of the others.
    undo_dropped_load INTEGER NOT NULL DEFAULT 0,
    undo_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO data_version (id, version) VALUES (1, 0);

-- Sums of local days that are over, by store and block of 32 days from 1970 on (database/day_sums.py knows the format):
-- `days` has a bit for each day that is there. All rows may be deleted at any time: they are computed again.
CREATE TABLE day_sum (
    block INTEGER NOT NULL,
    store INTEGER NOT NULL,
    -- A hash of what the sums follow from besides the polls, such as hours, zone and rules.
    basis INTEGER NOT NULL,
    days INTEGER NOT NULL CHECK (days BETWEEN 1 AND 4294967295),
    sums BLOB NOT NULL,
    PRIMARY KEY (block, store)
) STRICT, WITHOUT ROWID;

-- A poll of before `settled_us` that is added, changed or taken out drops the sums of the days up to `margin_us` around
-- it, and `token` becomes another: who computes sums meanwhile must not store them.
CREATE TABLE day_sum_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    settled_us INTEGER NOT NULL DEFAULT 0,
    margin_us INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO day_sum_state (id) VALUES (1);

-- Keys for the HTTP interface: what is stored cannot be turned back into the key.
CREATE TABLE api_key (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    label TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

-- Tokens of push addresses: each may add polls of one store, which need not be there yet, and nothing else.
CREATE TABLE push_token (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    store_id TEXT NOT NULL,
    label TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

-- What is or was wrong with a store, a group, a zone or the fleet; at most one of a kind is open for one subject.
-- `since_us` is when it began, and polls that come late may move it; `opened_us` and `resolved_us` are when that was
-- found out.
-- `business_us`: the business time it has lasted, as of the last change; `announced_us`: `since_us` as the first
-- message said it.
CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (
        kind IN ('down', 'not_opened', 'stale', 'blind', 'many_down', 'unstable', 'feed')
    ),
    scope TEXT NOT NULL CHECK (scope IN ('store', 'group', 'zone', 'fleet')),
    -- The id of the store, the name of the group or zone; empty for the fleet.
    subject TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    resolved_us INTEGER,
    ended_us INTEGER,
    outcome TEXT CHECK (outcome IN ('over', 'closed', 'corrected', 'unknown', 'removed')),
    business_us INTEGER NOT NULL DEFAULT 0,
    announced_us INTEGER,
    details TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details)),
    CHECK ((resolved_us IS NULL) = (outcome IS NULL) AND (resolved_us IS NULL) = (ended_us IS NULL))
) STRICT;

CREATE UNIQUE INDEX incident_open ON incident (kind, scope, subject) WHERE resolved_us IS NULL;

CREATE INDEX incident_subject ON incident (subject, scope, opened_us);

-- Where messages go. `address` may hold passwords, `secret` signs webhooks: neither is ever shown. A removed channel
-- stays for the log of deliveries. `filters`: kinds, groups and stores; none means all.
CREATE TABLE channel (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('email', 'webhook', 'apprise', 'folder')),
    address TEXT NOT NULL,
    secret TEXT,
    filters TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(filters)),
    -- `08:00 America/New_York`: once a day; NULL: at once.
    digest TEXT,
    -- `22:00-08:00 America/New_York`: nothing is sent then.
    quiet TEXT,
    created_us INTEGER NOT NULL,
    -- Switched off by the receiver's answer 410.
    disabled_us INTEGER,
    disabled_reason TEXT,
    removed_us INTEGER
) STRICT;

CREATE UNIQUE INDEX channel_name ON channel (name) WHERE removed_us IS NULL;

-- A message, written whole when it is due, with what it says as JSON. It goes out with its id, the same at every try.
-- Those of a channel go out in the order of their numbers, whatever the clock was when they were written.
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    channel INTEGER NOT NULL REFERENCES channel (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('incidents', 'digest', 'report', 'test')),
    state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    created_us INTEGER NOT NULL,
    content TEXT NOT NULL CHECK (json_valid(content)),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try_us INTEGER NOT NULL,
    finished_us INTEGER,
    error TEXT
) STRICT;

CREATE INDEX message_waiting ON message (channel, number) WHERE state IN ('pending', 'sending');

CREATE INDEX message_channel ON message (channel, created_us);

CREATE INDEX message_finished ON message (finished_us) WHERE finished_us IS NOT NULL;

-- What a channel is to be told, from the transaction that changed the incident on; `message` once it is in one.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL REFERENCES channel (id),
    incident INTEGER NOT NULL REFERENCES incident (id),
    event TEXT NOT NULL CHECK (event IN ('opened', 'resolved')),
    made_us INTEGER NOT NULL,
    message TEXT REFERENCES message (id),
    UNIQUE (incident, channel, event)
) STRICT;

CREATE INDEX notice_waiting ON notice (channel, made_us) WHERE message IS NULL;

CREATE INDEX notice_message ON notice (message) WHERE message IS NOT NULL;

-- Every try to deliver a message.
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    message TEXT NOT NULL REFERENCES message (id),
    started_us INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    delivered INTEGER NOT NULL CHECK (delivered IN (0, 1)),
    -- The answer's code, where there was one, and its first 200 characters, or what went wrong.
    code INTEGER,
    answer TEXT NOT NULL
) STRICT;

CREATE INDEX delivery_message ON delivery (message);

-- Reports that are made by themselves. `query` is the body of POST /trigger_report without its as-of.
CREATE TABLE schedule (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    due TEXT NOT NULL,
    zone TEXT NOT NULL,
    query TEXT NOT NULL CHECK (json_valid(query)),
    format TEXT NOT NULL CHECK (format IN ('csv', 'xlsx')),
    -- Stores below this percentage are counted in the subject of its mail.
    below_hundredths INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    next_us INTEGER NOT NULL,
    removed_us INTEGER
) STRICT;

CREATE UNIQUE INDEX schedule_name ON schedule (name) WHERE removed_us IS NULL;

CREATE TABLE schedule_channel (
    schedule INTEGER NOT NULL REFERENCES schedule (id),
    channel INTEGER NOT NULL REFERENCES channel (id),
    PRIMARY KEY (schedule, channel)
) STRICT, WITHOUT ROWID;

-- Every time a schedule was due: what became of it. `skipped`: the machine slept, and a later one was run. `report` is
-- what was asked for, `summary_report` the one with all columns and totals that its mail quotes, often the same.
CREATE TABLE schedule_run (
    id INTEGER PRIMARY KEY,
    schedule INTEGER NOT NULL REFERENCES schedule (id),
    due_us INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'computing', 'done', 'failed', 'skipped')),
    report TEXT,
    summary_report TEXT,
    -- Somebody asked for it: it does not wait for data.
    by_hand INTEGER NOT NULL DEFAULT 0 CHECK (by_hand IN (0, 1)),
    -- Since when it waits: that may be long after it was due.
    started_us INTEGER NOT NULL,
    finished_us INTEGER,
    note TEXT NOT NULL DEFAULT '',
    UNIQUE (schedule, due_us)
) STRICT;

CREATE INDEX schedule_run_on_its_way ON schedule_run (due_us) WHERE state IN ('waiting', 'computing');

-- Random bytes of this database alone, made when they are first needed.
CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""


def _zeros(count: str) -> str:
    # SQLite has no series of integers in every build: the keys of a list of zeros are one.
    return f"json_each('[0' || replace(hex(zeroblob({count} - 1)), '00', ',0') || ']')"


def _poll_view() -> str:
    """Return the SQL of the view `poll`, which unpacks the weeks with functions of SQLite 3.37: any shell can read it.

    Days come first, so that a condition on `day` limits the weeks that are read, and a poll is matched with its day as
    hexadecimal text, so that only polls of that day are decoded. SQLite has no function from hexadecimal to integer
    before 3.42: ten digits, which hold a day, are summed. The innermost SELECTs end in LIMIT 1, because SQLite would
    merge them and sum the digits again at each use.

    DuckDB parses the view and prints it for SQLite: it knows no JOIN without ON, keeps no column names after the view's
    name, puts parentheses that SQLite refuses around the parts of a UNION (so nothing is recursive), and its `date`
    takes one argument.
    """
    packed = "hex(substr(poll_week.polls, one.key * 8 + 1, 8))"
    digits = " + ".join(
        f"((instr('0123456789ABCDEF', substr(packed, {digit}, 1)) - 1) << {4 * (16 - digit)})" for digit in range(7, 17)
    )
    return f"""
    CREATE VIEW poll AS
    WITH span AS (
        SELECT (SELECT min(week) FROM poll_week) AS first_week, (SELECT max(week) FROM poll_week) AS last_week
    ),
    day AS MATERIALIZED (
        SELECT week, strftime('%Y-%m-%d', number * 86400, 'unixepoch') AS date,
            (number * 172800000000) & 1099511627775 AS begin,
            printf('%016X', number * 172800000000) AS first_packed,
            printf('%016X', number * 172800000000 + 172799999999) AS last_packed
        FROM (
            SELECT first_week + later.key AS week, (first_week + later.key) * 7 + weekday.key AS number
            FROM span
            CROSS JOIN {_zeros("(last_week - first_week + 1)")} AS later
            CROSS JOIN json_each('[0,0,0,0,0,0,0]') AS weekday
        ) AS every_day
        WHERE EXISTS (SELECT 1 FROM poll_week WHERE poll_week.week = every_day.week)
    )
    SELECT store_record.store_id AS store_id,
        (
            SELECT day.date || strftime(' %H:%M:%S', us / 1000000, 'unixepoch') || printf('.%06dZ', us % 1000000)
            FROM (
                SELECT ((({digits}) - day.begin) & 1099511627775) >> 1 AS us
                FROM (SELECT {packed} AS packed) AS eight
                LIMIT 1
            ) AS decoded
        ) AS timestamp_utc,
        CASE instr('02468ACE', substr(hex(substr(poll_week.polls, one.key * 8 + 8, 1)), 2, 1))
            WHEN 0 THEN 'active' ELSE 'inactive'
        END AS status,
        day.date AS day
    FROM day
    CROSS JOIN store_record
    CROSS JOIN poll_week
    CROSS JOIN {_zeros("length(poll_week.polls) / 8")} AS one
    WHERE poll_week.week = day.week AND poll_week.store = store_record.number
    AND {packed} BETWEEN day.first_packed AND day.last_packed
    """


def _date(day: str) -> str:
    return f"CASE WHEN {day} > -1000000 THEN strftime('%Y-%m-%d', {day} * 86400, 'unixepoch') END"


def _time_of_day(second: str) -> str:
    return (
        f"CASE WHEN {second} >= 0 THEN printf('%02d:%02d:%02d', {second} / 3600, {second} / 60 % 60, {second} % 60) END"
    )


def _timestamp(us: str) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%S', {us} / 1000000, 'unixepoch') || printf('.%06dZ', {us} % 1000000)"


def _readable_views() -> tuple[str, ...]:
    """Return the views of stores, hours and zones in units that people read, under the rules of the view `poll`."""
    return (
        f"""
        CREATE VIEW store AS
        SELECT store_id, name, group_name, labels,
            {_timestamp("first_poll_us")} AS first_poll_utc, {_timestamp("last_poll_us")} AS last_poll_utc
        FROM store_record
        """,
        f"""
        CREATE VIEW opening_hours AS
        SELECT store_record.store_id AS store_id, hours.day AS day,
            CASE hours.day WHEN 0 THEN 'Monday' WHEN 1 THEN 'Tuesday' WHEN 2 THEN 'Wednesday' WHEN 3 THEN 'Thursday'
                WHEN 4 THEN 'Friday' WHEN 5 THEN 'Saturday' WHEN 6 THEN 'Sunday' END AS weekday,
            {_time_of_day("hours.start_s")} AS opens, {_time_of_day("hours.end_s")} AS closes,
            {_date("hours.valid_from")} AS valid_from
        FROM hours JOIN store_record ON store_record.number = hours.store
        """,
        f"""
        CREATE VIEW special_opening_hours AS
        SELECT store_record.store_id AS store_id, {_date("special_hours.date")} AS date,
            {_time_of_day("special_hours.start_s")} AS opens, {_time_of_day("special_hours.end_s")} AS closes
        FROM special_hours JOIN store_record ON store_record.number = special_hours.store
        """,
        f"""
        CREATE VIEW store_zone AS
        SELECT store_record.store_id AS store_id, timezone.name AS zone, {_date("timezone.valid_from")} AS valid_from
        FROM timezone JOIN store_record ON store_record.number = timezone.store
        """,
    )


class Executor(Protocol):
    """What migrations work on: a connection to a new file, or sqlite-utils' `Database` of one that is changed."""

    def execute(self, sql: str, /) -> object:
        """Execute one statement."""


def m001_first_release(db: Executor) -> None:
    """The schema of the first release."""
    # `executescript` would commit the transaction that the migration runs in.
    for statement in (*_TABLES.split(";\n"), _poll_view(), *_readable_views()):
        db.execute(statement)


# A released migration is never changed: a new one is added below it. All of them together make a new file.
_Migration = Callable[[Executor], None]
MIGRATIONS: Final[tuple[_Migration, ...]] = (m001_first_release,)
_MIGRATION_SET: Final = "storemon"
_MIGRATIONS_TABLE: Final = "_sqlite_migrations"
# As sqlite-utils makes it.
_MIGRATIONS_SQL: Final = (
    f"CREATE TABLE {_MIGRATIONS_TABLE} (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)",
    f"CREATE UNIQUE INDEX idx_{_MIGRATIONS_TABLE}_migration_set_name ON {_MIGRATIONS_TABLE} (migration_set, name)",
)
# Made by SQLite itself, for AUTOINCREMENT and ANALYZE.
_OF_SQLITE: Final = frozenset({"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"})

# Type, name, name of the table it belongs to, and SQL without what SQLite's versions write differently.
_Entry = tuple[str, str, str, str]


def pending(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the migrations still to be applied, oldest first.

    `DatabaseError` for a file of another program, of a newer storemon, or of one before the first release.
    """
    names = [migration.__name__ for migration in MIGRATIONS]
    applied = _applied(connection)
    if applied is None:
        return names
    if not applied:
        raise DatabaseError(f"{_path(connection)} is another program's database; set STOREMON_DATABASE to another path")
    if names[0] not in applied:
        raise DatabaseError(
            f"{_path(connection)} was made by a storemon from before the first release, and this one does not read it; "
            "to carry it over, run `storemon export FOLDER` with the old version, move the file away, and run "
            "`storemon load-data FOLDER` with this one"
        )
    unknown = sorted(applied - set(names))
    if unknown:
        raise DatabaseError(
            f"{_path(connection)} was made by a newer storemon (it has {unknown[-1]}); "
            "install that version, or set STOREMON_DATABASE to another path"
        )
    return [name for name in names if name not in applied]


def check(connection: sqlite3.Connection) -> bool:
    """Return whether migrations are pending; `DatabaseError` for a file that this program must not use.

    All of it looks at one state of the file: another process may create the schema at this moment.
    """
    connection.execute("SAVEPOINT looking")
    try:
        is_pending = bool(pending(connection))
        refuse_dangerous(connection)
    finally:
        # Some errors of SQLite end a transaction by themselves.
        if connection.in_transaction:
            connection.execute("RELEASE looking")
    return is_pending


def is_of_another_program(connection: sqlite3.Connection) -> bool:
    """Return whether the file has tables, and no migration of storemon made them."""
    return _applied(connection) == set()


def bring_up_to_date(connection: sqlite3.Connection, begin: Callable[[sqlite3.Connection], object]) -> None:
    """Apply all pending migrations or none: one that fails changes nothing. `begin` takes the write lock."""
    if not pending(connection):
        return
    # The lock first: two processes may both have found the same migrations pending. The second then finds none.
    begin(connection)
    try:
        if _applied(connection) is None:
            _make(connection, MIGRATIONS)
        elif pending(connection):
            _migrate(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _make(connection: sqlite3.Connection, migrations: Iterable[_Migration]) -> None:
    """Make in an empty database what those migrations do; sqlite-utils would import pandas for it, for 0.3 s."""
    for statement in _MIGRATIONS_SQL:
        connection.execute(statement)
    for migration in migrations:
        migration(connection)
        connection.execute(
            f"INSERT INTO {_MIGRATIONS_TABLE} (migration_set, name, applied_at) VALUES (?, ?, ?)",
            (_MIGRATION_SET, migration.__name__, str(datetime.now(UTC))),
        )


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply the pending migrations to a file that has tables."""
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations(_MIGRATION_SET)
    for migration in MIGRATIONS:
        migrations()(migration)
    migrations.apply(Database(connection, execute_plugins=False))


def refuse_foreign(connection: sqlite3.Connection) -> None:
    """Raise `DatabaseError` when the schema has anything that this program does not make: for files from elsewhere."""
    for sentence in (*_dangers(connection), *additions(connection)):
        raise DatabaseError(f"{_path(connection)} {sentence}")


def refuse_dangerous(connection: sqlite3.Connection) -> None:
    """Raise `DatabaseError` for a trigger or a changed table, view or index of storemon's: for the database in use."""
    for sentence in _dangers(connection):
        raise DatabaseError(f"{_path(connection)} {sentence}")


def additions(connection: sqlite3.Connection) -> list[str]:
    """Return sentences about tables, views and indexes that somebody added and this program never reads."""
    expected = _expected(frozenset(_applied(connection) or ()))
    return [
        f'has the {kind} {name!r}, which is not storemon\'s; take it out (`DROP {kind.upper()} "{name}"`)'
        for kind, name, _, _ in _entries(connection)
        if kind != "trigger" and name not in expected and name not in _OF_SQLITE
    ]


def _dangers(connection: sqlite3.Connection) -> Iterator[str]:
    expected = _expected(frozenset(_applied(connection) or ()))
    present = set()
    for entry in _entries(connection):
        kind, name, _, _ = entry
        if kind == "trigger":
            yield (
                f"has the trigger {name!r}, which is not storemon's and could change what is stored; "
                f'look at what it did, then take it out (`DROP TRIGGER "{name}"`), or use another backup'
            )
        elif name in present:
            yield f"has {name!r} twice; use another backup"
        elif name in expected and entry != expected[name]:
            yield f"has the {kind} {name!r} in another form than storemon makes it; use another backup"
        elif name.startswith("sqlite_") and name not in expected and (name not in _OF_SQLITE or kind != "table"):
            yield f"has the {kind} {name!r}, which SQLite does not make here; use another backup"
        present.add(name)
    for name in sorted(set(expected) - present):
        yield f"has no {expected[name][0]} {name!r}, which every database of storemon's has; use another backup"


def _entries(connection: sqlite3.Connection) -> list[_Entry]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return [(str(kind), str(name), str(table), _plain(sql)) for kind, name, table, sql in rows]


def _plain(sql: object) -> str:
    """Return the statement without quotes around names and with single spaces."""
    if not isinstance(sql, str):
        return ""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql.replace('"', ""))).strip()


def _applied(connection: sqlite3.Connection) -> set[str] | None:
    """Return the migrations that made the file, none for another program's; None for a file without a table."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if _MIGRATIONS_TABLE not in tables:
        return set()
    rows = connection.execute(f"SELECT name FROM {_MIGRATIONS_TABLE} WHERE migration_set = ?", [_MIGRATION_SET])
    return {name for (name,) in rows}


@cache
def _expected(applied: frozenset[str]) -> dict[str, _Entry]:
    """Return what those migrations make, by name."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        if applied:
            _make(connection, [migration for migration in MIGRATIONS if migration.__name__ in applied])
        return {entry[1]: entry for entry in _entries(connection)}


def _path(connection: sqlite3.Connection) -> str:
    return next((file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"), "")
