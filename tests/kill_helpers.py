"""Killing a process: at a named point, or frozen first so that a test sees what the kill falls into."""

import fcntl
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from conftest import environment

_STOP = """
import sys, time
def stop(*args, **kwargs):
    print("here", flush=True)
    time.sleep(600)
"""


def killed_at(home: Path, code: str, *arguments: object, **variables: str) -> str:
    """Run Python code that calls `stop()` somewhere, and SIGKILL it there; what it wrote to standard error."""
    home.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", _STOP + code, *map(str, arguments)],
        env=environment(home, **variables),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        written = process.stderr.read()
        assert said == "here\n", written
        assert process.wait(ENDED_S) == -signal.SIGKILL
    return written


# A killed process is there until the disk has taken what it was writing.
ENDED_S = 120.0
# Where SQLite locks the -shm file for the one writer (WAL_WRITE_LOCK, wal.c).
WRITE_LOCK_AT = 120


class Process(Protocol):
    """What is needed of a process to freeze it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, signum: int, /) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


def being_written(database: Path) -> bool:
    """Whether a process holds the write lock; asked without touching it."""
    with suppress(FileNotFoundError), open(f"{database}-shm", "rb+") as shm:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, WRITE_LOCK_AT, 1, 0)
        return bool(struct.unpack("hhqqi4x", fcntl.fcntl(shm, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    return False


def freeze(process: Process) -> bool:
    """Stop every thread of the process; False when it has ended."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGSTOP)
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
            states = {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}
            if states == {"T"}:
                return True
    return False


def kill(process: Process, looks: Callable[[], set[str]], seen: Counter[str], aim_s: float = 0.0) -> None:
    """Freeze, look, kill, and count what the kill fell into.

    `aim_s`: let it go on until that is something, so long at most.
    """
    end = time.monotonic() + aim_s
    while freeze(process):
        inside = looks()
        if inside or time.monotonic() >= end:
            seen["killed"] += 1
            seen["inside a write"] += bool(inside)
            seen.update(inside)
            process.send_signal(signal.SIGKILL)
            assert process.wait(ENDED_S) == -signal.SIGKILL
            return
        process.send_signal(signal.SIGCONT)
        # Not in step with anything the process does.
        time.sleep(0.0005 + time.monotonic() % 0.003)
    seen["after its end"] += 1
    process.wait(ENDED_S)
