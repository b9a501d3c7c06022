"""A database that can be reached by two names with a log each is refused; a symbolic link is no second name."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import STOREMON, Server, environment, http, storemon

from storemon_flask.database import files
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings

POLLS = b"store_id,timestamp_utc,status\n"
COMMANDS = (
    ("serve", "--port", "0"),
    ("load-data", "feeds"),
    ("prune", "--before", "2024-01-01"),
    ("prune", "--before", "2024-01-01", "--vacuum"),
    ("keys", "add", "--scope", "read"),
    ("keys", "list"),
    ("report",),
    ("stores",),
    ("loads",),
    ("check",),
    ("backup", "b.db"),
    ("export", "out"),
    ("restore", "--yes", "good.db"),
)


@pytest.fixture
def linked(small_fleet: Path, database: Database, settings: Settings) -> Path:
    """The path of a second hard link of the loaded database, with a good backup and feeds in the home."""
    database.close()
    assert storemon(settings.home, "backup", "good.db").returncode == 0
    (settings.home / "feeds").symlink_to(small_fleet)
    second = settings.home / "other" / "same.db"
    second.parent.mkdir()
    os.link(settings.database, second)
    return second


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_opens_a_database_of_two_names(linked: Path, settings: Settings, command: tuple[str, ...]) -> None:
    before = linked.read_bytes()
    for path in (linked, settings.database):
        done = storemon(settings.home, *command, STOREMON_DATABASE=str(path))
        assert done.returncode == 1, done.stdout
        assert done.stderr.startswith(f"Error: {path} has 2 names (hard links)"), done.stderr
        assert "Traceback" not in done.stderr
    assert linked.read_bytes() == before
    assert [path.name for path in linked.parent.iterdir() if path.suffix in (".db-wal", ".db-shm")] == []


def test_a_server_whose_database_gets_a_second_name_loses_nothing(
    server: Server, settings: Settings, serve: Callable[..., Server]
) -> None:
    second = settings.home / "same.db"
    sent = 0
    for number in range(20):
        if number == 5:
            os.link(settings.database, second)
        row = f"s{number},2024-10-14 09:00:00 UTC,active\n".encode()
        assert http(server.url + "/api/v1/feeds/polls", "POST", POLLS + row).status == 200
        sent += 1
        if number >= 5 and number % 5 == 0:
            refused = storemon(settings.home, "load-data", "feeds", STOREMON_DATABASE=str(second))
            assert "has 2 names" in refused.stderr
    assert "has 2 names" in storemon(settings.home, "serve", "--port", "0", STOREMON_DATABASE=str(second)).stderr
    server.end()
    second.unlink()
    again = serve()
    listed = again.get("/api/v1/stores?limit=1000").json["stores"]
    assert {f"s{number}" for number in range(sent)} <= {store["store_id"] for store in listed}


def test_a_symbolic_link_is_no_second_name(small_fleet: Path, database: Database, settings: Settings) -> None:
    database.close()
    link = settings.home / "link.db"
    link.symlink_to(settings.database)
    folder = settings.home / "folder"
    folder.symlink_to(settings.database.parent)
    for path in (link, folder / settings.database.name):
        assert storemon(settings.home, "load-data", str(small_fleet), STOREMON_DATABASE=str(path)).returncode == 0
        assert storemon(settings.home, "check", STOREMON_DATABASE=str(path)).returncode == 0
    assert [path.name for path in settings.home.iterdir() if "-wal" in path.name] == []


def test_a_backup_may_have_many_names(small_fleet: Path, database: Database, settings: Settings) -> None:
    database.close()
    assert storemon(settings.home, "backup", "b.db").returncode == 0
    os.link(settings.home / "b.db", settings.home / "yesterday.db")
    assert storemon(settings.home, "restore", "--yes", "yesterday.db").returncode == 0


def test_a_single_file_that_is_mounted_is_refused(
    small_fleet: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    database.close()
    mounted = tmp_path / "a folder" / "s.db"
    mounted.parent.mkdir()
    mounted.touch()
    script = f"mount --bind {shlex.quote(str(settings.database))} {shlex.quote(str(mounted))} && exec " + shlex.join(
        [*STOREMON, "load-data", str(small_fleet)]
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=environment(settings.home, STOREMON_DATABASE=str(mounted)),
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this user may not mount anything")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {mounted} is mounted as a single file, so that its log would be kept elsewhere and lost; mount its folder\n"
    )


def test_mounts_are_found_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    file = tmp_path / "a b\\c.db"
    file.touch()
    written = str(file).replace("\\", r"\134").replace(" ", r"\040")
    for line, refused in ((written, True), (written + "x", False), (str(file.parent), False)):
        mounts.write_text(f"63 43 254:0 /from {line} rw,relatime - ext4 /dev/vda rw\n")
        if refused:
            with pytest.raises(DatabaseError, match="mounted as a single file"):
                files.refuse_second_name(file)
        else:
            files.refuse_second_name(file)
    mounts.unlink()
    files.refuse_second_name(file)
