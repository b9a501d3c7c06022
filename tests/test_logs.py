"""Logs as JSON, from the first line to the last: every line is an object, every request has its id."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import STOREMON, Server, storemon

STOPPING = "stopping: the running report is finished or requeued"


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_every_line_is_json_to_the_last_one(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_LOG_FORMAT="json")
    assert server.get("/healthz").status == 200
    assert server.end() == 0
    found = lines(server)
    assert [one["message"] for one in found if one["logger"] == "storemon.server"] == [STOPPING]
    assert (found[-1]["message"], found[-1]["level"]) == (STOPPING, "info")


def test_both_streams_are_json_from_the_start(serve: Callable[..., Server]) -> None:
    server = serve(
        [*STOREMON, "serve", "--port", "0", "--host", "0.0.0.0", "--insecure"],
        STOREMON_LOG_FORMAT="json",
        STOREMON_PROT="1",
    )
    first = json.loads(server.first_line)
    assert (first["level"], first["logger"], set(first)) == (
        "info",
        "storemon.server",
        {"time", "level", "logger", "message"},
    )
    assert first["message"] == f"storemon serves {server.url}  (Ctrl-C stops)"
    found = [one["message"] for one in lines(server) if one["level"] == "warning"]
    assert found == [
        "STOREMON_PROT is no setting; did you mean STOREMON_PORT?",
        "no key is set: everybody who can reach 0.0.0.0 can read and change everything",
        "other machines reach this server without a reverse proxy (it "
        "listens on 0.0.0.0): put one in front (docs/deploy.md), for "
        "senders that trickle and readers that stall are its job, "
        "and set STOREMON_TRUSTED_PROXY to its address; on the same "
        "machine let the server listen on 127.0.0.1",
    ]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--port", "x"], {}, "Invalid value for '--port': 'x' is not a valid integer range."),
        (["--no-such"], {}, "No such option"),
        (
            [],
            {"STOREMON_PORT": "http"},
            "STOREMON_PORT is 'http'; it must be a whole number from 0 (any free port) to 65535",
        ),
        (["--host", "0.0.0.0"], {}, "on 0.0.0.0 everybody who can reach this machine could read"),
        (["--host", "192.0.2.1", "--port", "1"], {"STOREMON_API_KEY": "k" * 20}, "cannot listen on 192.0.2.1 port 1: "),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_start_that_fails_says_why_as_json(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], message: str, where: str
) -> None:
    form = {"STOREMON_LOG_FORMAT": "json"}
    if where == ".env":
        (tmp_path / ".env").write_text("STOREMON_LOG_FORMAT=json\n")
        form = {}
    done = storemon(tmp_path, "serve", *arguments, **form, **variables)
    assert (done.returncode in (1, 2), done.stdout) == (True, "")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["message"].startswith(message)
    assert json.loads(line)["level"] == "error"


def test_warnings_and_what_ends_a_thread_are_lines_too() -> None:
    script = """
import sys, threading, warnings
from storemon_flask import logs
logs.to_stderr("json")
warnings.warn("old\\nfashioned")
thread = threading.Thread(target=lambda: 1 / 0, name="t")
thread.start(); thread.join()
import logging
logging.getLogger("some.package").warning("of another")
class Bad:
    def __del__(self): raise ValueError("unheard")
bad = Bad(); del bad
raise RuntimeError("the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["level"] for one in found] == ["warning", "error", "warning", "error", "critical"]
    assert "old\nfashioned" in found[0]["message"]
    assert [one["traceback"].splitlines()[-1] for one in found if "traceback" in one] == [
        "ZeroDivisionError: division by zero",
        "ValueError: unheard",
        "RuntimeError: the end",
    ]


def test_people_read_that_it_stops(serve: Callable[..., Server]) -> None:
    server = serve()
    assert server.end() == 0
    assert server.log.read_text().endswith(f"Z INFO storemon.server: {STOPPING}\n")
