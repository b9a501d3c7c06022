"""The real server: what stops its start, and the other ways to start it."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    SMALL_CSV,
    STOREMON,
    Server,
    environment,
    storemon,
)
from server_helpers import Serve

from storemon_flask.settings import Settings


def test_a_second_server_on_the_same_database_is_refused_and_names_the_first(server: Server) -> None:
    report_id = server.trigger()
    second = storemon(server.home, "serve", "--port", "0")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"Error: another storemon server (process {server.process.pid}) serves "
        f"{server.home / 'instance' / 'storemon.db'}; stop it first, or set STOREMON_DATABASE\n"
    )
    # It took nothing from the first.
    assert server.wait_for(report_id).body == SMALL_CSV.encode()
    third = storemon(server.home, "serve", "--port", "0")
    assert f"(process {server.process.pid})" in third.stderr


def test_the_lock_is_free_after_the_server_was_killed(server: Server, serve: Serve) -> None:
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert serve().get("/healthz").status == 200


def test_a_port_in_use_is_a_sentence(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = storemon(settings.home, "serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port (0 takes a free one) or STOREMON_PORT\n"
    )


def test_a_host_that_does_not_exist_is_a_sentence(settings: Settings) -> None:
    done = storemon(settings.home, "serve", "--port", "0", "--host", "256.1.1.1")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on 256.1.1.1 port 0: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("STOREMON_PORT", "eighty", "a whole number from 0 (any free port) to 65535"),
        ("STOREMON_REPORT_WORKERS", "0", "a whole number from 1 to 64"),
        ("STOREMON_DEFAULT_TIMEZONE", "Mars/Olympus", "the name of an IANA time zone, such as America/Chicago"),
    ],
)
@pytest.mark.parametrize("program", ["storemon", "wsgi.py"])
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    tmp_path: Path, program: str, name: str, value: str, allowed: str
) -> None:
    command = [*STOREMON, "serve"] if program == "storemon" else [sys.executable, str(ROOT / "wsgi.py")]
    done = subprocess.run(
        command, env=environment(tmp_path, **{name: value}), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {name} is {value!r}; it must be {allowed}\n"
    assert list(tmp_path.iterdir()) == []


def test_python_wsgi_py_serves(serve: Serve, small_fleet: Path) -> None:
    server = serve([sys.executable, str(ROOT / "wsgi.py")], STOREMON_PORT="0")
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()
    assert server.end() == 0


def test_flask_run_knows_the_same_commands(settings: Settings, small_fleet: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "storemon_flask", "report"],
        env=environment(settings.home),
        cwd=settings.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SMALL_CSV)
