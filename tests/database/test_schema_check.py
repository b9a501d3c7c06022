"""Files whose schema is not the one this program makes: refused in a sentence before anything in them is read."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import sql
from restore_helpers import NOW_US
from restore_helpers import backup as backup

from storemon_flask.database import backup as copies
from storemon_flask.database import check
from storemon_flask.database import copies as stored_copies
from storemon_flask.database.db import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.reports import queue
from storemon_flask.settings import Settings

KEY_COMES_BACK = "CREATE TRIGGER back AFTER UPDATE ON data_version BEGIN UPDATE api_key SET revoked_us = NULL; END"
ENDLESS = "CREATE VIEW later AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def spoil(file: Path, how: str) -> None:
    """Make the file foreign in one way."""
    scripts = {
        "trigger": KEY_COMES_BACK,
        "view": ENDLESS,
        "table": "CREATE TABLE theirs (x)",
        "index": "CREATE INDEX theirs ON report (error)",
        "changed view": "DROP VIEW store; CREATE VIEW store AS SELECT 1 AS store_id",
        "view for a table": "ALTER TABLE secret RENAME TO gone; CREATE VIEW secret AS SELECT * FROM gone",
        "missing table": "DROP TABLE secret",
        "view for the steps": (
            "ALTER TABLE _sqlite_migrations RENAME TO steps; CREATE VIEW _sqlite_migrations AS SELECT * FROM steps"
        ),
        "changed table": (
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'value BLOB', 'value TEXT') "
            "WHERE name = 'secret'"
        ),
    }
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(scripts[how])


CASES = [
    ("trigger", "has the trigger 'back'"),
    ("view", "has the view 'later', which is not storemon's"),
    ("table", "has the table 'theirs', which is not storemon's"),
    ("index", "has the index 'theirs', which is not storemon's"),
    ("changed view", "has the view 'store' in another form"),
    ("view for a table", "has the view 'secret' in another form"),
    ("missing table", "has no table 'secret'"),
    ("view for the steps", "is another program's database"),
    ("changed table", "has the table 'secret' in another form"),
]


@pytest.mark.parametrize(("how", "sentence"), CASES)
def test_restore_refuses_a_schema_that_is_not_ours_and_changes_nothing(
    backup: Path, settings: Settings, how: str, sentence: str
) -> None:
    spoil(backup, how)
    before = settings.database.read_bytes()
    with pytest.raises(DatabaseError, match=sentence):
        copies.restore(settings.database, backup, NOW_US)
    assert settings.database.read_bytes() == before


@pytest.mark.parametrize(("how", "sentence"), [case for case in CASES if case[0] not in ("view", "table", "index")])
def test_the_database_in_use_is_refused_with_triggers_or_changed_tables(
    backup: Path, settings: Settings, how: str, sentence: str
) -> None:
    spoil(settings.database, how)
    with pytest.raises(DatabaseError, match=sentence):
        check.run(settings)
    with pytest.raises(DatabaseError, match=sentence), Database(settings.database).read():
        pass
    with pytest.raises(DatabaseError, match=sentence), Database(settings.database).write():
        pass


@pytest.mark.parametrize("how", ["view", "table", "index"])
def test_what_somebody_added_to_the_database_in_use_is_a_note(backup: Path, settings: Settings, how: str) -> None:
    spoil(settings.database, how)
    checked = check.run(settings)
    assert checked.problems == 0
    assert [note for note in checked.notes if f"has the {how} " in note and "not storemon's" in note]


def test_what_sqlite_makes_for_itself_is_accepted(backup: Path, settings: Settings) -> None:
    sql(backup, "ANALYZE")
    assert copies.restore(settings.database, backup, NOW_US).sums.stores > 0
    assert check.run(settings).problems == 0


def test_reading_ends_when_the_time_of_a_file_of_its_size_is_over(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_copies, "READ_S", 0.2)
    begun = time.monotonic()
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with (
        pytest.raises(DatabaseError, match="much longer than a file of its size takes"),
        stored_copies.looking(backup) as connection,
    ):
        connection.execute(endless).fetchone()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("report_id", ["../../etc/passwd", "/etc/passwd", "a" * 31, "A" * 32, "0" * 32 + "\n"])
def test_an_id_that_storemon_does_not_make_names_no_file(tmp_path: Path, report_id: str) -> None:
    with pytest.raises(DatabaseError, match="is no id that storemon makes"):
        queue.path(tmp_path, report_id)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE load_file SET reasons = '[1]' WHERE id = 1", "load_file: row 1 has in reasons JSON of another form"),
        ('UPDATE load_file SET reasons = \'{"a": "b"}\' WHERE id = 1', "row 1 has in reasons JSON of another form"),
        ("UPDATE load SET notes = '7' WHERE id = 1", "load: row 1 has in notes JSON of another form"),
        ("UPDATE load_file SET file = CAST(x'ff41' AS TEXT) WHERE id = 1", "row 1 has in file text that is not UTF-8"),
        (
            "INSERT INTO report (id, state, as_of_us, columns, requested_us) VALUES ('../../x', 'failed', 0, 'basic', 0)",
            "report: row 1 has in id an id that storemon does not make",
        ),
    ],
)
def test_values_that_storemon_does_not_write_are_named(
    backup: Path, settings: Settings, statement: str, sentence: str
) -> None:
    sql(backup, statement)
    with pytest.raises(DatabaseError, match=sentence):
        copies.restore(settings.database, backup, NOW_US)
    sql(settings.database, statement)
    part = next(part for part in check.run(settings).parts if part.name == "texts and their forms")
    assert any(sentence in problem for problem in part.problems)
