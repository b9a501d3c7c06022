"""The recipes of docs/streams.md that Debian packages, run for real with the very text of the page."""

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broker_helpers import PATIENCE_S, count_polls, free_ports
from conftest import ROOT, STOREMON, Server, http, storemon, wait_until

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "streams.md").read_text("utf-8")
# What the test replaces in the recipe it runs; that recipe has each exactly once.
SERVER = "127.0.0.1:8000"
KEY = "Bearer KEY"


def recipe(language: str, **replaced: str) -> str:
    """Return the one configuration in that language on the page, with some of its values replaced."""
    (text,) = re.findall(rf"```{language}\n(.+?)```", PAGE, re.DOTALL)
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return str(text)


def poll(number: int) -> str:
    status = "active" if number % 3 else "inactive"
    return json.dumps({"store_id": f"s-{number % 7}", "timestamp_utc": 1_700_000_000 + 60 * number, "status": status})


@contextmanager
def running_syslog_ng(folder: Path, configuration: str) -> Iterator[Callable[[list[str]], None]]:
    """Run syslog-ng with a configuration; yields what sends it lines."""
    folder.mkdir(exist_ok=True)
    (folder / "syslog-ng.conf").write_text(configuration, "utf-8")
    files = [f"--{name}={folder / name}" for name in ("persist-file", "pidfile", "control")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["syslog-ng", "-F", "-e", "--no-caps", f"--cfgfile={folder / 'syslog-ng.conf'}", *files],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        port = int(re.findall(r"port\((\d+)\)", configuration)[0])

        def send(lines: list[str]) -> None:
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as line:
                line.sendall("".join(f"{text}\n" for text in lines).encode())

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            with socket.socket() as line:
                return line.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(answers, "syslog-ng")
            yield send
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()


@pytest.mark.skipif(shutil.which("syslog-ng") is None, reason="needs syslog-ng")
def test_syslog_ng(tmp_path: Path) -> None:
    """Polls arrive, bad rows are listed rejects, and a stopped server loses nothing."""
    home, (port, lines_port) = tmp_path / "home", free_ports(2)
    home.mkdir()
    key = storemon(home, "keys", "add", "--scope", "write").stdout.split()[0]
    command = [*STOREMON, "serve", "--port", str(port)]
    text = recipe(
        "syslog-ng",
        **{
            SERVER: f"127.0.0.1:{port}",
            KEY: f"Bearer {key}",
            "port(5140)": f"port({lines_port})",
            "/var/lib/syslog-ng": str(tmp_path / "forwarder"),
        },
    )
    server = Server(home, command)
    try:
        assert http(f"{server.url}/api/v1/feeds/polls", "POST", poll(0).encode()).status == 401
        with running_syslog_ng(tmp_path / "forwarder", text) as send:
            # A batch that begins with a broken line, and one that is nothing else, stop nothing.
            send(["{broken", poll(0), '{"store_id": "s-1", "timestamp_utc": "noon", "status": "active"}'])
            wait_until(lambda: count_polls(home) == 1, "the first poll", PATIENCE_S)
            send(["nonsense"])
            wait_until(lambda: len(_rejects(home)) == 3, "the rejects", PATIENCE_S)
            send([poll(number) for number in range(1, 3_000)])
            wait_until(lambda: count_polls(home) == 3_000, "3,000 polls", PATIENCE_S)
            assert server.end() == 0
            send([poll(number) for number in range(3_000, 6_000)])
            server = Server(home, command)
            wait_until(lambda: count_polls(home) == 6_000, "what came while the server was away", PATIENCE_S)
    finally:
        server.end(signal.SIGKILL)
    rejects = _rejects(home)
    assert len(rejects) == 3
    assert sum("noon" in row for row in rejects) == 1


def _rejects(home: Path) -> list[str]:
    return storemon(home, "rejects").stdout.splitlines()[1:]
