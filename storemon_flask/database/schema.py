"""The schema, step by step. A step is never changed once it has been released: a new one is added below it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils import Database

_TABLES: Final = """
CREATE TABLE store (
    number INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL UNIQUE,
    first_poll_us INTEGER,
    last_poll_us INTEGER
) STRICT;

-- Polls in packed weeks: one row per week and store, `polls` an array of big-endian 64-bit integers, ascending,
-- each instant_us * 2 + (1 when active). Weeks count from 1970-01-01 UTC. The view `poll` unpacks them.
CREATE TABLE poll_week (
    week INTEGER NOT NULL,
    store INTEGER NOT NULL REFERENCES store (number),
    polls BLOB NOT NULL,
    PRIMARY KEY (week, store)
) STRICT, WITHOUT ROWID;

-- Weekly hours as written, seconds after local midnight; day 0 is Monday.
CREATE TABLE hours (
    store INTEGER NOT NULL REFERENCES store (number),
    day INTEGER NOT NULL CHECK (day BETWEEN 0 AND 6),
    start_s INTEGER NOT NULL CHECK (start_s BETWEEN 0 AND 86399),
    end_s INTEGER NOT NULL CHECK (end_s BETWEEN 0 AND 86400),
    PRIMARY KEY (store, day, start_s, end_s)
) STRICT, WITHOUT ROWID;

CREATE TABLE timezone (
    store INTEGER PRIMARY KEY REFERENCES store (number),
    name TEXT NOT NULL
) STRICT;

-- One row per load-data or push, one per file of it.
CREATE TABLE load (
    id INTEGER PRIMARY KEY,
    started_us INTEGER NOT NULL
) STRICT;

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

CREATE TABLE reject (
    load_file INTEGER NOT NULL REFERENCES load_file (id),
    line INTEGER NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX reject_load_file ON reject (load_file);

CREATE TABLE report (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'complete', 'failed', 'deleted')),
    as_of_us INTEGER NOT NULL,
    columns TEXT NOT NULL,
    stores TEXT CHECK (stores IS NULL OR json_valid(stores)),
    requested_us INTEGER NOT NULL,
    started_us INTEGER,
    finished_us INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    error TEXT,
    row_count INTEGER,
    byte_count INTEGER,
    sha256 TEXT,
    altered_ids TEXT CHECK (altered_ids IS NULL OR json_valid(altered_ids))
) STRICT;

CREATE INDEX report_state ON report (state);

-- Counts up with every change of the feeds: equal numbers mean equal data.
CREATE TABLE data_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
) STRICT;

INSERT INTO data_version VALUES (1, 0);
"""


def m001_first_schema(db: "Database") -> None:
    """Feeds, loads with rejects, reports."""
    for statement in _statements(_TABLES):
        db.execute(statement)


def m002_schedule_version(db: "Database") -> None:
    """A second version number, of stores, hours and zones alone: polls come every hour, those hardly ever change."""
    db.execute("ALTER TABLE data_version ADD COLUMN schedule INTEGER NOT NULL DEFAULT 0")


_NAMES_AND_KEYS = """
ALTER TABLE store ADD COLUMN name TEXT NOT NULL DEFAULT '';

ALTER TABLE store ADD COLUMN group_name TEXT NOT NULL DEFAULT '';

-- Keys for the HTTP interface: what is kept cannot be turned back into the key.
CREATE TABLE api_key (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    label TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

-- Random bytes of this database alone, made when they are first needed.
CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""


def m003_names_and_keys(db: "Database") -> None:
    """A store's name and group; keys for the HTTP interface."""
    for statement in _statements(_NAMES_AND_KEYS):
        db.execute(statement)


def m004_shapes_of_reports(db: "Database") -> None:
    """What a report of another shape was asked, as it was asked; and by what method a finished one was made."""
    for column in ("shape", "method"):
        db.execute(f"ALTER TABLE report ADD COLUMN {column} TEXT CHECK ({column} IS NULL OR json_valid({column}))")


def m004a_one_table_of_reports(db: "Database") -> None:
    """The table of reports as it was meant: two states of this program made others under the same steps' names.

    The first refused reports of all stores (`json_valid(NULL)` is 0 for some SQLites), the other had no column
    `method`.
    """
    (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'report'").fetchone()
    columns = [name for _, name, *_ in db.execute("PRAGMA table_info(report)")]
    if "method" in columns and "stores IS NULL" in made:
        return
    db.execute("ALTER TABLE report RENAME TO report_before")
    db.execute("DROP INDEX report_state")
    for statement in _statements(_TABLES):
        if "CREATE TABLE report (" in statement or "INDEX report_state" in statement:
            db.execute(statement)
    m004_shapes_of_reports(db)
    kept = ", ".join(columns)
    db.execute(f"INSERT INTO report ({kept}) SELECT {kept} FROM report_before ORDER BY rowid")
    db.execute("DROP TABLE report_before")


_DATED_HOURS: Final = """
-- Weekly hours hold from a local date, in days since 1970-01-01, until the store's next version; -1000000: no date.
CREATE TABLE dated_hours (
    store INTEGER NOT NULL REFERENCES store (number),
    valid_from INTEGER NOT NULL,
    day INTEGER NOT NULL CHECK (day BETWEEN 0 AND 6),
    start_s INTEGER NOT NULL CHECK (start_s BETWEEN 0 AND 86399),
    end_s INTEGER NOT NULL CHECK (end_s BETWEEN 0 AND 86400),
    PRIMARY KEY (store, valid_from, day, start_s, end_s)
) STRICT, WITHOUT ROWID;

INSERT INTO dated_hours SELECT store, -1000000, day, start_s, end_s FROM hours;

DROP TABLE hours;

ALTER TABLE dated_hours RENAME TO hours;

CREATE TABLE dated_timezone (
    store INTEGER NOT NULL REFERENCES store (number),
    valid_from INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (store, valid_from)
) STRICT, WITHOUT ROWID;

INSERT INTO dated_timezone SELECT store, -1000000, name FROM timezone;

DROP TABLE timezone;

ALTER TABLE dated_timezone RENAME TO timezone;

-- What replaces the weekly hours on one local date; -1 and -1: closed all day.
CREATE TABLE special_hours (
    store INTEGER NOT NULL REFERENCES store (number),
    date INTEGER NOT NULL,
    start_s INTEGER NOT NULL CHECK (start_s BETWEEN -1 AND 86399),
    end_s INTEGER NOT NULL CHECK (end_s BETWEEN -1 AND 86400),
    PRIMARY KEY (store, date, start_s, end_s),
    CHECK ((start_s = -1) = (end_s = -1))
) STRICT, WITHOUT ROWID;
"""


def m005_dated_hours(db: "Database") -> None:
    """Hours and zones from a date on; special hours."""
    for statement in _statements(_DATED_HOURS):
        db.execute(statement)


_LIFE_OF_REPORTS = """
-- The report whose computation and file this one shares; NULL for one that was the first to ask. The file bears the first
-- one's id, also when that one is deleted.
ALTER TABLE report ADD COLUMN shares TEXT REFERENCES report (id);

-- What was asked, as a hash, and the version of the data it was asked of: equal ones may share.
ALTER TABLE report ADD COLUMN question TEXT;

ALTER TABLE report ADD COLUMN data_version INTEGER;

-- What went wrong at the last try that failed, and when the next one is due.
ALTER TABLE report ADD COLUMN last_error TEXT;

ALTER TABLE report ADD COLUMN next_try_us INTEGER;

-- How often the server died while it computed this.
ALTER TABLE report ADD COLUMN died INTEGER NOT NULL DEFAULT 0;

-- Of a deleted one: when, and why it is gone.
ALTER TABLE report ADD COLUMN deleted_us INTEGER;

ALTER TABLE report ADD COLUMN gone TEXT CHECK (gone IN ('asked', 'old', 'lost'));

UPDATE report SET died = attempts - 1 WHERE state = 'running' AND attempts > 1;

CREATE INDEX report_shares ON report (shares) WHERE shares IS NOT NULL;

CREATE INDEX report_question ON report (question, data_version) WHERE state IN ('pending', 'running');

CREATE INDEX report_newest ON report (requested_us, id) WHERE state <> 'deleted';
"""


def m006_life_of_reports(db: "Database") -> None:
    """Tries, shared computations and tombstones of reports."""
    for statement in _statements(_LIFE_OF_REPORTS):
        db.execute(statement)


_COMPLETENESS_AND_NOTES = """
-- The view `store` shows these rows in readable units.
ALTER TABLE store RENAME TO store_record;

-- What a load as a whole had to say (about feeds that do not meet, a newest poll that jumped); those of a file are its own.
ALTER TABLE load ADD COLUMN notes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notes));

-- Polls before this instant were pruned: nothing is known of the time before it. NULL: none ever were.
ALTER TABLE data_version ADD COLUMN complete_from_us INTEGER;

-- The same for reports that were asked for alike, whatever the newest poll was then. NULL: of before this was remembered.
ALTER TABLE report ADD COLUMN request_digest TEXT;

-- What reports were asked (shape, stores) and what came of them (method, altered_ids), where that is long: each text once, however
-- many reports have it. What every list reads stands before what may be long.
CREATE TABLE report_text (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    byte_count INTEGER NOT NULL,
    store_count INTEGER,
    first_stores TEXT,
    small TEXT,
    large TEXT
) STRICT;

-- Where these are given, the columns that they stand for are NULL (but for whether an as-of was asked for, in `shape`).
ALTER TABLE report ADD COLUMN asked_text INTEGER REFERENCES report_text (number);

ALTER TABLE report ADD COLUMN outcome_text INTEGER REFERENCES report_text (number);

CREATE INDEX report_asked ON report (asked_text) WHERE asked_text IS NOT NULL;

CREATE INDEX report_outcome ON report (outcome_text) WHERE outcome_text IS NOT NULL;

-- Why a deleted report is gone has one more reason: `room`.
ALTER TABLE report RENAME COLUMN gone TO gone_before;

ALTER TABLE report ADD COLUMN gone TEXT CHECK (gone IN ('asked', 'old', 'lost', 'room'));

UPDATE report SET gone = gone_before;

ALTER TABLE report DROP COLUMN gone_before;

-- When something of each feed was last loaded.
CREATE INDEX load_file_newest ON load_file (feed, loaded_us) WHERE error = '';

CREATE INDEX report_request ON report (request_digest, finished_us) WHERE request_digest IS NOT NULL;
"""


def _zeros(count: str) -> str:
    # SQLite has no series of integers in every build: the keys of a list of zeros are one.
    return f"json_each('[0' || replace(hex(zeroblob({count} - 1)), '00', ',0') || ']')"


def _poll_view() -> str:
    """The SQL of the view `poll`, which unpacks the weeks with functions of SQLite 3.37, so that every shell can read
    it.

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
    """Stores, hours and zones in units that people read, under the same rules as the view `poll`."""
    return (
        f"""
        CREATE VIEW store AS
        SELECT store_id, name, group_name,
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


def m007_completeness_and_notes(db: "Database") -> None:
    """How far back the polls are complete; what a load had to say; which reports were asked for alike; views for
    analysts.
    """
    db.execute("DROP VIEW IF EXISTS poll")
    for statement in _statements(_COMPLETENESS_AND_NOTES):
        db.execute(statement)
    for view in (_poll_view(), *_readable_views()):
        db.execute(view)


def _statements(script: str) -> list[str]:
    # `executescript` would commit the transaction the migration runs in.
    return [part for part in (piece.strip() for piece in script.split(";\n")) if part]


STEPS: Final[tuple[Callable[["Database"], None], ...]] = (
    m001_first_schema,
    m002_schedule_version,
    m003_names_and_keys,
    m004_shapes_of_reports,
    m004a_one_table_of_reports,
    m005_dated_hours,
    m006_life_of_reports,
    m007_completeness_and_notes,
)
