"""Running commands in tests: in this process or on a terminal of a given width, and what they print."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import STOREMON, environment
from load_helpers import HOURS, POLLS, ZONES, csv, put

from storemon_flask import __main__

REPORT = (
    "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,downtime_last_hour,downtime_last_day,"
    "downtime_last_week\nworked,0.00,1.74,1.74,60.00,1.26,1.26\n"
)


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which is the working directory too."""
    for name in list(os.environ):
        if name.startswith(("STOREMON_", "FLASK_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("STOREMON_HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `storemon ARGUMENTS` in this process, as the entry point does."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["storemon", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            __main__.main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def example(home: Path) -> Path:
    """The worked example of SPEC 3 in a folder: Monday 09:00-12:00 UTC, 10:14 active, 11:15 inactive."""
    put(
        home / "data" / "polls.csv",
        csv(POLLS, "worked,2024-10-14 10:14:00 UTC,active", "worked,2024-10-14 11:15:00 UTC,inactive"),
    )
    put(home / "data" / "hours.csv", csv(HOURS, "worked,0,09:00,12:00"))
    put(home / "data" / "zones.csv", csv(ZONES, "worked,UTC"))
    return home / "data"


NOON = "2024-10-14T12:00:00Z"


def database(home: Path) -> Path:
    return home / "instance" / "storemon.db"


def line(done: Done, start: str) -> list[str]:
    """The cells of the summary's line for a file."""
    (line,) = [line for line in done.out.splitlines() if line.startswith(start)]
    return line.removeprefix(start).split()


def terminal_bytes(
    home: Path,
    *arguments: str,
    width: int = 80,
    code: int = 0,
    both: bool = False,
    typed: bytes = b"",
    program: Sequence[str] = STOREMON,
    **variables: str,
) -> bytes:
    """What the command writes to standard output (`both`: and to standard error), which is a terminal of that many
    columns.

    Where something is `typed`, standard input is that terminal too.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    surroundings = environment(home, TERM="xterm") | variables
    surroundings.pop("COLUMNS", None)
    try:
        os.write(ours, typed)
        process = subprocess.Popen(
            [*program, *arguments],
            env=surroundings,
            stdin=theirs if typed else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs if both else subprocess.DEVNULL,
            cwd=home,
        )
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                break
            if not part:
                break
            written += part
        assert process.wait(120) == code, written.decode("utf-8", "replace")
    finally:
        os.close(ours)
    return written


def coloured_text(written: bytes) -> str:
    """The same as text."""
    return written.decode().replace("\r\n", "\n")


def on_terminal(home: Path, *arguments: str, **options: Any) -> str:
    """What `terminal_bytes` has, without colours and what moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", coloured_text(terminal_bytes(home, *arguments, **options)))
