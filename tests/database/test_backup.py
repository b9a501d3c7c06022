"""`storemon backup`: a copy of one moment, verified, whole or not there at all, beside whoever reads and writes."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Server, environment, sql, storemon, wait_until
from kill_helpers import killed_at

from storemon_flask.database import backup, check, loads
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


def test_a_backup_holds_everything_in_one_file(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "backups" / "one.db"
    target.parent.mkdir()
    done = storemon(settings.home, "backup", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    size = target.stat().st_size
    assert done.stdout == f"{target}: {size / 1e6:,.1f} MB, 4 stores, 4 polls; opened and verified\n"
    assert [file.name for file in target.parent.iterdir()] == ["one.db"]
    assert dump(target) == dump(settings.database)
    assert sql(target, "PRAGMA journal_mode") == [("delete",)]
    assert storemon(settings.home, "check", STOREMON_DATABASE=str(target)).returncode == 0


def test_a_backup_beside_a_server_has_what_was_stored_last(server: Server, settings: Settings, tmp_path: Path) -> None:
    from conftest import http

    body = b"store_id,timestamp_utc,status\npushed,2024-10-14 09:00:00 UTC,active\n"
    assert http(server.url + "/api/v1/feeds/polls", "POST", body).status == 200
    done = storemon(settings.home, "backup", str(tmp_path / "b.db"))
    assert done.returncode == 0
    assert "5 stores, 5 polls" in done.stdout
    assert sql(tmp_path / "b.db", "SELECT store_id FROM store_record WHERE store_id = 'pushed'") == [("pushed",)]
    assert server.get("/healthz").status == 200


def test_a_backup_replaces_an_older_one_whole(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    older = Database(target)
    older.prepare()
    older.close()
    backup.backup(settings.database, target)
    assert dump(target) == dump(settings.database)


def test_an_empty_file_may_be_replaced(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "b.db").touch()
    backup.backup(settings.database, tmp_path / "b.db")
    assert dump(tmp_path / "b.db") == dump(settings.database)


@pytest.mark.parametrize("kind", ["text", "other program", "damaged backup", "newer storemon"])
def test_a_file_that_is_no_backup_is_replaced_only_by_force(
    small_fleet: Path, settings: Settings, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "important.db"
    if kind == "text":
        target.write_bytes(b"somebody's thesis\n" * 100_000)
    elif kind == "other program":
        sql(target, "CREATE TABLE thesis (page TEXT)")
    else:
        backup.backup(settings.database, target)
        if kind == "damaged backup":
            target.write_bytes(target.read_bytes()[:20_000])
        else:
            sql(
                target, "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('storemon', 'm999_of_the_future')"
            )
    before = target.read_bytes()
    done = storemon(settings.home, "backup", str(target))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {target} exists and is no backup that this storemon can read; nothing was written. "
        "Name another file, or replace this one with --force\n"
    )
    assert target.read_bytes() == before
    assert storemon(settings.home, "backup", str(target), "--force").returncode == 0
    assert dump(target) == dump(settings.database)


def test_what_is_no_regular_file_is_never_replaced(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for force in (False, True):
        with pytest.raises(DatabaseError, match="is no regular file"):
            backup.backup(settings.database, pipe, force=force)
    assert pipe.is_fifo()


def test_a_backup_may_be_a_link_to_the_file_that_is_replaced(
    small_fleet: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "latest.db"
    link.symlink_to(tmp_path / "there" / "b.db")
    backup.backup(settings.database, link)
    assert link.is_symlink()
    assert dump(tmp_path / "there" / "b.db") == dump(settings.database)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (".", "is a folder; name a file in it"),
        ("no/such/folder/b.db", "cannot be written: No such file or directory"),
        ("home/instance/storemon.db", "belongs to the database itself"),
        ("home/instance/storemon.db-wal", "belongs to the database itself"),
    ],
)
def test_what_cannot_be_a_backup_is_a_sentence(
    small_fleet: Path, settings: Settings, tmp_path: Path, name: str, sentence: str
) -> None:
    before = dump(settings.database)
    done = storemon(settings.home, "backup", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert dump(settings.database) == before


def test_without_a_database_there_is_nothing_to_back_up(settings: Settings, tmp_path: Path) -> None:
    done = storemon(tmp_path, "backup", str(tmp_path / "b.db"), STOREMON_HOME=str(settings.home))
    assert (done.returncode, done.stderr) == (1, f"Error: there is no database at {settings.database}\n")
    assert not (tmp_path / "b.db").exists()
    assert not settings.database.exists()


def test_a_damaged_database_makes_no_backup_and_the_old_one_stays(
    small_fleet: Path, settings: Settings, tmp_path: Path
) -> None:
    target = tmp_path / "b.db"
    backup.backup(settings.database, target)
    good = target.read_bytes()
    sql(settings.database, "PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = sql(settings.database, "SELECT rootpage FROM sqlite_master WHERE name = 'hours'")[0]
    with settings.database.open("r+b") as stream:
        stream.seek((root - 1) * 16_384)
        stream.write(bytes(16_384))
    done = storemon(settings.home, "backup", str(target))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is damaged" in done.stderr
    assert target.read_bytes() == good
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_a_database_that_cannot_be_read_is_the_file_that_is_named(
    small_fleet: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "b.db"
    sql(settings.database, "PRAGMA wal_checkpoint(TRUNCATE)")
    log = settings.database.with_name("storemon.db-wal")
    log.unlink(missing_ok=True)
    log.mkdir()
    done = storemon(settings.home, "backup", str(target))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {settings.database} cannot be opened; check that the folder exists")
    log.rmdir()

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as denied:
        denied.setattr(check, "open_unchanged", lambda path, additions: refuse(path))
        with pytest.raises(DatabaseError) as raised:
            backup.backup(settings.database, target)
    assert raised.value.message == f"{settings.database} cannot be read: Permission denied"
    assert not target.exists()


def test_a_full_disk_leaves_the_old_backup(
    small_fleet: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "b.db"
    backup.backup(settings.database, target)
    old = target.read_bytes()
    full = shutil._ntuple_diskusage(1000, 999, 1)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    with pytest.raises(DatabaseError, match=r"b\.db cannot be written: the disk is full: \d\.\d MB are needed"):
        backup.backup(settings.database, target)
    assert target.read_bytes() == old
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.db", "feeds", "home"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_a_write_that_fails_in_the_middle_leaves_the_old_backup(
    small_fleet: Path, settings: Settings, tmp_path: Path
) -> None:
    target = tmp_path / "b.db"
    backup.backup(settings.database, target)
    old = target.read_bytes()
    # No file may grow beyond 64 blocks of 512 or 1,024 bytes; the signal about it is ignored, so `write` fails.
    command = f"trap '' XFSZ; ulimit -f 64; exec {sys.executable} -m storemon_flask backup {target}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(settings.home), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {target} cannot be written: ")
    assert target.read_bytes() == old
    assert [file.name for file in tmp_path.glob(".b.db*")] == []


def test_a_killed_backup_leaves_the_old_one(small_fleet: Path, settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    backup.backup(settings.database, target)
    good = target.read_bytes()
    code = """
import pathlib
from storemon_flask.database import backup as copies
copies._verify = stop
copies.backup(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
    killed_at(settings.home, code, settings.database, target)
    assert target.read_bytes() == good
    assert len(list(tmp_path.glob(".b.db.*.tmp"))) == 1
    backup.backup(settings.database, target)
    assert storemon(settings.home, "check").returncode == 0


def test_a_backup_is_of_one_moment_while_another_writes(
    database: Database, small_fleet: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes come between the count and the copy, and between two steps of the copy: the backup has none of them."""
    with database.write() as connection:
        connection.execute("CREATE TABLE filler (x)")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(10000))", [()] * 400)
    monkeypatch.setattr(backup, "_PAGES_AT_ONCE", 50)
    steps = 0

    def writing(done: int, pages: int) -> None:
        nonlocal steps
        steps += 1
        with closing(Database(settings.database)) as writer, writer.write() as other:
            loads.begin(other, steps)
            other.execute("UPDATE filler SET x = randomblob(10000)")

    before = sql(settings.database, "SELECT count(*) FROM load")
    backup.backup(settings.database, tmp_path / "b.db", writing)
    assert steps >= 5
    assert sql(tmp_path / "b.db", "SELECT count(*) FROM load") == before
    assert sql(settings.database, "SELECT count(*) FROM load") == [(before[0][0] + steps,)]
    assert sql(tmp_path / "b.db", "SELECT count(*) FROM filler WHERE x <> zeroblob(10000)") == [(0,)]


# It waits in the middle of its twentieth file until it is told to go on.
LOAD_AND_WAIT = """
import sys
from storemon_flask import __main__
from storemon_flask.database import loads
add_file, added = loads.add_file, []

def wait_once(*arguments):
    added.append(arguments)
    if len(added) == 20:
        sys.stdin.readline()
    return add_file(*arguments)

loads.add_file = wait_once
sys.argv[0] = "storemon"
__main__.main()
"""


def test_backups_beside_a_loader_hold_whole_files(settings: Settings, tmp_path: Path) -> None:
    """While forty files of 2,000 polls are loaded, every backup has all of a file or nothing of it."""
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    for number in range(40):
        lines = [
            f"s{n % 100},2024-10-{1 + number % 28:02d} {n // 100:02d}:{number:02d}:00 UTC,active" for n in range(2000)
        ]
        (feeds / f"polls{number:02d}.csv").write_text("\n".join(["store_id,timestamp_utc,status", *lines]) + "\n")
    settings.home.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", LOAD_AND_WAIT, "load-data", str(feeds)],
        env=environment(settings.home),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as loader:
        assert loader.stdin is not None
        wait_until(lambda: settings.database.exists() and settings.database.stat().st_size > 0, "the database")
        found, refusals, running = [], [], True
        while running:
            running = loader.poll() is None
            try:
                found.append(backup.backup(settings.database, tmp_path / "b.db"))
            except DatabaseError as error:
                refusals.append(error.message)
            if found and found[-1].polls and not loader.stdin.closed:
                loader.stdin.close()
    assert loader.returncode == 0
    # While the first schema was being made.
    assert {message for message in refusals if "is empty" not in message} == set()
    assert found[-1].polls == 80_000
    assert {sums.polls % 2_000 for sums in found} == {0}
    assert [sums.polls for sums in found] == sorted(sums.polls for sums in found)
    assert len({sums.polls for sums in found}) > 1


@pytest.mark.slow
def test_loads_and_backups_in_many_threads_disturb_nobody(
    small_fleet: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def backing(number: int) -> None:
        try:
            for _ in range(20):
                backup.backup(settings.database, tmp_path / f"b{number}.db")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=backing, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        with database.write() as connection:
            loads.begin(connection, number)
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path / "home" / "instance").count("storemon.db") == 1
