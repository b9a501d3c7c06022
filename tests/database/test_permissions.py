"""Files that storemon creates are for its own user (0600, folders 0700), whatever the umask of the process."""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL_FLEET, Server, http, storemon

from storemon_flask.settings import Settings


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Let every process create files that everybody may read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """Modes of what is in a folder, and of the folder itself, as far as they let anybody else in."""
    modes = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
    return {name: oct(mode) for name, mode in modes.items() if mode & 0o077}


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    folder = tmp_path / "feeds"
    folder.mkdir()
    for name, text in SMALL_FLEET.items():
        (folder / name).write_text(text)
    return folder


def test_no_command_creates_anything_that_others_can_read(settings: Settings, feeds: Path, tmp_path: Path) -> None:
    home, made = settings.home, tmp_path / "made"
    backup = made / "backup.db"
    for arguments in (
        ("load-data", str(feeds)),
        ("export", str(made)),
        ("backup", str(backup)),
        ("report", "-o", str(made / "report.csv")),
        ("keys", "add", "--scope", "read"),
        ("restore", "--yes", str(backup)),
        ("prune", "--before", "2024-10-01"),
        ("check",),
    ):
        done = storemon(home, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert {file.name for file in made.iterdir()} >= {"backup.db", "report.csv", "polls.csv"}
    assert sorted(file.name.split("Z")[0][:25] for file in settings.database.parent.iterdir())[0] == "storemon.db"
    assert open_to_others(made) == {}
    assert open_to_others(home) == {}


def test_a_server_creates_nothing_that_others_can_read(
    settings: Settings, feeds: Path, serve: Callable[..., Server]
) -> None:
    settings.home.mkdir(mode=0o700)
    server = serve(STOREMON_DATABASE="new/deeper/s.db", STOREMON_REPORTS_DIR="made/reports")
    # The test's own file, not the server's.
    server.log.chmod(0o600)
    polls = next(file for file in feeds.iterdir() if b"timestamp_utc" in file.read_bytes())
    assert http(f"{server.url}/api/v1/feeds/polls", "POST", polls.read_bytes()).status == 200
    report_id = server.trigger()
    assert server.wait_for(report_id).status == 200
    # The log, the lock and the process id among them.
    names = {path.name for path in (settings.home / "new" / "deeper").iterdir()}
    assert names == {"s.db", "s.db-wal", "s.db-shm", "s.db.server-lock", "s.db.server-pid"}
    assert (settings.home / "made" / "reports" / f"report_{report_id}.csv").is_file()
    assert open_to_others(settings.home) == {}


def test_what_is_there_keeps_its_mode(settings: Settings, feeds: Path, tmp_path: Path) -> None:
    assert storemon(settings.home, "load-data", str(feeds)).returncode == 0
    settings.database.chmod(0o640)
    settings.database.parent.chmod(0o750)
    target = tmp_path / "report.csv"
    target.write_text("old")
    target.chmod(0o644)
    assert storemon(settings.home, "report", "-o", str(target)).returncode == 0
    assert storemon(settings.home, "load-data", str(feeds)).returncode == 0
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (settings.database, settings.database.parent, target)]
    assert modes == [0o640, 0o750, 0o644]


def test_a_backup_that_others_can_read_is_restored_for_this_user_alone(
    settings: Settings, feeds: Path, tmp_path: Path
) -> None:
    assert storemon(settings.home, "load-data", str(feeds)).returncode == 0
    backup = tmp_path / "b.db"
    assert storemon(settings.home, "backup", str(backup)).returncode == 0
    backup.chmod(0o644)
    shutil.rmtree(settings.database.parent)
    assert storemon(settings.home, "restore", "--yes", str(backup)).returncode == 0
    assert open_to_others(settings.database.parent) == {}


@pytest.mark.parametrize(
    ("folder", "file", "noted"), [(0o755, 0o644, True), (0o755, 0o640, False), (0o700, 0o644, False)]
)
def test_check_says_when_others_can_read_the_database(
    settings: Settings, feeds: Path, folder: int, file: int, noted: bool
) -> None:
    assert storemon(settings.home, "load-data", str(feeds)).returncode == 0
    settings.database.parent.chmod(folder)
    settings.database.chmod(file)
    done = storemon(settings.home, "check")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert ("every user of this machine can read" in text and "(mode 644)" in text) is noted


def test_a_demo_keeps_its_files_to_its_user(settings: Settings) -> None:
    settings.home.mkdir(mode=0o700)
    started = time.monotonic()
    assert storemon(settings.home, "demo").returncode == 0, time.monotonic() - started
    assert open_to_others(settings.home) == {}
