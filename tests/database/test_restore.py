"""`storemon restore`: a checked backup in the database's place, the old one kept."""

import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import STOREMON, Server, environment, sql, storemon
from database_helpers import KEPT, NOW_US, content
from database_helpers import backup as backup
from kill_helpers import killed_at

from database.test_backup import dump
from storemon_flask.database import backup as copies
from storemon_flask.database import stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings


def version(file: Path) -> tuple[int, int]:
    found: tuple[int, int] = sql(file, "SELECT version, schedule FROM data_version")[0]  # type: ignore[assignment]
    return found


def test_a_restore_puts_the_backup_in_place_and_keeps_what_was_there(backup: Path, settings: Settings) -> None:
    present, before = dump(settings.database), version(settings.database)
    done = storemon(settings.home, "restore", str(backup), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    kept = [file for file in settings.database.parent.iterdir() if ".before-restore-" in file.name]
    assert done.stdout == (f"{settings.database}: 4 stores, 4 polls\nWhat was there before is kept in {kept[0]}\n")
    assert dump(kept[0]) == present
    assert content(settings.database) == content(backup)
    # Equal numbers mean equal data, also after this.
    assert all(
        now > max(old, then) for now, old, then in zip(version(settings.database), before, version(backup), strict=True)
    )


def test_the_kept_database_can_be_restored_in_turn(backup: Path, settings: Settings) -> None:
    before = content(settings.database)
    _, first = copies.restore(settings.database, backup, NOW_US)
    assert first is not None
    assert first.name == KEPT
    _, second = copies.restore(settings.database, first, NOW_US)
    assert second is not None
    assert second.name == KEPT + "-2"
    assert content(settings.database) == before


def test_a_restore_where_there_is_no_database_makes_one(backup: Path, settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "instance" / "storemon.db"
    assert copies.restore(elsewhere, backup, NOW_US)[1] is None
    assert content(elsewhere) == content(backup)
    assert version(elsewhere) == version(backup)
    # A log that was left without its database must not become one of this.
    elsewhere.unlink()
    elsewhere.with_name("storemon.db-wal").write_bytes(b"stale" * 10_000)
    copies.restore(elsewhere, backup, NOW_US)
    assert content(elsewhere) == content(backup)
    assert sorted(file.name for file in elsewhere.parent.iterdir()) == ["storemon.db"]


def test_a_restore_asks_and_without_somebody_to_answer_refuses(backup: Path, settings: Settings) -> None:
    before = dump(settings.database)
    done = subprocess.run(
        [*STOREMON, "restore", str(backup)],
        env=environment(settings.home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert dump(settings.database) == before


def test_a_restore_is_refused_while_a_server_runs(server: Server, settings: Settings, tmp_path: Path) -> None:
    copies.backup(settings.database, tmp_path / "b.db")
    done = storemon(settings.home, "restore", str(tmp_path / "b.db"), "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"another storemon server (process {server.process.pid}) serves {settings.database}" in done.stderr
    assert server.get("/healthz").status == 200


def test_a_restore_waits_for_other_commands_and_gives_up_in_a_sentence(
    backup: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PATIENCE_S", 0.3)
    before = dump(settings.database)
    with closing(sqlite3.connect(settings.database)) as other:
        other.execute("SELECT count(*) FROM store_record").fetchone()
        with pytest.raises(DatabaseError, match=r"another program still has .* open; nothing was restored"):
            copies.restore(settings.database, backup, NOW_US)
    assert dump(settings.database) == before
    assert [file.name for file in settings.database.parent.iterdir() if "before" in file.name] == []
    copies.restore(settings.database, backup, NOW_US)
    assert content(settings.database) == content(backup)


def spoiled(backup: Path, how: str) -> None:
    if how == "no database":
        backup.write_bytes(b"store_id,timestamp_utc,status\n" * 1000)
    elif how == "another program's":
        backup.unlink()
        sql(backup, "CREATE TABLE theirs (x)")
    elif how == "newer":
        sql(
            backup,
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('storemon', 'm999_later', '')",
        )
    elif how == "unreleased":
        sql(backup, "UPDATE _sqlite_migrations SET name = 'm001_first_schema'")
    elif how == "empty":
        backup.write_bytes(b"")
    elif how == "cut":
        backup.write_bytes(backup.read_bytes()[: 3 * 16_384])
    else:
        (root,) = sql(backup, "SELECT rootpage FROM sqlite_master WHERE name = 'hours'")[0]
        data = bytearray(backup.read_bytes())
        data[(root - 1) * 16_384 : root * 16_384] = bytes(16_384)
        backup.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("no database", "is no backup: it is not an SQLite database\n"),
        ("another program's", "is another program's database"),
        ("newer", "was made by a newer storemon (it has m999_later)"),
        ("unreleased", "was made by a storemon from before the first release, and this one does not read it; to carry"),
        ("empty", "is empty"),
        ("cut", "is damaged"),
        ("a zeroed page", "is damaged"),
    ],
)
def test_what_is_no_good_backup_is_refused_and_nothing_changes(
    backup: Path, settings: Settings, how: str, sentence: str
) -> None:
    before = dump(settings.database)
    spoiled(backup, how)
    done = storemon(settings.home, "restore", str(backup), "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: {backup} {sentence}" in done.stderr
    assert dump(settings.database) == before
    assert [file.name for file in settings.database.parent.iterdir() if "restor" in file.name] == []


def test_a_missing_backup_and_the_database_itself_are_refused(backup: Path, settings: Settings, tmp_path: Path) -> None:
    missing = storemon(settings.home, "restore", str(tmp_path / "no.db"), "--yes")
    assert (missing.returncode, missing.stderr) == (1, f"Error: there is no database at {tmp_path / 'no.db'}\n")
    itself = storemon(settings.home, "restore", str(settings.database), "--yes")
    assert (itself.returncode, itself.stdout) == (1, "")
    assert "is the database itself" in itself.stderr


def test_another_programs_database_is_not_overwritten(backup: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    sql(theirs, "CREATE TABLE theirs (x)")
    with pytest.raises(DatabaseError, match="is another program's database"):
        copies.restore(theirs, backup, NOW_US)
    assert sql(theirs, "SELECT name FROM sqlite_master") == [("theirs",)]


@pytest.mark.parametrize("how", ["a zeroed page", "cut", "no database", "empty"])
def test_a_damaged_database_is_replaced_and_kept_as_it_was(backup: Path, settings: Settings, how: str) -> None:
    sql(settings.database, "PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        settings.database.with_name(settings.database.name + suffix).unlink(missing_ok=True)
    spoiled(settings.database, how)
    before = settings.database.read_bytes()
    _, replaced_file = copies.restore(settings.database, backup, NOW_US)
    assert content(settings.database) == content(backup)
    if how == "empty":
        return
    assert replaced_file is not None
    if how == "a zeroed page":
        # Copied page by page: only what SQLite counts at every write differs.
        assert replaced_file.read_bytes()[16_384:] == before[16_384:]
    else:
        assert replaced_file.read_bytes() == before
    assert storemon(settings.home, "check").returncode == 0


def test_a_backup_with_pages_of_another_size_is_restored(backup: Path, settings: Settings) -> None:
    sql(backup, "PRAGMA user_version")
    with closing(sqlite3.connect(backup, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("VACUUM")
    copies.restore(settings.database, backup, NOW_US)
    assert content(settings.database) == content(backup)
    assert sql(settings.database, "PRAGMA page_size") == [(16_384,)]


def test_an_open_database_of_this_process_sees_the_restored_content(
    backup: Path, settings: Settings, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "e" / "storemon.db"
    copies.restore(elsewhere, backup, NOW_US)
    reader = Database(elsewhere)
    with reader.read() as connection:
        first = stores.all_rows(connection).ids
    reader.close()
    sql(backup, "UPDATE store_record SET store_id = 'renamed' WHERE store_id = 'silent'")
    copies.restore(elsewhere, backup, NOW_US)
    with reader.read() as connection:
        assert sorted(stores.all_rows(connection).ids) == sorted({*first, "renamed"} - {"silent"})
    reader.close()


POINTS = {
    "before anything is touched": "copies._swap = stop",
    "while the old one is kept": "import storemon_flask.database.files as f\n"
    "put = f.put\nf.put = lambda a, b: stop() if 'before-restore' in b.name else put(a, b)",
    "between keeping and writing": "copies._continue_versions = stop",
    "in the middle of the pages": "import sqlite3\nclass Slow(sqlite3.Connection):\n"
    "    def backup(self, target, **k):\n"
    "        if k.get('pages') == -1: super().backup(target, "
    "pages=2, progress=lambda s, left, n: left < n // 2 and stop())\n"
    "        else: super().backup(target, **k)\n"
    "connect = sqlite3.connect\nsqlite3.connect = lambda *a, **k: connect(*a, **{'factory': Slow, **k})",
}


RESTORE = """
import pathlib
from storemon_flask.database import backup as copies
exec(sys.argv[1])
copies.restore(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), 1_730_000_000_000_000, lambda done, pages: done == pages == 1 and stop())
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_restore_that_is_killed_before_its_end_leaves_the_old_database(
    point: str, backup: Path, settings: Settings
) -> None:
    before = dump(settings.database)
    killed_at(settings.home, RESTORE, POINTS[point], settings.database, backup)
    assert dump(settings.database) == before
    assert storemon(settings.home, "check").returncode == 0
    copies.restore(settings.database, backup, NOW_US + 5_000_000)
    assert content(settings.database) == content(backup)
    assert list(settings.database.parent.glob(".*.tmp*")) == []


def test_a_restore_that_is_killed_after_its_end_has_happened(backup: Path, settings: Settings) -> None:
    before = dump(settings.database)
    killed_at(settings.home, RESTORE, "", settings.database, backup)
    assert content(settings.database) == content(backup)
    assert dump(settings.database.with_name(KEPT)) == before
    assert storemon(settings.home, "check").returncode == 0


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_old_or_the_new(backup: Path, settings: Settings, database: Database) -> None:
    with database.write() as connection:
        # 30 MB in a table that nothing else reads.
        connection.executemany("INSERT INTO secret VALUES (hex(randomblob(16)), randomblob(10000))", [()] * 3000)
    database.close()
    large = backup.with_name("large.db")
    copies.backup(settings.database, large)
    chance, ended = random.Random(7), {"old": 0, "new": 0}
    files = (large, backup)
    # How long one takes here and now: some kills are to come before its end and some after it.
    whole_s = {}
    for target in files:
        began = time.monotonic()
        assert storemon(settings.home, "restore", str(target), "--yes").returncode == 0
        whole_s[target] = time.monotonic() - began
    # The machine may become slower or faster: the next kill comes later after one that came before the end.
    pace = 1.0
    for number in range(40):
        target = files[1 - number % 2]
        old, new = content(settings.database), content(target)
        with subprocess.Popen(
            [*STOREMON, "restore", str(target), "--yes"],
            env=environment(settings.home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(whole_s[target] * pace * chance.uniform(0.3, 1.4))
            process.send_signal(signal.SIGKILL)
        found = content(settings.database)
        assert found in (old, new)
        ended["new" if found == new else "old"] += 1
        pace *= 0.85 if found == new else 1.1
        assert storemon(settings.home, "check").returncode == 0
        for kept in settings.database.parent.glob("*.before-restore-*"):
            kept.unlink()
        if found == new:
            continue
        copies.restore(settings.database, target, NOW_US + number)
    assert ended["old"] > 3, ended
    assert ended["new"] > 3, ended
