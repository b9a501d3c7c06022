"""A database or a reports folder that may only be read: sentences, no internal error, and what can be read is read."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL_CSV, SMALL_FLEET, STOREMON, Server, environment, http, storemon, wait_until
from serving import serve_at as serve_at

pytestmark = pytest.mark.slow

# A user of nobody: root may write everywhere, whatever the modes say.
NOBODY = "65534"


@pytest.fixture
def home() -> Iterator[Path]:
    """A loaded home that an ordinary user can reach (pytest's own folders are its owner's alone)."""
    made = Path(tempfile.mkdtemp(prefix="storemon-"))
    made.chmod(0o755)
    feeds = made / "feeds"
    feeds.mkdir()
    for name, text in SMALL_FLEET.items():
        (feeds / name).write_text(text)
    assert storemon(made, "load-data", str(feeds)).returncode == 0
    yield made
    for folder, _, _ in os.walk(made):
        Path(folder).chmod(0o755)
    shutil.rmtree(made)


def ordinary() -> list[str]:
    """What to write before a command so that modes count for it."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and there is no setpriv to be somebody else")
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *STOREMON]
    if subprocess.run([*command, "--version"], capture_output=True, cwd="/", check=False).returncode:
        pytest.skip("an ordinary user cannot run this Python")
    return command[: -len(STOREMON)]


def give(home: Path, *, database: bool, reports: bool) -> None:
    """Make each part writable by anybody, or by nobody."""
    (home / "reports").mkdir(exist_ok=True)
    for name, writable in (("instance", database), ("reports", reports)):
        for path in (home / name).iterdir():
            path.chmod(0o666 if writable else 0o444)
        (home / name).chmod(0o777 if writable else 0o555)


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*ordinary(), *STOREMON, *arguments]
    done = subprocess.run(
        command, env=environment(home), cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    "command",
    [
        ("report",),
        ("stores",),
        ("store", "worked"),
        ("loads",),
        ("info",),
        ("load-data", "feeds"),
        ("serve", "--port", "0"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_on_a_database_that_may_only_be_read_answers_or_says_why_not(
    home: Path, command: tuple[str, ...]
) -> None:
    give(home, database=False, reports=True)
    before = (home / "instance" / "storemon.db").read_bytes()
    done = run(home, *command)
    if done.returncode:
        assert done.returncode == 1
        assert done.stderr.startswith("Error: "), done.stderr
        assert str(home / "instance") in done.stderr
    else:
        assert command[0] not in ("load-data", "serve")
    if command == ("report",) and done.returncode == 0:
        assert done.stdout == SMALL_CSV
    assert (home / "instance" / "storemon.db").read_bytes() == before


def test_a_report_of_a_server_whose_reports_folder_may_only_be_read_fails_with_a_sentence(
    home: Path, serve_at: Callable[..., Server]
) -> None:
    give(home, database=True, reports=False)
    server = serve_at(home, [*ordinary(), *STOREMON, "serve", "--port", "0"])
    answer = server.wait_for(server.trigger())
    assert answer.status == 409
    assert "Permission denied" in answer.json["error"]
    assert str(home / "reports") in answer.json["error"]
    assert server.get("/api/v1/stores").status == 200
    (home / "reports").chmod(0o777)
    assert server.wait_for(server.trigger()).body.decode() == SMALL_CSV
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_database_that_becomes_read_only_under_a_server_answers_no_internal_error(
    home: Path, serve_at: Callable[..., Server]
) -> None:
    give(home, database=True, reports=True)
    server = serve_at(home, [*ordinary(), *STOREMON, "serve", "--port", "0"])
    known = server.wait_for(server.trigger())
    for path in (home / "instance").iterdir():
        path.chmod(stat.S_IREAD)
    (home / "instance").chmod(0o555)
    body = b"store_id,timestamp_utc,status\nworked,2024-10-14 11:45:00 UTC,active\n"
    for _ in range(6):
        # Threads that have their connections open go on; the others say so.
        for answer in (
            server.get("/healthz"),
            server.get("/api/v1/stores"),
            server.get("/api/v1/reports"),
            http(f"{server.url}/api/v1/feeds/polls", "POST", body),
            http(f"{server.url}/trigger_report", "POST", b""),
        ):
            assert answer.status in (200, 202, 503), (answer.status, answer.body)
            if answer.status == 503:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert "permissions" in answer.json["detail"] or "cannot be" in answer.json["detail"]
    (home / "instance").chmod(0o777)
    for path in (home / "instance").iterdir():
        path.chmod(0o666)
    wait_until(lambda: server.wait_for(server.trigger()).status == 200, "a report")
    assert known.status == 200
    server.end()
    assert "Traceback" not in server.log.read_text()
    assert storemon(home, "info").returncode == 0
