"""Files that storemon creates are for its own user (0600, folders 0700), whatever the umask of the process."""

import errno
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL_FLEET, STOREMON, Server, environment, http, storemon, wait_until
from flask.testing import FlaskClient
from server_helpers import Serve

from storemon_flask.database import files
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
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
        f"Error: {mounted} is mounted as a single file, so that its "
        f"log would be kept elsewhere and lost; mount its folder\n"
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


STORED = "nothing of this was stored"


def failed(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_body_that_cannot_be_stored_is_cut_off_and_the_server_goes_on(serve: Serve, tmp_path: Path) -> None:
    # No file may be larger than two megabytes (in blocks of 1,024 bytes): an empty database has one.
    limited = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"]
    server = serve(limited, TMPDIR=str(tmp_path))
    with pytest.raises(OSError, match=r"reset|closed|pipe|disconnected"):
        http(f"{server.url}/api/v1/feeds/polls", "POST", b"x" * 3_000_000, Content_Type="text/csv")
    wait_until(lambda: "File too large" in server.log.read_text(), "the log to say so")
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_is_said_with_what_to_do(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert files.no_temporary_room(failed(number), STORED).message == (
        f"the folder for temporary files, {tmp_path}, is full, so "
        f"{STORED}; make room there, or start the server with TMPDIR set "
        "to a folder that has more"
    )


def test_what_else_is_wrong_with_the_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert files.no_temporary_room(failed(errno.ENOENT), STORED).message == (
        f"the folder for temporary files, {tmp_path}, cannot be written (No such file or directory), so {STORED}"
    )

    def none() -> str:
        raise failed(errno.ENOENT)

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert files.no_temporary_room(failed(errno.ENOENT), STORED).message == (
        f"no folder for temporary files can be written, so {STORED}; set TMPDIR to one that can"
    )


def test_not_ready_without_room_for_temporary_files(
    client: FlaskClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir()
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(49_999_999 if folder == place else 10**12))
    answer = client.get("/readyz")
    sentence = "the disk of the temporary files (TMPDIR) has 49 MB free, less than the 50 of STOREMON_MIN_FREE_MB"
    assert (answer.status_code, answer.json["detail"]) == (503, sentence)
    assert answer.json["checks"] == {"database": "ok", "disk": sentence, "reports": "ok", "jobs": "ok"}
